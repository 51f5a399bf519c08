//! What a flow would be granted: the server asks its workers, which have the grants.
//!
//! A sender learns how many workers of a queue grant what its flow asks for, and nothing else of their grants.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use api::{AskingTask, ExplainedPart, ExplainedTask, GrantsExplanation, GrantsQuestion};
use axum::{
    Extension, Json,
    extract::{FromRequest as _, Request, State},
};
use broker::Broker;
use flow::{Digest, FlowName, GrantedPart, Namespace, NodeName, QueueName, file::parse_access};
use http_body::Body as _;
use protocol::{GrantsAnswer, MAX_ASKED_PARTS};
use sandbox::Permits;

use crate::{auth::namespace::CallerNamespace, extract, problem::Problem, state::Shared, turns};

/// How long workers have to answer. Workers answer at once unless they are starved.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum bytes of the `allow` of all tasks of a question together: more than the patterns and the arguments of real flows
/// have.
const MAX_ALLOW_BYTES: usize = 256 << 10;

/// The maximum bytes of a request: the tasks with all their `allow`, in JSON. A larger one is not parsed at all, since that would hold
/// up others.
const MAX_REQUEST_BYTES: u64 = 8 << 20;

/// Number of questions that the workers are asked at the same time: each worker compares each question with all its grants. An
/// owner has at most all but one. Those that wait are not counted: the memory for the bodies of requests bounds their number.
const MAX_ASKED_AT_ONCE: usize = 8;

static QUESTIONS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_ASKED_AT_ONCE, usize::MAX));

const FEWER_TASKS: &str = "ask about fewer tasks at once";

/// A question that the workers can be asked.
struct ParsedQuestion {
    /// With its namespace.
    flow: FlowName,
    tasks: Vec<TaskQuestion>,
}

/// A task of a question, and its queue.
struct TaskQuestion {
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
    request: Request,
) -> Result<Json<GrantsExplanation>, Problem> {
    // The body is there already, so its size is known.
    if request.body().size_hint().lower() > MAX_REQUEST_BYTES {
        let detail = format!("the question has more than {MAX_REQUEST_BYTES} bytes");
        return Err(Problem::bad_request(detail).hint(FEWER_TASKS));
    }
    let extract::Json(question) = extract::Json::<GrantsQuestion>::from_request(request, &()).await?;
    check_size(&question)?;
    let limited_to = namespace.clone();
    let question = turns::in_turn(namespace.clone(), move || parse(&question, limited_to.as_ref())).await?;
    let answers = ask(state.dependencies.broker.clone(), &question, namespace.clone()).await?;
    Ok(Json(turns::in_turn(namespace, move || question.explained(&answers)).await))
}

/// Refuses a question that is too large, before it is parsed.
fn check_size(GrantsQuestion { flow: _, tasks }: &GrantsQuestion) -> Result<(), Problem> {
    // A task that asks for nothing counts as one thing.
    if tasks.len() > MAX_ASKED_PARTS {
        return Err(too_many(tasks.len()));
    }
    let bytes: usize = tasks.iter().map(|task| task.allow.len()).sum();
    if bytes > MAX_ALLOW_BYTES {
        let detail = format!("the `allow` of all tasks have {bytes} bytes, and {MAX_ALLOW_BYTES} are allowed");
        return Err(Problem::bad_request(detail).hint(FEWER_TASKS));
    }
    Ok(())
}

fn too_many(asked: usize) -> Problem {
    let detail = format!("the tasks ask for {asked} things, and {MAX_ASKED_PARTS} are allowed");
    Problem::bad_request(detail).hint("ask about fewer tasks at once, or let a task ask for patterns that cover more")
}

/// Parses a question of a sender that may be limited to a namespace.
fn parse(
    GrantsQuestion { flow, tasks }: &GrantsQuestion,
    limited_to: Option<&Namespace>,
) -> Result<ParsedQuestion, Problem> {
    let flow = within(limited_to, flow, "flow", FlowName::within, FlowName::namespace)?;
    let tasks = tasks.iter().map(|task| parse_task(task, limited_to)).collect::<Result<Vec<_>, _>>()?;
    let asked: usize = tasks.iter().map(|asked| asked.task.access.count_parts().max(1)).sum();
    if asked > MAX_ASKED_PARTS {
        return Err(too_many(asked));
    }
    Ok(ParsedQuestion { flow, tasks })
}

fn parse_task(
    AskingTask { task, queue, module, allow }: &AskingTask,
    limited_to: Option<&Namespace>,
) -> Result<TaskQuestion, Problem> {
    let refused = |key: &str, error: String| Problem::bad_request(format!("{key}: {error}"));
    let queue = within(limited_to, queue, "queue", QueueName::within, QueueName::namespace)?;
    let access = parse_access(allow).map_err(|diagnostics| {
        refused("allow", diagnostics.first().map_or_else(String::new, |diagnostic| diagnostic.message.clone()))
    })?;
    // A flow may ask for no more either, and workers do not read more.
    access.check_size().map_err(|error| refused("allow", error.to_string()))?;
    let task = NodeName::new(task).map_err(|error| refused("task", error.to_string()))?;
    let module: Digest =
        module.parse().map_err(|error: flow::invalid::InvalidDigest| refused("module", error.to_string()))?;
    Ok(TaskQuestion { queue, task: protocol::AskingTask { task, module, access } })
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

/// Asks the workers when it is the turn of the namespace.
async fn ask(
    broker: Arc<dyn Broker>,
    ParsedQuestion { flow, tasks }: &ParsedQuestion,
    namespace: Option<Namespace>,
) -> Result<Vec<GrantsAnswer>, Problem> {
    let asking: Vec<protocol::AskingTask> = tasks.iter().map(|asked| asked.task.clone()).collect();
    let _turn = QUESTIONS.acquire(namespace).await.expect("any number of questions may wait");
    let answers = client::ask_grants(broker, flow, &asking, REPLY_TIMEOUT).await;
    answers.map_err(|error| Problem::internal(&error))
}

impl ParsedQuestion {
    fn explained(&self, answers: &[GrantsAnswer]) -> GrantsExplanation {
        let tasks = self.tasks.iter().enumerate().map(|(index, asked)| asked.explained(index, answers)).collect();
        GrantsExplanation { flow: self.flow.to_string(), tasks }
    }
}

impl TaskQuestion {
    /// Counts the answers of the workers of the task's queue. `index` is that of the task in the question.
    fn explained(&self, index: usize, answers: &[GrantsAnswer]) -> ExplainedTask {
        let Self { queue, task } = self;
        let of_queue: Vec<&GrantsAnswer> = answers.iter().filter(|answer| answer.queues.contains(queue)).collect();
        let part = |(number, what): (usize, String)| {
            let count = |wanted| {
                let fits = |answer: &&&GrantsAnswer| answer.tasks[index][number] == wanted;
                u32::try_from(of_queue.iter().filter(fits).count()).unwrap_or(u32::MAX)
            };
            let [all, some, none] = [GrantedPart::All, GrantedPart::Some, GrantedPart::None].map(count);
            ExplainedPart { what, all, some, none }
        };
        ExplainedTask {
            task: task.task.to_string(),
            queue: queue.to_string(),
            workers: u32::try_from(of_queue.len()).unwrap_or(u32::MAX),
            asked: task.access.descriptions().into_iter().enumerate().map(part).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(tasks: usize, allow: &str) -> GrantsQuestion {
        let module = Digest::from_bytes([1; 32]).to_string();
        let task = AskingTask { task: "t".into(), queue: "q".into(), module, allow: allow.into() };
        GrantsQuestion { flow: "f".into(), tasks: vec![task; tasks] }
    }

    fn refusal<T>(result: Result<T, Problem>) -> String {
        let problem = result.err().expect("it is refused").into_document();
        format!("{} {}: {}", problem.status, problem.kind, problem.detail)
    }

    #[test]
    fn a_question_that_is_too_large_is_not_parsed() {
        // No task of these could be parsed.
        let many = refusal(check_size(&question(MAX_ASKED_PARTS + 1, "nonsense")));
        assert!(many.ends_with("the tasks ask for 1001 things, and 1000 are allowed"), "{many}");
        let large = refusal(check_size(&question(2, &"x".repeat(MAX_ALLOW_BYTES / 2 + 1))));
        assert!(large.ends_with("have 262146 bytes, and 262144 are allowed"), "{large}");
        assert!(check_size(&question(MAX_ASKED_PARTS, "clock = true")).is_ok());
    }

    #[test]
    fn the_things_that_a_question_asks_for_are_counted() {
        let pattern = |number: usize| format!("\"GET https://a.example/{number}\"");
        let allow = |patterns: usize| {
            let patterns: Vec<String> = (0..patterns).map(pattern).collect();
            format!("http = [{}]\n", patterns.join(", "))
        };
        assert!(parse(&question(4, &allow(250)), None).is_ok());
        let many = refusal(parse(&question(4, &format!("{}clock = true", allow(250))), None));
        assert!(many.ends_with("the tasks ask for 1004 things, and 1000 are allowed"), "{many}");
        let many = refusal(parse(&question(1, &allow(257)), None));
        assert!(many.ends_with("allow: 257 patterns and names in \"allow\", and the maximum is 256"), "{many}");
    }

    #[test]
    fn the_flow_of_an_answer_has_its_namespace() {
        let shop: Namespace = "shop".parse().unwrap();
        let parsed = parse(&question(1, "clock = true"), Some(&shop)).unwrap();
        let answer = GrantsAnswer { queues: vec!["shop/q".parse().unwrap()], tasks: vec![vec![GrantedPart::Some]] };
        let other = GrantsAnswer { queues: vec!["q".parse().unwrap()], tasks: vec![vec![GrantedPart::All]] };
        let GrantsExplanation { flow, tasks } = parsed.explained(&[answer, other]);
        let ExplainedTask { queue, workers, asked, .. } = &tasks[0];
        assert_eq!((flow.as_str(), queue.as_str(), *workers), ("shop/f", "shop/q", 1));
        let ExplainedPart { what, all, some, none } = &asked[0];
        assert_eq!((what.as_str(), all, some, none), ("clock", &0, &1, &0));
    }
}
