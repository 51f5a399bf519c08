//! When what a broker has taken that ends with this process was heard and recorded: only then it counts as told.
//!
//! A notification goes two ways through the queues of the shards: it is heard, and asked of each run that listens. What has
//! come back from all of them, twice, was behind both.

use std::collections::BTreeMap;

use flow::{RunId, Shard};
use logbook::Version;

/// What was taken, and is not known to be recorded.
#[derive(Default)]
pub(super) struct DeliveryBarrier {
    /// What waits for its turn.
    waiting: Vec<(RunId, Version)>,
    /// What this turn is about.
    current: Vec<(RunId, Version)>,
    phase: BarrierPhase,
    /// Probes that have not come back.
    out: BTreeMap<Shard, u64>,
    needs_probes: bool,
}

/// Which way the probes go that are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum BarrierPhase {
    /// Behind notifications.
    #[default]
    First,
    /// Behind what was asked of runs because of them.
    Second,
}

impl DeliveryBarrier {
    /// The broker has taken this.
    pub(super) fn add(&mut self, taken: Vec<(RunId, Version)>) {
        self.waiting.extend(taken);
    }

    /// All that waits: nothing has to be waited for any more.
    pub(super) fn give_up(&mut self) -> Vec<(RunId, Version)> {
        let Self { waiting, current: group, .. } = std::mem::take(self);
        group.into_iter().chain(waiting).collect()
    }

    /// Goes on where all probes are back; answers what is recorded by now. `is_recorded` says whether everything that has
    /// been heard is.
    pub(super) fn advance(&mut self, is_recorded: bool) -> Vec<(RunId, Version)> {
        if !self.out.is_empty() {
            return Vec::new();
        }
        let mut done = Vec::new();
        if !self.current.is_empty() {
            self.needs_probes = true;
            match self.phase {
                BarrierPhase::First => self.phase = BarrierPhase::Second,
                BarrierPhase::Second if is_recorded => done = std::mem::take(&mut self.current),
                BarrierPhase::Second => {}
            }
        }
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.waiting);
            self.phase = BarrierPhase::First;
            self.needs_probes = !self.current.is_empty();
        }
        done
    }

    /// Whether probes are to go to all shards now.
    pub(super) fn needs_probes(&self) -> bool {
        self.needs_probes
    }

    /// They are on their way.
    pub(super) fn probed(&mut self, probes: impl IntoIterator<Item = (Shard, u64)>) {
        self.out.extend(probes);
        self.needs_probes = false;
    }

    /// A probe has come back.
    pub(super) fn on_probe(&mut self, shard: &Shard, number: u64) {
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
        let shards = ["a", "b"].map(|shard| shard.parse::<Shard>().expect("a lawful name"));
        let taken = |run: &str| vec![(run.parse().expect("a lawful name"), Version::new(1))];
        let mut echo = DeliveryBarrier::default();
        assert_eq!(echo.advance(true), []);
        assert!(!echo.needs_probes());
        echo.add(taken("r"));
        let mut number = 0;
        let mut go_round = |echo: &mut DeliveryBarrier| {
            number += 1;
            assert!(echo.needs_probes());
            echo.probed(shards.iter().map(|shard| (shard.clone(), number)));
            for shard in &shards {
                echo.on_probe(shard, number - 1);
                assert_eq!(echo.advance(true), [], "not all are back");
                echo.on_probe(shard, number);
            }
        };
        assert_eq!(echo.advance(true), []);
        go_round(&mut echo);
        echo.add(taken("later"));
        assert_eq!(echo.advance(true), []);
        go_round(&mut echo);
        assert_eq!(echo.advance(false), [], "something that was heard is not recorded");
        go_round(&mut echo);
        assert_eq!(echo.advance(true), taken("r"));
        assert_eq!(echo.give_up(), taken("later"));
    }
}
