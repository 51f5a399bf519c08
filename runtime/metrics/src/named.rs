//! Counters by names that users choose: those of flows, and those of tasks of flows.
//!
//! Their number is bounded. A name beyond the maximum counts under [`OTHER`](crate::names::OTHER) until another name has not
//! been counted for a while and is dropped. So a sum over all names misses nothing while it grows.
//!
//! The names of one namespace get no more places than they leave free: whoever invents names takes no place from the names of
//! another namespace.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flow::{FlowName, NodeName};

use crate::cells::Counter;

/// A name that was not counted for this long is dropped: a flow that runs once a day keeps its series.
pub(crate) const IDLE: Duration = Duration::from_secs(48 * 3_600);

/// The same while no other name gets a place: it waits for this one.
pub(crate) const IDLE_WHEN_FULL: Duration = Duration::from_secs(3_600);

/// How often names are dropped to make place: looking at all of them for each event would be slow.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// A name that users choose.
pub(crate) trait ChosenName: Clone + Eq + Hash + Ord {
    /// The namespace whose users chose it, with the separator; empty for none. It allocates nothing, since each event of a name
    /// without a series asks for it.
    fn namespace_prefix(&self) -> &str;
}

impl ChosenName for FlowName {
    fn namespace_prefix(&self) -> &str {
        self.as_str().strip_suffix(self.in_its_namespace()).unwrap_or_default()
    }
}

impl ChosenName for (FlowName, NodeName) {
    fn namespace_prefix(&self) -> &str {
        self.0.namespace_prefix()
    }
}

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
    /// By the prefix of the namespace. Each has a name.
    shares: HashMap<Box<str>, Share>,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Series<const STATES: usize> {
    counts: [u64; STATES],
    counted_at: Instant,
}

/// The part of a namespace.
#[derive(Debug, Default)]
struct Share {
    names: usize,
    swept_at: Option<Instant>,
}

impl<Name: ChosenName, const STATES: usize> Named<Name, STATES> {
    pub(crate) fn new() -> Self {
        let counted = Counted { series: HashMap::new(), shares: HashMap::new(), swept_at: None };
        Self { counted: Mutex::new(counted), other: std::array::from_fn(|_| Counter::default()) }
    }

    /// Counts one for each name in its state; beyond `max` names, for all others. It allocates only for a new name, and locks once.
    pub(crate) fn count(&self, names: impl Iterator<Item = (Name, usize)>, max: usize, now: Instant) {
        let mut names = names.peekable();
        if names.peek().is_none() {
            return;
        }
        let mut counted = self.lock();
        for (name, state) in names {
            if !counted.count(name, state, max, now) {
                self.count_other(state);
            }
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
            counted.drop_idle(IDLE, now, |_| true);
            counted.series.iter().map(|(name, series)| (name.clone(), series.counts)).collect()
        };
        counts.sort_by(|(one, _), (other, _)| one.cmp(other));
        (counts, std::array::from_fn(|state| self.other[state].get()))
    }

    fn lock(&self) -> MutexGuard<'_, Counted<Name, STATES>> {
        // Nothing panics while it is changed.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Name: ChosenName, const STATES: usize> Counted<Name, STATES> {
    /// Counts one for a name in a state; `false` if the name gets no series.
    fn count(&mut self, name: Name, state: usize, max: usize, now: Instant) -> bool {
        if let Some(series) = self.series.get_mut(&name) {
            series.counts[state] += 1;
            series.counted_at = now;
            return true;
        }
        let namespace = name.namespace_prefix();
        if !self.has_place(namespace, max) && !self.make_place(namespace, max, now) {
            return false;
        }
        self.shares.entry(namespace.into()).or_default().names += 1;
        let mut counts = [0; STATES];
        counts[state] = 1;
        self.series.insert(name, Series { counts, counted_at: now });
        true
    }

    /// Whether a new name of a namespace may have a series. Names without a namespace may take all places: they come from people
    /// with a token for the whole server.
    fn has_place(&self, namespace: &str, max: usize) -> bool {
        let free = max.saturating_sub(self.series.len());
        let own = self.shares.get(namespace).map_or(0, |share| share.names);
        free > 0 && (namespace.is_empty() || own < free)
    }

    /// Drops names that were not counted for an hour: those of the namespace, and if no place is left for anybody, all. Returns
    /// whether a new name of the namespace may have a series then.
    fn make_place(&mut self, namespace: &str, max: usize, now: Instant) -> bool {
        let is_full = self.series.len() >= max;
        let swept_at = match self.shares.get_mut(namespace) {
            Some(share) if !is_full => &mut share.swept_at,
            Some(_) | None => &mut self.swept_at,
        };
        if swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL) {
            return false;
        }
        *swept_at = Some(now);
        self.drop_idle(IDLE_WHEN_FULL, now, |other| is_full || other == namespace);
        self.has_place(namespace, max)
    }

    /// Drops the names of some namespaces that were not counted for long.
    fn drop_idle(&mut self, idle: Duration, now: Instant, is_meant: impl Fn(&str) -> bool) {
        let shares = &mut self.shares;
        self.series.retain(|name, series| {
            if now.saturating_duration_since(series.counted_at) < idle {
                return true;
            }
            let namespace = name.namespace_prefix();
            let is_kept = !is_meant(namespace);
            if !is_kept && let Some(share) = shares.get_mut(namespace) {
                share.names -= 1;
            }
            is_kept
        });
        shares.retain(|_, share| share.names > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ChosenName for u32 {
        fn namespace_prefix(&self) -> &str {
            ""
        }
    }

    fn total<const STATES: usize>(named: &Named<u32, STATES>, now: Instant) -> (usize, u64) {
        let (names, other) = named.read(now);
        let sum = names.iter().flat_map(|(_, counts)| counts).chain(&other).sum();
        (names.len(), sum)
    }

    fn count<Name: ChosenName, const STATES: usize>(
        named: &Named<Name, STATES>,
        (name, state): (Name, usize),
        max: usize,
        now: Instant,
    ) {
        named.count([(name, state)].into_iter(), max, now);
    }

    #[test]
    fn names_beyond_the_maximum_count_together() {
        let (named, now) = (Named::<u32, 2>::new(), Instant::now());
        for name in 0..100_000 {
            named.count([(name, 1), (name % 10, 0)].into_iter(), 1_000, now);
        }
        assert_eq!(total(&named, now), (1_000, 200_000));
        let (names, other) = named.read(now);
        assert_eq!(names[0], (0, [10_000, 1]), "a name that was counted before keeps its series");
        assert_eq!((names[999], other), ((999, [0, 1]), [0, 99_000]));
    }

    #[test]
    fn a_name_that_is_not_counted_makes_place_for_another() {
        let (named, start) = (Named::<u32, 1>::new(), Instant::now());
        count(&named, (1, 0), 2, start);
        count(&named, (2, 0), 2, start);
        let soon = start + IDLE_WHEN_FULL - Duration::from_secs(1);
        count(&named, (2, 0), 2, soon);
        count(&named, (3, 0), 2, soon);
        assert_eq!(named.read(soon), (vec![(1, [1]), (2, [2])], [1]), "no name has waited for long enough");
        let later = soon + SWEEP_INTERVAL;
        count(&named, (3, 0), 2, later);
        assert_eq!(named.read(later), (vec![(2, [2]), (3, [1])], [1]));
    }

    #[test]
    fn a_name_is_dropped_after_two_days_although_there_is_place() {
        let (named, start) = (Named::<u32, 1>::new(), Instant::now());
        count(&named, (1, 0), 10, start);
        assert_eq!(total(&named, start + IDLE - Duration::from_secs(1)), (1, 1));
        assert_eq!(total(&named, start + IDLE), (0, 0));
        count(&named, (1, 0), 10, start + IDLE);
        assert_eq!(total(&named, start + IDLE), (1, 1), "it begins again at one");
    }

    /// The number of names that each namespace has, in order.
    fn shares(named: &Named<FlowName, 1>, now: Instant) -> String {
        let mut shares = std::collections::BTreeMap::<String, usize>::new();
        for (name, _) in named.read(now).0 {
            *shares.entry(name.namespace_prefix().to_owned()).or_default() += 1;
        }
        shares.iter().map(|(namespace, names)| format!("{namespace}:{names}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_namespace_leaves_places_to_others() {
        let (named, start) = (Named::<FlowName, 1>::new(), Instant::now());
        let flow = |prefix: &str, number: u32| FlowName::new(format!("{prefix}f{number}")).unwrap();
        let flood = |prefix: &str, first: u32, now: Instant| {
            (first..first + 1_000).for_each(|number| count(&named, (flow(prefix, number), 0), 100, now));
        };
        flood("a/", 0, start);
        assert_eq!(shares(&named, start), "a/:50");
        flood("b/", 0, start);
        assert_eq!(shares(&named, start), "a/:50 b/:25");
        flood("", 0, start);
        assert_eq!(shares(&named, start), ":25 a/:50 b/:25");
        // An hour later, a new name takes only the place of an old one of its own namespace.
        let (named, later) = (Named::<FlowName, 1>::new(), start + IDLE_WHEN_FULL);
        count(&named, (flow("b/", 0), 0), 100, start);
        (0..1_000).for_each(|number| count(&named, (flow("a/", number), 0), 100, start));
        assert_eq!(shares(&named, start), "a/:50 b/:1");
        count(&named, (flow("a/", 1_000), 0), 100, later);
        assert_eq!(shares(&named, later), "a/:1 b/:1");
    }
}
