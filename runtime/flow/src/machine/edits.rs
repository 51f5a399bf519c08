//! A flow that is changed while it runs: what an edit may do, and how the run goes on with it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Draft, Edit, Fact, Flow, Input, NodeIndex, NodeName, Origin, Revision, Role, ScopeIndex, Source, State, Task,
};

use super::{Machine, Snapshot, node::NodeState};

/// What a node is known by in two flows: names are unique, but what begins a flow and what ends it share one.
type Key<'f> = (&'f NodeName, bool);

impl Machine {
    /// What the flow would be made of with some edits, and how its author would write it.
    ///
    /// # Errors
    /// Every reason why they cannot be made, for people.
    pub fn plan(&self, edits: &[Edit]) -> Result<(Origin, Draft), Vec<String>> {
        let Some(origin) = &self.flow.origin else {
            return Err(vec!["the run was submitted without its flow file, and cannot be edited".into()]);
        };
        let mut draft = origin.draft().map_err(|error| vec![error])?;
        let (mut planned, mut reasons) = (Origin::clone(origin), Vec::new());
        for edit in edits {
            let edit = match edit {
                Edit::Remove { task, .. } => Edit::Remove { task: task.clone(), ran: self.has_run(task) },
                Edit::Add { .. }
                | Edit::Link { .. }
                | Edit::Unlink { .. }
                | Edit::Use { .. }
                | Edit::Set { .. }
                | Edit::Require { .. } => edit.clone(),
            };
            if let Edit::Add { text } = &edit
                && let Some(alias) = Edit::known_otherwise(text, &draft)
            {
                reasons.push(format!("{edit}: module {alias:?} is another one already: choose another name for it"));
                continue;
            }
            match edit.apply(&mut draft) {
                Ok(()) => planned.edits.push(edit),
                Err(reason) => reasons.push(format!("{edit}: {reason}")),
            }
        }
        if reasons.is_empty() { Ok((planned, draft)) } else { Err(reasons) }
    }

    fn has_run(&self, task: &NodeName) -> bool {
        self.tasks.get(task).is_some_and(|index| !self.is_untouched(*index))
    }

    /// Whether nothing was ever done for a node in this run.
    fn is_untouched(&self, index: NodeIndex) -> bool {
        let node = self.node(index);
        node.applies == 0 && matches!(node.state, NodeState::Pending | NodeState::Ignored)
    }

    /// Every reason why the run cannot go on with another flow, for people.
    #[must_use]
    pub fn refuses_flow(&self, flow: &Flow) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.state.is_final() {
            reasons.push(format!("the run is {}: it has ended", self.state));
        }
        let others = keys(flow);
        for index in self.flow.indices() {
            let (node, state) = (self.flow.node(index), self.node_state(index));
            match others.get(&key(&self.flow, index)).map(|other| flow.node(*other)) {
                None if !self.is_untouched(index) => reasons.push(format!("{:?} is {state} by now", node.name)),
                Some(other) if node.aside != other.aside && !self.is_untouched(index) => reasons.push(format!(
                    "{:?} is {state}: what has run cannot begin or cease to listen to failures",
                    node.name
                )),
                Some(other) if !calls_the_same((&self.flow, &node.role), (flow, &other.role)) && has_effect(state) => {
                    reasons.push(format!("{:?} is {state}: what its call began, that call has to end", node.name));
                }
                Some(_) | None => {}
            }
        }
        reasons
    }

    pub(super) fn decide_edit(&self, revision: Revision, flow: &Arc<Flow>) -> Vec<Fact> {
        if revision != self.revision || !self.refuses_flow(flow).is_empty() {
            return Vec::new();
        }
        vec![Fact::Edited { flow: flow.clone(), revision: self.revision.next() }]
    }

    /// Goes on with another flow: what is known of nodes stays with their names, and all that follows from it is found
    /// anew.
    pub(super) fn take_flow(&mut self, flow: &Arc<Flow>, revision: Revision) {
        let snapshot = self.snapshot();
        let others = keys(flow);
        let moved = |index: NodeIndex| others.get(&key(&self.flow, index)).copied();
        let scope = |scope: ScopeIndex| Some(flow.node(moved(self.flow.scope(scope).begin)?).scope);
        let nodes = snapshot.nodes.iter().filter_map(|(index, node)| {
            let (index, mut node) = (moved(*index)?, node.clone());
            if let NodeState::Failure { retry_at, .. } = &mut node.state
                && flow.node(index).retired
            {
                // Nobody hears of another attempt of what was removed.
                *retry_at = None;
            }
            Some((index, node))
        });
        let intentions = snapshot.intentions.iter().filter_map(|(index, intention)| Some((scope(*index)?, *intention)));
        let moved = Snapshot {
            flow: flow.clone(),
            revision,
            nodes: nodes.collect(),
            intentions: intentions.collect(),
            ..snapshot
        };
        *self = Self::restore(self.run.clone(), moved).expect("nodes and scopes were looked up in the new flow");
    }
}

/// Whether a task would be called as it was: with the same module and the same values, wherever their providers stand.
fn calls_the_same((flow, role): (&Flow, &Role), (other_flow, other): (&Flow, &Role)) -> bool {
    match (role, other) {
        (Role::Task(task), Role::Task(other)) => {
            let inputs = |flow: &Flow, task: &Task| -> Vec<String> {
                task.inputs.iter().map(|input| format!("{} {}", input.parameter, told_source(flow, input))).collect()
            };
            (task.module, &task.export, &task.provides, task.rollback)
                == (other.module, &other.export, &other.provides, other.rollback)
                && inputs(flow, task) == inputs(other_flow, other)
        }
        (Role::Wait(wait), Role::Wait(other)) => wait == other,
        (Role::Controller(_) | Role::Begin, Role::Controller(_) | Role::Begin) | (Role::End, Role::End) => true,
        (Role::Task(_) | Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End, _) => false,
    }
}

/// Where an input comes from, told without the places that nodes have in a flow.
fn told_source(flow: &Flow, input: &Input) -> String {
    let name = |node: &NodeIndex| flow.node(*node).name.to_string();
    match &input.source {
        Source::Node { node, value } => format!("{value} of {}", name(node)),
        Source::Failure(nodes) => format!("failure of {:?}", nodes.iter().map(name).collect::<Vec<_>>()),
        source @ (Source::Constant(_) | Source::RunInput(_) | Source::Absent) => format!("{source:?}"),
    }
}

/// Whether a task in this state did something, or is about to.
fn has_effect(state: State) -> bool {
    match state {
        State::Pending | State::Ignored | State::RolledBack | State::Retrying => false,
        State::Running | State::Success | State::Failure | State::RollingBack | State::RollbackFailure => true,
    }
}

fn keys(flow: &Flow) -> BTreeMap<Key<'_>, NodeIndex> {
    flow.indices().map(|index| (key(flow, index), index)).collect()
}

fn key(flow: &Flow, index: NodeIndex) -> Key<'_> {
    let node = flow.node(index);
    (&node.name, matches!(node.role, Role::End))
}
