//! Settings of a whole flow: its expiry, its triggers, its listeners and its schedules.

use std::{fmt::Display, time::Duration};

use super::{Builder, RootFlow, parse_name};
use crate::{
    Cron, Diagnostic, FlowName, MissedPolicy, NodeName, OverlapPolicy, SourceOutcome,
    draft::{DraftListener, DraftSchedule, DraftTriggers},
};

/// Builds one schedule of a flow.
#[derive(Debug)]
pub struct ScheduleBuilder {
    zone: String,
    overlap: OverlapPolicy,
    missed: MissedPolicy,
}

impl Builder<RootFlow> {
    /// Sets the maximum duration of a run from its start.
    #[must_use]
    pub fn expires(mut self, expires: Duration) -> Self {
        self.draft.expires = Some(expires);
        self
    }

    /// Keeps a run open; it fires for each notification.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.draft.triggers.persistent = true;
        self
    }

    /// Allows cycles of links: each iteration is a firing.
    #[must_use]
    pub fn cyclic(mut self) -> Self {
        self.draft.triggers.cyclic = true;
        self
    }

    /// Sets the maximum number of firings of a run, at least one.
    #[must_use]
    pub fn max_firings(mut self, firings: u64) -> Self {
        self.draft.triggers.max_firings = self.set_count("max_firings", firings, u64::MAX);
        self
    }

    /// Sets the maximum of parallel firings, from one to ten thousand; further ones wait for their turn.
    #[must_use]
    pub fn max_parallel(mut self, firings: u32) -> Self {
        self.draft.triggers.max_parallel = self.set_count("max_parallel", firings, DraftTriggers::MAX_PARALLEL_FIRINGS);
        self
    }

    fn set_count<N: Display + PartialOrd + From<u8>>(&mut self, key: &str, count: N, max: N) -> Option<N> {
        if N::from(1) <= count && count <= max {
            return Some(count);
        }
        let diagnostic = Diagnostic::error(None, format!("{key:?} of the flow is {count}"));
        self.draft.diagnostics.push(diagnostic.hint(format!("choose a whole number from 1 to {max}")));
        None
    }

    /// Fires the task `to`, or completes it where it waits, each time that the task of any run of another flow succeeds.
    #[must_use]
    pub fn listen(self, flow: impl AsRef<str>, task: impl AsRef<str>, to: impl AsRef<str>) -> Self {
        self.listen_on(flow, task, SourceOutcome::Success, to)
    }

    /// Like [`Self::listen`], for another outcome of the other flow's task.
    #[must_use]
    pub fn listen_on(
        mut self,
        flow: impl AsRef<str>,
        task: impl AsRef<str>,
        on: SourceOutcome,
        to: impl AsRef<str>,
    ) -> Self {
        let diagnostics = &mut self.draft.diagnostics;
        let flow: Option<FlowName> = parse_name(flow.as_ref(), "the flow that is listened to", diagnostics);
        let task: Option<NodeName> = parse_name(task.as_ref(), "the task that is listened to", diagnostics);
        let to: Option<NodeName> = parse_name(to.as_ref(), "what listens to another flow", diagnostics);
        if let (Some(flow), Some(task), Some(to)) = (flow, task, to) {
            self.draft.listeners.push(DraftListener { flow, task, on, to, span: None });
        }
        self
    }

    /// Fires the task `to` at these times, in cron form and in UTC.
    #[must_use]
    pub fn schedule(self, cron: impl AsRef<str>, to: impl AsRef<str>) -> Self {
        self.schedule_with(cron, to, |schedule| schedule)
    }

    /// Adds a schedule with options: its time zone, or its policies for overlapping and missed times.
    #[must_use]
    pub fn schedule_with(
        mut self,
        cron: impl AsRef<str>,
        to: impl AsRef<str>,
        build: impl FnOnce(ScheduleBuilder) -> ScheduleBuilder,
    ) -> Self {
        let default =
            ScheduleBuilder { zone: "UTC".into(), overlap: OverlapPolicy::default(), missed: MissedPolicy::default() };
        let ScheduleBuilder { zone, overlap, missed } = build(default);
        let to: Option<NodeName> = parse_name(to.as_ref(), "what a schedule fires", &mut self.draft.diagnostics);
        match (Cron::new(cron.as_ref(), &zone), to) {
            (Ok(cron), Some(to)) => {
                self.draft.schedules.push(DraftSchedule { cron, to, overlap, missed, span: None });
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.draft.diagnostics.push(Diagnostic::rejected(None, "a schedule", &error)),
        }
        self
    }
}

impl ScheduleBuilder {
    /// Sets the time zone, such as `Europe/Berlin`.
    #[must_use]
    pub fn zone(self, zone: impl Into<String>) -> Self {
        Self { zone: zone.into(), ..self }
    }

    /// Sets the policy for a time at which an earlier firing of the schedule is still under way.
    #[must_use]
    pub fn overlap(self, overlap: OverlapPolicy) -> Self {
        Self { overlap, ..self }
    }

    /// Sets the policy for missed times.
    #[must_use]
    pub fn missed(self, missed: MissedPolicy) -> Self {
        Self { missed, ..self }
    }
}
