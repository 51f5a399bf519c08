//! Checks that no call is lost: each outstanding call must have a location. It is in a queue or in a worker's
//! delivery, a message about it is in flight to the engine, or it has a watched lease. An engine may also hold it back, but not for long:
//! a call whose turn was forgotten would stay with the engine for ever.
//!
//! Each engine reports the locations of its calls, and the broker must agree. This holds for every engine that drives the
//! call's run, at all times, and in the fault phase too. What an engine holds back of a run itself, such as a tick, is checked by the
//! engine after each step: `driver/stalls.rs` of the engine.

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

/// How long an engine may hold a call back: until it has a permit, until the answers before it were read, and until its job is made or it is
/// withdrawn. In a simulation each of these takes seconds, and some more after faults.
const MAX_HELD_BACK: Duration = Duration::from_secs(300);

/// Why it is not proven that a call is answered some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Untracked {
    /// It has no location.
    Nowhere,
    /// Its engine holds it back.
    HeldBack,
}

impl Untracked {
    /// Whether nothing proves that a call at this location is answered.
    fn of(location: &CallLocation, is_in_flight: bool) -> Option<Self> {
        match location {
            // Lease expiry counts only time in which the queue delivers messages: a silent queue never expires a lease.
            CallLocation::UnderLease { silent_for, .. } => (*silent_for > MAX_PROBE_SILENCE).then_some(Self::Nowhere),
            CallLocation::AwaitingPermit | CallLocation::AwaitingBarrier | CallLocation::AwaitingTurn => {
                Some(Self::HeldBack)
            }
            CallLocation::UnwatchedLease { .. } => Some(Self::Nowhere),
            CallLocation::Sent => (!is_in_flight).then_some(Self::Nowhere),
        }
    }

    /// How long a call may be like this.
    fn limit(self) -> Duration {
        match self {
            Self::Nowhere => MAX_UNTRACKED,
            Self::HeldBack => MAX_HELD_BACK,
        }
    }
}

/// The maximum silence of a shard's queue for an engine that watches leases: the engine sends itself a message there each
/// second.
const MAX_PROBE_SILENCE: Duration = Duration::from_secs(20);

/// Checks until a call is lost; returns its description.
pub(super) async fn find_lost_call(engines: &Mutex<Vec<Option<Engine>>>, broker: &InProcess) -> String {
    let mut untracked: BTreeMap<(usize, CallId, Untracked), Instant> = BTreeMap::new();
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
                still_untracked.extend(untracked.keys().filter(|(engine, ..)| *engine == number).cloned());
                continue;
            };
            // Messages in quarantine, or sent to all workers, do not answer a call.
            let is_about_call = |queue: &str| queue.starts_with("waft.jobs.") || queue.starts_with("waft.engine.");
            let messages = broker.messages().into_iter().filter(|(queue, _)| is_about_call(queue));
            let calls_in_flight = messages.filter_map(|(_, message)| protocol::call_of(&message.properties.headers));
            let calls_in_flight: BTreeSet<CallId> = calls_in_flight.collect();
            still_untracked.extend(calls.into_iter().filter_map(|(call, location)| {
                let why = Untracked::of(&location, calls_in_flight.contains(&call))?;
                Some((number, call, why))
            }));
        }
        untracked.retain(|key, _| still_untracked.contains(key));
        for key in still_untracked {
            let since = *untracked.entry(key.clone()).or_insert_with(Instant::now);
            let (engine, call, why) = key;
            if since.elapsed() > why.limit() {
                let limit = why.limit();
                return format!("engine {engine} waits for {call}, which has been {why:?} for {limit:?}");
            }
        }
    }
}

#[test]
fn a_call_that_an_engine_holds_back_is_lost_after_some_time() {
    for location in [CallLocation::AwaitingPermit, CallLocation::AwaitingBarrier, CallLocation::AwaitingTurn] {
        assert_eq!(Untracked::of(&location, false), Some(Untracked::HeldBack), "{location:?}");
    }
    assert_eq!(Untracked::of(&CallLocation::Sent, false), Some(Untracked::Nowhere));
    assert_eq!(Untracked::of(&CallLocation::Sent, true), None);
}
