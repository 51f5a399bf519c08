//! For a broker that ends with this process: delays a published version until its notifications were received and
//! recorded.
//!
//! Once every queue has returned a probe, the notifications were received. Then they wait for their turn. A copy for a run of
//! another shard passes a queue once more, so a second probe follows. The notifications are recorded once all that had
//! arrived by then have had their turn.

use std::collections::BTreeMap;

use flow::{RunId, Shard};
use logbook::Version;

/// Versions that are confirmed by the broker, but may not be recorded by their listeners yet.
#[derive(Default)]
pub(crate) struct DeliveryBarrier {
    /// Versions that wait for the next barrier.
    waiting: Vec<(RunId, Version)>,
    /// Versions of the current barrier.
    current: Vec<(RunId, Version)>,
    phase: BarrierPhase,
    /// Outstanding probes.
    out: BTreeMap<Shard, u64>,
    needs_probes: bool,
    /// The number of notifications that had arrived after the second round; `None` until each that has arrived waits for its
    /// turn.
    received: Option<u64>,
}

/// The round of the outstanding probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum BarrierPhase {
    /// Behind the notifications.
    #[default]
    First,
    /// Behind the copies for runs of other shards.
    Second,
}

impl DeliveryBarrier {
    /// Adds versions that the broker has confirmed.
    pub(crate) fn add(&mut self, versions: Vec<(RunId, Version)>) {
        self.waiting.extend(versions);
    }

    /// Returns all versions, since no barrier is needed any more.
    pub(crate) fn give_up(&mut self) -> Vec<(RunId, Version)> {
        let Self { waiting, current, .. } = std::mem::take(self);
        current.into_iter().chain(waiting).collect()
    }

    /// Advances if all probes have returned; returns the versions that are recorded by now.
    ///
    /// `received` is the number of notifications that have arrived; `None` while some of them are held otherwise than in
    /// their turn. `are_taken` tells whether the first of them have had their turn.
    pub(crate) fn advance(
        &mut self,
        received: Option<u64>,
        are_taken: impl FnOnce(u64) -> bool,
    ) -> Vec<(RunId, Version)> {
        if !self.out.is_empty() {
            return Vec::new();
        }
        let mut done = Vec::new();
        if !self.current.is_empty() {
            self.needs_probes = true;
            match self.phase {
                BarrierPhase::First => (self.phase, self.received) = (BarrierPhase::Second, None),
                BarrierPhase::Second => {
                    self.received = received.map(|received| self.received.unwrap_or(received));
                    if self.received.is_some_and(are_taken) {
                        done = std::mem::take(&mut self.current);
                    }
                }
            }
        }
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.waiting);
            self.phase = BarrierPhase::First;
            self.needs_probes = !self.current.is_empty();
        }
        done
    }

    /// Whether probes must be sent to all shards now.
    pub(crate) fn needs_probes(&self) -> bool {
        self.needs_probes
    }

    /// The probes were sent.
    pub(crate) fn probed(&mut self, probes: impl IntoIterator<Item = (Shard, u64)>) {
        self.out.extend(probes);
        self.needs_probes = false;
    }

    /// A probe has returned.
    pub(crate) fn on_probe(&mut self, shard: &Shard, number: u64) {
        if self.out.get(shard).is_some_and(|awaited| number >= *awaited) {
            self.out.remove(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_completes_after_two_probe_rounds_over_all_shards() {
        let shards = ["a", "b"].map(|shard| shard.parse::<Shard>().expect("a valid name"));
        let versions = |run: &str| vec![(run.parse().expect("a valid name"), Version::new(1))];
        let mut barrier = DeliveryBarrier::default();
        assert_eq!(barrier.advance(Some(0), |_| true), []);
        assert!(!barrier.needs_probes());
        barrier.add(versions("r"));
        let mut number = 0;
        let mut go_round = |barrier: &mut DeliveryBarrier| {
            number += 1;
            assert!(barrier.needs_probes());
            barrier.probed(shards.iter().map(|shard| (shard.clone(), number)));
            for shard in &shards {
                barrier.on_probe(shard, number - 1);
                assert_eq!(barrier.advance(Some(0), |_| true), [], "not all are back");
                barrier.on_probe(shard, number);
            }
        };
        assert_eq!(barrier.advance(Some(0), |_| true), []);
        go_round(&mut barrier);
        barrier.add(versions("later"));
        assert_eq!(barrier.advance(Some(0), |_| true), []);
        go_round(&mut barrier);
        assert_eq!(barrier.advance(None, |_| true), [], "something that was received is held");
        go_round(&mut barrier);
        assert_eq!(barrier.advance(Some(7), |_| false), [], "something waits for its turn");
        go_round(&mut barrier);
        assert_eq!(barrier.advance(Some(9), |first| first > 7), [], "later notifications do not count");
        go_round(&mut barrier);
        assert_eq!(barrier.advance(Some(0), |_| true), versions("r"));
        assert_eq!(barrier.give_up(), versions("later"));
    }
}
