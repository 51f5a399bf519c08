//! Tests `waft doctor` as a user runs it: its findings, its advice, its exit code, and that it always ends.

use std::{
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use broker::{Amqp, Broker, Message, Options, Properties, Routing};
use serde_json::Value;
use waft_tests::{CommandOutput, Process, Role, TestBroker, Waft, guest, root, start_rabbit, unique};
use xtask::{
    postgres::{POSTGRES, psql},
    rabbitmq::{Rabbit, with_user},
};

/// Only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum duration of `waft doctor`, even if nothing answers.
const MAX_DURATION: Duration = Duration::from_secs(35);

/// The exit code for a problem that needs action.
const PROBLEM_FOUND: i32 = 5;

/// The findings of one `waft doctor`.
struct Findings(Vec<Value>);

impl Findings {
    #[track_caller]
    fn of(output: &CommandOutput, code: i32) -> Self {
        Self(output.expect(code).json())
    }

    /// The outcomes of a check, in order.
    fn outcomes(&self, check: &str) -> Vec<&str> {
        self.all(check).map(|line| line["outcome"].as_str().expect("a word")).collect()
    }

    fn all(&self, check: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |line| line["check"] == check)
    }

    /// Asserts that a check had exactly one outcome, with the given texts in its detail and advice.
    #[track_caller]
    fn assert_contains(&self, check: &str, outcome: &str, detail: &str, advice: &str) {
        let matches = |line: &Value| {
            line["outcome"] == outcome
                && line["detail"].as_str().is_some_and(|text| text.contains(detail))
                && line["advice"].as_str().unwrap_or_default().contains(advice)
        };
        assert!(self.all(check).any(matches), "no {check} is {outcome} with {detail:?} and {advice:?}: {:#?}", self.0);
    }
}

fn doctor(waft: &Waft, arguments: &[&str]) -> CommandOutput {
    waft.run(["doctor", "--json"].iter().chain(arguments))
}

/// A logbook and a store of `waft run`, with a run that has ended.
fn used_waft() -> Waft {
    let waft = Waft::with_own_cache();
    waft.run_flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nprovides = []\n", &[]).expect(0);
    waft
}

#[test]
fn a_used_waft_without_a_broker_has_no_problems() {
    let waft = used_waft();
    let output = waft.run(["doctor"]);
    assert!(
        output.expect(0).stdout.lines().all(|line| line.starts_with("ok ") || line.starts_with("skip ")),
        "{}",
        output.stdout
    );
    let findings = Findings::of(&doctor(&waft, &[]), 0);
    findings.assert_contains("logbook", "ok", "has schema", "");
    findings.assert_contains("runs", "ok", "0 open runs", "");
    findings.assert_contains("store", "ok", "can be written", "");
    findings.assert_contains("module-cache", "ok", "can be written", "");
    findings.assert_contains("broker", "skipped", "not checked: none is named", "");
}

#[test]
fn nothing_is_created_on_a_new_machine() {
    let waft = Waft::with_own_cache();
    let findings = Findings::of(&doctor(&waft, &[]), PROBLEM_FOUND);
    findings.assert_contains("logbook", "warn", "there is none at", "--logbook");
    findings.assert_contains("store", "warn", "there is none at", "--store");
    assert_eq!(waft.folder().read_dir().expect("it is there").count(), 0, "the folder is still empty");
}

#[test]
fn an_unreachable_broker_is_reported_and_dependent_checks_are_skipped() {
    let waft = used_waft();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let started = Instant::now();
    let output = doctor(&waft, &["--broker", &format!("amqp://guest:secret@127.0.0.1:{port}")]);
    assert!(started.elapsed() < MAX_DURATION, "{:?}", started.elapsed());
    let findings = Findings::of(&output, PROBLEM_FOUND);
    findings.assert_contains("broker", "fail", "no broker answers at 127.0.0.1", "start RabbitMQ there");
    for check in ["broker-permissions", "broker-clock", "queues", "quarantine", "workers", "store-shared"] {
        assert_eq!(findings.outcomes(check), ["skipped"], "{check}");
    }
    findings.assert_contains("logbook", "ok", "", "");
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
}

#[test]
fn unresponsive_services_time_out() {
    let waft = used_waft();
    // It accepts connections but sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let started = Instant::now();
    let (broker, logbook) = (format!("amqp://guest:secret@{address}"), format!("postgres://u:secret@{address}/d"));
    let output = doctor(&waft, &["--broker", &broker, "--logbook", &logbook]);
    assert!(started.elapsed() < MAX_DURATION, "{:?}", started.elapsed());
    let findings = Findings::of(&output, PROBLEM_FOUND);
    findings.assert_contains("broker", "fail", "did not let us in within", "firewall");
    findings.assert_contains("logbook", "fail", "has not answered for", "database");
    assert_eq!(findings.outcomes("runs"), ["skipped"]);
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
    let server = Findings::of(&doctor(&waft, &["--server", &format!("http://{address}")]), PROBLEM_FOUND);
    server.assert_contains("server", "fail", "has not answered within", "without a server: waft doctor --broker");
    assert!(started.elapsed() < 2 * MAX_DURATION, "{:?}", started.elapsed());
}

/// An SQLite database without tables, marked as a waft with a given schema version would mark it
/// (<https://www.sqlite.org/fileformat.html#the_database_header>).
fn logbook_of_schema(version: u32) -> Vec<u8> {
    let mut page = vec![0; 4_096];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"SQLite format 3\0\x10\x00\x01\x01\x00\x40\x20\x20");
    // One change, one page, schema format 4, UTF-8.
    for (at, number) in [(24, 1), (28, 1), (44, 4), (56, 1), (60, version), (92, 1)] {
        put(at, &u32::to_be_bytes(number));
    }
    put(68, b"waft");
    // The root of its schema: a leaf without cells.
    put(100, b"\x0d\0\0\0\0\x10\0\0");
    page
}

#[test]
fn a_logbook_with_another_schema_is_reported_and_not_migrated() {
    let waft = Waft::with_own_cache();
    for (version, outcome, advice) in [(99, "fail", "upgrade this waft"), (1, "warn", "back it up")] {
        let bytes = logbook_of_schema(version);
        let path = waft.write("logbook.db", &bytes);
        let findings = Findings::of(&doctor(&waft, &[]), PROBLEM_FOUND);
        findings.assert_contains("logbook", outcome, &format!("has schema {version}"), advice);
        assert_eq!(findings.outcomes("runs"), ["skipped"]);
        assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
        assert_eq!(waft.folder().read_dir().expect("it is there").count(), 1, "SQLite created no other file");
    }
}

#[test]
fn an_invalid_logbook_or_store_is_reported() {
    let waft = Waft::default();
    let file = waft.write("file", "this is no database and no folder; it is a text of some length");
    let file = file.to_str().expect("a path in UTF-8");
    let findings =
        Findings::of(&doctor(&waft, &["--logbook", &format!("sqlite:{file}"), "--store", file]), PROBLEM_FOUND);
    findings.assert_contains("logbook", "fail", "is not a logbook, or it is damaged", "backup");
    findings.assert_contains("store", "fail", "cannot be read", "--store");
    // Root can write anywhere, so use a path below a file: no folder can exist there.
    let below = format!("{file}/below");
    let findings =
        Findings::of(&doctor(&waft, &["--logbook", &format!("sqlite:{below}"), "--store", &below]), PROBLEM_FOUND);
    findings.assert_contains("logbook", "fail", "", "");
    findings.assert_contains("store", "fail", "nothing can be made in", "--store");
}

#[test]
fn a_run_of_a_killed_process_is_reported_with_advice() {
    let waft = used_waft();
    let flow = waft
        .flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 60000 }\nprovides = []\n");
    let mut command = waft.command(["run", "--run-id", "left"]);
    let mut run = Process::spawn(command.arg(flow).stdout(Stdio::null()));
    run.wait_for("left");
    let until = Instant::now() + TIMEOUT;
    let open = || {
        Findings::of(&doctor(&waft, &[]), 0).all("runs").any(|line| line["detail"] == "1 open run, none of them stuck")
    };
    while !open() {
        assert!(Instant::now() < until, "the run does not start");
    }
    run.kill();
    let findings = Findings::of(&doctor(&waft, &[]), PROBLEM_FOUND);
    findings.assert_contains("runs", "warn", "the `waft run` of 1 open run is gone: left", "waft run --resume left");
    // `waft doctor` only read it.
    waft.run(["cancel", "left"]).expect(1);
    Findings::of(&doctor(&waft, &[]), 0).assert_contains("runs", "ok", "0 open runs", "");
}

/// A server with its own broker, and a worker that takes jobs from `default`.
struct Deployment {
    waft: Waft,
    rabbit: Rabbit,
    broker: TestBroker,
    server: Process,
    address: String,
    _worker: Process,
    _folder: tempfile::TempDir,
}

impl Deployment {
    fn new() -> Self {
        let (waft, folder) = (Waft::with_own_cache(), tempfile::tempdir().expect("a temporary folder"));
        let rabbit = start_rabbit(folder.path());
        let broker = TestBroker::from(&rabbit);
        let (server, address) = serve(&waft, &broker);
        let worker = Process::worker(&waft, &broker, &["--name", "w"]);
        Self { waft, rabbit, broker, server, address, _worker: worker, _folder: folder }
    }

    fn direct(&self, code: i32) -> Findings {
        Findings::of(&doctor(&self.waft, &["--broker", &self.broker.url(Role::Operator)]), code)
    }

    fn via_server(&self, code: i32) -> Findings {
        Findings::of(&doctor(&self.waft, &["--server", &self.address]), code)
    }

    fn submit(&self, run: &str, queue: &str) {
        self.waft.flow(&format!(
            "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nqueue = \"{queue}\"\nprovides = []\n"
        ));
        self.waft.run(["submit", "flow.toml", "--run-id", run, "--server", &self.address]).expect(0);
    }
}

fn serve(waft: &Waft, broker: &TestBroker) -> (Process, String) {
    let url = broker.url(Role::Engine);
    let mut server = Process::spawn(&mut waft.command(["serve", "--listen", "127.0.0.1:0", "--broker", &url]));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim().to_owned();
    (server, address)
}

/// Runs an operation at a broker.
fn at_broker<T>(url: &str, operation: impl AsyncFnOnce(&dyn Broker) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let broker = Amqp::connect(Options::new(url)).await.expect("the broker is there");
        let result = operation(&broker).await;
        broker.close().await;
        result
    })
}

#[test]
fn a_missing_worker_and_a_quarantined_message_are_reported() {
    let deployment = Deployment::new();
    deployment.submit("r1", "default");
    deployment.waft.run(["watch", "r1", "--server", &deployment.address]).expect(0);
    for findings in [deployment.direct(0), deployment.via_server(0)] {
        findings.assert_contains("broker", "ok", "RabbitMQ ", "");
        findings.assert_contains("broker-permissions", "ok", "", "");
        findings.assert_contains("broker-clock", "ok", "the clock of the broker", "");
        findings.assert_contains("queues", "ok", "a leader and a consumer", "");
        findings.assert_contains("quarantine", "ok", "empty", "");
        findings.assert_contains("workers", "ok", "1 worker answered", "");
        findings.assert_contains("store-shared", "ok", "the one engine", "");
        findings.assert_contains("runs", "ok", "0 open runs", "");
    }
    let findings = deployment.via_server(0);
    findings.assert_contains("server", "ok", "answers", "");
    findings.assert_contains("server-clock", "ok", "", "");
    findings.assert_contains("engine", "ok", "it answers", "");
    assert!(deployment.direct(0).outcomes("server").is_empty(), "no server was asked");
    let queues = deployment.rabbit.control(&["list_queues", "--silent", "name"]).expect("rabbitmqctl works");
    assert!(queues.contains("waft.engine.0") && !queues.contains("doctor"), "no doctor queues remain: {queues}");

    deployment.submit("r2", "nobody");
    for findings in [deployment.direct(PROBLEM_FOUND), deployment.via_server(PROBLEM_FOUND)] {
        let detail = "no worker takes jobs from waft.jobs.nobody, where 1 job waits";
        findings.assert_contains("queues", "fail", detail, "waft worker --broker URL --queues nobody");
        findings.assert_contains("runs", "ok", "1 open run, none of them stuck", "");
    }

    let job = Message {
        exchange: "waft.jobs".into(),
        key: "default".into(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties { message_id: Some("no-job".into()), ..Properties::default() },
        body: "this is no job".into(),
    };
    at_broker(deployment.broker.administrator_url(), async |broker| {
        broker.publish(job).await.expect("it is published")
    });
    let until = Instant::now() + TIMEOUT;
    while deployment.direct(PROBLEM_FOUND).outcomes("quarantine") != ["warn"] {
        assert!(Instant::now() < until, "the message is not quarantined");
    }
    for findings in [deployment.direct(PROBLEM_FOUND), deployment.via_server(PROBLEM_FOUND)] {
        findings.assert_contains("quarantine", "warn", "1 message in quarantine: 0 poison", "waft quarantine list");
    }
    let operator = deployment.broker.url(Role::Operator);
    let quarantined = deployment.waft.run(["quarantine", "list", "--broker", &operator, "--json"]).expect(0).json();
    assert_eq!((quarantined.len(), &quarantined[0]["id"]), (1, &Value::from("no-job")), "it was only inspected");
}

#[test]
fn stuck_and_undriven_runs_are_reported() {
    let deployment = Deployment::new();
    deployment.submit("lost", "nobody");
    // The engine declares the queue again with the next job for it; its previous jobs are lost.
    at_broker(deployment.broker.administrator_url(), async |broker| {
        broker.delete_queue("waft.jobs.nobody").await.expect("it is deleted")
    });
    let until = Instant::now() + TIMEOUT;
    while deployment.via_server(if Instant::now() < until { 0 } else { PROBLEM_FOUND }).outcomes("runs") == ["ok"] {
        std::thread::sleep(Duration::from_secs(1));
        if doctor(&deployment.waft, &["--server", &deployment.address]).code == Some(PROBLEM_FOUND) {
            break;
        }
    }
    for findings in [deployment.direct(PROBLEM_FOUND), deployment.via_server(PROBLEM_FOUND)] {
        findings.assert_contains(
            "runs",
            "fail",
            "run lost is stuck: in no queue, with no worker and under no lease: apply of t",
            "waft cancel",
        );
    }
    deployment.server.kill();
    let until = Instant::now() + TIMEOUT;
    let operator = deployment.broker.url(Role::Operator);
    let direct = || Findings::of(&doctor(&deployment.waft, &["--broker", &operator]), PROBLEM_FOUND);
    while !direct().all("queues").any(|line| line["outcome"] == "fail") {
        assert!(Instant::now() < until, "the queues of the killed engine keep their consumer");
    }
    let findings = direct();
    findings.assert_contains("queues", "fail", "no engine consumes waft.engine.0", "waft serve");
    findings.assert_contains("runs", "fail", "no engine drives 1 open run: lost", "waft serve");
    // A starting engine resends unanswered calls.
    let (_server, _) = serve(&deployment.waft, &deployment.broker);
    let until = Instant::now() + TIMEOUT;
    while !direct().all("queues").any(|line| line["detail"].as_str().is_some_and(|text| text.contains("1 job waits"))) {
        assert!(Instant::now() < until, "the job is not sent again");
    }
}

#[test]
fn missing_permissions_and_different_stores_are_reported() {
    let deployment = Deployment::new();
    for arguments in [&["add_user", "eve", "pw"][..], &["set_permissions", "eve", "^other", "^other", ".*"]] {
        deployment.rabbit.control(arguments).expect("rabbitmqctl works");
    }
    let eve = with_user(deployment.rabbit.url(), "eve", "pw");
    let findings = Findings::of(&doctor(&deployment.waft, &["--broker", &eve]), PROBLEM_FOUND);
    findings.assert_contains("broker", "ok", "RabbitMQ", "");
    findings.assert_contains(
        "broker-permissions",
        "fail",
        "ACCESS_REFUSED",
        "set_permissions --vhost VHOST eve '^(waft",
    );
    assert_eq!(findings.outcomes("broker-clock"), ["skipped"]);

    let other = Waft::with_own_cache();
    let (_other, address) = serve(&other, &deployment.broker);
    let module = guest("hostile");
    deployment.waft.run(["push".as_ref(), module.as_os_str()]).expect(0);
    let findings = deployment.via_server(PROBLEM_FOUND);
    findings.assert_contains("store-shared", "fail", "another logbook than this one", "the same logbook");
    // The other store has no content to request.
    let findings = Findings::of(&doctor(&other, &["--server", &address]), 0);
    assert_eq!(findings.outcomes("store-shared"), ["skipped"]);
}

/// Executes a statement in a database.
#[track_caller]
fn execute(address: &str, statement: &str) {
    let executed = psql(address).expect("PostgreSQL is installed").args(["--command", statement]).output();
    let executed: CommandOutput = executed.expect("psql starts").into();
    executed.expect(0);
}

#[test]
fn the_clock_of_a_database_is_compared_with_this_machines() {
    let server = std::env::var(POSTGRES).unwrap_or_else(|_| panic!("set {POSTGRES}, or run `cargo xtask test`"));
    let name = unique("doctor").to_lowercase().replace('-', "_");
    execute(&server, &format!("CREATE DATABASE {name}"));
    let (host, _) = server.rsplit_once('/').expect("the address names a database");
    let url = format!("{host}/{name}");
    let waft = Waft::with_own_cache();
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nprovides = []\n";
    waft.run_flow(flow, &["--logbook", &url]).expect(0);
    let findings = Findings::of(&doctor(&waft, &["--logbook", &url]), 0);
    findings.assert_contains("logbook", "ok", "has schema", "");
    findings.assert_contains("logbook-clock", "ok", "the clock of the database agrees with this machine's", "");
    // Functions in a schema before that of the system replace its functions.
    let ahead = "SELECT pg_catalog.clock_timestamp() + interval '1 hour'";
    for statement in [
        "CREATE SCHEMA skewed".to_owned(),
        format!("CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $${ahead}$$"),
        format!("ALTER DATABASE {name} SET search_path = skewed, public, pg_catalog"),
    ] {
        execute(&url, &statement);
    }
    let findings = Findings::of(&doctor(&waft, &["--logbook", &url]), PROBLEM_FOUND);
    findings.assert_contains("logbook", "ok", "has schema", "");
    findings.assert_contains("logbook-clock", "warn", " s ahead of this machine's", "follow a time server");
    let page = std::fs::read_to_string(root().join("docs/operations.md")).expect("the page is there");
    assert!(page.contains("`logbook-clock`"), "it is in docs/operations.md");
    execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[test]
fn the_operations_page_names_every_check() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).expect("the page is there");
    let waft = used_waft();
    for line in Findings::of(&doctor(&waft, &[]), 0).0 {
        let check = line["check"].as_str().expect("a name");
        assert!(page.contains(&format!("`{check}`")), "{check} is not in docs/operations.md");
    }
}
