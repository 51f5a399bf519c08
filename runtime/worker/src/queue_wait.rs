//! How long a job waits before its call starts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flow::Timestamp;

/// The time from the record of a call, by the clock of its engine, to now, by the clock of this machine. If this clock is behind
/// for longer than the job has waited, it is zero.
pub(crate) fn since(recorded_at: Timestamp) -> Duration {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)).since(recorded_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_from_the_future_has_not_waited() {
        assert_eq!(since(Timestamp::from_micros(u64::MAX)), Duration::ZERO);
        assert!(since(Timestamp::from_micros(0)) > Duration::from_secs(50 * 365 * 24 * 3_600));
    }
}
