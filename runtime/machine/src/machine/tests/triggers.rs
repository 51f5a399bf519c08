//! Flows that fire more than once: cycles, persistent flows, links that join any, and schedules.

use std::time::Duration;

use super::harness::{Harness, flow, name};
use crate::Event;
use flow::{Edit, Failure, FailureKind, Firing, RunState, State, TaskResult};

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

fn firings(harness: &Harness, task: &str) -> Vec<u64> {
    let changes = harness.published.iter().filter(|change| change.name == name(task) && change.state == State::Running);
    changes.map(|change| change.firing.get()).collect()
}

#[test]
fn a_cycle_repeats_until_its_condition_is_false() {
    let mut harness = Harness::start(flow(&counter("count < 3", "")));
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.values(), "count=3");
    assert_eq!(firings(&harness, "tick"), [1, 2, 3]);
    assert_eq!(firings(&harness, "tock"), [1, 2, 3], "its successor runs in each firing");
    assert_eq!(firings(&harness, "begin"), [1], "a task before the cycle runs once");
}

#[test]
fn a_cycle_of_several_tasks_has_one_back_edge() {
    let mut harness =
        Harness::start(flow(&format!("max_firings = 3\n{}", COUNTER.replace("when = \"begin_again\"", ""))));
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(harness.values(), "count=3");
    assert_eq!(firings(&harness, "tock"), [1, 2, 3]);
}

#[test]
fn a_failed_firing_is_rolled_back_alone() {
    let text = counter("true", "").replace(
        "name = \"tock\"\n    use = \"g#noop\"",
        "name = \"tock\"\n    use = \"g#same\"\n    requires = { x = \"count\" }\n    with = { y = 1 }",
    );
    let mut harness = Harness::start(flow(&text));
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let rolled_back_calls: Vec<_> =
        harness.done.iter().filter(|(_, action)| *action == flow::Action::Rollback).collect();
    assert_eq!(rolled_back_calls.len(), 1, "{rolled_back_calls:?}");
    assert_eq!(harness.values(), "count=1", "the effects of the first firing remain");
}

#[test]
fn unlinking_a_back_edge_ends_the_run() {
    let mut harness = Harness::start(flow(&COUNTER.replace("when = \"begin_again\"", "")));
    for _ in 0..9 {
        harness.step_or_advance();
    }
    harness.edit(&[Edit::Unlink { from: name("tock"), to: name("tick") }]).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert!(harness.machine.firing_count() < 9, "the active firing was the last: {}", harness.machine.firing_count());
}

#[test]
fn a_task_can_be_removed_from_a_cycle() {
    let mut harness = Harness::start(flow(&COUNTER.replace("when = \"begin_again\"", "")));
    for _ in 0..8 {
        harness.step_or_advance();
    }
    harness.edit(&[Edit::Remove { task: name("tock"), ran: false }]).unwrap();
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
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
    let mut harness = Harness::start(flow(LISTENER));
    assert_eq!(harness.state(), RunState::Running);
    assert!(harness.outstanding.is_empty(), "it waits to be notified");
    for (number, ip) in ["\"a\"", "\"b\"", "\"c\""].into_iter().enumerate() {
        harness.notify("add-ip", &[("ip", ip)]);
        assert_eq!(harness.machine.firing_count(), number as u64 + 1);
    }
    assert_eq!(harness.outstanding.len(), 3, "they run in parallel");
    for _ in 0..6 {
        harness.step_or_advance();
    }
    assert_eq!(harness.state(), RunState::Running, "the run goes on");
    assert_eq!(firings(&harness, "check"), [1, 2, 3]);
    assert_eq!(harness.values(), "added=\"c\"");
    assert_eq!(harness.machine.firings().count(), 0, "ended firings are dropped");
}

#[test]
fn a_failed_firing_does_not_end_a_persistent_run() {
    let mut harness = Harness::start(flow(LISTENER));
    harness.notify("add-ip", &[("ip", "\"bad\"")]);
    harness.step_or_advance();
    harness.step_or_advance();
    assert_eq!(harness.machine.failures().len(), 1);
    harness.notify("add-ip", &[("ip", "\"good\"")]);
    harness.step_or_advance();
    harness.step_or_advance();
    assert_eq!(harness.state(), RunState::Running);
    assert_eq!(harness.values(), "added=\"good\"");
    assert!(harness.machine.failures().is_empty(), "it has succeeded since");
}

#[test]
fn a_duplicate_notification_fires_once() {
    let mut harness = Harness::start(flow(LISTENER));
    let values = [("ip".parse().unwrap(), flow::Value::json(&"a".into()))];
    let event = Event::Notify {
        task: name("add-ip"),
        result: TaskResult::Succeeded(values.into()),
        key: Some("server-1/kick/1".into()),
    };
    harness.step(&event);
    harness.step(&event);
    assert_eq!(harness.machine.firing_count(), 1);
}

#[test]
fn a_notification_with_wrong_names_is_rejected_with_the_expected_names() {
    let harness = Harness::start(flow(LISTENER));
    let refusal = |values: &[&str]| {
        let values = values.iter().map(|name| (name.parse().unwrap(), flow::Value::json(&1.into()))).collect();
        harness.machine.notification_error(&name("add-ip"), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    assert_eq!(refusal(&["ip"]), "");
    assert_eq!(refusal(&["pi"]), "\"pi\" is not waited for: it takes \"ip\"");
    assert_eq!(refusal(&[]), "\"ip\" is missing");
    let failed = TaskResult::Failed(Failure::new(FailureKind::Permanent, "no"));
    assert!(harness.machine.notification_error(&name("add-ip"), &failed).unwrap().contains("cannot fail it"));
}

#[test]
fn a_step_says_why_it_refuses_a_notification() {
    let mut harness = Harness::start(flow(LISTENER));
    let notify = |values: &str| Event::Notify {
        task: name("add-ip"),
        result: TaskResult::Succeeded([(values.parse().unwrap(), flow::Value::json(&1.into()))].into()),
        key: Some("k".into()),
    };
    let refused = harness.machine.step(harness.now, &notify("pi"));
    assert_eq!(refused.refusal.as_deref(), Some("\"pi\" is not waited for: it takes \"ip\""));
    assert!(refused.records.is_empty());
    assert_eq!(harness.machine.step(harness.now, &notify("ip")).refusal, None);
    assert_eq!(harness.machine.firing_count(), 1);
    let again = harness.machine.step(harness.now, &notify("ip"));
    assert_eq!((again.refusal, again.records.len()), (None, 0), "it was received");
}

#[test]
fn a_notification_of_a_wrong_type_fires_nothing() {
    let text = "persistent = true\n[[task]]\nname = \"square\"\nuse = \"g#square\"\nrequires = { number = \"n\" }\n\
        [[task]]\nname = \"other\"\nuse = \"g#add\"\nrequires = { ip = \"n\" }\n";
    let mut harness = Harness::start(flow(text));
    let refusal = |harness: &Harness, task: &str| {
        let values: flow::Values = [("n".parse().unwrap(), flow::Value::json(&"x".into()))].into();
        harness.machine.notification_error(&name(task), &TaskResult::Succeeded(values)).unwrap_or_default()
    };
    let error = refusal(&harness, "square");
    assert!(error.starts_with("\"n\" does not fit task \"square\", which takes it as its \"number\": "), "{error}");
    harness.notify("square", &[("n", "\"x\"")]);
    assert_eq!(harness.machine.firing_count(), 0);
    assert_eq!(refusal(&harness, "other"), "", "only tasks in the firing check the value");
    harness.notify("square", &[("n", "7")]);
    assert_eq!(harness.machine.firing_count(), 1);
}

#[test]
fn the_first_firing_of_a_persistent_run_is_rolled_back_at_its_end() {
    let text =
        format!("{LISTENER}\n[[task]]\nname = \"prepare\"\nuse = \"g#five\"\nprovides = {{ value = \"pool\" }}\n");
    let mut harness = Harness::start(flow(&text));
    assert_eq!(harness.outstanding.len(), 1);
    harness.notify("add-ip", &[("ip", "\"a\"")]);
    assert_eq!(harness.outstanding.len(), 1, "it fires once the run has started");
    harness.step_or_advance();
    harness.step_or_advance();
    harness.step_or_advance();
    assert_eq!(harness.values(), "added=\"a\" pool=5");
    harness.step(&Event::Cancel);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    let rolled_back_calls: Vec<_> =
        harness.done.iter().filter(|(_, action)| *action == flow::Action::Rollback).collect();
    assert_eq!(rolled_back_calls.len(), 1, "the effects of earlier firings remain: {rolled_back_calls:?}");
}

#[test]
fn max_parallel_limits_concurrent_firings() {
    let mut harness = Harness::start(flow(&format!("max_parallel = 2\n{LISTENER}")));
    for ip in ["\"a\"", "\"b\"", "\"c\""] {
        harness.notify("add-ip", &[("ip", ip)]);
    }
    assert_eq!(harness.outstanding.len(), 2);
    while !harness.outstanding.is_empty() {
        harness.step_or_advance();
    }
    assert_eq!(firings(&harness, "check").len(), 3);
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
        name = "listener"
        use = "g#noop"
        [[link]]
        from = "one"
        to = "listener"
        join = "any"
        [[link]]
        from = "other"
        to = "listener"
        join = "any"
    "#;
    let mut harness = Harness::start(flow(text));
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
    assert_eq!(firings(&harness, "listener"), [2, 3]);
}

#[test]
fn a_schedule_fires_once_for_each_of_its_times() {
    let text = format!(
        "{LISTENER}\n[[task]]\nname = \"clean\"\nuse = \"g#noop\"\n[[schedule]]\ncron = \"0 * * * *\"\nto = \"clean\"\n"
    );
    let mut harness = Harness::start(flow(&text));
    assert!(harness.outstanding.is_empty());
    for firing in 1..4 {
        harness.advance_to_next_due();
        assert_eq!(harness.outstanding.len(), 1);
        assert_eq!(harness.outstanding[0].id.firing, Firing::new(firing));
        harness.step_or_advance();
    }
    harness.now = harness.now.after(Duration::from_secs(3 * 3_600 + 60));
    harness.step(&Event::Tick);
    assert_eq!(harness.outstanding.len(), 1, "missed times fire once");
    harness.now = harness.now.after(Duration::from_secs(3_600));
    harness.step(&Event::Tick);
    assert_eq!(harness.outstanding.len(), 1, "a time is skipped while the previous firing is active");
}

#[test]
fn a_persistent_run_suspends_and_resumes() {
    let mut harness = Harness::start(flow(LISTENER));
    harness.notify("add-ip", &[("ip", "\"a\"")]);
    harness.step(&Event::Suspend);
    assert_eq!(harness.state(), RunState::Suspending);
    harness.answer(0);
    assert_eq!(harness.state(), RunState::Suspended);
    harness.step(&Event::Resume);
    harness.step_or_advance();
    assert_eq!(firings(&harness, "check"), [1]);
}

#[test]
fn max_firings_ends_a_persistent_run() {
    let mut harness = Harness::start(flow(&format!("max_firings = 1\n{LISTENER}")));
    harness.notify("add-ip", &[("ip", "\"a\"")]);
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn a_snapshot_lists_the_referenced_digests() {
    let text = "persistent = true\nmax_parallel = 1\n[[task]]\nname = \"listener\"\nuse = \"g#same\"\n\
                requires = { x = \"size\" }\nwith = { y = 1 }\n";
    let mut harness = Harness::start(flow(text));
    let stored = [7, 8].map(|byte| flow::Digest::from_bytes([byte; 32]));
    let modules = harness.machine.flow().digests();
    for digest in stored {
        let value = flow::Value::Stored(flow::Stored { digest, size: 100_000, form: flow::ValueKind::Json });
        let values = [("size".parse().unwrap(), value)].into();
        harness.step(&Event::Notify { task: name("listener"), result: TaskResult::Succeeded(values), key: None });
    }
    assert_eq!(harness.machine.firings().count(), 1, "the other firing waits");
    let needed = harness.machine.snapshot().digests();
    assert_eq!(needed, modules.into_iter().chain(stored).collect());
}
