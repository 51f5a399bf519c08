//! Tests calls that wait for something outside, on workers with one slot: they lend the slot to other calls.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, HttpServer, Process, Role, TestBroker, Waft, unique};

/// Only a failing test waits this long.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of calls that wait.
const CALLS: usize = 6;

/// A flow of independent calls that wait for an HTTP response.
fn fetching(server: &HttpServer, path: &str, keys: &str) -> String {
    let (any, url) = (any(server), server.url(path));
    let task = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"outside#fetch\"\nwith = {{ url = \"{url}\" }}\nprovides = []\n\
             allow = {{ {any} }}\n{keys}\n"
        )
    };
    let tasks: String = (0..CALLS).map(task).collect();
    format!("name = \"fetching\"\npattern = \"unordered\"\n{tasks}")
}

fn any(server: &HttpServer) -> String {
    format!("http = [\"* http://127.0.0.1:{}/**\"]", server.port())
}

/// A folder whose calls may send requests to the server.
fn granted(server: &HttpServer) -> Waft {
    let waft = Waft::default();
    waft.set_settings(&format!("[[grant]]\n{}\n", any(server)));
    waft
}

/// `waft serve` with a worker that has one slot.
struct Served {
    waft: Waft,
    address: String,
    process: Process,
}

impl Served {
    fn start(server: &HttpServer, flags: &[&str]) -> Self {
        let waft = granted(server);
        let logbook = format!("sqlite:{}", waft.folder().join("logbook.db").display());
        let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "--slots", "1"]);
        let mut process = Process::spawn(command.args(flags).env("WAFT_LOGBOOK", logbook));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        Self { waft, address, process }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.waft.command(arguments);
        command.env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }

    fn submit(&self, flow: &str, flags: &[&str]) -> CommandOutput {
        self.waft.flow(flow);
        self.run(&[&["submit", "flow.toml"], flags].concat())
    }

    fn state(&self, run: &str) -> Value {
        self.run(&["show", run, "--json"]).expect(0).end()["state"].clone()
    }
}

/// Waits until the server has received so many requests to a path.
#[track_caller]
fn wait_for_requests(server: &HttpServer, path: &str, count: usize) {
    let (until, line) = (Instant::now() + TEST_TIMEOUT, format!("GET {path} HTTP/1.1"));
    loop {
        let received = server.received().iter().filter(|request| request.line == line).count();
        if received == count {
            return;
        }
        assert!(Instant::now() < until, "{received} requests to {path} instead of {count}");
        // The server and waft need the cores.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A call that computes.
const ECHO: &str = "name = \"short\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nwith = { value = 1 }\n";

#[test]
fn a_short_call_ends_while_others_wait_on_the_only_slot() {
    let server = HttpServer::start();
    let served = Served::start(&server, &[]);
    served.submit(&fetching(&server, "/held", ""), &["--run-id", "waits"]).expect(0);
    wait_for_requests(&server, "/held", CALLS);
    served.submit(ECHO, &["--run-id", "short", "--wait"]).expect(0);
    assert_eq!(served.state("waits"), "running", "the server has answered nobody");
    server.release();
    served.run(&["watch", "waits"]).expect(0);
    assert_eq!(server.most_open(), CALLS, "all waited at the same time");
    assert_eq!(server.received().len(), CALLS, "each call was made once");
}

#[test]
fn sleeping_calls_do_not_hold_the_only_slot() {
    let server = HttpServer::start();
    let served = Served::start(&server, &[]);
    let sleep = "name = \"sleeps\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 600000 }\ntimeout = \"20m\"\n";
    served.submit(sleep, &["--run-id", "sleeps"]).expect(0);
    served.submit(ECHO, &["--run-id", "short", "--wait"]).expect(0);
    assert_eq!(served.state("sleeps"), "running");
    served.run(&["cancel", "sleeps"]).expect(0);
    served.run(&["watch", "sleeps"]).expect(1);
}

#[test]
fn without_waiting_calls_requests_go_one_by_one() {
    let server = HttpServer::start();
    let served = Served::start(&server, &["--waiting", "0"]);
    served.submit(&fetching(&server, "/slow/50", ""), &["--wait"]).expect(0);
    assert_eq!((server.most_open(), server.received().len()), (1, CALLS));
}

#[test]
fn calls_wait_up_to_the_bound() {
    let server = HttpServer::start();
    let served = Served::start(&server, &["--waiting", "2"]);
    served.submit(&fetching(&server, "/held", ""), &["--run-id", "waits"]).expect(0);
    wait_for_requests(&server, "/held", 3);
    // A further one would have come by now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.received().len(), 3, "two calls without a slot, and one with the slot");
    server.release();
    served.run(&["watch", "waits"]).expect(0);
    assert_eq!(server.received().len(), CALLS);
}

#[test]
fn a_waiting_call_times_out_and_is_cancelled() {
    let server = HttpServer::start();
    let served = Served::start(&server, &[]);
    served.submit(&fetching(&server, "/held", "timeout = \"200ms\""), &["--run-id", "late"]).expect(0);
    let late = served.run(&["watch", "late", "--json"]).expect(1).end();
    let failures = late["failures"].as_object().expect("it has failed");
    assert!(failures.values().any(|failure| failure["kind"] == "timeout"), "{late}");
    served.submit(&fetching(&server, "/held?again", ""), &["--run-id", "waits"]).expect(0);
    wait_for_requests(&server, "/held?again", CALLS);
    served.run(&["cancel", "waits"]).expect(0);
    served.run(&["watch", "waits"]).expect(1);
    served.submit(ECHO, &["--wait"]).expect(0);
    assert_eq!(served.process.output().matches("panicked").count(), 0, "{}", served.process.output());
}

#[test]
fn a_worker_lists_waiting_calls_and_lets_them_end_when_it_stops() {
    let (server, broker, queue) = (HttpServer::start(), TestBroker::shared(), unique("q"));
    let waft = granted(&server);
    let mut worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue, "--slots", "1"]);
    let flow = waft.flow(&fetching(&server, "/held", &format!("queue = \"{queue}\"")));
    let mut command = waft.command(["run", "--broker", &broker.url(Role::Engine), "--json"]);
    let run = command.arg(flow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("waft starts");
    wait_for_requests(&server, "/held", CALLS);
    let workers = waft.run(["workers", "--broker", &broker.url(Role::Operator), "--json"]).expect(0).json();
    let listed = workers.into_iter().find(|worker| worker["name"] == queue.as_str()).expect("it is listed");
    assert_eq!((&listed["slots"], &listed["busy"]), (&json!(1), &json!(CALLS)));
    worker.signal("TERM");
    worker.wait_for("takes no new jobs");
    server.release();
    assert!(worker.wait().success());
    let ended: CommandOutput = run.wait_with_output().expect("it ends").into();
    assert_eq!(ended.expect(0).end()["state"], "success");
    assert_eq!(server.received().len(), CALLS, "each call was made once");
}
