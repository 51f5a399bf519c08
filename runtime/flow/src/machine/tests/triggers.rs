//! Flows that fire more than once: cycles, persistent flows, links that join any, and schedules.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::{Edit, Event, Failure, FailureKind, Firing, RunState, State, TaskResult};

const COUNTER: &str = r#"
    cyclic = true
    [inputs]
    count = 0
    [[task]]
    name = "begin"
    use = "g#noop"
    [[task]]
    name = "tick"
    use = "g#next"
    [[task]]
    name = "tock"
    use = "g#noop"
    [[link]]
    from = "begin"
    to = "tick"
    [[link]]
    from = "tick"
    to = "tock"
    [[link]]
    from = "tock"
    to = "tick"
    when = "begin_again"
"#;

fn counter(when: &str, top: &str) -> String {
    // A condition reads the values of its source: the task itself forms the cycle.
    let text = COUNTER.replace("from = \"tock\"\n    to = \"tick\"", "from = \"tick\"\n    to = \"tick\"");
    let text = text.replace("when = \"begin_again\"", &format!("when = \"{when}\""));
    format!("{top}\n{text}")
}

fn firings(world: &Harness, task: &str) -> Vec<u64> {
    let told = world.published.iter().filter(|told| told.name == name(task) && told.state == State::Running);
    told.map(|told| told.firing.get()).collect()
}

#[test]
fn a_cycle_repeats_until_its_condition_is_false() {
    let mut world = Harness::start(flow(&counter("count < 3", "")));
    world.run();
    assert_eq!(world.state(), RunState::Success);
    assert_eq!(world.values(), "count=3");
    assert_eq!(firings(&world, "tick"), [1, 2, 3]);
    assert_eq!(firings(&world, "tock"), [1, 2, 3], "what comes after it is of the turn");
    assert_eq!(firings(&world, "begin"), [1], "what leads to the circle is done once");
}

#[test]
fn a_cycle_of_several_tasks_has_one_back_edge() {
    let mut world =
        Harness::start(flow(&format!("max_firings = 3\n{}", COUNTER.replace("when = \"begin_again\"", ""))));
    world.run();
    assert_eq!(world.state(), RunState::Success);
    assert_eq!(world.values(), "count=3");
    assert_eq!(firings(&world, "tock"), [1, 2, 3]);
}

#[test]
fn a_failed_firing_is_rolled_back_alone() {
    let text = counter("true", "").replace(
        "name = \"tock\"\n    use = \"g#noop\"",
        "name = \"tock\"\n    use = \"g#same\"\n    requires = { x = \"count\" }\n    with = { y = 1 }",
    );
    let mut world = Harness::start(flow(&text));
    world.run();
    assert_eq!(world.state(), RunState::RolledBack);
    let undone: Vec<_> = world.done.iter().filter(|(_, action)| *action == crate::Action::Rollback).collect();
    assert_eq!(undone.len(), 1, "{undone:?}");
    assert_eq!(world.values(), "count=1", "the first turn stands");
}

#[test]
fn unlinking_a_back_edge_ends_the_run() {
    let mut world = Harness::start(flow(&COUNTER.replace("when = \"begin_again\"", "")));
    for _ in 0..9 {
        world.step_or_advance();
    }
    world.edit(&[Edit::Unlink { from: name("tock"), to: name("tick") }]).unwrap();
    world.run();
    assert_eq!(world.state(), RunState::Success);
    assert!(world.machine.firing_count() < 9, "the turn in hand was the last: {}", world.machine.firing_count());
}

#[test]
fn a_task_can_be_removed_from_a_circle() {
    let mut world = Harness::start(flow(&COUNTER.replace("when = \"begin_again\"", "")));
    for _ in 0..8 {
        world.step_or_advance();
    }
    world.edit(&[Edit::Remove { task: name("tock"), ran: false }]).unwrap();
    world.run();
    assert_eq!(world.state(), RunState::Success);
}

const LISTENER: &str = r#"
    persistent = true
    [[task]]
    name = "add-ip"
    use = "g#add"
    [[task]]
    name = "check"
    use = "g#same"
    requires = { x = "added", y = "ip" }
"#;

#[test]
fn each_notification_of_a_persistent_flow_is_a_firing_with_its_own_results() {
    let mut world = Harness::start(flow(LISTENER));
    assert_eq!(world.state(), RunState::Running);
    assert!(world.outstanding.is_empty(), "it waits to be notified");
    for (number, ip) in ["\"a\"", "\"b\"", "\"c\""].into_iter().enumerate() {
        world.notify("add-ip", &[("ip", ip)]);
        assert_eq!(world.machine.firing_count(), number as u64 + 1);
    }
    assert_eq!(world.outstanding.len(), 3, "they run side by side");
    for _ in 0..6 {
        world.step_or_advance();
    }
    assert_eq!(world.state(), RunState::Running, "it lives on");
    assert_eq!(firings(&world, "check"), [1, 2, 3]);
    assert_eq!(world.values(), "added=\"c\"");
    assert_eq!(world.machine.firings().count(), 0, "what has ended is let go");
}

#[test]
fn a_failed_firing_does_not_end_a_persistent_run() {
    let mut world = Harness::start(flow(LISTENER));
    world.notify("add-ip", &[("ip", "\"bad\"")]);
    world.step_or_advance();
    world.step_or_advance();
    assert_eq!(world.machine.failures().len(), 1);
    world.notify("add-ip", &[("ip", "\"good\"")]);
    world.step_or_advance();
    world.step_or_advance();
    assert_eq!(world.state(), RunState::Running);
    assert_eq!(world.values(), "added=\"good\"");
    assert!(world.machine.failures().is_empty(), "it has succeeded since");
}

#[test]
fn a_duplicate_notification_fires_once() {
    let mut world = Harness::start(flow(LISTENER));
    let values = [("ip".parse().unwrap(), crate::Value::json(&"a".into()))];
    let event = Event::Notify {
        task: name("add-ip"),
        result: TaskResult::Succeeded(values.into()),
        key: Some("server-1/kick/1".into()),
    };
    world.step(&event);
    world.step(&event);
    assert_eq!(world.machine.firing_count(), 1);
}

#[test]
fn a_notification_with_wrong_names_is_rejected_with_the_expected_names() {
    let world = Harness::start(flow(LISTENER));
    let refusal = |values: &[&str]| {
        let values = values.iter().map(|name| (name.parse().unwrap(), crate::Value::json(&1.into()))).collect();
        world.machine.notification_error(&name("add-ip"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    assert_eq!(refusal(&["ip"]), "");
    assert_eq!(refusal(&["pi"]), "\"pi\" is not waited for: it takes \"ip\"");
    assert_eq!(refusal(&[]), "\"ip\" is missing");
    let failed = TaskResult::Failed(Failure::new(FailureKind::Permanent, "no"));
    assert!(world.machine.notification_error(&name("add-ip"), &failed).unwrap().contains("cannot fail it"));
}

#[test]
fn a_notification_of_a_wrong_type_fires_nothing() {
    let text = "persistent = true\n[[task]]\nname = \"square\"\nuse = \"g#square\"\nrequires = { number = \"n\" }\n\
        [[task]]\nname = \"other\"\nuse = \"g#add\"\nrequires = { ip = \"n\" }\n";
    let mut world = Harness::start(flow(text));
    let refusal = |world: &Harness, task: &str| {
        let values: crate::Values = [("n".parse().unwrap(), crate::Value::json(&"x".into()))].into();
        world.machine.notification_error(&name(task), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let refused = refusal(&world, "square");
    assert!(refused.starts_with("\"n\" does not fit task \"square\", which takes it as its \"number\": "), "{refused}");
    world.notify("square", &[("n", "\"x\"")]);
    assert_eq!(world.machine.firing_count(), 0);
    assert_eq!(refusal(&world, "other"), "", "tasks that the firing does not reach have no say");
    world.notify("square", &[("n", "7")]);
    assert_eq!(world.machine.firing_count(), 1);
}

#[test]
fn the_first_firing_of_a_persistent_run_is_rolled_back_at_its_end() {
    let text =
        format!("{LISTENER}\n[[task]]\nname = \"prepare\"\nuse = \"g#five\"\nprovides = {{ value = \"pool\" }}\n");
    let mut world = Harness::start(flow(&text));
    assert_eq!(world.outstanding.len(), 1);
    world.notify("add-ip", &[("ip", "\"a\"")]);
    assert_eq!(world.outstanding.len(), 1, "it fires once the run has begun");
    world.step_or_advance();
    world.step_or_advance();
    world.step_or_advance();
    assert_eq!(world.values(), "added=\"a\" pool=5");
    world.step(&Event::Cancel);
    world.run();
    assert_eq!(world.state(), RunState::RolledBack);
    let undone: Vec<_> = world.done.iter().filter(|(_, action)| *action == crate::Action::Rollback).collect();
    assert_eq!(undone.len(), 1, "what earlier firings did stands: {undone:?}");
}

#[test]
fn max_parallel_limits_concurrent_firings() {
    let mut world = Harness::start(flow(&format!("max_parallel = 2\n{LISTENER}")));
    for ip in ["\"a\"", "\"b\"", "\"c\""] {
        world.notify("add-ip", &[("ip", ip)]);
    }
    assert_eq!(world.outstanding.len(), 2);
    while !world.outstanding.is_empty() {
        world.step_or_advance();
    }
    assert_eq!(firings(&world, "check").len(), 3);
}

#[test]
fn a_link_that_joins_any_fires_its_target_for_each_of_its_sources() {
    let text = r#"
        cyclic = true
        [[task]]
        name = "one"
        use = "g#five"
        provides = { value = "first" }
        [[task]]
        name = "other"
        use = "g#five"
        provides = { value = "second" }
        [[task]]
        name = "hear"
        use = "g#noop"
        [[link]]
        from = "one"
        to = "hear"
        join = "any"
        [[link]]
        from = "other"
        to = "hear"
        join = "any"
    "#;
    let mut world = Harness::start(flow(text));
    world.run();
    assert_eq!(world.state(), RunState::Success);
    assert_eq!(firings(&world, "hear"), [2, 3]);
}

#[test]
fn a_schedule_fires_once_for_each_of_its_times() {
    let text = format!(
        "{LISTENER}\n[[task]]\nname = \"clean\"\nuse = \"g#noop\"\n[[schedule]]\ncron = \"0 * * * *\"\nto = \"clean\"\n"
    );
    let mut world = Harness::start(flow(&text));
    assert!(world.outstanding.is_empty());
    for firing in 1..4 {
        world.advance_to_next_due();
        assert_eq!(world.outstanding.len(), 1);
        assert_eq!(world.outstanding[0].id.firing, Firing::new(firing));
        world.step_or_advance();
    }
    world.now = world.now.after(Duration::from_secs(3 * 3_600 + 60));
    world.step(&Event::Tick);
    assert_eq!(world.outstanding.len(), 1, "what was missed fires once");
    world.now = world.now.after(Duration::from_secs(3_600));
    world.step(&Event::Tick);
    assert_eq!(world.outstanding.len(), 1, "and is left out while the one before is under way");
}

#[test]
fn a_persistent_run_suspends_and_resumes() {
    let mut world = Harness::start(flow(LISTENER));
    world.notify("add-ip", &[("ip", "\"a\"")]);
    world.step(&Event::Suspend);
    assert_eq!(world.state(), RunState::Suspending);
    world.answer(0);
    assert_eq!(world.state(), RunState::Suspended);
    world.step(&Event::Resume);
    world.step_or_advance();
    assert_eq!(firings(&world, "check"), [1]);
}

#[test]
fn max_firings_ends_a_persistent_run() {
    let mut world = Harness::start(flow(&format!("max_firings = 1\n{LISTENER}")));
    world.notify("add-ip", &[("ip", "\"a\"")]);
    world.run();
    assert_eq!(world.state(), RunState::Success);
}

#[test]
fn a_snapshot_lists_the_referenced_digests() {
    let text = "persistent = true\nmax_parallel = 1\n[[task]]\nname = \"hear\"\nuse = \"g#same\"\n\
                requires = { x = \"size\" }\nwith = { y = 1 }\n";
    let mut world = Harness::start(flow(text));
    let stored = [7, 8].map(|byte| crate::Digest::from_bytes([byte; 32]));
    let modules = world.machine.flow().digests();
    for digest in stored {
        let value = crate::Value::Stored(crate::Stored { digest, size: 100_000, form: crate::ValueKind::Json });
        let values = [("size".parse().unwrap(), value)].into();
        world.step(&Event::Notify { task: name("hear"), result: TaskResult::Succeeded(values), key: None });
    }
    assert_eq!(world.machine.firings().count(), 1, "the other one waits");
    let needed = world.machine.snapshot().digests();
    assert_eq!(needed, modules.into_iter().chain(stored).collect());
}
