//! Labels, and commands to the runs that a filter selects, over SQLite and through the binary.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use waft_tests::in_a_terminal;

use super::*;

/// A flow whose only task waits to be notified.
const WAITS: &str = "name = \"shop\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\nprovides = [\"v\"]\n\
                     [inputs]\nguest = \"Ann\"\n";

fn server_with_runs() -> TestServer {
    let server = TestServer::new();
    server.waft.flow(WAITS);
    for (run, team) in [("r1", "shop"), ("r2", "shop"), ("r3", "bank")] {
        let labels = [format!("team={team}"), format!("order={run}")];
        let submit = ["submit", "flow.toml", "--run-id", run, "--label", &labels[0], "--label", &labels[1]];
        server.run(&submit).expect(0);
    }
    server
}

fn runs(output: &CommandOutput) -> Vec<String> {
    let runs = output.expect(0).json();
    runs.iter().map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
}

fn wait_for(server: &TestServer, run: &str, state: &str) {
    while server.state(run) != state {}
}

#[test]
fn runs_are_listed_by_labels_and_texts() {
    let server = server_with_runs();
    let list = |flags: &[&str]| runs(&server.run(&[&["list", "--json"][..], flags].concat()));
    assert_eq!(list(&["--label", "team=shop"]), ["r2", "r1"]);
    assert_eq!(list(&["--label", "team", "--label", "order=r3"]), ["r3"]);
    assert_eq!(list(&["--text", "Ann", "--limit", "2"]), ["r3", "r2"]);
    assert_eq!(list(&["--text", "r1", "--state", "running"]), ["r1"]);
    let table = server.run(&["list"]).expect(0).stdout.clone();
    assert!(table.contains("LABELS") && table.contains("order=r3 team=bank"), "{table}");
    let shown = server.run(&["show", "r1"]).expect(0).stdout.clone();
    assert!(shown.contains("labels: order=r1 team=shop"), "{shown}");
    assert_eq!(server.run(&["show", "r1", "--json"]).expect(0).end()["labels"], json!({"order": "r1", "team": "shop"}));
    let refused = |flags: &[&str], message: &str| {
        assert_error(&server.run(&[&["submit", "flow.toml"][..], flags].concat()), 2, message);
    };
    refused(&["--label", "team"], "write NAME=VALUE");
    refused(&["--label", "Team=x"], "is not the name of a label");
    refused(&["--label", "team=\u{1b}[31m"], "the value has the character");
    refused(&["--label", "team=a", "--label", "team=b"], "label team is given twice");
    refused(&["--run-id", "r1", "--label", "team=shop"], "submitted with other content: label order");
    assert_error(&server.run(&["list", "--label", "%"]), 2, "is not the name of a label");
}

#[test]
fn a_local_run_has_labels_too() {
    let waft = Waft::default();
    let text = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n";
    let output = waft.run_flow(text, &["--run-id", "r", "--label", "team=shop"]);
    assert_eq!(output.expect(0).json()[0]["labels"], json!({"team": "shop"}));
    let listed = waft.run(["list", "--label", "team=shop", "--json"]);
    assert_eq!(runs(&listed), ["r"]);
    assert_error(&waft.run(["list", "--label", "team=bank"]), 0, "no run fits");
    assert_eq!(waft.run(["watch", "r", "--json"]).expect(0).json()[0]["labels"], json!({"team": "shop"}));
}

#[test]
fn a_command_reaches_all_runs_of_a_filter() {
    let server = server_with_runs();
    let output = server.run(&["cancel", "--label", "team=shop", "--dry-run"]);
    assert_eq!(output.expect(0).stdout, "r2\nr1\n");
    assert!(output.stderr.contains("2 runs would be asked to cancel"), "{}", output.stderr);
    let unanswered = server.run(&["cancel", "--label", "team=shop"]);
    assert_error(&unanswered, 2, "this would cancel 2 runs, and there is no terminal to ask at");
    assert_error(&server.run(&["cancel"]), 2, "nothing says which runs to cancel");
    assert_error(&server.run(&["cancel", "r1", "--flow", "shop"]), 2, "r1 names one run");
    assert_error(
        &server.run(&["cancel", "--flow", "shop", "--logbook", "memory:"]),
        2,
        "a filter selects runs on a server",
    );
    assert_error(&server.run(&["resume", "--state", "running", "--yes"]), 2, "cannot be asked for resume");
    assert_eq!(server.state("r1"), "running");
    let suspended = server.run(&["suspend", "--flow", "shop", "--label", "team=shop", "--yes"]);
    assert_eq!(suspended.expect(0).stdout, "suspend: 2 runs done, 0 refused\n");
    wait_for(&server, "r1", "suspended");
    wait_for(&server, "r2", "suspended");
    let resumed = server.run(&["resume", "--text", "Ann", "--yes", "--json"]).expect(0).end();
    assert_eq!((&resumed["done"], &resumed["next"]), (&json!(2), &Value::Null), "{resumed}");
    let cancelled = server.run(&["cancel", "--all", "--yes"]);
    assert_eq!(cancelled.expect(0).stdout, "cancel: 3 runs done, 0 refused\n");
    wait_for(&server, "r3", "rolled-back");
    // The entries are written beside the answer.
    let is_noted = || {
        let entries = server.run(&["audit", "r3", "--json"]).expect(0).json();
        entries.iter().any(|entry| entry["action"] == "cancel")
    };
    while !is_noted() {}
    assert_eq!(server.run(&["cancel", "r3"]).expect(2).stdout, "", "one run is commanded as before");
}

#[test]
fn runs_without_a_server_are_not_selected() {
    let waft = Waft::default();
    let output = waft.run(["cancel", "--flow", "f", "--yes", "--server", "http://127.0.0.1:1"]);
    assert_error(&output, 4, "127.0.0.1:1");
}

#[test]
fn a_person_is_asked_before_several_runs_get_a_command() {
    let server = server_with_runs();
    let cancel = server.command(&["cancel", "--label", "team=shop"]);
    let answered = |answer: &str| in_a_terminal(&cancel, "dumb", answer);
    let printed = answered("n\n");
    assert!(printed.contains("2 runs: r2, r1") && printed.contains("nothing was done"), "{printed}");
    assert_eq!(server.state("r1"), "running");
    let printed = answered("y\n");
    assert!(printed.contains("cancel: 2 runs done, 0 refused"), "{printed}");
    wait_for(&server, "r1", "rolled-back");
    wait_for(&server, "r2", "rolled-back");
    let printed = answered("");
    assert!(printed.contains("no run fits that can be asked to cancel"), "{printed}");
    assert_eq!(server.state("r3"), "running");
}

/// Reads a request with its body.
fn receive(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

/// A server that gives these answers, each on a connection of its own. It sends the requests to the channel.
fn scripted(answers: Vec<(u16, Value)>) -> (String, std::sync::mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it listens"));
    let (requests, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for ((status, answer), stream) in answers.into_iter().zip(listener.incoming()) {
            let mut stream = stream.expect("a connection");
            requests.send(receive(&stream)).expect("the test waits");
            let kind = if status == 200 { "application/json" } else { "application/problem+json" };
            let (body, connection) = (answer.to_string(), "connection: close");
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{connection}\r\ncontent-length: ");
            stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).expect("an answer is sent");
        }
    });
    (address, received)
}

#[test]
fn a_command_that_fails_in_the_middle_says_how_far_it_came() {
    let page = json!({
        "action": "cancel", "dry_run": false, "matched": 1500, "done": 998, "refused": 2, "next": "7.r",
        "refusals": [{"run": "a\nb", "status": 409, "reason": "it has \u{1b}[31mended"}],
    });
    let problem = json!({"type": "urn:waft:problem:unavailable", "title": "t", "status": 503, "detail": "no logbook"});
    let (address, received) = scripted(vec![(200, page), (503, problem)]);
    let output = Waft::default().run(["cancel", "--flow", "f", "--yes", "--server", &address]);
    assert_error(&output, 4, "no logbook");
    for text in ["1000 of 1500 so far", "cancel: 998 runs done, 2 refused, and more", "the same command again"] {
        assert!(output.stderr.contains(text), "{text:?} is not in:\n{}", output.stderr);
    }
    assert!(!output.stderr.contains(['\u{1b}']) && !output.stderr.contains("a\nb"), "{:?}", output.stderr);
    let requests: Vec<Value> = received.iter().collect();
    assert_eq!(requests[0]["where"], json!({"flow": "f"}));
    assert_eq!((&requests[0]["after"], &requests[1]["after"]), (&Value::Null, &json!("7.r")));
}
