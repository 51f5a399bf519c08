//! `waft gc`: deletes runs that ended long ago and remembered results that have expired, and removes unreferenced content
//! from the store.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::anyhow;
use flow::{Digest, RunState, Size, Timestamp};
use logbook::{Filter, Logbook, MemoLimits, ReadError, Summary, Version, is_deletable};
use store::{Entry, Store};

use super::{list::before, logbook_error, no_logbook, open_logbook, serve::without_password};
use crate::{
    exit::{CliError, Exit},
    modules, output,
    settings::Settings,
};

/// The number of runs and records to read at once.
const PAGE: usize = 1_000;

/// The hint for a logbook and a store that may not belong together.
const NAME_BOTH: &str = "name the logbook with --logbook, and its store with --store";

/// The remembered results to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// Those that have expired.
    ExpiredResults,
    /// All of them.
    AllResults,
}

pub(super) async fn run(
    settings: &Settings,
    older_than: &str,
    audit_older_than: Option<&str>,
    forgotten: Forgotten,
    dry_run: bool,
) -> Result<Exit, CliError> {
    let age =
        flow::parse_duration(older_than).map_err(|error| CliError::invalid(error).hint("write --older-than 30d"))?;
    let audit_age = audit_older_than.map(flow::parse_duration).transpose();
    let audit_age = audit_age.map_err(|error| CliError::invalid(error).hint("write --audit-older-than 400d"))?;
    let (shown_logbook, shown_store) = (without_password(&settings.logbook), settings.store.display());
    check_storage(settings).await?;
    let logbook = open_logbook(settings).await?;
    let store = modules::open_store(settings).await?;
    output::note!("logbook  {shown_logbook}\nstore    {shown_store}");
    let ended_before = before(age);
    if dry_run {
        let (deletable, remaining) = partition_runs(&*logbook, ended_before).await?;
        deletable.iter().for_each(|run| crate::output::say!("would delete run {}", run.run));
        let old = list_older_than(&*store, age).await?;
        let mut needed = digests_of(&*logbook, &remaining).await?;
        needed.extend(logbook.remembered_digests().await.map_err(CliError::unreachable)?);
        let entries = unreferenced(&*store, old, &needed).await?;
        entries.iter().for_each(|entry| crate::output::say!("would remove {} ({:#})", entry.digest, Size(entry.size)));
        print_counts("would be deleted", deletable.len() as u64, &entries);
        return Ok(Exit::Success);
    }
    let deleted_runs = logbook.delete_ended_runs(ended_before).await.map_err(CliError::unreachable)?;
    // Engines hold the results to the limits of their machines. Before the content of values is removed, so that it goes with them.
    let limits = match forgotten {
        Forgotten::ExpiredResults => MemoLimits::NONE,
        Forgotten::AllResults => MemoLimits::ZERO,
    };
    let results = logbook.trim_remembered(limits, before(Duration::ZERO)).await.map_err(CliError::unreachable)?;
    // List content before reading what runs need. A run that starts meanwhile puts or touches the content it needs, so that
    // stays.
    let old = list_older_than(&*store, age).await?;
    let removed = remove_unreferenced(&*store, &*logbook, old).await?;
    print_counts("deleted", deleted_runs, &removed);
    if results > 0 {
        output::note!("forgotten: {results} results of tasks");
    }
    if let Some(age) = audit_age {
        let deleted = logbook.delete_audit(before(age)).await.map_err(CliError::unreachable)?;
        output::note!("deleted: {deleted} entries of the audit log");
    }
    Ok(Exit::Success)
}

/// Checks that the logbook and the store exist and belong together: gc removes from the store what the logbook does not need. A
/// logbook that is another one, or that gc has just created, needs nothing.
async fn check_storage(settings: &Settings) -> Result<(), CliError> {
    let (logbook, store) = (without_password(&settings.logbook), settings.store.display());
    if settings.server.is_chosen() && !settings.logbook_is_named() {
        let error = anyhow!(
            "gc cleans a logbook and a store directly, and not those of a server: {logbook} and {store} may be others \
             than those of {}",
            settings.server.url()
        );
        return Err(CliError::invalid(error).hint(NAME_BOTH));
    }
    if let Some((place, only)) = settings.storage.unpaired() {
        let error = anyhow!(
            "gc removes from a store what its logbook does not need, and {place} names only the {only}: the logbook \
             {logbook} and the store {store} may not belong together"
        );
        return Err(CliError::invalid(error).hint(NAME_BOTH));
    }
    if !logbook::exists(&settings.logbook).await.map_err(logbook_error)? {
        return Err(no_logbook(settings));
    }
    if !settings.store.is_dir() {
        let error = anyhow!("there is no store {store}");
        return Err(CliError::invalid(error).hint("--store or WAFT_STORE names another one"));
    }
    Ok(())
}

fn print_counts(heading: &str, runs: u64, entries: &[Entry]) {
    let size: u64 = entries.iter().map(|entry| entry.size).sum();
    crate::output::note!("{heading}: {runs} runs, {} modules and values ({:#})", entries.len(), Size(size));
}

/// The entries of the store that are older than `age`. Newer content may belong to a run that is just being submitted.
async fn list_older_than(store: &dyn Store, age: Duration) -> Result<Vec<Entry>, CliError> {
    let now = SystemTime::now();
    let mut entries = store.list().await.map_err(CliError::unreachable)?;
    entries.retain(|entry| now.duration_since(entry.stored_at).is_ok_and(|since| since >= age));
    Ok(entries)
}

/// Removes the entries among them that no run and no tag refers to, and that were neither put nor touched since they were listed.
/// Returns those that are removed.
async fn remove_unreferenced(
    store: &dyn Store,
    logbook: &dyn Logbook,
    old: Vec<Entry>,
) -> Result<Vec<Entry>, CliError> {
    let needed = logbook.digests().await.map_err(CliError::unreachable)?;
    let mut removed = Vec::new();
    for entry in unreferenced(store, old, &needed).await? {
        if store.remove(&entry).await.map_err(CliError::unreachable)? {
            crate::output::say!("removed {} ({:#})", entry.digest, Size(entry.size));
            removed.push(entry);
        }
    }
    Ok(removed)
}

/// The entries among them that no run and no tag refers to.
async fn unreferenced(
    store: &dyn Store,
    mut old: Vec<Entry>,
    needed: &BTreeSet<Digest>,
) -> Result<Vec<Entry>, CliError> {
    let tags = store.tags().await.map_err(CliError::unreachable)?;
    let tagged: BTreeSet<Digest> = tags.into_iter().map(|(_, digest)| digest).collect();
    old.retain(|entry| !needed.contains(&entry.digest) && !tagged.contains(&entry.digest));
    Ok(old)
}

/// All runs: the ones to delete, and the remaining ones.
async fn partition_runs(
    logbook: &dyn Logbook,
    ended_before: Timestamp,
) -> Result<(Vec<Summary>, Vec<Summary>), CliError> {
    let mut filter = Filter { limit: PAGE, states: RunState::ALL.to_vec(), ..Filter::default() };
    let mut all: Vec<Summary> = Vec::new();
    loop {
        let page = logbook.list(&filter).await.map_err(CliError::unreachable)?;
        let Some(last) = page.last() else { break };
        filter.after = Some((last.started_at, last.run.clone()));
        all.extend(page);
    }
    let is_old = |run: &Summary| is_deletable(run.info.state) && run.changed_at < ended_before;
    Ok(all.into_iter().partition(is_old))
}

/// The digests that these runs refer to.
async fn digests_of(logbook: &dyn Logbook, runs: &[Summary]) -> Result<BTreeSet<Digest>, CliError> {
    let mut digests = BTreeSet::new();
    for run in runs {
        let mut version = add_trim_point(logbook, run, &mut digests).await?;
        loop {
            let records = match logbook.read(&run.run, version, PAGE).await {
                Ok(records) => records,
                Err(ReadError::Trimmed { .. }) => {
                    version = add_trim_point(logbook, run, &mut digests).await?;
                    continue;
                }
                Err(ReadError::Load(error)) => return Err(CliError::unreachable(error)),
            };
            if records.is_empty() {
                break;
            }
            digests.extend(records.iter().flat_map(machine::Record::digests));
            version = version.after(&records);
        }
        digests.extend(logbook.exchange_digests(&run.run).await.map_err(CliError::unreachable)?);
    }
    Ok(digests)
}

/// Returns the version after the trimmed records of a run, and adds the digests in the snapshot that replaces them.
async fn add_trim_point(
    logbook: &dyn Logbook,
    run: &Summary,
    digests: &mut BTreeSet<Digest>,
) -> Result<Version, CliError> {
    let trim_point = logbook.trim_point(&run.run).await.map_err(CliError::unreachable)?;
    digests.extend(trim_point.iter().flat_map(|trim_point| trim_point.snapshot.digests()));
    Ok(trim_point.map_or(Version::NONE, |trim_point| trim_point.version))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flow::{ModuleContent, ModuleInfo, Values};
    use logbook::{Append, MaxUnended, MemoChanges, RunInfo};
    use machine::{Event, Machine};

    use super::*;

    /// The first records of a run whose module has this digest.
    fn run_with(digest: Digest) -> Append {
        let text = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"m\"\n[modules]\nm = \"m.wasm\"\n";
        let info = ModuleInfo { digest, content: ModuleContent::Command };
        let (flow, _) =
            flow::wire(&flow::file::parse(text).unwrap(), &[("m".to_owned(), info)].into(), &Values::new()).unwrap();
        let mut machine = Machine::new("r".parse().unwrap(), Arc::new(flow));
        let records = machine.step(Timestamp::from_micros(1), &Event::Start).records;
        Append {
            run: "r".parse().unwrap(),
            follows: Version::NONE,
            records,
            info: RunInfo { shard: "1".parse().unwrap(), flow: machine.flow().name.clone(), state: machine.state() },
            logs: Vec::new(),
            published: Version::NONE,
            max_unended: MaxUnended::default(),
            memos: MemoChanges::default(),
        }
    }

    #[tokio::test]
    async fn content_that_a_run_needs_stays_although_the_run_came_after_the_list() {
        let (store, logbook) = (store::Memory::new(), logbook::Memory::new());
        let mut digests = Vec::new();
        for content in ["of a submission", "of a recorded run", "put again", "unused"] {
            digests.push(store.put(content.into()).await.unwrap());
        }
        let old = list_older_than(&store, Duration::ZERO).await.unwrap();
        assert_eq!(old.len(), digests.len(), "no run needs them yet");
        let [submitted, recorded, put_again, unused] = digests[..] else { panic!("{digests:?}") };
        // A submission has found its module, and the run has no record yet.
        assert!(store.touch(&submitted).await.unwrap());
        logbook.append(vec![run_with(recorded)]).await.unwrap();
        store.put("put again".into()).await.unwrap();
        let removed = remove_unreferenced(&store, &logbook, old).await.unwrap();
        assert_eq!(removed.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [unused]);
        for digest in [submitted, recorded, put_again] {
            assert!(store.contains(&digest).await.unwrap(), "{digest}");
        }
        assert!(!store.contains(&unused).await.unwrap());
    }
}
