//! The spans of runs: what a step of the driver ends, once its records are durable.

use flow::{CallId, Signal, TaskResult, Timestamp};
use machine::{Event, Fact, UnansweredCall};
use traces::{AttemptEnd, RunTrace};

use super::StepResult;
use crate::runs::ActiveRun;

/// An attempt that an event may end, and since when it is with the workers.
pub(super) struct EndingAttempt {
    call: CallId,
    since: Timestamp,
    end: AttemptEnd,
}

/// The attempt that an event may end; `None` if nothing is traced. Ask before the event is decided.
pub(super) fn ending_attempt(active: &ActiveRun, event: &Event) -> Option<EndingAttempt> {
    active.trace.as_ref()?;
    let (call, end) = match event {
        Event::Signal(Signal { call, answer: TaskResult::Succeeded(_), .. }) => (call, AttemptEnd::Succeeded),
        Event::Signal(Signal { call, answer: TaskResult::Failed(failure), .. }) => {
            (call, AttemptEnd::Failed(failure.kind.as_str()))
        }
        Event::Remembered { call, .. } => (call, AttemptEnd::Remembered),
        Event::Lost { call, .. } => (call, AttemptEnd::Lost),
        // A lost worker may have executed it before another one returned its job.
        Event::Withdrawn { call } if active.machine.may_have_been_executed(call) => (call, AttemptEnd::Lost),
        Event::Withdrawn { call } => (call, AttemptEnd::Withdrawn),
        Event::Start
        | Event::Cancel
        | Event::Suspend
        | Event::Abandon
        | Event::Resume
        | Event::Leased { .. }
        | Event::LostDelivery { .. }
        | Event::Retry
        | Event::Skip { .. }
        | Event::Notify { .. }
        | Event::TaskNotification { .. }
        | Event::Fetched { .. }
        | Event::Edit { .. }
        | Event::ClockSet { .. }
        | Event::Tick => return None,
    };
    // A late outcome ends no attempt: the attempt has ended before.
    active.machine.outstanding_since(call).map(|since| EndingAttempt { call: call.clone(), since, end })
}

/// The attempts that a step has ended: that of its event, and those that nobody has answered.
pub(super) fn ended_attempts(
    active: &ActiveRun,
    of_event: Option<EndingAttempt>,
    unanswered: Vec<UnansweredCall>,
) -> Vec<EndingAttempt> {
    if active.trace.is_none() {
        return Vec::new();
    }
    let of_event = of_event.filter(|attempt| active.machine.outstanding_since(&attempt.call).is_none());
    let failed = |UnansweredCall { call, since, kind }| {
        let end = AttemptEnd::Failed(kind.as_str());
        EndingAttempt { call, since, end }
    };
    // What the event itself has ended says more than that it has failed.
    let is_other = |attempt: &EndingAttempt| of_event.as_ref().is_none_or(|ended| ended.call != attempt.call);
    let mut ended: Vec<EndingAttempt> = unanswered.into_iter().map(failed).filter(is_other).collect();
    ended.extend(of_event);
    ended
}

/// Makes the spans of a step whose records are durable now. The append began at this time, by [`RunTrace::clock`].
pub(super) fn of_step(active: &mut ActiveRun, step: &StepResult, began_at: u64) {
    let Some(trace) = &mut active.trace else { return };
    let flow = &active.machine.flow().name;
    let firing = step.records.iter().find_map(|record| record.firing);
    trace.append(firing, step.records.len(), began_at);
    for (attempt, at) in &step.traced_attempts {
        trace.end_attempt(flow, &attempt.call, (attempt.since, *at), attempt.end);
    }
    for record in &step.records {
        if let Fact::RunStarted { .. } = &record.fact {
            trace.start(record.at);
        } else if let Fact::Triggered { firing, .. } = &record.fact {
            trace.trigger(*firing, record.at);
        } else if let Fact::RunStateChanged { state } = &record.fact
            && state.is_final()
        {
            match record.firing {
                Some(firing) => trace.end_firing(flow, firing, *state, record.at),
                None => trace.end(flow, *state, record.at),
            }
        }
    }
}

/// The header of a job, which names the span of its attempt.
pub(super) fn traceparent(trace: Option<&RunTrace>, call: &CallId) -> Option<String> {
    trace.map(|trace| trace.of_attempt(call).to_string())
}
