//! A step is bounded in bytes, and so is what one notification decides at once.

use crate::{Event, Fact, Machine, NotificationPart, Record, Step, StepLimits};
use flow::{NotificationOutcome, RunState, TaskNotification, Timestamp, Value};

use super::harness::{Harness, flow, name};

/// The bytes of each value here, about.
const VALUE_BYTES: usize = 50_000;

/// A step may begin a second value, and no third one.
const LIMITS: StepLimits = StepLimits { records: 512, bytes: VALUE_BYTES + 10_000, conditions: u64::MAX };

fn notification() -> TaskNotification {
    let cake = Value::json(&"x".repeat(VALUE_BYTES).into());
    TaskNotification {
        flow: "kitchen".parse().unwrap(),
        task: name("bake"),
        outcome: NotificationOutcome::Success([("cake".parse().unwrap(), cake)].into()),
        key: "k".into(),
    }
}

/// Lets a machine decide one part of a notification.
fn decide_part(machine: &mut Machine, now: Timestamp, part: NotificationPart) -> Step {
    let step = machine.step_within(now, &Event::TaskNotification { notification: notification(), part }, LIMITS);
    assert!(step.bytes <= 2 * LIMITS.bytes, "{} bytes", step.bytes);
    step
}

fn count(records: &[Record], is_counted: impl Fn(&Fact) -> bool) -> usize {
    records.iter().filter(|record| is_counted(&record.fact)).count()
}

#[test]
fn a_step_ends_within_a_decision_when_its_records_have_many_bytes() {
    // Each task reads the same list, and each record of it has the whole list.
    let task = |number| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"g#make\"\nfor_each = \"items\"\nprovides = {{ made = \"m{number}\" }}\n"
        )
    };
    let tasks: String = (0..10).map(task).collect();
    let flow = flow(&format!("[inputs]\nitems = [\"{}\"]\n{tasks}", "x".repeat(VALUE_BYTES)));
    let mut machine = Machine::new("r".parse().unwrap(), flow);
    let (mut event, mut steps, mut lists) = (Event::Start, 0, 0);
    loop {
        let step = machine.step_within(Timestamp::default(), &event, LIMITS);
        assert!(step.bytes <= 2 * LIMITS.bytes, "{} bytes", step.bytes);
        lists += count(&step.records, |fact| matches!(fact, Fact::Expanded { .. }));
        steps += 1;
        if !step.is_unfinished {
            break;
        }
        event = Event::Tick;
    }
    assert_eq!((lists, machine.outstanding_calls().count()), (10, 10), "nothing is left out");
    assert!(steps >= 5, "{steps}");
}

#[test]
fn a_notification_for_many_firings_is_decided_in_parts() {
    let text = "persistent = true\nmax_parallel = 9\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n\
        [[task]]\nname = \"w\"\nwait = \"cake\"\nprovides = { cake = \"cake\" }\n\
        [[link]]\nfrom = \"add-ip\"\nto = \"w\"\n[[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"w\"\n";
    let mut harness = Harness::start(flow(text));
    let fire = |harness: &mut Harness| {
        harness.notify("add-ip", &[("ip", "1")]);
        harness.answer(0);
    };
    (0..6).for_each(|_| fire(&mut harness));
    assert_eq!(harness.machine.waiting_tasks().count(), 6);
    let (mut part, mut parts) = (NotificationPart::First, 0);
    loop {
        let now = harness.now;
        let step = decide_part(&mut harness.machine, now, part);
        harness.records.extend(step.records);
        parts += 1;
        if parts == 1 {
            // It begins to wait behind the notification.
            fire(&mut harness);
        }
        match step.rest {
            Some(rest) => part = NotificationPart::From(rest),
            None => break,
        }
    }
    assert!((3..=4).contains(&parts), "{parts}");
    harness.step(&Event::Tick);
    let firings: Vec<_> = harness.machine.firings().collect();
    assert_eq!(firings.len(), 1, "{firings:?}");
    assert_eq!((firings[0].0.get(), firings[0].1), (7, RunState::Running), "the later firing waits on");
}

#[test]
fn a_notification_for_many_tasks_of_one_firing_is_decided_in_parts() {
    let wait = |number| {
        format!(
            "[[task]]\nname = \"w{number}\"\nwait = \"cake\"\nprovides = {{ cake = \"cake{number}\" }}\n\
             [[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"w{number}\"\n"
        )
    };
    let mut harness = Harness::start(flow(&(0..8).map(wait).collect::<String>()));
    let now = harness.now;
    let no_room = StepLimits { bytes: 0, ..LIMITS };
    let event = Event::TaskNotification { notification: notification(), part: NotificationPart::First };
    let step = harness.machine.step_within(now, &event, no_room);
    assert!(step.records.is_empty(), "there is no room for any of them");
    let (mut part, mut parts) = (NotificationPart::From(step.rest.expect("all are left")), 0);
    loop {
        let step = decide_part(&mut harness.machine, now, part);
        assert!(count(&step.records, |fact| matches!(fact, Fact::Succeeded { .. })) <= 2);
        harness.records.extend(step.records);
        parts += 1;
        match step.rest {
            Some(rest) => part = NotificationPart::From(rest),
            None => break,
        }
    }
    assert_eq!(parts, 4);
    harness.step(&Event::Tick);
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn a_notification_for_many_places_that_do_not_wait_is_decided_in_parts() {
    // Each firing waits at `w`. All other tasks that listen come after it.
    let task = |number| {
        format!(
            "[[task]]\nname = \"x{number}\"\nwait = \"cake\"\n[[link]]\nfrom = \"w\"\nto = \"x{number}\"\n\
             [[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"x{number}\"\n"
        )
    };
    let text = format!(
        "persistent = true\nmax_parallel = 70\n[[task]]\nname = \"add-ip\"\nuse = \"g#add\"\n\
         [[task]]\nname = \"w\"\nwait = \"cake\"\n[[link]]\nfrom = \"add-ip\"\nto = \"w\"\n{}\
         [[listen]]\nflow = \"kitchen\"\ntask = \"bake\"\nto = \"w\"\n",
        (0..200).map(task).collect::<String>()
    );
    let mut harness = Harness::start(flow(&text));
    for _ in 0..60 {
        harness.notify("add-ip", &[("ip", "1")]);
        harness.answer(0);
    }
    let (machine, now) = (&mut harness.machine, harness.now);
    let waiting = machine.waiting_tasks().count();
    assert!(waiting >= 60, "{waiting} firings wait");
    // None of the other tasks begins to wait between the parts.
    let limits = StepLimits { records: 1, ..StepLimits::default() };
    let (mut part, mut parts, mut completed) = (NotificationPart::First, 0, 0);
    loop {
        let event = Event::TaskNotification { notification: notification(), part };
        let step = machine.step_within(now, &event, limits);
        completed += count(&step.records, |fact| matches!(fact, Fact::Succeeded { .. }));
        parts += 1;
        match step.rest {
            Some(rest) => part = NotificationPart::From(rest),
            None => break,
        }
    }
    assert_eq!((parts, completed), (2, waiting), "12,000 places, and each that waits is served");
}
