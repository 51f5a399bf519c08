//! Follows the output of a run's guests, line by line, until the run has ended.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use api::{self, LogAttempt, LogEvent};
use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{Sse, sse::Event},
};
use flow::{CallId, RunId, WorkerName};
use futures::{Stream, stream};
use logbook::{LoadError, Logbook, Summary, Version};
use protocol::{AttemptLog, LiveLine, LiveLog, LogJoin};
use tokio::sync::broadcast;
use tracing::warn;

use super::{incarnation::Incarnation, live::LiveLines};
use crate::{auth::permission::Permission, extract::Run, lines::until_changed, problem::Problem, state::Shared};

/// Follows the output of a run's guests.
///
/// The data of each event is a JSON object. `log` is a line, `log-missing` has the number of lines of a running attempt that are
/// not known yet, `log-cut` means that an attempt wrote more than is stored, `log-end` that all lines of an attempt were sent,
/// and `run` is the last event. The lines of ended attempts come first. Lines of a running attempt come as it writes them; lost
/// lines follow when it ends. Each line comes once. After a reconnect with `Last-Event-ID`, lines of attempts that have not
/// ended may come again.
#[utoipa::path(get, operation_id = "follow_run_logs", path = "/v1/runs/{run}/logs/follow", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("last-event-id" = Option<String>, Header, description = "The id of the last received event")), responses(
        (status = 200, description = "The events; the schema is of the data of one", body = api::LogEvent, content_type = "text/event-stream"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn follow(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Run(run): Run,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let returned = match headers.get("last-event-id") {
        None => Version::NONE,
        Some(id) => id.to_str().ok().and_then(|id| id.parse().ok()).map(Version::new).ok_or_else(|| {
            Problem::bad_request("the header Last-Event-ID holds no id of an event")
                .hint("leave it out to receive all events")
        })?,
    };
    let place = state.event_streams.take_place(permission)?;
    // Check first, so that no queue is declared for an unknown run.
    let summary = state.dependencies.logbook.summary(&run).await?;
    let changes = state.dependencies.engine.changes();
    let follow = LogFollow::new(run.clone(), state.dependencies.logbook.clone());
    let incarnation = Some(Incarnation::of(&summary));
    let mut follow = LogFollow { returned, changes: Some(changes), incarnation, ..follow };
    if !summary.info.state.is_final() {
        let live = LiveLines::open(&state.dependencies.broker, &run).await;
        follow = follow.with(live.map_err(|error| Problem::internal(&error))?);
    }
    let events = stream::unfold(follow, async |mut follow| match follow.next().await {
        Ok(event) => event.map(|(returned, event)| {
            let data = serde_json::to_string(&event).expect("texts and numbers serialize");
            (Ok(Event::default().id(returned.get().to_string()).data(data)), follow)
        }),
        // The follower reconnects with the last id it received.
        Err(error) => {
            warn!(run = %follow.run, error = &error as &dyn std::error::Error, "following was ended");
            None
        }
    });
    Ok(place.send(events, state.stop.clone()))
}

/// Follows the output of a run's guests. Each line comes once, in the order of each source of an attempt unless some came
/// late.
pub struct LogFollow {
    run: RunId,
    logbook: Arc<dyn Logbook>,
    /// The run that was first read.
    incarnation: Option<Incarnation>,
    /// Live lines; without them, lines are known when attempts end.
    live: Option<LiveLines>,
    changes: Option<broadcast::Receiver<RunId>>,
    /// Published lines, before it is known that they are of this run.
    received: Option<LiveLog>,
    join: LogJoin,
    /// The version up to which all recorded logs were read.
    read: Option<Version>,
    /// The version up to which all recorded logs were returned.
    returned: Version,
    /// Events to return, each with the version up to which all recorded logs are returned after it.
    waiting: VecDeque<(Version, LogEvent)>,
    ended: bool,
}

impl LogFollow {
    /// Follows the recorded logs of a run.
    #[must_use]
    pub fn new(run: RunId, logbook: Arc<dyn Logbook>) -> Self {
        let (join, waiting) = (LogJoin::default(), VecDeque::new());
        let (incarnation, live, changes, received, read) = (None, None, None, None, None);
        let returned = Version::NONE;
        Self { run, logbook, incarnation, live, changes, received, join, read, returned, waiting, ended: false }
    }

    /// Also follows the lines of running attempts.
    #[must_use]
    pub fn with(self, live: LiveLines) -> Self {
        Self { live: Some(live), ..self }
    }

    /// Waits for the next event, and the version up to which all recorded logs are returned after it. Returns `None` once
    /// the run has ended. Poll it to its end.
    ///
    /// # Errors
    /// [`LoadError`] when the logs cannot be read, or were deleted with their run.
    pub async fn next(&mut self) -> Result<Option<(Version, LogEvent)>, LoadError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.returned = event.0;
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
            // All lines of a run that has ended are recorded.
            if let Some(log) = self.received.take().filter(|_| !self.ended) {
                self.take(log);
            }
            if self.waiting.is_empty() {
                self.received = self.wait().await;
            }
        }
    }

    /// Reads the logs that were recorded since the last read.
    async fn read(&mut self) -> Result<(), LoadError> {
        // Read before the logs: whatever is recorded in between is read once more.
        let summary = self.summary().await?;
        let state = summary.info.state;
        if self.read != Some(summary.version) {
            let logs = self.logbook.logs(&self.run, self.read.unwrap_or(self.returned)).await?;
            // They are of the run of the summary if it is still there.
            self.summary().await?;
            let before = self.returned;
            for AttemptLog { call, worker, log, .. } in logs.into_iter().filter(|log| !log.log.is_silent()) {
                let lines = self.join.recorded(&call, &log);
                let attempt = attempt(&call, worker.as_ref());
                self.add_lines(before, &attempt, lines);
                if log.cut {
                    self.waiting.push_back((before, LogEvent::Cut(attempt.clone())));
                }
                self.waiting.push_back((before, LogEvent::End(attempt)));
            }
            self.read = Some(summary.version);
            // After the last event, all of them are returned.
            if let Some((returned, _)) = self.waiting.back_mut() {
                *returned = summary.version;
            }
        }
        if state.is_final() {
            let (run, state) = (self.run.to_string(), state.into());
            self.waiting.push_back((summary.version, LogEvent::Run { run, state }));
            self.ended = true;
        }
        Ok(())
    }

    /// The summary of the run that was first read.
    async fn summary(&mut self) -> Result<Summary, LoadError> {
        if let Some(incarnation) = &self.incarnation {
            return incarnation.summary(&*self.logbook).await;
        }
        let summary = self.logbook.summary(&self.run).await?;
        self.incarnation = Some(Incarnation::of(&summary));
        Ok(summary)
    }

    /// Waits until there may be new logs; returns published lines.
    async fn wait(&mut self) -> Option<LiveLog> {
        let Self { live, changes, run, .. } = self;
        let live = async {
            match live {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        // Both arms only wait.
        let log = tokio::select! {
            log = live => log,
            () = until_changed(changes, run) => return None,
        };
        if log.is_none() {
            // The broker has closed; recorded lines still come.
            self.live = None;
        }
        log
    }

    fn take(&mut self, log: LiveLog) {
        let attempt = attempt(&log.call, Some(&log.worker));
        let joined = self.join.live(log);
        // Logs that were read before may not be returned yet.
        let returned = self.waiting.back().map_or(self.returned, |(returned, _)| *returned);
        if joined.missing > 0 {
            let missing = LogEvent::Missing { attempt: attempt.clone(), lines: joined.missing };
            self.waiting.push_back((returned, missing));
        }
        self.add_lines(returned, &attempt, joined.lines);
    }

    fn add_lines(&mut self, returned: Version, attempt: &LogAttempt, lines: Vec<LiveLine>) {
        for LiveLine { number, line } in lines {
            let line =
                LogEvent::Line { attempt: attempt.clone(), number, level: line.level.as_str().into(), text: line.text };
            self.waiting.push_back((returned, line));
        }
    }
}

fn attempt(call: &CallId, worker: Option<&WorkerName>) -> LogAttempt {
    LogAttempt {
        task: call.task.to_string(),
        call: call.action.into(),
        firing: call.firing.get(),
        attempt: call.attempt.get(),
        worker: worker.map(ToString::to_string),
    }
}
