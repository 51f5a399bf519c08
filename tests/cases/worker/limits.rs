//! Tests a worker whose operator allows only small modules.

use flow::{FailureSummary, Outcome};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_module_above_the_maximum_is_called_only_to_roll_back() {
    let mut harness = Harness::new().await;
    harness.start_worker_with("small", store::Admission::default(), 10 << 10).await;
    let apply = job(harness.module, "noop");
    harness.publish("small", &apply).await;
    let TaskResult::Failed(failure) = harness.answer().await else { panic!("it is not called") };
    assert_eq!(failure.kind, FailureKind::Module);
    let message = &failure.message;
    assert!(
        message.starts_with("it is not called: its module_size of ")
            && message.ends_with("is above the maximum here, 10KiB"),
        "{message}"
    );
    // It was applied when the maximum was higher.
    let apply = job(harness.module, "stubborn");
    let call = CallId { action: flow::Action::Rollback, ..apply.call.clone() };
    let rollback = Some((Outcome::Unknown, FailureSummary::default()));
    harness.publish("small", &Job { call, rollback, ..apply }).await;
    let TaskResult::Failed(failure) = harness.answer().await else { panic!("its rollback fails") };
    assert_ne!(failure.kind, FailureKind::Module, "the guest has answered: {failure}");
    harness.stop().await;
}
