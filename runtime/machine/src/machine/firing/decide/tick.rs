//! Decides what follows without a new message: nodes start, retries and deadlines come due, and the run ends.

use crate::Fact;
use flow::{Action, Attempt, Failure, FailureKind, NodeIndex, RunState, StartTime, Timestamp, graph::InputUse};

use super::{
    super::{FiringMachine, calls::lost, graph::NodeRole, node::NodeState},
    ConditionBudget, ExecutionInfo, MAX_STEP_RECORDS,
};

impl FiringMachine {
    /// Decides what follows from a time. The next step decides what exceeds the limits of this one.
    pub(super) fn decide_tick(&self, now: Timestamp, budget: &ConditionBudget) -> Vec<Fact> {
        if self.has_missing_input() {
            return self.missing_inputs.iter().map(|index| self.fail_missing_inputs(now, *index)).collect();
        }
        if let Some(node) = self.unresolved.first() {
            if let Some(each) = self.for_each_task_of(*node) {
                return vec![self.fail_for_each(*node, each)];
            }
            return vec![Fact::FailureResolved { node: *node, resolution: self.resolve(*node) }];
        }
        if self.expires_at.is_some_and(|at| at <= now) && !self.rolling_back() && !self.is_done() {
            return vec![Fact::Expired];
        }
        // Listeners to a failure start before the rollback of anything that led to it.
        let is_handler = |index: NodeIndex| self.definition(index).is_failure_handler;
        let held = budget.held();
        let mut facts: Vec<Fact> = self.decide_starts(now, is_handler, budget).take(MAX_STEP_RECORDS).collect();
        if !facts.is_empty() || budget.held() > held {
            return facts;
        }
        let inline_fetches =
            self.fetches.keys().filter(|index| !self.is_fetching(**index)).map(|index| self.fetch_inline(*index));
        let abandoned_waits = self
            .waiting_tasks
            .iter()
            .filter(|index| !self.may_retry(**index))
            .map(|index| self.fail_waiting_task(now, *index));
        let rollbacks = self
            .rollback_ready
            .iter()
            .map(|order| order.1)
            .filter(|index| !self.is_unfinished(*index))
            .chain(self.rollback_ready_elements());
        let rollbacks = rollbacks.map(|index| self.decide_rollback(index));
        let retries = self.retries.range(..=(now, NodeIndex(u32::MAX))).map(|(_, index)| *index);
        let retries = retries.filter(|index| !self.waiting_tasks.contains(index) || self.may_retry(*index));
        let retries = retries.filter(|index| budget.lets_calls_expire() || !self.has_call_that_expires(*index));
        let retries = retries
            .take_while(|index| budget.admits(self.has_conditions(*index)))
            .map(|index| self.decide_retry(now, index, budget));
        let starts = self.decide_starts(now, |_| true, budget);
        facts.extend(
            inline_fetches.chain(abandoned_waits).chain(rollbacks).chain(retries).chain(starts).take(MAX_STEP_RECORDS),
        );
        if facts.is_empty() && self.is_idle() {
            // The effects of a lost apply that is no longer needed are rolled back before the end.
            facts.extend(
                self.late_outcomes
                    .iter()
                    .filter(|index| self.node(**index).state == NodeState::Ignored)
                    .map(|index| self.decide_rollback(*index)),
            );
        }
        if facts.is_empty() {
            facts.extend(self.end().map(|state| Fact::RunStateChanged { state }));
        }
        facts
    }

    /// Whether what is due of a node is the expiry of its call: the call was dispatched, and is neither answered nor leased.
    fn has_call_that_expires(&self, index: NodeIndex) -> bool {
        let is_call = matches!(self.role(index), NodeRole::Task(_) | NodeRole::Element(_));
        is_call && matches!(self.node(index).state, NodeState::Running { retry_at: None, .. })
    }

    fn decide_retry(&self, now: Timestamp, index: NodeIndex, budget: &ConditionBudget) -> Fact {
        match (self.role(index), &self.node(index).state) {
            // The wait is over.
            (_, NodeState::Pending) => return self.start(index, budget),
            (NodeRole::Wait(wait), NodeState::Running { .. }) => return self.fail_late_wait(now, index, wait),
            (NodeRole::Task(_) | NodeRole::Element(_), NodeState::Running { retry_at: None, .. }) => {
                let attempt = self.node_attempt(index, self.node(index).attempt());
                let failure = Failure::new(FailureKind::Timeout, "no worker started it in time: it has expired");
                return self.failed(now, attempt, failure, ExecutionInfo::NONE, None);
            }
            _ => {}
        }
        let (action, count) = self.node(index).current_action();
        if action == Action::Apply && !self.may_retry(index) {
            // The loss is recorded, and no retry follows: the flow is being rolled back.
            return self.failed(
                now,
                self.node_attempt(index, Attempt::new(count)),
                lost(None),
                ExecutionInfo::NONE,
                None,
            );
        }
        Fact::Started { attempt: self.node_attempt(index, Attempt::new(count + 1)), action }
    }

    /// Decides about the chosen nodes that may start, in their order, up to the first whose conditions have no budget.
    fn decide_starts(
        &self,
        now: Timestamp,
        is_chosen: impl Fn(NodeIndex) -> bool,
        budget: &ConditionBudget,
    ) -> impl Iterator<Item = Fact> {
        let startable = self.ready.iter().map(|order| order.1).chain(self.startable_elements());
        startable
            .filter(move |index| is_chosen(*index))
            .take_while(move |index| budget.admits(self.has_conditions(*index)))
            .map(move |index| self.decide_start(now, index, budget))
    }

    /// Decides whether a node that may start starts now or waits first.
    fn decide_start(&self, now: Timestamp, index: NodeIndex, budget: &ConditionBudget) -> Fact {
        let starts = if self.element(index).is_some() { None } else { self.flow.node(index).starts };
        let until = match starts {
            // A controller that retries has waited already.
            Some(StartTime::After(pause)) if self.node(index).state == NodeState::Pending => Some(now.after(pause)),
            Some(StartTime::At(at)) if at > now => Some(at),
            Some(_) | None => None,
        };
        until.map_or_else(|| self.start(index, budget), |until| Fact::Delayed { node: index, until })
    }

    /// Decides by its incoming links whether a node that may start does start.
    fn start(&self, index: NodeIndex, budget: &ConditionBudget) -> Fact {
        // A controller that retries passed its conditions earlier.
        if self.node(index).state == NodeState::Retrying {
            return self.execute(index);
        }
        match self.evaluate_links(index, budget) {
            Ok(None) => self.execute(index),
            Ok(Some(reach)) => Fact::Ignored { node: index, reach },
            Err(error) => Fact::StartFailed {
                node: index,
                attempt: Attempt::new(self.node(index).applies + 1),
                failure: Failure::new(FailureKind::Permanent, error),
            },
        }
    }

    fn execute(&self, index: NodeIndex) -> Fact {
        let next = Attempt::new(self.node(index).applies + 1);
        match self.role(index) {
            NodeRole::Controller(controller) => match self.next_value(index, controller) {
                Ok((value, list)) => Fact::ControllerRan { node: index, attempt: next, value, list },
                Err(message) => Fact::StartFailed {
                    node: index,
                    attempt: next,
                    failure: Failure::new(FailureKind::Permanent, message),
                },
            },
            NodeRole::Begin | NodeRole::End => Fact::ScopeStarted { node: index },
            NodeRole::Task(_)
            | NodeRole::Wait(_)
            | NodeRole::ForEach(_)
            | NodeRole::Element(_)
            | NodeRole::FanIn(_) => match self.check_inputs(index) {
                Ok(()) => Fact::Started { attempt: self.node_attempt(index, next), action: Action::Apply },
                Err(too_large) => Fact::StartFailed {
                    node: index,
                    attempt: next,
                    failure: Failure::new(FailureKind::Permanent, format!("its inputs {too_large}")),
                },
            },
        }
    }

    /// Whether an attempt has started without its inputs, and is to fail in the same step.
    pub(in crate::machine) fn has_missing_input(&self) -> bool {
        !self.missing_inputs.is_empty()
    }

    fn fail_missing_inputs(&self, now: Timestamp, index: NodeIndex) -> Fact {
        let attempt = self.node_attempt(index, self.node(index).attempt());
        let inputs = self.task_called(index).map(|task| self.inputs(index, task, InputUse::ApplyAndRollback));
        let message = match inputs {
            Some(Err(incomplete)) => self.describe_missing(&incomplete),
            Some(Ok(_)) | None => "some inputs were missing when the task started".into(),
        };
        self.failed(now, attempt, Failure::new(FailureKind::MissingInput, message), ExecutionInfo::NONE, None)
    }

    /// The final state of the run, once nothing is under way and nothing can start.
    pub(super) fn end(&self) -> Option<RunState> {
        if !self.is_idle() {
            return None;
        }
        if !self.failed_rollbacks.is_empty() {
            return Some(RunState::Failure);
        }
        if self.rolling_back() {
            return Some(RunState::RolledBack);
        }
        let end = self.flow.scopes[0].end;
        let has_succeeded = self.node(end).state.unblocks_successors();
        assert!(has_succeeded, "a run without work left has reached its end: {}", self.run);
        Some(RunState::Success)
    }

    /// Whether the run has reached its end, and only the record of it is missing.
    fn is_done(&self) -> bool {
        self.is_idle() && self.late_outcomes.is_empty()
    }

    /// Whether nothing is under way and nothing can start.
    fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
            && self.waiting_tasks.is_empty()
            && self.missing_inputs.is_empty()
            && self.fetches.is_empty()
            && self.queued.is_empty()
            && self.ready.is_empty()
            && self.rollback_ready.is_empty()
            && self.rollback_ready_lists.is_empty()
            && self.unresolved.is_empty()
            && self.retries.is_empty()
    }
}
