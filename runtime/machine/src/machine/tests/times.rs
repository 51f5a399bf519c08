//! Waits: for a person, for a time, for a worker.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::{CallExpiry, Event, StepLimits, UnansweredCall};
use flow::{Failure, FailureKind, RunState, TaskResult, Value, Values};

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
    let mut harness = Harness::start(flow(APPROVED));
    let refusal = |harness: &Harness, values: Values| {
        harness.machine.notification_error(&name("approve"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let by: Values = [("by".parse().unwrap(), Value::json(&"eve".into()))].into();
    assert_eq!(refusal(&harness, by.clone()), "task \"approve\" is pending, and does not wait now");
    harness.answer(0);
    assert_eq!(harness.outstanding.len(), 0, "no guest is called");
    assert_eq!(refusal(&harness, Values::new()), "\"by\" is missing");
    let wrong_values: Values = [("who".parse().unwrap(), Value::json(&1.into()))].into();
    assert_eq!(refusal(&harness, wrong_values), "\"who\" is not waited for: it takes \"by\"");
    assert_eq!(refusal(&harness, by), "");
    harness.notify("approve", &[]);
    assert_eq!(harness.trace(), "a:R a:S approve:R", "a refused notification changes nothing");
    harness.notify("approve", &[("by", "\"eve\"")]);
    harness.notify("approve", &[("by", "\"mallory\"")]);
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S approve:R approve:S(\"eve\") b:R b:S");
    assert_eq!(harness.values(), "approved_by=\"eve\"");
}

#[test]
fn a_duplicate_notification_completes_a_waiting_task_once() {
    let notified = |key: &str, by: &str| Event::Notify {
        task: name("approve"),
        result: TaskResult::Succeeded([("by".parse().unwrap(), Value::json(&by.into()))].into()),
        key: Some(key.into()),
    };
    let mut harness = Harness::start(flow(APPROVED));
    assert!(harness.machine.decide(harness.now, &notified("k", "eve")).is_empty(), "it does not wait yet");
    assert!(!harness.machine.has_received(&name("approve"), "k"), "a refused notification may be sent again");
    harness.answer(0);
    harness.step(&notified("k", "eve"));
    assert!(harness.machine.has_received(&name("approve"), "k"));
    assert!(!harness.machine.has_received(&name("a"), "k"), "a key belongs to one task");
    let record_count = harness.records.len();
    for key in ["k", "other"] {
        harness.step(&notified(key, "mallory"));
        assert_eq!(harness.records.len(), record_count, "{key}");
    }
    let restored = crate::Machine::restore(harness.machine.run().clone(), harness.machine.snapshot()).unwrap();
    assert!(restored.has_received(&name("approve"), "k") && !restored.has_received(&name("approve"), "other"));
    harness.run();
    assert!(harness.machine.has_received(&name("approve"), "k"), "after the run has ended too");
}

#[test]
fn a_notification_of_a_wrong_type_is_rejected() {
    let text = |keys: &str| {
        format!(
            "[[task]]\nname = \"ask\"\nwait = \"a number\"\nprovides = {{ n = \"asked\" }}\n\
             [[task]]\nname = \"square\"\nuse = \"g#square\"\n{keys}\n"
        )
    };
    let refusal = |harness: &Harness, value: serde_json::Value| {
        let values: Values = [("n".parse().unwrap(), Value::json(&value))].into();
        harness.machine.notification_error(&name("ask"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let mut harness = Harness::start(flow(&text("requires = { number = \"asked\" }")));
    assert_eq!(refusal(&harness, 7.into()), "");
    let prefix = "\"asked\" does not fit task \"square\", which takes it as its \"number\": it is ";
    let error = refusal(&harness, "seven".into());
    assert!(error.starts_with(prefix), "{error}");
    harness.notify("ask", &[("n", "\"seven\"")]);
    assert_eq!(harness.trace(), "ask:R", "a refused notification changes nothing");
    let harness = Harness::start(flow(&text("for_each = \"asked\"\nrequires = { number = \"item\" }")));
    assert_eq!(refusal(&harness, serde_json::json!([1, 2])), "");
    let error = refusal(&harness, serde_json::json!([1, "two"]));
    assert!(error.contains("of its element 1, it is "), "{error}");
    assert!(refusal(&harness, 1.into()).contains("\"for_each\" needs a list"), "{}", refusal(&harness, 1.into()));
}

#[test]
fn a_waiting_task_fails_by_notification_or_deadline() {
    let mut harness = Harness::start(flow(APPROVED));
    harness.answer(0);
    let result = TaskResult::Failed(Failure::new(FailureKind::Permanent, "too expensive"));
    harness.step(&Event::Notify { task: name("approve"), result, key: None });
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S approve:R approve:F approve:RB approve:RD a:RB a:RD");
    let mut harness = Harness::start(flow(APPROVED));
    harness.answer(0);
    assert_eq!(harness.machine.next_due(), Some(harness.now.after(Duration::from_secs(2 * 86_400))));
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    assert_eq!(harness.machine.failures()[&name("approve")].kind, FailureKind::Timeout);
}

#[test]
fn a_waiting_task_delays_neither_cancel_nor_suspend() {
    let mut harness = Harness::start(flow(APPROVED));
    harness.answer(0);
    harness.step(&Event::Suspend);
    assert_eq!(harness.state(), RunState::Suspended);
    harness.step(&Event::Resume);
    harness.step(&Event::Cancel);
    assert_eq!(harness.machine.failures()[&name("approve")].kind, FailureKind::Cancelled);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn a_delayed_node_does_not_start_early() {
    let mut harness = Harness::start(flow(
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
    assert_eq!(harness.trace(), "");
    assert_eq!(harness.machine.next_due().unwrap().as_micros(), 5_000_000);
    harness.advance_to_next_due();
    assert_eq!(harness.trace(), "a:R");
    harness.answer(0);
    assert_eq!(harness.machine.next_due(), Some(harness.now.after(Duration::from_secs(600))));
    harness.now = harness.now.after(Duration::from_secs(599));
    harness.step(&Event::Tick);
    assert_eq!(harness.trace(), "a:R a:S");
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S b:R b:S");
}

#[test]
fn an_expired_run_is_rolled_back() {
    let mut harness = Harness::start(flow(
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
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S a:RB a:RD");
    assert_eq!(harness.state(), RunState::RolledBack);
    assert!(harness.records.iter().any(|record| record.fact == crate::Fact::Expired));
}

#[test]
fn an_unstarted_call_expires_and_a_leased_one_does_not() {
    let text =
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\nexpires = \"1m\"\nretry = { attempts = 2, initial = \"1s\" }\n";
    let mut harness = Harness::start(flow(text));
    let (call, since) = (harness.outstanding[0].id.clone(), harness.now);
    assert!(harness.machine.may_start(harness.now.after(Duration::from_secs(59)), &call));
    assert!(
        !harness.machine.may_start(harness.now.after(Duration::from_secs(60)), &call),
        "no worker starts it any more"
    );
    harness.advance_to_next_due();
    assert_eq!((harness.trace().as_str(), harness.outstanding.len(), harness.lost.len()), ("a:R a:F", 0, 1));
    assert_eq!(harness.unanswered, [UnansweredCall { call, since, kind: FailureKind::Timeout }]);
    harness.advance_to_next_due();
    // A worker takes the first call after all: the second call covers its effects.
    harness.answer_late(0);
    harness.lease(0);
    assert_eq!(harness.machine.next_due(), None);
    harness.answer(0);
    assert_eq!((harness.trace().as_str(), harness.unanswered.len()), ("a:R a:F a:R a:S", 1));
    // A permanent failure: a call that was never executed needs no rollback by a guest.
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\nexpires = \"1m\"\n"));
    harness.advance_to_next_due();
    assert_eq!((harness.trace().as_str(), harness.state()), ("a:R a:F a:RB a:RD", RunState::RolledBack));
    harness.answer_late(0);
    harness.run();
    assert_eq!(harness.trace(), "a:R a:F a:RB a:RD a:RB a:RD", "the late call is rolled back");
}

#[test]
fn no_call_expires_while_reports_about_calls_may_not_be_received() {
    let call = |name: &str| {
        let retry = "retry = { attempts = 2, initial = \"1s\" }";
        format!("[[task]]\nname = \"{name}\"\nuse = \"g#noop\"\nexpires = \"1m\"\n{retry}\n")
    };
    let mut harness = Harness::start(flow(&format!("pattern = \"unordered\"\n{}{}", call("a"), call("b"))));
    let calls: Vec<_> = harness.outstanding.iter().map(|call| call.id.clone()).collect();
    let (now, held) = (harness.now.after(Duration::from_secs(3_600)), CallExpiry::Held);
    let mut machine = harness.machine.clone();
    let mut step = |event: &Event, expiry| {
        let step = machine.step_within(now, event, StepLimits { expiry, ..StepLimits::default() });
        assert!(!step.is_unfinished);
        step.records.iter().map(|record| record.fact.name()).collect::<Vec<_>>()
    };
    assert!(step(&Event::Tick, held).is_empty());
    let leased = Event::Leased { call: calls[0].clone(), worker: "w".parse().unwrap() };
    assert_eq!(step(&leased, held), ["leased"], "what one worker reports lets no other call expire");
    assert_eq!(step(&Event::Tick, CallExpiry::Due), ["failed"], "no worker has the other call");
    harness.advance_to_next_due();
    assert_eq!(harness.lost.len(), 2, "by default, calls expire");
}
