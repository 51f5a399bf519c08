//! Tests the limits of an operator, as a user meets them on one machine.

use waft_tests::{CommandOutput, Waft, example, guest};

/// A folder whose user has these limits.
fn limited(limits: &str) -> Waft {
    let waft = Waft::default();
    waft.set_limits(limits);
    waft
}

#[track_caller]
fn assert_error(output: &CommandOutput, message: &str) {
    let output = output.expect(2);
    assert!(output.stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
}

const EACH: &str = "name = \"f\"\n[[task]]\nname = \"list\"\nuse = \"hostile#echo\"\nwith = { value = [1, 22, 333] }\n\
    provides = { value = \"items\" }\n[[task]]\nname = \"each\"\nuse = \"hostile#echo\"\nfor_each = \"items\"\nas = \"value\"\n\
    provides = { value = \"results\" }\n";

#[test]
fn a_list_has_at_most_as_many_elements_as_allowed() {
    limited("elements = 3").run_flow(EACH, &[]).expect(0);
    let output = limited("elements = 2").run_flow(EACH, &[]);
    let message = "the list has 3 elements, and the limit `elements` allows 2 here";
    assert_eq!(output.expect(1).failure("each"), ("permanent".into(), message.into()));
    // The next driver of the run has other settings, and the run keeps its limits.
    let waft = limited("elements = 2");
    let text = format!("{EACH}[[task]]\nname = \"hold\"\nuse = \"hostile#sleep\"\nwith = {{ ms = 1 }}\n");
    waft.flow(&text);
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(1);
    waft.set_limits("elements = 3");
    assert!(waft.run(["retry", "r"]).expect(1).stderr.contains("the limit `elements` allows 2 here"));
}

#[test]
fn results_that_are_joined_have_at_most_as_many_bytes_as_allowed() {
    // The constant of the first task has 10 bytes, and the joined list 10 and its name.
    let allowed = "value = \"17B\"";
    limited(allowed).run_flow(EACH, &[]).expect(0);
    let output = limited("value = \"16B\"").run_flow(EACH, &[]);
    let message = "the values of its elements have 17B together, and the limit `value` allows 16B here";
    assert_eq!(output.expect(1).failure("each"), ("permanent".into(), message.into()));
}

#[test]
fn inputs_and_constants_have_at_most_as_many_bytes_as_allowed() {
    let waft = limited("value = \"1KiB\"");
    waft.write("large.bin", vec![7; 2 << 10]);
    waft.flow("name = \"f\"\n[inputs]\nbytes = \"\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo-bytes\"\nprovides = { bytes = \"out\" }\n");
    for command in ["check", "run"] {
        let output = waft.run([command, "flow.toml", "--set-file", "bytes=large.bin"]);
        assert_error(&output, "the inputs of flow \"f\" have 2053B together, and the limit `value` allows 1KiB here");
    }
    let constant = "c".repeat(2 << 10);
    waft.flow(&format!(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nwith = {{ value = \"{constant}\" }}\n"
    ));
    let message = "task \"t\": its constants have 2050B together, and the limit `value` allows 1KiB here";
    assert_error(&waft.run(["check", "flow.toml"]), message);
    let output =
        waft.run(["call", &format!("{}#echo", guest("hostile").display()), "--set", &format!("value={constant}")]);
    assert_error(&output, "its constants have 2050B together");
}

#[test]
fn a_module_has_at_most_as_many_bytes_as_allowed() {
    let waft = limited("module_size = \"10KiB\"");
    let hostile = guest("hostile");
    let size = std::fs::metadata(&hostile).expect("it is built").len();
    let message = |size: u64| format!("its module_size of {size}B is above the maximum here, 10KiB");
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let output = waft.run(["push", hostile.to_str().expect("a path in UTF-8")]);
    assert_error(&output, &message(size));
    assert_error(&output, "an operator changes the maximum under [limits]");
    for command in ["check", "run"] {
        assert_error(&waft.run([command, "flow.toml"]), &message(size));
    }
    // A stored module may come from a time with another maximum.
    waft.set_limits("");
    let pushed = waft.run(["push", hostile.to_str().expect("a path in UTF-8"), "--tag", "hostile"]);
    let stored = pushed.expect(0).stdout.trim().to_owned();
    waft.set_limits("module_size = \"10KiB\"");
    for module in ["hostile", &stored] {
        waft.write(
            "stored.toml",
            format!("name = \"f\"\n[modules]\nm = \"{module}\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n"),
        );
        assert_error(&waft.run(["check", "stored.toml"]), "is above the maximum here, 10KiB");
    }
}

#[test]
fn a_pushed_module_asks_for_no_more_than_allowed() {
    let waft = limited("attempts = 2");
    let kitchen = example("target/wasm32-wasip1/release/kitchen.wasm");
    let kitchen = kitchen.to_str().expect("a path in UTF-8");
    let output = waft.run(["push", kitchen]);
    assert_error(&output, "task \"heat-oven\": its 3 attempts are above the maximum here, 2");
    assert_error(&output, "an operator changes the maximum under [limits]");
    // A flow that asks for less may use it.
    let flow = |retry: &str| {
        format!(
            "name = \"f\"\n[modules]\nkitchen = {kitchen:?}\n[[task]]\nname = \"heat\"\nuse = \"kitchen#heat-oven\"\n\
             with = {{ pan = {{ size_cm = 24, batter_ml = 100 }} }}\n{retry}"
        )
    };
    waft.write("flow.toml", flow(""));
    assert_error(&waft.run(["check", "flow.toml"]), "task \"heat\": its 3 attempts are above the maximum here, 2");
    waft.write("flow.toml", flow("retry = { attempts = 2 }\n"));
    waft.run(["check", "flow.toml"]).expect(0);
}

#[test]
fn the_retries_of_nested_flows_multiply() {
    let waft = Waft::default();
    let flow = |outer: u32, inner: u32| {
        format!(
            "name = \"bake\"\nretry = {{ times = {outer} }}\n[[flow]]\nname = \"icing\"\nretry = {{ times = {inner} }}\n\
             [[flow.task]]\nname = \"t\"\nuse = \"hostile#noop\"\n"
        )
    };
    waft.flow(&flow(10, 10));
    waft.run(["check", "flow.toml"]).expect(0);
    waft.flow(&flow(100, 100));
    let message = "the retries of nested flows multiply: \"bake\" 100 times, and each time \"icing\" 100 times; that is 10000 \
         times, and the maximum here is 100";
    for command in ["check", "run"] {
        assert_error(&waft.run([command, "flow.toml"]), message);
    }
    waft.set_limits("attempts = 10000");
    waft.run(["check", "flow.toml"]).expect(0);
}

#[test]
fn a_limit_that_allows_nothing_is_refused() {
    let waft = limited("firings = 0");
    assert_error(&waft.run(["list"]), "limits.firings: a run of a flow that fires has one firing at least");
}
