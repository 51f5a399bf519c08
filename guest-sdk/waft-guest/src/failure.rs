//! Failures: how a task says that it could not do what it was asked for, and how it is told of others.

use std::{error::Error, fmt};

use serde::Serialize;
use serde_json::Value;

/// Why a task did not do what it was asked for, and whether trying again can help.
///
/// Any error becomes a transient failure by `?`, with the messages of its sources behind its own: whether trying again
/// helps, the task knows best, and it is the safer guess. Where it cannot help, say so:
///
/// ```
/// use waft_guest::prelude::*;
/// fn parse(port: &str) -> Result<u16, Failure> {
///     port.parse().map_err(|error| Failure::permanent(format!("{port:?} is no port: {error}")))
/// }
/// ```
// No `Error` itself: then no error could become one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    retryable: Retryable,
    message: String,
    details: Option<Value>,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retryable {
    /// It can: a service did not answer.
    Transient,
    /// It cannot: an input is wrong.
    Permanent,
}

impl Failure {
    /// A failure that another attempt may not meet. The message is one sentence for a person.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self { retryable: Retryable::Transient, message: message.into(), details: None }
    }

    /// A failure that every attempt would meet. The message is one sentence for a person.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { retryable: Retryable::Permanent, message: message.into(), details: None }
    }

    /// Adds what a program may want to know. Details that cannot be written as JSON are replaced by the reason.
    #[must_use]
    pub fn with_details(self, details: impl Serialize) -> Self {
        let details = serde_json::to_value(details).unwrap_or_else(|error| Value::String(error.to_string()));
        Self { details: Some(details), ..self }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retryable(&self) -> Retryable {
        self.retryable
    }

    /// The sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a program may want to know.
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

/// A failure as waft recorded it: the task's own, or what the host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFailure {
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// One sentence for a person.
    pub message: String,
    /// What a program may want to know besides.
    pub details: Option<Value>,
}

impl fmt::Display for RecordedFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.message)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What kind of failure was recorded.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum FailureKind {
            $($(#[$doc])* $variant,)+
            /// One that this SDK does not know yet, by its word.
            Other(String),
        }

        impl FailureKind {
            /// The kind's word, the same in files, JSON and logs.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for FailureKind {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }
    };
}

kinds! {
    /// The task says that trying again can help.
    Transient = "transient",
    /// The task says that trying again cannot help.
    Permanent = "permanent",
    /// The call outlived its timeout.
    Timeout = "timeout",
    /// The task asked for more memory than it was granted.
    Memory = "memory",
    /// The task panicked, divided by zero or overflowed its stack.
    Trap = "trap",
    /// The task left more output than it was granted.
    OutputLimit = "output-limit",
    /// What the task left is not what it promised.
    InvalidOutput = "invalid-output",
    /// A value was not there when the task started.
    MissingInput = "missing-input",
    /// The module could not be had, or is not what the flow took it for.
    Module = "module",
    /// The job killed its workers too often.
    Poison = "poison",
    /// The run was told to stop.
    Cancelled = "cancelled",
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
    fn a_kind_this_version_does_not_know_keeps_its_word() {
        assert_eq!(FailureKind::from("output-limit".to_owned()), FailureKind::OutputLimit);
        assert_eq!(FailureKind::from("eclipse".to_owned()).as_str(), "eclipse");
    }
}
