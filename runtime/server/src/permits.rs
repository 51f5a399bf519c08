//! Lists the tasks whose calls hold permits or wait for them, page by page.

use std::{collections::BTreeMap, sync::Arc};

use api::{self, PermitCall, Permits, PermitsQuery, TaskPermits};
use axum::{Extension, extract::State, response::Response};
use bytes::Bytes;
use flow::{CallId, FlowName, Namespace, NodeName, Pace, Shard};
use protocol::{MAX_LISTED_PERMITS, MAX_LISTED_TASKS, PermitsAnswer, PermitsQuestion};

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::Query,
    problem::Problem,
    shared_answers::SharedAnswers,
    state::Shared,
};

/// The default number of tasks of a page.
const DEFAULT_TASKS: usize = 20;

/// Number of lists that are made at the same time. Each asks for every shard.
pub(crate) const MAX_LISTS_AT_ONCE: usize = 4;

/// The pages of tasks, as JSON.
pub(crate) type PermitPages = SharedAnswers<WantedTasks, Bytes>;

/// Which tasks a page has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WantedTasks {
    namespace: Option<Namespace>,
    flow: Option<FlowName>,
    after: Option<(FlowName, NodeName)>,
    limit: usize,
}

/// Separates the flow from the task in a cursor. No name has it.
const SEPARATOR: char = ':';

/// Lists the tasks whose calls hold permits or wait for them, in order of flow and task.
///
/// A page with a `next` may have fewer tasks than `limit`, or none.
#[utoipa::path(get, operation_id = "list_permits", path = "/v1/permits", tag = "runs", params(PermitsQuery), responses(
    (status = 200, description = "A page of tasks", body = Permits),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    Query(mut query): Query<PermitsQuery>,
) -> Result<Response, Problem> {
    caller.limit(&mut query.namespace)?;
    let limit = query.limit.unwrap_or(DEFAULT_TASKS);
    if !(1..=MAX_LISTED_TASKS).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_LISTED_TASKS}")));
    }
    let question = parse(query)?;
    let PermitsQuestion { namespace, flow, after } = question.clone();
    let engine = state.dependencies.engine.clone();
    let asking = async move {
        let page = merged(engine.permits(&question).await, limit);
        Ok(Bytes::from(serde_json::to_vec(&page).expect("strings are JSON")))
    };
    let json = state.permit_pages.get(WantedTasks { namespace, flow, after, limit }, caller.0, asking).await?;
    // A page may have two thousand calls, and a slow reader leaves it in memory.
    state.large_answers.json(permission.sender(), json)
}

fn parse(PermitsQuery { flow, namespace, limit: _, after }: PermitsQuery) -> Result<PermitsQuestion, Problem> {
    let namespace = namespace.map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let flow = flow.map(|flow| FlowName::new(flow)?.within(namespace.as_ref())).transpose();
    let flow = flow.map_err(|error| Problem::bad_request(format!("flow: {error}")))?;
    let cursor = |text: String| {
        let parsed = text.split_once(SEPARATOR);
        let parsed = parsed.and_then(|(flow, task)| FlowName::new(flow).ok().zip(NodeName::new(task).ok()));
        parsed.ok_or_else(|| {
            Problem::bad_request(format!("after: {text:?} is not what a page gave as next"))
                .hint("leave it out for the first page")
        })
    };
    Ok(PermitsQuestion { namespace, flow, after: after.map(cursor).transpose()? })
}

/// The calls of a task in all shards.
#[derive(Default)]
struct AllShards {
    pace: Pace,
    given: u64,
    waiting: u64,
    holders: Vec<CallId>,
    next: Vec<CallId>,
}

/// The first tasks of all shards together. Each shard has answered with its own first tasks, and has as many as a page has at most. So a
/// task of the page that a shard has not named has no calls there.
fn merged(answers: Vec<(Shard, Option<PermitsAnswer>)>, limit: usize) -> Permits {
    let mut tasks: BTreeMap<(FlowName, NodeName), AllShards> = BTreeMap::new();
    let (mut unanswered, mut is_cut) = (Vec::new(), false);
    for (shard, answer) in answers {
        let Some(answer) = answer else {
            unanswered.push(shard.to_string());
            continue;
        };
        is_cut |= answer.tasks.len() >= MAX_LISTED_TASKS;
        for permits in answer.tasks {
            let all = tasks.entry((permits.flow, permits.task)).or_default();
            all.pace = all.pace.min(permits.pace);
            all.given += permits.held;
            all.waiting += permits.waiting;
            all.holders.extend(permits.holders);
            all.next.extend(permits.next);
        }
    }
    is_cut |= tasks.len() > limit;
    let last = tasks.keys().nth(limit - 1).or_else(|| tasks.keys().next_back());
    let next = last.filter(|_| is_cut).map(|(flow, task)| format!("{flow}{SEPARATOR}{task}"));
    // A full answer of a shard may have tasks whose last call has gone.
    let has_calls = |(_, all): &(_, AllShards)| all.given + all.waiting > 0;
    Permits { tasks: tasks.into_iter().take(limit).filter(has_calls).map(shown).collect(), unanswered, next }
}

fn shown(((flow, task), all): ((FlowName, NodeName), AllShards)) -> TaskPermits {
    let AllShards { pace, given, waiting, holders, next } = all;
    let calls = |calls: Vec<CallId>| calls.iter().take(MAX_LISTED_PERMITS).map(call).collect::<Vec<_>>();
    TaskPermits {
        flow: flow.to_string(),
        task: task.to_string(),
        max_running: pace.max_running.map(std::num::NonZeroU32::get),
        rate: pace.rate.map(|rate| rate.to_string()),
        given,
        waiting,
        holders: calls(holders),
        next: calls(next),
    }
}

fn call(call: &CallId) -> PermitCall {
    PermitCall {
        run: call.run.to_string(),
        task: call.task.to_string(),
        firing: call.firing.get(),
        attempt: call.attempt.get(),
        call: call.action.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use flow::{Action, Attempt, Firing, Rate};

    use super::*;

    fn permits(flow: &str, max_running: u32, runs: [&str; 2]) -> protocol::TaskPermits {
        let call = |run: &str| CallId {
            run: run.parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let pace = Pace { max_running: NonZeroU32::new(max_running), rate: Some(Rate::parse("10/s").unwrap()) };
        let [holder, next] = runs.map(|run| vec![call(run)]);
        protocol::TaskPermits {
            flow: flow.parse().unwrap(),
            task: "t".parse().unwrap(),
            pace,
            held: 1,
            waiting: 7,
            holders: holder,
            next,
        }
    }

    fn answers() -> Vec<(Shard, Option<PermitsAnswer>)> {
        let one = PermitsAnswer { tasks: vec![permits("a", 4, ["r1", "r2"]), permits("c", 4, ["r1", "r2"])] };
        let other = PermitsAnswer { tasks: vec![permits("a", 3, ["r3", "r4"]), permits("b", 9, ["r3", "r4"])] };
        let shards = [("0", Some(one)), ("1", None), ("2", Some(other))];
        shards.into_iter().map(|(shard, answer)| (shard.parse().unwrap(), answer)).collect()
    }

    #[test]
    fn a_task_has_the_calls_of_all_shards_and_the_smallest_maximum() {
        let Permits { tasks, unanswered, next } = merged(answers(), 50);
        let flows: Vec<&str> = tasks.iter().map(|task| task.flow.as_str()).collect();
        assert_eq!((flows, unanswered, next), (vec!["a", "b", "c"], vec!["1".to_owned()], None));
        let first = &tasks[0];
        assert_eq!((first.max_running, first.rate.as_deref()), (Some(3), Some("10/s")));
        assert_eq!((first.given, first.waiting), (2, 14));
        assert_eq!((runs(&first.holders), runs(&first.next)), (vec!["r1", "r3"], vec!["r2", "r4"]));
    }

    fn runs(calls: &[PermitCall]) -> Vec<&str> {
        calls.iter().map(|call| call.run.as_str()).collect()
    }

    #[test]
    fn a_page_leads_to_the_next_one() {
        let Permits { tasks, next, .. } = merged(answers(), 2);
        assert_eq!((tasks.len(), next.as_deref()), (2, Some("b:t")));
        let question = parse(PermitsQuery { after: next, ..PermitsQuery::default() }).unwrap();
        assert_eq!(question.after, Some(("b".parse().unwrap(), "t".parse().unwrap())));
        let full = PermitsAnswer { tasks: vec![permits("a", 1, ["r", "s"]); MAX_LISTED_TASKS] };
        let Permits { tasks, next, .. } = merged(vec![("0".parse().unwrap(), Some(full))], 50);
        assert_eq!((tasks.len(), next.as_deref()), (1, Some("a:t")), "the shard may have more");
    }

    #[test]
    fn a_task_without_calls_is_not_shown_and_the_page_leads_on() {
        let gone = protocol::TaskPermits { held: 0, waiting: 0, ..permits("b", 1, ["r", "s"]) };
        let answer = PermitsAnswer { tasks: vec![permits("a", 1, ["r", "s"]), gone, permits("c", 1, ["r", "s"])] };
        let Permits { tasks, next, .. } = merged(vec![("0".parse().unwrap(), Some(answer))], 2);
        let flows: Vec<&str> = tasks.iter().map(|task| task.flow.as_str()).collect();
        assert_eq!((flows, next.as_deref()), (vec!["a"], Some("b:t")));
    }
}
