//! What stays of a run that lives when its oldest records are let go.

use std::collections::BTreeSet;

use flow::{Digest, Fact, Record, Revision, Snapshot, Timestamp};

use crate::Version;

/// What stands for the records of a run that were let go.
#[derive(Debug, Clone, PartialEq)]
pub struct TrimPoint {
    /// How many they are: what is kept comes after this version.
    pub version: Version,
    /// The run after them.
    pub snapshot: Snapshot,
    /// How its flow was changed in them, in order.
    pub revisions: Vec<RevisionEntry>,
}

/// That a run's flow was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevisionEntry {
    /// What the flow looked like from then on.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// How many edits it was made with by then: the first ones that the flow says it was made with.
    pub edits: usize,
}

/// How records that are let go changed the flow.
pub(crate) fn revision_entries<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<RevisionEntry> {
    let revised = |record: &Record| {
        let Fact::Edited { flow, revision } = &record.fact else { return None };
        let edits = flow.origin.as_ref().map_or(0, |origin| origin.edits.len());
        Some(RevisionEntry { revision: *revision, at: record.at, edits })
    };
    records.into_iter().filter_map(revised).collect()
}

/// What of the store a run still refers to, by what it begins with and the records after that.
pub(crate) fn referenced_digests<'a>(
    beginning: &Snapshot,
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeSet<Digest> {
    beginning.digests().into_iter().chain(records.into_iter().flat_map(Record::digests)).collect()
}
