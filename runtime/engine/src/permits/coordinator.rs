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

use super::fair_queue::{FairQueue, Place};

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
    Done,
    /// It stays unsettled, beside those before it.
    Keeps,
    /// It stays unsettled, and those before it are accepted.
    Replace,
}

/// What a keeper has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CoordinatorAction {
    /// On its own queue, until it is there.
    Write(PermitSnapshot),
    /// On its own queue, now or never.
    Ask(PermitTick),
    /// To whoever drives a shard, now or never.
    Tell(Shard, PermitGrant),
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
    line: FairQueue<QueuedRequest>,
    arrivals: u64,
    /// When the next may start by the rate, if they started evenly.
    free_at: Timestamp,
    /// The number of the last message that says which permits are out.
    kept: u64,
    pending_snapshot: Option<PendingSnapshot>,
    /// Whether what is kept unsettled does not say, or not for long enough, which permits are out.
    renew: bool,
    age: u32,
    beats: u64,
    unheard: u32,
    says: Vec<CoordinatorAction>,
}

/// What a keeper knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leadership {
    /// It has heard nothing.
    Idle,
    /// It asks, with this beat and those after it: once that is back, all that was said before is heard.
    Asking { beat: u64 },
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
    wants: BTreeMap<CallId, Place>,
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
            line: FairQueue::default(),
            arrivals: 0,
            free_at: Timestamp::default(),
            kept: 0,
            pending_snapshot: None,
            renew: false,
            age: 0,
            beats: 0,
            unheard: 0,
            says: Vec::new(),
        }
    }

    /// What it has to say since it was asked last.
    pub(crate) fn says(&mut self) -> Vec<CoordinatorAction> {
        std::mem::take(&mut self.says)
    }

    /// The queue was gone, and is there anew: what was kept unsettled is lost.
    pub(crate) fn restart(&mut self) {
        self.stage = Leadership::Idle;
        self.pending_snapshot = None;
        self.renew = true;
    }

    /// Hears a message; `redelivered` says that somebody had it before.
    pub(crate) fn hear(&mut self, redelivered: bool, message: PermitMessage) -> DeliveryDisposition {
        let is_asking = matches!(self.stage, Leadership::Asking { .. });
        if !is_asking && (redelivered || self.stage == Leadership::Idle) {
            self.pending_snapshot = None;
            self.stage = Leadership::Asking { beat: self.beats + 1 };
            self.ask();
        }
        match message {
            PermitMessage::Request(claims) => {
                self.on_request(claims);
                DeliveryDisposition::Done
            }
            PermitMessage::Snapshot(kept) => self.on_snapshot(kept),
            PermitMessage::Tick(beat) => {
                if beat.keeper == self.engine {
                    self.on_tick(beat.number);
                }
                DeliveryDisposition::Done
            }
        }
    }

    /// A beat of time has passed.
    pub(crate) fn beat(&mut self) {
        let is_idle = self.requesters.is_empty() && self.permits.is_empty();
        match self.stage {
            Leadership::Idle => {}
            Leadership::Active if is_idle => {}
            Leadership::Asking { .. } | Leadership::Active if self.unheard >= MAX_UNANSWERED_TICKS => {
                self.stage = Leadership::Idle;
                self.pending_snapshot = None;
            }
            Leadership::Asking { .. } | Leadership::Active => self.ask(),
        }
    }

    fn ask(&mut self) {
        self.beats += 1;
        self.unheard += 1;
        self.says.push(CoordinatorAction::Ask(PermitTick { keeper: self.engine.clone(), number: self.beats }));
    }

    /// Gives what there is to give. Answers when to ask again if nothing is heard before.
    pub(crate) fn turn(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.stage != Leadership::Active || self.pending_snapshot.is_some() {
            return None;
        }
        let pace = self.requesters.values().fold(Pace::default(), |pace, claimant| pace.and(claimant.pace));
        let room = pace.max_running.map_or(usize::MAX, |most| {
            usize::try_from(most.get()).unwrap_or(usize::MAX).saturating_sub(self.permits.len())
        });
        let (calls, due) = match pace.rate {
            None => (self.next(room), None),
            Some(rate) => self.in_time(now, rate, room),
        };
        if calls.is_empty() {
            self.renew &= !self.permits.is_empty() || self.free_at > now;
        }
        if !calls.is_empty() || self.renew {
            self.write(calls);
        }
        due
    }

    /// The first in the line, at most so many.
    fn next(&self, room: usize) -> Vec<QueuedRequest> {
        self.line.first(room.min(MAX_GRANTS_PER_SNAPSHOT)).into_iter().cloned().collect()
    }

    /// Those of the first in the line who may start by now, and when the next may.
    fn in_time(&mut self, now: Timestamp, rate: Rate, room: usize) -> (Vec<QueuedRequest>, Option<Timestamp>) {
        let spacing = rate.spacing();
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
    fn write(&mut self, calls: Vec<QueuedRequest>) {
        let number = self.kept + 1;
        let new = calls.iter().filter_map(|wanted| self.permit(&wanted.shard, &wanted.call));
        let permits = self.permits.values().cloned().chain(new).collect();
        let (keeper, free_at) = (self.engine.clone(), self.free_at);
        self.says.push(CoordinatorAction::Write(PermitSnapshot { keeper, number, free_at, permits }));
        calls.iter().for_each(|wanted| self.line.served(wanted.priority, &wanted.call.run));
        let calls = calls.into_iter().map(|wanted| (wanted.shard, wanted.call)).collect();
        self.pending_snapshot = Some(PendingSnapshot { number, calls });
        self.renew = false;
        self.age = 0;
    }

    fn permit(&self, shard: &Shard, call: &CallId) -> Option<Permit> {
        let Requester { engine, number, .. } = self.requesters.get(shard)?;
        Some(Permit { call: call.clone(), shard: shard.clone(), engine: engine.clone(), asked: *number })
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
        let mut places = earlier.map(|earlier| earlier.wants).unwrap_or_default();
        let permit = |call: &CallId| {
            let (shard, engine) = (claims.shard.clone(), claims.engine.clone());
            Permit { call: call.clone(), shard, engine, asked: claims.number }
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
                Place { priority: wanted.priority, run: wanted.call.run.clone(), arrival: self.arrivals }
            });
            let (shard, call, priority) = (shard.clone(), wanted.call.clone(), place.priority);
            self.line.insert(&place, QueuedRequest { shard, call, priority });
            wants.insert(wanted.call.clone(), place);
        }
        for place in places.into_values() {
            self.line.remove(&place);
        }
        let named: BTreeSet<&CallId> =
            claims.held.iter().chain(claims.wanted.iter().map(|wanted| &wanted.call)).collect();
        self.permits.retain(|call, permit| {
            let is_newer = permit.engine == claims.engine && permit.asked >= claims.number;
            permit.shard != shard || named.contains(call) || is_newer || claims.unread.contains(&call.run)
        });
        self.permits.extend(claims.held.iter().map(|call| (call.clone(), permit(call))));
        if self.stage == Leadership::Active && (claims.asks || !told.is_empty()) {
            self.tell(shard.clone(), claims.engine.clone(), claims.number, told);
        }
        if !wants.is_empty() || !claims.held.is_empty() {
            let PermitRequest { engine, since, number, pace, .. } = claims;
            self.requesters.insert(shard, Requester { engine, since, number, pace, silent: 0, wants });
        }
    }

    fn tell(&mut self, shard: Shard, engine: String, number: u64, calls: Vec<CallId>) {
        let (flow, task) = (self.flow.clone(), self.task.clone());
        self.says.push(CoordinatorAction::Tell(shard, PermitGrant { flow, task, engine, number, calls }));
    }

    fn on_snapshot(&mut self, kept: PermitSnapshot) -> DeliveryDisposition {
        let is_proposed = |proposed: &mut PendingSnapshot| kept.keeper == self.engine && proposed.number == kept.number;
        if let Some(proposed) = self.pending_snapshot.take_if(is_proposed) {
            self.kept = kept.number;
            self.give(proposed.calls);
            return DeliveryDisposition::Replace;
        }
        match self.stage {
            // Whoever wrote it may have given what it says.
            Leadership::Asking { .. } => {
                self.kept = self.kept.max(kept.number);
                self.free_at = self.free_at.max(kept.free_at);
                for permit in kept.permits {
                    self.dequeue(&permit.shard, &permit.call);
                    self.permits.entry(permit.call.clone()).or_insert(permit);
                }
                self.renew = true;
                DeliveryDisposition::Keeps
            }
            // Its writer does not hear it, and so gives nothing.
            Leadership::Idle | Leadership::Active => DeliveryDisposition::Done,
        }
    }

    /// Gives these calls what was written for them, if they still want it.
    fn give(&mut self, calls: Vec<(Shard, CallId)>) {
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
                self.tell(shard, engine, number, calls);
            }
        }
    }

    /// A call wants no permit any more. Answers whether it did.
    fn dequeue(&mut self, shard: &Shard, call: &CallId) -> bool {
        let place = self.requesters.get_mut(shard).and_then(|claimant| claimant.wants.remove(call));
        place.is_some_and(|place| self.line.remove(&place).is_some())
    }

    /// One of its own beats is back: it is the keeper, and whoever speaks could have been heard for another beat.
    fn on_tick(&mut self, number: u64) {
        self.unheard = 0;
        if let Leadership::Asking { beat } = self.stage
            && number >= beat
        {
            self.stage = Leadership::Active;
        }
        if self.stage != Leadership::Active {
            return;
        }
        self.age += 1;
        self.renew |= self.age >= SNAPSHOT_RENEW_TICKS;
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
                self.tell(shard, String::new(), 0, calls);
                continue;
            }
            self.absent.remove(&shard);
            self.permits.retain(|_, permit| permit.shard != shard);
            for place in self.requesters.remove(&shard).into_iter().flat_map(|gone| gone.wants.into_values()) {
                self.line.remove(&place);
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
