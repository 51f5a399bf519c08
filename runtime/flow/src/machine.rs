//! The machine that decides how a run goes on: a plain value, the same for live work and for recovery.
//!
//! [`Machine::decide`] says what an event means, [`Machine::evolve`] takes one durable record, and nothing else
//! changes the machine. An event costs in proportion to what it changes, never to the size of the flow: each node
//! counts the neighbours it still waits for, and only nodes whose count reaches nothing are looked at.
//!
//! Reading order: this file, `node.rs` (what is true of a node), `decide.rs`, `evolve.rs`, `readiness.rs` (who may
//! start), `conditions.rs` (whether links let it), `calls.rs` (what workers are asked for), `late.rs` (lost attempts and their late answers), `edits.rs` (flows
//! that are changed), `snapshot.rs` (a
//! machine without its history).

mod calls;
mod conditions;
mod decide;
mod edits;
mod evolve;
mod node;
mod late;
mod readiness;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Answer, Command, Event, Fact, Failures, Flow, NodeIndex, NodeName, Outcome, Record, Revision, Role, RunId,
    RunState, ScopeIndex, State, Timestamp, Values,
};
use node::ScopeRun;
pub use node::{Intention, NodeRun, NodeState};
pub use snapshot::{IllegalSnapshot, Snapshot};

/// A record that cannot follow those before it: the logbook is damaged or belongs to another run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {fact} does not fit run {run}: {reason}")]
pub struct IllegalRecord {
    run: RunId,
    fact: String,
    reason: String,
}

/// What one event came to: what to make durable, and what to do afterwards.
#[derive(Debug, Default)]
pub struct Step {
    /// To be appended to the logbook, in this order, before any command leaves.
    pub records: Vec<Record>,
    /// To be done once the records are durable, in this order.
    pub commands: Vec<Command>,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    run: RunId,
    flow: Arc<Flow>,
    /// Where the tasks stand, for signals name them.
    tasks: Arc<BTreeMap<NodeName, NodeIndex>>,
    revision: Revision,
    state: RunState,
    nodes: Vec<NodeRun>,
    scopes: Vec<ScopeRun>,
    /// Nodes that may execute now.
    ready: BTreeSet<Turn>,
    /// Nodes that may be rolled back now, or controllers that may try again.
    unwinding: BTreeSet<Turn>,
    /// Failures for good that no controller was asked about yet.
    unresolved: BTreeSet<NodeIndex>,
    /// Failed calls that wait for their next attempt.
    due: BTreeSet<(Timestamp, NodeIndex)>,
    /// Tasks whose call is with the workers.
    calling: BTreeSet<NodeIndex>,
    /// Tasks that wait to be notified.
    expected: BTreeSet<NodeIndex>,
    /// When the run is stopped and rolled back, if it is not done by then.
    expires_at: Option<Timestamp>,
    /// Tasks whose attempt started without all its inputs: no call is out, and it is about to fail.
    starved: BTreeSet<NodeIndex>,
    /// Nodes whose rollback failed for good.
    stuck: BTreeSet<NodeIndex>,
    /// Pending nodes of which a lost apply has answered.
    strays: BTreeSet<NodeIndex>,
    /// Nodes that failed in the last pass and why. Shared with the rollbacks that are told of it.
    failures: Arc<Failures>,
}

/// Among nodes that may start, higher priority first, then file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(Reverse<i32>, NodeIndex);

impl Machine {
    /// A run of a flow that has no record yet. [`Event::Start`] begins it.
    #[must_use]
    pub fn new(run: RunId, flow: Arc<Flow>) -> Self {
        let mut scopes: Vec<ScopeRun> = flow.scopes.iter().map(|_| ScopeRun::default()).collect();
        for (index, scope) in flow.scopes.iter().enumerate() {
            if let Some(parent) = scope.parent {
                let child = u32::try_from(index).expect("a flow has fewer scopes than nodes");
                scopes[parent.0 as usize].children.push(ScopeIndex(child));
            }
        }
        let nodes = flow.nodes.iter().map(|node| NodeRun::new(node.before.len())).collect();
        let is_task = |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_));
        let tasks = flow.indices().filter(is_task).map(|index| (flow.node(index).name.clone(), index)).collect();
        Self {
            run,
            flow,
            tasks: Arc::new(tasks),
            revision: Revision::FIRST,
            state: RunState::Pending,
            nodes,
            scopes,
            ready: BTreeSet::new(),
            unwinding: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            due: BTreeSet::new(),
            calling: BTreeSet::new(),
            expected: BTreeSet::new(),
            expires_at: None,
            starved: BTreeSet::new(),
            stuck: BTreeSet::new(),
            strays: BTreeSet::new(),
            failures: Arc::default(),
        }
    }

    /// The run as its records tell it. Commands the records caused are not told again; [`Machine::pending`] has
    /// those that are still unanswered.
    ///
    /// # Errors
    /// [`IllegalRecord`] when there is none, the first does not start the run, or one does not fit.
    pub fn replay<'a>(run: RunId, records: impl IntoIterator<Item = &'a Record>) -> Result<Self, IllegalRecord> {
        let mut records = records.into_iter();
        let illegal = |fact: String, reason: &str| IllegalRecord { run: run.clone(), fact, reason: reason.into() };
        let first = records.next().ok_or_else(|| illegal("none".into(), "a run has at least one record"))?;
        let Fact::RunStarted { flow, .. } = &first.fact else {
            return Err(illegal(first.fact.name().into(), "the first record starts the run"));
        };
        let mut machine = Self::new(run.clone(), flow.clone());
        machine.evolve(first)?;
        for record in records {
            machine.evolve(record)?;
        }
        Ok(machine)
    }

    /// Decides about an event and goes on until nothing more follows from it at this time.
    ///
    /// The machine is ahead of the logbook until the records are appended: if that fails, drop the machine and
    /// replay.
    ///
    /// # Panics
    /// When the machine refuses its own decision: a bug.
    pub fn step(&mut self, now: Timestamp, event: &Event) -> Step {
        let mut step = Step::default();
        let mut records = self.decide(now, event);
        while !records.is_empty() {
            for record in &records {
                step.commands.extend(self.evolve(record).expect("the machine accepts what it decided"));
            }
            step.records.append(&mut records);
            records = self.decide(now, &Event::Tick);
        }
        step
    }

    /// When to tell the machine [`Event::Tick`] if nothing happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.state {
            RunState::Running => {
                let expires_at = self.expires_at.filter(|_| !self.rolling_back());
                self.due.first().map(|(at, _)| *at).into_iter().chain(expires_at).min()
            }
            RunState::Pending
            | RunState::Success
            | RunState::Failure
            | RunState::RolledBack
            | RunState::Suspending
            | RunState::Suspended => None,
        }
    }

    /// The run's id.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The flow it runs.
    #[must_use]
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// What the flow looks like by now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The state of the run.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Every node that failed in the last pass, and why. Where apply and rollback both failed it is the
    /// rollback's failure; [`Machine::apply_failure`] has the other.
    #[must_use]
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Why the apply of a node failed whose rollback failed too.
    #[must_use]
    pub fn apply_failure(&self, name: &NodeName) -> Option<&crate::Failure> {
        match &self.node(*self.tasks.get(name)?).state {
            NodeState::RollbackFailure { outcome: Outcome::Failed(failure) } => Some(failure),
            NodeState::Pending
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

    /// Why a notification of a task would be refused now, for people; `None` when it is waited for.
    #[must_use]
    pub fn refuses(&self, task: &NodeName, answer: &Answer) -> Option<String> {
        let Some(index) = self.tasks.get(task).copied() else { return Some(format!("the run has no task {task:?}")) };
        let Role::Wait(wait) = &self.flow.node(index).role else {
            return Some(format!("task {task:?} calls a guest: only a task that waits can be notified"));
        };
        if !self.expected.contains(&index) {
            return Some(format!("task {task:?} is {}, and does not wait now", self.node_state(index)));
        }
        match answer {
            Answer::Succeeded(values) => decide::brought(wait, values).err(),
            Answer::Failed(_) => None,
        }
    }

    /// What a task calls, by its name: an edit may have given it another place since a call was handed out.
    #[must_use]
    pub fn task(&self, name: &NodeName) -> Option<&crate::Task> {
        match &self.flow.node(*self.tasks.get(name)?).role {
            Role::Task(task) => Some(task),
            Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    /// The tasks that wait to be notified, and until when where they do not wait for ever.
    pub fn expected(&self) -> impl Iterator<Item = (NodeIndex, Option<Timestamp>)> + use<'_> {
        self.expected.iter().map(|index| (*index, self.deadline(*index)))
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

    /// Every value in force: the inputs, and what nodes provide that are in success, failure or rolling-back.
    #[must_use]
    pub fn values(&self) -> Values {
        let mut values = self.flow.inputs.clone();
        for node in &self.nodes {
            if let Some(provided) = node.state.readable() {
                values.extend(provided.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        values
    }

    /// The state of a node, as it is told.
    #[must_use]
    pub fn node_state(&self, index: NodeIndex) -> State {
        self.node(index).state.told()
    }

    fn node(&self, index: NodeIndex) -> &NodeRun {
        &self.nodes[index.0 as usize]
    }

    fn node_mut(&mut self, index: NodeIndex) -> &mut NodeRun {
        &mut self.nodes[index.0 as usize]
    }

    fn scope(&self, index: ScopeIndex) -> &ScopeRun {
        &self.scopes[index.0 as usize]
    }

    fn scope_mut(&mut self, index: ScopeIndex) -> &mut ScopeRun {
        &mut self.scopes[index.0 as usize]
    }

    fn turn(&self, index: NodeIndex) -> Turn {
        let priority = match &self.flow.node(index).role {
            Role::Task(task) => task.priority,
            Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => 0,
        };
        Turn(Reverse(priority), index)
    }

    /// The scope and those around it, from the inside out.
    fn enclosing(&self, innermost: ScopeIndex) -> impl Iterator<Item = ScopeIndex> + use<'_> {
        std::iter::successors(Some(innermost), |scope| self.flow.scope(*scope).parent)
    }
}
