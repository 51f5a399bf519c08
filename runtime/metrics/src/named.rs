//! Counters by names that users choose: those of flows, and those of tasks of flows.
//!
//! Their number is bounded. A name beyond the maximum counts under [`OTHER`](crate::names::OTHER) until another name has not
//! been counted for a while and is dropped. So a sum over all names misses nothing while it grows.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::cells::Counter;

/// A name that was not counted for this long is dropped: a flow that runs once a day keeps its series.
pub(crate) const IDLE: Duration = Duration::from_secs(48 * 3_600);

/// The same while the maximum is reached: other names wait for the place.
pub(crate) const IDLE_WHEN_FULL: Duration = Duration::from_secs(3_600);

/// How often names are dropped to make place: looking at all of them for each event would be slow.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Counters by name, one for each of some states.
#[derive(Debug)]
pub(crate) struct Named<Name, const STATES: usize> {
    counted: Mutex<Counted<Name, STATES>>,
    other: [Counter; STATES],
}

#[derive(Debug)]
struct Counted<Name, const STATES: usize> {
    /// The hash is seeded at random, so that nobody can choose names that collide.
    series: HashMap<Name, Series<STATES>>,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Series<const STATES: usize> {
    counts: [u64; STATES],
    counted_at: Instant,
}

impl<Name: Clone + Eq + Hash + Ord, const STATES: usize> Named<Name, STATES> {
    pub(crate) fn new() -> Self {
        let counted = Counted { series: HashMap::new(), swept_at: None };
        Self { counted: Mutex::new(counted), other: std::array::from_fn(|_| Counter::default()) }
    }

    /// Counts one for a name in a state; beyond `max` names, for all others. It allocates only for a new name.
    pub(crate) fn count(&self, name: &Name, state: usize, max: usize, now: Instant) {
        let mut counted = self.lock();
        if let Some(series) = counted.series.get_mut(name) {
            series.counts[state] += 1;
            series.counted_at = now;
        } else if counted.has_place(max, now) {
            let mut counts = [0; STATES];
            counts[state] = 1;
            counted.series.insert(name.clone(), Series { counts, counted_at: now });
        } else {
            drop(counted);
            self.count_other(state);
        }
    }

    /// Counts one for a name that has no series of its own.
    pub(crate) fn count_other(&self, state: usize) {
        self.other[state].add(1);
    }

    /// The counts of each name in order, and of all others together. Drops the names that were not counted for long.
    pub(crate) fn read(&self, now: Instant) -> (Vec<(Name, [u64; STATES])>, [u64; STATES]) {
        let mut counts: Vec<_> = {
            let mut counted = self.lock();
            counted.drop_idle(IDLE, now);
            counted.series.iter().map(|(name, series)| (name.clone(), series.counts)).collect()
        };
        counts.sort_by(|(one, _), (other, _)| one.cmp(other));
        (counts, std::array::from_fn(|state| self.other[state].get()))
    }

    fn lock(&self) -> MutexGuard<'_, Counted<Name, STATES>> {
        // Each change is complete before a panic could happen.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Name: Eq + Hash, const STATES: usize> Counted<Name, STATES> {
    /// Whether a new name may have a series, perhaps after others were dropped.
    fn has_place(&mut self, max: usize, now: Instant) -> bool {
        if self.series.len() < max {
            return true;
        }
        if self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL) {
            self.swept_at = Some(now);
            self.drop_idle(IDLE_WHEN_FULL, now);
        }
        self.series.len() < max
    }

    fn drop_idle(&mut self, idle: Duration, now: Instant) {
        self.series.retain(|_, series| now.saturating_duration_since(series.counted_at) < idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total<const STATES: usize>(named: &Named<u32, STATES>, now: Instant) -> (usize, u64) {
        let (names, other) = named.read(now);
        let sum = names.iter().flat_map(|(_, counts)| counts).chain(&other).sum();
        (names.len(), sum)
    }

    #[test]
    fn names_beyond_the_maximum_count_together() {
        let (named, now) = (Named::<u32, 2>::new(), Instant::now());
        for name in 0..100_000 {
            named.count(&name, 1, 1_000, now);
            named.count(&(name % 10), 0, 1_000, now);
        }
        assert_eq!(total(&named, now), (1_000, 200_000));
        let (names, other) = named.read(now);
        assert_eq!(names[0], (0, [10_000, 1]), "a name that was counted before keeps its series");
        assert_eq!((names[999], other), ((999, [0, 1]), [0, 99_000]));
    }

    #[test]
    fn a_name_that_is_not_counted_makes_place_for_another() {
        let (named, start) = (Named::<u32, 1>::new(), Instant::now());
        named.count(&1, 0, 2, start);
        named.count(&2, 0, 2, start);
        let soon = start + IDLE_WHEN_FULL - Duration::from_secs(1);
        named.count(&2, 0, 2, soon);
        named.count(&3, 0, 2, soon);
        assert_eq!(named.read(soon), (vec![(1, [1]), (2, [2])], [1]), "no name has waited for long enough");
        let later = soon + SWEEP_INTERVAL;
        named.count(&3, 0, 2, later);
        assert_eq!(named.read(later), (vec![(2, [2]), (3, [1])], [1]));
    }

    #[test]
    fn a_name_is_dropped_after_two_days_although_there_is_place() {
        let (named, start) = (Named::<u32, 1>::new(), Instant::now());
        named.count(&1, 0, 10, start);
        assert_eq!(total(&named, start + IDLE - Duration::from_secs(1)), (1, 1));
        assert_eq!(total(&named, start + IDLE), (0, 0));
        named.count(&1, 0, 10, start + IDLE);
        assert_eq!(total(&named, start + IDLE), (1, 1), "it begins again at one");
    }
}
