//! Calls under a lease: heartbeats instead of deliveries, and what happens when they stop.

use std::time::Duration;

use flow::{Action, Execution, FailureKind, RunState};
use protocol::{HeartbeatNumber, Report, RunCommand, lease};
use tokio::time::timeout;

use crate::harness::{Fault, Harness, StopPoint, linear, wired};

/// Longer than the duration of a lease.
const LONG: Duration = Duration::from_secs(2 * lease::LEASE_DURATION.as_secs());

#[tokio::test(start_paused = true)]
async fn an_expired_lease_starts_a_new_attempt() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    harness.heartbeat(&first.call).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(harness.next_interrupt().await, first.call, "what may still run is asked to stop");
    let second = harness.take_job().await;
    assert_eq!(second.call.attempt, first.call.attempt.next());
    assert_eq!(second.call.idempotency_key(), first.call.idempotency_key());
    harness.signal(&second.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_renew_a_lease() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    for _ in 0..20 {
        harness.heartbeat(&job.call).await;
        tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    }
    harness.signal(&job.call).await;
    let machine = Harness::end(watch).await;
    assert_eq!(machine.state(), RunState::Success);
    let facts = harness.facts("r").await;
    assert_eq!(facts.iter().filter(|fact| **fact == "leased").count(), 1, "heartbeats are no records: {facts:?}");
    assert_eq!(facts.iter().filter(|fact| **fact == "started").count(), 1, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_heartbeat_does_not_keep_the_lease_of_a_lost_worker() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    let heartbeat = |number| Report::Heartbeat {
        call: first.call.clone(),
        worker: "w".parse().unwrap(),
        number: HeartbeatNumber { execution: Execution::new(1), count: number },
    };
    for number in [1, 2, 3] {
        harness.publish_report(&heartbeat(number)).await;
        tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    }
    // The worker is lost, and somebody has copies of its heartbeats.
    for repeated in 0..LONG.as_secs() {
        harness.publish_report(&heartbeat(1 + repeated % 3)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let second = timeout(Duration::from_secs(1), harness.take_job()).await.expect("the lease has expired");
    assert_eq!(second.call.attempt, first.call.attempt.next());
    harness.signal(&second.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn the_heartbeats_of_a_restarted_worker_keep_its_lease() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    let beat = async |execution, count| {
        let number = HeartbeatNumber { execution: Execution::new(execution), count };
        let heartbeat = Report::Heartbeat { call: job.call.clone(), worker: "w".parse().unwrap(), number };
        harness.publish_report(&heartbeat).await;
        tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    };
    for count in 100..110 {
        beat(1_000, count).await;
    }
    // It restarts within its lease, and executes the call again. A new execution counts from the beginning.
    for count in 0..20 {
        beat(2, count).await;
        // A copy from before the restart counts for nothing.
        beat(1_000, 105).await;
    }
    assert!(timeout(Duration::from_secs(1), harness.take_job()).await.is_err(), "its lease has not expired");
    harness.signal(&job.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_hold_a_call_for_longer_than_it_may_take() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    let longest = first.limits.timeout + lease::MAX_PREPARATION;
    let mut held = Duration::ZERO;
    let second = loop {
        harness.heartbeat(&first.call).await;
        match timeout(lease::HEARTBEAT_INTERVAL, harness.take_job()).await {
            Ok(job) => break job,
            Err(_) => held += lease::HEARTBEAT_INTERVAL,
        }
        assert!(held < 2 * longest, "the call is lost in the end");
    };
    assert!(held >= longest - lease::LEASE_DURATION, "a call may take {longest:?}, and was lost after {held:?}");
    assert_eq!(second.call.attempt, first.call.attempt.next());
    harness.signal(&second.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_keep_a_cancelled_run_for_ever() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.heartbeat(&job.call).await;
    harness.engine.command_local(&job.call.run, RunCommand::Cancel).await.expect("it is recorded");
    let end = Harness::end(watch);
    let beating = async {
        loop {
            harness.heartbeat(&job.call).await;
            // The outcome of a lost call is unknown, so it is rolled back.
            if let Ok(rollback) = timeout(lease::HEARTBEAT_INTERVAL, harness.take_job()).await {
                harness.signal(&rollback.call).await;
            }
        }
    };
    let longest = job.limits.timeout + lease::MAX_PREPARATION;
    tokio::select! {
        end = timeout(2 * longest, end) => assert_eq!(end.expect("it ends").state(), RunState::RolledBack),
        () = beating => unreachable!("it never ends"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_is_reported_before_its_lease_expires() {
    let mut harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    let run = job.call.run.clone();
    assert_eq!(harness.engine.silent_leases(&run).await, [], "it has no lease yet");
    harness.heartbeat(&job.call).await;
    tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    harness.heartbeat(&job.call).await;
    tokio::time::sleep(lease::SILENT_AFTER + Duration::from_secs(2)).await;
    let [silence] = &harness.engine.silent_leases(&run).await[..] else { panic!("one call has a lease") };
    assert_eq!((&silence.call, silence.worker.as_str()), (&job.call, "w"));
    assert!(silence.since >= lease::SILENT_AFTER && silence.since < lease::LEASE_DURATION, "{silence:?}");
    harness.heartbeat(&job.call).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(harness.engine.silent_leases(&run).await[0].since < lease::SILENT_AFTER, "its heartbeats are back");
}

#[tokio::test(start_paused = true)]
async fn a_released_call_is_retried_immediately() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    harness.heartbeat(&first.call).await;
    harness.release(&first.call).await;
    let second = harness.take_job().await;
    assert_eq!(second.call.attempt, first.call.attempt.next());
    harness.signal(&second.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_of_a_lost_attempt_is_recorded_as_late_and_changes_nothing() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let first = harness.take_job().await;
    harness.heartbeat(&first.call).await;
    tokio::time::sleep(LONG).await;
    let second = harness.take_job().await;
    harness.signal(&first.call).await;
    harness.signal(&first.call).await;
    harness.signal(&second.call).await;
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let facts = harness.facts("r").await;
    assert_eq!(facts.iter().filter(|fact| **fact == "late").count(), 1, "{facts:?}");
    assert_eq!(harness.successes("r").await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_apply_is_rolled_back_again() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let lost = harness.take_job().await;
    harness.heartbeat(&lost.call).await;
    tokio::time::sleep(LONG).await;
    let second = harness.take_job().await;
    harness.fail(&second.call, FailureKind::Permanent).await;
    let rollback = harness.take_job().await;
    let (outcome, _) = rollback.rollback.expect("it is a rollback");
    assert_eq!(outcome, flow::Outcome::Unknown, "the lost attempt may have applied");
    harness.signal(&rollback.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    // The lost worker reports its apply only now, long after the run was removed from memory.
    harness.signal(&lost.call).await;
    let again = harness.take_job().await;
    assert_eq!(again.call.action, Action::Rollback);
    assert!(matches!(again.rollback, Some((flow::Outcome::Provided(_), _))), "{:?}", again.rollback);
    harness.signal(&again.call).await;
    harness.wait_for_state("r", RunState::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_engine_does_not_resend_leased_calls() {
    let mut harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.heartbeat(&job.call).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut harness = harness.restart().await;
    let watch =
        harness.engine.adopt("r".parse().unwrap(), protocol::RunCommand::Resume).await.expect("the run goes on");
    tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    assert_eq!(harness.jobs_waiting().await, 0, "its worker has it");
    // The lease gets its full time again, and then expires.
    tokio::time::sleep(LONG).await;
    let second = harness.answer_next().await;
    assert_eq!(second.attempt, job.call.attempt.next());
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_loses_worker_after_worker_is_poison() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    for _ in 0..5 {
        let job = harness.take_job().await;
        harness.heartbeat(&job.call).await;
        tokio::time::sleep(LONG).await;
    }
    assert_eq!(harness.answer_next().await.action, Action::Rollback);
    let machine = Harness::end(watch).await;
    assert_eq!(machine.state(), RunState::RolledBack);
    let failure = &machine.failures()["a"];
    assert_eq!(failure.kind, FailureKind::Poison, "{failure}");
}

#[tokio::test(start_paused = true)]
async fn an_unrecorded_lease_is_recorded_later() {
    for fault in [Fault::NotWritten, Fault::WrittenUnconfirmed] {
        let mut harness = Harness::new().await;
        let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
        let job = harness.take_job().await;
        harness.faults.fail_next(fault);
        harness.heartbeat(&job.call).await;
        tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
        assert_eq!(harness.facts("r").await.iter().filter(|fact| **fact == "leased").count(), 1, "{fault:?}");
        harness.signal(&job.call).await;
        assert_eq!(Harness::end(watch).await.state(), RunState::Success, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_an_unconfirmed_record_expires_if_its_worker_is_dead() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let first = harness.take_job().await;
    let loads = harness.faults.loads();
    harness.faults.fail_next(Fault::WrittenUnconfirmed);
    harness.heartbeat(&first.call).await;
    harness.wait_for_fact("r", "leased").await;
    // No other heartbeat follows.
    let second = timeout(2 * LONG, harness.take_job()).await.expect("the lease is watched, and expires");
    assert!(harness.faults.loads() > loads, "the run was read again after the append");
    assert_eq!(second.call.attempt, first.call.attempt.next());
    let facts = harness.facts("r").await;
    let count = |fact: &str| facts.iter().filter(|other| **other == fact).count();
    assert_eq!((count("leased"), count("lost")), (1, 1), "{facts:?}");
    harness.signal(&second.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_an_engine_wrote_before_it_died_expires_at_the_next() {
    let mut harness = Harness::shared().await;
    drop(harness.submit("r", &linear(&["a"])).await.expect("the run begins"));
    let first = harness.take_job().await;
    harness.faults.stop_at("r", StopPoint::After);
    harness.heartbeat_job(&first).await;
    harness.faults.until_stopped().await;
    harness.engine.abort().await;
    harness.faults.resume();
    let mut next = harness.sharing_engine("next").await;
    drop(harness);
    let second = timeout(4 * LONG, next.take_job()).await.expect("the lease is watched, and expires");
    assert_eq!(second.call.attempt, first.call.attempt.next());
    next.signal_job(&second).await;
    next.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_its_full_time_once_its_run_is_read_again() {
    let mut harness = Harness::shared().await;
    let tasks = "[[task]]\nname = \"a\"\nuse = \"g\"\n[[task]]\nname = \"b\"\nuse = \"g\"\n";
    let flow = wired(&format!("name = \"f\"\npattern = \"unordered\"\n{tasks}[modules]\ng = \"g.wasm\"\n"));
    drop(harness.submit("r", &flow).await.expect("the run begins"));
    let (leased, other) = (harness.take_job().await, harness.take_job().await);
    harness.heartbeat_job(&leased).await;
    harness.wait_for_fact("r", "leased").await;
    // The run is read beside the driver for most of the time of the lease, and no heartbeat arrives.
    harness.faults.hold_reads();
    harness.faults.fail_next(Fault::NotWritten);
    harness.signal_job(&other).await;
    tokio::time::sleep(lease::LEASE_DURATION * 3 / 4).await;
    harness.faults.release_reads();
    harness.wait_for_fact("r", "succeeded").await;
    tokio::time::sleep(lease::LEASE_DURATION / 2).await;
    harness.signal_job(&leased).await;
    harness.wait_for_state("r", RunState::Success).await;
    let facts = harness.facts("r").await;
    assert!(!facts.contains(&"lost"), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_logbook_expires_no_lease() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.heartbeat(&job.call).await;
    harness.faults.hold();
    let (engine, other) = (harness.engine.clone(), linear(&["a"]));
    let silence = async {
        for _ in 0..20 {
            harness.heartbeat(&job.call).await;
            tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
        }
        harness.faults.release();
    };
    let (submitted, ()) = tokio::join!(engine.submit("s".parse().unwrap(), other), silence);
    submitted.expect("the other run begins");
    tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
    harness.signal(&job.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let facts = harness.facts("r").await;
    assert!(!facts.contains(&"lost"), "{facts:?}");
}
