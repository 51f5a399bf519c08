//! What happened in one run of a case: the changes that the machine published, and a few of its records.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Action, CallId, Firing, Flow, NodeIndex, NodeName, RunState, State, graph::BackEdgeTiming};
use machine::{Call, Change, Fact, Machine, NodeChange, Record, Trigger};

/// One execution of a node: in which part of the case, in which firing, and its name.
pub(crate) type NodeKey = (usize, Firing, NodeName);

/// What happened in a case.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// The changes of nodes, in order, each with the part of the case.
    pub(crate) changes: Vec<(usize, NodeChange)>,
    /// The tasks whose apply was called, or that waited for a notification.
    pub(crate) applied: BTreeSet<NodeName>,
    /// The calls of rollbacks.
    pub(crate) rollback_calls: BTreeSet<NodeKey>,
    /// The nodes that their links kept from starting.
    pub(crate) skipped: BTreeSet<NodeIndex>,
    /// The back edges that did not fire because of their condition.
    pub(crate) skipped_back_edges: BTreeSet<u32>,
    /// The waiting tasks that were notified.
    pub(crate) notified: Vec<NodeName>,
    /// The firings, by part and number: the trigger, and the last state.
    pub(crate) firings: BTreeMap<(usize, Firing), (String, RunState)>,
    /// The states of nodes at the end of the part in which they changed last.
    pub(crate) states: BTreeMap<NodeIndex, State>,
    /// The firings of other triggers than the one that this part is about.
    foreign: BTreeSet<Firing>,
    /// The number of this part: each trigger of a persistent flow is one.
    part: usize,
}

impl History {
    /// The history of a further part.
    pub(crate) fn of_part(part: usize) -> Self {
        Self { part, ..Self::default() }
    }

    /// Whether a firing belongs to a trigger that this part is not about.
    pub(crate) fn is_foreign(&self, firing: Firing) -> bool {
        self.foreign.contains(&firing)
    }

    /// Takes a dispatched call.
    pub(crate) fn on_call(&mut self, call: &Call) {
        let CallId { task, firing, action, .. } = &call.id;
        if self.is_foreign(*firing) {
            return;
        }
        match action {
            Action::Apply => drop(self.applied.insert(task.clone())),
            Action::Rollback => drop(self.rollback_calls.insert((self.part, *firing, task.clone()))),
        }
    }

    /// Takes a published change.
    pub(crate) fn on_change(&mut self, change: Change) {
        match change {
            Change::Node(change) if !self.is_foreign(change.firing) => {
                // Nobody reads the values, and a case has many changes.
                self.changes.push((self.part, NodeChange { provides: None, ..change }));
            }
            Change::Firing { firing, state, .. } if !self.is_foreign(firing) => {
                // What began before the rehearsal has no record here.
                let by = if firing == Firing::FIRST { "the start" } else { "an earlier trigger" };
                self.firings.entry((self.part, firing)).or_insert_with(|| (by.into(), state)).1 = state;
            }
            Change::Node(_) | Change::Firing { .. } | Change::Run { .. } => {}
        }
    }

    /// Takes a record. `only` is the scheduled task that this part is about: firings of other schedules are foreign.
    pub(crate) fn on_record(&mut self, flow: &Flow, record: &Record, only: Option<NodeIndex>) {
        let is_foreign = record.firing.is_some_and(|firing| self.is_foreign(firing));
        if let Fact::Triggered { firing, entry, by, .. } = &record.fact {
            self.on_trigger(flow, *firing, *entry, by, only);
        } else if let Fact::Ignored { node, .. } = &record.fact
            && !is_foreign
        {
            self.skipped.insert(*node);
        } else if let Fact::BackEdgeSkipped { back_edge, .. } = &record.fact {
            self.skipped_back_edges.insert(*back_edge);
        }
    }

    fn on_trigger(&mut self, flow: &Flow, firing: Firing, entry: NodeIndex, by: &Trigger, only: Option<NodeIndex>) {
        let name = &flow.node(entry).name;
        let by = match by {
            Trigger::Start => "the start".into(),
            Trigger::Notification { .. } => format!("a notification of {name}"),
            Trigger::Schedule(_) if only != Some(entry) => {
                self.foreign.insert(firing);
                return;
            }
            Trigger::Schedule(_) => format!("a schedule of {name}"),
            Trigger::BackEdge(edge) => {
                let edges = flow.triggers.as_ref().map(|triggers| &triggers.back_edges);
                match edges.and_then(|edges| edges.get(*edge as usize)) {
                    Some(edge) if edge.timing == BackEdgeTiming::Success => {
                        format!("the success of {}", flow.node(edge.link.from).name)
                    }
                    Some(edge) => format!("the link from {} to {name}", flow.node(edge.link.from).name),
                    None => format!("a link to {name}"),
                }
            }
        };
        self.firings.insert((self.part, firing), (by, RunState::Pending));
    }

    /// Notes that the machine refuses the notification of a task.
    pub(crate) fn refuse(&mut self, flow: &Flow, task: NodeIndex, reason: &str) {
        let by = format!("a notification of {}, which is refused: {reason}", flow.node(task).name);
        self.firings.insert((self.part, Firing::FIRST), (by, RunState::Pending));
    }

    /// Notes the states of the nodes that changed in this part.
    pub(crate) fn end_part(&mut self, machine: &Machine, index_of: &BTreeMap<NodeName, NodeIndex>) {
        let changed: BTreeSet<NodeIndex> =
            self.changes.iter().filter_map(|(_, change)| index_of.get(&change.name.base()).copied()).collect();
        self.states.extend(changed.into_iter().map(|index| (index, machine.node_state(index))));
    }

    /// Adds a later part.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.applied.extend(later.applied);
        self.rollback_calls.extend(later.rollback_calls);
        self.skipped.extend(later.skipped);
        self.skipped_back_edges.extend(later.skipped_back_edges);
        self.notified.extend(later.notified);
        self.firings.extend(later.firings);
        self.states.extend(later.states);
    }
}
