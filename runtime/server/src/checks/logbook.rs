//! Checks whether the logbook can be reached and written, its schema, and its database's clock.

use std::{sync::Arc, time::Duration};

use ::logbook::{ClockReading, ExistingLogbook, Inspection, Logbook, OpenError};
use api::Check;
use flow::RunId;

use super::{
    Locations, RunningServer,
    clock::{self, Reading},
    within,
};
use crate::problem::chain;

/// The time limit of connecting to the database and querying it.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(8);

/// The logbook and what the check found.
#[derive(Default)]
pub(super) struct LogbookCheck {
    pub(super) checks: Vec<Check>,
    /// The logbook for further checks; `None` when it cannot be read.
    pub(super) logbook: Option<Arc<dyn Logbook>>,
    found: Option<ExistingLogbook>,
}

impl LogbookCheck {
    /// Whether a process holds the lock of a run; `None` where this is unknown.
    pub(super) async fn is_run_locked(&self, run: &RunId) -> Option<bool> {
        self.found.as_ref()?.is_run_locked(run).await
    }
}

/// Checks the logbook.
pub(super) async fn inspect(locations: &Locations, running: Option<&RunningServer>) -> LogbookCheck {
    let logbook = running.map(|running| running.logbook.clone());
    let inspection = match within(INSPECT_TIMEOUT, ::logbook::inspect(&locations.logbook)).await {
        Some(Ok(inspection)) => inspection,
        Some(Err(error)) => return LogbookCheck { checks: vec![unusable(&error)], logbook, found: None },
        None => {
            let detail = format!("it has not answered for {} seconds", INSPECT_TIMEOUT.as_secs());
            let advice =
                "see whether its database runs and takes connections, and whether something holds a lock on it";
            return LogbookCheck { checks: vec![Check::fail("logbook", detail, advice)], logbook, found: None };
        }
    };
    match inspection {
        Inspection::Memory => {
            let check = match running {
                Some(_) => Check::warn(
                    "logbook",
                    "it is in memory: its runs end with the process",
                    "name a file or a database with --logbook",
                ),
                None => Check::skipped("logbook", "a logbook in memory belongs to another process"),
            };
            LogbookCheck { checks: vec![check], logbook, found: None }
        }
        Inspection::Absent { place, write_error } => {
            LogbookCheck { checks: vec![absent(&place, write_error)], logbook, found: None }
        }
        Inspection::Existing(found) => {
            let mut checks = vec![check_found(&found)];
            checks.extend(found.clock.map(|reading| clock_of(&reading)));
            // Runs are read over the engine's own logbook, so that the check shows if that one hangs.
            LogbookCheck { checks, logbook: logbook.or_else(|| found.logbook()), found: Some(found) }
        }
    }
}

fn clock_of(reading: &ClockReading) -> Check {
    let ClockReading { sent_at, shown, received_at } = *reading;
    let reading = Reading { sent_at, shown, resolution: Duration::ZERO, received_at };
    clock::check("logbook-clock", "the database", &reading)
}

fn absent(place: &str, write_error: Option<String>) -> Check {
    match write_error {
        None => Check::warn(
            "logbook",
            format!("there is none at {place} yet"),
            "the first `waft run` or `waft serve` creates it; or name another one with --logbook or WAFT_LOGBOOK",
        ),
        Some(reason) => Check::fail(
            "logbook",
            format!("there is none at {place}, and it cannot be created: {reason}"),
            "name another place with --logbook or WAFT_LOGBOOK, or let this user write there",
        ),
    }
}

fn check_found(found: &ExistingLogbook) -> Check {
    let ExistingLogbook { place, schema, known, .. } = found;
    if let Some(reason) = &found.write_error {
        let detail = format!("{place} can be read (schema {schema}), but not written: {reason}");
        return Check::fail(
            "logbook",
            detail,
            "let this user write it; without that, runs record nothing and send nothing",
        );
    }
    if schema < known {
        let detail = format!("{place} has schema {schema}, and this waft migrates it to {known} when it opens it");
        let advice = "back it up, and start this waft; older ones cannot use it afterwards";
        return Check::warn("logbook", detail, advice);
    }
    Check::ok("logbook", format!("{place} has schema {schema}, this waft's, and can be written"))
}

fn unusable(error: &OpenError) -> Check {
    let advice = match error {
        OpenError::Address { .. } => "write sqlite:PATH, postgres://user:password@host/database, or memory:",
        OpenError::Newer { .. } => "upgrade this waft to the version of those that wrote it, or name another logbook",
        OpenError::Damaged { .. } => "name the right one with --logbook or WAFT_LOGBOOK, or restore it from a backup",
        OpenError::Unavailable { .. } => {
            "see whether it is there and this user may read it: a file's owner, or a database's host, user and password"
        }
        OpenError::Locked { .. } => "stop the other waft, or let both share a broker",
    };
    Check::fail("logbook", chain(error), advice)
}
