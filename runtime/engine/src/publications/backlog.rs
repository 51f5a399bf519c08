//! Changes that are published later, in the order of each run: those of a run that another process left, and newer ones
//! behind them. A run that was left may have a hundred thousand of them, and others are not to wait for it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use flow::{FlowName, RunId, Shard};
use logbook::Version;
use protocol::EngineSecret;

use super::{PublishedChange, PublishedRun};
use crate::{effects::Effects, messages};

/// Maximum number of waiting changes that one batch publishes, besides as many as have come since the last.
const MAX_BATCH_CHANGES: usize = 512;

/// Maximum number of these: about what one batch of steps leads to.
const MAX_NEW_CHANGES: usize = 4_096;

/// The waiting changes of all runs.
#[derive(Default)]
pub(crate) struct Backlog {
    runs: BTreeMap<RunId, RunBacklog>,
    /// The number of changes that have come since the last batch.
    new: usize,
    /// The last run of the last batch: the next one begins after it.
    last: Option<RunId>,
}

/// The waiting changes of one run.
struct RunBacklog {
    flow: FlowName,
    shard: Shard,
    entries: VecDeque<Entry>,
    /// The versions among the entries.
    versions: VecDeque<Version>,
}

pub(crate) enum Entry {
    Change(PublishedChange),
    /// All changes up to this version come before.
    Version(Version),
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether changes of a run wait.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Adds the changes of a run that another process left, up to its version.
    pub(crate) fn add(&mut self, of: &PublishedRun, changes: Vec<PublishedChange>) {
        let backlog = self.of_run(of);
        backlog.entries.extend(changes.into_iter().map(Entry::Change));
        backlog.push(Entry::Version(of.version));
    }

    /// Adds a new entry of a run.
    pub(crate) fn push(&mut self, of: &PublishedRun, entry: Entry) {
        self.new += usize::from(!entry.is_version());
        self.of_run(of).push(entry);
    }

    fn of_run(&mut self, of: &PublishedRun) -> &mut RunBacklog {
        let empty = || RunBacklog {
            flow: of.flow.clone(),
            shard: of.shard.clone(),
            entries: VecDeque::new(),
            versions: VecDeque::new(),
        };
        self.runs.entry(of.run.clone()).or_insert_with(empty)
    }

    /// Moves the next changes to the effects, an equal share for each run. More leave than have come, so the backlog ends.
    ///
    /// Returns the runs of which only a part of the changes up to a version was moved. The effects contain that version for
    /// the part too: it is published once all parts are confirmed.
    pub(crate) fn take(&mut self, secret: &EngineSecret, effects: &mut Effects) -> Vec<(RunId, Version)> {
        let mut parts = Vec::new();
        let mut left = MAX_BATCH_CHANGES + std::mem::take(&mut self.new).min(MAX_NEW_CHANGES);
        let share = (left / self.runs.len().max(1)).max(1);
        let after = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.runs.range((after.clone(), Bound::Unbounded)).map(|(run, _)| run.clone());
        let turns: Vec<RunId> = later.chain(self.runs.keys().cloned()).take(self.runs.len()).collect();
        for run in turns {
            let Some(backlog) = self.runs.get_mut(&run).filter(|_| left > 0) else { break };
            let mut of_run = share.min(left);
            let mut is_part = false;
            left -= of_run;
            while let Some(entry) = backlog.entries.pop_front_if(|entry| of_run > 0 || entry.is_version()) {
                match entry {
                    Entry::Change(change) => {
                        effects.messages.push(messages::notification(&run, &backlog.flow, &change, secret));
                        of_run -= 1;
                        is_part = true;
                    }
                    Entry::Version(version) => {
                        backlog.versions.pop_front();
                        effects.published.push((run.clone(), version));
                        is_part = false;
                    }
                }
            }
            left += of_run;
            if is_part && let Some(version) = backlog.versions.front() {
                effects.published.push((run.clone(), *version));
                parts.push((run.clone(), *version));
            }
            if backlog.entries.is_empty() {
                self.runs.remove(&run);
            }
            self.last = Some(run);
        }
        parts
    }

    /// Removes the changes of a shard's runs, and returns the versions whose last changes were among them.
    pub(crate) fn drop_shard(&mut self, shard: &Shard) -> Vec<(RunId, Version)> {
        let dropped = self.runs.extract_if(.., |_, backlog| backlog.shard == *shard);
        dropped
            .flat_map(|(run, backlog)| backlog.versions.into_iter().map(move |version| (run.clone(), version)))
            .collect()
    }
}

impl RunBacklog {
    fn push(&mut self, entry: Entry) {
        if let Entry::Version(version) = entry {
            self.versions.push_back(version);
        }
        self.entries.push_back(entry);
    }
}

impl Entry {
    fn is_version(&self) -> bool {
        matches!(self, Self::Version(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::{Attempt, Digest, Firing, NodeKind, State, Timestamp};
    use machine::NodeChange;

    fn change(attempt: u32) -> PublishedChange {
        let change = NodeChange {
            kind: NodeKind::Task,
            name: "t".parse().expect("a valid name"),
            state: State::Running,
            firing: Firing::FIRST,
            attempt: Attempt::new(attempt),
            at: Timestamp::from_micros(0),
            provides: None,
            failure: None,
            retry_in: None,
            worker: None,
            computed_by: None,
            digest: Some(Digest::from_bytes([1; 32])),
            is_of_empty_firing: false,
        };
        PublishedChange::Node(change.into())
    }

    fn run(run: &str) -> PublishedRun {
        let name = "f".parse().expect("a valid name");
        let shard = if run.starts_with("other") { "1" } else { "0" };
        let (run, shard) = (run.parse().expect("a valid name"), shard.parse().expect("a valid name"));
        PublishedRun { run, flow: name, shard, version: Version::NONE }
    }

    fn push(backlog: &mut Backlog, of: &PublishedRun, attempt: u32) {
        backlog.push(of, Entry::Change(change(attempt)));
    }

    fn body(of: &PublishedRun, attempt: u32, secret: &EngineSecret) -> bytes::Bytes {
        messages::notification(&of.run, &of.flow, &change(attempt), secret).body
    }

    #[test]
    fn a_long_backlog_does_not_delay_a_short_one_and_stays_in_order() {
        let [long, short] = ["long", "short"].map(run);
        let secret = EngineSecret::new([7; 32]);
        let mut backlog = Backlog::default();
        let [long, short] =
            [PublishedRun { version: Version::new(9), ..long }, PublishedRun { version: Version::new(3), ..short }];
        backlog.add(&long, (1..=2_000).map(change).collect());
        backlog.add(&short, vec![change(1)]);
        let (mut bodies, mut published, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        while !backlog.is_empty() {
            let mut effects = Effects::default();
            parts.push(backlog.take(&secret, &mut effects));
            assert!(effects.messages.len() <= MAX_BATCH_CHANGES);
            bodies.extend(effects.messages.into_iter().map(|message| message.body));
            published.push(effects.published);
        }
        let (of_long, of_short) = ((long.run.clone(), Version::new(9)), (short.run.clone(), Version::new(3)));
        assert_eq!(published.first(), Some(&vec![of_long.clone(), of_short]));
        assert!(published.iter().skip(1).all(|published| *published == [of_long.clone()]), "each batch has its part");
        assert_eq!(parts.iter().flatten().count(), published.len() - 1, "the last part ends the version");
        bodies.retain(|sent| *sent != body(&short, 1, &secret));
        let expected: Vec<_> = (1..=2_000).map(|attempt| body(&long, attempt, &secret)).collect();
        assert_eq!(bodies, expected);
    }

    #[test]
    fn a_backlog_ends_although_more_comes_in_each_batch() {
        let (busy, secret) = (run("busy"), EngineSecret::new([7; 32]));
        let mut backlog = Backlog::default();
        backlog.add(&busy, (0..5_000).map(change).collect());
        let mut batches = 0;
        while !backlog.is_empty() {
            (0..1_000).for_each(|attempt| push(&mut backlog, &busy, attempt));
            backlog.take(&secret, &mut Effects::default());
            batches += 1;
            assert!(batches <= 10, "512 more leave than come");
        }
    }

    #[test]
    fn every_run_has_its_turn_and_a_released_shard_has_none() {
        let secret = EngineSecret::new([7; 32]);
        let runs: Vec<PublishedRun> = (0..2_000).map(|number| run(&format!("run-{number}"))).collect();
        let other = run("other");
        let mut backlog = Backlog::default();
        for of in runs.iter().chain([&other]) {
            backlog.add(of, (0..10).map(change).collect());
        }
        assert_eq!(backlog.drop_shard(&other.shard), [(other.run, Version::NONE)]);
        let mut bodies = Vec::new();
        for _ in 0..4 {
            let mut effects = Effects::default();
            backlog.take(&secret, &mut effects);
            bodies.extend(effects.messages.into_iter().map(|message| message.body));
        }
        assert!(runs.iter().all(|of| bodies.contains(&body(of, 0, &secret))), "after four batches of 512");
    }
}
