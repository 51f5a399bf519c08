//! Who gives the permits of a task that has a pace: a plain value, which is told the time and what it hears.
//!
//! What it hears comes from one queue, in one order, and to one keeper at a time. A keeper that wants to give permits writes
//! all that are then out on that queue, and gives them only when it hears that back: so it was the keeper until then, and what
//! it gave is there for whoever keeps them next. The last such message is kept unsettled; a delivery that was out before tells
//! that somebody else may have kept them meanwhile.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flow::{CallId, FlowName, NodeName, Pace, Rate, Shard, Timestamp};
use protocol::{Permit, PermitGrant, PermitMessage, PermitRequest, PermitSnapshot, PermitTick};

use super::fair_queue::{FairQueue, QueuePosition};

/// So many beats may be heard without any word from a shard: then what its runs had is given to others.
pub(crate) const LOST_SHARD_TICKS: u32 = 60;

/// A shard that was not heard of for so many beats is asked what it still has, and another engine may speak for it.
const SILENT_SHARD_TICKS: u32 = 3;

/// Beats that may be unheard before no more are sent: somebody else keeps the permits.
const MAX_UNANSWERED_TICKS: u32 = 10;

/// A message that is kept unsettled is written anew after so many beats, before a broker takes its keeper for stuck.
const SNAPSHOT_RENEW_TICKS: u32 = 600;

/// Starts as many as this much time brings may fall together: what is said to a keeper comes in bursts.
const MAX_BURST: Duration = Duration::from_millis(100);

/// The most permits that are given with one message. The next follows once it is written.
const MAX_GRANTS_PER_SNAPSHOT: usize = 1_000;

/// What becomes of a delivery that the keeper has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryDisposition {
    /// It is accepted.
    Accept,
    /// It stays unsettled, beside those before it.
    Hold,
    /// It stays unsettled, and those before it are accepted.
    Replace,
}

/// What a keeper has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CoordinatorAction {
    /// On its own queue, until it is there.
    WriteSnapshot(PermitSnapshot),
    /// On its own queue, now or never.
    SendTick(PermitTick),
    /// To whoever drives a shard, now or never.
    Grant(Shard, PermitGrant),
}

/// Keeps the permits of one task.
pub(crate) struct PermitCoordinator {
    engine: String,
    flow: FlowName,
    task: NodeName,
    stage: Leadership,
    /// Those that are out.
    permits: BTreeMap<CallId, Permit>,
    requesters: BTreeMap<Shard, Requester>,
    /// For how many beats shards have said nothing that have permits, and no claimant.
    absent: BTreeMap<Shard, u32>,
    /// Calls that want a permit. Their runs take turns.
    queue: FairQueue<QueuedRequest>,
    arrivals: u64,
    /// When the next may start by the rate, if they started evenly.
    free_at: Timestamp,
    /// The number of the last message that says which permits are out.
    snapshot_number: u64,
    pending_snapshot: Option<PendingSnapshot>,
    /// Whether what is kept unsettled does not say, or not for long enough, which permits are out.
    needs_renewal: bool,
    age: u32,
    ticks: u64,
    unanswered_ticks: u32,
    actions: Vec<CoordinatorAction>,
}

/// What a keeper knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leadership {
    /// It has heard nothing.
    Idle,
    /// It asks, with this beat and those after it: once that is back, all that was said before is heard.
    Probing { beat: u64 },
    /// It gives permits.
    Active,
}

/// A call that wants a permit.
#[derive(Debug, Clone)]
struct QueuedRequest {
    shard: Shard,
    call: CallId,
    priority: i32,
}

/// An engine that speaks for the runs of a shard.
struct Requester {
    engine: String,
    since: Timestamp,
    number: u64,
    pace: Pace,
    silent: u32,
    requests: BTreeMap<CallId, QueuePosition>,
}

/// What was written and not heard yet.
struct PendingSnapshot {
    number: u64,
    calls: Vec<(Shard, CallId)>,
}

impl PermitCoordinator {
    pub(crate) fn new(engine: String, flow: FlowName, task: NodeName) -> Self {
        Self {
            engine,
            flow,
            task,
            stage: Leadership::Idle,
            permits: BTreeMap::new(),
            requesters: BTreeMap::new(),
            absent: BTreeMap::new(),
            queue: FairQueue::default(),
            arrivals: 0,
            free_at: Timestamp::default(),
            snapshot_number: 0,
            pending_snapshot: None,
            needs_renewal: false,
            age: 0,
            ticks: 0,
            unanswered_ticks: 0,
            actions: Vec::new(),
        }
    }

    /// What it has to say since it was asked last.
    pub(crate) fn take_actions(&mut self) -> Vec<CoordinatorAction> {
        std::mem::take(&mut self.actions)
    }

    /// The queue was gone, and is there anew: what was kept unsettled is lost.
    pub(crate) fn restart(&mut self) {
        self.stage = Leadership::Idle;
        self.pending_snapshot = None;
        self.needs_renewal = true;
    }

    /// Hears a message; `redelivered` says that somebody had it before.
    pub(crate) fn on_message(&mut self, redelivered: bool, message: PermitMessage) -> DeliveryDisposition {
        let is_asking = matches!(self.stage, Leadership::Probing { .. });
        if !is_asking && (redelivered || self.stage == Leadership::Idle) {
            self.pending_snapshot = None;
            self.stage = Leadership::Probing { beat: self.ticks + 1 };
            self.probe();
        }
        match message {
            PermitMessage::Request(claims) => {
                self.on_request(claims);
                DeliveryDisposition::Accept
            }
            PermitMessage::Snapshot(kept) => self.on_snapshot(kept),
            PermitMessage::Tick(beat) => {
                if beat.keeper == self.engine {
                    self.on_tick(beat.number);
                }
                DeliveryDisposition::Accept
            }
        }
    }

    /// A beat of time has passed.
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
        self.actions.push(CoordinatorAction::SendTick(PermitTick { keeper: self.engine.clone(), number: self.ticks }));
    }

    /// Gives what there is to give. Answers when to ask again if nothing is heard before.
    pub(crate) fn poll_grants(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.stage != Leadership::Active || self.pending_snapshot.is_some() {
            return None;
        }
        let pace = self.requesters.values().fold(Pace::default(), |pace, claimant| pace.min(claimant.pace));
        let room = pace.max_running.map_or(usize::MAX, |most| {
            usize::try_from(most.get()).unwrap_or(usize::MAX).saturating_sub(self.permits.len())
        });
        let (calls, due) = match pace.rate {
            None => (self.next(room), None),
            Some(rate) => self.within_rate(now, rate, room),
        };
        if calls.is_empty() {
            self.needs_renewal &= !self.permits.is_empty() || self.free_at > now;
        }
        if !calls.is_empty() || self.needs_renewal {
            self.write_snapshot(calls);
        }
        due
    }

    /// The first in the line, at most so many.
    fn next(&self, room: usize) -> Vec<QueuedRequest> {
        self.queue.first(room.min(MAX_GRANTS_PER_SNAPSHOT)).into_iter().cloned().collect()
    }

    /// Those of the first in the line who may start by now, and when the next may.
    fn within_rate(&mut self, now: Timestamp, rate: Rate, room: usize) -> (Vec<QueuedRequest>, Option<Timestamp>) {
        let spacing = rate.min_interval();
        let together = MAX_BURST.as_nanos().checked_div(spacing.as_nanos()).unwrap_or(1);
        let slack = spacing * u32::try_from(together.saturating_sub(1)).unwrap_or(u32::MAX);
        // A clock that was set back must not make anybody wait for longer than the rate does.
        let mut free_at = self.free_at.min(now.after(slack).after(spacing));
        let mut calls = Vec::new();
        let mut line = self.next(room).into_iter().peekable();
        while let Some(next) = line.next_if(|_| now.after(slack) >= free_at) {
            calls.push(next);
            free_at = free_at.max(now).after(spacing);
        }
        let due = line.peek().map(|_| now.after(free_at.since(now.after(slack))));
        self.free_at = free_at;
        (calls, due)
    }

    /// Writes which permits are out, with new ones for these calls.
    fn write_snapshot(&mut self, calls: Vec<QueuedRequest>) {
        let number = self.snapshot_number + 1;
        let new = calls.iter().filter_map(|wanted| self.permit(&wanted.shard, &wanted.call));
        let permits = self.permits.values().cloned().chain(new).collect();
        let (keeper, free_at) = (self.engine.clone(), self.free_at);
        self.actions.push(CoordinatorAction::WriteSnapshot(PermitSnapshot {
            coordinator: keeper,
            number,
            free_at,
            permits,
        }));
        calls.iter().for_each(|wanted| self.queue.mark_served(wanted.priority, &wanted.call.run));
        let calls = calls.into_iter().map(|wanted| (wanted.shard, wanted.call)).collect();
        self.pending_snapshot = Some(PendingSnapshot { number, calls });
        self.needs_renewal = false;
        self.age = 0;
    }

    fn permit(&self, shard: &Shard, call: &CallId) -> Option<Permit> {
        let Requester { engine, number, .. } = self.requesters.get(shard)?;
        Some(Permit { call: call.clone(), shard: shard.clone(), engine: engine.clone(), request_number: *number })
    }

    /// Whether nothing is known that has to outlive this keeper: what was kept unsettled can be accepted.
    pub(crate) fn is_empty(&self, now: Timestamp) -> bool {
        let is_still = self.stage == Leadership::Active && self.pending_snapshot.is_none();
        is_still && self.permits.is_empty() && self.requesters.is_empty() && self.free_at <= now
    }

    fn on_request(&mut self, claims: PermitRequest) {
        let shard = claims.shard.clone();
        if self.requesters.get(&shard).is_some_and(|current| current.is_outdated(&claims)) {
            return;
        }
        let earlier = self.requesters.remove(&shard);
        self.absent.remove(&shard);
        let mut places = earlier.map(|earlier| earlier.requests).unwrap_or_default();
        let permit = |call: &CallId| {
            let (shard, engine) = (claims.shard.clone(), claims.engine.clone());
            Permit { call: call.clone(), shard, engine, request_number: claims.number }
        };
        let (mut wants, mut told) = (BTreeMap::new(), Vec::new());
        for wanted in &claims.wanted {
            if let Some(known) = self.permits.get_mut(&wanted.call) {
                *known = permit(&wanted.call);
                told.push(wanted.call.clone());
                continue;
            }
            let place = places.remove(&wanted.call).unwrap_or_else(|| {
                self.arrivals += 1;
                QueuePosition { priority: wanted.priority, run: wanted.call.run.clone(), arrival: self.arrivals }
            });
            let (shard, call, priority) = (shard.clone(), wanted.call.clone(), place.priority);
            self.queue.insert(&place, QueuedRequest { shard, call, priority });
            wants.insert(wanted.call.clone(), place);
        }
        for place in places.into_values() {
            self.queue.remove(&place);
        }
        let named: BTreeSet<&CallId> =
            claims.held.iter().chain(claims.wanted.iter().map(|wanted| &wanted.call)).collect();
        self.permits.retain(|call, permit| {
            let is_newer = permit.engine == claims.engine && permit.request_number >= claims.number;
            permit.shard != shard || named.contains(call) || is_newer || claims.unloaded.contains(&call.run)
        });
        self.permits.extend(claims.held.iter().map(|call| (call.clone(), permit(call))));
        if self.stage == Leadership::Active && (claims.wants_reply || !told.is_empty()) {
            self.send_grant(shard.clone(), claims.engine.clone(), claims.number, told);
        }
        if !wants.is_empty() || !claims.held.is_empty() {
            let PermitRequest { engine, since, number, pace, .. } = claims;
            self.requesters.insert(shard, Requester { engine, since, number, pace, silent: 0, requests: wants });
        }
    }

    fn send_grant(&mut self, shard: Shard, engine: String, number: u64, calls: Vec<CallId>) {
        let (flow, task) = (self.flow.clone(), self.task.clone());
        self.actions.push(CoordinatorAction::Grant(shard, PermitGrant { flow, task, engine, number, calls }));
    }

    fn on_snapshot(&mut self, kept: PermitSnapshot) -> DeliveryDisposition {
        let is_proposed =
            |proposed: &mut PendingSnapshot| kept.coordinator == self.engine && proposed.number == kept.number;
        if let Some(proposed) = self.pending_snapshot.take_if(is_proposed) {
            self.snapshot_number = kept.number;
            self.grant(proposed.calls);
            return DeliveryDisposition::Replace;
        }
        match self.stage {
            // Whoever wrote it may have given what it says.
            Leadership::Probing { .. } => {
                self.snapshot_number = self.snapshot_number.max(kept.number);
                self.free_at = self.free_at.max(kept.free_at);
                for permit in kept.permits {
                    self.dequeue(&permit.shard, &permit.call);
                    self.permits.entry(permit.call.clone()).or_insert(permit);
                }
                self.needs_renewal = true;
                DeliveryDisposition::Hold
            }
            // Its writer does not hear it, and so gives nothing.
            Leadership::Idle | Leadership::Active => DeliveryDisposition::Accept,
        }
    }

    /// Gives these calls what was written for them, if they still want it.
    fn grant(&mut self, calls: Vec<(Shard, CallId)>) {
        let mut given: BTreeMap<Shard, Vec<CallId>> = BTreeMap::new();
        for (shard, call) in calls {
            if self.dequeue(&shard, &call)
                && let Some(permit) = self.permit(&shard, &call)
            {
                self.permits.insert(call.clone(), permit);
                given.entry(shard).or_default().push(call);
            }
        }
        for (shard, calls) in given {
            if let Some(Requester { engine, number, .. }) = self.requesters.get(&shard) {
                let (engine, number) = (engine.clone(), *number);
                self.send_grant(shard, engine, number, calls);
            }
        }
    }

    /// A call wants no permit any more. Answers whether it did.
    fn dequeue(&mut self, shard: &Shard, call: &CallId) -> bool {
        let place = self.requesters.get_mut(shard).and_then(|claimant| claimant.requests.remove(call));
        place.is_some_and(|place| self.queue.remove(&place).is_some())
    }

    /// One of its own beats is back: it is the keeper, and whoever speaks could have been heard for another beat.
    fn on_tick(&mut self, number: u64) {
        self.unanswered_ticks = 0;
        if let Leadership::Probing { beat } = self.stage
            && number >= beat
        {
            self.stage = Leadership::Active;
        }
        if self.stage != Leadership::Active {
            return;
        }
        self.age += 1;
        self.needs_renewal |= self.age >= SNAPSHOT_RENEW_TICKS;
        for claimant in self.requesters.values_mut() {
            claimant.silent += 1;
        }
        let claimants = &self.requesters;
        let speechless = self.permits.values().map(|permit| &permit.shard).filter(|at| !claimants.contains_key(*at));
        let speechless: BTreeSet<Shard> = speechless.cloned().collect();
        self.absent.retain(|shard, _| speechless.contains(shard));
        for shard in speechless {
            *self.absent.entry(shard).or_default() += 1;
        }
        self.expire_silent_shards();
    }

    /// Asks those who have said nothing for some time what they still have, and takes it away from those who never will.
    fn expire_silent_shards(&mut self) {
        let of_claimants = self.requesters.iter().map(|(shard, claimant)| (shard.clone(), claimant.silent));
        let silent: Vec<(Shard, u32)> = of_claimants
            .chain(self.absent.iter().map(|(shard, silent)| (shard.clone(), *silent)))
            .filter(|(_, silent)| *silent >= SILENT_SHARD_TICKS)
            .collect();
        for (shard, silent) in silent {
            if silent < LOST_SHARD_TICKS {
                let has = self.permits.values().filter(|permit| permit.shard == shard);
                let calls = has.map(|permit| permit.call.clone()).collect();
                self.send_grant(shard, String::new(), 0, calls);
                continue;
            }
            self.absent.remove(&shard);
            self.permits.retain(|_, permit| permit.shard != shard);
            for place in self.requesters.remove(&shard).into_iter().flat_map(|gone| gone.requests.into_values()) {
                self.queue.remove(&place);
            }
        }
    }
}

impl Requester {
    /// Whether these claims come late, or from an engine that does not drive the shard any more.
    fn is_outdated(&self, claims: &PermitRequest) -> bool {
        if self.engine == claims.engine {
            return claims.number <= self.number;
        }
        self.silent < SILENT_SHARD_TICKS && (claims.since, &claims.engine) < (self.since, &self.engine)
    }
}
