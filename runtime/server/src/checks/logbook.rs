//! Checks whether the logbook can be reached and written, its schema, and its database's clock.

use std::{sync::Arc, time::Duration};

use ::logbook::{ClockReading, Found, Inspection, Logbook, OpenError};
use client::api::Check;
use flow::RunId;

use super::{
    Live, Places,
    clock::{self, Reading},
    within,
};
use crate::problem::chain;

/// The time limit of connecting to the database and querying it.
const LOOKING: Duration = Duration::from_secs(8);

/// The logbook and what the check found.
#[derive(Default)]
pub(super) struct Logged {
    pub(super) checks: Vec<Check>,
    /// The logbook for further checks; `None` when it cannot be read.
    pub(super) logbook: Option<Arc<dyn Logbook>>,
    found: Option<Found>,
}

impl Logged {
    /// Whether a process holds the lock of a run; `None` where this is unknown.
    pub(super) async fn is_run_locked(&self, run: &RunId) -> Option<bool> {
        self.found.as_ref()?.is_run_locked(run).await
    }
}

/// Checks the logbook.
pub(super) async fn inspect(places: &Places, live: Option<&Live>) -> Logged {
    let logbook = live.map(|live| live.logbook.clone());
    let looked = match within(LOOKING, ::logbook::inspect(&places.logbook)).await {
        Some(Ok(looked)) => looked,
        Some(Err(error)) => return Logged { checks: vec![unusable(&error)], logbook, found: None },
        None => {
            let detail = format!("it has not answered for {} seconds", LOOKING.as_secs());
            let advice =
                "see whether its database runs and takes connections, and whether something holds a lock on it";
            return Logged { checks: vec![Check::fail("logbook", detail, advice)], logbook, found: None };
        }
    };
    match looked {
        Inspection::Memory => {
            let check = match live {
                Some(_) => Check::warn(
                    "logbook",
                    "it is in memory: its runs end with the process",
                    "name a file or a database with --logbook",
                ),
                None => Check::skipped("logbook", "one in memory is nobody else's"),
            };
            Logged { checks: vec![check], logbook, found: None }
        }
        Inspection::Absent { place, obstacle } => {
            Logged { checks: vec![absent(&place, obstacle)], logbook, found: None }
        }
        Inspection::Found(found) => {
            let mut checks = vec![there(&found)];
            checks.extend(found.clock.map(|reading| clock_of(&reading)));
            // Runs are read over the engine's own logbook, so that the check shows if that one hangs.
            Logged { checks, logbook: logbook.or_else(|| found.logbook()), found: Some(found) }
        }
    }
}

fn clock_of(reading: &ClockReading) -> Check {
    let ClockReading { asked, said, answered } = *reading;
    clock::check("logbook-clock", "the database", &Reading { asked, said, grain: Duration::ZERO, answered })
}

fn absent(place: &str, obstacle: Option<String>) -> Check {
    match obstacle {
        None => Check::warn(
            "logbook",
            format!("there is none at {place} yet"),
            "the first `waft run` or `waft serve` makes it; or name another one with --logbook or WAFT_LOGBOOK",
        ),
        Some(reason) => Check::fail(
            "logbook",
            format!("there is none at {place}, and it cannot be made: {reason}"),
            "name another place with --logbook or WAFT_LOGBOOK, or let this user write there",
        ),
    }
}

fn there(found: &Found) -> Check {
    let Found { place, schema, known, .. } = found;
    if let Some(reason) = &found.obstacle {
        let detail = format!("{place} can be read (schema {schema}), and not be written: {reason}");
        return Check::fail(
            "logbook",
            detail,
            "let this user write it; without that, runs record nothing and send nothing",
        );
    }
    if schema < known {
        let detail = format!("{place} has schema {schema}, and this waft makes it {known} when it opens it");
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
