//! The one task that owns the runs of an engine's shards.
//!
//! Each turn takes what is at hand, decides about it, makes the records durable in one append, and only then sends.
//! Reading order: this file, `drive/hear.rs` (what arrives), `drive/load.rs` (runs that are read from the logbook),
//! `drive/shards.rs` (which shards are driven here), `drive/leases.rs`, `drive/withdrawals.rs` (calls that nobody wants any
//! more), `drive/permits.rs` (calls that wait for their turn), `drive/compare.rs` (whether memory and logbook agree),
//! `drive/unreadable.rs` (what cannot be read), `drive/errands.rs` (what runs send for), `drive/telling.rs` (what was told of
//! runs), `drive/retell.rs` (what is told again).

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

/// Signals in one batch. Enough to share the cost of an append, few enough to answer soon.
const MAX_BATCH_SIGNALS: usize = 512;

/// The most records that the runs of one batch go on for, together, so that whoever asks something meanwhile waits for some
/// tens of milliseconds. Each run goes on for a share of it, and with the rest in the next batch.
const MAX_BATCH_RECORDS: usize = 4_096;

/// The least share of a run.
const MIN_RUN_RECORDS: usize = 8;

/// How often what nobody else brings about is looked after: shards without an owner, runs that could not be read.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// A run gets a snapshot once so many records came after the last one, and more in a larger flow: what it costs is then
/// small beside what the records cost.
const SNAPSHOT_INTERVAL: u64 = 1_000;

/// So many times that is the most that a snapshot waits until what came before the last one was told.
const MAX_SNAPSHOT_DELAY: u64 = 100;

/// The target of the one line that closes each run, so that who shows the end otherwise can leave it out.
const RUN_LOG_TARGET: &str = "waft::run";

/// What the engine's handle asks.
pub(crate) enum DriverRequest {
    /// Start a run.
    Submit { run: RunId, flow: Arc<Flow>, answer: oneshot::Sender<Result<Watch, SubmitError>> },
    /// Drive a run here that another process left.
    Adopt { run: RunId, command: RunCommand, answer: oneshot::Sender<Result<Watch, CommandError>> },
    /// Record a wish for a run of a shard that is driven here.
    Command { run: RunId, wish: RunCommand, answer: oneshot::Sender<Reply> },
    /// Give up the calls of a run that is being suspended.
    Abandon { run: RunId },
    /// Say for how long the workers of a run that is driven here have sent no heartbeat of their calls.
    SilentLeases { run: RunId, answer: oneshot::Sender<Vec<SilentLease>> },
    /// Say that you are alive.
    Check { answer: oneshot::Sender<()> },
    /// Say where each call is that is out.
    CallLocations { answer: oneshot::Sender<Vec<(CallId, CallLocation)>> },
}

/// A call under a lease, and for how long no heartbeat of it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentLease {
    /// The call.
    pub call: CallId,
    /// Who has it.
    pub worker: WorkerName,
    /// For how long no heartbeat has come.
    pub since: Duration,
}

/// A run in memory, at the version its records have in the logbook.
struct ActiveRun {
    machine: Machine,
    version: Version,
    /// The version of its last snapshot.
    snapshot: Version,
    shard: Shard,
    watcher: Option<mpsc::Sender<WatchEvent>>,
    due: Option<Timestamp>,
    /// Calls that were out when the run was loaded, and are sent again if no answer to them waits in the queue.
    outstanding_at_load: BTreeSet<CallId>,
    /// Whether the run rested when it was loaded, and has not gone on since: its end was told long ago.
    is_suspended: bool,
}

/// Something that happened to a run, and who waits to hear what it led to.
struct RunEvent {
    run: RunId,
    event: Event,
    reply_to: Option<ReplyTo>,
}

/// Where the answer to a wish goes.
enum ReplyTo {
    Local(oneshot::Sender<Reply>),
    Remote { queue: String, correlation_id: Option<String> },
}

/// What one turn takes, before anything of it is durable.
#[derive(Default)]
struct Batch {
    events: Vec<RunEvent>,
    signals: Vec<(RunId, Delivery)>,
    logs: BTreeMap<RunId, Vec<AttemptLog>>,
    submitted: Vec<Submitted>,
    messages: Vec<Message>,
    probes: Vec<Message>,
    watch_events: Vec<(mpsc::Sender<WatchEvent>, WatchEvent)>,
    /// Runs that were read from the logbook for this turn.
    loaded: BTreeSet<RunId>,
    /// Runs that were looked for and are not there: what comes for them is done with.
    not_found: BTreeSet<RunId>,
    /// What is done with once the messages of the round are out.
    to_accept: Vec<Delivery>,
    /// Runs of shards that are driven elsewhere: what comes for them is passed on.
    remote_runs: BTreeMap<RunId, Shard>,
}

impl Batch {
    fn push(&mut self, run: RunId, event: Event) {
        self.events.push(RunEvent { run, event, reply_to: None });
    }
}

/// A run that begins, and who waits to hear that it did.
struct Submitted {
    run: RunId,
    answer: oneshot::Sender<Result<Watch, SubmitError>>,
    watch: Watch,
}

/// What the steps of one run came to in a turn.
#[derive(Default)]
struct StepResult {
    records: Vec<Record>,
    commands: Vec<Command>,
    answers: Vec<ReplyTo>,
    /// Calls that may have ended.
    ended: EndedCalls,
    /// Whether some of the commands may have been carried out before.
    may_repeat: bool,
    /// Whether the run goes on in the next turn.
    is_unfinished: bool,
}

/// What a driver works with.
pub(crate) struct DriverContext {
    pub(crate) logbook: Arc<dyn Logbook>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) out: mpsc::Sender<OutboxBatch>,
    /// What of it the broker has taken.
    pub(crate) confirmed: ConfirmedVersions,
    /// Whether what the broker has taken outlives this process.
    pub(crate) is_durable: bool,
    pub(crate) declared: TopologyCache,
    /// Hears of every run that has new records.
    pub(crate) changes: broadcast::Sender<RunId>,
    /// The queue that answers requests for content.
    pub(crate) store_queue: String,
    /// Where calls wait for a worker.
    pub(crate) waiting: unserved_queues::WaitingCalls,
}

/// Owns the runs of an engine's shards.
pub(crate) struct Driver {
    tools: DriverContext,
    shards: Shards,
    runs: BTreeMap<RunId, ActiveRun>,
    stale: BTreeMap<RunId, StaleRun>,
    /// Runs that cannot be read, or that a bug of ours stopped: what comes for them is kept, unsettled, for whoever drives
    /// them after this process.
    corrupt: BTreeMap<RunId, Vec<Delivery>>,
    /// What a bug of ours said that stopped a run, and which record or event brought it about.
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
    /// Runs that another process left, and that were not taken up here: they may have permits.
    abandoned: BTreeSet<RunId>,
    /// What follows from the last turn, for the next.
    deferred: Vec<RunEvent>,
    /// When it was looked last which calls wait for a worker.
    checked_waiting_at: Option<tokio::time::Instant>,
    clock: ClockReader,
}

impl Driver {
    pub(crate) fn new(tools: DriverContext, shards: Shards) -> Self {
        let gate = PermitClient::new(shards.engine().to_owned());
        let clock = ClockReader::new(&*tools.clock);
        let mut again = Republisher::default();
        if shards.sharing() == Sharing::Exclusive {
            // Nobody takes it over: it is driven here from the start.
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

    /// Steps runs until told to stop, or until the broker is closed.
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
            // Every arm only receives, or only waits: dropping it loses nothing. Biased, so that the same things in the
            // same order always lead to the same; none starves another, since each turn takes from all.
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
                // After all others: there may be something to go on with at each turn.
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
                // Whoever asked may be gone.
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

    /// Tells where calls wait that no worker is known to have begun.
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
            // It may have begun: that is known with the next beat.
            Err(SubmitError::NoShard)
        } else {
            self.shards.for_new(&run).ok_or(SubmitError::NoShard)
        };
        let shard = match refused {
            Ok(shard) => shard,
            Err(error) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(error));
                return;
            }
        };
        if let Err(error) = self.tools.declared.bind_listeners(&flow, &shard).await {
            // Whoever asked may be gone.
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

    /// Adds the runs that have something due.
    fn add_due_runs(&self, round: &mut Batch) {
        let now = self.tools.clock.now();
        for (_, run) in self.due.iter().take_while(|(at, _)| *at <= now) {
            round.push(run.clone(), Event::Tick);
        }
    }

    /// The time now. Where the clock was set, each run hears of that before all else.
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

    /// Decides about every event of a round, makes the records durable in one append, and only then sends.
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
        // Their shards were let go since they were heard of: what came goes back, to whoever drives them now.
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
            // What was given up while the run rested is asked for again when it goes on.
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
                // It may go on only to be rolled back.
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
            // One that may have begun, as far as is known, is read again too; one whose name is taken is not.
            let may_have_begun = !begun.contains(run) || matches!(error, SubmitError::Append(_));
            self.drop_machine(run, may_have_begun);
        }
        // Those of runs that are to be read again are not durable: their machines are gone by now.
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
                        // Whoever has begun a call has to stop it now, and can say so as well.
                        batch.messages.extend(self.query_started(&live.shard.clone()));
                    }
                    // Nobody has to listen.
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
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        for run in visited {
            if self.runs.get(&run).is_some_and(|live| live.is_suspended) {
                // Its end is known by now, but perhaps not to who watches it.
                self.close(&run, &mut batch);
            }
        }
        self.send_permit_requests(&mut batch);
        self.add_republished(&mut batch);
        self.send(batch).await;
    }

    /// What guests wrote in runs that are watched.
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

    /// Appends every run's records in one go; answers which runs it was refused for.
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

    /// Keeps a snapshot of a run now and then, so that loading it costs by its size and not by its history. A run that lives
    /// lets go of its records up to the snapshot before, so that they are bounded too.
    async fn snapshot(&mut self, run: &RunId) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let since = live.version.get().saturating_sub(live.snapshot.get());
        let worth = SNAPSHOT_INTERVAL.max(2 * live.machine.size() as u64);
        if since < worth || live.machine.state().is_final() {
            return;
        }
        let lives = live.machine.flow().triggers.is_some();
        // What was not told yet cannot be let go: at a high rate the next snapshot waits for that, or nothing ever would be.
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

    /// Turns commands into what the outbox sends, and lets go of the run if that was all.
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

    /// Lets go of a run that has ended, or rests.
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
        // The outbox outlives the driver: it ends when this sender goes.
        let _ = self.tools.out.send(batch).await;
    }
}

impl OutboxBatch {
    /// Answers a wish, once the batch is out.
    fn answer(&mut self, answer: ReplyTo, reply: Reply) {
        match answer {
            ReplyTo::Local(answer) => {
                // Whoever asked may be gone.
                let _ = answer.send(reply);
            }
            ReplyTo::Remote { queue, correlation_id } => {
                self.messages.push(messages::reply(queue, correlation_id, &reply));
            }
        }
    }
}

/// What a run is told that waft itself is wrong about.
const BUG_MESSAGE: &str =
    "the run is damaged, or meets a bug of waft: it is left alone until a version of waft drives it that can";

/// Does something with a run's machine that panics where waft has a bug: only that run stops then. The error is what was
/// done, as `doing` says it, and what the bug says, which names the record that brought it about.
fn catch_bug<Done>(run: &RunId, doing: &str, work: impl FnOnce() -> Done) -> Result<Done, String> {
    // What the work had in hand is not used again.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let reason = format!("{doing}: {}", flow::panic_message(&*panic));
        error!(%run, reason, BUG_MESSAGE);
        reason
    })
}

/// Why an event meant nothing.
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
