//! Kills whoever calls the cloud, in the middle of "create server": in the end each run has exactly one server, and a run that
//! was rolled back has none.

use std::{path::Path, process::Stdio};

use serde_json::json;
use waft_tests::{Cloud, CommandOutput, Process, Role, TestBroker, Waft, unique};

/// Kills of workers while they create servers, and while they roll back. A job may lose four workers.
const KILLS: usize = 2;

/// The runs of the test over RabbitMQ. Every second one fails at its end.
const RUNS: usize = 6;

/// The flow of the example with a queue of its own, and more patience than the flaky cloud needs.
fn patient_flow(waft: &Waft, flow: &Path, queue: &str) -> String {
    let text = std::fs::read_to_string(flow).expect("it is there");
    let retry = "retry = { attempts = 30, initial = \"200ms\", max = \"300ms\" }";
    let text = text.replace("\nallow = ", &format!("\n{retry}\nqueue = \"{queue}\"\nallow = "));
    waft.write("provision/patient.toml", text).display().to_string()
}

#[test]
fn workers_that_are_killed_while_they_create_servers_leave_one_server_for_each_run() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let mut cloud = Cloud::start(&["--flaky", "30", "--seed", "11", "--slow", "200"]);
    let flow = patient_flow(&waft, &cloud.example(&waft, "provision").join("flow.toml"), &queue);
    let worker = |number: usize| {
        Process::worker(&waft, &broker, &["--queues", &queue, "--name", &format!("{queue}-{number}"), "--slots", "4"])
    };
    let mut current = worker(0);
    let id = |number: usize| format!("{queue}-{number}");
    let start = |number: usize| {
        let mut command = waft.command(["run", &flow, "--broker", &broker.url(Role::Engine), "--json"]);
        command.args(["--run-id", &id(number)]);
        if number % 2 == 1 {
            command.args(["--set", "alert=nobody"]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("waft starts")
    };
    let runs: Vec<_> = (0..RUNS).map(start).collect();
    for (request, kills) in
        [("received POST /v1/servers with the key", 0..KILLS), ("received DELETE /v1/requests", KILLS..2 * KILLS)]
    {
        for number in kills {
            // The cloud takes its time, so the worker still waits for the answer.
            cloud.process().wait_for(request);
            current.kill();
            // The next request comes from the next worker.
            cloud.process().skip_lines();
            current = worker(number + 1);
        }
    }
    let ended: Vec<CommandOutput> =
        runs.into_iter().map(|run| run.wait_with_output().expect("it ends").into()).collect();
    for (number, output) in ended.iter().enumerate() {
        let key = format!("{}.create-server.1", id(number));
        let (code, existing) = if number % 2 == 0 { (0, 1) } else { (1, 0) };
        output.expect(code);
        assert_eq!(cloud.made("server", &key, false).len(), 1, "run {number} has made one server, once");
        assert_eq!(cloud.made("server", &key, true).len(), existing, "run {number}");
    }
    // Each successful run has its server, WordPress, address and monitor.
    assert_eq!(cloud.existing(), RUNS / 2 * 4);
    let log = cloud.stop();
    for fault in ["503 for POST", "and the answer is lost"] {
        assert!(log.contains(fault), "the cloud was flaky: {log}");
    }
    let asked_twice = (0..RUNS).any(|number| {
        log.matches(&format!("received POST /v1/servers with the key {}.create-server.1", id(number))).count() > 1
    });
    assert!(asked_twice, "a server was asked for again: {log}");
}

#[test]
fn a_run_that_is_killed_while_it_creates_a_server_resumes_with_this_server() {
    let (waft, mut cloud) = (Waft::default(), Cloud::start(&["--slow", "500"]));
    let flow = cloud.example(&waft, "provision").join("flow.toml");
    let mut command = waft.command(["run", flow.to_str().expect("the path is text"), "--run-id", "r"]);
    let killed = Process::spawn(&mut command);
    cloud.process().wait_for("received POST /v1/servers with the key r.create-server.1");
    killed.kill();
    // The cloud goes on with what it has received.
    let end = waft.run(["run", "--resume", "r", "--json"]).expect(0).end();
    assert_eq!(end["state"], "success", "{end}");
    assert_eq!(end["provides"]["server"]["id"], json!("srv-1"));
    assert_eq!((cloud.made("server", "r.create-server.1", false).len(), cloud.existing()), (1, 4));
    assert_eq!(cloud.stop().matches("received POST /v1/servers with the key").count(), 2, "it was asked for twice");
}
