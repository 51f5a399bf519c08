//! Tests that notifications are compared with schemas, briefly by an engine and in full by a server.

use std::collections::BTreeMap;

use super::*;
use crate::{
    Digest, LimitOverrides, ModuleContent, ModuleInfo, Parameter, Rollback, TaskInfo, file, schema::Budget, wire,
};

/// Wires a persistent flow with a task that waits, and tasks that call `m#t` with a parameter `v` of a schema.
fn flow(schema: &str, tasks: &str) -> Flow {
    let parameter =
        Parameter { name: name("v"), doc: String::new(), schema: Some(Json::parse(schema).unwrap()), optional: false };
    let task = TaskInfo {
        name: "t".parse().unwrap(),
        doc: String::new(),
        requires: vec![parameter],
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let content = ModuleContent::Tasks(vec![task]);
    let modules = BTreeMap::from([("m".to_owned(), ModuleInfo { digest: Digest::from_bytes([1; 32]), content })]);
    let text = format!(
        "name = \"f\"\npersistent = true\n[modules]\nm = \"m.wasm\"\n[[task]]\nname = \"ask\"\nwait = \"somebody\"\n\
         provides = {{ own = \"answer\" }}\n{tasks}"
    );
    wire(&file::parse(&text).unwrap(), &modules, &Values::new()).unwrap_or_else(|found| panic!("{found:?}")).0
}

fn task(name: &str, requires: &str) -> String {
    format!("[[task]]\nname = \"{name}\"\nuse = \"m#t\"\nrequires = {{ v = \"{requires}\" }}\n")
}

fn name(text: &str) -> ValueName {
    text.parse().unwrap()
}

fn values(value_name: &str, json: &str) -> Values {
    [(name(value_name), Value::Json(Json::parse(json).unwrap()))].into()
}

fn index(flow: &Flow, task: &str) -> NodeIndex {
    flow.indices().find(|index| flow.node(*index).name.as_str() == task).unwrap()
}

#[test]
fn a_server_finds_what_an_engine_finds() {
    let flow = flow(r#"{"type": "integer"}"#, &(task("square", "n") + &task("cube", "answer")));
    let (ask, square) = (index(&flow, "ask"), index(&flow, "square"));
    let (ask_name, square_name) = ("ask".parse().unwrap(), "square".parse().unwrap());
    let expected =
        "\"n\" does not fit task \"square\", which takes it as its \"v\": it is a text, and has to be a whole number";
    assert_eq!(flow.firing_mismatch(square, &values("n", "\"x\"")).as_deref(), Some(expected));
    assert_eq!(flow.notification_mismatch(&square_name, &values("n", "\"x\"")).as_deref(), Some(expected));
    assert_eq!(flow.notification_mismatch(&square_name, &values("n", "1")), None);
    let expected =
        "\"answer\" does not fit task \"cube\", which takes it as its \"v\": it is null, and has to be a whole number";
    assert_eq!(flow.wait_mismatch(ask, &values("answer", "null")).as_deref(), Some(expected));
    // A notification has the names of the task.
    assert_eq!(flow.notification_mismatch(&ask_name, &values("own", "null")).as_deref(), Some(expected));
    assert_eq!(flow.notification_mismatch(&ask_name, &values("own", "1")), None);
    assert_eq!(flow.notification_mismatch(&"nobody".parse().unwrap(), &values("own", "null")), None);
}

#[test]
fn an_engine_accepts_what_would_take_it_long_to_check() {
    // Half a million alternatives; and a schema that is large by itself.
    let reference = |level: usize| format!("{{\"$ref\":\"#/$defs/{level}\"}}");
    let level = |level: usize| format!(",\"{level}\":{{\"anyOf\":[{0},{0}]}}", reference(level - 1));
    let levels: String = (1..=15).map(level).collect();
    let alternatives = format!("{{\"$ref\":\"#/$defs/15\",\"$defs\":{{\"0\":{{\"enum\":[1]}}{levels}}}}}");
    let names: Vec<String> = (0..20_000).map(|number| format!("\"{number}\"")).collect();
    let names = format!("{{\"enum\":[{}]}}", names.join(","));
    for schema in [alternatives, names] {
        let flow = flow(&schema, &task("square", "n"));
        let (index, name) = (index(&flow, "square"), "square".parse().unwrap());
        assert_eq!(flow.firing_mismatch(index, &values("n", "\"x\"")), None);
        assert!(flow.notification_mismatch(&name, &values("n", "\"x\"")).is_some());
    }
}

#[test]
fn tasks_share_a_schema_and_a_check_reads_it_once() {
    let schema = format!("{{\"type\": \"integer\", \"description\": \"{}\"}}", "x".repeat(10_000));
    let tasks: String = (0..100).map(|number| task(&format!("t{number}"), "answer")).collect();
    let flow = flow(&schema, &tasks);
    assert_eq!(flow.notification_inputs.len(), 100);
    let texts: std::collections::BTreeSet<_> =
        flow.notification_inputs.iter().map(|input| input.schema.as_str().as_ptr()).collect();
    assert_eq!(texts.len(), 1, "one text for all");
    let budget = Budget::of_notification();
    assert_eq!(flow.mismatch_of_wait(index(&flow, "ask"), &values("answer", "1"), &budget), None);
    assert!(budget.spend(7_000), "reading the schema for each task would take seventeen thousand steps");
}
