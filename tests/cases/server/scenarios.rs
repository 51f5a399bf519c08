//! Tests the original promises of waft, on real guests, with its own workers over RabbitMQ: flows that listen permanently,
//! and flows that are repaired while they run.

use std::{process::Command, time::Duration};

use serde_json::json;
use waft_tests::{Process, example};
use xtask::rabbitmq::Rabbit;

use super::{TestServer, triggers::has_fired};

/// A server and two workers over their own RabbitMQ.
struct ScenarioSetup {
    served: TestServer,
    workers: Vec<Process>,
    rabbit: Rabbit,
    _folder: tempfile::TempDir,
}

impl ScenarioSetup {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rabbit = Rabbit::start(folder.path()).expect("RabbitMQ starts");
        let served = TestServer::over(rabbit.url());
        let worker = |name: &str| Process::worker(&served.waft, rabbit.url(), &["--name", name]);
        let workers = vec![worker("w1"), worker("w2")];
        Self { served, workers, rabbit, _folder: folder }
    }

    fn submit(&self, story: &str, arguments: &[&str]) {
        let flow = scenario_file(story);
        let ran = self.served.run(&[&["submit", &flow][..], arguments].concat());
        ran.expect(0);
    }

    fn edit(&self, run: &str, what: &str, story: &str) {
        self.served.run(&["edit", run, what, &scenario_file(story)]).expect(0);
    }
}

fn scenario_file(name: &str) -> String {
    example(&format!("provision/stories/{name}.toml")).display().to_string()
}

#[test]
fn a_persistent_listener_survives_worker_and_broker_restarts() {
    let mut house = ScenarioSetup::new();
    house.submit("balancer", &["--run-id", "lb"]);
    house.submit("create-server", &["--set", "name=one", "--wait"]);
    has_fired(&house.served, "lb", 1);
    house.workers.remove(0).kill();
    house.submit("create-server", &["--set", "name=two", "--wait"]);
    has_fired(&house.served, "lb", 2);
    // Stop it instead of killing it: a killed RabbitMQ 3.10 may leave a queue without a leader forever if it was declared
    // less than a second before.
    house.rabbit.stop();
    house.rabbit.restart().expect("RabbitMQ starts again");
    house.submit("create-server", &["--set", "name=three", "--wait"]);
    has_fired(&house.served, "lb", 3);
    let shown = house.served.run(&["show", "lb", "--json"]).expect(0).end();
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["provides"]["ledger"][1], "added three.eu-north.example to the load balancer");
}

#[test]
fn unlinking_a_running_cycle_finishes_the_run() {
    let house = ScenarioSetup::new();
    house.submit("circle", &["--run-id", "round"]);
    while super::triggers::fired(&house.served, "round") < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    house.served.run(&["edit", "round", "unlink", "add-monitor", "create-server"]).expect(0);
    let watched = house.served.run(&["watch", "round", "--json"]);
    assert_eq!(watched.expect(0).end()["state"], "success");
}

#[test]
fn a_running_flow_accepts_redirects_and_additions() {
    let house = ScenarioSetup::new();
    house.submit("site", &["--run-id", "site"]);
    house.served.until("site", "window", "running");
    house.served.until("site", "pull-recipes", "success");
    // The task that was added late listens to a task that has already succeeded, and starts at once.
    house.edit("site", "add", "monitor");
    house.served.until("site", "add-monitor", "success");
    // The server has crashed meanwhile.
    house.edit("site", "apply", "second-server");
    house.served.run(&["notify", "site", "window"]).expect(0);
    let watched = house.served.run(&["watch", "site", "--json"]);
    let (ended, trace) = (watched.expect(0).end(), watched.trace());
    let told = |word: &str| trace.iter().filter(|told| *told == word).count();
    // The failed attempt was retried, and only watchers saw the failure.
    assert_eq!((told("create-server:failure"), told("create-server:success")), (1, 1), "{trace:?}");
    assert_eq!((told("pull-recipes:running"), told("wordpress:success")), (1, 1), "{trace:?}");
    let ledger = ended["provides"]["ledger"].to_string();
    assert!(ledger.contains("blog-2.eu-north.example") && ledger.contains("installed WordPress"), "{ledger}");
    let shown = house.served.run(&["show", "site", "--json"]).expect(0).end();
    assert_eq!(shown["revision"], json!(3));
}

#[test]
fn a_python_program_receives_task_notifications() {
    let house = ScenarioSetup::new();
    let script = waft_tests::root().join("examples/listeners/listen.py");
    // Its lines come on standard error.
    let mut listening = Command::new("sh");
    listening.args(["-c", "exec \"$@\" 1>&2", "sh"]).arg(waft_tests::python()).arg(script);
    listening.args(["create-server", "kick-server"]).env("WAFT_BROKER", house.rabbit.url());
    let mut listener = Process::spawn(&mut listening);
    listener.wait_for("listens to create-server.kick-server");
    house.submit("create-server", &["--set", "name=one", "--wait"]);
    let heard = listener.wait_for("/kick-server/1/1/success");
    assert!(heard.contains("one.eu-north.example"), "{heard}");
    listener.kill();
}
