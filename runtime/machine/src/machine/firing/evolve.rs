//! Applies durable records, and returns the commands that follow from them.

mod check;
mod late;
mod restart;

use std::sync::Arc;

use crate::{Call, Command, Fact, NodeAttempt};
use flow::{
    Action, CallId, Execution, Failure, FailureKind, NodeIndex, Outcome, RunState, SkipReach, State, Timestamp, Values,
    WorkerName, graph::ScopeIndex,
};

use super::{
    FiringMachine,
    graph::NodeRole,
    held::named_failure_bytes,
    node::{Intention, NodeState, ProvidedValues},
    publish::ChangeDetails,
};
use late::LateOutcome;

impl FiringMachine {
    /// Applies one durable fact about this firing.
    ///
    /// # Errors
    /// Why the fact cannot follow the facts before it.
    pub(in crate::machine) fn evolve(&mut self, at: Timestamp, fact: &Fact) -> Result<Vec<Command>, String> {
        self.check_fact(fact)?;
        let commands = self.apply(at, fact);
        if let Fact::Succeeded { attempt, .. } | Fact::Remembered { attempt, .. } = fact
            && let Some(element) = self.element(attempt.node)
        {
            // The next element may start.
            self.fill_window(element.of);
        }
        Ok(commands)
    }

    fn apply(&mut self, at: Timestamp, fact: &Fact) -> Vec<Command> {
        match fact {
            // These facts concern the run as a whole.
            Fact::RunStarted { .. }
            | Fact::Edited { .. }
            | Fact::Triggered { .. }
            | Fact::BackEdgeSkipped { .. }
            | Fact::Scheduled { .. }
            | Fact::TriggerSkipped { .. }
            | Fact::BacklogAdded { .. }
            | Fact::BacklogFired { .. }
            | Fact::NotificationReceived { .. } => Vec::new(),
            Fact::Started { attempt, action: Action::Apply } => self.start_apply(at, *attempt),
            Fact::Started { attempt, action: Action::Rollback } => self.start_rollback(at, *attempt),
            Fact::Succeeded { attempt, provided, execution, worker } => {
                self.add_execution(*attempt, Some(*execution));
                self.succeed(at, *attempt, provided, worker.as_ref())
            }
            Fact::Remembered { attempt, provided, computed_by } => {
                self.take_remembered(at, *attempt, provided, computed_by)
            }
            Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker } => {
                self.add_execution(*attempt, *execution);
                self.node_mut(attempt.node).may_have_applied |= *redelivered || failure.kind == FailureKind::Poison;
                self.fail(at, *attempt, failure, *retry_at, worker.as_ref())
            }
            Fact::Leased { attempt, action, worker } => {
                self.lease(*attempt, *action, worker);
                Vec::new()
            }
            Fact::Lost { attempt, action, worker } => self.lose_attempt(at, *attempt, *action, worker.as_ref()),
            Fact::LateOutcome { attempt, action, execution, outcome, worker } => {
                let (outcome, worker) = (outcome.as_ref(), worker.as_ref());
                let late = LateOutcome { attempt: *attempt, action: *action, execution: *execution, outcome, worker };
                self.on_late_outcome(at, late)
            }
            Fact::RolledBack { attempt, worker } => self.succeed_rollback(at, *attempt, worker.as_ref()),
            Fact::RollbackFailed { attempt, failure, retry_at, worker } => {
                self.fail_rollback(at, *attempt, failure, *retry_at, worker.as_ref())
            }
            Fact::Expanded { node, list } => {
                self.expand(*node, list);
                Vec::new()
            }
            Fact::RollbackNotNeeded { node } => self.skip_rollback_call(at, *node),
            Fact::FailureResolved { node, resolution } => self.follow_resolution(at, *node, resolution),
            Fact::ControllerRan { node, attempt, value, list } => {
                self.run_controller(at, *node, *attempt, value.as_ref(), list.as_deref())
            }
            Fact::StartFailed { node, attempt, failure } => {
                self.fail_to_start(at, self.node_attempt(*node, *attempt), failure)
            }
            Fact::Ignored { node, reach } => self.publish_ignored(at, *node, *reach),
            Fact::Delayed { node, until } => {
                self.wait_until(*node, *until);
                Vec::new()
            }
            Fact::ScopeStarted { node } => self.start_scope(*node),
            Fact::Retrying { node } => self.retry_scope(at, *node),
            Fact::RollbackRetried { node } => self.retry_rollback(at, *node),
            Fact::RollbackSkipped { node, .. } => self.skip_rollback(at, *node),
            Fact::Reset => self.reset(at),
            Fact::ClockSet { by } => {
                self.shift(*by);
                Vec::new()
            }
            Fact::CancelRequested | Fact::Expired => self.start_full_rollback(at),
            Fact::SuspendRequested => self.enter_run_state(at, RunState::Suspending),
            Fact::Resumed => self.enter_run_state(at, RunState::Running),
            Fact::RunStateChanged { state } => self.enter_run_state(at, *state),
        }
    }

    fn enter_run_state(&mut self, at: Timestamp, state: RunState) -> Vec<Command> {
        self.state = state;
        self.publish_run(at)
    }

    /// Stops the firing: it is rolled back, and the applies that are under way are interrupted.
    fn start_full_rollback(&mut self, at: Timestamp) -> Vec<Command> {
        if self.state.is_final() {
            self.state = RunState::Running;
        }
        let applies = self.outstanding_calls().filter(|call| call.action == Action::Apply);
        let interrupts = applies.map(Command::Interrupt).collect();
        self.set_intention(at, ScopeIndex::ROOT, Intention::Rollback);
        interrupts
    }

    /// Starts a nested flow; its begin is never published.
    fn start_scope(&mut self, begin: NodeIndex) -> Vec<Command> {
        self.enter(begin, NodeState::Success { provided: ProvidedValues::default() });
        Vec::new()
    }

    fn add_execution(&mut self, attempt: NodeAttempt, execution: Option<Execution>) {
        if let Some(execution) = execution {
            self.node_mut(attempt.node).executions.insert(attempt.attempt, execution);
        }
    }

    fn start_apply(&mut self, at: Timestamp, attempt: NodeAttempt) -> Vec<Command> {
        let index = attempt.node;
        if let NodeState::Failure { retry_at, .. } | NodeState::Running { retry_at, .. } = &self.node(index).state {
            self.remove_retry(*retry_at, index);
        }
        self.late_outcomes.remove(&index);
        // The late effects of the lost apply need no rollback while this apply may still succeed: both have one
        // idempotency key.
        let has_late_effects = self.set_late_outcome(index, None).is_some();
        let node = self.node_mut(index);
        node.applies = attempt.attempt.get();
        node.may_have_applied |= has_late_effects;
        self.clear_failure(index);
        self.enter(index, NodeState::Running { since: at, retry_at: None });
        // A fan-in is published once it has joined the results.
        let is_published = !matches!(self.role(index), NodeRole::FanIn(_));
        let published = is_published.then(|| self.publish(index, at, ChangeDetails::default()));
        let mut commands: Vec<Command> = published.into_iter().collect();
        commands.extend(self.dispatch(index));
        commands
    }

    /// The command that dispatches a node's call; `None` when an input is missing.
    fn dispatch(&mut self, index: NodeIndex) -> Option<Command> {
        match self.role(index) {
            NodeRole::Wait(_) => {
                self.wait_for_notification(index);
                return None;
            }
            NodeRole::ForEach(_) | NodeRole::FanIn(_) => return self.start_fetch(index),
            NodeRole::Task(_) | NodeRole::Element(_) | NodeRole::Controller(_) | NodeRole::Begin | NodeRole::End => {}
        }
        if let Some(task) = self.task_called(index)
            && matches!(self.node(index).state, NodeState::Running { .. })
            && self.inputs(index, task, flow::graph::InputUse::ApplyAndRollback).is_err()
        {
            self.missing_inputs.insert(index);
            return None;
        }
        self.outstanding.insert(index);
        self.retries.extend(self.expiry(index).map(|at| (at, index)));
        self.call(index).map(|call: Call| Command::Call(Box::new(call)))
    }

    fn start_rollback(&mut self, at: Timestamp, attempt: NodeAttempt) -> Vec<Command> {
        let index = attempt.node;
        let node = self.node(index);
        let outcome = if let NodeState::Success { provided } = &node.state {
            Outcome::Provided(provided.to_values())
        } else if let NodeState::Failure { failure, .. } = &node.state {
            if node.may_have_applied { Outcome::Unknown } else { Outcome::Failed((**failure).clone()) }
        } else if let NodeState::RollingBack { outcome, retry_at, .. } = &node.state {
            let (outcome, retry_at) = (outcome.clone(), *retry_at);
            self.remove_retry(retry_at, index);
            *outcome
        } else {
            // The effects of a lost apply that has answered since, of an ignored node.
            let late_outcome = node.rare.late_outcome.clone().filter(|_| node.state == NodeState::Ignored);
            late_outcome.unwrap_or(Outcome::Unknown)
        };
        self.late_outcomes.remove(&index);
        // This attempt follows the effects of a lost apply, if one has answered.
        self.set_late_outcome(index, None);
        let node = self.node_mut(index);
        node.rollbacks = attempt.attempt.get();
        if !matches!(node.state, NodeState::RollingBack { .. }) {
            node.consecutive_failures = 0;
            node.consecutive_losses = 0;
        }
        self.enter(index, NodeState::RollingBack { since: at, outcome: outcome.into(), retry_at: None });
        let mut commands = vec![self.publish(index, at, ChangeDetails::default())];
        commands.extend(self.dispatch(index));
        commands
    }

    fn succeed(
        &mut self,
        at: Timestamp,
        attempt: NodeAttempt,
        provided: &Values,
        worker: Option<&WorkerName>,
    ) -> Vec<Command> {
        let index = attempt.node;
        self.on_result(attempt, Action::Apply, worker);
        self.node_mut(index).consecutive_failures = 0;
        self.enter(index, NodeState::Success { provided: provided.clone().into() });
        vec![self.publish(index, at, ChangeDetails::success(provided.clone(), worker))]
    }

    /// Ends an attempt with a remembered result. Earlier failures of the task still count: what they did is not undone by it.
    fn take_remembered(
        &mut self,
        at: Timestamp,
        attempt: NodeAttempt,
        provided: &Values,
        computed_by: &CallId,
    ) -> Vec<Command> {
        let index = attempt.node;
        self.on_result(attempt, Action::Apply, None);
        self.enter(index, NodeState::Success { provided: provided.clone().into() });
        vec![self.publish(index, at, ChangeDetails::remembered(provided.clone(), computed_by))]
    }

    fn fail(
        &mut self,
        at: Timestamp,
        attempt: NodeAttempt,
        failure: &Failure,
        retry_at: Option<Timestamp>,
        worker: Option<&WorkerName>,
    ) -> Vec<Command> {
        let index = attempt.node;
        self.on_result(attempt, Action::Apply, worker);
        self.missing_inputs.remove(&index);
        if let NodeState::Running { retry_at, .. } = &self.node(index).state {
            self.remove_retry(*retry_at, index);
        }
        self.node_mut(index).consecutive_failures += 1;
        self.record_failure(index, failure);
        self.enter(index, NodeState::Failure { failure: failure.clone().into(), retry_at });
        let asks_controllers = self.asks_controller(index);
        match retry_at {
            Some(due) => {
                self.retries.insert((due, index));
            }
            None if asks_controllers => {
                self.unresolved.insert(index);
            }
            None => {}
        }
        vec![self.publish(index, at, ChangeDetails::failure(at, failure, retry_at, worker))]
    }

    fn succeed_rollback(&mut self, at: Timestamp, attempt: NodeAttempt, worker: Option<&WorkerName>) -> Vec<Command> {
        let index = attempt.node;
        self.on_result(attempt, Action::Rollback, worker);
        self.node_mut(index).may_have_applied = false;
        if let Some(outcome) = self.node(index).rare.late_outcome.clone() {
            // The rolled-back effects may have happened after the rollback: roll back once more.
            self.repeat_rollback(at, index, outcome);
            return Vec::new();
        }
        self.enter(index, NodeState::RolledBack);
        vec![self.publish(index, at, ChangeDetails::executed_by(worker))]
    }

    fn fail_rollback(
        &mut self,
        at: Timestamp,
        attempt: NodeAttempt,
        failure: &Failure,
        retry_at: Option<Timestamp>,
        worker: Option<&WorkerName>,
    ) -> Vec<Command> {
        let index = attempt.node;
        self.on_result(attempt, Action::Rollback, worker);
        let NodeState::RollingBack { since, outcome, .. } = self.node(index).state.clone() else { return Vec::new() };
        self.node_mut(index).consecutive_failures += 1;
        let details = ChangeDetails::failure(at, failure, retry_at, worker);
        let Some(due) = retry_at else {
            self.failed_rollbacks.insert(index);
            self.record_failure(index, failure);
            self.enter(index, NodeState::RollbackFailure { outcome });
            let published = self.publish(index, at, details);
            // Its controller can never retry: the rest of the run is rolled back as far as possible.
            if !self.rolling_back() {
                self.set_intention(at, ScopeIndex::ROOT, Intention::Rollback);
            }
            return vec![published];
        };
        self.retries.insert((due, index));
        self.enter(index, NodeState::RollingBack { since, outcome, retry_at });
        vec![self.publish_as(index, State::Failure, at, details)]
    }

    fn skip_rollback_call(&mut self, at: Timestamp, index: NodeIndex) -> Vec<Command> {
        let node = self.node_mut(index);
        node.may_have_applied = false;
        node.rollbacks += 1;
        self.enter(index, NodeState::RolledBack);
        let rolling_back = self.publish_as(index, State::RollingBack, at, ChangeDetails::default());
        let rolled_back = self.publish(index, at, ChangeDetails::default());
        match self.role(index) {
            // The elements are rolled back first, then the task itself.
            NodeRole::FanIn(_) => vec![rolling_back],
            NodeRole::ForEach(_) if self.node(self.flow.fan_in_of(index)).state == NodeState::RolledBack => {
                vec![rolled_back]
            }
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::Element(_)
            | NodeRole::Controller(_)
            | NodeRole::Begin
            | NodeRole::End => vec![rolling_back, rolled_back],
        }
    }

    fn fail_to_start(&mut self, at: Timestamp, attempt: NodeAttempt, failure: &Failure) -> Vec<Command> {
        self.node_mut(attempt.node).applies = attempt.attempt.get();
        self.enter(attempt.node, NodeState::Running { since: at, retry_at: None });
        let mut commands = vec![self.publish(attempt.node, at, ChangeDetails::default())];
        let NodeRole::FanIn(each) = self.role(attempt.node) else {
            commands.extend(self.fail(at, attempt, failure, None, None));
            return commands;
        };
        self.on_for_each_failed(each);
        let commands_of_failure = self.fail(at, attempt, failure, None, None);
        // The failure of the task itself is already published.
        if matches!(self.node(each).state, NodeState::Success { .. }) { commands_of_failure } else { Vec::new() }
    }

    fn publish_ignored(&mut self, at: Timestamp, index: NodeIndex, reach: SkipReach) -> Vec<Command> {
        let ignored = self.ignore(index, reach);
        let is_published = |index: &NodeIndex| match self.role(*index) {
            NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::ForEach(_) | NodeRole::Controller(_) => true,
            NodeRole::Element(_) | NodeRole::FanIn(_) | NodeRole::Begin | NodeRole::End => false,
        };
        ignored
            .into_iter()
            .filter(is_published)
            .map(|index| self.publish(index, at, ChangeDetails::default()))
            .collect()
    }

    fn on_result(&mut self, attempt: NodeAttempt, action: Action, worker: Option<&WorkerName>) {
        if self.waiting_tasks.remove(&attempt.node) {
            self.remove_retry(self.deadline(attempt.node), attempt.node);
        }
        self.remove_retry(self.expiry(attempt.node), attempt.node);
        self.outstanding.remove(&attempt.node);
        self.fetches.remove(&attempt.node);
        self.end_lease(attempt, action, worker);
        self.node_mut(attempt.node).consecutive_losses = 0;
    }

    pub(super) fn record_failure(&mut self, index: NodeIndex, failure: &Failure) {
        let name = self.name(index);
        let after = named_failure_bytes(&name, failure);
        let old = Arc::make_mut(&mut self.failures).insert(name.clone(), failure.clone());
        self.count_held(old.map_or(0, |old| named_failure_bytes(&name, &old)), after);
    }

    pub(super) fn clear_failure(&mut self, index: NodeIndex) {
        if self.failures.is_empty() {
            return;
        }
        let name = self.name(index);
        if self.failures.contains_key(&name) {
            let old = Arc::make_mut(&mut self.failures).remove(&name);
            self.count_held(old.map_or(0, |old| named_failure_bytes(&name, &old)), 0);
        }
    }
}
