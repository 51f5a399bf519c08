//! The rules of every logbook, as one suite to run over each.

mod access;
mod labels;
mod logs;
mod memo;
mod published;
mod trim;
mod unended;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use flow::{
    Action, Attempt, CallId, Digest, Firing, Flow, Labels, LimitOverrides, ModuleContent, ModuleInfo, Namespace,
    NodeIndex, Rollback, RunId, RunState, Shard, TaskInfo, Timestamp, Values,
};
use machine::{Event, Fact, Machine, Record};

use crate::{
    Append, AppendOutcome, Filter, LoadError, LogRange, Logbook, MaxUnended, MemoChanges, Memory, ReadError, RunInfo,
    Summary, Usage, Version,
};

/// Runs the suite, each rule over its own logbook.
///
/// # Panics
/// When a logbook violates a rule.
pub async fn all<L: Logbook, Opening: Future<Output = L>>(open: impl Fn() -> Opening) {
    records_are_read_in_order(open().await).await;
    records_are_read_from_any_version(open().await).await;
    large_records_are_read_in_parts(open().await).await;
    one_of_two_appends_to_one_version_conflicts(open().await).await;
    a_conflict_does_not_block_the_rest_of_a_batch(open().await).await;
    two_appends_to_one_run_in_a_batch_follow_one_another(open().await).await;
    a_missing_run_is_reported(open().await).await;
    the_stored_bytes_of_a_run_are_known_without_its_records(open().await).await;
    a_summary_describes_a_run(open().await).await;
    open_runs_are_running_or_suspending(open().await).await;
    a_list_is_filtered_and_paged(open().await).await;
    a_list_may_be_of_one_namespace(open().await).await;
    a_snapshot_replaces_earlier_records(open().await).await;
    an_illegal_record_is_reported_with_its_version(open().await).await;
    labels::labels_are_stored_with_the_first_records(open().await).await;
    labels::labels_survive_a_trim_and_end_with_the_run(open().await).await;
    labels::runs_are_found_by_labels_and_texts(open().await).await;
    labels::pages_and_counts_are_those_of_the_filter(open().await).await;
    logs::logs_are_stored_with_the_run(open().await).await;
    logs::logs_are_read_in_pages(open().await).await;
    logs::usages_are_stored_beside_the_logs(open().await).await;
    logs::the_usage_of_the_last_attempt_is_read_without_logs(open().await).await;
    logs::usages_count_as_bytes_of_their_namespace(open().await).await;
    logs::exchanges_in_the_store_are_listed_with_the_digests(open().await).await;
    logs::exchanges_are_listed_from_the_youngest(open().await).await;
    only_runs_ended_before_the_limit_are_deleted(open().await).await;
    digests_are_listed_while_their_runs_exist(open().await).await;
    the_usage_of_a_namespace_is_that_of_its_runs(open().await).await;
    a_check_writes_and_reads(open().await).await;
    the_secret_stays_the_same(open().await).await;
    a_run_is_locked_by_one_at_a_time(open().await).await;
    access::a_token_is_found_until_it_is_removed(open().await).await;
    access::the_audit_log_is_read_by_subject_and_in_pages(open().await).await;
    published::the_publish_cursor_is_saved_with_an_append_or_alone(open().await).await;
    published::unpublished_runs_are_listed(open().await).await;
    unended::a_flow_has_at_most_as_many_unended_runs_as_allowed(open().await).await;
    unended::a_namespace_has_at_most_as_many_unended_runs_as_allowed(open().await).await;
    unended::concurrent_starts_respect_the_maximum(open().await).await;
    unended::a_run_that_starts_again_counts_like_a_new_one(open().await).await;
    memo::a_result_is_remembered_with_the_records_of_its_run(open().await).await;
    memo::a_namespace_remembers_its_own_results(open().await).await;
    memo::a_later_result_replaces_an_earlier_one(open().await).await;
    memo::an_expired_result_is_none(open().await).await;
    memo::what_a_rolled_back_task_computed_is_forgotten(open().await).await;
    memo::the_oldest_results_are_trimmed(open().await).await;
    memo::remembered_values_in_the_store_are_referenced(open().await).await;
    trim::a_trimmed_run_starts_with_a_snapshot(open().await).await;
    trim::digests_of_trimmed_records_are_released(open().await).await;
    trim::usages_and_exchanges_of_trimmed_records_are_deleted(open().await).await;
    trim::a_reader_overtaken_by_a_trim_restarts_at_the_trim_point(open().await).await;
}

fn run(name: &str) -> RunId {
    RunId::new(name).expect("a valid name")
}

fn shard(name: &str) -> Shard {
    Shard::new(name).expect("a valid name")
}

fn record(at: u64) -> Record {
    Record { at: Timestamp::from_micros(at), firing: None, fact: Fact::Resumed }
}

fn info(shard_name: &str, flow: &str, state: RunState) -> RunInfo {
    RunInfo { shard: shard(shard_name), flow: flow.parse().expect("a valid name"), state }
}

fn append(name: &str, follows: u64, at: impl IntoIterator<Item = u64>) -> Append {
    append_as(name, follows, at, info("s", "f", RunState::Running))
}

fn append_as(name: &str, follows: u64, at: impl IntoIterator<Item = u64>, info: RunInfo) -> Append {
    let records = at.into_iter().map(record).collect();
    let (logs, published, max_unended) = (Vec::new(), Version::NONE, MaxUnended::default());
    let memos = MemoChanges::default();
    Append { run: run(name), follows: Version::new(follows), records, info, logs, published, max_unended, memos }
}

async fn write(logbook: &impl Logbook, appends: Vec<Append>) -> Vec<AppendOutcome> {
    logbook.append(appends).await.expect("the logbook can be written")
}

async fn records(logbook: &impl Logbook, name: &str) -> Vec<Record> {
    logbook.load(&run(name)).await.expect("the run is there").records
}

async fn names(logbook: &impl Logbook, filter: Filter) -> Vec<String> {
    let list = logbook.list(&filter).await.expect("the logbook can be read");
    list.into_iter().map(|summary| summary.run.to_string()).collect()
}

async fn a_run_is_locked_by_one_at_a_time(logbook: impl Logbook) {
    let lock = async |name: &str| logbook.lock_run(&run(name)).await.expect("the logbook can be locked");
    let holder = async |name: &str| logbook.run_lock_holder(&run(name)).await.expect("the logbook can be read");
    assert_eq!(holder("a").await, None);
    let first = lock("a").await.expect("the lock is free");
    assert!(lock("a").await.is_none(), "another lock exists");
    let held_by = holder("a").await.expect("it is held");
    assert!(held_by.contains(&crate::run_lock::this_process()), "{held_by}");
    assert_eq!(holder("b").await, None);
    let other = lock("b").await.expect("each run has its own");
    drop(first);
    // A database may notice the end of a session late.
    while lock("a").await.is_none() {}
    drop(other);
}

async fn records_are_read_in_order(logbook: impl Logbook) {
    assert_eq!(write(&logbook, vec![append("a", 0, [1, 2]), append("b", 0, [7])]).await, [AppendOutcome::Durable; 2]);
    assert_eq!(write(&logbook, vec![append("a", 2, [3])]).await, [AppendOutcome::Durable]);
    let history = logbook.load(&run("a")).await.expect("the run is there");
    assert_eq!(history.version(), Version::new(3));
    assert_eq!(history.records, [record(1), record(2), record(3)]);
    assert_eq!(history.info, info("s", "f", RunState::Running));
}

async fn records_are_read_from_any_version(logbook: impl Logbook) {
    write(&logbook, vec![append("a", 0, [1, 2, 3])]).await;
    write(&logbook, vec![append("a", 3, [4, 5])]).await;
    for (after, limit, expected) in
        [(0, 9, 1..6), (1, 2, 2..4), (2, 3, 3..6), (4, 1, 5..6), (5, 9, 0..0), (17, 9, 0..0), (0, 0, 0..0)]
    {
        let read = logbook.read(&run("a"), Version::new(after), limit).await.expect("the run is there");
        assert_eq!(read, expected.map(record).collect::<Vec<_>>(), "{limit} after {after}");
    }
}

async fn large_records_are_read_in_parts(logbook: impl Logbook) {
    let all = write_large(&logbook, "a").await;
    let history = logbook.load(&run("a")).await.expect("the run is there");
    assert!(history.is_complete() && history.records == all, "a load reads all of them");
    let (summary, bytes) = logbook.load_size(&run("a"), 100).await.expect("the run is there");
    assert_eq!(summary.version, Version::new(6));
    assert!((18 << 20..19 << 20).contains(&bytes), "the bytes of six records: {bytes}");
    let (_, first) = logbook.load_size(&run("a"), 1).await.expect("the run is there");
    assert!((3 << 20..4 << 20).contains(&first), "the bytes of the first record: {first}");
    let mut read = Vec::new();
    loop {
        let part = logbook.read(&run("a"), Version::new(read.len() as u64), 100).await.expect("the run is there");
        if part.is_empty() {
            break;
        }
        read.extend(part);
    }
    assert!(read == all, "each part follows the one before");
}

/// Writes a run whose six records have 3 MiB each; the last two are of one append.
async fn write_large(logbook: &impl Logbook, name: &str) -> Vec<Record> {
    let large = |at: u64| {
        let reason = "r".repeat(3 << 20);
        Record {
            at: Timestamp::from_micros(at),
            firing: None,
            fact: Fact::RollbackSkipped { node: NodeIndex(0), reason },
        }
    };
    let records: Vec<Record> = (0..6).map(large).collect();
    for (follows, part) in [(0, 0..1), (1, 1..2), (2, 2..3), (3, 3..4), (4, 4..6)] {
        let append = Append { records: records[part].to_vec(), ..append(name, follows, []) };
        assert_eq!(write(logbook, vec![append]).await, [AppendOutcome::Durable]);
    }
    records
}

/// Asserts that no more large records are read at once than fit into the maximum, beside those of a single append: the rule of
/// logbooks that do not have all records in memory.
///
/// # Panics
/// When the logbook violates it.
pub async fn assert_parts_are_small(logbook: &impl Logbook) {
    write_large(logbook, "large").await;
    let history = logbook.load_within(&run("large"), 100).await.expect("the run is there");
    assert_eq!((history.records.len(), history.latest), (3, Version::new(6)));
    for (after, expected) in [(0, 3), (3, 3), (4, 2), (5, 1), (6, 0)] {
        let read = logbook.read(&run("large"), Version::new(after), 100).await.expect("the run is there");
        assert_eq!(read.len(), expected, "after {after}");
    }
    let read = logbook.read(&run("large"), Version::NONE, 2).await.expect("the run is there");
    assert_eq!(read.len(), 2, "fewer were asked for");
}

async fn one_of_two_appends_to_one_version_conflicts(logbook: impl Logbook) {
    assert_eq!(write(&logbook, vec![append("a", 0, [1])]).await, [AppendOutcome::Durable]);
    assert_eq!(write(&logbook, vec![append("a", 0, [2])]).await, [AppendOutcome::Conflict(Version::new(1))]);
    assert_eq!(write(&logbook, vec![append("a", 5, [2])]).await, [AppendOutcome::Conflict(Version::new(1))]);
    assert_eq!(write(&logbook, vec![append("b", 1, [2])]).await, [AppendOutcome::Conflict(Version::NONE)]);
    assert_eq!(records(&logbook, "a").await, [record(1)]);
    let outcomes = futures::future::join_all((0..8).map(|at| write_one(&logbook, append("c", 0, [at])))).await;
    assert_eq!(outcomes.iter().filter(|appended| **appended == AppendOutcome::Durable).count(), 1, "{outcomes:?}");
}

async fn write_one(logbook: &impl Logbook, append: Append) -> AppendOutcome {
    write(logbook, vec![append]).await[0]
}

async fn a_conflict_does_not_block_the_rest_of_a_batch(logbook: impl Logbook) {
    write(&logbook, vec![append("a", 0, [1])]).await;
    let batch = vec![append("a", 0, [9]), append("b", 0, [2])];
    assert_eq!(write(&logbook, batch).await, [AppendOutcome::Conflict(Version::new(1)), AppendOutcome::Durable]);
    assert_eq!(records(&logbook, "b").await, [record(2)]);
    assert_eq!(records(&logbook, "a").await, [record(1)]);
}

async fn two_appends_to_one_run_in_a_batch_follow_one_another(logbook: impl Logbook) {
    let batch = vec![append("a", 0, [1]), append("a", 1, [2, 3]), append("a", 1, [9])];
    let conflict = AppendOutcome::Conflict(Version::new(3));
    assert_eq!(write(&logbook, batch).await, [AppendOutcome::Durable, AppendOutcome::Durable, conflict]);
    assert_eq!(records(&logbook, "a").await, [record(1), record(2), record(3)]);
}

async fn a_missing_run_is_reported(logbook: impl Logbook) {
    let missing = run("missing");
    let error = logbook.read(&missing, Version::NONE, 1).await.expect_err("there is no such run");
    assert!(matches!(error, ReadError::Load(LoadError::Missing { .. })), "{error}");
    let logs = logbook.logs(&missing, &LogRange::default()).await.err();
    let size = logbook.load_size(&missing, 1).await.err();
    let errors = [logbook.load(&missing).await.err(), logbook.summary(&missing).await.err(), logs, size];
    for error in errors {
        let error = error.expect("there is no such run");
        assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    }
}

async fn the_stored_bytes_of_a_run_are_known_without_its_records(logbook: impl Logbook) {
    let large = write_large(&logbook, "a").await.len() as u64;
    write(&logbook, vec![append("b", 0, [1])]).await;
    let bytes = async |name: &str| logbook.stored_bytes(&run(name)).await.expect("the run is there");
    let (expected, found) = (large * (3 << 20), bytes("a").await);
    assert!((expected..expected + 4096).contains(&found), "{found}");
    assert!((1..4096).contains(&bytes("b").await), "each run has its own bytes");
    let missing = logbook.stored_bytes(&run("missing")).await;
    assert!(matches!(missing, Err(LoadError::Missing { .. })), "{missing:?}");
}

async fn a_summary_describes_a_run(logbook: impl Logbook) {
    write(&logbook, vec![append("a", 0, [10, 11])]).await;
    let ended = info("s", "f", RunState::RolledBack);
    write(&logbook, vec![append_as("a", 2, [15], ended.clone())]).await;
    let summary = logbook.summary(&run("a")).await.expect("the run is there");
    let expected = Summary {
        run: run("a"),
        info: ended,
        labels: Labels::default(),
        version: Version::new(3),
        started_at: Timestamp::from_micros(10),
        changed_at: Timestamp::from_micros(15),
    };
    assert_eq!(summary, expected);
}

async fn open_runs_are_running_or_suspending(logbook: impl Logbook) {
    for (at, state) in (0..).zip(RunState::ALL) {
        // The order of the names is the reverse of the order of time.
        let name = format!("{}-{state}", 9 - at);
        write(&logbook, vec![append_as(&name, 0, [at], info("s", "f", state))]).await;
    }
    write(&logbook, vec![append_as("other", 0, [1], info("t", "f", RunState::Running))]).await;
    let open = logbook.open_runs(&shard("s")).await.expect("the logbook can be read");
    assert_eq!(open, [(run("8-running"), Version::new(1)), (run("4-suspending"), Version::new(1))]);
    write(&logbook, vec![append_as("other", 1, [2, 3], info("t", "f", RunState::Running))]).await;
    let open = logbook.open_runs(&shard("t")).await.expect("the logbook can be read");
    assert_eq!(open, [(run("other"), Version::new(3))]);
    assert_eq!(logbook.open_runs(&shard("u")).await.expect("the logbook can be read"), []);
}

async fn a_list_is_filtered_and_paged(logbook: impl Logbook) {
    for (name, at, flow, state) in [
        ("a", 1, "f", RunState::Success),
        ("b", 2, "g", RunState::Running),
        ("c", 2, "f", RunState::Running),
        ("d", 4, "f", RunState::Failure),
    ] {
        write(&logbook, vec![append_as(name, 0, [at, 9], info("s", flow, state))]).await;
    }
    let at = |micros| Some(Timestamp::from_micros(micros));
    let all = Filter::default();
    assert_eq!(names(&logbook, all.clone()).await, ["d", "c", "b", "a"]);
    let flow = Some("f".parse().expect("a valid name"));
    assert_eq!(names(&logbook, Filter { flow, ..all.clone() }).await, ["d", "c", "a"]);
    let states = vec![RunState::Running, RunState::Success];
    assert_eq!(names(&logbook, Filter { states, ..all.clone() }).await, ["c", "b", "a"]);
    assert_eq!(names(&logbook, Filter { since: at(2), until: at(4), ..all.clone() }).await, ["c", "b"]);
    assert_eq!(names(&logbook, Filter { limit: 2, ..all.clone() }).await, ["d", "c"]);
    let after = Some((Timestamp::from_micros(2), run("c")));
    assert_eq!(names(&logbook, Filter { after, limit: 2, ..all.clone() }).await, ["b", "a"]);
    for (name, shard, state) in
        [("e", "s", RunState::Suspended), ("f", "t", RunState::Suspended), ("g", "t", RunState::Running)]
    {
        write(&logbook, vec![append_as(name, 0, [5], info(shard, "f", state))]).await;
    }
    let of = |name: &str| Filter { shard: Some(shard(name)), ..all.clone() };
    assert_eq!(names(&logbook, of("t")).await, ["g", "f"]);
    assert_eq!(names(&logbook, Filter { states: vec![RunState::Suspended], ..of("t") }).await, ["f"]);
    assert_eq!(names(&logbook, Filter { states: vec![RunState::Suspended], ..all.clone() }).await, ["f", "e"]);
}

async fn a_list_may_be_of_one_namespace(logbook: impl Logbook) {
    for (name, flow) in
        [("a", "f"), ("b", "shop/f"), ("c", "shop/g"), ("d", "shopper/f"), ("e", "Shop/f"), ("f", "s_op/f")]
    {
        write(&logbook, vec![append_as(name, 0, [1, 9], info("s", flow, RunState::Running))]).await;
    }
    let within =
        |namespace: &str| Filter { namespace: Some(namespace.parse().expect("a valid name")), ..Filter::default() };
    assert_eq!(names(&logbook, within("shop")).await, ["c", "b"]);
    assert_eq!(names(&logbook, within("s_op")).await, ["f"]);
    assert_eq!(names(&logbook, within("f")).await, [""; 0]);
    let flow = Some("f".parse().expect("a valid name"));
    assert_eq!(names(&logbook, Filter { flow, ..Filter::default() }).await, ["a"]);
    let flow = Some("shop/f".parse().expect("a valid name"));
    assert_eq!(names(&logbook, Filter { flow, ..within("shop") }).await, ["b"]);
}

/// A run of one task, up to its call.
fn started_run() -> (Machine, Vec<Record>) {
    let mut machine = Machine::new(run("long"), flow());
    let records = machine.step(Timestamp::from_micros(5), &Event::Start).records;
    (machine, records)
}

fn flow() -> Arc<Flow> {
    let text = "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n";
    let task = TaskInfo {
        name: "noop".parse().expect("a valid name"),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: digest(), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:?}")).0)
}

fn digest() -> Digest {
    Digest::from_bytes([1; 32])
}

async fn a_snapshot_replaces_earlier_records(logbook: impl Logbook) {
    let (mut machine, records) = started_run();
    let known = Version::NONE.after(&records);
    let length = records.len();
    let info = info("s", "f", RunState::Running);
    let append = |follows, records| Append {
        run: run("long"),
        follows,
        records,
        info: info.clone(),
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    };
    write(&logbook, vec![append(Version::NONE, records.clone())]).await;
    for limit in 0..=length {
        let start = logbook.load_within(&run("long"), limit).await.expect("the run is there");
        assert_eq!(start.records, records.get(..limit).expect("there are as many"));
        assert_eq!((start.is_complete(), start.latest), (limit == length, known));
    }
    let early = machine.snapshot();
    logbook.save_snapshot(&run("long"), known, early.clone()).await.expect("the logbook can be written");
    let suspend = machine.step(Timestamp::from_micros(6), &Event::Suspend).records;
    write(&logbook, vec![append(known, suspend.clone())]).await;
    let history = logbook.load(&run("long")).await.expect("the run is there");
    assert_eq!(history.snapshot, Some((known, early.clone())));
    assert_eq!(history.records, suspend);
    assert_eq!(history.version(), known.after(&suspend));
    assert!(history.clone().into_machine().expect("the history is complete") == machine, "the loaded machine is equal");
    let start = logbook.load_within(&run("long"), 0).await.expect("the run is there");
    assert_eq!((start.snapshot, start.records), (history.snapshot.clone(), Vec::new()), "only the snapshot was read");
    assert_eq!(start.latest, known.after(&suspend));
    // All records still exist.
    let all = logbook.read(&run("long"), Version::NONE, 100).await.expect("the run is there");
    assert_eq!(all.len(), length + suspend.len());
    let late = (known.after(&suspend), machine.snapshot());
    logbook.save_snapshot(&run("long"), late.0, late.1.clone()).await.expect("the logbook can be written");
    logbook.save_snapshot(&run("long"), known, early).await.expect("the logbook can be written");
    let history = logbook.load(&run("long")).await.expect("the run is there");
    assert_eq!(history.snapshot, Some(late), "an older one is dropped");
    assert_eq!(history.records, []);
}

/// The error for an unreadable run names the record that causes it.
async fn an_illegal_record_is_reported_with_its_version(logbook: impl Logbook) {
    let (_, mut records) = started_run();
    let first = records.first().expect("the run has started").clone();
    records.push(first);
    let version = records.len();
    let info = info("s", "f", RunState::Running);
    let append = Append { records, info, ..append("long", 0, [1]) };
    write(&logbook, vec![append]).await;
    let history = logbook.load(&run("long")).await.expect("the run is there");
    let error = history.into_machine().expect_err("the run was started twice").to_string();
    let expected = format!("at version {version}, record run-started does not fit run long: ");
    assert!(error.contains(&expected), "{error}");
}

async fn only_runs_ended_before_the_limit_are_deleted(logbook: impl Logbook) {
    for state in RunState::ALL {
        write(&logbook, vec![append_as(state.as_str(), 0, [1], info("s", "f", state))]).await;
    }
    let late = info("s", "f", RunState::Success);
    write(&logbook, vec![append_as("late", 0, [1, 10], late)]).await;
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(10)).await.expect("the logbook can be written"), 2);
    let remaining = names(&logbook, Filter::default()).await;
    assert_eq!(remaining, ["suspending", "suspended", "running", "pending", "late", "failure"]);
    let error = logbook.load(&run("success")).await.expect_err("the run was deleted");
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    // The id can be used again.
    assert_eq!(write(&logbook, vec![append("success", 0, [20])]).await, [AppendOutcome::Durable]);
    assert_eq!(records(&logbook, "success").await, [record(20)]);
}

async fn digests_are_listed_while_their_runs_exist(logbook: impl Logbook) {
    let (_, records) = started_run();
    let info = info("s", "f", RunState::Success);
    let append = Append { records, info, ..append("long", 0, [1]) };
    write(&logbook, vec![append]).await;
    assert_eq!(logbook.digests().await.expect("the logbook can be read"), [digest()].into());
    logbook.delete_ended_runs(Timestamp::from_micros(u64::MAX >> 1)).await.expect("the logbook can be written");
    assert_eq!(logbook.digests().await.expect("the logbook can be read"), [].into());
}

async fn the_usage_of_a_namespace_is_that_of_its_runs(logbook: impl Logbook) {
    let namespace: Namespace = "shop".parse().expect("a valid name");
    let usage = async || logbook.usage(&namespace).await.expect("the logbook can be read");
    let (_, records) = started_run();
    let of = |name: &str, flow: &str| Append {
        records: records.clone(),
        info: info("s", flow, RunState::Success),
        ..append(name, 0, [1])
    };
    write(&logbook, vec![of("1", "f"), of("2", "shop"), of("3", "shop-2/f"), of("4", "shoq/f")]).await;
    assert_eq!(usage().await, Usage::default());
    write(&logbook, vec![of("5", "shop/f")]).await;
    let one = usage().await;
    assert!(one.bytes > 0 && one.digests == [digest()].into(), "{one:?}");
    write(&logbook, vec![of("6", "shop/g")]).await;
    assert_eq!(usage().await, Usage { bytes: 2 * one.bytes, ..one });
    logbook.delete_ended_runs(Timestamp::from_micros(u64::MAX >> 1)).await.expect("the logbook can be written");
    assert_eq!(usage().await, Usage::default());
}

async fn the_secret_stays_the_same(logbook: impl Logbook) {
    let call = CallId {
        run: "r".parse().expect("a valid id"),
        task: "t".parse().expect("a valid name"),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: Action::Apply,
    };
    let key = logbook.secret().await.expect("it is made").call_key(&call);
    assert_eq!(logbook.secret().await.expect("it is read").call_key(&call), key);
    assert_ne!(Memory::new().secret().await.expect("it is made").call_key(&call), key, "each logbook has its own");
}

async fn a_check_writes_and_reads(logbook: impl Logbook) {
    logbook.check().await.expect("the logbook works");
    logbook.check().await.expect("the logbook works a second time");
}
