//! Tests what commands print about a call that has not ended: that no worker takes it, who makes it, and that its worker is silent
//! or lost.

use serde_json::{Value, json};
use tempfile::TempDir;
use waft_tests::{CommandOutput, Process, TestBroker, Waft, guest, start_rabbit, unique, wait_until};
use xtask::rabbitmq::Rabbit;

use super::TestServer;

/// A server and a RabbitMQ of its own. At the shared one, the engines of other tests take over shards while a test lasts, and they
/// have other logbooks.
pub(super) struct OwnBroker {
    pub(super) server: TestServer,
    pub(super) broker: TestBroker,
    _rabbit: Rabbit,
    _folder: TempDir,
}

impl OwnBroker {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rabbit = start_rabbit(folder.path());
        let broker = TestBroker::from(&rabbit);
        Self { server: TestServer::with_broker(&broker), broker, _rabbit: rabbit, _folder: folder }
    }
}

/// A flow of one task, which sleeps until its run is cancelled.
fn sleep_flow(waft: &Waft, queue: &str) {
    waft.flow(&format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nqueue = \"{queue}\"\nwith = {{ ms = 600000 }}\n\
         provides = []\ntimeout = \"20m\"\n"
    ));
}

/// The line of the task in `waft show`.
fn line(server: &TestServer, run: &str) -> String {
    let shown = server.run(&["show", run]);
    let line = shown.expect(0).stdout.lines().find(|line| line.contains(" t "));
    line.unwrap_or_else(|| panic!("there is no task in {}", shown.stdout)).to_owned()
}

/// The task in the API.
fn task(server: &TestServer, run: &str) -> Value {
    server.run(&["show", run, "--json"]).expect(0).end()["tasks"][0].clone()
}

/// When the outstanding call was sent, as commands print it.
fn since(server: &TestServer, run: &str) -> String {
    let out = task(server, run)["out"].clone();
    let since = out["since"].as_str().unwrap_or_else(|| panic!("no call is outstanding: {out}"));
    // Commands leave out the parts of a second.
    since.split_once('.').map_or_else(|| since.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

#[test]
fn a_call_without_a_worker_is_reported_by_submit_show_watch_and_the_log() {
    let (mut own, queue, run) = (OwnBroker::start(), unique("q"), unique("r"));
    sleep_flow(&own.server.waft, &queue);
    let submitted = own.server.run(&["submit", "flow.toml", "--run-id", &run]);
    assert_eq!(submitted.expect(0).stdout, format!("{run}\n"));
    let advice = format!(
        "no worker takes jobs from the queue {queue}: start one with `waft worker --broker URL --queues {queue}`\n"
    );
    assert_eq!(submitted.stderr, advice);
    let out = task(&own.server, &run)["out"].clone();
    assert_eq!((&out["queue"], &out["unserved"]), (&json!(queue), &json!(true)));
    let waiting = format!("waiting for a worker on queue {queue} since {}", since(&own.server, &run));
    assert!(line(&own.server, &run).ends_with(&format!("  {waiting}")), "{}", line(&own.server, &run));
    let mut watch = Process::spawn(&mut own.server.command(&["watch", &run]));
    watch.wait_for(&format!("t: {waiting}"));
    let second = unique("r");
    let submit = ["submit", "flow.toml", "--run-id", &second, "--wait"];
    let mut submit = Process::spawn(&mut own.server.command(&submit));
    submit.wait_for(&format!("t: waiting for a worker on queue {queue} since "));
    let logged = own.server.process.wait_for("calls wait for a worker, and none takes jobs from their queue");
    assert!(logged.contains(&queue), "{logged}");

    let _worker = Process::worker(&own.server.waft, &own.broker, &["--queues", &queue, "--name", &queue]);
    wait_until(|| !line(&own.server, &run).contains("waiting for a worker"));
    let third = unique("r");
    let submitted = own.server.run(&["submit", "flow.toml", "--run-id", &third]);
    assert_eq!((submitted.expect(0).stderr.as_str(), &submitted.stdout), ("", &format!("{third}\n")));
    for run in [run, second, third] {
        own.server.run(&["cancel", &run]).expect(0);
    }
    for watching in [&mut watch, &mut submit] {
        assert_eq!(watching.wait().code(), Some(1), "{}", watching.output());
    }
}

#[test]
fn the_worker_of_a_call_its_silence_and_its_loss_are_reported() {
    let (own, queue, run) = (OwnBroker::start(), unique("q"), unique("r"));
    sleep_flow(&own.server.waft, &queue);
    let [first, second] = ["first", "second"].map(unique);
    let worker = |name: &str| Process::worker(&own.server.waft, &own.broker, &["--queues", &queue, "--name", name]);
    let killed = worker(&first);
    own.server.submit(&run);
    let mut watch = Process::spawn(&mut own.server.command(&["watch", &run]));
    watch.wait_for("t running");
    // A worker reports a call once it has run for ten seconds.
    wait_until(|| task(&own.server, &run)["out"]["worker"] == first.as_str());
    let called = format!("called by {first} since {}", since(&own.server, &run));
    assert!(line(&own.server, &run).ends_with(&format!("  {called}")), "{}", line(&own.server, &run));
    assert_eq!(task(&own.server, &run)["out"]["silent_for"], Value::Null);

    killed.kill();
    let silent = format!("  {called}, whose heartbeats stopped ");
    wait_until(|| line(&own.server, &run).contains(&silent));
    assert!(task(&own.server, &run)["lost"].is_null(), "it is silent, and not lost yet");
    watch.wait_for(&format!("t: the heartbeats of {first} have stopped"));
    wait_until(|| line(&own.server, &run).ends_with(&format!("  lost once, with {first}")));
    let task = task(&own.server, &run);
    assert_eq!((&task["lost"][0]["worker"], &task["lost"][0]["attempt"]), (&json!(first), &json!(1)));
    watch.wait_for(&format!("t: waiting for a worker on queue {queue} since "));

    // A worker that gets a second signal to stop returns the call.
    let mut stopped = worker(&second);
    wait_until(|| line(&own.server, &run).contains(&format!("called by {second} since ")));
    stopped.signal("TERM");
    stopped.wait_for("takes no new jobs");
    stopped.signal("TERM");
    wait_until(|| line(&own.server, &run).ends_with(&format!("  lost 2 times, with {first}, {second}")));
    assert!(stopped.wait().success(), "{}", stopped.output());
    own.server.run(&["cancel", &run]).expect(0);
    assert_eq!(watch.wait().code(), Some(1), "{}", watch.output());
}

#[test]
fn who_may_only_submit_asks_for_no_workers() {
    let (own, queue) = (OwnBroker::start(), unique("q"));
    let module = guest("hostile");
    own.server.run(&["push", module.to_str().expect("a path in UTF-8"), "--tag", "steady"]).expect(0);
    let flow = format!(
        "name = \"f\"\n[modules]\nm = \"steady\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\nqueue = \"{queue}\"\n"
    );
    own.server.waft.write("flow.toml", flow);
    let made = own.server.run(&["token", "create", "sender", "--scope", "submit"]);
    let token = made.expect(0).stdout.trim().to_owned();
    let mut submit = own.server.command(&["submit", "flow.toml", "--run-id", &unique("r")]);
    let submitted: CommandOutput = submit.env("WAFT_TOKEN", token).output().expect("waft starts").into();
    assert_eq!(submitted.expect(0).stderr, "");
    // The audit log is written beside the answer.
    let audited = loop {
        let audited = own.server.run(&["audit", "--json"]).expect(0).json();
        if audited.iter().any(|entry| entry["action"] == "submit") {
            break audited;
        }
    };
    assert!(
        audited.iter().all(|entry| entry["status"] != 403),
        "it asked for nothing that it may not read: {audited:?}"
    );
    // A program finds it in the run.
    let submitted = own.server.run(&["submit", "flow.toml", "--json"]);
    assert_eq!(submitted.expect(0).stderr, "");
    let run = submitted.end()["run"].as_str().expect("an id").to_owned();
    assert_eq!(task(&own.server, &run)["out"]["unserved"], true);
}
