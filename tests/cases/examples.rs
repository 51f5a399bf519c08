//! Tests the examples that call a service: they run as their files say, with the settings that `examples/cloud` has for an
//! operator, and the ledger of the service shows what they did.

mod killed;

use std::path::Path;

use serde_json::{Value, json};
use waft_tests::{Cloud, CommandOutput, Waft};

/// Runs a flow of a copied example.
fn run(waft: &Waft, flow: &Path, arguments: &[&str]) -> CommandOutput {
    let flow = flow.to_str().expect("the path is text");
    waft.run(["run", flow, "--json"].into_iter().chain(arguments.iter().copied()))
}

/// The position of a state in a trace.
#[track_caller]
fn at(trace: &[String], state: &str) -> usize {
    trace.iter().position(|entry| entry == state).unwrap_or_else(|| panic!("no {state} in {trace:?}"))
}

#[test]
fn provision_sets_up_a_server() {
    let (waft, cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "provision").join("flow.toml");
    let output = run(&waft, &flow, &["--run-id", "r"]);
    let end = output.expect(0).end();
    assert_eq!((&end["state"], &end["failures"]), (&json!("success"), &json!({})));
    let ledger = json!([
        "created srv-1 at blog-1.eu-north.example",
        "installed WordPress 6.9 on srv-1",
        "added blog-1.eu-north.example to the load balancer",
        "watches blog-1.eu-north.example",
    ]);
    assert_eq!(end["provides"]["ledger"], ledger);
    assert_eq!(cloud.existing(), 4);
    for (task, kind, key, value) in [
        ("create-server", "server", "address", "blog-1.eu-north.example"),
        ("install-wordpress", "wordpress", "version", "6.9"),
        ("add-to-load-balancer", "pool-address", "address", "blog-1.eu-north.example"),
        ("add-monitor", "monitor", "server", "srv-1"),
    ] {
        assert_eq!(cloud.made(kind, &format!("r.{task}.1"), true)[0][key], value, "{task}");
    }
    let token = waft_tests::CLOUD_TOKEN;
    assert!(!output.stdout.contains(token) && !output.stderr.contains(token), "nobody sees the token");
}

#[test]
fn provision_is_rolled_back_strictly_backwards() {
    let (waft, cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "provision").join("flow.toml");
    let output = run(&waft, &flow, &["--run-id", "r", "--set", "alert=nobody"]);
    let trace = output.expect(1).trace();
    let backwards = ["add-monitor", "add-to-load-balancer", "install-wordpress", "create-server"];
    let expected: Vec<String> =
        backwards.iter().flat_map(|task| [format!("{task}:rolling-back"), format!("{task}:rolled-back")]).collect();
    assert_eq!(trace[at(&trace, "add-monitor:rolling-back")..], expected);
    let end = output.end();
    assert_eq!(end["state"], "rolled-back");
    let failures: Vec<&String> = end["failures"].as_object().expect("an object").keys().collect();
    assert_eq!(failures, ["add-monitor"]);
    let (kind, message) = output.failure("add-monitor");
    assert!(kind == "permanent" && message.contains("\\\"nobody\\\" is no e-mail address"), "{kind}: {message}");
    assert_eq!((cloud.made("server", "r.create-server.1", false).len(), cloud.existing()), (1, 0));
}

#[test]
fn a_failed_rollback_exits_with_3_and_is_repeated_by_an_operator() {
    let (waft, cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "provision").join("flow.toml");
    let output = run(&waft, &flow, &["--run-id", "r", "--set", "alert=nobody", "--set", "protected=true"]);
    let trace = output.expect(3).trace();
    at(&trace, "install-wordpress:rolled-back");
    at(&trace, "create-server:rollback-failure");
    assert_eq!(output.end()["state"], "failure");
    assert!(output.failure("create-server").1.contains("the server srv-1 is protected"));
    assert_eq!(cloud.existing(), 1, "the server");
    cloud.request("PUT", "/v1/servers/srv-1/protection", &[], r#"{"protected":false}"#).expect("it answers");
    waft.run(["retry", "r"]).expect(1);
    assert_eq!(cloud.existing(), 0);
}

#[test]
fn without_a_grant_of_the_operator_the_cloud_gets_no_request() {
    let (waft, mut cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "provision").join("flow.toml");
    waft.set_settings("");
    // Neither the request nor the rollback is granted, so the run waits for the operator.
    let (kind, message) = run(&waft, &flow, &["--run-id", "r"]).expect(3).failure("create-server");
    assert!(kind == "denied" && message.contains("no [[grant]] in the settings of the worker allows it"), "{message}");
    cloud.request("GET", "/v1/servers", &[], "").expect("it answers");
    cloud.process().wait_for("200 for GET /v1/servers");
    assert!(!cloud.process().output().contains("POST"), "{}", cloud.process().output());
    let _ = cloud.example(&waft, "provision");
    waft.run(["retry", "r"]).expect(1);
}

#[test]
fn text_fetches_its_text_and_counts_the_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("README.md"), "the cat and the dog\nand the bird\n").expect("it can be written");
    let (waft, cloud) =
        (Waft::default(), Cloud::start(&["--files", folder.path().to_str().expect("the path is text")]));
    let flow = cloud.example(&waft, "text").join("flow.toml");
    let provides = run(&waft, &flow, &[]).expect(0).end()["provides"].clone();
    assert_eq!(provides["summary"]["words"], 8, "{provides}");
    assert_eq!(provides["summary"]["most_frequent"][0], json!(["the", 3]), "{provides}");
    std::fs::remove_file(folder.path().join("README.md")).expect("it is there");
    let (kind, message) = run(&waft, &flow, &[]).expect(1).failure("fetch");
    assert!(kind == "permanent" && message.contains("there is no file README.md"), "{kind}: {message}");
}

/// The files as they are in the clone: other tests change the address of the cloud.
#[test]
fn the_settings_of_the_examples_grant_what_their_flows_ask_for() {
    let (waft, root) = (Waft::default(), waft_tests::root());
    for flow in [
        "examples-wasm/provision/flow.toml",
        "examples-wasm/provision/stories/balancer.toml",
        "examples-wasm/provision/stories/circle.toml",
        "examples-wasm/provision/stories/create-server.toml",
        "examples-wasm/provision/stories/site.toml",
        "examples-wasm/text/flow.toml",
        "examples-wasm/etl/flow.toml",
        "examples-wasm/etl/nightly.toml",
        "docs/flows/create-server.toml",
        "docs/flows/edits.toml",
        "docs/flows/links.toml",
        "docs/flows/load-balancer.toml",
    ] {
        let mut command = waft.command(["grants", "explain", "--local", "--json"]);
        command.arg(root.join(flow)).env("XDG_CONFIG_HOME", root.join("examples/cloud"));
        let output: CommandOutput = command.output().expect("waft starts").into();
        let tasks = output.expect(0).json();
        let asked: Vec<&Value> = tasks.iter().flat_map(|task| task["asked"].as_array().expect("a list")).collect();
        assert!(!asked.is_empty(), "{flow} asks for something");
        assert!(asked.iter().all(|asked| asked["granted"] == "all"), "{flow}: {asked:?}");
    }
}
