//! One span: finished and on its way to the collector, or still open.

use std::time::{SystemTime, UNIX_EPOCH};

use flow::Timestamp;

use crate::{SpanContext, Traces};

/// The maximum length of a text in a span, in bytes. Names of flows and tasks are shorter.
const MAX_TEXT_BYTES: usize = 256;

/// The maximum number of attributes of a span. With the bound of a text, the queue of spans has a bound in bytes.
const MAX_ATTRIBUTES: usize = 24;

/// The role of a span, as OpenTelemetry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within waft.
    Internal,
    /// A request to another process, whose answer is waited for.
    Client,
    /// A message is sent.
    Producer,
    /// A message is handled.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A truth value.
    Flag(bool),
}

impl From<String> for Value {
    fn from(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<SpanContext>,
    /// A span of another trace that this one belongs to.
    pub(crate) link: Option<SpanContext>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// In nanoseconds since 1970, like the end.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) has_failed: bool,
}

impl Span {
    /// A span that begins and ends at a time.
    pub(crate) fn at(context: SpanContext, kind: Kind, name: &str, at: u64) -> Self {
        let name = name[..name.floor_char_boundary(MAX_TEXT_BYTES)].to_owned();
        let (parent, link, attributes, has_failed) = (None, None, Vec::new(), false);
        Self { context, parent, link, name, kind, start: at, end: at, attributes, has_failed }
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if self.attributes.len() < MAX_ATTRIBUTES {
            self.attributes.push((key, value.into()));
        }
    }

    /// Marks the span as failed. `kind` is one of a few words, never a message.
    pub fn fail(&mut self, kind: &str) {
        self.has_failed = true;
        self.set("error.type", kind);
    }
}

/// A span that is open; it ends when it is dropped. Without a trace it is nothing, and its methods do nothing.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct ActiveSpan(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    traces: &'static Traces,
    span: Span,
}

impl ActiveSpan {
    pub(crate) fn new(traces: &'static Traces, span: Span) -> Self {
        Self(Some(Box::new(Open { traces, span })))
    }

    /// What refers to the span; `None` if it is nothing.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|open| open.span.context)
    }

    /// Adds attributes. If the span is nothing, the function is not called.
    pub fn describe(&mut self, describe: impl FnOnce(&mut Span)) {
        if let Some(open) = &mut self.0 {
            describe(&mut open.span);
        }
    }

    /// Marks the span as failed. `kind` is one of a few words, never a message.
    pub fn fail(&mut self, kind: &str) {
        self.describe(|span| span.fail(kind));
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let Open { traces, mut span } = *open;
            // The clock may have been set back.
            span.end = now().max(span.start);
            traces.send(span);
        }
    }
}

/// The time, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    nanoseconds(SystemTime::now())
}

pub(crate) fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of a record, in nanoseconds since 1970.
pub(crate) fn of_record(at: Timestamp) -> u64 {
    at.as_micros().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_bounded_whatever_is_put_into_it() {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let long = "ä".repeat(1 << 20);
        let mut span = Span::at(context, Kind::Internal, &long, 1);
        for _ in 0..1_000 {
            span.set("key", long.clone());
            span.fail(&long);
        }
        assert_eq!(span.name.len(), MAX_TEXT_BYTES);
        assert_eq!(span.attributes.len(), MAX_ATTRIBUTES);
        let is_bounded = |value: &Value| matches!(value, Value::Text(text) if text.len() == MAX_TEXT_BYTES);
        assert!(span.attributes.iter().all(|(_, value)| is_bounded(value)));
    }

    #[test]
    fn a_span_that_is_nothing_does_nothing() {
        let mut span = ActiveSpan::default();
        span.describe(|_| panic!("it is not called"));
        span.fail("timeout");
        assert_eq!(span.context(), None);
    }
}
