//! Up to which version the changes of each run were told: taken by the broker, and noted in the logbook.
//!
//! What was told is noted with the next append of its run, which costs nothing. Of a run that has ended, rests or has nothing
//! to do it is noted by itself, once a beat for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use flow::RunId;
use logbook::Version;
use tracing::warn;

use super::{Batch, Driver};

/// What was told of the runs that have told something.
#[derive(Default)]
pub(super) struct PublishCursors {
    /// Those of which something is on its way, or is not noted yet.
    runs: BTreeMap<RunId, PublishCursor>,
}

#[derive(Default)]
struct PublishCursor {
    /// What is on its way: each up to a version.
    out: BTreeSet<Version>,
    /// What has arrived before something that is older.
    early: BTreeSet<Version>,
    told: Version,
    noted: Version,
    /// Whether something was sent since the last beat.
    is_busy: bool,
}

impl PublishCursor {
    fn is_done(&self) -> bool {
        self.out.is_empty() && self.early.is_empty() && self.noted >= self.told
    }
}

impl PublishCursors {
    /// The changes of a run up to a version are on their way, or are to be.
    pub(super) fn send(&mut self, run: &RunId, version: Version) {
        let told = self.runs.entry(run.clone()).or_default();
        told.out.insert(version);
        told.is_busy = true;
    }

    /// What was sent up to a version has arrived.
    pub(super) fn arrived(&mut self, run: &RunId, version: Version) {
        let Some(told) = self.runs.get_mut(run) else { return };
        if !told.out.remove(&version) {
            return;
        }
        told.early.insert(version);
        while let Some(first) = told.early.first().copied()
            && told.out.first().is_none_or(|out| first < *out)
        {
            told.early.remove(&first);
            told.told = told.told.max(first);
        }
    }

    /// Up to where all of a run was told, as far as it is known here.
    pub(super) fn told(&self, run: &RunId) -> Version {
        self.runs.get(run).map_or(Version::NONE, |told| told.told)
    }

    /// Whether nothing of a run up to a version is on its way any more.
    pub(super) fn is_published(&self, run: &RunId, version: Version) -> bool {
        let has = |told: &PublishCursor| told.told >= version || told.out.first().is_none_or(|first| *first > version);
        self.runs.get(run).is_none_or(has)
    }

    /// That stands in the logbook now.
    pub(super) fn noted(&mut self, run: &RunId, version: Version) {
        if let Some(told) = self.runs.get_mut(run) {
            told.noted = told.noted.max(version);
        }
    }

    /// Whether something of a run is on its way, or is to be.
    pub(super) fn sends(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|told| !told.out.is_empty())
    }

    /// Whether nothing is left to be told and noted of runs but of some.
    pub(super) fn is_done_but(&self, of: impl Fn(&RunId) -> bool) -> bool {
        self.runs.iter().all(|(run, told)| told.is_done() || of(run))
    }

    /// What no append will note soon: of runs that are not open here, and of those that are, but were not busy since this
    /// was asked last.
    fn due(&mut self, is_open: impl Fn(&RunId) -> bool) -> Vec<(RunId, Version)> {
        self.runs.retain(|_, told| !told.is_done());
        let mut due = Vec::new();
        for (run, told) in &mut self.runs {
            let is_busy = std::mem::take(&mut told.is_busy) && is_open(run);
            if !is_busy && told.told > told.noted {
                due.push((run.clone(), told.told));
            }
        }
        due
    }
}

impl Driver {
    /// Hears what the broker has taken.
    pub(super) fn on_confirmed_versions(&mut self) {
        let taken = self.tools.taken.take();
        if self.is_lasting() {
            let before = self.echo.give_up();
            before.into_iter().chain(taken).for_each(|(run, version)| self.telling.arrived(&run, version));
        } else {
            self.echo.wait_for(taken);
        }
    }

    /// Whether what the broker has taken outlives this process. Where other engines are heard of it does.
    pub(super) fn is_lasting(&self) -> bool {
        self.tools.is_durable || self.shards.has_peers()
    }

    /// Once a beat: notes what was told, in one go. To be called before lost runs are looked for: what was heard for those is
    /// not recorded yet.
    pub(super) async fn persist_cursors(&mut self, round: &mut Batch) {
        self.on_confirmed_versions();
        if !self.is_lasting() {
            let is_recorded = self.lost.is_empty() && !self.shards.has_deferred();
            for (run, version) in self.echo.beat(is_recorded) {
                self.telling.arrived(&run, version);
            }
            if self.echo.needs_probes() {
                let probes = self.shards.probe_all();
                self.echo.probed(probes.iter().map(|(shard, number, _)| (shard.clone(), *number)));
                round.messages.extend(probes.into_iter().map(|(_, _, probe)| probe));
            }
        }
        let due = self.telling.due(|run| self.runs.contains_key(run));
        if !due.is_empty() {
            match self.tools.logbook.told(&due).await {
                Ok(()) => due.iter().for_each(|(run, version)| self.telling.noted(run, *version)),
                Err(error) => warn!(%error, "what was told is not noted: it may be told once more"),
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
            telling.arrived(&run(), version(arrived));
            telling.told(&run()).get()
        };
        assert_eq!([told(5), told(2), told(2), told(7), told(9)], [0, 5, 5, 5, 9]);
    }

    #[test]
    fn a_cursor_without_an_append_becomes_due() {
        let mut telling = PublishCursors::default();
        telling.send(&run(), version(2));
        telling.arrived(&run(), version(2));
        assert_eq!(telling.due(|_| true), [], "the next append may note it");
        assert_eq!(telling.due(|_| true), [(run(), version(2))]);
        telling.send(&run(), version(3));
        telling.arrived(&run(), version(3));
        assert_eq!(telling.due(|_| false), [(run(), version(3))], "there is no next append");
        assert!(!telling.is_done_but(|_| false));
        telling.noted(&run(), version(3));
        assert!(telling.is_done_but(|_| false));
        assert_eq!(telling.due(|_| false), []);
        assert_eq!(telling.told(&run()), Version::NONE, "it is let go");
    }
}
