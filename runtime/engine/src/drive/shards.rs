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

use std::collections::{BTreeMap, BTreeSet};

use flow::{RunId, Shard};
use logbook::Version;
use protocol::Reply;
use tokio::time::{Duration, Instant};
use tracing::{debug, info, warn};

use super::{Batch, Driver};
use crate::{
    inbox::{Inbox, ShardDelivery},
    messages,
};

/// An engine that sent no message for this long counts as gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an engine keeps all its shards after a change before it releases surplus ones: more may still arrive.
const MIN_OWNERSHIP: Duration = Duration::from_secs(3);

/// The shards that this engine drives or could drive.
pub(crate) struct Shards {
    engine: String,
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
    /// The term whose deliveries count; `None` from the release of the shard until its queue is consumed again.
    term: Option<u64>,
    /// The number of the probe after which no answer to an earlier message can arrive.
    barrier: Option<u64>,
}

impl Shards {
    pub(crate) fn new(engine: String, sharing: Sharing, shards: Vec<Shard>) -> Self {
        let owned = sharing == Sharing::Exclusive;
        let known =
            shards.into_iter().map(|shard| (shard, ShardState { owned, term: Some(0), barrier: None })).collect();
        Self {
            engine,
            sharing,
            states: known,
            peers: BTreeMap::new(),
            deferred: Vec::new(),
            probes: 0,
            changed_at: None,
            compared: 0,
            logged_at: None,
        }
    }

    pub(super) fn owns(&self, shard: &Shard) -> bool {
        self.states.get(shard).is_some_and(|known| known.owned)
    }

    /// Whether a delivery's term is the current one.
    pub(super) fn is_current(&self, shard: &Shard, term: u64) -> bool {
        self.term(shard) == Some(term)
    }

    pub(super) fn term(&self, shard: &Shard) -> Option<u64> {
        self.states.get(shard)?.term
    }

    pub(super) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// All shards that this engine could drive.
    pub(super) fn known(&self) -> impl Iterator<Item = &Shard> {
        self.states.keys()
    }

    /// Returns the shard to compare with the logbook at this tick, if any.
    pub(super) fn next_to_reconcile(&mut self) -> Option<Shard> {
        self.compared = (self.compared + 1) % RECONCILE_TICKS;
        self.owned().nth(self.compared).cloned()
    }

    fn owned(&self) -> impl Iterator<Item = &Shard> {
        self.states.iter().filter(|(_, known)| known.owned).map(|(shard, _)| shard)
    }

    /// Returns the shard for a new run: one that is driven here, the same one for the same run while the shards stay.
    pub(super) fn for_new(&self, run: &RunId) -> Option<Shard> {
        let owned: Vec<&Shard> = self.owned().collect();
        let spread = run.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        owned.get(spread.checked_rem(owned.len())?).map(|shard| (*shard).clone())
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    fn has_deferred_for(&self, shard: &Shard) -> bool {
        self.deferred.iter().any(|arrived| arrived.shard == *shard)
    }

    pub(super) fn defer(&mut self, arrived: ShardDelivery) {
        self.deferred.push(arrived);
    }

    /// The name of this engine.
    pub(super) fn engine(&self) -> &str {
        &self.engine
    }

    /// Whether this is the name of this engine.
    pub(super) fn is_self(&self, engine: &str) -> bool {
        self.engine == engine
    }

    /// Records that another engine is alive.
    fn note_peer(&mut self, engine: String) {
        if engine != self.engine {
            self.peers.insert(engine, Instant::now());
        }
    }

    /// Whether a probe is the barrier after which no old answer can arrive.
    pub(super) fn is_barrier(&mut self, shard: &Shard, engine: &str, number: u64) -> bool {
        if engine != self.engine {
            self.note_peer(engine.to_owned());
            return false;
        }
        let Some(known) = self.states.get_mut(shard) else { return false };
        let is_barrier = known.owned && known.barrier == Some(number);
        if is_barrier {
            known.barrier = None;
        }
        is_barrier
    }

    /// Whether this engine drives all shards.
    pub(super) fn owns_all(&self) -> bool {
        self.states.values().all(|known| known.owned)
    }

    /// Whether other engines were seen.
    pub(super) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Creates a probe for each shard, with its number.
    pub(super) fn probe_all(&mut self) -> Vec<(Shard, u64, broker::Message)> {
        let shards: Vec<Shard> = self.states.keys().cloned().collect();
        let probe = |shard: Shard| {
            let probe = self.probe(&shard);
            (shard, self.probes, probe)
        };
        shards.into_iter().map(probe).collect()
    }

    fn probe(&mut self, shard: &Shard) -> broker::Message {
        self.probes += 1;
        messages::probe(shard, &self.engine, self.probes)
    }

    /// The number of shards that is a fair part for each engine.
    fn fair_share(&self) -> usize {
        let now = Instant::now();
        let peers = self.peers.values().filter(|heard| now.duration_since(**heard) < PEER_TIMEOUT).count();
        self.states.len().div_ceil(peers + 1)
    }
}

impl Driver {
    /// Starts to drive a shard: reads its runs. Returns whether that worked.
    pub(super) async fn take_over(&mut self, shard: &Shard, round: &mut Batch) -> bool {
        let read = self.read_shard(shard, round).await;
        if read.is_err() {
            // Until the next try, other engines may add records to the runs that were read.
            self.remove_shard(shard);
        }
        match read {
            Ok(runs) => {
                debug!(%shard, runs, "drives the shard");
                let probe = self.shards.probe(shard);
                let number = self.shards.probes;
                self.shards.changed_at = Some(Instant::now());
                if let Some(known) = self.shards.states.get_mut(shard) {
                    known.owned = true;
                    known.barrier = Some(number);
                }
                // The barrier must return, so it is a message; other probes may be lost.
                round.messages.push(probe);
                true
            }
            Err(error) => {
                warn!(%shard, %error, "the shard cannot be driven yet");
                false
            }
        }
    }

    /// Another engine has added records to a run: if shards are shared, that engine drives the shard of this run.
    pub(super) fn on_conflict(&mut self, run: &RunId, version: Version) {
        // A run that has not begun here only has a name that is taken.
        let Some(live) = self.runs.get(run).filter(|live| live.version != Version::NONE) else { return };
        warn!(%run, version = version.get(), "another engine has added to this run");
        if self.shards.sharing == Sharing::Shared {
            let shard = live.shard.clone();
            self.release_shard(&shard);
        }
    }

    /// Starts a term of a shard: another engine may have driven it since the last one.
    pub(super) fn begin_term(&mut self, shard: &Shard, term: u64) {
        if self.shards.sharing == Sharing::Shared && self.shards.owns(shard) {
            self.release_shard(shard);
        }
        if let Some(known) = self.shards.states.get_mut(shard) {
            known.term = Some(term);
        }
    }

    /// Stops driving a shard.
    fn release_shard(&mut self, shard: &Shard) {
        debug!(%shard, "drives the shard no more");
        self.shards.changed_at = Some(Instant::now());
        if let Some(known) = self.shards.states.get_mut(shard) {
            known.owned = false;
            known.barrier = None;
        }
        self.remove_shard(shard);
    }

    /// Removes all runs of a shard from memory, and everything known about them.
    fn remove_shard(&mut self, shard: &Shard) {
        self.leases.drop_shard(shard);
        self.withdrawals.drop_shard(shard);
        self.listeners.drop_shard(shard);
        self.permits.drop_shard(shard);
        let runs: Vec<RunId> =
            self.runs.iter().filter(|(_, live)| live.shard == *shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            self.remove_run(&run);
        }
        for (_, lost) in self.stale.extract_if(.., |_, lost| lost.may_be_of(shard)) {
            drop(lost.give_up(&Reply::Failed("the run is driven elsewhere now".into())));
        }
    }

    /// Periodic work: probes shards without an owner, and releases shards beyond the fair share.
    pub(super) async fn tick(&mut self, inbox: &Inbox, round: &mut Batch) {
        for arrived in std::mem::take(&mut self.shards.deferred) {
            self.on_delivery(arrived, round).await;
        }
        let probed: BTreeSet<Shard> = self.leases.shards().chain(self.withdrawals.shards()).cloned().collect();
        for shard in probed {
            round.messages.extend(self.query_started(&shard));
            round.probes.push(self.shards.probe(&shard));
            self.leases.probe_sent(&shard, self.shards.probes);
            self.withdrawals.probed(&shard, self.shards.probes);
        }
        if self.shards.sharing == Sharing::Exclusive {
            return;
        }
        let unowned: Vec<Shard> =
            self.shards.states.iter().filter(|(_, known)| !known.owned).map(|(shard, _)| shard.clone()).collect();
        for shard in unowned.into_iter().filter(|shard| !self.shards.has_deferred_for(shard)).collect::<Vec<_>>() {
            round.probes.push(self.shards.probe(&shard));
        }
        self.reconcile().await;
        let owned: Vec<Shard> = self.shards.owned().cloned().collect();
        let is_steady = self.shards.changed_at.is_none_or(|at| at.elapsed() >= MIN_OWNERSHIP);
        if is_steady && self.shards.logged_at != self.shards.changed_at {
            self.shards.logged_at = self.shards.changed_at;
            info!(shards = owned.len(), of = self.shards.states.len(), "the engine drives its part of all runs");
        }
        let fair = self.shards.fair_share();
        if is_steady && owned.len() > fair {
            let many: BTreeSet<Shard> = owned.into_iter().skip(fair).collect();
            for shard in many {
                self.release_shard(&shard);
                if let Some(known) = self.shards.states.get_mut(&shard) {
                    known.term = None;
                }
                inbox.release(&shard);
            }
        }
    }
}
