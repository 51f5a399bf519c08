//! A logbook that lasts as long as its process.

mod stored_run;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use flow::{CallId, Digest, FlowName, Namespace, RunId, Shard, Timestamp, TokenName, Value};
use machine::{Fact, Record, Snapshot};
use protocol::{AttemptLog, CallLog, EngineSecret, MemoAddress, RememberedResult};

use self::stored_run::{StoredRun, snapshot_bytes};
use crate::{
    Append, AppendError, AppendOutcome, Counted, Filter, History, LoadError, LogFilter, LogPage, LogRange, Logbook,
    MaxUnended, MemoChanges, MemoLimits, Memos, NewResult, ReadError, RolledBackTask, RunCounts, RunInfo, RunLock,
    Summary, TrimPoint, Usage, Version,
    access::{Access, AccessToken, AuditEntry, AuditFilter, AuditPosition},
    is_deletable, is_open,
    memo::Excess,
    row, run_lock,
    secret::new_secret,
};

/// A logbook that lasts as long as its process.
#[derive(Debug, Default)]
pub struct Memory {
    runs: Mutex<BTreeMap<RunId, StoredRun>>,
    locked: Arc<Mutex<BTreeSet<RunId>>>,
    secret: Mutex<Option<EngineSecret>>,
    tokens: Mutex<BTreeMap<TokenName, AccessToken>>,
    audit: Mutex<AuditEntries>,
    memos: Mutex<MemoryMemos>,
}

/// The remembered results, each with the number of those before it.
#[derive(Debug, Default)]
struct MemoryMemos {
    count: u64,
    results: BTreeMap<MemoAddress, (u64, NewResult)>,
}

/// The audit log. The position of an entry is its index after those that were deleted.
#[derive(Debug, Default)]
struct AuditEntries {
    deleted: u64,
    entries: Vec<AuditEntry>,
}

/// The runs of which too many have not ended for another one to start, or to start again.
fn too_many_unended(runs: &BTreeMap<RunId, StoredRun>, flow: &FlowName, max_unended: MaxUnended) -> Option<Counted> {
    let unended = || runs.values().map(|run| &run.info).filter(|info| !info.state.is_final());
    let is_full = |count: usize, most: Option<NonZeroU64>| most.is_some_and(|most| count as u64 >= most.get());
    if is_full(unended().filter(|info| info.flow == *flow).count(), max_unended.of_flow) {
        return Some(Counted::OfFlow);
    }
    let namespace = flow.namespace()?;
    let in_namespace = unended().filter(|info| info.flow.namespace().as_ref() == Some(&namespace)).count();
    is_full(in_namespace, max_unended.of_namespace).then_some(Counted::OfNamespace)
}

/// The exclusive lock of a run.
struct RunLockGuard {
    run: RunId,
    locked: Arc<Mutex<BTreeSet<RunId>>>,
}

impl Drop for RunLockGuard {
    fn drop(&mut self) {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

impl Memory {
    /// A logbook without runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, StoredRun>> {
        // A panic in another thread cannot leave the map half written: each insertion is complete.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<TokenName, AccessToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn audit_entries(&self) -> MutexGuard<'_, AuditEntries> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memos(&self) -> MutexGuard<'_, MemoryMemos> {
        self.memos.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs that a filter selects, without its position and limit.
    fn selected(&self, filter: &Filter) -> Vec<Summary> {
        let runs = self.runs();
        let summaries = runs.iter().map(|(run, stored)| (stored.summary(run), &stored.search_texts));
        summaries.filter(|(summary, texts)| filter.selects(summary, texts)).map(|(summary, _)| summary).collect()
    }

    fn read_run<T>(&self, run: &RunId, read: impl FnOnce(&StoredRun) -> T) -> Result<T, LoadError> {
        self.runs().get(run).map(read).ok_or_else(|| LoadError::Missing { run: run.clone() })
    }
}

impl MemoryMemos {
    fn change(&mut self, MemoChanges { remembered, forgotten }: MemoChanges) {
        for new in remembered {
            self.count += 1;
            self.results.insert(new.address.clone(), (self.count, new));
        }
        for RolledBackTask { namespace, run, task, firing } in forgotten {
            let is_of = |call: &CallId| (&call.run, &call.task, call.firing) == (&run, &task, firing);
            self.results.retain(|address, (_, new)| address.namespace != namespace || !is_of(&new.result.computed_by));
        }
    }

    fn digests(&self, is_chosen: impl Fn(&MemoAddress) -> bool) -> BTreeSet<Digest> {
        let chosen = self.results.iter().filter(|(address, _)| is_chosen(address));
        chosen.flat_map(|(_, (_, new))| new.result.digests()).collect()
    }

    fn trim(&mut self, limits: MemoLimits, now: Timestamp) -> u64 {
        let before = self.results.len();
        self.results.retain(|_, (_, new)| new.expires_at.is_none_or(|at| at > now));
        let namespaces: BTreeSet<Option<Namespace>> =
            self.results.keys().map(|address| address.namespace.clone()).collect();
        for namespace in namespaces {
            let of_namespace = self.results.iter().filter(|(address, _)| address.namespace == namespace);
            let mut results: Vec<_> = of_namespace
                .map(|(address, (number, new))| ((new.result.at, *number), address.clone(), new.result.size()))
                .collect();
            results.sort();
            let bytes: u64 = results.iter().map(|(.., size)| *size).sum();
            let excess = Excess::of(results.len() as u64, bytes, limits);
            let oldest =
                excess.map(|excess| excess.oldest(results.into_iter().map(|(_, address, size)| (address, size))));
            for address in oldest.into_iter().flatten() {
                self.results.remove(&address);
            }
        }
        (before - self.results.len()) as u64
    }
}

#[async_trait]
impl Memos for Memory {
    async fn remembered(
        &self,
        addresses: &[MemoAddress],
        now: Timestamp,
    ) -> Result<Vec<Option<RememberedResult>>, LoadError> {
        let memos = self.memos();
        let find = |address: &MemoAddress| {
            let (_, new) = memos.results.get(address)?;
            new.expires_at.is_none_or(|at| at > now).then(|| new.result.clone())
        };
        Ok(addresses.iter().map(find).collect())
    }

    async fn trim_remembered(&self, limits: MemoLimits, now: Timestamp) -> Result<u64, AppendError> {
        Ok(self.memos().trim(limits, now))
    }

    async fn remembered_digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        Ok(self.memos().digests(|_| true))
    }
}

#[async_trait]
impl Access for Memory {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        let mut tokens = self.tokens();
        let is_valid = |known: &AccessToken| known.expires_at.is_none_or(|at| at > token.created_at);
        let takes = |known: &AccessToken| known.hash == token.hash || known.name == token.name && is_valid(known);
        if tokens.values().any(takes) {
            return Ok(false);
        }
        tokens.insert(token.name.clone(), token.clone());
        Ok(true)
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        Ok(self.tokens().values().find(|token| token.hash == *hash).cloned())
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError> {
        Ok(self.tokens().values().cloned().collect())
    }

    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError> {
        Ok(self.tokens().remove(name).is_some())
    }

    async fn add_audit(&self, entries: &[AuditEntry]) -> Result<(), AppendError> {
        self.audit_entries().entries.extend_from_slice(entries);
        Ok(())
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<(AuditPosition, AuditEntry)>, LoadError> {
        let audit = self.audit_entries();
        let positioned = (audit.deleted + 1..).zip(audit.entries.iter().cloned());
        let mut found: Vec<_> = positioned
            .filter(|(position, _)| filter.before.is_none_or(|before| *position < before))
            .filter(|(_, entry)| filter.subject.is_none() || entry.subject == filter.subject)
            .collect();
        found.reverse();
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn delete_audit(&self, before: Timestamp) -> Result<u64, AppendError> {
        let mut audit = self.audit_entries();
        let remaining = audit.entries.iter().position(|entry| entry.at >= before).unwrap_or(audit.entries.len());
        audit.entries.drain(..remaining);
        audit.deleted += remaining as u64;
        Ok(remaining as u64)
    }
}

#[async_trait]
impl Logbook for Memory {
    fn for_clients(self: Arc<Self>) -> Arc<dyn Logbook> {
        self
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<AppendOutcome>, AppendError> {
        let mut runs = self.runs();
        let append = |Append { run, follows, records, info, logs, published, max_unended, memos }: Append| {
            let known = runs.get(&run).map_or(Version::NONE, StoredRun::version);
            if follows != known {
                return AppendOutcome::Conflict(known);
            }
            let starts = runs.get(&run).is_none_or(|stored| stored.info.state.is_final() && !info.state.is_final());
            if starts && let Some(counted) = too_many_unended(&runs, &info.flow, max_unended) {
                return AppendOutcome::TooManyUnended(counted);
            }
            let logs = logs.into_iter().map(|log| (follows, log));
            match runs.get_mut(&run) {
                Some(stored) => {
                    stored.records.extend(records);
                    stored.info = info;
                    stored.logs.extend(logs);
                    stored.published = stored.published.max(published);
                }
                None => {
                    let started_at = records.first().map_or(Timestamp::default(), |record| record.at);
                    let (labels, search_texts) = records.first().map(row::found_by).unwrap_or_default();
                    let (snapshot, trim_point, logs) = (None, None, logs.collect());
                    let stored = StoredRun {
                        info,
                        records,
                        snapshot,
                        logs,
                        published,
                        started_at,
                        trim_point,
                        labels,
                        search_texts,
                    };
                    runs.insert(run, stored);
                }
            }
            self.memos().change(memos);
            AppendOutcome::Durable
        };
        Ok(appends.into_iter().map(append).collect())
    }

    async fn load_within(&self, run: &RunId, limit: usize) -> Result<History, LoadError> {
        self.read_run(run, |stored| {
            let known = stored.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
            History {
                run: run.clone(),
                info: stored.info.clone(),
                snapshot: stored.snapshot.clone(),
                records: stored.after(known).iter().take(limit).cloned().collect(),
                latest: stored.version(),
                published: stored.published,
            }
        })
    }

    async fn load_size(&self, run: &RunId, limit: usize) -> Result<(Summary, u64), LoadError> {
        self.read_run(run, |stored| {
            let snapshot = stored.snapshot.as_ref();
            let known = snapshot.map_or(Version::NONE, |(version, _)| *version);
            // Approximately: an engine asks before each read of a run, and nothing is encoded here otherwise.
            let records: usize = stored.after(known).iter().take(limit).map(record_bytes).sum();
            let snapshot = snapshot.map_or(0, |(_, snapshot)| snapshot_bytes(snapshot));
            (stored.summary(run), snapshot.saturating_add(records) as u64)
        })
    }

    async fn read(&self, run: &RunId, after: Version, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.read_run(run, |stored| match stored.first() {
            first if after < first => Err(row::trimmed(run, first.get())),
            _ => Ok(stored.after(after).iter().take(limit).cloned().collect()),
        })?
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, LoadError> {
        self.read_run(run, |stored| stored.summary(run))
    }

    async fn open_runs(&self, shard: &Shard) -> Result<Vec<(RunId, Version)>, LoadError> {
        let runs = self.runs();
        let open = runs.iter().filter(|(_, stored)| stored.info.shard == *shard && is_open(stored.info.state));
        let mut open: Vec<Summary> = open.map(|(run, stored)| stored.summary(run)).collect();
        open.sort_by(|one, other| (one.started_at, &one.run).cmp(&(other.started_at, &other.run)));
        Ok(open.into_iter().map(|summary| (summary.run, summary.version)).collect())
    }

    async fn mark_published(&self, versions: &[(RunId, Version)]) -> Result<(), AppendError> {
        let mut runs = self.runs();
        for (run, version) in versions {
            if let Some(stored) = runs.get_mut(run).filter(|stored| stored.version() >= *version) {
                stored.published = stored.published.max(*version);
            }
        }
        Ok(())
    }

    async fn unpublished_runs(&self, shard: &Shard, limit: usize) -> Result<Vec<RunId>, LoadError> {
        let runs = self.runs();
        let is_unpublished = |stored: &StoredRun| {
            let RunInfo { shard: its_shard, state, .. } = &stored.info;
            its_shard == shard && !is_open(*state) && stored.published < stored.version()
        };
        Ok(runs.iter().filter(|(_, stored)| is_unpublished(stored)).map(|(run, _)| run.clone()).take(limit).collect())
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Summary>, LoadError> {
        let mut selected = self.selected(filter);
        selected.sort_by(|one, other| (other.started_at, &other.run).cmp(&(one.started_at, &one.run)));
        let follows = |summary: &Summary| {
            filter.after.as_ref().is_none_or(|(at, run)| (summary.started_at, &summary.run) < (*at, run))
        };
        Ok(selected.into_iter().filter(follows).take(filter.limit).collect())
    }

    async fn counts(&self, filter: &Filter, max_flows: usize) -> Result<RunCounts, LoadError> {
        let mut groups: BTreeMap<(FlowName, &str), i64> = BTreeMap::new();
        let selected = self.selected(filter);
        for Summary { info, .. } in &selected {
            *groups.entry((info.flow.clone(), info.state.as_str())).or_default() += 1;
        }
        let all = row::column(selected.len() as u64);
        let rows = groups.into_iter().map(|((flow, state), count)| (flow.to_string(), state.to_owned(), count, all));
        row::run_counts(rows.collect(), max_flows)
    }

    async fn save_snapshot(&self, run: &RunId, version: Version, snapshot: Snapshot) -> Result<(), AppendError> {
        if let Some(stored) = self.runs().get_mut(run)
            && stored.snapshot.as_ref().is_none_or(|(known, _)| *known < version)
        {
            stored.snapshot = Some((version, snapshot));
        }
        Ok(())
    }

    async fn trim(&self, run: &RunId, before: Version) -> Result<(), AppendError> {
        if let Some(stored) = self.runs().get_mut(run) {
            stored.trim(before);
        }
        Ok(())
    }

    async fn stored_bytes(&self, run: &RunId) -> Result<u64, LoadError> {
        self.read_run(run, StoredRun::bytes)
    }

    async fn trim_point(&self, run: &RunId) -> Result<Option<TrimPoint>, LoadError> {
        self.read_run(run, |stored| stored.trim_point.clone())
    }

    async fn logs(&self, run: &RunId, range: &LogRange) -> Result<LogPage, LoadError> {
        self.read_run(run, |stored| stored.log_page(range))
    }

    async fn attempt_log(&self, call: &CallId) -> Result<Option<AttemptLog>, LoadError> {
        let find = |stored: &StoredRun| stored.logs.iter().rev().find(|(_, log)| log.call == *call).cloned();
        Ok(self.read_run(&call.run, find)?.map(|(_, log)| log))
    }

    async fn last_usages(&self, run: &RunId) -> Result<Vec<AttemptLog>, LoadError> {
        let last = |stored: &StoredRun| {
            let mut last = BTreeMap::new();
            for (_, AttemptLog { call, at, worker, log }) in &stored.logs {
                if log.usage.is_some() && call.task.as_element().is_none() {
                    let log = CallLog { usage: log.usage, ..CallLog::default() };
                    let log = AttemptLog { call: call.clone(), at: *at, worker: worker.clone(), log };
                    last.insert(call.task.clone(), log);
                }
            }
            last.into_values().collect()
        };
        self.read_run(run, last)
    }

    async fn http_logs(&self, run: &RunId, filter: &LogFilter) -> Result<LogPage, LoadError> {
        self.read_run(run, |stored| stored.http_page(filter))
    }

    async fn exchange_digests(&self, run: &RunId) -> Result<BTreeSet<Digest>, LoadError> {
        self.read_run(run, |stored| stored.logs.iter().filter_map(|(_, log)| row::exchanges_of(log)).collect())
    }

    async fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, AppendError> {
        let is_free = self.locked.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone());
        Ok(is_free.then(|| RunLock::new(RunLockGuard { run: run.clone(), locked: self.locked.clone() })))
    }

    async fn run_lock_holder(&self, run: &RunId) -> Result<Option<String>, LoadError> {
        let is_held = self.locked.lock().unwrap_or_else(PoisonError::into_inner).contains(run);
        Ok(is_held.then(run_lock::this_process))
    }

    async fn delete_ended_runs(&self, ended_before: Timestamp) -> Result<u64, AppendError> {
        let mut runs = self.runs();
        let before = runs.len();
        runs.retain(|run, stored| !is_deletable(stored.info.state) || stored.summary(run).changed_at >= ended_before);
        Ok((before - runs.len()) as u64)
    }

    async fn digests(&self) -> Result<BTreeSet<Digest>, LoadError> {
        let mut digests: BTreeSet<Digest> = self.runs().values().flat_map(StoredRun::digests).collect();
        digests.extend(self.remembered_digests().await?);
        Ok(digests)
    }

    async fn usage(&self, namespace: &Namespace) -> Result<Usage, LoadError> {
        let runs = self.runs();
        let in_namespace = runs.values().filter(|stored| stored.info.flow.namespace().as_ref() == Some(namespace));
        let mut usage = Usage::default();
        for stored in in_namespace {
            usage.bytes += protocol::encode_records(&stored.records).len() as u64;
            usage.bytes += stored.logs.iter().map(|(_, log)| log.log.encode().len() as u64).sum::<u64>();
            usage.digests.extend(stored.digests());
        }
        let memos = self.memos();
        let is_of = |address: &MemoAddress| address.namespace.as_ref() == Some(namespace);
        let results = memos.results.values().filter(|(_, new)| is_of(&new.address));
        usage.bytes += results.map(|(_, new)| new.result.encode().len() as u64).sum::<u64>();
        usage.digests.extend(memos.digests(is_of));
        Ok(usage)
    }

    async fn secret(&self) -> Result<EngineSecret, AppendError> {
        let mut secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        match *secret {
            Some(secret) => Ok(secret),
            None => {
                let new = EngineSecret::new(new_secret().map_err(|reason| AppendError::Unavailable { reason })?);
                *secret = Some(new);
                Ok(new)
            }
        }
    }

    async fn check(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

/// The bytes of a record, approximately, with the text and the inputs of a flow.
fn record_bytes(record: &Record) -> usize {
    let (Fact::RunStarted { flow, .. } | Fact::Edited { flow, .. }) = &record.fact else { return record.bytes() };
    let text = flow.origin.as_ref().map_or(0, |origin| origin.text.len());
    record.bytes() + text + flow.inputs.values().map(Value::written_size).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_passes_the_contract() {
        crate::contract::all(|| async { Memory::new() }).await;
    }
}
