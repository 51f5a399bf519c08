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

/// The rows of the orders in the warehouse, and the number of their batches.
fn warehouse(cloud: &Cloud) -> (Value, usize) {
    let table = cloud.request("GET", "/v1/warehouse/orders", &[], "").expect("it answers").json();
    (table["rows"].clone(), table["batches"].as_array().map_or(0, Vec::len))
}

#[test]
fn etl_loads_each_page_once_and_a_poor_day_is_rolled_back() {
    let (waft, mut cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "etl").join("flow.toml");
    let end = run(&waft, &flow, &["--run-id", "first"]).expect(0).end();
    // Five pages with 20 orders each, of which two are cancelled.
    assert_eq!(end["provides"]["total"]["rows"], 90, "{end}");
    assert_eq!(warehouse(&cloud), (json!(90), 5));
    let ledger = cloud.ledger();
    let rows = ledger.iter().flat_map(|line| line["made"]["resource"]["batch"]["rows"].as_array().expect("rows"));
    let cents: u64 = rows.map(|row| row["cents"].as_u64().expect("a number")).sum();
    assert_eq!(end["provides"]["total"]["cents"], cents);
    // The same pages again, from a cloud that loses answers: no page is loaded twice.
    let patience = "retry = { attempts = 20, initial = \"200ms\", max = \"300ms\" }";
    let text = std::fs::read_to_string(&flow).expect("it is there");
    let retried = text.replace("\nallow = ", &format!("\n{patience}\nallow = "));
    let retried = waft.write("etl/retried.toml", retried);
    cloud.restart(&["--flaky", "50", "--seed", "5"]);
    run(&waft, &retried, &["--run-id", "second"]).expect(0);
    let failed = run(&waft, &retried, &["--run-id", "third", "--set", "min_rows=1000"]);
    let (kind, message) = failed.expect(1).failure("check-total");
    assert_eq!((&*kind, &*message), ("permanent", "only 90 rows were loaded, and 1000 are the minimum of a day"));
    let log = cloud.stop();
    assert!(
        log.contains("for POST /v1/warehouse/orders with the key second.load-page[") && log.contains("is lost"),
        "{log}"
    );
    cloud.restart(&[]);
    assert_eq!(warehouse(&cloud), (json!(180), 10), "the batches of the third run are deleted");
    for page in 0..5 {
        assert_eq!(cloud.made("batch", &format!("second.load-page[{page}].1"), false).len(), 1);
        assert_eq!(cloud.made("batch", &format!("third.load-page[{page}].1"), false).len(), 1);
    }
}

#[test]
fn etl_loads_the_orders_of_each_night() {
    let (waft, cloud) = (Waft::default(), Cloud::start(&[]));
    let flow = cloud.example(&waft, "etl").join("nightly.toml");
    let text = std::fs::read_to_string(&flow).expect("it is there");
    // Nights are a second long, and there are two of them.
    let short = text
        .replace("\"0 3 * * *\"", "\"* * * * * *\"")
        .replace("persistent = true", "persistent = true\nmax_firings = 2");
    assert_ne!(short.len(), text.len());
    std::fs::write(&flow, short).expect("it can be written");
    run(&waft, &flow, &["--run-id", "nightly"]).expect(0);
    assert_eq!(warehouse(&cloud), (json!(180), 10));
    for night in 1..=2 {
        let batches = cloud.made("batch", &format!("nightly.load-page[4].{night}"), true);
        let id = batches[0]["rows"][0]["id"].as_str().expect("a text");
        assert!(
            id.starts_with("20") && id.ends_with("-81"),
            "the day of the schedule, and the first order of the page: {id}"
        );
    }
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
