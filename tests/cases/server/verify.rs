//! Tests `waft verify --worker`: a worker calls a recorded attempt again, in a run of its own.

use serde_json::{Value, json};
use waft_tests::{Process, TestBroker, Waft, unique};

use super::{TestServer, assert_error};

/// A server whose calls are made by workers, and the queue of the tests.
struct Verified {
    server: TestServer,
    broker: TestBroker,
    queue: String,
}

impl Verified {
    fn new() -> Self {
        let broker = TestBroker::shared();
        Self { server: TestServer::with_broker(&broker), broker, queue: unique("q") }
    }

    /// The name of a worker that no other test has.
    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.queue)
    }

    fn worker(&self, number: usize) -> Process {
        let name = self.name(number);
        Process::worker(&self.server.waft, &self.broker, &["--queues", &self.queue, "--name", &name])
    }

    /// Runs a flow with one task of the guest `hostile` to its end.
    fn run(&self, run: &str, task: &str, keys: &str) {
        let queue = &self.queue;
        let flow =
            format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#{task}\"\nqueue = \"{queue}\"\n{keys}\n");
        self.server.waft.flow(&flow);
        self.server.run(&["submit", "flow.toml", "--run-id", run, "--wait"]).expect(0);
    }

    fn verify(&self, run: &str, options: &[&str], code: i32) -> Value {
        self.server.run(&[&["verify", run, "t", "--worker", "--json"], options].concat()).expect(code).end()
    }

    /// The task of a run.
    fn task(&self, run: &str) -> Value {
        self.server.run(&["show", run, "--json"]).expect(0).end()["tasks"][0].clone()
    }
}

#[test]
fn another_worker_gives_the_same_result_and_the_memory_stays_as_it_is() {
    let verified = Verified::new();
    let (one_name, two_name) = (verified.name(1), verified.name(2));
    let one = verified.worker(1);
    verified.run("a", "observe", "memo = true");
    let _two = verified.worker(2);
    let by_either = verified.verify("a", &[], 0);
    let worker = &by_either["verified_by"]["worker"];
    assert!(*worker == one_name || *worker == two_name, "{by_either:#}");
    assert_eq!(by_either["another_worker"], json!(*worker == two_name));
    one.kill();
    let by_two = verified.verify("a", &[], 0);
    assert_eq!((&by_two["worker"], &by_two["verified_by"]["worker"]), (&json!(one_name), &json!(two_name)));
    assert_eq!((&by_two["comparison"], &by_two["another_worker"]), (&json!("same"), &json!(true)), "{by_two:#}");
    assert_eq!(by_two["recorded"], by_two["replayed"]);
    // The result was remembered, and the guest was called.
    let run = by_two["verified_by"]["run"].as_str().expect("a run");
    let task = verified.task(run);
    assert_eq!((&task["worker"], &task["computed_by"]), (&json!(two_name), &Value::Null), "{task:#}");
    assert!(run.starts_with("verify-") && task["last_usage"]["usage"].is_object(), "{task:#}");
    // The result of the first run is still the remembered one, and can be verified from a run that took it.
    verified.run("b", "observe", "memo = true");
    assert_eq!(verified.task("b")["computed_by"]["run"], "a");
    let output = verified.server.run(&["verify", "b", "t", "--worker"]);
    let verdict = format!("same\nt gave the same result on {two_name}\n");
    assert!(output.expect(0).stdout.ends_with(&verdict), "{}", output.stdout);
}

#[test]
fn a_verification_keeps_no_result_and_makes_the_same_call_to_the_byte() {
    let verified = Verified::new();
    let _worker = verified.worker(1);
    // The text is in the store, as an input and as an output.
    let large = format!("with = {{ value = {{ b = 1.0, a = 1, text = \"{}\" }} }}", "x".repeat(100_000));
    for (run, with) in [("small", "with = { value = [1.0, { b = 1, a = \"ä\" }] }"), ("large", &large)] {
        verified.run(run, "echo", with);
        let refused = verified.server.run(&["verify", run, "t", "--worker"]);
        assert_error(&refused, 2, "the guest of t sees its run, which has no memo");
        let result = verified.verify(run, &["--memo"], 0);
        assert_eq!(result["comparison"], "same", "{}", result["differences"]);
        let with_memo = format!("with-memo-{run}");
        verified.run(&with_memo, "echo", &format!("{with}\nmemo = true"));
        assert_eq!(verified.task(&with_memo)["computed_by"], Value::Null, "the verification has kept nothing");
    }
}

#[test]
fn a_difference_is_reported() {
    let verified = Verified::new();
    let _worker = verified.worker(1);
    verified.run("a", "observe", "");
    let result = verified.verify("a", &["--memo"], 6);
    assert_eq!((&result["comparison"], &result["is_function_of_inputs"]), (&json!("differs"), &json!(false)));
    assert_eq!(result["another_worker"], false);
    let output = verified.server.run(&["verify", "a", "t", "--worker", "--memo"]);
    let expected = format!(
        "t is not a function of its inputs: the same call gave another result on {}, which made the recorded call too.",
        verified.name(1)
    );
    assert!(output.expect(6).stdout.contains(&expected), "{}", output.stdout);
    assert!(output.stderr.contains("the same call has given two results"), "{}", output.stderr);
}

#[test]
fn what_no_worker_verifies_is_neither_the_same_nor_different() {
    let verified = Verified::new();
    let worker = verified.worker(1);
    verified.run("a", "observe", "memo = true");
    worker.kill();
    let mut waiting = Process::spawn(&mut verified.server.command(&["verify", "a", "t", "--worker"]));
    let line = waiting.wait_for(" calls t again");
    let run = line.split(' ').nth(1).expect("the line names the run");
    waiting.wait_for("verify: waiting for a worker on queue");
    verified.server.run(&["cancel", run]).expect(0);
    assert_eq!(waiting.wait().code(), Some(2), "{}", waiting.output());
    let local = Waft::default();
    local.run_flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n", &["--run-id", "here"]).expect(0);
    let refused = local.run(["verify", "here", "t", "--worker"]);
    assert_error(&refused, 2, "the run here is in a logbook of this machine, and workers are found through a server");
}
