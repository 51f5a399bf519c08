//! Grants and secrets of a running server: a changed settings file takes effect without a restart.

use serde_json::{Value, json};
use waft_tests::{CommandOutput, HttpServer, Waft, wait_until};

use super::{TestServer, serve};

/// What a process says when it uses other grants.
const CHANGED: &str = "what calls may reach has changed";

/// The requests to a server, as a key of a table.
fn any(http: &HttpServer) -> String {
    format!("http = [\"* http://127.0.0.1:{}/**\"]", http.port())
}

/// Changes the settings of the server, and waits until it uses them.
#[track_caller]
fn change(server: &mut TestServer, settings: &str) {
    server.waft.set_settings(settings);
    server.process.wait_for(CHANGED);
}

/// Writes a flow with one task of the guest.
fn write_flow(server: &TestServer, task: &str, inputs: &Value, keys: &str) {
    let inputs = inputs.as_object().expect("inputs are an object").iter();
    let inputs: String = inputs.map(|(name, value)| format!("{name} = {value}, ")).collect();
    let task = format!("[[task]]\nname = \"t\"\nuse = \"outside#{task}\"\nwith = {{ {inputs} }}\n{keys}\n");
    server.waft.flow(&format!("name = \"f\"\n{task}"));
}

/// Runs the flow in the folder at the server. The settings of the server are not those of the command.
fn submit(server: &TestServer) -> CommandOutput {
    let mut command = server.command(&["submit", "flow.toml", "--wait", "--json"]);
    command.env("XDG_CONFIG_HOME", server.waft.folder().join("none")).output().expect("waft starts").into()
}

fn fetch(server: &TestServer, http: &HttpServer) -> CommandOutput {
    write_flow(server, "fetch", &json!({ "url": http.url("/text") }), &format!("allow = {{ {} }}", any(http)));
    submit(server)
}

#[test]
fn a_changed_grant_takes_effect_without_a_restart() {
    let (mut server, http) = (TestServer::new(), HttpServer::start());
    let grant = format!("[[grant]]\n{}\n", any(&http));
    assert_eq!(fetch(&server, &http).expect(1).failure("t").0, "denied");
    change(&mut server, &grant);
    assert_eq!(fetch(&server, &http).expect(0).end()["provides"]["text"], "text of the server");

    // An error changes nothing; the log names its place and what to do.
    server.waft.set_settings(&format!("{grant}clok = true\nrandom = 3\n[[grant]]\nhttp = [\"GET a.example\"]\n"));
    let line = server.process.wait_for("changed settings are not used");
    for says in [
        "config.toml, line 3, column 1: unknown field `clok`",
        "config.toml, line 4, column 10: invalid type: integer `3`, expected a boolean",
        "config.toml, line 6, column 9: [[grant]] number 2: http: \"GET a.example\" is no pattern of HTTP requests",
        "until then its tables [[grant]] and [secret] before stay in use",
    ] {
        assert!(line.contains(says), "{says:?} is not in {line}");
    }
    fetch(&server, &http).expect(0);
    server.waft.set_settings("[[grant]\n");
    let line = server.process.wait_for("changed settings are not used");
    assert!(line.contains("config.toml, line 1, column 9 cannot be read"), "{line}");
    fetch(&server, &http).expect(0);

    change(&mut server, "");
    assert_eq!(fetch(&server, &http).expect(1).failure("t").0, "denied");
}

#[test]
fn a_call_that_started_keeps_what_it_was_granted() {
    let (mut server, http) = (TestServer::new(), HttpServer::start());
    change(&mut server, &format!("[[grant]]\n{}\n", any(&http)));
    let urls = json!({ "urls": [http.url("/held"), http.url("/text")] });
    write_flow(&server, "visit", &urls, &format!("allow = {{ {} }}", any(&http)));
    server.submit("r1");
    wait_until(|| !http.received().is_empty());
    change(&mut server, "");
    assert_eq!(http.received().len(), 1, "the second request was not sent yet");
    http.release();
    let output = server.run(&["watch", "r1", "--json"]);
    assert_eq!(output.expect(0).end()["provides"]["outcomes"], json!(["200", "200"]));
    assert_eq!(fetch(&server, &http).expect(1).failure("t").0, "denied");
}

#[test]
fn a_changed_secret_takes_effect_without_a_restart() {
    let (mut server, http) = (TestServer::new(), HttpServer::start());
    let any = any(&http);
    let [old, new] = ["old", "new"].map(|name| server.waft.write_private(name, format!("{name}-s3cret\n")));
    let settings = |file: &std::path::Path| {
        let file = file.display();
        format!(
            "[[grant]]\n{any}\nsecrets = [\"KEY\"]\n[secret.KEY]\nfile = \"{file}\"\nheaders = [\"x-ask\"]\n{any}\n"
        )
    };
    let inputs = json!({ "url": http.url("/echo"), "header": ["x-ask", "{{secret:KEY}}"] });
    let run = |server: &TestServer| {
        write_flow(server, "request", &inputs, &format!("allow = {{ {any}, secrets = [\"KEY\"] }}"));
        submit(server).expect(0);
        http.received().last().expect("a request").header("x-ask").map(str::to_owned)
    };
    change(&mut server, &settings(&old));
    assert_eq!(run(&server).as_deref(), Some("old-s3cret"));
    change(&mut server, &settings(&new));
    assert_eq!(run(&server).as_deref(), Some("new-s3cret"));
}

#[test]
fn a_server_explains_what_its_workers_grant() {
    let (mut server, http) = (TestServer::new(), HttpServer::start());
    change(&mut server, &format!("[[grant]]\nflow = \"f\"\n{}\n", any(&http)));
    let inputs = json!({ "url": http.url("/text") });
    write_flow(&server, "fetch", &inputs, &format!("allow = {{ {}, clock = true }}", any(&http)));
    // The settings of this folder are those of the server; the answer comes from the worker in it all the same.
    let explain = |more: &[&str]| server.run(&[&["grants", "explain", "flow.toml"], more].concat());
    let pattern = format!("http * http://127.0.0.1:{}/**", http.port());
    let asked = json!([
        { "what": pattern, "all": 1, "some": 0, "none": 0 },
        { "what": "clock", "all": 0, "some": 0, "none": 1 },
    ]);
    let grant = "[[grant]]\nflow = \"f\"\ntask = \"t\"\nclock = true\n";
    let explained = explain(&["--json"]).expect(0).end();
    assert_eq!(explained, json!({ "task": "t", "queue": "default", "workers": 1, "asked": asked, "grant": grant }));
    let text = explain(&[]).expect(0).stdout.clone();
    for says in
        ["t in the queue default: 1 worker answered\n", &format!("  {pattern}: granted\n"), "  clock: refused\n", grant]
    {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
    assert!(explain(&["--local", "--json"]).expect(0).stdout.contains("config.toml"));
    let checked = server.run(&["check", "flow.toml"]);
    let says = format!("  t asks for {pattern} (granted), clock (refused)\n");
    assert!(checked.expect(0).stdout.contains(&says), "{}", checked.stdout);
    // A queue without a worker.
    let keys = format!("queue = \"ovens\"\nallow = {{ {} }}", any(&http));
    write_flow(&server, "fetch", &inputs, &keys);
    let text = explain(&[]).expect(0).stdout.clone();
    assert_eq!(text, "t in the queue ovens: no worker answered\n");
}

/// Explains the flow in the folder for a token.
fn explain_for(server: &TestServer, token: &str) -> CommandOutput {
    let mut command = server.command(&["grants", "explain", "flow.toml", "--json"]);
    command.env("WAFT_TOKEN", token).output().expect("waft starts").into()
}

#[test]
fn a_token_learns_only_what_its_namespace_is_granted() {
    let waft = Waft::default();
    let settings = "[worker]\nqueues = [\"default\", \"shop/default\", \"other/default\"]\n";
    waft.set_settings(settings);
    let (process, address) = serve(&waft, "127.0.0.1:0");
    let mut server = TestServer { waft, address, process };
    change(
        &mut server,
        &format!(
            "{settings}[[grant]]\nnamespace = \"shop\"\nclock = true\n[[grant]]\nnamespace = \"other\"\nrandom = true\n"
        ),
    );
    write_flow(&server, "random", &json!({}), "allow = { clock = true, random = true }");
    let token = |namespace: &str, scope: &str| {
        let name = format!("{namespace}-{scope}");
        let made = server.run(&["token", "create", &name, "--scope", scope, "--namespace", namespace]);
        made.expect(0).stdout.trim().to_owned()
    };
    let [shop, other] = ["shop", "other"].map(|namespace| token(namespace, "submit"));
    for (namespace, token, granted) in [("shop", &shop, [1, 0]), ("other", &other, [0, 1])] {
        let explained = explain_for(&server, token).expect(0).end();
        assert_eq!(explained["queue"], format!("{namespace}/default"));
        let all = explained["asked"].as_array().expect("a list").iter().map(|asked| asked["all"].clone());
        assert_eq!(all.collect::<Vec<_>>(), granted, "{namespace}");
        let missing = if granted[0] == 0 { "clock" } else { "random" };
        let grant = format!("[[grant]]\nflow = \"{namespace}/f\"\ntask = \"t\"\n{missing} = true\n");
        assert_eq!(explained["grant"], grant, "it is for the flow in the namespace");
    }
    let read = explain_for(&server, &token("shop", "read"));
    assert!(read.expect(2).stderr.contains("submit"), "{}", read.stderr);
    // The advice for one namespace grants all to its flow, and nothing to the flow of that name elsewhere.
    let advice = explain_for(&server, &shop).expect(0).end()["grant"].as_str().expect("a table").to_owned();
    change(&mut server, &format!("{settings}[[grant]]\nnamespace = \"shop\"\nclock = true\n{advice}"));
    for (token, granted, grant) in [(&shop, [1, 1], "null"), (&other, [0, 0], "[[grant]]")] {
        let explained = explain_for(&server, token).expect(0).end();
        let all = explained["asked"].as_array().expect("a list").iter().map(|asked| asked["all"].clone());
        assert_eq!(all.collect::<Vec<_>>(), granted, "{explained}");
        assert!(explained["grant"].to_string().contains(grant), "{explained}");
    }
    let text = std::fs::read_to_string(server.waft.folder().join("flow.toml")).expect("the flow");
    server.waft.write("flow.toml", text.replacen("name = \"f\"", "name = \"other/f\"", 1));
    let foreign = explain_for(&server, &shop);
    assert!(foreign.expect(2).stderr.contains("limited"), "{}", foreign.stderr);
}
