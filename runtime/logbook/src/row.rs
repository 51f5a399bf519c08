//! Code shared by the logbooks in SQL databases: the conversion to plain columns and back.
//!
//! This module knows no driver. Counts and times are `i64`, the type that both databases have; larger values become the
//! maximum. The bytes are in the format of `protocol`.

use std::collections::{BTreeMap, BTreeSet};

use flow::{
    Action, Attempt, CallId, Digest, Firing, FlowName, LabelValue, Labels, Namespace, NodeName, Revision, RunId,
    RunState, Shard, Timestamp,
};
use machine::{Fact, Record};
use protocol::{AttemptLog, CallLog, CallUsage, DecodeError, decode_records, decode_snapshot, encode_records};

use crate::{
    Append, Counted, History, LoadError, MAX_COUNTED, MaxUnended, ReadError, RevisionEntry, RunCounts, RunInfo,
    Summary, TrimPoint, Version, is_open,
    memo::{self, MemoRow, RolledBackTask},
};

/// One append as the columns of its rows.
pub(crate) struct AppendRow {
    pub(crate) run: RunId,
    pub(crate) follows: i64,
    pub(crate) version: i64,
    pub(crate) info: RunInfo,
    /// When the first of these records was decided: the run's start, if they are its first records.
    pub(crate) started_at: i64,
    pub(crate) changed_at: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) logs: Vec<LogRow>,
    pub(crate) content: BTreeSet<Digest>,
    pub(crate) published: i64,
    /// Whether the run ends or becomes idle with these records, so that no later append stores that they were published.
    pub(crate) has_unpublished: bool,
    /// How many runs may not have ended, if the run may start with these records, or start again.
    pub(crate) max_unended: Vec<UnendedRange>,
    /// The results to remember, by namespace and key.
    pub(crate) remembered: BTreeMap<(String, [u8; 32]), MemoRow>,
    pub(crate) forgotten: Vec<RolledBackTask>,
    /// The labels, if these are the first records.
    pub(crate) labels: Labels,
    /// The texts by which the run is found, if these are the first records.
    pub(crate) search_texts: BTreeSet<LabelValue>,
}

/// How many runs of a range of flows may not have ended.
pub(crate) struct UnendedRange {
    pub(crate) counted: Counted,
    /// The first name of the range.
    pub(crate) first: String,
    /// The last name of the range.
    pub(crate) last: String,
    pub(crate) most: i64,
}

/// The first and the last possible name of a flow in a namespace: the characters of names come before ~.
pub(crate) fn flows_in(namespace: &Namespace) -> (String, String) {
    (format!("{namespace}/"), format!("{namespace}/~"))
}

impl UnendedRange {
    /// The ranges that have a maximum, for a new run of a flow.
    fn of(flow: &FlowName, max_unended: MaxUnended) -> Vec<Self> {
        let MaxUnended { of_flow, of_namespace } = max_unended;
        let name = flow.as_str();
        let of_flow = of_flow.map(|most| (Counted::OfFlow, name.to_owned(), name.to_owned(), most));
        let of_namespace = flow.namespace().zip(of_namespace).map(|(namespace, most)| {
            let (first, last) = flows_in(&namespace);
            (Counted::OfNamespace, first, last, most)
        });
        let ranges = of_flow.into_iter().chain(of_namespace);
        ranges.map(|(counted, first, last, most)| Self { counted, first, last, most: column(most.get()) }).collect()
    }
}

impl From<Append> for AppendRow {
    fn from(Append { run, follows, records, info, logs, published, max_unended, memos }: Append) -> Self {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            panic!("an append to run {run} has no records");
        };
        let (labels, search_texts) = if follows == Version::NONE { found_by(first) } else { Default::default() };
        let exchanges: Vec<Digest> = logs.iter().filter_map(exchanges_of).collect();
        Self {
            follows: column(follows.get()),
            version: column(follows.after(&records).get()),
            published: column(published.get()),
            has_unpublished: !is_open(info.state),
            max_unended: match follows == Version::NONE || !info.state.is_final() {
                true => UnendedRange::of(&info.flow, max_unended),
                false => Vec::new(),
            },
            info,
            started_at: column(first.at.as_micros()),
            changed_at: column(last.at.as_micros()),
            body: encode_records(&records),
            logs: logs.into_iter().map(LogRow::from).collect(),
            remembered: memo::rows(memos.remembered),
            forgotten: memos.forgotten,
            labels,
            search_texts,
            content: records.iter().flat_map(Record::digests).chain(exchanges).collect(),
            run,
        }
    }
}

/// The labels of a run, and the texts by which it is found, by its first record.
pub(crate) fn found_by(first: &Record) -> (Labels, BTreeSet<LabelValue>) {
    let Fact::RunStarted { flow, labels, .. } = &first.fact else { return Default::default() };
    let values = labels.iter().map(|(_, value)| value.clone()).filter(|value| !value.as_str().is_empty());
    (labels.clone(), values.chain(LabelValue::of_inputs(&flow.inputs)).collect())
}

/// The summary data of a run, as its row.
pub(crate) struct RunRow {
    pub(crate) id: String,
    pub(crate) shard: String,
    pub(crate) flow: String,
    pub(crate) state: String,
    pub(crate) version: i64,
    pub(crate) started_at: i64,
    pub(crate) changed_at: i64,
    pub(crate) published: i64,
    /// The labels, where they were asked for.
    pub(crate) labels: Vec<(String, String)>,
}

impl RunRow {
    /// The version up to which everything is known to be published.
    ///
    /// # Errors
    /// [`LoadError`] when the column is not a valid version.
    pub(crate) fn published(&self) -> Result<Version, LoadError> {
        let run = run_id(&self.id)?;
        Ok(Version::new(count(&run, self.published)?))
    }

    /// Converts the row to a summary.
    ///
    /// # Errors
    /// [`LoadError`] when a column holds a value that waft does not write.
    pub(crate) fn into_summary(self) -> Result<Summary, LoadError> {
        let run = run_id(&self.id)?;
        let damaged = |reason: String| damaged(&run, reason);
        let state = RunState::ALL.into_iter().find(|state| state.as_str() == self.state);
        let info = RunInfo {
            shard: Shard::new(&self.shard).map_err(|error| damaged(error.to_string()))?,
            flow: FlowName::new(&self.flow).map_err(|error| damaged(error.to_string()))?,
            state: state.ok_or_else(|| damaged(format!("{:?} is no state of a run", self.state)))?,
        };
        let labels = Labels::of(self.labels).map_err(|error| damaged(error.to_string()))?;
        let version = count(&run, self.version)?;
        let started_at = Timestamp::from_micros(count(&run, self.started_at)?);
        let changed_at = Timestamp::from_micros(count(&run, self.changed_at)?);
        Ok(Summary { info, labels, version: Version::new(version), started_at, changed_at, run })
    }
}

/// A change of a run's flow, as its row.
pub(crate) struct RevisionRow {
    pub(crate) revision: i64,
    pub(crate) at: i64,
    pub(crate) edits: i64,
}

impl From<RevisionEntry> for RevisionRow {
    fn from(RevisionEntry { revision, at, edits }: RevisionEntry) -> Self {
        Self { revision: column(revision.get()), at: column(at.as_micros()), edits: column(edits as u64) }
    }
}

/// Builds the data from which a run is loaded, with at most `limit` records.
///
/// # Errors
/// [`LoadError::Damaged`] when the rows hold a value that waft does not write.
pub(crate) fn history(
    run: &RunId,
    row: RunRow,
    snapshot: Option<(i64, Vec<u8>)>,
    chunks: RecordChunks,
    limit: usize,
) -> Result<History, LoadError> {
    let published = row.published()?;
    let summary = row.into_summary()?;
    let snapshot = match snapshot {
        Some((version, body)) => {
            let snapshot = decode_snapshot(&body).map_err(|error| undecodable(run, &error))?;
            Some((Version::new(count(run, version)?), snapshot))
        }
        None => None,
    };
    let after = snapshot.as_ref().map_or(0, |(version, _)| version.get());
    let latest = summary.version;
    let records = concat_chunks(run, chunks, after, latest.get().min(after.saturating_add(limit as u64)))?;
    Ok(History { run: summary.run, info: summary.info, snapshot, records, latest, published })
}

/// The rows of a trim point: the version, the snapshot, and the earlier revisions of the flow.
pub(crate) type TrimPointRow = (i64, Vec<u8>, Vec<RevisionRow>);

/// Builds a trim point from its rows.
///
/// # Errors
/// [`LoadError::Damaged`] when the rows hold a value that waft does not write.
pub(crate) fn trim_point(run: &RunId, (version, body, revisions): TrimPointRow) -> Result<TrimPoint, LoadError> {
    let snapshot = decode_snapshot(&body).map_err(|error| undecodable(run, &error))?;
    let entry = |RevisionRow { revision, at, edits }| {
        Ok(RevisionEntry {
            revision: Revision::new(count(run, revision)?),
            at: Timestamp::from_micros(count(run, at)?),
            edits: usize::try_from(count(run, edits)?).unwrap_or(usize::MAX),
        })
    };
    let revisions = revisions.into_iter().map(entry).collect::<Result<_, LoadError>>()?;
    Ok(TrimPoint { version: Version::new(count(run, version)?), snapshot, revisions })
}

/// The error for a read of trimmed records.
pub(crate) fn trimmed(run: &RunId, version: u64) -> ReadError {
    ReadError::Trimmed { run: run.clone(), version: Version::new(version) }
}

/// The digest of the exchanges of an attempt that are in the store.
pub(crate) fn exchanges_of(log: &AttemptLog) -> Option<Digest> {
    log.log.http.as_ref()?.digest()
}

/// The log of one attempt, as its row.
pub(crate) struct LogRow {
    pub(crate) task: String,
    pub(crate) firing: i64,
    pub(crate) attempt: i64,
    pub(crate) action: String,
    pub(crate) at: i64,
    pub(crate) worker: Option<String>,
    /// The log without the usage; empty if there is no more than the usage.
    pub(crate) body: Vec<u8>,
    pub(crate) usage: Option<Vec<u8>>,
    pub(crate) exchanges: Option<Vec<u8>>,
    /// Whether it has HTTP exchanges, in its body or in the store.
    pub(crate) has_http: bool,
}

impl From<AttemptLog> for LogRow {
    fn from(log: AttemptLog) -> Self {
        let exchanges = exchanges_of(&log).map(|digest| digest.as_bytes().to_vec());
        let AttemptLog { call, at, worker, log } = log;
        let has_http = log.http.is_some();
        let usage = log.usage.as_ref().map(CallUsage::encode);
        let rest = CallLog { usage: None, ..log };
        Self {
            task: call.task.to_string(),
            firing: column(call.firing.get()),
            attempt: i64::from(call.attempt.get()),
            action: call.action.as_str().to_owned(),
            at: column(at.as_micros()),
            worker: worker.map(|worker| worker.to_string()),
            body: if rest.has_more_than_usage() { rest.encode() } else { Vec::new() },
            usage,
            exchanges,
            has_http,
        }
    }
}

impl LogRow {
    /// The usage that the task shows until its next attempt ends. Elements of lists show none: they may be a million.
    pub(crate) fn last_usage(&self) -> Option<&[u8]> {
        self.usage.as_deref().filter(|_| !self.task.contains('['))
    }

    /// Converts the row to an attempt log.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when a column holds a value that waft does not write.
    pub(crate) fn into_log(self, run: &RunId) -> Result<AttemptLog, LoadError> {
        let unnamed = |error: flow::invalid::InvalidName| damaged(run, error.to_string());
        let action = [Action::Apply, Action::Rollback].into_iter().find(|action| action.as_str() == self.action);
        let attempt = u32::try_from(self.attempt).map_err(|error| damaged(run, error.to_string()))?;
        let call = CallId {
            run: run.clone(),
            task: NodeName::new(&self.task).map_err(unnamed)?,
            firing: Firing::new(count(run, self.firing)?),
            attempt: Attempt::new(attempt),
            action: action.ok_or_else(|| damaged(run, format!("{:?} is no action", self.action)))?,
        };
        let decode = |bytes: &[u8]| CallLog::decode(bytes).map_err(|error| undecodable(run, &error));
        let rest = if self.body.is_empty() { CallLog::default() } else { decode(&self.body)? };
        let usage = self.usage.as_deref().map(decode).transpose()?.and_then(|log| log.usage);
        Ok(AttemptLog {
            call,
            at: Timestamp::from_micros(count(run, self.at)?),
            worker: self.worker.map(|worker| worker.parse()).transpose().map_err(unnamed)?,
            log: CallLog { usage, ..rest },
        })
    }
}

/// The records of one append, as their row.
#[derive(Debug)]
pub(crate) struct RecordChunk {
    /// The version before the first of them.
    pub(crate) first: i64,
    pub(crate) body: Vec<u8>,
}

/// The maximum bytes of the records that are read at once, unless the first append in them has more.
pub(crate) const MAX_READ_BYTES: usize = 8 << 20;

/// Appends of a run, one after the other.
#[derive(Debug, Default)]
pub(crate) struct RecordChunks {
    pub(crate) chunks: Vec<RecordChunk>,
    /// Whether more follow that were asked for, since these have [`MAX_READ_BYTES`].
    pub(crate) is_cut: bool,
}

/// Joins the records after one version, up to another, from ordered chunks.
///
/// # Errors
/// [`LoadError::Damaged`] when a chunk does not decode, or when there is a gap.
pub(crate) fn concat_chunks(
    run: &RunId,
    RecordChunks { chunks, is_cut }: RecordChunks,
    after: u64,
    until: u64,
) -> Result<Vec<Record>, LoadError> {
    let mut records = Vec::new();
    let mut next = after;
    for RecordChunk { first, body } in chunks {
        if next >= until {
            break;
        }
        let first = count(run, first)?;
        let chunk = decode_records(&body).map_err(|error| undecodable(run, &error))?;
        let end = first + chunk.len() as u64;
        // The first chunk may start before the requested version; each other chunk starts where the previous one ended.
        let is_next = if next == after { first <= next } else { first == next };
        if !is_next || end <= next {
            break;
        }
        let skipped = usize::try_from(next - first).unwrap_or(usize::MAX);
        let limit = usize::try_from(until - next).unwrap_or(usize::MAX);
        records.extend(chunk.into_iter().skip(skipped).take(limit));
        next = end;
    }
    let has_some = is_cut && next > after;
    if next < until && !has_some {
        return Err(damaged(run, format!("record {} is missing", next + 1)));
    }
    Ok(records)
}

/// Converts a count or a time to a column.
pub(crate) fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts a column to a count or a time.
///
/// # Errors
/// [`LoadError::Damaged`] when the column is negative.
pub(crate) fn count(run: &RunId, column: i64) -> Result<u64, LoadError> {
    u64::try_from(column).map_err(|_| damaged(run, format!("{column} is not a count")))
}

/// Converts a column to a run id.
///
/// # Errors
/// [`LoadError::Unavailable`] when the column is not a run id: there is no run to name.
pub(crate) fn run_id(column: &str) -> Result<RunId, LoadError> {
    RunId::new(column)
        .map_err(|error| LoadError::Unavailable { reason: format!("the id of a run is invalid: {error}") })
}

/// The groups of counted runs, given one row for each with the number of all.
///
/// # Errors
/// [`LoadError`] when a column holds a value that waft does not write.
pub(crate) fn run_counts(rows: Vec<CountRow>, max_flows: usize) -> Result<RunCounts, LoadError> {
    let unreadable = |reason: String| LoadError::Unavailable { reason: format!("the counts of runs: {reason}") };
    let number = |column: i64| u64::try_from(column).map_err(|error| unreadable(error.to_string()));
    let all = rows.first().map_or(Ok(0), |(.., all)| number(*all))?;
    let mut counts = RunCounts { total: all.min(MAX_COUNTED), more: all > MAX_COUNTED, flows: BTreeMap::new() };
    for (flow, state, count, _) in rows {
        let flow = FlowName::new(flow).map_err(|error| unreadable(error.to_string()))?;
        if !counts.flows.contains_key(&flow) && counts.flows.len() == max_flows {
            counts.more = true;
            break;
        }
        let state = RunState::ALL.into_iter().find(|known| known.as_str() == state);
        let state = state.ok_or_else(|| unreadable("one has no state of a run".to_owned()))?;
        counts.flows.entry(flow).or_default().push((state, number(count)?));
    }
    Ok(counts)
}

/// A flow, a state, how many of its runs have it, and the number of all counted runs.
pub(crate) type CountRow = (String, String, i64, i64);

/// The most rows that counts of so many flows have, and one of another flow.
pub(crate) fn max_groups(max_flows: usize) -> i64 {
    i64::try_from(max_flows.saturating_mul(RunState::ALL.len()).saturating_add(1)).unwrap_or(i64::MAX)
}

/// Merges the parts of a list, each in the order of the list. A run that several of them have is in the list once.
pub(crate) fn merge(parts: Vec<Vec<RunRow>>, limit: usize) -> Vec<RunRow> {
    let mut rows: Vec<RunRow> = parts.into_iter().flatten().collect();
    rows.sort_by(|one, other| (other.started_at, &other.id).cmp(&(one.started_at, &one.id)));
    rows.dedup_by(|one, other| one.id == other.id);
    rows.truncate(limit);
    rows
}

/// Converts the columns of an open run.
///
/// # Errors
/// As [`run_id`].
pub(crate) fn open_run(id: &str, version: i64) -> Result<(RunId, Version), LoadError> {
    Ok((run_id(id)?, Version::new(u64::try_from(version).unwrap_or_default())))
}

/// Converts a column to a digest.
///
/// # Errors
/// [`LoadError::Unavailable`] when the column is not a digest.
pub(crate) fn digest(column: &[u8]) -> Result<Digest, LoadError> {
    let bytes = column.try_into().map_err(|_| {
        let reason = format!("a digest has {} bytes instead of 32", column.len());
        LoadError::Unavailable { reason }
    })?;
    Ok(Digest::from_bytes(bytes))
}

pub(crate) fn damaged(run: &RunId, reason: impl Into<String>) -> LoadError {
    LoadError::Damaged { run: run.clone(), reason: reason.into() }
}

/// The error for records that do not decode, with the remedy.
pub(crate) fn undecodable(run: &RunId, error: &DecodeError) -> LoadError {
    match error {
        DecodeError::Version { .. } => {
            damaged(run, format!("{error}, or read it with the waft that wrote the logbook"))
        }
        DecodeError::NotThisKind { .. } | DecodeError::Damaged { .. } => damaged(run, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64) -> Record {
        Record { at: Timestamp::from_micros(at), firing: None, fact: Fact::Resumed }
    }

    fn chunk(first: i64, at: impl IntoIterator<Item = u64>) -> RecordChunk {
        RecordChunk { first, body: encode_records(&at.into_iter().map(record).collect::<Vec<_>>()) }
    }

    fn concatenated(chunks: impl IntoIterator<Item = RecordChunk>, after: u64, until: u64) -> Result<Vec<u64>, String> {
        concatenated_of(RecordChunks { chunks: chunks.into_iter().collect(), is_cut: false }, after, until)
    }

    fn concatenated_of(chunks: RecordChunks, after: u64, until: u64) -> Result<Vec<u64>, String> {
        let records =
            concat_chunks(&RunId::new("r").unwrap(), chunks, after, until).map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|record| record.at.as_micros()).collect())
    }

    #[test]
    fn chunks_are_concatenated_between_two_versions() {
        assert_eq!(concatenated([chunk(0, 1..4), chunk(3, 4..6)], 1, 4), Ok(vec![2, 3, 4]));
        assert_eq!(concatenated([chunk(3, 4..6)], 3, 5), Ok(vec![4, 5]));
        assert_eq!(concatenated([], 5, 5), Ok(vec![]));
        assert_eq!(concatenated([chunk(0, 1..4)], 5, 3), Ok(vec![]));
    }

    #[test]
    fn chunks_that_are_cut_are_fewer_than_asked_for() {
        let cut = |chunks: Vec<RecordChunk>| RecordChunks { chunks, is_cut: true };
        assert_eq!(concatenated_of(cut(vec![chunk(0, 1..4)]), 1, 9), Ok(vec![2, 3]));
        assert_eq!(concatenated_of(cut(vec![chunk(0, 1..4), chunk(4, 5..6)]), 0, 9), Ok(vec![1, 2, 3]), "up to a gap");
        assert!(concatenated_of(cut(vec![chunk(4, 5..6)]), 3, 9).is_err(), "the gap itself is corruption");
    }

    #[test]
    fn a_gap_between_chunks_is_corruption() {
        let missing = |number| Err(format!("the records of run r cannot be read: record {number} is missing"));
        assert_eq!(concatenated([chunk(0, 1..3), chunk(3, 4..6)], 0, 5), missing(3));
        assert_eq!(concatenated([chunk(1, 1..3)], 0, 3), missing(1));
        assert_eq!(concatenated([chunk(0, 1..3)], 0, 3), missing(3));
        assert_eq!(concatenated([chunk(0, 1..3), chunk(1, 1..3)], 0, 3), missing(3));
    }
}
