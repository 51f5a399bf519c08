//! Tests questions about grants, which take a worker time.

use std::{
    sync::{Mutex, PoisonError, atomic::AtomicBool, mpsc},
    time::Instant,
};

use flow::{Access, GrantedPart};
use protocol::{AskingTask, GrantsAnswer, GrantsQuestion, Ping, WorkerStatus};

use super::*;

/// Guests whose grants are compared for as long as the test wants.
struct SlowGrants {
    /// Receives a message for each question that is begun.
    begun: tokio::sync::mpsc::UnboundedSender<()>,
    /// Each question waits for a message.
    finish: Mutex<mpsc::Receiver<()>>,
    is_comparing: AtomicBool,
}

#[async_trait::async_trait]
impl GuestRunner for SlowGrants {
    async fn call(
        &self,
        _: &Job,
        _: CancellationToken,
        _: Arc<dyn sandbox::Observer>,
        _: Arc<dyn sandbox::CallSlot>,
    ) -> GuestResult {
        GuestResult::new(sandbox::Completion::Succeeded(Values::new()), CallLog::default())
    }

    fn interrupt_all(&self) {}

    fn granted_parts(&self, question: &GrantsQuestion) -> Vec<Vec<GrantedPart>> {
        assert!(!self.is_comparing.swap(true, Ordering::SeqCst), "one question at a time");
        self.begun.send(()).expect("the test waits");
        let _ = self.finish.lock().unwrap_or_else(PoisonError::into_inner).recv();
        self.is_comparing.store(false, Ordering::SeqCst);
        vec![vec![GrantedPart::All]; question.tasks.len()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_grants_delay_no_other_control_message() {
    let harness = Harness::new().await;
    let (begun_tx, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (finish, finished) = mpsc::channel();
    let guests = SlowGrants { begun: begun_tx, finish: Mutex::new(finished), is_comparing: AtomicBool::new(false) };
    let worker = Worker::connect(config("one"), harness.broker.clone(), Arc::new(guests)).await;
    let stop = harness.stop.clone();
    harness.tasks.spawn(worker.expect("it connects").run(stop.clone(), stop));
    let reply_to = topology::reply_queue("questions");
    let queue = Queue { name: reply_to.clone(), kind: QueueKind::Exclusive };
    broker::topology::declare_bound(&*harness.broker, &queue, &[topology::STATUS]).await.expect("it is new");
    let mut replies = harness.broker.consume(&reply_to, 16).await.expect("it is there");
    let mut next = async || {
        let delivery = tokio::time::timeout_at((Instant::now() + Duration::from_secs(60)).into(), replies.next()).await;
        let delivery = delivery.expect("the worker answers").expect("the broker is there");
        let body = delivery.message.body.clone();
        delivery.accept();
        body
    };
    let task = AskingTask {
        task: "t".parse().expect("a name"),
        module: harness.module,
        access: Access { clock: true, ..Access::default() },
    };
    let question = GrantsQuestion { reply_to: reply_to.clone(), flow: "f".parse().expect("a name"), tasks: vec![task] };
    let all_workers = || Destination::Exchange(topology::CONTROL.into());
    for _ in 0..3 {
        harness.control(all_workers(), &Control::ExplainGrants(question.clone())).await;
    }
    begun.recv().await.expect("it compares grants");
    harness.control(all_workers(), &Control::Ping(Ping { reply_to })).await;
    assert_eq!(WorkerStatus::decode(&next().await).expect("a status").name.as_str(), "one");
    for _ in 0..3 {
        finish.send(()).expect("it waits");
        let answer = GrantsAnswer::decode(&next().await).expect("an answer");
        assert_eq!(answer.tasks, [[GrantedPart::All]]);
    }
    harness.stop().await;
}
