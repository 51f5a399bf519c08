//! Lists the workers, and drains one of them.
//!
//! A sender that is limited to a namespace sees the workers that take its jobs or make its calls: its own queues and calls, and only the
//! number of all others. The workers are asked once for all senders, and each gets its part of what they have answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use api::{self, DrainOptions, Worker, WorkerStateResponse, Workers};
use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};
use broker::Broker;
use flow::{Namespace, QueueName, WorkerName};
use protocol::{DescribedWorker, DrainAction, WorkerDetails};
use sandbox::{Owner, Permits};

use crate::{
    QueueCoverage,
    auth::{client::Client, namespace::CallerNamespace, permission::Permission},
    extract::{self, Named},
    problem::Problem,
    shared_answers::SharedAnswers,
    state::{self, Shared},
    turns,
};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a worker has to answer a request to drain or to resume.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of questions to all workers that are asked at the same time. The answers to each are in memory.
pub(crate) const MAX_LISTS_AT_ONCE: usize = 4;

/// Number of requests to drain or to resume a worker at the same time. Each has a queue for its answers, some seconds, and memory for answers of
/// anybody with a worker's user. An owner has at most all but one.
const MAX_DRAIN_REQUESTS: usize = 8;

static DRAIN_REQUESTS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_DRAIN_REQUESTS, usize::MAX));

/// What workers have answered, about the calls of all namespaces, or of one.
pub(crate) type WorkerLists = SharedAnswers<Owner, AnsweredWorkers>;

/// What workers have answered. Senders see parts of it.
#[derive(Clone)]
pub(crate) struct AnsweredWorkers(Arc<Vec<DescribedWorker>>);

/// Lists the workers that answer within a second, with the calls that they make.
///
/// For a token that is limited to a namespace, these are the workers that take jobs from its queues or make its calls.
#[utoipa::path(get, operation_id = "list_workers", path = "/v1/workers", tag = "workers", responses(
    (status = 200, description = "The workers, in order of name", body = Workers),
    (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
) -> Result<Response, Problem> {
    let answered = describe(&state, namespace.clone()).await?;
    let owner = namespace.clone();
    // Workers may have answered with many calls, and a slow reader leaves them in memory.
    turns::in_turn_to_answer(owner, move || {
        let json = serde_json::to_vec(&answered.shown(namespace.as_ref())).expect("strings are JSON");
        drop(answered);
        state.large_answers.json(permission.sender(), json)
    })
    .await
}

/// The queues that workers take jobs from, each with the number of workers, as a sender sees them that may be limited to a namespace.
pub(crate) async fn served_queues(
    state: &state::State,
    namespace: Option<Namespace>,
) -> Result<BTreeMap<QueueName, u64>, Problem> {
    let answered = describe(state, namespace.clone()).await?;
    Ok(turns::in_turn_to_answer(namespace.clone(), move || answered.queues(namespace.as_ref())).await)
}

/// Asks the workers for their status and details, for a sender that may be limited to a namespace: once for all senders. If a worker makes
/// too many calls to list all of them, only those of the namespace are asked for, so that those of others hide none.
async fn describe(state: &state::State, namespace: Option<Namespace>) -> Result<AnsweredWorkers, Problem> {
    let of_all = ask(state, None, namespace.clone()).await?;
    if namespace.is_none() || of_all.has_all_calls() {
        return Ok(of_all);
    }
    ask(state, namespace.clone(), namespace).await
}

/// Asks the workers about the calls of all namespaces, or of one, when it is the turn of the sender.
async fn ask(state: &state::State, calls_of: Option<Namespace>, sender: Owner) -> Result<AnsweredWorkers, Problem> {
    let (broker, of) = (state.dependencies.broker.clone(), calls_of.clone());
    let asking = async move {
        let described = client::describe_workers(broker, of.as_ref(), REPLY_TIMEOUT).await;
        Ok::<_, Problem>(AnsweredWorkers(Arc::new(described.map_err(|error| Problem::internal(&error))?)))
    };
    state.worker_lists.get(calls_of, sender, asking).await
}

impl AnsweredWorkers {
    /// Whether each worker has listed all the calls that it was asked for.
    fn has_all_calls(&self) -> bool {
        let mut details = self.0.iter().filter_map(|worker| worker.details.as_ref());
        details.all(|details| details.calls.unlisted == 0)
    }

    /// The workers that a sender sees, in order of name.
    fn shown(&self, namespace: Option<&Namespace>) -> Workers {
        let mut workers: Vec<Worker> = match namespace {
            Some(namespace) => self.0.iter().filter_map(|worker| within(worker.clone(), namespace)).collect(),
            None => self.0.iter().map(Worker::from).collect(),
        };
        workers.sort_by(|one, other| one.name.cmp(&other.name));
        Workers { workers }
    }

    /// The queues that a sender sees, each with the number of workers.
    fn queues(&self, namespace: Option<&Namespace>) -> BTreeMap<QueueName, u64> {
        let mut queues = BTreeMap::<QueueName, u64>::new();
        for worker in &*self.0 {
            let is_seen = |queue: &&QueueName| namespace.is_none() || queue.namespace().as_ref() == namespace;
            let named: BTreeSet<&QueueName> = worker.status.queues.iter().filter(is_seen).collect();
            named.into_iter().for_each(|queue| *queues.entry(queue.clone()).or_default() += 1);
        }
        queues
    }
}

/// What a sender that is limited to a namespace sees of a worker; `None` for a worker that does nothing for it.
fn within(mut worker: DescribedWorker, namespace: &Namespace) -> Option<Worker> {
    let is_own = |queue: &QueueName| queue.namespace().as_ref() == Some(namespace);
    worker.status.queues.retain(is_own);
    if let Some(details) = &mut worker.details {
        details.own_slots.retain(|queue, _| is_own(queue));
        let calls = &mut details.calls;
        let listed = calls.listed.len();
        calls.listed.retain(|call| call.flow.namespace().as_ref() == Some(namespace));
        let others = u32::try_from(listed - calls.listed.len()).unwrap_or(u32::MAX);
        calls.of_others = calls.of_others.saturating_add(others);
    }
    let has_calls = worker.details.as_ref().is_some_and(|details| !details.calls.listed.is_empty());
    let is_shown = has_calls || !worker.status.queues.is_empty();
    is_shown.then(|| Worker { host: None, process: None, ..Worker::from(&worker) })
}

/// Tells a worker to take no new jobs.
///
/// It ends the calls that it has, and returns jobs that it has not begun. It stays until it is told to take jobs again, or ends; with
/// `exit`, it exits once its calls have ended. A worker that starts again takes jobs.
#[utoipa::path(post, operation_id = "drain_worker", path = "/v1/workers/{name}/drain", tag = "workers",
    params(("name" = String, Path, description = "The worker's name")), request_body = DrainOptions, responses(
        (status = 200, description = "The worker takes no new jobs", body = WorkerStateResponse),
        (status = 404, description = "No worker of that name has answered", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The worker is a part of the server, and cannot exit", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn drain(
    State(state): Shared,
    Named(name): Named,
    Extension(sender): Extension<Client>,
    extract::Json(DrainOptions { exit }): extract::Json<DrainOptions>,
) -> Result<Json<WorkerStateResponse>, Problem> {
    let is_embedded = match &state.dependencies.coverage {
        QueueCoverage::Embedded(_) => true,
        QueueCoverage::AnyWorker => false,
    };
    if exit && is_embedded {
        let detail = "the only worker of this server is a part of it, and the server would go on without a worker";
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", "the worker cannot exit", detail)
            .hint("drain it without exit, or stop the server"));
    }
    let action = if exit { DrainAction::DrainAndExit } else { DrainAction::Drain };
    tell(&state, &sender, &name, action).await.map(Json)
}

/// Tells a worker to take jobs again.
#[utoipa::path(post, operation_id = "resume_worker", path = "/v1/workers/{name}/resume", tag = "workers",
    params(("name" = String, Path, description = "The worker's name")), responses(
        (status = 200, description = "The worker takes jobs", body = WorkerStateResponse),
        (status = 404, description = "No worker of that name has answered", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The worker exits", body = api::Problem, content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn resume(
    State(state): Shared,
    Named(name): Named,
    Extension(sender): Extension<Client>,
) -> Result<Json<WorkerStateResponse>, Problem> {
    let response = tell(&state, &sender, &name, DrainAction::Resume).await?;
    if response.state == api::WorkerState::Exiting {
        let detail = format!("{name} exits once its calls have ended: an earlier request says so");
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", "the worker exits", detail)
            .hint("start the worker again after it has exited: it takes jobs then"));
    }
    Ok(Json(response))
}

/// Tells a worker whether to take jobs, and waits for its answer.
async fn tell(
    state: &state::State,
    sender: &Client,
    name: &str,
    action: DrainAction,
) -> Result<WorkerStateResponse, Problem> {
    let worker = WorkerName::new(name).map_err(|error| Problem::bad_request(error.to_string()))?;
    let answered = tell_in_turn(state.dependencies.broker.clone(), sender, &worker, action).await;
    // A list shows the new state, also one that is asked for at once.
    state.worker_lists.forget();
    let Some(details) = answered? else {
        let detail = format!("{worker} has not answered within {} seconds", DRAIN_TIMEOUT.as_secs());
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-worker", "no worker of that name answers", detail)
            .hint(
                "`waft workers` or GET /v1/workers shows the workers, and whether one has done it late; one without a state is of an \
                 earlier version",
            ));
    };
    Ok(WorkerStateResponse {
        worker: worker.to_string(),
        state: details.state.as_str().into(),
        busy: details.calls.count(),
    })
}

/// Tells a worker whether to take jobs, when it is the turn of the sender, who may leave before. Returns its answer, if there is one in time.
async fn tell_in_turn(
    broker: Arc<dyn Broker>,
    sender: &Client,
    worker: &WorkerName,
    action: DrainAction,
) -> Result<Option<WorkerDetails>, Problem> {
    // Workers are of the whole server, and so are these senders.
    let turn = async { Ok::<_, Problem>(DRAIN_REQUESTS.acquire(None).await.expect("any number of requests may wait")) };
    let _turn = sender.while_present(turn).await?;
    let answered = client::drain_worker(broker, worker, action, DRAIN_TIMEOUT).await;
    answered.map_err(|error| Problem::internal(&error))
}

#[cfg(test)]
mod tests {
    use broker::InProcess;
    use flow::{Action, Attempt, CallId, Firing};
    use futures::future::join_all;
    use protocol::{WorkerCall, WorkerCalls, WorkerState, WorkerStatus};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_workers_are_told_something_at_the_same_time() {
        let ((sender, _present), began) = (Client::new(), Instant::now());
        let broker: Arc<dyn Broker> = Arc::new(InProcess::new());
        let worker: WorkerName = "w".parse().unwrap();
        let tell = || tell_in_turn(broker.clone(), &sender, &worker, DrainAction::Drain);
        // Each waits for the answer of a worker that is not there.
        let answers = join_all((0..2 * MAX_DRAIN_REQUESTS).map(|_| tell())).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.is_none())));
        assert!(began.elapsed() >= 3 * DRAIN_TIMEOUT, "an owner has seven turns: {:?}", began.elapsed());
    }

    fn call(flow: &str) -> WorkerCall {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        WorkerCall { flow: flow.parse().unwrap(), call, running_for: Duration::from_secs(1) }
    }

    fn worker(queues: &[&str], calls: &[&str]) -> DescribedWorker {
        let status = WorkerStatus {
            name: "w".parse().unwrap(),
            instance: "1".into(),
            host: "h".into(),
            process: 1,
            slots: 4,
            busy: 3,
            queues: queues.iter().map(|queue| queue.parse().unwrap()).collect(),
            version: "1".into(),
        };
        let listed = calls.iter().map(|flow| call(flow)).collect();
        let details = WorkerDetails {
            name: "w".parse().unwrap(),
            instance: "1".into(),
            state: WorkerState::Draining,
            own_slots: queues.iter().map(|queue| (queue.parse().unwrap(), 2)).collect(),
            calls: WorkerCalls { listed, unlisted: 0, of_others: 2 },
        };
        DescribedWorker { status, details: Some(details) }
    }

    #[test]
    fn a_list_counts_the_workers_of_each_queue_that_its_reader_sees() {
        let shop: Namespace = "shop".parse().unwrap();
        let described = vec![worker(&["default", "shop/q", "shop/q"], &[]), worker(&["shop/q", "other/q"], &[])];
        let answered = AnsweredWorkers(Arc::new(described));
        let counted = |namespace| {
            let queues = answered.queues(namespace);
            queues.iter().map(|(queue, workers)| format!("{queue}={workers}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(counted(None), "default=1 other/q=1 shop/q=2");
        assert_eq!(counted(Some(&shop)), "shop/q=2");
    }

    #[test]
    fn workers_that_could_not_list_all_calls_are_asked_for_those_of_a_namespace() {
        let mut one = worker(&["default"], &["other/f"]);
        assert!(AnsweredWorkers(Arc::new(vec![one.clone(), worker(&["default"], &[])])).has_all_calls());
        let details = one.details.as_mut().unwrap();
        details.calls.unlisted = 1;
        assert!(!AnsweredWorkers(Arc::new(vec![worker(&["default"], &[]), one])).has_all_calls());
    }

    #[test]
    fn a_namespace_sees_only_its_part_of_a_worker() {
        let shop: Namespace = "shop".parse().unwrap();
        let shown = |queues: &[&str], calls: &[&str]| within(worker(queues, calls), &shop);
        assert!(shown(&["default", "other/q"], &["other/f", "f"]).is_none());
        let seen = shown(&["default", "shop/default"], &["other/f", "shop/f"]).unwrap();
        assert_eq!((seen.host, seen.process, seen.queues), (None, None, vec!["shop/default".to_owned()]));
        assert_eq!(seen.own_slots, [("shop/default".to_owned(), 2)].into());
        let flows: Vec<&str> = seen.calls.iter().map(|call| call.flow.as_str()).collect();
        assert_eq!((flows, seen.other_calls, seen.busy), (vec!["shop/f"], 3, 3), "the call of another one is counted");
        assert_eq!(seen.state, Some(api::WorkerState::Draining));
        assert!(shown(&["default"], &["shop/f"]).is_some(), "it ends a call of a queue that it no longer has");
    }
}
