//! The next time and the backlog of each schedule, with the order in which they are decided.
//!
//! A decision concerns one schedule, and a step makes many decisions. So none of them may look at all schedules.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Deref,
};

use super::{Backlog, NextFiring};
use flow::Timestamp;

/// The next firing time of each schedule of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScheduleTimes {
    times: Vec<NextFiring>,
    /// The schedules that will fire, by their time. One whose time is not computed yet comes first.
    order: BTreeSet<(Option<Timestamp>, u32)>,
}

impl ScheduleTimes {
    /// Sets the next time of a schedule. Returns `None` if there is no such schedule.
    pub(super) fn set(&mut self, schedule: u32, next: NextFiring) -> Option<()> {
        let time = self.times.get_mut(schedule as usize)?;
        let old = std::mem::replace(time, next);
        if let Some(old) = order_of(old) {
            self.order.remove(&(old, schedule));
        }
        self.order.extend(order_of(next).map(|next| (next, schedule)));
        Some(())
    }

    /// The schedule to decide first: one whose time is not computed yet, or the one that is due for longest, with its time.
    pub(super) fn first_due(&self, now: Timestamp) -> Option<(u32, Option<Timestamp>)> {
        let (time, schedule) = *self.order.first()?;
        time.is_none_or(|at| at <= now).then_some((schedule, time))
    }

    /// The first known time.
    pub(super) fn first_time(&self) -> Option<Timestamp> {
        let first = self.order.range((Some(Timestamp::from_micros(0)), 0)..).next();
        first.and_then(|(time, _)| *time)
    }
}

impl FromIterator<NextFiring> for ScheduleTimes {
    fn from_iter<Times: IntoIterator<Item = NextFiring>>(times: Times) -> Self {
        let times: Vec<NextFiring> = times.into_iter().collect();
        let order = times.iter().zip(0..).filter_map(|(time, schedule)| Some((order_of(*time)?, schedule))).collect();
        Self { times, order }
    }
}

impl Deref for ScheduleTimes {
    type Target = [NextFiring];

    fn deref(&self) -> &[NextFiring] {
        &self.times
    }
}

/// The place of a time in the order; `None` for a schedule that never fires again.
fn order_of(time: NextFiring) -> Option<Option<Timestamp>> {
    match time {
        NextFiring::Unknown => Some(None),
        NextFiring::At(at) => Some(Some(at)),
        NextFiring::Never => None,
    }
}

/// The backlog of missed times of each schedule of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlogs {
    backlogs: Vec<VecDeque<Backlog>>,
    /// The schedules with a backlog.
    behind: BTreeSet<u32>,
}

impl Backlogs {
    /// Changes the spans of a schedule. Returns `None` if there is no such schedule.
    pub(super) fn change<T>(&mut self, schedule: u32, change: impl FnOnce(&mut VecDeque<Backlog>) -> T) -> Option<T> {
        let spans = self.backlogs.get_mut(schedule as usize)?;
        let changed = change(spans);
        if spans.is_empty() {
            self.behind.remove(&schedule);
        } else {
            self.behind.insert(schedule);
        }
        Some(changed)
    }

    /// The first span of each schedule with a backlog.
    pub(super) fn first_spans(&self) -> impl Iterator<Item = (u32, Backlog)> + use<'_> {
        self.behind.iter().filter_map(|schedule| Some((*schedule, *self.backlogs.get(*schedule as usize)?.front()?)))
    }
}

impl FromIterator<VecDeque<Backlog>> for Backlogs {
    fn from_iter<Spans: IntoIterator<Item = VecDeque<Backlog>>>(backlogs: Spans) -> Self {
        let backlogs: Vec<VecDeque<Backlog>> = backlogs.into_iter().collect();
        let behind = backlogs.iter().zip(0..).filter(|(spans, _)| !spans.is_empty()).map(|(_, schedule)| schedule);
        let behind = behind.collect();
        Self { backlogs, behind }
    }
}

impl Deref for Backlogs {
    type Target = [VecDeque<Backlog>];

    fn deref(&self) -> &[VecDeque<Backlog>] {
        &self.backlogs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Option<Timestamp> {
        Some(Timestamp::from_micros(micros))
    }

    fn at(time: u64) -> NextFiring {
        NextFiring::At(Timestamp::from_micros(time))
    }

    #[test]
    fn the_schedule_to_decide_is_the_first_in_order_whatever_changes() {
        let mut times: ScheduleTimes = [at(30), NextFiring::Never, at(10), at(20)].into_iter().collect();
        let due = |times: &ScheduleTimes| times.first_due(Timestamp::from_micros(25));
        assert_eq!((due(&times), times.first_time()), (Some((2, micros(10))), micros(10)));
        assert_eq!(times.set(2, at(40)), Some(()));
        assert_eq!(due(&times), Some((3, micros(20))));
        assert_eq!(times.set(3, NextFiring::Never), Some(()));
        assert_eq!((due(&times), times.first_time()), (None, micros(30)));
        assert_eq!(times.set(1, NextFiring::Unknown), Some(()));
        assert_eq!((due(&times), times.first_time()), (Some((1, None)), micros(30)));
        assert_eq!(*times, [at(30), NextFiring::Unknown, at(40), NextFiring::Never]);
        assert_eq!(times.set(4, at(1)), None);
    }

    #[test]
    fn only_schedules_with_a_backlog_are_listed() {
        let mut backlogs: Backlogs = vec![VecDeque::new(); 3].into_iter().collect();
        let [next, until] = [1, 2].map(Timestamp::from_micros);
        let span = Backlog { next, until };
        assert_eq!(backlogs.change(2, |spans| spans.push_back(span)), Some(()));
        assert_eq!(backlogs.first_spans().collect::<Vec<_>>(), [(2, span)]);
        assert_eq!(backlogs.change(2, VecDeque::pop_front), Some(Some(span)));
        assert_eq!(backlogs.first_spans().count(), 0);
        assert_eq!(backlogs.change(3, |_| ()), None);
    }
}
