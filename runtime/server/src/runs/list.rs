//! Lists runs, page by page.

use api::{self, ListQuery, Runs};
use axum::{Extension, Json, extract::State};
use flow::{FlowName, Namespace, RunId, RunState, Timestamp};
use logbook::{Filter, Logbook, Summary};
use protocol::events::rfc3339;

use crate::{auth::namespace::CallerNamespace, extract::Query, problem::Problem, state::Shared, turns};

/// The maximum page size.
const MAX_PAGE: usize = 1_000;

/// The default page size.
const DEFAULT_PAGE: usize = 100;

/// Lists runs, the youngest first.
#[utoipa::path(get, operation_id = "list_runs", path = "/v1/runs", tag = "runs", params(ListQuery), responses(
    (status = 200, description = "A page of runs", body = Runs),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Query(mut query): Query<ListQuery>,
) -> Result<Json<Runs>, Problem> {
    if let Some(own) = &namespace {
        if query.namespace.as_ref().is_some_and(|wanted| *wanted != own.as_str()) {
            return Err(Problem::forbidden(format!("the token is limited to the namespace {own}")));
        }
        query.namespace = Some(own.to_string());
    }
    let _turn = turns::for_page(namespace).await;
    Ok(Json(read(&*state.dependencies.logbook, query).await?))
}

/// Reads a page of the runs of a logbook.
///
/// # Errors
/// [`Problem`] when the filter or the logbook cannot be read.
pub async fn read(logbook: &dyn Logbook, query: ListQuery) -> Result<Runs, Problem> {
    let filter = filter(query)?;
    let page = filter.limit;
    // One more run than requested shows whether there is another page.
    let mut found = logbook.list(&Filter { limit: page + 1, ..filter }).await?;
    let more = found.len() > page;
    found.truncate(page);
    let next = found.last().filter(|_| more).map(cursor);
    Ok(Runs { runs: found.iter().map(summary).collect(), next })
}

fn summary(summary: &Summary) -> api::Summary {
    api::Summary {
        run: summary.run.to_string(),
        flow: summary.info.flow.to_string(),
        state: summary.info.state.into(),
        started_at: rfc3339(summary.started_at),
        changed_at: rfc3339(summary.changed_at),
    }
}

fn filter(query: ListQuery) -> Result<Filter, Problem> {
    let ListQuery { flow, namespace, state, since, until, limit, after } = query;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_PAGE}")));
    }
    let namespace = namespace.map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let flow = flow.map(|flow| FlowName::new(flow)?.within(namespace.as_ref())).transpose();
    Ok(Filter {
        flow: flow.map_err(|error| Problem::bad_request(format!("flow: {error}")))?,
        namespace,
        shard: None,
        states: state.map(|states| self::states(&states)).transpose()?.unwrap_or_default(),
        since: since.map(|time| timestamp("since", &time)).transpose()?,
        until: until.map(|time| timestamp("until", &time)).transpose()?,
        after: after.map(|cursor| parse_cursor(&cursor)).transpose()?,
        limit,
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
fn cursor(last: &Summary) -> String {
    format!("{}.{}", last.started_at.as_micros(), last.run)
}

fn parse_cursor(text: &str) -> Result<(Timestamp, RunId), Problem> {
    let parse = || {
        let (micros, run) = text.split_once('.')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), RunId::new(run).ok()?))
    };
    parse().ok_or_else(|| {
        Problem::bad_request(format!("after: {text:?} is not what a page gave as next"))
            .hint("leave it out for the first page")
    })
}
