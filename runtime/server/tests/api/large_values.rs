//! Runs with values that do not fit one answer: references in their place, and the route that returns a value whole.

use client::flow::{Json, Stored, StoredReferences, Value, ValuesObject};
use server::{Line, Lines};
use store::Store;

use super::*;

/// The maximum of bytes of values in an answer about a run, with room for base64 and all else in it.
const MAX_ANSWER: usize = 3 << 20;

/// A server that takes large notifications, with its logbook and its store.
async fn harness() -> (Harness, Arc<dyn Logbook>, Arc<dyn Store>) {
    let dependencies = dependencies().await;
    let (logbook, store) = (dependencies.logbook.clone(), dependencies.modules.store.clone());
    (Harness::over(Config { max_request_bytes: 8 << 20, ..config(None) }, dependencies).await, logbook, store)
}

/// Runs a flow whose tasks provide these values, each under the name of its task.
async fn run(harness: &Harness, run: &str, values: &[(String, Value)]) {
    let task = |(name, _): &(String, Value)| {
        format!("[[task]]\nname = \"{name}\"\nwait = \"a word\"\nprovides = [\"{name}\"]\n")
    };
    let tasks: String = values.iter().map(task).collect();
    let client = harness.client();
    client.submit(&submission(&format!("name = \"f\"\npattern = \"unordered\"\n{tasks}")).run(run)).await.unwrap();
    for (name, value) in values {
        let mut notification = Notification::of(name);
        notification.values.insert(name, value);
        client.notify(run, &notification).await.unwrap();
    }
    client.wait(run).await.unwrap();
}

fn bytes(size: usize) -> Value {
    Value::Bytes(vec![7; size].into())
}

fn text(size: usize) -> Value {
    Value::Json(Json::parse(format!("\"{}\"", "x".repeat(size))).unwrap())
}

fn named(values: Vec<Value>) -> Vec<(String, Value)> {
    values.into_iter().enumerate().map(|(number, value)| (format!("v{number:02}"), value)).collect()
}

/// The values that an object has whole, by name, and the references in it.
fn shown(object: &ValuesObject) -> (Vec<String>, BTreeMap<String, Stored>) {
    let (mut whole, mut references) = (Vec::new(), BTreeMap::new());
    for (name, value) in object.read(StoredReferences::Accept).unwrap() {
        match value {
            Value::Stored(stored) => drop(references.insert(name.to_string(), stored)),
            Value::Json(_) | Value::Bytes(_) => whole.push(name.to_string()),
        }
    }
    (whole, references)
}

#[tokio::test]
async fn an_answer_has_the_smallest_values_and_references_to_the_others() {
    let (harness, ..) = harness().await;
    let values = named(vec![text(3 << 19), bytes(900_000), bytes(900_000), text(10)]);
    run(&harness, "r", &values).await;
    let response = harness.request(Method::GET, "/v1/runs/r").send().await.unwrap();
    assert!(response.text().await.unwrap().len() < MAX_ANSWER);
    let run = harness.client().run("r").await.unwrap();
    let (whole, references) = shown(&run.provides);
    assert_eq!(whole, ["v01", "v02", "v03"]);
    assert_eq!(references["v00"].size, (3 << 19) + 2);
    let of_tasks: Vec<_> = run.tasks.iter().map(|task| shown(task.provides.as_ref().unwrap()).0).collect();
    assert_eq!(of_tasks, [vec![], vec![], vec![], vec!["v03".to_owned()]], "the values of the run come first");
    for (task, (name, value)) in run.tasks.iter().zip(&values) {
        assert_eq!(harness.client().value("r", name).await.unwrap(), *value);
        let Some(reference) = shown(task.provides.as_ref().unwrap()).1.remove(name) else { continue };
        assert_eq!(harness.client().referenced_value("r", name, &reference).await.unwrap(), *value);
    }
}

#[tokio::test]
async fn an_event_has_a_reference_in_place_of_a_large_value() {
    let (harness, ..) = harness().await;
    run(&harness, "r", &named(vec![text(3 << 19), bytes(900_000), bytes(900_000)])).await;
    let mut watch = harness.client().watch("r");
    let (mut of_tasks, mut of_run) = (Vec::new(), None);
    while let Some(event) = watch.next().await.unwrap() {
        assert!(event.line.len() < MAX_ANSWER / 2, "{}", event.line.len());
        match event.payload().unwrap() {
            client::EventPayload::Node(node) => of_tasks.extend(node.provides.map(|provides| shown(&provides).0)),
            client::EventPayload::Run(run) => of_run = run.provides,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(of_tasks, [vec![], vec!["v01".to_owned()], vec!["v02".to_owned()]]);
    let (whole, references) = shown(&of_run.unwrap());
    assert_eq!((whole, references.len()), (vec!["v01".to_owned()], 2), "both together do not fit");
}

#[tokio::test]
async fn many_small_values_do_not_fit_either_and_each_can_be_read() {
    let (harness, _, store) = harness().await;
    let values = named((0..30).map(|number| text(60_000 + number)).collect());
    run(&harness, "r", &values).await;
    assert!(store.list().await.unwrap().is_empty(), "they are in the records");
    let run = harness.client().run("r").await.unwrap();
    let provides = run.tasks.iter().map(|task| shown(task.provides.as_ref().unwrap()).1);
    let references: BTreeMap<String, Stored> = provides.chain([shown(&run.provides).1]).flatten().collect();
    assert!(references.len() > 10, "{references:?}");
    for (name, value) in values.iter().filter(|(name, _)| references.contains_key(name)) {
        assert_eq!(harness.client().referenced_value("r", name, &references[name]).await.unwrap(), *value);
    }
}

#[tokio::test]
async fn a_value_is_loaded_when_its_line_is_sent() {
    let (harness, logbook, store) = harness().await;
    run(&harness, "r", &named(vec![text(100_000)])).await;
    let mut lines = Lines::open("r".parse().unwrap(), logbook, store.clone()).await.unwrap();
    let mut texts = Vec::new();
    while let Some(Line { text, .. }) = lines.next().await.unwrap() {
        texts.push(text);
        for entry in store.list().await.unwrap() {
            assert!(store.remove(&entry).await.unwrap());
        }
    }
    assert!(texts.len() > 2 && texts.last().unwrap().contains("\"$stored\":{\"v00\""), "{texts:#?}");
    assert!(!texts.iter().any(|text| text.contains("xxx")), "no value was loaded before");
}

#[tokio::test]
async fn only_values_of_the_run_are_returned() {
    let (harness, ..) = harness().await;
    run(&harness, "r", &named(vec![text(100_000), bytes(3)])).await;
    run(&harness, "other", &named(vec![text(100_001)])).await;
    let get = |path: &str| harness.request(Method::GET, path);
    let problem = problem(get("/v1/runs/r/values/v02")).await;
    assert_eq!((problem.status, problem.detail.as_str()), (404, "run r has no value \"v02\""));
    assert_eq!(problem.hint.as_deref(), Some("it has v00, v01"));
    let foreign = store::digest_of(format!("\"{}\"", "x".repeat(100_001)).as_bytes());
    assert!(get(&format!("/v1/runs/other/values/v00?digest={foreign}")).send().await.unwrap().status().is_success());
    for (path, status) in [
        (format!("/v1/runs/r/values/v00?digest={foreign}"), 404),
        ("/v1/runs/nobody/values/v00".into(), 404),
        ("/v1/runs/r/values/v00?digest=x".into(), 400),
        ("/v1/runs/r/values/v00?other=x".into(), 400),
    ] {
        assert_eq!(super::problem(get(&path)).await.status, status, "{path}");
    }
    let response = get("/v1/runs/r/values/v01").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!((response.content_length(), response.bytes().await.unwrap().as_ref()), (Some(3), &[7; 3][..]));
}

#[tokio::test]
async fn a_value_that_the_store_lost_is_a_reference_and_cannot_be_read() {
    let (harness, _, store) = harness().await;
    run(&harness, "r", &named(vec![text(100_000)])).await;
    for entry in store.list().await.unwrap() {
        store.remove(&entry).await.unwrap();
    }
    assert_eq!(shown(&harness.client().run("r").await.unwrap().provides).1.len(), 1);
    let problem = refusal(harness.client().value("r", "v00").await);
    assert!(problem.status == 503 && problem.detail.contains("could not read the value"), "{problem:?}");
}
