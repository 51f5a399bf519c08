//! Finds open runs that no engine drives, and runs that are stuck: it collects the facts for the rule in `stuck.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::engine::CallLocation;
use ::logbook::{Filter, LoadError, Logbook, Summary};
use api::Check;
use flow::{CallId, Digest, NodeName, QueueName, RunState, Shard, Timestamp};
use machine::Machine;
use protocol::{events::rfc3339, lease, topology};
use tokio::time::{Instant, timeout_at};

use super::{
    QUERY_TIMEOUT, count, first_few,
    logbook::LogbookCheck,
    queues::{QueueState, Queues},
    stuck::{self, CallState, Driver, QueueActivity, RunHealth, WakeSources},
    within,
    workers::Workers,
};
use crate::runs::history::load_run;

/// The maximum number of open runs to list, and the maximum number to check: the runs whose last change is oldest.
const MAX_LISTED: usize = 5_000;
const MAX_CHECKED: usize = 200;

/// The time limit of reading one run, so that a run which is long, or waits for its turn, hides none of the others.
const RUN_TIMEOUT: Duration = Duration::from_millis(500);

/// The maximum number of outstanding calls, and of tasks with a pace, that are looked at in a run. All checked runs keep theirs until the
/// checks end.
const MAX_OF_RUN: usize = 200;

/// The age from which an outstanding call counts as old. A worker takes a lease after [`lease::LEASE_THRESHOLD`], and the
/// message needs some seconds.
const OLD_CALL_AGE: Duration = Duration::from_secs(lease::LEASE_THRESHOLD.as_secs() + 5);

/// The pause before a run that seems stuck is checked again. By then an answer that was on its way is recorded.
const RECHECK_DELAY: Duration = Duration::from_secs(1);

/// An open run, and what was found in its records. They may take much memory, so they are read one run after the other.
pub(super) struct OpenRun {
    pub(super) summary: Summary,
    pub(super) facts: RunFacts,
}

/// The facts of a run that checks need.
pub(super) struct RunFacts {
    /// The queues of its tasks.
    pub(super) queues: BTreeSet<QueueName>,
    /// The first of its tasks whose calls need permits.
    pub(super) paced: Vec<NodeName>,
    /// The modules of its tasks.
    pub(super) modules: BTreeSet<Digest>,
    fires: bool,
    has_timer: bool,
    waits_for_notification: bool,
    fetches: bool,
    /// The first of its outstanding calls.
    calls: Vec<OutstandingCall>,
    has_more_calls: bool,
}

/// An outstanding call of a run.
struct OutstandingCall {
    id: CallId,
    /// The call, for people.
    description: String,
    /// The time since when it is with the workers.
    since: Option<Timestamp>,
    /// Whether a worker holds a recorded lease on it.
    is_leased: bool,
    /// The queue of its task; `None` if its task is unknown.
    queue: Option<QueueName>,
    /// Whether it may need a permit.
    is_paced: bool,
}

impl RunFacts {
    fn of(machine: &Machine) -> Self {
        let tasks = || machine.flow().tasks().map(|(_, name, task)| (name, task));
        let paced = tasks().filter(|(_, task)| !task.pace.is_unlimited()).map(|(name, _)| name.clone());
        let mut outstanding = machine.outstanding_calls();
        let first: Vec<CallId> = outstanding.by_ref().take(MAX_OF_RUN).collect();
        let leased: BTreeSet<CallId> = machine.leased_calls().map(|(call, _)| call).collect();
        Self {
            queues: tasks().map(|(_, task)| task.queue.clone()).collect(),
            paced: paced.take(MAX_OF_RUN).collect(),
            modules: tasks().map(|(_, task)| task.module).collect(),
            // The next firing is not decided yet, or waits for notifications.
            fires: machine.flow().triggers.is_some(),
            has_timer: machine.next_due().is_some(),
            waits_for_notification: machine.waiting_tasks().next().is_some(),
            fetches: machine.has_pending_fetch(),
            has_more_calls: outstanding.next().is_some(),
            calls: first.into_iter().map(|call| OutstandingCall::of(machine, &leased, call)).collect(),
        }
    }
}

impl OutstandingCall {
    fn of(machine: &Machine, leased: &BTreeSet<CallId>, id: CallId) -> Self {
        let task = machine.task(&id.task);
        Self {
            description: describe_call(machine, &id),
            since: machine.outstanding_since(&id),
            is_leased: leased.contains(&id),
            queue: task.map(|task| task.queue.clone()),
            is_paced: task.is_some_and(|task| !task.pace.is_unlimited()),
            id,
        }
    }
}

/// The open runs to check.
#[derive(Default)]
pub(super) struct OpenRuns {
    pub(super) runs: Vec<OpenRun>,
    /// The number of listed open runs.
    listed: usize,
    of_shared_shards: u64,
    /// The runs that cannot be read.
    unreadable: Vec<String>,
    /// Why the runs could not be listed, if listing failed.
    error: Option<String>,
    logbook: Option<Arc<dyn Logbook>>,
}

impl OpenRuns {
    /// The number of open runs on shards that engines share.
    pub(super) fn of_shared_shards(&self) -> u64 {
        self.of_shared_shards
    }

    /// The number of listed open runs that were not read, or could not be.
    pub(super) fn not_read(&self) -> usize {
        self.listed.saturating_sub(self.runs.len())
    }
}

/// Reads the open runs whose last change is oldest.
pub(super) async fn load(logbook: Option<Arc<dyn Logbook>>) -> OpenRuns {
    let Some(logbook) = logbook else {
        return OpenRuns { error: Some("there is no logbook that can be read".to_owned()), ..OpenRuns::default() };
    };
    let states = vec![RunState::Running, RunState::Suspending];
    let filter = Filter { states, limit: MAX_LISTED, ..Filter::default() };
    let mut summaries = match within(QUERY_TIMEOUT, logbook.list(&filter)).await {
        Some(Ok(summaries)) => summaries,
        Some(Err(error)) => return OpenRuns { error: Some(error.to_string()), ..OpenRuns::default() },
        None => {
            let reason = format!("the logbook has not answered for {} seconds", QUERY_TIMEOUT.as_secs());
            return OpenRuns { error: Some(reason), ..OpenRuns::default() };
        }
    };
    summaries.sort_by_key(|summary| summary.changed_at);
    let of_shared_shards = summaries.iter().filter(|summary| is_shared(&summary.info.shard)).count() as u64;
    let listed = summaries.len();
    let reads = summaries.into_iter().take(MAX_CHECKED).map(|summary| {
        let (logbook, run) = (logbook.clone(), summary.run.clone());
        (summary, async move { Ok::<_, LoadError>(load_run(&logbook, &run).await?.answer(RunFacts::of).await) })
    });
    let open_runs = read_in_time(reads).await;
    OpenRuns { listed, of_shared_shards, logbook: Some(logbook), ..open_runs }
}

/// Reads runs one after the other, as far as there is time. Those that are not read in time are not among them.
async fn read_in_time<Reading>(reads: impl Iterator<Item = (Summary, Reading)>) -> OpenRuns
where
    Reading: Future<Output = Result<RunFacts, LoadError>>,
{
    let (mut open_runs, deadline) = (OpenRuns::default(), Instant::now() + QUERY_TIMEOUT);
    for (summary, reading) in reads {
        if Instant::now() >= deadline {
            break;
        }
        match timeout_at(deadline, within(RUN_TIMEOUT, reading)).await {
            Ok(Some(Ok(facts))) => open_runs.runs.push(OpenRun { summary, facts }),
            Ok(Some(Err(error))) => open_runs.unreadable.push(format!("{} ({error})", summary.run)),
            Ok(None) | Err(_) => {}
        }
    }
    open_runs
}

fn is_shared(shard: &Shard) -> bool {
    topology::shards().any(|shared| shared == *shard)
}

/// The facts that decide whether a run is stuck.
pub(super) struct RunInspector<'a> {
    pub(super) logbook: &'a LogbookCheck,
    pub(super) queues: &'a Queues,
    pub(super) workers: &'a Workers,
    /// The calls that the engine in this process knows.
    pub(super) calls: &'a BTreeMap<CallId, CallLocation>,
    /// Whether there is an engine in this process.
    pub(super) is_live: bool,
}

/// The results for all runs.
#[derive(Default)]
struct Findings {
    /// Runs on shared shards that no engine drives, and runs of a `waft run` that was killed.
    undriven: Vec<String>,
    interrupted: Vec<String>,
    stuck: Vec<(String, Vec<String>)>,
    unknown: Vec<(String, String)>,
}

impl RunInspector<'_> {
    /// Checks the runs.
    pub(super) async fn check(&self, open_runs: OpenRuns) -> Check {
        if let Some(reason) = open_runs.error {
            return Check::skipped("runs", reason);
        }
        let mut findings = Findings::default();
        for open in &open_runs.runs {
            let run = open.summary.run.to_string();
            match self.classify(open).await {
                RunHealth::Healthy => {}
                RunHealth::Undriven if is_shared(&open.summary.info.shard) => findings.undriven.push(run),
                RunHealth::Undriven => findings.interrupted.push(run),
                RunHealth::Stuck(calls) => findings.stuck.push((run, calls)),
                RunHealth::Unknown(reason) => findings.unknown.push((run, reason)),
            }
        }
        if !findings.stuck.is_empty() {
            tokio::time::sleep(RECHECK_DELAY).await;
            let still_stuck =
                within(QUERY_TIMEOUT, self.still_stuck(&open_runs, std::mem::take(&mut findings.stuck))).await;
            findings.stuck = still_stuck.unwrap_or_default();
        }
        report(&open_runs, &findings)
    }

    /// The runs that are still stuck after their records are read again.
    async fn still_stuck(&self, open_runs: &OpenRuns, stuck: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
        let mut still = Vec::new();
        let Some(logbook) = &open_runs.logbook else { return still };
        for (run, calls) in stuck {
            let Some(open) = open_runs.runs.iter().find(|open| open.summary.run.as_str() == run) else { continue };
            let now = logbook.summary(&open.summary.run).await;
            if now.is_ok_and(|now| now.version == open.summary.version) {
                still.push((run, calls));
            }
        }
        still
    }

    async fn classify(&self, OpenRun { summary, facts }: &OpenRun) -> RunHealth {
        let shard = &summary.info.shard;
        let queue = topology::shard_queue(shard);
        let driver = if is_shared(shard) {
            match self.queues.drives(&queue) {
                Some(true) => Driver::Present,
                Some(false) => Driver::Absent,
                None if self.is_live => Driver::Present,
                None => Driver::Unknown,
            }
        } else {
            match within(QUERY_TIMEOUT / 4, self.logbook.is_run_locked(&summary.run)).await.flatten() {
                Some(true) => Driver::Present,
                Some(false) => Driver::Absent,
                None => Driver::Unknown,
            }
        };
        let is_old =
            |at: Timestamp| now().as_micros().saturating_sub(at.as_micros()) >= OLD_CALL_AGE.as_micros() as u64;
        let RunFacts { fires, has_timer, waits_for_notification, fetches, .. } = *facts;
        let calls = facts.calls.iter().map(|call| (call.description.clone(), self.call_state(call, shard, is_old)));
        let others = facts.has_more_calls.then(|| {
            let reason = format!("it has more than {MAX_OF_RUN} calls, and only these are looked at");
            ("further calls".to_owned(), CallState::Unknown(reason))
        });
        let calls = calls.chain(others).collect();
        let sources = WakeSources { fires, has_timer, waits_for_notification, fetches, calls };
        // After a recent change the engine may still be deciding, so the run is not stuck yet.
        if sources.calls.is_empty() && !is_old(summary.changed_at) && driver != Driver::Absent {
            return RunHealth::Healthy;
        }
        stuck::classify(driver, &sources)
    }

    fn call_state(
        &self,
        OutstandingCall { id: call, since, is_leased, queue, is_paced, .. }: &OutstandingCall,
        shard: &Shard,
        is_old: impl Fn(Timestamp) -> bool,
    ) -> CallState {
        match self.calls.get(call) {
            Some(CallLocation::UnderLease { .. }) => return CallState::Leased,
            Some(CallLocation::UnwatchedLease { .. }) => return CallState::Lost,
            Some(CallLocation::AwaitingPermit | CallLocation::AwaitingBarrier | CallLocation::AwaitingTurn) => {
                return CallState::WithEngine;
            }
            Some(CallLocation::Sent) | None => {}
        }
        if *is_leased {
            return CallState::Leased;
        }
        if !since.is_some_and(is_old) {
            return CallState::Recent;
        }
        let Some(queue) = queue else { return CallState::Unknown("its task is unknown".to_owned()) };
        if *is_paced && !self.calls.contains_key(call) {
            return CallState::Unknown(
                "it may wait for a permit, which only the engine that drives it knows".to_owned(),
            );
        }
        let ready = match self.queues.of(&topology::job_queue(queue)) {
            Some(QueueState::Exists { ready, consumers }) => Some((*ready, *consumers)),
            Some(QueueState::Missing) => Some((0, 0)),
            Some(QueueState::NoAnswer | QueueState::Refused(_)) | None => None,
        };
        let answers = match self.queues.of(&topology::shard_queue(shard)) {
            Some(QueueState::Exists { ready, .. }) => Some(*ready),
            Some(QueueState::Missing) => Some(0),
            Some(QueueState::NoAnswer | QueueState::Refused(_)) | None => None,
        };
        match (ready, answers) {
            (Some((ready, consumers)), Some(answers)) => {
                let (answered, busy) = self.workers.of(queue);
                stuck::locate(QueueActivity { ready, consumers, answered, busy, answers })
            }
            _ => CallState::Unknown("the state of its queue is unknown".to_owned()),
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A call as text for people: the task, the attempt, and since when it is outstanding.
fn describe_call(machine: &Machine, call: &CallId) -> String {
    let since = machine.outstanding_since(call).map(|at| format!(", out since {}", rfc3339(at))).unwrap_or_default();
    format!("{} of {} (attempt {}{since})", call.action.as_str(), call.task, call.attempt.get())
}

fn report(open_runs: &OpenRuns, findings: &Findings) -> Check {
    let Findings { undriven, interrupted, stuck, unknown } = findings;
    let (mut problems, mut advice) = (Vec::new(), Vec::new());
    for (run, calls) in stuck.iter().take(3) {
        let reason = match calls.as_slice() {
            [] => "it waits for nothing".to_owned(),
            calls => format!("in no queue, with no worker and under no lease: {}", first_few(calls)),
        };
        problems.push(format!("run {run} is stuck: {reason}"));
    }
    if stuck.len() > 3 {
        problems.push(format!("{} more are stuck", stuck.len() - 3));
    }
    if !stuck.is_empty() {
        advice.push(
            "restart its engine (`waft serve`): it sends calls without an answer again; or `waft cancel RUN`"
                .to_owned(),
        );
    }
    if !undriven.is_empty() {
        problems.push(format!(
            "no engine drives {}: {}",
            count(undriven.len() as u64, "open run"),
            first_few(undriven)
        ));
        advice.push("start an engine with this logbook and broker: waft serve".to_owned());
    }
    if let Some(first) = interrupted.first() {
        problems.push(format!(
            "the `waft run` of {} is gone: {}",
            count(interrupted.len() as u64, "open run"),
            first_few(interrupted)
        ));
        advice
            .push(format!("continue it with `waft run --resume {first}`, or roll it back with `waft cancel {first}`"));
    }
    if !open_runs.unreadable.is_empty() {
        problems.push(format!("cannot be read: {}", first_few(&open_runs.unreadable)));
        advice.push("restore the logbook from a backup".to_owned());
    }
    let open = count(open_runs.listed as u64, "open run");
    if open_runs.runs.is_empty() && open_runs.unreadable.is_empty() && open_runs.listed > 0 {
        let detail = format!("{open}, and none of them could be read within {} seconds", QUERY_TIMEOUT.as_secs());
        return Check::warn("runs", detail, "check again when the logbook has less to do");
    }
    let limited_to = match open_runs.listed - open_runs.runs.len() - open_runs.unreadable.len() {
        0 => String::new(),
        _ => format!("; checked {} of those whose last change is oldest", open_runs.runs.len()),
    };
    if !problems.is_empty() {
        let detail = format!("{}; {open}{limited_to}", problems.join("; "));
        let is_bad = !stuck.is_empty() || !undriven.is_empty() || !open_runs.unreadable.is_empty();
        let advice = advice.join("; ");
        return if is_bad { Check::fail("runs", detail, advice) } else { Check::warn("runs", detail, advice) };
    }
    if let Some((run, reason)) = unknown.first() {
        let detail = format!(
            "it is unknown whether {} can continue, run {run} first: {reason}; {open}{limited_to}",
            count(unknown.len() as u64, "run")
        );
        let advice =
            "check at the server that drives it: waft doctor --server URL; `waft show RUN` shows what a run waits for";
        return Check::warn("runs", detail, advice);
    }
    Check::ok("runs", format!("{open}, none of them stuck{limited_to}"))
}

#[cfg(test)]
mod tests;
