//! Failures: those that a task returns, and those of other tasks that it receives.

use std::{error::Error, fmt};

use serde::Serialize;
use serde_json::Value;

/// Why a task failed, and whether a retry can help.
///
/// Any error becomes a transient failure by `?`, with the messages of its sources appended: this is the safer
/// assumption. If a retry cannot help, return a permanent failure:
///
/// ```
/// use waft_guest::prelude::*;
/// fn parse(port: &str) -> Result<u16, Failure> {
///     port.parse().map_err(|error| Failure::permanent(format!("{port:?} is not a port: {error}")))
/// }
/// ```
// It does not implement `Error`: otherwise no error could be converted by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    retryable: Retryable,
    message: String,
    details: Option<Value>,
}

/// Whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retryable {
    /// It can: a service did not answer.
    Transient,
    /// It cannot: an input is wrong.
    Permanent,
}

impl Failure {
    /// A failure that a retry may avoid. The message is one sentence for users.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self { retryable: Retryable::Transient, message: message.into(), details: None }
    }

    /// A failure of every attempt. The message is one sentence for users.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { retryable: Retryable::Permanent, message: message.into(), details: None }
    }

    /// Adds details for programs. Details that cannot be written as JSON are replaced by the reason.
    #[must_use]
    pub fn with_details(self, details: impl Serialize) -> Self {
        let details = serde_json::to_value(details).unwrap_or_else(|error| Value::String(error.to_string()));
        Self { details: Some(details), ..self }
    }

    /// Whether a retry can help.
    #[must_use]
    pub fn retryable(&self) -> Retryable {
        self.retryable
    }

    /// The sentence for users.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details for programs.
    #[must_use]
    pub fn details(&self) -> Option<&Value> {
        self.details.as_ref()
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::transient(message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// A failure as waft recorded it: the task's own, or one that the host detected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFailure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// One sentence for users.
    pub message: String,
    /// Details for programs.
    pub details: Option<Value>,
}

impl fmt::Display for RecordedFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.message)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The kind of a recorded failure.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum FailureKind {
            $($(#[$doc])* $variant,)+
            /// A kind that this SDK does not know, by its name.
            Other(String),
        }

        impl FailureKind {
            /// The name of the kind, the same in files, JSON and logs.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }
        }

        impl From<String> for FailureKind {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($name => Self::$variant,)+
                    _ => Self::Other(name),
                }
            }
        }
    };
}

kinds! {
    /// The task says that a retry can help.
    Transient = "transient",
    /// The task says that a retry cannot help.
    Permanent = "permanent",
    /// The call exceeded its timeout.
    Timeout = "timeout",
    /// The task requested more memory than its limit.
    Memory = "memory",
    /// The task panicked, divided by zero or overflowed its stack.
    Trap = "trap",
    /// The task produced more output than its limit.
    OutputLimit = "output-limit",
    /// The output of the task does not match its description.
    InvalidOutput = "invalid-output",
    /// A value was missing when the task started.
    MissingInput = "missing-input",
    /// The module could not be fetched, or differs from what the flow expects.
    Module = "module",
    /// The job killed its workers too often.
    Poison = "poison",
    /// The run was cancelled.
    Cancelled = "cancelled",
    /// The task tried what its flow does not ask for, or what the operator does not grant.
    Denied = "denied",
}

impl fmt::Display for FailureKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_transient_failure_with_the_messages_of_its_sources() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("could not read the port")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer("x".parse::<u16>().unwrap_err());
        let failure = Failure::from(error);
        assert_eq!(failure.retryable(), Retryable::Transient);
        assert_eq!(failure.message(), "could not read the port: invalid digit found in string");
    }

    #[test]
    fn an_unknown_kind_keeps_its_name() {
        assert_eq!(FailureKind::from("output-limit".to_owned()), FailureKind::OutputLimit);
        assert_eq!(FailureKind::from("eclipse".to_owned()).as_str(), "eclipse");
    }
}
