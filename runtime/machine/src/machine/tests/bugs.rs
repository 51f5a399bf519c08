//! Bug messages: they name the record or event that caused the bug.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::harness::{Harness, flow};
use crate::{Event, Fact, Machine, NodeAttempt, Record, panic_message};
use flow::{Firing, NodeIndex};

const TWO: &str = "[[task]]\nname = \"mix\"\nuse = \"g#noop\"\n[[task]]\nname = \"bake\"\nuse = \"g#noop\"\n[[link]]\nfrom = \"mix\"\nto = \"bake\"\n";

/// A machine that waits for a call, and whose flow refers to a missing node, which wiring never produces.
fn corrupt_machine() -> Machine {
    let mut machine = Harness::start(flow(TWO)).machine;
    let changed = machine.firings.change(Firing::FIRST, |firing| {
        let mut flow = (*firing.flow).clone();
        flow.nodes[1].after = vec![NodeIndex(99)];
        firing.flow = Arc::new(flow);
    });
    changed.unwrap();
    machine
}

#[test]
fn a_panic_while_applying_a_record_names_the_record_and_task() {
    let mut harness = Harness::start(flow(TWO));
    let started = harness.records.iter().find(|record| matches!(record.fact, Fact::Started { .. })).unwrap().clone();
    harness.answer(0);
    let succeeded =
        harness.records.iter().find(|record| matches!(record.fact, Fact::Succeeded { .. })).unwrap().clone();
    let error = corrupt_machine().evolve(&succeeded).unwrap_err().to_string();
    assert!(
        error
            .starts_with("record succeeded of \"mix\" does not fit run r: it meets a bug of waft: index out of bounds"),
        "{error}"
    );
    let Fact::Started { attempt, .. } = started.fact else { panic!("it was started") };
    let unknown_node = NodeAttempt { node: NodeIndex(99), ..attempt };
    let mut lost = Harness::start(flow(TWO)).machine;
    let fact = Fact::Lost { attempt: unknown_node, action: flow::Action::Apply, worker: None };
    let error = lost.evolve(&Record { fact, ..started }).unwrap_err().to_string();
    assert!(error.starts_with("record lost of node 99, which the flow does not have"), "{error}");
}

#[test]
fn a_panic_in_a_step_names_the_decided_record() {
    let mut other = Harness::start(flow(TWO));
    other.answer(0);
    let signal = Event::Signal(other.answered()[0].clone());
    let mut machine = corrupt_machine();
    let panic = catch_unwind(AssertUnwindSafe(|| machine.step(other.now, &signal))).unwrap_err();
    let message = panic_message(&*panic);
    let expected =
        "the machine accepts what it decided: record succeeded of \"mix\" does not fit run r: it meets a bug of waft";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn an_event_summary_names_its_task_and_no_values() {
    let harness = Harness::start(flow(TWO));
    let call = harness.outstanding[0].id.clone();
    let lost = Event::Lost { call, worker: "w".parse().unwrap() };
    assert_eq!(lost.summary(), "lost lease of \"mix\", firing 1, Apply attempt 1");
    assert_eq!(Event::Skip { task: "mix".parse().unwrap(), reason: "secret".into() }.summary(), "skip of \"mix\"");
}
