//! Checks whether the engine in this process answers, over its own connections.

use std::collections::BTreeMap;

use ::engine::CallLocation;
use api::Check;
use flow::CallId;
use protocol::topology;

use super::{QUERY_TIMEOUT, RunningServer, count, within};
use crate::problem::chain;

/// What the check found about the engine.
#[derive(Default)]
pub(super) struct EngineCheck {
    pub(super) check: Option<Check>,
    /// The outstanding calls of the runs that this engine drives, and the location of each.
    pub(super) calls: BTreeMap<CallId, CallLocation>,
}

/// Checks the engine, if there is one.
pub(super) async fn check(running: Option<&RunningServer>) -> EngineCheck {
    let Some(running) = running else { return EngineCheck::default() };
    let restart = "look at the log of the server, and restart it: no run is lost";
    let failed =
        |detail: String| EngineCheck { check: Some(Check::fail("engine", detail, restart)), ..EngineCheck::default() };
    let Some(calls) = within(QUERY_TIMEOUT, running.engine.call_locations()).await else {
        return failed(format!("it has not answered for {} seconds", QUERY_TIMEOUT.as_secs()));
    };
    let calls: BTreeMap<CallId, CallLocation> = match calls {
        Ok(calls) => calls.into_iter().collect(),
        Err(error) => return failed(chain(&error)),
    };
    // Uses the engine's own connection instead of the connection made for the checks.
    let check = match within(QUERY_TIMEOUT, running.broker.waiting(topology::QUARANTINE)).await {
        Some(Ok(_)) => {
            let unwatched =
                calls.values().filter(|at| matches!(at, CallLocation::UnwatchedLease { .. })).count() as u64;
            if unwatched > 0 {
                let detail = format!("{} with a worker whose heartbeats are not watched", count(unwatched, "call"));
                Check::fail("engine", detail, format!("this is a bug of waft, please report it; {restart}"))
            } else {
                let out = count(calls.len() as u64, "call");
                Check::ok("engine", format!("it answers; {out} outstanding in the runs that it drives"))
            }
        }
        Some(Err(error)) => Check::fail("engine", format!("its connection to the broker: {}", chain(&error)), restart),
        None => {
            let detail =
                format!("its connection to the broker has not answered for {} seconds", QUERY_TIMEOUT.as_secs());
            Check::fail("engine", detail, "it reconnects by itself once the broker is reachable")
        }
    };
    EngineCheck { check: Some(check), calls }
}
