//! The links of a flow: between its own nodes, and from other flows and programs.

use std::collections::BTreeMap;

use flow::{
    Condition, FlowName, Json, NodeName, SkipReach, SourceOutcome, ValueName,
    graph::{Link, Listener, NotificationInput},
};

use super::{Bounds, source::WireSource};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, invalid, wire_enum},
};

/// A link into a node that does more than order the node after its source.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireLink<'a> {
    from: u32,
    on: WireOn,
    when: Option<&'a str>,
    reads: Vec<(&'a str, WireSource<'a>)>,
    reach: WireReach,
}

/// A link from a task of another flow, whose notifications trigger a node or complete it.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireListen<'a> {
    flow: &'a str,
    task: &'a str,
    on: WireOn,
    to: u32,
}

/// The type of a value that a notification carries.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireAccept<'a> {
    from: Option<u32>,
    value: &'a str,
    by: u32,
    parameter: &'a str,
    schema: &'a str,
    is_list: bool,
    optional: bool,
}

wire_enum!(WireOn = SourceOutcome { Success, Failure, Any });
wire_enum!(WireReach = SkipReach { Task, Neighbors, Flow, All });

impl<'a> From<&'a Link> for WireLink<'a> {
    fn from(Link { from, on, when, reads, reach }: &'a Link) -> Self {
        Self {
            from: from.0,
            on: (*on).into(),
            when: when.as_ref().map(Condition::as_str),
            reads: reads.iter().map(|(name, source)| (name.as_str(), source.into())).collect(),
            reach: (*reach).into(),
        }
    }
}

impl WireLink<'_> {
    pub(super) fn into_link(self, bounds: &Bounds) -> Result<Link, Invalid> {
        let read = |(name, source): (&str, WireSource<'_>)| {
            Ok((ValueName::new(name).map_err(invalid)?, source.into_source(bounds)?))
        };
        Ok(Link {
            from: bounds.node(self.from)?,
            on: self.on.into(),
            when: self.when.map(Condition::from_record).transpose().map_err(invalid)?,
            reads: self.reads.into_iter().map(read).collect::<Result<_, Invalid>>()?,
            reach: self.reach.into(),
        })
    }
}

impl<'a> From<&'a Listener> for WireListen<'a> {
    fn from(Listener { flow, task, on, to }: &'a Listener) -> Self {
        Self { flow: flow.as_str(), task: task.as_str(), on: (*on).into(), to: to.0 }
    }
}

impl WireListen<'_> {
    pub(super) fn into_listen(self, bounds: &Bounds) -> Result<Listener, Invalid> {
        Ok(Listener {
            flow: FlowName::new(self.flow).map_err(invalid)?,
            task: NodeName::new(self.task).map_err(invalid)?,
            on: self.on.into(),
            to: bounds.node(self.to)?,
        })
    }
}

impl<'a> From<&'a NotificationInput> for WireAccept<'a> {
    fn from(
        NotificationInput { from, value, by, parameter, schema, is_list, optional }: &'a NotificationInput,
    ) -> Self {
        Self {
            from: from.map(|from| from.0),
            value: value.as_str(),
            by: by.0,
            parameter: parameter.as_str(),
            schema: schema.as_str(),
            is_list: *is_list,
            optional: *optional,
        }
    }
}

impl<'a> WireAccept<'a> {
    /// `schemas` are those that were read before: many tasks may have the same, and share it.
    pub(super) fn into_accept(
        self,
        schemas: &mut BTreeMap<&'a str, Json>,
        bounds: &Bounds,
    ) -> Result<NotificationInput, Invalid> {
        let schema = match schemas.get(self.schema) {
            Some(schema) => schema.clone(),
            None => {
                let schema = Json::parse(self.schema).map_err(invalid)?;
                schemas.insert(self.schema, schema.clone());
                schema
            }
        };
        Ok(NotificationInput {
            from: self.from.map(|from| bounds.node(from)).transpose()?,
            value: ValueName::new(self.value).map_err(invalid)?,
            by: bounds.node(self.by)?,
            parameter: ValueName::new(self.parameter).map_err(invalid)?,
            schema,
            is_list: self.is_list,
            optional: self.optional,
        })
    }
}

#[cfg(test)]
mod tests {
    use flow::NodeIndex;

    use super::*;

    #[test]
    fn equal_schemas_of_a_message_are_shared() {
        let input = |schema: &str| NotificationInput {
            from: None,
            value: "v".parse().unwrap(),
            by: NodeIndex(0),
            parameter: "p".parse().unwrap(),
            schema: Json::parse(schema).unwrap(),
            is_list: false,
            optional: false,
        };
        let inputs = ["{\"type\":\"null\"}", "true", "{\"type\":\"null\"}"].map(input);
        let bounds = Bounds { nodes: 1, scopes: 1, modules: Vec::new() };
        let (mut schemas, mut read) = (BTreeMap::new(), Vec::new());
        for input in &inputs {
            read.push(WireAccept::from(input).into_accept(&mut schemas, &bounds).unwrap());
        }
        assert_eq!(read, inputs);
        let address = |input: &NotificationInput| input.schema.as_str().as_ptr();
        assert_eq!(address(&read[0]), address(&read[2]));
        assert_ne!(address(&read[0]), address(&read[1]));
    }
}
