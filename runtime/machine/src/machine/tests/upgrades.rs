//! Code replacement under a run that fires more than once, and the firings that it drops.

use super::harness::{Harness, flow, name};
use crate::Event;
use flow::{Action, Edit, RunState, State};

/// Each notification with an address is a firing; a bad address fails, and is rolled back.
const SERVICE: &str = r#"
    persistent = true
    [[task]]
    name = "prepare"
    use = "g#five"
    [[task]]
    name = "add-ip"
    use = "g#add"
    [[task]]
    name = "check"
    use = "g#same"
    requires = { x = "added" }
    with = { y = "good" }
"#;

fn reload_edit() -> Edit {
    Edit::Use { task: name("add-ip"), uses: "g#add-anew".into() }
}

fn called(harness: &Harness) -> String {
    harness.machine.task(&name("add-ip")).unwrap().export.as_ref().unwrap().to_string()
}

/// Runs a firing to its end.
fn fire(harness: &mut Harness, ip: &str) {
    harness.notify("add-ip", &[("ip", ip)]);
    while !harness.outstanding.is_empty() {
        harness.answer(0);
    }
}

#[test]
fn a_module_is_replaced_between_firings_only() {
    let mut harness = Harness::start(flow(SERVICE));
    harness.answer(0);
    for ip in ["\"good\"", "\"bad\"", "\"good\""] {
        harness.notify("add-ip", &[("ip", ip)]);
        let errors = harness.edit(&[reload_edit()]).unwrap_err();
        let firing = harness.machine.firing_count();
        let expected = format!("\"add-ip\" is running in firing {firing}: its call may still be rolled back");
        assert_eq!(errors, [expected]);
        while !harness.outstanding.is_empty() {
            harness.answer(0);
        }
    }
    harness.edit(&[reload_edit()]).unwrap();
    assert_eq!(called(&harness), "add-anew");
    fire(&mut harness, "\"good\"");
    assert_eq!(harness.machine.state(), RunState::Running);
    let applied = harness.done.iter().filter(|(task, action)| *task == name("add-ip") && *action == Action::Apply);
    assert_eq!(applied.count(), 3, "the bad address was not added");
}

#[test]
fn the_base_firing_keeps_its_module() {
    let mut harness = Harness::start(flow(SERVICE));
    harness.answer(0);
    let other = Edit::Use { task: name("prepare"), uses: "g#nasty".into() };
    let errors = harness.edit(&[other]).unwrap_err();
    assert_eq!(errors, ["\"prepare\" is success in firing 1: its call may still be rolled back"]);
}

#[test]
fn a_module_with_a_lost_attempt_cannot_be_replaced() {
    let text = SERVICE.replace("with = { y = \"good\" }", "with = { y = \"never\" }");
    let mut harness = Harness::start(flow(&text));
    harness.answer(0);
    harness.notify("add-ip", &[("ip", "\"good\"")]);
    harness.lose(0);
    while !harness.outstanding.is_empty() || harness.machine.next_due().is_some() {
        if harness.outstanding.is_empty() { harness.advance_to_next_due() } else { harness.answer(0) }
    }
    let errors = harness.edit(&[reload_edit()]).unwrap_err();
    let expected =
        "an attempt of \"add-ip\" in firing 2 was lost, and may answer yet: what it did that call has to take back";
    assert_eq!(errors, [expected]);
    // The lost attempt applied after all; the module that it called rolls it back.
    harness.answer_late(0);
    assert_eq!(harness.outstanding.iter().map(|call| call.action()).collect::<Vec<_>>(), [Action::Rollback]);
    assert!(harness.edit(&[reload_edit()]).unwrap_err()[0].starts_with("\"add-ip\" is rolling-back in firing 2"));
    harness.answer(0);
    harness.edit(&[reload_edit()]).unwrap();
}

#[test]
fn a_task_name_is_reusable_after_its_rollback_is_impossible() {
    let mut harness = Harness::start(flow(SERVICE));
    harness.answer(0);
    let remove = Edit::Remove { task: name("check"), ran: false };
    let add = Edit::Add {
        text: "[[task]]\nname = \"check\"\nuse = \"g#same\"\nrequires = { x = \"added\" }\nwith = { y = \"other\" }\n"
            .into(),
    };
    harness.notify("add-ip", &[("ip", "\"good\"")]);
    harness.answer(0);
    let errors = harness.edit(&[remove.clone(), add.clone()]).unwrap_err();
    assert_eq!(errors, ["the name \"check\" is used twice"]);
    harness.answer(0);
    harness.edit(&[remove, add]).unwrap();
    fire(&mut harness, "\"other\"");
    assert_eq!(harness.machine.failures().len(), 0, "the new task compares with another value");
}

#[test]
fn an_edit_that_adds_an_unreachable_task_is_rejected() {
    let text = r#"
        cyclic = true
        [inputs]
        count = 0
        [[task]]
        name = "begin"
        use = "g#noop"
        [[task]]
        name = "tick"
        use = "g#next"
        [[link]]
        from = "begin"
        to = "tick"
        [[link]]
        from = "tick"
        to = "tick"
        when = "count < 9"
    "#;
    let add = |from: &str| Edit::Add {
        text: format!(
            "[[task]]\nname = \"after-{from}\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"{from}\"\nto = \"after-{from}\"\n"
        )
        .into(),
    };
    let mut harness = Harness::start(flow(text));
    harness.answer(0);
    harness.edit(&[add("begin")]).unwrap();
    harness.answer(0);
    harness.answer(0);
    let mut later = Harness::start(flow(text));
    for _ in 0..3 {
        later.answer(0);
    }
    let expected =
        "\"after-begin\" would never run: the first firing has ended, and no link that fires anew leads to it";
    assert_eq!(later.edit(&[add("begin")]).unwrap_err(), [expected]);
    later.edit(&[add("tick")]).unwrap();
    later.run();
    let success_count = |harness: &Harness, task: &str| {
        harness.published.iter().filter(|change| change.name == name(task) && change.state == State::Success).count()
    };
    assert_eq!(success_count(&later, "after-tick"), 7, "it runs in each later firing");
    harness.run();
    assert_eq!(success_count(&harness, "after-begin"), 1);
}

/// A firing with a lost attempt that was rolled back, and then this many other rolled-back firings.
fn lost_before(others: usize) -> Harness {
    let text = SERVICE.replace("with = { y = \"good\" }", "with = { y = \"never\" }");
    let mut harness = Harness::start(flow(&text));
    harness.answer(0);
    harness.notify("add-ip", &[("ip", "\"good\"")]);
    harness.lose(0);
    while !harness.outstanding.is_empty() || harness.machine.next_due().is_some() {
        if harness.outstanding.is_empty() { harness.advance_to_next_due() } else { harness.answer(0) }
    }
    for _ in 0..others {
        fire(&mut harness, "\"bad\"");
    }
    harness
}

#[test]
fn late_outcomes_are_rolled_back_for_the_last_sixteen_firings() {
    let mut harness = lost_before(15);
    harness.answer_late(0);
    assert_eq!(harness.outstanding.iter().map(|call| call.action()).collect::<Vec<_>>(), [Action::Rollback]);
    let mut harness = lost_before(16);
    let late = harness.lost[0].id.clone();
    harness.answer_late(0);
    assert!(harness.outstanding.is_empty(), "firing {} is dropped, and its effects stay", late.firing);
    assert_eq!(harness.machine.decide(harness.now, &Event::Tick), []);
    // The old call is not needed any more either.
    harness.edit(&[reload_edit()]).unwrap();
}
