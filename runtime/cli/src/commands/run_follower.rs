//! Shows a run that this process drives, until it has ended.

use std::{pin::Pin, sync::Arc};

use ::server::LiveLines;
use broker::Broker;
use engine::{Engine, Watch, WatchEvent};
use flow::{Labels, RunId};
use machine::{Change, Machine, NodeChange};
use protocol::{AttemptLog, LiveLog, LogJoin, RunCommand, events};
use store::Store;
use tracing::debug;

use super::STOP_GRACE;
use crate::{display::Display, signals::StopSignal};

/// A run command on its way to the engine.
type CommandFuture<'a> = Pin<Box<dyn Future<Output = Result<(), engine::CommandError>> + Send + 'a>>;

/// Shows a run until it has ended.
pub(super) struct RunFollower<'a> {
    pub(super) engine: &'a Engine,
    pub(super) run_id: &'a RunId,
    pub(super) labels: &'a Labels,
    pub(super) store: &'a dyn Store,
}

/// The lines of guests while they run; `None` if they are not available. Then lines are shown when attempts end.
pub(super) async fn live_lines(broker: &Arc<dyn Broker>, run: &RunId) -> Option<LiveLines> {
    let opened = LiveLines::open(broker, run).await;
    opened
        .inspect_err(|error| debug!(error = error as &dyn std::error::Error, "lines are shown at the end of attempts"))
        .ok()
}

impl RunFollower<'_> {
    /// Shows what happens until the run has ended. On the first stop request, running calls get some time to finish and are
    /// then abandoned. On the second request it returns at once.
    pub(super) async fn run(
        &self,
        mut watch: Watch,
        mut live: Option<LiveLines>,
        display: &mut Display,
        stop: &StopSignal,
        advice: impl Future<Output = Option<String>>,
    ) -> Option<Arc<Machine>> {
        let Self { engine, run_id, labels, store } = *self;
        tokio::pin!(advice);
        let (mut is_stopping, mut is_advised) = (false, false);
        let grace = tokio::time::sleep(STOP_GRACE);
        tokio::pin!(grace);
        let mut is_abandoned = false;
        let mut lines = LogJoin::default();
        let mut redraw = tokio::time::interval(Display::REDRAW_INTERVAL);
        // Run concurrently with everything else: unless changes are received meanwhile, the engine waits for this process.
        let mut command: Option<CommandFuture<'_>> = None;
        loop {
            tokio::select! {
                result = async { command.as_mut().expect("a command is pending").await }, if command.is_some() => {
                    command = None;
                    result.ok()?;
                }
                event = watch.next() => match event? {
                    WatchEvent::Change(change) => {
                        let change = load_values(store, change).await;
                        let event = events::of_change(run_id, display.flow(), &change);
                        let event = event.map(|event| event.with_labels(labels));
                        event.iter().for_each(|event| display.event(event));
                    }
                    WatchEvent::Log(AttemptLog { call, log, .. }) => {
                        display.log(&call, &lines.recorded(&call, &log), log.cut);
                    }
                    WatchEvent::Progress(progress) => display.progress(&progress),
                    WatchEvent::Ended(machine) => return Some(machine),
                },
                log = next_lines(&mut live) => {
                    let call = log.call.clone();
                    // Missing lines come when the attempt ends.
                    display.log(&call, &lines.live(log).lines, false);
                }
                _ = redraw.tick() => display.draw(),
                advice = &mut advice, if !is_advised => {
                    is_advised = true;
                    advice.iter().for_each(|advice| display.note(advice));
                }
                () = stop.requested.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + STOP_GRACE);
                    display.note("stopping: running calls have five seconds to finish; again to stop at once");
                    command = Some(Box::pin(async { engine.command_local(run_id, RunCommand::Suspend).await.map(drop) }));
                }
                () = &mut grace, if is_stopping && !is_abandoned => {
                    is_abandoned = true;
                    command = Some(Box::pin(engine.abandon(run_id.clone())));
                }
                () = stop.forced.cancelled() => return None,
            }
        }
    }
}

/// The next lines of a guest. Cancel-safe; waits forever when none are followed.
async fn next_lines(live: &mut Option<LiveLines>) -> LiveLog {
    if let Some(lines) = live
        && let Some(log) = lines.next().await
    {
        return log;
    }
    // The broker has closed, or no lines are followed.
    *live = None;
    std::future::pending().await
}

/// The change, with values loaded from the store.
async fn load_values(store: &dyn Store, change: Change) -> Change {
    match change {
        Change::Node(change) => {
            let provides = match change.provides {
                Some(provides) => Some(store::values::load_values(store, provides).await),
                None => None,
            };
            Change::Node(NodeChange { provides, ..change })
        }
        change @ (Change::Run { .. } | Change::Firing { .. }) => change,
    }
}
