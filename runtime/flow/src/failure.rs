//! Failures are data: what a guest or its limits answered. They are recorded and shown to retries.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Json, NodeName, Value, Values};

/// The longest message that is kept whole, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The guest says that trying again can help.
    Transient,
    /// The guest says that trying again cannot help.
    Permanent,
    /// The call outlived its timeout.
    Timeout,
    /// The guest asked for more memory than it was granted.
    Memory,
    /// The guest trapped: it panicked, divided by zero, overflowed its stack.
    Trap,
    /// The guest left more output than it was granted.
    OutputLimit,
    /// What the guest left is not what it promised.
    InvalidOutput,
    /// A value that some node provides was not there when the task started.
    MissingInput,
    /// The module could not be had, or is not what the flow took it for.
    Module,
    /// The job killed its workers as often as the delivery limit allows.
    Poison,
    /// The run was told to stop.
    Cancelled,
}

impl FailureKind {
    /// Every kind, in the order of the design.
    pub const ALL: [Self; 11] = [
        Self::Transient,
        Self::Permanent,
        Self::Timeout,
        Self::Memory,
        Self::Trap,
        Self::OutputLimit,
        Self::InvalidOutput,
        Self::MissingInput,
        Self::Module,
        Self::Poison,
        Self::Cancelled,
    ];

    /// The kind's word, the same in files, JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::OutputLimit => "output-limit",
            Self::InvalidOutput => "invalid-output",
            Self::MissingInput => "missing-input",
            Self::Module => "module",
            Self::Poison => "poison",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether another attempt could end otherwise. Only what says by itself that it cannot stops a retry.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        match self {
            Self::Transient
            | Self::Timeout
            | Self::Memory
            | Self::Trap
            | Self::OutputLimit
            | Self::InvalidOutput
            | Self::MissingInput
            | Self::Module => true,
            Self::Permanent | Self::Poison | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for FailureKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not a failure kind"))
    }
}

/// Why a call did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// One sentence for a person, at most [`MAX_MESSAGE_BYTES`] bytes and a mark.
    pub message: String,
    /// What a program may want to know besides.
    pub details: Option<Json>,
}

impl Failure {
    /// The failure as a value, for those who listen to it: an object of `task`, `kind`, `message`, and `details` where the
    /// guest gave any.
    #[must_use]
    pub fn as_value(&self, task: &NodeName) -> Value {
        let string = |text: &str| serde_json::Value::from(text).to_string();
        // The details stay the text that the guest gave: a tree cannot hold all that JSON may.
        let details = self.details.iter().map(|details| format!("\"details\":{},", details.as_str()));
        let text = format!(
            "{{{}\"kind\":{},\"message\":{},\"task\":{}}}",
            details.collect::<String>(),
            string(self.kind.as_str()),
            string(&self.message),
            string(task.as_str())
        );
        Value::Json(Json::parse(text).expect("an object of JSON texts is one"))
    }

    /// A failure with a message that is cut, with a mark, where it is too long.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: cut(message.into(), MAX_MESSAGE_BYTES), details: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.message)
    }
}

/// Failures by the task that failed.
pub type Failures = BTreeMap<NodeName, Failure>;

/// The failures that one rollback is told of: a bounded part of what may be as many as a list has elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureSummary {
    /// The first of them by name, at most [`FailureSummary::MOST`]; long messages are cut, and long details left out.
    pub first: Failures,
    /// How many there are.
    pub total: u64,
}

impl FailureSummary {
    /// The most failures in one.
    pub const MAX_FAILURES: usize = 16;

    /// The longest message in one, in bytes, before it is cut; longer details are left out.
    pub const MAX_SUMMARY_MESSAGE_BYTES: usize = 2 * 1024;

    /// Sums failures up.
    #[must_use]
    pub fn of(failures: &Failures) -> Self {
        let short = |failure: &Failure| {
            let details =
                failure.details.clone().filter(|details| details.as_str().len() <= Self::MAX_SUMMARY_MESSAGE_BYTES);
            Failure {
                kind: failure.kind,
                message: cut(failure.message.clone(), Self::MAX_SUMMARY_MESSAGE_BYTES),
                details,
            }
        };
        let first = failures.iter().take(Self::MAX_FAILURES).map(|(task, failure)| (task.clone(), short(failure)));
        Self { first: first.collect(), total: failures.len() as u64 }
    }
}

/// A text that is cut, with a mark, where it is longer than so many bytes.
fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(longest));
        text.push_str(&format!("… [cut, {whole} bytes in all]"));
    }
    text
}

/// What `apply` left behind, as a rollback is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded and left these values, by the names its module gives them.
    Provided(Values),
    /// It failed.
    Failed(Failure),
    /// Its answer was lost: it may have happened.
    Unknown,
}

impl Outcome {
    /// The values it left, if it succeeded.
    #[must_use]
    pub fn provided(&self) -> Option<&Values> {
        match self {
            Self::Provided(provided) => Some(provided),
            Self::Failed(_) | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_16_kib_is_truncated() {
        let whole = "ä".repeat(MAX_MESSAGE_BYTES / 2);
        assert_eq!(Failure::new(FailureKind::Trap, whole.clone()).message, whole);
        let cut = Failure::new(FailureKind::Trap, format!("x{whole}")).message;
        assert!(cut.ends_with("… [cut, 16385 bytes in all]"), "{}", &cut[cut.len() - 40..]);
    }

    #[test]
    fn a_failure_summary_holds_sixteen_failures_and_the_total() {
        let details = Json::parse(format!("\"{}\"", "d".repeat(FailureSummary::MAX_SUMMARY_MESSAGE_BYTES))).unwrap();
        let failure = Failure { details: Some(details), ..Failure::new(FailureKind::Permanent, "m".repeat(16_000)) };
        let each: NodeName = "each".parse().unwrap();
        let failures: Failures = (0..1_000).map(|number| (each.element(number), failure.clone())).collect();
        let summary = FailureSummary::of(&failures);
        assert_eq!((summary.first.len(), summary.total), (16, 1_000));
        let longest = summary.first.values().map(|failure| failure.message.len()).max().unwrap();
        assert!(longest < FailureSummary::MAX_SUMMARY_MESSAGE_BYTES + 50, "{longest}");
        assert!(summary.first.values().all(|failure| failure.details.is_none()));
        let short = Failure::new(FailureKind::Timeout, "too slow");
        let few = Failures::from([(each, short.clone())]);
        assert_eq!(FailureSummary::of(&few), FailureSummary { first: few, total: 1 });
    }

    #[test]
    fn every_failure_kind_round_trips_through_its_name() {
        for kind in FailureKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
