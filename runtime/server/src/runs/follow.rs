//! Follows the output of a run's guests, line by line, until the run has ended.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use api::{self, LogAttempt, LogEvent};
use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{Sse, sse::Event},
};
use engine::RunChanges;
use flow::{CallId, RunId, RunState, WorkerName};
use futures::{Stream, stream};
use logbook::{LoadError, LogPage, LogPosition, LogRange, Logbook, Summary, Version};
use protocol::{AttemptLog, CallLog, LiveLine, LiveLog, LogJoin};
use sandbox::Owner;
use tracing::warn;

use super::{incarnation::Incarnation, live::LiveLines};
use crate::{
    auth::permission::Permission,
    extract::Run,
    lines::{MIN_POLL_INTERVAL, until_changed},
    problem::Problem,
    state::Shared,
    turns,
};

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
        None => LogPosition::START,
        Some(id) => id.to_str().ok().and_then(position).ok_or_else(|| {
            Problem::bad_request("the header Last-Event-ID holds no id of an event")
                .hint("leave it out to receive all events")
        })?,
    };
    let namespace = permission.sender().namespace().cloned();
    let place = state.event_streams.take_place(permission)?;
    // Check first, so that no queue is declared for an unknown run.
    let summary = state.dependencies.logbook.summary(&run).await?;
    let changes = state.dependencies.engine.changes(run.clone());
    let follow = LogFollow::new(run.clone(), state.dependencies.logbook.clone()).starting_at(returned);
    let incarnation = Some(Incarnation::of(&summary));
    let mut follow = LogFollow { changes: Some(changes), incarnation, ..follow }.in_turns_of(namespace.clone());
    if !summary.info.state.is_final() {
        let live = LiveLines::open_in_turn(&state.dependencies.broker, &run, (&state.live_lines, namespace)).await;
        follow = follow.with(live.map_err(|error| Problem::internal(&error))?);
    }
    let events = stream::unfold(follow, async |mut follow| match follow.next().await {
        Ok(event) => event.map(|(returned, event)| {
            let data = serde_json::to_string(&event).expect("texts and numbers serialize");
            (Ok(Event::default().id(returned.to_string()).data(data)), follow)
        }),
        // The follower reconnects with the last id it received.
        Err(error) => {
            warn!(run = %follow.run, error = &error as &dyn std::error::Error, "following was ended");
            None
        }
    });
    Ok(place.send(events, state.stop.clone()))
}

/// The position of an event id. An earlier server sent the version before which all recorded logs were returned.
fn position(id: &str) -> Option<LogPosition> {
    id.parse().ok().or_else(|| Some(LogPosition::at(Version::new(id.parse().ok()?))))
}

/// The bytes of stored logs with which a page that is read ends. A log has at most 64 KiB more.
const MAX_PAGE_BYTES: usize = 64 << 10;

/// The maximum number of stored logs that are read at once.
const MAX_PAGE_LOGS: usize = 1_000;

/// Follows the output of a run's guests. Each line comes once, in the order of each source of an attempt unless some came
/// late. It has at most one page of recorded logs in memory.
pub struct LogFollow {
    run: RunId,
    logbook: Arc<dyn Logbook>,
    /// The run that was first read.
    incarnation: Option<Incarnation>,
    /// Live lines; without them, lines are known when attempts end.
    live: Option<LiveLines>,
    changes: Option<RunChanges>,
    /// Published lines, before it is known that they are of this run.
    received: Option<LiveLog>,
    join: LogJoin,
    /// The version up to which all recorded logs were read; `None` while there are more pages of them.
    read: Option<Version>,
    /// Where the next page of recorded logs begins.
    next: LogPosition,
    /// The position before which all recorded logs were returned.
    returned: LogPosition,
    /// Events to return, each with the position before which all recorded logs are returned after it.
    waiting: VecDeque<(LogPosition, WaitingEvent)>,
    ended: bool,
    /// Who follows, among others whose reads take turns; `None` in a process that has only this follower.
    follower: Option<Follower>,
}

/// Whose turns the reads of a follower wait for.
struct Follower(Owner);

/// An event to return. The attempt is shared, since a log may have thousands of empty lines.
enum WaitingEvent {
    Line(Arc<LogAttempt>, LiveLine),
    Missing(Arc<LogAttempt>, usize),
    Cut(Arc<LogAttempt>),
    End(Arc<LogAttempt>),
    Run(RunState),
}

impl WaitingEvent {
    fn into_event(self, run: &RunId) -> LogEvent {
        match self {
            Self::Line(attempt, LiveLine { number, line }) => {
                let (attempt, level) = ((*attempt).clone(), line.level.as_str().into());
                LogEvent::Line { attempt, number, level, text: line.text }
            }
            Self::Missing(attempt, lines) => LogEvent::Missing { attempt: (*attempt).clone(), lines },
            Self::Cut(attempt) => LogEvent::Cut((*attempt).clone()),
            Self::End(attempt) => LogEvent::End((*attempt).clone()),
            Self::Run(state) => LogEvent::Run { run: run.to_string(), state: state.into() },
        }
    }
}

impl LogFollow {
    /// Follows the recorded logs of a run.
    #[must_use]
    pub fn new(run: RunId, logbook: Arc<dyn Logbook>) -> Self {
        let (join, waiting) = (LogJoin::default(), VecDeque::new());
        let (incarnation, live, changes, received, read) = (None, None, None, None, None);
        let (next, returned, ended, follower) = (LogPosition::START, LogPosition::START, false, None);
        Self {
            run,
            logbook,
            incarnation,
            live,
            changes,
            received,
            join,
            read,
            next,
            returned,
            waiting,
            ended,
            follower,
        }
    }

    /// Lets the reads wait for the turns of a sender.
    fn in_turns_of(self, sender: Owner) -> Self {
        Self { follower: Some(Follower(sender)), ..self }
    }

    /// Leaves out the logs before a position.
    fn starting_at(self, returned: LogPosition) -> Self {
        Self { next: returned, returned, ..self }
    }

    /// Also follows the lines of running attempts.
    #[must_use]
    pub fn with(self, live: LiveLines) -> Self {
        Self { live: Some(live), ..self }
    }

    /// Waits for the next event, and the position before which all recorded logs are returned after it. Returns `None` once
    /// the run has ended. Poll it to its end.
    ///
    /// # Errors
    /// [`LoadError`] when the logs cannot be read, or were deleted with their run.
    pub async fn next(&mut self) -> Result<Option<(LogPosition, LogEvent)>, LoadError> {
        loop {
            if let Some((returned, event)) = self.waiting.pop_front() {
                self.returned = returned;
                return Ok(Some((returned, event.into_event(&self.run))));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
            if self.read.is_none() {
                continue;
            }
            // All lines of a run that has ended are recorded.
            if let Some(log) = self.received.take().filter(|_| !self.ended) {
                self.take(log);
            }
            if self.waiting.is_empty() {
                self.received = self.wait().await;
            }
        }
    }

    /// Reads the next page of the logs that were recorded since the last read.
    async fn read(&mut self) -> Result<(), LoadError> {
        // Many followers of busy runs would keep the connections of the logbook from others.
        let _turn = match &self.follower {
            Some(Follower(sender)) => Some(turns::for_stream(sender.clone()).await),
            None => None,
        };
        // Read before the logs: whatever is recorded in between is noticed as a later version.
        let summary = self.summary().await?;
        if self.read != Some(summary.version) {
            let (from, limit, max_bytes) = (self.next, MAX_PAGE_LOGS, MAX_PAGE_BYTES);
            let range = LogRange { task: None, from, limit, max_bytes };
            let LogPage { logs, next } = self.logbook.logs(&self.run, &range).await?;
            // They are of the run of the summary if it is still there.
            self.summary().await?;
            for (position, AttemptLog { call, worker, log, .. }) in logs {
                self.next = position.next();
                if !log.is_silent() {
                    self.add_recorded(position, &call, worker.as_ref(), &log);
                }
            }
            match next {
                Some(next) => {
                    self.next = next;
                    self.read = None;
                    return Ok(());
                }
                None => {
                    // No later append has a lower position.
                    self.next = self.next.max(LogPosition::at(summary.version));
                    self.read = Some(summary.version);
                }
            }
        }
        let state = summary.info.state;
        if state.is_final() {
            self.waiting.push_back((self.next, WaitingEvent::Run(state)));
            self.ended = true;
        }
        Ok(())
    }

    /// Adds the events of a recorded log. After the last one, the log is returned.
    fn add_recorded(&mut self, position: LogPosition, call: &CallId, worker: Option<&WorkerName>, log: &CallLog) {
        let lines = self.join.recorded(call, log);
        let attempt = attempt(call, worker);
        self.add_lines(position, &attempt, lines);
        if log.cut {
            self.waiting.push_back((position, WaitingEvent::Cut(attempt.clone())));
        }
        self.waiting.push_back((position.next(), WaitingEvent::End(attempt)));
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
        let Self { live, changes, .. } = self;
        let live = async {
            match live {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        // Both arms only wait.
        let log = tokio::select! {
            log = live => log,
            () = until_changed(changes, MIN_POLL_INTERVAL) => return None,
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
            self.waiting.push_back((returned, WaitingEvent::Missing(attempt.clone(), joined.missing)));
        }
        self.add_lines(returned, &attempt, joined.lines);
    }

    fn add_lines(&mut self, returned: LogPosition, attempt: &Arc<LogAttempt>, lines: Vec<LiveLine>) {
        self.waiting.extend(lines.into_iter().map(|line| (returned, WaitingEvent::Line(attempt.clone(), line))));
    }
}

fn attempt(call: &CallId, worker: Option<&WorkerName>) -> Arc<LogAttempt> {
    Arc::new(LogAttempt {
        task: call.task.to_string(),
        call: call.action.into(),
        firing: call.firing.get(),
        attempt: call.attempt.get(),
        worker: worker.map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing, Timestamp};
    use logbook::{Append, MaxUnended, Memory, RunInfo};
    use machine::{Fact, Record};

    use super::*;

    const LOGS: u32 = 40;

    /// The logbook of a run that has ended, with many logs, two for each append.
    async fn logbook() -> Arc<dyn Logbook> {
        let logbook = Memory::new();
        let log = |attempt: u32| {
            let (task, attempt) = ("x".parse().unwrap(), Attempt::new(attempt));
            let call =
                CallId { run: "r".parse().unwrap(), task, firing: Firing::FIRST, attempt, action: Action::Apply };
            let mut log = CallLog::default();
            log.push("info", format!("{attempt}"));
            log.push("stdout", "a".repeat(30 << 10));
            AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
        };
        for number in 0..LOGS / 2 {
            let state = if number + 1 == LOGS / 2 { RunState::Success } else { RunState::Running };
            let append = Append {
                run: "r".parse().unwrap(),
                follows: Version::new(number.into()),
                records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
                info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state },
                logs: vec![log(2 * number + 1), log(2 * number + 2)],
                published: Version::NONE,
                max_unended: MaxUnended::default(),
                memos: logbook::MemoChanges::default(),
            };
            logbook.append(vec![append]).await.unwrap();
        }
        Arc::new(logbook)
    }

    /// The attempts whose ends are returned from a position on, each with the position after it.
    async fn ended(logbook: &Arc<dyn Logbook>, from: LogPosition) -> Vec<(u32, LogPosition)> {
        let mut follow = LogFollow::new("r".parse().unwrap(), logbook.clone()).starting_at(from);
        let mut ended = Vec::new();
        while let Some((returned, event)) = follow.next().await.unwrap() {
            // Two lines and an end for each log of a page, and the end of the run.
            assert!(follow.waiting.len() <= 3 * 3 + 1, "only a page is in memory");
            if let LogEvent::End(attempt) = event {
                ended.push((attempt.attempt, returned));
            }
        }
        ended
    }

    #[tokio::test]
    async fn a_follower_has_one_page_in_memory_and_goes_on_behind_each_log() {
        let logbook = logbook().await;
        let all = ended(&logbook, LogPosition::START).await;
        let attempts = |ended: &[(u32, LogPosition)]| ended.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>();
        assert_eq!(attempts(&all), (1..=LOGS).collect::<Vec<_>>());
        for (index, (_, returned)) in all.iter().enumerate().step_by(7) {
            let id = returned.to_string();
            assert_eq!(ended(&logbook, position(&id).unwrap()).await, all[index + 1..], "after {id}");
        }
        let version = ended(&logbook, position("3").unwrap()).await;
        assert_eq!(version, all[6..], "an id of an earlier server is a version");
    }

    #[tokio::test(start_paused = true)]
    async fn the_followers_of_a_sender_read_in_turn() {
        let sender = flow::Namespace::new("many-followers").ok();
        let turns = [turns::for_stream(sender.clone()).await, turns::for_stream(sender.clone()).await];
        let mut follow = LogFollow::new("r".parse().unwrap(), logbook().await).in_turns_of(sender);
        let waits = tokio::time::timeout(std::time::Duration::from_secs(60), follow.next()).await;
        assert!(waits.is_err(), "others of the sender read");
        drop(turns);
        assert!(matches!(follow.next().await, Ok(Some((_, LogEvent::Line { .. })))));
    }
}
