//! The schedules of runs that have not ended.

use serde::{Deserialize, Serialize};

use crate::{RunState, SkippedTriggers};

/// Which schedules to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct SchedulesQuery {
    /// Only schedules of this flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Only schedules of flows in this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The maximum number of runs to look into: 1 to 100; the default is 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only the runs behind those of an earlier page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of schedules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Schedules {
    /// The schedules of the runs of this page, those of the youngest run first. It may be empty although there is another page: the
    /// runs of a page may have no schedules.
    pub schedules: Vec<Schedule>,
    /// The runs of this page that cannot be read: their records are corrupt, or it takes too long now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// What to pass as `after` for the next page; left out at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A schedule of a run that has not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Schedule {
    /// The run that holds it.
    pub run: String,
    /// The flow of the run.
    pub flow: String,
    /// The state of the run. While the run is suspended, its schedules do not fire.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub state: RunState,
    /// The task that it fires.
    pub task: String,
    /// Its times, as a line in cron form.
    pub cron: String,
    /// The time zone of the line.
    pub zone: String,
    /// The next time. Left out if the schedule does not fire any more, or if the time is not computed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The missed times that will still fire, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<ScheduleBacklog>,
    /// The triggers of its task that have fired nothing, by reason: `missed`, `overlap` or `full`. If other schedules or notifications fire the
    /// task too, theirs count as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedTriggers>,
}

/// The missed times of a schedule that will still fire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ScheduleBacklog {
    /// The first of them.
    pub next: String,
    /// All of them are before this time. Left out if no time follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}
