//! Tests the command line as a user runs it: its output, its messages, and its exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Waft, example, guest, root};

/// A flow with one error of every kind, where no error hides another.
const INVALID_FLOW: &str = r#"name = "wrong"
[inputs]
slept_ms = 3
[[task]]
name = "a"
use = "hostle#spin"
[[task]]
name = "a"
use = "hostile#spinn"
[[task]]
name = "b"
use = "hostile#sleep"
[[link]]
from = "a"
to = "z"
"#;

const EXPECTED_DIAGNOSTICS: &str = r#"error: input "slept_ms" has the name of a value that task "b" provides
 --> flow.toml:3:1
  |
3 | slept_ms = 3
  | ^^^^^^^^
hint: give one of them another name

error: task "a" uses module "hostle", which the flow does not name
 --> flow.toml:6:7
  |
6 | use = "hostle#spin"
  |       ^^^^^^^^^^^^^
hint: did you mean "hostile"?

error: the name "a" is used twice
 --> flow.toml:8:8
  |
8 | name = "a"
  |        ^^^
hint: names are unique in the whole flow, nested flows included

error: task "a" uses "spinn", which module "hostile" does not have
 --> flow.toml:9:7
  |
9 | use = "hostile#spinn"
  |       ^^^^^^^^^^^^^^^
hint: did you mean "spin"?

error: a link of flow "wrong" names "z", which the flow does not have
  --> flow.toml:15:6
   |
15 | to = "z"
   |      ^^^
hint: a link joins two tasks or nested flows by name

error: flow.toml has 5 errors
"#;

/// Stores a module and returns its digest.
fn push(waft: &Waft, name: &str) -> String {
    let module = guest(name);
    let output = waft.run(["push".as_ref(), module.as_os_str()]);
    output.expect(0).stdout.trim_end().to_owned()
}

#[track_caller]
fn assert_error(output: &CommandOutput, code: i32, message: &str) {
    let output = output.expect(code);
    assert!(output.stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
    assert_eq!(output.stdout, "", "data is printed only on success");
}

#[test]
fn check_and_run_report_every_diagnostic() {
    let waft = Waft::default();
    waft.flow(INVALID_FLOW);
    for command in ["check", "run"] {
        let output = waft.run([command, "flow.toml"]);
        assert_eq!((output.expect(2).stdout.as_str(), output.stderr.as_str()), ("", EXPECTED_DIAGNOSTICS));
    }
}

#[test]
fn check_prints_diagnostics_as_json() {
    let waft = Waft::default();
    waft.flow(INVALID_FLOW);
    let output = waft.run(["check", "flow.toml", "--json"]);
    let diagnostics = output.expect(2).json();
    assert_eq!(diagnostics.len(), 5);
    assert_eq!(
        diagnostics[1],
        json!({
            "severity": "error",
            "file": "flow.toml",
            "line": 6,
            "column": 7,
            "message": "task \"a\" uses module \"hostle\", which the flow does not name",
            "hint": "did you mean \"hostile\"?",
        })
    );
}

#[test]
fn a_missing_module_hides_no_other_diagnostic() {
    let waft = Waft::default();
    waft.write(
        "flow.toml",
        "name = \"f\"\n[modules]\nm = \"nowhere.wasm\"\n[[task]]\nname = \"t\"\nuse = \"m#a\"\n[[link]]\nfrom = \"t\"\nto = \"z\"\n",
    );
    let output = waft.run(["check", "flow.toml"]);
    assert_error(&output, 2, "module \"m\", which task \"t\" uses, was not found: there is no module file");
    assert_error(&output, 2, "nowhere.wasm");
    assert_error(&output, 2, "names \"z\", which the flow does not have");
}

#[test]
fn a_valid_flow_is_ready() {
    let kitchen = example("kitchen/flow.toml");
    let output = Waft::default().run(["check".as_ref(), kitchen.as_os_str()]);
    assert_eq!(output.expect(0).stdout, "bake-cake: 7 tasks, ready to run\n");
    let balancer = example("provision/stories/balancer.toml");
    let output = Waft::default().run(["check".as_ref(), balancer.as_os_str()]);
    assert_eq!(
        output.expect(0).stdout,
        "balancer: 1 task, ready to run\n  add-ip asks for http * http://127.0.0.1:7480/v1/** (not granted here), \
         secret CLOUD_TOKEN (not granted here)\n  add-ip fires when create-server.kick-server succeeds\n\
         \u{20} The flows that are listened to need not exist yet: it waits for them.\n"
    );
}

#[test]
fn documented_flows_are_valid_and_shown_on_a_page() {
    let waft = Waft::default();
    let docs = root().join("docs");
    let files = |folder: &Path, extension: &str| -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    };
    let pages: String = files(&docs, "md").iter().map(|page| fs::read_to_string(page).unwrap()).collect();
    let flows = files(&docs.join("flows"), "toml");
    assert!(flows.len() > 10, "{flows:?}");
    for flow in flows {
        waft.run(["check".as_ref(), flow.as_os_str()]).expect(0);
        assert!(pages.contains(&fs::read_to_string(&flow).unwrap()), "no page shows {}", flow.display());
    }
    for program in ["listeners/listen.py", "python/bake.py"] {
        let text = fs::read_to_string(root().join("examples").join(program)).unwrap();
        assert!(pages.contains(&text), "no page shows {program}");
    }
}

#[test]
fn push_prints_the_same_digest_each_time() {
    let waft = Waft::default();
    let digest = push(&waft, "hostile");
    assert!(digest.len() == 71 && digest.starts_with("sha256:"), "{digest}");
    assert_eq!(push(&waft, "hostile"), digest);
    let modules = waft.run(["modules", "--json"]).expect(0).json();
    assert_eq!(modules.iter().map(|entry| &entry["digest"]).collect::<Vec<_>>(), [&json!(digest)]);
}

#[test]
fn a_flow_may_name_modules_by_tag_and_by_digest() {
    let waft = Waft::default();
    let module = guest("hostile");
    let digest = push(&waft, "hostile");
    waft.run(["push".as_ref(), module.as_os_str(), "--tag".as_ref(), "steady".as_ref()]).expect(0);
    for reference in ["steady", &digest] {
        let flow = format!("name = \"f\"\n[modules]\nm = \"{reference}\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n");
        waft.write("flow.toml", flow);
        waft.run(["run", "flow.toml"]).expect(0);
    }
}

#[test]
fn an_invalid_module_is_rejected_with_a_reason() {
    let waft = Waft::default();
    let wasm = std::fs::read(guest("hostile")).expect("it is built");
    for (name, bytes, message) in [
        ("text.wasm", &b"hello\n"[..], "it looks like text"),
        ("empty.wasm", b"", "it is empty"),
        ("cut.wasm", &wasm[..1000], "this WebAssembly is truncated"),
        ("bare.wasm", b"\0asm\x01\0\0\0", "exports neither waft:task/guest@1.0.0"),
    ] {
        waft.write(name, bytes);
        assert_error(&waft.run(["push", name]), 2, message);
        assert_error(&waft.run(["push", name]), 2, name);
    }
    let modules = waft.run(["modules", "--json"]);
    assert_eq!(modules.expect(0).stdout, "", "nothing was stored");
}

#[test]
fn a_denied_import_is_named() {
    let module = guest("foreign_import");
    assert_error(&Waft::default().run(["push".as_ref(), module.as_os_str()]), 2, "foreign:house/door");
}

#[test]
fn a_module_with_an_invalid_description_is_rejected() {
    let module = guest("liar");
    assert_error(&Waft::default().run(["push".as_ref(), module.as_os_str()]), 2, "twin");
}

#[test]
fn inspect_shows_tasks_and_imports() {
    let module = guest("hostile");
    let output = Waft::default().run(["inspect".as_ref(), module.as_os_str(), "--json".as_ref()]);
    let module = output.expect(0).end();
    let tasks = module["tasks"].as_array().expect("a list");
    let sleep = tasks.iter().find(|task| task["name"] == "sleep").expect("it is there");
    assert_eq!(sleep["doc"], "Sleeps, then answers.");
    assert_eq!((&sleep["requires"][0]["name"], &sleep["provides"][0]["name"]), (&json!("ms"), &json!("slept_ms")));
    assert_eq!(sleep["rollback"], Value::Bool(false));
    let imports = module["imports"].as_array().expect("a list");
    assert!(imports.contains(&json!("waft:task/host@1.0.0")), "{imports:?}");
}

#[test]
fn inspect_says_what_a_module_could_use() {
    let inspect = |name: &str, arguments: &[&str]| {
        let module = guest(name);
        let arguments = ["inspect".as_ref(), module.as_os_str()].into_iter().chain(arguments.iter().map(AsRef::as_ref));
        Waft::default().run(arguments)
    };
    let uses = |name: &str| inspect(name, &["--json"]).expect(0).end()["uses"].clone();
    assert_eq!(uses("outside"), json!(["http", "sockets", "config", "env", "dirs", "clock", "random"]));
    let of_command = uses("command");
    assert!(of_command.as_array().is_some_and(|uses| !uses.contains(&json!("http"))), "{of_command}");
    let output = inspect("outside", &[]);
    let expected = "may use, if the flow asks for it and an operator grants it\n  http     sends HTTP requests\n  sockets  connects by TCP\n";
    assert!(output.expect(0).stdout.contains(expected), "{}", output.stdout);
}

#[test]
fn call_calls_one_task() {
    let (waft, module) = (Waft::default(), guest("hostile"));
    let task = format!("{}#echo", module.display());
    let output = waft.run(["call", &task, "--set", "value={\"a\":[1]}"]);
    assert_eq!(output.expect(0).stdout, "value = {\"a\":[1]}\n");
    assert_error(&waft.run(["call", &task]), 2, "requires \"value\", which");
    assert_error(
        &waft.run(["call", &task, "--set", "value=1", "--set", "valeu=2"]),
        2,
        "task \"echo\" does not take valeu",
    );
}

#[test]
fn run_prints_json_lines_from_running_to_the_end() {
    let output = Waft::default().run_flow(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nwith = { value = 7 }\n",
        &["--run-id", "r1"],
    );
    let mut lines = output.expect(0).json();
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        // These differ from run to run.
        for key in ["at", "digest"] {
            line.remove(key);
        }
    }
    assert_eq!(
        lines,
        [
            json!({"event": "run", "state": "running", "run": "r1", "flow": "f"}),
            json!({"event": "state", "kind": "task", "name": "t", "state": "running", "firing": 1, "attempt": 1}),
            json!({"event": "state", "kind": "task", "name": "t", "state": "success", "firing": 1, "attempt": 1,
                "provides": {"value": 7}, "worker": "local"}),
            json!({"event": "run", "state": "success", "run": "r1", "inputs": {}, "provides": {"value": 7},
                "failures": {}}),
        ]
    );
}

#[test]
fn an_interrupted_run_stops_a_busy_guest() {
    let waft = Waft::default();
    let flow = waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n");
    let mut run = waft_tests::Process::spawn(&mut waft.command(["run".as_ref(), flow.as_os_str()]));
    run.wait_for("t running");
    run.signal("INT");
    run.wait_for("stopping");
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(130), "{}", run.output());
}

#[test]
fn invalid_values_are_reported_together() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let doubled = r#"z={"a":[{"b":1,"b":2}]}"#;
    let output = waft.run(["run", "flow.toml", "--set", "x", "--set-file", "y=/nowhere", "--set", doubled]);
    assert_error(&output, 2, "--set \"x\" has no `=`");
    assert_error(&output, 2, "--set z: JSON with the key \"b\" twice in one object");
    assert_error(&output, 2, "--set-file y: could not read /nowhere");
    waft.write("v", "1");
    let twice = waft.run(["check", "flow.toml", "--set", "v=1", "--set", "w=1", "--set", "v=2", "--set-file", "w=v"]);
    assert_error(&twice, 2, "v is given twice");
    assert_error(&twice, 2, "w is given twice");
}

#[test]
fn bytes_instead_of_a_list_get_a_hint_about_json() {
    let waft = Waft::default();
    waft.flow(
        "name = \"f\"\n[inputs]\nall = [1]\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\nfor_each = \"all\"\n\
         as = \"value\"\nprovides = { value = \"seen\" }\n",
    );
    waft.write("all.json", "[1, 2]");
    let output = waft.run(["check", "flow.toml", "--set-file", "all=all.json"]);
    assert_error(&output, 2, "\"for_each\" needs a list");
    assert_error(&output, 2, "it is bytes, as `--set-file` gives them; `--set all=JSON` gives JSON");
    waft.run(["check", "flow.toml", "--set", "all=[1, 2]"]).expect(0);
}

#[test]
fn wrong_settings_name_the_key() {
    let waft = Waft::default();
    waft.write("waft.toml", "brocker = \"amqp://x\"\n");
    assert_error(&waft.run(["modules"]), 2, "brocker");
    waft.write("waft.toml", "[worker]\ngrace = \"soon\"\n");
    let configuration = waft.folder().join("configuration/waft");
    std::fs::create_dir_all(&configuration).expect("the folder can be written");
    let user_file = configuration.join("config.toml");
    std::fs::write(&user_file, "cache_size = \"many\"\n[worker]\nqueues = [\"a b\"]\ngrace = \"1s\"\n")
        .expect("it can be written");
    let output = waft.run(["modules"]);
    assert_error(&output, 2, &format!("the settings in waft.toml and {} are not right", user_file.display()));
    assert_error(&output, 2, "cache_size: \"many\" is not a size");
    assert_error(&output, 2, "worker.queues: \"a b\" is not a name");
    assert_error(&output, 2, "worker.grace: ");
    waft.write("waft.toml", "[worker]\ngrace = \"2s\"\n");
    std::fs::write(&user_file, "cache_size = \"1GiB\"\n").expect("it can be written");
    waft.run(["modules"]).expect(0);
}

#[test]
fn a_folder_cannot_choose_where_code_comes_from_or_a_token_goes() {
    let waft = Waft::default();
    for (line, key) in [
        ("cache = \"here\"", "cache"),
        ("store = \"here\"", "store"),
        ("logbook = \"sqlite:here\"", "logbook"),
        ("server = \"http://192.0.2.1\"", "server"),
        ("broker = \"amqp://192.0.2.1\"", "broker"),
        ("[serve]\ntoken = \"known\"", "serve.token"),
        ("[serve]\nlisten = \"0.0.0.0:7468\"", "serve.listen"),
    ] {
        waft.write("waft.toml", line);
        for command in [&["modules"][..], &["check", "flow.toml"]] {
            assert_error(
                &waft.run(command),
                2,
                &format!("waft.toml in this folder sets {key}: a folder must not choose"),
            );
        }
    }
    assert!(!waft.folder().join("here").exists());
}

#[test]
fn an_unwritable_store_is_reported() {
    let (waft, module) = (Waft::default(), guest("hostile"));
    // The file size limit is zero: writes fail as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 0; exec \"$0\" push '{}'", module.display());
    let push = waft.command(["push"]);
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).arg(push.get_program()).current_dir(waft.folder());
    for (name, value) in push.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output: CommandOutput = shell.output().expect("sh is there").into();
    assert_error(&output, 4, "store");
    assert_eq!(waft.run(["modules", "--json"]).expect(0).stdout, "", "no partial module is listed");
}

#[test]
fn graph_draws_the_flow() {
    let kitchen = example("kitchen/flow.toml");
    let graph = |format: &str| {
        let output = Waft::default().run(["graph".as_ref(), kitchen.as_os_str(), "--format".as_ref(), format.as_ref()]);
        output.expect(0).stdout.clone()
    };
    assert!(graph("dot").starts_with("digraph"), "{}", graph("dot"));
    assert!(graph("mermaid").contains("\nflowchart "), "{}", graph("mermaid"));
    assert!(graph("svg").starts_with("<svg") && graph("svg").contains("heat-first"), "{}", graph("svg"));
}

#[test]
fn a_new_crate_builds_and_runs() {
    let waft = Waft::default();
    waft.run(["new", "my-task"]).expect(0);
    let folder = waft.folder().join("my-task");
    xtask::guests::build(&xtask::process::Transcript::new(), &folder).expect("it builds for WebAssembly");
    let output = waft.run(["run", "my-task/flow.toml", "--json", "--set", "who=Ada"]);
    let invitation = "Dear Ada, please come to table 3.";
    assert_eq!(output.expect(0).end()["provides"]["invitation"], invitation);
    waft.run(["run", "my-task/flow.toml", "--set", "who="]).expect(1);
    assert_error(&waft.run(["new", "my-task"]), 2, "my-task is there already");
    assert_error(&waft.run(["new", "1st"]), 2, "cannot be the name of a crate");
}

#[test]
fn a_usage_error_exits_with_2() {
    assert_error(&Waft::default().run(["frobnicate"]), 2, "unrecognized subcommand");
    assert_error(&Waft::default().run(["worker"]), 2, "this command needs a broker");
    assert_error(&Waft::default().run(["run", "nowhere.toml"]), 2, "could not read the flow file nowhere.toml");
    assert!(Waft::default().run(["--help"]).expect(0).stdout.contains("Usage: waft"));
    assert!(Waft::default().run(["completions", "bash"]).expect(0).stdout.contains("_waft()"));
}

#[test]
fn empty_queues_hold_no_slot() {
    let waft = Waft::default();
    // More queues than the minimum slots of a run without a broker, and than most machines have cores.
    let task = |number: usize| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"hostile#sleep\"\nwith = {{ ms = 1 }}\nprovides = []\nqueue = \"q{number}\"\n"
        )
    };
    let tasks: String = (0..40).map(task).collect();
    let output = waft.run_flow(&format!("name = \"f\"\npattern = \"linear\"\n{tasks}"), &[]);
    assert_eq!(output.expect(0).trace().len(), 80);
}

#[test]
fn relative_names_of_store_cache_and_logbook_are_in_the_working_folder() {
    let waft = Waft::with_own_cache();
    waft.flow("name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"hostile#noop\"\n");
    let mut command = waft.command(["run", "flow.toml"]);
    command.env("WAFT_STORE", "store").env("WAFT_CACHE", "cache").env("WAFT_LOGBOOK", "sqlite:runs.db");
    let output = command.output().expect("the binary is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for path in ["store/format", "cache", "runs.db"] {
        assert!(waft.folder().join(path).exists(), "{path}");
    }
}

#[test]
fn retries_above_the_operators_maximum_are_refused() {
    let waft = Waft::default();
    let task =
        |name: &str, retry: &str| format!("[[task]]\nname = \"{name}\"\nuse = \"hostile#noop\"\nretry = {retry}\n");
    let busy = task("busy", "{ attempts = 50, backoff = \"fixed\", initial = \"1ms\" }");
    waft.flow(&format!(
        "name = \"f\"\nretry = {{ times = 4000000000 }}\n{}{busy}",
        task("endless", "{ attempts = 4294967295 }")
    ));
    for command in ["check", "run"] {
        let output = waft.run([command, "flow.toml"]);
        assert_error(&output, 2, "task \"endless\": its 4294967295 attempts are above the maximum here, 100");
        assert_error(&output, 2, "flow \"f\": its retry runs it 4000000000 times, and the maximum here is 100");
        let average = "its 50 attempts have pauses of 1ms on average, and more than 10 attempts need 100ms here";
        assert_error(&output, 2, &format!("task \"busy\": {average}"));
    }
    let configuration = waft.folder().join("configuration/waft");
    std::fs::create_dir_all(&configuration).expect("the folder can be written");
    let write = |text: &str| std::fs::write(configuration.join("config.toml"), text).expect("it can be written");
    write("[limits]\nattempts = 4294967295\nretry_pause = \"0s\"\n");
    waft.run(["check", "flow.toml"]).expect(0);
    write("[limits]\nattempts = 0\n");
    assert_error(&waft.run(["check", "flow.toml"]), 2, "limits.attempts: each task has one attempt at least");
}

#[test]
fn limits_above_the_operators_maximum_are_refused() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nmemory = \"8GiB\"\ntimeout = \"3h\"\n");
    for command in ["check", "run"] {
        let output = waft.run([command, "flow.toml"]);
        assert_error(&output, 2, "task \"t\": its memory of 8GiB is above the maximum here, 1GiB");
        assert_error(&output, 2, "task \"t\": its timeout of 3h is above the maximum here, 1h");
    }
    let configuration = waft.folder().join("configuration/waft");
    std::fs::create_dir_all(&configuration).expect("the folder can be written");
    std::fs::write(configuration.join("config.toml"), "[limits]\nmemory = \"8GiB\"\ntimeout = \"3h\"\n")
        .expect("it can be written");
    waft.run(["check", "flow.toml"]).expect(0);
    waft.write("waft.toml", "[limits]\nmemory = \"8GiB\"\n");
    assert_error(&waft.run(["check", "flow.toml"]), 2, "waft.toml in this folder sets limits.memory");
}
