//! The events of a run as they are recorded: the lines of `waft run --json`, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    extract::Run,
    lines::{EventPosition, Line, Lines},
    problem::Problem,
    state::Shared,
};

/// The pause after which a keep-alive comment shows a watcher that the server still runs.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of event streams at the same time. Each holds a connection for as long as its client wants, and others need
/// connections too.
const MAX_EVENT_STREAMS: usize = 256;

/// The places of event streams.
pub(crate) struct EventStreams(Arc<Semaphore>);

impl Default for EventStreams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EVENT_STREAMS)))
    }
}

/// The place of one event stream.
pub(crate) struct EventStreamPlace(OwnedSemaphorePermit);

impl EventStreams {
    /// Takes a place for an event stream.
    ///
    /// # Errors
    /// [`Problem`] when all are taken.
    pub(crate) fn take_place(&self) -> Result<EventStreamPlace, Problem> {
        self.0.clone().try_acquire_owned().map(EventStreamPlace).map_err(|_| {
            Problem::unavailable(format!("the server sends {MAX_EVENT_STREAMS} event streams already"))
                .hint("close some, try again later, or read the state of the run from time to time")
        })
    }
}

impl EventStreamPlace {
    /// Sends events, until they end or the server stops.
    pub(crate) fn send<Events>(
        self,
        events: Events,
        stop: CancellationToken,
    ) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<Events>>
    where
        Events: Stream<Item = Result<Event, Infallible>> + Send + 'static,
    {
        let events = events.take_until(stop.cancelled_owned()).inspect(move |_| {
            // The place is free once the stream is dropped.
            let _ = &self.0;
        });
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
    }
}

/// Watches a run.
///
/// The data of each event is a line as `waft run --json` prints it, from the start of the run. If the oldest records of a
/// long-lived run were deleted, the first line is `trimmed` with their number. The stream ends with the last line of the run;
/// it continues while the run is suspended. A request with the id of an event in `Last-Event-ID` receives the events after
/// it.
#[utoipa::path(get, operation_id = "run_events", path = "/v1/runs/{run}/events", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("last-event-id" = Option<String>, Header, description = "The id of the last received event")), responses(
        (status = 200, description = "The events; the schema is of the data of one", body = api::EventPayload, content_type = "text/event-stream"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn events(
    State(state): Shared,
    Run(run): Run,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let position = match headers.get("last-event-id") {
        None => EventPosition::default(),
        Some(id) => id.to_str().ok().and_then(EventPosition::parse).ok_or_else(|| {
            Problem::bad_request("the header Last-Event-ID holds no id of an event")
                .hint("leave it out to receive all events")
        })?,
    };
    let place = state.event_streams.take_place()?;
    // Subscribe before reading, so that no record in between is missed.
    let changes = state.dependencies.engine.changes();
    let lines = Lines::open(run, state.dependencies.logbook.clone(), state.dependencies.modules.store.clone()).await?;
    let lines = lines.after(position).with_notices(changes);
    let events = stream::unfold(lines, async |mut lines| match lines.next().await {
        Ok(line) => line.map(|Line { id, text }| (Ok(Event::default().id(id).data(text)), lines)),
        // The watcher reconnects with the last id it received.
        Err(error) => {
            warn!(run = %lines.run(), error = &error as &dyn std::error::Error, "a watch was ended");
            None
        }
    });
    Ok(place.send(events, state.stop.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn event_streams_are_limited_and_leave_their_place() {
        let streams = EventStreams::default();
        let mut sent = Vec::new();
        for _ in 0..MAX_EVENT_STREAMS {
            let place = streams.take_place().expect("there is room");
            sent.push(place.send(stream::pending(), CancellationToken::new()));
        }
        let refused = streams.take_place().err().expect("all are taken").into_document();
        assert_eq!(refused.status, 503);
        sent.pop();
        assert!(streams.take_place().is_ok(), "the place of a dropped stream is free");
    }
}
