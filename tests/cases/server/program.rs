//! Tests a program that uses a real server through the client: it builds flows, submits, notifies, edits and watches.

use client::{
    Client, ClientError, EventPayload,
    api::{Edits, ListQuery, Notification, Run, RunState, Submission},
};
use flow::{Draft, Value};
use serde_json::json;
use waft_tests::guest;

use super::TestServer;

impl TestServer {
    /// A client of the server, which has the guest under the tag `hostile`.
    async fn client(&self) -> Client {
        let client = Client::new(&self.address, None).expect("it is an address");
        let bytes = std::fs::read(guest("hostile")).expect("it is there");
        client.push(bytes, Some("hostile")).await.expect("it is a module");
        client
    }
}

/// A flow that packs an order, waits for a user's approval, and ships it.
fn order() -> Draft {
    Draft::builder("order")
        .expect("it is a name")
        .module("hostile", "hostile")
        .input("amount", 1)
        .input("photo", Value::Bytes([0xff, 0, 1].into()))
        .task("pack", "hostile#echo", |task| task.requires("value", "amount").provides("value", "packed"))
        .wait("approve", "approval", |task| task.provides("by", "approved_by"))
        .task("ship", "hostile#echo", |task| task.requires("value", "approved_by").provides("value", "shipped_for"))
        .task("keep", "hostile#echo-bytes", |task| task.requires("bytes", "photo").provides("bytes", "kept"))
        .link("pack", "approve")
        .build()
}

/// Waits until a task is in a state, and returns all changes until then.
async fn until(watch: &mut client::Watch, task: &str, state: &str) -> Vec<String> {
    let mut changes = Vec::new();
    while let Some(event) = watch.next().await.expect("the server is there") {
        if let Some(EventPayload::Node(node)) = event.payload() {
            changes.push(format!("{}:{}", node.name, node.state));
            if node.name == task && node.state.as_str() == state {
                return changes;
            }
        }
    }
    panic!("{task} is never {state}: {changes:?}");
}

fn value<'r>(run: &'r Run, name: &str) -> &'r str {
    run.provides.json(name).unwrap_or_else(|| panic!("{name} is not provided as JSON: {run:?}"))
}

#[tokio::test]
async fn a_program_builds_submits_watches_edits_and_notifies() {
    let server = TestServer::new();
    let client = server.client().await;
    let submission = Submission::of(&order()).expect("it can be written").run("r1").input("amount", u64::MAX);
    let run = client.submit(&submission).await.expect("it can run");
    assert_eq!((run.run.as_str(), run.flow.as_str(), run.revision), ("r1", "order", 1));
    client.submit(&submission).await.expect("it is the same run");
    let careless = std::fs::read(guest("careless")).expect("it is there");
    let careless = client.push(careless, None).await.expect("it is a module").digest;
    let submission = Submission::of(&order()).expect("it can be written").run("r1").input("amount", u64::MAX);
    let other = client.submit(&submission.module("hostile", &careless)).await.expect_err("it has another module");
    assert_eq!(other.status(), Some(409), "{other}");
    assert!(other.to_string().contains("module \"hostile\" (sha256:") && other.to_string().contains(&careless));
    let known = client.list(&ListQuery { flow: Some("order".into()), ..ListQuery::default() }).await.expect("a list");
    assert_eq!(known.runs.len(), 1, "a repeated submission starts nothing");

    let mut watch = client.watch("r1");
    let changes = until(&mut watch, "approve", "running").await;
    assert!(changes.contains(&"pack:success".to_owned()), "{changes:?}");
    let bill = Draft::addition()
        .task("bill", "hostile#echo", |task| task.requires("value", "packed").provides("value", "billed"))
        .link_with("ship", "bill", |link| link.when("shipped_for == 'eve'"))
        .build();
    let edits = Edits::default().add(&bill).expect("it can be written").if_revision(1);
    let edited = client.edit("r1", &edits).await.expect("it can be changed so");
    assert_eq!((edited.revision, edited.applied), (2, true));
    let late = client.edit("r1", &edits).await.expect_err("it is at another revision");
    assert_eq!(late.status(), Some(409), "{late}");

    let wrong = client.notify("r1", &Notification::of("approve").value("who", "eve")).await.expect_err("a wrong name");
    assert!(wrong.to_string().contains("\"who\" is not waited for"), "{wrong}");
    client.notify("r1", &Notification::of("approve").value("by", "eve")).await.expect("it waits");
    let mut states = Vec::new();
    let mut events = watch.into_stream();
    while let Some(event) = futures::TryStreamExt::try_next(&mut events).await.expect("the server is there") {
        states.extend(event.run_state());
    }
    assert_eq!(states, [RunState::Success]);
    let run = client.wait("r1").await.expect("it has ended");
    assert_eq!((run.state.clone(), value(&run, "billed")), (RunState::Success, "18446744073709551615"));
    assert_eq!(value(&run, "shipped_for"), "\"eve\"");
    let photo = vec![0xff, 0, 1];
    assert_eq!((run.provides.bytes("kept"), run.inputs.bytes("photo")), (Some(photo.clone()), Some(photo)));
}

#[tokio::test]
async fn a_program_sets_a_constant_of_a_task_that_has_not_run() {
    let server = TestServer::new();
    let client = server.client().await;
    client.submit(&Submission::of(&order()).expect("it can be written").run("r1")).await.expect("it can run");
    until(&mut client.watch("r1"), "approve", "running").await;
    client.edit("r1", &Edits::default().set("ship", "value", json!([1, null]))).await.expect("it has not run");
    client.notify("r1", &Notification::of("approve").value("by", "eve")).await.expect("it waits");
    let run = client.wait("r1").await.expect("it ends");
    assert_eq!((run.state.clone(), value(&run, "shipped_for")), (RunState::Success, "[1,null]"));
}

#[tokio::test]
async fn a_program_registers_a_listener_to_another_flow() {
    let server = TestServer::new();
    let client = server.client().await;
    let counter = Draft::builder("counter")
        .expect("it is a name")
        .persistent()
        .module("hostile", "hostile")
        .task("count", "hostile#echo", |task| task.requires("value", "packed").provides("value", "counted"))
        .listen("order", "pack", "count")
        .build();
    client.submit(&Submission::of(&counter).expect("it can be written").run("c")).await.expect("it can run");
    let order = Submission::of(&order()).expect("it can be written").input("amount", 7);
    client.submit(&order).await.expect("it can run");
    let mut watch = client.watch("c");
    while let Some(event) = watch.next().await.expect("the server is there") {
        match event.payload() {
            Some(EventPayload::Firing(firing)) if firing.state == RunState::Success => break,
            _ => {}
        }
    }
    assert_eq!(value(&client.run("c").await.expect("it is there"), "counted"), "7");
    client.notify("c", &Notification::of("count").value("packed", 8).key("once")).await.expect("it fires");
    until(&mut watch, "count", "success").await;
    client.cancel("c").await.expect("it stays");
    assert_eq!(client.wait("c").await.expect("it has ended").fired, Some(2));
}

#[tokio::test]
async fn a_client_receives_server_side_diagnostics() {
    let server = TestServer::new();
    let client = server.client().await;
    let flow = Draft::builder("f")
        .expect("it is a name")
        .module("hostile", "hostile")
        .module("lost", "nowhere")
        .task("t", "hostile#echo", |task| task.requires("value", "nothing"))
        .build();
    let refused = client.submit(&Submission::of(&flow).expect("it can be written")).await.expect_err("it has errors");
    let ClientError::Refused { problem, .. } = refused else { panic!("{refused}") };
    let messages: Vec<&str> = problem.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!((problem.status, messages.len()), (422, 2), "{messages:?}");
    assert!(messages[0].starts_with("module \"lost\"") && messages[1].contains("\"nothing\""), "{messages:?}");
}

#[test]
fn a_program_in_python_pushes_submits_notifies_and_reads_all_events() {
    let server = TestServer::new();
    let script = waft_tests::root().join("examples/python/bake.py");
    let kitchen = waft_tests::root().join("examples-wasm/target/wasm32-wasip1/release/kitchen.wasm");
    let mut program = std::process::Command::new(waft_tests::python());
    let output = program.arg(script).arg(kitchen).env("WAFT_SERVER", &server.address).output().expect("Python starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    for line in ["order running", "order success", "pan success", "pan: {'size_cm': 29, 'batter_ml': 900}"] {
        assert!(stdout.lines().any(|printed| printed == line), "{stdout}{stderr}");
    }
}
