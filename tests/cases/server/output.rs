//! Tests watchers and services whose readers leave.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use super::TestServer;
use crate::output::{EVIL, evil_flow, is_harmless};
use waft_tests::Waft;

#[test]
fn an_empty_list_explains_itself() {
    let mut served = TestServer::new();
    let ran = served.run(&["list"]);
    assert!(ran.expect(0).stderr.contains("there are no runs yet"), "{}", ran.stderr);
    submit_one_that_waits(&served, "r");
    let ran = served.run(&["list", "--state", "failure"]);
    assert!(ran.expect(0).stderr.contains("no run fits"), "{}", ran.stderr);
    served.server.signal("TERM");
    served.server.wait();
    let heard = served.server.output();
    assert!(heard.lines().filter(|line| line.contains("shard")).count() <= 1, "{heard}");
}

/// A run that waits for a person, so no more events come.
fn submit_one_that_waits(served: &TestServer, run: &str) {
    served.waft.write("flow.toml", "name = \"f\"\n[[task]]\nname = \"ask\"\nwait = \"an answer\"\n");
    served.submit(run);
}

#[test]
fn watch_ends_when_its_reader_leaves() {
    let served = TestServer::new();
    submit_one_that_waits(&served, "r");
    for arguments in [&["watch", "r", "--json"][..], &["submit", "flow.toml", "--run-id", "s", "--wait", "--json"]] {
        let mut watching = served.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("\"running\""));
        drop(lines);
        let ended = watching.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr), (Some(141), Vec::new()), "{arguments:?}");
    }
    assert_eq!(served.state("s"), "running", "who watches does not matter to the run");
}

#[test]
fn a_server_continues_without_a_log_reader() {
    let waft = Waft::default();
    let mut command = waft.command(["serve", "--listen", "127.0.0.1:0", "-vv"]);
    let mut server = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("waft listens on ")).unwrap().unwrap();
    drop(lines);
    let address = line.trim_start_matches("waft listens on ").trim();
    waft.flow("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n");
    let submitted = waft.command(["submit", "flow.toml", "--wait"]).env("WAFT_SERVER", address).status();
    assert_eq!(submitted.unwrap().code(), Some(0));
    waft_tests::signal(server.id(), "TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0), "it lived until it was told to stop");
}

#[test]
fn remote_output_cannot_control_the_terminal() {
    let served = TestServer::new();
    evil_flow(&served.waft);
    let submit = ["submit", "flow.toml", "--run-id", "r", "--wait"];
    is_harmless("submit --wait", &served.run(&submit));
    let skip = ["skip", "r", "hold", "--reason", EVIL];
    is_harmless("skip", &served.run(&skip));
    for arguments in [
        &["show", "r"][..],
        &["show", "r", "--json"],
        &["watch", "r"],
        &["watch", "r", "--json"],
        &["logs", "r"],
        &["logs", "r", "--json"],
    ] {
        let ran = served.run(arguments);
        is_harmless(arguments[0], &ran);
        assert!((ran.stdout.clone() + &ran.stderr).contains("]0;title"), "{arguments:?} says it: {}", ran.stderr);
    }
    submit_one_that_waits(&served, "waits");
    is_harmless("notify", &served.run(&["notify", "waits", "ask", "--fail", EVIL]));
    is_harmless("watch", &served.run(&["watch", "waits"]));
    is_harmless("an unknown run", &served.run(&["show", EVIL]));
}
