//! Tests `--isolate process` as a user runs it: guests in children of a server, which end with their call or with the server.

use std::time::{Duration, Instant};

use serde_json::Value;
use waft_tests::{CommandOutput, Process, Waft, children, example, is_alive, signal, wait_for_end};

/// A server whose guests run in children.
struct IsolatedServer {
    waft: Waft,
    address: String,
    process: Process,
}

impl IsolatedServer {
    fn start() -> Self {
        let waft = Waft::default();
        waft.write("waft.toml", "[worker]\ngrace = \"300ms\"\n");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--isolate", "process", "--slots", "4"];
        let mut process = Process::spawn(&mut waft.command(serve));
        let line = process.wait_for("waft listens on ");
        let address = line.trim_start_matches("waft listens on ").trim().to_owned();
        Self { waft, address, process }
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.waft.command(arguments);
        command.env("WAFT_SERVER", &self.address).output().expect("waft starts").into()
    }

    /// Submits a run of one task.
    fn submit(&self, run: &str, task: &str) {
        self.waft.flow(&format!("name = \"f\"\n[[task]]\nname = \"t\"\nretry = {{ attempts = 1 }}\n{task}\n"));
        self.run(&["submit", "flow.toml", "--run-id", run]).expect(0);
    }

    /// Submits a run whose guest computes until it is stopped.
    fn submit_spinning(&self, run: &str) {
        self.submit(run, "use = \"hostile#spin\"\ntimeout = \"5m\"");
    }

    /// Waits until this number of guests compute, and returns their processes.
    fn spinning_children(&self, count: usize) -> Vec<u32> {
        let spinning = || -> Vec<u32> {
            children(self.process.id()).into_iter().filter(|child| cpu_ticks(*child) >= 20).collect()
        };
        wait_until("the guests compute", || spinning().len() >= count);
        spinning()
    }

    fn show(&self, run: &str) -> Value {
        self.run(&["show", run, "--json"]).expect(0).end()
    }

    fn is_running(&self, run: &str) -> bool {
        self.show(run)["state"] == "running"
    }
}

/// The time that a process has computed, in hundredths of a second.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[track_caller]
fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_flow_runs_with_its_guests_in_children() {
    let flow = example("kitchen/flow.toml");
    let waft = Waft::default();
    let output = waft.run(["run", flow.to_str().expect("a path in UTF-8"), "--json", "--isolate", "process"]);
    assert_ne!(output.expect(0).end()["provides"]["cake"], Value::Null);
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = { text = \"hello\", ms = 0 }\n");
    let output = waft.run(["run", "flow.toml", "--isolate", "process"]);
    for line in ["t | info   hello\n", "t | stdout hello\n", "t | stderr hello\n"] {
        assert_eq!(output.expect(0).stderr.matches(line).count(), 2, "{}", output.stderr);
    }
}

/// The debug information of a module from anyone is read in there.
#[test]
fn a_replayed_guest_has_a_process_of_its_own() {
    let waft = Waft::default();
    let keys = "timeout = \"3s\"\nretry = { attempts = 1 }";
    waft.flow(&format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#spin\"\n{keys}\n"));
    waft.run(["run", "flow.toml", "--run-id", "r"]).expect(1);
    let replay = Process::spawn(&mut waft.command(["replay", "r", "t"]));
    let is_spinning = |child: &u32| {
        let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        command.contains("call-for-waft") && cpu_ticks(*child) >= 20
    };
    wait_until("a child computes", || {
        assert!(is_alive(replay.id()), "the replay has ended");
        children(replay.id()).iter().any(is_spinning)
    });
}

#[test]
fn only_the_user_chooses_where_guests_are_called() {
    let waft = Waft::default();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("a folder");
    waft.write("configuration/waft/config.toml", "[worker]\nisolate = \"sandbox\"\n");
    let output = waft.run(["run", "flow.toml"]);
    let expected = "worker.isolate: \"sandbox\" is neither \"none\" nor \"process\"";
    assert!(output.expect(2).stderr.contains(expected), "{}", output.stderr);
    waft.write("configuration/waft/config.toml", "[worker]\nisolate = \"process\"\n");
    waft.run(["run", "flow.toml"]).expect(0);
    waft.write("waft.toml", "[worker]\nisolate = \"none\"\n");
    let output = waft.run(["run", "flow.toml"]);
    assert!(output.expect(2).stderr.contains("sets worker.isolate"), "{}", output.stderr);
}

#[test]
fn a_child_that_is_killed_fails_its_call_alone() {
    let server = IsolatedServer::start();
    server.submit_spinning("r1");
    server.submit_spinning("r2");
    let busy = server.spinning_children(2);
    // A service manager sends this to all processes of a service; the server decides when its guests end.
    busy.iter().for_each(|child| signal(*child, "TERM"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(busy.iter().all(|child| is_alive(*child)), "they go on");
    signal(busy[0], "KILL");
    wait_until("one run ends", || !(server.is_running("r1") && server.is_running("r2")));
    let (failed, other) = if server.is_running("r1") { ("r2", "r1") } else { ("r1", "r2") };
    let failure = server.show(failed)["failures"]["t"].clone();
    assert_eq!(failure["kind"], "trap", "{failure}");
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(message.contains("signal: 9 (SIGKILL)") && message.contains("fewer slots"), "{message}");
    assert!(is_alive(busy[1]) && server.is_running(other), "its neighbour goes on");
    server.submit("r3", "use = \"hostile#noop\"");
    wait_until("a later run succeeds", || server.show("r3")["state"] == "success");
    server.run(&["cancel", other]).expect(0);
    wait_until("a cancelled run ends", || !server.is_running(other));
    wait_for_end(&busy);
}

#[test]
fn a_server_that_stops_leaves_no_child() {
    let mut server = IsolatedServer::start();
    server.submit("r0", "use = \"hostile#noop\"");
    server.submit_spinning("r1");
    server.spinning_children(1);
    let before = children(server.process.id());
    server.process.signal("TERM");
    assert!(server.process.wait().success());
    wait_for_end(&before);
}

#[test]
fn a_server_that_is_killed_leaves_no_child() {
    let server = IsolatedServer::start();
    server.submit("r0", "use = \"hostile#noop\"");
    server.submit_spinning("r1");
    server.spinning_children(1);
    let before = children(server.process.id());
    server.process.kill();
    wait_for_end(&before);
}

/// What a guest that has taken over its process finds there.
#[test]
fn a_child_has_no_rights() {
    let server = IsolatedServer::start();
    server.submit_spinning("r1");
    let [child] = server.spinning_children(1)[..] else { panic!("there is one") };
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{child}/{name}")).expect("it runs");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line[name.len()..].trim().to_owned()
    };
    assert_eq!((field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("2", "1"), "{status}");
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    // The kernel ends it before its parent if there is no memory left.
    assert_eq!(read("oom_score_adj").trim(), "1000");
    let limits = read("limits");
    for limit in ["Max open files ", "Max file size ", "Max core file size "] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap_or_else(|| panic!("no {limit}"));
        let values: Vec<&str> = line[limit.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, ["0", "0"], "{line}");
    }
    // The tests may be restricted themselves.
    let filters = |status: &str| -> u32 {
        let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).unwrap_or("0");
        count.trim().parse().expect("a number")
    };
    let inherited = filters(&std::fs::read_to_string("/proc/self/status").expect("it runs"));
    // Every thread is restricted, also those from before the last restriction.
    for thread in std::fs::read_dir(format!("/proc/{child}/task")).expect("it runs") {
        let status = std::fs::read_to_string(thread.expect("readable").path().join("status")).expect("it runs");
        assert_eq!(filters(&status), inherited + 3, "{status}");
    }
    // Only root may look at what such a process has open.
    if let Ok(opened) = std::fs::read_dir(format!("/proc/{child}/fd")) {
        assert_eq!(read("environ"), "");
        let target = |entry: std::io::Result<std::fs::DirEntry>| {
            let target = std::fs::read_link(entry.expect("readable").path()).expect("a link");
            target.to_string_lossy().into_owned()
        };
        // The standard streams with copies of the stream to the server, and parts of the code of the module.
        let is_own = |target: &String| {
            target == "/dev/null" || target.starts_with("socket:") || target.starts_with("/memfd:wasm-memory-image")
        };
        let other: Vec<String> = opened.map(target).filter(|target| !is_own(target)).collect();
        assert_eq!(other, [""; 0]);
    }
    server.run(&["cancel", "r1"]).expect(0);
}
