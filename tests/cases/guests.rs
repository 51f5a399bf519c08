//! Tests guests in a whole waft: each example works, and each hostile guest causes a failure of its own kind that
//! names limit and use.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Waft, example};

/// Runs an example's flow.
fn run_example(name: &str, arguments: &[&str]) -> CommandOutput {
    let flow = example(&format!("{name}/flow.toml"));
    let flow = flow.to_str().expect("the path is text");
    Waft::default().run(["run", flow, "--json"].into_iter().chain(arguments.iter().copied()))
}

/// The position of a state in a trace.
#[track_caller]
fn at(trace: &[String], state: &str) -> usize {
    trace.iter().position(|entry| entry == state).unwrap_or_else(|| panic!("no {state} in {trace:?}"))
}

/// Where guests are called: in the process of `waft run`, and in children without rights.
const MODES: [&str; 2] = ["none", "process"];

/// Runs one task alone, with additional keys, and returns its failure in each mode.
fn failures_of(uses: &str, keys: &str) -> [(String, String); 2] {
    let flow = format!("name = \"hostile\"\n[[task]]\nname = \"t\"\nuse = \"{uses}\"\n{keys}");
    MODES.map(|mode| Waft::default().run_flow(&flow, &["--isolate", mode]).expect(1).failure("t"))
}

/// Runs a flow to its success in each mode.
fn successes_of(flow: &str, arguments: &[&str]) -> [CommandOutput; 2] {
    MODES.map(|mode| {
        let output = Waft::default().run_flow(flow, &[&["--isolate", mode], arguments].concat());
        output.expect(0);
        output
    })
}

/// Asserts the failure of one task alone.
#[track_caller]
fn assert_fails(uses: &str, keys: &str, kind: &str, message: &str) {
    for failure in failures_of(uses, keys) {
        assert_eq!(failure, (kind.to_owned(), message.to_owned()));
    }
}

/// Asserts the failure of one task alone by the start of its message.
#[track_caller]
fn assert_fails_with_prefix(uses: &str, keys: &str, kind: &str, prefix: &str) {
    for (actual, message) in failures_of(uses, keys) {
        assert_eq!((actual.as_str(), message.starts_with(prefix)), (kind, true), "{message}");
    }
}

#[test]
fn kitchen_bakes_a_cake() {
    let output = run_example("kitchen", &[]);
    let trace = output.expect(0).trace();
    for (first, then) in [
        ("mix:success", "first-pan:running"),
        ("mix:success", "second-pan:running"),
        ("first-pan:success", "heat-first:running"),
        ("second-pan:success", "heat-second:running"),
        ("heat-first:success", "bake:running"),
        ("heat-second:success", "bake:running"),
        ("mix-icing:success", "bake:running"),
    ] {
        assert!(at(&trace, first) < at(&trace, then), "{first} comes before {then} in {trace:?}");
    }
    let provides = &output.end()["provides"];
    assert_ne!(provides["first_pan"], Value::Null, "{provides}");
    assert_ne!(provides["second_oven"], Value::Null, "{provides}");
    assert_ne!(provides["cake"], Value::Null, "{provides}");
}

#[test]
fn shout_is_a_plain_program() {
    let end = run_example("shout", &["--set", "text=good morning"]).expect(0).end();
    assert_eq!(end["provides"]["shouted"], "GOOD MORNING!", "{end}");
}

#[test]
fn a_task_in_python_counts_words() {
    let waft = Waft::default();
    let (folder, root) = (waft.folder(), waft_tests::root());
    for file in ["words.py", "flow.toml"] {
        std::fs::copy(root.join("examples/python-task").join(file), folder.join(file))
            .expect("the folder can be written");
    }
    let componentize = Path::new(&waft_tests::python_with_tools()).with_file_name("componentize-py");
    let contract = root.join("guest-sdk/wit");
    let built: CommandOutput = Command::new(componentize)
        .arg("--wit-path")
        .arg(contract)
        .args(["--world", "task", "componentize", "words", "--output", "words.wasm"])
        .current_dir(folder)
        .output()
        .expect("it starts")
        .into();
    built.expect(0);
    for mode in MODES {
        let output = waft.run(["run", "flow.toml", "--json", "--isolate", mode]);
        assert_eq!(output.expect(0).end()["provides"]["words"]["the"], json!(3));
        let output = waft.run(["run", "flow.toml", "--json", "--isolate", mode, "--set", "text= "]);
        assert_eq!(output.expect(1).failure("count"), ("permanent".into(), "the text has no words".into()));
    }
}

#[test]
fn a_guest_that_spins_ends_in_timeout() {
    for (kind, message) in failures_of("hostile#spin", "timeout = \"200ms\"") {
        assert_eq!(kind, "timeout");
        assert!(message.ends_with("when it was stopped, the limit is 200ms"), "{message}");
    }
}

#[test]
fn a_guest_that_sleeps_too_long_ends_in_timeout() {
    for (kind, message) in failures_of("hostile#sleep", "with = { ms = 60000 }\ntimeout = \"200ms\"") {
        assert_eq!(kind, "timeout");
        assert!(message.ends_with("when it was stopped, the limit is 200ms"), "{message}");
    }
}

#[test]
fn a_guest_that_takes_all_memory_ends_in_memory() {
    assert_fails_with_prefix("hostile#allocate", "memory = \"8MiB\"", "memory", "it requested ");
}

#[test]
fn a_guest_that_survives_its_memory_limit_ends_in_memory() {
    assert_fails_with_prefix("hostile#allocate-and-give-up", "memory = \"8MiB\"", "memory", "it requested ");
}

#[test]
fn a_guest_that_recurses_forever_traps() {
    assert_fails_with_prefix("hostile#recurse", "", "trap", "its call stack is exhausted, the limit is 512KiB");
}

#[test]
fn a_panicking_guest_traps_with_its_message() {
    for (kind, message) in failures_of("hostile#panic", "") {
        assert_eq!(kind, "trap");
        assert!(message.contains("the oven is on fire"), "{message}");
    }
}

#[test]
fn a_guest_that_prints_endlessly_is_stopped() {
    assert_fails_with_prefix(
        "hostile#print-endlessly",
        "log = \"64KiB\"",
        "output-limit",
        "it had logged and printed 65",
    );
}

#[test]
fn a_guest_that_logs_endlessly_is_stopped() {
    assert_fails_with_prefix(
        "hostile#log-endlessly",
        "log = \"64KiB\"",
        "output-limit",
        "it had logged and printed 65",
    );
}

#[test]
fn endless_progress_reports_end_in_timeout() {
    assert_fails_with_prefix("hostile#tell-progress-endlessly", "timeout = \"300ms\"", "timeout", "it had run for ");
}

#[test]
fn an_output_that_is_too_large_is_rejected() {
    assert_fails_with_prefix("hostile#big", "with = { bytes = 2000000 }\noutput = \"1MiB\"", "output-limit", "it ");
}

#[test]
fn a_guest_has_no_access_to_its_host() {
    for output in successes_of("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#rummage\"", &[]) {
        let found = output.end()["provides"]["found"].clone();
        assert_eq!((&found["variables"], &found["arguments"]), (&json!([]), &json!([])));
        for denied in ["root", "passwords", "written", "reached"] {
            assert!(found[denied].as_str().is_some_and(|text| text.starts_with("no: ")), "{denied}: {found}");
        }
        assert_eq!(found["standard_input"], "0 bytes");
    }
}

#[test]
fn a_denied_capability_fails_as_denied_with_a_reason() {
    for (task, prefix) in [
        ("connect", "guests have no sockets, threads or processes; then it failed: "),
        ("connect-or-panic", "guests have no sockets, threads or processes; then it failed: "),
        ("open-file", "guests have no files, unless the flow asks for a directory"),
    ] {
        assert_fails_with_prefix(&format!("hostile#{task}"), "retry = { attempts = 3 }", "denied", prefix);
    }
}

#[test]
fn malformed_outputs_are_invalid() {
    for task in ["breaks-json", "leaves-nothing", "leaves-half", "leaves-twice", "breaks-names"] {
        for (kind, message) in failures_of(&format!("careless#{task}"), "") {
            assert_eq!(kind, "invalid-output", "{task}: {message}");
        }
    }
}

#[test]
fn an_undeclared_output_is_dropped() {
    for output in successes_of("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"careless#leaves-more\"", &[]) {
        assert_eq!(output.end()["provides"], json!({"first": 1, "second": 2}));
    }
}

#[test]
fn a_commands_exit_status_is_its_failure() {
    let keys = |what: &str| format!("with = {{ do = \"{what}\" }}\nprovides = []");
    assert_fails("command", &keys("exit-1"), "transient", "the oven answered 1");
    assert_fails("command", &keys("exit-65"), "permanent", "the oven answered 65");
}

#[test]
fn a_command_that_prints_no_object_fails_with_invalid_output() {
    for what in ["print-garbage", "print-list", "print-nothing", "print-twice"] {
        for (kind, message) in failures_of("command", &format!("with = {{ do = \"{what}\" }}\nprovides = [\"x\"]")) {
            assert_eq!(kind, "invalid-output", "{what}: {message}");
        }
    }
}

#[test]
fn json_output_of_a_command_stays_json() {
    let reference = format!("{{ digest = \"sha256:{}\", size = 4, form = \"json\" }}", "ab".repeat(32));
    let with = format!("do = \"echo\", a = [\"dGVzdA==\"], b = {{ base64 = \"dGVzdA==\" }}, c = {reference}");
    let task = format!("use = \"command\"\nwith = {{ {with} }}\nprovides = [\"a\", \"b\", \"c\", \"photo\"]");
    let waft = Waft::default();
    waft.write("photo.png", [0xff, 0]);
    let flow = format!("name = \"f\"\n[[task]]\nname = \"t\"\n{task}\nrequires = {{ photo = \"picture\" }}");
    let output = waft.run_flow(&flow, &["--set-file", "picture=photo.png", "--set", r#"more=["dGVzdA=="]"#]);
    let end = output.expect(0).end();
    let reference = json!({"digest": format!("sha256:{}", "ab".repeat(32)), "size": 4, "form": "json"});
    let provides = json!({"a": ["dGVzdA=="], "b": {"base64": "dGVzdA=="}, "c": reference, "$bytes": {"photo": "/wA="}});
    assert_eq!(end["provides"], provides);
    assert_eq!(end["inputs"], json!({"more": ["dGVzdA=="], "$bytes": {"picture": "/wA="}}));
}

#[test]
fn a_command_knows_its_call_and_nothing_else() {
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"command\"\nwith = { do = \"tell-world\" }\nprovides = [\"arguments\", \"variables\"]";
    for output in successes_of(flow, &["--run-id", "r1"]) {
        let provides = output.end()["provides"].clone();
        assert_eq!(provides["arguments"], json!([]));
        let variables = provides["variables"].as_object().expect("an object");
        let names: Vec<&str> = variables.keys().map(String::as_str).collect();
        let known = ["WAFT_ATTEMPT", "WAFT_FIRING", "WAFT_FLOW", "WAFT_IDEMPOTENCY_KEY", "WAFT_RUN", "WAFT_TASK"];
        assert_eq!(names, known);
        assert_eq!((&variables["WAFT_RUN"], &variables["WAFT_TASK"]), (&json!("r1"), &json!("t")));
    }
}

#[test]
fn a_task_is_retried_until_it_succeeds() {
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail-until\"\nwith = { attempt = 3 }\nretry = { attempts = 4, initial = \"1ms\" }";
    let output = Waft::default().run_flow(flow, &[]);
    assert_eq!(output.expect(0).trace().join(" "), "t:running t:failure t:running t:failure t:running t:success");
    assert_eq!(output.end()["provides"]["attempts"], 3);
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }\nretry = { attempts = 4, initial = \"1ms\" }";
    let output = Waft::default().run_flow(flow, &[]);
    assert_eq!(output.expect(1).trace().join(" "), "t:running t:failure t:rolling-back t:rolled-back");
}

#[test]
fn a_rollback_receives_the_outcome_and_failures() {
    let flow = "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"held\"\nuse = \"hostile#stubborn\"\nwith = { value = 7 }\n[[task]]\nname = \"t\"\nuse = \"hostile#fail\"\nwith = { message = \"no\" }";
    for mode in MODES {
        let output = Waft::default().run_flow(flow, &["--isolate", mode]);
        let (kind, message) = output.expect(3).failure("held");
        assert_eq!(
            (kind.as_str(), message.as_str()),
            ("transient", "holds on to 7; provided 7; failed: t (permanent: no)")
        );
    }
}

#[test]
fn integers_of_64_bits_are_exact() {
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nrequires = { value = \"given\" }";
    let output = Waft::default().run_flow(flow, &["--set", "given=[18446744073709551615,-9223372036854775808]"]);
    assert_eq!(output.expect(0).end()["provides"]["value"].to_string(), "[18446744073709551615,-9223372036854775808]");
}

/// Traces 1 to 6 of the rules of a run, tested end to end.
#[test]
fn a_controller_retries_with_its_next_value() {
    let flow = |times: u32, task: &str| {
        format!(
            "name = \"f\"\npattern = \"linear\"\nretry = {{ times = {times}, provides = \"x\" }}\n[[task]]\nname = \"t1\"\nuse = \"traces#{task}\"\n[[task]]\nname = \"t2\"\nuse = \"traces#same\"\n"
        )
    };
    let output = Waft::default().run_flow(&flow(4, "five"), &["--set", "y=2"]);
    let expected = "f:running f:started t1:running t1:success t2:running t2:failure t2:rolling-back t2:rolled-back \
                    t1:rolling-back t1:rolled-back f:retrying t1:pending t2:pending f:running f:started t1:running \
                    t1:success t2:running t2:success";
    assert_eq!(output.expect(0).trace().join(" "), expected);
    assert_eq!(output.end()["provides"]["x"], 2);
    let output = Waft::default().run_flow(&flow(2, "five"), &["--set", "y=4"]);
    assert!(output.expect(1).trace().join(" ").ends_with("f:rolling-back f:rolled-back"));
    assert_eq!((&output.end()["inputs"], &output.end()["provides"]), (&json!({"y": 4}), &json!({})));
    let output = Waft::default().run_flow(&flow(2, "nasty"), &["--set", "y=4"]);
    assert!(output.expect(3).trace().join(" ").ends_with("t1:rolling-back t1:rollback-failure"));
    assert_eq!(output.end()["provides"]["x"], 1);
}
