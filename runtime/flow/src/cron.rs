//! Times in cron form, in the local time of a zone.
//!
//! Some local hours occur twice and some do not exist, where a zone sets its clocks back or forward. This file maps the
//! local times of a cron line to instants by the rule of cron's own manual: intervals (every few minutes, every hour) follow
//! elapsed time, and fixed times run once.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::Timestamp;

/// The start of the last 40 years that are searched: the first second of 4960. They have each kind of year: with and without a leap
/// day, beginning with each day of the week. So a line without a year that has no time in them never fires.
const CYCLE: Timestamp = Timestamp::from_micros(94_355_280_000_000_000);

/// The maximum length of a line, in bytes. A line that lists each second, minute, hour, day, month and weekday has fewer than 700.
const MAX_LINE_BYTES: usize = 1_000;

/// A recurring time in cron form: five fields (minute, hour, day of month, month, day of week), or six with seconds first,
/// in a time zone.
#[derive(Clone)]
pub struct Cron {
    line: String,
    zone: Tz,
    times: Box<croner::Cron>,
}

/// A text is not a valid cron line or time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// The line is too long.
    #[error(
        "the cron line has {length} bytes: {MAX_LINE_BYTES} are the most; write ranges and steps, such as 0-29 or */5"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The line is invalid.
    #[error("{line:?} is no time in cron form ({reason}): write minute, hour, day of month, month and day of week")]
    Line {
        /// The line.
        line: String,
        /// The reason.
        reason: String,
    },
    /// The line names years. A schedule must recur forever; `start_at` is for a single time.
    #[error(
        "{line:?} has seven fields, and the last would be the year: write five, or six that begin with seconds, and \
         `start_at` for a single moment"
    )]
    Year {
        /// The line.
        line: String,
    },
    /// The zone is unknown.
    #[error("there is no time zone {zone:?}: write one such as \"Europe/Berlin\" or \"UTC\"")]
    Zone {
        /// The zone.
        zone: String,
    },
    /// The line is valid, but its time never occurs.
    #[error("{line:?} never happens: write a date that the calendar has")]
    Never {
        /// The line.
        line: String,
    },
}

/// Local times that occur twice, because the clock was set back at the end of the first pass.
struct RepeatedHour {
    /// The instant at which the clock is set back.
    at: DateTime<Utc>,
    /// The first local time that occurs twice.
    begin: NaiveDateTime,
    /// The first local time after the repeated ones.
    end: NaiveDateTime,
}

impl Cron {
    /// Parses a line in cron form, for a time zone of the IANA database.
    ///
    /// # Errors
    /// [`InvalidCron`] when the line or the zone is invalid, or the time never occurs.
    pub fn new(line: &str, zone: &str) -> Result<Self, InvalidCron> {
        let cron = Self::from_record(line, zone)?;
        match cron.after(CYCLE) {
            Some(_) => Ok(cron),
            None => Err(InvalidCron::Never { line: line.into() }),
        }
    }

    /// Parses a line from a record. That its time occurs was checked before it was recorded: the search may take long, and a flow has
    /// hundreds of lines.
    ///
    /// # Errors
    /// [`InvalidCron`] when the line or the zone is invalid.
    pub fn from_record(line: &str, zone: &str) -> Result<Self, InvalidCron> {
        if line.len() > MAX_LINE_BYTES {
            return Err(InvalidCron::TooLong { length: line.len() });
        }
        let reason =
            |error: croner::errors::CronError| InvalidCron::Line { line: line.into(), reason: error.to_string() };
        let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
        let times = Box::new(parser.parse(line).map_err(reason)?);
        if line.split_whitespace().count() == 7 {
            return Err(InvalidCron::Year { line: line.into() });
        }
        let zone = Tz::from_str(zone).map_err(|_| InvalidCron::Zone { zone: zone.into() })?;
        Ok(Self { line: line.into(), zone, times })
    }

    /// The line, as written.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The time zone's name.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// Whether the line is an interval and not a fixed time: its hour is every hour, or its minutes or seconds contain a
    /// star.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        self.is_hourly() || self.times.pattern.minutes.from_wildcard || self.times.pattern.seconds.from_wildcard
    }

    /// Whether its hour is every hour, in any notation.
    fn is_hourly(&self) -> bool {
        self.times.pattern.hours.is_all_set()
    }

    /// The first time of the line after another time. `None` when there is none within the supported years.
    ///
    /// Where the clock is set back, an interval continues through both passes, and a fixed time occurs only in the first
    /// pass. Where the clock is set forward, a skipped fixed time occurs at the end of the gap.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // A line names whole seconds.
        let time = DateTime::<Utc>::from_timestamp(i64::try_from(time.as_micros() / 1_000_000).ok()?, 0)?;
        let local = self.local(time);
        let (next, second) = match self.repeated_hour_at(time) {
            None => (self.first_occurrence_after(local, time), None),
            Some(fold) if time < fold.at => {
                let second = self.second_occurrence(&fold, fold.begin - Duration::seconds(1));
                (self.first_occurrence_after(local, time), second)
            }
            Some(fold) => {
                let second = self.second_occurrence(&fold, local);
                (self.first_occurrence_after(fold.end - Duration::seconds(1), time), second)
            }
        };
        let next = next.into_iter().chain(second).min()?;
        u64::try_from(next.timestamp()).ok().map(|seconds| Timestamp::from_micros(seconds * 1_000_000))
    }

    /// The first instant after `time` of a local time after `local`; for a repeated local time, its first pass.
    fn first_occurrence_after(&self, mut local: NaiveDateTime, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        loop {
            local = self.matching_after(local)?;
            let instant = match self.zone.from_local_datetime(&local) {
                LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant,
                LocalResult::None => {
                    let end = GapInfo::new(&local, &self.zone)?.end?;
                    if self.is_hourly() {
                        // An interval skips nothing: it continues with the first local time after the gap.
                        local = end.naive_local() - Duration::seconds(1);
                        continue;
                    }
                    end
                }
            };
            if instant > time {
                return Some(instant.to_utc());
            }
        }
    }

    /// The first instant of an interval in the second pass of a repeated hour, of a local time after `local`.
    fn second_occurrence(&self, fold: &RepeatedHour, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        if !self.is_interval() {
            return None;
        }
        let local = self.matching_after(local).filter(|local| *local < fold.end)?;
        Some(fold.at + (local - fold.begin))
    }

    /// The repeated hour that contains an instant, in either pass.
    fn repeated_hour_at(&self, time: DateTime<Utc>) -> Option<RepeatedHour> {
        let LocalResult::Ambiguous(first, second) = self.zone.from_local_datetime(&self.local(time)) else {
            return None;
        };
        // The offset changes once between the two.
        let (mut before, mut at) = (first.to_utc(), second.to_utc());
        let offset = |time| self.zone.offset_from_utc_datetime(&DateTime::naive_utc(&time)).fix();
        let first = offset(before);
        while at - before > Duration::seconds(1) {
            let middle = before + Duration::seconds((at - before).num_seconds() / 2);
            if offset(middle) == first { before = middle } else { at = middle }
        }
        let begin = self.local(at);
        let end = at.naive_utc() + Duration::seconds(first.local_minus_utc().into());
        Some(RepeatedHour { at, begin, end })
    }

    fn local(&self, time: DateTime<Utc>) -> NaiveDateTime {
        time.with_timezone(&self.zone).naive_local()
    }

    /// The first local time of the line after another, whether it exists in the zone or not.
    fn matching_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        // In UTC each local time occurs once.
        self.times.find_next_occurrence(&local.and_utc(), false).ok().map(|next| next.naive_utc())
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
