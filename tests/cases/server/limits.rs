//! Tests the limits of a server's operator: what it refuses, and that others go on.

use std::process::Stdio;

use serde_json::json;

use super::{TestServer, assert_error, serve, serve_with, triggers::wait_for_firings};
use waft_tests::{CommandOutput, Waft, example, guest, wait_until};

/// A server whose operator has these limits.
fn limited(limits: &str) -> TestServer {
    let waft = Waft::default();
    waft.set_limits(limits);
    let (process, address) = serve(&waft, "127.0.0.1:0");
    TestServer { waft, address, process }
}

/// A flow whose runs stay open.
fn open_flow(name: &str) -> String {
    format!(
        "name = \"{name}\"\npersistent = true\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nrequires = {{ value = \"x\" }}\n"
    )
}

#[test]
fn a_flow_has_at_most_as_many_open_runs_as_allowed() {
    let server = limited("open_runs = 3");
    server.waft.flow(&open_flow("kitchen"));
    let submit = |run: &str| server.run(&["submit", "flow.toml", "--run-id", run]);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let submitting = names.map(|run| {
        let mut command = server.command(&["submit", "flow.toml", "--run-id", run]);
        (run, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("waft starts"))
    });
    let outputs = submitting.map(|(run, command)| {
        let output: CommandOutput = command.wait_with_output().expect("waft ends").into();
        (run, output)
    });
    let (started, refused): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|(_, output)| output.code == Some(0));
    assert_eq!(started.len(), 3, "submissions at the same time count each other");
    for (_, output) in &refused {
        assert_error(output, 2, "3 runs of flow kitchen have not ended, and the limit `open_runs` allows no more here");
        assert_error(output, 2, "waft list --flow FLOW");
    }
    let (first, again) = (started[0].0, refused[0].0);
    submit(first).expect(0);
    server.waft.flow(&open_flow("bakery"));
    server.submit("other");
    server.waft.flow(&open_flow("kitchen"));
    server.run(&["cancel", first]).expect(0);
    server.run(&["watch", first]).expect(1);
    submit(again).expect(0);
    assert_error(&submit(refused[1].0), 2, "the limit `open_runs` allows no more here");
}

#[test]
fn a_run_has_at_most_as_many_open_firings_as_allowed() {
    let server = limited("firings = 2");
    server.waft.flow(
        "name = \"f\"\npersistent = true\nmax_parallel = 1\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\n\
         requires = { ms = \"ms\" }\n",
    );
    server.submit("r");
    let notify = |ms: &str| server.run(&["notify", "r", "t", "--set", &format!("ms={ms}")]);
    notify("20000").expect(0);
    notify("1").expect(0);
    let refusal = "2 firings are open, and the limit `firings` allows no more: try again later";
    assert_error(&notify("2"), 2, refusal);
    server.run(&["cancel", "r"]).expect(0);
    server.submit("s");
    for _ in 0..2 {
        server.run(&["notify", "s", "t", "--set", "ms=1"]).expect(0);
    }
    wait_for_firings(&server, "s", 2);
    server.run(&["notify", "s", "t", "--set", "ms=1"]).expect(0);
}

#[test]
fn values_have_at_most_as_many_bytes_as_allowed() {
    let server = limited("value = \"100B\"");
    let large = "x".repeat(200);
    server.waft.flow(&open_flow("f"));
    server.submit("r");
    let output = server.run(&["notify", "r", "t", "--set", &format!("x={large}")]);
    assert_error(
        &output,
        2,
        "the values of the notification have 203B together, and the limit `value` allows 100B here",
    );
    server.run(&["notify", "r", "t", "--set", "x=small"]).expect(0);
    wait_for_firings(&server, "r", 1);
    server.waft.flow("name = \"g\"\n[inputs]\nvalue = 1\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nprovides = { value = \"out\" }\n");
    let output = server.run(&["submit", "flow.toml", "--set", &format!("value={large}")]);
    assert_error(&output, 2, "the inputs of flow \"g\" have 207B together, and the limit `value` allows 100B here");
    server.waft.flow("name = \"h\"\n[[task]]\nname = \"wait\"\nwait = \"a person\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nwith = { value = 1 }\n[[link]]\nfrom = \"wait\"\nto = \"t\"\n");
    server.submit("h");
    let output = server.run(&["edit", "h", "set", "t", &format!("value={large}")]);
    assert_error(&output, 2, "task \"t\": its constants have 202B together, and the limit `value` allows 100B here");
}

#[test]
fn a_pushed_module_is_no_larger_than_allowed_and_asks_for_no_more() {
    let server = limited("module_size = \"10KiB\"");
    let output = server.run(&["push", guest("hostile").to_str().expect("a path in UTF-8")]);
    assert_error(&output, 2, "is above the maximum here, 10KiB");
    assert_error(&output, 2, "an operator changes the maximum under [limits] in the settings of the server");
    let (status, answer) = super::hostile_modules::push(&server.address, &guest("hostile"));
    assert_eq!(status, 413, "{answer}");
    let server = limited("attempts = 2");
    let kitchen = example("target/wasm32-wasip1/release/kitchen.wasm");
    let (status, answer) = super::hostile_modules::push(&server.address, &kitchen);
    assert!(
        status == 422 && answer.contains("task \\\"heat-oven\\\": its 3 attempts are above the maximum here, 2"),
        "{answer}"
    );
    let modules = server.run(&["modules", "--json"]).expect(0).json();
    assert_eq!(json!(modules), json!([]), "nothing of it is stored");
}

#[test]
fn a_call_of_a_queue_with_slots_of_its_own_delays_no_other() {
    let waft = Waft::default();
    waft.set_settings("[worker]\nqueues = [\"default\", \"long=1\"]\n");
    // Otherwise a call that sleeps would leave its slot to others.
    let flags = ["--listen", "127.0.0.1:0", "--slots", "1", "--waiting", "0"];
    let (process, address) = serve_with(&waft, &flags);
    let server = TestServer { waft, address, process };
    let task = "[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nqueue = \"long\"\nwith = { ms = 30000 }\n";
    server.waft.flow(&format!("name = \"long\"\n{task}"));
    server.submit("long");
    wait_until(|| server.run(&["show", "long", "--json"]).expect(0).end()["tasks"][0]["state"] == "running");
    server.waft.flow("name = \"short\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    server.run(&["submit", "flow.toml", "--wait"]).expect(0);
    assert_eq!(server.state("long"), "running", "the short call did not wait for it");
}

#[test]
fn names_that_no_notification_could_carry_are_refused() {
    let server = limited("");
    let (flow, run) = ("f".repeat(90), "r".repeat(100));
    let wait = |task: &str| format!("[[task]]\nname = \"{task}\"\nwait = \"a person\"\n");
    // With the id of the run, the names have 250 bytes, and 236 fit.
    let (long, says) = ("t".repeat(60), format!("the run id {run:?} is 14 bytes too long for task \"ttt"));
    server.waft.flow(&format!("name = \"{flow}\"\n{}", wait(&long)));
    let output = server.run(&["submit", "flow.toml", "--run-id", &run]);
    assert_error(&output, 2, &says);
    assert_error(&output, 2, "choose a shorter id for the run");
    server.waft.flow(&format!("name = \"{flow}\"\n{}", wait("short")));
    server.submit(&run);
    server.waft.write("more.toml", wait(&long));
    for flags in [&[][..], &["--dry-run"]] {
        let output = server.run(&[&["edit", &run, "add", "more.toml"], flags].concat());
        assert_error(&output, 2, &says);
    }
    server.waft.write("more.toml", wait(&"t".repeat(46)));
    server.run(&["edit", &run, "add", "more.toml"]).expect(0);
}
