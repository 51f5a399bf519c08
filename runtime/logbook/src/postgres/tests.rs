//! The contract over a real server at the address in `WAFT_TEST_POSTGRES`: each rule has its own database.

mod connections;

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::{
    LockMode, MaxUnended, MemoChanges, RunInfo, contract,
    runs_query::{self, POSTGRES, Start, Statement},
};
use flow::RunState;
use machine::Fact;

/// A server to test with, and the databases created there.
struct Server {
    endpoint: Endpoint,
    databases: RefCell<Vec<String>>,
}

impl Server {
    /// Returns `None` if there is no server to test with; the test is then over.
    fn find() -> Option<Self> {
        let Ok(url) = std::env::var("WAFT_TEST_POSTGRES") else {
            eprintln!("skipped: WAFT_TEST_POSTGRES is not set");
            return None;
        };
        Some(Self { endpoint: connection::parse(&url).unwrap(), databases: RefCell::default() })
    }

    /// Runs a statement on the database of the address.
    async fn execute(&self, sql: &str) {
        let (client, connection) = self.endpoint.config.connect(self.endpoint.connector().unwrap()).await.unwrap();
        let (result, _) = tokio::join!(
            async {
                let result = client.batch_execute(sql).await;
                drop(client);
                result
            },
            connection
        );
        result.unwrap();
    }

    /// Creates a database without tables.
    async fn database(&self) -> Endpoint {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("waft_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name}")).await;
        self.databases.borrow_mut().push(name.clone());
        let mut endpoint = self.endpoint.clone();
        endpoint.config.dbname(name);
        endpoint
    }

    /// The server process that holds an advisory lock in a database.
    async fn holder(&self, endpoint: &Endpoint) -> Option<i32> {
        let (client, connection) = self.endpoint.config.connect(self.endpoint.connector().unwrap()).await.unwrap();
        let sql = "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
            WHERE l.locktype = 'advisory' AND l.granted AND d.datname = $1";
        let (row, _) = tokio::join!(
            async {
                let row = client.query_opt(sql, &[&endpoint.config.get_dbname().unwrap()]).await;
                drop(client);
                row
            },
            connection
        );
        row.unwrap().map(|row| row.get(0))
    }

    async fn clean_up(self) {
        for name in self.databases.take() {
            self.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

fn append(run: &str, follows: u64, state: RunState) -> Append {
    Append {
        run: RunId::new(run).unwrap(),
        follows: Version::new(follows),
        records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
        info: RunInfo { shard: Shard::new("s").unwrap(), flow: "f".parse().unwrap(), state },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    }
}

/// The log of an attempt of a run, with a usage.
fn attempt_log(run: &str) -> AttemptLog {
    let (firing, attempt, action) = (flow::Firing::FIRST, flow::Attempt::FIRST, flow::Action::Apply);
    let call = CallId { run: RunId::new(run).unwrap(), task: "x".parse().unwrap(), firing, attempt, action };
    let log = protocol::CallLog { usage: Some(protocol::CallUsage::default()), ..protocol::CallLog::default() };
    AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
}

#[tokio::test]
async fn postgres_passes_the_contract() {
    let Some(server) = Server::find() else { return };
    contract::all(async || Postgres::with(server.database().await).await.unwrap()).await;
    server.clean_up().await;
}

#[tokio::test]
async fn large_records_are_read_in_small_parts() {
    let Some(server) = Server::find() else { return };
    contract::assert_parts_are_small(&Postgres::with(server.database().await).await.unwrap()).await;
    server.clean_up().await;
}

#[tokio::test]
async fn concurrent_opens_create_one_schema() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let all = future::join_all((0..4).map(|_| Postgres::with(endpoint.clone()))).await;
    for logbook in &all {
        let logbook = logbook.as_ref().unwrap_or_else(|error| panic!("{error}"));
        logbook.check().await.unwrap();
    }
    drop(all);
    server.clean_up().await;
}

#[tokio::test]
async fn an_older_schema_is_migrated_and_a_newer_one_rejected() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let logbook = Postgres::with(endpoint.clone()).await.unwrap();
    logbook.append(vec![append("r", 0, RunState::Running)]).await.unwrap();
    let failing = [schema::MIGRATIONS, &["ALTER TABLE waft.runs ADD COLUMN note TEXT", "nonsense"]].concat();
    let newest = [schema::MIGRATIONS, &["ALTER TABLE waft.runs ADD COLUMN note TEXT DEFAULT 'none'"]].concat();
    let mut client = logbook.connections.get(Purpose::Engine).await.unwrap().end();
    assert!(matches!(schema::migrate(&mut client, &failing).await, Err(schema::SchemaError::Failed(_))));
    schema::migrate(&mut client, &newest).await.unwrap();
    schema::migrate(&mut client, &newest).await.unwrap();
    let note: String = client.query_one("SELECT note FROM waft.runs", &[]).await.unwrap().get(0);
    assert_eq!(note, "none");
    let error = Postgres::with(endpoint).await.err().expect("it is rejected");
    let known = schema::MIGRATIONS.len() as i64;
    assert!(
        matches!(error, OpenError::Newer { found, known: newest, .. } if (found, newest) == (known + 1, known)),
        "{error}"
    );
    drop(client);
    server.clean_up().await;
}

#[tokio::test]
async fn a_migrated_database_has_the_last_usages_and_finds_runs_by_their_ids() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let (client, connection) = endpoint.config.connect(endpoint.connector().unwrap()).await.unwrap();
    let migrated = async {
        let mut client = client;
        schema::migrate(&mut client, &schema::MIGRATIONS[..11]).await.unwrap();
        client
            .execute(
                "INSERT INTO waft.runs (id, shard, flow, state, version, started_at, changed_at)
            VALUES ('r', 's', 'f', 'running', 5, 1, 1)",
                &[],
            )
            .await
            .unwrap();
        let usage = protocol::CallUsage::default().encode();
        for (first, number, task, attempt) in
            [(0_i64, 0_i64, "x", 1_i64), (0, 1, "x", 2), (3, 0, "y", 1), (3, 1, "y[0]", 9)]
        {
            let insert =
                "INSERT INTO waft.logs SELECT key, $1, $2, $3, 1, $4, 'apply', 1, NULL, '', $5, NULL FROM waft.runs";
            client.execute(insert, &[&first, &number, &task, &attempt, &usage]).await.unwrap();
        }
    };
    tokio::select! { () = migrated => {}, _ = connection => panic!("the connection ends with its client") }
    let logbook = Postgres::with(endpoint).await.unwrap();
    let usages = logbook.last_usages(&RunId::new("r").unwrap()).await.unwrap();
    let usages: Vec<_> = usages.iter().map(|log| (log.call.task.as_str(), log.call.attempt.get())).collect();
    assert_eq!(usages, [("x", 2), ("y", 1)]);
    let by_id = Filter { text: Some(flow::LabelValue::new("r").unwrap()), ..Filter::default() };
    let found = logbook.list(&by_id).await.unwrap();
    assert_eq!((found.len(), found[0].labels.is_empty()), (1, true));
    assert_eq!(logbook.counts(&by_id, 1).await.unwrap().total, 1);
    drop(logbook);
    server.clean_up().await;
}

/// 20,000 runs, of which a thousandth has a rare label.
const MANY_RUNS: &str =
    "INSERT INTO waft.runs (id, shard, flow, state, version, started_at, changed_at, published, unpublished)
        SELECT 'r' || n, 's', 'f' || n % 50, CASE n % 2000 WHEN 0 THEN 'failure' ELSE 'success' END, 1, n, n, 1, false
        FROM generate_series(1, 20000) AS n;
    INSERT INTO waft.labels SELECT key, 'team', 'shop', started_at, id FROM waft.runs;
    INSERT INTO waft.labels SELECT key, 'order', id, started_at, id FROM waft.runs WHERE started_at % 1000 = 0;
    INSERT INTO waft.search_texts SELECT run, value, started_at, id FROM waft.labels;
    VACUUM ANALYZE waft.runs; VACUUM ANALYZE waft.labels; VACUUM ANALYZE waft.search_texts";

#[tokio::test]
async fn lists_and_counts_use_the_index_that_finds_the_fewest_runs() {
    let Some(server) = Server::find() else { return };
    let logbook = Postgres::with(server.database().await).await.unwrap();
    let client = logbook.connections.get(Purpose::Engine).await.unwrap().end();
    for sql in MANY_RUNS.split(';') {
        client.batch_execute(sql).await.unwrap();
    }
    let plan = async |Statement { sql, parameters }: Statement| {
        let parameters: Vec<_> = parameters.iter().map(read::parameter).collect();
        let rows = client.query(format!("EXPLAIN {sql}").as_str(), &parameters).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    };
    let label = |condition: &str| Filter { labels: vec![condition.parse().unwrap()], ..Filter::default() };
    let text = |text: &str| Filter { text: Some(flow::LabelValue::new(text).unwrap()), ..Filter::default() };
    let of_flow = || Filter { flow: Some("f7".parse().unwrap()), ..Filter::default() };
    let after = Some((Timestamp::from_micros(9_000), RunId::new("r").unwrap()));
    for (filter, start, index) in [
        // All have the label, so the value distinguishes none.
        (label("team=shop"), Start::Label(0), "labels_by_"),
        (Filter { after: after.clone(), ..label("team=shop") }, Start::Label(0), "labels_by_"),
        (label("order=r1000"), Start::Label(0), "labels_by_value"),
        (text("r1000"), Start::Text, "search_texts_by_text"),
        (text("r1000"), Start::Id, "runs_id_key"),
        (of_flow(), Start::Flow, "runs_of_flow"),
        (Filter { after, ..Filter::default() }, Start::Youngest, "runs_youngest"),
    ] {
        let list = plan(runs_query::list(&filter, start, POSTGRES)).await;
        assert!(list.contains(index) && !list.contains("Seq Scan"), "{start:?}: {list}");
    }
    for (filter, start) in [(label("order=r1000"), Start::Label(0)), (text("r1000"), Start::Text)] {
        let count = plan(runs_query::count_of_start(&filter, start, POSTGRES)).await;
        assert!(!count.contains("Seq Scan"), "{start:?}: {count}");
    }
    let counts = plan(runs_query::counts(&of_flow(), &[Start::Flow], 10, 10_000, POSTGRES)).await;
    assert!(counts.contains("Index Only Scan using runs_of_flow"), "{counts}");
    let counts = plan(runs_query::counts(&label("order"), &[Start::Label(0)], 10, 10_000, POSTGRES)).await;
    assert!(counts.contains("labels_by_"), "{counts}");
    drop(client);
    drop(logbook);
    server.clean_up().await;
}

#[tokio::test]
async fn two_engines_with_the_same_runs_never_wait_for_each_other_forever() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let one = Postgres::with(endpoint.clone()).await.unwrap();
    let other = Postgres::with(endpoint).await.unwrap();
    let names: Vec<String> = (0..50).map(|number| format!("r{number}")).collect();
    for version in 0..20 {
        let forwards = names.iter().map(|run| append(run, version, RunState::Running)).collect();
        let backwards = names.iter().rev().map(|run| append(run, version, RunState::Running)).collect();
        let (forwards, backwards) = tokio::join!(one.append(forwards), other.append(backwards));
        let conflict = AppendOutcome::Conflict(Version::new(version + 1));
        for (one, other) in forwards.unwrap().into_iter().zip(backwards.unwrap().into_iter().rev()) {
            let pair = (one, other);
            assert!(
                pair == (AppendOutcome::Durable, conflict) || pair == (conflict, AppendOutcome::Durable),
                "{pair:?}"
            );
        }
    }
    server.clean_up().await;
}

#[tokio::test]
async fn deleted_runs_leave_no_rows() {
    let Some(server) = Server::find() else { return };
    let logbook = Postgres::with(server.database().await).await.unwrap();
    let with_log = |number| {
        let run = format!("r{number}");
        Append { logs: vec![attempt_log(&run)], ..append(&run, 0, RunState::Success) }
    };
    let batch = (0..DELETE_BATCH * 2 + 3).map(with_log).collect();
    logbook.append(batch).await.unwrap();
    let client = logbook.connections.get(Purpose::Engine).await.unwrap().end();
    let found_by = "INSERT INTO waft.labels SELECT key, 'a', 'b', 1, id FROM waft.runs;
        INSERT INTO waft.search_texts SELECT key, 'b', 1, id FROM waft.runs";
    client.batch_execute(found_by).await.unwrap();
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(2)).await.unwrap(), DELETE_BATCH as u64 * 2 + 3);
    let count = "SELECT (SELECT count(*) FROM waft.runs) + (SELECT count(*) FROM waft.records)
        + (SELECT count(*) FROM waft.logs) + (SELECT count(*) FROM waft.last_usages)
        + (SELECT count(*) FROM waft.labels) + (SELECT count(*) FROM waft.search_texts)";
    let count: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
    drop(client);
    server.clean_up().await;
}

#[tokio::test]
async fn after_a_lost_connection_the_next_call_opens_a_new_one() {
    let Some(server) = Server::find() else { return };
    let logbook = Postgres::with(server.database().await).await.unwrap();
    let version = Cell::new(0);
    let next = || {
        let follows = version.replace(version.get() + 1);
        logbook.append(vec![append("r", follows, RunState::Running)])
    };
    next().await.unwrap();
    let result = logbook
        .with_connection(async |client| client.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await);
    let error = result.await.unwrap_err();
    assert!(error.starts_with("postgres://"), "{error}");
    assert_eq!(next().await.unwrap(), [AppendOutcome::Durable]);
    drop(logbook);
    server.clean_up().await;
}

/// The address of a database created here.
fn url_of(endpoint: &Endpoint) -> String {
    let url = std::env::var("WAFT_TEST_POSTGRES").unwrap();
    let (server, _) = url.rsplit_once('/').expect("an address names a database");
    format!("{server}/{}", endpoint.config.get_dbname().unwrap())
}

#[tokio::test]
async fn an_exclusive_lock_keeps_other_engines_out() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    crate::lock::check_rules(&url_of(&endpoint)).await;
    server.clean_up().await;
}

#[tokio::test]
async fn a_lock_is_retaken_after_a_lost_connection() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let take = || SessionLock::with(endpoint.clone(), LockMode::Exclusive);
    let kill = async |pid: i32| server.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    let mut first = take().await.unwrap();
    let killed = first.pid();
    kill(killed).await;
    tokio::select! {
        error = first.lost() => panic!("no other process requests it: {error}"),
        () = async {
            // The lock is retaken almost immediately.
            while server.holder(&endpoint).await.is_none_or(|holder| holder == killed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    assert!(matches!(take().await, Err(OpenError::Locked { .. })));
    // The lock is retaken only while its loss is awaited.
    kill(first.pid()).await;
    let second = loop {
        if let Ok(second) = take().await {
            break second;
        }
    };
    let error = first.lost().await;
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("it holds the advisory lock"), "{error}");
    drop((first, second));
    server.clean_up().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let error = Postgres::connect("postgres://user:secret@127.0.0.1:1/d").await.err().expect("no server listens there");
    let error = error.to_string();
    assert!(error.contains("postgres://user@127.0.0.1:1/d") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn an_inspection_of_a_database_reports_schema_clock_and_locks_and_creates_nothing() {
    let Some(server) = Server::find() else { return };
    let endpoint = server.database().await;
    let find = async || inspect::inspect_database(endpoint.clone()).await.unwrap();
    for _ in 0..2 {
        let found = find().await;
        assert_eq!((found.schema, found.write_error.as_deref()), (0, None), "no table is created");
        assert!(found.logbook().is_none());
    }
    let logbook = Postgres::with(endpoint.clone()).await.unwrap();
    let found = find().await;
    assert_eq!((found.schema, found.known, found.write_error.as_deref()), (15, 15, None));
    let clock = found.clock.unwrap();
    let difference = clock.shown.duration_since(clock.sent_at).unwrap_or_else(|error| error.duration());
    assert!(
        difference < Duration::from_secs(5),
        "the server of the tests has the clock of this machine: {difference:?}"
    );
    let run = RunId::new("r").unwrap();
    assert_eq!(found.is_run_locked(&run).await, Some(false));
    let locked = logbook.lock_run(&run).await.unwrap();
    assert!(locked.is_some());
    assert_eq!(found.is_run_locked(&run).await, Some(true));
    assert_eq!(found.is_run_locked(&RunId::new("other").unwrap()).await, Some(false));
    drop((locked, found, logbook));
    server.clean_up().await;
}
