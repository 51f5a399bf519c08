//! Reports of a worker that does not follow the rules. It has the job of a call, so its reports have the right seal.

use std::sync::Arc;

use super::harness::{Harness, flow, name};
use crate::{Event, Fact};
use flow::{
    Action, CallId, Execution, Failure, FailureKind, Flow, Json, MAX_INLINE_TOTAL_BYTES, Outcome, RunState, Signal,
    Stored, TaskResult, Value, ValueKind, Values,
};

fn signal(call: &CallId, execution: u64, answer: TaskResult) -> Event {
    let (call, execution) = (call.clone(), Execution::new(execution));
    Event::Signal(Signal { call, answer, execution, redelivered: false, worker: None })
}

fn success(call: &CallId, execution: u64) -> Event {
    signal(call, execution, TaskResult::Succeeded(Values::new()))
}

fn leased(call: &CallId, worker: usize) -> Event {
    Event::Leased { call: call.clone(), worker: format!("w{worker}").parse().unwrap() }
}

fn lost(call: &CallId, worker: usize) -> Event {
    Event::Lost { call: call.clone(), worker: format!("w{worker}").parse().unwrap() }
}

fn lost_delivery(call: &CallId, execution: u64) -> Event {
    Event::LostDelivery { call: call.clone(), execution: Execution::new(execution) }
}

fn count(harness: &Harness, is_counted: impl Fn(&Fact) -> bool) -> usize {
    harness.records.iter().filter(|record| is_counted(&record.fact)).count()
}

fn is_late(fact: &Fact) -> bool {
    matches!(fact, Fact::LateOutcome { .. })
}

/// A run that was rolled back after its first task succeeded, and the call of that task.
fn rolled_back() -> (Harness, CallId) {
    let text =
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#noop\"\n[[task]]\nname = \"z\"\nuse = \"g#fails\"\n";
    let mut harness = Harness::start(flow(text));
    let call = harness.outstanding[0].id.clone();
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    (harness, call)
}

#[test]
fn an_attempt_has_at_most_as_many_executions_as_its_job_may_have_deliveries() {
    let (mut harness, call) = rolled_back();
    for execution in 1_000..1_200 {
        harness.step(&success(&call, execution));
        harness.run();
    }
    // The first of the 50 executions has answered in time.
    assert_eq!(count(&harness, is_late), 49);
    assert_eq!(harness.state(), RunState::RolledBack);
    let one_more = success(&call, 1_200);
    assert_eq!(harness.machine.excess_execution(&one_more), Some(&call));
    assert_eq!(harness.machine.excess_execution(&success(&call, 1_000)), None, "it was recorded before");
}

#[test]
fn late_heartbeats_of_invented_workers_roll_back_a_bounded_number_of_times() {
    let (mut harness, call) = rolled_back();
    for worker in 0..200 {
        harness.step(&leased(&call, worker));
        harness.run();
    }
    assert_eq!(count(&harness, is_late), 50);
    assert_eq!(harness.machine.excess_execution(&leased(&call, 200)), Some(&call));
    let worker = "w200".parse().unwrap();
    assert!(!harness.machine.would_record_lease(&call, &worker), "the engine watches no lease for it");
}

#[test]
fn a_call_that_a_lost_worker_may_have_executed_is_rolled_back_although_it_is_withdrawn() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    let call = harness.outstanding[0].id.clone();
    for execution in 1..=100 {
        harness.step(&lost_delivery(&call, execution));
    }
    assert_eq!(count(&harness, is_late), 1, "one record says all");
    assert!(harness.machine.may_have_been_executed(&call));
    harness.step(&Event::Cancel);
    harness.withdraw(0);
    harness.run();
    assert_eq!(harness.state(), RunState::RolledBack);
    assert_eq!(harness.done, [(name("a"), Action::Rollback)]);
    assert!(!harness.machine.may_have_been_executed(&call), "it is not with the workers any more");
    // Another worker may have executed it since, and was lost too.
    for _ in 0..2 {
        harness.step(&lost_delivery(&call, 101));
        harness.run();
    }
    assert_eq!((count(&harness, is_late), harness.done.len()), (2, 2), "the same report counts once");
    for execution in 1_000..1_200 {
        harness.step(&lost_delivery(&call, execution));
        harness.run();
    }
    assert_eq!(count(&harness, is_late), 50);
}

#[test]
fn a_lost_delivery_changes_nothing_for_a_call_that_is_answered() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    let call = harness.outstanding[0].id.clone();
    harness.step(&lost_delivery(&call, 1));
    let unknown = CallId { attempt: call.attempt.next(), ..call.clone() };
    assert_eq!(harness.machine.decide(harness.now, &lost_delivery(&unknown, 2)), [], "it was never dispatched");
    harness.run();
    assert_eq!((harness.trace().as_str(), harness.state()), ("a:R a:S", RunState::Success));
}

#[test]
fn at_most_eight_workers_hold_a_lease_on_one_attempt() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    let call = harness.outstanding[0].id.clone();
    for worker in 0..100 {
        harness.step(&leased(&call, worker));
    }
    assert_eq!(count(&harness, |fact| matches!(fact, Fact::Leased { .. })), 8);
    assert_eq!(harness.machine.leased_calls().count(), 8);
    assert_eq!(harness.machine.excess_execution(&leased(&call, 8)), Some(&call));
    assert_eq!(harness.machine.excess_execution(&leased(&call, 0)), None, "it holds a lease");
    for worker in 0..8 {
        harness.step(&lost(&call, worker));
    }
    let next = harness.outstanding[0].id.clone();
    assert_eq!(next.attempt, call.attempt.next(), "the attempt is lost with the last of them");
    harness.step(&leased(&next, 50));
    assert_eq!(harness.machine.leased_calls().count(), 1, "the next attempt has its own leases");
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
}

#[test]
fn leases_that_come_and_go_beside_another_are_bounded() {
    let mut harness = Harness::start(flow("[[task]]\nname = \"a\"\nuse = \"g#noop\"\n"));
    let call = harness.outstanding[0].id.clone();
    harness.step(&leased(&call, 0));
    for _ in 0..200 {
        harness.step(&leased(&call, 1));
        harness.step(&lost(&call, 1));
    }
    assert_eq!(count(&harness, is_late), 50);
    // A worker is noticed again once no other holds the call.
    harness.step(&lost(&call, 0));
    harness.run();
    assert_eq!(harness.state(), RunState::Success);
}

fn provides(value: Value) -> TaskResult {
    TaskResult::Succeeded([("value".parse().unwrap(), value)].into())
}

fn json(bytes: usize) -> Value {
    Value::Json(Json::parse(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap())
}

fn stored(size: u64) -> Value {
    Value::Stored(Stored { digest: flow::Digest::from_bytes([2; 32]), size, form: ValueKind::Bytes })
}

/// A flow of one task, whose output is limited to 1 MiB.
fn limited() -> Arc<Flow> {
    flow("[[task]]\nname = \"a\"\nuse = \"g#five\"\noutput = \"1MiB\"\n")
}

#[test]
fn values_beyond_the_output_of_the_task_fail_it() {
    let name_bytes = "value".len();
    for (value, is_allowed) in [
        (stored((1 << 20) - name_bytes as u64), true),
        (stored((1 << 20) - name_bytes as u64 + 1), false),
        (stored(u64::MAX), false),
        (json(MAX_INLINE_TOTAL_BYTES), true),
        (json(MAX_INLINE_TOTAL_BYTES + 1), false),
        (json(2 << 20), false),
    ] {
        let mut harness = Harness::start(limited());
        let call = harness.outstanding[0].id.clone();
        harness.step(&signal(&call, 1, provides(value)));
        let kind = harness.machine.failures().get(&name("a")).map(|failure| failure.kind);
        assert_eq!(kind, (!is_allowed).then_some(FailureKind::OutputLimit));
    }
}

#[test]
fn a_late_answer_is_held_to_the_limits_too() {
    let mut harness = Harness::start(limited());
    harness.lose(0);
    let call = harness.lost[0].id.clone();
    harness.step(&signal(&call, 1, provides(json(2 << 20))));
    let Some(Fact::LateOutcome { outcome: Some(Outcome::Failed(failure)), .. }) =
        harness.records.last().map(|record| &record.fact)
    else {
        panic!("{:?}", harness.records.last().map(|record| record.fact.name()))
    };
    assert_eq!(failure.kind, FailureKind::OutputLimit);
}

#[test]
fn a_failure_is_cut_before_it_is_recorded() {
    let text = |length| "d".repeat(length);
    let details = Some(Json::parse(format!("\"{}\"", text(4 << 20))).unwrap());
    let failure = Failure { kind: FailureKind::Permanent, message: text(4 << 20), details };
    let mut harness = Harness::start(limited());
    let call = harness.outstanding[0].id.clone();
    harness.step(&signal(&call, 1, TaskResult::Failed(failure.clone())));
    let recorded = &harness.machine.failures()[&name("a")];
    assert!(recorded.is_within_bounds());
    assert!(recorded.message.contains("its details are dropped"), "{}", &recorded.message[16_000..]);
    harness.step(&signal(&call, 2, TaskResult::Failed(failure)));
    let Some(Fact::LateOutcome { outcome: Some(Outcome::Failed(late)), .. }) =
        harness.records.iter().map(|record| &record.fact).find(|fact| is_late(fact))
    else {
        panic!("the second execution is recorded")
    };
    assert!(late.is_within_bounds());
}
