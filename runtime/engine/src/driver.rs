//! The one task that drives the runs of an engine's shards.
//!
//! Each iteration of its loop receives a batch of input, decides records for it, appends all records at once, and only
//! then lets the outbox carry out the effects.
//!
//! The driver owns the parts and passes input and effects between them. Each part is a plain value that owns its own
//! state and knows no other part: `runs.rs`, `shards.rs`, `leases.rs`, `withdrawals.rs`, `listeners.rs`, `forwards.rs`,
//! `condition_turns.rs`, `memo.rs`, `permits/client.rs` and `publications.rs`. Only these files of the driver do I/O: `receive.rs`, `requests.rs`,
//! `declare.rs`, `load.rs`, `ownership.rs` and `tick.rs` read what a decision needs before it is made; `append.rs` writes
//! the records, and `step.rs` hands the effects to the outbox. The rest decides, and awaits nothing.
//!
//! The driver never waits for the broker: `declarations.rs` declares and binds beside it.
//!
//! Reading order: this file, then `step.rs` (decide, append, settle, publish) and `dispatch.rs` (commands as effects);
//! then `receive.rs`, `handle.rs` and `forward.rs` (messages), and `requests.rs` (calls of the engine's handle).

mod append;
mod call_location;
mod declare;
mod dispatch;
mod forward;
mod handle;
mod load;
mod measure;
mod ownership;
mod receive;
mod requests;
mod skips;
mod step;
mod tick;
mod unreadable;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use broker::{Delivery, Refusals};
use flow::{RunId, Shard};
use logbook::{Logbook, MemoChanges, MemoLimits};
use machine::{Command, EndedAttempt, Event, Machine, Record};
use protocol::{AttemptLog, EngineSecret, Reply};
use store::Store;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, MaxOpenRuns, SubmitError, Watch,
    clock::{ClockReader, TICK},
    condition_turns::ConditionTurns,
    declarations::Declarations,
    effects::{Effects, ReplyTo},
    fetches::Fetches,
    forwards::Forwards,
    inbox::Inbox,
    leases::Leases,
    listeners::{ListenedTask, Listeners},
    loads::Loads,
    memo::{Lookups, MemoTrim},
    outbox::{self, ConfirmedVersions},
    permits::{calls::EndedCalls, client::PermitClient},
    publications::Publications,
    runs::{RecentRuns, RunEvent, Runs, is_inactive},
    shards::{ShardDelivery, Shards, Sharing},
    topology_cache::TopologyCache,
    unserved_queues,
    withdrawals::Withdrawals,
};
pub use call_location::CallLocation;
pub(crate) use requests::{Adoption, DriverRequest, Submission};

/// Number of signals after which a batch takes no further message: enough to share the cost of an append, few enough to
/// answer soon. The last message may hold several signals.
const MAX_BATCH_SIGNALS: usize = 512;

/// Number of messages after which a batch takes none. A notification is only read when it arrives, and adds no signal; a
/// batch takes many more than it causes.
const MAX_BATCH_MESSAGES: usize = 2_048;

/// Bytes of messages after which a batch takes none. The records of a batch have as many, and those of one run are one row of the
/// logbook. It is many batches' worth of usual messages.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// The input of one iteration of the driver's loop, before any of it is durable.
#[derive(Default)]
struct Batch {
    events: Vec<RunEvent>,
    signals: Vec<(RunId, Delivery)>,
    logs: BTreeMap<RunId, Vec<AttemptLog>>,
    submitted: Vec<Submitted>,
    /// Runs that were read from the logbook for this batch.
    loaded: BTreeSet<RunId>,
    /// Runs that do not exist: messages for them are accepted and dropped.
    not_found: BTreeSet<RunId>,
    /// Runs of shards that another engine drives: their messages are forwarded.
    remote_runs: BTreeMap<RunId, Shard>,
    /// Tasks from which the queue of a shard is unbound, unless a run listens to them by then.
    unbind: BTreeSet<ListenedTask>,
    /// Effects that need no record.
    effects: Effects,
}

impl Batch {
    fn push(&mut self, run: RunId, event: Event) {
        self.events.push(RunEvent::new(run, event));
    }
}

/// A new run, and the requester that waits until its start is durable.
struct Submitted {
    run: RunId,
    reply_to: oneshot::Sender<Result<Watch, SubmitError>>,
    watch: Watch,
}

/// The result of all steps of one run in a batch.
#[derive(Default)]
struct StepResult {
    records: Vec<Record>,
    commands: Vec<Command>,
    reply_to: Vec<ReplyTo>,
    /// Calls that may have ended.
    ended: EndedCalls,
    /// Whether some of the commands may have been performed before.
    may_repeat: bool,
    /// Whether the run continues in the next batch.
    is_unfinished: bool,
    /// Whether a person has retried the run, which may have ended.
    is_retried: bool,
    /// What the records change in the remembered results.
    memos: MemoChanges,
    /// The attempts that the records end: for the metrics.
    ended_attempts: Vec<EndedAttempt>,
    /// How late the records fire schedules: for the metrics.
    schedule_delays: Vec<Duration>,
}

/// The dependencies of a driver.
pub(crate) struct DriverContext {
    pub(crate) logbook: Arc<dyn Logbook>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: mpsc::Sender<Effects>,
    /// The versions whose messages the broker has confirmed.
    pub(crate) confirmed: ConfirmedVersions,
    /// Whether messages that the broker has confirmed outlive this process.
    pub(crate) is_durable: bool,
    pub(crate) topology: TopologyCache,
    /// Receives the id of every run that has new records.
    pub(crate) changes: broadcast::Sender<RunId>,
    /// The name of the queue that serves content from the store.
    pub(crate) store_queue: String,
    /// The secret of all engines of the logbook.
    pub(crate) secret: EngineSecret,
    /// The number of calls that wait for a worker, by queue.
    pub(crate) waiting: unserved_queues::WaitingCalls,
    /// The maximum number of runs of one flow that have not ended.
    pub(crate) max_open_runs: MaxOpenRuns,
    /// How much is remembered of each namespace.
    pub(crate) memo_limits: MemoLimits,
    /// The host that the engine runs on, to show to users.
    pub(crate) host: String,
}

/// Owns the parts of an engine.
pub(crate) struct Driver {
    context: DriverContext,
    shards: Shards,
    runs: Runs,
    recent: RecentRuns,
    refusals: Refusals,
    leases: Leases,
    withdrawals: Withdrawals,
    permits: PermitClient,
    listeners: Listeners,
    forwards: Forwards,
    publications: Publications,
    fetches: Fetches,
    lookups: Lookups,
    memo_trim: MemoTrim,
    loads: Loads,
    declarations: Declarations,
    /// Notifications that arrived when the listeners of their shard were not all known.
    held_notifications: Vec<ShardDelivery>,
    /// The number of notifications that were dropped because too many of firings without a call waited.
    dropped_notifications: u64,
    /// Loaded runs whose unanswered calls are sent again in the next iteration, once the answers that arrived before are
    /// handled.
    resend_next: BTreeSet<RunId>,
    clock: ClockReader,
    conditions: ConditionTurns,
    /// Events that the last batch caused for the next one.
    deferred: Vec<RunEvent>,
    /// When the calls that wait for a worker were last counted.
    waiting_counted_at: Option<tokio::time::Instant>,
}

impl Driver {
    pub(crate) fn new(context: DriverContext, shards: Shards) -> Self {
        let mut publications = Publications::default();
        if shards.sharing() == Sharing::Exclusive {
            // No other engine takes the shard over: this one drives it from the start.
            shards.known().for_each(|shard| publications.add_unsearched(shard.clone()));
        }
        Self {
            fetches: Fetches::new(context.store.clone()),
            lookups: Lookups::new(context.logbook.clone(), context.store.clone()),
            memo_trim: MemoTrim::new(context.logbook.clone(), context.memo_limits),
            loads: Loads::new(context.logbook.clone()),
            declarations: Declarations::new(context.topology.clone()),
            held_notifications: Vec::new(),
            dropped_notifications: 0,
            forwards: Forwards::default(),
            resend_next: BTreeSet::new(),
            listeners: Listeners::default(),
            clock: ClockReader::new(&*context.clock),
            conditions: ConditionTurns::default(),
            context,
            runs: Runs::default(),
            recent: RecentRuns::default(),
            refusals: Refusals::default(),
            leases: Leases::default(),
            withdrawals: Withdrawals::default(),
            permits: PermitClient::new(shards.engine().to_owned(), shards.secret()),
            shards,
            publications,
            deferred: Vec::new(),
            waiting_counted_at: None,
        }
    }

    /// Steps runs until `stop` is cancelled, or until the broker closes.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox,
        mut requests: mpsc::Receiver<DriverRequest>,
        stop: CancellationToken,
    ) {
        let outbox = self.context.outbox.clone();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut batch = Batch::default();
            for event in std::mem::take(&mut self.deferred) {
                self.enqueue(event, &mut batch);
            }
            for run in std::mem::take(&mut self.resend_next) {
                self.resend_outstanding_calls(&run, &mut batch);
            }
            let now = self.context.clock.now();
            self.lookups.start(now);
            let until_due = self.runs.next_due().map(|at| at.since(now));
            let until_due = until_due.into_iter().chain(self.forwards.next_due(Instant::now())).min();
            // Every arm only receives or waits, so dropping it loses nothing. The order is fixed, so that the same
            // input always leads to the same batches. No arm blocks another, since each batch takes from all of them.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.tick(&inbox, &mut batch).await,
                Some((run, event)) = self.fetches.next(), if !self.fetches.is_empty() => {
                    self.enqueue(RunEvent::new(run, event), &mut batch);
                }
                ended = self.lookups.next(), if !self.lookups.is_empty() => self.on_looked_up(ended, &mut batch),
                Some(ended) = self.loads.next(), if !self.loads.is_empty() => self.finish_load(ended, &mut batch).await,
                Some(ended) = self.declarations.next(), if !self.declarations.is_empty() => {
                    self.on_declared(ended, &mut batch).await;
                }
                Some(request) = requests.recv() => self.on_request(request, &mut batch).await,
                incoming = inbox.next() => match incoming {
                    Some(incoming) => self.receive(incoming, &mut batch).await,
                    None => break,
                },
                // These come last, since they may be ready in every iteration.
                () = tokio::time::sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
                () = std::future::ready(()), if !batch.events.is_empty() || !self.conditions.is_empty() => {}
                () = outbox::room_for_backlog(&outbox), if self.publications.is_due() => {}
            }
            while batch.events.len() < MAX_BATCH_SIGNALS
                && let Ok(request) = requests.try_recv()
            {
                self.on_request(request, &mut batch).await;
            }
            let (mut received, mut bytes) = (0, 0);
            while batch.events.len() < MAX_BATCH_SIGNALS
                && received < MAX_BATCH_MESSAGES
                && bytes < MAX_BATCH_BYTES
                && let Some(incoming) = inbox.try_next()
            {
                received += 1;
                bytes += incoming.size();
                self.receive(incoming, &mut batch).await;
            }
            self.forward_notifications(&mut batch).await;
            self.add_due_runs(&mut batch);
            self.step(batch).await;
        }
        inbox.close();
    }

    /// Adds an event to the batch, or holds it for a stale run whose records must be read first.
    fn enqueue(&mut self, event: RunEvent, batch: &mut Batch) {
        match self.runs.stale_mut(&event.run) {
            Some(stale) => stale.pending.push(event),
            None => batch.events.push(event),
        }
    }

    /// Adds a tick for every run with a timer that is due. A run that waits for a turn gets one with it.
    fn add_due_runs(&self, batch: &mut Batch) {
        for run in self.runs.due_by(self.context.clock.now()).filter(|run| !self.conditions.has(run)) {
            batch.push(run.clone(), Event::Tick);
        }
    }

    /// Whether confirmed messages outlive this process. If other engines were seen, they do.
    fn is_lasting(&self) -> bool {
        self.context.is_durable || self.shards.has_peers()
    }
}

/// Returns the reply that explains why an event had no effect. `refusal` is why the machine refused a notification.
fn rejection(machine: &Machine, event: &Event, refusal: Option<String>) -> Reply {
    let state = machine.state();
    match event {
        Event::Notify { task, key: Some(key), .. } if machine.has_received(task, key) => Reply::Recorded(state),
        Event::Notify { .. } if !is_inactive(state) => refusal.map_or(Reply::NotApplicable(state), Reply::Refused),
        Event::Edit { revision, .. } if *revision != machine.revision() => Reply::Refused(format!(
            "the flow is at revision {} by now, and the edit was made against {revision}",
            machine.revision()
        )),
        Event::Edit { flow, .. } => Reply::Refused(machine.edit_errors(flow).join("; ")),
        _ => Reply::NotApplicable(state),
    }
}
