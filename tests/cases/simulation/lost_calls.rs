//! Checks that no call is forgotten: each outstanding call must have a location. It is in a queue or in a worker's
//! delivery, a message about it is on its way to the engine, or it has a watched lease.
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

/// How long a call may have no location: while it leaves an engine, or in the memory of an engine that learns a moment
/// later that it no longer drives the run.
const MAX_UNTRACKED: Duration = Duration::from_secs(40);

/// The maximum silence of a shard's queue for an engine that watches leases: the engine sends itself a message there each
/// second.
const MAX_PROBE_SILENCE: Duration = Duration::from_secs(20);

/// Checks until a call is forgotten; returns its description.
pub(super) async fn find_lost_call(engines: &Mutex<Vec<Option<Engine>>>, broker: &InProcess) -> String {
    let mut nowhere: BTreeMap<(usize, CallId), Instant> = BTreeMap::new();
    loop {
        sleep(CHECK_INTERVAL).await;
        let alive: Vec<(usize, Engine)> = {
            let engines = engines.lock().expect("nobody panics with the engines");
            (0..).zip(&*engines).filter_map(|(number, engine)| Some((number, engine.clone()?))).collect()
        };
        let mut still = BTreeSet::new();
        for (number, engine) in alive {
            // An engine that is busy, or dies just now, is asked again.
            let Ok(Ok(calls)) = timeout(CHECK_INTERVAL, engine.call_locations()).await else {
                still.extend(nowhere.keys().filter(|(of, _)| *of == number).cloned());
                continue;
            };
            // Messages in quarantine, or sent to all workers, do not answer a call.
            let counts = |queue: &str| queue.starts_with("waft.jobs.") || queue.starts_with("waft.engine.");
            let messages = broker.messages().into_iter().filter(|(queue, _)| counts(queue));
            let told_of = messages.filter_map(|(_, message)| protocol::call_of(&message.properties.headers));
            let told_of: BTreeSet<CallId> = told_of.collect();
            let is_nowhere = |call: &CallId, place: &CallLocation| match place {
                // Lease expiry counts only time in which the queue delivers messages: a silent queue never expires a lease.
                CallLocation::UnderLease { silent_for, .. } => *silent_for > MAX_PROBE_SILENCE,
                CallLocation::AwaitingPermit | CallLocation::AwaitingBarrier => false,
                CallLocation::UnwatchedLease { .. } => true,
                CallLocation::Sent => !told_of.contains(call),
            };
            still.extend(calls.into_iter().filter(|(call, at)| is_nowhere(call, at)).map(|(call, _)| (number, call)));
        }
        nowhere.retain(|known, _| still.contains(known));
        for known in still {
            let since = *nowhere.entry(known.clone()).or_insert_with(Instant::now);
            if since.elapsed() > MAX_UNTRACKED {
                let (engine, call) = known;
                return format!("{call} is out, as engine {engine} has it, and nobody has it for {MAX_UNTRACKED:?}");
            }
        }
    }
}
