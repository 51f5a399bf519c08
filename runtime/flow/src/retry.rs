//! A task's own retry policy: apply again after a delay, without a rollback in between.

use std::time::Duration;

use crate::time::format_duration;

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

/// The number of times that a delay doubles at most: by then it is above every maximum.
const MAX_DOUBLINGS: u32 = 31;

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
    /// The pause between two of its attempts, on average and without jitter; nothing for a single attempt.
    fn average_pause(&self) -> Option<Duration> {
        let pauses = self.attempts.checked_sub(1).filter(|pauses| *pauses > 0)?;
        let unjittered = Self { jitter: false, ..*self };
        let pause = |failed: u32| unjittered.delay(failed, 0).unwrap_or_default();
        // From here on, all pauses are equal.
        let growing = pauses.min(MAX_DOUBLINGS);
        let total: Duration = (1..=growing).map(pause).fold(Duration::ZERO, Duration::saturating_add);
        Some(total.saturating_add(pause(pauses).saturating_mul(pauses - growing)) / pauses)
    }

    /// The delay after the `failed`-th failed attempt in a row (from 1), or `None` when no attempt is left.
    ///
    /// `seed` determines the jitter, so that live work and replay agree.
    #[must_use]
    pub fn delay(&self, failed: u32, seed: u64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = match self.backoff {
            Backoff::Exponential => failed.saturating_sub(1).min(MAX_DOUBLINGS),
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

/// The number of attempts that a policy may make without a pause.
const ATTEMPTS_WITHOUT_PAUSE: u32 = 10;

/// The retries that an operator allows at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// The maximum of attempts.
    pub attempts: u32,
    /// The least pause between attempts, on average, of a policy with more than ten attempts.
    pub pause: Duration,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self { attempts: 100, pause: Duration::from_millis(100) }
    }
}

/// A retry policy that an operator does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefusedRetries {
    /// It has too many attempts.
    #[error("its {asked} attempts are above the maximum here, {allowed}")]
    Attempts {
        /// The attempts of the policy.
        asked: u32,
        /// The maximum.
        allowed: u32,
    },
    /// Its pauses are too short.
    #[error(
        "its {attempts} attempts have pauses of {} on average, and more than {ATTEMPTS_WITHOUT_PAUSE} attempts need {} here",
        text(.average), text(.least)
    )]
    Pause {
        /// The attempts of the policy.
        attempts: u32,
        /// Its pause on average.
        average: Duration,
        /// The least pause on average.
        least: Duration,
    },
}

fn text(time: &Duration) -> String {
    format_duration(*time).unwrap_or_else(|| format!("{time:?}"))
}

impl RetryLimits {
    /// Checks a policy.
    ///
    /// # Errors
    /// [`RefusedRetries`] when its attempts are too many or too close.
    pub(crate) fn check(&self, policy: &RetryPolicy) -> Result<(), RefusedRetries> {
        let attempts = policy.attempts;
        if attempts > self.attempts {
            return Err(RefusedRetries::Attempts { asked: attempts, allowed: self.attempts });
        }
        match policy.average_pause() {
            Some(average) if attempts > ATTEMPTS_WITHOUT_PAUSE && average < self.pause => {
                Err(RefusedRetries::Pause { attempts, average, least: self.pause })
            }
            Some(_) | None => Ok(()),
        }
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
    fn too_many_attempts_and_too_short_pauses_are_refused() {
        let of = |attempts, initial| RetryPolicy {
            attempts,
            backoff: Backoff::Fixed,
            initial: Duration::from_millis(initial),
            ..RetryPolicy::default()
        };
        let limits = RetryLimits::default();
        assert_eq!(limits.check(&RetryPolicy::default()), Ok(()));
        assert_eq!(limits.check(&of(10, 0)), Ok(()), "a few attempts may be immediate");
        assert_eq!(limits.check(&of(100, 100)), Ok(()));
        let refused = |policy| limits.check(&policy).unwrap_err().to_string();
        assert_eq!(refused(of(u32::MAX, 0)), "its 4294967295 attempts are above the maximum here, 100");
        assert_eq!(
            refused(of(11, 50)),
            "its 11 attempts have pauses of 50ms on average, and more than 10 attempts need 100ms here"
        );
        let growing = RetryPolicy { backoff: Backoff::Exponential, max: Duration::from_secs(5), ..of(20, 1) };
        assert_eq!(limits.check(&growing), Ok(()), "the later pauses count too");
        let unlimited = RetryLimits { attempts: u32::MAX, ..limits };
        assert_eq!(
            unlimited.check(&RetryPolicy { attempts: u32::MAX, ..growing }),
            Ok(()),
            "and are not counted one by one"
        );
        assert!(unlimited.check(&of(u32::MAX, 1)).is_err());
    }

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
