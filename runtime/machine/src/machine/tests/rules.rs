//! The rules of a run that no numbered trace covers.

use std::time::Duration;

use super::{
    check_trace,
    harness::{Harness, flow, name},
};
use crate::Event;
use flow::{FailureKind, RunState};

#[test]
fn an_empty_flow_succeeds() {
    check_trace("", "", RunState::Success, "");
}

#[test]
fn a_failed_task_is_rolled_back_first_then_strictly_backwards() {
    check_trace(
        r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#plain"
        [[task]]
        name = "c"
        use = "g#fails"
        [[task]]
        name = "d"
        use = "g#noop"
        "#,
        "a:R a:S b:R b:S c:R c:F c:RB c:RD b:RB b:RD a:RB a:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn a_running_sibling_may_finish_and_is_then_rolled_back() {
    check_trace(
        r#"
        pattern = "unordered"
        [[task]]
        name = "a"
        use = "g#fails"
        [[task]]
        name = "b"
        use = "g#noop"
        "#,
        "a:R b:R a:F a:RB a:RD b:S b:RB b:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn a_task_retry_waits_and_needs_no_rollback() {
    let text = r#"
        [[task]]
        name = "a"
        use = "g#flaky"
        retry = { attempts = 3, initial = "2s", jitter = false }
        "#;
    let mut harness = Harness::start(flow(text));
    let started_at = harness.now;
    harness.run();
    assert_eq!(harness.trace(), "a:R a:F a:R a:S");
    assert!(harness.now.since(started_at) >= Duration::from_secs(2), "the delay has passed");
    assert_eq!(harness.published[1].retry_in, Some(Duration::from_secs(2)));
    assert!(harness.machine.failures().is_empty(), "a task that succeeds at last has no failure");
}

#[test]
fn a_permanent_failure_is_not_retried() {
    check_trace(
        "[[task]]\nname = \"t\"\nuse = \"g#fails\"\nretry = { attempts = 5 }",
        "t:R t:F t:RB t:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn a_rollback_is_retried_by_the_tasks_policy() {
    check_trace(
        r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "g#flaky"
        retry = { attempts = 2, jitter = false }
        [[task]]
        name = "b"
        use = "g#fails"
        "#,
        "a:R a:F a:R a:S b:R b:F b:RB b:RD a:RB a:F a:RB a:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn after_a_failed_rollback_independent_branches_are_rolled_back_to_their_end() {
    check_trace(
        r#"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        [[task]]
        name = "stuck"
        use = "g#nasty"
        provides = []
        [[task]]
        name = "c"
        use = "g#fails"
        [[link]]
        from = "a"
        to = "stuck"
        [[link]]
        from = "stuck"
        to = "c"
        [[link]]
        from = "b"
        to = "c"
        "#,
        "a:R b:R a:S stuck:R b:S stuck:S c:R c:F c:RB c:RD b:RB stuck:RB b:RD stuck:RF",
        RunState::Failure,
        "",
    );
}

#[test]
fn higher_priority_starts_first_then_file_order() {
    let text = r#"
        pattern = "unordered"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        priority = 5
        [[task]]
        name = "c"
        use = "g#noop"
        "#;
    let harness = Harness::start(flow(text));
    assert_eq!(harness.trace(), "b:R a:R c:R");
}

#[test]
fn a_value_behind_a_reversed_link_is_a_missing_input() {
    let text = r#"
        [[task]]
        name = "late"
        use = "g#five"
        provides = { value = "x" }
        [[task]]
        name = "early"
        use = "g#same"
        with = { y = 1 }
        [[link]]
        from = "early"
        to = "late"
        "#;
    let mut harness = Harness::start(flow(text));
    harness.run();
    assert_eq!(harness.trace(), "early:R early:F early:RB early:RD");
    let failure = &harness.machine.failures()[&name("early")];
    assert_eq!(failure.kind, FailureKind::MissingInput);
    assert_eq!(failure.message, r#"not there when the task started: "x" of "late" (for "x")"#);
}

#[test]
fn an_outer_retry_resets_the_inner_history() {
    let text = r#"
        pattern = "linear"
        retry = { times = 2, provides = "o" }
        [[flow]]
        name = "inner"
        retry = { times = 2, provides = "i" }
        [[flow.task]]
        name = "t"
        use = "g#fails"
        "#;
    let iteration = |inner: u32| format!("inner:R inner:S({inner}) t:R t:F t:RB t:RD");
    let inner = [1, 2].map(iteration).join(" inner:RT t:P ");
    let expected =
        format!("f:R f:S(1) {inner} inner:RB inner:RD f:RT inner:P t:P f:R f:S(2) {inner} inner:RB inner:RD f:RB f:RD");
    check_trace(text, &expected, RunState::RolledBack, "");
}

#[test]
fn rollback_all_asks_no_outer_controller() {
    check_trace(
        r#"
        retry = { times = 9 }
        [[flow]]
        name = "inner"
        retry = { times = 1, otherwise = "rollback-all" }
        [[flow.task]]
        name = "t"
        use = "g#fails"
        "#,
        "f:R f:S inner:R inner:S t:R t:F t:RB t:RD inner:RB inner:RD f:RB f:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn for_each_fails_when_its_value_is_no_list() {
    let with = |list: &str| {
        format!(
            r#"
            inputs = {{ list = {list}, y = 7 }}
            [[flow]]
            name = "inner"
            retry = {{ for_each = "list", provides = "x" }}
            [[flow.task]]
            name = "t"
            use = "g#same"
            "#
        )
    };
    check_trace(
        &with("[6, 7]"),
        "inner:R inner:S(6) t:R t:F t:RB t:RD inner:RT t:P inner:R inner:S(7) t:R t:S",
        RunState::Success,
        "list=[6,7] x=7 y=7",
    );
    let task_value = r#"
        [[task]]
        name = "five"
        use = "g#five"
        [[flow]]
        name = "inner"
        retry = { for_each = "value" }
        [[flow.task]]
        name = "t"
        use = "g#noop"
        "#;
    let trace = "five:R five:S(5) inner:R inner:F inner:RB inner:RD five:RB five:RD";
    check_trace(task_value, trace, RunState::RolledBack, "");
    check_trace(&with("[]"), "inner:R inner:F inner:RB inner:RD", RunState::RolledBack, "list=[] y=7");
}

#[test]
fn cancel_interrupts_calls_and_rolls_back() {
    let text = r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        [[task]]
        name = "c"
        use = "g#noop"
        "#;
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.step(&Event::Cancel);
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S b:R b:S b:RB b:RD a:RB a:RD");
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn an_unstarted_call_is_withdrawn_on_cancel_without_rollback() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#noop\"";
    let mut harness = Harness::start(flow(text));
    assert_eq!(harness.machine.withdrawable_calls().count(), 0, "the call is needed");
    harness.step(&Event::Cancel);
    harness.withdraw(0);
    assert_eq!((harness.trace().as_str(), harness.state()), ("a:R a:F a:RB a:RD", RunState::RolledBack));
    assert_eq!(harness.machine.failures()[&name("a")].kind, FailureKind::Cancelled);
}

#[test]
fn a_call_under_a_lease_is_not_withdrawn() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#noop\"";
    let mut harness = Harness::start(flow(text));
    harness.lease(0);
    harness.step(&Event::Cancel);
    assert_eq!(harness.machine.withdrawable_calls().count(), 0);
    let call = harness.outstanding[0].id.clone();
    assert_eq!(harness.machine.decide(harness.now, &Event::Withdrawn { call }), []);
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S a:RB a:RD");
}

#[test]
fn an_attempt_before_the_one_that_is_withdrawn_is_rolled_back() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#flaky\"\nretry = { attempts = 3 }";
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.advance_to_next_due();
    harness.step(&Event::Cancel);
    harness.withdraw(0);
    harness.run();
    assert!(harness.trace().starts_with("a:R a:F a:R a:F a:RB"), "{}", harness.trace());
    assert!(
        harness.answered().iter().any(|signal| signal.call.action == flow::Action::Rollback),
        "its first attempt may have had effects"
    );
}

#[test]
fn a_call_is_poison_at_its_delivery_limit() {
    for (keys, limit) in [("", 5), ("delivery_limit = 1", 1), ("delivery_limit = 7", 7)] {
        let mut harness = Harness::start(flow(&format!("[[task]]\nname = \"a\"\nuse = \"g#plain\"\n{keys}")));
        for lost in 1..=limit {
            assert!(harness.machine.failures().is_empty(), "{keys:?}: {lost}");
            harness.lease(0);
            harness.lose(0);
        }
        assert_eq!(harness.machine.failures()[&name("a")].kind, FailureKind::Poison, "{keys:?}");
    }
}

#[test]
fn an_abandoned_call_is_resent_on_resume() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#noop\"";
    let mut harness = Harness::start(flow(text));
    harness.step(&Event::Suspend);
    assert_eq!(harness.state(), RunState::Suspending);
    harness.step(&Event::Abandon);
    assert_eq!(harness.state(), RunState::Suspended);
    harness.step(&Event::Resume);
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S");
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn an_illegal_record_is_rejected() {
    let text = "[[task]]\nname = \"a\"\nuse = \"g#noop\"";
    let mut harness = Harness::start(flow(text));
    harness.run();
    let run = harness.machine.run().clone();
    let mut records = harness.records.clone();
    records.push(harness.records[1].clone());
    let error = crate::Machine::replay(run.clone(), &records).unwrap_err();
    assert_eq!(error.to_string(), r#"record started of "a" does not fit run r: node "a" is success"#);
    let error = crate::Machine::replay(run, &harness.records[1..]).unwrap_err();
    assert_eq!(error.to_string(), "record started does not fit run r: the first record starts the run");
}

#[test]
fn a_task_without_a_call_gets_no_rollback_call() {
    // A link reverses the order: a required value is missing.
    let mut harness = Harness::start(flow(
        "[[task]]\nname = \"a\"\nuse = \"g#add\"\nrequires = { ip = \"value\" }\nprovides = []\n\
         [[task]]\nname = \"b\"\nuse = \"g#five\"\n[[link]]\nfrom = \"a\"\nto = \"b\"\n",
    ));
    harness.run();
    assert_eq!((harness.trace().as_str(), harness.done.len()), ("a:R a:F a:RB a:RD", 0));
}

#[test]
fn a_retrying_controller_is_rolled_back_with_its_parent() {
    let mut harness = Harness::start(flow(
        "retry = { times = 2 }\n[[task]]\nname = \"w\"\nuse = \"g#noop\"\n[[task]]\nname = \"c\"\nuse = \"g#noop\"\n\
         [[link]]\nfrom = \"w\"\nto = \"c\"\nwhen = \"1 / 0 == 0\"\n\
         [[flow]]\nname = \"n\"\nretry = { times = 2 }\n[[flow.task]]\nname = \"y\"\nuse = \"g#noop\"\n\
         [[flow.task]]\nname = \"x\"\nuse = \"g#fails\"\n[[flow.link]]\nfrom = \"y\"\nto = \"x\"\n",
    ));
    // The inner flow has failed, and is rolled back while nothing may start.
    harness.answer(1);
    harness.answer(1);
    harness.step(&Event::Suspend);
    harness.answer(0);
    harness.answer(0);
    assert_eq!(harness.state(), RunState::Suspended);
    // Now the controller would retry; but its condition cannot be evaluated, and fails the enclosing flow.
    harness.step(&Event::Resume);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn a_late_outcome_in_a_pending_flow_does_not_block_a_reset() {
    let mut harness = Harness::start(flow(
        "[[task]]\nname = \"a\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"a\"\nto = \"m\"\n\
         [[flow]]\nname = \"m\"\n[[flow.flow]]\nname = \"n\"\n[[flow.flow.task]]\nname = \"t\"\nuse = \"g#noop\"\n",
    ));
    harness.answer(0);
    harness.lose(0);
    harness.step(&Event::Cancel);
    harness.run();
    // The second time the run ends before that flow starts.
    harness.step(&Event::Retry);
    harness.step(&Event::Cancel);
    harness.run();
    harness.answer_late(0);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    harness.step(&Event::Retry);
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn applies_and_rollbacks_have_separate_attempt_numbers() {
    let mut harness = Harness::start(flow(
        "[[task]]\nname = \"a\"\nuse = \"g#flaky\"\nretry = { attempts = 3, initial = \"1s\" }\n\
         [[task]]\nname = \"z\"\nuse = \"g#fails\"\n[[link]]\nfrom = \"a\"\nto = \"z\"\n",
    ));
    // Twice: once by a lost worker, which answers when its task has been rolled back.
    harness.lose(0);
    harness.run();
    harness.answer_late(0);
    harness.run();
    let numbers = harness.published.iter().filter(|change| change.name == name("a"));
    let numbers: Vec<String> = numbers.map(|change| format!("{} {}", change.state, change.attempt)).collect();
    assert_eq!(
        numbers,
        [
            "running 1",
            "failure 1",
            "running 2",
            "success 2", // the apply
            "rolling-back 1",
            "failure 1",
            "rolling-back 2",
            "rolled-back 2", // its rollback, which fails once
            "rolling-back 3",
            "failure 3",
            "rolling-back 4",
            "rolled-back 4", // and once more, for the lost one
        ]
    );
}
