//! Compares another clock with the clock of this machine.

use std::time::{Duration, SystemTime};

use api::Check;

/// The maximum difference between clocks. waft needs no equal clocks; schedules, `expires` and displayed times depend on
/// them.
const MAX_DIFFERENCE: Duration = Duration::from_secs(5);

/// One reading of another clock. Between `sent_at` and `received_at` it showed `shown`, rounded down by less than `resolution`.
pub(super) struct Reading {
    pub(super) sent_at: SystemTime,
    pub(super) shown: SystemTime,
    pub(super) resolution: Duration,
    pub(super) received_at: SystemTime,
}

impl Reading {
    /// The least amount by which the other clock is ahead or behind, after subtracting the round trip and the rounding.
    fn difference(&self) -> (Duration, &'static str) {
        let ahead = self.shown.duration_since(self.received_at).unwrap_or_default();
        let behind = self.sent_at.duration_since(self.shown + self.resolution).unwrap_or_default();
        if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") }
    }
}

/// Checks one clock; `owner` names it.
pub(super) fn check(check: &str, owner: &str, reading: &Reading) -> Check {
    let (difference, direction) = reading.difference();
    if difference <= MAX_DIFFERENCE {
        return Check::ok(
            check,
            format!("the clock of {owner} agrees with this machine's, within {} s", MAX_DIFFERENCE.as_secs()),
        );
    }
    let detail = format!("the clock of {owner} is {:.1} s {direction} this machine's", difference.as_secs_f64());
    Check::warn(check, detail, "let both machines follow a time server (chrony, systemd-timesyncd)")
}

#[cfg(test)]
mod tests {
    use api::Outcome;

    use super::*;

    fn result(shown: i64, resolution: u64) -> (Outcome, String) {
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        let reading = Reading {
            sent_at: at(1_000),
            shown: at(shown),
            resolution: Duration::from_secs(resolution),
            received_at: at(1_002),
        };
        let check = check("c", "it", &reading);
        (check.outcome, check.detail)
    }

    #[test]
    fn a_difference_counts_beyond_round_trip_and_rounding() {
        for shown in [995, 1_000, 1_007] {
            assert_eq!(result(shown, 0).0, Outcome::Ok, "{shown}");
        }
        assert_eq!(result(994, 1).0, Outcome::Ok);
        assert_eq!(result(994, 0), (Outcome::Warn, "the clock of it is 6.0 s behind this machine's".into()));
        assert_eq!(result(1_062, 1), (Outcome::Warn, "the clock of it is 60.0 s ahead of this machine's".into()));
    }
}
