//! One watcher: a position among the recent events, and a filter.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use api::{LostEvents, RunsEvent};
use flow::Namespace;
use logbook::{LoadError, Logbook};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Watched,
    buffer::{Cursor, Page},
    event::{EventFilter, RecentEvent},
};

/// The maximum number of events that a watcher takes at once.
const MAX_PAGE: usize = 64;

/// The minimum pause between two reads that find everything. At a high rate, nobody needs each event at once, and hundreds of watchers are
/// woken a few times a second and not thousands of times.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// The number of events that a filter leaves out, after which a watcher gets its position without an event: if it reconnects much later, the
/// buffer still reaches back to it.
const SILENT_EVENTS: u64 = 1_000;

/// What a watcher receives next.
#[derive(Debug)]
pub(crate) enum Watchable {
    /// An event, with the position after it.
    Event(Cursor, Arc<RecentEvent>),
    /// Events were lost before this position.
    Lost(Cursor),
    /// Nothing that the watcher wants happened before this position.
    Position(Cursor),
}

/// Receives the events that a filter lets through.
pub(crate) struct Watcher {
    watched: Watched,
    logbook: Arc<dyn Logbook>,
    namespace: Option<Namespace>,
    filter: EventFilter,
    /// Where to read on.
    at: Cursor,
    /// The last position that was returned; `None` before the first.
    returned: Option<Cursor>,
    waiting: VecDeque<(Cursor, Arc<RecentEvent>)>,
    changed: watch::Receiver<()>,
    read_at: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(
        watched: Watched,
        logbook: Arc<dyn Logbook>,
        namespace: Option<Namespace>,
        filter: EventFilter,
        at: Cursor,
    ) -> Self {
        let (returned, waiting, changed, read_at) = (None, VecDeque::new(), watched.0.changed.subscribe(), None);
        Self { watched, logbook, namespace, filter, at, returned, waiting, changed, read_at }
    }

    /// Waits for what comes next. It begins with the position, so that a watcher that reconnects before the first event misses nothing.
    /// Poll it to its end.
    ///
    /// # Errors
    /// [`LoadError`] when the labels of a run cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Watchable, LoadError> {
        loop {
            while let Some((after, event)) = self.waiting.pop_front() {
                if self.has_labels(&event).await? {
                    return Ok(self.returning(after, Watchable::Event(after, event)));
                }
            }
            // What is added after this wakes the watcher.
            self.changed.mark_unchanged();
            let (namespace, filter) = (self.namespace.as_ref(), &self.filter);
            let page = self.watched.0.buffer().read(namespace, self.at, MAX_PAGE, |event| filter.matches(event));
            match page {
                Page::Lost(at) => {
                    self.at = at;
                    return Ok(self.returning(at, Watchable::Lost(at)));
                }
                Page::Events(events, next) if events.is_empty() => {
                    self.at = next;
                    if self.returned.is_none_or(|returned| next.distance(returned) >= SILENT_EVENTS) {
                        return Ok(self.returning(next, Watchable::Position(next)));
                    }
                    self.wait().await;
                }
                Page::Events(events, next) => {
                    self.at = next;
                    self.waiting.extend(events);
                }
            }
        }
    }

    fn returning(&mut self, at: Cursor, what: Watchable) -> Watchable {
        self.returned = Some(at);
        what
    }

    async fn has_labels(&self, event: &RecentEvent) -> Result<bool, LoadError> {
        self.watched.0.labels.has_all(&self.filter.labels, &event.run, &*self.logbook).await
    }

    /// Waits until there may be more.
    async fn wait(&mut self) {
        if let Some(read_at) = self.read_at {
            sleep_until(read_at + MIN_PAUSE).await;
        }
        // The sender is gone with the server.
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.read_at = Some(Instant::now());
    }
}

impl Watchable {
    /// Its id and its line; no line for a position.
    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        match self {
            Self::Event(after, event) => (after.to_string(), Some(event.line.clone())),
            Self::Lost(after) => {
                let message = "events of all runs were lost before this one: read the list of runs again (GET /v1/runs, or `waft list`)";
                let event = RunsEvent::Lost(LostEvents { message: message.into() });
                (after.to_string(), Some(serde_json::to_string(&event).expect("a text serializes")))
            }
            Self::Position(after) => (after.to_string(), None),
        }
    }
}
