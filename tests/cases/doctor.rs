//! Tests `waft doctor` as a person uses it: its findings, its advice, its exit code, and that it always ends.

use std::{
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use broker::{Amqp, Broker, Message, Options, Properties, Routing};
use serde_json::Value;
use waft_tests::{CommandOutput, Process, Waft, guest, root};
use xtask::rabbitmq::Rabbit;

/// Only a broken test waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The maximum duration of `waft doctor`, even if nothing answers.
const LONGEST: Duration = Duration::from_secs(35);

/// The exit code for a problem that needs action.
const UNWELL: i32 = 5;

/// The findings of one `waft doctor`.
struct Found(Vec<Value>);

impl Found {
    #[track_caller]
    fn of(ran: &CommandOutput, code: i32) -> Self {
        Self(ran.expect(code).json())
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
    fn says(&self, check: &str, outcome: &str, detail: &str, advice: &str) {
        let fits = |line: &Value| {
            line["outcome"] == outcome
                && line["detail"].as_str().is_some_and(|text| text.contains(detail))
                && line["advice"].as_str().unwrap_or_default().contains(advice)
        };
        assert!(self.all(check).any(fits), "no {check} is {outcome} with {detail:?} and {advice:?}: {:#?}", self.0);
    }
}

fn doctor(waft: &Waft, arguments: &[&str]) -> CommandOutput {
    waft.run(["doctor", "--json"].iter().chain(arguments))
}

/// A logbook and a store of `waft run`, with a run that has ended.
fn used() -> Waft {
    let waft = Waft::with_own_cache();
    waft.run_flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nprovides = []\n", &[]).expect(0);
    waft
}

#[test]
fn without_a_broker_all_is_well_once_waft_was_used() {
    let waft = used();
    let ran = waft.run(["doctor"]);
    assert!(
        ran.expect(0).stdout.lines().all(|line| line.starts_with("ok ") || line.starts_with("skip ")),
        "{}",
        ran.stdout
    );
    let found = Found::of(&doctor(&waft, &[]), 0);
    found.says("logbook", "ok", "has schema", "");
    found.says("runs", "ok", "0 open runs", "");
    found.says("store", "ok", "can be written", "");
    found.says("module-cache", "ok", "can be written", "");
    found.says("broker", "skipped", "not checked: none is named", "");
}

#[test]
fn on_a_new_machine_nothing_is_made() {
    let waft = Waft::with_own_cache();
    let found = Found::of(&doctor(&waft, &[]), UNWELL);
    found.says("logbook", "warn", "there is none at", "--logbook");
    found.says("store", "warn", "there is none at", "--store");
    assert_eq!(waft.folder().read_dir().expect("it is there").count(), 0, "it is as empty as before");
}

#[test]
fn a_broker_that_is_not_there_is_told_at_once_and_nothing_behind_it_is_called_well() {
    let waft = used();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let started = Instant::now();
    let ran = doctor(&waft, &["--broker", &format!("amqp://guest:secret@127.0.0.1:{port}")]);
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
    let found = Found::of(&ran, UNWELL);
    found.says("broker", "fail", "no broker answers at 127.0.0.1", "start RabbitMQ there");
    for check in ["broker-permissions", "broker-clock", "queues", "quarantine", "workers", "store-shared"] {
        assert_eq!(found.outcomes(check), ["skipped"], "{check}");
    }
    found.says("logbook", "ok", "", "");
    assert!(!ran.stdout.contains("secret"), "{}", ran.stdout);
}

#[test]
fn what_never_answers_keeps_nobody_waiting_for_long() {
    let waft = used();
    // It accepts connections but sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let started = Instant::now();
    let (broker, logbook) = (format!("amqp://guest:secret@{address}"), format!("postgres://u:secret@{address}/d"));
    let ran = doctor(&waft, &["--broker", &broker, "--logbook", &logbook]);
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
    let found = Found::of(&ran, UNWELL);
    found.says("broker", "fail", "did not let us in within", "firewall");
    found.says("logbook", "fail", "has not answered for", "database");
    assert_eq!(found.outcomes("runs"), ["skipped"]);
    assert!(!ran.stdout.contains("secret"), "{}", ran.stdout);
    let server = Found::of(&doctor(&waft, &["--server", &format!("http://{address}")]), UNWELL);
    server.says("server", "fail", "has not answered within", "without a server: waft doctor --broker");
    assert!(started.elapsed() < 2 * LONGEST, "{:?}", started.elapsed());
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
fn a_logbook_of_another_schema_is_told_with_what_to_do_and_not_migrated() {
    let waft = Waft::with_own_cache();
    for (version, outcome, advice) in [(99, "fail", "upgrade this waft"), (1, "warn", "back it up")] {
        let bytes = logbook_of_schema(version);
        let path = waft.write("logbook.db", &bytes);
        let found = Found::of(&doctor(&waft, &[]), UNWELL);
        found.says("logbook", outcome, &format!("has schema {version}"), advice);
        assert_eq!(found.outcomes("runs"), ["skipped"]);
        assert_eq!(std::fs::read(&path).expect("it is there"), bytes);
        assert_eq!(waft.folder().read_dir().expect("it is there").count(), 1, "SQLite left nothing beside it");
    }
}

#[test]
fn a_logbook_and_a_store_that_are_no_such_thing_are_told() {
    let waft = Waft::default();
    let file = waft.write("file", "this is no database and no folder; it is a text of some length");
    let file = file.to_str().expect("a path in UTF-8");
    let found = Found::of(&doctor(&waft, &["--logbook", &format!("sqlite:{file}"), "--store", file]), UNWELL);
    found.says("logbook", "fail", "is not a logbook, or it is damaged", "backup");
    found.says("store", "fail", "cannot be read", "--store");
    // Root can write anywhere, so use a path below a file: no folder can exist there.
    let below = format!("{file}/below");
    let found = Found::of(&doctor(&waft, &["--logbook", &format!("sqlite:{below}"), "--store", &below]), UNWELL);
    found.says("logbook", "fail", "", "");
    found.says("store", "fail", "nothing can be made in", "--store");
}

#[test]
fn a_run_whose_waft_run_was_killed_is_told_with_how_to_go_on() {
    let waft = used();
    let flow = waft
        .flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 60000 }\nprovides = []\n");
    let mut command = waft.command(["run", "--run-id", "left"]);
    let mut run = Process::spawn(command.arg(flow).stdout(Stdio::null()));
    run.wait_for("left");
    let until = Instant::now() + PATIENCE;
    let open =
        || Found::of(&doctor(&waft, &[]), 0).all("runs").any(|line| line["detail"] == "1 open run, none of them stuck");
    while !open() {
        assert!(Instant::now() < until, "the run does not begin");
    }
    run.kill();
    let found = Found::of(&doctor(&waft, &[]), UNWELL);
    found.says("runs", "warn", "the `waft run` of 1 open run is gone: left", "waft run --resume left");
    // The doctor only read it.
    waft.run(["cancel", "left"]).expect(1);
    Found::of(&doctor(&waft, &[]), 0).says("runs", "ok", "0 open runs", "");
}

/// A server over its own broker, and a worker that takes jobs from `default`.
struct Served {
    waft: Waft,
    rabbit: Rabbit,
    server: Process,
    address: String,
    _worker: Process,
    _folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let (waft, folder) = (Waft::with_own_cache(), tempfile::tempdir().expect("a temporary folder"));
        let rabbit = Rabbit::start(folder.path()).expect("RabbitMQ starts");
        let (server, address) = serve(&waft, rabbit.url());
        let worker = Process::worker(&waft, rabbit.url(), &["--name", "w"]);
        Self { waft, rabbit, server, address, _worker: worker, _folder: folder }
    }

    fn direct(&self, code: i32) -> Found {
        Found::of(&doctor(&self.waft, &["--broker", self.rabbit.url()]), code)
    }

    fn of_server(&self, code: i32) -> Found {
        Found::of(&doctor(&self.waft, &["--server", &self.address]), code)
    }

    fn submit(&self, run: &str, queue: &str) {
        self.waft.flow(&format!(
            "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nqueue = \"{queue}\"\nprovides = []\n"
        ));
        self.waft.run(["submit", "flow.toml", "--run-id", run, "--server", &self.address]).expect(0);
    }
}

fn serve(waft: &Waft, broker: &str) -> (Process, String) {
    let mut server = Process::spawn(&mut waft.command(["serve", "--listen", "127.0.0.1:0", "--broker", broker]));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim().to_owned();
    (server, address)
}

/// Runs an operation at a broker.
fn at_broker<T>(url: &str, work: impl AsyncFnOnce(&dyn Broker) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let broker = Amqp::connect(Options::new(url)).await.expect("the broker is there");
        let done = work(&broker).await;
        broker.close().await;
        done
    })
}

#[test]
fn over_rabbitmq_all_is_well_until_a_queue_has_no_worker_and_a_message_is_kept() {
    let served = Served::new();
    served.submit("r1", "default");
    served.waft.run(["watch", "r1", "--server", &served.address]).expect(0);
    for found in [served.direct(0), served.of_server(0)] {
        found.says("broker", "ok", "RabbitMQ ", "");
        found.says("broker-permissions", "ok", "", "");
        found.says("broker-clock", "ok", "the clock of the broker", "");
        found.says("queues", "ok", "a leader and a consumer", "");
        found.says("quarantine", "ok", "empty", "");
        found.says("workers", "ok", "1 worker answered", "");
        found.says("store-shared", "ok", "the one engine", "");
        found.says("runs", "ok", "0 open runs", "");
    }
    let found = served.of_server(0);
    found.says("server", "ok", "answers", "");
    found.says("server-clock", "ok", "", "");
    found.says("engine", "ok", "it answers", "");
    assert!(served.direct(0).outcomes("server").is_empty(), "no server was asked");
    let queues = served.rabbit.control(&["list_queues", "--silent", "name"]).expect("rabbitmqctl works");
    assert!(queues.contains("waft.engine.0") && !queues.contains("doctor"), "nothing is left behind: {queues}");

    served.submit("r2", "nobody");
    for found in [served.direct(UNWELL), served.of_server(UNWELL)] {
        let told = "no worker takes jobs from waft.jobs.nobody, where 1 job waits";
        found.says("queues", "fail", told, "waft worker --broker URL --queues nobody");
        found.says("runs", "ok", "1 open run, none of them stuck", "");
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
    at_broker(served.rabbit.url(), async |broker| broker.publish(job).await.expect("it is published"));
    let until = Instant::now() + PATIENCE;
    while served.direct(UNWELL).outcomes("quarantine") != ["warn"] {
        assert!(Instant::now() < until, "the message is not kept");
    }
    for found in [served.direct(UNWELL), served.of_server(UNWELL)] {
        found.says("quarantine", "warn", "1 message in quarantine: 0 poison", "waft quarantine list");
    }
    let kept = served.waft.run(["quarantine", "list", "--broker", served.rabbit.url(), "--json"]).expect(0).json();
    assert_eq!((kept.len(), &kept[0]["id"]), (1, &Value::from("no-job")), "it was only looked at");
}

#[test]
fn a_run_whose_job_is_lost_is_stuck_and_one_that_nobody_drives_is_told() {
    let served = Served::new();
    served.submit("lost", "nobody");
    // The engine declares the queue again with the next job for it; its previous jobs are lost.
    at_broker(served.rabbit.url(), async |broker| {
        broker.delete_queue("waft.jobs.nobody").await.expect("it is deleted")
    });
    let until = Instant::now() + PATIENCE;
    while served.of_server(if Instant::now() < until { 0 } else { UNWELL }).outcomes("runs") == ["ok"] {
        std::thread::sleep(Duration::from_secs(1));
        if doctor(&served.waft, &["--server", &served.address]).code == Some(UNWELL) {
            break;
        }
    }
    for found in [served.direct(UNWELL), served.of_server(UNWELL)] {
        found.says(
            "runs",
            "fail",
            "run lost is stuck: in no queue, with no worker and under no lease: apply of t",
            "waft cancel",
        );
    }
    served.server.kill();
    let until = Instant::now() + PATIENCE;
    let direct = || Found::of(&doctor(&served.waft, &["--broker", served.rabbit.url()]), UNWELL);
    while !direct().all("queues").any(|line| line["outcome"] == "fail") {
        assert!(Instant::now() < until, "the queues of the killed engine keep their consumer");
    }
    let found = direct();
    found.says("queues", "fail", "no engine consumes waft.engine.0", "waft serve");
    found.says("runs", "fail", "no engine drives 1 open run: lost", "waft serve");
    // A starting engine resends unanswered calls.
    let (_server, _) = serve(&served.waft, served.rabbit.url());
    let until = Instant::now() + PATIENCE;
    while !direct().all("queues").any(|line| line["detail"].as_str().is_some_and(|text| text.contains("1 job waits"))) {
        assert!(Instant::now() < until, "the job is not sent again");
    }
}

#[test]
fn a_user_without_rights_is_told_which_and_stores_that_differ_are_found() {
    let served = Served::new();
    for order in [&["add_user", "eve", "pw"][..], &["set_permissions", "eve", "^other", "^other", ".*"]] {
        served.rabbit.control(order).expect("rabbitmqctl works");
    }
    let eve = served.rabbit.url().replace("guest:guest", "eve:pw");
    let found = Found::of(&doctor(&served.waft, &["--broker", &eve]), UNWELL);
    found.says("broker", "ok", "RabbitMQ", "");
    found.says("broker-permissions", "fail", "ACCESS_REFUSED", "set_permissions -p VHOST eve '^waft");
    assert_eq!(found.outcomes("broker-clock"), ["skipped"]);

    let other = Waft::with_own_cache();
    let (_other, address) = serve(&other, served.rabbit.url());
    let module = guest("hostile");
    served.waft.run(["push".as_ref(), module.as_os_str()]).expect(0);
    let found = served.of_server(UNWELL);
    found.says("store-shared", "fail", "which", "the same folder");
    // The other store has no content to request.
    let found = Found::of(&doctor(&other, &["--server", &address]), 0);
    assert_eq!(found.outcomes("store-shared"), ["skipped"]);
}

#[test]
fn the_page_for_operators_names_every_check() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).expect("the page is there");
    let waft = used();
    for line in Found::of(&doctor(&waft, &[]), 0).0 {
        let check = line["check"].as_str().expect("a name");
        assert!(page.contains(&format!("`{check}`")), "{check} is not in docs/operations.md");
    }
}
