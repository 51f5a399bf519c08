//! Times in cron form, in the time of a place.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::Timestamp;

/// When something happens again and again: five fields (minute, hour, day of month, month, day of week) or six with
/// seconds first, as cron has them, in a time zone.
#[derive(Clone)]
pub struct Cron {
    line: String,
    zone: Tz,
    times: Box<croner::Cron>,
}

/// A text is no time in cron form, or no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// The line is none.
    #[error("{line:?} is no time in cron form ({reason}): write minute, hour, day of month, month and day of week")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The zone is not known.
    #[error("there is no time zone {zone:?}: write one such as \"Europe/Berlin\" or \"UTC\"")]
    Zone {
        /// The zone.
        zone: String,
    },
    /// It is well written, and never happens.
    #[error("{line:?} never happens: write a date that the calendar has")]
    Never {
        /// The line.
        line: String,
    },
}

impl Cron {
    /// Reads a line in cron form, for a time zone of the IANA database.
    ///
    /// # Errors
    /// [`InvalidCron`] when either is not what it should be, or the time never comes.
    pub fn new(line: &str, zone: &str) -> Result<Self, InvalidCron> {
        let reason =
            |error: croner::errors::CronError| InvalidCron::Line { line: line.into(), reason: error.to_string() };
        let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
        let times = Box::new(parser.parse(line).map_err(reason)?);
        let zone = Tz::from_str(zone).map_err(|_| InvalidCron::Zone { zone: zone.into() })?;
        let cron = Self { line: line.into(), zone, times };
        match cron.after(Timestamp::from_micros(0)) {
            Some(_) => Ok(cron),
            None => Err(InvalidCron::Never { line: line.into() }),
        }
    }

    /// The line, as it was written.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The time zone's name.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// The first such time after another. `None` when there is none within the years that cron reckons with.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let micros = i64::try_from(time.as_micros()).ok()?;
        let time = DateTime::<Utc>::from_timestamp_micros(micros)?.with_timezone(&self.zone);
        let next = self.times.find_next_occurrence(&time, false).ok()?;
        // What it finds has the fraction of a second that it was asked with.
        u64::try_from(next.timestamp()).ok().map(|seconds| Timestamp::from_micros(seconds * 1_000_000))
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Cron({:?}, {:?})", self.line, self.zone())
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.line, self.zone) == (&other.line, other.zone)
    }
}

impl Eq for Cron {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()).unwrap())
    }

    fn next(line: &str, zone: &str, after: &str) -> Timestamp {
        Cron::new(line, zone).unwrap().after(at(after)).unwrap()
    }

    #[test]
    fn a_time_is_that_of_its_zone() {
        assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-11-24T00:00:00Z"), at("2026-11-24T02:00:00Z"));
        assert_eq!(next("0 3 * * *", "Europe/Berlin", "2026-07-24T02:00:00Z"), at("2026-07-25T01:00:00Z"));
        assert_eq!(next("*/10 * * * * *", "UTC", "2026-11-24T00:00:01Z"), at("2026-11-24T00:00:10Z"));
        // On the second, whenever it is asked.
        assert_eq!(next("* * * * * *", "UTC", "2026-11-24T00:00:01.302828Z"), at("2026-11-24T00:00:02Z"));
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_is_not_waited_for_a_year() {
        // At two the clock is put to three.
        let next = next("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z");
        assert!(next <= at("2026-03-30T00:30:00Z"), "{next:?}");
    }

    #[test]
    fn what_never_comes_or_is_no_cron_line_is_refused() {
        assert!(matches!(Cron::new("0 0 30 2 *", "UTC"), Err(InvalidCron::Never { .. })));
        assert!(matches!(Cron::new("every day", "UTC"), Err(InvalidCron::Line { .. })));
        assert!(matches!(Cron::new("0 0 * * *", "Mars/Olympus"), Err(InvalidCron::Zone { .. })));
    }
}
