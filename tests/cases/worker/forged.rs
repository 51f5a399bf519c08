//! Tests messages of those who may publish on the broker, and do not have the secret of the engines.

use protocol::Seal;

use super::*;

/// Another secret: of an attacker, or of an engine with another logbook.
const OTHER: EngineSecret = EngineSecret::new([9; 32]);

impl Harness {
    /// The next result whose seal the engines accept.
    async fn accepted(&mut self) -> (CallId, TaskResult) {
        loop {
            let delivery = self.signals.next().await.expect("the broker answers");
            let report = Report::open(&delivery.message.body, &SECRET);
            delivery.accept();
            if let Ok(Report::Signal(signal, _)) = report {
                return (signal.call, signal.answer);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_job_does_not_answer_the_right_one() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let right = job(harness.module, "noop");
    // The module is in the cache of the worker then.
    harness
        .publish("one", &Job { call: CallId { attempt: Attempt::new(7), ..right.call.clone() }, ..right.clone() })
        .await;
    harness.accepted().await;
    harness.publish_of(&OTHER, "one", &right).await;
    loop {
        let delivery = harness.signals.next().await.expect("the broker answers");
        let report = Report::open(&delivery.message.body, &OTHER);
        delivery.accept();
        if matches!(report, Ok(Report::Signal(..))) {
            break;
        }
    }
    // The worker has a recent result for the forged one.
    harness.publish("one", &right).await;
    assert_eq!(harness.accepted().await, (right.call, TaskResult::Succeeded(Values::new())));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_job_that_runs_does_not_delay_the_right_one() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let right = job(harness.module, "noop");
    harness
        .publish("one", &Job { call: CallId { attempt: Attempt::new(7), ..right.call.clone() }, ..right.clone() })
        .await;
    harness.accepted().await;
    harness.publish_of(&OTHER, "one", &Job { export: Some("spin".parse().expect("a name")), ..right.clone() }).await;
    loop {
        let delivery = harness.signals.next().await.expect("the broker answers");
        let report = Report::open(&delivery.message.body, &OTHER);
        delivery.accept();
        if matches!(report, Ok(Report::Progress(_))) {
            break;
        }
    }
    harness.publish("one", &right).await;
    assert_eq!(harness.accepted().await, (right.call, TaskResult::Succeeded(Values::new())));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_interruption_keeps_no_later_job_from_its_start() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let first = job(harness.module, "noop");
    let second = Job { call: CallId { attempt: Attempt::new(2), ..first.call.clone() }, ..first.clone() };
    let everywhere = || Destination::Exchange(topology::CONTROL.into());
    for proof in [Seal::NONE, OTHER.call_key(&first.call).interrupt_proof()] {
        harness.control(everywhere(), &Control::Interrupt { call: first.call.clone(), proof }).await;
        let withdrawn = WithdrawnCall { call: first.call.clone(), proof };
        harness.control(everywhere(), &Control::Withdraw(vec![withdrawn])).await;
    }
    // A withdrawal of the engines is known once the job of its call is asked about.
    harness.control(everywhere(), &withdraw([&second.call])).await;
    harness.publish("one", &second).await;
    assert_eq!(harness.reply_may_start(true).await, second.call);
    assert_eq!(harness.accepted().await.0, second.call);
    harness.publish("one", &first).await;
    let delivery = harness.signals.next().await.expect("the broker answers");
    match Report::open(&delivery.message.body, &SECRET).expect("a worker's report") {
        Report::Signal(signal, _) => assert_eq!(signal.call, first.call),
        other => panic!("it asks nobody: {other:?}"),
    }
    delivery.accept();
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_job_waits_for_an_engine_that_answers() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let withdrawn = job(harness.module, "noop");
    harness.control(Destination::Exchange(topology::CONTROL.into()), &withdraw([&withdrawn.call])).await;
    harness.publish("one", &withdrawn).await;
    // The engine is away for longer than a worker waits.
    let asked = harness.signals.next().await.expect("the broker answers");
    assert!(matches!(Report::decode(&asked.message.body), Ok(Report::AskStart { .. })));
    asked.accept();
    // The call is wanted again since then, so no result says otherwise.
    assert_eq!(harness.reply_may_start(true).await, withdrawn.call);
    let delivery = harness.signals.next().await.expect("the broker answers");
    match Report::open(&delivery.message.body, &SECRET).expect("a worker's report") {
        Report::Signal(signal, _) => {
            assert_eq!(signal.answer, TaskResult::Succeeded(Values::new()));
            assert!(!signal.redelivered, "nobody has executed it before");
        }
        other => panic!("{other:?}"),
    }
    delivery.accept();
    harness.stop().await;
}
