//! Coordinators and holders crash, lose their subscription and return, in any order: the limit is never exceeded.

use std::collections::VecDeque;

use protocol::{PermitUpdate, RequestedCall};

use super::*;

const MAX_RUNNING: usize = 2;
const COORDINATORS: usize = 3;
const SHARDS: [&str; 2] = ["1", "2"];

/// Pseudo-random numbers, the same for the same seed.
struct SeededRng(u64);

impl SeededRng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// The driver of a shard, and its knowledge of the shard's calls.
#[derive(Default)]
struct ShardOwner {
    engine: u64,
    held: BTreeSet<CallId>,
    /// Waiting calls, each with the number of its first request.
    waiting: BTreeMap<CallId, Option<u64>>,
    /// The number of the last request or update, if an update may follow.
    sent: Option<u64>,
    /// Calls that hold or request no permit any more, since then.
    released: BTreeSet<CallId>,
    grants: VecDeque<PermitGrant>,
}

/// A coordinator, and the messages delivered to it.
struct Consumer {
    coordinator: PermitCoordinator,
    delivered: VecDeque<(bool, u64)>,
    unsettled: Vec<u64>,
    /// The number of unsettled messages when the last snapshot was written.
    unsettled_at_snapshot: usize,
}

impl Consumer {
    /// The broker delivers its unsettled messages to another one.
    fn lose_deliveries(&mut self) {
        self.unsettled.clear();
        self.unsettled_at_snapshot = 0;
    }
}

struct FaultSimulation {
    rng: SeededRng,
    now: Timestamp,
    number: u64,
    messages: BTreeMap<u64, PermitMessage>,
    /// Waiting messages, and whether each was delivered before.
    queue: BTreeMap<u64, bool>,
    consumers: Vec<Consumer>,
    active: usize,
    holders: BTreeMap<Shard, ShardOwner>,
    running: BTreeSet<CallId>,
    calls: u64,
    done: usize,
}

impl FaultSimulation {
    fn new(seed: u64) -> Self {
        let consumer = |number: usize| Consumer {
            coordinator: coordinator(&format!("k{number}")),
            delivered: VecDeque::new(),
            unsettled: Vec::new(),
            unsettled_at_snapshot: 0,
        };
        Self {
            rng: SeededRng(seed),
            now: Timestamp::default(),
            number: 0,
            messages: BTreeMap::new(),
            queue: BTreeMap::new(),
            consumers: (0..COORDINATORS).map(consumer).collect(),
            active: 0,
            holders: SHARDS.map(|name| (shard(name), ShardOwner::default())).into(),
            running: BTreeSet::new(),
            calls: 0,
            done: 0,
        }
    }

    fn publish(&mut self, message: PermitMessage) {
        self.number += 1;
        self.messages.insert(self.number, message);
        self.queue.insert(self.number, false);
    }

    /// A coordinator handles its next delivered message, possibly long after the delivery.
    fn take(&mut self, at: usize) {
        let now = self.now;
        let consumer = &mut self.consumers[at];
        if let Some((redelivered, number)) = consumer.delivered.pop_front() {
            let is_settled = match consumer.coordinator.on_message(redelivered, self.messages[&number].clone()) {
                DeliveryDisposition::Accept => vec![number],
                DeliveryDisposition::Hold | DeliveryDisposition::HoldIfRoom => {
                    consumer.unsettled.push(number);
                    Vec::new()
                }
                DeliveryDisposition::Replace => {
                    let settled = consumer.unsettled.drain(..consumer.unsettled_at_snapshot).collect();
                    consumer.unsettled_at_snapshot = 0;
                    consumer.unsettled.push(number);
                    settled
                }
            };
            // The broker ignores what a coordinator without the subscription settles.
            if at == self.active {
                self.queue.retain(|number, _| !is_settled.contains(number));
            }
        }
        consumer.coordinator.poll_grants(now);
        for action in consumer.coordinator.take_actions() {
            match action {
                CoordinatorAction::WriteSnapshot(snapshot) => {
                    let consumer = &mut self.consumers[at];
                    consumer.unsettled_at_snapshot = consumer.unsettled.len();
                    self.publish(PermitMessage::Snapshot(snapshot));
                }
                CoordinatorAction::SendTick(beat) => self.publish(PermitMessage::Tick(beat)),
                CoordinatorAction::Grant(shard, granted) => {
                    self.holders.get_mut(&shard).unwrap().grants.push_back(granted)
                }
            }
        }
    }

    /// Delivers the next message to the active coordinator; it stays in the queue until it is settled.
    fn deliver(&mut self) {
        let out: BTreeSet<u64> = {
            let consumer = &self.consumers[self.active];
            consumer.delivered.iter().map(|(_, number)| *number).chain(consumer.unsettled.iter().copied()).collect()
        };
        let next = self.queue.iter().find(|(number, _)| !out.contains(number)).map(|(number, again)| (*number, *again));
        if let Some((number, again)) = next {
            self.consumers[self.active].delivered.push_back((again, number));
            self.queue.insert(number, true);
        }
    }

    /// Makes another coordinator active. The previous one may stay alive and still handle its delivered messages.
    fn cut_off(&mut self, dies: bool) {
        let consumer = &mut self.consumers[self.active];
        consumer.lose_deliveries();
        if dies {
            consumer.delivered.clear();
            self.calls += 1;
            consumer.coordinator = coordinator(&format!("again{}", self.calls));
        }
        self.active = (self.active + 1) % COORDINATORS;
        // A coordinator that becomes active again has lost the deliveries of its earlier subscription.
        self.consumers[self.active].delivered.clear();
        self.consumers[self.active].lose_deliveries();
    }

    fn send_request(&mut self, of: &Shard) {
        self.number += 1;
        let (number, holder) = (self.number, self.holders.get_mut(of).unwrap());
        let wanted = holder.waiting.keys().map(|call| RequestedCall { call: call.clone(), priority: 0 }).collect();
        holder.waiting.values_mut().for_each(|first| *first = first.or(Some(number)));
        let released = std::mem::take(&mut holder.released);
        if let Some(follows) = holder.sent.replace(number)
            && self.rng.below(2) == 0
        {
            let (shard, engine, released) = (of.clone(), format!("h{}", holder.engine), released.into_iter().collect());
            let update = PermitUpdate { shard, engine, number, follows, released, wanted };
            return self.publish(PermitMessage::Update(update));
        }
        let request = PermitRequest {
            shard: of.clone(),
            engine: format!("h{}", holder.engine),
            since: Timestamp::from_micros(holder.engine),
            number,
            pace: at_once(u32::try_from(MAX_RUNNING).unwrap()),
            unloaded: Vec::new(),
            wants_reply: true,
            held: holder.held.iter().cloned().collect(),
            wanted,
        };
        self.publish(PermitMessage::Request(request));
    }

    fn on_grant(&mut self, of: &Shard) {
        let holder = self.holders.get_mut(of).unwrap();
        let Some(granted) = holder.grants.pop_front().filter(|granted| granted.engine == format!("h{}", holder.engine))
        else {
            // It may be the question for a request.
            holder.sent = None;
            return;
        };
        for call in granted.calls {
            if holder.waiting.get(&call).is_some_and(|first| first.is_some_and(|first| first <= granted.number)) {
                holder.waiting.remove(&call);
                holder.held.insert(call.clone());
                self.running.insert(call);
            }
        }
    }

    /// Another engine drives a shard, and does not know which of its calls hold a permit.
    fn take_over(&mut self, of: &Shard) {
        self.calls += 1;
        let holder = self.holders.get_mut(of).unwrap();
        holder.engine = self.calls;
        (holder.sent, holder.released) = (None, BTreeSet::new());
        let held = std::mem::take(&mut holder.held);
        holder.waiting = holder.waiting.keys().cloned().chain(held).map(|call| (call, None)).collect();
    }

    fn step(&mut self, seed: u64) {
        let of = shard(SHARDS[self.rng.below(SHARDS.len())]);
        match self.rng.below(40) {
            0..14 => {
                self.deliver();
                self.take(self.active);
            }
            14..18 => self.deliver(),
            18..20 => {
                let at = self.rng.below(COORDINATORS);
                self.take(at);
            }
            20..24 => self.send_request(&of),
            24..30 => self.on_grant(&of),
            30..33 => {
                self.calls += 1;
                let call = call(&format!("r{}", self.calls));
                self.holders.get_mut(&of).unwrap().waiting.insert(call, None);
            }
            33..36 => {
                let holder = self.holders.get_mut(&of).unwrap();
                if let Some(call) = holder.held.pop_first() {
                    self.running.remove(&call);
                    holder.released.insert(call);
                    self.done += 1;
                }
            }
            36 => {
                // Only waiting calls that do not run: workers answer the others.
                let holder = self.holders.get_mut(&of).unwrap();
                let running = &self.running;
                let is_kept = |call: &CallId| running.contains(call) || call.run.as_str().ends_with('3');
                let withdrawn = holder.waiting.extract_if(.., |call, _| !is_kept(call));
                holder.released.extend(withdrawn.map(|(call, _)| call));
            }
            37 => self.consumers[self.active].coordinator.tick(),
            38 => {
                let dies = self.rng.below(2) == 0;
                self.cut_off(dies);
            }
            _ => self.take_over(&of),
        }
        assert!(self.running.len() <= MAX_RUNNING, "seed {seed}: {:?} are out", self.running);
    }
}

#[test]
fn grants_never_exceed_the_limit_through_any_crash() {
    let mut done = 0;
    for seed in 1..=300 {
        let mut storm = FaultSimulation::new(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        for _ in 0..2_000 {
            storm.step(seed);
        }
        done += storm.done;
    }
    assert!(done > 1_000, "calls were granted: {done}");
}
