//! Tests of what an operator's maximum refuses.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{Digest, Export, LimitOverrides, ModuleInfo, RetryPolicy, Rollback, TaskInfo, Values, file, wire};

fn maximum() -> Maximum {
    Maximum { call: Limits::maximum(), retries: RetryLimits::default(), run: RunLimits::default() }
}

fn task(name: &str) -> TaskInfo {
    TaskInfo {
        name: Export::new(name).unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    }
}

/// The messages for a flow whose tasks call `m#noop`.
fn messages(text: &str, maximum: &Maximum) -> Vec<String> {
    let content = ModuleContent::Tasks(vec![TaskInfo {
        requires: vec![crate::Parameter {
            name: "x".parse().unwrap(),
            doc: String::new(),
            schema: None,
            optional: true,
        }],
        ..task("noop")
    }]);
    let modules = BTreeMap::from([("m".to_owned(), ModuleInfo { digest: Digest::from_bytes([1; 32]), content })]);
    let draft = file::parse(&format!("name = \"f\"\n{text}\n[modules]\nm = \"m.wasm\"\n")).unwrap();
    let (flow, _) = wire(&draft, &modules, &Values::new()).unwrap();
    check_limits(&draft, &flow, maximum).into_iter().map(|diagnostic| diagnostic.message).collect()
}

/// A task in flows with these retries, the outermost first.
fn nested(retries: &[&str]) -> String {
    let flow = |(depth, retry): (usize, &&str)| {
        let table = vec!["flow"; depth];
        let table = table.join(".");
        match depth {
            0 => format!("retry = {retry}\n"),
            _ => format!("[[{table}]]\nname = \"f{depth}\"\nretry = {retry}\n"),
        }
    };
    let flows: String = retries.iter().enumerate().map(flow).collect();
    let table = "flow.".repeat(retries.len() - 1);
    format!("{flows}[[{table}task]]\nname = \"t\"\nuse = \"m#noop\"\n")
}

#[test]
fn the_retries_of_nested_flows_multiply() {
    let times = |times: u32| format!("{{ times = {times} }}");
    let refused = |retries: &[&str]| messages(&nested(retries), &maximum());
    assert_eq!(refused(&[&times(10), &times(10)]), Vec::<String>::new());
    assert_eq!(
        refused(&[&times(100), &times(1), &times(100)]),
        [
            "the retries of nested flows multiply: \"f\" 100 times, and each time \"f2\" 100 times; that is 10000 times, and \
          the maximum here is 100"
        ]
    );
    assert_eq!(
        refused(&[&times(10), "{ for_each = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] }", &times(2)]),
        [
            "the retries of nested flows multiply: \"f\" 10 times, and each time \"f1\" 11 times; that is 110 times, and the \
          maximum here is 100"
        ],
        "what is in the reported flow is not reported too"
    );
    assert_eq!(
        refused(&["{ always = \"rollback\" }", &times(101)]),
        ["flow \"f1\": its retry runs it 101 times, and the maximum here is 100"]
    );
    let huge = u32::MAX.to_string();
    let huge = format!("{{ times = {huge} }}");
    assert_eq!(refused(&[&times(2), &huge, &huge, &huge]).len(), 1, "the product does not wrap around");
}

#[test]
fn inputs_and_constants_are_at_most_as_large_as_allowed() {
    let maximum = Maximum { run: RunLimits { value: 20, ..RunLimits::default() }, ..maximum() };
    let text = |size: usize, constant: usize| {
        format!(
            "[inputs]\nx = \"{}\"\n[[task]]\nname = \"t\"\nuse = \"m#noop\"\n[[task]]\nname = \"u\"\nuse = \"m#noop\"\n\
             with = {{ x = \"{}\" }}\n",
            "i".repeat(size - 3),
            "c".repeat(constant - 2)
        )
    };
    assert_eq!(messages(&text(20, 20), &maximum), Vec::<String>::new());
    assert_eq!(
        messages(&text(21, 21), &maximum),
        [
            "task \"u\": its constants have 21B together, and the limit `value` allows 20B here",
            "the inputs of flow \"f\" have 21B together, and the limit `value` allows 20B here"
        ]
    );
}

#[test]
fn a_description_above_the_maximum_is_reported_task_by_task() {
    let retry = RetryPolicy { attempts: 101, ..RetryPolicy::default() };
    let large = LimitOverrides {
        memory: Some(8 << 30),
        timeout: Some(Duration::from_secs(3 * 3_600)),
        ..LimitOverrides::default()
    };
    let tasks = vec![
        task("fine"),
        TaskInfo { limits: large, ..task("greedy") },
        TaskInfo { retry: Some(retry), ..task("stubborn") },
    ];
    assert_eq!(
        check_description(&ModuleContent::Tasks(tasks), &maximum()),
        [
            "task \"greedy\": its timeout of 3h is above the maximum here, 1h",
            "task \"greedy\": its memory of 8GiB is above the maximum here, 1GiB",
            "task \"stubborn\": its 101 attempts are above the maximum here, 100",
        ]
    );
    assert_eq!(check_description(&ModuleContent::Command, &maximum()), Vec::<String>::new());
}
