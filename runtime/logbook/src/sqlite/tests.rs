//! The contract over files, and the behaviour of files only.

mod clients;

use std::{cell::Cell, fs, path::Path, sync::Arc};

use flow::RunState;
use machine::Fact;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    MaxUnended, MemoChanges, RunInfo, contract,
    runs_query::{self, SQLITE, Start, Statement},
};

fn append(run: &str, follows: u64, at: impl IntoIterator<Item = u64>) -> Append {
    let record = |at| Record { at: Timestamp::from_micros(at), firing: None, fact: Fact::Resumed };
    Append {
        run: RunId::new(run).unwrap(),
        follows: Version::new(follows),
        records: at.into_iter().map(record).collect(),
        info: RunInfo { shard: Shard::new("s").unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    }
}

async fn open(path: impl AsRef<Path>) -> Sqlite {
    Sqlite::open(path.as_ref().to_owned()).await.unwrap()
}

async fn open_error(path: impl AsRef<Path>) -> OpenError {
    Sqlite::open(path.as_ref().to_owned()).await.err().expect("it cannot be opened")
}

#[tokio::test]
async fn sqlite_passes_the_contract() {
    let folder = TempDir::new().unwrap();
    let number = Cell::new(0);
    contract::all(|| {
        number.set(number.get() + 1);
        open(folder.path().join(format!("{}.db", number.get())))
    })
    .await;
}

#[tokio::test]
async fn large_records_are_read_in_small_parts() {
    let folder = TempDir::new().unwrap();
    contract::assert_parts_are_small(&open(folder.path().join("logbook.db")).await).await;
}

#[tokio::test]
async fn a_trim_that_reads_long_delays_no_other_read() {
    let folder = TempDir::new().unwrap();
    let logbook = open(folder.path().join("logbook.db")).await;
    logbook.append(vec![append("r", 0, [1])]).await.unwrap();
    let run = RunId::new("r").unwrap();
    let (end_tx, end_rx) = std::sync::mpsc::channel::<()>();
    // It ends when the sender is dropped.
    let earlier = logbook.trims.run(move |_| Ok(end_rx.recv().is_err()));
    let other = async {
        let trim = logbook.trim(&run, Version::new(1));
        tokio::pin!(trim);
        tokio::select! {
            biased;
            trimmed = &mut trim => panic!("it waits for the earlier trim: {trimmed:?}"),
            summary = logbook.summary(&run) => assert_eq!(summary.unwrap().version, Version::new(1)),
        }
        drop(end_tx);
        trim.await.unwrap();
    };
    let (earlier, ()) = tokio::join!(earlier, other);
    assert!(earlier.is_ok_and(|has_ended| has_ended));
}

#[tokio::test]
async fn a_reopened_file_has_all_records() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b/logbook.db");
    let first = open(&path).await;
    first.append(vec![append("r", 0, [1, 2])]).await.unwrap();
    drop(first);
    let second = open(&path).await;
    assert_eq!(second.append(vec![append("r", 2, [3])]).await.unwrap(), [AppendOutcome::Durable]);
    assert_eq!(second.load(&RunId::new("r").unwrap()).await.unwrap().records, append("r", 0, [1, 2, 3]).records);
}

#[tokio::test]
async fn second_append_at_a_version_conflicts() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    let (one, other) = tokio::join!(open(&path), open(&path));
    for version in 0..20 {
        let results =
            tokio::join!(one.append(vec![append("r", version, [1])]), other.append(vec![append("r", version, [2])]),);
        let conflict = AppendOutcome::Conflict(Version::new(version + 1));
        let outcomes = [results.0.unwrap()[0], results.1.unwrap()[0]];
        assert!(
            outcomes == [AppendOutcome::Durable, conflict] || outcomes == [conflict, AppendOutcome::Durable],
            "{outcomes:?}"
        );
    }
}

#[tokio::test]
async fn batched_appends_are_answered_individually() {
    let folder = TempDir::new().unwrap();
    let logbook = Arc::new(open(folder.path().join("logbook.db")).await);
    // More appends than the queue holds.
    let all = (0..300_u64).map(|number| {
        let run = format!("r{}", number % 100);
        let logbook = &logbook;
        async move { logbook.append(vec![append(&run, 0, [number])]).await.unwrap()[0] }
    });
    let all = futures::future::join_all(all).await;
    let count = |expected: AppendOutcome| all.iter().filter(|outcome| **outcome == expected).count();
    assert_eq!((count(AppendOutcome::Durable), count(AppendOutcome::Conflict(Version::new(1)))), (100, 200));
}

#[tokio::test]
async fn ended_runs_are_deleted_in_batches() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    let logbook = open(&path).await;
    let ended = |number: usize| {
        let mut append = append(&format!("r{number}"), 0, [1]);
        append.info.state = RunState::Success;
        append
    };
    logbook.append((0..2 * DELETE_BATCH + 3).map(ended).collect()).await.unwrap();
    let found_by = "INSERT INTO labels SELECT key, 'a', 'b', 1, id FROM runs;
        INSERT INTO search_texts SELECT key, 'b', 1, id FROM runs";
    Connection::open(&path).unwrap().execute_batch(found_by).unwrap();
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(2)).await.unwrap(), 2 * DELETE_BATCH as u64 + 3);
    let count = |table: &str| {
        let connection = Connection::open(&path).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(["runs", "records", "labels", "search_texts"].map(count), [0; 4]);
}

#[tokio::test]
async fn a_newer_file_is_rejected() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    drop(open(&path).await);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = open_error(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("logbook.db"), "{error}");
}

#[tokio::test]
async fn the_error_for_records_of_an_unknown_version_names_the_file_and_the_remedy() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    let logbook = open(&path).await;
    logbook.append(vec![append("r", 0, [1]), append("other", 0, [1])]).await.unwrap();
    let newer = "UPDATE records SET body = x'774cfa00' WHERE run = (SELECT key FROM runs WHERE id = 'r')";
    assert_eq!(Connection::open(&path).unwrap().execute(newer, []).unwrap(), 1);
    let run = RunId::new("r").unwrap();
    let beginning =
        format!("the records of run r cannot be read: {}: a record of format version 250; ", path.display());
    for error in [
        logbook.load(&run).await.unwrap_err().to_string(),
        logbook.read(&run, Version::NONE, 10).await.unwrap_err().to_string(),
    ] {
        assert!(error.starts_with(&beginning), "{error}");
        assert!(error.ends_with("upgrade it, or read it with the waft that wrote the logbook"), "{error}");
    }
    assert_eq!(logbook.list(&Filter::default()).await.unwrap().len(), 2, "an unreadable run is still listed");
    assert!(logbook.load(&RunId::new("other").unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_foreign_file_is_rejected_and_unchanged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    for garbage in ["short", &"not a database. ".repeat(1000)] {
        fs::write(&path, garbage).unwrap();
        let error = open_error(&path).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("logbook.db"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
    }
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute("CREATE TABLE runs (other)", []).unwrap();
    let error = open_error(&path).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn an_impossible_path_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let below_a_file = open_error(folder.path().join("file/logbook.db")).await;
    let a_folder = open_error(folder.path()).await;
    for (error, reason) in [(below_a_file, "cannot be created"), (a_folder, "cannot be opened")] {
        assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(folder.path().to_str().unwrap()) && error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let logbook = open(folder.path().join("logbook.db")).await;
    logbook.append(vec![append("r", 0, [1])]).await.unwrap();
    // SQLite reports the same error as for a full disk.
    let limit = |pages: &'static str| logbook.writer.run(move |connection| connection.execute_batch(pages));
    limit("PRAGMA max_page_count = 1").await.unwrap();
    let batch = (0..1000).map(|number| append(&format!("many-{number}"), 0, 0..100)).collect();
    let error = logbook.append(batch).await.unwrap_err().to_string();
    assert!(error.contains("the disk is full") && error.contains("logbook.db"), "{error}");
    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    assert_eq!(logbook.list(&Filter::default()).await.unwrap().len(), 1);
    assert_eq!(logbook.append(vec![append("r", 1, [2])]).await.unwrap(), [AppendOutcome::Durable]);
}

#[tokio::test]
async fn corrupt_rows_name_their_run() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    let logbook = open(&path).await;
    let batch = ["state", "bytes", "gap", "intact"].map(|run| append(run, 0, [1]));
    logbook.append(batch.into()).await.unwrap();
    let damage = "UPDATE runs SET state = 'asleep' WHERE id = 'state';
        UPDATE records SET body = x'00ff' WHERE run = (SELECT key FROM runs WHERE id = 'bytes');
        DELETE FROM records WHERE run = (SELECT key FROM runs WHERE id = 'gap');";
    Connection::open(&path).unwrap().execute_batch(damage).unwrap();
    for run in ["state", "bytes", "gap"] {
        let error = logbook.load(&RunId::new(run).unwrap()).await.unwrap_err();
        assert!(matches!(&error, LoadError::Damaged { run: damaged, .. } if damaged.as_str() == run), "{error}");
    }
    logbook.load(&RunId::new("intact").unwrap()).await.unwrap();
}

#[test]
fn a_migrated_file_has_the_last_usages_and_finds_exchanges() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, &schema::MIGRATIONS[..11]).unwrap();
    let usage = protocol::CallUsage::default().encode();
    connection.execute("INSERT INTO runs VALUES (1, 'r', 's', 'f', 'running', 1, 1, 1, 0, 0)", []).unwrap();
    let columns = "(run, first, number, task, firing, attempt, action, at, worker, body, usage, exchanges)";
    let insert = format!("INSERT INTO logs {columns} VALUES (1, ?1, ?2, ?3, 1, ?4, 'apply', 1, NULL, ?5, ?6, ?7)");
    let none = None::<Vec<u8>>;
    let exchanges = Some(vec![7_u8; 32]);
    connection.execute(&insert, params![0, 0, "x", 1, b"", usage, none]).unwrap();
    connection.execute(&insert, params![0, 1, "x", 2, b"log", usage, exchanges]).unwrap();
    connection.execute(&insert, params![3, 0, "y", 1, b"log", usage, none]).unwrap();
    connection.execute(&insert, params![3, 1, "y[0]", 9, b"", usage, none]).unwrap();
    connection.execute(&insert, params![4, 0, "y", 2, b"log", none, none]).unwrap();
    schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
    let usages = read::last_usages(&connection, "r").unwrap().unwrap();
    let usages: Vec<_> = usages.into_iter().map(|row| (row.task, row.attempt, row.usage.unwrap())).collect();
    assert_eq!(usages, [("x".to_owned(), 2, usage.clone()), ("y".to_owned(), 1, usage)]);
    let first: i64 =
        connection.query_row("SELECT first FROM last_usages WHERE task = 'y'", [], |row| row.get(0)).unwrap();
    assert_eq!(first, 3);
    assert_eq!(read::exchange_digests(&connection, "r").unwrap(), Some(vec![vec![7; 32]]));
    let with_http = "SELECT group_concat(task || attempt) FROM logs WHERE has_http = 1 ORDER BY first, number";
    let with_http: String = connection.query_row(with_http, [], |row| row.get(0)).unwrap();
    assert_eq!(with_http, "x2,y1");
}

/// The bodies of the logs of one run may have gigabytes.
#[test]
fn only_the_logs_that_are_asked_for_are_read() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
    let plan = |sql: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.raw_query();
        let lines = lines.mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        lines.into_iter().filter(|line| !line.contains(" runs ")).collect::<Vec<_>>()
    };
    let starts = |sql: &str, expected: &str| {
        let plan = plan(sql);
        assert!(plan.len() == 1 && plan[0].starts_with(expected), "{plan:#?}");
    };
    starts(read::LAST_USAGES, "SEARCH last_usages USING PRIMARY KEY (run=?)");
    let attempt = "SEARCH logs USING INDEX logs_attempt (run=? AND task=? AND firing=? AND attempt=? AND action=?)";
    starts(read::ATTEMPT_LOG, attempt);
    starts(read::HTTP_LOGS, "SEARCH logs USING INDEX logs_http (run=? AND (first,number)<(?,?))");
    starts(read::LOGS, "SEARCH logs USING PRIMARY KEY (run=? AND (first,number)>(?,?))");
    starts(read::EXCHANGE_DIGESTS, "SEARCH logs USING COVERING INDEX logs_http (run=?)");
    starts(trim::EXCHANGES, "SEARCH logs USING COVERING INDEX logs_http (run=? AND first>?)");
}

#[tokio::test]
async fn a_migrated_file_finds_the_runs_of_an_older_waft_by_their_ids() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("logbook.db");
    let mut older = Connection::open(&path).unwrap();
    schema::migrate(&mut older, &schema::MIGRATIONS[..14]).unwrap();
    older.execute("INSERT INTO runs VALUES (1, 'old-1', 's', 'shop/f', 'success', 1, 5, 6, 1, 0)", []).unwrap();
    drop(older);
    let logbook = open(&path).await;
    let by_id = Filter { text: Some(flow::LabelValue::new("old").unwrap()), ..Filter::default() };
    let found = logbook.list(&by_id).await.unwrap();
    assert_eq!((found.len(), found[0].run.as_str(), found[0].labels.is_empty()), (1, "old-1", true));
    assert_eq!(logbook.counts(&by_id, 1).await.unwrap().total, 1);
    let labelled = Filter { labels: vec!["team".parse().unwrap()], ..Filter::default() };
    assert!(logbook.list(&labelled).await.unwrap().is_empty());
}

/// A list ends once its page is full, and a count reads no run.
#[test]
fn lists_and_counts_use_the_index_that_finds_the_fewest_runs() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
    let plan = |statement: &Statement| {
        let mut prepared = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).unwrap();
        let lines = prepared.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        lines.join("\n")
    };
    let labelled = |conditions: &[&str]| Filter {
        labels: conditions.iter().map(|condition| condition.parse().unwrap()).collect(),
        ..Filter::default()
    };
    let after = Some((Timestamp::from_micros(5), RunId::new("r").unwrap()));
    let by_flow = || Filter { flow: Some("f".parse().unwrap()), ..Filter::default() };
    let of_namespace = || Filter { namespace: Some("shop".parse().unwrap()), ..Filter::default() };
    let suspended = || {
        let (shard, states) = (Some(Shard::new("s").unwrap()), vec![RunState::Suspended]);
        Filter { shard, states, ..Filter::default() }
    };
    assert_eq!(runs_query::choose(&suspended(), &[]), [Start::Suspended]);
    assert_eq!(runs_query::choose(&of_namespace(), &[]), [Start::Namespace]);
    let text = || Filter { text: Some(flow::LabelValue::new("47").unwrap()), ..Filter::default() };
    let sorts = "USE TEMP B-TREE FOR ORDER BY";
    for (filter, start, expected) in [
        (
            Filter { after: after.clone(), ..labelled(&["a=1"]) },
            Start::Label(0),
            "found USING COVERING INDEX labels_by_value (name=? AND value=? AND (started_at,id)<(?,?))",
        ),
        (labelled(&["a"]), Start::Label(0), "found USING COVERING INDEX labels_by_name (name=?)"),
        (
            Filter { after: after.clone(), ..by_flow() },
            Start::Flow,
            "runs USING INDEX runs_of_flow (flow=? AND (started_at,id)<(?,?))",
        ),
        (text(), Start::Text, "found USING COVERING INDEX search_texts_by_text (text=?)"),
        (
            Filter { states: vec![RunState::Failure], ..text() },
            Start::YoungestId,
            "SCAN runs USING INDEX runs_youngest",
        ),
        (of_namespace(), Start::Namespace, "runs USING INDEX runs_of_namespace (<expr>=?)"),
        (suspended(), Start::Suspended, "runs USING INDEX runs_suspended (shard=?)"),
        (
            Filter { after, ..Filter::default() },
            Start::Youngest,
            "runs USING INDEX runs_youngest ((started_at,id)<(?,?))",
        ),
    ] {
        let list = plan(&runs_query::list(&filter, start, SQLITE));
        assert!(list.contains(expected) && !list.contains(sorts), "{start:?}: {list}");
    }
    let by_id = plan(&runs_query::list(&text(), Start::Id, SQLITE));
    assert!(by_id.contains("runs USING INDEX sqlite_autoindex_runs_1 (id>? AND id<?)"), "{by_id}");
    let count = plan(&runs_query::count_of_start(&text(), Start::Id, SQLITE));
    assert!(count.contains("COVERING INDEX"), "{count}");
    let other = plan(&runs_query::list(&labelled(&["a=1", "b=2"]), Start::Label(1), SQLITE));
    assert!(other.contains("SEARCH other EXISTS USING PRIMARY KEY (run=? AND name=?)"), "{other}");
    for filter in [Filter::default(), by_flow(), of_namespace()] {
        let counts = plan(&runs_query::counts(&filter, &[Start::Youngest], 10, 10, SQLITE));
        assert!(counts.contains("runs USING COVERING INDEX runs_of_flow"), "{counts}");
    }
}

async fn find(path: &Path) -> crate::ExistingLogbook {
    match inspect(path.to_owned()).await.unwrap() {
        crate::Inspection::Existing(found) => found,
        crate::Inspection::Absent { .. } | crate::Inspection::Memory => panic!("there is a logbook"),
    }
}

fn files(folder: &TempDir) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_inspection_of_a_file_reads_its_runs_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd name?#%41.db");
    let absent = inspect(path.clone()).await.unwrap();
    assert!(matches!(absent, crate::Inspection::Absent { write_error: None, .. }));
    assert_eq!(files(&folder), [], "no file is created");
    let logbook = open(&path).await;
    logbook.append(vec![append("r", 0, [1, 2])]).await.unwrap();
    let run = RunId::new("r").unwrap();
    let before = files(&folder);
    let found = find(&path).await;
    assert_eq!((found.schema, found.known, found.write_error.clone()), (15, 15, None));
    assert_eq!(
        found.logbook().unwrap().load(&run).await.unwrap().version(),
        Version::new(2),
        "while another connection is open"
    );
    assert!(found.logbook().unwrap().append(vec![append("r", 2, [3])]).await.is_err(), "the connection is read-only");
    assert_eq!(found.is_run_locked(&run).await, Some(false));
    let locked = logbook.lock_run(&run).await.unwrap();
    assert_eq!(found.is_run_locked(&run).await, Some(true));
    drop(locked);
    drop(found);
    assert_eq!(files(&folder), before);
    drop(logbook);
    // The threads close the file a moment later. The last one removes the write-ahead log, unless it can only read.
    while folder.path().join("odd name?#%41.db-wal").exists() {
        drop(open(&path).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let before = files(&folder);
    let found = find(&path).await;
    assert_eq!(found.logbook().unwrap().load(&run).await.unwrap().version(), Version::new(2));
    drop(found);
    assert_eq!(files(&folder), before, "no write-ahead log is left behind");
}

#[tokio::test]
async fn a_new_logbook_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/logbook.db");
    let logbook = Sqlite::open(path.clone()).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    assert_eq!(mode(&folder.path().join("new/logbook.db-wal")), 0o600, "SQLite gives its other files the same mode");
    drop(logbook);
}
