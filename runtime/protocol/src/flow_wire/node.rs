//! A node of a flow, and the decisions of a retry controller.

use std::time::Duration;

use flow::{
    Digest, Json, Node, NodeIndex, NodeName, Otherwise, StartTime, Strategy, Timestamp, ValueName,
    graph::{Controller, ForEach, Role, Wait},
};

use super::{
    Bounds,
    links::WireLink,
    source::WireSource,
    task::{WireTask, provided_from_wire, provided_to_wire},
};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, invalid, list_from_wire, list_to_wire, micros},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireNode<'a> {
    name: &'a str,
    scope: u32,
    role: WireRole<'a>,
    starts: Option<WireStarts>,
    links: Vec<WireLink<'a>>,
    retired: bool,
    failure_handler: bool,
    before: Vec<u32>,
    after: Vec<u32>,
}

#[derive(Encode, BorrowDecode)]
enum WireRole<'a> {
    Task(WireTask<'a>),
    Wait(WireWait<'a>),
    ForEach(Box<WireForEach<'a>>),
    FanIn(u32),
    Controller(WireController<'a>),
    Begin,
    End,
}

#[derive(Encode, BorrowDecode)]
enum WireStarts {
    AfterMicros(u64),
    AtMicros(u64),
}

#[derive(Encode, BorrowDecode)]
struct WireWait<'a> {
    awaits: &'a str,
    provides: Vec<(&'a str, &'a str)>,
    deadline_micros: Option<u64>,
}

#[derive(Encode, BorrowDecode)]
struct WireForEach<'a> {
    task: WireTask<'a>,
    list: WireSource<'a>,
    max_parallel: Option<u32>,
}

#[derive(Encode, BorrowDecode)]
struct WireController<'a> {
    strategy: WireStrategy<'a>,
    list: Option<WireSource<'a>>,
    rollback_all: bool,
    provides: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
enum WireStrategy<'a> {
    Times(u32),
    ForEach(Vec<&'a str>),
    ForEachOf(&'a str),
    Always,
}

impl<'a> WireNode<'a> {
    pub(super) fn new(node: &'a Node, modules: &[Digest]) -> Self {
        let Node { name, scope, role, starts, links, retired, is_failure_handler, before, after } = node;
        let indices = |nodes: &[NodeIndex]| nodes.iter().map(|node| node.0).collect();
        Self {
            name: name.as_str(),
            scope: scope.0,
            role: WireRole::new(role, modules),
            starts: starts.map(WireStarts::from),
            links: links.iter().map(WireLink::from).collect(),
            retired: *retired,
            failure_handler: *is_failure_handler,
            before: indices(before),
            after: indices(after),
        }
    }

    pub(super) fn into_node(self, bounds: &Bounds) -> Result<Node, Invalid> {
        Ok(Node {
            name: NodeName::new(self.name).map_err(invalid)?,
            scope: bounds.scope(self.scope)?,
            role: self.role.into_role(bounds)?,
            starts: self.starts.map(StartTime::from),
            links: self.links.into_iter().map(|link| link.into_link(bounds)).collect::<Result<_, _>>()?,
            retired: self.retired,
            is_failure_handler: self.failure_handler,
            before: bounds.nodes(self.before)?,
            after: bounds.nodes(self.after)?,
        })
    }
}

impl<'a> WireRole<'a> {
    fn new(role: &'a Role, modules: &[Digest]) -> Self {
        match role {
            Role::Task(task) => Self::Task(WireTask::new(task, modules)),
            Role::Wait(wait) => Self::Wait((&**wait).into()),
            Role::ForEach(each) => {
                let ForEach { task, list, max_parallel } = &**each;
                let (task, list) = (WireTask::new(task, modules), list.into());
                Self::ForEach(Box::new(WireForEach { task, list, max_parallel: *max_parallel }))
            }
            Role::FanIn(task) => Self::FanIn(task.0),
            Role::Controller(controller) => Self::Controller(controller.as_ref().into()),
            Role::Begin => Self::Begin,
            Role::End => Self::End,
        }
    }

    fn into_role(self, bounds: &Bounds) -> Result<Role, Invalid> {
        Ok(match self {
            Self::Task(task) => Role::Task(Box::new(task.into_task(bounds)?)),
            Self::Wait(wait) => Role::Wait(Box::new(wait.into_wait()?)),
            Self::ForEach(each) => {
                let WireForEach { task, list, max_parallel } = *each;
                let (task, list) = (task.into_task(bounds)?, list.into_source(bounds)?);
                Role::ForEach(Box::new(ForEach { task, list, max_parallel }))
            }
            Self::FanIn(task) => Role::FanIn(bounds.node(task)?),
            Self::Controller(controller) => Role::Controller(Box::new(controller.into_controller(bounds)?)),
            Self::Begin => Role::Begin,
            Self::End => Role::End,
        })
    }
}

impl From<StartTime> for WireStarts {
    fn from(starts: StartTime) -> Self {
        match starts {
            StartTime::After(pause) => Self::AfterMicros(micros(pause)),
            StartTime::At(at) => Self::AtMicros(at.as_micros()),
        }
    }
}

impl From<WireStarts> for StartTime {
    fn from(wire: WireStarts) -> Self {
        match wire {
            WireStarts::AfterMicros(micros) => Self::After(Duration::from_micros(micros)),
            WireStarts::AtMicros(micros) => Self::At(Timestamp::from_micros(micros)),
        }
    }
}

impl<'a> From<&'a Wait> for WireWait<'a> {
    fn from(Wait { waits_for: awaits, provides, deadline }: &'a Wait) -> Self {
        Self { awaits, provides: provided_to_wire(provides), deadline_micros: deadline.map(micros) }
    }
}

impl WireWait<'_> {
    fn into_wait(self) -> Result<Wait, Invalid> {
        Ok(Wait {
            waits_for: self.awaits.into(),
            provides: provided_from_wire(self.provides)?,
            deadline: self.deadline_micros.map(Duration::from_micros),
        })
    }
}

impl<'a> From<&'a Controller> for WireController<'a> {
    fn from(Controller { strategy, list, otherwise, provides }: &'a Controller) -> Self {
        Self {
            strategy: match strategy {
                Strategy::Times(times) => WireStrategy::Times(*times),
                Strategy::ForEach(list) => WireStrategy::ForEach(list_to_wire(list)),
                Strategy::ForEachOf(name) => WireStrategy::ForEachOf(name.as_str()),
                Strategy::Always => WireStrategy::Always,
            },
            list: list.as_ref().map(WireSource::from),
            rollback_all: *otherwise == Otherwise::RollbackAll,
            provides: provides.as_ref().map(ValueName::as_str),
        }
    }
}

impl WireController<'_> {
    fn into_controller(self, bounds: &Bounds) -> Result<Controller, Invalid> {
        Ok(Controller {
            strategy: match self.strategy {
                WireStrategy::Times(times) => Strategy::Times(times),
                WireStrategy::ForEach(list) => Strategy::ForEach(list_from_wire::<Vec<Json>>(list)?),
                WireStrategy::ForEachOf(name) => Strategy::ForEachOf(ValueName::new(name).map_err(invalid)?),
                WireStrategy::Always => Strategy::Always,
            },
            list: self.list.map(|source| source.into_source(bounds)).transpose()?,
            otherwise: if self.rollback_all { Otherwise::RollbackAll } else { Otherwise::Rollback },
            provides: self.provides.map(ValueName::new).transpose().map_err(invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_the_largest_flow_file_can_be_decoded() {
        // The shortest task in a file: so many tasks need names of three characters.
        let most = flow::file::MAX_TEXT_BYTES / "{name=\"abc\",wait=\"a\"},".len();
        let bytes = most * size_of::<WireNode<'_>>();
        assert!(bytes < crate::codec::MAX_DECODED_BYTES / 2, "{most} nodes take {bytes} bytes");
    }
}
