//! Records about the triggers of a run that fires more than once.

use flow::{Firing, NodeIndex, SkipReason, Timestamp, Values};
use machine::{Fact, Trigger};

use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, WireValues, values_from_wire, values_to_wire, wire_enum},
};

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireTrigger<'a> {
    Start,
    BackEdge(u32),
    Notified { key: Option<&'a str> },
    Schedule(u32),
}

/// A firing that was triggered.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireTriggered<'a> {
    firing: u64,
    entry: u32,
    by: WireTrigger<'a>,
    values: WireValues<'a>,
}

/// Triggers that led to no firing.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireSkip<'a> {
    entry: u32,
    by: WireTrigger<'a>,
    reason: WireSkipReason,
    count: u64,
}

/// The times that a schedule missed and fires for later.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireBacklog {
    schedule: u32,
    from_micros: u64,
    until_micros: u64,
}

wire_enum!(WireSkipReason = SkipReason { QueueFull, Overlap, Missed });

impl<'a> From<&'a Trigger> for WireTrigger<'a> {
    fn from(trigger: &'a Trigger) -> Self {
        match trigger {
            Trigger::Start => Self::Start,
            Trigger::BackEdge(back_edge) => Self::BackEdge(*back_edge),
            Trigger::Notification { key } => Self::Notified { key: key.as_deref() },
            Trigger::Schedule(schedule) => Self::Schedule(*schedule),
        }
    }
}

impl From<WireTrigger<'_>> for Trigger {
    fn from(wire: WireTrigger<'_>) -> Self {
        match wire {
            WireTrigger::Start => Self::Start,
            WireTrigger::BackEdge(back_edge) => Self::BackEdge(back_edge),
            WireTrigger::Notified { key } => Self::Notification { key: key.map(Into::into) },
            WireTrigger::Schedule(schedule) => Self::Schedule(schedule),
        }
    }
}

impl<'a> WireTriggered<'a> {
    pub(super) fn new(firing: Firing, entry: NodeIndex, by: &'a Trigger, values: &'a Values) -> Self {
        Self { firing: firing.get(), entry: entry.0, by: by.into(), values: values_to_wire(values) }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        let (firing, entry, by) = (Firing::new(self.firing), NodeIndex(self.entry), self.by.into());
        Ok(Fact::Triggered { firing, entry, by, values: values_from_wire(self.values)? })
    }
}

impl<'a> WireSkip<'a> {
    pub(super) fn new(entry: NodeIndex, by: &'a Trigger, reason: SkipReason, count: u64) -> Self {
        Self { entry: entry.0, by: by.into(), reason: reason.into(), count }
    }
}

impl From<WireSkip<'_>> for Fact {
    fn from(WireSkip { entry, by, reason, count }: WireSkip<'_>) -> Self {
        Self::TriggerSkipped { entry: NodeIndex(entry), by: by.into(), reason: reason.into(), count }
    }
}

impl WireBacklog {
    pub(super) fn new(schedule: u32, from: Timestamp, until: Timestamp) -> Self {
        Self { schedule, from_micros: from.as_micros(), until_micros: until.as_micros() }
    }
}

impl From<WireBacklog> for Fact {
    fn from(WireBacklog { schedule, from_micros, until_micros }: WireBacklog) -> Self {
        let (from, until) = (Timestamp::from_micros(from_micros), Timestamp::from_micros(until_micros));
        Self::BacklogAdded { schedule, from, until }
    }
}
