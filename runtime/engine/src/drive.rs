//! The one task that owns the runs of an engine's shards.
//!
//! Each iteration of its loop takes a batch of events, decides records for them, and appends all records at once.
//! Messages are sent only after the append.
//!
//! Reading order:
//! - this file;
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
mod call_location;
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

    /// Adds a tick for every run with a timer that is due.
    fn add_due_runs(&self, round: &mut Batch) {
        let now = self.tools.clock.now();
        for (_, run) in self.due.iter().take_while(|(at, _)| *at <= now) {
            round.push(run.clone(), Event::Tick);
        }
    }

    /// Returns the current time. If the clock was set, each run gets that event before all others.
    fn read_clock(&mut self, round: &mut Batch) -> Timestamp {
        let (now, set) = self.clock.read(&*self.tools.clock);
        if let Some(by) = set {
            warn!(
                seconds = by.as_micros() / 1_000_000,
                "the clock was set: waits go on for as long as they would have"
            );
            let set = |run: &RunId| RunEvent { run: run.clone(), event: Event::ClockSet { by }, reply_to: None };
            round.events.splice(..0, self.runs.keys().map(set));
        }
        now
    }

    /// Decides records for every event of a batch, appends them all at once, and only then sends messages.
    async fn step(&mut self, mut round: Batch) {
        self.on_confirmed_versions();
        let now = self.read_clock(&mut round);
        let Batch {
            events,
            signals,
            mut logs,
            submitted,
            messages,
            probes,
            watch_events: happenings,
            loaded: visited,
            not_found: missing,
            to_accept: done,
            remote_runs: elsewhere,
        } = round;
        // The shards of these runs were released after the deliveries arrived, so the deliveries go back to the
        // queue.
        let gone: BTreeSet<RunId> = {
            let is_known =
                |run: &RunId| missing.contains(run) || elsewhere.contains_key(run) || self.corrupt.contains_key(run);
            let is_gone = |run: &RunId| !self.runs.contains_key(run) && !is_known(run);
            signals.iter().map(|(run, _)| run).filter(|run| is_gone(run)).cloned().collect()
        };
        let mut steps: BTreeMap<RunId, StepResult> = BTreeMap::new();
        let mut batch = OutboxBatch { messages, probes, watch_events: happenings, ..OutboxBatch::default() };
        let mut decided = Vec::new();
        let runs = events.iter().map(|happened| &happened.run).collect::<BTreeSet<_>>().len();
        let share = (MAX_BATCH_RECORDS / runs.max(1)).clamp(MIN_RUN_RECORDS, MAX_STEP_RECORDS);
        for RunEvent { run, event, reply_to: answer } in events {
            let Some(live) = self.runs.get_mut(&run) else {
                answer.into_iter().for_each(|answer| match answer {
                    ReplyTo::Remote { .. } if gone.contains(&run) => {}
                    answer if self.corrupt.contains_key(&run) => {
                        let reason = self.bugs.get(&run).map(|reason| format!(": {reason}")).unwrap_or_default();
                        batch.answer(answer, Reply::Failed(format!("{BUG_MESSAGE}{reason}")));
                    }
                    answer if missing.contains(&run) => batch.answer(answer, Reply::RunNotFound),
                    answer => batch.answer(answer, Reply::Failed("the run is driven elsewhere now".into())),
                });
                continue;
            };
            // Calls that were abandoned when the run was suspended are sent again when it continues.
            let given_up = if live.is_suspended { live.machine.pending() } else { Vec::new() };
            let left = share.saturating_sub(steps.get(&run).map_or(0, |stepped| stepped.records.len()));
            let doing = || format!("after version {}, {}", live.version.get(), event.summary());
            let step = match catch_bug(&run, &doing(), || live.machine.step_within(now, &event, left)) {
                Ok(step) => step,
                Err(reason) => {
                    let earlier = steps.remove(&run).map(|stepped| stepped.answers).unwrap_or_default();
                    let reply = || Reply::Failed(format!("{BUG_MESSAGE}: {reason}"));
                    earlier.into_iter().chain(answer).for_each(|answer| batch.answer(answer, reply()));
                    self.remove_run(&run);
                    self.permits.remove_run(&run);
                    self.bugs.insert(run.clone(), reason);
                    self.corrupt.entry(run).or_default();
                    continue;
                }
            };
            if step.records.is_empty() {
                let reply = || rejection(&live.machine, &event);
                answer.into_iter().for_each(|answer| batch.answer(answer, reply()));
                decided.push((run, event));
                continue;
            }
            let stepped = steps.entry(run.clone()).or_default();
            if live.is_suspended && !is_inactive(live.machine.state()) {
                live.is_suspended = false;
                // The run may continue only to roll back, so calls that it would withdraw are not sent.
                let withdrawable: BTreeSet<CallId> = live.machine.withdrawable_calls().collect();
                let is_sent = |command: &Command| match command {
                    Command::Call(call) => !withdrawable.contains(&call.id),
                    Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => true,
                };
                stepped.commands.extend(given_up.into_iter().filter(is_sent));
                stepped.may_repeat = true;
            }
            stepped.is_unfinished = step.is_unfinished;
            stepped.ended = std::mem::take(&mut stepped.ended).and(EndedCalls::from_event(&event, &step.records));
            stepped.records.extend(step.records);
            stepped.commands.extend(step.commands);
            stepped.answers.extend(answer);
            decided.push((run, event));
        }
        let written = self.watched_logs(&logs);
        let mut refused = if steps.is_empty() { BTreeMap::new() } else { self.append(&steps, &mut logs).await };
        let gone: BTreeSet<RunId> = gone.into_iter().chain(refused.keys().cloned()).collect();
        let begun: BTreeSet<&RunId> = submitted.iter().map(|submitted| &submitted.run).collect();
        let is_kept = |(run, ..): &(RunId, _, _)| !refused.contains_key(run);
        batch.watch_events.extend(written.into_iter().filter(is_kept).map(|(_, watcher, log)| (watcher, log)));
        for (run, error) in &refused {
            // A run that may have begun is read again; a new run whose name is taken is not.
            let may_have_begun = !begun.contains(run) || matches!(error, SubmitError::Append(_));
            self.drop_machine(run, may_have_begun);
        }
        // Events of refused runs are not durable; their machines are already dropped, so the events have no effect
        // here.
        decided.iter().for_each(|(run, event)| self.note_lease(run, event));
        debug_assert!(decided.iter().all(|(run, _)| self.watches_all(run)), "a lease is known and not watched");
        let (here, passed_on): (Vec<_>, Vec<_>) =
            signals.into_iter().partition(|(run, _)| !elsewhere.contains_key(run) && !self.corrupt.contains_key(run));
        batch.signals = self.hold_for_stale(here, decided, &gone);
        batch.signals.extend(done);
        for (run, delivery) in passed_on {
            if let Some(kept) = self.corrupt.get_mut(&run) {
                kept.push(delivery);
                continue;
            }
            if let Some(shard) = elsewhere.get(&run) {
                batch.messages.push(messages::forward(shard, &delivery));
            }
            batch.signals.push(delivery);
        }
        for (run, StepResult { records, commands, answers, ended, may_repeat: again, is_unfinished }) in steps {
            match refused.get(&run) {
                None => {
                    let live = self.runs.get(&run);
                    live.into_iter().for_each(|live| skips::log(&live.machine, &records));
                    let state = live.map_or(RunState::Running, |live| live.machine.state());
                    if let Some(version) = live.map(|live| live.version) {
                        self.publish_cursors.send(&run, version);
                        batch.published.push((run.clone(), version));
                    }
                    answers.into_iter().for_each(|answer| batch.answer(answer, Reply::Recorded(state)));
                    let past = if again { DispatchHistory::MaybeSent } else { DispatchHistory::NeverSent };
                    let stops = commands.iter().any(|command| matches!(command, Command::Interrupt(_)));
                    self.perform(&run, commands, past, &mut batch);
                    self.release_ended(&run, &ended);
                    if is_unfinished && self.runs.contains_key(&run) {
                        self.deferred.push(RunEvent { run: run.clone(), event: Event::Tick, reply_to: None });
                    }
                    if let Some(live) = self.runs.get(&run).filter(|_| stops) {
                        // A worker that has started a call must stop it now, and can report the start as well.
                        batch.messages.extend(self.query_started(&live.shard.clone()));
                    }
                    // There may be no subscriber.
                    let _ = self.tools.changes.send(run);
                }
                Some(error) => {
                    let reply = || Reply::Failed(error.to_string());
                    answers.into_iter().for_each(|answer| batch.answer(answer, reply()));
                }
            }
        }
        for Submitted { run, answer, watch } in submitted {
            let result = match refused.remove(&run) {
                Some(error) => Err(error),
                None if self.corrupt.contains_key(&run) => Err(SubmitError::Bug { run }),
                None => Ok(watch),
            };
            // The requester may have disconnected.
            let _ = answer.send(result);
        }
        for run in visited {
            if self.runs.get(&run).is_some_and(|live| live.is_suspended) {
                // The end is recorded, but the watcher may not have received it.
                self.close(&run, &mut batch);
            }
        }
        self.send_permit_requests(&mut batch);
        self.add_republished(&mut batch);
        self.send(batch).await;
    }

    /// Returns the guests' logs of watched runs, each with its watcher.
    fn watched_logs(
        &self,
        logs: &BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> Vec<(RunId, mpsc::Sender<WatchEvent>, WatchEvent)> {
        let of_run = |(run, logs): (&RunId, &Vec<AttemptLog>)| {
            let watcher = self.runs.get(run)?.watcher.clone()?;
            let told = |log: &AttemptLog| (run.clone(), watcher.clone(), WatchEvent::Log(log.clone()));
            Some(logs.iter().map(told).collect::<Vec<_>>())
        };
        logs.iter().filter_map(of_run).flatten().collect()
    }

    /// Appends the records of every run at once; returns the runs for which the append failed, each with its error.
    async fn append(
        &mut self,
        steps: &BTreeMap<RunId, StepResult>,
        logs: &mut BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> BTreeMap<RunId, SubmitError> {
        let append = |(run, stepped): (&RunId, &StepResult)| {
            let live = self.runs.get(run)?;
            let flow = live.machine.flow().name.clone();
            let standing = RunInfo { shard: live.shard.clone(), flow, state: live.machine.state() };
            let (records, logs) = (stepped.records.clone(), logs.remove(run).unwrap_or_default());
            let told = self.publish_cursors.published(run);
            Some(Append { run: run.clone(), follows: live.version, records, info: standing, logs, published: told })
        };
        let appends: Vec<Append> = steps.iter().filter_map(append).collect();
        let mut refused = BTreeMap::new();
        match self.tools.logbook.append(appends).await {
            Ok(outcomes) => {
                for ((run, stepped), outcome) in steps.iter().zip(outcomes) {
                    match outcome {
                        AppendOutcome::Durable => {
                            if let Some(live) = self.runs.get_mut(run) {
                                live.version = live.version.after(&stepped.records);
                            }
                            self.publish_cursors.on_persisted(run, self.publish_cursors.published(run));
                            self.snapshot(run).await;
                        }
                        AppendOutcome::Conflict(version) => {
                            refused.insert(run.clone(), SubmitError::Exists { run: run.clone() });
                            self.on_conflict(run, version);
                        }
                    }
                }
            }
            Err(AppendError::Unavailable { reason }) => {
                error!(error = reason, "the logbook was not written");
                let unavailable = || AppendError::Unavailable { reason: reason.clone() };
                refused.extend(steps.keys().map(|run| (run.clone(), SubmitError::Append(unavailable()))));
            }
        }
        refused
    }

    /// Saves a snapshot of a run now and then, so that the cost of loading it depends on its size and not on its
    /// history. For a persistent run, the records before the previous snapshot are deleted, so that their number is
    /// bounded too.
    async fn snapshot(&mut self, run: &RunId) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let since = live.version.get().saturating_sub(live.snapshot.get());
        let worth = SNAPSHOT_INTERVAL.max(2 * live.machine.size() as u64);
        if since < worth || live.machine.state().is_final() {
            return;
        }
        let lives = live.machine.flow().triggers.is_some();
        // Unpublished records must not be deleted. At a high rate the next snapshot waits for publishing: otherwise
        // no records would ever be deleted.
        if lives && !self.publish_cursors.is_published(run, live.snapshot) && since < MAX_SNAPSHOT_DELAY * worth {
            return;
        }
        let (version, snapshot) = (live.version, live.machine.snapshot());
        let before = std::mem::replace(&mut live.snapshot, version);
        if lives
            && before != Version::NONE
            && let Err(error) = self.tools.logbook.trim(run, before).await
        {
            warn!(%run, %error, "the oldest records of a run were not let go");
        }
        if let Err(error) = self.tools.logbook.save_snapshot(run, version, snapshot).await {
            warn!(%run, %error, "a snapshot was not kept: the run loads from an older one");
        }
    }

    /// Converts commands into a batch for the outbox, and closes the run if it is inactive afterwards.
    fn perform(&mut self, run: &RunId, commands: Vec<Command>, past: DispatchHistory, batch: &mut OutboxBatch) {
        self.dispatch(run, commands, past, batch);
        self.note_due(run);
        if let Some(live) = self.runs.get(run) {
            self.listeners.note(&live.shard, &live.machine);
        }
        if self.runs.get(run).is_some_and(|live| is_inactive(live.machine.state())) {
            self.close(run, batch);
        }
    }

    fn dispatch(&mut self, run: &RunId, commands: Vec<Command>, past: DispatchHistory, batch: &mut OutboxBatch) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let flow = live.machine.flow().clone();
        for command in commands {
            match command {
                Command::Call(call) => {
                    if let Some(task) = live.machine.task(&call.id.task) {
                        let to = messages::EngineAddress { shard: &live.shard, store_queue: &self.tools.store_queue };
                        let id = call.id.clone();
                        let job = messages::job(&to, &flow, task, *call);
                        if permits::is_paced(task, id.action) {
                            let (now, asked) = (self.tools.clock.now(), permits::paced_call(task, id, job));
                            batch.messages.extend(self.permits.request(now, &live.shard, &flow.name, asked, past));
                        } else {
                            batch.messages.push(job);
                        }
                    }
                }
                Command::Fetch(errand) => self.fetches.send(run.clone(), *errand),
                Command::Interrupt(call) => batch.messages.push(messages::interrupt(call)),
                Command::Publish(change) => {
                    if let Change::Node(change) = &change {
                        batch.messages.push(messages::notification(run, &flow, change));
                    }
                    if let Some(watcher) = &live.watcher {
                        batch.watch_events.push((watcher.clone(), WatchEvent::Change(change)));
                    }
                }
            }
        }
    }

    fn note_due(&mut self, run: &RunId) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let due = live.machine.next_due();
        if live.due != due {
            live.due.into_iter().for_each(|at| {
                self.due.remove(&(at, run.clone()));
            });
            self.due.extend(due.map(|at| (at, run.clone())));
            live.due = due;
        }
    }

    /// Removes a run that has ended or is suspended from memory.
    fn close(&mut self, run: &RunId, batch: &mut OutboxBatch) {
        self.permits.remove_run(run);
        let Some(live) = self.remove_run(run) else { return };
        let flow = &live.machine.flow().name;
        if !live.is_suspended {
            match live.machine.state() {
                RunState::Failure => error!(target: RUN_LOG_TARGET, %run, %flow, state = "failure", "run ended"),
                RunState::RolledBack => warn!(target: RUN_LOG_TARGET, %run, %flow, state = "rolled-back", "run ended"),
                state @ (RunState::Success
                | RunState::Suspended
                | RunState::Pending
                | RunState::Running
                | RunState::Suspending) => info!(target: RUN_LOG_TARGET, %run, %flow, %state, "run ended"),
            }
        }
        if let Some(watcher) = live.watcher {
            batch.watch_events.push((watcher, WatchEvent::Ended(Arc::new(live.machine))));
        }
    }

    fn remove_run(&mut self, run: &RunId) -> Option<ActiveRun> {
        let live = self.runs.remove(run)?;
        if let Some(at) = live.due {
            self.due.remove(&(at, run.clone()));
        }
        Some(live)
    }

    async fn send(&self, batch: OutboxBatch) {
        // The outbox outlives the driver: it ends when this sender is dropped.
        let _ = self.tools.out.send(batch).await;
    }
}

impl OutboxBatch {
    /// Sends the reply to a run command: a local one now, a remote one with the batch.
    fn answer(&mut self, answer: ReplyTo, reply: Reply) {
        match answer {
            ReplyTo::Local(answer) => {
                // The requester may have disconnected.
                let _ = answer.send(reply);
            }
            ReplyTo::Remote { queue, correlation_id } => {
                self.messages.push(messages::reply(queue, correlation_id, &reply));
            }
        }
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
