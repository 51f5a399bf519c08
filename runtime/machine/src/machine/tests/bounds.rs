//! The cost of one event is bounded for every flow: further steps decide the rest.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::harness::{Harness, flow, name};
use crate::{Call, Command, Event, MAX_STEP_RECORDS, Machine, Step};
use flow::{Action, Execution, Flow, RunState, Signal, State, TaskResult, Timestamp, Value};

/// A cycle with an empty list, which is not known from the file.
const IDLE: &str = r#"
    cyclic = true
    [inputs]
    none = []
    [[task]]
    name = "spin"
    use = "g#add"
    for_each = "none"
    as = "ip"
    [[link]]
    from = "spin"
    to = "spin"
"#;

#[test]
fn a_cycle_without_calls_fires_ten_times_a_second() {
    let mut harness = Harness::start(flow(IDLE));
    let started_at = harness.now;
    assert_eq!(harness.machine.firing_count(), 1, "the next firing waits");
    for firing in 2..=101 {
        let before = harness.records.len();
        harness.advance_to_next_due();
        assert_eq!(harness.machine.firing_count(), firing);
        assert!(harness.records.len() - before < 10, "one firing at a time");
    }
    assert_eq!(harness.now.since(started_at), Duration::from_secs(10));
    harness.step(&Event::Cancel);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
}

#[test]
fn a_cycle_of_remembered_results_fires_ten_times_a_second() {
    let text = "cyclic = true\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\nmemo = true\n\
        [[link]]\nfrom = \"a\"\nto = \"a\"\n";
    let mut harness = Harness::start(flow(text));
    let started_at = harness.now;
    for _ in 0..20 {
        assert!(harness.remember(0));
        assert!(harness.outstanding.is_empty(), "no worker takes part, so the next firing waits");
        harness.advance_to_next_due();
    }
    assert_eq!(harness.now.since(started_at), Duration::from_secs(2));
    let called_at = harness.now;
    harness.answer_one();
    assert_eq!(harness.outstanding.len(), 1, "a call is followed by the next firing at once");
    assert!(harness.now.since(called_at) <= Duration::from_millis(1), "which is the time of the call");
}

#[test]
fn a_cycle_with_calls_fires_immediately() {
    let work = "[[task]]\nname = \"work\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"spin\"\nto = \"work\"\n";
    let mut harness = Harness::start(flow(&format!("max_firings = 20\n{IDLE}{work}")));
    let started_at = harness.now;
    harness.run();
    assert_eq!(harness.machine.firing_count(), 20);
    assert_eq!(harness.now.since(started_at), Duration::from_millis(20), "a call takes a millisecond");
}

#[test]
fn setting_the_clock_back_does_not_delay_a_cycle() {
    let mut harness = Harness::start(flow(IDLE));
    harness.now = flow::Timestamp::from_micros(harness.now.as_micros() - 900_000);
    harness.step(&Event::Tick);
    assert_eq!(harness.machine.firing_count(), 2);
}

#[test]
fn cycles_that_double_their_firings_stop_at_the_queue_limit() {
    let none = |name: &str| format!("[[task]]\nname = \"{name}\"\nuse = \"g#add\"\nfor_each = \"none\"\nas = \"ip\"\n");
    let link = |from: &str, to: &str| format!("[[link]]\nfrom = \"{from}\"\nto = \"{to}\"\njoin = \"any\"\n");
    let tasks = format!(
        "{}{}{}",
        none("go"),
        none("a").replace("add\"", "add\"\nprovides = []"),
        none("b").replace("add\"", "add\"\nprovides = []")
    );
    let links = [link("go", "a"), link("a", "a"), link("a", "b"), link("b", "a"), link("b", "b")].concat();
    let flow = flow(&format!("cyclic = true\nmax_parallel = 1\ninputs = {{ none = [] }}\n{tasks}{links}"));
    let mut machine = Machine::new("r".parse().unwrap(), flow);
    let (mut now, mut event, mut longest) = (Timestamp::default(), Event::Start, 0);
    for step_number in 0..60 {
        let step = machine.step(now, &event);
        assert!(step.records.len() < 2 * MAX_STEP_RECORDS);
        if !step.is_unfinished {
            now = now.max(machine.next_due().unwrap_or(now));
        }
        event = Event::Tick;
        if step_number % 2 == 0 {
            let triggers = machine.snapshot().triggers.unwrap();
            longest = longest.max(triggers.queued.len() + triggers.pending_triggers.len());
        }
    }
    assert!((490..510).contains(&longest), "{longest}");
}

#[test]
fn many_tasks_that_may_start_at_once_start_in_several_steps() {
    let text: String = (0..2_000).map(|task| format!("[[task]]\nname = \"t{task}\"\nuse = \"g#noop\"\n")).collect();
    let mut harness = Harness::start_in_steps_of(MAX_STEP_RECORDS, flow(&text));
    let mut steps = 1;
    while harness.is_unfinished {
        harness.step(&Event::Tick);
        steps += 1;
    }
    assert_eq!(harness.outstanding.len(), 2_000);
    assert!(steps > 2_000 / MAX_STEP_RECORDS, "{steps}");
}

/// The largest maximum of parallel calls that a flow can have.
const WIDEST: usize = flow::draft::DraftForEach::MAX_PARALLEL as usize;

/// A machine with a `for_each` task for a list of this length, when its list is known.
fn long_list(length: u32, top: &str) -> (Machine, VecDeque<Call>) {
    let plain = flow(&format!(
        "[inputs]\nitems = []\n[[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = \"items\"\n{top}"
    ));
    let inputs = [("items".parse().unwrap(), Value::json(&(0..length).collect::<Vec<_>>().into()))].into();
    let mut machine = Machine::new("r".parse().unwrap(), Arc::new(Flow { inputs, ..(*plain).clone() }));
    let mut out = VecDeque::new();
    step(&mut machine, &Event::Start, &mut out);
    (machine, out)
}

/// Executes one step; returns the number of its records.
fn step(machine: &mut Machine, event: &Event, out: &mut VecDeque<Call>) -> usize {
    let Step { records, commands, is_unfinished, .. } = machine.step(Timestamp::default(), event);
    assert!(!is_unfinished, "the work fits into one step");
    out.extend(commands.into_iter().filter_map(|command| match command {
        Command::Call(call) => Some(*call),
        Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => None,
    }));
    records.len()
}

/// Answers a call: an apply succeeds with its input.
fn answer(call: Call) -> Event {
    let made = call.inputs.get("item").cloned().map(|item| ("made".parse().unwrap(), item));
    let result = TaskResult::Succeeded(made.into_iter().collect());
    Event::Signal(Signal {
        call: call.id,
        answer: result,
        execution: Execution::new(1),
        redelivered: false,
        worker: None,
    })
}

#[test]
fn a_long_list_expands_only_a_window_of_elements() {
    for (top, window) in [("", 6), ("max_parallel = 3\n", 3), ("max_parallel = 50\n", 50)] {
        let (mut machine, mut out) = long_list(5_000, top);
        assert!(machine.size() > 5_000, "a snapshot holds the whole list");
        let nodes_of =
            |machine: &Machine| machine.firings.values().map(|firing| firing.indices().count()).sum::<usize>();
        let nodes = nodes_of(&machine);
        for answered in 0..5_000 {
            assert!(out.len() <= window, "{} calls are out", out.len());
            assert!(nodes_of(&machine) <= nodes + answered, "an element without a call has no node");
            let call = out.pop_front().expect("a call is outstanding");
            assert!(step(&mut machine, &answer(call), &mut out) <= 4, "one answer leads to one more call");
        }
        assert_eq!(machine.state(), RunState::Success);
        let made = machine.values().remove("made").unwrap();
        assert_eq!(made, Value::json(&(0..5_000).collect::<Vec<_>>().into()), "the results are in their order");
    }
}

#[test]
fn the_widest_list_starts_in_several_steps() {
    let top = format!("max_parallel = {WIDEST}\n");
    let text =
        format!("[inputs]\nitems = []\n[[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = \"items\"\n{top}");
    let plain = flow(&text);
    let inputs = [("items".parse().unwrap(), Value::json(&(0..20_000).collect::<Vec<_>>().into()))].into();
    let mut machine = Machine::new("r".parse().unwrap(), Arc::new(Flow { inputs, ..(*plain).clone() }));
    let (mut event, mut calls, mut steps) = (Event::Start, 0, 0);
    loop {
        let step = machine.step(Timestamp::default(), &event);
        assert!(step.records.len() < 2 * MAX_STEP_RECORDS, "{} records in one step", step.records.len());
        calls += step.commands.iter().filter(|command| matches!(command, Command::Call(_))).count();
        let nodes = machine.firings.values().map(|firing| firing.indices().count()).sum::<usize>();
        assert!(nodes <= WIDEST + 10, "{nodes} nodes, most of which no call can use");
        steps += 1;
        event = Event::Tick;
        if !step.is_unfinished {
            break;
        }
    }
    assert_eq!(calls, WIDEST);
    assert!(steps > WIDEST / (2 * MAX_STEP_RECORDS), "{steps} steps");
}

#[test]
fn cancel_rolls_back_only_the_called_elements_of_a_list() {
    let (mut machine, mut out) = long_list(5_000, "");
    for _ in 0..100 {
        let call = out.pop_front().expect("a call is outstanding");
        step(&mut machine, &answer(call), &mut out);
    }
    step(&mut machine, &Event::Cancel, &mut out);
    let mut rolled_back_count = 0;
    while let Some(call) = out.pop_front() {
        let rollbacks = out.iter().filter(|call| call.action() == Action::Rollback).count();
        assert!(rollbacks <= 6, "{rollbacks} rollbacks are out at once");
        rolled_back_count += usize::from(call.action() == Action::Rollback);
        step(&mut machine, &answer(call), &mut out);
    }
    assert_eq!(machine.state(), RunState::RolledBack);
    assert_eq!(rolled_back_count, 106);
}

#[test]
fn a_list_that_is_called_again_keeps_to_its_window() {
    let mut harness = Harness::start(flow(
        "pattern = \"linear\"\nretry = { times = 2 }\n[inputs]\nitems = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]\n\
         [[task]]\nname = \"make\"\nuse = \"g#make\"\nfor_each = \"items\"\nas = \"item\"\n\
         [[task]]\nname = \"last\"\nuse = \"g#fails\"\n",
    ));
    let mut answered = 0;
    while harness.state() == RunState::Running {
        assert!(harness.outstanding.len() <= 6, "{} calls are out after {answered}", harness.outstanding.len());
        harness.answer(0);
        answered += 1;
    }
    assert_eq!((harness.state(), answered), (RunState::RolledBack, 2 * (20 + 1 + 20)));
}

#[test]
fn a_snapshot_shares_the_list_and_resumes() {
    let (mut machine, mut out) = long_list(1_000, "");
    for answered in 0..1_000 {
        if answered % 300 == 0 {
            machine = Machine::restore("r".parse().unwrap(), machine.snapshot()).unwrap();
        }
        let call = out.pop_front().expect("a call is outstanding");
        step(&mut machine, &answer(call), &mut out);
    }
    assert_eq!(machine.state(), RunState::Success);
}

#[test]
fn a_schedule_that_catches_up_fires_in_several_steps() {
    let text = "persistent = true\nmax_parallel = 1000\n[[task]]\nname = \"t\"\nuse = \"g#noop\"\n\
                [[schedule]]\ncron = \"* * * * * *\"\nto = \"t\"\nmissed = \"all\"\noverlap = \"allow\"\n";
    let mut harness = Harness::start_in_steps_of(MAX_STEP_RECORDS, flow(text));
    harness.now = harness.now.after(Duration::from_secs(3_600));
    harness.step(&Event::Tick);
    assert!(harness.is_unfinished);
    assert!(harness.outstanding.len() < MAX_STEP_RECORDS, "{}", harness.outstanding.len());
    harness.step(&Event::Cancel);
    while harness.is_unfinished || !harness.outstanding.is_empty() {
        harness.step_or_advance();
    }
    assert_eq!(harness.state(), RunState::RolledBack, "a cancel is handled between two steps");
}

#[test]
fn a_run_suspended_between_two_steps_resumes() {
    let text =
        "[[task]]\nname = \"a\"\nuse = \"g#fails\"\n[[task]]\nname = \"b\"\nuse = \"g#add\"\nwith = { ip = 1 }\n";
    let mut harness = Harness::start_in_steps_of(1, flow(text));
    harness.step(&Event::Suspend);
    while harness.state() != RunState::Suspended {
        harness.step_or_advance();
    }
    harness.step(&Event::Resume);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    assert_eq!(harness.machine.node_state(harness.machine.flow().tasks().next().unwrap().0), State::RolledBack);
    assert!(harness.machine.task(&name("b")).is_some());
}
