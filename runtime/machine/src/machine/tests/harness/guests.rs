//! The module `g` of the tests: its tasks, and the behavior of its guests.

use std::collections::BTreeMap;

use crate::{Call, Machine};
use flow::{
    Action, Digest, Failure, FailureKind, Json, ModuleContent, ModuleInfo, Parameter, Provided, Rollback, TaskInfo,
    TaskResult, Value, ValueKind, Values,
};

/// The tasks of the module `g`: the required and provided values of each, and whether it can be rolled back.
const TASKS: [(&str, &[&str], &[&str], bool); 15] = [
    ("five", &[], &["value"], true),
    ("fails", &[], &[], false),
    ("same", &["x", "y"], &[], false),
    ("nasty", &[], &["value"], true),
    ("noop", &[], &[], true),
    ("plain", &[], &[], false),
    ("flaky", &[], &[], true),
    ("stubborn", &["item?"], &[], true),
    ("report-failure", &["failure?"], &["report"], false),
    ("next", &["count"], &["count"], true),
    ("add", &["ip"], &["added"], true),
    ("add-anew", &["ip"], &["added"], true),
    ("list", &[], &["list"], false),
    ("make", &["item"], &["made"], true),
    ("square", &["number"], &[], false),
];

pub(in crate::machine::tests) fn modules() -> BTreeMap<String, ModuleInfo> {
    // A name with a question mark is optional; a number is an integer.
    let parameter = |name: &&str| Parameter {
        name: name.trim_end_matches('?').parse().unwrap(),
        doc: String::new(),
        schema: (*name == "number").then(|| Json::parse("{\"type\": \"integer\"}").unwrap()),
        optional: name.ends_with('?'),
    };
    let provided = |name: &&str| Provided { name: name.parse().unwrap(), doc: String::new(), schema: None };
    let tasks = TASKS.iter().map(|(name, requires, provides, rollback)| TaskInfo {
        name: name.parse().unwrap(),
        doc: String::new(),
        requires: requires.iter().map(parameter).collect(),
        provides: provides.iter().map(provided).collect(),
        rollback: if *rollback { Rollback::Guest { requires: Vec::new() } } else { Rollback::None },
        retry: None,
        limits: flow::LimitOverrides::default(),
    });
    let content = ModuleContent::Tasks(tasks.collect());
    BTreeMap::from([("g".into(), ModuleInfo { digest: Digest::from_bytes([1; 32]), content })])
}

/// The behavior of the guests of the module `g`.
pub(super) fn guest(machine: &Machine, call: &Call) -> TaskResult {
    // The task may be removed once the firing that called it has been dropped.
    let Some(task) = machine.task(&call.id.task) else { return TaskResult::Succeeded(Values::new()) };
    let export = task.export.as_ref().unwrap().as_str().to_owned();
    let permanent = |message: &str| TaskResult::Failed(Failure::new(FailureKind::Permanent, message));
    let transient = |message: &str| TaskResult::Failed(Failure::new(FailureKind::Transient, message));
    let value = |number: u32| TaskResult::Succeeded([("value".parse().unwrap(), Value::json(&number.into()))].into());
    let input = |name: &str| call.inputs.get(name).cloned();
    match (export.as_str(), call.action()) {
        ("five" | "nasty", Action::Apply) => value(5),
        ("nasty", Action::Rollback) => permanent("gotcha"),
        ("fails", Action::Apply) => permanent("woot"),
        ("same", Action::Apply) if input("x") != input("y") => permanent("woot"),
        // Fails at each odd attempt.
        ("flaky", _) if call.id.attempt.get() % 2 == 1 => transient("not yet"),
        ("report-failure", Action::Apply) => {
            let text = match input("failure") {
                Some(Value::Json(json)) => {
                    let failure = json.to_tree().unwrap();
                    format!("{}: {}", failure["task"].as_str().unwrap(), failure["message"].as_str().unwrap())
                }
                Some(_) | None => "all is well".into(),
            };
            TaskResult::Succeeded([("report".parse().unwrap(), Value::json(&text.into()))].into())
        }
        ("stubborn", Action::Rollback) => transient("never"),
        ("next", Action::Apply) => {
            let count = match input("count") {
                Some(Value::Json(json)) => json.to_tree().unwrap().as_u64().unwrap(),
                Some(_) | None => 0,
            };
            TaskResult::Succeeded([("count".parse().unwrap(), Value::json(&(count + 1).into()))].into())
        }
        ("add" | "add-anew", Action::Apply) => match input("ip") {
            Some(Value::Json(json)) if json.as_str() == "\"bad\"" => permanent("no such address"),
            Some(ip) => TaskResult::Succeeded([("added".parse().unwrap(), ip)].into()),
            None => permanent("no address"),
        },
        // Every other time a longer list, and sometimes one in the store.
        ("list", Action::Apply) => {
            let attempt = call.id.attempt.get();
            let list = match (attempt + machine.run().as_str().len() as u32) % 3 {
                0 => Value::Stored(flow::Stored {
                    digest: Digest::from_bytes([2; 32]),
                    size: 70_000,
                    form: ValueKind::Json,
                }),
                length => Value::json(&(0..length * 2).collect::<Vec<_>>().into()),
            };
            TaskResult::Succeeded([("list".parse().unwrap(), list)].into())
        }
        ("make", Action::Apply) => match input("item") {
            Some(Value::Json(json)) if json.as_str() == "\"bytes\"" => {
                TaskResult::Succeeded([("made".parse().unwrap(), Value::Bytes([1].into()))].into())
            }
            Some(Value::Json(json)) if json.as_str() == "\"bad\"" => permanent("no such item"),
            Some(Value::Json(json)) if json.as_str() == "\"slow\"" && call.id.attempt.get() % 2 == 1 => {
                transient("not yet")
            }
            Some(Value::Json(json)) if json.as_str() == "\"large\"" => {
                let stored = flow::Stored { digest: Digest::from_bytes([3; 32]), size: 70_000, form: ValueKind::Json };
                TaskResult::Succeeded([("made".parse().unwrap(), Value::Stored(stored))].into())
            }
            Some(item) => TaskResult::Succeeded([("made".parse().unwrap(), item)].into()),
            None => permanent("no item"),
        },
        _ => TaskResult::Succeeded(Values::new()),
    }
}
