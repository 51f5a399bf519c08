//! The random numbers of a simulation, from its seed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The random number generator of one simulation. Its clones share one sequence.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(Arc<AtomicU64>);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let counter = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mix(counter) % end.max(1)
    }

    /// True with a probability of `hundredths` percent.
    pub(crate) fn percent(&self, hundredths: u64) -> bool {
        self.below(100) < hundredths
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): spreads a counter over all 64 bits.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut mixed = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
