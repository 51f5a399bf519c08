//! What follows from failures: further attempts, and what the jobs of rollbacks say about them.

use flow::{Action, Failure, FailureKind, FailureSummary, RunState, TaskResult};
use protocol::Job;

use crate::harness::{Harness, wired};

/// One task that may be tried three times.
const THREE_ATTEMPTS: &str = "name = \"f\"\n[[task]]\nname = \"a\"\nuse = \"g\"\n\
    retry = { attempts = 3, initial = \"1s\", jitter = false }\n[modules]\ng = \"g.wasm\"\n";

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_attempt_can_change_is_not_retried() {
    for (kind, attempts) in [(FailureKind::Denied, 1), (FailureKind::Permanent, 1), (FailureKind::Transient, 3)] {
        let mut harness = Harness::new().await;
        let watch = harness.submit("r", &wired(THREE_ATTEMPTS)).await.expect("the run begins");
        let mut applies = 0;
        let rollback = loop {
            let call = harness.take_job().await.call;
            match call.action {
                Action::Apply => applies += 1,
                Action::Rollback => break call,
            }
            harness.fail(&call, kind).await;
        };
        assert_eq!(applies, attempts, "{kind}");
        harness.signal(&rollback).await;
        let machine = Harness::end(watch).await;
        assert_eq!((machine.state(), machine.failures()["a"].kind), (RunState::RolledBack, kind));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_job_has_sixteen_failures_and_the_number_of_all() {
    const ELEMENTS: u64 = 40;
    /// The failure of the call itself, sixteen others that are cut, and the rest of the job.
    const MAX_JOB_BYTES: usize = 64 << 10;
    let mut harness = Harness::new().await;
    let list: Vec<u64> = (0..ELEMENTS).collect();
    let flow = wired(&format!(
        "name = \"f\"\npattern = \"linear\"\n[[task]]\nname = \"first\"\nuse = \"g\"\n\
         [[task]]\nname = \"each\"\nuse = \"g\"\nfor_each = {list:?}\n[modules]\ng = \"g.wasm\"\n"
    ));
    let watch = harness.submit("r", &flow).await.expect("the run begins");
    assert_eq!(harness.answer_next().await.task.as_str(), "first");
    let mut calls = Vec::new();
    for _ in 0..ELEMENTS {
        calls.push(harness.take_job().await.call);
    }
    for call in &calls {
        let failure = Failure::new(FailureKind::Permanent, "x".repeat(flow::MAX_MESSAGE_BYTES));
        harness.report(call, TaskResult::Failed(failure)).await;
    }
    // The elements are rolled back before the first task, whose rollback knows all failures.
    loop {
        let message = harness.take_job_message().await;
        let job = Job::decode(&message.body).expect("a job that can be read");
        let (_, failures) = job.rollback.expect("only rollbacks follow");
        assert!(failures.first.len() <= FailureSummary::MAX_FAILURES, "{} failures", failures.first.len());
        assert!(message.body.len() <= MAX_JOB_BYTES, "a job with {} bytes", message.body.len());
        harness.signal(&job.call).await;
        if job.call.task.as_str() == "first" {
            let counted = (failures.first.len(), failures.total);
            assert_eq!(counted, (FailureSummary::MAX_FAILURES, ELEMENTS + 1), "the elements and their task");
            break;
        }
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
}
