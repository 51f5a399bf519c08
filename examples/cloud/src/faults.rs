//! Chooses the requests that go wrong.

use std::sync::atomic::{AtomicU64, Ordering};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with 503, and nothing is done.
    Busy,
    /// The work is done, and the connection is closed without an answer.
    LostAnswer,
}

/// A share of requests that go wrong. The same seed chooses the same requests, by their number.
#[derive(Debug)]
pub(crate) struct Faults {
    percent: u8,
    seed: u64,
    requests: AtomicU64,
}

impl Faults {
    pub(crate) const fn new(percent: u8, seed: u64) -> Self {
        Self { percent, seed, requests: AtomicU64::new(0) }
    }

    /// The fault of the next request, if any.
    pub(crate) fn next(&self) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let random = mix(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        if random % 100 >= u64::from(self.percent) {
            return None;
        }
        Some(if (random >> 32).is_multiple_of(2) { Fault::Busy } else { Fault::LostAnswer })
    }
}

/// The finisher of SplitMix64: its results are distributed evenly, also for numbers in a row.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(percent: u8, seed: u64) -> Vec<Option<Fault>> {
        let faults = Faults::new(percent, seed);
        (0..1_000).map(|_| faults.next()).collect()
    }

    #[test]
    fn about_the_given_share_of_requests_goes_wrong_in_both_ways() {
        let of_30_percent = faults(30, 7);
        let count = |wanted| of_30_percent.iter().filter(|fault| **fault == Some(wanted)).count();
        for fault in [Fault::Busy, Fault::LostAnswer] {
            assert!((100..200).contains(&count(fault)), "{fault:?}: {}", count(fault));
        }
        assert!(faults(0, 7).iter().all(Option::is_none));
        assert!(faults(100, 7).iter().all(Option::is_some));
    }

    #[test]
    fn a_seed_always_chooses_the_same_requests() {
        assert_eq!(faults(30, 7), faults(30, 7));
        assert_ne!(faults(30, 7), faults(30, 8));
    }
}
