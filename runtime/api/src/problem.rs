//! Refusals: problem details, and the diagnostics of a flow.

use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

/// Why a request was refused, in the format of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Problem {
    /// The kind of problem, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The details of this problem.
    pub detail: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Every error and warning about the flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

open_enum! {
    /// Whether a diagnostic prevents the flow from running.
    Severity {
        /// The flow cannot run.
        Error = "error",
        /// The flow can run, but probably not as intended.
        Warning = "warning",
    }
}

impl From<flow::Severity> for Severity {
    fn from(severity: flow::Severity) -> Self {
        match severity {
            flow::Severity::Error => Self::Error,
            flow::Severity::Warning => Self::Warning,
        }
    }
}

/// An error in a flow, or a warning about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Diagnostic {
    /// `error` or `warning`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of the flow file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Its start and end in the file, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<usize>>, min_items = 2, max_items = 2))]
    pub span: Option<(usize, usize)>,
}

impl Problem {
    /// The error on one line: the kind of the problem, and its detail.
    #[must_use]
    pub fn message(&self) -> String {
        // "There is no run r" repeats "there is no such run", and is more specific.
        if self.title.starts_with("there is ") {
            return self.detail.clone();
        }
        format!("{}: {}", self.title, self.detail)
    }
}
