//! The one task that owns the runs of a shard.

mod lost;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use broker::{Consumer, Delivery};
use flow::{Change, Command, Event, Flow, Machine, Record, Role, RunId, RunState, Shard, Timestamp};
use logbook::{Append, Appended, Logbook, Version};
use protocol::Report;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{Clock, Happening, SubmitError, Watch, jobs, outbox::Batch, watch};
use lost::{Lost, RELOAD};

/// Signals in one batch. Enough to share the cost of an append, few enough to answer soon.
const LARGEST_BATCH: usize = 512;

/// The target of the one line that closes each run, so that who shows the end otherwise can leave it out.
const RUN: &str = "waft::run";

/// What the engine's handle asks.
pub(crate) enum Request {
    Submit { run: RunId, flow: Arc<Flow>, answer: oneshot::Sender<Result<Watch, SubmitError>> },
    Suspend { run: RunId },
    Cancel { run: RunId },
    Abandon { run: RunId },
}

/// A run in memory, at the version its records have in the logbook.
struct Live {
    machine: Machine,
    version: Version,
    watcher: Option<mpsc::Sender<Happening>>,
    due: Option<Timestamp>,
}

/// What the steps of one batch came to, before anything of it is durable.
#[derive(Default)]
struct Round {
    events: Vec<(RunId, Event)>,
    signals: Vec<(RunId, Delivery)>,
    submitted: Vec<Submitted>,
}

/// A run that begins, and who waits to hear that it did.
struct Submitted {
    run: RunId,
    answer: oneshot::Sender<Result<Watch, SubmitError>>,
    watch: Watch,
}

/// Owns the runs of a shard.
pub(crate) struct Driver {
    shard: Shard,
    logbook: Arc<dyn Logbook>,
    clock: Arc<dyn Clock>,
    out: mpsc::Sender<Batch>,
    runs: BTreeMap<RunId, Live>,
    lost: BTreeMap<RunId, Lost>,
    /// When to read the lost runs' records again.
    reload: tokio::time::Interval,
    due: BTreeSet<(Timestamp, RunId)>,
}

impl Driver {
    pub(crate) fn new(
        shard: Shard,
        logbook: Arc<dyn Logbook>,
        clock: Arc<dyn Clock>,
        out: mpsc::Sender<Batch>,
    ) -> Self {
        let mut reload = tokio::time::interval(RELOAD);
        reload.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { shard, logbook, clock, out, runs: BTreeMap::new(), lost: BTreeMap::new(), reload, due: BTreeSet::new() }
    }

    /// Steps runs until told to stop, or until the broker is closed.
    pub(crate) async fn run(
        mut self,
        mut signals: Consumer,
        mut requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) {
        loop {
            let mut round = Round::default();
            let wait = self.due.first().map(|(at, _)| at.since(self.clock.now()));
            // Every arm only receives, or only waits: dropping it loses nothing.
            tokio::select! {
                () = stop.cancelled() => break,
                delivery = signals.next() => match delivery {
                    Some(delivery) => self.hear(delivery, &mut round),
                    None => break,
                },
                Some(request) = requests.recv() => self.answer(request, &mut round).await,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                _ = self.reload.tick(), if !self.lost.is_empty() => self.find_lost(&mut round).await,
            }
            while round.events.len() < LARGEST_BATCH
                && let Some(delivery) = signals.try_next()
            {
                self.hear(delivery, &mut round);
            }
            while round.events.len() < LARGEST_BATCH
                && let Ok(request) = requests.try_recv()
            {
                self.answer(request, &mut round).await;
            }
            self.wake(&mut round);
            self.step(round).await;
        }
        signals.cancel();
    }

    /// Takes a delivery into the round, or passes on what needs no record.
    fn hear(&mut self, delivery: Delivery, round: &mut Round) {
        match Report::decode(&delivery.message.body) {
            Ok(Report::Signal(signal)) => {
                if let Some(lost) = self.lost.get_mut(&signal.call.run) {
                    lost.signals.push(delivery);
                    return;
                }
                let run = signal.call.run.clone();
                round.events.push((run.clone(), Event::Signal(signal)));
                round.signals.push((run, delivery));
            }
            Ok(Report::Progress(progress)) => {
                let watcher = self.runs.get(&progress.call.run).and_then(|live| live.watcher.as_ref());
                if let Some(watcher) = watcher {
                    // A slow watcher misses some progress, and no change.
                    let _ = watcher.try_send(Happening::Progress(progress));
                }
                delivery.accept();
            }
            Err(error) => {
                warn!(%error, "dropped what is no signal");
                delivery.accept();
            }
        }
    }

    async fn answer(&mut self, request: Request, round: &mut Round) {
        match request {
            Request::Submit { run, flow, answer } => {
                if self.runs.contains_key(&run) {
                    // Whoever asked may be gone.
                    let _ = answer.send(Err(SubmitError::Exists { run }));
                    return;
                }
                let (watcher, happenings) = mpsc::channel(watch::WAITING);
                let machine = Machine::new(run.clone(), flow);
                let live = Live { machine, version: Version::NONE, watcher: Some(watcher), due: None };
                self.runs.insert(run.clone(), live);
                round.events.push((run.clone(), Event::Start));
                round.submitted.push(Submitted { run, answer, watch: Watch { happenings } });
            }
            Request::Suspend { run } => self.ask(run, Event::Suspend, round),
            Request::Cancel { run } => self.ask(run, Event::Cancel, round),
            Request::Abandon { run } => {
                if let Some(live) = self.runs.get(&run) {
                    let messages = live.machine.calls_out().map(jobs::interrupt).collect();
                    self.send(Batch { messages, ..Batch::default() }).await;
                }
                self.ask(run, Event::Abandon, round);
            }
        }
    }

    fn ask(&mut self, run: RunId, event: Event, round: &mut Round) {
        match self.lost.get_mut(&run) {
            Some(lost) => lost.asked.push(event),
            None => round.events.push((run, event)),
        }
    }

    /// Adds the runs that have something due.
    fn wake(&mut self, round: &mut Round) {
        let now = self.clock.now();
        for (_, run) in self.due.iter().take_while(|(at, _)| *at <= now) {
            round.events.push((run.clone(), Event::Tick));
        }
    }

    /// Decides about every event of a round, makes the records durable in one append, and only then sends.
    async fn step(&mut self, round: Round) {
        let now = self.clock.now();
        let mut steps: BTreeMap<RunId, (Vec<Record>, Vec<Command>)> = BTreeMap::new();
        for (run, event) in &round.events {
            let Some(live) = self.runs.get_mut(run) else { continue };
            let step = live.machine.step(now, event);
            if !step.records.is_empty() {
                let (records, commands) = steps.entry(run.clone()).or_default();
                records.extend(step.records);
                commands.extend(step.commands);
            }
        }
        let mut refused = if steps.is_empty() { BTreeMap::new() } else { self.append(&steps).await };
        let begun: BTreeSet<&RunId> = round.submitted.iter().map(|submitted| &submitted.run).collect();
        for run in refused.keys() {
            self.drop_machine(run, !begun.contains(run));
        }
        let signals = self.keep_for_lost(round.signals, round.events);
        let mut batch = Batch { signals, ..Batch::default() };
        for (run, (_, commands)) in steps {
            if !refused.contains_key(&run) {
                self.perform(&run, commands, &mut batch);
            }
        }
        for Submitted { run, answer, watch } in round.submitted {
            let result = match refused.remove(&run) {
                Some(error) => Err(error),
                None => Ok(watch),
            };
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        self.send(batch).await;
    }

    /// Appends every run's records in one go; answers which runs it was refused for.
    async fn append(&mut self, steps: &BTreeMap<RunId, (Vec<Record>, Vec<Command>)>) -> BTreeMap<RunId, SubmitError> {
        let version = |run: &RunId| self.runs.get(run).map_or(Version::NONE, |live| live.version);
        let append = |(run, (records, _)): (&RunId, &(Vec<Record>, Vec<Command>))| Append {
            run: run.clone(),
            follows: version(run),
            records: records.clone(),
        };
        let mut refused = BTreeMap::new();
        match self.logbook.append(steps.iter().map(append).collect()).await {
            Ok(outcomes) => {
                for ((run, (records, _)), outcome) in steps.iter().zip(outcomes) {
                    match outcome {
                        Appended::Durable => {
                            if let Some(live) = self.runs.get_mut(run) {
                                live.version = live.version.after(records);
                            }
                        }
                        Appended::Conflict(version) => {
                            warn!(%run, version = version.get(), "another engine has added to this run");
                            refused.insert(run.clone(), SubmitError::Exists { run: run.clone() });
                        }
                    }
                }
            }
            Err(error) => {
                error!(%error, "the logbook was not written");
                let reason = error.to_string();
                let unavailable = || logbook::AppendError::Unavailable { reason: reason.clone() };
                refused.extend(steps.keys().map(|run| (run.clone(), SubmitError::Append(unavailable()))));
            }
        }
        refused
    }

    /// Turns commands into what the outbox sends.
    fn perform(&mut self, run: &RunId, commands: Vec<Command>, batch: &mut Batch) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let flow = live.machine.flow().clone();
        for command in commands {
            match command {
                Command::Call(call) => {
                    if let Role::Task(task) = &flow.node(call.node).role {
                        batch.messages.push(jobs::job(&self.shard, &flow, task, *call));
                    }
                }
                Command::Interrupt(call) => batch.messages.push(jobs::interrupt(call)),
                Command::Tell(change) => {
                    if let Change::Node(change) = &change {
                        batch.messages.push(jobs::notification(run, &flow, change));
                    }
                    if let Some(watcher) = &live.watcher {
                        batch.happenings.push((watcher.clone(), Happening::Change(change)));
                    }
                }
            }
        }
        let due = live.machine.next_due();
        if live.due != due {
            live.due.into_iter().for_each(|at| {
                self.due.remove(&(at, run.clone()));
            });
            self.due.extend(due.map(|at| (at, run.clone())));
            live.due = due;
        }
        if live.machine.state().is_final() || live.machine.state() == RunState::Suspended {
            self.close(run, batch);
        }
    }

    /// Lets go of a run that has ended, or rests.
    fn close(&mut self, run: &RunId, batch: &mut Batch) {
        let Some(live) = self.forget(run) else { return };
        let flow = &live.machine.flow().name;
        match live.machine.state() {
            RunState::Failure => error!(target: RUN, %run, %flow, state = "failure", "run ended"),
            RunState::RolledBack => warn!(target: RUN, %run, %flow, state = "rolled-back", "run ended"),
            state @ (RunState::Success
            | RunState::Suspended
            | RunState::Pending
            | RunState::Running
            | RunState::Suspending) => info!(target: RUN, %run, %flow, %state, "run ended"),
        }
        if let Some(watcher) = live.watcher {
            batch.happenings.push((watcher, Happening::Ended(Arc::new(live.machine))));
        }
    }

    fn forget(&mut self, run: &RunId) -> Option<Live> {
        let live = self.runs.remove(run)?;
        if let Some(at) = live.due {
            self.due.remove(&(at, run.clone()));
        }
        Some(live)
    }

    async fn send(&self, batch: Batch) {
        // The outbox outlives the driver: it ends when this sender goes.
        let _ = self.out.send(batch).await;
    }
}
