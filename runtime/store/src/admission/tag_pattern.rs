//! Patterns of tags, such as `shop:*`.

use std::{fmt, str::FromStr};

use crate::{InvalidTag, Tag};

/// A pattern of tags: `*` stands for any number of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagPattern(String);

/// Why a text is no pattern of tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no tag can match {text:?}: {}", source.reason)]
pub struct InvalidTagPattern {
    /// The rejected text.
    pub text: String,
    /// What is wrong with a tag that it would match.
    pub source: InvalidTag,
}

impl TagPattern {
    /// Whether a tag matches the pattern.
    #[must_use]
    pub fn matches(&self, tag: &Tag) -> bool {
        flow::matches_wildcard(&self.0, tag.as_str())
    }
}

impl FromStr for TagPattern {
    type Err = InvalidTagPattern;

    fn from_str(text: &str) -> Result<Self, InvalidTagPattern> {
        // A pattern that nothing can match is a mistake.
        match text.replace('*', "x").parse::<Tag>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(source) => Err(InvalidTagPattern { text: text.to_owned(), source }),
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, tag, matches) in [
            ("shop:1", "shop:1", true),
            ("shop:1", "shop:12", false),
            ("shop:*", "shop:1.2", true),
            ("shop/*", "shop/kitchen:1", true),
            ("shop/*", "other/kitchen", false),
            ("shop:*", "shop", false),
            ("shop:*", "workshop:1", false),
            ("*", "shop:1", true),
            ("*:1", "shop:1", true),
            ("*:1", "shop:11x", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*c", "abcbc", true),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*1*", "shop:1.2", true),
        ] {
            let pattern: TagPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&tag.parse().unwrap()), matches, "{pattern} {tag}");
        }
    }

    #[test]
    fn a_pattern_that_no_tag_can_match_is_refused() {
        for bad in ["", "shop/*/b", ":*", "a b", "*.wasm"] {
            let error = bad.parse::<TagPattern>().expect_err(bad).to_string();
            assert!(error.starts_with("no tag can match"), "{error}");
        }
    }
}
