//! Calls that need a permit, from the view of their runs: which there are, which hold one, and which need none any more.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Action, CallId, NodeName, Pace, RunState, Shard, Task, Timestamp};
use machine::{Event, Fact, Machine, Record};

use super::client::{PacedCall, PermitClient};

/// The calls that an event may have ended.
pub(crate) enum EndedCalls {
    /// Only these calls.
    Calls(Vec<CallId>),
    /// Any call of the run.
    Any,
}

impl Default for EndedCalls {
    fn default() -> Self {
        Self::Calls(Vec::new())
    }
}

impl EndedCalls {
    /// Returns the calls that an event and its records may have ended.
    pub(crate) fn from_event(event: &Event, records: &[Record]) -> Self {
        // Once a rollback has failed for good, the whole run is rolled back.
        let takes_back = |record: &Record| {
            matches!(
                record.fact,
                Fact::FailureResolved { .. }
                    | Fact::Expired
                    | Fact::CancelRequested
                    | Fact::RollbackFailed { retry_at: None, .. }
            )
        };
        // Besides the call that the event names, time may have ended others: no worker has started them in time.
        let failed = records.iter().filter(|record| matches!(record.fact, Fact::Failed { .. })).count();
        let named = usize::from(matches!(event, Event::Signal(_) | Event::Withdrawn { .. }));
        if failed > named || records.iter().any(takes_back) {
            return Self::Any;
        }
        match event {
            Event::Signal(signal) => Self::Calls(vec![signal.call.clone()]),
            // Another load of the run may have requested a permit for it.
            Event::Withdrawn { call } | Event::Remembered { call, .. } => Self::Calls(vec![call.clone()]),
            Event::Start
            | Event::Leased { .. }
            | Event::LostDelivery { .. }
            | Event::Notify { .. }
            | Event::TaskNotification { .. }
            | Event::Fetched { .. }
            | Event::ClockSet { .. }
            | Event::Tick => Self::default(),
            Event::Cancel
            | Event::Suspend
            | Event::Abandon
            | Event::Resume
            | Event::Lost { .. }
            | Event::Retry
            | Event::Skip { .. }
            | Event::Edit { .. } => Self::Any,
        }
    }

    /// Combines two sets of calls.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Calls(mut some), Self::Calls(others)) => {
                some.extend(others);
                Self::Calls(some)
            }
            (Self::Any, Self::Calls(_) | Self::Any) | (Self::Calls(_), Self::Any) => Self::Any,
        }
    }
}

/// Whether a call needs a permit. A rollback never waits behind applies.
pub(crate) fn is_paced(task: &Task, action: Action) -> bool {
    action == Action::Apply && !task.pace.is_unlimited()
}

/// Creates a permit request for a call.
pub(crate) fn paced_call(task: &Task, call: CallId) -> PacedCall {
    PacedCall { call, pace: task.pace, priority: task.priority }
}

impl PermitClient {
    /// Holds permits for the calls of a run that workers have under a lease.
    pub(crate) fn hold_leased(&mut self, now: Timestamp, shard: &Shard, machine: &Machine) {
        let pace =
            |call: &CallId| machine.task(&call.task).filter(|task| is_paced(task, call.action)).map(|task| task.pace);
        let leased: BTreeMap<CallId, Pace> =
            machine.leased_calls().filter_map(|(call, _)| pace(&call).map(|pace| (call, pace))).collect();
        if leased.is_empty() {
            return;
        }
        for call in machine.outstanding_calls() {
            if let Some(pace) = leased.get(&call) {
                self.hold(now, shard, &machine.flow().name, call, *pace);
            }
        }
    }

    /// Releases the permits of calls that may have ended, and withdraws waiting calls that are no longer wanted.
    /// Returns the events that this causes for the run.
    pub(crate) fn on_ended(&mut self, machine: &Machine, ended: &EndedCalls) -> Vec<Event> {
        let run = machine.run();
        let mut events = Vec::new();
        if !self.has(run) {
            return events;
        }
        match ended {
            EndedCalls::Calls(calls) => calls.iter().for_each(|call| self.release(call)),
            EndedCalls::Any => {
                let outstanding: BTreeSet<CallId> = machine.outstanding_calls().collect();
                let nodes = machine.flow().nodes.iter();
                let removed: BTreeSet<&NodeName> = nodes.filter(|node| node.retired).map(|node| &node.name).collect();
                for call in self.calls_of(run) {
                    let is_wanted = || machine.is_wanted(&call) && !removed.contains(&call.task.base());
                    if !outstanding.contains(&call) {
                        self.release(&call);
                    } else if self.is_waiting(&call) && !is_wanted() {
                        self.release(&call);
                        events.push(Event::Withdrawn { call });
                    }
                }
                self.set_requesting(run, machine.state() != RunState::Suspending);
            }
        }
        // No worker has a call of this run, and no new one may start: it is suspended, and requests permits again on
        // resume.
        if machine.state() == RunState::Suspending {
            let mut outstanding = machine.outstanding_calls().peekable();
            if outstanding.peek().is_some() && outstanding.all(|call| self.is_waiting(&call)) {
                events.push(Event::Abandon);
            }
        }
        events
    }
}

/// Splits the calls that a run sends again into those that need a permit, and all others.
pub(crate) fn split_paced(machine: &Machine) -> (Vec<CallId>, Vec<CallId>) {
    let needs_permit = |call: &CallId| machine.task(&call.task).is_some_and(|task| is_paced(task, call.action));
    machine.pending_calls().partition(needs_permit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::{Attempt, Failure, FailureKind, Firing, NodeIndex, Values};
    use machine::NodeAttempt;

    #[test]
    fn a_rollback_that_fails_for_good_may_end_any_call() {
        let attempt = NodeAttempt { node: NodeIndex(1), firing: Firing::FIRST, attempt: Attempt::new(1) };
        let failed = |retry_at| Record {
            at: Timestamp::from_micros(0),
            firing: None,
            fact: Fact::RollbackFailed {
                attempt,
                failure: Failure::new(FailureKind::Transient, "no"),
                retry_at,
                worker: None,
            },
        };
        assert!(matches!(EndedCalls::from_event(&Event::Tick, &[failed(None)]), EndedCalls::Any));
        let is_retried = Some(Timestamp::from_micros(1));
        assert!(matches!(EndedCalls::from_event(&Event::Tick, &[failed(is_retried)]), EndedCalls::Calls(_)));
    }

    #[test]
    fn a_call_that_expires_beside_another_event_has_ended() {
        let attempt = NodeAttempt { node: NodeIndex(1), firing: Firing::FIRST, attempt: Attempt::new(1) };
        let failed = || Fact::Failed {
            attempt,
            failure: Failure::new(FailureKind::Timeout, "no worker started it in time"),
            retry_at: Some(Timestamp::from_micros(1)),
            execution: None,
            redelivered: false,
            worker: None,
        };
        let record = || Record { at: Timestamp::from_micros(0), firing: None, fact: failed() };
        for event in [Event::Tick, Event::Start] {
            assert!(matches!(EndedCalls::from_event(&event, &[record()]), EndedCalls::Any));
            assert!(matches!(EndedCalls::from_event(&event, &[]), EndedCalls::Calls(calls) if calls.is_empty()));
        }
        // A run may have a million calls that are withdrawn one after the other.
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::new(1),
            action: Action::Apply,
        };
        let ended = EndedCalls::from_event(&Event::Withdrawn { call: call.clone() }, &[record()]);
        assert!(matches!(ended, EndedCalls::Calls(calls) if calls == std::slice::from_ref(&call)), "it ends no other");
        let remembered = Event::Remembered { call: call.clone(), values: Values::new(), computed_by: call.clone() };
        let ended = EndedCalls::from_event(&remembered, &[]);
        assert!(
            matches!(ended, EndedCalls::Calls(calls) if calls == std::slice::from_ref(&call)),
            "it needs no permit"
        );
    }
}
