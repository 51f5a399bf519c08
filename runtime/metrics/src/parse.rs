//! A strict parser of the text format of Prometheus: with it, tests read what a process writes.

use std::collections::{BTreeMap, BTreeSet};

/// A line of the format.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// The description of the metric that follows.
    Help {
        /// The metric.
        name: String,
        /// The description.
        help: String,
    },
    /// The type of the metric that follows.
    Type {
        /// The metric.
        name: String,
        /// The type.
        kind: String,
    },
    /// The number of a series.
    Sample {
        /// The metric, with the suffix of a histogram's series.
        name: String,
        /// The labels.
        labels: BTreeMap<String, String>,
        /// The number.
        number: f64,
    },
}

/// Why a text is not in the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

/// Reads a text. It is stricter than Prometheus: each metric has a description, a type and then its samples, only once, without
/// timestamps, and no series comes twice.
///
/// # Errors
/// [`ParseError`] with the first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Line>, ParseError> {
    let (mut lines, mut state) = (Vec::new(), Parser::default());
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let at = |reason: String| ParseError { line: number, reason };
        let line = line.strip_suffix('\n').ok_or_else(|| at("the last line does not end".into()))?;
        lines.push(state.line(line).map_err(at)?);
    }
    Ok(lines)
}

/// What was read before a line.
#[derive(Default)]
struct Parser {
    /// The metric whose description was read last, and its type.
    family: Option<(String, Option<String>)>,
    families: Vec<String>,
    series: BTreeSet<String>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<Line, String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("there is no description")?;
            if self.families.iter().any(|earlier| earlier == name) {
                return Err(format!("{name} comes twice"));
            }
            self.families.push(name.to_owned());
            self.family = Some((checked_name(name)?, None));
            let (help, rest) = unescape(help, None)?;
            return if rest.is_empty() {
                Ok(Line::Help { name: name.to_owned(), help })
            } else {
                Err("text follows".into())
            };
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("there is no type")?;
            match &mut self.family {
                Some((family, of @ None)) if family == name => *of = Some(kind.to_owned()),
                _ => return Err(format!("the type of {name} does not follow its description")),
            }
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(format!("there is no type {kind:?}"));
            }
            return Ok(Line::Type { name: name.to_owned(), kind: kind.to_owned() });
        }
        let sample = sample(line)?;
        if let Line::Sample { name, labels, .. } = &sample {
            self.check_sample(name, labels)?;
        }
        Ok(sample)
    }

    fn check_sample(&mut self, name: &str, labels: &BTreeMap<String, String>) -> Result<(), String> {
        let Some((family, Some(kind))) = &self.family else { return Err(format!("{name} has no type")) };
        let suffix = name.strip_prefix(family.as_str()).ok_or_else(|| format!("{name} is no series of {family}"))?;
        let is_bucket = suffix == "_bucket";
        let is_right =
            if kind == "histogram" { is_bucket || suffix == "_sum" || suffix == "_count" } else { suffix.is_empty() };
        if !is_right || labels.contains_key("le") != is_bucket {
            return Err(format!("{name} is no series of a {kind}"));
        }
        if !self.series.insert(format!("{name} {labels:?}")) {
            return Err(format!("{name} {labels:?} comes twice"));
        }
        Ok(())
    }
}

fn sample(line: &str) -> Result<Line, String> {
    let end = line.find(['{', ' ']).ok_or("there is no number")?;
    let name = checked_name(&line[..end])?;
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), &line[end..]),
    };
    let number = rest.strip_prefix(' ').ok_or("no space comes before the number")?;
    let number = match number {
        "+Inf" => f64::INFINITY,
        number if number.starts_with(|char: char| char.is_ascii_digit() || char == '-') => {
            number.parse().map_err(|_| format!("{number:?} is no number"))?
        }
        _ => return Err(format!("{number:?} is no number")),
    };
    Ok(Line::Sample { name, labels, number })
}

/// Reads labels up to the brace that ends them, and returns what follows.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label has no value in quotes")?;
        let (value, after) = unescape(value, Some('"'))?;
        if labels.insert(checked_name(name)?, value).is_some() {
            return Err(format!("the label {name} comes twice"));
        }
        match after.chars().next() {
            Some(',') => rest = &after[1..],
            Some('}') => return Ok((labels, &after[1..])),
            _ => return Err(format!("neither a label nor a brace follows the label {name}")),
        }
    }
}

/// Reads a text up to a quote, and returns what follows it; without a quote, up to the end.
fn unescape(text: &str, quote: Option<char>) -> Result<(String, &str), String> {
    let mut read = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            char if Some(char) == quote => return Ok((read, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => read.push('\n'),
                Some((_, '\\')) => read.push('\\'),
                Some((_, '"')) if quote.is_some() => read.push('"'),
                other => return Err(format!("a backslash comes before {other:?}")),
            },
            char => read.push(char),
        }
    }
    if quote.is_some() { Err("a value has no end".into()) } else { Ok((read, "")) }
}

/// A name of a metric or a label.
fn checked_name(name: &str) -> Result<String, String> {
    let is_valid = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) || !name.chars().all(is_valid) {
        return Err(format!("{name:?} is no name"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_refuses_what_is_not_in_the_format() {
        let head = "# HELP m h\n# TYPE m counter\n";
        for bad in [
            "m 1\n",
            "# TYPE m counter\n",
            "# HELP m h\n# TYPE m count\n",
            &format!("{head}m 1"),
            &format!("{head}m x\n"),
            &format!("{head}m\n"),
            &format!("{head}m 1 2\n"),
            &format!("{head}m 1\nm 1\n"),
            &format!("{head}other 1\n"),
            &format!("{head}m_sum 1\n"),
            &format!("{head}m{{l=\"a\"b\"}} 1\n"),
            &format!("{head}m{{l=\"\\x\"}} 1\n"),
            &format!("{head}m{{l=\"a\",l=\"b\"}} 1\n"),
            &format!("{head}m{{1l=\"a\"}} 1\n"),
            &format!("{head}{head}m 1\n"),
            "# HELP m h\n# TYPE m histogram\nm 1\n",
            "# HELP m h\n# TYPE m histogram\nm_bucket 1\n",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse(&format!("{head}m{{l=\"a\"}} 1.5\nm{{l=\"b\"}} 2\n")).expect("it is valid").len(), 4);
    }
}
