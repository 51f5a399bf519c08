//! What the records of a run say of it that its machine does not hold.

use std::collections::BTreeMap;

use api::{Node, Revision};
use flow::{Edit, Flow, NodeName, State as NodeState, Timestamp};
use logbook::{AppliedRecord, Replay, RevisionEntry};
use machine::{Change, Fact, Machine, NodeChange, Record};
use protocol::events::rfc3339;

use crate::runs::history::Collector;

/// The last change of a node.
pub(super) struct LastChange {
    pub(super) change: NodeChange,
    pub(super) started_at: Option<Timestamp>,
}

/// The facts in the records of a run that its machine does not hold.
#[derive(Default)]
pub(super) struct History {
    pub(super) last_changes: BTreeMap<NodeName, LastChange>,
    /// The latest time of a record.
    pub(super) changed_at: Timestamp,
    /// The revisions of the flow in trimmed records.
    trimmed: Vec<RevisionEntry>,
    revisions: Vec<Revision>,
    /// The reasons for skipped rollbacks, by task.
    skipped_rollbacks: BTreeMap<NodeName, String>,
    lost_workers: BTreeMap<NodeName, Vec<api::LostWorker>>,
    is_cancelled: bool,
}

impl Collector for History {
    fn start(&mut self, replay: &Replay) {
        let (changed_at, is_cancelled) = (self.changed_at, self.is_cancelled);
        *self = Self { changed_at, is_cancelled, trimmed: replay.revisions().to_vec(), ..Self::default() };
    }

    fn add_record(&mut self, record: &Record, machine: Option<&Machine>) {
        self.changed_at = self.changed_at.max(record.at);
        match &record.fact {
            Fact::Edited { flow, revision } => {
                let known = machine.map_or(0, |machine| edits_of(machine.flow()).len());
                let edits = edits_of(flow).iter().skip(known).map(ToString::to_string).collect();
                self.revisions.push(Revision { revision: revision.get(), at: rfc3339(record.at), edits });
            }
            Fact::RollbackSkipped { node, reason } => {
                if let Some((name, _)) = machine.and_then(|machine| machine.call_of(record.firing, *node)) {
                    self.skipped_rollbacks.insert(name.base(), reason.clone());
                }
            }
            Fact::CancelRequested => self.is_cancelled = true,
            // If the run fires more than once, this counts only for the run as a whole.
            Fact::Expired => self.is_cancelled |= record.firing.is_none(),
            Fact::Reset => self.is_cancelled = false,
            Fact::Lost { attempt, worker, .. } => {
                if let Some((name, _)) = machine.and_then(|machine| machine.call_of(record.firing, attempt.node)) {
                    let worker = worker.as_ref().map(ToString::to_string);
                    let lost = api::LostWorker { worker, attempt: attempt.attempt.get(), at: rfc3339(record.at) };
                    self.lost_workers.entry(name.base()).or_default().push(lost);
                }
            }
            _ => {}
        }
    }

    fn add_applied(&mut self, applied: AppliedRecord, _: &Machine) {
        applied.changes.into_iter().for_each(|change| self.add_change(change));
    }
}

impl History {
    /// Begins with the time of the last change as it is known without the records.
    pub(super) fn new(changed_at: Timestamp) -> Self {
        Self { changed_at, ..Self::default() }
    }

    /// Whether the run is being cancelled, given the machine after the records.
    pub(super) fn is_cancelling(&self, machine: &Machine) -> bool {
        self.is_cancelled && !machine.state().is_final()
    }

    /// The revisions of the flow after the first, also those in trimmed records: their edits are the first of the flow's current edits.
    pub(super) fn revisions(&mut self, flow: &Flow) -> Vec<Revision> {
        let known = edits_of(flow);
        let mut made = 0;
        let trimmed = self.trimmed.iter().map(|revised| {
            let edits = known.iter().take(revised.edits).skip(made).map(ToString::to_string).collect();
            made = revised.edits;
            Revision { revision: revised.revision.get(), at: rfc3339(revised.at), edits }
        });
        trimmed.chain(std::mem::take(&mut self.revisions)).collect()
    }

    fn add_change(&mut self, change: Change) {
        let Change::Node(mut change) = change else { return };
        // The elements of a list may be a million, and only their task is shown.
        if change.name.as_element().is_some() {
            return;
        }
        let before = self.last_changes.get(&change.name);
        let started_at = match change.state.is_called() {
            true => Some(change.at),
            false => before.and_then(|before| before.started_at),
        };
        // The worker is known once it has answered; the state may change later without another call.
        if change.worker.is_none() && change.state != NodeState::Running {
            change.worker = before.and_then(|before| before.change.worker.clone());
        }
        self.last_changes.insert(change.name.clone(), LastChange { change, started_at });
    }

    /// Adds the skipped rollback and the lost workers to a node.
    pub(super) fn complete(&mut self, mut node: Node) -> Node {
        let Ok(name) = NodeName::new(&node.name) else { return node };
        // A node that started again since is no longer rolled back.
        if node.state == api::NodeState::RolledBack {
            node.rollback_skipped = self.skipped_rollbacks.get(&name).cloned();
        }
        node.lost = self.lost_workers.remove(&name).unwrap_or_default();
        node
    }
}

fn edits_of(flow: &Flow) -> &[Edit] {
    flow.origin.as_ref().map_or(&[], |origin| &origin.edits)
}
