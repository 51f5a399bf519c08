//! Finds open runs that no engine drives, and runs that are stuck: it collects the facts for the rule in `stuck.rs`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::engine::CallLocation;
use ::logbook::{Filter, Logbook, Summary};
use client::api::Check;
use flow::{CallId, Command, Machine, RunState, Shard, Timestamp};
use protocol::{json::rfc3339, lease, topology};

use super::{
    LOOK, count, few,
    logbook::Logged,
    queues::{Asked, Queues},
    stuck::{self, Driver, Place, Prospects, Takers, Verdict},
    within,
    workers::Workers,
};

/// The maximum number of open runs to list, and the maximum number to check: the runs whose last change is oldest.
const LISTED: usize = 5_000;
const MOST: usize = 200;

/// The age from which an outstanding call counts as old. A worker takes a lease after [`lease::LEASE_THRESHOLD`], and the
/// message needs some seconds.
const OLD: Duration = Duration::from_secs(lease::LEASE_THRESHOLD.as_secs() + 5);

/// The pause before a run that seems stuck is checked again. By then an answer that was on its way is recorded.
const AGAIN: Duration = Duration::from_secs(1);

/// An open run, read from its records.
pub(super) struct Open {
    pub(super) summary: Summary,
    pub(super) machine: Machine,
}

/// The open runs to check.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) runs: Vec<Open>,
    /// The number of listed open runs.
    listed: usize,
    of_shared_shards: u64,
    /// The runs that cannot be read.
    unread: Vec<String>,
    /// Why the runs could not be listed, if listing failed.
    failed: Option<String>,
    logbook: Option<Arc<dyn Logbook>>,
}

impl Loaded {
    /// The number of open runs on shards that engines share.
    pub(super) fn of_shared_shards(&self) -> u64 {
        self.of_shared_shards
    }
}

/// Reads the open runs whose last change is oldest.
pub(super) async fn load(logbook: Option<Arc<dyn Logbook>>) -> Loaded {
    let Some(logbook) = logbook else {
        return Loaded { failed: Some("there is no logbook that can be read".to_owned()), ..Loaded::default() };
    };
    let states = vec![RunState::Running, RunState::Suspending];
    let filter = Filter { states, limit: LISTED, ..Filter::default() };
    let mut summaries = match within(LOOK, logbook.list(&filter)).await {
        Some(Ok(summaries)) => summaries,
        Some(Err(error)) => return Loaded { failed: Some(error.to_string()), ..Loaded::default() },
        None => {
            let reason = format!("the logbook has not answered for {} seconds", LOOK.as_secs());
            return Loaded { failed: Some(reason), ..Loaded::default() };
        }
    };
    summaries.sort_by_key(|summary| summary.changed_at);
    let of_shared_shards = summaries.iter().filter(|summary| is_shared(&summary.standing.shard)).count() as u64;
    let mut loaded = Loaded { listed: summaries.len(), of_shared_shards, ..Loaded::default() };
    let deadline = tokio::time::Instant::now() + LOOK;
    for summary in summaries.into_iter().take(MOST) {
        let loading = async { logbook.load(&summary.run).await?.into_machine() };
        match tokio::time::timeout_at(deadline, loading).await {
            Ok(Ok(machine)) => loaded.runs.push(Open { summary, machine }),
            Ok(Err(error)) => loaded.unread.push(format!("{} ({error})", summary.run)),
            Err(_) => break,
        }
    }
    Loaded { logbook: Some(logbook), ..loaded }
}

fn is_shared(shard: &Shard) -> bool {
    topology::shards().any(|shared| shared == *shard)
}

/// The facts that decide whether a run is stuck.
pub(super) struct Judge<'a> {
    pub(super) found: &'a Logged,
    pub(super) queues: &'a Queues,
    pub(super) workers: &'a Workers,
    /// The calls that the engine in this process knows.
    pub(super) calls: &'a BTreeMap<CallId, CallLocation>,
    /// Whether there is an engine in this process.
    pub(super) is_live: bool,
}

/// The results for all runs.
#[derive(Default)]
struct Verdicts {
    /// Runs on shared shards that no engine drives, and runs of a `waft run` that was killed.
    undriven: Vec<String>,
    left: Vec<String>,
    stuck: Vec<(String, Vec<String>)>,
    unknown: Vec<(String, String)>,
}

impl Judge<'_> {
    /// Checks the runs.
    pub(super) async fn check(&self, loaded: Loaded) -> Check {
        if let Some(reason) = loaded.failed {
            return Check::skipped("runs", reason);
        }
        let mut verdicts = Verdicts::default();
        for open in &loaded.runs {
            let run = open.summary.run.to_string();
            match self.verdict(&open.summary, &open.machine).await {
                Verdict::GoesOn => {}
                Verdict::Undriven if is_shared(&open.summary.standing.shard) => verdicts.undriven.push(run),
                Verdict::Undriven => verdicts.left.push(run),
                Verdict::Stuck(calls) => verdicts.stuck.push((run, calls)),
                Verdict::Unknown(reason) => verdicts.unknown.push((run, reason)),
            }
        }
        if !verdicts.stuck.is_empty() {
            tokio::time::sleep(AGAIN).await;
            let again = within(LOOK, self.still_stuck(&loaded, std::mem::take(&mut verdicts.stuck))).await;
            verdicts.stuck = again.unwrap_or_default();
        }
        tell(&loaded, &verdicts)
    }

    /// The runs that are still stuck after their records are read again.
    async fn still_stuck(&self, loaded: &Loaded, stuck: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
        let mut still = Vec::new();
        let Some(logbook) = &loaded.logbook else { return still };
        for (run, calls) in stuck {
            let Some(open) = loaded.runs.iter().find(|open| open.summary.run.as_str() == run) else { continue };
            let now = logbook.summary(&open.summary.run).await;
            if now.is_ok_and(|now| now.version == open.summary.version) {
                still.push((run, calls));
            }
        }
        still
    }

    async fn verdict(&self, summary: &Summary, machine: &Machine) -> Verdict {
        let shard = &summary.standing.shard;
        let queue = topology::shard_queue(shard);
        let driver = if is_shared(shard) {
            match self.queues.drives(&queue) {
                Some(true) => Driver::Somebody,
                Some(false) => Driver::Nobody,
                None if self.is_live => Driver::Somebody,
                None => Driver::Unknown,
            }
        } else {
            match within(LOOK / 4, self.found.is_run_locked(&summary.run)).await.flatten() {
                Some(true) => Driver::Somebody,
                Some(false) => Driver::Nobody,
                None => Driver::Unknown,
            }
        };
        let is_old = |at: Timestamp| now().as_micros().saturating_sub(at.as_micros()) >= OLD.as_micros() as u64;
        let place = |call: &CallId| self.place(machine, call, shard, is_old);
        let prospects = Prospects {
            // The next firing is not decided yet, or waits for notifications.
            fires: machine.flow().triggers.is_some(),
            has_timer: machine.next_due().is_some(),
            waits_for_notification: machine.waiting_tasks().next().is_some(),
            fetches: machine.pending().iter().any(|command| matches!(command, Command::Fetch(_))),
            calls: machine.outstanding_calls().map(|call| (told(machine, &call), place(&call))).collect(),
        };
        // After a recent change the engine may still be deciding, so the run is not stuck yet.
        if prospects.calls.is_empty() && !is_old(summary.changed_at) && driver != Driver::Nobody {
            return Verdict::GoesOn;
        }
        stuck::verdict(driver, &prospects)
    }

    fn place(&self, machine: &Machine, call: &CallId, shard: &Shard, is_old: impl Fn(Timestamp) -> bool) -> Place {
        match self.calls.get(call) {
            Some(CallLocation::UnderLease { .. }) => return Place::Leased,
            Some(CallLocation::UnwatchedLease { .. }) => return Place::Nowhere,
            Some(CallLocation::AwaitingPermit | CallLocation::AwaitingBarrier) => return Place::WithEngine,
            Some(CallLocation::Sent) | None => {}
        }
        if machine.leased_calls().any(|(leased, _)| leased == *call) {
            return Place::Leased;
        }
        if !machine.outstanding_since(call).is_some_and(is_old) {
            return Place::Young;
        }
        let Some(task) = machine.task(&call.task) else { return Place::Unknown("its task is not known".to_owned()) };
        if !task.pace.is_unlimited() && !self.calls.contains_key(call) {
            return Place::Unknown("it may wait for a permit, which only the engine that drives it knows".to_owned());
        }
        let ready = match self.queues.of(&topology::job_queue(&task.queue)) {
            Some(Asked::There { ready, consumers }) => Some((*ready, *consumers)),
            Some(Asked::Missing) => Some((0, 0)),
            Some(Asked::Silent | Asked::Refused(_)) | None => None,
        };
        let answers = match self.queues.of(&topology::shard_queue(shard)) {
            Some(Asked::There { ready, .. }) => Some(*ready),
            Some(Asked::Missing) => Some(0),
            Some(Asked::Silent | Asked::Refused(_)) | None => None,
        };
        match (ready, answers) {
            (Some((ready, consumers)), Some(answers)) => {
                let (answered, busy) = self.workers.of(&task.queue);
                stuck::place(Takers { ready, consumers, answered, busy, answers })
            }
            _ => Place::Unknown("what is in its queue is not known".to_owned()),
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A call as text for people: the task, the attempt, and since when it is outstanding.
fn told(machine: &Machine, call: &CallId) -> String {
    let since = machine.outstanding_since(call).map(|at| format!(", out since {}", rfc3339(at))).unwrap_or_default();
    format!("{} of {} (attempt {}{since})", call.action.as_str(), call.task, call.attempt.get())
}

fn tell(loaded: &Loaded, verdicts: &Verdicts) -> Check {
    let Verdicts { undriven, left, stuck, unknown } = verdicts;
    let (mut found, mut advice) = (Vec::new(), Vec::new());
    for (run, calls) in stuck.iter().take(3) {
        let lost = match calls.as_slice() {
            [] => "it waits for nothing".to_owned(),
            calls => format!("in no queue, with no worker and under no lease: {}", few(calls)),
        };
        found.push(format!("run {run} is stuck: {lost}"));
    }
    if stuck.len() > 3 {
        found.push(format!("{} more are stuck", stuck.len() - 3));
    }
    if !stuck.is_empty() {
        advice.push(
            "start its engine anew (`waft serve`): it sends again what has no answer; or `waft cancel RUN`".to_owned(),
        );
    }
    if !undriven.is_empty() {
        found.push(format!("no engine drives {}: {}", count(undriven.len() as u64, "open run"), few(undriven)));
        advice.push("start an engine with this logbook and broker: waft serve".to_owned());
    }
    if let Some(first) = left.first() {
        found.push(format!("the `waft run` of {} is gone: {}", count(left.len() as u64, "open run"), few(left)));
        advice.push(format!("go on with `waft run --resume {first}`, or take it back with `waft cancel {first}`"));
    }
    if !loaded.unread.is_empty() {
        found.push(format!("cannot be read: {}", few(&loaded.unread)));
        advice.push("restore the logbook from a backup".to_owned());
    }
    let open = count(loaded.listed as u64, "open run");
    let looked = match loaded.listed - loaded.runs.len() - loaded.unread.len() {
        0 => String::new(),
        _ => format!("; looked at the {} that changed longest ago", loaded.runs.len()),
    };
    if !found.is_empty() {
        let detail = format!("{}; {open}{looked}", found.join("; "));
        let is_bad = !stuck.is_empty() || !undriven.is_empty() || !loaded.unread.is_empty();
        let advice = advice.join("; ");
        return if is_bad { Check::fail("runs", detail, advice) } else { Check::warn("runs", detail, advice) };
    }
    if let Some((run, reason)) = unknown.first() {
        let detail = format!(
            "of {} it cannot be told whether it goes on, run {run} first: {reason}; {open}{looked}",
            unknown.len()
        );
        let advice =
            "ask the server that drives it: waft doctor --server URL; `waft show RUN` says what a run waits for";
        return Check::warn("runs", detail, advice);
    }
    Check::ok("runs", format!("{open}, none of them stuck{looked}"))
}
