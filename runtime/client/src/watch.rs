//! Watching a run over HTTP, for as long as it takes and over broken connections.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::time::{Instant, sleep_until};

use crate::{
    Client, ClientError, Event,
    event_stream::{Parser, ServerSentEvent},
};

/// How long a server may be away before a watcher gives up.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause before the first try to connect again; it doubles up to the longest.
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// A run that is watched: a stream of its lines, which ends with the run.
pub struct Watch {
    client: Client,
    run: String,
    what: Events,
    /// The last event that was taken.
    after: Option<String>,
    ended: bool,
    connection: Option<Connection>,
    /// While the server is away.
    away: Option<Disconnected>,
}

/// Which events of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// What changes in it.
    Changes,
    /// What its guests write.
    Logs,
}

/// A server that was there, and is away.
#[derive(Clone, Copy)]
struct Disconnected {
    since: Instant,
    pause: Duration,
    again_at: Instant,
}

struct Connection {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
    waiting: VecDeque<ServerSentEvent>,
}

impl Watch {
    pub(crate) fn new(client: Client, run: String, after: Option<String>) -> Self {
        Self { client, run, what: Events::Changes, after, ended: false, connection: None, away: None }
    }

    /// The lines that guests write, which end with a line of the run as well.
    pub(crate) fn of_logs(client: Client, run: String) -> Self {
        Self { what: Events::Logs, ..Self::new(client, run, None) }
    }

    /// The next line; `None` once the run has ended. When the connection breaks, another one goes on where it broke.
    /// Dropping the future loses no line, but a request that was on its way is sent again: poll it to its end.
    ///
    /// # Errors
    /// [`ClientError`] when the server refuses, or stays away for a minute. Who has heard nothing yet is told at once.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(connection) = &mut self.connection {
                if let Some(message) = connection.waiting.pop_front() {
                    let event = Event { id: message.id, line: message.data };
                    self.after = Some(event.id.clone());
                    self.ended = event.is_end();
                    return Ok(Some(event));
                }
                if connection.read_more().await {
                    self.away = None;
                    continue;
                }
                self.connection = None;
                if self.ended {
                    return Ok(None);
                }
                self.away = Some(Disconnected::next(self.away));
            }
            if let Some(away) = self.away {
                sleep_until(away.again_at).await;
            }
            self.connect().await?;
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let patient = self.away.is_some_and(|away| away.since.elapsed() < RECONNECT_TIMEOUT);
        match self.client.events(&self.run, self.what, self.after.as_deref()).await {
            Ok(_) if self.away.is_some() && !patient => Err(self.client.unexpected("its events break off".into())),
            Ok(response) => {
                let body = response.bytes_stream().boxed();
                self.connection = Some(Connection { body, parser: Parser::default(), waiting: VecDeque::new() });
                Ok(())
            }
            Err(error) => {
                let may_pass = matches!(error, ClientError::Unreachable { .. }) || error.status() >= Some(500);
                if !patient || !may_pass {
                    return Err(error);
                }
                self.away = Some(Disconnected::next(self.away));
                Ok(())
            }
        }
    }

    /// The same as a stream, for those who combine it with others. It ends with the run, or with an error.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<Event, ClientError>> {
        stream::try_unfold(self, |mut watch| async move { Ok(watch.next().await?.map(|event| (event, watch))) }).boxed()
    }
}

impl Disconnected {
    /// Away, or still so: the pauses grow.
    fn next(before: Option<Self>) -> Self {
        let now = Instant::now();
        let pause = before.map_or(INITIAL_RETRY_DELAY, |away| (away.pause * 2).min(MAX_RETRY_DELAY));
        Self { since: before.map_or(now, |away| away.since), pause, again_at: now + pause }
    }
}

impl Connection {
    /// Waits for more; `false` when there is no more to come.
    async fn read_more(&mut self) -> bool {
        let Some(Ok(bytes)) = self.body.next().await else { return false };
        let Some(messages) = self.parser.take(&bytes) else { return false };
        self.waiting.extend(messages);
        true
    }
}
