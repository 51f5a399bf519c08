//! Failures are data: the answer of a guest or of its limits. They are recorded and shown to retries.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Json, NodeName, Size, Value, Values};

/// The maximum length of a message, in bytes; longer ones are cut.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The maximum length of the details of a failure, in bytes; longer ones are dropped.
pub const MAX_DETAILS_BYTES: usize = 64 << 10;

/// The maximum length of the mark after a message that was cut, in bytes.
const MAX_CUT_MARK: usize = 64;

/// The details of a failure of kind `module` that another attempt cannot change.
const NOT_ADMITTED: &str = r#"{"retry":false}"#;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The guest reports that a retry can help.
    Transient,
    /// The guest reports that a retry cannot help.
    Permanent,
    /// The call exceeded its timeout.
    Timeout,
    /// The guest requested more memory than its limit.
    Memory,
    /// The guest trapped: it panicked, divided by zero, overflowed its stack. Or the process that called it was lost.
    Trap,
    /// The output of the guest exceeded its limit.
    OutputLimit,
    /// The output of the guest does not match its declaration.
    InvalidOutput,
    /// A value that some node provides was missing when the task started.
    MissingInput,
    /// The module was not available, or does not match the flow.
    Module,
    /// The job lost its workers as often as the delivery limit allows.
    Poison,
    /// The run was cancelled.
    Cancelled,
    /// The guest tried something that its flow did not ask for or that no operator grants.
    Denied,
}

impl FailureKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 12] = [
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
        Self::Denied,
    ];

    /// The kind as a word, the same in files, JSON and logs.
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
            Self::Denied => "denied",
        }
    }

    /// Whether another attempt could end differently, as far as the kind tells: [`Failure::may_retry`] decides.
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
            Self::Permanent | Self::Poison | Self::Cancelled | Self::Denied => false,
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
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| format!("{text:?} is not a failure kind"))
    }
}

/// The failure of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// One sentence for a person, at most [`MAX_MESSAGE_BYTES`] bytes and a mark.
    pub message: String,
    /// Additional details, for programs.
    pub details: Option<Json>,
}

impl Failure {
    /// The failure as a value, for failure listeners: an object of `task`, `kind`, `message`, and `details` where the guest
    /// gave any.
    #[must_use]
    pub fn as_value(&self, task: &NodeName) -> Value {
        let string = |text: &str| serde_json::Value::from(text).to_string();
        // The details stay in the guest's text form: a tree cannot represent every JSON document.
        let details = self.details.iter().map(|details| format!("\"details\":{},", details.as_str()));
        let text = format!(
            "{{{}\"kind\":{},\"message\":{},\"task\":{}}}",
            details.collect::<String>(),
            string(self.kind.as_str()),
            string(&self.message),
            string(task.as_str())
        );
        Value::Json(Json::parse(text).expect("an object of JSON texts is JSON"))
    }

    /// Creates the failure of a call whose module a worker does not admit. Another attempt does not help: the details say so,
    /// since other failures of the kind may be retried.
    #[must_use]
    pub fn not_admitted(message: impl Into<String>) -> Self {
        let details = Json::parse(NOT_ADMITTED).expect("the constant is JSON");
        Self { details: Some(details), ..Self::new(FailureKind::Module, message) }
    }

    /// Whether another attempt could end differently. Only a failure that rules this out itself stops a retry.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        let is_refusal = self.kind == FailureKind::Module
            && self.details.as_ref().is_some_and(|details| details.as_str() == NOT_ADMITTED);
        self.kind.may_retry() && !is_refusal
    }

    /// Creates a failure; a message that is too long is cut, with a mark.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: cut(message.into(), MAX_MESSAGE_BYTES), details: None }
    }

    /// Whether its message and its details are at most as long as those of any failure may be.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        let details = self.details.as_ref().map_or(0, |details| details.as_str().len());
        self.message.len() <= MAX_MESSAGE_BYTES + MAX_CUT_MARK && details <= MAX_DETAILS_BYTES
    }

    /// Cuts the message and drops the details, each where it is too long: the sender of a failure may not keep to the bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        if self.is_within_bounds() {
            return self;
        }
        let Self { kind, message, details } = self;
        let length = details.as_ref().map_or(0, |details| details.as_str().len());
        if length > MAX_DETAILS_BYTES {
            return Self::new(kind, without_details(&cut(message, MAX_MESSAGE_BYTES - 128), &too_long_details(length)));
        }
        Self { details, ..Self::new(kind, message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.message)
    }
}

/// Failures by the task that failed.
pub type Failures = BTreeMap<NodeName, Failure>;

/// The failures that one rollback receives: a bounded part, since a list may have as many failures as elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureSummary {
    /// The first failures by name, at most [`FailureSummary::MAX_FAILURES`]; long messages are cut, and long details left
    /// out.
    pub first: Failures,
    /// The total number of failures.
    pub total: u64,
}

impl FailureSummary {
    /// The maximum number of failures in one summary.
    pub const MAX_FAILURES: usize = 16;

    /// The maximum length of a message in a summary, in bytes, before it is cut; longer details are left out.
    pub const MAX_SUMMARY_MESSAGE_BYTES: usize = 2 * 1024;

    /// Summarizes failures.
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

/// The message of a failure whose details are dropped for a reason.
#[must_use]
pub fn without_details(message: &str, reason: &str) -> String {
    format!("{message} [its details are dropped: {reason}]")
}

/// Why details of this length are dropped.
#[must_use]
pub fn too_long_details(length: usize) -> String {
    format!("{length} bytes, the limit is {}", Size(MAX_DETAILS_BYTES as u64))
}

/// Cuts a text, with a mark, where it is longer than a maximum in bytes.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let length = text.len();
        text.truncate(text.floor_char_boundary(max));
        text.push_str(&format!("… [cut, {length} bytes in all]"));
    }
    text
}

/// The outcome of `apply`, as a rollback receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded and provided these values, by the module's names.
    Provided(Values),
    /// It failed.
    Failed(Failure),
    /// Its answer was lost: it may have had effects.
    Unknown,
}

impl Outcome {
    /// The values it provided, if it succeeded.
    #[must_use]
    pub fn provided(&self) -> Option<&Values> {
        match self {
            Self::Provided(provided) => Some(provided),
            Self::Failed(_) | Self::Unknown => None,
        }
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Provided(_) | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_16_kib_is_truncated() {
        let message = "ä".repeat(MAX_MESSAGE_BYTES / 2);
        assert_eq!(Failure::new(FailureKind::Trap, message.clone()).message, message);
        let cut = Failure::new(FailureKind::Trap, format!("x{message}")).message;
        assert!(cut.ends_with("… [cut, 16385 bytes in all]"), "{}", &cut[cut.len() - 40..]);
    }

    #[test]
    fn a_failure_beyond_its_bounds_is_cut() {
        let details = |length: usize| Some(Json::parse(format!("\"{}\"", "d".repeat(length - 2))).unwrap());
        let failure = |message: usize, length| Failure {
            kind: FailureKind::Transient,
            message: "m".repeat(message),
            details: details(length),
        };
        let longest = failure(MAX_MESSAGE_BYTES, MAX_DETAILS_BYTES);
        assert_eq!(longest.clone().bounded(), longest);
        let cut = Failure { details: None, ..Failure::new(FailureKind::Trap, "m".repeat(2 * MAX_MESSAGE_BYTES)) };
        assert_eq!(cut.clone().bounded(), cut, "a message that was cut is not cut again");
        for (message, length) in [(60 << 20, 100), (100, 60 << 20), (60 << 20, 60 << 20)] {
            let bounded = failure(message, length).bounded();
            assert!(bounded.is_within_bounds());
            assert_eq!(bounded.details.is_some(), length == 100);
            assert_eq!(bounded.message.contains("its details are dropped: 62914560 bytes"), length != 100);
        }
    }

    #[test]
    fn a_module_that_is_not_admitted_is_not_retried() {
        let refused = Failure::not_admitted("no rule");
        assert_eq!((refused.kind, refused.may_retry()), (FailureKind::Module, false));
        assert!(Failure::new(FailureKind::Module, "no rule").may_retry());
        // A guest chooses its details, and cannot choose this kind.
        let of_guest = Failure { kind: FailureKind::Transient, ..refused };
        assert!(of_guest.may_retry());
        assert!(!Failure::new(FailureKind::Permanent, "no").may_retry());
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
