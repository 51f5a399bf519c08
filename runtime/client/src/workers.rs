//! Finds the workers at a broker: pings all of them and collects answers for a while. Drains one of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker::{
    Binding, Broker, ConsumeError, Consumer, DeclareError, Destination, Message, Properties, PublishError, Queue,
    QueueKind, Routing,
};
use flow::{FlowName, GrantedPart, Namespace, WorkerName};
use protocol::{
    AskingTask, Control, DecodeError, DescribedWorker, DetailsQuestion, DrainAction, DrainRequest, GrantsAnswer,
    GrantsQuestion, MAX_DETAILS_BYTES, MAX_GRANTS_ANSWER_BYTES, MAX_STATUS_BYTES, Ping, WorkerDetails, WorkerStatus,
    topology,
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::warn;

/// The maximum number of answers to one ping, and their maximum size together, in bytes. Anybody with a worker's user may answer, as
/// often as they want.
const MAX_ANSWERS: usize = 10_000;
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The maximum memory for the answers to one question: a queue or a call of an answer takes far more than its bytes.
const MAX_ANSWER_MEMORY: usize = 64 << 20;

/// About the memory of one queue and of one call of an answer beside its bytes, also as JSON.
const QUEUE_MEMORY: usize = 128;
const CALL_MEMORY: usize = 512;

/// The maximum number of answers that are fetched and not read yet.
const PREFETCH: u16 = 32;

/// How long the broker has to take a question. One that is away for longer must not get it later: nobody waits for the answers any
/// more, and a worker would be drained after its operator has given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why workers could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkersError {
    /// The reply queue could not be declared.
    #[error("could not declare a queue for the workers' answers")]
    Declare(#[from] DeclareError),
    /// The reply queue could not be consumed.
    #[error("could not consume the workers' answers")]
    Consume(#[from] ConsumeError),
    /// The question could not be published.
    #[error("could not send a question to the workers")]
    Ping(#[from] PublishError),
    /// The broker has not answered: the connection to it may be lost.
    #[error("the broker has not taken a question to the workers within {seconds} seconds")]
    Silent {
        /// How long it had for that, in seconds.
        seconds: u64,
    },
}

/// Pings all workers and collects answers for the duration `reply_timeout`. Dropping the future is safe: the queue for the answers
/// is deleted at the end of that time.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn workers(broker: Arc<dyn Broker>, reply_timeout: Duration) -> Result<Vec<WorkerStatus>, WorkersError> {
    ensure_exchanges(&*broker).await?;
    Ok(ask_workers(broker, reply_timeout).await?.workers)
}

/// The result of a ping to all workers.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AskedWorkers {
    /// The workers that answered.
    pub workers: Vec<WorkerStatus>,
    /// The number of unreadable answers, which come from other versions, or are too large.
    pub unreadable: usize,
    /// Whether more workers have answered than are listed: 10,000, or fewer with 16 MiB, or with hundreds of thousands of queues.
    pub is_cut: bool,
}

/// Like [`workers`], for a caller that must leave nothing behind at the broker. If no waft has declared its exchanges there
/// yet, the ping fails.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn ask_workers(broker: Arc<dyn Broker>, reply_timeout: Duration) -> Result<AskedWorkers, WorkersError> {
    let ping = |reply_to| Control::Ping(Ping { reply_to });
    let answers = ask(broker, reply_timeout, ping, |_: &WorkerStatus| false).await?;
    let Answers { answers: workers, unreadable, is_cut } = answers;
    Ok(AskedWorkers { workers, unreadable, is_cut })
}

/// Asks all workers for their status and their details, and collects the answers for the duration `reply_timeout`. Of the calls,
/// only those of a namespace are listed, if one is given. Dropping the future is safe, as for [`workers`].
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn describe_workers(
    broker: Arc<dyn Broker>,
    namespace: Option<&Namespace>,
    reply_timeout: Duration,
) -> Result<Vec<DescribedWorker>, WorkersError> {
    ensure_exchanges(&*broker).await?;
    let (asked, details) = tokio::try_join!(
        ask_workers(broker.clone(), reply_timeout),
        ask_details(broker, namespace.cloned(), reply_timeout)
    )?;
    let key = |details: WorkerDetails| ((details.name.clone(), details.instance.clone()), details);
    let mut details: HashMap<_, _> = details.into_iter().map(key).collect();
    let described = asked.workers.into_iter().map(|status| {
        let details = details.remove(&(status.name.clone(), status.instance.clone()));
        DescribedWorker { status, details }
    });
    Ok(described.collect())
}

/// Asks all workers for their details, as [`describe_workers`] does, for a caller that must leave nothing behind at the broker.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn ask_details(
    broker: Arc<dyn Broker>,
    namespace: Option<Namespace>,
    reply_timeout: Duration,
) -> Result<Vec<WorkerDetails>, WorkersError> {
    let question = move |reply_to| Control::Details(DetailsQuestion { reply_to, namespace });
    Ok(ask(broker, reply_timeout, question, |_: &WorkerDetails| false).await?.answers)
}

/// Tells a worker whether to take jobs, and waits for its answer for at most the duration `reply_timeout`. `None` if it has not
/// answered: there is no such worker, it is of an earlier version, or it follows the request later. Dropping the future is safe,
/// as for [`workers`], and does not take back the request.
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn drain_worker(
    broker: Arc<dyn Broker>,
    worker: &WorkerName,
    action: DrainAction,
    reply_timeout: Duration,
) -> Result<Option<WorkerDetails>, WorkersError> {
    ensure_exchanges(&*broker).await?;
    let (told, asked) = (worker.clone(), worker.clone());
    let request = move |reply_to| Control::Drain(DrainRequest { reply_to, worker: told, action });
    let is_last = move |details: &WorkerDetails| details.name == asked;
    let answers = ask(broker, reply_timeout, request, is_last).await?;
    Ok(answers.answers.into_iter().find(|details| details.name == *worker))
}

/// Asks all workers how much they grant of what the tasks of a flow ask for, and collects answers for the duration
/// `reply_timeout`. Dropping the future is safe, as for [`workers`].
///
/// # Errors
/// [`WorkersError`] when the broker refuses something.
pub async fn ask_grants(
    broker: Arc<dyn Broker>,
    flow: &FlowName,
    tasks: &[AskingTask],
    reply_timeout: Duration,
) -> Result<Vec<GrantsAnswer>, WorkersError> {
    ensure_exchanges(&*broker).await?;
    let (flow, asking) = (flow.clone(), tasks.to_vec());
    let question = move |reply_to| Control::ExplainGrants(GrantsQuestion { reply_to, flow, tasks: asking });
    let answers = ask(broker, reply_timeout, question, |_: &GrantsAnswer| false).await?;
    // Whatever another answer is, it is none to this question.
    let shape: Vec<usize> = tasks.iter().map(|task| task.access.parts().count()).collect();
    let fits = |answer: &GrantsAnswer| answer.tasks.iter().map(Vec::len).eq(shape.iter().copied());
    Ok(answers.answers.into_iter().filter(fits).collect())
}

/// Makes sure that the shared exchanges exist.
async fn ensure_exchanges(broker: &dyn Broker) -> Result<(), WorkersError> {
    within_time(broker::topology::ensure_shared(broker)).await?.map_err(WorkersError::from)
}

/// Waits for the broker, but not for longer than [`SEND_TIMEOUT`].
async fn within_time<Output>(work: impl Future<Output = Output>) -> Result<Output, WorkersError> {
    timeout(SEND_TIMEOUT, work).await.map_err(|_| WorkersError::Silent { seconds: SEND_TIMEOUT.as_secs() })
}

/// The answers to a question to all workers.
struct Answers<A> {
    answers: Vec<A>,
    unreadable: usize,
    is_cut: bool,
}

/// The answer of a worker to a question. Whoever has a worker's user may have made it up.
trait Answer: Sized + Send + 'static {
    /// The maximum size of an answer, in bytes.
    const MAX_BYTES: usize;

    /// Decodes an answer.
    fn read(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// About how much memory the answer takes beside its bytes.
    fn memory(&self) -> usize;
}

impl Answer for WorkerStatus {
    const MAX_BYTES: usize = MAX_STATUS_BYTES;

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn memory(&self) -> usize {
        self.queues.len() * QUEUE_MEMORY
    }
}

impl Answer for WorkerDetails {
    const MAX_BYTES: usize = MAX_DETAILS_BYTES;

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn memory(&self) -> usize {
        self.own_slots.len() * QUEUE_MEMORY + self.calls.listed.len() * CALL_MEMORY
    }
}

impl Answer for GrantsAnswer {
    const MAX_BYTES: usize = MAX_GRANTS_ANSWER_BYTES;

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn memory(&self) -> usize {
        self.queues.len() * QUEUE_MEMORY + self.tasks.len() * size_of::<Vec<GrantedPart>>()
    }
}

/// Asks all workers, and collects their answers: for the duration `reply_timeout`, or until one is the last that is waited for.
async fn ask<A: Answer>(
    broker: Arc<dyn Broker>,
    reply_timeout: Duration,
    question: impl FnOnce(String) -> Control + Send + 'static,
    is_last: impl Fn(&A) -> bool + Send + 'static,
) -> Result<Answers<A>, WorkersError> {
    // A task of its own: if this future is dropped, the queue is deleted all the same. It would stay as long as the connection.
    let asking = TaskTracker::new().spawn(async move {
        let reply_to = topology::reply_queue(&uuid::Uuid::now_v7().to_string());
        let answers = match within_time(send(&*broker, &reply_to, question)).await {
            Ok(Ok(received)) => Ok(collect(received, reply_timeout, is_last).await),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        let deleted = within_time(broker.delete_queue(&reply_to)).await;
        // The first error is the cause of the second one.
        let answers = answers?;
        deleted??;
        Ok(answers)
    });
    match asking.await {
        Ok(answers) => answers,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and nobody waits for the answers any more.
        Err(_) => std::future::pending().await,
    }
}

/// Declares a queue for the answers, and publishes a question. If it is dropped before the broker has the question, the broker gets none.
async fn send(
    broker: &dyn Broker,
    reply_to: &str,
    question: impl FnOnce(String) -> Control,
) -> Result<Consumer, WorkersError> {
    broker.declare_queue(&Queue { name: reply_to.to_owned(), kind: QueueKind::Private }).await?;
    let to = Destination::Queue(reply_to.to_owned());
    broker.bind(&Binding { exchange: topology::STATUS.into(), key: reply_to.to_owned(), to }).await?;
    let received = broker.consume(reply_to, PREFETCH).await?;
    let message = Message {
        exchange: topology::CONTROL.into(),
        key: String::new(),
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties::default(),
        body: question(reply_to.to_owned()).encode().into(),
    };
    match broker.publish(message).await {
        // A worker that wants no questions cannot keep others from answering.
        Ok(()) | Err(PublishError::Rejected { .. }) => Ok(received),
        Err(error) => Err(error.into()),
    }
}

/// Collects the answers to a question.
async fn collect<A: Answer>(
    mut received: Consumer,
    reply_timeout: Duration,
    is_last: impl Fn(&A) -> bool,
) -> Answers<A> {
    let deadline = Instant::now() + reply_timeout;
    let mut result = Answers { answers: Vec::new(), unreadable: 0, is_cut: false };
    let (mut bytes, mut memory) = (0, 0);
    while let Ok(Some(delivery)) = timeout_at(deadline, received.next()).await {
        if delivery.message.exchange != topology::STATUS {
            delivery.accept();
            continue;
        }
        bytes += delivery.message.body.len().min(A::MAX_BYTES);
        let has_space = bytes <= MAX_ANSWER_BYTES && memory <= MAX_ANSWER_MEMORY;
        if result.answers.len() + result.unreadable >= MAX_ANSWERS || !has_space {
            warn!(listed = result.answers.len(), "more workers have answered than can be listed");
            result.is_cut = true;
            break;
        }
        match A::read(&delivery.message.body) {
            Ok(answer) => {
                let is_last = is_last(&answer);
                memory += answer.memory();
                result.answers.push(answer);
                if is_last {
                    delivery.accept();
                    break;
                }
            }
            // An unreadable answer of another version must not lose the other answers. Whoever sends thousands does not fill the log.
            Err(error) => {
                if result.unreadable == 0 {
                    warn!(%error, "a worker of another version has answered: it is not listed, and neither are others like it");
                }
                result.unreadable += 1;
            }
        }
        delivery.accept();
    }
    result
}

#[cfg(test)]
mod tests {
    use broker::{Exchange, ExchangeKind, InProcess, lossy::LossyConnection};

    use super::*;

    /// The answer of a worker to a ping, as it arrives through an exchange.
    fn answer(exchange: &str, reply_to: &str, name: &str, queues: usize) -> Message {
        let status = WorkerStatus {
            name: name.parse().unwrap(),
            instance: "1".into(),
            host: "here".into(),
            process: 1,
            slots: 1,
            busy: 0,
            queues: vec!["q".parse().unwrap(); queues],
            version: "1".into(),
        };
        Message {
            exchange: exchange.into(),
            key: reply_to.into(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties::default(),
            body: status.encode().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_question_leaves_no_queue() {
        let broker = InProcess::new();
        broker::topology::declare_shared(&broker).await.unwrap();
        let queue = "waft.control.played";
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Exclusive }).await.unwrap();
        let to = Destination::Queue(queue.into());
        broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await.unwrap();
        let mut pings = broker.consume(queue, 1).await.unwrap();
        let reply_to = tokio::select! {
            _ = ask_workers(Arc::new(broker.clone()), Duration::from_secs(1)) => panic!("nobody answers"),
            ping = pings.next() => match Control::decode(&ping.unwrap().message.body) {
                Ok(Control::Ping(Ping { reply_to })) => reply_to,
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(broker.waiting(&reply_to).await.unwrap(), Some(0));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(broker.waiting(&reply_to).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_arrives_through_another_exchange_is_no_worker() {
        let broker = InProcess::new();
        broker::topology::declare_shared(&broker).await.unwrap();
        let queue = "waft.control.played";
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Private }).await.unwrap();
        let to = Destination::Queue(queue.into());
        broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await.unwrap();
        let mut pings = broker.consume(queue, 1).await.unwrap();
        let answering = async {
            let ping = pings.next().await.unwrap();
            let Ok(Control::Ping(Ping { reply_to })) = Control::decode(&ping.message.body) else { panic!("a ping") };
            // A message keeps the exchange that it was published to.
            let around = Exchange { name: "around".into(), kind: ExchangeKind::Direct };
            broker.declare_exchange(&around).await.unwrap();
            let to = Destination::Exchange(topology::STATUS.into());
            broker.bind(&Binding { exchange: around.name.clone(), key: reply_to.clone(), to }).await.unwrap();
            for (exchange, name) in [(&*around.name, "forged"), (topology::STATUS, "ovens")] {
                broker.publish(answer(exchange, &reply_to, name, 0)).await.unwrap();
            }
        };
        let (asked, ()) = tokio::join!(ask_workers(Arc::new(broker.connect()), Duration::from_secs(1)), answering);
        let AskedWorkers { workers, unreadable, .. } = asked.unwrap();
        let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!((names, unreadable), (vec!["ovens"], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_not_sent_after_its_sender_has_given_up() {
        let broker = InProcess::new();
        broker::topology::declare_shared(&broker).await.unwrap();
        let queue = "waft.control.played";
        broker.declare_queue(&Queue { name: queue.into(), kind: QueueKind::Private }).await.unwrap();
        let to = Destination::Queue(queue.into());
        broker.bind(&Binding { exchange: topology::CONTROL.into(), key: String::new(), to }).await.unwrap();
        let away = LossyConnection::to(&broker);
        away.set_slow(topology::STATUS, 6 * SEND_TIMEOUT);
        let (away, worker) = (Arc::new(away), "one".parse().unwrap());
        let asked = ask_details(away.clone(), None, Duration::from_secs(1)).await;
        assert!(matches!(asked, Err(WorkersError::Silent { .. })), "{asked:?}");
        let drained = drain_worker(away, &worker, DrainAction::Drain, Duration::from_secs(1)).await;
        assert!(matches!(drained, Err(WorkersError::Silent { .. })), "{drained:?}");
        tokio::time::sleep(20 * SEND_TIMEOUT).await;
        assert_eq!(broker.waiting(queue).await.unwrap(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_with_many_queues_are_cut() {
        let broker = InProcess::new();
        broker::topology::declare_shared(&broker).await.unwrap();
        let reply_to = topology::reply_queue("asked");
        broker.declare_queue(&Queue { name: reply_to.clone(), kind: QueueKind::Private }).await.unwrap();
        let to = Destination::Queue(reply_to.clone());
        broker.bind(&Binding { exchange: topology::STATUS.into(), key: reply_to.clone(), to }).await.unwrap();
        let received = broker.consume(&reply_to, PREFETCH).await.unwrap();
        for _ in 0..30 {
            broker.publish(answer(topology::STATUS, &reply_to, "forged", 20_000)).await.unwrap();
        }
        let Answers { answers, unreadable, is_cut } =
            collect(received, Duration::from_secs(1), |_: &WorkerStatus| false).await;
        assert!(is_cut && unreadable == 0 && (20..30).contains(&answers.len()), "{} are listed", answers.len());
    }
}
