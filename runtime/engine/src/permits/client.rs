//! Calls of tasks with a rate limit or a concurrency limit: those that wait for a permit, and those that hold one.
//!
//! A plain value. For each such task and shard, it sends the task's permit coordinator a request with all calls that
//! wait or hold a permit: after each change, and with each tick. With many calls it mostly sends what has changed since.
//! Only the coordinator decides on the permits.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use broker::Message;
use flow::{CallId, FlowName, NodeName, Pace, RunId, Shard, Timestamp};
use protocol::{
    EngineSecret, MAX_LISTED_PERMITS, MAX_LISTED_TASKS, PermitGrant, PermitMessage, PermitRequest, PermitUpdate,
    PermitsAnswer, PermitsQuestion, RequestedCall, TaskPermits,
};

use crate::{
    messages,
    permits::{
        fair_queue::{FairQueue, QueuePosition},
        paces::Paces,
    },
};

/// Maximum number of waiting calls in one request: more than are granted before the next request.
const MAX_REQUESTED_CALLS: usize = 256;

/// The number of calls with a permit that a request may always name. With more, it is followed by updates for a while.
const MAX_HELD_AT_ONCE: usize = 64;

/// The number of calls with a permit that requests name in one tick, on average: those of a task may be ten thousand, and a broker
/// writes each message to its disks.
const HELD_PER_TICK: usize = 100;

/// How often an empty request is sent after the last call has gone: a message may be lost.
const FINAL_REQUESTS: u32 = 3;

/// Whether a call that needs a permit may have been dispatched before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DispatchHistory {
    /// It was never dispatched.
    NeverSent,
    /// It may have been dispatched before, with a permit that its coordinator knows.
    MaybeSent,
}

/// A call that needs a permit.
pub(crate) struct PacedCall {
    pub(crate) call: CallId,
    pub(crate) pace: Pace,
    pub(crate) priority: i32,
}

/// All rate-limited calls of all shards that are driven here.
pub(crate) struct PermitClient {
    engine: String,
    secret: EngineSecret,
    requested: u64,
    arrivals: u64,
    since: BTreeMap<Shard, Timestamp>,
    tasks: BTreeMap<TaskKey, TaskCalls>,
    runs: BTreeMap<RunId, BTreeMap<CallId, TaskKey>>,
}

/// A task, and the shard whose runs call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TaskKey {
    shard: Shard,
    flow: FlowName,
    task: NodeName,
}

/// The calls of one task from one shard.
#[derive(Default)]
struct TaskCalls {
    waiting: BTreeMap<CallId, WaitingCall>,
    /// Calls that hold a permit until they are answered.
    held: BTreeMap<CallId, Pace>,
    /// Waiting calls that may be granted a permit, in the order in which they are requested: their runs alternate.
    order: FairQueue<CallId>,
    /// Waiting calls that may hold a permit already.
    maybe_granted: BTreeSet<CallId>,
    /// Calls that were requested, each with the number of its first request.
    first_requested: BTreeMap<CallId, u64>,
    paces: Paces,
    changed: bool,
    final_requests: u32,
    /// The last request or update, if the next message may follow on it.
    sent: Option<LastSent>,
    /// The calls that wait no more and hold no permit, since the last request or update.
    released: BTreeSet<CallId>,
}

/// A request or an update that was sent.
struct LastSent {
    number: u64,
    pace: Pace,
    /// Ticks since the last request.
    ticks: usize,
}

struct WaitingCall {
    paced: PacedCall,
    arrival: u64,
    history: DispatchHistory,
}

impl WaitingCall {
    fn position(&self) -> QueuePosition {
        QueuePosition { priority: self.paced.priority, run: self.paced.call.run.clone(), arrival: self.arrival }
    }
}

impl TaskCalls {
    /// Removes a call that waits.
    fn remove(&mut self, call: &CallId) -> Option<PacedCall> {
        let waiting = self.waiting.remove(call)?;
        self.order.remove(&waiting.position());
        self.maybe_granted.remove(call);
        self.first_requested.remove(call);
        self.paces.remove(waiting.paced.pace);
        self.released.insert(call.clone());
        self.changed = true;
        Some(waiting.paced)
    }

    fn hold(&mut self, call: CallId, pace: Pace) {
        self.changed = true;
        self.released.remove(&call);
        if self.held.insert(call, pace).is_none() {
            self.paces.add(pace);
        }
    }

    /// No call holds a permit any more, or waits for one.
    fn release(&mut self, call: &CallId) {
        self.remove(call);
        if let Some(pace) = self.held.remove(call) {
            self.paces.remove(pace);
            self.released.insert(call.clone());
            self.changed = true;
        }
    }

    /// The next message is a request: the coordinator may know something else than was sent.
    fn start_again(&mut self) {
        self.changed = true;
        self.sent = None;
    }

    /// The number of the message that an update may follow on, if the next message may be an update.
    fn may_update(&self, pace: Pace, unread: &[RunId]) -> Option<u64> {
        let sent = self.sent.as_ref()?;
        let is_due = sent.ticks > self.held.len() / HELD_PER_TICK;
        let is_known = sent.pace == pace && unread.is_empty() && self.maybe_granted.is_empty();
        (self.held.len() > MAX_HELD_AT_ONCE && is_known && !is_due).then_some(sent.number)
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }
}

impl PermitClient {
    pub(crate) fn new(engine: String, secret: EngineSecret) -> Self {
        Self {
            engine,
            secret,
            requested: 0,
            arrivals: 0,
            since: BTreeMap::new(),
            tasks: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    /// Requests a permit for a call. Returns whether it holds one already.
    pub(crate) fn request(
        &mut self,
        now: Timestamp,
        shard: &Shard,
        flow: &FlowName,
        paced: PacedCall,
        history: DispatchHistory,
    ) -> bool {
        self.since.entry(shard.clone()).or_insert(now);
        let (call, pace) = (paced.call.clone(), paced.pace);
        let key = self.register(shard, flow, &call);
        let calls = self.tasks.entry(key).or_default();
        if calls.held.contains_key(&call) {
            return true;
        }
        if calls.waiting.contains_key(&call) {
            return false;
        }
        self.arrivals += 1;
        let waiting = WaitingCall { paced, arrival: self.arrivals, history };
        match history {
            DispatchHistory::NeverSent => drop(calls.order.insert(&waiting.position(), call.clone())),
            DispatchHistory::MaybeSent => drop(calls.maybe_granted.insert(call.clone())),
        }
        calls.waiting.insert(call, waiting);
        calls.paces.add(pace);
        calls.changed = true;
        false
    }

    /// Marks a call that a worker has as holding a permit.
    pub(crate) fn hold(&mut self, now: Timestamp, shard: &Shard, flow: &FlowName, call: CallId, pace: Pace) {
        self.since.entry(shard.clone()).or_insert(now);
        let key = self.register(shard, flow, &call);
        let calls = self.tasks.entry(key).or_default();
        calls.remove(&call);
        if !calls.held.contains_key(&call) {
            // Only a request says that it holds a permit that it was not granted.
            calls.start_again();
        }
        calls.hold(call, pace);
    }

    fn register(&mut self, shard: &Shard, flow: &FlowName, call: &CallId) -> TaskKey {
        let key = TaskKey { shard: shard.clone(), flow: flow.clone(), task: call.task.base() };
        self.runs.entry(call.run.clone()).or_default().insert(call.clone(), key.clone());
        key
    }

    /// Handles a grant. Returns the calls that now have a permit, and the runs of calls that are now known to have
    /// none.
    pub(crate) fn on_grant(&mut self, shard: &Shard, grant: &PermitGrant) -> (Vec<CallId>, BTreeSet<RunId>) {
        let key = TaskKey { shard: shard.clone(), flow: grant.flow.clone(), task: grant.task.clone() };
        let calls = self.tasks.entry(key).or_default();
        let is_answer = grant.engine == self.engine;
        let (mut granted, mut unlimited) = (Vec::new(), Vec::new());
        for call in &grant.calls {
            let is_covered = is_answer && calls.first_requested.get(call).is_some_and(|first| *first <= grant.number);
            if is_covered && let Some(paced) = calls.remove(call) {
                calls.order.mark_served(paced.priority, &call.run);
                granted.push(paced.call);
                match paced.pace.max_running {
                    Some(_) => calls.hold(call.clone(), paced.pace),
                    None => unlimited.push(call.clone()),
                }
            } else if !calls.waiting.contains_key(call) && !calls.held.contains_key(call) {
                // The request that follows tells the coordinator that this call is unknown here.
                calls.start_again();
            }
        }
        let mut confirmed = BTreeSet::new();
        if is_answer {
            let is_covered =
                |call: &CallId| calls.first_requested.get(call).is_some_and(|first| *first <= grant.number);
            for call in calls.maybe_granted.extract_if(.., |call| is_covered(call)) {
                if let Some(waiting) = calls.waiting.get_mut(&call) {
                    waiting.history = DispatchHistory::NeverSent;
                    calls.order.insert(&waiting.position(), call.clone());
                    confirmed.insert(call.run.clone());
                }
            }
            // The calls that were not in a request yet are next.
            calls.changed |= !confirmed.is_empty() && !calls.maybe_granted.is_empty();
        } else {
            calls.start_again();
        }
        unlimited.iter().for_each(|call| self.remove_from_run(call));
        (granted, confirmed)
    }

    /// Whether calls of a run wait for or hold a permit.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// The numbers of calls that hold a permit, and that wait for one.
    pub(crate) fn count(&self) -> (usize, usize) {
        let add = |(held, waiting), calls: &TaskCalls| (held + calls.held.len(), waiting + calls.waiting.len());
        self.tasks.values().fold((0, 0), add)
    }

    /// The tasks of a shard whose calls hold permits or wait for them. It looks at no more tasks than an answer has, since the driver does
    /// nothing else meanwhile. So a full answer may have tasks whose last call has gone a short time ago.
    pub(crate) fn describe(&self, shard: &Shard, question: &PermitsQuestion) -> PermitsAnswer {
        let PermitsQuestion { namespace, flow, after } = question;
        let is_wanted = |key: &TaskKey| {
            key.shard == *shard
                && namespace.as_ref().is_none_or(|namespace| key.flow.is_in(namespace))
                && flow.as_ref().is_none_or(|flow| key.flow == *flow)
        };
        let first = match (flow, namespace) {
            (Some(flow), _) => Some(flow.clone()),
            (None, Some(namespace)) => FlowName::first_in(namespace),
            (None, None) => Some(FlowName::first()),
        };
        let Some(first) = first else { return PermitsAnswer::default() };
        let first = TaskKey { shard: shard.clone(), flow: first, task: NodeName::first() };
        let after = after.clone().map(|(flow, task)| TaskKey { shard: shard.clone(), flow, task });
        let from = match after {
            Some(after) if after >= first => Bound::Excluded(after),
            Some(_) | None => Bound::Included(first),
        };
        // The keys that are wanted follow one another.
        let wanted = self.tasks.range::<TaskKey, _>((from, Bound::Unbounded)).take_while(|(key, _)| is_wanted(key));
        let described = wanted.take(MAX_LISTED_TASKS).map(|(key, calls)| TaskPermits {
            flow: key.flow.clone(),
            task: key.task.clone(),
            pace: calls.paces.strictest(),
            held: calls.held.len() as u64,
            waiting: calls.waiting.len() as u64,
            holders: calls.held.keys().take(MAX_LISTED_PERMITS).cloned().collect(),
            next: calls.order.first(MAX_LISTED_PERMITS).into_iter().cloned().collect(),
        });
        let mut tasks: Vec<TaskPermits> = described.collect();
        // A full answer means that there may be more behind its last task.
        if tasks.len() < MAX_LISTED_TASKS {
            tasks.retain(|task| task.held + task.waiting > 0);
        }
        PermitsAnswer { tasks }
    }

    /// The calls of a run that wait for or hold a permit.
    pub(crate) fn calls_of(&self, run: &RunId) -> Vec<CallId> {
        self.runs.get(run).map(|calls| calls.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether a call waits for a permit and was never dispatched.
    pub(crate) fn is_waiting(&self, call: &CallId) -> bool {
        self.waiting(call).is_some_and(|waiting| waiting.history == DispatchHistory::NeverSent)
    }

    /// Whether a call waits for a permit.
    pub(crate) fn is_queued(&self, call: &CallId) -> bool {
        self.waiting(call).is_some()
    }

    fn waiting(&self, call: &CallId) -> Option<&WaitingCall> {
        let key = self.runs.get(&call.run)?.get(call)?;
        self.tasks.get(key)?.waiting.get(call)
    }

    /// Stops or resumes the permit requests for a run's waiting calls that were never dispatched.
    pub(crate) fn set_requesting(&mut self, run: &RunId, is_requesting: bool) {
        for (call, key) in self.runs.get(run).into_iter().flatten() {
            let Some(calls) = self.tasks.get_mut(key) else { continue };
            let Some(waiting) = calls.waiting.get(call).filter(|waiting| waiting.history == DispatchHistory::NeverSent)
            else {
                continue;
            };
            let position = waiting.position();
            calls.changed |= match is_requesting {
                true => calls.order.insert(&position, call.clone()),
                false => calls.order.remove(&position).is_some(),
            };
        }
    }

    /// A call needs no permit any more, and does not wait for one.
    pub(crate) fn release(&mut self, call: &CallId) {
        let Some(key) = self.runs.get(&call.run).and_then(|calls| calls.get(call)) else { return };
        if let Some(calls) = self.tasks.get_mut(key) {
            calls.release(call);
        }
        self.remove_from_run(call);
    }

    fn remove_from_run(&mut self, call: &CallId) {
        if let Some(calls) = self.runs.get_mut(&call.run) {
            calls.remove(call);
            if calls.is_empty() {
                self.runs.remove(&call.run);
            }
        }
    }

    /// Releases all calls of a run that has ended or is suspended.
    pub(crate) fn remove_run(&mut self, run: &RunId) {
        for call in self.calls_of(run) {
            self.release(&call);
        }
    }

    /// Removes a shard that is no longer driven here: its new driver requests permits for its runs.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) {
        self.since.remove(shard);
        self.tasks.retain(|key, _| key.shard != *shard);
        self.runs.retain(|_, calls| {
            calls.retain(|_, key| key.shard != *shard);
            !calls.is_empty()
        });
    }

    /// A tick: every request is sent again, or an update.
    pub(crate) fn tick(&mut self) {
        self.tasks.retain(|_, calls| {
            calls.changed = true;
            if let Some(sent) = &mut calls.sent {
                sent.ticks += 1;
            }
            !calls.is_empty() || calls.final_requests < FINAL_REQUESTS
        });
    }

    /// Returns the requests to send to the coordinators. `unread` returns the runs of a shard that are not loaded
    /// yet; `None` for a shard that is not driven here. Calls `on_request` with the task of each request.
    pub(crate) fn take_requests(
        &mut self,
        now: Timestamp,
        unread: impl Fn(&Shard) -> Option<Vec<RunId>>,
        on_request: impl Fn(&FlowName, &NodeName),
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        for (key, calls) in self.tasks.iter_mut().filter(|(_, calls)| calls.changed) {
            let Some(mut unread) = unread(&key.shard) else { continue };
            calls.changed = false;
            calls.final_requests = if calls.is_empty() { calls.final_requests + 1 } else { 0 };
            self.requested += 1;
            let number = self.requested;
            let in_order = calls.order.first(MAX_REQUESTED_CALLS);
            let requested: Vec<RequestedCall> = in_order
                .into_iter()
                .chain(calls.maybe_granted.iter().take(MAX_REQUESTED_CALLS))
                .filter_map(|call| calls.waiting.get(call))
                .map(|waiting| RequestedCall { call: waiting.paced.call.clone(), priority: waiting.paced.priority })
                .collect();
            // For calls beyond the maximum it is also unknown whether they hold a permit, so their runs count as not
            // loaded.
            let uncertain: BTreeSet<&RunId> =
                calls.maybe_granted.iter().skip(MAX_REQUESTED_CALLS).map(|call| &call.run).collect();
            unread.extend(uncertain.into_iter().cloned());
            let first = |call: &CallId| calls.first_requested.get(call).copied().unwrap_or(number);
            let first_requested =
                requested.iter().map(|requested| (requested.call.clone(), first(&requested.call))).collect();
            let before = std::mem::replace(&mut calls.first_requested, first_requested);
            // A permit that is on its way to a call that is requested no more returns.
            calls.released.extend(before.into_keys());
            let mut released = std::mem::take(&mut calls.released);
            released.retain(|call| !calls.first_requested.contains_key(call) && !calls.held.contains_key(call));
            let (shard, engine) = (key.shard.clone(), self.engine.clone());
            let pace = calls.paces.strictest();
            let message = match calls.may_update(pace, &unread) {
                Some(follows) => {
                    let (released, wanted) = (released.into_iter().collect(), requested);
                    PermitMessage::Update(PermitUpdate { shard, engine, number, follows, released, wanted })
                }
                None => PermitMessage::Request(PermitRequest {
                    shard,
                    engine,
                    since: self.since.get(&key.shard).copied().unwrap_or(now),
                    number,
                    pace,
                    unloaded: unread,
                    wants_reply: !calls.maybe_granted.is_empty(),
                    held: calls.held.keys().cloned().collect(),
                    wanted: requested,
                }),
            };
            let ticks = match (&message, &calls.sent) {
                (PermitMessage::Update(_), Some(sent)) => sent.ticks,
                (_, _) => 0,
            };
            calls.sent = Some(LastSent { number, pace, ticks });
            on_request(&key.flow, &key.task);
            messages.push(messages::permit_message(&key.flow, &key.task, &message, &self.secret));
        }
        messages
    }
}

#[cfg(test)]
mod tests;
