//! Tests `waft cancel` of calls that no worker has begun, with workers that come later or are busy.

use serde_json::json;
use waft_tests::{CommandOutput, Process, Waft, unique, wait_until};

use super::{TestServer, assert_error, calls::OwnBroker};
use crate::amqp::wait_until_busy;

/// A flow of one task.
fn one_task(waft: &Waft, queue: &str, uses: &str) {
    waft.flow(&format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#{uses}\nqueue = \"{queue}\"\ntimeout = \"5m\"\n"
    ));
}

/// A call that leaves a line in the log of its run.
const SAYS: &str = "say\"\nwith = { text = \"called\", ms = 0 }";

/// Cancels a run, whose end no worker is needed for.
#[track_caller]
fn cancel(server: &TestServer, run: &str) {
    assert_eq!(server.run(&["cancel", run]).expect(0).stdout, format!("{run} cancelling\n"));
    wait_until(|| server.state(run) == "rolled-back");
    assert_error(&server.run(&["watch", run]), 1, "t failed (cancelled)");
}

/// Asserts that no guest was called in a cancelled run, once the worker has made a call for a job behind its job.
#[track_caller]
fn assert_never_called(server: &TestServer, run: &str) {
    let later = unique("later");
    let called: CommandOutput = server.run(&["submit", "flow.toml", "--run-id", &later, "--wait"]);
    called.expect(0);
    assert_eq!(server.run(&["logs", &later]).expect(0).stdout.matches("called").count(), 6);
    let logs = server.run(&["logs", run]);
    assert_eq!((logs.expect(0).stdout.as_str(), logs.stderr.as_str()), ("", "no guest has written anything\n"));
    let task = server.run(&["show", run, "--json"]).expect(0).end()["tasks"][0].clone();
    assert!(task["worker"].is_null() && task["last_usage"].is_null(), "no worker has answered: {task:#}");
}

#[test]
fn a_run_cancelled_without_a_worker_ends_and_a_later_worker_never_calls_it() {
    let (own, queue, run) = (OwnBroker::start(), unique("q"), unique("r"));
    let (server, broker) = (&own.server, &own.broker);
    one_task(&server.waft, &queue, SAYS);
    server.submit(&run);
    cancel(server, &run);
    // With one slot, the worker handles its jobs in their order.
    let worker = ["--queues", &queue, "--name", &queue, "--slots", "1"];
    let _worker = Process::worker(&server.waft, broker, &worker);
    assert_never_called(server, &run);
}

#[test]
fn a_queued_call_is_cancelled_while_its_worker_is_busy() {
    let (own, queue, [busy, run]) = (OwnBroker::start(), unique("q"), ["busy", "r"].map(unique));
    let (server, broker) = (&own.server, &own.broker);
    let worker = ["--queues", &queue, "--name", &queue, "--slots", "1"];
    let _worker = Process::worker(&server.waft, broker, &worker);
    one_task(&server.waft, &queue, "spin\"");
    server.submit(&busy);
    wait_until_busy(&server.waft, broker, &queue, 1);
    one_task(&server.waft, &queue, SAYS);
    server.submit(&run);
    cancel(server, &run);
    assert_eq!(server.state(&busy), "running", "the slot is still taken");
    server.run(&["cancel", &busy]).expect(0);
    assert_never_called(server, &run);
}

#[test]
fn a_cancelled_run_is_shown_as_cancelling_until_it_is_rolled_back() {
    let server = TestServer::new();
    server.waft.flow(
        "name = \"f\"\npattern = \"linear\"\n\
         [[task]]\nname = \"hold\"\nuse = \"hostile#stubborn\"\nwith = { value = 7, rolls_back_at = 2 }\n\
         retry = { attempts = 2, initial = \"1h\", max = \"1h\", jitter = false }\n\
         [[task]]\nname = \"ask\"\nwait = \"an answer\"\n",
    );
    server.submit("r");
    server.until("r", "ask", "running");
    assert!(server.run(&["show", "r"]).expect(0).stdout.starts_with("f  r  running\n"));
    assert_eq!(server.run(&["cancel", "r"]).expect(0).stdout, "r cancelling\n");
    // The first rollback fails, and the second one is made in an hour.
    let shown = server.run(&["show", "r"]);
    assert!(shown.expect(0).stdout.starts_with("f  r  cancelling\n"), "{}", shown.stdout);
    let shown = server.run(&["show", "r", "--json"]).expect(0).end();
    assert_eq!((&shown["state"], &shown["cancelling"]), (&json!("running"), &json!(true)));
}
