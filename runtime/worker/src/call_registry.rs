//! The calls that a worker has, and the interrupted and withdrawn calls that it knows.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::Delivery;
use flow::{CallId, Execution, FlowName, Namespace, RunId};
use protocol::{
    CallKeys, HeartbeatNumber, Job, Key, MAX_LISTED_CALLS, Report, Seal, WithdrawnCall, WorkerCall, WorkerCalls,
};
use tokio::{
    sync::{broadcast, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    live::{self, FollowSender},
    missed_withdrawals::MissedWithdrawals,
};

/// The maximum number of proofs of interruptions and withdrawals to remember, whose jobs have not arrived. Each costs some
/// hundred bytes.
const MAX_WITHDRAWN_CALLS: usize = 10_000;

/// The calls that a worker has, and the interrupted and withdrawn calls that it knows.
pub(crate) struct CallRegistry {
    state: Mutex<RegistryState>,
    pub(crate) followed: FollowSender,
}

struct RegistryState {
    running: BTreeMap<CallEntry, RunningCall>,
    /// Proofs of interruptions and withdrawals of calls that do not run here. Their jobs may still arrive; the job's
    /// key then verifies the proof.
    withdrawn: HashSet<Seal>,
    oldest: VecDeque<Seal>,
    missed: MissedWithdrawals,
}

/// One call of one job. An engine that took over a run needs a signal of its own, in its queue. A job with another key for
/// the call is forged, or of an engine with another logbook: it must not take the place of the right one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallEntry {
    call: CallId,
    signal_to: String,
    key: Key,
}

/// One call that this worker has.
struct RunningCall {
    flow: FlowName,
    since: Instant,
    interrupt: CancellationToken,
    stage: CallStage,
    is_leased: bool,
    redeliveries: Redeliveries,
    heartbeats: Arc<Heartbeats>,
}

impl RunningCall {
    /// Handles a reply, if one is awaited.
    fn on_reply(&mut self, reply: StartReply) {
        if !matches!(self.stage, CallStage::AwaitingReply(_)) {
            return;
        }
        let stage = if reply == StartReply::Wanted { CallStage::Started } else { CallStage::Refused };
        if let CallStage::AwaitingReply(sender) = std::mem::replace(&mut self.stage, stage) {
            // The call may have been interrupted meanwhile.
            let _ = sender.send(reply);
        }
    }
}

/// Numbers the heartbeats of one execution of a call.
struct Heartbeats {
    execution: Execution,
    count: AtomicU64,
}

impl Heartbeats {
    fn next(&self) -> HeartbeatNumber {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        HeartbeatNumber { execution: self.execution, count }
    }
}

/// The stage of a call.
enum CallStage {
    /// An engine was asked whether the call may start.
    AwaitingReply(oneshot::Sender<StartReply>),
    /// The call has started.
    Started,
    /// The call does not start, as an engine decided.
    Refused,
}

/// An engine's reply to the question whether a call may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartReply {
    /// The call is wanted.
    Wanted,
    /// The call is withdrawn, or already has its result.
    Unwanted,
    /// No engine will answer: the key of the job is not of their logbook.
    UnknownKey,
}

/// The redeliveries of a job while its call ran.
#[derive(Default)]
pub(crate) struct Redeliveries {
    /// Whether the job was redelivered.
    pub(crate) was_redelivered: bool,
    /// The later deliveries, which are settled with the outcome of the call.
    pub(crate) deliveries: Vec<Delivery>,
}

/// A call that a worker has accepted.
pub(crate) struct AcceptedCall<'a> {
    /// The delivery of its job.
    pub(crate) delivery: Delivery,
    /// The call.
    pub(crate) call: CallGuard<'a>,
    /// What is required before it starts.
    pub(crate) precondition: StartPrecondition,
}

/// What is required before a call starts.
pub(crate) enum StartPrecondition {
    /// Nothing: it has started.
    Nothing,
    /// The reply of an engine, whether the call is still wanted.
    AskEngine {
        /// Receives the reply.
        reply: oneshot::Receiver<StartReply>,
        /// Whether the worker received an interruption or withdrawal of the call. An engine may want it again since then.
        is_withdrawn: bool,
    },
}

impl CallRegistry {
    /// The registry of a worker that knows which withdrawals it may have missed.
    pub(crate) fn new(missed: MissedWithdrawals) -> Self {
        let (running, withdrawn, oldest) = (BTreeMap::new(), HashSet::new(), VecDeque::new());
        Self { state: Mutex::new(RegistryState { running, withdrawn, oldest, missed }), followed: live::followed() }
    }

    /// The runs that a client starts to follow from now on.
    pub(crate) fn followed(&self) -> broadcast::Receiver<RunId> {
        self.followed.subscribe()
    }

    /// Accepts a call. `None` when it already runs here: the delivery is then kept until the call has ended, since the first
    /// delivery may be lost when the job is redelivered.
    ///
    /// An engine is asked whether the call is wanted if this worker cannot know it: the worker may have missed a withdrawal, the
    /// job was delivered before, or may have expired by the engine's clock; or the call was interrupted or withdrawn.
    pub(crate) fn accept<'a>(
        &'a self,
        job: &'a Job,
        execution: Execution,
        delivery: Delivery,
    ) -> Option<AcceptedCall<'a>> {
        let mut state = self.lock();
        if let Some(running) = state.running.get_mut(&CallEntry::of(job)) {
            running.redeliveries.was_redelivered = true;
            if running.is_leased {
                delivery.accept();
            } else {
                running.redeliveries.deliveries.push(delivery);
            }
            return None;
        }
        let interrupt = CancellationToken::new();
        let is_withdrawn = state.is_withdrawn(job.keys.call);
        let may_be_withdrawn =
            was_redelivered(&delivery) || state.missed.may_include(job.at) || job.expires_at.is_some();
        let (stage, precondition) = if is_withdrawn || may_be_withdrawn {
            let (sender, reply) = oneshot::channel();
            (CallStage::AwaitingReply(sender), StartPrecondition::AskEngine { reply, is_withdrawn })
        } else {
            (CallStage::Started, StartPrecondition::Nothing)
        };
        let heartbeats = Arc::new(Heartbeats { execution, count: AtomicU64::new(0) });
        let running = RunningCall {
            flow: job.flow.clone(),
            since: Instant::now(),
            interrupt: interrupt.clone(),
            stage,
            is_leased: false,
            redeliveries: Redeliveries::default(),
            heartbeats: heartbeats.clone(),
        };
        state.running.insert(CallEntry::of(job), running);
        let call = CallGuard { calls: self, job: Some(job), interrupt, heartbeats };
        Some(AcceptedCall { delivery, call, precondition })
    }

    /// Starts a call without the reply of an engine.
    pub(crate) fn start_without_reply(&self, job: &Job) {
        if let Some(running) = self.lock().running.get_mut(&CallEntry::of(job)) {
            running.stage = CallStage::Started;
        }
    }

    /// The call has a lease, so the deliveries of its job are accepted.
    pub(crate) fn lease(&self, job: &Job) {
        if let Some(running) = self.lock().running.get_mut(&CallEntry::of(job)) {
            running.is_leased = true;
            running.redeliveries.deliveries.drain(..).for_each(Delivery::accept);
        }
    }

    fn end(&self, job: &Job) -> Redeliveries {
        self.lock().running.remove(&CallEntry::of(job)).map(|running| running.redeliveries).unwrap_or_default()
    }

    /// Interrupts a running call if the proof is valid. Only a process with the job's key can make the proof.
    pub(crate) fn interrupt(&self, call: &CallId, proof: Seal) {
        let mut state = self.lock();
        let mut is_here = false;
        for (_, running) in state.running_as(call).filter(|(entry, _)| entry.key.interrupt_proof() == proof) {
            running.interrupt.cancel();
            is_here = true;
        }
        if !is_here {
            state.add_withdrawn(proof);
        }
    }

    /// Withdraws a call if the proof is valid. If the call has started here, returns the queues of the engines to
    /// notify of that, each with the key and the number of the heartbeat.
    pub(crate) fn withdraw(
        &self,
        WithdrawnCall { call, proof }: &WithdrawnCall,
    ) -> Vec<(String, Key, HeartbeatNumber)> {
        let mut state = self.lock();
        let (mut started, mut is_here) = (Vec::new(), false);
        for (entry, running) in state.running_as(call).filter(|(entry, _)| entry.key.withdraw_proof() == *proof) {
            is_here = true;
            if matches!(running.stage, CallStage::Started) {
                started.push((entry.signal_to.clone(), entry.key, running.heartbeats.next()));
            }
        }
        if !is_here {
            state.add_withdrawn(*proof);
        }
        started
    }

    /// Handles the reply of an engine, whether a call may start.
    pub(crate) fn on_may_start(&self, call: &CallId, wanted: bool, proof: Seal) {
        for (entry, running) in self.lock().running_as(call) {
            if entry.key.may_start_proof(wanted) == proof {
                running.on_reply(if wanted { StartReply::Wanted } else { StartReply::Unwanted });
            }
        }
    }

    /// Handles the reply of an engine that cannot answer a question. Only who knows the question can make it.
    pub(crate) fn on_unknown_key(&self, call: &CallId, question: Seal) {
        for (entry, running) in self.lock().running_as(call) {
            if Report::question_seal(call, &CallKeys::of_call(entry.key)) == Some(question) {
                running.on_reply(StartReply::UnknownKey);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().running.len()
    }

    /// The calls for flows of a namespace, or all calls; those that have run longest come first.
    pub(crate) fn list(&self, namespace: Option<&Namespace>) -> WorkerCalls {
        let state = self.lock();
        let is_wanted =
            |running: &RunningCall| namespace.is_none_or(|wanted| running.flow.namespace().as_ref() == Some(wanted));
        let mut wanted: Vec<_> = state.running.iter().filter(|(_, running)| is_wanted(running)).collect();
        wanted.sort_by_key(|(_, running)| running.since);
        let count = |calls: usize| u32::try_from(calls).unwrap_or(u32::MAX);
        let listed = wanted.iter().take(MAX_LISTED_CALLS).map(|(entry, running)| WorkerCall {
            flow: running.flow.clone(),
            call: entry.call.clone(),
            running_for: running.since.elapsed(),
        });
        WorkerCalls {
            listed: listed.collect(),
            unlisted: count(wanted.len().saturating_sub(MAX_LISTED_CALLS)),
            of_others: count(state.running.len() - wanted.len()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RegistryState> {
        // Each insertion or removal is complete, so a panic in another thread leaves no partial one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of this worker, until the guard is ended or dropped: a call that panics must not keep later deliveries of its job.
pub(crate) struct CallGuard<'a> {
    calls: &'a CallRegistry,
    /// `None` once it has ended.
    job: Option<&'a Job>,
    /// Cancelled to stop the call.
    pub(crate) interrupt: CancellationToken,
    /// The numbers of its heartbeats.
    heartbeats: Arc<Heartbeats>,
}

impl CallGuard<'_> {
    /// The number of its next heartbeat.
    pub(crate) fn next_heartbeat(&self) -> HeartbeatNumber {
        self.heartbeats.next()
    }

    /// The execution that the call is.
    pub(crate) fn execution(&self) -> Execution {
        self.heartbeats.execution
    }

    /// Removes the call. If its job is redelivered later, it is called again.
    pub(crate) fn end(mut self) -> Redeliveries {
        self.job.take().map(|job| self.calls.end(job)).unwrap_or_default()
    }
}

impl Drop for CallGuard<'_> {
    /// The later deliveries are requeued, as the first one is.
    fn drop(&mut self) {
        drop(self.job.take().map(|job| self.calls.end(job)));
    }
}

impl RegistryState {
    fn running_as<'a>(&'a mut self, call: &CallId) -> impl Iterator<Item = (&'a CallEntry, &'a mut RunningCall)> {
        self.running.iter_mut().filter(move |(entry, _)| entry.call == *call)
    }

    /// Whether an engine interrupted or withdrew the call with this key.
    fn is_withdrawn(&self, key: Key) -> bool {
        !self.withdrawn.is_empty()
            && (self.withdrawn.contains(&key.withdraw_proof()) || self.withdrawn.contains(&key.interrupt_proof()))
    }

    fn add_withdrawn(&mut self, proof: Seal) {
        if self.withdrawn.insert(proof) {
            self.oldest.push_back(proof);
        }
        if self.oldest.len() > MAX_WITHDRAWN_CALLS
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.withdrawn.remove(&oldest);
            // An engine is asked about its job, which was sent before now.
            self.missed.forget_earlier();
        }
    }
}

impl CallEntry {
    pub(crate) fn of(job: &Job) -> Self {
        Self { call: job.call.clone(), signal_to: job.signal_to.clone(), key: job.keys.call }
    }
}

/// Whether a job was delivered before: the worker that had it may have executed it.
pub(crate) fn was_redelivered(delivery: &Delivery) -> bool {
    delivery.redelivered || times_returned(delivery) > 0
}

/// The number of redeliveries of a job, including those before an engine sent it again.
pub(crate) fn times_returned(delivery: &Delivery) -> u32 {
    delivery.returned.saturating_add(protocol::returned(&delivery.message.properties.headers))
}
