//! Watches a run over HTTP until it ends, or all runs, across broken connections.

use std::{collections::VecDeque, time::Duration};

use api::EventsQuery;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::time::{Instant, sleep_until};

use crate::{
    Client, ClientError, Event,
    event_stream::{MAX_EVENT_BYTES, Parser, ServerSentEvent, TooLarge},
};

/// How long a server may be unavailable before a watcher gives up.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause before the first reconnect; it doubles up to a maximum.
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Watches a run: a stream of its lines, which ends with the run. Or it watches all runs, and does not end.
pub struct Watch {
    client: Client,
    events: Events,
    /// The last event that was received, or the position that the server sent after it.
    after: Option<String>,
    ended: bool,
    connection: Option<Connection>,
    /// Set while the server is unavailable.
    disconnected: Option<Disconnected>,
}

/// The events to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Events {
    /// The changes of a run.
    Changes(String),
    /// The output of the guests of a run.
    Logs(String),
    /// The states of all runs and of their tasks.
    OfAllRuns(EventsQuery),
}

impl Events {
    /// Whether nothing follows an event.
    fn end_with(&self, event: &Event) -> bool {
        match self {
            Self::Changes(_) | Self::Logs(_) => event.is_end(),
            Self::OfAllRuns(_) => false,
        }
    }
}

/// A server that was available before, and is not now.
#[derive(Clone, Copy)]
struct Disconnected {
    since: Instant,
    pause: Duration,
    retry_at: Instant,
}

struct Connection {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
    waiting: VecDeque<ServerSentEvent>,
}

impl Watch {
    /// The guests' lines also end with a line of the run.
    pub(crate) fn new(client: Client, events: Events, after: Option<String>) -> Self {
        Self { client, events, after, ended: false, connection: None, disconnected: None }
    }

    /// Waits for the next line; returns `None` once the run has ended, and never for all runs. When the connection breaks, it reconnects and
    /// continues. Dropping the future loses no line, but a pending request is sent again: poll it to its end.
    ///
    /// # Errors
    /// [`ClientError`] when the server refuses, or is unavailable for a minute. Before the first event, the error comes at
    /// once.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.next_received() {
                return Ok(Some(event));
            }
            if let Some(connection) = &mut self.connection {
                if let Some(position) = connection.parser.take_position() {
                    self.after = Some(position);
                }
                match connection.read_more().await {
                    Ok(true) => {
                        self.disconnected = None;
                        continue;
                    }
                    Ok(false) => self.connection = None,
                    // The event would be as large after another connection.
                    Err(TooLarge) => {
                        self.connection = None;
                        return Err(self.client.too_large("an event", MAX_EVENT_BYTES));
                    }
                }
                if self.ended {
                    return Ok(None);
                }
                self.disconnected = Some(Disconnected::next(self.disconnected));
            }
            if let Some(disconnected) = self.disconnected {
                sleep_until(disconnected.retry_at).await;
            }
            self.connect().await?;
        }
    }

    /// The next line, if it has arrived already: a program that shows lines can then show several at once. `None` says
    /// nothing about the end of the run.
    pub fn next_received(&mut self) -> Option<Event> {
        let message = self.connection.as_mut()?.waiting.pop_front()?;
        let event = Event { id: message.id, line: message.data };
        self.after = Some(event.id.clone());
        self.ended = self.events.end_with(&event);
        Some(event)
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let may_retry = self.disconnected.is_some_and(|disconnected| disconnected.since.elapsed() < RECONNECT_TIMEOUT);
        match self.client.events(&self.events, self.after.as_deref()).await {
            Ok(_) if self.disconnected.is_some() && !may_retry => {
                Err(self.client.unexpected("its events break off".into()))
            }
            Ok(response) => {
                let body = response.bytes_stream().boxed();
                self.connection = Some(Connection { body, parser: Parser::default(), waiting: VecDeque::new() });
                Ok(())
            }
            Err(error) => {
                let is_temporary = matches!(error, ClientError::Unreachable { .. }) || error.status() >= Some(500);
                if !may_retry || !is_temporary {
                    return Err(error);
                }
                self.disconnected = Some(Disconnected::next(self.disconnected));
                Ok(())
            }
        }
    }

    /// Converts it to a stream, for use with combinators. The stream ends with the run, or with an error.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<Event, ClientError>> {
        stream::try_unfold(self, |mut watch| async move { Ok(watch.next().await?.map(|event| (event, watch))) }).boxed()
    }
}

impl Disconnected {
    /// The next state of a disconnect: the pauses grow.
    fn next(before: Option<Self>) -> Self {
        let now = Instant::now();
        let pause = before.map_or(INITIAL_RETRY_DELAY, |before| (before.pause * 2).min(MAX_RETRY_DELAY));
        Self { since: before.map_or(now, |before| before.since), pause, retry_at: now + pause }
    }
}

impl Connection {
    /// Waits for more; returns `false` at the end of the stream.
    async fn read_more(&mut self) -> Result<bool, TooLarge> {
        let Some(Ok(bytes)) = self.body.next().await else { return Ok(false) };
        self.waiting.extend(self.parser.take(&bytes)?);
        Ok(true)
    }
}
