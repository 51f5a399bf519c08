//! One run in memory.

use std::collections::BTreeSet;

use flow::{Digest, LabelValue, Labels, RunId, Timestamp};
use machine::{Record, Snapshot};
use protocol::{AttemptLog, encode_snapshot};

use super::record_bytes;
use crate::{
    LogFilter, LogPage, LogPosition, LogRange, RunInfo, Summary, TrimPoint, Version,
    log_page::{HttpPageBuilder, PageBuilder},
    row,
    trim_point::TrimSummary,
};

/// Everything that is known of a run.
#[derive(Debug)]
pub(super) struct StoredRun {
    pub(super) info: RunInfo,
    /// The records that were not trimmed.
    pub(super) records: Vec<Record>,
    pub(super) snapshot: Option<(Version, Snapshot)>,
    /// Each log with the version that its records follow.
    pub(super) logs: Vec<(Version, AttemptLog)>,
    pub(super) published: Version,
    pub(super) started_at: Timestamp,
    pub(super) trim_point: Option<TrimPoint>,
    pub(super) labels: Labels,
    /// The texts by which it is found.
    pub(super) search_texts: BTreeSet<LabelValue>,
}

impl StoredRun {
    pub(super) fn summary(&self, run: &RunId) -> Summary {
        Summary {
            run: run.clone(),
            info: self.info.clone(),
            labels: self.labels.clone(),
            version: self.version(),
            started_at: self.started_at,
            changed_at: self.records.last().map_or(self.started_at, |record| record.at),
        }
    }

    /// The bytes that its records and snapshots would have in a database, approximately: the records are not encoded for it.
    pub(super) fn bytes(&self) -> u64 {
        let last = self.snapshot.iter().map(|(_, snapshot)| snapshot);
        let snapshots = last.chain(self.trim_point.iter().map(|trim_point| &trim_point.snapshot));
        let snapshots = snapshots.map(snapshot_bytes).fold(0, usize::saturating_add);
        let records = self.records.iter().map(record_bytes).sum::<usize>();
        records.saturating_add(snapshots) as u64
    }

    /// The version that the first stored record follows.
    pub(super) fn first(&self) -> Version {
        self.trim_point.as_ref().map_or(Version::NONE, |trim_point| trim_point.version)
    }

    pub(super) fn version(&self) -> Version {
        self.first().after(&self.records)
    }

    /// The stored records after a version.
    pub(super) fn after(&self, version: Version) -> &[Record] {
        let skipped = usize::try_from(version.get() - self.first().get()).unwrap_or(usize::MAX);
        self.records.get(skipped..).unwrap_or_default()
    }

    /// A page of the logs.
    pub(super) fn log_page(&self, range: &LogRange) -> LogPage {
        // Searched for, since a run may have a million logs.
        let start = self.logs.partition_point(|(first, _)| first.get() < range.from.first);
        let mut page = PageBuilder::new(range);
        for (position, log) in positioned(&self.logs[start..]).filter(|(position, _)| *position >= range.from) {
            if !page.has_room(position) {
                break;
            }
            if log.log.has_more_than_usage() && range.selects(log.call.task.as_str()) {
                page.push(position, log.log.encode().len(), log.clone());
            }
        }
        LogPage { logs: page.logs, next: page.next }
    }

    /// A page of the logs with HTTP exchanges, the youngest first.
    pub(super) fn http_page(&self, filter: &LogFilter) -> LogPage {
        let before = filter.before;
        let end = before.map(|before| self.logs.partition_point(|(first, _)| first.get() <= before.first));
        let logs = positioned(&self.logs[..end.unwrap_or(self.logs.len())]).rev();
        let is_before = |position: LogPosition| before.is_none_or(|before| position < before);
        let mut page = HttpPageBuilder::new(filter);
        for (position, log) in logs.filter(|(position, log)| log.log.http.is_some() && is_before(*position)) {
            if !page.has_room(position) {
                break;
            }
            if filter.selects(log) {
                page.push(position, log.clone());
            }
        }
        LogPage { logs: page.logs, next: page.next }
    }

    /// The digests that the run refers to.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        let of_snapshot = self.trim_point.iter().flat_map(|trim_point| trim_point.snapshot.digests());
        let mut digests: BTreeSet<Digest> = of_snapshot.chain(self.records.iter().flat_map(Record::digests)).collect();
        digests.extend(self.logs.iter().filter_map(|(_, log)| row::exchanges_of(log)));
        digests
    }

    pub(super) fn trim(&mut self, before: Version) {
        let Some((_, snapshot)) = self.snapshot.clone().filter(|(version, _)| *version == before) else { return };
        if self.published < before {
            return;
        }
        let remaining = self.after(before).to_vec();
        let old = std::mem::replace(&mut self.records, remaining);
        let trimmed = old.len() - self.records.len();
        let mut revisions = self.trim_point.take().map(|trim_point| trim_point.revisions).unwrap_or_default();
        let mut trimmed_summary = TrimSummary::of(&snapshot);
        trimmed_summary.add_trimmed(&old[..trimmed]);
        revisions.extend(trimmed_summary.revisions);
        self.logs.retain(|(first, _)| *first >= before);
        self.trim_point = Some(TrimPoint { version: before, snapshot, revisions });
    }
}

/// The logs of whole appends with their positions.
fn positioned(logs: &[(Version, AttemptLog)]) -> impl DoubleEndedIterator<Item = (LogPosition, &AttemptLog)> {
    let same_append = logs.chunk_by(|(one, _), (other, _)| one == other);
    same_append.flat_map(|logs| {
        let position = |number: usize, first: &Version| LogPosition { first: first.get(), number: number as u64 };
        logs.iter().enumerate().map(move |(number, (first, log))| (position(number, first), log))
    })
}

/// The bytes of a written snapshot. One that is too large to be written is larger than any limit.
pub(super) fn snapshot_bytes(snapshot: &Snapshot) -> usize {
    encode_snapshot(snapshot).map_or(usize::MAX, |bytes| bytes.len())
}
