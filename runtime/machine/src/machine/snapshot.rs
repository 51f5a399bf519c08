//! Snapshots: a machine without its history. A long run is loaded from a snapshot and the records after it.
//!
//! A snapshot contains only what records decided. Readiness, wait counts and due times are derived and recomputed.

use std::{collections::BTreeSet, sync::Arc};

use crate::Trigger;
use flow::{
    Digest, Failures, Firing, Flow, NodeIndex, Outcome, Revision, RunId, RunState, Timestamp, Value, Values,
    graph::ScopeIndex,
};

use super::{
    GivenValues, Machine, NotificationKeys, PendingTrigger, QueuedFiring, TriggerState,
    firing::{
        FiringMachine, FiringStart,
        for_each::Expansion,
        graph::NodeRole,
        node::{Intention, NodeRun, NodeState, node_count},
    },
};

/// A run at one point of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The current flow of the run.
    pub flow: Arc<Flow>,
    /// The current revision of the flow.
    pub revision: Revision,
    /// The firings, in order; exactly one in a run that fires once.
    pub firings: Vec<FiringSnapshot>,
    /// The additional state of a run that fires more than once.
    pub triggers: Option<TriggerState>,
    /// The keys of the notifications that the run has received.
    pub notifications: NotificationKeys,
    /// The time of the last record.
    pub latest: Timestamp,
}

/// One firing at one point of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct FiringSnapshot {
    /// The number of the firing.
    pub firing: Firing,
    /// The node that it started with; `None` for the first firing of a run.
    pub entry: Option<NodeIndex>,
    /// The trigger of the firing.
    pub by: Trigger,
    /// The values of the trigger.
    pub inputs: Values,
    /// The values that nodes had provided when it was triggered.
    pub given: GivenValues,
    /// Its state.
    pub state: RunState,
    /// The elements of `for_each` tasks.
    pub elements: Vec<(NodeIndex, Expansion)>,
    /// The nodes whose state has changed since the firing started.
    pub nodes: Vec<(NodeIndex, NodeRun)>,
    /// The scopes whose intention is not to execute.
    pub intentions: Vec<(ScopeIndex, Intention)>,
    /// The failure of each node that failed in the last attempt.
    pub failures: Failures,
    /// The time at which it is stopped, if it is not done by then.
    pub expires_at: Option<Timestamp>,
}

/// A snapshot with nodes or scopes that its flow does not have: the logbook is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of run {run} is not one of its flow")]
pub struct IllegalSnapshot {
    run: RunId,
}

impl Snapshot {
    /// The number of nodes and list elements that a machine has which is restored from it: each firing has all nodes of the flow.
    #[must_use]
    pub fn size(&self) -> usize {
        let elements = |firing: &FiringSnapshot| -> usize {
            firing.elements.iter().map(|(_, expansion)| expansion.nodes.len()).sum()
        };
        self.firings.iter().map(|firing| self.flow.nodes.len().saturating_add(elements(firing))).sum()
    }

    /// The digests that the run refers to at this point: modules, and values too large to be inline.
    #[must_use]
    pub fn digests(&self) -> BTreeSet<Digest> {
        let mut digests: BTreeSet<Digest> = self.flow.digests().into_iter().collect();
        let mut provided_digests = Vec::new();
        let mut add = |values: &Values| digests.extend(values.values().filter_map(Value::digest));
        for firing in &self.firings {
            add(&firing.inputs);
            firing.given.values().for_each(&mut add);
            for (_, node) in &firing.nodes {
                if let NodeState::Success { provided } = &node.state {
                    provided_digests.extend(provided.iter().filter_map(|(_, value)| value.digest()));
                }
                node.state.rollback_outcome().and_then(Outcome::provided).into_iter().for_each(&mut add);
                node.rare.late_outcome.iter().filter_map(Outcome::provided).for_each(&mut add);
            }
        }
        if let Some(trigger_state) = &self.triggers {
            trigger_state.latest_values.values().for_each(&mut add);
            for QueuedFiring { values, inherited, .. } in &trigger_state.queued {
                add(values);
                inherited.iter().flat_map(|inherited| inherited.values()).for_each(&mut add);
            }
            for PendingTrigger { values, given, .. } in &trigger_state.pending_triggers {
                add(values);
                given.values().for_each(&mut add);
            }
        }
        digests.extend(provided_digests);
        digests
    }
}

impl Machine {
    /// Takes a snapshot of the machine.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            flow: self.flow.clone(),
            revision: self.revision,
            firings: self.firings.values().map(FiringMachine::snapshot).collect(),
            triggers: self.triggers.clone(),
            notifications: self.notifications.clone(),
            latest: self.latest,
        }
    }

    /// Restores the machine from a snapshot.
    ///
    /// # Errors
    /// [`IllegalSnapshot`] when it contains nodes or scopes that its flow does not have.
    pub fn restore(run: RunId, snapshot: Snapshot) -> Result<Self, IllegalSnapshot> {
        let Snapshot { flow, revision, firings, triggers: trigger_state, notifications, latest } = snapshot;
        let mut machine = Self::new(run.clone(), flow);
        let illegal = || IllegalSnapshot { run: run.clone() };
        let expected_lengths = machine
            .triggers
            .as_ref()
            .map(|expected_lengths| (expected_lengths.schedules.len(), expected_lengths.backlogs.len()));
        if expected_lengths
            != trigger_state.as_ref().map(|trigger_state| (trigger_state.schedules.len(), trigger_state.backlogs.len()))
            || (trigger_state.is_none() && firings.len() > 1)
        {
            return Err(illegal());
        }
        let exists = |index: &NodeIndex| machine.flow.nodes.len() > index.0 as usize;
        let queued_entries = trigger_state.iter().flat_map(|trigger_state| {
            trigger_state.queued.iter().filter_map(|queued_entries| queued_entries.entry.as_ref())
        });
        if !firings.iter().filter_map(|firing| firing.entry.as_ref()).chain(queued_entries).all(exists) {
            return Err(illegal());
        }
        machine.revision = revision;
        machine.triggers = trigger_state;
        machine.notifications = notifications;
        machine.latest = latest;
        machine.count_failed();
        for firing in firings {
            let restored = machine.restore_firing(firing).ok_or_else(illegal)?;
            machine.firings.insert(restored);
        }
        Ok(machine)
    }

    /// Restores a firing; `None` when it contains nodes or scopes that the flow does not have.
    pub(super) fn restore_firing(&self, snapshot: FiringSnapshot) -> Option<FiringMachine> {
        let FiringSnapshot {
            firing,
            entry,
            by,
            inputs,
            given,
            state,
            elements,
            nodes,
            intentions,
            failures,
            expires_at,
        } = snapshot;
        let mut machine = self.new_firing(FiringStart { firing, entry, by, inputs, inherited: given });
        machine.restore_elements(elements)?;
        machine.state = state;
        machine.failures = Arc::new(failures);
        machine.expires_at = expires_at;
        for (index, intention) in intentions {
            machine.scopes.get_mut(index.0 as usize)?.intention = intention;
        }
        for (index, node) in nodes {
            *machine.nodes.get_mut(index.0 as usize)? = node;
        }
        machine.measure_held();
        machine.rebuild_indexes();
        Some(machine)
    }
}

impl FiringMachine {
    pub(super) fn snapshot(&self) -> FiringSnapshot {
        let fresh = Self::new(
            self.run.clone(),
            self.flow.clone(),
            self.tasks.clone(),
            FiringStart {
                firing: self.firing,
                entry: self.entry,
                by: self.by.clone(),
                inputs: Values::new(),
                inherited: GivenValues::default(),
            },
        );
        let fresh_element = NodeRun { firing: self.firing, ..NodeRun::untouched() };
        let fresh_nodes = fresh.nodes.iter().chain(std::iter::repeat(&fresh_element));
        let changed = |((index, node), fresh): ((NodeIndex, &NodeRun), &NodeRun)| {
            let node = NodeRun { waiting: fresh.waiting, rollback_blockers: fresh.rollback_blockers, ..node.clone() };
            let is_changed = node != *fresh;
            is_changed.then_some((index, NodeRun { waiting: 0, rollback_blockers: 0, ..node }))
        };
        let scopes = (0..).map(ScopeIndex).zip(&self.scopes);
        FiringSnapshot {
            firing: self.firing,
            entry: self.entry,
            by: self.by.clone(),
            inputs: self.inputs.clone(),
            given: self.inherited.clone(),
            state: self.state,
            elements: self.elements.iter().map(|(each, elements)| (*each, elements.expansion.clone())).collect(),
            nodes: self.indices().zip(&self.nodes).zip(fresh_nodes).filter_map(changed).collect(),
            intentions: scopes
                .filter(|(_, scope)| scope.intention != Intention::Execute)
                .map(|(index, scope)| (index, scope.intention))
                .collect(),
            failures: (*self.failures).clone(),
            expires_at: self.expires_at,
        }
    }

    /// Recomputes everything that follows from the states of the nodes.
    fn rebuild_indexes(&mut self) {
        for index in self.indices() {
            self.recount_waiting(index);
            self.recount(index);
            self.rebuild_start_time(index);
            if !matches!(self.node(index).state, NodeState::Pending | NodeState::NotInFiring) {
                let scope = self.scope_of(index);
                self.scope_mut(scope).ran.insert(index);
            }
            if !self.node(index).rare.lease_holders.is_empty() {
                self.leased.insert(index);
            }
            self.rebuild_work(index);
        }
        if self.state != RunState::Pending {
            self.update_readiness(self.indices().collect());
        }
    }

    /// Counts the neighbours that a node waits for, and those that its rollback waits for.
    fn recount_waiting(&mut self, index: NodeIndex) {
        let is_waited_for = |before: &NodeIndex| !self.unblocks_successors(*before, &self.node(*before).state, index);
        let unexpanded = match self.role(index) {
            NodeRole::FanIn(each) => usize::from(self.has_unexpanded_elements(each)),
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::Element(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => 0,
        };
        self.node_mut(index).waiting = node_count(self.all_before(index).filter(is_waited_for).count() + unexpanded);
        // A node that a rollback passes through passes its own count on.
        if !self.is_transparent_to_rollback(index) && self.delays_rollback(index) {
            // Every node is settled afterwards.
            let mut changed = Vec::new();
            let mut position = 0;
            while let Some(before) = self.before(index, position) {
                position += 1;
                self.update_rollback_blockers(before, true, &mut changed);
            }
        }
    }

    /// Schedules the delayed start of a node. After an edit the node may have to wait for other nodes first.
    fn rebuild_start_time(&mut self, index: NodeIndex) {
        let run = self.node(index);
        if run.waiting == 0 && !self.definition(index).retired && self.may_continue(index) {
            self.retries.extend(run.rare.starts_at.map(|at| (at, index)));
        } else {
            self.node_mut(index).rare.remove(|rare| rare.starts_at = None);
        }
    }

    /// Recomputes what a node is waiting for, by its state.
    fn rebuild_work(&mut self, index: NodeIndex) {
        let run = self.node(index);
        let is_untouched = run.state.is_untouched() && run.state != NodeState::NotInFiring;
        if is_untouched && run.rare.late_outcome.is_some() {
            self.late_outcomes.insert(index);
        } else if let Some(due) = run.state.retry_at() {
            self.retries.insert((due, index));
        } else if run.state.since().is_some() {
            match self.role(index) {
                NodeRole::Task(_) | NodeRole::Element(_) => {
                    self.outstanding.insert(index);
                    self.retries.extend(self.expiry(index).map(|at| (at, index)));
                }
                NodeRole::Wait(_) => self.wait_for_notification(index),
                NodeRole::ForEach(_) | NodeRole::FanIn(_) => drop(self.start_fetch(index)),
                NodeRole::Controller(_) | NodeRole::Begin | NodeRole::End => {}
            }
        } else if matches!(run.state, NodeState::Failure { .. }) && self.asks_controller(index) {
            self.unresolved.insert(index);
        } else if matches!(run.state, NodeState::RollbackFailure { .. }) {
            self.failed_rollbacks.insert(index);
        }
    }
}
