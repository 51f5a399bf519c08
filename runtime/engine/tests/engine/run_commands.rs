//! Run commands: each is recorded before its reply, and holds after a restart.

use engine::{CommandError, SubmitError};
use flow::{Action, FailureKind, RunId, RunState, TaskResult, Values};
use protocol::RunCommand;

use crate::harness::{Harness, linear, wired};

fn run() -> RunId {
    "r".parse().unwrap()
}

#[tokio::test]
async fn a_run_suspends_and_resumes() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    let a = harness.take_job().await;
    assert_eq!(
        harness.engine.command_local(&run(), RunCommand::Suspend).await.expect("it is recorded"),
        RunState::Suspending
    );
    harness.signal(&a.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Suspended, "what ran has finished, and b has not begun");
    assert_eq!(
        harness.engine.command_local(&run(), RunCommand::Resume).await.expect("it is recorded"),
        RunState::Running
    );
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test]
async fn a_cancelled_run_stays_cancelled_after_a_restart() {
    let mut harness = Harness::new().await;
    let _watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    harness.answer_next().await;
    let b = harness.take_job().await;
    harness.engine.command_local(&run(), RunCommand::Cancel).await.expect("it is recorded");
    let mut harness = harness.restart().await;
    let watch = harness.engine.adopt(run(), protocol::RunCommand::Resume).await.expect("the run goes on");
    // The outstanding call is not sent again; whatever its outcome, it is rolled back.
    assert_eq!(harness.next_withdrawn().await, std::slice::from_ref(&b.call));
    harness.report_started(&b.call).await;
    harness.signal(&b.call).await;
    for task in ["b", "a"] {
        let undone = harness.answer_next().await;
        assert_eq!((undone.task.as_str(), undone.action), (task, Action::Rollback));
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}

/// A run whose rollback of `a` has failed permanently.
async fn run_with_failed_rollback() -> Harness {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a", "b"])).await.expect("the run begins");
    harness.answer_next().await;
    let b = harness.take_job().await;
    harness.fail(&b.call, FailureKind::Permanent).await;
    assert_eq!(harness.answer_next().await.task.as_str(), "b");
    let a = harness.take_job().await;
    assert_eq!(a.call.action, Action::Rollback);
    harness.fail(&a.call, FailureKind::Permanent).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Failure);
    harness
}

#[tokio::test]
async fn retry_repeats_a_failed_rollback() {
    let mut harness = run_with_failed_rollback().await;
    assert_eq!(
        harness.engine.command_local(&run(), RunCommand::Retry).await.expect("it is recorded"),
        RunState::Running
    );
    let again = harness.answer_next().await;
    assert_eq!((again.task.as_str(), again.action, again.attempt.get()), ("a", Action::Rollback, 2));
    harness.wait_for_state("r", RunState::RolledBack).await;
}

#[tokio::test]
async fn skip_settles_a_failed_rollback_with_a_reason() {
    let harness = run_with_failed_rollback().await;
    let command = |task: &str| RunCommand::Skip { task: task.parse().unwrap(), reason: "cleaned by hand".into() };
    let error = harness.engine.command_local(&run(), command("b")).await.expect_err("b is rolled back already");
    assert!(matches!(error, CommandError::NotApplicable { state: RunState::Failure, .. }), "{error}");
    let state = harness.engine.command_local(&run(), command("a")).await.expect("it is recorded");
    assert_eq!(state, RunState::RolledBack);
    assert!(harness.facts("r").await.contains(&"rollback-skipped"));
}

#[tokio::test]
async fn retry_restarts_a_rolled_back_run() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.fail(&a.call, FailureKind::Permanent).await;
    assert_eq!(harness.answer_next().await.action, Action::Rollback);
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    assert_eq!(
        harness.engine.command_local(&run(), RunCommand::Retry).await.expect("it is recorded"),
        RunState::Running
    );
    let again = harness.answer_next().await;
    assert_eq!((again.task.as_str(), again.action, again.attempt.get()), ("a", Action::Apply, 2));
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test]
async fn an_inapplicable_command_is_rejected_without_a_record() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    harness.answer_next().await;
    Harness::end(watch).await;
    let facts = harness.facts("r").await;
    for command in [RunCommand::Cancel, RunCommand::Suspend, RunCommand::Resume, RunCommand::Retry] {
        let error = harness.engine.command_local(&run(), command).await.expect_err("the run has ended");
        assert!(matches!(error, CommandError::NotApplicable { state: RunState::Success, .. }), "{error}");
    }
    assert_eq!(harness.facts("r").await, facts);
    let error =
        harness.engine.command_local(&"nobody".parse().unwrap(), RunCommand::Cancel).await.expect_err("there is none");
    assert!(matches!(error, CommandError::Missing { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_sent_during_an_edit_calls_its_own_task() {
    let task = |name: &str, keys: &str| format!("[[task]]\nname = \"{name}\"\nuse = \"g\"\n{keys}");
    let link = |from: &str, to: &str| format!("[[link]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let head = "name = \"f\"\n[modules]\ng = \"g.wasm\"\n";
    let rest = task("a", "") + &task("b", "timeout = \"7s\"\n") + &task("c", "") + &link("a", "b") + &link("b", "c");
    let before = wired(&format!("{head}{}{rest}{}", task("old", ""), link("c", "old")));
    // Without the first task, the others have other positions.
    let after = wired(&format!("{head}{rest}"));
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &before).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.faults.hold();
    let (engine, other) = (harness.engine.clone(), harness.engine.clone());
    let submitting = async move { engine.submit("s".parse().unwrap(), linear(&[])).await.map(drop) };
    let run = run();
    let command = RunCommand::Edit { revision: flow::Revision::FIRST, flow: after };
    let both = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        // Both wait in the queue, one behind the other, and are taken in one batch.
        harness.signal(&a.call).await;
        let edited = tokio::join!(other.command(&run, command), async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            harness.faults.release();
        });
        edited.0
    };
    let (submitted, edited) = tokio::join!(submitting, both);
    submitted.expect("the other run begins");
    edited.expect("it is recorded");
    let b = harness.take_job().await;
    assert_eq!((b.call.task.as_str(), b.limits.timeout.as_secs()), ("b", 7), "the job is that of its task");
    harness.signal(&b.call).await;
    assert_eq!(harness.answer_next().await.task.as_str(), "c");
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test]
async fn a_retried_run_counts_among_the_open_runs_of_its_flow() {
    let mut harness = Harness::with_max_open_runs(1).await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.fail(&a.call, FailureKind::Permanent).await;
    assert_eq!(harness.answer_next().await.action, Action::Rollback);
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    let other = harness.submit("other", &linear(&["a"])).await.expect("the first run has ended");
    match harness.engine.command_local(&run(), RunCommand::Retry).await {
        Err(CommandError::Refused { reason }) => assert!(reason.contains("the limit `open_runs`"), "{reason}"),
        other => panic!("the flow has an open run: {other:?}"),
    }
    assert_eq!(harness.state("r").await, RunState::RolledBack);
    assert_eq!(harness.answer_next().await.run.as_str(), "other");
    assert_eq!(Harness::end(other).await.state(), RunState::Success);
    let retried = harness.engine.command_local(&run(), RunCommand::Retry).await;
    assert_eq!(retried.expect("no run is open"), RunState::Running);
    assert_eq!(harness.answer_next().await.run, run());
    harness.wait_for_state("r", RunState::Success).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_refused_has_no_effect_later() {
    let mut harness = Harness::with_max_open_runs(1).await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let a = harness.take_job().await;
    harness.fail(&a.call, FailureKind::Permanent).await;
    assert_eq!(harness.answer_next().await.action, Action::Rollback);
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    let other = harness.submit("other", &linear(&["a"])).await.expect("the first run has ended");
    // As from another process: the engine has to settle the delivery of the command.
    let retried = harness.engine.command(&run(), RunCommand::Retry).await;
    assert!(matches!(retried, Err(CommandError::Refused { .. })), "{retried:?}");
    assert_eq!(harness.answer_next().await.run.as_str(), "other");
    assert_eq!(Harness::end(other).await.state(), RunState::Success);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(harness.state("r").await, RunState::RolledBack, "its sender has the answer that nothing happens");
}

#[tokio::test]
async fn a_command_that_is_too_large_is_refused_by_its_size() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("r", &linear(&["a"])).await.expect("the run begins");
    let notify = |bytes: usize| {
        let (task, answer) = ("a".parse().unwrap(), TaskResult::Succeeded(Values::new()));
        RunCommand::Notify { task, answer, key: Some("x".repeat(bytes)) }
    };
    match harness.engine.command(&run(), notify(9 << 20)).await {
        Err(error @ CommandError::TooLarge { .. }) => {
            let says = "the command notify for run r is too large: it has 9.0MiB";
            assert!(error.to_string().starts_with(says), "{error}");
        }
        other => panic!("it is too large: {other:?}"),
    }
    let smaller = harness.engine.command(&run(), notify(7 << 20)).await;
    assert!(!matches!(smaller, Err(CommandError::TooLarge { .. })), "{smaller:?}");
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}

#[tokio::test]
async fn a_run_whose_notifications_no_broker_could_carry_is_refused() {
    let mut harness = Harness::new().await;
    let (task, run) = ("t".repeat(100), "r".repeat(100));
    let flow = |name: &str| {
        wired(&format!("name = \"{name}\"\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"{task}\"\nuse = \"g\"\n"))
    };
    match harness.submit(&run, &flow(&"f".repeat(37))).await {
        Err(SubmitError::RunId(error)) => assert_eq!((error.excess, error.task.as_str()), (1, task.as_str())),
        other => panic!("its keys have 256 bytes: {:?}", other.map(drop)),
    }
    let watch = harness.submit(&run, &flow(&"f".repeat(36))).await.expect("its keys have 255 bytes at most");
    harness.answer_next().await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
}
