//! The events of all runs that the sender may see, as server-sent events: see `recent_events.rs`.

use std::{convert::Infallible, sync::Arc};

use api::EventsQuery;
use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{Sse, sse::Event},
};
use flow::Namespace;
use futures::{Stream, stream};
use tracing::warn;

use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract::RepeatedQuery,
    problem::Problem,
    recent_events::{Start, WatchError, event::EventFilter},
    state::Shared,
};

/// Watches all runs.
///
/// The data of each event is a JSON object. `run` is a new state of a run, and `state` a new state of a task or a retry controller. They have
/// no values. An event may come twice. The events of each run come in their order, from the time of the request on. A request with the id of
/// an event in `Last-Event-ID` receives the events after it, as far as the server still has them. Where events were lost, there is the event
/// `lost`: read the list of runs again, and then go on with what follows. The first message has an id and no data.
#[utoipa::path(get, operation_id = "events", path = "/v1/events", tag = "runs", params(
    EventsQuery,
    ("last-event-id" = Option<String>, Header, description = "The id of the last received event")), responses(
        (status = 200, description = "The events; the schema is of the data of one", body = api::RunsEvent, content_type = "text/event-stream"),
        (status = 400, description = "The filter cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn events(
    State(state): Shared,
    Extension(caller): Extension<CallerNamespace>,
    Extension(permission): Extension<Arc<Permission>>,
    RepeatedQuery(mut query): RepeatedQuery<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    caller.limit(&mut query.namespace)?;
    let filter = EventFilter::parse(&query)?;
    let namespace = query.namespace.map(Namespace::new).transpose();
    let namespace = namespace.map_err(|error| Problem::bad_request(format!("namespace: {error}")))?;
    let start = match headers.get("last-event-id") {
        None => Start::Now,
        Some(id) => id.to_str().ok().and_then(Start::after).ok_or_else(|| {
            Problem::bad_request("the header Last-Event-ID holds no id of an event of all runs")
                .hint("leave it out to receive the events from now on")
        })?,
    };
    let place = state.event_streams.take_place(permission)?;
    let watcher = state.recent_events.watch(namespace, filter, start).await.map_err(|error| problem(&error))?;
    let events = stream::unfold(watcher, async |mut watcher| match watcher.next().await {
        Ok(what) => {
            let (id, line) = what.into_parts();
            let event = Event::default().id(id);
            let event = match line {
                Some(line) => event.data(line),
                None => event,
            };
            Some((Ok(event), watcher))
        }
        // The watcher reconnects with the last id that it received.
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "a watch of all runs was ended");
            None
        }
    });
    Ok(place.send(events, state.stop.clone()))
}

fn problem(error: &WatchError) -> Problem {
    Problem::internal(error).hint("try again later, or read the list of runs from time to time")
}
