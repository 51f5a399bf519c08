//! Tests `waft replay` as a user meets it: an attempt that a run has recorded is run again, from a logbook, a server or a file.

mod bundle;
mod http;

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Waft, guest};

/// A flow with one task of the guest `hostile`.
fn flow(task: &str, inputs: &str, keys: &str) -> String {
    format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#{task}\"\nwith = {{ {inputs} }}\n{keys}\n")
}

/// Runs a flow as the run `r`, which ends with this exit code.
fn recorded(flow: &str, exit: i32) -> Waft {
    let waft = Waft::default();
    waft.run_flow(flow, &["--run-id", "r"]).expect(exit);
    waft
}

/// Replays an attempt of the task `t` of the run `r`, with this exit code.
fn replayed(waft: &Waft, options: &[&str], exit: i32) -> Value {
    let output = waft.run([&["replay", "r", "t", "--json"], options].concat());
    output.expect(exit).end()
}

#[track_caller]
fn assert_same(replay: &Value) {
    assert_eq!((&replay["comparison"], &replay["differences"]), (&json!("same"), &json!([])), "{replay:#}");
}

#[track_caller]
fn assert_refused(output: &CommandOutput, expected: &str) {
    let stderr = &output.expect(2).stderr;
    assert!(stderr.contains(expected), "{expected:?} is not in {stderr}");
}

#[test]
fn a_success_is_replayed_to_the_byte_with_its_clock_and_random_numbers() {
    let waft = recorded(&flow("observe", "", ""), 0);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert_eq!(replay["recorded"], replay["replayed"]);
    assert_eq!(replay["recorded"]["outcome"], "succeeded");
    let (was, is) = (&replay["recorded_usage"], &replay["usage"]);
    assert_eq!((&was["memory_bytes"], &was["output_bytes"]), (&is["memory_bytes"], &is["output_bytes"]), "{was} {is}");
    assert!(is["memory_bytes"].as_u64().unwrap() > 0 && is["cpu_seconds"].as_f64().unwrap() > 0.0, "{is}");
    let text = waft.run(["replay", "r", "t"]);
    let stdout = &text.expect(0).stdout;
    assert!(stdout.ends_with("same\n") && stdout.contains(" of 64MiB; recorded "), "{stdout}");
    // It has changed nothing in the run.
    let shown = waft.run(["show", "r", "--json"]).expect(0).end();
    assert_eq!((&shown["state"], &shown["tasks"][0]["attempt"]), (&json!("success"), &json!(1)));
}

#[test]
fn a_failure_of_a_guest_is_replayed_with_its_lines() {
    let waft = recorded(&flow("fail", "message = \"no\\nbatter\"", ""), 1);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert_eq!(replay["replayed"]["failure"]["message"], "no\nbatter");
    let waft = recorded(&flow("say", "text = \"hello\", ms = 1", ""), 0);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    let lines: Vec<&Value> = replay["lines"].as_array().unwrap().iter().map(|line| &line["level"]).collect();
    assert_eq!(lines, ["info", "info", "stdout", "stdout", "stderr", "stderr"]);
}

#[test]
fn a_trap_is_replayed_with_the_backtrace_of_the_guest() {
    let waft = recorded(&flow("panic", "message = \"on fire\"", ""), 1);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    let functions: Vec<&str> =
        replay["backtrace"].as_array().unwrap().iter().map(|frame| frame["function"].as_str().unwrap()).collect();
    assert!(functions.iter().any(|name| name.contains("greedy::panic")), "{functions:?}");
    let stdout = waft.run(["replay", "r", "t"]).expect(0).stdout.clone();
    assert!(stdout.contains("backtrace of the guest, innermost first:\n   0: "), "{stdout}");
}

#[test]
fn a_timeout_is_the_same_although_its_message_has_another_time() {
    let waft = recorded(&flow("spin", "", "timeout = \"300ms\""), 1);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert!(replay["reason"].as_str().unwrap().contains("both reached the timeout of 300ms"), "{replay:#}");
    assert!(replay["usage"]["cpu_seconds"].as_f64().unwrap() > 0.0, "{replay:#}");
}

#[test]
fn each_attempt_is_replayed_by_its_number_and_the_last_one_by_default() {
    let retry = "retry = { attempts = 3, initial = \"10ms\" }";
    let waft = recorded(&flow("fail-until", "attempt = 3", retry), 0);
    for attempt in ["1", "2"] {
        let replay = replayed(&waft, &["--attempt", attempt], 0);
        assert_same(&replay);
        let message = format!("attempt {attempt} is before 3");
        assert_eq!(replay["replayed"]["failure"]["message"], message);
    }
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert_eq!((&replay["attempt"], &replay["replayed"]["provides"]["attempts"]), (&json!(3), &json!(3)));
    assert_refused(&waft.run(["replay", "r", "t", "--attempt", "4"]), "run r has no attempt 4 of apply of t");
    assert_refused(&waft.run(["replay", "r", "t", "--attempt", "4"]), "is attempt 3 of apply in firing 1");
    assert_refused(&waft.run(["replay", "r", "t", "--firing", "2"]), "run r has no apply of t in firing 2");
    assert_refused(&waft.run(["replay", "r", "other"]), "run r has no apply of other");
    assert_refused(&waft.run(["replay", "none", "t"]), "there is no run none");
}

#[test]
fn a_rollback_is_replayed_with_the_outcome_and_the_failures_that_it_got() {
    let hostile = guest("hostile");
    let flow = format!(
        "name = \"f\"\npattern = \"linear\"\n[modules]\nhostile = {hostile:?}\n\
         [[task]]\nname = \"t\"\nuse = \"hostile#stubborn\"\nwith = {{ value = 7, rolls_back_at = 2 }}\n\
         retry = {{ attempts = 2, initial = \"10ms\" }}\n\
         [[task]]\nname = \"u\"\nuse = \"hostile#fail\"\nwith = {{ message = \"no\" }}\n"
    );
    let waft = Waft::default();
    waft.write("flow.toml", flow);
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(1);
    let replay = replayed(&waft, &["--rollback", "--attempt", "1"], 0);
    assert_same(&replay);
    let message = replay["replayed"]["failure"]["message"].as_str().unwrap();
    assert!(message.starts_with("holds on to 7; provided 7; failed: u ("), "{message}");
    let replay = replayed(&waft, &["--rollback"], 0);
    assert_same(&replay);
    assert_eq!((&replay["call"], &replay["lines"][0]["text"]), (&json!("rollback"), &json!("let go of 7")));
    assert_same(&replayed(&waft, &[], 0));
}

#[test]
fn an_element_of_a_list_is_replayed_by_its_number() {
    let waft = recorded(&flow("echo", "", "for_each = [\"a\", 7]\nas = \"value\""), 0);
    let replay = replayed(&waft, &["--element", "1"], 0);
    assert_same(&replay);
    assert_eq!((&replay["task"], &replay["replayed"]["provides"]["value"]), (&json!("t[1]"), &json!(7)));
    assert_refused(&waft.run(["replay", "r", "t"]), "name an element with --element");
    assert_refused(&waft.run(["replay", "r", "t", "--element", "2"]), "run r has no apply of t[2]");
}

#[test]
fn a_value_in_the_store_is_fetched_and_one_that_is_gone_is_named() {
    let waft = Waft::default();
    waft.write("large", vec![7; 200_000]);
    let hostile = guest("hostile");
    let flow = format!(
        "name = \"f\"\n[modules]\nhostile = {hostile:?}\n[[task]]\nname = \"t\"\nuse = \"hostile#echo-bytes\"\n\
         provides = {{ bytes = \"copy\" }}\n"
    );
    waft.write("flow.toml", flow);
    waft.run(["run", "flow.toml", "--run-id", "r", "--set-file", "bytes=large"]).expect(0);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    assert_eq!(replay["usage"]["input_bytes"], 200_000);
    let value = store::digest_of(&[7; 200_000]);
    let hex = value.to_string().replace("sha256:", "");
    let content = waft.folder().join("store/sha256");
    std::fs::remove_file(content.join(&hex[..2]).join(&hex)).unwrap();
    let refused = waft.run(["replay", "r", "t"]);
    assert_refused(&refused, &format!("a value of the attempt is not in the store any more: {value}"));
    std::fs::remove_dir_all(content).unwrap();
    assert_refused(&waft.run(["replay", "r", "t"]), "the module of the attempt is not in the store any more: sha256:");
}

#[test]
fn another_module_runs_on_the_same_inputs_and_its_difference_is_no_fault() {
    let command = guest("command");
    let shout = guest("shout");
    let flow = format!(
        "name = \"f\"\n[modules]\ncommand = {command:?}\n[[task]]\nname = \"t\"\nuse = \"command\"\n\
         with = {{ do = \"panic\", text = \"egg\" }}\nprovides = [\"shouted\"]\n"
    );
    let waft = Waft::default();
    waft.write("flow.toml", flow);
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(1);
    assert_same(&replayed(&waft, &[], 0));
    let fixed = shout.to_str().unwrap();
    let replay = replayed(&waft, &["--module", fixed], 0);
    assert_eq!(replay["comparison"], "differs");
    assert_eq!(replay["differences"], json!(["the recorded attempt failed, and this one succeeded"]));
    assert_eq!(replay["replayed"]["provides"], json!({ "shouted": "EGG!" }));
    assert_ne!(replay["module"], replay["recorded_module"]);
    let missing = waft.run(["replay", "r", "t", "--module", "nowhere.wasm"]);
    assert_refused(&missing, "nowhere.wasm");
}

#[test]
fn another_outcome_than_the_recorded_one_has_an_exit_code_of_its_own() {
    // The clock of the machine is not recorded.
    let waft = Waft::default();
    waft.set_settings("[[grant]]\nclock = true\nrandom = true\n");
    let flow =
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"outside#clocks\"\nallow = { clock = true, random = true }\n";
    waft.run_flow(flow, &["--run-id", "r"]).expect(0);
    let replay = replayed(&waft, &[], 6);
    assert_eq!(replay["comparison"], "differs");
    let difference = replay["differences"][0].as_str().unwrap();
    assert!(difference.starts_with("the value clocks had "), "{difference}");
    let notes = replay["notes"].to_string();
    assert!(notes.contains("had the clock of its worker") && notes.contains("had random numbers"), "{notes}");
    let stdout = waft.run(["replay", "r", "t"]).expect(6).stdout.clone();
    assert!(stdout.contains("\ndiffers\n  the value clocks had "), "{stdout}");
}

#[test]
fn a_module_that_may_not_run_here_is_not_replayed() {
    let waft = recorded(&flow("noop", "", ""), 0);
    waft.set_settings("[admission]\nmodules = \"listed\"\n");
    assert_refused(&waft.run(["replay", "r", "t"]), "the module may not run on this machine");
}

#[test]
#[cfg(target_os = "linux")]
fn a_call_in_a_process_of_its_own_is_recorded_and_replayed_the_same() {
    let waft = Waft::default();
    waft.run_flow(&flow("observe", "", ""), &["--run-id", "r", "--isolate", "process"]).expect(0);
    let replay = replayed(&waft, &[], 0);
    assert_same(&replay);
    let (was, is) = (&replay["recorded_usage"], &replay["usage"]);
    assert_eq!(was["memory_bytes"], is["memory_bytes"]);
    assert!(
        was["cpu_seconds"].as_f64().unwrap() > 0.0 && was["wall_seconds"].as_f64() >= was["cpu_seconds"].as_f64(),
        "{was}"
    );
}

#[test]
fn what_a_task_used_is_shown_with_its_run() {
    let waft = recorded(&flow("spin", "", "timeout = \"3s\""), 1);
    let shown = waft.run(["show", "r", "--json"]).expect(0).end();
    let used = &shown["tasks"][0]["last_usage"];
    assert_eq!((&used["call"], &used["attempt"], &used["firing"]), (&json!("apply"), &json!(1), &json!(1)));
    let usage = &used["usage"];
    assert!(usage["wall_seconds"].as_f64().unwrap() >= 2.9, "{usage}");
    assert!(usage["cpu_seconds"].as_f64().unwrap() >= 0.1, "{usage}");
    let stdout = waft.run(["show", "r"]).expect(0).stdout.clone();
    assert!(stdout.contains("s CPU"), "{stdout}");
    // A task that used little does not say so.
    let stdout = recorded(&flow("noop", "", ""), 0).run(["show", "r"]).expect(0).stdout.clone();
    assert!(!stdout.contains("CPU"), "{stdout}");
}
