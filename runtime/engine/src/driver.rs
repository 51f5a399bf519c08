//! The one task that drives the runs of an engine's shards.
//!
//! Each iteration of its loop receives a batch of input, decides records for it, appends all records at once, and only
//! then lets the outbox carry out the effects.
//!
//! The driver owns the parts and passes input and effects between them. Each part is a plain value that owns its own
//! state and knows no other part: `runs.rs`, `shards.rs`, `leases.rs`, `withdrawals.rs`, `listeners.rs`, `forwards.rs`, `deferred.rs`,
//! `condition_turns.rs`, `call_queue.rs`, `memo.rs`, `snapshots.rs`, `permits/client.rs` and `publications.rs`. Only these files of the driver do I/O: `receive.rs`, `requests.rs`,
//! `declare.rs`, `load.rs`, `stale.rs`, `ownership.rs` and `tick.rs` read what a decision needs before it is made; `append.rs` writes
//! the records, and `step.rs` hands the effects to the outbox. The rest decides, and awaits nothing.
//!
//! The driver never waits for the broker: `declarations.rs` declares and binds beside it.
//!
//! Reading order: this file, then `step.rs` (decide, append, settle, publish) and `dispatch.rs` (commands as effects);
//! then `receive.rs`, `handle.rs` and `forward.rs` (messages), and `requests.rs` (calls of the engine's handle).

mod append;
mod call_location;
mod decisions;
mod declare;
mod dispatch;
mod forward;
mod handle;
mod load;
mod measure;
mod ownership;
mod receive;
mod requests;
mod shares;
mod skips;
mod spans;
mod stale;
mod stalls;
mod step;
mod tick;
mod unreadable;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use broker::{Delivery, Refusals};
use flow::{CallId, Namespace, RunId, Shard, Timestamp, Value};
use logbook::{Logbook, MemoChanges, MemoLimits};
use machine::{Command, EndedAttempt, Event, Machine, Record};
use protocol::{AttemptLog, EngineSecret, Reply};
use store::Store;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, MaxOpenRuns, SubmitError, Watch,
    call_queue::CallQueue,
    changed_runs::ChangedRuns,
    clock::{ClockReader, TICK},
    condition_turns::ConditionTurns,
    declarations::Declarations,
    deferred::{DeferredEvents, MAX_BATCH_DEFERRED},
    effects::{Effects, ReplyTo},
    fetches::Fetches,
    forwards::Forwards,
    held_notifications::HeldNotifications,
    inbox::Inbox,
    leases::Leases,
    listeners::{ListenedTask, Listeners},
    loads::Loads,
    memo::{Lookups, MemoTrim},
    outbox::{self, ConfirmedVersions},
    permits::{calls::EndedCalls, client::PermitClient},
    publications::Publications,
    requeued::RequeuedDeliveries,
    runs::{RecentRuns, RunEvent, Runs, is_inactive},
    shards::{Shards, Sharing},
    snapshots::Snapshots,
    topology_cache::TopologyCache,
    unserved_queues,
    withdrawals::Withdrawals,
};
pub use call_location::CallLocation;
pub(crate) use requests::{Adoption, DriverRequest, Submission};
use spans::EndingAttempt;
use stale::ReturnedDelivery;

/// Number of signals after which a batch takes no further message: enough to share the cost of an append, few enough to
/// answer soon. The last message may hold several signals.
const MAX_BATCH_SIGNALS: usize = 512;

/// Number of messages after which a batch takes none. A notification is only read when it arrives, and adds no signal; a
/// batch takes many more than it causes.
const MAX_BATCH_MESSAGES: usize = 2_048;

/// Bytes of messages, and of the records of runs that are read for them, after which a batch takes no message. The records of a batch
/// have as many, and those of one run are one row of the logbook. It is many batches' worth of usual messages.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// Number of runs that are looked up in the logbook after which a batch takes no message: each takes a millisecond or more.
const MAX_BATCH_LOADS: usize = 128;

/// Maximum number of timers that one batch looks at, besides those that have their turn: enough for a neighbour to be among them soon.
const MAX_DUE_TIMERS: usize = 8 * MAX_BATCH_DEFERRED;

/// The input of one iteration of the driver's loop, before any of it is durable.
#[derive(Default)]
struct Batch {
    events: Vec<RunEvent>,
    /// Those that were deferred: they are decided after the others.
    deferred: Vec<RunEvent>,
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
    /// The number of messages in it.
    messages: usize,
    /// The number of runs that were looked up for it.
    loads: usize,
    /// The bytes of these messages and runs.
    bytes: usize,
}

impl Batch {
    /// Whether it may take more messages, or read more runs.
    fn has_room(&self) -> bool {
        self.events.len() < MAX_BATCH_SIGNALS
            && self.messages < MAX_BATCH_MESSAGES
            && self.loads < MAX_BATCH_LOADS
            && self.bytes < MAX_BATCH_BYTES
    }

    /// Whether it may read more stale runs: most of it is for messages, so that a shard that is taken over delays no other.
    fn has_room_to_reload(&self) -> bool {
        self.events.len() < MAX_BATCH_SIGNALS / 4
            && self.loads < MAX_BATCH_LOADS / 4
            && self.bytes < MAX_BATCH_BYTES / 4
    }

    fn count_message(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts a run that the driver has looked up, and the bytes that it has read for it.
    fn count_load(&mut self, bytes: u64) {
        self.loads += 1;
        self.bytes = self.bytes.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

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
    /// Calls that a suspended run sends again, since it continues.
    resumed: Vec<CallId>,
    /// The bytes of the records and commands.
    bytes: usize,
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
    /// The attempts that the records end, and when: for their spans.
    traced_attempts: Vec<(EndingAttempt, Timestamp)>,
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
    /// Is notified of each run that has new records.
    pub(crate) changes: ChangedRuns,
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
    call_queue: CallQueue,
    listeners: Listeners,
    forwards: Forwards,
    publications: Publications,
    fetches: Fetches,
    lookups: Lookups,
    memo_trim: MemoTrim,
    loads: Loads,
    snapshots: Snapshots,
    declarations: Declarations,
    /// Notifications that arrived when the listeners of their shard were not all known.
    held_notifications: HeldNotifications,
    /// Deliveries for runs that are being read, which are put behind the other messages of their queues with the next tick.
    requeued: RequeuedDeliveries,
    /// Deliveries that were held and are received again, before newer ones.
    returned: VecDeque<ReturnedDelivery>,
    /// Whether stale runs are left that this batch did not read.
    is_reloading: bool,
    /// The number of notifications that were dropped because too many of firings without a call waited.
    dropped_notifications: u64,
    /// Loaded runs whose unanswered calls are sent again in the next iteration, once the answers that arrived before are
    /// handled.
    resend_next: BTreeSet<RunId>,
    /// The same for runs whose answers are still in the queue of their shard, by the probe that is behind these.
    resend_at_probe: BTreeMap<(Shard, u64), RunId>,
    clock: ClockReader,
    conditions: ConditionTurns,
    /// Events that a later batch decides.
    deferred: DeferredEvents,
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
            snapshots: Snapshots::new(context.logbook.clone()),
            declarations: Declarations::new(context.topology.clone()),
            held_notifications: HeldNotifications::default(),
            requeued: RequeuedDeliveries::default(),
            returned: VecDeque::new(),
            is_reloading: false,
            dropped_notifications: 0,
            forwards: Forwards::default(),
            resend_next: BTreeSet::new(),
            resend_at_probe: BTreeMap::new(),
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
            call_queue: CallQueue::default(),
            shards,
            publications,
            deferred: DeferredEvents::default(),
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
            for run in std::mem::take(&mut self.resend_next) {
                self.resend_outstanding_calls(&run);
            }
            if self.is_reloading {
                self.reload_stale(&mut batch).await;
            }
            self.start_loads();
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
                ended = self.lookups.next(), if !self.lookups.is_empty() => self.on_looked_up(ended),
                Some(ended) = self.loads.next(), if !self.loads.is_empty() => self.finish_load(ended, &mut batch).await,
                Some(ended) = self.declarations.next(), if !self.declarations.is_empty() => {
                    self.on_declared(ended, &mut batch).await;
                }
                Some(request) = requests.recv() => self.on_request(request, &mut batch).await,
                // What was held comes before what arrives now, such as a probe that proves that all earlier messages were received.
                incoming = inbox.next(), if self.returned.is_empty() => match incoming {
                    Some(incoming) => {
                        batch.count_message(incoming.size());
                        self.receive(incoming, &mut batch).await;
                    }
                    None => break,
                },
                // These come last, since they may be ready in every iteration.
                () = tokio::time::sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
                () = std::future::ready(()), if !batch.events.is_empty() || self.has_more() => {}
                () = outbox::room_for_backlog(&outbox), if self.publications.is_due() => {}
            }
            while batch.has_room()
                && let Ok(request) = requests.try_recv()
            {
                self.on_request(request, &mut batch).await;
            }
            self.receive_returned(&mut batch).await;
            while batch.has_room()
                && self.returned.is_empty()
                && let Some(incoming) = inbox.try_next()
            {
                batch.count_message(incoming.size());
                self.receive(incoming, &mut batch).await;
            }
            self.forward_notifications(&mut batch).await;
            self.withdraw_due(&mut batch);
            self.take_deferred(&mut batch);
            self.step(batch).await;
        }
        inbox.close();
    }

    /// Whether the next batch goes on with something, whether or not anything arrives.
    fn has_more(&self) -> bool {
        self.is_reloading
            || !self.conditions.is_empty()
            || !self.deferred.is_empty()
            || !self.returned.is_empty()
            || !self.call_queue.is_empty()
            || !self.resend_next.is_empty()
            || self.withdrawals.is_due()
    }

    /// Adds an event to the batch, or holds it for a stale run whose records must be read first.
    fn enqueue(&mut self, event: RunEvent, batch: &mut Batch) {
        let event = self.hold_event(event, batch);
        batch.events.extend(event);
    }

    /// Holds an event for a stale run whose records must be read first; returns it if its run is not stale.
    fn hold_event(&mut self, event: RunEvent, batch: &mut Batch) -> Option<RunEvent> {
        let Some(stale) = self.runs.stale_mut(&event.run) else { return Some(event) };
        if let Some(reply_to) = stale.hold_event(event) {
            batch.effects.reply(reply_to, Reply::Refused(stale::TOO_MANY_HELD.into()));
        }
        None
    }

    /// Lets a later batch decide an event.
    fn defer(&mut self, event: RunEvent) {
        let namespace = self.namespace_of(&event.run);
        self.deferred.push(namespace, event);
    }

    /// The namespace of the flow of a run in memory.
    fn namespace_of(&self, run: &RunId) -> Option<Namespace> {
        self.runs.get(run).and_then(|active| active.machine.flow().name.namespace())
    }

    /// Adds events that were deferred, and a tick for runs with a timer that is due, in turns and as many as one batch takes. A run that
    /// waits for a turn of its conditions gets a tick with it.
    fn take_deferred(&mut self, batch: &mut Batch) {
        for run in self.runs.take_due(self.context.clock.now(), MAX_DUE_TIMERS) {
            if !self.conditions.has(&run) {
                self.defer(RunEvent::new(run, Event::Tick));
            }
        }
        let mut bytes = 0;
        for _ in 0..MAX_BATCH_DEFERRED {
            let Some(event) = self.deferred.take() else { break };
            bytes += remembered_bytes(&event.event);
            let event = self.hold_event(event, batch);
            batch.deferred.extend(event);
            if bytes >= MAX_BATCH_BYTES {
                break;
            }
        }
    }

    /// Whether confirmed messages outlive this process. If other engines were seen, they do.
    fn is_lasting(&self) -> bool {
        self.context.is_durable || self.shards.has_peers()
    }
}

/// The bytes of a remembered result. Other events that are deferred have hardly any.
fn remembered_bytes(event: &Event) -> usize {
    if let Event::Remembered { values, .. } = event { values.values().map(Value::written_size).sum() } else { 0 }
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
