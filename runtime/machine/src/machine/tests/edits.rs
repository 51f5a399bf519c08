//! Edits of running flows: the effect of each edit, and refused edits.

use std::sync::Arc;

use super::harness::{Harness, flow, name};
use crate::{Event, Fact};
use flow::{Edit, Flow, Revision, RunState, SourceOutcome, State, Value};

fn add(text: &str) -> Edit {
    Edit::Add { text: text.into() }
}

fn remove(task: &str) -> Edit {
    Edit::Remove { task: name(task), ran: false }
}

fn link(from: &str, to: &str) -> Edit {
    Edit::Link {
        from: name(from),
        to: name(to),
        on: SourceOutcome::Success,
        when: None,
        reach: None,
        join: flow::Join::All,
    }
}

fn require(task: &str, parameter: &str, value: &str) -> Edit {
    Edit::Require { task: name(task), parameter: parameter.parse().unwrap(), value: value.parse().unwrap() }
}

/// Creates and starts a server, and fetches its content in parallel.
const SITE: &str = r#"
    [[task]]
    name = "create-server"
    use = "g#five"
    provides = { value = "server" }
    [[task]]
    name = "pull-recipes"
    use = "g#five"
    provides = { value = "recipes" }
    [[task]]
    name = "kick-server"
    use = "g#same"
    requires = { x = "server", y = "server" }
    [[task]]
    name = "wordpress"
    use = "g#same"
    requires = { x = "server", y = "recipes" }
    [[link]]
    from = "kick-server"
    to = "wordpress"
"#;

#[test]
fn an_added_task_with_finished_sources_starts_at_once() {
    let mut harness = Harness::start(flow(SITE));
    harness.answer(0);
    harness.answer(1);
    assert_eq!(harness.machine.node_state(index(&harness, "kick-server")), State::Success);
    let text = "[[task]]\nname = \"add-monitor\"\nuse = \"g#noop\"\n\
                [[link]]\nfrom = \"kick-server\"\nto = \"add-monitor\"\n";
    harness.edit(&[add(text)]).unwrap();
    assert!(harness.outstanding.iter().any(|call| call.id.task == name("add-monitor")), "{:?}", harness.outstanding);
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.trace().matches("pull-recipes:R").count(), 1, "no task runs twice: {}", harness.trace());
}

#[test]
fn redirecting_a_requirement_does_not_repeat_finished_tasks() {
    let mut harness = Harness::start(flow(SITE));
    harness.answer(0);
    harness.answer(0);
    // The existing server crashes: another one replaces it.
    let text = "[[task]]\nname = \"create-server-2\"\nuse = \"g#five\"\nprovides = { value = \"server_2\" }\n";
    let edits = [
        add(text),
        require("wordpress", "x", "server_2"),
        Edit::Unlink { from: name("kick-server"), to: name("wordpress") },
    ];
    harness.edit(&edits).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    for task in ["create-server:R", "pull-recipes:R", "create-server-2:R", "wordpress:R"] {
        assert_eq!(
            harness.trace().split(' ').filter(|change| *change == task).count(),
            1,
            "{task}: {}",
            harness.trace()
        );
    }
    let inputs = &harness.machine.flow().tasks().find(|(_, task, _)| task.as_str() == "wordpress").unwrap().2.inputs;
    assert!(format!("{inputs:?}").contains("server_2"), "{inputs:?}");
}

#[test]
fn an_edit_gives_no_other_value_to_an_input_that_the_run_has() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"b\"\nuse = \"g#add\"\n[inputs]\nip = \"a\""));
    let added = |task: &str| {
        add(&format!(
            "[[task]]\nname = {task:?}\nuse = \"g#add\"\nrequires = {{ ip = \"other\" }}\nprovides = {{ added = {task:?} }}\n\
             [inputs]\nother = 1\n"
        ))
    };
    let errors = harness.edit(&[add("[inputs]\nip = \"b\"\n")]).unwrap_err();
    assert!(errors[0].ends_with("the run has an input \"ip\" already: choose another name for it"), "{errors:?}");
    harness.edit(&[added("c")]).unwrap();
    let errors = harness.edit(&[added("d")]).unwrap_err();
    assert!(errors[0].contains("the run has an input \"other\" already"), "{errors:?}");
}

#[test]
fn a_removed_task_never_triggers_its_listeners() {
    let mut harness = Harness::start(flow(SITE));
    harness.answer(0);
    harness.answer(0);
    // The consumer of its value must be removed with it.
    let errors = harness.edit(&[remove("create-server")]).unwrap_err();
    assert_eq!(errors[0], "task \"kick-server\" requires \"server\" (its \"x\"), which nothing provides");
    assert!(harness.outstanding.iter().any(|call| call.id.task == name("kick-server")));
    harness.edit(&[remove("kick-server"), remove("wordpress")]).unwrap();
    assert!(
        !harness.machine.flow().indices().any(|index| harness.machine.flow().node(index).name == name("wordpress"))
    );
    harness.run();
    assert_eq!(harness.trace().split(' ').next_back(), Some("kick-server:S"), "its attempt finishes and is recorded");
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn a_removed_task_that_ran_is_rolled_back() {
    let text = r#"
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
        [[link]]
        from = "b"
        to = "c"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.answer(0);
    harness.edit(&[remove("b")]).unwrap();
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S b:R b:S c:R c:F c:RB c:RD b:RB b:RD a:RB a:RD");
}

#[test]
fn a_module_can_be_replaced_only_before_its_call() {
    let text = r#"
        pattern = "linear"
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
    "#;
    let mut harness = Harness::start(flow(text));
    let uses = |task: &str| Edit::Use { task: name(task), uses: "g#plain".into() };
    harness.edit(&[uses("b")]).unwrap();
    assert_eq!(harness.edit(&[uses("a")]).unwrap_err(), ["\"a\" is running: its call may still be rolled back"]);
    harness.answer(0);
    assert_eq!(harness.outstanding[0].id.task, name("b"));
    let b = harness.machine.flow().tasks().find(|(_, task, _)| **task == name("b")).unwrap().2;
    assert_eq!(b.export.as_ref().unwrap().as_str(), "plain");
}

#[test]
fn a_rejected_edit_reports_every_reason_and_changes_nothing() {
    let mut harness = Harness::start(flow(SITE));
    let before = harness.machine.clone();
    let edits = [
        remove("create-sever"),
        link("nobody", "wordpress"),
        Edit::Unlink { from: name("wordpress"), to: name("kick-server") },
    ];
    assert_eq!(
        harness.edit(&edits).unwrap_err(),
        [
            "remove create-sever: the flow has no task \"create-sever\": did you mean \"create-server\"?",
            "link nobody wordpress: the flow has no node \"nobody\"",
            "unlink wordpress kick-server: there is no link wordpress -> kick-server; where one requires a value of the \
             other, `require` takes it elsewhere",
        ]
    );
    let errors = harness.edit(&[link("wordpress", "create-server")]).unwrap_err();
    assert!(errors[0].starts_with("nodes wait for one another: "), "{errors:?}");
    assert!(harness.machine == before);
}

#[test]
fn an_edit_for_another_revision_is_ignored() {
    let mut harness = Harness::start(flow(SITE));
    let flow: Arc<Flow> = harness.machine.flow().clone();
    let old = Event::Edit { revision: Revision::new(7), flow: flow.clone() };
    assert_eq!(harness.machine.decide(harness.now, &old), []);
    let edit = Event::Edit { revision: Revision::FIRST, flow };
    let records = harness.machine.decide(harness.now, &edit);
    assert!(matches!(&records[..], [record] if matches!(record.fact, Fact::Edited { .. })), "{records:?}");
    harness.run();
    assert_eq!(harness.edit(&[link("kick-server", "pull-recipes")]).unwrap_err(), ["the run is success: it has ended"]);
}

#[test]
fn a_delayed_task_waits_for_requirements_added_by_an_edit() {
    let text = r#"
        [[task]]
        name = "a"
        use = "g#five"
        provides = { value = "five" }
        [[task]]
        name = "later"
        use = "g#same"
        requires = { x = "five", y = "five" }
        start_after = "1h"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    assert!(harness.machine.next_due().is_some());
    let added = "[[task]]\nname = \"b\"\nuse = \"g#five\"\nprovides = { value = \"also_five\" }\n";
    harness.edit(&[add(added), require("later", "x", "also_five")]).unwrap();
    assert_eq!(harness.machine.next_due(), None, "it waits for b, and then for its time");
    harness.run();
    assert_eq!(harness.trace(), "a:R a:S(5) b:R b:S(5) later:R later:S");
}

#[test]
fn the_inputs_of_a_called_task_cannot_be_edited() {
    let mut harness = Harness::start(flow(SITE));
    harness.answer(0);
    let five = Edit::Set { task: name("kick-server"), parameter: "x".parse().unwrap(), value: Value::json(&5.into()) };
    let errors = harness.edit(&[five]).unwrap_err();
    assert_eq!(errors, ["\"kick-server\" is running: its call may still be rolled back"]);
}

#[test]
fn a_removed_task_blocks_nothing_and_fails_alone() {
    let text = r#"
        [[task]]
        name = "a"
        use = "g#fails"
        retry = { attempts = 3 }
        [[task]]
        name = "word"
        wait = "a word"
        [[task]]
        name = "b"
        use = "g#noop"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.edit(&[remove("a"), remove("word")]).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.trace().matches("a:R").count(), 1, "{}", harness.trace());
}

#[test]
fn a_removed_task_does_not_run_again_in_a_retry() {
    let text = r#"
        pattern = "linear"
        retry = { times = 2 }
        [[task]]
        name = "a"
        use = "g#noop"
        [[task]]
        name = "b"
        use = "g#noop"
        [[task]]
        name = "c"
        use = "g#fails"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.answer(0);
    harness.edit(&[remove("b")]).unwrap();
    harness.run();
    assert_eq!(
        harness.trace(),
        "f:R f:S a:R a:S b:R b:S c:R c:F c:RB c:RD b:RB b:RD a:RB a:RD f:RT a:P b:P c:P \
         f:R f:S a:R a:S c:R c:F c:RB c:RD a:RB a:RD f:RB f:RD"
    );
}

fn index(harness: &Harness, task: &str) -> flow::NodeIndex {
    let flow = harness.machine.flow();
    flow.indices().find(|index| flow.node(*index).name == name(task)).unwrap()
}

#[test]
fn a_controller_waits_for_tasks_added_after_the_rollback() {
    let text = r#"
        retry = { times = 2 }
        [[task]]
        name = "slow"
        use = "g#noop"
        [[task]]
        name = "broken"
        use = "g#fails"
        [[task]]
        name = "next"
        use = "g#noop"
        [[link]]
        from = "broken"
        to = "next"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.answer(1);
    assert_eq!(harness.machine.node_state(index(&harness, "broken")), State::RolledBack);
    harness.edit(&[link("next", "slow")]).unwrap();
    assert_eq!(harness.machine.node_state(index(&harness, "slow")), State::Running, "{}", harness.trace());
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack, "{}", harness.trace());
}
