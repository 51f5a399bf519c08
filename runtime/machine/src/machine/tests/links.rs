//! Links: which tasks receive a failure, and which tasks a condition skips.

use super::{
    check_trace,
    harness::{Harness, flow, name},
};
use crate::{Event, MAX_STEP_RECORDS, StepLimits};
use flow::{FailureKind, RunState};

/// `s` does what `guest` does, and `l` listens to it.
fn flow_with_listener(guest: &str, link: &str) -> String {
    format!(
        r#"
        [[task]]
        name = "before"
        use = "g#noop"
        [[task]]
        name = "s"
        use = "g#{guest}"
        provides = []
        [[task]]
        name = "l"
        use = "g#report-failure"
        [[link]]
        from = "before"
        to = "s"
        [[link]]
        from = "s"
        to = "l"
        {link}
        "#
    )
}

#[test]
fn a_failure_handler_runs_before_rollback_and_is_not_rolled_back() {
    check_trace(
        &flow_with_listener("fails", "on = \"failure\""),
        "before:R before:S s:R s:F l:R l:S(\"s: woot\") s:RB s:RD before:RB before:RD",
        RunState::RolledBack,
        "report=\"s: woot\"",
    );
}

#[test]
fn a_failure_handler_is_skipped_without_a_failure() {
    check_trace(
        &flow_with_listener("noop", "on = \"failure\""),
        "before:R before:S s:R s:S l:I",
        RunState::Success,
        "",
    );
}

#[test]
fn a_listener_on_any_receives_success_and_failure() {
    check_trace(
        &flow_with_listener("noop", "on = \"any\""),
        "before:R before:S s:R s:S l:R l:S(\"all is well\")",
        RunState::Success,
        "report=\"all is well\"",
    );
    check_trace(
        &flow_with_listener("fails", "on = \"any\""),
        "before:R before:S s:R s:F l:R l:S(\"s: woot\") s:RB s:RD before:RB before:RD",
        RunState::RolledBack,
        "report=\"s: woot\"",
    );
}

#[test]
fn a_failure_handler_can_read_the_failure() {
    check_trace(
        &flow_with_listener("fails", "on = \"failure\"\nwhen = \"failure.kind == 'timeout'\""),
        "before:R before:S s:R s:F l:I s:RB s:RD before:RB before:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn a_failure_handler_runs_for_each_controller_retry() {
    check_trace(
        r#"
        retry = { times = 2 }
        [[task]]
        name = "s"
        use = "g#fails"
        [[task]]
        name = "l"
        use = "g#report-failure"
        [[link]]
        from = "s"
        to = "l"
        on = "failure"
        "#,
        "f:R f:S s:R s:F l:R l:S(\"s: woot\") s:RB s:RD f:RT s:P l:P
         f:R f:S s:R s:F l:R l:S(\"s: woot\") s:RB s:RD f:RB f:RD",
        RunState::RolledBack,
        "report=\"s: woot\"",
    );
}

#[test]
fn a_failing_failure_handler_affects_nothing_else() {
    let mut harness = Harness::start(flow(
        r#"
        [[task]]
        name = "s"
        use = "g#noop"
        [[task]]
        name = "l"
        use = "g#fails"
        [[task]]
        name = "after"
        use = "g#noop"
        [[link]]
        from = "s"
        to = "l"
        on = "any"
        [[link]]
        from = "l"
        to = "after"
        "#,
    ));
    harness.run();
    assert_eq!(harness.trace(), "s:R s:S l:R l:F after:I");
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.machine.failures()[&name("l")].message, "woot");
}

#[test]
fn an_evaluation_error_fails_the_target() {
    let mut harness = Harness::start(flow(
        r#"
        [[task]]
        name = "a"
        use = "g#five"
        [[task]]
        name = "b"
        use = "g#noop"
        [[link]]
        from = "a"
        to = "b"
        when = "value.size > 1"
        "#,
    ));
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S(5) b:R b:F b:RB b:RD a:RB a:RD");
    let failure = &harness.machine.failures()[&name("b")];
    assert_eq!(failure.kind, FailureKind::Permanent);
    let expected = "the link from \"a\": condition `value.size > 1` cannot be decided: ";
    assert!(failure.message.starts_with(expected), "{failure}");
}

#[test]
fn an_evaluation_error_fails_a_nested_flow() {
    let mut harness = Harness::start(flow(
        r#"
        [[task]]
        name = "a"
        use = "g#five"
        [[flow]]
        name = "n"
        [[flow.task]]
        name = "b"
        use = "g#noop"
        [[link]]
        from = "a"
        to = "n"
        when = "value.size > 1"
        "#,
    ));
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S(5) n:R n:F a:RB a:RD");
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn rollback_passes_through_ignored_tasks_in_order() {
    check_trace(
        r#"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        [[task]]
        name = "c"
        use = "g#noop"
        [[task]]
        name = "d"
        use = "g#fails"
        [[link]]
        from = "a"
        to = "b"
        when = "false"
        reach = "task"
        [[link]]
        from = "b"
        to = "c"
        [[link]]
        from = "c"
        to = "d"
        "#,
        "a:R a:S b:I c:R c:S d:R d:F d:RB d:RD c:RB c:RD a:RB a:RD",
        RunState::RolledBack,
        "",
    );
}

/// A task `t` after `count` others, whose links have a condition over the input `l`.
fn flow_with_conditions(count: usize, condition: &str, list: &str) -> String {
    let source = |index: usize| {
        format!(
            "[[task]]\nname = \"s{index}\"\nuse = \"g#noop\"\n\
             [[link]]\nfrom = \"s{index}\"\nto = \"t\"\nwhen = \"{condition}\"\n"
        )
    };
    let sources: String = (0..count).map(source).collect();
    format!("[inputs]\nl = {list}\n[[task]]\nname = \"t\"\nuse = \"g#noop\"\n{sources}")
}

/// A list of as many ones as a condition with a loop may read.
fn longest_list() -> String {
    format!("[{}]", ["1"; 2_040].join(","))
}

#[test]
fn conditions_that_would_take_too_long_together_fail_their_target() {
    let mut harness = Harness::start(flow(&flow_with_conditions(60, "l.exists(x, x > 0)", &longest_list())));
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let failure = &harness.machine.failures()[&name("t")];
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.message.starts_with("the link from \"s"), "{failure}");
    assert!(failure.message.contains(": condition `l.exists(x, x > 0)` would take too long: "), "{failure}");
}

#[test]
fn hundreds_of_cheap_conditions_are_decided_together() {
    for (count, condition, list) in
        [(300, "l[0] == 1 && size(l) < 30", "[1, 2]"), (10, "l.exists(x, x > 0)", &longest_list())]
    {
        let mut harness = Harness::start(flow(&flow_with_conditions(count, condition, list)));
        harness.run();
        assert_eq!(harness.state(), RunState::Success, "{condition}");
        assert!(harness.trace().ends_with("t:R t:S"), "{condition}");
    }
}

#[test]
fn costly_conditions_of_many_nodes_are_evaluated_in_several_steps() {
    for start in ["", "start_after = \"1s\"\n"] {
        let target = |index: usize| {
            format!(
                "[[task]]\nname = \"t{index}\"\nuse = \"g#noop\"\n{start}\
                 [[link]]\nfrom = \"a\"\nto = \"t{index}\"\nwhen = \"l.exists(x, x > 0)\"\n"
            )
        };
        let targets: String = (0..100).map(target).collect();
        let list = longest_list();
        let text = format!("[inputs]\nl = {list}\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\n{targets}");
        let mut harness = Harness::start_in_steps_of(MAX_STEP_RECORDS, flow(&text));
        while !harness.is_unfinished {
            harness.step_or_advance();
        }
        let started = harness.outstanding.len();
        assert!((1..50).contains(&started), "{started} of 100 targets started in the first step");
        harness.run();
        assert_eq!(harness.state(), RunState::Success);
        assert_eq!(harness.trace().matches(":S").count(), 101);
    }
}

/// A task `a`, and targets of it whose conditions are costly.
fn flow_with_costly_targets(count: usize) -> String {
    let target = |index: usize| {
        format!(
            "[[task]]\nname = \"t{index}\"\nuse = \"g#noop\"\n\
             [[link]]\nfrom = \"a\"\nto = \"t{index}\"\nwhen = \"l.exists(x, x > 0)\"\n"
        )
    };
    let targets: String = (0..count).map(target).collect();
    format!("[inputs]\nl = {}\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\n{targets}", longest_list())
}

#[test]
fn a_step_evaluates_conditions_only_within_its_budget() {
    let mut harness = Harness::start_within(
        StepLimits { conditions: 1, ..StepLimits::default() },
        flow(&flow_with_costly_targets(10)),
    );
    harness.answer(0);
    assert!(harness.is_unfinished, "the answer itself came without a budget");
    for started in 1..=10 {
        assert_eq!(harness.outstanding.len(), started - 1);
        harness.step(&Event::Tick);
        assert_eq!(harness.outstanding.len(), started, "the conditions of one node may exceed what is left");
    }
    assert!(!harness.is_unfinished);
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn a_node_behind_one_that_waits_for_its_conditions_keeps_its_place() {
    let text = flow_with_costly_targets(1);
    let text = format!(
        "{text}[[task]]\nname = \"b\"\nuse = \"g#noop\"\n[[task]]\nname = \"c\"\nuse = \"g#noop\"\n\
         [[link]]\nfrom = \"b\"\nto = \"c\"\n"
    );
    let limits = StepLimits { conditions: 0, ..StepLimits::default() };
    let mut machine = crate::Machine::new("r".parse().unwrap(), flow(&text));
    let step = machine.step_within(flow::Timestamp::default(), &Event::Start, limits);
    assert!(!step.awaits_conditions && !step.is_unfinished);
    let answers: Vec<Event> = machine
        .outstanding_calls()
        .map(|call| {
            let answer = flow::TaskResult::Succeeded(flow::Values::new());
            let execution = flow::Execution::new(1);
            Event::Signal(flow::Signal { call, answer, execution, redelivered: false, worker: None })
        })
        .collect();
    assert_eq!(answers.len(), 2);
    let steps = answers.iter().map(|answer| machine.step_within(flow::Timestamp::default(), answer, limits));
    let awaiting: Vec<bool> = steps.map(|step| step.awaits_conditions).collect();
    let names =
        |machine: &crate::Machine| machine.outstanding_calls().map(|call| call.task.to_string()).collect::<Vec<_>>();
    assert!(names(&machine).is_empty(), "nodes start in their order");
    assert!(awaiting.contains(&true));
    let step = machine.step_within(flow::Timestamp::default(), &Event::Tick, StepLimits { conditions: 1, ..limits });
    assert!(!step.awaits_conditions && step.condition_cost > 10_000, "{}", step.condition_cost);
    assert_eq!(names(&machine).len(), 2);
}

#[test]
fn a_failure_handler_that_waits_for_its_condition_still_comes_before_the_rollback() {
    let text = &flow_with_listener("fails", "on = \"failure\"\nwhen = \"failure.message == 'woot'\"");
    let mut one_by_one = Harness::start_within(StepLimits { conditions: 1, ..StepLimits::default() }, flow(text));
    let mut at_once = Harness::start(flow(text));
    one_by_one.run();
    at_once.run();
    assert_eq!(one_by_one.trace(), at_once.trace());
    assert!(at_once.trace().contains("s:F l:R l:S"), "{}", at_once.trace());
}
