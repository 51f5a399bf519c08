//! Tests `waft serve` and its client commands as a user runs them: a whole waft in one process.

mod access;
mod admission;
mod calls;
mod cancel;
mod engines;
mod events;
mod exclusive_lock;
mod grants;
mod openapi;
mod for_each;
mod hostile_modules;
mod hostile_server;
mod labels;
mod limits;
mod triggers;
mod logs;
mod namespace_limits;
mod namespaces;
mod output;
mod program;
mod quarantine;
mod rehearsal;
mod replay;
mod scenarios;
mod top;
mod verify;

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Process, Role, TestBroker, Waft, example, guest};

/// A server without a broker, and a folder for its client commands.
struct TestServer {
    waft: Waft,
    address: String,
    process: Process,
}

impl TestServer {
    fn new() -> Self {
        let waft = Waft::default();
        let (process, address) = serve(&waft, "127.0.0.1:0");
        Self { waft, address, process }
    }

    /// A server that uses RabbitMQ and leaves all calls to the workers there.
    fn with_broker(broker: &TestBroker) -> Self {
        let waft = Waft::default();
        let (process, address) = serve_with(&waft, &["--listen", "127.0.0.1:0", "--broker", &broker.url(Role::Engine)]);
        Self { waft, address, process }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.waft.command(arguments);
        command.env("WAFT_SERVER", &self.address);
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.command(arguments).output().expect("waft starts").into()
    }

    /// Submits the flow in the folder.
    fn submit(&self, run: &str) {
        let output = self.run(&["submit", "flow.toml", "--run-id", run]);
        assert_eq!(output.expect(0).stdout, format!("{run}\n"));
    }

    fn state(&self, run: &str) -> Value {
        self.run(&["show", run, "--json"]).expect(0).end()["state"].clone()
    }
}

fn serve(waft: &Waft, listen: &str) -> (Process, String) {
    serve_with(waft, &["--listen", listen])
}

fn serve_with(waft: &Waft, arguments: &[&str]) -> (Process, String) {
    let logbook = format!("sqlite:{}", waft.folder().join("logbook.db").display());
    let mut process = Process::spawn(waft.command(["serve"]).args(arguments).env("WAFT_LOGBOOK", logbook));
    let line = process.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim().to_owned();
    (process, address)
}

/// Two tasks that sleep, one after the other.
fn slow(waft: &Waft, ms: u32) {
    let task = |name: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nuse = \"hostile#sleep\"\nwith = {{ ms = {ms} }}\n\
             provides = {{ slept_ms = \"{name}_ms\" }}\n"
        )
    };
    waft.flow(&format!("name = \"slow\"\npattern = \"linear\"\n{}{}", task("a"), task("b")));
}

#[track_caller]
fn assert_error(output: &CommandOutput, code: i32, message: &str) {
    let output = output.expect(code);
    assert!(output.stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
    assert_eq!(output.stdout, "", "data is printed only on success");
}

/// The shape of a line: its keys, and the values that do not differ from run to run.
fn shape(line: &Value) -> (BTreeSet<String>, Vec<Value>) {
    let object = line.as_object().expect("an object");
    let fixed = ["event", "kind", "name", "state", "attempt", "provides", "failures", "digest"];
    (object.keys().cloned().collect(), fixed.iter().map(|key| line[key].clone()).collect())
}

#[test]
fn a_flow_is_submitted_listed_shown_and_watched() {
    let server = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    let kitchen = kitchen.to_str().expect("a path in UTF-8");
    let output = server.run(&["submit", kitchen, "--run-id", "r1", "--wait"]);
    assert!(output.expect(0).stdout.contains("cake = {"), "{}", output.stdout);
    assert!(output.stderr.contains("bake-cake succeeded"), "{}", output.stderr);
    let listed = server.run(&["list", "--flow", "bake-cake", "--since", "1h", "--json"]).expect(0).json();
    assert_eq!((listed.len(), &listed[0]["run"], &listed[0]["state"]), (1, &json!("r1"), &json!("success")));
    assert!(server.run(&["list"]).expect(0).stdout.contains("bake-cake"));
    assert_error(&server.run(&["list", "--state", "failure"]), 0, "no run fits");
    let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
    let tasks = shown["tasks"].as_array().expect("a list");
    assert_eq!(tasks.len(), 8, "seven tasks and a controller");
    let state = |task: &Value| if task["kind"] == "retry" { "started" } else { "success" };
    assert!(tasks.iter().all(|task| task["state"] == state(task) && task["at"].is_string()), "{tasks:#?}");
    assert!(tasks.iter().any(|task| task["state"] == "started"), "a controller has states in plain words: {tasks:#?}");
    assert_eq!(shown["provides"]["cake"]["icing"], "lemon icing");
    assert!(server.run(&["show", "r1"]).expect(0).stdout.contains("heat-first"));
    let workers = server.run(&["workers", "--json"]).expect(0).json();
    assert_eq!((workers.len(), &workers[0]["name"], &workers[0]["queues"]), (1, &json!("local"), &json!(["default"])));
}

#[test]
fn watch_prints_the_events_of_a_run() {
    let server = TestServer::new();
    let text = "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\n\
                with = { value = 18446744073709551615 }\n\
                [[task]]\nname = \"u\"\nuse = \"hostile#noop\"\n";
    let local = server.waft.run_flow(text, &["--run-id", "alone"]);
    let remote = server.run(&["submit", "flow.toml", "--run-id", "there", "--wait", "--json"]);
    let shapes = |output: &CommandOutput| output.expect(0).json().iter().map(shape).collect::<Vec<_>>();
    assert_eq!(shapes(&remote), shapes(&local));
    assert!(remote.stdout.contains(":18446744073709551615}"), "every digit is preserved: {}", remote.stdout);
    let watched = server.run(&["watch", "there", "--json"]);
    assert_eq!(watched.expect(0).stdout, remote.stdout);
    assert!(server.run(&["watch", "there"]).expect(0).stderr.contains("t success (local)"));
}

#[test]
fn a_run_that_was_rolled_back_ends_watching_with_its_code() {
    let server = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    let kitchen = kitchen.to_str().expect("a path in UTF-8");
    let arguments = ["submit", kitchen, "--run-id", "r1", "--set", "batter_ml=12000", "--wait"];
    let output = server.run(&arguments);
    assert_error(&output, 1, "first-pan failed (permanent): no pan holds");
    assert_error(&output, 1, "`waft retry r1` starts it anew");
    server.run(&["watch", "r1", "--json"]).expect(1);
    assert_eq!(server.run(&["show", "r1", "--json"]).end()["failures"]["first-pan"]["kind"], "permanent");
}

#[test]
fn resubmitting_starts_nothing() {
    let server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    server.submit("r1");
    server.submit("r1");
    assert_eq!(server.run(&["list", "--json"]).expect(0).json().len(), 1);
    server.waft.flow("name = \"g\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    assert_error(
        &server.run(&["submit", "flow.toml", "--run-id", "r1"]),
        2,
        "there is a run r1 already, of the flow f",
    );
    // Who waits for it again gets the old result and its code.
    for (run, task, code) in [("ok", "noop\"", 0), ("bad", "fail\"\nwith = { message = \"no\" }", 1)] {
        server.waft.flow(&format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#{task}\n"));
        let submit = ["submit", "flow.toml", "--run-id", run, "--wait", "--json"];
        let first = server.run(&submit);
        assert_eq!(server.run(&submit).expect(code).stdout, first.expect(code).stdout);
    }
}

#[test]
fn a_rejected_flow_shows_diagnostics_as_check_does() {
    let server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spinn\"\nqueue = \"ovens\"\n");
    let checked = server.waft.run(["check", "flow.toml"]);
    let submitted = server.run(&["submit", "flow.toml"]);
    assert_error(&submitted, 2, "--> flow.toml:4:7");
    assert_eq!(submitted.stderr, checked.stderr);
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nqueue = \"ovens\"\n");
    assert_error(&server.run(&["submit", "flow.toml"]), 2, "no worker takes jobs from the queue ovens of task \"t\"");
    assert_eq!(server.run(&["list", "--json"]).expect(0).stdout, "", "nothing was started");
}

#[test]
fn logs_prints_guest_output() {
    let server = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    server.run(&["submit", kitchen.to_str().expect("a path in UTF-8"), "--run-id", "r1", "--wait"]).expect(0);
    assert_eq!(server.run(&["logs", "r1"]).expect(0).stdout, "mix | info   mixes 900 ml of batter\n");
    let log = server.run(&["logs", "r1", "--task", "mix", "--json"]).expect(0).end();
    assert_eq!((&log["call"], &log["attempt"], &log["worker"]), (&json!("apply"), &json!(1), &json!("local")));
    assert_eq!(log["lines"], json!([{"level": "info", "text": "mixes 900 ml of batter"}]));
    assert_eq!(server.run(&["logs", "r1", "--task", "bake", "--json"]).expect(0).stdout, "");
}

#[test]
fn a_long_run_is_cancelled() {
    let server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n");
    server.submit("r1");
    server.run(&["cancel", "r1"]).expect(0);
    assert_error(&server.run(&["watch", "r1"]), 1, "t failed (cancelled)");
    assert_error(&server.run(&["cancel", "r1"]), 2, "run r1 is rolled-back: there is nothing to cancel");
    assert_error(&server.run(&["skip", "r1", "t", "--reason", "done"]), 2, "there is nothing to skip");
    assert_error(&server.run(&["cancel", "nobody"]), 2, "refused: there is no run nobody\n");
    let unknown = server.run(&["skip", "r1", "tt", "--reason", "done"]);
    assert_error(&unknown, 2, "refused: flow f has no task \"tt\"\n");
    assert_error(&unknown, 2, "did you mean \"t\"?");
}

#[test]
fn a_run_suspends_and_resumes() {
    let server = TestServer::new();
    slow(&server.waft, 300);
    server.submit("r1");
    assert_eq!(server.run(&["suspend", "r1"]).expect(0).stdout, "r1 suspending\n");
    let mut watch = Process::spawn(&mut server.command(&["watch", "r1"]));
    watch.wait_for("the run is suspended");
    assert_eq!(server.state("r1"), "suspended");
    assert_eq!(server.run(&["resume", "r1", "--json"]).expect(0).end(), json!({"run": "r1", "state": "running"}));
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    assert_eq!(server.state("r1"), "success");
}

#[test]
fn a_restarted_server_resumes_its_runs() {
    let server = TestServer::new();
    slow(&server.waft, 1_000);
    server.submit("r1");
    let mut watch = Process::spawn(&mut server.command(&["watch", "r1"]));
    watch.wait_for("a running");
    let TestServer { waft, address, process } = server;
    process.kill();
    let listen = address.trim_start_matches("http://");
    let (process, address) = serve(&waft, listen);
    // A watcher of the old server receives the rest from the new one.
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    let server = TestServer { waft, address, process };
    assert_eq!(server.state("r1"), "success");
    let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!((&shown["provides"]["a_ms"], &shown["provides"]["b_ms"]), (&json!(1_000), &json!(1_000)));
}

#[test]
fn a_stopping_server_lets_calls_finish() {
    let mut server = TestServer::new();
    slow(&server.waft, 500);
    server.submit("r1");
    let mut watch = Process::spawn(&mut server.command(&["watch", "r1"]));
    watch.wait_for("a running");
    server.process.signal("TERM");
    assert_eq!(server.process.wait().code(), Some(0), "{}", server.process.output());
    let (process, address) = serve(&server.waft, server.address.trim_start_matches("http://"));
    (server.process, server.address) = (process, address);
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!(shown["tasks"][0]["attempt"], 1, "the first call was recorded before the server stopped");
}

#[test]
fn push_uses_the_named_server() {
    let server = TestServer::new();
    let other_machine = Waft::default();
    let module = guest("hostile");
    let push = |arguments: &[&str]| {
        let mut command = other_machine.command(arguments);
        CommandOutput::from(command.arg(&module).env("WAFT_SERVER", &server.address).output().expect("waft starts"))
    };
    let digest = push(&["push", "--tag", "steady"]).expect(0).stdout.trim_end().to_owned();
    assert_eq!(other_machine.run(["modules", "--json"]).expect(0).stdout, "", "nothing is stored here");
    let modules = server.run(&["modules", "--json"]).expect(0).json();
    assert_eq!((modules.len(), &modules[0]["digest"], &modules[0]["tags"]), (1, &json!(digest), &json!(["steady"])));
    let tagged = "name = \"f\"\n[modules]\nm = \"steady\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n";
    server.waft.write("flow.toml", tagged);
    server.run(&["submit", "flow.toml", "--wait"]).expect(0);
    server.waft.write("text.wasm", "hello\n");
    assert_error(&server.run(&["push", "text.wasm"]), 2, "it looks like text");
}

#[test]
fn gc_removes_old_unreferenced_content() {
    let mut server = TestServer::new();
    server.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    server.run(&["submit", "flow.toml", "--run-id", "r1", "--wait"]).expect(0);
    server.process.signal("TERM");
    server.process.wait();
    let logbook = format!("sqlite:{}", server.waft.folder().join("logbook.db").display());
    let store = server.waft.folder().join("store");
    let both = ["--logbook", &logbook, "--store", store.to_str().expect("a path in UTF-8"), "gc"];
    let gc = |arguments: &[&str]| server.waft.run([&both[..], arguments].concat());
    assert_eq!(gc(&["--older-than", "1h"]).expect(0).stdout, "");
    let planned = gc(&["--older-than", "1ms", "--dry-run"]).expect(0).stdout.clone();
    assert!(planned.starts_with("would delete run r1\nwould remove sha256:"), "{planned}");
    assert!(gc(&["--older-than", "1ms"]).expect(0).stdout.starts_with("removed sha256:"));
    assert_eq!(server.waft.run(["modules", "--json"]).expect(0).stdout, "");
}

#[test]
fn unreachable_and_unauthorized_have_exit_codes() {
    let waft = Waft::default();
    assert_error(
        &waft.run(["list", "--server", "http://127.0.0.1:1"]),
        4,
        "could not reach the server http://127.0.0.1:1",
    );
    assert_error(&waft.run(["list", "--server", "http://127.0.0.1:1"]), 4, "`waft serve`");
    assert_error(&waft.run(["list", "--server", "ftp://x"]), 2, "write http://host:port");
    assert_error(&waft.run(["serve", "--listen", "0.0.0.0:0"]), 2, "without a token");
    let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "--logbook", "memory:"]);
    let mut server = Process::spawn(command.env("WAFT_TOKEN", "secret"));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim();
    assert_error(&waft.run(["list", "--server", address]), 2, "--token or WAFT_TOKEN");
    assert_error(&waft.run(["list", "--server", address, "--token", "wrong"]), 2, "a token is needed");
    assert_error(&waft.run(["list", "--server", address, "--token", "secret"]), 0, "there are no runs yet");
    assert!(!server.output().contains("secret"), "{}", server.output());
}

/// A flow that waits for an approval between two calls.
fn approval_flow(waft: &Waft) {
    waft.flow(
        "name = \"order\"\npattern = \"linear\"\n[[task]]\nname = \"pack\"\nuse = \"hostile#noop\"\n\
         [[task]]\nname = \"approve\"\nwait = \"approval\"\nprovides = { by = \"approved_by\" }\ndeadline = \"2d\"\n\
         [[task]]\nname = \"ship\"\nuse = \"hostile#echo\"\nrequires = { value = \"approved_by\" }\n",
    );
}

#[test]
fn an_approval_survives_a_restart() {
    let server = TestServer::new();
    approval_flow(&server.waft);
    server.submit("r1");
    let waiting = |server: &TestServer| {
        let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
        shown["tasks"].as_array().and_then(|tasks| tasks.iter().find(|task| task["name"] == "approve").cloned())
    };
    while waiting(&server).expect("it is a task")["awaits"].is_null() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let awaits = waiting(&server).expect("it is a task")["awaits"].clone();
    assert_eq!((&awaits["word"], &awaits["values"]), (&json!("approval"), &json!(["by"])));
    assert!(awaits["until"].is_string(), "{awaits}");
    let shown = server.run(&["show", "r1"]);
    assert!(shown.expect(0).stdout.contains("waits for approval, with by, until "), "{}", shown.stdout);
    let TestServer { waft, process, .. } = server;
    process.kill();
    let (process, address) = serve(&waft, "127.0.0.1:0");
    let server = TestServer { waft, address, process };
    for (arguments, message) in [
        (vec!["notify", "r1", "approve"], "\"by\" is missing"),
        (vec!["notify", "r1", "approve", "--set", "who=eve"], "\"who\" is not waited for: it takes \"by\""),
        (vec!["notify", "r1", "pack"], "only a task that waits can be notified"),
        (vec!["notify", "r1", "nobody"], "the run has no task \"nobody\""),
        (vec!["notify", "other", "approve"], "there is no run other"),
    ] {
        let output = server.run(&arguments);
        assert!(output.code != Some(0) && output.stderr.contains(message), "{arguments:?}: {}", output.stderr);
    }
    server.run(&["notify", "r1", "approve", "--set", "by=eve"]).expect(0);
    let ended = server.run(&["watch", "r1", "--json"]).expect(0).end();
    assert_eq!((&ended["state"], &ended["provides"]["value"]), (&json!("success"), &json!("eve")));
    assert_error(&server.run(&["notify", "r1", "approve", "--set", "by=eve"]), 2, "there is nothing to notify");
    server.submit("r2");
    while server.run(&["notify", "r2", "approve", "--fail", "too expensive"]).code != Some(0) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = server.run(&["watch", "r2", "--json"]).expect(1).end();
    assert_eq!(ended["failures"]["approve"], json!({"kind": "permanent", "message": "too expensive"}));
}

#[test]
fn a_local_run_rejects_waiting_tasks() {
    let waft = Waft::default();
    approval_flow(&waft);
    let output = waft.run(["run", "flow.toml"]);
    assert!(output.expect(2).stderr.contains("approve would wait to be notified"), "{}", output.stderr);
}

/// A site: the flow creates and starts a server, and meanwhile fetches the software for it. Its calls take a while.
const SITE: &str = "name = \"site\"\n\
    [[task]]\nname = \"create-server\"\nuse = \"hostile#echo\"\nwith = { value = \"one\" }\nprovides = { value = \"server\" }\n\
    [[task]]\nname = \"pull-recipes\"\nuse = \"hostile#echo\"\nwith = { value = \"soup\" }\nprovides = { value = \"recipes\" }\n\
    [[task]]\nname = \"go\"\nwait = \"a word\"\n\
    [[task]]\nname = \"wordpress\"\nuse = \"hostile#echo\"\nrequires = { value = \"server\" }\nprovides = { value = \"runs_on\" }\n\
    [[link]]\nfrom = \"pull-recipes\"\nto = \"wordpress\"\n\
    [[link]]\nfrom = \"create-server\"\nto = \"go\"\n\
    [[link]]\nfrom = \"go\"\nto = \"wordpress\"\n";

impl TestServer {
    /// Waits until a task of a run is in a state.
    #[track_caller]
    fn until(&self, run: &str, task: &str, state: &str) {
        let in_state = |run: &Value| {
            let mut tasks = run["tasks"].as_array().expect("a list").iter();
            tasks.any(|node| node["name"] == task && node["state"] == state)
        };
        for _ in 0..1_000 {
            if in_state(&self.run(&["show", run, "--json"]).expect(0).end()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{task} is never {state}");
    }
}

#[test]
fn a_running_flow_is_edited() {
    let server = TestServer::new();
    server.waft.flow(SITE);
    server.submit("r1");
    server.until("r1", "go", "running");
    server.until("r1", "pull-recipes", "success");
    // The server has crashed: the edit creates another one, and the software goes there.
    let guest = guest("hostile").display().to_string();
    server.waft.write(
        "more.toml",
        format!(
            "[modules]\nmachines = {guest:?}\n[[task]]\nname = \"create-server-2\"\nuse = \"machines#echo\"\n\
             with = {{ value = \"two\" }}\nprovides = {{ value = \"server_2\" }}\n"
        ),
    );
    server.waft.write(
        "edits.toml",
        "[[edit]]\nadd = \"more.toml\"\n[[edit]]\nrequire = \"wordpress\"\nrequires = { value = \"server_2\" }\n",
    );
    let planned = server.run(&["edit", "r1", "--dry-run", "apply", "edits.toml"]);
    assert!(planned.expect(0).stdout.starts_with("r1 would be at revision 2\n"), "{}", planned.stdout);
    let edited = server.run(&["edit", "r1", "--if-revision", "1", "apply", "edits.toml"]);
    assert_eq!(
        edited.expect(0).stdout,
        "r1 is at revision 2\n  add create-server-2\n  require wordpress value=server_2\n"
    );
    server.until("r1", "create-server-2", "success");
    // The task that was added late listens to a task that has already succeeded, and starts at once.
    server.waft.write(
        "monitor.toml",
        "[[task]]\nname = \"add-monitor\"\nuse = \"hostile#noop\"\n\
         [[link]]\nfrom = \"create-server\"\nto = \"add-monitor\"\n",
    );
    server.run(&["edit", "r1", "add", "monitor.toml"]).expect(0);
    server.until("r1", "add-monitor", "success");
    // A file of edits may contain what it adds, and its modules may be files.
    let late = format!("[modules]\nlate = {guest:?}\n[[task]]\nname = \"late\"\nuse = \"late#noop\"\n");
    server.waft.write("late.toml", format!("[[edit]]\nadd_text = '''\n{late}'''\n"));
    assert_eq!(server.run(&["edit", "r1", "apply", "late.toml"]).expect(0).stdout, "r1 is at revision 4\n  add late\n");
    server.until("r1", "late", "success");
    for (arguments, code, message) in [
        (vec!["edit", "r1", "--if-revision", "1", "remove", "go"], 2, "is at revision 4"),
        (vec!["edit", "r1", "remove", "create-server-2"], 2, "which nothing provides"),
        (vec!["edit", "r1", "use", "add-monitor", "hostile#spin"], 2, "its call may still be rolled back"),
        (vec!["edit", "r1", "link", "wordpress", "create-server"], 2, "nodes wait for one another"),
        (vec!["edit", "r1", "remove", "wordpres"], 2, "did you mean \\\"wordpress\\\"?"),
        (vec!["edit", "r2", "remove", "go"], 2, "there is no run r2"),
    ] {
        let output = server.run(&arguments);
        let message = message.replace("\\\"", "\"");
        assert!(output.code == Some(code) && output.stderr.contains(&message), "{arguments:?}: {output:?}");
    }
    server.run(&["notify", "r1", "go"]).expect(0);
    let ended = server.run(&["watch", "r1", "--json"]);
    assert_eq!(ended.expect(0).end()["provides"]["runs_on"], "two");
    assert_eq!(ended.trace().iter().filter(|state| *state == "pull-recipes:running").count(), 1, "{:?}", ended.trace());
    let shown = server.run(&["show", "r1", "--revisions"]);
    assert!(shown.expect(0).stdout.contains("add add-monitor, create-server -> add-monitor"), "{}", shown.stdout);
    let shown = server.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!((&shown["revision"], shown["revisions"].as_array().map(Vec::len)), (&json!(4), Some(3)));
    assert_error(&server.run(&["edit", "r1", "remove", "go"]), 2, "it has ended");
}
