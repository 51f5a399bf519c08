//! A task's own retry policy: apply again after a delay, without a rollback in between.

use std::time::Duration;

/// The growth of the delay between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Each delay is twice the previous one, up to the maximum.
    Exponential,
    /// Each delay equals the first.
    Fixed,
}

/// The retry policy for a failed call. The same policy applies to apply and rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of attempts, including the first; at least one.
    pub attempts: u32,
    /// The growth of delays.
    pub backoff: Backoff,
    /// The first delay.
    pub initial: Duration,
    /// The maximum delay.
    pub max: Duration,
    /// Whether a delay is drawn randomly between its half and its full length.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Backoff::Exponential,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: true,
        }
    }
}

impl RetryPolicy {
    /// The delay after the `failed`-th failed attempt in a row (from 1), or `None` when no attempt is left.
    ///
    /// `seed` determines the jitter, so that live work and replay agree.
    #[must_use]
    pub fn delay(&self, failed: u32, seed: u64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = match self.backoff {
            Backoff::Exponential => failed.saturating_sub(1).min(31),
            Backoff::Fixed => 0,
        };
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        if !self.jitter {
            return Some(full);
        }
        let half = full / 2;
        let spread = u64::try_from((full - half).as_micros()).unwrap_or(u64::MAX);
        Some(half + Duration::from_micros(split_mix(seed) % spread.saturating_add(1)))
    }
}

/// One round of SplitMix64 (Steele, Lea, Flood 2014): spreads a counter over all 64 bits.
fn split_mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_delays_double_up_to_the_maximum() {
        let policy = RetryPolicy {
            attempts: 5,
            initial: Duration::from_millis(200),
            max: Duration::from_millis(700),
            jitter: false,
            ..RetryPolicy::default()
        };
        let delays: Vec<_> = (1..=5).map(|failed_attempts| policy.delay(failed_attempts, 0)).collect();
        let millis = |count| Some(Duration::from_millis(count));
        assert_eq!(delays, [millis(200), millis(400), millis(700), millis(700), None]);
    }

    #[test]
    fn jitter_is_between_half_and_full_delay() {
        let policy = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        let delays: Vec<_> = (0..100).map(|seed| policy.delay(1, seed).unwrap()).collect();
        assert!(delays.iter().all(|delay| (500..=1000).contains(&delay.as_millis())));
        assert!(delays.iter().any(|delay| *delay != delays[0]), "it varies");
    }
}
