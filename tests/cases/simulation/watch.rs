//! Watches that no call is forgotten: each that is out is in a queue or with a worker's delivery, is told of by something on
//! its way to the engine, or is under a lease that is watched.
//!
//! An engine says of each call where it takes it to be, and the broker has to agree, for every engine that drives the call's
//! run and all the time: in the storm too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use broker::InProcess;
use engine::{CallLocation, Engine};
use flow::CallId;
use tokio::time::{Instant, sleep, timeout};

/// How often it is looked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a call may be nowhere: on its way out of an engine, or in the memory of one that learns a moment later that it
/// drives the run no more.
const MAX_UNTRACKED: Duration = Duration::from_secs(40);

/// How long an engine that watches leases may hear nothing from the queue of their shard: it sends itself a message there
/// each second.
const MAX_PROBE_SILENCE: Duration = Duration::from_secs(20);

/// Looks until a call is forgotten; says which.
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
            // One that is busy, or dies just now, is asked again.
            let Ok(Ok(calls)) = timeout(CHECK_INTERVAL, engine.call_locations()).await else {
                still.extend(nowhere.keys().filter(|(of, _)| *of == number).cloned());
                continue;
            };
            // What is kept for a person, or told to all workers, does not answer a call.
            let counts = |queue: &str| queue.starts_with("waft.jobs.") || queue.starts_with("waft.engine.");
            let messages = broker.messages().into_iter().filter(|(queue, _)| counts(queue));
            let told_of = messages.filter_map(|(_, message)| protocol::call_of(&message.properties.headers));
            let told_of: BTreeSet<CallId> = told_of.collect();
            let is_nowhere = |call: &CallId, place: &CallLocation| match place {
                // A lease is missed by the time for which the queue was heard: without that it never is.
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
