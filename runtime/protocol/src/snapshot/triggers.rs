//! The state that a run with more than one firing has in addition to its firings.

use std::{collections::VecDeque, sync::Arc};

use flow::{Firing, NodeIndex, RunState, SkipReason, State, Timestamp};
use machine::{Backlog, NextFiring, PendingTrigger, QueuedFiring, SkipCount, TriggerState};

use super::{WireProvided, provided_from_wire, provided_to_wire};
use crate::{
    codec::{BorrowDecode, Encode},
    record::{WireSkipReason, WireTrigger, run_state},
    wire::{
        Invalid, WireFailures, WireValues, failures_from_wire, failures_to_wire, time_from_wire, time_to_wire,
        values_from_wire, values_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireTriggerState<'a> {
    state: &'a str,
    /// The number of the last firing.
    last_firing: u64,
    /// Firings that wait because the maximum number of concurrent firings is running.
    queued: Vec<WireQueuedFiring<'a>>,
    /// Back edges whose condition is not decided yet.
    pending: Vec<WirePendingTrigger<'a>>,
    /// The values that nodes provided in their last successful firing.
    provided: WireProvided<'a>,
    /// The states of nodes in their last firing that ended.
    last_states: Vec<(u32, &'a str)>,
    failures: WireFailures<'a>,
    ending: bool,
    last_end: Option<&'a str>,
    expires_at_micros: Option<u64>,
    schedules: Vec<WireNextTime>,
    /// The first firing of a persistent run.
    first_firing: Option<u64>,
    /// For each schedule, the time spans that it missed and fires for later.
    backlogs: Vec<Vec<WireSpan>>,
    skips: Vec<WireSkips>,
}

#[derive(Encode, BorrowDecode)]
struct WireQueuedFiring<'a> {
    firing: u64,
    entry: Option<u32>,
    by: WireTrigger<'a>,
    values: WireValues<'a>,
    provided_before: Option<WireProvided<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WirePendingTrigger<'a> {
    back_edge: u32,
    /// The values of its firing; not written again if they are those of the back edge before it.
    values: Option<(WireValues<'a>, WireProvided<'a>)>,
    not_before_micros: Option<u64>,
}

/// The next time at which a schedule fires.
#[derive(Encode, BorrowDecode)]
enum WireNextTime {
    Unknown,
    AtMicros(u64),
    Never,
}

#[derive(Encode, BorrowDecode)]
struct WireSpan {
    next_micros: u64,
    until_micros: u64,
}

/// Triggers of a task that led to no firing, with one shared reason.
#[derive(Encode, BorrowDecode)]
struct WireSkips {
    entry: u32,
    reason: WireSkipReason,
    count: u64,
    last_micros: u64,
}

impl<'a> From<&'a TriggerState> for WireTriggerState<'a> {
    fn from(triggers: &'a TriggerState) -> Self {
        Self {
            state: triggers.state.as_str(),
            last_firing: triggers.firing_count,
            queued: triggers.queued.iter().map(WireQueuedFiring::from).collect(),
            pending: pending_to_wire(&triggers.pending_triggers),
            provided: provided_to_wire(&triggers.latest_values),
            last_states: triggers.last_states.iter().map(|(index, state)| (index.0, state.as_str())).collect(),
            failures: failures_to_wire(&triggers.failures),
            ending: triggers.ending,
            last_end: triggers.last_end.map(RunState::as_str),
            expires_at_micros: time_to_wire(triggers.expires_at),
            schedules: triggers.schedules.iter().map(WireNextTime::from).collect(),
            first_firing: triggers.base_firing.map(Firing::get),
            backlogs: triggers.backlogs.iter().map(|spans| spans.iter().map(WireSpan::from).collect()).collect(),
            skips: triggers.skips.iter().map(WireSkips::from).collect(),
        }
    }
}

impl WireTriggerState<'_> {
    pub(super) fn into_trigger_state(self) -> Result<TriggerState, Invalid> {
        let spans = |spans: Vec<WireSpan>| spans.into_iter().map(Backlog::from).collect();
        Ok(TriggerState {
            state: run_state(self.state)?,
            firing_count: self.last_firing,
            queued: self.queued.into_iter().map(WireQueuedFiring::into_queued_firing).collect::<Result<_, _>>()?,
            pending_triggers: pending_from_wire(self.pending)?,
            latest_values: provided_from_wire(self.provided)?,
            last_states: self.last_states.into_iter().map(last_state).collect::<Result<_, _>>()?,
            failures: Arc::new(failures_from_wire(self.failures)?),
            ending: self.ending,
            last_end: self.last_end.map(run_state).transpose()?,
            expires_at: time_from_wire(self.expires_at_micros),
            schedules: self.schedules.into_iter().map(NextFiring::from).collect(),
            base_firing: self.first_firing.map(Firing::new),
            backlogs: self.backlogs.into_iter().map(spans).collect(),
            skips: self.skips.into_iter().map(WireSkips::into_skips).collect(),
        })
    }
}

fn last_state((index, name): (u32, &str)) -> Result<(NodeIndex, State), Invalid> {
    let state = State::ALL.into_iter().find(|state| state.as_str() == name);
    Ok((NodeIndex(index), state.ok_or_else(|| format!("{name:?} is no state of a task"))?))
}

impl<'a> From<&'a QueuedFiring> for WireQueuedFiring<'a> {
    fn from(QueuedFiring { firing, entry, by, values, inherited }: &'a QueuedFiring) -> Self {
        Self {
            firing: firing.get(),
            entry: entry.map(|entry| entry.0),
            by: by.into(),
            values: values_to_wire(values),
            provided_before: inherited.as_ref().map(|values| provided_to_wire(values)),
        }
    }
}

impl WireQueuedFiring<'_> {
    fn into_queued_firing(self) -> Result<QueuedFiring, Invalid> {
        Ok(QueuedFiring {
            firing: Firing::new(self.firing),
            entry: self.entry.map(NodeIndex),
            by: self.by.into(),
            values: values_from_wire(self.values)?,
            inherited: self.provided_before.map(provided_from_wire).transpose()?,
        })
    }
}

fn pending_to_wire(pending: &VecDeque<PendingTrigger>) -> Vec<WirePendingTrigger<'_>> {
    let previous = std::iter::once(None).chain(pending.iter().map(Some));
    let wire = pending.iter().zip(previous).map(|(trigger, previous)| {
        let PendingTrigger { back_edge, values, given, not_before } = trigger;
        let is_same =
            previous.is_some_and(|previous| previous.given.is_shared_with(given) && previous.values == *values);
        WirePendingTrigger {
            back_edge: *back_edge,
            values: (!is_same).then(|| (values_to_wire(values), provided_to_wire(given))),
            not_before_micros: time_to_wire(*not_before),
        }
    });
    wire.collect()
}

fn pending_from_wire(wire: Vec<WirePendingTrigger<'_>>) -> Result<VecDeque<PendingTrigger>, Invalid> {
    let mut pending: VecDeque<PendingTrigger> = VecDeque::with_capacity(wire.len());
    for WirePendingTrigger { back_edge, values, not_before_micros } in wire {
        let (values, given) = match (values, pending.back()) {
            (Some((values, given)), _) => (values_from_wire(values)?, provided_from_wire(given)?),
            (None, Some(previous)) => (previous.values.clone(), previous.given.clone()),
            (None, None) => return Err("the first back edge has no values".into()),
        };
        pending.push_back(PendingTrigger { back_edge, values, given, not_before: time_from_wire(not_before_micros) });
    }
    Ok(pending)
}

impl From<&NextFiring> for WireNextTime {
    fn from(next: &NextFiring) -> Self {
        match next {
            NextFiring::Unknown => Self::Unknown,
            NextFiring::At(at) => Self::AtMicros(at.as_micros()),
            NextFiring::Never => Self::Never,
        }
    }
}

impl From<WireNextTime> for NextFiring {
    fn from(wire: WireNextTime) -> Self {
        match wire {
            WireNextTime::Unknown => Self::Unknown,
            WireNextTime::AtMicros(micros) => Self::At(Timestamp::from_micros(micros)),
            WireNextTime::Never => Self::Never,
        }
    }
}

impl From<&Backlog> for WireSpan {
    fn from(Backlog { next, until }: &Backlog) -> Self {
        Self { next_micros: next.as_micros(), until_micros: until.as_micros() }
    }
}

impl From<WireSpan> for Backlog {
    fn from(WireSpan { next_micros, until_micros }: WireSpan) -> Self {
        Self { next: Timestamp::from_micros(next_micros), until: Timestamp::from_micros(until_micros) }
    }
}

impl From<(&(NodeIndex, SkipReason), &SkipCount)> for WireSkips {
    fn from(((entry, reason), skips): (&(NodeIndex, SkipReason), &SkipCount)) -> Self {
        let (count, last_micros) = (skips.count, skips.last_at.as_micros());
        Self { entry: entry.0, reason: (*reason).into(), count, last_micros }
    }
}

impl WireSkips {
    fn into_skips(self) -> ((NodeIndex, SkipReason), SkipCount) {
        let skips = SkipCount { count: self.count, last_at: Timestamp::from_micros(self.last_micros) };
        ((NodeIndex(self.entry), self.reason.into()), skips)
    }
}
