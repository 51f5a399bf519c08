//! The table `[limits]` of a settings file.

use std::{fmt, num::NonZeroU64, time::Duration};

use ::server::{DEFAULT_MODULE_SIZE, LibraryLimits};
use flow::{LimitEntry, LimitOverrides, RetryLimits, RunLimits};
use logbook::MemoLimits;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Unexpected, Visitor},
};

/// The limits that a file sets. A limit as an empty text is not set, like other settings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLimits {
    /// The limits of a call.
    pub(super) call: LimitOverrides,
    attempts: Option<u32>,
    retry_pause: Option<Duration>,
    module_size: Option<u64>,
    value: Option<u64>,
    elements: Option<u32>,
    firings: Option<u32>,
    open_runs: Option<u64>,
    remembered: Option<u64>,
    remembered_bytes: Option<u64>,
}

impl RawLimits {
    /// These limits, and those of `lower` that are not set here.
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            call: self.call.or(lower.call),
            attempts: self.attempts.or(lower.attempts),
            retry_pause: self.retry_pause.or(lower.retry_pause),
            module_size: self.module_size.or(lower.module_size),
            value: self.value.or(lower.value),
            elements: self.elements.or(lower.elements),
            firings: self.firings.or(lower.firings),
            open_runs: self.open_runs.or(lower.open_runs),
            remembered: self.remembered.or(lower.remembered),
            remembered_bytes: self.remembered_bytes.or(lower.remembered_bytes),
        }
    }

    /// Each limit with its key.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = (&'static str, LimitEntry<'_>)> {
        let others = [
            ("attempts", LimitEntry::SmallCount(&mut self.attempts)),
            ("retry_pause", LimitEntry::Time(&mut self.retry_pause)),
            ("module_size", LimitEntry::Bytes(&mut self.module_size)),
            ("value", LimitEntry::Bytes(&mut self.value)),
            ("elements", LimitEntry::SmallCount(&mut self.elements)),
            ("firings", LimitEntry::SmallCount(&mut self.firings)),
            ("open_runs", LimitEntry::Count(&mut self.open_runs)),
            ("remembered", LimitEntry::Count(&mut self.remembered)),
            ("remembered_bytes", LimitEntry::Bytes(&mut self.remembered_bytes)),
        ];
        self.call.entries().chain(others)
    }

    /// The limits of everything except calls.
    pub(super) fn beside_calls(&self) -> LibraryLimits {
        let (retries, run) = (RetryLimits::default(), RunLimits::default());
        let attempts = self.attempts.unwrap_or(retries.attempts);
        LibraryLimits {
            retries: RetryLimits { attempts, pause: self.retry_pause.unwrap_or(retries.pause) },
            run: RunLimits {
                elements: self.elements.unwrap_or(run.elements),
                attempts,
                firings: self.firings.unwrap_or(run.firings),
                value: self.value.unwrap_or(run.value),
            },
            module_size: self.module_size.unwrap_or(DEFAULT_MODULE_SIZE),
        }
    }

    /// How much is remembered of each namespace.
    pub(super) fn memo_limits(&self) -> MemoLimits {
        let default = MemoLimits::default();
        MemoLimits {
            results: self.remembered.unwrap_or(default.results),
            bytes: self.remembered_bytes.unwrap_or(default.bytes),
        }
    }

    /// The maximum number of runs of one flow that have not ended; 0 in a file means that there is none.
    pub(super) fn open_runs(&self) -> Option<NonZeroU64> {
        self.open_runs.and_then(NonZeroU64::new)
    }
}

/// The names of all limits, for a hint.
pub(super) fn names() -> String {
    RawLimits::default().entries().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

impl<'de> Deserialize<'de> for RawLimits {
    fn deserialize<From: Deserializer<'de>>(from: From) -> Result<Self, From::Error> {
        from.deserialize_map(LimitsVisitor)
    }
}

struct LimitsVisitor;

impl<'de> Visitor<'de> for LimitsVisitor {
    type Value = RawLimits;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a table of limits")
    }

    fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<RawLimits, Map::Error> {
        let mut limits = RawLimits::default();
        while let Some(name) = map.next_key_seed(KnownName)? {
            if let Some((_, limit)) = limits.entries().find(|(known, _)| *known == name) {
                map.next_value_seed(LimitSeed(limit))?;
            }
        }
        Ok(limits)
    }
}

/// Reads the name of a limit. The error of an unknown one has its place in the file.
struct KnownName;

impl<'de> DeserializeSeed<'de> for KnownName {
    type Value = String;

    fn deserialize<From: Deserializer<'de>>(self, from: From) -> Result<String, From::Error> {
        let name = String::deserialize(from)?;
        if RawLimits::default().entries().any(|(known, _)| known == name) {
            return Ok(name);
        }
        Err(From::Error::custom(format!("there is no limit {name:?}; the limits are {}", names())))
    }
}

/// Reads the value of a limit into its place.
struct LimitSeed<'a>(LimitEntry<'a>);

impl<'de> DeserializeSeed<'de> for LimitSeed<'_> {
    type Value = ();

    fn deserialize<From: Deserializer<'de>>(self, from: From) -> Result<(), From::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LimitSeed<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0 {
            LimitEntry::Time(_) => "a duration such as \"1h\"",
            LimitEntry::Bytes(_) => "a size such as \"1GiB\"",
            LimitEntry::Count(_) | LimitEntry::SmallCount(_) => "a whole number such as 1000",
        })
    }

    fn visit_str<Failure: Error>(self, text: &str) -> Result<(), Failure> {
        match self.0 {
            LimitEntry::Time(_) | LimitEntry::Bytes(_) if text.is_empty() => {}
            LimitEntry::Time(time) => *time = Some(flow::parse_duration(text).map_err(Failure::custom)?),
            LimitEntry::Bytes(bytes) => *bytes = Some(flow::parse_size(text).map_err(Failure::custom)?),
            LimitEntry::Count(_) | LimitEntry::SmallCount(_) => {
                return Err(Failure::invalid_type(Unexpected::Str(text), &self));
            }
        }
        Ok(())
    }

    fn visit_i64<Failure: Error>(self, number: i64) -> Result<(), Failure> {
        match self.0 {
            LimitEntry::Count(count) => {
                let valid = u64::try_from(number);
                *count = Some(valid.map_err(|_| Failure::custom(format!("{number} is below 0")))?);
            }
            LimitEntry::SmallCount(count) => {
                let valid = u32::try_from(number);
                let reason = || format!("{number} is not a number from 0 to {}", u32::MAX);
                *count = Some(valid.map_err(|_| Failure::custom(reason()))?);
            }
            LimitEntry::Time(_) | LimitEntry::Bytes(_) => {
                return Err(Failure::invalid_type(Unexpected::Signed(number), &self));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        toml::from_str::<RawLimits>(text).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_limit_is_named_with_its_line() {
        for (wrong, says) in [
            ("memory = 5", "invalid type: integer `5`, expected a size such as \"1GiB\""),
            ("memory = \"5 apples\"", "5 apples"),
            ("timeout = true", "invalid type: boolean `true`, expected a duration such as \"1h\""),
            ("instances = \"\"", "invalid type: string \"\", expected a whole number such as 1000"),
            ("instances = 5000000000", "5000000000 is not a number from 0 to 4294967295"),
            ("table_elements = -1", "-1 is below 0"),
            ("memroy = \"\"", "there is no limit \"memroy\"; the limits are timeout, memory,"),
        ] {
            let error = error(&format!("log = \"1MiB\"\n{wrong}\n"));
            assert!(error.contains(says) && error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn an_empty_text_sets_nothing() {
        let limits: RawLimits = toml::from_str("memory = \"\"\ntimeout = \"2m\"\n").unwrap();
        assert_eq!((limits.call.memory, limits.call.timeout.map(|time| time.as_secs())), (None, Some(120)));
    }
}
