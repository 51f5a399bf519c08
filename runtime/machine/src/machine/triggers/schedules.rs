//! Schedules: when they fire, and what happens to times at which they do not.
//!
//! No time is dropped silently: a time that fires nothing is counted by its reason, or waits in its schedule's backlog. A
//! backlog is a time span and not a list, so a year of missed seconds costs no more than one second.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{NextFiring, TriggerState, is_active};
use crate::{Fact, Trigger, machine::Machine};
use flow::{
    ClockShift, Cron, MissedPolicy, NodeIndex, OverlapPolicy, SkipReason, Timestamp, ValueName, Values, graph::Schedule,
};

/// A time that the engine notices at most this late counts as not missed; in microseconds.
const MISSED_AFTER: u64 = 60_000_000;

/// If the clock is set back by less than this, schedules wait until it has caught up.
const CLOCK_STEP_TOLERANCE: Duration = Duration::from_secs(60);

/// If the clock is set back by this much or more, it was wrong: schedules follow the new time at once, as cron's manual
/// specifies.
const CLOCK_CORRECTION: Duration = Duration::from_secs(3 * 3_600);

/// The maximum number of spans of a backlog. Each span is an outage that began before the previous one was caught up.
const MAX_BACKLOG_SPANS: usize = 100;

/// The name of the value that contains the due time of a scheduled firing.
const SCHEDULED_AT: &str = "scheduled_at";

/// Missed times of one schedule that will still fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The first missed time.
    pub next: Timestamp,
    /// All missed times are before this time.
    pub until: Timestamp,
}

/// The number of skipped triggers of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkipCount {
    /// The count. Beyond 1,000 missed times at once, further ones are not counted: see [`SkipReason::is_lower_bound`].
    pub count: u64,
    /// When the last one was skipped.
    pub last_at: Timestamp,
}

/// A schedule of a run, with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleStatus<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// When it fires next; `None` if it does not fire any more, or the time is not computed yet.
    pub next: Option<Timestamp>,
    /// All missed times that will still fire, as one span.
    pub backlog: Option<Backlog>,
}

impl Machine {
    /// The schedules of the run, with their times.
    pub fn schedules(&self) -> impl Iterator<Item = ScheduleStatus<'_>> + use<'_> {
        let goes_on = self.triggers.iter().any(|trigger_state| !trigger_state.ending) && !self.state().is_final();
        let schedules = self.flow.triggers.iter().flat_map(|triggers| &triggers.schedules);
        let times = self.triggers.iter().flat_map(|state| state.schedules.iter().zip(state.backlogs.iter()));
        schedules.zip(times).map(move |(schedule, (next, spans))| {
            let next = match next {
                NextFiring::At(at) if goes_on => Some(*at),
                NextFiring::At(_) | NextFiring::Unknown | NextFiring::Never => None,
            };
            let backlog = spans.front().zip(spans.back());
            let backlog = backlog.map(|(first, last)| Backlog { next: first.next, until: last.until });
            ScheduleStatus { schedule, next, backlog }
        })
    }

    /// The skipped triggers, by task and reason.
    pub fn skips(&self) -> impl Iterator<Item = (NodeIndex, SkipReason, SkipCount)> + use<'_> {
        let skips = self.triggers.iter().flat_map(|trigger_state| &trigger_state.skips);
        skips.map(|((task, reason), skips)| (*task, *reason, *skips))
    }

    /// The next firing time of each schedule of a run that goes on, by the node that it fires.
    pub fn next_times(&self) -> impl Iterator<Item = (NodeIndex, Timestamp)> + use<'_> {
        let schedules = self.flow.triggers.iter().flat_map(|triggers| &triggers.schedules);
        let trigger_state =
            self.triggers.iter().filter(|trigger_state| !trigger_state.ending && !self.state().is_final());
        let times = trigger_state.flat_map(|trigger_state| &*trigger_state.schedules);
        schedules.zip(times).filter_map(|(schedule, due)| match due {
            NextFiring::At(at) => Some((schedule.to, *at)),
            NextFiring::Unknown | NextFiring::Never => None,
        })
    }

    /// The first missed time of each schedule with a backlog, by the node that it fires.
    pub fn backlogs(&self) -> impl Iterator<Item = (NodeIndex, Timestamp)> + use<'_> {
        let schedules = self.flow.triggers.iter().flat_map(|triggers| &triggers.schedules);
        let backlogs = self.triggers.iter().flat_map(|trigger_state| &*trigger_state.backlogs);
        schedules.zip(backlogs).filter_map(|(schedule, spans)| Some((schedule.to, spans.front()?.next)))
    }

    pub(super) fn decide_schedules(&self, trigger_state: &TriggerState, now: Timestamp) -> Vec<Fact> {
        let schedule_of = |number: u32| self.triggers().schedules.get(number as usize);
        if let Some((number, due)) = trigger_state.schedules.first_due(now)
            && let Some(schedule) = schedule_of(number)
        {
            return match due {
                None => vec![Fact::Scheduled { schedule: number, next: schedule.cron.after(now) }],
                Some(at) => self.decide_time(trigger_state, now, (schedule, number), at),
            };
        }
        let mut backlogs = trigger_state.backlogs.first_spans().peekable();
        if backlogs.peek().is_none() || !self.may_any_catch_up(trigger_state) {
            return Vec::new();
        }
        let queued = schedules_of(trigger_state.queued.iter().map(|queued| &queued.by));
        let active = self.firings.values().filter(|firing| is_active(firing));
        let active = schedules_of(active.map(|firing| &firing.by));
        let may_catch_up = |number: &u32, schedule: &Schedule| {
            !queued.contains(number) && (schedule.overlap == OverlapPolicy::Allow || !active.contains(number))
        };
        let mut may_fire = backlogs.filter_map(|(number, backlog)| {
            let schedule = schedule_of(number).filter(|schedule| may_catch_up(&number, schedule))?;
            Some((number, schedule, backlog))
        });
        let Some((number, schedule, backlog)) = may_fire.next() else { return Vec::new() };
        let next = schedule.cron.after(backlog.next).filter(|next| *next < backlog.until);
        vec![
            self.fire_at(trigger_state, (schedule, number), backlog.next),
            Fact::BacklogFired { schedule: number, next },
        ]
    }

    /// Decides whether a due time fires, is skipped or joins the backlog.
    fn decide_time(
        &self,
        trigger_state: &TriggerState,
        now: Timestamp,
        (schedule, number): (&Schedule, u32),
        at: Timestamp,
    ) -> Vec<Fact> {
        let next = schedule.cron.after(now);
        let scheduled = Fact::Scheduled { schedule: number, next };
        let skipped =
            |reason, count| Fact::TriggerSkipped { entry: schedule.to, by: Trigger::Schedule(number), reason, count };
        if trigger_state.ending || self.triggers().max_firings.is_some_and(|max| trigger_state.firing_count >= max) {
            // The run fires no more.
            return vec![scheduled];
        }
        let missed_later = count_times(&schedule.cron, at, now);
        let is_missed = missed_later > 0 || now.as_micros().saturating_sub(at.as_micros()) > MISSED_AFTER;
        let is_full = self.free_firings(trigger_state) == 0;
        let overlaps = schedule.overlap == OverlapPolicy::Skip && self.has_firing_of(trigger_state, number);
        match schedule.missed {
            // They fire one after the other, as soon as the queue has space.
            MissedPolicy::All if is_missed || is_full => {
                let until = next.unwrap_or(Timestamp::from_micros(u64::MAX));
                let has_space = trigger_state.backlogs.get(number as usize).is_none_or(|spans| {
                    // A time right after the last span extends it.
                    spans.len() < MAX_BACKLOG_SPANS || spans.back().is_some_and(|last| last.until == at)
                });
                let added = Fact::BacklogAdded { schedule: number, from: at, until };
                vec![if has_space { added } else { skipped(SkipReason::Missed, missed_later + 1) }, scheduled]
            }
            MissedPolicy::Skip if is_missed => vec![skipped(SkipReason::Missed, missed_later + 1), scheduled],
            MissedPolicy::All | MissedPolicy::Once | MissedPolicy::Skip => {
                let missed = (missed_later > 0).then(|| skipped(SkipReason::Missed, missed_later));
                let first = if overlaps {
                    skipped(SkipReason::Overlap, 1)
                } else if is_full {
                    skipped(SkipReason::QueueFull, 1)
                } else {
                    self.fire_at(trigger_state, (schedule, number), at)
                };
                [first].into_iter().chain(missed).chain([scheduled]).collect()
            }
        }
    }

    fn fire_at(&self, trigger_state: &TriggerState, (schedule, number): (&Schedule, u32), at: Timestamp) -> Fact {
        self.fire(trigger_state, schedule.to, Trigger::Schedule(number), self.scheduled_values(schedule.to, at))
    }

    /// Whether a missed time of any schedule may fire now. One of a certain schedule may fire if no firing of the schedule is
    /// queued, and none is under way unless its firings may overlap.
    fn may_any_catch_up(&self, trigger_state: &TriggerState) -> bool {
        let is_exhausted = self.triggers().max_firings.is_some_and(|max| trigger_state.firing_count >= max);
        !trigger_state.ending && !is_exhausted && self.free_firings(trigger_state) > 0
    }

    /// Recomputes the times of schedules after the clock was set back, as cron does. An interval continues; a fixed time
    /// follows the new clock if it changed by hours. After a smaller change a fixed time does not fire twice, and a change
    /// below a minute has no effect. If the clock was set forward, the times in between were missed.
    pub(super) fn set_clock(&mut self, at: Timestamp, by: ClockShift) {
        let flow = self.flow.clone();
        let triggers = flow.triggers.iter().flat_map(|triggers| &triggers.schedules);
        let trigger_state = self.trigger_state_mut();
        trigger_state.expires_at = trigger_state.expires_at.map(|expires_at| expires_at.shift(by));
        let Some(back) = by.back().filter(|back| *back >= CLOCK_STEP_TOLERANCE) else { return };
        for (schedule, number) in triggers.zip(0_u32..) {
            if !schedule.cron.is_interval() && back < CLOCK_CORRECTION {
                continue;
            }
            trigger_state.schedules.set(number, NextFiring::Unknown);
            trigger_state.backlogs.change(number, |backlog| {
                // Times that lie ahead by the new clock were not missed.
                backlog.retain(|span| span.next <= at);
                backlog.iter_mut().for_each(|span| span.until = span.until.min(at.after(Duration::from_micros(1))));
            });
        }
    }

    /// Whether a firing of a schedule is under way or queued.
    fn has_firing_of(&self, trigger_state: &TriggerState, number: u32) -> bool {
        let is_of_schedule = |by: &Trigger| *by == Trigger::Schedule(number);
        trigger_state.queued.iter().any(|queued| is_of_schedule(&queued.by))
            || self.firings.values().any(|firing| is_active(firing) && is_of_schedule(&firing.by))
    }

    fn scheduled_values(&self, entry: NodeIndex, at: Timestamp) -> Values {
        let accepted = self.flow.notification_values(entry);
        let is_scheduled_at = |name: &&ValueName| name.as_str() == SCHEDULED_AT;
        let name = accepted.keys().find(is_scheduled_at).cloned();
        name.into_iter().map(|name| (name, flow::Value::json(&rfc3339(at).into()))).collect()
    }
}

impl TriggerState {
    pub(super) fn set_next_firing(&mut self, schedule: u32, next: Option<Timestamp>) -> Result<(), String> {
        let next = next.map_or(NextFiring::Never, NextFiring::At);
        self.schedules.set(schedule, next).ok_or_else(unknown_schedule)
    }

    pub(super) fn add_to_backlog(&mut self, schedule: u32, from: Timestamp, until: Timestamp) -> Result<(), String> {
        let add = |spans: &mut VecDeque<Backlog>| match spans.back_mut().filter(|last| last.until == from) {
            Some(last) => last.until = until,
            None => spans.push_back(Backlog { next: from, until }),
        };
        self.backlogs.change(schedule, add).ok_or_else(unknown_schedule)
    }

    pub(super) fn advance_backlog(&mut self, schedule: u32, next: Option<Timestamp>) -> Result<(), String> {
        let advance = |spans: &mut VecDeque<Backlog>| {
            let first = spans.front_mut().ok_or("the schedule has no backlog")?;
            match next {
                Some(next) => first.next = next,
                None => drop(spans.pop_front()),
            }
            Ok(())
        };
        self.backlogs.change(schedule, advance).ok_or_else(unknown_schedule)?
    }

    pub(super) fn skip(&mut self, at: Timestamp, entry: NodeIndex, reason: SkipReason, count: u64) {
        let skips = self.skips.entry((entry, reason)).or_insert(SkipCount { count: 0, last_at: at });
        *skips = SkipCount { count: skips.count.saturating_add(count), last_at: at };
    }
}

/// The number of times of a cron line after one time and up to another, at most [`SkipReason::MAX_COUNTED_MISSES`].
fn count_times(cron: &Cron, after: Timestamp, until: Timestamp) -> u64 {
    let times = std::iter::successors(cron.after(after), |time| cron.after(*time));
    let count = times.take_while(|time| *time <= until).zip(0..SkipReason::MAX_COUNTED_MISSES).count();
    u64::try_from(count).unwrap_or(SkipReason::MAX_COUNTED_MISSES)
}

fn unknown_schedule() -> String {
    "there is no such schedule".into()
}

/// The schedules among triggers.
fn schedules_of<'a>(triggers: impl Iterator<Item = &'a Trigger>) -> BTreeSet<u32> {
    let number = |trigger: &Trigger| match trigger {
        Trigger::Schedule(number) => Some(*number),
        Trigger::Start | Trigger::BackEdge(_) | Trigger::Notification { .. } => None,
    };
    triggers.filter_map(number).collect()
}

fn rfc3339(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map(|at| at.to_string()).unwrap_or_default()
}
