//! The results of the checks of a waft.

use serde::{Deserialize, Serialize};

/// What a server found when it looked at all that it stands on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Checks {
    /// The version of waft that looked.
    pub version: String,
    /// When it had looked, by its clock, as RFC 3339 has it.
    pub at: String,
    /// The checks, in an order that stays.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Check {
    /// What was looked at: `broker`, `broker-permissions`, `queues` and their like. A name may come several times, and later
    /// versions add some.
    pub check: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do next, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is well.
    Ok,
    /// It was not checked, and why: it does not apply, or what it needs has failed.
    Skipped,
    /// waft works, and somebody should look.
    Warn,
    /// Something does not work.
    Fail,
}

impl Check {
    /// What is well.
    #[must_use]
    pub fn ok(check: &str, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Ok, detail: detail.into(), advice: None }
    }

    /// What was not checked, and why.
    #[must_use]
    pub fn skipped(check: &str, reason: impl Into<String>) -> Self {
        let detail = format!("not checked: {}", reason.into());
        Self { check: check.to_owned(), outcome: Outcome::Skipped, detail, advice: None }
    }

    /// What somebody should look at, and what to do.
    #[must_use]
    pub fn warn(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (detail, advice) = (detail.into(), Some(advice.into()));
        Self { check: check.to_owned(), outcome: Outcome::Warn, detail, advice }
    }

    /// What does not work, and what to do.
    #[must_use]
    pub fn fail(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let (detail, advice) = (detail.into(), Some(advice.into()));
        Self { check: check.to_owned(), outcome: Outcome::Fail, detail, advice }
    }
}
