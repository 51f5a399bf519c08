//! Tests `waft serve` and its client commands as a person uses them: a whole waft in one process.

mod exclusive_lock;
mod openapi;
mod for_each;
mod triggers;
mod logs;
mod output;
mod program;
mod scenarios;

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, Process, Waft, example, guest};

/// A server without a broker, and a folder for its client commands.
struct TestServer {
    waft: Waft,
    address: String,
    server: Process,
}

impl TestServer {
    fn new() -> Self {
        let waft = Waft::default();
        let (server, address) = serve(&waft, "127.0.0.1:0");
        Self { waft, address, server }
    }

    /// A server over RabbitMQ, which leaves all calls to the workers there.
    fn over(broker: &str) -> Self {
        let waft = Waft::default();
        let (server, address) = serve_with(&waft, &["--listen", "127.0.0.1:0", "--broker", broker]);
        Self { waft, address, server }
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
        let ran = self.run(&["submit", "flow.toml", "--run-id", run]);
        assert_eq!(ran.expect(0).stdout, format!("{run}\n"));
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
    let mut server = Process::spawn(waft.command(["serve"]).args(arguments).env("WAFT_LOGBOOK", logbook));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim().to_owned();
    (server, address)
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
fn refuses(ran: &CommandOutput, code: i32, told: &str) {
    let ran = ran.expect(code);
    assert!(ran.stderr.contains(told), "{told:?} is not in:\n{}", ran.stderr);
    assert_eq!(ran.stdout, "", "data is printed only when all is well");
}

/// The shape of a line: its keys, and the values that do not differ from run to run.
fn shape(line: &Value) -> (BTreeSet<String>, Vec<Value>) {
    let object = line.as_object().expect("an object");
    let fixed = ["event", "kind", "name", "state", "attempt", "provides", "failures", "digest"];
    (object.keys().cloned().collect(), fixed.iter().map(|key| line[key].clone()).collect())
}

#[test]
fn a_flow_is_submitted_listed_shown_and_watched() {
    let served = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    let kitchen = kitchen.to_str().expect("a path in UTF-8");
    let ran = served.run(&["submit", kitchen, "--run-id", "r1", "--wait"]);
    assert!(ran.expect(0).stdout.contains("cake = {"), "{}", ran.stdout);
    assert!(ran.stderr.contains("bake-cake succeeded"), "{}", ran.stderr);
    let listed = served.run(&["list", "--flow", "bake-cake", "--since", "1h", "--json"]).expect(0).json();
    assert_eq!((listed.len(), &listed[0]["run"], &listed[0]["state"]), (1, &json!("r1"), &json!("success")));
    assert!(served.run(&["list"]).expect(0).stdout.contains("bake-cake"));
    refuses(&served.run(&["list", "--state", "failure"]), 0, "no run fits");
    let shown = served.run(&["show", "r1", "--json"]).expect(0).end();
    let tasks = shown["tasks"].as_array().expect("a list");
    assert_eq!(tasks.len(), 8, "seven tasks and a controller");
    let state = |task: &Value| if task["kind"] == "retry" { "started" } else { "success" };
    assert!(tasks.iter().all(|task| task["state"] == state(task) && task["at"].is_string()), "{tasks:#?}");
    assert!(tasks.iter().any(|task| task["state"] == "started"), "a controller is told as people read it: {tasks:#?}");
    assert_eq!(shown["provides"]["cake"]["icing"], "lemon icing");
    assert!(served.run(&["show", "r1"]).expect(0).stdout.contains("heat-first"));
    let workers = served.run(&["workers", "--json"]).expect(0).json();
    assert_eq!((workers.len(), &workers[0]["name"], &workers[0]["queues"]), (1, &json!("local"), &json!(["default"])));
}

#[test]
fn watch_prints_the_events_of_a_run() {
    let served = TestServer::new();
    let text = "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\n\
                with = { value = 18446744073709551615 }\n\
                [[task]]\nname = \"u\"\nuse = \"hostile#noop\"\n";
    let alone = served.waft.run_flow(text, &["--run-id", "alone"]);
    let there = served.run(&["submit", "flow.toml", "--run-id", "there", "--wait", "--json"]);
    let shapes = |ran: &CommandOutput| ran.expect(0).json().iter().map(shape).collect::<Vec<_>>();
    assert_eq!(shapes(&there), shapes(&alone));
    assert!(there.stdout.contains(":18446744073709551615}"), "every digit is kept: {}", there.stdout);
    let watched = served.run(&["watch", "there", "--json"]);
    assert_eq!(watched.expect(0).stdout, there.stdout);
    assert!(served.run(&["watch", "there"]).expect(0).stderr.contains("t success (local)"));
}

#[test]
fn a_run_that_was_rolled_back_ends_watching_with_its_code() {
    let served = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    let kitchen = kitchen.to_str().expect("a path in UTF-8");
    let arguments = ["submit", kitchen, "--run-id", "r1", "--set", "batter_ml=12000", "--wait"];
    let ran = served.run(&arguments);
    refuses(&ran, 1, "first-pan failed (permanent): no pan holds");
    refuses(&ran, 1, "`waft retry r1` starts it anew");
    served.run(&["watch", "r1", "--json"]).expect(1);
    assert_eq!(served.run(&["show", "r1", "--json"]).end()["failures"]["first-pan"]["kind"], "permanent");
}

#[test]
fn resubmitting_starts_nothing() {
    let served = TestServer::new();
    served.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    served.submit("r1");
    served.submit("r1");
    assert_eq!(served.run(&["list", "--json"]).expect(0).json().len(), 1);
    served.waft.flow("name = \"g\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    refuses(&served.run(&["submit", "flow.toml", "--run-id", "r1"]), 2, "there is a run r1 already, of the flow f");
}

#[test]
fn a_rejected_flow_shows_diagnostics_as_check_does() {
    let served = TestServer::new();
    served.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spinn\"\nqueue = \"ovens\"\n");
    let told = served.waft.run(["check", "flow.toml"]);
    let submitted = served.run(&["submit", "flow.toml"]);
    refuses(&submitted, 2, "--> flow.toml:4:7");
    assert_eq!(submitted.stderr, told.stderr);
    served.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\nqueue = \"ovens\"\n");
    refuses(&served.run(&["submit", "flow.toml"]), 2, "no worker takes jobs from the queue ovens of task \"t\"");
    assert_eq!(served.run(&["list", "--json"]).expect(0).stdout, "", "nothing was started");
}

#[test]
fn logs_prints_guest_output() {
    let served = TestServer::new();
    let kitchen = example("kitchen/flow.toml");
    served.run(&["submit", kitchen.to_str().expect("a path in UTF-8"), "--run-id", "r1", "--wait"]).expect(0);
    assert_eq!(served.run(&["logs", "r1"]).expect(0).stdout, "mix | info   mixes 900 ml of batter\n");
    let log = served.run(&["logs", "r1", "--task", "mix", "--json"]).expect(0).end();
    assert_eq!((&log["call"], &log["attempt"], &log["worker"]), (&json!("apply"), &json!(1), &json!("local")));
    assert_eq!(log["lines"], json!([{"level": "info", "text": "mixes 900 ml of batter"}]));
    assert_eq!(served.run(&["logs", "r1", "--task", "bake", "--json"]).expect(0).stdout, "");
}

#[test]
fn a_long_run_is_cancelled() {
    let served = TestServer::new();
    served.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\ntimeout = \"5m\"\n");
    served.submit("r1");
    served.run(&["cancel", "r1"]).expect(0);
    refuses(&served.run(&["watch", "r1"]), 1, "t failed (cancelled)");
    refuses(&served.run(&["cancel", "r1"]), 2, "run r1 is rolled-back: there is nothing to cancel");
    refuses(&served.run(&["skip", "r1", "t", "--reason", "done"]), 2, "there is nothing to skip");
    refuses(&served.run(&["cancel", "nobody"]), 2, "refused: there is no run nobody\n");
    let unknown = served.run(&["skip", "r1", "tt", "--reason", "done"]);
    refuses(&unknown, 2, "refused: flow f has no task \"tt\"\n");
    refuses(&unknown, 2, "did you mean \"t\"?");
}

#[test]
fn a_run_suspends_and_resumes() {
    let served = TestServer::new();
    slow(&served.waft, 300);
    served.submit("r1");
    assert_eq!(served.run(&["suspend", "r1"]).expect(0).stdout, "r1 suspending\n");
    let mut watch = Process::spawn(&mut served.command(&["watch", "r1"]));
    watch.wait_for("the run is suspended");
    assert_eq!(served.state("r1"), "suspended");
    assert_eq!(served.run(&["resume", "r1", "--json"]).expect(0).end(), json!({"run": "r1", "state": "running"}));
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    assert_eq!(served.state("r1"), "success");
}

#[test]
fn a_restarted_server_resumes_its_runs() {
    let served = TestServer::new();
    slow(&served.waft, 1_000);
    served.submit("r1");
    let mut watch = Process::spawn(&mut served.command(&["watch", "r1"]));
    watch.wait_for("a running");
    let TestServer { waft, address, server } = served;
    server.kill();
    let listen = address.trim_start_matches("http://");
    let (server, address) = serve(&waft, listen);
    // A watcher of the old server receives the rest from the new one.
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    let served = TestServer { waft, address, server };
    assert_eq!(served.state("r1"), "success");
    let shown = served.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!((&shown["provides"]["a_ms"], &shown["provides"]["b_ms"]), (&json!(1_000), &json!(1_000)));
}

#[test]
fn a_stopping_server_lets_calls_finish() {
    let mut served = TestServer::new();
    slow(&served.waft, 500);
    served.submit("r1");
    let mut watch = Process::spawn(&mut served.command(&["watch", "r1"]));
    watch.wait_for("a running");
    served.server.signal("TERM");
    assert_eq!(served.server.wait().code(), Some(0), "{}", served.server.output());
    let (server, address) = serve(&served.waft, served.address.trim_start_matches("http://"));
    (served.server, served.address) = (server, address);
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.output());
    let shown = served.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!(shown["tasks"][0]["attempt"], 1, "the first call was recorded before the server went");
}

#[test]
fn push_uses_the_named_server() {
    let served = TestServer::new();
    let elsewhere = Waft::default();
    let module = guest("hostile");
    let push = |arguments: &[&str]| {
        let mut command = elsewhere.command(arguments);
        CommandOutput::from(command.arg(&module).env("WAFT_SERVER", &served.address).output().expect("waft starts"))
    };
    let digest = push(&["push", "--tag", "steady"]).expect(0).stdout.trim_end().to_owned();
    assert_eq!(elsewhere.run(["modules", "--json"]).expect(0).stdout, "", "nothing is stored here");
    let held = served.run(&["modules", "--json"]).expect(0).json();
    assert_eq!((held.len(), &held[0]["digest"], &held[0]["tags"]), (1, &json!(digest), &json!(["steady"])));
    let tagged = "name = \"f\"\n[modules]\nm = \"steady\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n";
    served.waft.write("flow.toml", tagged);
    served.run(&["submit", "flow.toml", "--wait"]).expect(0);
    served.waft.write("text.wasm", "hello\n");
    refuses(&served.run(&["push", "text.wasm"]), 2, "it looks like text");
}

#[test]
fn gc_removes_old_unreferenced_content() {
    let mut served = TestServer::new();
    served.waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    served.run(&["submit", "flow.toml", "--run-id", "r1", "--wait"]).expect(0);
    served.server.signal("TERM");
    served.server.wait();
    let logbook = format!("sqlite:{}", served.waft.folder().join("logbook.db").display());
    let gc = |arguments: &[&str]| served.waft.run([&["--logbook", &logbook, "gc"], arguments].concat());
    assert_eq!(gc(&["--older-than", "1h"]).expect(0).stdout, "");
    let planned = gc(&["--older-than", "1ms", "--dry-run"]).expect(0).stdout.clone();
    assert!(planned.starts_with("would forget run r1\nwould remove sha256:"), "{planned}");
    assert!(gc(&["--older-than", "1ms"]).expect(0).stdout.starts_with("removed sha256:"));
    assert_eq!(served.waft.run(["modules", "--json"]).expect(0).stdout, "");
}

#[test]
fn unreachable_and_unauthorized_have_exit_codes() {
    let waft = Waft::default();
    refuses(&waft.run(["list", "--server", "http://127.0.0.1:1"]), 4, "could not reach the server http://127.0.0.1:1");
    refuses(&waft.run(["list", "--server", "http://127.0.0.1:1"]), 4, "`waft serve`");
    refuses(&waft.run(["list", "--server", "ftp://x"]), 2, "write http://host:port");
    refuses(&waft.run(["serve", "--listen", "0.0.0.0:0"]), 2, "without a token");
    let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "--logbook", "memory:"]);
    let mut server = Process::spawn(command.env("WAFT_TOKEN", "secret"));
    let line = server.wait_for("waft listens on ");
    let address = line.trim_start_matches("waft listens on ").trim();
    refuses(&waft.run(["list", "--server", address]), 2, "--token or WAFT_TOKEN");
    refuses(&waft.run(["list", "--server", address, "--token", "wrong"]), 2, "a token is needed");
    refuses(&waft.run(["list", "--server", address, "--token", "secret"]), 0, "there are no runs yet");
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
    let served = TestServer::new();
    approval_flow(&served.waft);
    served.submit("r1");
    let waiting = |served: &TestServer| {
        let shown = served.run(&["show", "r1", "--json"]).expect(0).end();
        shown["tasks"].as_array().and_then(|tasks| tasks.iter().find(|task| task["name"] == "approve").cloned())
    };
    while waiting(&served).expect("it is a task")["awaits"].is_null() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let awaits = waiting(&served).expect("it is a task")["awaits"].clone();
    assert_eq!((&awaits["word"], &awaits["values"]), (&json!("approval"), &json!(["by"])));
    assert!(awaits["until"].is_string(), "{awaits}");
    let shown = served.run(&["show", "r1"]);
    assert!(shown.expect(0).stdout.contains("waits for approval, with by, until "), "{}", shown.stdout);
    let TestServer { waft, server, .. } = served;
    server.kill();
    let (server, address) = serve(&waft, "127.0.0.1:0");
    let served = TestServer { waft, address, server };
    for (arguments, told) in [
        (vec!["notify", "r1", "approve"], "\"by\" is missing"),
        (vec!["notify", "r1", "approve", "--set", "who=eve"], "\"who\" is not waited for: it takes \"by\""),
        (vec!["notify", "r1", "pack"], "only a task that waits can be notified"),
        (vec!["notify", "r1", "nobody"], "the run has no task \"nobody\""),
        (vec!["notify", "other", "approve"], "there is no run other"),
    ] {
        let ran = served.run(&arguments);
        assert!(ran.code != Some(0) && ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
    }
    served.run(&["notify", "r1", "approve", "--set", "by=eve"]).expect(0);
    let ended = served.run(&["watch", "r1", "--json"]).expect(0).end();
    assert_eq!((&ended["state"], &ended["provides"]["value"]), (&json!("success"), &json!("eve")));
    refuses(&served.run(&["notify", "r1", "approve", "--set", "by=eve"]), 2, "there is nothing to notify");
    served.submit("r2");
    while served.run(&["notify", "r2", "approve", "--fail", "too expensive"]).code != Some(0) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = served.run(&["watch", "r2", "--json"]).expect(1).end();
    assert_eq!(ended["failures"]["approve"], json!({"kind": "permanent", "message": "too expensive"}));
}

#[test]
fn a_local_run_rejects_waiting_tasks() {
    let waft = Waft::default();
    approval_flow(&waft);
    let ran = waft.run(["run", "flow.toml"]);
    assert!(ran.expect(2).stderr.contains("approve would wait to be notified"), "{}", ran.stderr);
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
        let is_it = |shown: &Value| {
            let tasks = shown["tasks"].as_array().expect("a list").iter();
            tasks.clone().any(|shown| shown["name"] == task && shown["state"] == state)
        };
        for _ in 0..1_000 {
            if is_it(&self.run(&["show", run, "--json"]).expect(0).end()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{task} is never {state}");
    }
}

#[test]
fn a_running_flow_is_edited() {
    let served = TestServer::new();
    served.waft.flow(SITE);
    served.submit("r1");
    served.until("r1", "go", "running");
    served.until("r1", "pull-recipes", "success");
    // The server has crashed: the edit creates another one, and the software goes there.
    let guest = guest("hostile").display().to_string();
    served.waft.write(
        "more.toml",
        format!(
            "[modules]\nmachines = {guest:?}\n[[task]]\nname = \"create-server-2\"\nuse = \"machines#echo\"\n\
             with = {{ value = \"two\" }}\nprovides = {{ value = \"server_2\" }}\n"
        ),
    );
    served.waft.write(
        "edits.toml",
        "[[edit]]\nadd = \"more.toml\"\n[[edit]]\nrequire = \"wordpress\"\nrequires = { value = \"server_2\" }\n",
    );
    let tried = served.run(&["edit", "r1", "--dry-run", "apply", "edits.toml"]);
    assert!(tried.expect(0).stdout.starts_with("r1 would be at revision 2\n"), "{}", tried.stdout);
    let edited = served.run(&["edit", "r1", "--if-revision", "1", "apply", "edits.toml"]);
    assert_eq!(
        edited.expect(0).stdout,
        "r1 is at revision 2\n  add create-server-2\n  require wordpress value=server_2\n"
    );
    served.until("r1", "create-server-2", "success");
    // The task that was added late listens to a task that has already succeeded, and starts at once.
    served.waft.write(
        "monitor.toml",
        "[[task]]\nname = \"add-monitor\"\nuse = \"hostile#noop\"\n\
         [[link]]\nfrom = \"create-server\"\nto = \"add-monitor\"\n",
    );
    served.run(&["edit", "r1", "add", "monitor.toml"]).expect(0);
    served.until("r1", "add-monitor", "success");
    for (arguments, code, told) in [
        (vec!["edit", "r1", "--if-revision", "1", "remove", "go"], 2, "is at revision 3"),
        (vec!["edit", "r1", "remove", "create-server-2"], 2, "which nothing provides"),
        (vec!["edit", "r1", "use", "add-monitor", "hostile#spin"], 2, "what its call began, that call has to end"),
        (vec!["edit", "r1", "link", "wordpress", "create-server"], 2, "nodes wait for one another"),
        (vec!["edit", "r1", "remove", "wordpres"], 2, "did you mean \\\"wordpress\\\"?"),
        (vec!["edit", "r2", "remove", "go"], 2, "there is no run r2"),
    ] {
        let ran = served.run(&arguments);
        let told = told.replace("\\\"", "\"");
        assert!(ran.code == Some(code) && ran.stderr.contains(&told), "{arguments:?}: {ran:?}");
    }
    served.run(&["notify", "r1", "go"]).expect(0);
    let ended = served.run(&["watch", "r1", "--json"]);
    assert_eq!(ended.expect(0).end()["provides"]["runs_on"], "two");
    assert_eq!(ended.trace().iter().filter(|told| *told == "pull-recipes:running").count(), 1, "{:?}", ended.trace());
    let shown = served.run(&["show", "r1", "--revisions"]);
    assert!(shown.expect(0).stdout.contains("add add-monitor, create-server -> add-monitor"), "{}", shown.stdout);
    let shown = served.run(&["show", "r1", "--json"]).expect(0).end();
    assert_eq!((&shown["revision"], shown["revisions"].as_array().map(Vec::len)), (&json!(3), Some(2)));
    refuses(&served.run(&["edit", "r1", "remove", "go"]), 2, "it has ended");
}
