//! Checks that no call is lost: each outstanding call must have a location. It is in a queue or in a worker's
//! delivery, a message about it is in flight to the engine, or it has a watched lease.
//!
//! Each engine reports the locations of its calls, and the broker must agree. This holds for every engine that drives the
//! call's run, at all times, and in the fault phase too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use broker::InProcess;
use engine::{CallLocation, Engine};
use flow::CallId;
use tokio::time::{Instant, sleep, timeout};

/// The interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a call may have no location: while it leaves an engine, or in the memory of an engine that has not learned
/// yet that it no longer drives the run.
const MAX_UNTRACKED: Duration = Duration::from_secs(40);

/// The maximum silence of a shard's queue for an engine that watches leases: the engine sends itself a message there each
/// second.
const MAX_PROBE_SILENCE: Duration = Duration::from_secs(20);

/// Checks until a call is lost; returns its description.
pub(super) async fn find_lost_call(engines: &Mutex<Vec<Option<Engine>>>, broker: &InProcess) -> String {
    let mut untracked: BTreeMap<(usize, CallId), Instant> = BTreeMap::new();
    loop {
        sleep(CHECK_INTERVAL).await;
        let running: Vec<(usize, Engine)> = {
            let engines = engines.lock().expect("no thread panics while it holds the engines");
            (0..).zip(&*engines).filter_map(|(number, engine)| Some((number, engine.clone()?))).collect()
        };
        let mut still_untracked = BTreeSet::new();
        for (number, engine) in running {
            // An engine that is busy or crashes now is checked later.
            let Ok(Ok(calls)) = timeout(CHECK_INTERVAL, engine.call_locations()).await else {
                still_untracked.extend(untracked.keys().filter(|(engine, _)| *engine == number).cloned());
                continue;
            };
            // Messages in quarantine, or sent to all workers, do not answer a call.
            let is_about_call = |queue: &str| queue.starts_with("waft.jobs.") || queue.starts_with("waft.engine.");
            let messages = broker.messages().into_iter().filter(|(queue, _)| is_about_call(queue));
            let calls_in_flight = messages.filter_map(|(_, message)| protocol::call_of(&message.properties.headers));
            let calls_in_flight: BTreeSet<CallId> = calls_in_flight.collect();
            let is_untracked = |call: &CallId, location: &CallLocation| match location {
                // Lease expiry counts only time in which the queue delivers messages: a silent queue never expires a lease.
                CallLocation::UnderLease { silent_for, .. } => *silent_for > MAX_PROBE_SILENCE,
                CallLocation::AwaitingPermit | CallLocation::AwaitingBarrier | CallLocation::AwaitingTurn => false,
                CallLocation::UnwatchedLease { .. } => true,
                CallLocation::Sent => !calls_in_flight.contains(call),
            };
            still_untracked
                .extend(calls.into_iter().filter(|(call, at)| is_untracked(call, at)).map(|(call, _)| (number, call)));
        }
        untracked.retain(|key, _| still_untracked.contains(key));
        for key in still_untracked {
            let since = *untracked.entry(key.clone()).or_insert_with(Instant::now);
            if since.elapsed() > MAX_UNTRACKED {
                let (engine, call) = key;
                return format!("engine {engine} waits for {call}, which has had no location for {MAX_UNTRACKED:?}");
            }
        }
    }
}
