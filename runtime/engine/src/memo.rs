//! Results that the logbook remembers for a namespace: they are looked up before a job is made, and kept when a call has
//! succeeded.
//!
//! A lookup runs beside the driver, as fetches do. The job of its call is held back meanwhile: the driver makes it once the lookup has
//! found nothing, failed, or taken too long. So a logbook or a store that does not answer delays a call, and loses none. A run
//! that is loaded sends its unanswered calls without a lookup: their jobs may be with workers already.

mod held_calls;
mod lookup_queue;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use flow::{Action, CallId, Flow, Memo, RunId, Signal, Task, TaskResult, Timestamp, Values};
use logbook::{Logbook, MemoChanges, MemoLimits, NewResult, RolledBackTask};
use machine::{Call, Event, Fact, Machine, Record};
use protocol::{MemoAddress, RememberedResult};
use store::Store;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use self::{held_calls::HeldCalls, lookup_queue::LookupQueue};

/// Maximum number of calls that are looked up together: their results are in memory at once.
const MAX_LOOKUP_CALLS: usize = 64;

/// Maximum number of lookups that run at once: more would wait in the logbook.
const MAX_LOOKUPS: usize = 4;

/// Maximum time of a lookup, and of the wait for its begin. A call that takes longer to find than to make is made.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of lookups that are given up at once: each makes a job.
const MAX_GIVEN_UP: usize = 1_024;

/// How often the remembered results are held to their limits, if any were added.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// The part of the maximum number of results after which they are held to their limits at once: namespaces have a tenth too many at
/// most.
const TRIM_PART: u64 = 10;

/// A call whose lookup has ended.
#[derive(Debug)]
pub(crate) struct LookedUpCall {
    pub(crate) call: CallId,
    /// The remembered result; `None` if the call has to be made.
    pub(crate) result: Option<RememberedResult>,
}

/// The lookups of an engine's runs.
pub(crate) struct Lookups {
    logbook: Arc<dyn Logbook>,
    store: Arc<dyn Store>,
    /// The calls whose jobs are held back.
    held: HeldCalls,
    /// Those of them whose lookup has not begun.
    waiting: LookupQueue,
    running: JoinSet<Vec<Option<RememberedResult>>>,
    /// The calls of each lookup. A task that panics returns only its id.
    calls: HashMap<Id, Vec<CallId>>,
}

impl Lookups {
    pub(crate) fn new(logbook: Arc<dyn Logbook>, store: Arc<dyn Store>) -> Self {
        Self {
            logbook,
            store,
            held: HeldCalls::default(),
            waiting: LookupQueue::default(),
            running: JoinSet::new(),
            calls: HashMap::new(),
        }
    }

    /// Looks up the result of a call whose job was never sent.
    pub(crate) fn add(&mut self, call: CallId, address: MemoAddress) {
        if self.held.add(call.clone()) {
            self.waiting.push(call, address);
        }
    }

    /// Whether the job of a call is held back.
    pub(crate) fn has(&self, call: &CallId) -> bool {
        self.held.contains(call)
    }

    /// The job of a call is sent: what its lookup finds no longer counts.
    pub(crate) fn forget(&mut self, call: &CallId) {
        self.held.remove(call);
    }

    /// A run is loaded, and will send all its unanswered calls.
    pub(crate) fn forget_run(&mut self, run: &RunId) {
        self.held.remove_run(run);
    }

    /// Begins the lookups of calls that wait, as many as may run.
    pub(crate) fn start(&mut self, now: Timestamp) {
        while self.running.len() < MAX_LOOKUPS {
            let held = &self.held;
            let waiting = std::iter::from_fn(|| self.waiting.pop()).filter(|(call, _)| held.contains(call));
            let (calls, addresses): (Vec<CallId>, Vec<MemoAddress>) = waiting.take(MAX_LOOKUP_CALLS).unzip();
            if calls.is_empty() {
                return;
            }
            let (logbook, store) = (self.logbook.clone(), self.store.clone());
            let task = self.running.spawn(async move {
                let found = timeout(LOOKUP_TIMEOUT, look_up(&*logbook, &*store, &addresses, now)).await;
                match found.map_err(|_| "it took too long".to_owned()).and_then(|found| found) {
                    Ok(found) => found,
                    Err(reason) => {
                        warn!(reason, "remembered results could not be looked up: the calls are made");
                        Vec::new()
                    }
                }
            });
            self.calls.insert(task.id(), calls);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Gives up the lookups that have waited for too long, a bounded number of them: their calls are made.
    pub(crate) fn give_up_overdue(&mut self) -> Vec<LookedUpCall> {
        let running: BTreeSet<&CallId> = self.calls.values().flatten().collect();
        let mut given_up = Vec::new();
        while given_up.len() < MAX_GIVEN_UP
            && let Some(call) = self.waiting.next_arrived_before(LOOKUP_TIMEOUT)
        {
            if !running.contains(&call) && self.held.remove(&call) {
                given_up.push(LookedUpCall { call, result: None });
            }
        }
        if !given_up.is_empty() {
            warn!(calls = given_up.len(), "remembered results were not looked up in time: the calls are made");
        }
        given_up
    }

    /// The calls of the next lookup that ends, without those whose jobs were sent meanwhile; none when no lookup is running.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Vec<LookedUpCall> {
        let (id, found) = match self.running.join_next_with_id().await {
            None => return Vec::new(),
            Some(Ok(ended)) => ended,
            Some(Err(lost)) => {
                warn!(%lost, "a lookup of remembered results was lost: the calls are made");
                (lost.id(), Vec::new())
            }
        };
        let calls = self.calls.remove(&id).unwrap_or_default();
        let results = found.into_iter().chain(std::iter::repeat_with(|| None));
        let ended = calls.into_iter().zip(results);
        let is_held = |(call, _): &(CallId, _)| self.held.remove(call);
        ended.filter(is_held).map(|(call, result)| LookedUpCall { call, result }).collect()
    }
}

/// Looks up results. One with a value that the store does not have counts as none.
async fn look_up(
    logbook: &dyn Logbook,
    store: &dyn Store,
    addresses: &[MemoAddress],
    now: Timestamp,
) -> Result<Vec<Option<RememberedResult>>, String> {
    let mut results = logbook.remembered(addresses, now).await.map_err(|error| error.to_string())?;
    for result in &mut results {
        let Some(found) = result else { continue };
        for digest in found.digests().collect::<Vec<_>>() {
            // The run is about to refer to it. The content may be deleted as one that nobody refers to.
            match store.touch(&digest).await {
                Ok(true) => {}
                Ok(false) => {
                    debug!(%digest, "a remembered value is not in the store");
                    *result = None;
                    break;
                }
                Err(error) => {
                    warn!(%digest, %error, "a remembered value could not be looked for: its call is made");
                    *result = None;
                    break;
                }
            }
        }
    }
    Ok(results)
}

/// Whether the results of a task's calls are remembered.
pub(crate) fn is_remembered(task: &Task, action: Action) -> bool {
    task.access.memo.is_some_and(Memo::remembers) && action == Action::Apply
}

/// Where the result of a call is remembered, if it is one of a task that remembers its results.
pub(crate) fn address_of(flow: &Flow, task: &Task, call: &Call) -> Option<MemoAddress> {
    is_remembered(task, call.id.action).then(|| MemoAddress::of_call(&flow.name, task, &call.inputs))
}

/// What a signal would add to the remembered results, if the machine, which has not received it, records it as a success.
pub(crate) fn new_result(machine: &Machine, event: &Event, now: Timestamp) -> Option<NewResult> {
    let Event::Signal(Signal { call, answer: TaskResult::Succeeded(values), .. }) = event else { return None };
    let task = machine.task(&call.task)?;
    let memo = task.access.memo?;
    let outstanding = machine.outstanding_call(call)?;
    let address = address_of(machine.flow(), task, &outstanding)?;
    let is_provided = |(name, _): &(&flow::ValueName, _)| task.provides.contains_key(*name);
    let values: Values = values.iter().filter(is_provided).map(|(name, value)| (name.clone(), value.clone())).collect();
    let result = RememberedResult { computed_by: call.clone(), at: now, values };
    Some(NewResult { address, result, expires_at: memo.limit().map(|time| now.after(time)) })
}

/// Whether the records of a signal contain the success of its call: the first of them that is not about the clock.
pub(crate) fn is_success(records: &[Record]) -> bool {
    let first = records.iter().find(|record| !matches!(record.fact, Fact::ClockSet { .. }));
    first.is_some_and(|record| matches!(record.fact, Fact::Succeeded { .. }))
}

/// Adds the calls whose rollback begins with these records, given the machine after them: what they computed no longer counts.
pub(crate) fn add_forgotten(machine: &Machine, records: &[Record], changes: &mut MemoChanges) {
    for record in records {
        let Fact::Started { attempt, action: Action::Rollback } = &record.fact else { continue };
        let Some((task, called)) = machine.call_of(record.firing, attempt.node) else { continue };
        if called.access.memo.is_some_and(Memo::remembers) {
            let namespace = machine.flow().name.namespace();
            changes.forgotten.push(RolledBackTask {
                namespace,
                run: machine.run().clone(),
                task,
                firing: attempt.firing,
            });
        }
    }
}

/// Holds the remembered results to their limits, beside the driver.
pub(crate) struct MemoTrim {
    logbook: Arc<dyn Logbook>,
    limits: MemoLimits,
    /// The number of results that were added since the last time.
    added: u64,
    /// `None` before the first time, which is at once: the process before may have ended too early for it.
    last: Option<Instant>,
    running: JoinSet<()>,
}

impl MemoTrim {
    pub(crate) fn new(logbook: Arc<dyn Logbook>, limits: MemoLimits) -> Self {
        Self { logbook, limits, added: 0, last: None, running: JoinSet::new() }
    }

    /// Results were remembered.
    pub(crate) fn on_added(&mut self, results: usize) {
        self.added = self.added.saturating_add(results as u64);
    }

    /// Begins to trim, if enough were added.
    pub(crate) fn start_if_due(&mut self, now: Timestamp) {
        while self.running.try_join_next().is_some() {}
        let is_due = self.last.is_none_or(|last| self.added > 0 && last.elapsed() >= TRIM_INTERVAL);
        let are_many = self.added > self.limits.results / TRIM_PART;
        if !(is_due || are_many) || !self.running.is_empty() {
            return;
        }
        (self.added, self.last) = (0, Some(Instant::now()));
        let (logbook, limits) = (self.logbook.clone(), self.limits);
        self.running.spawn(async move {
            match logbook.trim_remembered(limits, now).await {
                Ok(0) => {}
                Ok(results) => debug!(results, "remembered results were forgotten: they have expired, or are too many"),
                Err(error) => warn!(%error, "the remembered results could not be held to their limits"),
            }
        });
    }
}

#[cfg(test)]
mod tests;
