//! Remembered results: a success without a call.

use super::harness::{Harness, flow, name};
use crate::{Event, Fact};
use flow::{Action, CallId, RunState, TaskResult, Value, Values};

/// A task with a rollback, and one that fails until it is tried again by a controller.
const THEN_FAILS: &str = "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#five\"\n\
    [[task]]\nname = \"z\"\nuse = \"g#fails\"\n";

fn values(number: u32) -> Values {
    [("value".parse().unwrap(), Value::json(&number.into()))].into()
}

fn remembered(call: &CallId, values: Values) -> Event {
    let computed_by = CallId { run: "earlier".parse().unwrap(), task: name("other"), ..call.clone() };
    Event::Remembered { call: call.clone(), values, computed_by }
}

fn executed_once_more(call: &CallId) -> Event {
    Event::Signal(flow::Signal {
        call: call.clone(),
        answer: TaskResult::Succeeded(values(5)),
        execution: flow::Execution::new(9),
        redelivered: false,
        worker: None,
    })
}

fn facts(harness: &Harness) -> Vec<&'static str> {
    harness.records.iter().map(|record| record.fact.name()).collect()
}

#[test]
fn a_remembered_result_is_a_success_with_the_call_that_computed_it() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#five\"\nprovides = { value = \"x\" }\n\
        [[task]]\nname = \"b\"\nuse = \"g#same\"\nrequires = { x = \"x\", y = \"x\" }\n";
    let mut computed = Harness::start(flow(text));
    computed.run();
    let mut harness = Harness::start(flow(text));
    assert!(harness.remember(0));
    harness.run();
    assert_eq!((harness.trace(), harness.values()), (computed.trace(), computed.values()));
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(facts(&harness), ["run-started", "started", "remembered", "started", "succeeded", "run-entered"]);
    let success = harness.published.iter().find(|change| change.computed_by.is_some()).unwrap();
    assert_eq!((success.name.as_str(), success.worker.as_ref()), ("a", None));
    assert_eq!(success.computed_by.as_ref().unwrap().run.as_str(), "earlier");
}

#[test]
fn a_rollback_calls_nothing_for_a_remembered_result() {
    let mut harness = Harness::start(flow(THEN_FAILS));
    assert!(harness.remember(0));
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S(5) z:R z:F z:RB z:RD a:RB a:RD");
    assert_eq!(harness.state(), RunState::RolledBack);
    assert!(harness.done.is_empty(), "no guest was called: {:?}", harness.done);
    let passed = facts(&harness).iter().filter(|fact| **fact == "rollback-not-needed").count();
    assert_eq!(passed, 2, "of both tasks");
}

#[test]
fn an_earlier_attempt_that_failed_is_rolled_back() {
    let text = "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#flaky\"\n\
        retry = { attempts = 2, initial = \"1s\" }\n[[task]]\nname = \"z\"\nuse = \"g#fails\"\n";
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.advance_to_next_due();
    assert!(harness.remember(0));
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let rollbacks = harness.done.iter().filter(|(task, action)| (task.as_str(), *action) == ("a", Action::Rollback));
    assert_eq!(rollbacks.count(), 1, "what the first attempt did before it failed: {:?}", harness.done);
}

#[test]
fn a_worker_that_has_made_the_call_anyway_is_rolled_back() {
    // Its answer arrives before the rollback, or after it.
    for is_early in [true, false] {
        let mut harness = Harness::start(flow(THEN_FAILS));
        let call = harness.outstanding[0].id.clone();
        harness.step(&remembered(&call, values(5)));
        if is_early {
            harness.step(&executed_once_more(&call));
        }
        harness.run();
        if !is_early {
            harness.step(&executed_once_more(&call));
            harness.run();
        }
        assert_eq!(harness.done, [(name("a"), Action::Rollback)], "is early: {is_early}");
        assert_eq!(harness.state(), RunState::RolledBack);
    }
}

#[test]
fn an_earlier_attempt_that_is_executed_once_more_is_rolled_back() {
    let mut harness = Harness::start(flow(THEN_FAILS));
    let first = harness.outstanding[0].id.clone();
    harness.run();
    // The run starts again, and has the result now. Then the job of the first attempt is delivered a second time.
    harness.step(&Event::Retry);
    assert!(harness.remember(0));
    harness.step(&executed_once_more(&first));
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let rollbacks = harness.done.iter().filter(|(task, action)| (task.as_str(), *action) == ("a", Action::Rollback));
    assert_eq!(rollbacks.count(), 2, "one for each execution: {:?}", harness.done);
}

#[test]
fn what_does_not_fit_the_call_has_no_effect() {
    let mut harness = Harness::start(flow(THEN_FAILS));
    let call = harness.outstanding[0].id.clone();
    let ignored = |harness: &Harness, event: &Event| harness.machine.decide(harness.now, event).is_empty();
    assert!(ignored(&harness, &remembered(&call, Values::new())), "an output is missing");
    let next = CallId { attempt: call.attempt.next(), ..call.clone() };
    assert!(ignored(&harness, &remembered(&next, values(5))), "it was not dispatched");
    harness.lease(0);
    assert!(ignored(&harness, &remembered(&call, values(5))), "a worker has it");
    harness.answer(0);
    assert!(ignored(&harness, &remembered(&call, values(5))), "it is answered");
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn each_element_of_a_list_may_be_remembered() {
    let text = "[[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = [1, 2, 3]\n";
    let mut harness = Harness::start(flow(text));
    assert!(harness.remember(0) && harness.remember(1));
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.values(), "made=[1,2,3]");
    let is_remembered = |fact: &Fact| matches!(fact, Fact::Remembered { .. });
    assert_eq!(harness.records.iter().filter(|record| is_remembered(&record.fact)).count(), 2);
    assert_eq!(harness.done, [(name("make[1]"), Action::Apply)]);
}
