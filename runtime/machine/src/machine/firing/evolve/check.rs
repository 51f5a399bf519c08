//! Checks that a record can follow the records before it: the machine does not trust records from a logbook.

use crate::{Fact, Resolution};
use flow::{Action, NodeIndex, RunState, State};

use super::FiringMachine;

impl FiringMachine {
    /// Whether a record can follow: the machine does not trust records from a logbook.
    pub(super) fn check_fact(&self, fact: &Fact) -> Result<(), String> {
        let run_of = |node: NodeIndex| match self.nodes.get(node.0 as usize) {
            Some(run) => Ok(run),
            None => Err(format!("the flow has no node {}", node.0)),
        };
        let expect_state = |node: NodeIndex, state: State, expected: &[State]| {
            if expected.contains(&state) {
                return Ok(());
            }
            Err(format!("node {:?} is {state}", self.name(node)))
        };
        let expect =
            |node: NodeIndex, expected: &[State]| expect_state(node, run_of(node)?.state.published(), expected);
        match fact {
            Fact::Started { attempt, action: Action::Apply } => {
                expect(attempt.node, &[State::Pending, State::Running, State::Failure])
            }
            Fact::Started { attempt, action: Action::Rollback } => {
                expect(attempt.node, &[State::Success, State::Failure, State::RollingBack, State::Ignored])
            }
            Fact::Succeeded { attempt, .. } | Fact::Remembered { attempt, .. } | Fact::Failed { attempt, .. } => {
                expect(attempt.node, &[State::Running])
            }
            Fact::RolledBack { attempt, .. } | Fact::RollbackFailed { attempt, .. } => {
                expect(attempt.node, &[State::RollingBack])
            }
            Fact::Lost { attempt, .. } => expect(attempt.node, &[State::Running, State::RollingBack]),
            Fact::Leased { attempt, .. } | Fact::LateOutcome { attempt, .. } => run_of(attempt.node).map(|_| ()),
            Fact::RollbackRetried { node } | Fact::RollbackSkipped { node, .. } => {
                expect(*node, &[State::RollbackFailure])
            }
            Fact::Reset if self.state != RunState::RolledBack => Err(format!("the run is {}", self.state)),
            Fact::Expanded { node, .. } if run_of(*node).is_ok() && self.for_each(*node).is_none() => {
                Err(format!("node {:?} is not called for a list", self.name(*node)))
            }
            Fact::Expanded { node, .. } => expect(*node, &[State::Running]),
            Fact::RollbackNotNeeded { node } => expect(*node, &[State::Success, State::Failure, State::Retrying]),
            Fact::Retrying { node } => expect(*node, &[State::Success, State::Failure]),
            Fact::ControllerRan { node, .. } | Fact::StartFailed { node, .. } => {
                expect(*node, &[State::Pending, State::Retrying])
            }
            Fact::Ignored { node, .. } | Fact::ScopeStarted { node } | Fact::Delayed { node, .. } => {
                expect(*node, &[State::Pending])
            }
            Fact::FailureResolved { node, resolution } => match resolution {
                Resolution::Retry(scope) if scope.0 as usize >= self.scopes.len() => Err("no such scope".into()),
                Resolution::Retry(_) | Resolution::RollbackRun => expect(*node, &[State::Failure]),
            },
            Fact::RunStateChanged { .. } if self.state.is_final() => Err(format!("the run is {}", self.state)),
            Fact::RunStarted { .. }
            | Fact::Edited { .. }
            | Fact::Triggered { .. }
            | Fact::BackEdgeSkipped { .. }
            | Fact::Scheduled { .. }
            | Fact::TriggerSkipped { .. }
            | Fact::BacklogAdded { .. }
            | Fact::BacklogFired { .. }
            | Fact::ClockSet { .. }
            | Fact::NotificationReceived { .. }
            | Fact::Reset
            | Fact::Expired
            | Fact::CancelRequested
            | Fact::SuspendRequested
            | Fact::Resumed
            | Fact::RunStateChanged { .. } => Ok(()),
        }
    }
}
