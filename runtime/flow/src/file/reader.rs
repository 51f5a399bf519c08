//! Reads a table of a flow file key by key, so that it finds every error and reports unknown keys.

use std::{
    num::NonZeroU32,
    ops::{Range, RangeInclusive},
    str::FromStr,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::keys::{Key, Keys};
use crate::{Diagnostic, Pace, Rate, StartTime, Timestamp, invalid::InvalidName, parse_duration, parse_size, suggest};

/// Keys that only other versions of waft support; the diagnostic states this instead of a spelling suggestion.
const RESERVED_KEYS: [&str; 2] = ["capabilities", "grant"];

/// A value and its span.
pub(super) struct WithSpan<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The diagnostics of a file so far.
#[derive(Default)]
pub(super) struct Diagnostics {
    /// Diagnostics about present parts.
    pub(super) present: Vec<Diagnostic>,
    /// Diagnostics about missing parts; in a file that is not valid TOML the parts may only be unreadable.
    pub(super) missing: Vec<Diagnostic>,
    /// Whether a part that others depend on could not be read.
    pub(super) is_partial: bool,
}

impl Diagnostics {
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.present.push(diagnostic);
    }

    pub(super) fn push_missing(&mut self, diagnostic: Diagnostic) {
        self.missing.push(diagnostic);
    }

    /// Reads a part that others depend on: without it they would seem to be wrong, too.
    pub(super) fn read_needed<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let count = |diagnostics: &Self| diagnostics.present.len() + diagnostics.missing.len();
        let before = count(self);
        let read = read(self);
        self.is_partial |= count(self) > before;
        read
    }
}

/// A table that is being read.
pub(super) struct Reader<'t> {
    table: &'t DeTable<'t>,
    /// The span of its header, or of the whole inline table.
    pub(super) span: Range<usize>,
    /// Its description for diagnostics: `task "mix"`.
    pub(super) owner: String,
    keys: Vec<&'static Key>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        owner: impl Into<String>,
        keys: &'static Keys,
    ) -> Self {
        Self { table, span, owner: owner.into(), keys: keys.iter().collect() }
    }

    /// Reads a value that must be a table; `example` shows a valid one.
    pub(super) fn open(
        toml: &'t Spanned<DeValue<'t>>,
        owner: impl Into<String>,
        keys: &'static Keys,
        example: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let owner = owner.into();
        let table = toml.get_ref().as_table();
        if table.is_none() {
            diagnostics.push(wrong_type(&owner, &format!("a table such as {example}"), toml.get_ref(), toml.span()));
        }
        Some(Self::new(table?, toml.span(), owner, keys))
    }

    /// Restricts the known keys; all others are reported as unknown.
    pub(super) fn keep_keys(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.keys.retain(|key| is_kept(key.name));
    }

    /// The value of a key, if it is there.
    pub(super) fn take(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        let is_known = self.keys.iter().any(|known| known.name == key);
        debug_assert!(is_known, "{key:?} of {} is read, and not among the keys of its table", self.owner);
        self.table.get(key)
    }

    /// The diagnostic for a missing required key.
    pub(super) fn missing_key(&self, key: &str, example: &str) -> Diagnostic {
        Diagnostic::error(Some(self.span.clone()), format!("{} has no {key:?}", self.owner))
            .hint(format!("write {example}"))
    }

    /// The value of a key, if it is there and of the right type.
    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        get: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<WithSpan<T>> {
        let toml = self.take(key)?;
        let value = get(toml.get_ref());
        if value.is_none() {
            diagnostics.push(wrong_type(&self.describe_key(key), expected, toml.get_ref(), toml.span()));
        }
        Some(WithSpan { value: value?, span: toml.span() })
    }

    /// The text of a key.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        expected: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<WithSpan<&'t str>> {
        self.typed(key, expected, DeValue::as_str, diagnostics)
    }

    /// The name in a key.
    pub(super) fn name<Name>(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<WithSpan<Name>>
    where
        Name: FromStr<Err = InvalidName>,
    {
        let text = self.string(key, "a name in quotes", diagnostics)?;
        match text.value.parse() {
            Ok(value) => Some(WithSpan { value, span: text.span }),
            Err(error) => {
                diagnostics.push(Diagnostic::rejected(Some(text.span), &self.describe_key(key), &error));
                None
            }
        }
    }

    /// The name in a key, or the nearest valid name to its text: references with the same text then find it.
    pub(super) fn name_or_nearest<Name>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<WithSpan<Name>>
    where
        Name: FromStr<Err = InvalidName>,
    {
        let text = diagnostics.read_needed(|diagnostics| self.string(key, "a name in quotes", diagnostics))?;
        let value = text.value.parse().or_else(|error: InvalidName| {
            diagnostics.push(Diagnostic::rejected(Some(text.span.clone()), &self.describe_key(key), &error));
            error.closest_valid().parse()
        });
        Some(WithSpan { value: value.ok()?, span: text.span })
    }

    /// One of a set of keywords.
    pub(super) fn keyword<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        diagnostics: &mut Diagnostics,
    ) -> Option<T> {
        let choices = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        let text = self.string(key, &choices, diagnostics)?;
        let value = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if value.is_none() {
            let diagnostic =
                Diagnostic::error(Some(text.span), format!("{} is {:?}", self.describe_key(key), text.value));
            diagnostics.push(diagnostic.hint(format!("write {choices}")));
        }
        value
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<WithSpan<bool>> {
        self.typed(key, "true or false", DeValue::as_bool, diagnostics)
    }

    /// A whole number in a range.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
        diagnostics: &mut Diagnostics,
    ) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let WithSpan { value: digits, span } = self.typed(key, "a whole number", DeValue::as_integer, diagnostics)?;
        let value = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let valid = value.and_then(|value| T::try_from(value).ok()).filter(|value| range.contains(value));
        if valid.is_none() {
            let diagnostic = Diagnostic::error(Some(span), format!("{} is {digits}", self.describe_key(key)));
            diagnostics.push(diagnostic.hint(format!(
                "write a whole number from {} to {}",
                range.start(),
                range.end()
            )));
        }
        valid
    }

    /// A duration such as `"30s"`.
    pub(super) fn duration(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<Duration> {
        self.quantity(key, "a duration such as \"30s\"", parse_duration, diagnostics)
    }

    /// The start time or delay.
    pub(super) fn starts(&mut self, diagnostics: &mut Diagnostics) -> Option<StartTime> {
        let after = self.duration("start_after", diagnostics).map(StartTime::After);
        let Some(toml) = self.take("start_at") else { return after };
        let Some(at) = timestamp(toml.get_ref()) else {
            let message = format!("{} is not a supported time", self.describe_key("start_at"));
            let hint = "write a date, a time and an offset: 2027-01-31T08:00:00+01:00";
            diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
            return after;
        };
        if after.is_some() {
            let message = format!("{} has both \"start_after\" and \"start_at\"", self.owner);
            diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint("keep one of them"));
        }
        Some(StartTime::At(at))
    }

    /// A size such as `"64MiB"`.
    pub(super) fn size(&mut self, key: &'static str, diagnostics: &mut Diagnostics) -> Option<u64> {
        self.quantity(key, "a size such as \"64MiB\"", parse_size, diagnostics)
    }

    /// The maximum of parallel calls, and their start rate.
    pub(super) fn pace(&mut self, diagnostics: &mut Diagnostics) -> Pace {
        Pace {
            max_running: self.integer("max_running", 1..=Pace::MAX_RUNNING, diagnostics).and_then(NonZeroU32::new),
            rate: self.quantity("rate", "a rate such as \"10/s\"", Rate::parse, diagnostics),
        }
    }

    fn quantity<T, Invalid: std::fmt::Display>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, Invalid>,
        diagnostics: &mut Diagnostics,
    ) -> Option<T> {
        let text = self.string(key, expected, diagnostics)?;
        match parse(text.value) {
            Ok(value) => Some(value),
            Err(error) => {
                diagnostics.push(Diagnostic::rejected(Some(text.span), &self.describe_key(key), &error));
                None
            }
        }
    }

    /// The elements of a list.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        expected: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<WithSpan<&'t [Spanned<DeValue<'t>>]>> {
        self.typed(key, expected, |toml| toml.as_array().map(|elements| &elements[..]), diagnostics)
    }

    /// Reports unknown keys. `foreign` knows the keys of other systems.
    pub(super) fn finish(self, foreign: impl Fn(&str) -> Option<String>, diagnostics: &mut Diagnostics) {
        let names = || self.keys.iter().map(|key| key.name);
        for key in self.table.keys().filter(|key| !names().any(|known| known == key.get_ref())) {
            let name = key.get_ref().as_ref();
            let diagnostic = Diagnostic::error(Some(key.span()), format!("{} has an unknown key {name:?}", self.owner));
            let reserved =
                || RESERVED_KEYS.contains(&name).then(|| format!("this version of waft does not know {name:?} here"));
            let closest = suggest::closest(name, names());
            diagnostics.is_partial |= self.keys.iter().any(|key| key.is_needed && Some(key.name) == closest);
            let hint = foreign(name)
                .or_else(reserved)
                .or_else(|| closest.map(suggest::hint))
                .unwrap_or_else(|| format!("the keys known here are {}", names().collect::<Vec<_>>().join(", ")));
            diagnostics.push(diagnostic.hint(hint));
        }
    }

    pub(super) fn describe_key(&self, key: &str) -> String {
        format!("{key:?} of {}", self.owner)
    }
}

/// A timestamp, written as a TOML date or as a text.
fn timestamp(toml: &DeValue<'_>) -> Option<Timestamp> {
    let text = match toml {
        DeValue::Datetime(timestamp) => timestamp.to_string(),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return None;
        }
    };
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(u64::try_from(timestamp.as_microsecond()).ok()?))
}

/// The diagnostic for a value of the wrong type.
pub(super) fn wrong_type(owner: &str, expected: &str, actual: &DeValue<'_>, span: Range<usize>) -> Diagnostic {
    let actual = match actual {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Diagnostic::error(Some(span), format!("{owner} is {actual}")).hint(format!("write {expected}"))
}
