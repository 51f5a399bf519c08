//! One pass through a flow: what is true of its nodes, and what an event in it means.
//!
//! A run of most flows is one pass. A flow that is persistent or goes in circles is passed through once for each of its
//! firings, and each pass has its own results, attempts and rollback.
//!
//! Reading order: this file, `node.rs` (what is true of a node), `decide.rs`, `evolve.rs`, `readiness.rs` (who may
//! start), `conditions.rs` (whether links let it), `calls.rs` (what workers are asked for), `clock.rs` (a clock that was set), `each.rs` (tasks that are
//! called for each element of a list), `late.rs` (lost attempts and their late answers).

mod calls;
mod clock;
mod conditions;
mod decide;
pub(super) mod for_each;
mod evolve;
mod late_outcomes;
pub(super) mod node;
mod readiness;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    CallId, Failures, Firing, Flow, NodeIndex, NodeName, Outcome, Role, RunId, RunState, ScopeIndex, State, TaskResult,
    Timestamp, Trigger, Values,
};
use for_each::Elements;
use node::{NodeRun, NodeState, ScopeRun};

/// What nodes have provided outside of a pass.
pub(super) type InheritedValues = Arc<BTreeMap<NodeIndex, Values>>;

/// One pass through a flow.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FiringMachine {
    pub(super) run: RunId,
    /// The flow, and after its own nodes those of the elements that its tasks are called for.
    pub(super) flow: Arc<Flow>,
    /// Where the tasks stand, for signals name them.
    pub(super) tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
    /// Which one of the run it is: all its nodes are triggered for that time.
    pub(super) firing: Firing,
    /// The node that it begins with; `None` of the first, which begins with all that nobody triggers.
    pub(super) entry: Option<NodeIndex>,
    /// What triggered it.
    pub(super) by: Trigger,
    /// What came with the notification that triggered it.
    pub(super) inputs: Values,
    /// What nodes have provided outside of it that stand outside, and what those in it provided the last time.
    pub(super) inherited: InheritedValues,
    pub(super) state: RunState,
    pub(super) nodes: Vec<NodeRun>,
    pub(super) scopes: Vec<ScopeRun>,
    /// Nodes that may execute now.
    ready: BTreeSet<StartOrder>,
    /// Nodes that may be rolled back now, or controllers that may try again.
    rollback_ready: BTreeSet<StartOrder>,
    /// Failures for good that no controller was asked about yet.
    pub(super) unresolved: BTreeSet<NodeIndex>,
    /// Failed calls that wait for their next attempt.
    pub(super) retries: BTreeSet<(Timestamp, NodeIndex)>,
    /// Tasks whose call is with the workers.
    pub(super) outstanding: BTreeSet<NodeIndex>,
    /// Tasks that wait to be notified.
    pub(super) waiting_tasks: BTreeSet<NodeIndex>,
    /// When it is stopped and rolled back, if it is not done by then.
    pub(super) expires_at: Option<Timestamp>,
    /// Tasks whose attempt started without all its inputs: no call is out, and it is about to fail.
    missing_inputs: BTreeSet<NodeIndex>,
    /// The elements of tasks that are called for each of a list.
    pub(super) elements: BTreeMap<NodeIndex, Elements>,
    /// Tasks of which elements may start.
    queued: BTreeSet<NodeIndex>,
    /// Tasks of which elements may be rolled back now.
    rollback_ready_lists: BTreeSet<NodeIndex>,
    /// Tasks that read their list, or gather results, and whether somebody has to bring what the results are.
    fetches: BTreeMap<NodeIndex, bool>,
    /// Nodes whose rollback failed for good.
    pub(super) failed_rollbacks: BTreeSet<NodeIndex>,
    /// Pending nodes of which a lost apply has answered.
    pub(super) late_outcomes: BTreeSet<NodeIndex>,
    /// Nodes that failed in the last try and why. Shared with the rollbacks that are told of it.
    pub(super) failures: Arc<Failures>,
}

/// Among nodes that may start, higher priority first, then file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StartOrder(Reverse<i32>, NodeIndex);

/// What a pass begins with.
#[derive(Debug, Clone)]
pub(super) struct FiringStart {
    pub(super) firing: Firing,
    pub(super) entry: Option<NodeIndex>,
    pub(super) by: Trigger,
    pub(super) inputs: Values,
    pub(super) given: InheritedValues,
}

impl FiringStart {
    /// The only pass of a flow that is passed through once.
    pub(super) fn single() -> Self {
        Self {
            firing: Firing::FIRST,
            entry: None,
            by: Trigger::Start,
            inputs: Values::new(),
            given: InheritedValues::default(),
        }
    }
}

impl FiringMachine {
    /// A pass that has not begun.
    pub(super) fn new(
        run: RunId,
        flow: Arc<Flow>,
        tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
        start: FiringStart,
    ) -> Self {
        let FiringStart { firing, entry, by, inputs, given } = start;
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
            let waiting = flow.node(index).before.iter().filter(is_waited_for).count();
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
            inherited: given,
            state: RunState::Pending,
            nodes,
            scopes,
            ready: BTreeSet::new(),
            rollback_ready: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            retries: BTreeSet::new(),
            outstanding: BTreeSet::new(),
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
        }
    }

    /// Begins it.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.state = RunState::Running;
        self.expires_at = self.flow.expires.filter(|_| self.flow.triggers.is_none()).map(|expires| at.after(expires));
        let begin = self.flow.scope(ScopeIndex::ROOT).begin;
        // What it begins with may come after what stands outside, and waits for nobody here.
        let entry = self.entry.filter(|entry| self.node(*entry).waiting == 0);
        self.settle([begin].into_iter().chain(entry).collect());
    }

    /// When to tick if nothing happens before.
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

    /// Why the apply of a node failed whose rollback failed too.
    pub(super) fn apply_failure(&self, index: NodeIndex) -> Option<&crate::Failure> {
        match &self.node(index).state {
            NodeState::RollbackFailure { outcome: Outcome::Failed(failure) } => Some(failure),
            NodeState::Pending
            | NodeState::NotInFiring
            | NodeState::Running { .. }
            | NodeState::Success { .. }
            | NodeState::Failure { .. }
            | NodeState::RollingBack { .. }
            | NodeState::RolledBack
            | NodeState::RollbackFailure { outcome: Outcome::Provided(_) | Outcome::Unknown }
            | NodeState::Retrying
            | NodeState::Ignored => None,
        }
    }

    /// Why a notification of a task that waits would be refused now, for people.
    pub(super) fn refuses(&self, index: NodeIndex, wait: &crate::Wait, answer: &TaskResult) -> Option<String> {
        if !self.waiting_tasks.contains(&index) {
            let name = &self.flow.node(index).name;
            return Some(format!("task {name:?} is {}, and does not wait now", self.node_state(index)));
        }
        match answer {
            TaskResult::Succeeded(values) => match decide::brought(wait, values) {
                Ok(values) => self.flow.wait_mismatch(index, &values),
                Err(reason) => Some(reason),
            },
            TaskResult::Failed(_) => None,
        }
    }

    /// The tasks that wait to be notified, and until when where they do not wait for ever.
    pub(super) fn expected(&self) -> impl Iterator<Item = (NodeIndex, Option<Timestamp>)> + use<'_> {
        self.waiting_tasks.iter().map(|index| (*index, self.deadline(*index)))
    }

    /// When a task that waits fails.
    fn deadline(&self, index: NodeIndex) -> Option<Timestamp> {
        let (Role::Wait(wait), NodeState::Running { since, .. }) =
            (&self.flow.node(index).role, &self.node(index).state)
        else {
            return None;
        };
        wait.deadline.map(|deadline| since.after(deadline))
    }

    /// What nodes provide that are in success, failure or rolling-back.
    pub(super) fn values(&self) -> impl Iterator<Item = (NodeIndex, &Values)> {
        let nodes = self.flow.indices().zip(&self.nodes).filter(|(index, _)| self.element(*index).is_none());
        nodes.filter_map(|(index, node)| Some((index, node.state.readable()?)))
    }

    /// The state of a node, as it is told.
    pub(super) fn node_state(&self, index: NodeIndex) -> State {
        if self.flow.for_each(index).is_some() { self.for_each_state(index) } else { self.node(index).state.told() }
    }

    /// Whether a node is of this pass.
    pub(super) fn has(&self, index: NodeIndex) -> bool {
        self.node(index).state != NodeState::NotInFiring
    }

    /// Whether an attempt that was lost may answer yet, or somebody has a call of it.
    pub(super) fn has_outstanding_attempts(&self) -> bool {
        self.nodes.iter().any(|node| !node.lost.is_empty() || !node.lease_holders.is_empty())
    }

    /// Whether anybody was called or waited for in it.
    pub(super) fn has_called(&self) -> bool {
        self.flow.indices().any(|index| match self.flow.node(index).role {
            Role::Task(_) | Role::Wait(_) | Role::Element(_) => self.node(index).applies > 0,
            Role::ForEach(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
        })
    }

    /// The place of the node that a call is of, in the pass that made it.
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
        let priority = match &self.flow.node(index).role {
            Role::Task(task) => task.priority,
            Role::ForEach(each) => each.task.priority,
            Role::Element(_) | Role::FanIn(_) | Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => 0,
        };
        StartOrder(Reverse(priority), index)
    }

    /// The scope and those around it, from the inside out.
    fn enclosing(&self, innermost: ScopeIndex) -> impl Iterator<Item = ScopeIndex> + use<'_> {
        std::iter::successors(Some(innermost), |scope| self.flow.scope(*scope).parent)
    }
}
