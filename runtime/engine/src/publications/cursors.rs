//! The published version of each run: confirmed by the broker, and persisted in the logbook.
//!
//! The published version is persisted with the next append of its run, which costs nothing. For runs without a next
//! append, one write per tick persists it for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use flow::RunId;
use logbook::Version;

/// The publish cursors of all runs that have published something.
#[derive(Default)]
pub(crate) struct PublishCursors {
    /// Only runs with a version that is in flight or not persisted yet.
    runs: BTreeMap<RunId, PublishCursor>,
}

#[derive(Default)]
struct PublishCursor {
    /// Versions whose messages are in flight, each with the number of batches that contain them.
    in_flight: BTreeMap<Version, u32>,
    /// Versions of which some batches will never leave: they are not published once the others are confirmed.
    incomplete: BTreeSet<Version>,
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
    pub(crate) fn send(&mut self, run: &RunId, version: Version) {
        let cursor = self.runs.entry(run.clone()).or_default();
        *cursor.in_flight.entry(version).or_default() += 1;
        cursor.incomplete.remove(&version);
        cursor.is_busy = true;
    }

    /// One batch of a run will not leave, because another engine publishes the run's changes now. Confirms of earlier batches
    /// may still arrive.
    pub(crate) fn withdraw(&mut self, run: &RunId, version: Version) {
        let Some(cursor) = self.runs.get_mut(run) else { return };
        let Some(batches) = cursor.in_flight.get_mut(&version) else { return };
        *batches -= 1;
        if *batches > 0 {
            cursor.incomplete.insert(version);
        } else {
            cursor.in_flight.remove(&version);
        }
    }

    /// One batch with messages of a run up to a version is confirmed.
    pub(crate) fn on_confirmed(&mut self, run: &RunId, version: Version) {
        let Some(cursor) = self.runs.get_mut(run) else { return };
        let Some(batches) = cursor.in_flight.get_mut(&version) else { return };
        *batches -= 1;
        if *batches > 0 {
            return;
        }
        cursor.in_flight.remove(&version);
        if !cursor.incomplete.remove(&version) {
            cursor.confirmed_early.insert(version);
        }
        while let Some(first) = cursor.confirmed_early.first().copied()
            && cursor.in_flight.keys().next().is_none_or(|out| first < *out)
        {
            cursor.confirmed_early.remove(&first);
            cursor.published = cursor.published.max(first);
        }
    }

    /// Returns the published version of a run, as far as it is known here.
    pub(crate) fn published(&self, run: &RunId) -> Version {
        self.runs.get(run).map_or(Version::NONE, |cursor| cursor.published)
    }

    /// Whether no message of a run up to a version is in flight any more.
    pub(crate) fn is_published(&self, run: &RunId, version: Version) -> bool {
        let is_published = |cursor: &PublishCursor| {
            cursor.published >= version || cursor.in_flight.keys().next().is_none_or(|first| *first > version)
        };
        self.runs.get(run).is_none_or(is_published)
    }

    /// The logbook contains this published version now.
    pub(crate) fn on_persisted(&mut self, run: &RunId, version: Version) {
        if let Some(cursor) = self.runs.get_mut(run) {
            cursor.persisted = cursor.persisted.max(version);
        }
    }

    /// Whether all changes of a run are in flight, or will be.
    pub(crate) fn is_publishing(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|cursor| cursor.in_flight.len() > cursor.incomplete.len())
    }

    /// Whether everything is published and persisted for all runs, except those that `of` selects.
    pub(crate) fn is_done_except(&self, ignored: impl Fn(&RunId) -> bool) -> bool {
        self.runs.iter().all(|(run, cursor)| cursor.is_done() || ignored(run))
    }

    /// Returns the published versions that no append will persist soon: of runs that are not open here, and of open
    /// runs that were not busy since the last call.
    pub(crate) fn due(&mut self, is_open: impl Fn(&RunId) -> bool) -> Vec<(RunId, Version)> {
        self.runs.retain(|_, cursor| !cursor.is_done());
        let mut due = Vec::new();
        for (run, cursor) in &mut self.runs {
            let is_busy = std::mem::take(&mut cursor.is_busy) && is_open(run);
            if !is_busy && cursor.published > cursor.persisted {
                due.push((run.clone(), cursor.published));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        "r".parse().expect("a valid name")
    }

    fn version(version: u64) -> Version {
        Version::new(version)
    }

    #[test]
    fn an_early_confirm_waits_for_older_ones() {
        let mut cursors = PublishCursors::default();
        [2, 5, 9].into_iter().for_each(|sent| cursors.send(&run(), version(sent)));
        let mut published = |arrived| {
            cursors.on_confirmed(&run(), version(arrived));
            cursors.published(&run()).get()
        };
        assert_eq!([published(5), published(2), published(2), published(7), published(9)], [0, 5, 5, 5, 9]);
    }

    #[test]
    fn a_version_in_several_batches_is_published_with_the_last() {
        let mut cursors = PublishCursors::default();
        (0..3).for_each(|_| cursors.send(&run(), version(4)));
        let mut published = || {
            cursors.on_confirmed(&run(), version(4));
            cursors.published(&run()).get()
        };
        assert_eq!([published(), published(), published(), published()], [0, 0, 4, 4]);
    }

    #[test]
    fn a_version_is_not_published_by_the_confirms_of_a_part() {
        let mut cursors = PublishCursors::default();
        (0..3).for_each(|_| cursors.send(&run(), version(4)));
        cursors.withdraw(&run(), version(4));
        assert!(!cursors.is_publishing(&run()));
        cursors.on_confirmed(&run(), version(4));
        // The engine has the shard again, and publishes all parts anew before the last confirm arrives.
        cursors.send(&run(), version(4));
        cursors.on_confirmed(&run(), version(4));
        assert_eq!(cursors.published(&run()), Version::NONE);
        cursors.on_confirmed(&run(), version(4));
        assert_eq!(cursors.published(&run()), version(4));
        cursors.send(&run(), version(5));
        cursors.send(&run(), version(5));
        cursors.withdraw(&run(), version(5));
        cursors.on_confirmed(&run(), version(5));
        assert_eq!(cursors.published(&run()), version(4), "the rest was never sent");
    }

    #[test]
    fn a_cursor_without_an_append_becomes_due() {
        let mut cursors = PublishCursors::default();
        cursors.send(&run(), version(2));
        cursors.on_confirmed(&run(), version(2));
        assert_eq!(cursors.due(|_| true), [], "the next append may note it");
        assert_eq!(cursors.due(|_| true), [(run(), version(2))]);
        cursors.send(&run(), version(3));
        cursors.on_confirmed(&run(), version(3));
        assert_eq!(cursors.due(|_| false), [(run(), version(3))], "there is no next append");
        assert!(!cursors.is_done_except(|_| false));
        cursors.on_persisted(&run(), version(3));
        assert!(cursors.is_done_except(|_| false));
        assert_eq!(cursors.due(|_| false), []);
        assert_eq!(cursors.published(&run()), Version::NONE, "the cursor is removed");
    }
}
