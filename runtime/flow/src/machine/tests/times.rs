//! Waits: for a person, for a time, for a worker.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::{Event, Failure, FailureKind, RunState, TaskResult, Value, Values};

/// A waiting task between two others.
const APPROVED: &str = r#"
    pattern = "linear"
    [[task]]
    name = "a"
    use = "g#noop"
    [[task]]
    name = "approve"
    wait = "approval"
    provides = { by = "approved_by" }
    deadline = "2d"
    [[task]]
    name = "b"
    use = "g#noop"
"#;

#[test]
fn a_task_that_waits_succeeds_when_it_is_notified() {
    let mut world = Harness::start(flow(APPROVED));
    let refusal = |world: &Harness, values: Values| {
        world.machine.notification_error(&name("approve"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let by: Values = [("by".parse().unwrap(), Value::json(&"eve".into()))].into();
    assert_eq!(refusal(&world, by.clone()), "task \"approve\" is pending, and does not wait now");
    world.answer(0);
    assert_eq!(world.outstanding.len(), 0, "nobody is called");
    assert_eq!(refusal(&world, Values::new()), "\"by\" is missing");
    let wrong: Values = [("who".parse().unwrap(), Value::json(&1.into()))].into();
    assert_eq!(refusal(&world, wrong), "\"who\" is not waited for: it takes \"by\"");
    assert_eq!(refusal(&world, by), "");
    world.notify("approve", &[]);
    assert_eq!(world.trace(), "a:R a:S approve:R", "what is refused changes nothing");
    world.notify("approve", &[("by", "\"eve\"")]);
    world.notify("approve", &[("by", "\"mallory\"")]);
    world.run();
    assert_eq!(world.trace(), "a:R a:S approve:R approve:S(\"eve\") b:R b:S");
    assert_eq!(world.values(), "approved_by=\"eve\"");
}

#[test]
fn a_duplicate_notification_completes_a_waiting_task_once() {
    let notified = |key: &str, by: &str| Event::Notify {
        task: name("approve"),
        result: TaskResult::Succeeded([("by".parse().unwrap(), Value::json(&by.into()))].into()),
        key: Some(key.into()),
    };
    let mut world = Harness::start(flow(APPROVED));
    assert!(world.machine.decide(world.now, &notified("k", "eve")).is_empty(), "it does not wait yet");
    assert!(!world.machine.has_received(&name("approve"), "k"), "what was refused may be sent again");
    world.answer(0);
    world.step(&notified("k", "eve"));
    assert!(world.machine.has_received(&name("approve"), "k"));
    assert!(!world.machine.has_received(&name("a"), "k"), "a key is of one task");
    let known = world.records.len();
    for key in ["k", "other"] {
        world.step(&notified(key, "mallory"));
        assert_eq!(world.records.len(), known, "{key}");
    }
    let restored = crate::Machine::restore(world.machine.run().clone(), world.machine.snapshot()).unwrap();
    assert!(restored.has_received(&name("approve"), "k") && !restored.has_received(&name("approve"), "other"));
    world.run();
    assert!(world.machine.has_received(&name("approve"), "k"), "after the run has ended too");
}

#[test]
fn a_notification_of_a_wrong_type_is_rejected() {
    let text = |takes: &str| {
        format!(
            "[[task]]\nname = \"ask\"\nwait = \"a number\"\nprovides = {{ n = \"asked\" }}\n\
             [[task]]\nname = \"square\"\nuse = \"g#square\"\n{takes}\n"
        )
    };
    let refusal = |world: &Harness, value: serde_json::Value| {
        let values: Values = [("n".parse().unwrap(), Value::json(&value))].into();
        world.machine.notification_error(&name("ask"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let mut world = Harness::start(flow(&text("requires = { number = \"asked\" }")));
    assert_eq!(refusal(&world, 7.into()), "");
    let told = "\"asked\" does not fit task \"square\", which takes it as its \"number\": it is ";
    let refused = refusal(&world, "seven".into());
    assert!(refused.starts_with(told), "{refused}");
    world.notify("ask", &[("n", "\"seven\"")]);
    assert_eq!(world.trace(), "ask:R", "what is refused changes nothing");
    let world = Harness::start(flow(&text("for_each = \"asked\"\nrequires = { number = \"item\" }")));
    assert_eq!(refusal(&world, serde_json::json!([1, 2])), "");
    let refused = refusal(&world, serde_json::json!([1, "two"]));
    assert!(refused.contains("of its element 1, it is "), "{refused}");
    assert!(refusal(&world, 1.into()).contains("it is no list"), "{}", refusal(&world, 1.into()));
}

#[test]
fn a_waiting_task_fails_by_notification_or_deadline() {
    let mut world = Harness::start(flow(APPROVED));
    world.answer(0);
    let answer = TaskResult::Failed(Failure::new(FailureKind::Permanent, "too expensive"));
    world.step(&Event::Notify { task: name("approve"), result: answer, key: None });
    world.run();
    assert_eq!(world.trace(), "a:R a:S approve:R approve:F approve:RB approve:RD a:RB a:RD");
    let mut world = Harness::start(flow(APPROVED));
    world.answer(0);
    assert_eq!(world.machine.next_due(), Some(world.now.after(Duration::from_secs(2 * 86_400))));
    world.run();
    assert_eq!(world.state(), RunState::RolledBack);
    assert_eq!(world.machine.failures()[&name("approve")].kind, FailureKind::Timeout);
}

#[test]
fn a_waiting_task_delays_neither_cancel_nor_suspend() {
    let mut world = Harness::start(flow(APPROVED));
    world.answer(0);
    world.step(&Event::Suspend);
    assert_eq!(world.state(), RunState::Suspended);
    world.step(&Event::Resume);
    world.step(&Event::Cancel);
    assert_eq!(world.machine.failures()[&name("approve")].kind, FailureKind::Cancelled);
    world.run();
    assert_eq!(world.state(), RunState::RolledBack);
}

#[test]
fn a_delayed_node_does_not_start_early() {
    let mut world = Harness::start(flow(
        r#"
        start_at = 1970-01-01T00:00:05Z
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        start_after = "10m"
        [[link]]
        from = "a"
        to = "b"
        "#,
    ));
    assert_eq!(world.trace(), "");
    assert_eq!(world.machine.next_due().unwrap().as_micros(), 5_000_000);
    world.advance_to_next_due();
    assert_eq!(world.trace(), "a:R");
    world.answer(0);
    assert_eq!(world.machine.next_due(), Some(world.now.after(Duration::from_secs(600))));
    world.now = world.now.after(Duration::from_secs(599));
    world.step(&Event::Tick);
    assert_eq!(world.trace(), "a:R a:S");
    world.run();
    assert_eq!(world.trace(), "a:R a:S b:R b:S");
}

#[test]
fn an_expired_run_is_rolled_back() {
    let mut world = Harness::start(flow(
        r#"
        pattern = "linear"
        expires = "1h"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        start_after = "2h"
        "#,
    ));
    world.run();
    assert_eq!(world.trace(), "a:R a:S a:RB a:RD");
    assert_eq!(world.state(), RunState::RolledBack);
    assert!(world.records.iter().any(|record| record.fact == crate::Fact::Expired));
}

#[test]
fn an_unstarted_call_expires_and_a_leased_one_does_not() {
    let text =
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\nexpires = \"1m\"\nretry = { attempts = 2, initial = \"1s\" }\n";
    let mut world = Harness::start(flow(text));
    let call = world.outstanding[0].id.clone();
    assert!(world.machine.may_start(world.now.after(Duration::from_secs(59)), &call));
    assert!(!world.machine.may_start(world.now.after(Duration::from_secs(60)), &call), "no worker begins it any more");
    world.advance_to_next_due();
    assert_eq!((world.trace().as_str(), world.outstanding.len(), world.lost.len()), ("a:R a:F", 0, 1));
    world.advance_to_next_due();
    // A worker takes the first call after all: the second call covers its effects.
    world.answer_late(0);
    world.lease(0);
    assert_eq!(world.machine.next_due(), None);
    world.answer(0);
    assert_eq!(world.trace(), "a:R a:F a:R a:S");
    // A permanent failure: a call that was never executed needs no rollback by a guest.
    let mut world = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\nexpires = \"1m\"\n"));
    world.advance_to_next_due();
    assert_eq!((world.trace().as_str(), world.state()), ("a:R a:F a:RB a:RD", RunState::RolledBack));
    world.answer_late(0);
    world.run();
    assert_eq!(world.trace(), "a:R a:F a:RB a:RD a:RB a:RD", "and what was called late is");
}
