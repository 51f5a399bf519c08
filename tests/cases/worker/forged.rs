//! Tests messages of those who may publish on the broker, and do not have the secret of the engines.

use protocol::{Seal, SendingId};

use super::*;

/// Another secret: of an attacker, or of an engine with another logbook.
const OTHER: EngineSecret = EngineSecret::new([9; 32]);

impl Harness {
    /// The next report of a worker that is neither progress nor sealed under another secret, and its reply queue.
    async fn next_of(&mut self, secret: &EngineSecret) -> (Report, Option<String>) {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(60), self.signals.next()).await;
            let delivery = next.expect("a report comes").expect("the broker answers");
            let report = Report::open(&delivery.message.body, secret);
            let reply_to = delivery.message.properties.reply_to.clone();
            delivery.accept();
            match report {
                Ok(Report::Progress(_)) | Err(_) => {}
                Ok(report) => return (report, reply_to),
            }
        }
    }

    /// The next result whose seal the engines accept.
    async fn accepted(&mut self) -> (CallId, TaskResult) {
        match self.next_of(&SECRET).await.0 {
            Report::Signal(signal, _) => (signal.call, signal.answer),
            other => panic!("{other:?}"),
        }
    }

    /// Answers the next question of a worker.
    async fn answer_question(&mut self, wanted: bool) -> CallId {
        let (report, reply_to) = self.next_of(&SECRET).await;
        let Report::AskStart { call } = report else { panic!("{report:?}") };
        let proof = SECRET.call_key(&call).may_start_proof(wanted);
        let answer = Control::MayStart { call: call.clone(), wanted, proof };
        self.control(Destination::Queue(reply_to.expect("the question has a reply queue")), &answer).await;
        call
    }

    /// Sends a message to all workers, and waits until the only one has handled it.
    async fn control_all(&self, control: &Control) {
        let everywhere = || Destination::Exchange(topology::CONTROL.into());
        let reply_to = topology::reply_queue(&format!("pong.{}", uuid::Uuid::now_v7()));
        let queue = Queue { name: reply_to.clone(), kind: QueueKind::Exclusive };
        broker::topology::declare_bound(&*self.broker, &queue, &[topology::STATUS]).await.expect("it is new");
        let mut pongs = self.broker.consume(&reply_to, 1).await.expect("it is there");
        self.control(everywhere(), control).await;
        self.control(everywhere(), &Control::Ping(protocol::Ping { reply_to })).await;
        pongs.next().await.expect("the worker answers").accept();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_engine_sends_is_refused() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let right = job(harness.module, "noop");
    let queue = topology::job_queue(&"one".parse().expect("a name"));
    let other = other_attempt(&right, 2).with_keys(&SECRET);
    let job = Message {
        exchange: String::new(),
        key: queue,
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: other.encode().into(),
    };
    harness.broker.publish(job).await.expect("the queue is there");
    harness.control_all(&withdraw([&right.call])).await;
    harness.publish("one", &right).await;
    let (report, _) = harness.next_of(&SECRET).await;
    assert_eq!(report, Report::AskStart { call: right.call.clone() }, "nobody has called the other job");
    let answer = |wanted: bool| {
        let proof = SECRET.call_key(&right.call).may_start_proof(wanted);
        Control::MayStart { call: right.call.clone(), wanted, proof }
    };
    // Operators use this exchange too.
    harness.control_all(&answer(false)).await;
    let control = topology::control_queue(&"one".parse().expect("a name"));
    harness.control(Destination::Queue(control), &answer(true)).await;
    assert_eq!(harness.accepted().await.0, right.call);
    harness.stop().await;
}

/// Thousands of jobs can be of a logbook that was deleted: each would otherwise hold a slot until no engine has answered in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_logbook_does_not_wait_for_an_answer() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    // It was sent before the worker received withdrawals.
    let old = Job { at: Timestamp::from_micros(1_600_000_000_000_000), ..job(harness.module, "noop") };
    harness.publish_of(&OTHER, "one", &old).await;
    let (report, reply_to) = harness.next_of(&OTHER).await;
    assert_eq!(report, Report::AskStart { call: old.call.clone() });
    let reply_to = reply_to.expect("the question has a reply queue");
    let answer = |secret: &EngineSecret| {
        let question = Report::question_seal(&old.call, &secret.call_keys(&old.call, [])).expect("it is sealed");
        Control::UnknownKey { call: old.call.clone(), question }
    };
    // Who does not know the question decides nothing.
    harness.control(Destination::Queue(reply_to.clone()), &answer(&SECRET)).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), harness.next_of(&OTHER)).await.is_err(), "it waits");
    harness.control(Destination::Queue(reply_to), &answer(&OTHER)).await;
    // Without an answer it waits for ten seconds.
    let (report, _) = tokio::time::timeout(Duration::from_secs(8), harness.next_of(&OTHER)).await.expect("it starts");
    assert!(matches!(report, Report::Signal(..)), "{report:?}");
    harness.stop().await;
}

/// The same job for another attempt.
fn other_attempt(job: &Job, attempt: u32) -> Job {
    Job { call: CallId { attempt: Attempt::new(attempt), ..job.call.clone() }, ..job.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_job_does_not_answer_the_right_one() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let right = job(harness.module, "noop");
    // The module is in the cache of the worker then.
    harness.publish("one", &other_attempt(&right, 7)).await;
    harness.accepted().await;
    harness.publish_of(&OTHER, "one", &right).await;
    assert!(matches!(harness.next_of(&OTHER).await.0, Report::Signal(..)));
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
    harness.publish("one", &other_attempt(&right, 7)).await;
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
    let second = other_attempt(&first, 2);
    for proof in [Seal::NONE, OTHER.call_key(&first.call).interrupt_proof()] {
        harness.control_all(&Control::Interrupt { call: first.call.clone(), proof }).await;
        let withdrawn = WithdrawnCall { call: first.call.clone(), proof };
        harness.control_all(&Control::Withdraw(vec![withdrawn])).await;
    }
    // The same from an engine counts.
    harness.control_all(&withdraw([&second.call])).await;
    harness.publish("one", &second).await;
    assert_eq!(harness.answer_question(true).await, second.call);
    assert_eq!(harness.accepted().await.0, second.call);
    harness.publish("one", &first).await;
    assert_eq!(harness.accepted().await.0, first.call, "nobody is asked");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_job_waits_for_an_engine_that_answers() {
    let mut harness = Harness::new().await;
    harness.start_worker("one").await;
    let withdrawn = job(harness.module, "noop");
    harness.control_all(&withdraw([&withdrawn.call])).await;
    harness.publish("one", &withdrawn).await;
    // The engine is away for longer than a worker waits.
    let (report, _) = harness.next_of(&SECRET).await;
    assert_eq!(report, Report::AskStart { call: withdrawn.call.clone() });
    let (report, _) = harness.next_of(&SECRET).await;
    let (call, sending) = (withdrawn.call.clone(), SendingId::FIRST);
    assert_eq!(report, Report::NotStarted { call, redeliveries: 0, unanswered: 1, sending });
    // The engine sends the job again.
    harness.publish("one", &withdrawn).await;
    // The call is wanted again since then, so no result says otherwise.
    assert_eq!(harness.answer_question(true).await, withdrawn.call);
    match harness.next_of(&SECRET).await.0 {
        Report::Signal(signal, _) => {
            assert_eq!(signal.answer, TaskResult::Succeeded(Values::new()));
            assert!(!signal.redelivered, "nobody has executed it before");
        }
        other => panic!("{other:?}"),
    }
    harness.stop().await;
}
