//! What a flow would be granted: the server asks its workers, which have the grants.
//!
//! A sender learns how many workers of a queue grant what its flow asks for, and nothing else of their grants.

use std::time::Duration;

use api::{AskingTask, ExplainedPart, ExplainedTask, GrantsExplanation, GrantsQuestion};
use axum::{Extension, Json, extract::State};
use flow::{Access, Digest, FlowName, GrantedPart, Grants, Namespace, NodeName, QueueName, file::parse_access};
use protocol::{GrantsAnswer, MAX_ASKED_PARTS};

use crate::{auth::namespace::CallerNamespace, extract, problem::Problem, state::Shared};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// A task of a question, and its queue.
struct Asking {
    queue: QueueName,
    task: protocol::AskingTask,
}

/// Explains how much the workers grant of what the tasks of a flow ask for.
///
/// It starts nothing. The answer counts the workers that take jobs from the queue of each task.
#[utoipa::path(post, operation_id = "explain_grants", path = "/v1/grants/explain", tag = "workers", request_body = GrantsQuestion, responses(
    (status = 200, description = "How much is granted", body = GrantsExplanation),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn explain(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    extract::Json(question): extract::Json<GrantsQuestion>,
) -> Result<Json<GrantsExplanation>, Problem> {
    let namespace = namespace.as_ref();
    let flow = within(namespace, &question.flow, "flow", FlowName::within, FlowName::namespace)?;
    let tasks = question.tasks.iter().map(|task| parse(task, namespace)).collect::<Result<Vec<Asking>, _>>()?;
    let asked: usize = tasks.iter().map(|asking| asking.task.access.parts().count().max(1)).sum();
    if asked > MAX_ASKED_PARTS {
        let detail = format!("the tasks ask for {asked} things, and {MAX_ASKED_PARTS} are allowed");
        return Err(Problem::bad_request(detail));
    }
    let asking: Vec<protocol::AskingTask> = tasks.iter().map(|asking| asking.task.clone()).collect();
    let answers = client::ask_grants(state.dependencies.broker.clone(), &flow, &asking, REPLY_TIMEOUT).await;
    let answers = answers.map_err(|error| Problem::internal(&error))?;
    let explained = tasks.iter().enumerate().map(|(index, asking)| explained(&flow, asking, index, &answers));
    Ok(Json(GrantsExplanation { tasks: explained.collect() }))
}

/// Parses a task of a sender that may be limited to a namespace.
fn parse(
    AskingTask { task, queue, module, allow }: &AskingTask,
    limited_to: Option<&Namespace>,
) -> Result<Asking, Problem> {
    let refused = |key: &str, error: String| Problem::bad_request(format!("{key}: {error}"));
    let queue = within(limited_to, queue, "queue", QueueName::within, QueueName::namespace)?;
    let access = parse_access(allow).map_err(|diagnostics| {
        refused("allow", diagnostics.first().map_or_else(String::new, |diagnostic| diagnostic.message.clone()))
    })?;
    let task = NodeName::new(task).map_err(|error| refused("task", error.to_string()))?;
    let module: Digest =
        module.parse().map_err(|error: flow::invalid::InvalidDigest| refused("module", error.to_string()))?;
    Ok(Asking { queue, task: protocol::AskingTask { task, module, access } })
}

/// Parses a name of a sender that may be limited to a namespace.
fn within<Name: std::str::FromStr<Err: ToString>>(
    limited_to: Option<&Namespace>,
    text: &str,
    key: &str,
    within: fn(&Name, Option<&Namespace>) -> Result<Name, flow::invalid::InvalidName>,
    namespace: fn(&Name) -> Option<Namespace>,
) -> Result<Name, Problem> {
    let name: Name =
        text.parse().map_err(|error: Name::Err| Problem::bad_request(format!("{key}: {}", error.to_string())))?;
    let Some(limited_to) = limited_to else { return Ok(name) };
    let name = within(&name, Some(limited_to)).map_err(|error| Problem::bad_request(format!("{key}: {error}")))?;
    if namespace(&name).as_ref() == Some(limited_to) {
        return Ok(name);
    }
    let detail = format!("the {key} {text} is not in the namespace {limited_to}, to which the token is limited");
    Err(Problem::forbidden(detail).hint("name it without a namespace"))
}

/// Counts the answers of the workers of a task's queue.
fn explained(
    flow: &FlowName,
    Asking { queue, task }: &Asking,
    index: usize,
    answers: &[GrantsAnswer],
) -> ExplainedTask {
    let of_queue: Vec<&GrantsAnswer> = answers.iter().filter(|answer| answer.queues.contains(queue)).collect();
    let words = |access: &Access| {
        let nothing = Grants::default().of_call(access, flow, &task.task, &task.module);
        nothing.granted_parts().into_iter().map(|(what, _)| what).collect::<Vec<_>>().join(", ")
    };
    let part = |(number, access): (usize, Access)| {
        let count = |wanted| {
            let fits = |answer: &&&GrantsAnswer| answer.tasks[index][number] == wanted;
            u32::try_from(of_queue.iter().filter(fits).count()).unwrap_or(u32::MAX)
        };
        let [all, some, none] = [GrantedPart::All, GrantedPart::Some, GrantedPart::None].map(count);
        ExplainedPart { what: words(&access), all, some, none }
    };
    ExplainedTask {
        task: task.task.to_string(),
        queue: queue.to_string(),
        workers: u32::try_from(of_queue.len()).unwrap_or(u32::MAX),
        asked: task.access.parts().enumerate().map(part).collect(),
    }
}
