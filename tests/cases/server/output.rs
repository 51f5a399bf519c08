//! Tests watchers and services whose readers leave.

use std::{
    io::{BufRead, BufReader, pipe},
    process::Stdio,
};

use super::TestServer;
use crate::output::{DISK_IS_FULL, EVIL, assert_harmless, evil_flow, full_disk};
use waft_tests::{Process, Waft};

#[test]
fn an_empty_list_prints_a_hint() {
    let mut server = TestServer::new();
    let output = server.run(&["list"]);
    assert!(output.expect(0).stderr.contains("there are no runs yet"), "{}", output.stderr);
    submit_waiting_run(&server, "r");
    let output = server.run(&["list", "--state", "failure"]);
    assert!(output.expect(0).stderr.contains("no run fits"), "{}", output.stderr);
    server.process.signal("TERM");
    server.process.wait();
    let log = server.process.output();
    assert!(log.lines().filter(|line| line.contains("shard")).count() <= 1, "{log}");
}

/// A run that waits for a user, so no more events come.
fn submit_waiting_run(server: &TestServer, run: &str) {
    server.waft.write("flow.toml", "name = \"f\"\n[[task]]\nname = \"ask\"\nwait = \"an answer\"\n");
    server.submit(run);
}

#[test]
fn watch_ends_when_its_reader_leaves() {
    let server = TestServer::new();
    submit_waiting_run(&server, "r");
    for arguments in [&["watch", "r", "--json"][..], &["submit", "flow.toml", "--run-id", "s", "--wait", "--json"]] {
        let mut watching = server.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("\"running\""));
        drop(lines);
        let ended = watching.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr), (Some(141), Vec::new()), "{arguments:?}");
    }
    assert_eq!(server.state("s"), "running", "a watcher does not affect the run");
}

#[test]
fn followers_of_logs_and_events_end_when_their_readers_leave() {
    let server = TestServer::new();
    let flow = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = { text = \"hello\", ms = 600000 }\n\
                timeout = \"20m\"\n";
    server.waft.flow(flow);
    server.submit("r");
    // No more lines come after the first ones.
    let (reader, writer) = pipe().expect("a pipe");
    let mut logs = Process::spawn(server.command(&["logs", "r", "--follow"]).stdout(writer));
    assert!(BufReader::new(reader).lines().next().unwrap().unwrap().ends_with("hello"));
    assert_eq!((logs.wait().code(), logs.output().as_str()), (Some(141), ""));

    let (reader, writer) = pipe().expect("a pipe");
    let mut events = Process::spawn(server.command(&["events", "--after", "1-0"]).stdout(writer));
    // After this line, it watches.
    events.wait_for("events of all runs were lost before this one");
    server.submit("s");
    assert!(BufReader::new(reader).lines().next().unwrap().unwrap().contains("  f  "));
    assert_eq!(events.wait().code(), Some(141), "{}", events.output());
    for run in ["r", "s"] {
        assert_eq!(server.state(run), "running", "a watcher does not affect the run");
    }
}

#[test]
fn watchers_end_when_the_disk_is_full() {
    let server = TestServer::new();
    submit_waiting_run(&server, "r");
    // The run waits for ever, so it never ends the command.
    for arguments in [&["watch", "r", "--json"][..], &["submit", "flow.toml", "--run-id", "s", "--wait", "--json"]] {
        let mut watch = Process::spawn(server.command(arguments).stdout(full_disk()));
        assert_eq!((watch.wait().code(), watch.output().as_str()), (Some(4), DISK_IS_FULL), "{arguments:?}");
    }
    let mut events = Process::spawn(server.command(&["events", "--after", "1-0"]).stdout(full_disk()));
    // After this line, it watches.
    events.wait_for("events of all runs were lost before this one");
    server.submit("t");
    assert_eq!(events.wait().code(), Some(4), "{}", events.output());
    assert!(events.output().ends_with(DISK_IS_FULL), "{}", events.output());
    server.waft.flow(
        "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#say\"\nwith = { text = \"hello\", ms = 600000 }\n\
         timeout = \"20m\"\n",
    );
    server.submit("u");
    let mut logs = Process::spawn(server.command(&["logs", "u", "--follow"]).stdout(full_disk()));
    assert_eq!((logs.wait().code(), logs.output().as_str()), (Some(4), DISK_IS_FULL));
    for run in ["r", "s", "t", "u"] {
        assert_eq!(server.state(run), "running", "a watcher does not affect the run");
    }
}

#[test]
fn a_server_continues_without_a_log_reader() {
    let waft = Waft::default();
    let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "-vv"]);
    let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("waft listens on ")).unwrap().unwrap();
    drop(lines);
    let address = line.trim_start_matches("waft listens on ").trim();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let submitted = waft.command(["submit", "flow.toml", "--wait"]).env("WAFT_SERVER", address).status();
    assert_eq!(submitted.unwrap().code(), Some(0));
    waft_tests::signal(process.id(), "TERM");
    assert_eq!(process.wait().unwrap().code(), Some(0), "it ran until it was stopped");
}

#[test]
fn remote_output_cannot_control_the_terminal() {
    let server = TestServer::new();
    evil_flow(&server.waft);
    let submit = ["submit", "flow.toml", "--run-id", "r", "--wait"];
    assert_harmless("submit --wait", &server.run(&submit));
    let skip = ["skip", "r", "hold", "--reason", EVIL];
    assert_harmless("skip", &server.run(&skip));
    for arguments in [
        &["show", "r"][..],
        &["show", "r", "--json"],
        &["watch", "r"],
        &["watch", "r", "--json"],
        &["logs", "r"],
        &["logs", "r", "--json"],
    ] {
        let output = server.run(arguments);
        assert_harmless(arguments[0], &output);
        assert!(
            (output.stdout.clone() + &output.stderr).contains("]0;title"),
            "{arguments:?} prints it: {}",
            output.stderr
        );
    }
    submit_waiting_run(&server, "waits");
    assert_harmless("notify", &server.run(&["notify", "waits", "ask", "--fail", EVIL]));
    assert_harmless("watch", &server.run(&["watch", "waits"]));
    assert_harmless("an unknown run", &server.run(&["show", EVIL]));
}
