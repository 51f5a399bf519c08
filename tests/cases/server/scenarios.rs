//! Tests the main scenarios of waft with real guests and its own workers on RabbitMQ: flows that listen permanently,
//! and flows that are repaired while they run.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::json;
use waft_tests::{Cloud, Process, Role, TestBroker, start_rabbit};
use xtask::rabbitmq::Rabbit;

use super::{TestServer, triggers::wait_for_firings};

/// A server and two workers that use their own RabbitMQ and their own cloud.
struct ScenarioSetup {
    flows: PathBuf,
    _cloud: Cloud,
    server: TestServer,
    workers: Vec<Process>,
    rabbit: Rabbit,
    _folder: tempfile::TempDir,
}

impl ScenarioSetup {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rabbit = start_rabbit(folder.path());
        let broker = TestBroker::from(&rabbit);
        let server = TestServer::with_broker(&broker);
        let cloud = Cloud::start(&[]);
        let flows = cloud.example(&server.waft, "provision").join("stories");
        let worker = |name: &str| Process::worker(&server.waft, &broker, &["--name", name]);
        let workers = vec![worker("w1"), worker("w2")];
        Self { flows, _cloud: cloud, server, workers, rabbit, _folder: folder }
    }

    fn submit(&self, flow: &str, arguments: &[&str]) {
        let file = self.file(flow);
        let output = self.server.run(&[&["submit", &file][..], arguments].concat());
        output.expect(0);
    }

    fn file(&self, name: &str) -> String {
        self.flows.join(format!("{name}.toml")).display().to_string()
    }

    fn edit(&self, run: &str, operation: &str, flow: &str) {
        self.server.run(&["edit", run, operation, &self.file(flow)]).expect(0);
    }
}

#[test]
fn a_persistent_listener_survives_worker_and_broker_restarts() {
    let mut setup = ScenarioSetup::new();
    setup.submit("balancer", &["--run-id", "lb"]);
    setup.submit("create-server", &["--set", "name=one", "--wait"]);
    wait_for_firings(&setup.server, "lb", 1);
    setup.workers.remove(0).kill();
    setup.submit("create-server", &["--set", "name=two", "--wait"]);
    wait_for_firings(&setup.server, "lb", 2);
    // Stop it instead of killing it: a killed RabbitMQ 3.10 may leave a queue without a leader forever if it was declared
    // less than a second before.
    setup.rabbit.stop();
    setup.rabbit.restart().expect("RabbitMQ starts again");
    setup.submit("create-server", &["--set", "name=three", "--wait"]);
    wait_for_firings(&setup.server, "lb", 3);
    let shown = setup.server.run(&["show", "lb", "--json"]).expect(0).end();
    assert_eq!(shown["state"], "running");
    // The cloud gives each server its own address. The server and the pool have used the numbers 1 to 4.
    assert_eq!(shown["provides"]["ledger"][1], "added three-5.eu-north.example to the load balancer");
}

#[test]
fn unlinking_a_running_cycle_finishes_the_run() {
    let setup = ScenarioSetup::new();
    setup.submit("circle", &["--run-id", "round"]);
    while super::triggers::fired(&setup.server, "round") < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    setup.server.run(&["edit", "round", "unlink", "add-monitor", "create-server"]).expect(0);
    let watched = setup.server.run(&["watch", "round", "--json"]);
    assert_eq!(watched.expect(0).end()["state"], "success");
}

#[test]
fn a_running_flow_accepts_redirects_and_additions() {
    let setup = ScenarioSetup::new();
    setup.submit("site", &["--run-id", "site"]);
    setup.server.until("site", "window", "running");
    setup.server.until("site", "pull-recipes", "success");
    // The task that was added late listens to a task that has already succeeded, and starts at once.
    setup.edit("site", "add", "monitor");
    setup.server.until("site", "add-monitor", "success");
    // The server has crashed meanwhile.
    setup.edit("site", "apply", "second-server");
    setup.server.run(&["notify", "site", "window"]).expect(0);
    let watched = setup.server.run(&["watch", "site", "--json"]);
    let (ended, trace) = (watched.expect(0).end(), watched.trace());
    let count = |state: &str| trace.iter().filter(|entry| *entry == state).count();
    // The failed attempt was retried, and only watchers saw the failure.
    assert_eq!((count("create-server:failure"), count("create-server:success")), (1, 1), "{trace:?}");
    assert_eq!((count("pull-recipes:running"), count("wordpress:success")), (1, 1), "{trace:?}");
    let ledger = ended["provides"]["ledger"].to_string();
    assert!(
        ledger.contains(".eu-north.example") && ledger.contains("blog-2-") && ledger.contains("installed WordPress"),
        "{ledger}"
    );
    let shown = setup.server.run(&["show", "site", "--json"]).expect(0).end();
    assert_eq!(shown["revision"], json!(3));
}

#[test]
fn a_python_program_receives_task_notifications() {
    let setup = ScenarioSetup::new();
    let script = waft_tests::root().join("examples/listeners/listen.py");
    let engine = TestBroker::from(&setup.rabbit).url(Role::Engine);
    let listener =
        ["--listener", "create-server-kick-server", "--to", "create-server.kick-server", "--broker", &engine];
    setup.server.waft.run([&["broker", "setup"][..], &listener].concat()).expect(0);
    // Its lines come on standard error.
    let mut listening = Command::new("sh");
    listening.args(["-c", "exec \"$@\" 1>&2", "sh"]).arg(waft_tests::python()).arg(script);
    listening
        .args(["create-server", "kick-server"])
        .env("WAFT_BROKER", TestBroker::from(&setup.rabbit).url(Role::Listener));
    let mut listener = Process::spawn(&mut listening);
    listener.wait_for("listens to create-server.kick-server");
    setup.submit("create-server", &["--set", "name=one", "--wait"]);
    let line = listener.wait_for("/kick-server/1/1/success");
    assert!(line.contains("one-1.eu-north.example"), "{line}");
    listener.kill();
}
