//! A run that this process drives, shown until it has ended.

use std::{pin::Pin, sync::Arc};

use ::server::LiveLines;
use broker::Broker;
use engine::{Engine, Watch, WatchEvent};
use flow::{Change, Machine, NodeChange, RunId};
use protocol::{AttemptLog, LiveLog, LogJoin, RunCommand};
use store::Store;
use tracing::debug;

use super::STOP_GRACE;
use crate::{display::Display, signals::StopSignal};

/// Something that the engine is being asked.
type CommandFuture<'a> = Pin<Box<dyn Future<Output = Result<(), engine::CommandError>> + Send + 'a>>;

/// A run that is shown until it has ended.
pub(super) struct RunFollower<'a> {
    pub(super) engine: &'a Engine,
    pub(super) run_id: &'a RunId,
    pub(super) store: &'a dyn Store,
}

/// The lines of guests while they run. Without them lines are shown when attempts end.
pub(super) async fn live_lines(broker: &Arc<dyn Broker>, run: &RunId) -> Option<LiveLines> {
    let opened = LiveLines::open(broker, run).await;
    opened
        .inspect_err(|error| debug!(error = error as &dyn std::error::Error, "lines are shown at the end of attempts"))
        .ok()
}

impl RunFollower<'_> {
    /// Shows what happens until the run has ended. Asked to stop, it lets running calls finish for a while, then gives
    /// them up; asked again, it leaves at once.
    pub(super) async fn run(
        &self,
        mut watch: Watch,
        mut live: Option<LiveLines>,
        display: &mut Display,
        stop: &StopSignal,
        advice: impl Future<Output = Option<String>>,
    ) -> Option<Arc<Machine>> {
        let Self { engine, run_id, store } = *self;
        tokio::pin!(advice);
        let (mut asked, mut advised) = (false, false);
        let patience = tokio::time::sleep(STOP_GRACE);
        tokio::pin!(patience);
        let mut gave_up = false;
        let mut lines = LogJoin::default();
        let mut redraw = tokio::time::interval(Display::REDRAW_INTERVAL);
        // Asked beside all else: what happens meanwhile has to be taken, or the engine waits for us.
        let mut asking: Option<CommandFuture<'_>> = None;
        loop {
            tokio::select! {
                asked = async { asking.as_mut().expect("it is there").await }, if asking.is_some() => {
                    asking = None;
                    asked.ok()?;
                }
                happening = watch.next() => match happening? {
                    WatchEvent::Change(change) => display.change(&load_values(store, change).await),
                    WatchEvent::Log(AttemptLog { call, log, .. }) => {
                        display.log(&call, &lines.recorded(&call, &log), log.cut);
                    }
                    WatchEvent::Progress(progress) => display.progress(&progress),
                    WatchEvent::Ended(machine) => return Some(machine),
                },
                log = next_lines(&mut live) => {
                    let call = log.call.clone();
                    // What is missing comes when the attempt ends.
                    display.log(&call, &lines.live(log).lines, false);
                }
                _ = redraw.tick() => display.draw(),
                advice = &mut advice, if !advised => {
                    advised = true;
                    advice.iter().for_each(|advice| display.note(advice));
                }
                () = stop.requested.cancelled(), if !asked => {
                    asked = true;
                    patience.as_mut().reset(tokio::time::Instant::now() + STOP_GRACE);
                    display.note("stopping: running calls have five seconds to finish; again to stop at once");
                    asking = Some(Box::pin(async { engine.command_local(run_id, RunCommand::Suspend).await.map(drop) }));
                }
                () = &mut patience, if asked && !gave_up => {
                    gave_up = true;
                    asking = Some(Box::pin(engine.abandon(run_id.clone())));
                }
                () = stop.forced.cancelled() => return None,
            }
        }
    }
}

/// The next lines of a guest, of those that are followed. Cancel-safe.
async fn next_lines(live: &mut Option<LiveLines>) -> LiveLog {
    if let Some(lines) = live
        && let Some(log) = lines.next().await
    {
        return log;
    }
    // The broker has closed, or none are followed.
    *live = None;
    std::future::pending().await
}

/// The change with the values that only the store has.
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
