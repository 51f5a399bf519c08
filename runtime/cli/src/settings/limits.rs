//! The table `[limits]` of a settings file.

use std::fmt;

use flow::{LimitEntry, LimitOverrides};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Unexpected, Visitor},
};

/// The limits that a file sets. A limit as an empty text is not set, like other settings.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RawLimits(pub(super) LimitOverrides);

/// The names of all limits, for a hint.
pub(super) fn names() -> String {
    LimitOverrides::default().entries().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
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
        let mut limits = LimitOverrides::default();
        while let Some(name) = map.next_key_seed(KnownName)? {
            if let Some((_, limit)) = limits.entries().find(|(known, _)| *known == name) {
                map.next_value_seed(LimitSeed(limit))?;
            }
        }
        Ok(RawLimits(limits))
    }
}

/// Reads the name of a limit. The error of an unknown one has its place in the file.
struct KnownName;

impl<'de> DeserializeSeed<'de> for KnownName {
    type Value = String;

    fn deserialize<From: Deserializer<'de>>(self, from: From) -> Result<String, From::Error> {
        let name = String::deserialize(from)?;
        if LimitOverrides::default().entries().any(|(known, _)| known == name) {
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
        assert_eq!((limits.0.memory, limits.0.timeout.map(|time| time.as_secs())), (None, Some(120)));
    }
}
