//! Writes the text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::{
    cells::{Counter, Histogram},
    names::Definition,
};

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes metrics.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    text: String,
}

impl Writer {
    /// Begins a metric. Its samples follow.
    pub(crate) fn family<'a>(&'a mut self, definition: &'a Definition) -> Family<'a> {
        let Definition { name, kind, help, labels: _ } = definition;
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, false);
        let _ = writeln!(self.text, "\n# TYPE {name} {}", kind.as_str());
        Family { text: &mut self.text, definition }
    }

    /// Writes a metric that has one number.
    pub(crate) fn number(&mut self, definition: &Definition, number: f64) {
        self.family(definition).number(&[], number);
    }

    /// Writes a histogram without labels.
    pub(crate) fn histogram(&mut self, definition: &Definition, histogram: &Histogram) {
        self.family(definition).histogram(&[], histogram);
    }

    /// Writes counters with one label, which has these values.
    pub(crate) fn counters<const COUNT: usize>(
        &mut self,
        definition: &Definition,
        values: [&str; COUNT],
        counters: &[Counter; COUNT],
    ) {
        let mut family = self.family(definition);
        values.iter().zip(counters).for_each(|(value, counter)| family.count(&[value], counter.get()));
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// The samples of a metric.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    definition: &'a Definition,
}

impl Family<'_> {
    /// Writes the number of a series, whose labels have these values.
    pub(crate) fn number(&mut self, values: &[&str], number: f64) {
        self.sample("", values, None, number);
    }

    /// Writes the count of a series.
    pub(crate) fn count(&mut self, values: &[&str], count: u64) {
        // Prometheus reads all numbers as floats.
        self.number(values, count as f64);
    }

    /// Writes all series of a histogram.
    pub(crate) fn histogram(&mut self, values: &[&str], histogram: &Histogram) {
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            all = count;
            self.sample("_bucket", values, Some(bound), count as f64);
        }
        self.sample("_sum", values, None, histogram.sum());
        self.sample("_count", values, None, all as f64);
    }

    fn sample(&mut self, suffix: &str, values: &[&str], bound: Option<f64>, number: f64) {
        debug_assert_eq!(values.len(), self.definition.labels.len(), "each label has a value");
        self.text.push_str(self.definition.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (label, value) in self.definition.labels.iter().zip(values) {
            let _ = write!(self.text, "{separator}{label}=\"");
            escape(self.text, value, true);
            self.text.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.text, "{separator}le=\"{}\"", Number(bound));
            separator = ',';
        }
        let end = if separator == ',' { "} " } else { " " };
        let _ = writeln!(self.text, "{end}{}", Number(number));
    }
}

/// A number as the format writes it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => out.write_str("+Inf"),
            f64::NEG_INFINITY => out.write_str("-Inf"),
            number if number.is_nan() => out.write_str("NaN"),
            number => write!(out, "{number}"),
        }
    }
}

fn escape(text: &mut String, value: &str, is_label: bool) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_label => text.push_str("\\\""),
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Line, names, parse};

    #[test]
    fn hostile_values_are_escaped() {
        let hostile = "a\"b\\c\nd} 1\nwaft_build_info{version=\"x\"} 2\n# TYPE é";
        let mut writer = Writer::default();
        writer.family(&names::BUILD_INFO).number(&[hostile], 1.0);
        let text = writer.finish();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(r#"version="a\"b\\c\nd} 1\nwaft_build_info{version=\"x\"} 2\n# TYPE é"} 1"#), "{text}");
        let Some(Line::Sample { labels, number, .. }) = parse(&text).expect("it is valid").pop() else {
            panic!("{text}")
        };
        assert_eq!((labels["version"].as_str(), number), (hostile, 1.0));
    }
}
