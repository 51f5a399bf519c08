//! One firing of a run: its nodes, and the pending reaction of each scope.

use flow::{Firing, NodeIndex, graph::ScopeIndex};
use machine::{Expansion, FiringSnapshot, Intention, NodeRun};

use super::{WireProvided, node::WireNodeRun, provided_from_wire, provided_to_wire};
use crate::{
    codec::{BorrowDecode, Encode},
    record::{WireTrigger, run_state},
    wire::{
        Invalid, WireFailures, WireValues, failures_from_wire, failures_to_wire, list_from_wire, list_to_wire,
        time_from_wire, time_to_wire, values_from_wire, values_to_wire, wire_enum,
    },
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireFiring<'a> {
    firing: u64,
    entry: Option<u32>,
    by: WireTrigger<'a>,
    inputs: WireValues<'a>,
    /// The values that nodes had provided when the firing was triggered.
    provided_before: WireProvided<'a>,
    state: &'a str,
    elements: Vec<WireElements<'a>>,
    nodes: Vec<(u32, WireNodeRun<'a>)>,
    intentions: Vec<(u32, WireIntention)>,
    failures: WireFailures<'a>,
    expires_at_micros: Option<u64>,
}

/// The elements for which a task is called.
#[derive(Encode, BorrowDecode)]
struct WireElements<'a> {
    task: u32,
    nodes: Vec<u32>,
    list: Vec<&'a str>,
}

wire_enum!(WireIntention = Intention { Execute, Retry, Rollback });

impl<'a> From<&'a FiringSnapshot> for WireFiring<'a> {
    fn from(firing: &'a FiringSnapshot) -> Self {
        Self {
            firing: firing.firing.get(),
            entry: firing.entry.map(|entry| entry.0),
            by: (&firing.by).into(),
            inputs: values_to_wire(&firing.inputs),
            provided_before: provided_to_wire(&firing.given),
            state: firing.state.as_str(),
            elements: firing.elements.iter().map(WireElements::from).collect(),
            nodes: firing.nodes.iter().map(|(index, node)| (index.0, node.into())).collect(),
            intentions: firing.intentions.iter().map(|(scope, intention)| (scope.0, (*intention).into())).collect(),
            failures: failures_to_wire(&firing.failures),
            expires_at_micros: time_to_wire(firing.expires_at),
        }
    }
}

impl WireFiring<'_> {
    pub(super) fn into_firing(self) -> Result<FiringSnapshot, Invalid> {
        let node = |(index, node): (u32, WireNodeRun<'_>)| Ok((NodeIndex(index), node.into_node()?));
        let intention = |(scope, intention): (u32, WireIntention)| (ScopeIndex(scope), intention.into());
        Ok(FiringSnapshot {
            firing: Firing::new(self.firing),
            entry: self.entry.map(NodeIndex),
            by: self.by.into(),
            inputs: values_from_wire(self.inputs)?,
            given: provided_from_wire(self.provided_before)?,
            state: run_state(self.state)?,
            elements: self.elements.into_iter().map(WireElements::into_expansion).collect::<Result<_, _>>()?,
            nodes: self.nodes.into_iter().map(node).collect::<Result<Vec<(NodeIndex, NodeRun)>, Invalid>>()?,
            intentions: self.intentions.into_iter().map(intention).collect(),
            failures: failures_from_wire(self.failures)?,
            expires_at: time_from_wire(self.expires_at_micros),
        })
    }
}

impl<'a> From<&'a (NodeIndex, Expansion)> for WireElements<'a> {
    fn from((task, Expansion { nodes, list }): &'a (NodeIndex, Expansion)) -> Self {
        Self { task: task.0, nodes: nodes.iter().map(|node| node.0).collect(), list: list_to_wire(list) }
    }
}

impl WireElements<'_> {
    fn into_expansion(self) -> Result<(NodeIndex, Expansion), Invalid> {
        let (nodes, list) = (self.nodes.into_iter().map(NodeIndex).collect(), list_from_wire(self.list)?);
        Ok((NodeIndex(self.task), Expansion { nodes, list }))
    }
}
