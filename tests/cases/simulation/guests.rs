//! Simulated guests: they run for some time, fail, and write their effects into a ledger that no crash affects.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flow::{Action, Attempt, CallId, Failure, FailureKind, Firing, NodeName, RunId, Value, Values};
use protocol::{CallLog, Job};
use sandbox::{CallSlot, Completion, Observer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::{GuestResult, GuestRunner};

use super::rng::{SeededRng, mix};

/// The effects of guests, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Entry>>>);

/// One effect outside waft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) run: RunId,
    pub(crate) task: NodeName,
    pub(crate) action: Action,
    pub(crate) firing: Firing,
    pub(crate) attempt: Attempt,
    /// Microseconds since the start of the simulation.
    pub(crate) at: u128,
}

impl Ledger {
    fn write(&self, call: &CallId, at: u128) {
        let (run, task, firing) = (call.run.clone(), call.task.clone(), call.firing);
        let entry = Entry { run, task, action: call.action, firing, attempt: call.attempt, at };
        self.0.lock().expect("no thread panics while it holds the ledger").push(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().expect("no thread panics while it holds the ledger").clone()
    }
}

/// The guests of one worker.
pub(crate) struct Simulated {
    pub(crate) seed: u64,
    pub(crate) start: Instant,
    pub(crate) rng: SeededRng,
    pub(crate) ledger: Ledger,
    pub(crate) stopped: CancellationToken,
}

#[async_trait::async_trait]
impl GuestRunner for Simulated {
    async fn call(
        &self,
        job: &Job,
        interrupt: CancellationToken,
        _: Arc<dyn Observer>,
        _: Arc<dyn CallSlot>,
    ) -> GuestResult {
        let result = |answer| GuestResult::new(answer, CallLog::default());
        if interrupt.is_cancelled() {
            return result(Completion::Interrupted);
        }
        let answer = self.completion_of(&job.call);
        // A failed guest may already have an effect, and its rollback must handle that.
        if matches!(answer, Completion::Succeeded(_)) || job.call.action == Action::Apply {
            self.ledger.write(&job.call, 1_000_000 + self.start.elapsed().as_micros());
        }
        let duration = match self.rng.below(20) {
            0 => Duration::from_millis(9_000 + self.rng.below(40_000)),
            _ => Duration::from_millis(self.rng.below(300)),
        };
        // All branches only wait.
        tokio::select! {
            biased;
            () = interrupt.cancelled() => result(Completion::Interrupted),
            () = self.stopped.cancelled() => result(Completion::Interrupted),
            () = tokio::time::sleep(duration) => result(answer),
        }
    }

    fn interrupt_all(&self) {
        self.stopped.cancel();
    }
}

impl Simulated {
    /// The result of a call: the same for every execution.
    fn completion_of(&self, call: &CallId) -> Completion {
        let name = format!("{call}");
        let hash = name.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let failed = |kind| Completion::Failed(Failure::new(kind, "injected failure"));
        match (call.action, hash % 100) {
            (Action::Apply, 0..12) => failed(FailureKind::Transient),
            (Action::Apply, 12..18) => failed(FailureKind::Permanent),
            (Action::Rollback, 0..6) => failed(FailureKind::Transient),
            // Values that the flow does not require are dropped.
            _ => Completion::Succeeded(Values::from([("made".parse().expect("a valid name"), Value::json(&1.into()))])),
        }
    }
}
