//! Events of all runs: those that a command prints, and those that a webhook gets.

use std::fs::{self, File};

use serde_json::Value;
use waft_tests::{HttpServer, Process, Role, TestBroker, Waft, start_rabbit, wait_until};

use super::{TestServer, serve_with};

/// A flow whose only task waits.
const WAITS: &str = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n";

#[test]
fn the_states_of_all_runs_are_printed_as_they_change() {
    let server = TestServer::new();
    let path = server.waft.folder().join("events");
    let file = File::create(&path).expect("the folder can be written");
    // After the line about an unknown id, it watches.
    let mut watch = Process::spawn(server.command(&["events", "--flow", "f", "--after", "1-0"]).stdout(file));
    watch.wait_for("events of all runs were lost before this one");
    server.waft.flow(WAITS);
    server.submit("r1");
    server.run(&["notify", "r1", "w"]).expect(0);
    let printed = || fs::read_to_string(&path).expect("it is a file");
    wait_until(|| printed().contains("  f  r1  success\n"));
    let printed = printed();
    for expected in ["  f  r1  running\n", "  f  r1  task w  running\n", "  f  r1  task w  success\n"] {
        assert!(printed.contains(expected), "{expected:?} is not in:\n{printed}");
    }
}

#[test]
fn a_webhook_gets_what_it_had_not_accepted_before_the_server_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rabbit = start_rabbit(folder.path());
    let (waft, broker, http) = (Waft::default(), TestBroker::from(&rabbit), HttpServer::start());
    let secret = waft.write_private("secret", "0123456789abcdef0123456789abcdef");
    waft.set_settings(&format!(
        "[[webhook]]\nname = \"pager\"\nurl = \"{}\"\nsecret_file = {secret:?}\nkind = [\"run\"]\nstate = [\"success\"]\n\
         networks = [\"127.0.0.0/8\"]\n",
        http.url("/held")
    ));
    let url = broker.url(Role::Engine);
    let arguments = ["--listen", "127.0.0.1:0", "--broker", &url];
    let (process, address) = serve_with(&waft, &arguments);
    let server = TestServer { waft, address, process };
    server.waft.flow(WAITS);
    let mut number = 0;
    // The server may not have declared its queue when the first run ends.
    wait_until(|| {
        number += 1;
        let run = format!("r{number}");
        server.submit(&run);
        server.run(&["notify", &run, "w"]).expect(0);
        !http.received().is_empty()
    });
    let held = http.received()[0].clone();
    assert!(held.header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")), "{held:?}");
    let TestServer { waft, process, .. } = server;
    process.kill();
    let before = http.received().len();
    http.release();
    let (process, address) = serve_with(&waft, &arguments);
    let again = || http.received()[before..].iter().any(|request| request.body == held.body);
    wait_until(again);
    let repeated = http.received()[before..].iter().find(|request| request.body == held.body).cloned();
    let repeated = repeated.expect("it was received");
    assert_eq!(repeated.header("webhook-id"), held.header("webhook-id"));

    let server = TestServer { waft, address, process };
    let tried = server.run(&["webhooks", "test", "pager", "--json"]).expect(0).end();
    assert_eq!(tried["status"], 200);
    wait_until(|| {
        let listed = server.run(&["webhooks", "list", "--json"]).expect(0).end();
        listed["waiting"] == 0 && listed["delivered"].as_u64() > Some(1)
    });
    let log = server.run(&["webhooks", "log", "pager", "--json"]).expect(0).json();
    assert!(log.iter().any(|tried: &Value| tried["subject"] == "test"), "{log:?}");
}
