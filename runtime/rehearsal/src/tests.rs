//! Tests of whole rehearsals: one for each kind of node, and properties of random flows.

pub(crate) mod flows;
mod properties;
mod recorded;
mod triggered;
#[path = "../../machine/src/machine/tests/random_flows.rs"]
mod random_flows;

use std::sync::Arc;

use api::{FailingTries, Rehearsal, RehearsedCase};
use flow::{Flow, Timestamp};

use crate::{Limits, Request, Results, Stubs, rehearse};
use flows::{flow, modules};

/// Some time in 2026.
const NOW: Timestamp = Timestamp::from_micros(1_780_000_000_000_000);

fn rehearsed_with(flow: &Arc<Flow>, results: &str) -> Rehearsal {
    let stubs = Stubs::new(flow, &modules(), &Results::parse(results).unwrap()).unwrap();
    rehearse(flow.clone(), &Request { stubs: &stubs, now: NOW, only: None, limits: Limits::default() }).unwrap()
}

fn rehearsed(text: &str) -> Rehearsal {
    rehearsed_with(&flow(text), "{}")
}

/// A case in one line.
fn line(case: &RehearsedCase) -> String {
    let mut line = String::new();
    for (number, failing) in case.failing.iter().enumerate() {
        let tries = if failing.fails == FailingTries::FirstTry { " in the first try" } else { "" };
        let and = if number > 0 { " + " } else { "" };
        line.push_str(&format!("{and}{} of {}{tries}", failing.action, failing.node));
    }
    if !case.reached {
        line.push_str(" (not reached)");
    }
    line.push_str(&format!(": {}", case.state));
    for retried in &case.retried {
        line.push_str(&format!("; {} of {} x{} {:?}", retried.action, retried.node, retried.attempts, retried.pauses));
    }
    for flow in &case.retried_flows {
        line.push_str(&format!("; {} x{} [{}]", flow.flow, flow.runs, flow.rolled_back.join(" ")));
    }
    for (heading, names) in [
        ("rolled back", &case.rolled_back),
        ("without a rollback", &case.without_rollback),
        ("still applied", &case.still_applied),
        ("handlers", &case.handlers),
        ("stuck", &case.stuck),
        ("notified", &case.notified),
    ] {
        if !names.is_empty() {
            line.push_str(&format!("; {heading} [{}]", names.join(" ")));
        }
    }
    for firing in &case.firings {
        line.push_str(&format!("; {}: {}", firing.by, firing.state));
    }
    if let Some(stopped) = &case.stopped {
        line.push_str(&format!("; stopped {stopped}"));
    }
    for (name, failure) in &case.unexpected {
        line.push_str(&format!("; {name} failed, {failure}"));
    }
    line
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let lines: Vec<String> = rehearsed(text).cases.iter().map(line).collect();
    assert_eq!(lines, expected, "{lines:#?}");
}

#[test]
fn a_task_is_retried_and_the_tasks_before_it_are_rolled_back() {
    let text = r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "m#noop"
        [[task]]
        name = "b"
        use = "m#plain"
        retry = { attempts = 3, initial = "1s", jitter = false }
        [[task]]
        name = "c"
        use = "m#noop"
        "#;
    check(
        text,
        &[
            ": success",
            "apply of a: rolled-back; rolled back [a]",
            "apply of b + rollback of a: failure; apply of b x3 [1.0, 2.0]; stuck [a]",
            "apply of b: rolled-back; apply of b x3 [1.0, 2.0]; rolled back [a]",
            "apply of c: rolled-back; rolled back [c a]; without a rollback [b]",
            "apply of c + rollback of c: failure; still applied [a b]; stuck [c]",
        ],
    );
}

#[test]
fn a_failed_rollback_keeps_what_it_depends_on() {
    let text = r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "m#noop"
        [[task]]
        name = "b"
        use = "m#noop"
        retry = { attempts = 2, initial = "4s", jitter = false }
        [[task]]
        name = "c"
        use = "m#plain"
        "#;
    let cases = rehearsed(text).cases;
    let line_of = |start: &str| cases.iter().map(line).find(|line| line.starts_with(start)).unwrap();
    assert_eq!(
        line_of("apply of c + rollback of b"),
        "apply of c + rollback of b: failure; rollback of b x2 [4.0]; still applied [a]; stuck [b]"
    );
}

#[test]
fn a_retry_controller_runs_its_flow_again() {
    let text = r#"
        pattern = "linear"
        order = ["a", "n"]
        [[task]]
        name = "a"
        use = "m#noop"
        [[flow]]
        name = "n"
        pattern = "linear"
        retry = { times = 3 }
        [[flow.task]]
        name = "b"
        use = "m#noop"
        [[flow.task]]
        name = "c"
        use = "m#plain"
        "#;
    check(
        text,
        &[
            ": success",
            "apply of a: rolled-back; rolled back [a]",
            "apply of b + rollback of a: failure; n x3 [b]; rolled back [b]; stuck [a]",
            "apply of b: rolled-back; n x3 [b]; rolled back [b a]",
            "apply of b in the first try: success; n x2 [b]",
            "apply of c + rollback of b: failure; still applied [a]; stuck [b]",
            "apply of c: rolled-back; n x3 [b]; rolled back [b a]",
            "apply of c in the first try: success; n x2 [b]",
        ],
    );
}

#[test]
fn one_element_of_a_list_fails_and_the_others_are_rolled_back() {
    let text = r#"
        [[task]]
        name = "find"
        use = "m#list"
        [[task]]
        name = "make"
        use = "m#make"
        for_each = "items"
        as = "item"
        "#;
    check(
        text,
        &[
            ": success",
            "apply of find: rolled-back",
            "apply of make: rolled-back; rolled back [make[0] make[1]]; without a rollback [find]",
            "apply of make + rollback of make: failure; rolled back [make[1]]; still applied [find]; stuck [make[0]]",
        ],
    );
    let given = rehearsed_with(&flow(text), r#"{"find": {"items": [1, 2, 3]}}"#);
    let make = given.cases.iter().map(line).find(|line| line.starts_with("apply of make:")).unwrap();
    assert_eq!(make, "apply of make: rolled-back; rolled back [make[0] make[1] make[2]]; without a rollback [find]");
    let empty = rehearsed_with(&flow(text), r#"{"find": {"items": []}}"#);
    let lines: Vec<String> = empty.cases.iter().map(line).collect();
    assert_eq!(lines, [": success", "apply of find: rolled-back", "apply of make (not reached): success"]);
}

#[test]
fn a_waiting_task_is_notified_and_fails_by_a_notification() {
    let text = r#"
        [[task]]
        name = "a"
        use = "m#noop"
        [[task]]
        name = "approve"
        wait = "approval"
        provides = ["yes"]
        deadline = "1h"
        [[link]]
        from = "a"
        to = "approve"
        "#;
    check(
        text,
        &[
            ": success; notified [approve]",
            "apply of a: rolled-back; rolled back [a]",
            "apply of approve + rollback of a: failure; stuck [a]; notified [approve]",
            "apply of approve: rolled-back; rolled back [a]; notified [approve]",
        ],
    );
}

#[test]
fn a_failure_handler_runs_and_its_own_failure_is_rehearsed_with_its_cause() {
    let text = r#"
        [[task]]
        name = "a"
        use = "m#plain"
        [[task]]
        name = "clean"
        use = "m#noop"
        [[task]]
        name = "after"
        use = "m#noop"
        [[link]]
        from = "a"
        to = "clean"
        on = "failure"
        [[link]]
        from = "clean"
        to = "after"
        "#;
    check(
        text,
        &[
            ": success",
            "apply of a: rolled-back; handlers [clean after]",
            "apply of a + apply of clean: rolled-back; handlers [clean]",
            "apply of a + apply of after: rolled-back; handlers [clean after]",
        ],
    );
}

#[test]
fn a_condition_on_a_stub_is_named() {
    let text = r#"
        [[task]]
        name = "measure"
        use = "m#measure"
        [[task]]
        name = "large"
        use = "m#noop"
        [[link]]
        from = "measure"
        to = "large"
        when = "size > 5"
        "#;
    let rehearsal = rehearsed(text);
    let skipped = &rehearsal.cases[0].skipped[0];
    let link = &skipped.links[0];
    assert_eq!(
        (skipped.node.as_str(), link.from.as_str(), link.when.as_deref()),
        ("large", "measure", Some("size > 5"))
    );
    let stub = &link.stubs[0];
    let value = stub.value.as_ref().map(|value| value.get());
    assert_eq!((stub.task.as_str(), value, stub.from.as_str()), ("measure", Some("3"), "schema"));
    let lines: Vec<String> = rehearsal.cases.iter().map(line).collect();
    assert_eq!(lines[2], "apply of measure + rollback of measure: failure; stuck [measure]");
    assert_eq!(lines[3], "apply of large (not reached): success");
    let taken = rehearsed_with(&flow(text), r#"{"measure": {"size": 9}}"#);
    assert!(taken.cases[0].skipped.is_empty());
    let lines: Vec<String> = taken.cases.iter().map(line).collect();
    assert!(lines.contains(&"apply of large: rolled-back; rolled back [large measure]".into()), "{lines:#?}");
}

#[test]
fn a_condition_that_a_stub_breaks_is_reported() {
    let text = r#"
        [[task]]
        name = "a"
        wait = "a size"
        provides = ["size"]
        [[task]]
        name = "b"
        use = "m#noop"
        [[link]]
        from = "a"
        to = "b"
        when = "size.width > 5"
        "#;
    let rehearsal = rehearsed(text);
    assert_eq!(rehearsal.cases[0].state, api::RunState::RolledBack);
    assert_eq!(rehearsal.cases[0].unexpected.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn only_the_cases_of_one_task_are_rehearsed_if_asked_for() {
    let flow = flow(
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"m#noop\"\n[[task]]\nname = \"b\"\nuse = \"m#plain\"\n",
    );
    let stubs = Stubs::new(&flow, &modules(), &Results::default()).unwrap();
    let request = |only: &str| {
        let only = Some(only.parse().unwrap());
        Request { stubs: &stubs, now: NOW, only, limits: Limits::default() }
    };
    let cases = rehearse(flow.clone(), &request("a")).unwrap().cases;
    let lines: Vec<String> = cases.iter().map(line).collect();
    assert_eq!(
        lines,
        [": success", "apply of a: rolled-back; rolled back [a]", "apply of b + rollback of a: failure; stuck [a]"]
    );
    let error = rehearse(flow, &request("c")).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.hint.as_str()), ("flow f has no task \"c\"", "its tasks are a, b"));
}

#[test]
fn a_case_has_a_bound() {
    // The call of each element is more than one step.
    let list: Vec<String> = (0..6_000).map(|number| number.to_string()).collect();
    let text = format!(
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"m#noop\"\n\
         [[task]]\nname = \"make\"\nuse = \"m#make\"\nfor_each = [{}]\nas = \"item\"\n",
        list.join(",")
    );
    let cases = rehearsed(&text).cases;
    assert_eq!(line(&cases[0]), ": running; stopped after 10000 steps, as many as a case may have");
    assert_eq!(line(&cases[1]), "apply of a: rolled-back; rolled back [a]");
}

#[test]
fn a_rehearsal_has_a_bound() {
    let tasks: String = (0..200).map(|number| format!("[[task]]\nname = \"t{number}\"\nuse = \"m#noop\"\n")).collect();
    let rehearsal = rehearsed(&tasks);
    assert!(rehearsal.omitted > 0 && rehearsal.cases.len() > 1, "{} of {}", rehearsal.omitted, rehearsal.cases.len());
    assert_eq!(rehearsal.cases[0].nodes.len(), 200);
}

#[test]
fn the_nodes_of_a_case_have_a_bound() {
    let flow = flow("[[task]]\nname = \"make\"\nuse = \"m#make\"\nfor_each = [1, 2, 3]\nas = \"item\"\n");
    let stubs = Stubs::new(&flow, &modules(), &Results::default()).unwrap();
    let case = |nodes: usize| {
        let limits = Limits { nodes, ..Limits::default() };
        let request = Request { stubs: &stubs, now: NOW, only: None, limits };
        line(&rehearse(flow.clone(), &request).unwrap().cases[0])
    };
    assert_eq!(case(100), ": success");
    assert_eq!(case(2), ": running; stopped after it has more than 2 nodes and list elements");
}

#[test]
fn cases_beyond_a_limit_are_counted() {
    let flow = flow("[[task]]\nname = \"a\"\nuse = \"m#noop\"\n[[task]]\nname = \"b\"\nuse = \"m#noop\"\n");
    let stubs = Stubs::new(&flow, &modules(), &Results::default()).unwrap();
    let cases = |limits: Limits<'_>| {
        let request = Request { stubs: &stubs, now: NOW, only: None, limits };
        let Rehearsal { cases, omitted, .. } = rehearse(flow.clone(), &request).unwrap();
        (cases.iter().map(line).collect::<Vec<_>>(), omitted)
    };
    let (all, omitted) = cases(Limits::default());
    assert_eq!((all.len(), omitted), (5, 0), "{all:?}");
    let only_first = (all[..1].to_vec(), 4);
    assert_eq!(cases(Limits { steps: 0, ..Limits::default() }), only_first);
    assert_eq!(cases(Limits { report_bytes: 0, ..Limits::default() }), only_first);
    let (stopped, omitted) = cases(Limits { is_over: &|| true, ..Limits::default() });
    assert_eq!((stopped.as_slice(), omitted), ([": running; stopped since its time is over".to_owned()].as_slice(), 4));
}

#[test]
fn a_list_is_rolled_back_from_the_element_that_fails() {
    let list: Vec<String> = (0..1_500).map(|number| number.to_string()).collect();
    let text = format!(
        "[[task]]\nname = \"make\"\nuse = \"m#make\"\nfor_each = [{}]\nas = \"item\"\nretry = {{ attempts = 1 }}\n",
        list.join(",")
    );
    let cases = rehearsed(&text).cases;
    let fails = cases.iter().find(|case| line(case).starts_with("apply of make:")).unwrap();
    assert_eq!((fails.reached, &fails.state, fails.rolled_back.len()), (true, &api::RunState::RolledBack, 1_500));
}

#[test]
fn a_notification_that_a_run_would_refuse_ends_a_case() {
    let text = r#"
        [[task]]
        name = "ask"
        wait = "a word"
        provides = ["word"]
        [[task]]
        name = "count"
        use = "m#count"
        [[task]]
        name = "read"
        use = "m#read"
        "#;
    let lines: Vec<String> = rehearsed(text).cases.iter().map(line).collect();
    let reason = "\"word\" does not fit task \"read\", which takes it: it is a whole number, and has to be a text";
    let stopped = format!("running; stopped at ask, where a run would refuse the stubbed values: {reason}");
    assert_eq!(
        lines,
        [
            format!(": {stopped}"),
            "apply of ask: rolled-back; notified [ask]".into(),
            format!("apply of count (not reached): {stopped}"),
            format!("apply of read (not reached): {stopped}"),
        ],
        "{lines:#?}"
    );
}

#[test]
fn a_long_value_is_listed_once_and_null_is_a_value() {
    let text = r#"
        [[task]]
        name = "ask"
        wait = "a word"
        provides = ["word", "other"]
        [[task]]
        name = "b"
        use = "m#noop"
        [[link]]
        from = "ask"
        to = "b"
        when = "word == 'x' && other == 'x'"
        "#;
    let long = "y".repeat(300);
    let rehearsal = rehearsed_with(&flow(text), &format!("{{\"ask\": {{\"word\": \"{long}\"}}}}"));
    let printed = serde_json::to_string(&rehearsal).unwrap();
    assert_eq!(printed.matches(&long).count(), 1);
    let read: Rehearsal = serde_json::from_str(&printed).unwrap();
    let values = |stubs: &[api::StubbedValue]| -> Vec<(String, Option<usize>)> {
        stubs.iter().map(|stub| (stub.name.clone(), stub.value.as_ref().map(|value| value.get().len()))).collect()
    };
    let expected = |length: Option<usize>| vec![("other".to_owned(), Some(4)), ("word".to_owned(), length)];
    assert_eq!(values(&read.stubs), expected(Some(302)));
    assert_eq!(values(&read.cases[0].skipped[0].links[0].stubs), expected(None));
}
