//! Points in time, durations and sizes. Nothing here reads a clock: the time arrives with each event.
//!
//! A duration or size is one number with one unit, so that a value has one spelling. `humantime` and `bytesize` accept
//! several, and units of no fixed length such as months.

use std::{fmt, time::Duration};

/// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates a timestamp from microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time after a delay; saturates at the maximum instead of wrapping.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The same moment by a clock that was set since.
    #[must_use]
    pub fn shift(self, by: ClockShift) -> Self {
        Self(self.0.saturating_add_signed(by.as_micros()))
    }

    /// The duration from `earlier` until this time; zero when the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The change of a clock, forward (positive) or back (negative), in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockShift(i64);

impl ClockShift {
    /// The maximum difference that does not count as a clock change: clocks are slewed, and are read one after the other.
    pub const TOLERANCE: Duration = Duration::from_secs(2);

    /// Creates a change from microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The change in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The change of a clock that shows `now` where `expected` was expected; `None` within [`ClockShift::TOLERANCE`].
    #[must_use]
    pub fn between(expected: Timestamp, now: Timestamp) -> Option<Self> {
        let by = i128::from(now.as_micros()) - i128::from(expected.as_micros());
        let by = i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX });
        (u128::from(by.unsigned_abs()) > Self::TOLERANCE.as_micros()).then_some(Self(by))
    }

    /// How far the clock was set back; `None` where it was set forward.
    #[must_use]
    pub fn back(self) -> Option<Duration> {
        (self.0 < 0).then(|| Duration::from_micros(self.0.unsigned_abs()))
    }
}

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {quantity}: write {example}")]
pub struct InvalidQuantity {
    text: String,
    quantity: &'static str,
    example: &'static str,
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Parses `200ms 30s 5m 2h 7d`.
///
/// # Errors
/// [`InvalidQuantity`] for any other text, and for a duration that does not fit 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    let parse = || {
        let (count, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        count.checked_mul(millis).map(Duration::from_millis)
    };
    parse().ok_or_else(|| InvalidQuantity {
        text: text.into(),
        quantity: "duration",
        example: "a whole number and ms, s, m, h or d, as in \"30s\"",
    })
}

/// Parses `512B 64KiB 32MiB 1GiB`.
///
/// # Errors
/// [`InvalidQuantity`] for any other text, and for a size that does not fit 64 bits of bytes.
pub fn parse_size(text: &str) -> Result<u64, InvalidQuantity> {
    let parse = || {
        let (count, unit) = split(text)?;
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        count.checked_mul(bytes)
    };
    parse().ok_or_else(|| InvalidQuantity {
        text: text.into(),
        quantity: "size",
        example: "a whole number and B, KiB, MiB or GiB, as in \"64MiB\"",
    })
}

/// A duration as flow files have it, in the largest unit that divides it; `None` if it is no whole number of milliseconds.
pub(crate) fn format_duration(value: Duration) -> Option<String> {
    let millis = u64::try_from(value.as_millis()).ok()?;
    if Duration::from_millis(millis) != value {
        return None;
    }
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
    Some(unit.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit)))
}

/// Shows a size in the largest unit that divides it, `64MiB`; with `{:#}` rounded down to a tenth, `235.9KiB`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return write!(out, "{}{unit}", self.0 / bytes);
            }
        }
        if out.alternate() {
            for (unit, bytes) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
                if self.0 >= bytes {
                    // In tenths: enough for a person to compare sizes.
                    let tenths = u128::from(self.0) * 10 / u128::from(bytes);
                    return write!(out, "{}.{}{unit}", tenths / 10, tenths % 10);
                }
            }
        }
        write!(out, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_the_design_writes_them() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        for bad in ["", "s", "5", "5 s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} passed");
        }
        for bad in ["64", "64MB", "64mib", "MiB", "18446744073709551615GiB"] {
            assert!(parse_size(bad).is_err(), "{bad:?} passed");
        }
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
        assert_eq!(Size(1000).to_string(), "1000B");
        assert_eq!(Size(241_597).to_string(), "241597B");
        assert_eq!(format!("{:#}", Size(241_597)), "235.9KiB");
    }
}
