//! Shows the elements of a task's list, page by page.

use std::sync::Arc;

use api::{Element, Elements, ElementsQuery};
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use flow::{Firing, NodeName, RunId};
use machine::{ElementState, Machine};

use super::history::load_run;
use crate::{
    auth::permission::Permission,
    extract::{Query, RunValue},
    problem::Problem,
    state::Shared,
};

/// The maximum page size.
const MAX_PAGE: usize = 1_000;

/// The default page size.
const DEFAULT_PAGE: usize = 100;

/// The maximum bytes of failures on a page that has several.
const MAX_FAILURE_BYTES: usize = 4 << 20;

/// The memory for a page while the answer is made. Bytes of a failure that are no printable characters take six in JSON.
const PAGE_MEMORY: usize = MAX_PAGE * 256 + 8 * MAX_FAILURE_BYTES;

/// Shows the elements of a task's list.
///
/// They come in their order, with the state and the last failure of each. A page has at most 4 MiB of failures.
#[utoipa::path(get, operation_id = "run_elements", path = "/v1/runs/{run}/elements/{task}", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("task" = String, Path, description = "The task"), ElementsQuery),
    responses(
        (status = 200, description = "A page of the elements", body = Elements),
        (status = 400, description = "The query cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such run, it has no such task, or the task has no list in that firing", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn elements(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    RunValue { run, name }: RunValue,
    Query(query): Query<ElementsQuery>,
) -> Result<Response, Problem> {
    let task = NodeName::new(name).map_err(|error| Problem::bad_request(format!("the task: {error}")))?;
    let filter = ElementFilter::parse(query)?;
    let loaded = load_run(&state.dependencies.logbook, &run).await?;
    let sender = permission.sender().clone();
    let show = move |machine: &Machine| {
        let memory = state.large_answers.take(&sender, PAGE_MEMORY)?;
        let page = page(&run, machine, &task, &filter)?;
        memory.json(serde_json::to_vec(&page).expect("strings and numbers are JSON"))
    };
    loaded.answer(show).await
}

/// The elements that are wanted.
struct ElementFilter {
    firing: Option<Firing>,
    /// `None` for all states.
    states: Option<Vec<flow::State>>,
    from: u32,
    limit: usize,
}

impl ElementFilter {
    fn parse(ElementsQuery { firing, state, after, limit }: ElementsQuery) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_PAGE}")));
        }
        Ok(Self {
            firing: firing.map(Firing::new),
            states: state.map(|states| parse_states(&states)).transpose()?,
            from: after.map_or(0, |after| after.saturating_add(1)),
            limit,
        })
    }

    fn matches(&self, element: &ElementState<'_>) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&element.state))
    }
}

fn parse_states(text: &str) -> Result<Vec<flow::State>, Problem> {
    let parse = |word: &str| {
        let found = flow::State::ALL.into_iter().find(|state| state.as_str() == word);
        found.ok_or_else(|| {
            let known: Vec<&str> = flow::State::ALL.iter().map(|state| state.as_str()).collect();
            Problem::bad_request(format!("state: {word:?} is no state of an element"))
                .hint(format!("give some of {}, joined by commas", known.join(" ")))
        })
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
}

fn page(run: &RunId, machine: &Machine, task: &NodeName, filter: &ElementFilter) -> Result<Elements, Problem> {
    let missing = |reason: String| {
        Problem::new(StatusCode::NOT_FOUND, "no-such-elements", "the task has no list", reason)
            .hint("`waft show RUN` or GET /v1/runs/RUN shows the tasks of the run, and which have elements")
    };
    let Some(index) = machine.task_index(task) else {
        return Err(missing(format!("run {run} has no task {task}")));
    };
    let Some((firing, elements)) = machine.elements(filter.firing, index, filter.from) else {
        let firing = filter.firing.map(|firing| format!(" in firing {firing}")).unwrap_or_default();
        return Err(missing(format!(
            "task {task} of run {run} has no elements{firing}: it is called once, or its list is not known"
        )));
    };
    let count = machine.elements(Some(firing), index, 0).map_or(0, |(_, all)| all.len());
    let (mut page, mut failure_bytes, mut next) = (Vec::<Element>::new(), 0, None);
    for element in elements.filter(|element| filter.matches(element)) {
        failure_bytes += element.failure.map_or(0, failure_size);
        if page.len() == filter.limit || (!page.is_empty() && failure_bytes > MAX_FAILURE_BYTES) {
            next = page.last().map(|last| last.number);
            break;
        }
        page.push(shown(&element));
    }
    let (run, task) = (run.to_string(), task.to_string());
    Ok(Elements { run, task, firing: firing.get(), count: count as u64, elements: page, next })
}

fn failure_size(failure: &flow::Failure) -> usize {
    failure.message.len() + failure.details.as_ref().map_or(0, |details| details.as_str().len())
}

fn shown(element: &ElementState<'_>) -> Element {
    Element {
        number: element.number,
        state: element.state.into(),
        attempt: element.attempt.map(flow::Attempt::get),
        failure: element.failure.map(Into::into),
    }
}
