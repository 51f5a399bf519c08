//! One firing of a flow: the state of its nodes, and the decisions that an event leads to.
//!
//! Most runs have one firing. A persistent or cyclic flow has one for each trigger, and each firing has its own results,
//! attempts and rollback.
//!
//! Reading order: this file, `node.rs` (the state of a node), `decide.rs`, `evolve.rs`, `readiness.rs` (which nodes may
//! start), `conditions.rs` (whether links let a node start), `calls.rs` (calls for workers), `clock.rs` (clock changes),
//! `publish.rs` (published changes), `held.rs` (the bytes of values and failures). Three kinds of nodes have a file of their own: `wait.rs` (tasks that wait for a
//! notification), `for_each.rs` (tasks that are called for each element of a list) and `controller.rs` (retry controllers).

mod calls;
mod clock;
mod conditions;
mod controller;
mod decide;
pub(super) mod for_each;
mod evolve;
pub(super) mod graph;
pub(super) mod held;
pub(super) mod node;
mod publish;
mod readiness;
mod wait;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::triggers::GivenValues;
use crate::Trigger;
use flow::{
    CallId, Failures, Firing, Flow, NodeIndex, NodeName, RunId, RunState, State, Timestamp, Values, graph::ScopeIndex,
};
use for_each::Elements;
use graph::{Element, NodeRole};
use node::{NodeRun, NodeState, ScopeRun, node_count};

/// The state machine of one firing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FiringMachine {
    pub(super) run: RunId,
    /// The flow of the run.
    pub(super) flow: Arc<Flow>,
    /// The index of each task by name, since signals contain names.
    pub(super) tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
    /// The number of this firing in the run; all its nodes are triggered for this firing.
    pub(super) firing: Firing,
    /// The node that this firing starts with; `None` for the first firing, which starts with all nodes that no trigger
    /// fires.
    pub(super) entry: Option<NodeIndex>,
    /// The trigger of this firing.
    pub(super) by: Trigger,
    /// The values of the notification that triggered this firing.
    pub(super) inputs: Values,
    /// The values of nodes outside this firing, and the values that its own nodes provided the last time.
    pub(super) inherited: GivenValues,
    pub(super) state: RunState,
    /// The nodes of the flow, then the list elements.
    pub(super) nodes: Vec<NodeRun>,
    /// The list elements, in the order of their nodes.
    list_elements: Vec<Element>,
    pub(super) scopes: Vec<ScopeRun>,
    /// Nodes that may execute now.
    ready: BTreeSet<StartOrder>,
    /// Nodes that may be rolled back now, or controllers that may retry.
    rollback_ready: BTreeSet<StartOrder>,
    /// Permanent failures that no controller has resolved yet.
    pub(super) unresolved: BTreeSet<NodeIndex>,
    /// Failed calls that wait for their next attempt.
    pub(super) retries: BTreeSet<(Timestamp, NodeIndex)>,
    /// Tasks whose call is with the workers.
    pub(super) outstanding: BTreeSet<NodeIndex>,
    /// Nodes with a lease on a call.
    pub(super) leased: BTreeSet<NodeIndex>,
    /// Tasks that wait for a notification.
    pub(super) waiting_tasks: BTreeSet<NodeIndex>,
    /// The time at which the firing is stopped and rolled back, if it is not done by then.
    pub(super) expires_at: Option<Timestamp>,
    /// Tasks whose attempt started without all its inputs: no call was dispatched, and the attempt is about to fail.
    missing_inputs: BTreeSet<NodeIndex>,
    /// The elements of `for_each` tasks.
    pub(super) elements: BTreeMap<NodeIndex, Elements>,
    /// Tasks with elements that may start.
    queued: BTreeSet<NodeIndex>,
    /// Tasks with elements that may be rolled back now.
    rollback_ready_lists: BTreeSet<NodeIndex>,
    /// Tasks that read their list or join results, and whether the values have to be fetched from the store.
    fetches: BTreeMap<NodeIndex, bool>,
    /// Nodes whose rollback failed permanently.
    pub(super) failed_rollbacks: BTreeSet<NodeIndex>,
    /// Pending nodes for which a lost apply has answered.
    pub(super) late_outcomes: BTreeSet<NodeIndex>,
    /// The failure of each node that failed in the last attempt. Shared with the rollbacks that receive it.
    pub(super) failures: Arc<Failures>,
    /// The bytes that its nodes hold. Only `held.rs` changes it.
    held: u64,
}

/// Orders nodes that may start: higher priority first, then file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StartOrder(Reverse<i32>, NodeIndex);

/// The initial state of a firing.
#[derive(Debug, Clone)]
pub(super) struct FiringStart {
    pub(super) firing: Firing,
    pub(super) entry: Option<NodeIndex>,
    pub(super) by: Trigger,
    pub(super) inputs: Values,
    pub(super) inherited: GivenValues,
}

impl FiringStart {
    /// The only firing of a flow that fires once.
    pub(super) fn single() -> Self {
        Self {
            firing: Firing::FIRST,
            entry: None,
            by: Trigger::Start,
            inputs: Values::new(),
            inherited: GivenValues::default(),
        }
    }
}

impl FiringMachine {
    /// Creates a firing that has not started.
    pub(super) fn new(
        run: RunId,
        flow: Arc<Flow>,
        tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
        start: FiringStart,
    ) -> Self {
        let FiringStart { firing, entry, by, inputs, inherited } = start;
        let mut scopes: Vec<ScopeRun> = flow.scopes.iter().map(|_| ScopeRun::default()).collect();
        for (index, scope) in flow.scopes.iter().enumerate() {
            if let Some(parent) = scope.parent {
                let child = u32::try_from(index).expect("a flow has fewer scopes than nodes");
                scopes[parent.0 as usize].children.push(ScopeIndex(child));
            }
        }
        let members = flow.nodes_of_firing(entry);
        let is_member = |index: NodeIndex| members.as_ref().is_none_or(|members| members.contains(&index));
        let is_waited_for = |before: &&NodeIndex| is_member(**before);
        let node = |index: NodeIndex| {
            let waiting = node_count(flow.node(index).before.iter().filter(is_waited_for).count());
            let state = if is_member(index) { NodeState::Pending } else { NodeState::NotInFiring };
            NodeRun { firing, state, ..NodeRun::new(waiting) }
        };
        let nodes = flow.indices().map(node).collect();
        Self {
            run,
            flow,
            tasks,
            firing,
            entry,
            by,
            inputs,
            inherited,
            state: RunState::Pending,
            nodes,
            list_elements: Vec::new(),
            scopes,
            ready: BTreeSet::new(),
            rollback_ready: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            retries: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            leased: BTreeSet::new(),
            waiting_tasks: BTreeSet::new(),
            expires_at: None,
            missing_inputs: BTreeSet::new(),
            elements: BTreeMap::new(),
            queued: BTreeSet::new(),
            rollback_ready_lists: BTreeSet::new(),
            fetches: BTreeMap::new(),
            failed_rollbacks: BTreeSet::new(),
            late_outcomes: BTreeSet::new(),
            failures: Arc::default(),
            held: 0,
        }
    }

    /// Starts the firing.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.state = RunState::Running;
        self.expires_at = self.flow.expires.filter(|_| self.flow.triggers.is_none()).map(|expires| at.after(expires));
        let begin = self.flow.scope(ScopeIndex::ROOT).begin;
        // The entry may follow nodes outside this firing, and then waits for no node inside it.
        let entry = self.entry.filter(|entry| self.node(*entry).waiting == 0);
        self.update_readiness([begin].into_iter().chain(entry).collect());
    }

    /// The time of the next tick if no other event arrives first.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        match self.state {
            RunState::Running => {
                let expires_at = self.expires_at.filter(|_| !self.rolling_back());
                self.retries.first().map(|(at, _)| *at).into_iter().chain(expires_at).min()
            }
            RunState::Pending
            | RunState::Success
            | RunState::Failure
            | RunState::RolledBack
            | RunState::Suspending
            | RunState::Suspended => None,
        }
    }

    /// The failure of an apply whose rollback failed too.
    pub(super) fn apply_failure(&self, index: NodeIndex) -> Option<&flow::Failure> {
        let NodeState::RollbackFailure { outcome } = &self.node(index).state else { return None };
        outcome.failure()
    }

    /// The values of nodes in success, failure or rolling-back.
    pub(super) fn values(&self) -> impl Iterator<Item = (NodeIndex, Values)> {
        let nodes = self.flow.indices().zip(&self.nodes);
        nodes.filter_map(|(index, node)| Some((index, node.state.readable()?.to_values())))
    }

    /// The published state of a node.
    pub(super) fn node_state(&self, index: NodeIndex) -> State {
        if self.for_each(index).is_some() { self.for_each_state(index) } else { self.node(index).state.published() }
    }

    /// Whether a node belongs to this firing.
    pub(super) fn has(&self, index: NodeIndex) -> bool {
        self.node(index).state != NodeState::NotInFiring
    }

    /// Whether a lost attempt may still answer, or a worker holds a lease on a call.
    pub(super) fn has_outstanding_attempts(&self) -> bool {
        !self.leased.is_empty() || self.nodes.iter().any(|node| !node.rare.lost.is_empty())
    }

    /// Whether this firing has called a guest or waited for a notification.
    pub(super) fn has_called(&self) -> bool {
        self.indices().any(|index| self.was_executed(index))
    }

    /// The index of the node that made a call in this firing.
    pub(super) fn node_of_call(&self, call: &CallId) -> Option<NodeIndex> {
        self.index_of(&call.task).filter(|_| call.firing == self.firing)
    }

    pub(super) fn node(&self, index: NodeIndex) -> &NodeRun {
        &self.nodes[index.0 as usize]
    }

    pub(super) fn node_mut(&mut self, index: NodeIndex) -> &mut NodeRun {
        &mut self.nodes[index.0 as usize]
    }

    pub(super) fn scope(&self, index: ScopeIndex) -> &ScopeRun {
        &self.scopes[index.0 as usize]
    }

    pub(super) fn scope_mut(&mut self, index: ScopeIndex) -> &mut ScopeRun {
        &mut self.scopes[index.0 as usize]
    }

    fn start_order(&self, index: NodeIndex) -> StartOrder {
        let priority = match self.role(index) {
            NodeRole::Task(task) => task.priority,
            NodeRole::ForEach(each) => each.task.priority,
            NodeRole::Element(_)
            | NodeRole::FanIn(_)
            | NodeRole::Wait(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => 0,
        };
        StartOrder(Reverse(priority), index)
    }

    /// The scope and its enclosing scopes, from the inside out.
    fn enclosing(&self, innermost: ScopeIndex) -> impl Iterator<Item = ScopeIndex> + use<'_> {
        std::iter::successors(Some(innermost), |scope| self.flow.scope(*scope).parent)
    }
}
