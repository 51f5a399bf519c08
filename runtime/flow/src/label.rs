//! Labels: names with values that a submission gives its run. Runs are found by them.

use std::{borrow::Borrow, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use crate::{Value, Values};

/// The maximum number of labels of a run.
pub const MAX_LABELS: usize = 16;

/// The maximum length of a label's name, in characters.
const MAX_NAME: usize = 63;

/// The maximum length of a label's value, in characters.
const MAX_VALUE: usize = 128;

/// The maximum number of inputs of a run by which it is found.
const MAX_SEARCHED_INPUTS: usize = 32;

/// Why a text is no label, or labels do not belong to one run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// The name is not one of a label.
    #[error(
        "{name:?} is not the name of a label: use 1 to {MAX_NAME} of the characters a-z 0-9 - _ . /, and begin with one of a-z 0-9"
    )]
    Name {
        /// The refused name, cut to what fits a line.
        name: String,
    },
    /// The value is too long.
    #[error("the value has more than {MAX_VALUE} characters")]
    TooLong,
    /// The value has a character that does more than be displayed.
    #[error(
        "the value has the character {character:?}: control characters and characters that reorder text are not allowed"
    )]
    Character {
        /// The character.
        character: char,
    },
    /// A label is wrong.
    #[error("label {name}: {reason}")]
    Value {
        /// Its name.
        name: LabelName,
        /// Why.
        reason: Box<InvalidLabel>,
    },
    /// A text of a label has no value.
    #[error("{text:?} is no label: write NAME=VALUE")]
    NoValue {
        /// The text, cut to what fits a line.
        text: String,
    },
    /// The same name is given twice.
    #[error("label {name} is given twice")]
    Duplicate {
        /// The name.
        name: LabelName,
    },
    /// There are too many.
    #[error("a run has at most {MAX_LABELS} labels")]
    TooMany,
}

/// The name of a label: 1 to 63 of the characters `a-z 0-9 - _ . /`, the first of them a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelName(Arc<str>);

/// The value of a label, or another text by which runs are found: at most 128 characters, and none of them a control
/// character, a line separator or one that reorders text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(Arc<str>);

/// The labels of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<LabelName, LabelValue>);

/// What a label has to be for a run to be found: `team=shop`, or `team` for any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCondition {
    /// Its name.
    pub name: LabelName,
    /// Its value; `None` for any.
    pub value: Option<LabelValue>,
}

impl LabelName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidLabel::Name`] for any other text.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidLabel> {
        let text = text.as_ref();
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_./".contains(&byte);
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = text.len() <= MAX_NAME && text.bytes().all(is_inner) && text.bytes().next().is_some_and(is_first);
        if is_name { Ok(Self(text.into())) } else { Err(InvalidLabel::Name { name: shortened(text) }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LabelValue {
    /// Parses a value.
    ///
    /// # Errors
    /// [`InvalidLabel`] when it is too long, or has a character that is not allowed.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidLabel> {
        let text = text.as_ref();
        if text.chars().nth(MAX_VALUE).is_some() {
            return Err(InvalidLabel::TooLong);
        }
        match text.chars().find(|character| is_refused(*character)) {
            Some(character) => Err(InvalidLabel::Character { character }),
            None => Ok(Self(text.into())),
        }
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The texts by which a run with these inputs is found: its strings, numbers and booleans, as far as they may be values of
    /// labels. Only the first inputs count, by name.
    pub fn of_inputs(inputs: &Values) -> impl Iterator<Item = Self> {
        let scalars = inputs.values().filter_map(scalar).filter(|text| !text.is_empty());
        scalars.filter_map(|text| Self::new(text).ok()).take(MAX_SEARCHED_INPUTS)
    }
}

/// Whether a terminal or a page may do more with a character than display it.
fn is_refused(character: char) -> bool {
    let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    character.is_control() || reorders || ends_line
}

/// The text of a string, a number or a boolean.
fn scalar(value: &Value) -> Option<String> {
    let Value::Json(json) = value else { return None };
    let text = json.as_str().trim();
    // JSON may write each character as two escapes.
    if text.len() > MAX_VALUE * r"\ud83c\udf70".len() + 2 {
        return None;
    }
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).ok(),
        // `null`, a list or an object
        Some(b'n' | b'[' | b'{') | None => None,
        Some(_) => Some(text.to_owned()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_VALUE).collect()
}

impl Labels {
    /// The labels with these names and values.
    ///
    /// # Errors
    /// [`InvalidLabel`] when one of them is no label, two have one name, or there are too many.
    pub fn of<Text: AsRef<str>>(pairs: impl IntoIterator<Item = (Text, Text)>) -> Result<Self, InvalidLabel> {
        let mut labels = Self::default();
        for (name, value) in pairs {
            labels.insert(name.as_ref(), value.as_ref())?;
        }
        Ok(labels)
    }

    /// The labels in texts like `team=shop`.
    ///
    /// # Errors
    /// As [`Labels::of`].
    pub fn parse<Text: AsRef<str>>(texts: impl IntoIterator<Item = Text>) -> Result<Self, InvalidLabel> {
        let mut labels = Self::default();
        for text in texts {
            let text = text.as_ref();
            let (name, value) = text.split_once('=').ok_or_else(|| InvalidLabel::NoValue { text: shortened(text) })?;
            labels.insert(name, value)?;
        }
        Ok(labels)
    }

    fn insert(&mut self, name: &str, value: &str) -> Result<(), InvalidLabel> {
        let name = LabelName::new(name)?;
        if self.0.contains_key(&name) {
            return Err(InvalidLabel::Duplicate { name });
        }
        if self.0.len() == MAX_LABELS {
            return Err(InvalidLabel::TooMany);
        }
        let value = value_of(&name, value)?;
        self.0.insert(name, value);
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a label, if there is one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LabelValue> {
        self.0.get(name)
    }

    /// The labels, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&LabelName, &LabelValue)> {
        self.0.iter()
    }

    /// The labels as texts.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }
}

fn value_of(name: &LabelName, value: &str) -> Result<LabelValue, InvalidLabel> {
    LabelValue::new(value).map_err(|reason| InvalidLabel::Value { name: name.clone(), reason: Box::new(reason) })
}

impl LabelCondition {
    /// Whether a run with these labels is found.
    #[must_use]
    pub fn holds_for(&self, labels: &Labels) -> bool {
        let found = labels.0.get(&self.name);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl FromStr for LabelCondition {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let name = LabelName::new(name)?;
        let value = value.map(|value| value_of(&name, value)).transpose()?;
        Ok(Self { name, value })
    }
}

impl fmt::Display for LabelCondition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(out, "{}={value}", self.name),
            None => write!(out, "{}", self.name),
        }
    }
}

impl fmt::Display for LabelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl fmt::Debug for LabelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", &self.0)
    }
}

impl Borrow<str> for LabelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl fmt::Debug for LabelValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    #[test]
    fn a_name_has_lowercase_letters_digits_and_four_signs() {
        for name in ["team", "a", "0", "app.example.com/team-1_b", &"x".repeat(63)] {
            assert_eq!(LabelName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "Team", "-a", "/a", ".a", "_a", "a b", "a=b", "a\n", "é", "a\u{202e}", &"x".repeat(64)] {
            assert!(LabelName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_value_has_no_character_that_does_more_than_be_displayed() {
        for value in ["", "shop", "50% \"off\" <b>'_", "مرحبا", "日本", &"é".repeat(128)] {
            assert_eq!(LabelValue::new(value).unwrap().as_str(), value);
        }
        for value in ["a\nb", "\u{1b}[31m", "\0", "\u{7f}", "\u{85}", "\u{2028}", "\u{202e}gpj", "\u{2066}", "\t"] {
            assert!(matches!(LabelValue::new(value), Err(InvalidLabel::Character { .. })), "{value:?}");
        }
        assert_eq!(LabelValue::new("é".repeat(129)), Err(InvalidLabel::TooLong));
    }

    #[test]
    fn a_run_has_a_few_labels_and_each_name_once() {
        let numbered = |count: usize| Labels::of((0..count).map(|number| (format!("l{number}"), String::new())));
        assert_eq!(numbered(16).unwrap().iter().len(), 16);
        assert_eq!(numbered(17), Err(InvalidLabel::TooMany));
        assert_eq!(numbered(10_000), Err(InvalidLabel::TooMany));
        let twice = Labels::parse(["a=1", "a=1"]).unwrap_err();
        assert_eq!(twice.to_string(), "label a is given twice");
        assert!(Labels::parse(["team"]).unwrap_err().to_string().contains("write NAME=VALUE"));
        assert_eq!(Labels::parse(["a=b=c"]).unwrap().get("a").unwrap().as_str(), "b=c");
        let bad = Labels::parse(["a=\n"]).unwrap_err().to_string();
        assert!(bad.starts_with(r"label a: the value has the character '\n'"), "{bad}");
    }

    #[test]
    fn a_condition_holds_for_a_value_or_for_any() {
        let labels = Labels::parse(["team=shop", "empty="]).unwrap();
        let holds = |condition: &str| condition.parse::<LabelCondition>().unwrap().holds_for(&labels);
        assert!(holds("team") && holds("team=shop") && holds("empty") && holds("empty="));
        assert!(!holds("team=") && !holds("team=sho") && !holds("other") && !holds("empty=x"));
    }

    #[test]
    fn scalar_inputs_are_searched() {
        let inputs = [
            ("bool", "true"),
            ("bytes", "\"\\u0000\""),
            ("empty", "\"\""),
            ("list", "[1]"),
            ("long", &format!("{:?}", "x".repeat(129))),
            ("none", "null"),
            ("number", "4711"),
            ("text", "\"a \\u00e9\""),
        ];
        let inputs = inputs.map(|(name, text)| (name.parse().unwrap(), Value::Json(Json::parse(text).unwrap())));
        let found: Vec<String> = LabelValue::of_inputs(&inputs.into()).map(|text| text.to_string()).collect();
        assert_eq!(found, ["true", "4711", "a é"]);
        let many = (0..100).map(|number| (format!("i{number}").parse().unwrap(), Value::json(&number.into())));
        assert_eq!(LabelValue::of_inputs(&many.collect()).count(), 32);
    }
}
