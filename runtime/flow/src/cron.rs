//! Times in cron form, in the time of a place.
//!
//! Local time has hours that come twice and hours that do not exist, where a zone sets its clocks back or forward. This
//! file maps the local times that a line names to instants, by the rule of cron's own manual: what runs every few minutes
//! or every hour goes on as time does, and what runs at a fixed time runs once.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::Timestamp;

/// Where the last 400 years begin that cron reckons with, the first second of 4600. The calendar repeats after 400 years: a
/// line without a year that never comes in them never comes.
const CYCLE: Timestamp = Timestamp::from_micros(82_994_803_200_000_000);

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
    /// The line names years. A line has to come again for ever; a single moment is what `start_at` is for.
    #[error(
        "{line:?} has seven fields, and the last would be the year: write five, or six that begin with seconds, and \
         `start_at` for a single moment"
    )]
    Year {
        /// The line.
        line: String,
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

/// Two passes of the clock over the same local times: it was set back at the end of the first.
struct RepeatedHour {
    /// The instant at which the clock is set back.
    at: DateTime<Utc>,
    /// The first local time that comes twice.
    begin: NaiveDateTime,
    /// The first local time after those that come twice.
    end: NaiveDateTime,
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
        if line.split_whitespace().count() == 7 {
            return Err(InvalidCron::Year { line: line.into() });
        }
        let zone = Tz::from_str(zone).map_err(|_| InvalidCron::Zone { zone: zone.into() })?;
        let cron = Self { line: line.into(), zone, times };
        match cron.after(CYCLE) {
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

    /// Whether the line means "every so often" and not "at this time": its hour is every hour, or its minutes or seconds
    /// are written with a star.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        self.is_hourly() || self.times.pattern.minutes.from_wildcard || self.times.pattern.seconds.from_wildcard
    }

    /// Whether its hour is every hour, however that is written.
    fn is_hourly(&self) -> bool {
        self.times.pattern.hours.is_all_set()
    }

    /// The first such time after another. `None` when there is none within the years that cron reckons with.
    ///
    /// Where the clock is set back, an interval goes on through both passes, and a fixed time happens in the first pass
    /// alone. Where the clock is set forward, a fixed time that is left out happens at the end of the gap.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // A line names whole seconds.
        let time = DateTime::<Utc>::from_timestamp(i64::try_from(time.as_micros() / 1_000_000).ok()?, 0)?;
        let local = self.local(time);
        let (next, again) = match self.repeated_hour_at(time) {
            None => (self.first_occurrence_after(local, time), None),
            Some(fold) if time < fold.at => {
                let again = self.second_occurrence(&fold, fold.begin - Duration::seconds(1));
                (self.first_occurrence_after(local, time), again)
            }
            Some(fold) => {
                let again = self.second_occurrence(&fold, local);
                (self.first_occurrence_after(fold.end - Duration::seconds(1), time), again)
            }
        };
        let next = next.into_iter().chain(again).min()?;
        u64::try_from(next.timestamp()).ok().map(|seconds| Timestamp::from_micros(seconds * 1_000_000))
    }

    /// The first instant after `time` of a local time after `local`; of one that comes twice, the first time.
    fn first_occurrence_after(&self, mut local: NaiveDateTime, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        loop {
            local = self.matching_after(local)?;
            let instant = match self.zone.from_local_datetime(&local) {
                LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant,
                LocalResult::None => {
                    let end = GapInfo::new(&local, &self.zone)?.end?;
                    if self.is_hourly() {
                        // It has left out nothing: it goes on with the first local time after the gap.
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

    /// The first instant of an interval in the second pass of a fold, of a local time after `local`.
    fn second_occurrence(&self, fold: &RepeatedHour, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        if !self.is_interval() {
            return None;
        }
        let local = self.matching_after(local).filter(|local| *local < fold.end)?;
        Some(fold.at + (local - fold.begin))
    }

    /// The two passes that an instant is in one of.
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

    /// The first local time after another that the line names, whether the zone has it or not.
    fn matching_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        // In UTC each local time comes once.
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
