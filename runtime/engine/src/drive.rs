//! The one task that owns the runs of an engine's shards.
//!
//! Each iteration of its loop takes a batch of events, decides records for them, and appends all records at once.
//! Messages are sent only after the append.
//!
//! Reading order:
//! - this file, then `drive/step.rs`, `drive/append.rs` and `drive/dispatch.rs`: decide, append, send;
//! - `drive/receive.rs`: messages from the shard queues;
//! - `drive/load.rs`: runs that are read from the logbook;
//! - `drive/shards.rs`: the shards that this engine drives;
//! - `drive/leases.rs` and `drive/withdrawals.rs`: calls under a lease, and calls that are taken back;
//! - `drive/permits.rs`: calls that wait for a permit;
//! - `drive/reconcile.rs`: comparison of memory and logbook;
//! - `drive/unreadable.rs`: messages that cannot be decoded;
//! - `drive/fetches.rs`: lists that runs fetch from the store;
//! - `drive/publish_cursor.rs` and `drive/republish.rs`: published versions, and changes that are published again.

mod reconcile;
mod delivery_barrier;
mod fetches;
mod receive;
mod leases;
mod listeners;
mod load;
mod permits;
mod republish;
mod shards;
mod skips;
mod publish_cursor;
mod unreadable;
mod append;
mod call_location;
mod dispatch;
mod step;
mod withdrawals;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use broker::{Delivery, Message};
use flow::{
    CallId, Change, Command, Event, Flow, MAX_STEP_RECORDS, Machine, Record, RunId, RunState, Shard, Timestamp,
    WorkerName,
};
use logbook::{Append, AppendError, AppendOutcome, Logbook, RunInfo, Version};
use protocol::{AttemptLog, Reply, RunCommand};
use store::Store;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::permits::client::{DispatchHistory, PermitClient};
use crate::{
    Clock, CommandError, SubmitError, Watch, WatchEvent,
    clock::ClockReader,
    inbox::Inbox,
    messages,
    outbox::{ConfirmedVersions, OutboxBatch},
    topology_cache::TopologyCache,
    unserved_queues, watch,
};
pub use call_location::CallLocation;
use delivery_barrier::DeliveryBarrier;
use fetches::Fetches;
use leases::Leases;
use listeners::Listeners;
use load::StaleRun;
use permits::EndedCalls;
use publish_cursor::PublishCursors;
use republish::Republisher;
pub(crate) use shards::{Shards, Sharing};
use withdrawals::Withdrawals;

/// Maximum number of signals in one batch: enough to share the cost of an append, few enough to answer soon.
const MAX_BATCH_SIGNALS: usize = 512;

/// Maximum number of records that all runs of one batch add together, so that a request waits some tens of
/// milliseconds at most. Each run gets an equal share and continues with the rest in the next batch.
const MAX_BATCH_RECORDS: usize = 4_096;

/// Minimum share of a run.
const MIN_RUN_RECORDS: usize = 8;

/// Interval of periodic work, such as probing shards without an owner and reading stale runs again.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Minimum number of records between two snapshots of a run; a larger flow waits for more. The cost of a snapshot is
/// then small beside the cost of the records.
const SNAPSHOT_INTERVAL: u64 = 1_000;

/// Maximum delay of a snapshot, in snapshot intervals, while the records before the previous snapshot are
/// unpublished.
const MAX_SNAPSHOT_DELAY: u64 = 100;

/// Log target of the one line that closes each run, so that a program that shows the end itself can filter it out.
const RUN_LOG_TARGET: &str = "waft::run";

/// A request from the engine's handle to the driver.
pub(crate) enum DriverRequest {
    /// Start a run.
    Submit { run: RunId, flow: Arc<Flow>, answer: oneshot::Sender<Result<Watch, SubmitError>> },
    /// Take over a run that another process left.
    Adopt { run: RunId, command: RunCommand, answer: oneshot::Sender<Result<Watch, CommandError>> },
    /// Record a command for a run of a shard that is driven here.
    Command { run: RunId, wish: RunCommand, answer: oneshot::Sender<Reply> },
    /// Abandon the calls of a run that is being suspended.
    Abandon { run: RunId },
    /// Return, for each leased call of a run that is driven here, the time since its last heartbeat.
    SilentLeases { run: RunId, answer: oneshot::Sender<Vec<SilentLease>> },
    /// Health check: answer as soon as possible.
    Check { answer: oneshot::Sender<()> },
    /// Return the location of each outstanding call.
    CallLocations { answer: oneshot::Sender<Vec<(CallId, CallLocation)>> },
}

/// A call under a lease, and the time since its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentLease {
    /// The call.
    pub call: CallId,
    /// The worker that holds the lease.
    pub worker: WorkerName,
    /// Time since the last heartbeat.
    pub since: Duration,
}

/// A run in memory, at the version of its records in the logbook.
struct ActiveRun {
    machine: Machine,
    version: Version,
    /// The version of the last snapshot.
    snapshot: Version,
    shard: Shard,
    watcher: Option<mpsc::Sender<WatchEvent>>,
    due: Option<Timestamp>,
    /// Calls that were outstanding when the run was loaded. They are sent again unless an answer to them waits in the
    /// queue.
    outstanding_at_load: BTreeSet<CallId>,
    /// Whether the run was inactive when it was loaded and has not continued since. Its end was published long ago.
    is_suspended: bool,
}

/// An event for a run, and the target of the reply, if there is one.
struct RunEvent {
    run: RunId,
    event: Event,
    reply_to: Option<ReplyTo>,
}

/// The target of the reply to a run command.
enum ReplyTo {
    Local(oneshot::Sender<Reply>),
    Remote { queue: String, correlation_id: Option<String> },
}

/// The input of one iteration of the driver's loop, before any of it is durable.
#[derive(Default)]
struct Batch {
    events: Vec<RunEvent>,
    signals: Vec<(RunId, Delivery)>,
    logs: BTreeMap<RunId, Vec<AttemptLog>>,
    submitted: Vec<Submitted>,
    messages: Vec<Message>,
    probes: Vec<Message>,
    watch_events: Vec<(mpsc::Sender<WatchEvent>, WatchEvent)>,
    /// Runs that were read from the logbook for this batch.
    loaded: BTreeSet<RunId>,
    /// Runs that do not exist: messages for them are accepted and dropped.
    not_found: BTreeSet<RunId>,
    /// Deliveries to accept once the messages of the batch are published.
    to_accept: Vec<Delivery>,
    /// Runs of shards that another engine drives: their messages are forwarded.
    remote_runs: BTreeMap<RunId, Shard>,
}

impl Batch {
    fn push(&mut self, run: RunId, event: Event) {
        self.events.push(RunEvent { run, event, reply_to: None });
    }
}

/// A new run, and the requester that waits until its start is durable.
struct Submitted {
    run: RunId,
    answer: oneshot::Sender<Result<Watch, SubmitError>>,
    watch: Watch,
}

/// The result of all steps of one run in a batch.
#[derive(Default)]
struct StepResult {
    records: Vec<Record>,
    commands: Vec<Command>,
    answers: Vec<ReplyTo>,
    /// Calls that may have ended.
    ended: EndedCalls,
    /// Whether some of the commands may have been performed before.
    may_repeat: bool,
    /// Whether the run continues in the next batch.
    is_unfinished: bool,
}

/// The dependencies of a driver.
pub(crate) struct DriverContext {
    pub(crate) logbook: Arc<dyn Logbook>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) out: mpsc::Sender<OutboxBatch>,
    /// The versions whose messages the broker has confirmed.
    pub(crate) confirmed: ConfirmedVersions,
    /// Whether messages that the broker has confirmed outlive this process.
    pub(crate) is_durable: bool,
    pub(crate) declared: TopologyCache,
    /// Receives the id of every run that has new records.
    pub(crate) changes: broadcast::Sender<RunId>,
    /// The name of the queue that serves content from the store.
    pub(crate) store_queue: String,
    /// The number of calls that wait for a worker, by queue.
    pub(crate) waiting: unserved_queues::WaitingCalls,
}

/// Owns the runs of an engine's shards.
pub(crate) struct Driver {
    tools: DriverContext,
    shards: Shards,
    runs: BTreeMap<RunId, ActiveRun>,
    stale: BTreeMap<RunId, StaleRun>,
    /// Runs that cannot be read, or that a bug of waft stopped. Their deliveries stay unsettled for the next process
    /// that drives these runs.
    corrupt: BTreeMap<RunId, Vec<Delivery>>,
    /// For each run that a bug of waft stopped: the panic message and the record or event that caused it.
    bugs: BTreeMap<RunId, String>,
    leases: Leases,
    withdrawals: Withdrawals,
    fetches: Fetches,
    due: BTreeSet<(Timestamp, RunId)>,
    listeners: Listeners,
    permits: PermitClient,
    publish_cursors: PublishCursors,
    barrier: DeliveryBarrier,
    again: Republisher,
    /// Runs that another process left and that were not adopted here: they may hold permits.
    abandoned: BTreeSet<RunId>,
    /// Events that the last batch caused for the next one.
    deferred: Vec<RunEvent>,
    /// When the calls that wait for a worker were last counted.
    checked_waiting_at: Option<tokio::time::Instant>,
    clock: ClockReader,
}

impl Driver {
    pub(crate) fn new(tools: DriverContext, shards: Shards) -> Self {
        let gate = PermitClient::new(shards.engine().to_owned());
        let clock = ClockReader::new(&*tools.clock);
        let mut again = Republisher::default();
        if shards.sharing() == Sharing::Exclusive {
            // No other engine takes the shard over: this one drives it from the start.
            shards.known().for_each(|shard| again.add_shard(shard.clone()));
        }
        Self {
            fetches: Fetches::new(tools.store.clone()),
            tools,
            shards,
            permits: gate,
            publish_cursors: PublishCursors::default(),
            barrier: DeliveryBarrier::default(),
            again,
            abandoned: BTreeSet::new(),
            deferred: Vec::new(),
            checked_waiting_at: None,
            clock,
            runs: BTreeMap::new(),
            stale: BTreeMap::new(),
            corrupt: BTreeMap::new(),
            bugs: BTreeMap::new(),
            leases: Leases::default(),
            withdrawals: Withdrawals::default(),
            due: BTreeSet::new(),
            listeners: Listeners::default(),
        }
    }

    /// Steps runs until `stop` is cancelled, or until the broker closes.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox,
        mut requests: mpsc::Receiver<DriverRequest>,
        stop: CancellationToken,
    ) {
        let mut beat = tokio::time::interval(TICK);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut round = Batch::default();
            for aside in std::mem::take(&mut self.deferred) {
                self.enqueue(aside, &mut round);
            }
            let now = self.tools.clock.now();
            let wait = self.due.first().map(|(at, _)| at.since(now));
            // Every arm only receives or waits, so dropping it loses nothing. The order is fixed, so that the same
            // input always leads to the same batches. No arm blocks another, since each batch takes from all of them.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = beat.tick() => {
                    self.permits.tick();
                    self.note_waiting();
                    self.persist_cursors(&mut round).await;
                    self.reload_stale(&mut round).await;
                    self.tick(&inbox, &mut round).await;
                }
                Some((run, event)) = self.fetches.next(), if !self.fetches.is_empty() => {
                    self.enqueue(RunEvent { run, event, reply_to: None }, &mut round);
                }
                Some(request) = requests.recv() => self.reply(request, &mut round).await,
                incoming = inbox.next() => match incoming {
                    Some(incoming) => self.on_incoming(incoming, &mut round).await,
                    None => break,
                },
                // These come last, since they may be ready in every iteration.
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = std::future::ready(()), if !round.events.is_empty() => {}
            }
            while round.events.len() < MAX_BATCH_SIGNALS
                && let Ok(request) = requests.try_recv()
            {
                self.reply(request, &mut round).await;
            }
            while round.events.len() < MAX_BATCH_SIGNALS
                && let Some(incoming) = inbox.try_next()
            {
                self.on_incoming(incoming, &mut round).await;
            }
            self.add_due_runs(&mut round);
            self.step(round).await;
        }
        inbox.close();
    }

    async fn reply(&mut self, request: DriverRequest, round: &mut Batch) {
        match request {
            DriverRequest::Submit { run, flow, answer } => self.submit(run, flow, answer, round).await,
            DriverRequest::Adopt { run, command: wish, answer } => {
                let adopted = self.adopt(&run, wish, round).await;
                // The requester may have disconnected.
                let _ = answer.send(adopted);
            }
            DriverRequest::Command { run, wish, answer } => {
                self.on_command(run, None, wish, Some(ReplyTo::Local(answer)), round).await
            }
            DriverRequest::Abandon { run } => {
                if let Some(live) = self.runs.get(&run) {
                    round.messages.extend(live.machine.outstanding_calls().map(messages::interrupt));
                }
                self.enqueue(RunEvent { run, event: Event::Abandon, reply_to: None }, round);
            }
            DriverRequest::SilentLeases { run, answer } => {
                let _ = answer.send(self.silences(&run));
            }
            DriverRequest::Check { answer } => {
                let _ = answer.send(());
            }
            DriverRequest::CallLocations { answer } => {
                let _ = answer.send(self.call_locations());
            }
        }
    }

    /// Counts, by queue, the sent calls that no worker is known to have started.
    fn note_waiting(&mut self) {
        if self.checked_waiting_at.is_some_and(|at| at.elapsed() < unserved_queues::CHECK_INTERVAL) {
            return;
        }
        self.checked_waiting_at = Some(tokio::time::Instant::now());
        let mut waiting = BTreeMap::new();
        for live in self.runs.values() {
            let leased: BTreeSet<CallId> = live.machine.leased_calls().map(|(call, _)| call).collect();
            let out = live
                .machine
                .outstanding_calls()
                .filter(|call| !leased.contains(call) && !self.permits.is_waiting(call));
            for task in out.filter_map(|call| live.machine.task(&call.task)) {
                *waiting.entry(task.queue.clone()).or_default() += 1;
            }
        }
        self.tools.waiting.set(waiting);
    }

    fn silences(&self, run: &RunId) -> Vec<SilentLease> {
        let Some(live) = self.runs.get(run) else { return Vec::new() };
        let silence = |held: leases::CallHolder| {
            let since = self.leases.silent_time(&live.shard, &held)?;
            Some(SilentLease { call: held.0, worker: held.1, since })
        };
        live.machine.leased_calls().filter_map(silence).collect()
    }

    async fn submit(
        &mut self,
        run: RunId,
        flow: Arc<Flow>,
        answer: oneshot::Sender<Result<Watch, SubmitError>>,
        round: &mut Batch,
    ) {
        let refused = if self.runs.contains_key(&run) {
            Err(SubmitError::Exists { run: run.clone() })
        } else if self.stale.contains_key(&run) {
            // The run may have begun: the next tick reads its records.
            Err(SubmitError::NoShard)
        } else {
            self.shards.for_new(&run).ok_or(SubmitError::NoShard)
        };
        let shard = match refused {
            Ok(shard) => shard,
            Err(error) => {
                // The requester may have disconnected.
                let _ = answer.send(Err(error));
                return;
            }
        };
        if let Err(error) = self.tools.declared.bind_listeners(&flow, &shard).await {
            // The requester may have disconnected.
            let _ = answer.send(Err(error.into()));
            return;
        }
        let (watcher, happenings) = mpsc::channel(watch::WATCH_CAPACITY);
        let live = ActiveRun {
            machine: Machine::new(run.clone(), flow),
            version: Version::NONE,
            snapshot: Version::NONE,
            shard,
            watcher: Some(watcher),
            due: None,
            outstanding_at_load: BTreeSet::new(),
            is_suspended: false,
        };
        self.runs.insert(run.clone(), live);
        round.push(run.clone(), Event::Start);
        round.submitted.push(Submitted { run, answer, watch: Watch { happenings } });
    }
}

/// The message for a run that a bug of waft stopped.
const BUG_MESSAGE: &str =
    "the run is damaged, or meets a bug of waft: it is left alone until a version of waft drives it that can";

/// Runs `work` on a run's machine and catches a panic, so that a bug of waft stops only that run. The error contains
/// `doing` and the panic message, which names the record that caused it.
fn catch_bug<Done>(run: &RunId, doing: &str, work: impl FnOnce() -> Done) -> Result<Done, String> {
    // The values that the work borrowed are not used again after a panic.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let reason = format!("{doing}: {}", flow::panic_message(&*panic));
        error!(%run, reason, BUG_MESSAGE);
        reason
    })
}

/// Returns the reply that explains why an event had no effect.
fn rejection(machine: &Machine, event: &Event) -> Reply {
    let state = machine.state();
    match event {
        Event::Notify { task, key: Some(key), .. } if machine.has_received(task, key) => Reply::Recorded(state),
        Event::Notify { task, result: answer, .. } if !is_inactive(state) => {
            machine.notification_error(task, answer).map_or(Reply::NotApplicable(state), Reply::Refused)
        }
        Event::Edit { revision, .. } if *revision != machine.revision() => Reply::Refused(format!(
            "the flow is at revision {} by now, and the edit was made against {revision}",
            machine.revision()
        )),
        Event::Edit { flow, .. } => Reply::Refused(machine.edit_errors(flow).join("; ")),
        _ => Reply::NotApplicable(state),
    }
}

/// Whether a run in this state needs no engine.
fn is_inactive(state: RunState) -> bool {
    state.is_final() || state == RunState::Suspended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_stops_only_its_run_and_names_the_event() {
        let run = RunId::new("r").unwrap();
        assert_eq!(catch_bug(&run, "tick", || 7), Ok(7));
        let event = Event::Notify {
            task: "ask".parse().unwrap(),
            result: flow::TaskResult::Succeeded(flow::Values::new()),
            key: None,
        };
        let found = catch_bug(&run, &event.summary(), || panic!("the machine accepts what it decided: record x"));
        assert_eq!(found, Err("notification of \"ask\": the machine accepts what it decided: record x".to_owned()));
    }
}
