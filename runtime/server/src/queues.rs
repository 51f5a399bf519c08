//! Lists the queues of jobs. AMQP cannot list queues, so these are the known ones.

use std::{collections::BTreeMap, sync::Arc};

use api::{self, JobQueue, JobQueues, QueueState, QueuesQuery};
use axum::{Extension, extract::State, response::Response};
use broker::{Broker, DeclareError};
use bytes::Bytes;
use flow::{Namespace, QueueName};
use futures::{StreamExt as _, stream};
use protocol::topology;
use sandbox::Owner;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::Query,
    problem::{Problem, chain},
    shared_answers::SharedAnswers,
    state::{self, Shared},
    workers::served_queues,
};

/// The maximum number of queues of a page: each is asked for.
const MAX_QUEUES: usize = 200;

/// The default number of queues of a page.
const DEFAULT_QUEUES: usize = 100;

/// The time limit of all questions of a page together.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The time limit of the questions about one queue, so that one without a leader delays the others little.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of concurrent questions of a page. A connection allows 16, and those of the engine must not wait for pages.
const MAX_CONCURRENT: usize = 2;

/// Number of pages for which the broker is asked at the same time. An owner has at most one.
pub(crate) const MAX_PAGES_AT_ONCE: usize = 2;

/// The pages of queues, as JSON.
pub(crate) type QueuePages = SharedAnswers<WantedQueues, Bytes>;

/// Which queues a page has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WantedQueues {
    /// The namespace that the sender is limited to: it decides which queues are known.
    limited_to: Owner,
    namespace: Option<Namespace>,
    queue: Option<QueueName>,
    after: Option<QueueName>,
    limit: usize,
}

impl WantedQueues {
    fn has(&self, queue: &QueueName) -> bool {
        self.queue.as_ref().is_none_or(|wanted| wanted == queue)
            && self.namespace.as_ref().is_none_or(|namespace| queue.namespace().as_ref() == Some(namespace))
            && self.after.as_ref().is_none_or(|after| queue > after)
    }
}

/// Lists the known queues of jobs, in order of name.
#[utoipa::path(get, operation_id = "list_queues", path = "/v1/queues", tag = "workers", params(QueuesQuery), responses(
    (status = 200, description = "A page of queues", body = JobQueues),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    Query(mut query): Query<QueuesQuery>,
) -> Result<Response, Problem> {
    caller.limit(&mut query.namespace)?;
    let QueuesQuery { queue, namespace, limit, after } = query;
    let limit = limit.unwrap_or(DEFAULT_QUEUES);
    if !(1..=MAX_QUEUES).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_QUEUES}")));
    }
    let namespace = namespace.map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let parse = |key: &str, name: String| {
        let name = QueueName::new(name).and_then(|name| name.within(namespace.as_ref()));
        name.map_err(|error| Problem::bad_request(format!("{key}: {error}")))
    };
    let queue = queue.map(|queue| parse("queue", queue)).transpose()?;
    let after = after.map(|after| parse("after", after)).transpose()?;
    let wanted = WantedQueues { limited_to: caller.0.clone(), namespace, queue, after, limit };
    let known = known(&state, &wanted).await?;
    let mut listed: Vec<(QueueName, u64)> = known.into_iter().filter(|(queue, _)| wanted.has(queue)).collect();
    let more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| more).map(|(queue, _)| queue.to_string());
    let broker = state.dependencies.broker.clone();
    let asking = async move {
        let page = JobQueues { queues: ask(&*broker, listed).await, next };
        Ok(Bytes::from(serde_json::to_vec(&page).expect("strings are JSON")))
    };
    let json = state.queue_pages.get(wanted, caller.0, asking).await?;
    state.large_answers.json(permission.sender(), json)
}

/// The known queues, each with the number of workers that name it.
async fn known(state: &state::State, wanted: &WantedQueues) -> Result<BTreeMap<QueueName, u64>, Problem> {
    let (dependencies, limited_to) = (&state.dependencies, wanted.limited_to.as_ref());
    let default = "default".parse::<QueueName>().and_then(|default| default.within(limited_to));
    let waiting = dependencies.engine.waiting_queues();
    let named = dependencies.locations.queues.iter().cloned().chain(default).chain(waiting).chain(wanted.queue.clone());
    let mut known: BTreeMap<QueueName, u64> = named.map(|queue| (queue, 0)).collect();
    known.extend(served_queues(state, wanted.limited_to.clone()).await?);
    Ok(known)
}

/// Asks the broker about queues.
async fn ask(broker: &dyn Broker, queues: Vec<(QueueName, u64)>) -> Vec<JobQueue> {
    let deadline = Instant::now() + TIMEOUT;
    // Collected first: a future that borrows from a closure's argument is not general enough to be sent between threads.
    let questions: Vec<_> = queues.into_iter().map(|queue| ask_about(broker, queue, deadline)).collect();
    stream::iter(questions).buffered(MAX_CONCURRENT).collect().await
}

async fn ask_about(broker: &dyn Broker, (queue, workers): (QueueName, u64), deadline: Instant) -> JobQueue {
    let name = topology::job_queue(&queue);
    let question = async {
        let Some(messages) = broker.waiting(&name).await? else { return Ok(None) };
        let consumers = broker.consumers(&name).await?;
        Ok::<_, DeclareError>(consumers.map(|consumers| (messages, consumers)))
    };
    let (state, numbers) = match timeout_at(deadline, timeout(QUEUE_TIMEOUT, question)).await {
        Ok(Ok(Ok(Some(numbers)))) => (QueueState::Exists, Some(numbers)),
        Ok(Ok(Ok(None))) => (QueueState::Missing, None),
        Ok(Ok(Err(DeclareError::TimedOut { .. })) | Err(_)) | Err(_) => (QueueState::Unanswered, None),
        Ok(Ok(Err(error))) => {
            tracing::warn!(queue = name, error = chain(&error), "the broker has refused a question about a queue");
            (QueueState::Refused, None)
        }
    };
    let (messages, consumers) = numbers.unzip();
    JobQueue { queue: queue.to_string(), state, messages, consumers, workers }
}

#[cfg(test)]
mod tests {
    use broker::{InProcess, lossy::LossyConnection, topology::declare_shared};

    use super::*;

    #[tokio::test]
    async fn a_queue_has_its_numbers_if_it_exists() {
        let broker = InProcess::new();
        declare_shared(&broker).await.unwrap();
        let [ovens, missing]: [QueueName; 2] = ["ovens", "missing"].map(|name| name.parse().unwrap());
        broker::topology::declare_jobs(&broker, &ovens).await.unwrap();
        let _consumer = broker.consume(&topology::job_queue(&ovens), 1).await.unwrap();
        let answers = ask(&broker, vec![(missing, 0), (ovens, 2)]).await;
        let shown = |queue: &JobQueue| {
            let JobQueue { queue, state, messages, consumers, workers } = queue;
            format!("{queue} {state} {messages:?} {consumers:?} {workers}")
        };
        let shown: Vec<String> = answers.iter().map(shown).collect();
        assert_eq!(shown, ["missing missing None None 0", "ovens exists Some(0) Some(1) 2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_without_an_answer_does_not_hide_the_others() {
        let memory = InProcess::new();
        declare_shared(&memory).await.unwrap();
        let [asked, silent]: [QueueName; 2] = ["asked", "silent"].map(|name| name.parse().unwrap());
        broker::topology::declare_jobs(&memory, &asked).await.unwrap();
        let broker = LossyConnection::to(&memory);
        broker.set_unresponsive(&topology::job_queue(&silent), true);
        let queues = [silent.clone(), silent, asked].map(|queue| (queue, 0)).to_vec();
        let began_at = Instant::now();
        let states: Vec<QueueState> = ask(&broker, queues).await.into_iter().map(|queue| queue.state).collect();
        assert_eq!(states, [QueueState::Unanswered, QueueState::Unanswered, QueueState::Exists]);
        assert!(began_at.elapsed() < TIMEOUT, "there is time left for more queues");
    }
}
