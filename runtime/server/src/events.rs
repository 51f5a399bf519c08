//! The events of a run as they are recorded: the lines of `waft run --json`, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    auth::permission::Permission,
    extract::Run,
    lines::{EventPosition, Line, Lines},
    problem::Problem,
    shares::{Exhausted, Share, Shares},
    state::Shared,
    stream_memory::StreamMemory,
};

/// The pause after which a keep-alive comment shows a watcher that the server still runs.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a client waits for the beginning of its stream, at most, while the server reads the records before its first event. Then
/// the stream begins without one, and comments keep its connection.
const CATCH_UP_TIME: Duration = Duration::from_secs(5);

/// Maximum number of event streams at the same time. Each holds a connection for as long as its client wants, and others need
/// connections too.
pub(crate) const MAX_EVENT_STREAMS: usize = 256;

/// Maximum number of event streams of one token, or of all tokens of a namespace. A stream of a large run takes several places: see
/// `stream_memory.rs`.
pub(crate) const MAX_SENDER_STREAMS: usize = MAX_EVENT_STREAMS / 4;

/// How often it is checked whether the sender may still read the run: its token may have been revoked meanwhile.
const PERMISSION_INTERVAL: Duration = Duration::from_secs(10);

/// The places of event streams.
pub(crate) struct EventStreams(Arc<Shares>);

impl Default for EventStreams {
    fn default() -> Self {
        Self(Shares::new(MAX_EVENT_STREAMS, MAX_SENDER_STREAMS))
    }
}

/// The place of one event stream.
pub(crate) struct EventStreamPlace {
    /// `None` once the events have it.
    share: Option<Share>,
    permission: Arc<Permission>,
}

impl EventStreams {
    /// Takes a place for the event stream that a request asks for.
    ///
    /// # Errors
    /// [`Problem`] when all are taken, or the sender has too many.
    pub(crate) fn take_place(&self, permission: Arc<Permission>) -> Result<EventStreamPlace, Problem> {
        match self.0.take(permission.sender(), 1) {
            Ok(share) => Ok(EventStreamPlace { share: Some(share), permission }),
            Err(exhausted) => Err(no_place(exhausted)),
        }
    }
}

fn no_place(exhausted: Exhausted) -> Problem {
    let detail = match exhausted {
        Exhausted::All => format!("the server sends {MAX_EVENT_STREAMS} event streams already, or fewer of large runs"),
        Exhausted::OfSender => {
            format!(
                "the server sends {MAX_SENDER_STREAMS} event streams to the token or its namespace already, or fewer of large runs"
            )
        }
    };
    Problem::unavailable(detail).hint("close some, try again later, or read the state of the run from time to time")
}

impl EventStreamPlace {
    /// The place for what the events keep in memory. It is free again once that is dropped, instead of with this.
    fn take_memory(&mut self) -> Option<StreamMemory> {
        let share = self.share.take()?;
        Some(StreamMemory::new(share, self.permission.sender().namespace().cloned()))
    }

    /// Sends events, until they end, the server stops, or the sender may no longer read them.
    pub(crate) fn send<Events>(
        self,
        events: Events,
        stop: CancellationToken,
    ) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<Events>>
    where
        Events: Stream<Item = Result<Event, Infallible>> + Send + 'static,
    {
        let mut checks = interval_at(Instant::now() + PERMISSION_INTERVAL, PERMISSION_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The place is free once the stream is dropped.
        let sent = stream::unfold((Box::pin(events), checks, self), async |(mut events, mut checks, place)| {
            loop {
                // Both arms only wait. The first is preferred: an event that was not read for long is not sent unchecked.
                tokio::select! {
                    biased;
                    _ = checks.tick() => if !place.permission.still_holds().await {
                        return None;
                    },
                    event = events.next() => return event.map(|event| (event, (events, checks, place))),
                }
            }
        });
        Sse::new(sent.take_until(stop.cancelled_owned())).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
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
    Extension(permission): Extension<Arc<Permission>>,
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
    let mut place = state.event_streams.take_place(permission)?;
    // Subscribe before reading, so that no record in between is missed.
    let changes = state.dependencies.engine.changes(run.clone());
    let lines = Lines::open(run, state.dependencies.logbook.clone(), state.dependencies.modules.store.clone()).await?;
    let mut lines = lines.after(position).with_notices(changes).within(place.take_memory());
    // A client whose stream has ended for want of memory learns why when it comes again.
    lines.catch_up(CATCH_UP_TIME).await?;
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
    use axum::{
        Router,
        body::{self, Body},
        http::{Request, StatusCode},
        response::Response,
    };
    use tokio::time::timeout;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Dependencies, Token, auth::peer::Peer, server};

    /// A server with the run `r`, which waits. Its token is `secret`.
    async fn started() -> Router {
        let sandbox = sandbox::Sandbox::new(sandbox::Config::default()).unwrap();
        let (logbook, store) = (Arc::new(logbook::Memory::new()), Arc::new(store::Memory::new()));
        let dependencies = Dependencies::in_memory(logbook, store, sandbox).await.unwrap();
        let router = server::parts(dependencies, (Token::new("secret"), None), 10_000, CancellationToken::new()).router;
        let run = r#"{"run":"r","flow":"name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n"}"#;
        assert_eq!(send(&router, "POST", "/v1/runs", "secret", run).await.status(), StatusCode::CREATED);
        router
    }

    async fn send(router: &Router, method: &str, path: &str, token: &str, body: &str) -> Response {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json").extension(Arc::new(Peer::unconnected()));
        router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    async fn token(router: &Router, name: &str) -> String {
        let new = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
        let created = send(router, "POST", "/v1/tokens", "secret", &new).await;
        let created = body::to_bytes(created.into_body(), 10_000).await.unwrap();
        serde_json::from_slice::<api::CreatedToken>(&created).unwrap().secret
    }

    const STREAMS: [&str; 3] = ["/v1/runs/r/events", "/v1/runs/r/logs/follow", "/v1/events"];

    #[tokio::test(start_paused = true)]
    async fn a_token_leaves_places_for_others_and_a_dropped_stream_leaves_its_place() {
        let router = started().await;
        let (greedy, other) = (token(&router, "greedy").await, token(&router, "other").await);
        let watch = async |token: &str, path: &str| send(&router, "GET", path, token, "").await;
        let mut streams = Vec::new();
        for number in 0..MAX_SENDER_STREAMS {
            streams.push(watch(&greedy, STREAMS[number % STREAMS.len()]).await);
        }
        assert!(streams.iter().all(|stream| stream.status() == StatusCode::OK));
        for path in STREAMS {
            let refused = watch(&greedy, path).await;
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            let problem = body::to_bytes(refused.into_body(), 10_000).await.unwrap();
            let problem: api::Problem = serde_json::from_slice(&problem).unwrap();
            assert!(problem.detail.contains("64 event streams to the token") && problem.hint.is_some(), "{problem:?}");
        }
        assert_eq!(watch(&other, STREAMS[0]).await.status(), StatusCode::OK);
        streams.pop();
        assert_eq!(watch(&greedy, STREAMS[1]).await.status(), StatusCode::OK, "a place is free");
    }

    #[tokio::test(start_paused = true)]
    async fn the_streams_of_a_revoked_token_end() {
        let router = started().await;
        let (leaver, stays) = (token(&router, "leaver").await, token(&router, "stays").await);
        let ends = async |stream: Response, within: u64| {
            let mut chunks = stream.into_body().into_data_stream();
            let end = async move { while chunks.next().await.is_some() {} };
            timeout(Duration::from_secs(within), end).await.is_ok()
        };
        for path in STREAMS {
            let watch = async |token: &str| send(&router, "GET", path, token, "").await;
            assert!(!ends(watch(&leaver).await, 100).await, "{path} is open while its token is valid");
        }
        let watching = [watch_all(&router, &leaver).await, watch_all(&router, &stays).await];
        assert_eq!(send(&router, "DELETE", "/v1/tokens/leaver", "secret", "").await.status(), StatusCode::NO_CONTENT);
        let [leaving, staying] = watching;
        for (path, (leaving, staying)) in STREAMS.iter().zip(leaving.into_iter().zip(staying)) {
            assert!(ends(leaving, 15).await, "{path}: its sender is unknown");
            assert!(!ends(staying, 100).await, "{path}: another token is valid");
        }
    }

    async fn watch_all(router: &Router, token: &str) -> Vec<Response> {
        let mut streams = Vec::new();
        for path in STREAMS {
            streams.push(send(router, "GET", path, token, "").await);
        }
        streams
    }
}
