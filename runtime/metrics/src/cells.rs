//! A counter, a gauge and a histogram: atomic numbers, which any thread may change without waiting.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::names::{Definition, Kind};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, number: f64) {
        self.0.store(number.to_bits(), Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// How many observed sizes are in each bucket. It keeps no single size, so its memory is fixed.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of a float: a sum of nanoseconds would overflow within months on a large worker.
    sum: AtomicU64,
}

impl Histogram {
    /// The histogram of a definition. One of another type has the bucket of everything only.
    pub(crate) fn of(definition: &Definition) -> Self {
        let bounds = match definition.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge => &[],
        };
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }
    }

    pub(crate) fn observe(&self, size: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < size);
        self.counts[bucket].fetch_add(1, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + size).to_bits());
        // It always succeeds, since there is always a new sum.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    pub(crate) fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Each bound, with the number of sizes up to it. The last is infinite, with the number of all sizes.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count.load(Relaxed);
            Some((bound, *below))
        })
    }

    pub(crate) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn a_size_is_in_each_bucket_from_its_own_bound_on() {
        let histogram = Histogram::of(&names::APPEND);
        for seconds in [0.0, 0.001, 0.0011, 11.0] {
            histogram.observe(seconds);
        }
        let buckets: Vec<(f64, u64)> = histogram.cumulative().collect();
        assert_eq!(buckets[..2], [(0.001, 2), (0.0025, 3)], "a bound belongs to its bucket");
        assert_eq!(buckets[buckets.len() - 2..], [(10.0, 3), (f64::INFINITY, 4)]);
        assert!((histogram.sum() - 11.0021).abs() < 1e-9, "{}", histogram.sum());
    }
}
