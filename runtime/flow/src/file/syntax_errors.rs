//! Diagnostics for a text that is not valid TOML.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::de::Error;

use crate::{Diagnostic, render::Lines};

/// The maximum length of a quoted piece of text in a message, in characters.
const MAX_QUOTED_CHARS: usize = 60;

/// The syntax errors of a text, and those of its other diagnostics that no syntax error can have caused.
pub(super) fn with_syntax_errors(diagnostics: Vec<Diagnostic>, errors: &[Error], text: &str) -> Vec<Diagnostic> {
    let lines = Lines::of(text);
    let line = |span: &Range<usize>| lines.line_and_column(span.start).0;
    // A second syntax error in one line follows from the first.
    let mut first: BTreeMap<usize, (usize, &Error)> = BTreeMap::new();
    for (error, span) in errors.iter().filter_map(|error| Some((error, error.span()?))) {
        let first_in_line = first.entry(line(&span)).or_insert((span.start, error));
        if span.start < first_in_line.0 {
            *first_in_line = (span.start, error);
        }
    }
    let broken: BTreeSet<usize> = first.keys().copied().collect();
    let is_on_valid_line =
        |diagnostic: &Diagnostic| diagnostic.span.as_ref().is_some_and(|span| !broken.contains(&line(span)));
    let mut all: Vec<Diagnostic> = diagnostics.into_iter().filter(is_on_valid_line).collect();
    all.extend(first.into_values().map(|(_, error)| diagnostic(error, text)));
    all.extend(errors.iter().filter(|error| error.span().is_none()).map(|error| diagnostic(error, text)));
    all
}

fn diagnostic(error: &Error, text: &str) -> Diagnostic {
    let span = error.span();
    let excerpt = span.clone().and_then(|span| text.get(span)).unwrap_or_default();
    let before = span.as_ref().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (problem, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), "nothing"));
    let quoted: String = excerpt.chars().filter(|char| !char.is_control()).take(MAX_QUOTED_CHARS).collect();
    let (message, hint) = match problem {
        "duplicate key" => (
            format!("{quoted} is written twice"),
            "write each key once; each table of a list begins with [[..]]".into(),
        ),
        // The parser reports these errors for a text without quotes.
        "string values must be quoted" | "invalid literal string"
            if before.trim_end().ends_with('=') && excerpt.is_empty() =>
        {
            ("not TOML: a value is missing".into(), "write a value after `=`".into())
        }
        "string values must be quoted" => (
            format!("not TOML: {quoted} is not a value"),
            "strings are quoted, and commas separate the values of a list".into(),
        ),
        "recursion limit" | "cannot recurse further; max recursion depth met" => {
            ("it is nested too deep to be read".into(), "reduce the nesting of tables and lists".into())
        }
        "key with no value" => {
            ("not TOML: a key without a value".into(), "a line is a key, `=` and a value, or a [header]".into())
        }
        _ if expected == "nothing" => {
            (format!("not TOML: {problem}"), "strings are quoted, and each table, list and string is closed".into())
        }
        _ => (format!("not TOML: {problem}"), format!("TOML expects {expected} here")),
    };
    Diagnostic::error(span, message).hint(hint)
}
