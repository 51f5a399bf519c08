//! The published version of each run: confirmed by the broker, and persisted in the logbook.
//!
//! The published version is persisted with the next append of its run, which costs nothing. For runs without a next
//! append, one write per tick persists it for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use flow::RunId;
use logbook::Version;
use tracing::warn;

use super::{Batch, Driver};

/// The publish cursors of all runs that have published something.
#[derive(Default)]
pub(super) struct PublishCursors {
    /// Only runs with a version that is in flight or not persisted yet.
    runs: BTreeMap<RunId, PublishCursor>,
}

#[derive(Default)]
struct PublishCursor {
    /// Versions whose messages are in flight.
    in_flight: BTreeSet<Version>,
    /// Versions that were confirmed before an older one.
    confirmed_early: BTreeSet<Version>,
    published: Version,
    persisted: Version,
    /// Whether something was sent since the last tick.
    is_busy: bool,
}

impl PublishCursor {
    fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.confirmed_early.is_empty() && self.persisted >= self.published
    }
}

impl PublishCursors {
    /// The changes of a run up to a version are in flight, or will be.
    pub(super) fn send(&mut self, run: &RunId, version: Version) {
        let told = self.runs.entry(run.clone()).or_default();
        told.in_flight.insert(version);
        told.is_busy = true;
    }

    /// The messages of a run up to a version are confirmed.
    pub(super) fn on_confirmed(&mut self, run: &RunId, version: Version) {
        let Some(told) = self.runs.get_mut(run) else { return };
        if !told.in_flight.remove(&version) {
            return;
        }
        told.confirmed_early.insert(version);
        while let Some(first) = told.confirmed_early.first().copied()
            && told.in_flight.first().is_none_or(|out| first < *out)
        {
            told.confirmed_early.remove(&first);
            told.published = told.published.max(first);
        }
    }

    /// Returns the published version of a run, as far as it is known here.
    pub(super) fn published(&self, run: &RunId) -> Version {
        self.runs.get(run).map_or(Version::NONE, |told| told.published)
    }

    /// Whether no message of a run up to a version is in flight any more.
    pub(super) fn is_published(&self, run: &RunId, version: Version) -> bool {
        let has = |told: &PublishCursor| {
            told.published >= version || told.in_flight.first().is_none_or(|first| *first > version)
        };
        self.runs.get(run).is_none_or(has)
    }

    /// The logbook contains this published version now.
    pub(super) fn on_persisted(&mut self, run: &RunId, version: Version) {
        if let Some(told) = self.runs.get_mut(run) {
            told.persisted = told.persisted.max(version);
        }
    }

    /// Whether messages of a run are in flight, or will be.
    pub(super) fn is_publishing(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|told| !told.in_flight.is_empty())
    }

    /// Whether everything is published and persisted for all runs, except those that `of` selects.
    pub(super) fn is_done_but(&self, of: impl Fn(&RunId) -> bool) -> bool {
        self.runs.iter().all(|(run, told)| told.is_done() || of(run))
    }

    /// Returns the published versions that no append will persist soon: of runs that are not open here, and of open
    /// runs that were not busy since the last call.
    fn due(&mut self, is_open: impl Fn(&RunId) -> bool) -> Vec<(RunId, Version)> {
        self.runs.retain(|_, told| !told.is_done());
        let mut due = Vec::new();
        for (run, told) in &mut self.runs {
            let is_busy = std::mem::take(&mut told.is_busy) && is_open(run);
            if !is_busy && told.published > told.persisted {
                due.push((run.clone(), told.published));
            }
        }
        due
    }
}

impl Driver {
    /// Handles the versions that the broker has confirmed.
    pub(super) fn on_confirmed_versions(&mut self) {
        let taken = self.tools.confirmed.take();
        if self.is_lasting() {
            let before = self.barrier.give_up();
            before.into_iter().chain(taken).for_each(|(run, version)| self.publish_cursors.on_confirmed(&run, version));
        } else {
            self.barrier.add(taken);
        }
    }

    /// Whether confirmed messages outlive this process. If other engines were seen, they do.
    pub(super) fn is_lasting(&self) -> bool {
        self.tools.is_durable || self.shards.has_peers()
    }

    /// Persists the published versions, once per tick and all at once. Call it before stale runs are reloaded:
    /// messages that were received for them are not recorded yet.
    pub(super) async fn persist_cursors(&mut self, round: &mut Batch) {
        self.on_confirmed_versions();
        if !self.is_lasting() {
            let is_recorded = self.stale.is_empty() && !self.shards.has_deferred();
            for (run, version) in self.barrier.advance(is_recorded) {
                self.publish_cursors.on_confirmed(&run, version);
            }
            if self.barrier.needs_probes() {
                let probes = self.shards.probe_all();
                self.barrier.probed(probes.iter().map(|(shard, number, _)| (shard.clone(), *number)));
                round.messages.extend(probes.into_iter().map(|(_, _, probe)| probe));
            }
        }
        let due = self.publish_cursors.due(|run| self.runs.contains_key(run));
        if !due.is_empty() {
            match self.tools.logbook.mark_published(&due).await {
                Ok(()) => due.iter().for_each(|(run, version)| self.publish_cursors.on_persisted(run, *version)),
                Err(error) => {
                    warn!(%error, "the published versions were not saved: changes may be published once more")
                }
            }
        }
        self.load_more_unpublished().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        "r".parse().expect("a lawful name")
    }

    fn version(version: u64) -> Version {
        Version::new(version)
    }

    #[test]
    fn an_early_confirm_waits_for_older_ones() {
        let mut telling = PublishCursors::default();
        [2, 5, 9].into_iter().for_each(|sent| telling.send(&run(), version(sent)));
        let mut told = |arrived| {
            telling.on_confirmed(&run(), version(arrived));
            telling.published(&run()).get()
        };
        assert_eq!([told(5), told(2), told(2), told(7), told(9)], [0, 5, 5, 5, 9]);
    }

    #[test]
    fn a_cursor_without_an_append_becomes_due() {
        let mut telling = PublishCursors::default();
        telling.send(&run(), version(2));
        telling.on_confirmed(&run(), version(2));
        assert_eq!(telling.due(|_| true), [], "the next append may note it");
        assert_eq!(telling.due(|_| true), [(run(), version(2))]);
        telling.send(&run(), version(3));
        telling.on_confirmed(&run(), version(3));
        assert_eq!(telling.due(|_| false), [(run(), version(3))], "there is no next append");
        assert!(!telling.is_done_but(|_| false));
        telling.on_persisted(&run(), version(3));
        assert!(telling.is_done_but(|_| false));
        assert_eq!(telling.due(|_| false), []);
        assert_eq!(telling.published(&run()), Version::NONE, "it is let go");
    }
}
