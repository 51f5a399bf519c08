//! Runs a recorded attempt again: the same module with the same inputs, limits, clock and randomness. It reaches nothing outside
//! its sandbox, and its HTTP requests are answered from the record.

use std::{sync::Arc, time::Duration};

use flow::Grants;
use gateway::{Closed, Outbound};
use protocol::{CallLog, HttpExchanges, Job};
use sandbox::{Compiled, Completion, Frame, KeptSlot, Level, Observer, Sandbox, Standard};
use tokio_util::sync::CancellationToken;

use crate::{
    guest_runner::{log, sandbox_call, usage},
    http_player::HttpPlayer,
    http_recorder::HttpRecorder,
};

/// What answers the requests of a replayed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayedHttp {
    /// The record of the attempt.
    Recorded(HttpExchanges),
    /// Its requests were sent, and not recorded.
    Unrecorded,
    /// It was granted no requests.
    NotGranted,
}

/// How a replayed attempt ended.
#[derive(Debug)]
pub struct ReplayResult {
    /// Its result.
    pub completion: Completion,
    /// What the guest wrote and used.
    pub log: CallLog,
    /// The functions on its stack when it trapped, innermost first.
    pub backtrace: Vec<Frame>,
    /// The requests that had no recorded answer, each in a sentence.
    pub mismatches: Vec<String>,
    /// The number of recorded requests that it did not send.
    pub unsent: usize,
}

/// Runs an attempt. All values of the job are loaded.
pub async fn replay(sandbox: &Sandbox, module: &Compiled, job: &Job, http: ReplayedHttp) -> ReplayResult {
    let player = match http {
        ReplayedHttp::Recorded(exchanges) => Some(Arc::new(HttpPlayer::new(exchanges))),
        ReplayedHttp::Unrecorded => Some(Arc::new(HttpPlayer::unrecorded())),
        ReplayedHttp::NotGranted => None,
    };
    let gateway: Arc<dyn Outbound> = match &player {
        Some(player) => player.clone(),
        None => {
            let access = Grants::default().of_call(&job.access, &job.flow, &job.call.task, &job.module);
            Arc::new(Closed(Arc::new(access)))
        }
    };
    let counter = Arc::new(HttpRecorder::counting(gateway));
    // The arguments are data of the flow. Nothing else of the machine is there.
    let outside = sandbox::Outside {
        arguments: job.access.arguments.clone(),
        gateway: Some(counter.clone()),
        ..sandbox::Outside::default()
    };
    let call = sandbox_call(job, outside, CancellationToken::new(), Arc::new(KeptSlot));
    let report = sandbox.call(module, call, Arc::new(Unobserved)).await;
    let (counts, _) = counter.take();
    let usage = (report.stats.duration > Duration::ZERO).then(|| usage(job, &report, counts));
    let (mismatches, unsent) = player.map(|player| player.differences()).unwrap_or_default();
    let log = CallLog { usage, ..log(&report) };
    ReplayResult { completion: report.completion, log, backtrace: report.backtrace, mismatches, unsent }
}

/// Nobody watches a replay: it shows its lines at its end.
struct Unobserved;

impl Observer for Unobserved {
    fn log(&self, _: Level, _: &str) {}

    fn print(&self, _: Standard, _: &[u8]) {}

    fn progress(&self, _: f64, _: &str) {}
}
