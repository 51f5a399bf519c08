//! The ids of traces and spans, and the header of W3C Trace Context that names them.
//!
//! The ids of what an engine traces are hashes of names: an engine that takes a run over continues its trace, and knows the ids of
//! spans that another one has sent.

use std::{fmt, str::FromStr};

use flow::{CallId, Firing, RunId};

/// The id of a trace. It is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span in its trace. It is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// A span, as others refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub span: SpanId,
    /// Whether it is recorded, and so are the spans below it.
    pub sampled: bool,
}

/// A text is no header `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of W3C Trace Context, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct InvalidTraceparent;

impl TraceId {
    /// The trace of a run, unless its submitter has named another one.
    #[must_use]
    pub fn of_run(run: &str) -> Self {
        Self(derive("trace of a run", &[run]))
    }

    /// The trace of one firing of a run that may fire more than once.
    pub(crate) fn of_firing(run: &RunId, firing: Firing) -> Self {
        Self(derive("trace of a firing", &[run.as_str(), &firing.to_string()]))
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SpanId {
    /// The span of a run.
    pub(crate) fn of_run(run: &RunId) -> Self {
        Self(derive("span of a run", &[run.as_str()]))
    }

    /// The span of a firing.
    pub(crate) fn of_firing(run: &RunId, firing: Firing) -> Self {
        Self(derive("span of a firing", &[run.as_str(), &firing.to_string()]))
    }

    /// The span of an attempt.
    pub(crate) fn of_attempt(call: &CallId) -> Self {
        Self(derive("span of an attempt", &[&call.to_string()]))
    }

    /// One of the spans that a process begins itself. The seed is different in each process.
    pub(crate) fn of_process(seed: &str, number: u64) -> Self {
        Self(derive("span of a process", &[seed, &number.to_string()]))
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// A hash of texts. The lengths keep texts apart that are equal once they are joined.
fn derive<const LENGTH: usize>(what: &str, parts: &[&str]) -> [u8; LENGTH] {
    let mut hasher = blake3::Hasher::new();
    for part in [what].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut id = [0; LENGTH];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..LENGTH]);
    if id == [0; LENGTH] {
        id[0] = 1;
    }
    id
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanContext {
    /// Writes the header `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for SpanContext {
    type Err = InvalidTraceparent;

    /// Reads the header `traceparent`. Of a later version, the parts of version 0 are read.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceparent);
        let [version]: [u8; 1] = digits(part()?)?;
        let (trace, span) = (digits(part()?)?, digits(part()?)?);
        let [flags]: [u8; 1] = digits(part()?)?;
        let has_more = parts.next().is_some();
        let is_valid = version != 0xff && !(version == 0 && has_more) && trace != [0; 16] && span != [0; 8];
        if is_valid {
            Ok(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & 1 == 1 })
        } else {
            Err(InvalidTraceparent)
        }
    }
}

/// Reads as many bytes in hexadecimal, in lower case as the standard wants them.
fn digits<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH], InvalidTraceparent> {
    let mut bytes = [0; LENGTH];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if is_lower => Ok(bytes),
        Ok(()) | Err(_) => Err(InvalidTraceparent),
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt};

    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        let context: SpanContext = TRACEPARENT.parse().unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), TRACEPARENT);
        let unsampled = TRACEPARENT.replace("-01", "-00");
        assert_eq!(unsampled.parse::<SpanContext>().unwrap().to_string(), unsampled);
    }

    #[test]
    fn of_a_later_version_the_known_parts_are_read() {
        let later = format!("{}-more-to-come", TRACEPARENT.replacen("00-", "01-", 1));
        assert_eq!(later.parse::<SpanContext>().unwrap().to_string(), TRACEPARENT);
        // Only the lowest bit of the flags is known.
        assert!(TRACEPARENT.replace("-01", "-ff").parse::<SpanContext>().unwrap().sampled);
    }

    #[test]
    fn other_texts_are_no_traceparent() {
        let zero_trace = TRACEPARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = TRACEPARENT.replace("00f067aa0ba902b7", &"0".repeat(16));
        let (longer, upper) = (format!("{TRACEPARENT}-00"), TRACEPARENT.to_uppercase());
        let forbidden = TRACEPARENT.replacen("00-", "ff-", 1);
        let texts: [&str; 9] =
            ["", "00", "00-ä-ö-ü", &TRACEPARENT[1..], &longer, &upper, &forbidden, &zero_trace, &zero_span];
        for text in texts {
            assert_eq!(text.parse::<SpanContext>(), Err(InvalidTraceparent), "{text:?}");
        }
    }

    #[test]
    fn ids_follow_from_names_and_differ_for_each() {
        let run: RunId = "r".parse().unwrap();
        assert_eq!(TraceId::of_run("r"), TraceId::of_run("r"));
        // An engine of another version continues the trace of a run, so these bytes never change.
        assert_eq!(TraceId::of_run("r").to_string().len(), 32);
        let call = |attempt, action| CallId {
            run: run.clone(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::new(attempt),
            action,
        };
        let spans = [
            SpanId::of_run(&run),
            SpanId::of_firing(&run, Firing::FIRST),
            SpanId::of_firing(&run, Firing::new(2)),
            SpanId::of_attempt(&call(1, Action::Apply)),
            SpanId::of_attempt(&call(1, Action::Rollback)),
            SpanId::of_attempt(&call(2, Action::Apply)),
            SpanId::of_process("seed", 1),
            SpanId::of_process("seed1", 1),
        ];
        for (index, span) in spans.iter().enumerate() {
            assert!(!spans[..index].contains(span), "{index}");
        }
        let traces = [TraceId::of_run("r"), TraceId::of_firing(&run, Firing::FIRST), TraceId::of_run("r1")];
        assert!(traces[0] != traces[1] && traces[1] != traces[2] && traces[0] != traces[2]);
    }
}
