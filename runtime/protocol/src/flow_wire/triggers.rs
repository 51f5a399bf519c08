//! The triggers of a flow that fires more than once.

use flow::{
    Cron, MissedPolicy, OverlapPolicy,
    graph::{BackEdge, BackEdgeTiming, Schedule, Triggers},
};

use super::{Bounds, links::WireLink};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, invalid, wire_enum},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireTriggers<'a> {
    persistent: bool,
    max_firings: Option<u64>,
    max_parallel: u32,
    /// The nodes that start only when a notification arrives.
    entries: Vec<u32>,
    /// The links that trigger their target again.
    back_edges: Vec<WireBackEdge<'a>>,
    schedules: Vec<WireSchedule<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireBackEdge<'a> {
    link: WireLink<'a>,
    to: u32,
    timing: WireTiming,
}

#[derive(Encode, BorrowDecode)]
struct WireSchedule<'a> {
    cron: &'a str,
    zone: &'a str,
    to: u32,
    overlap: WireOverlap,
    missed: WireMissed,
}

wire_enum!(WireTiming = BackEdgeTiming { End, Success });
wire_enum!(WireOverlap = OverlapPolicy { Skip, Queue, Allow });
wire_enum!(WireMissed = MissedPolicy { Once, Skip, All });

impl<'a> From<&'a Triggers> for WireTriggers<'a> {
    fn from(triggers: &'a Triggers) -> Self {
        let Triggers { persistent, max_firings, max_parallel, entries, back_edges, schedules } = triggers;
        Self {
            persistent: *persistent,
            max_firings: *max_firings,
            max_parallel: *max_parallel,
            entries: entries.iter().map(|entry| entry.0).collect(),
            back_edges: back_edges.iter().map(WireBackEdge::from).collect(),
            schedules: schedules.iter().map(WireSchedule::from).collect(),
        }
    }
}

impl WireTriggers<'_> {
    pub(super) fn into_triggers(self, bounds: &Bounds) -> Result<Triggers, Invalid> {
        Ok(Triggers {
            persistent: self.persistent,
            max_firings: self.max_firings,
            max_parallel: self.max_parallel,
            entries: self.entries.into_iter().map(|entry| bounds.node(entry)).collect::<Result<_, _>>()?,
            back_edges: self.back_edges.into_iter().map(|edge| edge.into_link(bounds)).collect::<Result<_, _>>()?,
            schedules: self.schedules.into_iter().map(|wire| wire.into_schedule(bounds)).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> From<&'a BackEdge> for WireBackEdge<'a> {
    fn from(BackEdge { link, to, timing }: &'a BackEdge) -> Self {
        Self { link: link.into(), to: to.0, timing: (*timing).into() }
    }
}

impl WireBackEdge<'_> {
    fn into_link(self, bounds: &Bounds) -> Result<BackEdge, Invalid> {
        let (link, to) = (self.link.into_link(bounds)?, bounds.node(self.to)?);
        Ok(BackEdge { link, to, timing: self.timing.into() })
    }
}

impl<'a> From<&'a Schedule> for WireSchedule<'a> {
    fn from(Schedule { cron, to, overlap, missed }: &'a Schedule) -> Self {
        let (overlap, missed) = ((*overlap).into(), (*missed).into());
        Self { cron: cron.line(), zone: cron.zone(), to: to.0, overlap, missed }
    }
}

impl WireSchedule<'_> {
    fn into_schedule(self, bounds: &Bounds) -> Result<Schedule, Invalid> {
        Ok(Schedule {
            cron: Cron::from_record(self.cron, self.zone).map_err(invalid)?,
            to: bounds.node(self.to)?,
            overlap: self.overlap.into(),
            missed: self.missed.into(),
        })
    }
}
