//! The trim point: what remains after the oldest records of a long-lived run are deleted.

use std::collections::BTreeSet;

use flow::{Digest, Revision, Timestamp};
use machine::{Fact, Record, Snapshot};

use crate::Version;

/// Replaces the trimmed records of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrimPoint {
    /// The number of trimmed records: the remaining ones come after this version.
    pub version: Version,
    /// The state of the run after them.
    pub snapshot: Snapshot,
    /// The revisions of the flow in the trimmed records, in order.
    pub revisions: Vec<RevisionEntry>,
}

/// A change of a run's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevisionEntry {
    /// The revision of the flow from then on.
    pub revision: Revision,
    /// The time of the change.
    pub at: Timestamp,
    /// The number of edits up to then: a prefix of the edits that the flow lists.
    pub edits: usize,
}

/// What a trim keeps of the records of a run, which are added one append after the other: together they may take much memory.
#[derive(Debug)]
pub(crate) struct TrimSummary {
    /// The store digests that the run still refers to, by its trim point and the later records.
    pub(crate) digests: BTreeSet<Digest>,
    /// The revisions of the flow in the trimmed records.
    pub(crate) revisions: Vec<RevisionEntry>,
}

impl TrimSummary {
    /// What is kept of a run without records.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self { digests: snapshot.digests().into_iter().collect(), revisions: Vec::new() }
    }

    /// Adds records that are about to be trimmed.
    pub(crate) fn add_trimmed<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        let entry = |record: &Record| {
            let Fact::Edited { flow, revision } = &record.fact else { return None };
            let edits = flow.origin.as_ref().map_or(0, |origin| origin.edits.len());
            Some(RevisionEntry { revision: *revision, at: record.at, edits })
        };
        self.revisions.extend(records.into_iter().filter_map(entry));
    }

    /// Adds records that stay.
    pub(crate) fn add_remaining<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        self.digests.extend(records.into_iter().flat_map(Record::digests));
    }
}
