//! What a run holds has a maximum in bytes, which is known without looking at the values.

use super::{
    super::held::MAX_HELD_BYTES,
    harness::{Harness, flow, name},
};
use crate::{Event, Fact, Machine, NodeAttempt, NotificationPart, Record};
use flow::{
    Action, Attempt, Execution, Failure, FailureKind, Firing, NodeIndex, NotificationOutcome, Outcome, RunState,
    TaskNotification, TaskResult, Timestamp, Value, Values,
};

/// The bytes of each value here, about. Six of them are within the maximum.
const VALUE_BYTES: usize = 600_000;

fn large() -> Value {
    Value::json(&"x".repeat(VALUE_BYTES).into())
}

fn cake() -> Values {
    [("cake".parse().unwrap(), large())].into()
}

/// Seven tasks that each return a large value.
fn returning() -> String {
    let task = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"g#add\"\nrequires = {{ ip = \"big\" }}\n\
             provides = {{ added = \"added{number}\" }}\n"
        )
    };
    let tasks: String = (0..7).map(task).collect();
    format!("[inputs]\nbig = \"{}\"\n{tasks}", "x".repeat(VALUE_BYTES))
}

/// A flow whose firings wait twice: once for a large value, and then on.
const WAITING: &str = "persistent = true\nmax_parallel = 9\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n\
    [[task]]\nname = \"w\"\nwait = \"cake\"\nprovides = { cake = \"cake\" }\n\
    [[task]]\nname = \"w2\"\nwait = \"more\"\n[[link]]\nfrom = \"add-ip\"\nto = \"w\"\n\
    [[link]]\nfrom = \"w\"\nto = \"w2\"\n[[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"w\"\n";

/// The number of successes with a large value, and the permanent failures.
fn outcomes(records: &[Record]) -> (usize, Vec<Failure>) {
    let is_large = |fact: &Fact| matches!(fact, Fact::Succeeded { provided, .. } if provided.values().any(|value| value.size() > VALUE_BYTES));
    let failure = |record: &Record| {
        if let Fact::Failed { failure, retry_at: None, .. } = &record.fact { Some(failure.clone()) } else { None }
    };
    (records.iter().filter(|record| is_large(&record.fact)).count(), records.iter().filter_map(failure).collect())
}

#[test]
fn one_notification_gives_its_values_to_as_many_firings_as_the_run_has_room_for() {
    let mut harness = Harness::start(flow(WAITING));
    for _ in 0..9 {
        harness.notify("add-ip", &[("ip", "1")]);
        harness.answer(0);
    }
    assert_eq!(harness.machine.waiting_tasks().count(), 9);
    let notification = TaskNotification {
        flow: "kitchen".parse().unwrap(),
        task: name("bake"),
        outcome: NotificationOutcome::Success(cake()),
        key: "k".into(),
    };
    harness.step(&Event::TaskNotification { notification, part: NotificationPart::Whole });
    let (successes, failures) = outcomes(&harness.records);
    assert_eq!((successes, failures.len()), (6, 3));
    assert!(failures.iter().all(|failure| failure.kind == FailureKind::OutputLimit), "{failures:?}");
    assert!(failures[0].message.ends_with("and may hold 4MiB together"), "{}", failures[0].message);
    assert!(harness.machine.held_bytes() <= MAX_HELD_BYTES);
    assert!(harness.machine.snapshot_bytes() < MAX_HELD_BYTES + 10_000, "{}", harness.machine.snapshot_bytes());
    let restored = Machine::restore("r".parse().unwrap(), harness.machine.snapshot()).unwrap();
    assert_eq!(restored.held_bytes(), harness.machine.held_bytes());
    // The firings that ended make room again.
    harness.step(&Event::Cancel);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    assert!(harness.machine.held_bytes() < 10_000, "{}", harness.machine.held_bytes());
}

#[test]
fn a_notification_that_does_not_fit_is_refused_and_its_task_waits_on() {
    let wait =
        |number| format!("[[task]]\nname = \"w{number}\"\nwait = \"cake\"\nprovides = {{ cake = \"cake{number}\" }}\n");
    let mut harness = Harness::start(flow(&(0..8).map(wait).collect::<String>()));
    let notify = |task: &str| Event::Notify { task: name(task), result: TaskResult::Succeeded(cake()), key: None };
    for number in 0..6 {
        harness.step(&notify(&format!("w{number}")));
    }
    assert_eq!(harness.machine.waiting_tasks().count(), 2);
    let refusal = harness.machine.step(harness.now, &notify("w6")).refusal.expect("it is refused");
    assert!(refusal.ends_with("and may hold 4MiB together: try again later"), "{refusal}");
    assert_eq!(harness.machine.waiting_tasks().count(), 2, "it waits on");
    harness.notify("w6", &[("cake", "1")]);
    assert_eq!(harness.machine.waiting_tasks().count(), 1, "a small value fits");
}

#[test]
fn a_result_that_does_not_fit_fails_its_task_for_good() {
    let mut harness = Harness::start(flow(&returning()));
    harness.run();
    let (successes, failures) = outcomes(&harness.records);
    assert_eq!(successes, 6);
    assert!(failures.iter().any(|failure| failure.kind == FailureKind::OutputLimit), "{failures:?}");
    assert_eq!(harness.state(), RunState::RolledBack);
    assert!(harness.machine.held_bytes() < 10_000, "{}", harness.machine.held_bytes());
}

#[test]
fn records_that_hold_more_than_the_maximum_are_applied_as_they_are() {
    let mut machine = Machine::new("r".parse().unwrap(), flow(&returning()));
    let mut records = machine.step(Timestamp::default(), &Event::Start).records;
    let started = |record: &Record| {
        if let Fact::Started { attempt, .. } = &record.fact { Some(*attempt) } else { None }
    };
    let attempts: Vec<NodeAttempt> = records.iter().filter_map(started).collect();
    assert_eq!(attempts.len(), 7);
    for attempt in attempts {
        let (provided, execution) = (cake(), Execution::new(1));
        let fact = Fact::Succeeded { attempt, provided, execution, worker: None };
        let record = Record { at: Timestamp::default(), firing: None, fact };
        machine.evolve(&record).unwrap();
        records.push(record);
    }
    assert!(machine.held_bytes() > MAX_HELD_BYTES);
    let replayed = Machine::replay("r".parse().unwrap(), &records).unwrap();
    assert!(replayed == machine, "an earlier waft wrote them");
}

#[test]
fn ended_firings_are_kept_for_late_messages_as_long_as_they_are_small() {
    let text = "persistent = true\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n\
        [[task]]\nname = \"f\"\nuse = \"g#fails\"\n[[link]]\nfrom = \"add-ip\"\nto = \"f\"\n";
    let kept_after = |value: &str, firings: u64| {
        let mut harness = Harness::start(flow(text));
        for _ in 0..firings {
            harness.notify("add-ip", &[("ip", value)]);
            while !harness.outstanding.is_empty() {
                harness.step_or_advance();
            }
        }
        assert_eq!(harness.machine.firing_count(), firings);
        (harness.machine.firings().map(|(number, _)| number.get()).collect::<Vec<_>>(), harness)
    };
    let large = format!("\"{}\"", "x".repeat(VALUE_BYTES));
    let (kept, harness) = kept_after(&large, 3);
    assert_eq!(kept, [3]);
    assert_eq!(kept_after("1", 18).0, (3..=18).collect::<Vec<u64>>());
    // An earlier waft may have recorded more about a firing that this one has dropped.
    let late = |firing: u64| {
        let firing = Firing::new(firing);
        let attempt = NodeAttempt { node: NodeIndex(1), firing, attempt: Attempt::FIRST };
        let fact = Fact::LateOutcome {
            attempt,
            action: Action::Apply,
            execution: None,
            outcome: Some(Outcome::Unknown),
            worker: None,
        };
        Record { at: harness.machine.latest, firing: Some(firing), fact }
    };
    let mut machine = harness.machine.clone();
    machine.evolve(&late(1)).unwrap();
    assert!(machine == harness.machine, "it changes nothing");
    let error = machine.evolve(&late(4)).unwrap_err().to_string();
    assert!(error.ends_with("there is no firing 4"), "{error}");
}

#[test]
fn the_size_of_a_run_counts_the_nodes_of_each_firing() {
    let flow = flow(WAITING);
    let mut harness = Harness::start(flow.clone());
    for _ in 0..9 {
        harness.notify("add-ip", &[("ip", "1")]);
    }
    assert_eq!(harness.machine.size(), 9 * flow.nodes.len());
    assert_eq!(harness.machine.snapshot().size(), 9 * flow.nodes.len());
}
