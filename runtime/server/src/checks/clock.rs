//! Compares another clock with the clock of this machine.

use std::time::{Duration, SystemTime};

use client::api::Check;

/// The maximum difference between clocks. waft needs no equal clocks; schedules, `expires` and displayed times depend on
/// them.
const APART: Duration = Duration::from_secs(5);

/// One reading of another clock. Between `asked` and `answered` it showed `said`, rounded down by less than `grain`.
pub(super) struct Reading {
    pub(super) asked: SystemTime,
    pub(super) said: SystemTime,
    pub(super) grain: Duration,
    pub(super) answered: SystemTime,
}

impl Reading {
    /// The least amount by which the other clock is ahead or behind, after subtracting the round trip and the rounding.
    fn apart(&self) -> (Duration, &'static str) {
        let ahead = self.said.duration_since(self.answered).unwrap_or_default();
        let behind = self.asked.duration_since(self.said + self.grain).unwrap_or_default();
        if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") }
    }
}

/// Checks one clock; `whose` names it.
pub(super) fn check(check: &str, whose: &str, reading: &Reading) -> Check {
    let (apart, way) = reading.apart();
    if apart <= APART {
        return Check::ok(
            check,
            format!("the clock of {whose} agrees with this machine's, within {} s", APART.as_secs()),
        );
    }
    let detail = format!("the clock of {whose} is {:.1} s {way} this machine's", apart.as_secs_f64());
    Check::warn(check, detail, "let both machines follow a time server (chrony, systemd-timesyncd)")
}

#[cfg(test)]
mod tests {
    use client::api::Outcome;

    use super::*;

    fn told(said: i64, grain: u64) -> (Outcome, String) {
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        let reading =
            Reading { asked: at(1_000), said: at(said), grain: Duration::from_secs(grain), answered: at(1_002) };
        let check = check("c", "it", &reading);
        (check.outcome, check.detail)
    }

    #[test]
    fn a_clock_counts_as_wrong_by_what_the_way_and_its_rounding_do_not_explain() {
        for said in [995, 1_000, 1_007] {
            assert_eq!(told(said, 0).0, Outcome::Ok, "{said}");
        }
        assert_eq!(told(994, 1).0, Outcome::Ok);
        assert_eq!(told(994, 0), (Outcome::Warn, "the clock of it is 6.0 s behind this machine's".into()));
        assert_eq!(told(1_062, 1), (Outcome::Warn, "the clock of it is 60.0 s ahead of this machine's".into()));
    }
}
