//! The pace of a task: its maximum of parallel calls and its start rate, over all workers and all engines.

use std::{fmt, num::NonZeroU32, time::Duration};

/// The maximum of parallel calls of a task, and their start rate. Unlimited by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Pace {
    /// The maximum number of parallel calls.
    pub max_running: Option<NonZeroU32>,
    /// The maximum start rate.
    pub rate: Option<Rate>,
}

/// A maximum number of starts per unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// The number of starts.
    pub count: NonZeroU32,
    /// The unit of time.
    pub per: Per,
}

/// The unit of time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Per {
    /// Every unit.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// The letter of the unit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    /// The length of the unit.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(3_600),
        }
    }
}

impl Pace {
    /// The largest maximum of parallel calls. The broker keeps all permits of a task in one message, and a request of an engine names
    /// those that its calls hold: some hundred bytes for each, and a broker takes messages of some megabytes.
    pub const MAX_RUNNING: u32 = 10_000;

    /// Whether there is no limit.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self.max_running.is_none() && self.rate.is_none()
    }

    /// The stricter combination of both.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            max_running: self.max_running.into_iter().chain(other.max_running).min(),
            rate: self.rate.into_iter().chain(other.rate).max_by_key(|rate| (rate.min_interval(), *rate)),
        }
    }
}

impl Rate {
    /// The minimum interval between two starts.
    #[must_use]
    pub fn min_interval(self) -> Duration {
        // Rounded up, so that the rate is never exceeded.
        let micros = u64::try_from(self.per.length().as_micros()).expect("an hour has few microseconds");
        Duration::from_micros(micros.div_ceil(self.count.get().into()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.count, self.per.as_str())
    }
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rate: write a whole number from 1 to {} and /s, /m or /h, as in \"10/s\"", Rate::MAX_COUNT)]
pub struct InvalidRate {
    text: String,
}

impl Rate {
    /// The largest count. A larger count per second means less than a microsecond between starts, which is as good as no
    /// limit.
    pub const MAX_COUNT: u32 = 1_000_000;

    /// Parses `10/s 100/m 5000/h`.
    ///
    /// # Errors
    /// [`InvalidRate`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidRate> {
        let parse = || {
            let (count, unit) = text.split_once('/')?;
            let is_plain = count.bytes().all(|byte| byte.is_ascii_digit());
            let count: NonZeroU32 = count.parse().ok().filter(|_| is_plain)?;
            let per = Per::ALL.into_iter().find(|per| per.as_str() == unit)?;
            (count.get() <= Self::MAX_COUNT).then_some(Self { count, per })
        };
        parse().ok_or_else(|| InvalidRate { text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text).unwrap()
    }

    #[test]
    fn a_rate_is_a_count_and_a_second_a_minute_or_an_hour() {
        for (text, spacing) in [("10/s", 100), ("60/m", 1_000), ("1/h", 3_600_000)] {
            assert_eq!(rate(text).min_interval(), Duration::from_millis(spacing));
            assert_eq!(rate(text).to_string(), text);
        }
        for bad in ["", "10", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "ten/s", "10/d", "10/sec", "10 /s", "1000001/s"] {
            assert!(Rate::parse(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn of_two_paces_the_slower_of_each_kind_holds() {
        let pace = |max_running, rate: Option<&str>| Pace {
            max_running: NonZeroU32::new(max_running),
            rate: rate.map(|text| Rate::parse(text).unwrap()),
        };
        assert_eq!(pace(2, None).min(pace(3, Some("1/s"))), pace(2, Some("1/s")));
        assert_eq!(pace(0, Some("100/m")).min(pace(0, Some("1/s"))), pace(0, Some("1/s")));
        assert!(pace(0, None).min(Pace::default()).is_unlimited());
    }
}
