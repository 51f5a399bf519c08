//! The numbered traces that pin the rules of a run, and the example flow of the seed.

use super::{
    check_trace,
    harness::{Harness, flow},
};
use crate::Event;
use flow::RunState;

fn counted(times: u32, y: u32, first: &str) -> String {
    format!(
        r#"
        pattern = "linear"
        retry = {{ times = {times}, provides = "x" }}
        inputs = {{ y = {y} }}
        [[task]]
        name = "t1"
        use = "g#{first}"
        provides = {{ value = "v" }}
        [[task]]
        name = "t2"
        use = "g#same"
        "#
    )
}

#[test]
fn trace_1_a_controller_retries_until_its_flow_succeeds() {
    check_trace(
        &counted(4, 2, "five"),
        "f:R f:S(1) t1:R t1:S(5) t2:R t2:F t2:RB t2:RD t1:RB t1:RD f:RT t1:P t2:P f:R f:S(2) t1:R t1:S(5) t2:R t2:S",
        RunState::Success,
        "v=5 x=2 y=2",
    );
}

#[test]
fn trace_2_a_controller_without_tries_left_lets_the_run_be_rolled_back() {
    check_trace(
        &counted(2, 4, "five"),
        "f:R f:S(1) t1:R t1:S(5) t2:R t2:F t2:RB t2:RD t1:RB t1:RD f:RT t1:P t2:P
         f:R f:S(2) t1:R t1:S(5) t2:R t2:F t2:RB t2:RD t1:RB t1:RD f:RB f:RD",
        RunState::RolledBack,
        "y=4",
    );
}

#[test]
fn trace_3_a_failed_rollback_ends_the_run_in_failure() {
    check_trace(
        &counted(2, 4, "nasty"),
        "f:R f:S(1) t1:R t1:S(5) t2:R t2:F t2:RB t2:RD t1:RB t1:RF",
        RunState::Failure,
        "x=1 y=4",
    );
}

#[test]
fn trace_4_the_nearest_controller_answers_and_outer_tasks_stay() {
    check_trace(
        r#"
        pattern = "linear"
        retry = { always = "rollback" }
        inputs = { y = 2 }
        order = ["t1", "r2", "t4"]
        [[task]]
        name = "t1"
        use = "g#noop"
        [[task]]
        name = "t4"
        use = "g#noop"
        [[flow]]
        name = "r2"
        pattern = "linear"
        retry = { times = 3, provides = "x" }
        [[flow.task]]
        name = "t2"
        use = "g#noop"
        [[flow.task]]
        name = "t3"
        use = "g#same"
        "#,
        "f:R f:S t1:R t1:S r2:R r2:S(1) t2:R t2:S t3:R t3:F t3:RB t3:RD t2:RB t2:RD r2:RT t2:P t3:P
         r2:R r2:S(2) t2:R t2:S t3:R t3:S t4:R t4:S",
        RunState::Success,
        "x=2 y=2",
    );
}

#[test]
fn trace_5_for_each_provides_the_next_value_not_yet_used_duplicates_counting() {
    let firing = |value: u32| format!("f:R f:S({value}) t:R t:F t:RB t:RD");
    let separator = " f:RT t:P ";
    let iterations = [3, 2, 3, 5].map(firing).join(separator);
    check_trace(
        r#"
        retry = { for_each = [3, 2, 3, 5], provides = "x" }
        [[task]]
        name = "t"
        use = "g#fails"
        "#,
        &format!("{iterations} f:RB f:RD"),
        RunState::RolledBack,
        "",
    );
}

#[test]
fn trace_6_a_single_failing_task_is_rolled_back() {
    check_trace("[[task]]\nname = \"t\"\nuse = \"g#fails\"", "t:R t:F t:RB t:RD", RunState::RolledBack, "");
}

#[test]
fn trace_7_an_ignored_task_is_left_out_of_a_rollback_that_passes_through_it() {
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
        use = "g#fails"
        [[link]]
        from = "a"
        to = "b"
        when = "false"
        reach = "task"
        [[link]]
        from = "a"
        to = "c"
        [[link]]
        from = "b"
        to = "c"
        "#,
        "a:R a:S b:I c:R c:F c:RB c:RD a:RB a:RD",
        RunState::RolledBack,
        "",
    );
}

#[test]
fn trace_8_skip_reach() {
    let text = |reach: &str| {
        format!(
            r#"
            [[task]]
            name = "1"
            use = "g#five"
            [[task]]
            name = "2"
            use = "g#noop"
            [[task]]
            name = "3"
            use = "g#noop"
            [[task]]
            name = "4"
            use = "g#noop"
            [[flow]]
            name = "N"
            [[flow.task]]
            name = "n"
            use = "g#noop"
            [[link]]
            from = "1"
            to = "2"
            when = "value > 5"
            reach = "{reach}"
            [[link]]
            from = "2"
            to = "N"
            [[link]]
            from = "2"
            to = "3"
            [[link]]
            from = "3"
            to = "4"
            [[link]]
            from = "1"
            to = "N"
            when = "value == 5"
            "#
        )
    };
    for (reach, trace) in [
        ("all", "1:R 1:S(5) 2:I 3:I 4:I n:I"),
        ("flow", "1:R 1:S(5) 2:I 3:I 4:I n:R n:S"),
        ("neighbors", "1:R 1:S(5) 2:I 3:I 4:R n:R 4:S n:S"),
        ("task", "1:R 1:S(5) 2:I 3:R n:R 3:S 4:R n:S 4:S"),
    ] {
        check_trace(&text(reach), trace, RunState::Success, "value=5");
    }
}

#[test]
fn trace_9_a_resumed_run_runs_only_pending_tasks() {
    let text = r#"
        pattern = "linear"
        [[task]]
        name = "t1"
        use = "g#five"
        [[task]]
        name = "t2"
        use = "g#noop"
        "#;
    let mut harness = Harness::start(flow(text));
    harness.step(&Event::Suspend);
    harness.answer(0);
    assert_eq!(harness.state(), RunState::Suspended);
    assert_eq!(harness.trace(), "t1:R t1:S(5)");
    harness.published.clear();
    harness.step(&Event::Resume);
    harness.run();
    assert_eq!(harness.trace(), "t2:R t2:S");
    assert_eq!(harness.state(), RunState::Success);
}

/// Ten layers of ten unordered tasks; the graph has an edge for each end of a task, not one for each pair.
#[test]
fn trace_10_layers_of_unordered_tasks_cost_edges_and_events_in_proportion_to_tasks() {
    let mut text = String::from("pattern = \"linear\"\n");
    for layer in 0..10 {
        text.push_str(&format!("[[flow]]\nname = \"layer-{layer}\"\npattern = \"unordered\"\n"));
        for task in 0..10 {
            text.push_str(&format!("[[flow.task]]\nname = \"t-{layer}-{task}\"\nuse = \"g#noop\"\n"));
        }
    }
    let flow = flow(&text);
    let edges: usize = flow.nodes.iter().map(|node| node.after.len()).sum();
    assert!(edges <= 100 * 2 + 10 * 2 + 4, "{edges} edges for 100 tasks");
    let mut harness = Harness::start(flow);
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.records.len(), 100 * 2 + 2, "two records a task, one for each end of the run");
}

#[test]
fn the_seeds_own_flow_chooses_pans_side_by_side_and_bakes_after_both_ovens() {
    let pan_and_oven = |which: &str| {
        format!(
            r#"
            [[task]]
            name = "{which}-pan"
            use = "g#five"
            provides = {{ value = "{which}_pan" }}
            [[task]]
            name = "{which}-oven"
            use = "g#same"
            requires = {{ x = "{which}_pan", y = "{which}_pan" }}
            [[link]]
            from = "mix"
            to = "{which}-pan"
            [[link]]
            from = "{which}-oven"
            to = "bake"
            "#
        )
    };
    check_trace(
        &format!(
            "[[task]]\nname = \"mix\"\nuse = \"g#noop\"\n{}{}[[task]]\nname = \"bake\"\nuse = \"g#noop\"",
            pan_and_oven("first"),
            pan_and_oven("second")
        ),
        "mix:R mix:S first-pan:R second-pan:R first-pan:S(5) first-oven:R second-pan:S(5) second-oven:R
         first-oven:S second-oven:S bake:R bake:S",
        RunState::Success,
        "first_pan=5 second_pan=5",
    );
}
