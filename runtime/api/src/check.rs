//! The health of a server, and the results of its checks.

use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;
#[cfg(feature = "openapi")]
use crate::schema;

/// The answer of a server that is running.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// The results of a server's checks of all its dependencies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Checks {
    /// The version of the server.
    pub version: String,
    /// When the checks ended, by the server's clock, as an RFC 3339 time.
    pub at: String,
    /// The checks, always in the same order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Check {
    /// The name of the check: `broker`, `broker-permissions`, `queues` and others. A name may occur several times, and later
    /// versions add some.
    pub check: String,
    /// The result.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Outcome))]
    pub outcome: Outcome,
    /// The details of the result.
    pub detail: String,
    /// What to do next, if there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

open_enum! {
    /// The result of a check.
    Outcome {
        /// The checked part works.
        Ok = "ok",
        /// It was not checked: it does not apply, or something that it needs has failed.
        Skipped = "skipped",
        /// waft works, but a person should look at this.
        Warn = "warn",
        /// The checked part does not work.
        Fail = "fail",
    }
}

impl Check {
    /// A check that passed.
    #[must_use]
    pub fn ok(check: &str, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Ok, detail: detail.into(), advice: None }
    }

    /// A check that was not made, and why.
    #[must_use]
    pub fn skipped(check: &str, reason: impl Into<String>) -> Self {
        let detail = format!("not checked: {}", reason.into());
        Self { check: check.to_owned(), outcome: Outcome::Skipped, detail, advice: None }
    }

    /// A check that found something that a person should look at, and what to do about it.
    #[must_use]
    pub fn warn(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (detail, advice) = (detail.into(), Some(advice.into()));
        Self { check: check.to_owned(), outcome: Outcome::Warn, detail, advice }
    }

    /// A check that failed, and what to do about it.
    #[must_use]
    pub fn fail(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (detail, advice) = (detail.into(), Some(advice.into()));
        Self { check: check.to_owned(), outcome: Outcome::Fail, detail, advice }
    }
}
