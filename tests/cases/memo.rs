//! Tests remembered results as a user meets them: the second run calls only what has changed.

use std::fs;

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Waft, example, root};

/// The successes of calls in the events of a run: each task, and the run that computed a remembered result.
fn successes(output: &CommandOutput) -> Vec<(String, Option<String>)> {
    let is_call = |line: &Value| line["event"] == "state" && line["state"] == "success";
    let success = |line: Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        assert_eq!(line["worker"].is_null(), !line["computed_by"].is_null() || line["name"] == "count", "{line}");
        (text(&line["name"]).expect("a name"), text(&line["computed_by"]["run"]))
    };
    output.json().into_iter().filter(is_call).map(success).collect()
}

/// A flow with one task of the guest `hostile`.
fn flow(name: &str, task: &str, keys: &str) -> String {
    format!("name = \"{name}\"\n[[task]]\nname = \"t\"\nuse = \"hostile#{task}\"\n{keys}\n")
}

/// The run that computed the result of the task `t`, if it is a remembered one.
fn computed_by(waft: &Waft, flow: &str, run: &str) -> Option<String> {
    let output = waft.run_flow(flow, &["--run-id", run]);
    output.expect(0);
    successes(&output).pop().expect("the task has succeeded").1
}

#[test]
fn a_second_run_of_a_hundred_steps_calls_the_two_that_have_changed() {
    let waft = Waft::default();
    let book = fs::read_to_string(example("text/memo.toml")).expect("the example is there");
    let module = root().join("examples-wasm/target/wasm32-wasip1/release/text.wasm");
    let book = book.replace("../target/wasm32-wasip1/release/text.wasm", module.to_str().expect("the path is text"));
    let run = |name: &str, book: &str| {
        let flow = waft.write("book.toml", book);
        let output = waft.run(["run", flow.to_str().expect("the path is text"), "--json", "--run-id", name]);
        output.expect(0);
        output
    };
    let first = run("first", &book);
    let of_first = successes(&first);
    // The end of the list is a success, too.
    assert_eq!(of_first.iter().filter(|(_, computed_by)| computed_by.is_some()).count(), 0);
    assert_eq!(of_first.len(), 101);
    let changed = book.replace("The wolf comes to the lake.", "The wolf and the bear come to the lake.");
    assert_ne!(changed, book);
    let second = run("second", &changed);
    let called: Vec<String> =
        successes(&second).into_iter().filter(|(_, computed_by)| computed_by.is_none()).map(|(name, _)| name).collect();
    assert_eq!(called, ["count[47]", "count", "sum"]);
    let words = |output: &CommandOutput| output.end()["provides"]["summary"]["words"].as_u64().expect("a number");
    assert_eq!(words(&second), words(&first) + 3);
    // Nothing has changed: a flow of another name would not call anything either.
    let third = run("third", &changed.replace("count-words-of-a-book", "another"));
    assert!(successes(&third).iter().all(|(name, computed_by)| name == "count" || computed_by.is_some()));
    assert_eq!(third.end()["provides"], second.end()["provides"]);
    // An element that was computed, and one that was not called.
    for (run, element) in [("second", "47"), ("third", "3")] {
        waft.run(["verify", run, "count", "--element", element]).expect(0);
    }
    let shown = waft.run(["show", "third"]);
    assert!(shown.expect(0).stdout.contains("remembered from second"), "{}", shown.stdout);
    let shown = waft.run(["show", "third", "--json"]).expect(0).end();
    assert_eq!(shown["tasks"][1]["computed_by"], json!({"run": "second", "task": "sum", "firing": 1, "attempt": 1}));
}

#[test]
fn the_guest_sees_the_same_call_in_each_run() {
    let observed = |keys: &str, run: &str| {
        let output = Waft::default().run_flow(&flow("f", "observe", keys), &["--run-id", run]);
        output.expect(0).end()["provides"]["observed"].clone()
    };
    let one = observed("memo = true", "one");
    assert_eq!(one, observed("memo = true", "two"), "another machine computes the same");
    assert_eq!(one["wall_clock"], 946_684_800_000_000_000_u64);
    assert_ne!(observed("", "one")["random"], observed("", "two")["random"]);
    let isolated = Waft::default();
    let output = isolated.run_flow(&flow("f", "observe", "memo = true"), &["--isolate", "process"]);
    assert_eq!(output.expect(0).end()["provides"]["observed"], one);
}

#[test]
fn with_never_the_guest_sees_the_fixed_call_and_nothing_is_remembered() {
    let waft = Waft::default();
    let run = |run: &str, memo: &str| {
        let output = waft.run_flow(&flow("f", "observe", &format!("memo = {memo}")), &["--run-id", run]);
        let observed = output.expect(0).end()["provides"]["observed"].clone();
        (observed, successes(&output).pop().expect("the task has succeeded").1)
    };
    let (observed, computed_by) = run("a", "\"never\"");
    assert_eq!(computed_by, None);
    assert_eq!(run("b", "true"), (observed.clone(), None), "nothing was kept");
    assert_eq!(run("c", "\"never\""), (observed.clone(), None), "nothing is taken");
    assert_eq!(run("d", "true"), (observed, Some("b".into())), "nothing was replaced");
}

#[test]
fn results_are_shared_within_a_namespace_only() {
    let waft = Waft::default();
    let computed_by = |name: &str, run: &str| computed_by(&waft, &flow(name, "observe", "memo = true"), run);
    assert_eq!(computed_by("shop/one", "a"), None);
    assert_eq!(computed_by("shop/two", "b"), Some("a".into()));
    assert_eq!(computed_by("bank/one", "c"), None);
    assert_eq!(computed_by("one", "d"), None);
    assert_eq!(computed_by("two", "e"), Some("d".into()));
}

#[test]
fn expired_and_forgotten_results_are_computed_again() {
    let waft = Waft::default();
    let short = flow("f", "observe", "memo = \"1ms\"");
    assert_eq!(computed_by(&waft, &short, "a"), None);
    assert_eq!(computed_by(&waft, &short, "b"), None, "it has expired");
    let gc = |options: &[&str]| {
        let output = waft.run([&["gc", "--older-than", "1h"], options].concat());
        output.expect(0).stderr.clone()
    };
    assert!(gc(&[]).contains("forgotten: 1 results"), "the expired one");
    let lasting = flow("f", "observe", "memo = true");
    assert_eq!(computed_by(&waft, &lasting, "c"), None);
    assert!(!gc(&[]).contains("forgotten"));
    assert_eq!(computed_by(&waft, &lasting, "d"), Some("c".into()));
    assert!(gc(&["--forget-results"]).contains("forgotten: 1 results"));
    assert_eq!(computed_by(&waft, &lasting, "e"), None);
    waft.set_limits("remembered = 0");
    assert_eq!(computed_by(&waft, &lasting, "f"), None, "nothing is remembered");
}

#[test]
fn a_large_value_stays_in_the_store_while_it_is_remembered() {
    let waft = Waft::default();
    // Values of over 64 KiB are in the store.
    let text = "x".repeat(100_000);
    let flow = flow("f", "echo", &format!("memo = true\nwith = {{ value = \"{text}\" }}"));
    let collect = |options: &[&str]| {
        waft.run([&["gc", "--older-than", "0s"], options].concat()).expect(0);
        waft.run(["show", "a"]).expect(2);
    };
    assert_eq!(computed_by(&waft, &flow, "a"), None);
    collect(&[]);
    let output = waft.run_flow(&flow, &["--run-id", "b"]);
    assert_eq!(output.expect(0).end()["provides"]["value"], json!(text));
    assert_eq!(
        successes(&output).pop().expect("a success").1,
        Some("a".into()),
        "its run is deleted, and its value is not"
    );
    collect(&["--forget-results"]);
    let listed = waft.run(["modules", "--json"]).expect(0).json();
    assert!(listed.is_empty(), "nothing needs its content any more: {listed:?}");
    assert_eq!(computed_by(&waft, &flow, "c"), None);
}

#[test]
fn a_rolled_back_run_leaves_no_result() {
    let waft = Waft::default();
    let nodes = |message: &str| {
        format!(
            "name = \"f\"\npattern = \"linear\"\n\
             [[task]]\nname = \"t\"\nuse = \"hostile#stubborn\"\nwith = {{ value = 7, rolls_back_at = 1 }}\nmemo = true\n\
             [[task]]\nname = \"u\"\nuse = \"hostile#{message}\n"
        )
    };
    let failing = nodes("fail\"\nwith = { message = \"no\" }");
    let passing = nodes("observe\"");
    waft.run_flow(&failing, &["--run-id", "a"]).expect(1);
    let of_t = |run: &str, flow: &str, code: i32| {
        let output = waft.run_flow(flow, &["--run-id", run]);
        output.expect(code);
        successes(&output).into_iter().find(|(name, _)| name == "t").expect("it has succeeded").1
    };
    assert_eq!(of_t("b", &passing, 0), None, "the first run has rolled it back");
    assert_eq!(of_t("c", &failing, 1), Some("b".into()));
    let trace = waft.run(["show", "c", "--json"]).expect(0).end();
    assert_eq!(trace["tasks"][0]["state"], "rolled-back");
    assert_eq!(of_t("d", &passing, 0), Some("b".into()), "run c has computed nothing, and run b stands");
    // A rollback would have been recorded as an attempt of it.
    waft.run(["replay", "c", "t", "--rollback"]).expect(2);
    waft.run(["replay", "a", "t", "--rollback"]).expect(0);
}

#[test]
fn a_task_is_verified_as_a_function_of_its_inputs() {
    let waft = Waft::default();
    let memo = flow("f", "observe", "memo = true");
    computed_by(&waft, &memo, "a");
    computed_by(&waft, &memo, "b");
    // One that was computed, and one that was not called.
    for run in ["a", "b"] {
        let verified = waft.run(["verify", run, "t"]);
        let stdout = &verified.expect(0).stdout;
        assert!(stdout.ends_with("same\nt gave the same result\n"), "{stdout}");
    }
    computed_by(&waft, &flow("f", "observe", ""), "c");
    waft.run(["verify", "c", "t"]).expect(0);
    let verified = waft.run(["verify", "c", "t", "--memo"]);
    let stdout = &verified.expect(6).stdout;
    assert!(stdout.contains("the value observed had "), "{stdout}");
    assert!(stdout.contains("t is not a function of its inputs: the same call gave another result."), "{stdout}");
    let json = waft.run(["verify", "c", "t", "--memo", "--json"]).expect(6).end();
    assert_eq!((&json["comparison"], &json["is_function_of_inputs"]), (&json!("differs"), &json!(false)));
    let refused = waft.run(["verify", "c", "other"]);
    assert!(refused.expect(2).stderr.contains("run c has no apply of other"), "{}", refused.stderr);
}

#[test]
fn memo_with_an_allow_is_refused_with_its_place() {
    let waft = Waft::default();
    let path = waft.flow(&flow("f", "observe", "memo = true\nallow = { clock = true }"));
    let refused = waft.run(["check", path.to_str().expect("the path is text")]);
    let stderr = &refused.expect(2).stderr;
    assert!(stderr.contains("task \"t\" has memo and allow") && stderr.contains("flow.toml:5:8"), "{stderr}");
    assert!(stderr.contains("hint: leave out memo"), "{stderr}");
}
