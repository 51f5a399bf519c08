//! Namespaces: tokens that reach only a part of the server, through the binary.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;
use waft_tests::{CommandOutput, Process, Waft, guest};

use super::{assert_error, serve};

/// A server whose worker takes jobs of two namespaces, and a token for each.
struct Shared {
    waft: Waft,
    address: String,
    _process: Process,
    shop: String,
    other: String,
}

impl Shared {
    fn new() -> Self {
        let waft = Waft::default();
        std::fs::create_dir_all(waft.folder().join("configuration/waft")).expect("the folder can be written");
        let settings = "[worker]\nqueues = [\"default\", \"shop/default\", \"other/default\"]\n";
        waft.write("configuration/waft/config.toml", settings.as_bytes());
        let (process, address) = serve(&waft, "127.0.0.1:0");
        let mut shared = Self { waft, address, _process: process, shop: String::new(), other: String::new() };
        shared.shop = shared.make_token("shop");
        shared.other = shared.make_token("other");
        shared
    }

    fn make_token(&self, namespace: &str) -> String {
        let scopes = "read,submit,operate,push";
        let made = self.run("", &["token", "create", namespace, "--scope", scopes, "--namespace", namespace]);
        made.expect(0).stdout.trim().to_owned()
    }

    /// Runs a command with a token, or as the owner of the server.
    fn run(&self, token: &str, arguments: &[&str]) -> CommandOutput {
        let mut command = self.waft.command(arguments);
        command.env("WAFT_SERVER", &self.address);
        if !token.is_empty() {
            command.env("WAFT_TOKEN", token);
        }
        command.output().expect("waft starts").into()
    }

    fn list(&self, token: &str, arguments: &[&str]) -> Vec<String> {
        let listed = self.run(token, &[&["list", "--json"], arguments].concat()).expect(0).json();
        let mut flows: Vec<String> =
            listed.iter().map(|run| run["flow"].as_str().expect("a name").to_owned()).collect();
        flows.sort();
        flows
    }
}

const SLEEPS: &str = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#sleep\"\nwith = { ms = 600000 }\n\
                      provides = []\ntimeout = \"20m\"\n";

const NOOP: &str = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n";

#[test]
fn a_token_reaches_only_the_runs_of_its_namespace() {
    let shared = Shared::new();
    shared.waft.flow(NOOP);
    for (token, run) in [(shared.shop.as_str(), "a"), (&shared.other, "b"), ("", "c")] {
        shared.run(token, &["submit", "flow.toml", "--run-id", run, "--wait"]).expect(0);
    }
    assert_eq!(shared.list(&shared.shop, &[]), ["shop/f"]);
    assert_eq!(shared.list("", &[]), ["f", "other/f", "shop/f"]);
    assert_eq!(shared.list("", &["--namespace", "shop"]), ["shop/f"]);
    assert_eq!(shared.list(&shared.shop, &["--flow", "f"]), ["shop/f"]);
    assert_eq!(shared.list(&shared.shop, &["--flow", "other/f"]), [""; 0]);
    assert_error(&shared.run(&shared.shop, &["list", "--namespace", "other"]), 2, "limited to the namespace shop");
    for command in
        [&["show", "b"][..], &["watch", "b"], &["logs", "b"], &["cancel", "b"], &["retry", "b"], &["suspend", "c"]]
    {
        assert_error(&shared.run(&shared.shop, command), 2, "there is no run");
    }
    assert_error(&shared.run(&shared.shop, &["notify", "b", "t", "--set", "x=1"]), 2, "there is no run b");
    assert_error(&shared.run(&shared.shop, &["edit", "b", "remove", "t"]), 2, "there is no run b");
    assert_error(&shared.run(&shared.shop, &["submit", "flow.toml", "--run-id", "b"]), 2, "of another namespace");
    shared.run(&shared.shop, &["submit", "flow.toml", "--run-id", "a"]).expect(0);
    for command in [&["workers", "drain", "local"][..], &["token", "list"], &["audit"]] {
        let refused = shared.run(&shared.shop, command);
        assert!(refused.expect(2).stderr.contains("the token"), "{command:?}: {}", refused.stderr);
    }
    let admin = ["token", "create", "x", "--scope", "admin", "--namespace", "shop"];
    assert_error(&shared.run("", &admin), 2, "the scope admin is for the whole server");
    let tokens = shared.run("", &["token", "list"]).expect(0).stdout.clone();
    assert!(tokens.contains("shop   read,submit,operate,push  shop       "), "{tokens}");
}

#[test]
fn a_token_sees_only_the_calls_and_queues_of_its_namespace_at_a_worker() {
    let shared = Shared::new();
    shared.waft.flow(SLEEPS);
    for (token, run) in [(shared.shop.as_str(), "a"), (&shared.other, "b"), ("", "c")] {
        shared.run(token, &["submit", "flow.toml", "--run-id", run]).expect(0);
    }
    let worker = |token: &str| shared.run(token, &["workers", "--json"]).expect(0).end();
    waft_tests::wait_until(|| worker("")["busy"] == 3);
    let runs = |worker: &serde_json::Value| -> Vec<String> {
        let calls = worker["calls"].as_array().expect("calls").iter();
        let mut runs: Vec<String> = calls.map(|call| call["run"].as_str().expect("an id").to_owned()).collect();
        runs.sort();
        runs
    };
    let seen = worker(&shared.shop);
    assert_eq!((runs(&seen), &seen["other_calls"]), (vec!["a".to_owned()], &json!(2)));
    assert_eq!(seen["queues"], json!(["shop/default"]));
    assert!(seen.get("host").is_none() && seen.get("process").is_none(), "{seen}");
    let all = worker("");
    assert_eq!((runs(&all), &all["other_calls"]), (["a", "b", "c"].map(str::to_owned).to_vec(), &json!(0)));
    let unseen = shared.run(&shared.make_token("third"), &["workers", "--json"]);
    assert_eq!(unseen.expect(0).json().len(), 0, "{}", unseen.stdout);
}

#[test]
fn the_worker_of_a_server_is_drained_and_resumed() {
    let shared = Shared::new();
    let state = || shared.run("", &["workers", "--json"]).expect(0).end()["state"].clone();
    shared.run("", &["workers", "drain", "local"]).expect(0);
    assert_eq!(state(), "draining");
    assert_error(&shared.run("", &["workers", "drain", "local", "--exit"]), 2, "the worker cannot exit");
    assert_error(&shared.run("", &["workers", "drain", "nobody"]), 2, "no worker of that name answers");
    shared.waft.flow(NOOP);
    shared.run("", &["submit", "flow.toml", "--run-id", "waits"]).expect(0);
    waft_tests::wait_until(|| shared.run("", &["queues", "default", "--json"]).expect(0).end()["messages"] == 1);
    // A second time changes nothing.
    shared.run("", &["workers", "drain", "local"]).expect(0);
    assert_eq!(shared.run("", &["show", "waits", "--json"]).expect(0).end()["state"], "running");
    shared.run("", &["workers", "resume", "local"]).expect(0);
    assert_eq!(state(), "active");
    shared.run("", &["watch", "waits"]).expect(0);
    let audited = shared.run("", &["audit", "local", "--json"]).expect(0).json();
    assert!(audited.iter().any(|entry| entry["action"] == "drain-worker" && entry["status"] == 200), "{audited:?}");
}

#[test]
fn an_encoded_path_reaches_no_run_of_another_namespace() {
    let shared = Shared::new();
    shared.waft.flow(NOOP);
    shared.run(&shared.other, &["submit", "flow.toml", "--run-id", "b", "--wait"]).expect(0);
    let ask = |token: &str, path: &str| -> u16 {
        let mut stream = TcpStream::connect(shared.address.trim_start_matches("http://")).expect("the server listens");
        write!(
            stream,
            "GET /v1/runs/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    };
    assert_eq!(ask(&shared.other, "b"), 200);
    for path in ["b", "%62", "b/logs", "%62/logs", "%62/events", "./b", "x/../b", "/b", "b/", "b?x", "b%00"] {
        let status = ask(&shared.shop, path);
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
}

#[test]
fn a_signature_is_for_a_tag_of_the_namespace() {
    let shared = Shared::new();
    shared.run("", &["keys", "create", "ci"]).expect(0);
    let wasm = guest("hostile");
    let push = |tag: &[&str]| {
        shared.run(&shared.shop, &[&["push", wasm.to_str().expect("UTF-8"), "--sign", "ci"], tag].concat())
    };
    assert_error(&push(&[]), 2, "the signature is for no tag, and the token is limited to the namespace shop");
    assert_error(&push(&["--tag", "kit"]), 2, "`--tag shop/NAME`");
    push(&["--tag", "shop/kit:1"]).expect(0);
    let signed = |token: &str| shared.run(token, &["modules", "--json"]).expect(0).json();
    for token in [shared.shop.as_str(), ""] {
        let modules = signed(token);
        assert_eq!(modules[0]["signatures"][0]["tag"], "shop/kit:1", "{modules:?}");
    }
    shared.run("", &["push", wasm.to_str().expect("UTF-8"), "--tag", "public"]).expect(0);
    let modules = signed(&shared.other);
    assert_eq!((&modules[0]["tags"], modules[0]["signatures"].as_array().map(Vec::len)), (&json!(["public"]), Some(0)));
}

#[test]
fn a_flow_uses_only_queues_tags_and_flows_of_its_namespace() {
    let shared = Shared::new();
    let refused = |text: &str, message: &str| {
        shared.waft.flow(text);
        let output = shared.run(&shared.shop, &["submit", "flow.toml"]);
        assert!(output.expect(2).stderr.contains(message), "{message:?} is not in:\n{}", output.stderr);
    };
    refused(&NOOP.replace("\"f\"", "\"other/f\""), "the flow is named other/f");
    refused(&format!("{NOOP}queue = \"other/default\"\n"), "uses the queue other/default");
    let listens = "name = \"f\"\npersistent = true\n[[task]]\nname = \"t\"\nuse = \"hostile#noop\"\n\
                   [[listen]]\nflow = \"other/f\"\ntask = \"t\"\nto = \"t\"\n";
    refused(listens, "the flow listens to the flow other/f");
    let wasm = guest("hostile");
    let push = ["push", wasm.to_str().unwrap(), "--tag", "kit"];
    shared.run(&shared.shop, &push).expect(0);
    let tags = |token: &str| -> Vec<String> {
        let modules = shared.run(token, &["modules", "--json"]).expect(0).json();
        modules
            .iter()
            .flat_map(|module| module["tags"].as_array().unwrap().clone())
            .map(|tag| tag.as_str().unwrap().into())
            .collect()
    };
    assert_eq!(
        (tags(&shared.shop), tags(&shared.other), tags("")),
        (vec!["shop/kit".into()], vec![], vec!["shop/kit".into()])
    );
    let by_tag = "name = \"g\"\n[modules]\nm = \"kit\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n";
    shared.waft.write("flow.toml", by_tag.as_bytes());
    let submit = ["submit", "flow.toml", "--wait"];
    shared.run(&shared.shop, &submit).expect(0);
    assert_error(&shared.run(&shared.other, &submit), 2, "there is no tag kit");
    shared.waft.write("flow.toml", by_tag.replace("\"kit\"", "\"shop/kit\"").as_bytes());
    shared.run(&shared.shop, &submit).expect(0);
    assert_error(&shared.run(&shared.other, &submit), 2, "there is no tag shop/kit");
    assert_error(
        &shared.run(&shared.other, &[&push[..3], &["shop/kit"]].concat()),
        2,
        "limited to the namespace other",
    );
    refused(&format!("{NOOP}queue = \"nowhere\"\n"), "the worker in this server takes jobs from shop/default: add");
    let shown = shared.run("", &["list", "--flow", "shop/g", "--json"]).expect(0).json();
    assert_eq!((shown.len(), &shown[0]["state"]), (2, &json!("success")));
}

#[test]
fn a_result_is_verified_in_its_namespace() {
    let shared = Shared::new();
    shared.waft.flow(&format!("{NOOP}memo = true\n"));
    shared.run(&shared.shop, &["submit", "flow.toml", "--run-id", "r", "--wait"]).expect(0);
    // As the namespace, and as the owner of the server.
    for token in [&*shared.shop, ""] {
        shared.run(token, &["verify", "r", "t", "--worker"]).expect(0);
    }
    assert_eq!(shared.list(&shared.shop, &[]), ["shop/f", "shop/verify", "shop/verify"]);
    assert_error(&shared.run(&shared.other, &["verify", "r", "t", "--worker"]), 2, "there is no run r");
}
