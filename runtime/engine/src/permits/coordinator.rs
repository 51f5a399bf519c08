//! Grants the permits of a rate-limited task: a plain value, which receives the time and its messages as arguments.
//!
//! The messages come from one queue, in order, and to one coordinator at a time. Before a coordinator grants permits,
//! it writes a snapshot of all granted permits to that queue, and grants only when it receives that snapshot back.
//! That proves that it was still the coordinator, and the snapshot is there for the next one. The last snapshot stays
//! unsettled, and so do the requests since it that returned permits: an engine whose last run has ended requests nothing
//! again, and the next coordinator would otherwise wait for it. A redelivered message tells a coordinator that another one
//! may have been active meanwhile.

mod requests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flow::{CallId, FlowName, NodeName, Pace, Rate, Shard, Timestamp};
use protocol::{Permit, PermitGrant, PermitMessage, PermitRequest, PermitSnapshot, PermitTick};

use super::fair_queue::{FairQueue, QueuePosition};

/// Ticks without a message from a shard after which the permits of its runs are granted to others.
pub(crate) const LOST_SHARD_TICKS: u32 = 60;

/// Ticks without a message from a shard after which it is asked for its permits, and another engine may request for
/// it.
const SILENT_SHARD_TICKS: u32 = 3;

/// Maximum number of unanswered ticks; then none are sent, since another coordinator is active.
const MAX_UNANSWERED_TICKS: u32 = 10;

/// Number of ticks after which the unsettled snapshot is written again, before the broker considers the consumer
/// stuck.
const SNAPSHOT_RENEW_TICKS: u32 = 600;

/// Number of requests that returned permits, after which a snapshot is written although nobody waits for a permit: so few
/// messages stay unsettled.
const MAX_RETURNS_PER_SNAPSHOT: u32 = 32;

/// Calls that are due within this time may start together, since requests come in bursts.
const MAX_BURST: Duration = Duration::from_millis(100);

/// Maximum number of permits that one snapshot grants. The next snapshot follows once it is written.
const MAX_GRANTS_PER_SNAPSHOT: usize = 1_000;

/// Maximum number of permits of a task.
const MAX_PERMITS: usize = Pace::MAX_RUNNING as usize;

/// What happens to a delivery after the coordinator has handled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryDisposition {
    /// It is accepted.
    Accept,
    /// It stays unsettled, beside the earlier ones.
    Hold,
    /// It stays unsettled if there is room: it is repeated, unless its sender needs no permits any more.
    HoldIfRoom,
    /// It stays unsettled, and those are accepted that were there when it was written.
    Replace,
}

/// A message that the coordinator wants to send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CoordinatorAction {
    /// To its own queue, repeated until the broker confirms it.
    WriteSnapshot(PermitSnapshot),
    /// To its own queue, best effort.
    SendTick(PermitTick),
    /// To the driver of a shard, best effort.
    Grant(Shard, PermitGrant),
}

/// Grants the permits of one task.
pub(crate) struct PermitCoordinator {
    engine: String,
    flow: FlowName,
    task: NodeName,
    stage: Leadership,
    /// Permits that are granted.
    permits: BTreeMap<CallId, Permit>,
    requesters: BTreeMap<Shard, Requester>,
    /// While it is not known to be the active one: the last request of each shard. An earlier coordinator may have received it
    /// before it wrote a snapshot that is delivered later.
    requests_while_probing: BTreeMap<Shard, PermitRequest>,
    /// For each shard that holds permits but has no requester: the number of ticks without a message from it.
    absent: BTreeMap<Shard, u32>,
    /// Calls that wait for a permit. Their runs alternate.
    queue: FairQueue<QueuedRequest>,
    arrivals: u64,
    /// When the next call may start by the rate, if calls started evenly.
    free_at: Timestamp,
    /// The number of the last snapshot.
    snapshot_number: u64,
    pending_snapshot: Option<PendingSnapshot>,
    /// The maximum number of permits, whatever the flows allow: as many as a message can name. Flows that were wired before
    /// [`Pace::MAX_RUNNING`] may allow more, and a broker may take only small messages.
    max_permits: usize,
    /// Whether the unsettled snapshot must be written again, since it is incomplete or too old.
    needs_renewal: bool,
    /// Number of requests since the last snapshot that returned permits.
    returns: u32,
    age: u32,
    ticks: u64,
    unanswered_ticks: u32,
    actions: Vec<CoordinatorAction>,
}

/// Whether a coordinator is the active one, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leadership {
    /// It has received no message.
    Idle,
    /// It has sent a tick: once that tick or a later one returns, all earlier messages are received.
    Probing { tick: u64 },
    /// It grants permits.
    Active,
}

/// A call that waits for a permit.
#[derive(Debug, Clone)]
struct QueuedRequest {
    shard: Shard,
    call: CallId,
    priority: i32,
}

/// An engine that requests permits for the runs of a shard.
struct Requester {
    engine: String,
    since: Timestamp,
    number: u64,
    pace: Pace,
    silent: u32,
    requests: BTreeMap<CallId, QueuePosition>,
}

/// A snapshot that was written but not received back yet.
struct PendingSnapshot {
    number: u64,
    calls: Vec<(Shard, CallId)>,
}

impl PermitCoordinator {
    /// A coordinator whose ticks and snapshots are numbered from `first_number` on. The numbers of an earlier coordinator of the
    /// same engine and task are lower.
    pub(crate) fn new(engine: String, flow: FlowName, task: NodeName, first_number: u64) -> Self {
        Self {
            engine,
            flow,
            task,
            stage: Leadership::Idle,
            permits: BTreeMap::new(),
            requesters: BTreeMap::new(),
            requests_while_probing: BTreeMap::new(),
            absent: BTreeMap::new(),
            queue: FairQueue::default(),
            arrivals: 0,
            free_at: Timestamp::default(),
            snapshot_number: first_number,
            pending_snapshot: None,
            max_permits: MAX_PERMITS,
            needs_renewal: false,
            returns: 0,
            age: 0,
            ticks: first_number,
            unanswered_ticks: 0,
            actions: Vec::new(),
        }
    }

    /// Takes the messages to send since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<CoordinatorAction> {
        std::mem::take(&mut self.actions)
    }

    /// The queue was deleted and declared again: the unsettled snapshot is lost.
    pub(crate) fn restart(&mut self) {
        self.stage = Leadership::Idle;
        self.pending_snapshot = None;
        self.max_permits = MAX_PERMITS;
        self.needs_renewal = true;
    }

    /// Handles a message; `redelivered` tells that it was delivered to a consumer before.
    pub(crate) fn on_message(&mut self, redelivered: bool, message: PermitMessage) -> DeliveryDisposition {
        let is_probing = matches!(self.stage, Leadership::Probing { .. });
        if !is_probing && (redelivered || self.stage == Leadership::Idle) {
            self.pending_snapshot = None;
            self.requests_while_probing.clear();
            self.stage = Leadership::Probing { tick: self.ticks + 1 };
            self.probe();
        }
        match message {
            PermitMessage::Request(request) => {
                let may_return_permits = self.on_request(request);
                self.on_return(may_return_permits)
            }
            PermitMessage::Update(update) => {
                let returns_permits = self.on_update(update);
                self.on_return(returns_permits)
            }
            PermitMessage::Snapshot(snapshot) => self.on_snapshot(snapshot),
            PermitMessage::Tick(tick) => {
                if tick.coordinator == self.engine {
                    self.on_tick(tick.number);
                }
                DeliveryDisposition::Accept
            }
        }
    }

    /// A request or an update that has returned permits stays unsettled until a snapshot says so.
    fn on_return(&mut self, may_return_permits: bool) -> DeliveryDisposition {
        if !may_return_permits {
            return DeliveryDisposition::Accept;
        }
        self.returns += 1;
        self.needs_renewal |= self.returns >= MAX_RETURNS_PER_SNAPSHOT || self.stage != Leadership::Active;
        DeliveryDisposition::HoldIfRoom
    }

    /// A tick.
    pub(crate) fn tick(&mut self) {
        let is_idle = self.requesters.is_empty() && self.permits.is_empty();
        match self.stage {
            Leadership::Idle => {}
            Leadership::Active if is_idle => {}
            Leadership::Probing { .. } | Leadership::Active if self.unanswered_ticks >= MAX_UNANSWERED_TICKS => {
                self.stage = Leadership::Idle;
                self.pending_snapshot = None;
            }
            Leadership::Probing { .. } | Leadership::Active => self.probe(),
        }
    }

    fn probe(&mut self) {
        self.ticks += 1;
        self.unanswered_ticks += 1;
        self.actions
            .push(CoordinatorAction::SendTick(PermitTick { coordinator: self.engine.clone(), number: self.ticks }));
    }

    /// Grants the permits that are available. Returns when to call it again if no message arrives before.
    pub(crate) fn poll_grants(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.stage != Leadership::Active || self.pending_snapshot.is_some() {
            return None;
        }
        let pace = self.requesters.values().fold(Pace::default(), |pace, requester| pace.min(requester.pace));
        let max_running = pace.max_running.map_or(usize::MAX, |max| usize::try_from(max.get()).unwrap_or(usize::MAX));
        let free_permits = max_running.min(self.max_permits).saturating_sub(self.permits.len());
        let (calls, due) = match pace.rate {
            None => (self.next(free_permits), None),
            Some(rate) => self.within_rate(now, rate, free_permits),
        };
        if calls.is_empty() {
            self.needs_renewal &= !self.permits.is_empty() || self.free_at > now;
        }
        if !calls.is_empty() || self.needs_renewal {
            self.write_snapshot(calls);
        }
        due
    }

    /// Returns the first requests of the queue, at most `room`.
    fn next(&self, free_permits: usize) -> Vec<QueuedRequest> {
        self.queue.first(free_permits.min(MAX_GRANTS_PER_SNAPSHOT)).into_iter().cloned().collect()
    }

    /// Returns the first requests of the queue that may start now, and when the next one may.
    fn within_rate(
        &mut self,
        now: Timestamp,
        rate: Rate,
        free_permits: usize,
    ) -> (Vec<QueuedRequest>, Option<Timestamp>) {
        let spacing = rate.min_interval();
        let together = MAX_BURST.as_nanos().checked_div(spacing.as_nanos()).unwrap_or(1);
        let slack = spacing * u32::try_from(together.saturating_sub(1)).unwrap_or(u32::MAX);
        // A clock that was set back must not make a call wait for longer than the rate demands.
        let mut free_at = self.free_at.min(now.after(slack).after(spacing));
        let mut calls = Vec::new();
        let mut next_calls = self.next(free_permits).into_iter().peekable();
        while let Some(next) = next_calls.next_if(|_| now.after(slack) >= free_at) {
            calls.push(next);
            free_at = free_at.max(now).after(spacing);
        }
        let due = next_calls.peek().map(|_| now.after(free_at.since(now.after(slack))));
        self.free_at = free_at;
        (calls, due)
    }

    /// A snapshot could not be written, since the broker takes no message as large. Its calls wait on, and the next snapshot has fewer
    /// permits.
    pub(crate) fn on_snapshot_refused(&mut self, number: u64) {
        let Some(refused) = self.pending_snapshot.take_if(|pending| pending.number == number) else { return };
        self.needs_renewal = true;
        if !refused.calls.is_empty() {
            self.max_permits = (self.permits.len() + refused.calls.len() / 2).max(1);
        }
    }

    /// Writes a snapshot of all permits, with new ones for these calls.
    fn write_snapshot(&mut self, calls: Vec<QueuedRequest>) {
        let number = self.snapshot_number + 1;
        let new = calls.iter().filter_map(|wanted| self.permit(&wanted.shard, &wanted.call));
        let permits = self.permits.values().cloned().chain(new).collect();
        let (coordinator, free_at) = (self.engine.clone(), self.free_at);
        self.actions.push(CoordinatorAction::WriteSnapshot(PermitSnapshot { coordinator, number, free_at, permits }));
        calls.iter().for_each(|wanted| self.queue.mark_served(wanted.priority, &wanted.call.run));
        let calls = calls.into_iter().map(|wanted| (wanted.shard, wanted.call)).collect();
        self.pending_snapshot = Some(PendingSnapshot { number, calls });
        self.needs_renewal = false;
        self.returns = 0;
        self.age = 0;
    }

    fn permit(&self, shard: &Shard, call: &CallId) -> Option<Permit> {
        let Requester { engine, number, .. } = self.requesters.get(shard)?;
        Some(Permit { call: call.clone(), shard: shard.clone(), engine: engine.clone(), request_number: *number })
    }

    /// Whether no state has to outlive this coordinator: then its unsettled snapshot can be accepted.
    pub(crate) fn is_empty(&self, now: Timestamp) -> bool {
        let is_settled = self.stage == Leadership::Active && self.pending_snapshot.is_none();
        is_settled && self.permits.is_empty() && self.requesters.is_empty() && self.free_at <= now
    }

    /// Whether the consumer may end. Another engine is the active coordinator, or there is no state that has to outlive this one.
    pub(crate) fn may_end(&self, now: Timestamp) -> bool {
        self.stage == Leadership::Idle || self.is_empty(now)
    }

    fn send_grant(&mut self, shard: Shard, engine: String, number: u64, calls: Vec<CallId>) {
        let (flow, task) = (self.flow.clone(), self.task.clone());
        self.actions.push(CoordinatorAction::Grant(shard, PermitGrant { flow, task, engine, number, calls }));
    }

    fn on_snapshot(&mut self, snapshot: PermitSnapshot) -> DeliveryDisposition {
        let is_proposed =
            |proposed: &mut PendingSnapshot| snapshot.coordinator == self.engine && proposed.number == snapshot.number;
        if let Some(proposed) = self.pending_snapshot.take_if(is_proposed) {
            self.snapshot_number = snapshot.number;
            self.grant(proposed.calls);
            return DeliveryDisposition::Replace;
        }
        match self.stage {
            // The writer of this snapshot may have granted the permits in it.
            Leadership::Probing { .. } => {
                self.snapshot_number = self.snapshot_number.max(snapshot.number);
                self.free_at = self.free_at.max(snapshot.free_at);
                for permit in snapshot.permits {
                    self.dequeue(&permit.shard, &permit.call);
                    self.permits.entry(permit.call.clone()).or_insert(permit);
                }
                self.needs_renewal = true;
                DeliveryDisposition::Hold
            }
            // The snapshot's writer was replaced: it never gets the snapshot back, so its grants never happened.
            Leadership::Idle | Leadership::Active => DeliveryDisposition::Accept,
        }
    }

    /// Grants these calls the permits of the snapshot, if they still wait for one.
    fn grant(&mut self, calls: Vec<(Shard, CallId)>) {
        let mut granted: BTreeMap<Shard, Vec<CallId>> = BTreeMap::new();
        for (shard, call) in calls {
            if self.dequeue(&shard, &call)
                && let Some(permit) = self.permit(&shard, &call)
            {
                self.permits.insert(call.clone(), permit);
                granted.entry(shard).or_default().push(call);
            }
        }
        for (shard, calls) in granted {
            if let Some(Requester { engine, number, .. }) = self.requesters.get(&shard) {
                let (engine, number) = (engine.clone(), *number);
                self.send_grant(shard, engine, number, calls);
            }
        }
    }

    /// Removes a waiting call. Returns whether it did wait.
    fn dequeue(&mut self, shard: &Shard, call: &CallId) -> bool {
        let position = self.requesters.get_mut(shard).and_then(|requester| requester.requests.remove(call));
        position.is_some_and(|position| self.queue.remove(&position).is_some())
    }

    /// Its own tick has returned: it is the active coordinator, and every requester had one more tick to send a
    /// message.
    fn on_tick(&mut self, number: u64) {
        self.unanswered_ticks = 0;
        if let Leadership::Probing { tick } = self.stage
            && number >= tick
        {
            self.become_active();
        }
        if self.stage != Leadership::Active {
            return;
        }
        self.age += 1;
        self.needs_renewal |= self.age >= SNAPSHOT_RENEW_TICKS;
        for requester in self.requesters.values_mut() {
            requester.silent += 1;
        }
        let requesters = &self.requesters;
        let without_requester =
            self.permits.values().map(|permit| &permit.shard).filter(|at| !requesters.contains_key(*at));
        let without_requester: BTreeSet<Shard> = without_requester.cloned().collect();
        self.absent.retain(|shard, _| without_requester.contains(shard));
        for shard in without_requester {
            *self.absent.entry(shard).or_default() += 1;
        }
        self.expire_silent_shards();
    }

    /// Asks silent shards for the permits that they still hold, and revokes the permits of shards that are silent for
    /// too long.
    fn expire_silent_shards(&mut self) {
        let of_requesters = self.requesters.iter().map(|(shard, requester)| (shard.clone(), requester.silent));
        let silent: Vec<(Shard, u32)> = of_requesters
            .chain(self.absent.iter().map(|(shard, silent)| (shard.clone(), *silent)))
            .filter(|(_, silent)| *silent >= SILENT_SHARD_TICKS)
            .collect();
        for (shard, silent) in silent {
            if silent < LOST_SHARD_TICKS {
                let permits = self.permits.values().filter(|permit| permit.shard == shard);
                let calls = permits.map(|permit| permit.call.clone()).collect();
                self.send_grant(shard, String::new(), 0, calls);
                continue;
            }
            self.absent.remove(&shard);
            self.permits.retain(|_, permit| permit.shard != shard);
            for position in self.requesters.remove(&shard).into_iter().flat_map(|gone| gone.requests.into_values()) {
                self.queue.remove(&position);
            }
        }
    }
}
