//! Whether a worker takes jobs: an operator drains it before the machine is worked on. The state is in memory only, so a worker that
//! starts again takes jobs.

use protocol::{DrainAction, WorkerState};
use tokio::sync::watch;

/// Decides whether the worker takes jobs.
#[derive(Debug)]
pub(crate) struct Drain(watch::Sender<WorkerState>);

/// Waits for decisions whether the worker takes jobs.
#[derive(Debug, Clone)]
pub(crate) struct DrainWatch(watch::Receiver<WorkerState>);

impl Drain {
    /// A worker that takes jobs.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(WorkerState::Active))
    }

    /// Whether the worker takes jobs.
    pub(crate) fn state(&self) -> WorkerState {
        *self.0.borrow()
    }

    /// Does what an operator has told the worker. A worker that is to exit does not take jobs again: its intake has ended.
    pub(crate) fn apply(&self, action: DrainAction) {
        self.0.send_if_modified(|state| {
            let next = match (*state, action) {
                (WorkerState::Exiting, _) | (_, DrainAction::DrainAndExit) => WorkerState::Exiting,
                (_, DrainAction::Drain) => WorkerState::Draining,
                (_, DrainAction::Resume) => WorkerState::Active,
            };
            std::mem::replace(state, next) != next
        });
    }

    /// Waits for the decisions.
    pub(crate) fn watch(&self) -> DrainWatch {
        DrainWatch(self.0.subscribe())
    }
}

impl DrainWatch {
    /// Whether the worker takes no jobs now.
    pub(crate) fn is_drained(&self) -> bool {
        *self.0.borrow() != WorkerState::Active
    }

    /// Waits until the worker takes no jobs. Cancel-safe.
    pub(crate) async fn drained(&mut self) {
        self.wait_for(|state| state != WorkerState::Active).await;
    }

    /// Waits until the worker takes jobs. Cancel-safe.
    pub(crate) async fn resumed(&mut self) {
        self.wait_for(|state| state == WorkerState::Active).await;
    }

    /// Waits until the worker is to exit. Cancel-safe.
    pub(crate) async fn exiting(&mut self) {
        self.wait_for(|state| state == WorkerState::Exiting).await;
    }

    async fn wait_for(&mut self, is_wanted: fn(WorkerState) -> bool) {
        let found = self.0.wait_for(|state| is_wanted(*state)).await.is_ok();
        if !found {
            // The worker ends, and nobody decides any more.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_to_exit_takes_no_jobs_again() {
        let drain = Drain::new();
        for (action, state) in [
            (DrainAction::Drain, WorkerState::Draining),
            (DrainAction::Resume, WorkerState::Active),
            (DrainAction::Drain, WorkerState::Draining),
            (DrainAction::DrainAndExit, WorkerState::Exiting),
            (DrainAction::Resume, WorkerState::Exiting),
            (DrainAction::Drain, WorkerState::Exiting),
        ] {
            drain.apply(action);
            assert_eq!(drain.state(), state, "{action:?}");
            assert_eq!(drain.watch().is_drained(), state != WorkerState::Active);
        }
    }
}
