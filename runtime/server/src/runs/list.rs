//! Lists runs, page by page.

use std::sync::Arc;

use api::{self, ListQuery, RunFilter, Runs};
use axum::{Extension, extract::State, response::Response};
use bytes::Bytes;
use flow::{FlowName, LabelCondition, LabelValue, MAX_LABELS, Namespace, RunId, RunState, Timestamp};
use logbook::{Filter, Logbook, Summary};
use protocol::events::rfc3339;
use sandbox::Owner;
use tokio::task::spawn_blocking;

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::RepeatedQuery,
    problem::Problem,
    shared_reads::SharedReads,
    state::Shared,
    turns,
};

/// The maximum page size.
const MAX_PAGE: usize = 1_000;

/// The default page size.
const DEFAULT_PAGE: usize = 100;

/// The pages that requests with the same filter share, as JSON: of senders that are limited to the same namespace, or of all others.
pub(crate) type SharedPages = SharedReads<(Owner, String), Bytes>;

/// Lists runs, the youngest first.
#[utoipa::path(get, operation_id = "list_runs", path = "/v1/runs", tag = "runs", params(ListQuery), responses(
    (status = 200, description = "A page of runs", body = Runs),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    RepeatedQuery(mut query): RepeatedQuery<ListQuery>,
) -> Result<Response, Problem> {
    caller.limit(&mut query.namespace)?;
    let question = (caller.0.clone(), serde_json::to_string(&query).expect("strings are JSON"));
    let reading = async {
        let turn = turns::for_page(caller.0).await;
        let json = read_json(&*state.dependencies.logbook, query).await;
        drop(turn);
        Ok::<_, Problem>(json)
    };
    let json = state.shared_pages.get(question, reading).await?;
    state.large_answers.json(permission.sender(), json)
}

/// Reads a page as JSON.
async fn read_json(logbook: &dyn Logbook, query: ListQuery) -> Result<Bytes, Problem> {
    let runs = read(logbook, query).await?;
    // The labels of a thousand runs take up to ten megabytes, and a slow reader leaves them in memory. Encoding them takes milliseconds: it
    // waits for no long answers, so that others get their pages.
    let encode = move || serde_json::to_vec(&runs).expect("strings are JSON");
    Ok(spawn_blocking(encode).await.expect("encoding does not panic").into())
}

/// Reads a page of the runs of a logbook.
///
/// # Errors
/// [`Problem`] when the filter or the logbook cannot be read.
pub async fn read(logbook: &dyn Logbook, query: ListQuery) -> Result<Runs, Problem> {
    let ListQuery { flow, namespace, label, text, state, since, until, limit, after } = query;
    let filter = RunFilter { flow, namespace, label, text, state, since, until };
    let limit = page_size(limit, DEFAULT_PAGE)?;
    let after = after.map(|cursor| parse_cursor(&cursor)).transpose()?;
    let (found, next) = page(logbook, &Filter { after, limit, ..parse_filter(filter)? }).await?;
    Ok(Runs { runs: found.iter().map(summary).collect(), next })
}

/// The size of a page.
pub(super) fn page_size(limit: Option<usize>, default: usize) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(default);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_PAGE}")));
    }
    Ok(limit)
}

/// The runs of a page, and the cursor after it if there is another page.
pub(super) async fn page(logbook: &dyn Logbook, filter: &Filter) -> Result<(Vec<Summary>, Option<String>), Problem> {
    let page = filter.limit;
    // One more run than requested shows whether there is another page.
    let mut found = logbook.list(&Filter { limit: page + 1, ..filter.clone() }).await?;
    let more = found.len() > page;
    found.truncate(page);
    let next = found.last().filter(|_| more).map(cursor);
    Ok((found, next))
}

fn summary(summary: &Summary) -> api::Summary {
    api::Summary {
        run: summary.run.to_string(),
        flow: summary.info.flow.to_string(),
        state: summary.info.state.into(),
        labels: summary.labels.to_map(),
        started_at: rfc3339(summary.started_at),
        changed_at: rfc3339(summary.changed_at),
    }
}

/// Reads a filter for runs.
pub(crate) fn parse_filter(filter: RunFilter) -> Result<Filter, Problem> {
    let RunFilter { flow, namespace, label, text, state, since, until } = filter;
    let namespace = namespace.map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let flow = flow.map(|flow| FlowName::new(flow)?.within(namespace.as_ref())).transpose();
    if label.len() > MAX_LABELS {
        let detail = format!("label: these are {} conditions, and a run has at most {MAX_LABELS} labels", label.len());
        return Err(Problem::bad_request(detail));
    }
    let labels = label.iter().map(|label| label.parse()).collect::<Result<Vec<LabelCondition>, _>>();
    let labels = labels.map_err(|error| {
        Problem::bad_request(format!("label: {error}")).hint("write NAME=VALUE, or only NAME for any value")
    })?;
    let text = text.map(LabelValue::new).transpose();
    let text = text.map_err(|error| Problem::bad_request(format!("text: {error}")))?;
    if text.as_ref().is_some_and(|text| text.as_str().is_empty()) {
        return Err(Problem::bad_request("text: it is empty").hint("leave it out to find all runs"));
    }
    Ok(Filter {
        flow: flow.map_err(|error| Problem::bad_request(format!("flow: {error}")))?,
        namespace,
        shard: None,
        labels,
        text,
        states: state.map(|states| self::states(&states)).transpose()?.unwrap_or_default(),
        since: since.map(|time| timestamp("since", &time)).transpose()?,
        until: until.map(|time| timestamp("until", &time)).transpose()?,
        ..Filter::default()
    })
}

fn states(text: &str) -> Result<Vec<RunState>, Problem> {
    let parse = |word: &str| {
        let found = RunState::ALL.into_iter().find(|state| state.as_str() == word);
        found.ok_or_else(|| {
            let known: Vec<&str> = RunState::ALL.iter().map(|state| state.as_str()).collect();
            Problem::bad_request(format!("state: {word:?} is no state of a run"))
                .hint(format!("give some of {}, joined by commas", known.join(" ")))
        })
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
}

pub(super) fn timestamp(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let micros = parsed.ok().and_then(|time| u64::try_from(time.as_microsecond()).ok());
    micros.map(Timestamp::from_micros).ok_or_else(|| {
        Problem::bad_request(format!("{name}: {text:?} is no time"))
            .hint("write it as RFC 3339 has it: 2026-01-31T08:00:00Z")
    })
}

/// The cursor after a page.
pub(super) fn cursor(last: &Summary) -> String {
    format!("{}.{}", last.started_at.as_micros(), last.run)
}

pub(super) fn parse_cursor(text: &str) -> Result<(Timestamp, RunId), Problem> {
    let parse = || {
        let (micros, run) = text.split_once('.')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), RunId::new(run).ok()?))
    };
    parse().ok_or_else(|| {
        Problem::bad_request(format!("after: {text:?} is not what a page gave as next"))
            .hint("leave it out for the first page")
    })
}
