//! Tests where the secrets of requests come from and go, as a user meets it on one machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use waft_tests::{CommandOutput, HttpServer, Waft};

/// The requests to a server, as a key of a table.
fn any(http: &HttpServer) -> String {
    format!("http = [\"* http://127.0.0.1:{}/**\"]", http.port())
}

/// Grants the secret KEY with these keys of its table.
fn grant(waft: &Waft, http: &HttpServer, table: &str) {
    let any = any(http);
    waft.set_settings(&format!("[[grant]]\n{any}\nsecrets = [\"KEY\"]\n[secret.KEY]\n{any}\n{table}\n"));
}

fn run(waft: &Waft, http: &HttpServer, task: &str, inputs: &Value) -> CommandOutput {
    let inputs = inputs.as_object().expect("inputs are an object").iter();
    let inputs: String = inputs.map(|(name, value)| format!("{name} = {value}, ")).collect();
    let allow = format!("allow = {{ {}, secrets = [\"KEY\"] }}", any(http));
    waft.run_flow(
        &format!("name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"outside#{task}\"\nwith = {{ {inputs} }}\n{allow}\n"),
        &[],
    )
}

/// Sends the secret in the header `x-ask`.
fn send(waft: &Waft, http: &HttpServer) -> CommandOutput {
    run(waft, http, "request", &json!({ "url": http.url("/echo"), "header": ["x-ask", "{{secret:KEY}}"] }))
}

#[track_caller]
fn last_header(http: &HttpServer) -> Option<String> {
    http.received().last().and_then(|request| request.header("x-ask").map(str::to_owned))
}

/// Writes a program of the shell.
fn program(waft: &Waft, text: &str) -> String {
    let path = waft.write("secret.sh", format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("the file is ours");
    path.display().to_string()
}

#[test]
fn a_secret_may_be_what_a_program_prints() {
    let (waft, http) = (Waft::default(), HttpServer::start());
    let path = program(&waft, "echo \"of $1: s3cret\"");
    grant(&waft, &http, &format!("command = [{path:?}, \"lb; $(id)\"]\nheaders = [\"x-ask\"]"));
    let output = send(&waft, &http);
    assert_eq!(output.expect(0).end()["provides"]["answer"]["header"], "{{secret:KEY}}");
    assert_eq!(last_header(&http).as_deref(), Some("of lb; $(id): s3cret"), "no shell reads the arguments");
    program(&waft, "echo s3cret; echo s3cret >&2; exit 4");
    let output = send(&waft, &http);
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "transient");
    assert!(message.contains("the secret KEY has no value: the log of its worker says why"), "{message}");
    assert!(output.stderr.contains("failed: exit status: 4"), "{}", output.stderr);
    assert!(!format!("{}{}", output.stdout, output.stderr).contains("s3cret"), "its output is never shown");
}

#[test]
fn a_secret_may_be_a_field_of_an_entry_of_vault() {
    let (waft, http) = (Waft::default(), HttpServer::start());
    let token = waft.write_private("token", "t0ken\n");
    let vault = |token: &Path| {
        let entry = format!(
            "address = \"http://127.0.0.1:{}\", path = \"secret/data/lb\", field = \"token\", token_file = {token:?}",
            http.port()
        );
        grant(&waft, &http, &format!("vault = {{ {entry} }}\nheaders = [\"x-ask\"]"));
    };
    vault(&token);
    send(&waft, &http).expect(0);
    assert_eq!(last_header(&http).as_deref(), Some("lb-s3cret-1"));
    let wrong = waft.write_private("wrong", "hvs.wr0ng\n");
    vault(&wrong);
    let output = send(&waft, &http);
    let (kind, message) = output.expect(1).failure("t");
    assert_eq!(kind, "transient");
    assert!(message.contains("the secret KEY has no value: the log of its worker says why"), "{message}");
    assert!(output.stderr.contains("Vault at http://127.0.0.1:"), "{}", output.stderr);
    assert!(output.stderr.contains("status 403: the token is not valid"), "{}", output.stderr);
    assert!(!format!("{}{}", output.stdout, output.stderr).contains("wr0ng"), "the token is never shown");
}

#[test]
fn a_secret_may_be_in_a_query_and_in_a_body() {
    let (waft, http) = (Waft::default(), HttpServer::start());
    let file = waft.write_private("key", "s3\"cr&et\n");
    grant(&waft, &http, &format!("file = {file:?}\nquery = [\"api_key\"]\nbody = true"));
    let inputs = json!({
        "method": "POST",
        "url": http.url("/echo?a=1&api_key={{secret:KEY}}"),
        "header": ["content-type", "application/json"],
        "body": "{\"password\":\"{{secret:KEY}}\"}",
    });
    let output = run(&waft, &http, "request", &inputs);
    let answer = output.expect(0).end()["provides"]["answer"].clone();
    let received = http.received();
    assert_eq!(received[0].line, "POST /echo?a=1&api_key=s3%22cr%26et HTTP/1.1");
    assert_eq!(received[0].body, "{\"password\":\"s3\\\"cr&et\"}");
    assert_eq!(answer["body"], "{\"password\":\"{{secret:KEY}}\"}", "the guest does not see it");
    // A header and another parameter are no places for it.
    let denied = [
        (json!({ "url": http.url("/echo"), "header": ["x-ask", "{{secret:KEY}}"] }), "in the header x-ask of GET"),
        (json!({ "url": http.url("/echo?other={{secret:KEY}}") }), "in the parameter \"other\" of GET"),
    ];
    for (inputs, place) in denied {
        let (kind, message) = run(&waft, &http, "request", &inputs).expect(1).failure("t");
        assert_eq!(kind, "denied");
        assert!(message.contains(&format!("the secret KEY is denied {place}")), "{message}");
    }
    assert_eq!(http.received().len(), 1, "nothing else was sent");
}

#[test]
fn what_a_guest_leaves_does_not_contain_the_secret() {
    let (waft, http) = (Waft::default(), HttpServer::start());
    let file = waft.write_private("key", "s3cret-of-lb\n");
    grant(&waft, &http, &format!("file = {file:?}\nheaders = [\"x-ask\"]"));
    let inputs = |fails: bool| json!({ "url": http.url("/reversed"), "fails": fails });
    let output = run(&waft, &http, "leak", &inputs(false));
    let sent = |name: &str| http.received().iter().find_map(|request| request.header(name).map(str::to_owned));
    assert_eq!(["x-ask", "x-again"].map(|name| sent(name).expect("it was sent")), ["s3cret-of-lb"; 2]);
    let left = json!({ "value": "{{secret:KEY}}", "{{secret:KEY}}": 1 });
    assert_eq!(output.expect(0).end()["provides"]["left"], left);
    let run_id = output.end()["run"].as_str().expect("an id").to_owned();
    let logs = waft.run(["logs", &run_id]);
    for says in ["logged {{secret:KEY}}", "printed {{secret:KEY}}", "complained {{secret:KEY}}"] {
        assert!(logs.expect(0).stdout.contains(says), "{says:?} is not in {logs:?}");
    }
    let exchanges = waft.run(["logs", &run_id, "--http"]);
    let recorded =
        ["x-again: {{secret:KEY}}", "http://denied.example/{{secret:KEY}}", "is denied: the flow does not ask for it"];
    for text in recorded {
        assert!(exchanges.expect(0).stdout.contains(text), "{text:?} is not in {exchanges:?}");
    }
    let failed = run(&waft, &http, "leak", &inputs(true));
    assert!(failed.expect(1).failure("t").1.contains("failed with {{secret:KEY}}"), "{}", failed.stdout);
    for output in [&output, &logs, &exchanges, &failed] {
        assert!(!format!("{}{}", output.stdout, output.stderr).contains("s3cret"), "{output:?}");
    }
}

#[test]
fn a_value_is_fetched_again_after_a_while() {
    // In one process, whose values stay from call to call.
    let (waft, http) = (Waft::default(), HttpServer::start());
    let token = waft.write_private("token", "t0ken\n");
    let entry = format!(
        "address = \"http://127.0.0.1:{}\", path = \"secret/data/lb\", field = \"token\", token_file = {token:?}",
        http.port()
    );
    grant(&waft, &http, &format!("vault = {{ {entry} }}\nrefresh = \"4s\"\nheaders = [\"x-ask\"]"));
    let task = |name: &str, keys: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\nuse = \"outside#request\"\n{keys}\nprovides = {{ answer = \"{name}\" }}\n\
             with = {{ url = {:?}, header = [\"x-ask\", \"{{{{secret:KEY}}}}\"] }}\nallow = {{ {}, secrets = [\"KEY\"] }}\n",
            http.url("/echo"),
            any(&http)
        )
    };
    let tasks = format!("{}{}{}", task("a", ""), task("b", ""), task("c", "start_after = \"5s\""));
    let output = waft.run_flow(&format!("name = \"f\"\npattern = \"linear\"\n{tasks}"), &[]);
    output.expect(0);
    let sent = http.received().into_iter().filter_map(|request| request.header("x-ask").map(str::to_owned));
    // The first request is the one to Vault; the third task is the fourth to the server, and asks Vault before.
    assert_eq!(sent.collect::<Vec<_>>(), ["lb-s3cret-1", "lb-s3cret-1", "lb-s3cret-4"]);
    assert_eq!(http.received().len(), 5);
}
