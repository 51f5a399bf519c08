//! The timeline of a run: its attempts with their times.

use serde::{Deserialize, Serialize};

use crate::{Action, Failure, open_enum::open_enum};

/// Attempts of a run, in the order of their start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Timeline {
    /// The run's id.
    pub run: String,
    /// The attempts that match the query: those that started last, the oldest of them first.
    pub attempts: Vec<TimelineAttempt>,
    /// The number of attempts that match the query and started before the first shown one.
    pub earlier: u64,
    /// The number of the run's oldest records that were deleted. Their attempts are not known any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trimmed_records: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An attempt of a task or an element of its list, or of a retry controller, with its times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct TimelineAttempt {
    /// The task; `task[number]` for an element of its list.
    pub task: String,
    /// The firing, from 1.
    pub firing: u64,
    /// The attempt, from 1.
    pub attempt: u32,
    /// `apply` or `rollback`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: Action,
    /// When it was sent to the workers, or began to wait, as an RFC 3339 time.
    pub started_at: String,
    /// When a worker reported that it works on the call. Short calls are not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leased_at: Option<String>,
    /// When it ended; left out while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How it ended: `success remembered failure rolled-back rollback-failure lost`; left out while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub outcome: Option<AttemptOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The seconds from its end to the next attempt, if it failed and another one follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<f64>,
    /// The worker, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The address of the page that shows its span, if the operator has said where traces are shown. An attempt that waits for a
    /// notification has no span: the page shows its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
}

open_enum! {
    /// How an attempt ended.
    AttemptOutcome {
        /// Its apply succeeded.
        Success = "success",
        /// Its apply took a remembered result. No guest was called.
        Remembered = "remembered",
        /// Its apply failed.
        Failure = "failure",
        /// Its rollback succeeded.
        RolledBack = "rolled-back",
        /// Its rollback failed.
        RollbackFailure = "rollback-failure",
        /// Its worker was lost.
        Lost = "lost",
    }
}

/// Which attempts of a run to show. All given conditions must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct TimelineQuery {
    /// Only attempts of this task and of the elements of its list; `task[number]` for those of one element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Only attempts in this firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firing: Option<u64>,
    /// Only attempts that started before this time, in RFC 3339 format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The maximum number of attempts: 1 to 10000; the default is 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl TimelineQuery {
    /// Selects attempts of a task, and of the elements of its list.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Selects attempts in a firing.
    #[must_use]
    pub fn firing(mut self, firing: u64) -> Self {
        self.firing = Some(firing);
        self
    }

    /// Selects attempts that started before a time, in RFC 3339 format.
    #[must_use]
    pub fn before(mut self, time: impl Into<String>) -> Self {
        self.before = Some(time.into());
        self
    }

    /// Sets the maximum number of attempts, from 1 to 10000.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}
