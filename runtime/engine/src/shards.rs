//! Decides which shards this engine drives.
//!
//! A shard's queue has a single active consumer, and the engine that gets its messages drives its runs. The broker
//! does not tell a consumer that it became active. So every engine regularly sends a probe to each shard that it does
//! not drive: the engine that receives the probe is the driver. For a moment two engines may both act as the driver
//! of a shard. The version check of an append makes one of them fail, and that engine releases the shard.
//!
//! An engine's knowledge of a shard's runs is valid for one term: from the first message of a subscription until that
//! subscription ends. After that, another engine may have driven the runs, even if the messages arrive here again. So
//! the engine releases the shard and reads its runs again.

use std::collections::BTreeMap;

use broker::Delivery;
use flow::{RunId, Shard};
use protocol::EngineSecret;
use tokio::time::{Duration, Instant};
use tracing::{debug, info};

use crate::messages;

/// An engine that sent no message for this long counts as gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an engine keeps all its shards after a change before it releases surplus ones: more may still arrive.
const MIN_OWNERSHIP: Duration = Duration::from_secs(3);

/// One delivery from the queue of a shard.
pub(crate) struct ShardDelivery {
    pub(crate) shard: Shard,
    /// The term in which it was delivered: a delivery of an earlier term belongs to another engine by now.
    pub(crate) term: u64,
    pub(crate) delivery: Delivery,
}

/// The shards that this engine drives or could drive.
pub(crate) struct Shards {
    engine: String,
    secret: EngineSecret,
    sharing: Sharing,
    states: BTreeMap<Shard, ShardState>,
    /// Other engines, and when each was last seen.
    peers: BTreeMap<String, Instant>,
    /// Deliveries for shards whose runs could not be read yet.
    deferred: Vec<ShardDelivery>,
    probes: u64,
    changed_at: Option<Instant>,
    /// Index of the driven shard that was last compared with the logbook.
    compared: usize,
    /// The change that the log last reported: changes that happen together get one line.
    logged_at: Option<Instant>,
}

/// Number of ticks in which each shard is compared once with the logbook; more than there are shards.
const RECONCILE_TICKS: usize = 10;

/// Whether other engines may drive the same shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// No: the shard ends with its process.
    Exclusive,
    /// Yes.
    Shared,
}

struct ShardState {
    owned: bool,
    /// Since when it is driven here.
    since: Instant,
    /// The term whose deliveries count; `None` from the release of the shard until its queue is consumed again.
    term: Option<u64>,
    /// The number of the probe after which no answer to an earlier message can arrive.
    barrier: Option<u64>,
}

impl Shards {
    pub(crate) fn new(engine: String, sharing: Sharing, shards: Vec<Shard>, secret: EngineSecret) -> Self {
        let (owned, since) = (sharing == Sharing::Exclusive, Instant::now());
        let state = |shard| (shard, ShardState { owned, since, term: Some(0), barrier: None });
        let states = shards.into_iter().map(state).collect();
        Self {
            engine,
            secret,
            sharing,
            states,
            peers: BTreeMap::new(),
            deferred: Vec::new(),
            probes: 0,
            changed_at: None,
            compared: 0,
            logged_at: None,
        }
    }

    pub(crate) fn owns(&self, shard: &Shard) -> bool {
        self.states.get(shard).is_some_and(|state| state.owned)
    }

    /// Whether a delivery's term is the current one.
    pub(crate) fn is_current(&self, shard: &Shard, term: u64) -> bool {
        self.term(shard) == Some(term)
    }

    pub(crate) fn term(&self, shard: &Shard) -> Option<u64> {
        self.states.get(shard)?.term
    }

    pub(crate) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// All shards that this engine could drive.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Shard> {
        self.states.keys()
    }

    /// Returns the shard to compare with the logbook at this tick, if any.
    pub(crate) fn next_to_reconcile(&mut self) -> Option<Shard> {
        self.compared = (self.compared + 1) % RECONCILE_TICKS;
        self.owned().nth(self.compared).cloned()
    }

    fn owned(&self) -> impl Iterator<Item = &Shard> {
        self.states.iter().filter(|(_, state)| state.owned).map(|(shard, _)| shard)
    }

    /// Returns the shard for a new run: one of those that are driven here, chosen by the run's id.
    pub(crate) fn for_new(&self, run: &RunId) -> Option<Shard> {
        let owned: Vec<&Shard> = self.owned().collect();
        let spread = run.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        owned.get(spread.checked_rem(owned.len())?).map(|shard| (*shard).clone())
    }

    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    fn has_deferred_for(&self, shard: &Shard) -> bool {
        self.deferred.iter().any(|deferred| deferred.shard == *shard)
    }

    /// Holds a delivery of a shard whose runs could not be read; the next tick tries again.
    pub(crate) fn defer(&mut self, delivery: ShardDelivery) {
        self.deferred.push(delivery);
    }

    pub(crate) fn take_deferred(&mut self) -> Vec<ShardDelivery> {
        std::mem::take(&mut self.deferred)
    }

    /// The name of this engine.
    pub(crate) fn engine(&self) -> &str {
        &self.engine
    }

    /// Whether this is the name of this engine.
    pub(crate) fn is_self(&self, engine: &str) -> bool {
        self.engine == engine
    }

    /// Records that another engine is alive.
    fn note_peer(&mut self, engine: String) {
        if engine != self.engine {
            self.peers.insert(engine, Instant::now());
        }
    }

    /// Whether a probe is the barrier after which no old answer can arrive.
    pub(crate) fn is_barrier(&mut self, shard: &Shard, engine: &str, number: u64) -> bool {
        if engine != self.engine {
            self.note_peer(engine.to_owned());
            return false;
        }
        let Some(state) = self.states.get_mut(shard) else { return false };
        let is_barrier = state.owned && state.barrier == Some(number);
        if is_barrier {
            state.barrier = None;
        }
        is_barrier
    }

    /// Whether old answers may still arrive from the queue of a shard that was taken over.
    pub(crate) fn awaits_barrier(&self, shard: &Shard) -> bool {
        self.states.get(shard).is_some_and(|state| state.owned && state.barrier.is_some())
    }

    /// The secret of all engines of the logbook.
    pub(crate) fn secret(&self) -> EngineSecret {
        self.secret
    }

    /// Whether this engine drives all shards.
    pub(crate) fn owns_all(&self) -> bool {
        self.states.values().all(|state| state.owned)
    }

    /// Whether other engines were seen.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Creates a probe for each shard, with its number.
    pub(crate) fn probe_all(&mut self) -> Vec<(Shard, u64, broker::Message)> {
        let shards: Vec<Shard> = self.states.keys().cloned().collect();
        let probe = |shard: Shard| {
            let probe = self.probe(&shard);
            (shard, self.probes, probe)
        };
        shards.into_iter().map(probe).collect()
    }

    /// Creates a probe for a shard; [`Shards::last_probe`] is its number.
    pub(crate) fn probe(&mut self, shard: &Shard) -> broker::Message {
        self.probes += 1;
        messages::probe(shard, &self.engine, self.probes, &self.secret)
    }

    /// The number of shards that is a fair part for each engine.
    fn fair_share(&self) -> usize {
        self.states.len().div_ceil(self.live_peers().count() + 1)
    }

    /// The other engines that count as alive.
    pub(crate) fn live_peers(&self) -> impl Iterator<Item = &str> {
        let now = Instant::now();
        let alive = self.peers.iter().filter(move |(_, seen_at)| now.duration_since(**seen_at) < PEER_TIMEOUT);
        alive.map(|(engine, _)| engine.as_str())
    }

    /// How long this engine has driven a shard; `None` if it does not.
    pub(crate) fn driving_for(&self, shard: &Shard) -> Option<Duration> {
        self.states.get(shard).filter(|state| state.owned).map(|state| state.since.elapsed())
    }

    /// The number of the last probe.
    pub(crate) fn last_probe(&self) -> u64 {
        self.probes
    }

    /// Creates probes for the shards that this engine does not drive: the engine that receives one is the driver.
    pub(crate) fn probe_unowned(&mut self) -> Vec<broker::Message> {
        let unowned = self.states.iter().filter(|(_, state)| !state.owned).map(|(shard, _)| shard.clone());
        let probed: Vec<Shard> = unowned.filter(|shard| !self.has_deferred_for(shard)).collect();
        probed.iter().map(|shard| self.probe(shard)).collect()
    }

    /// This engine drives a shard from now on, since its runs are in memory. Returns the probe that proves, once it is
    /// back, that every answer to an earlier call was received. It must return, so it is sent as a message and not as a
    /// probe that may be dropped.
    pub(crate) fn take_over(&mut self, shard: &Shard) -> broker::Message {
        let probe = self.probe(shard);
        self.changed_at = Some(Instant::now());
        if let Some(state) = self.states.get_mut(shard) {
            state.owned = true;
            state.since = Instant::now();
            state.barrier = Some(self.probes);
        }
        probe
    }

    /// This engine stops driving a shard.
    pub(crate) fn release(&mut self, shard: &Shard) {
        debug!(%shard, "drives the shard no more");
        self.changed_at = Some(Instant::now());
        if let Some(state) = self.states.get_mut(shard) {
            state.owned = false;
            state.barrier = None;
        }
    }

    /// Starts a term of a shard, or ends the current one.
    pub(crate) fn set_term(&mut self, shard: &Shard, term: Option<u64>) {
        if let Some(state) = self.states.get_mut(shard) {
            state.term = term;
        }
    }

    /// Returns the shards beyond the fair share of this engine, and logs how many it drives, once that is steady.
    pub(crate) fn surplus(&mut self) -> Vec<Shard> {
        let owned: Vec<Shard> = self.owned().cloned().collect();
        if self.changed_at.is_some_and(|at| at.elapsed() < MIN_OWNERSHIP) {
            return Vec::new();
        }
        if self.logged_at != self.changed_at {
            self.logged_at = self.changed_at;
            info!(shards = owned.len(), of = self.states.len(), "the engine drives its part of all runs");
        }
        owned.into_iter().skip(self.fair_share()).collect()
    }
}
