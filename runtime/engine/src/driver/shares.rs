//! How many records and bytes each run of a batch may add.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Namespace, RunId};
use machine::{MAX_STEP_BYTES, MAX_STEP_RECORDS};

/// Maximum number of records that all runs of one batch add together, so that a request waits some tens of
/// milliseconds at most. Each namespace gets an equal share, and in it each run, and a run continues with the rest in a later batch.
pub(super) const MAX_BATCH_RECORDS: usize = 4_096;

/// Minimum share of a run.
const MIN_RUN_RECORDS: usize = 8;

/// Maximum number of bytes of records and commands that all runs of one batch add together, beside what messages and commands decide
/// themselves. They are shared like the records.
pub(super) const MAX_BATCH_STEP_BYTES: usize = 16 << 20;

/// Minimum share of a run, while the batch has as many bytes left.
const MIN_RUN_BYTES: usize = 64 << 10;

/// The maximum number of records and bytes of each run of a batch.
pub(super) struct Shares {
    runs: BTreeMap<RunId, Share>,
    /// That of a run which only has a turn of its conditions.
    of_conditions: Share,
}

/// The maximum number of records and bytes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Shares {
    /// The shares of the runs with events, by namespace, and of a number of turns of conditions.
    pub(super) fn new(runs: BTreeMap<Option<Namespace>, BTreeSet<RunId>>, turns: usize) -> Self {
        let namespaces = (runs.len() + usize::from(turns > 0)).max(1);
        let share = |runs: usize| Share {
            records: (MAX_BATCH_RECORDS / namespaces / runs.max(1)).clamp(MIN_RUN_RECORDS, MAX_STEP_RECORDS),
            bytes: (MAX_BATCH_STEP_BYTES / namespaces / runs.max(1)).clamp(MIN_RUN_BYTES, MAX_STEP_BYTES),
        };
        let of_runs = runs.into_values().flat_map(|runs| {
            let share = share(runs.len());
            runs.into_iter().map(move |run| (run, share))
        });
        Self { runs: of_runs.collect(), of_conditions: share(turns) }
    }

    /// The share of a run which only has a turn of its conditions.
    pub(super) fn of_conditions(&self) -> Share {
        self.of_conditions
    }

    pub(super) fn of(&self, run: &RunId) -> Share {
        self.runs.get(run).copied().unwrap_or(self.of_conditions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(run: &str) -> RunId {
        run.parse().expect("a valid name")
    }

    #[test]
    fn the_runs_of_one_namespace_do_not_take_the_share_of_another() {
        let namespace = |name: &str| Some(Namespace::new(name).expect("a valid name"));
        let many: BTreeSet<RunId> = (0..512).map(|number| run(&format!("a{number}"))).collect();
        let one = BTreeSet::from([run("b")]);
        let shares = Shares::new(BTreeMap::from([(namespace("a"), many), (namespace("b"), one.clone())]), 0);
        let least = Share { records: MIN_RUN_RECORDS, bytes: MIN_RUN_BYTES };
        let most = Share { records: MAX_STEP_RECORDS, bytes: MAX_STEP_BYTES };
        assert_eq!((shares.of(&run("a7")), shares.of(&run("b"))), (least, most));
        let shares = Shares::new(BTreeMap::from([(None, one)]), 8);
        let of_conditions = Share { records: 256, bytes: 1 << 20 };
        assert_eq!((shares.of(&run("b")), shares.of(&run("waits"))), (most, of_conditions));
    }
}
