//! Supervises the tasks that an engine needs.
//!
//! A task that panics ends silently, and its callers would wait for ever. So each task is spawned here. If one ends
//! before the engine is stopped, the engine ends too, and its process should be restarted. A temporary task may end by itself, but
//! not with a panic.

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// Spawns the tasks of one engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
    aborted: CancellationToken,
    lost: CancellationToken,
}

/// Reports the end of a task, even after a panic.
struct ExitGuard {
    part: &'static str,
    supervisor: Supervisor,
    /// Whether the task may end now.
    may_end: bool,
}

impl Supervisor {
    /// Creates a supervisor. Its tasks may end once `stop` is cancelled, and end at once when `aborted` is.
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken, aborted: CancellationToken) -> Self {
        Self { tasks, stop, aborted, lost: CancellationToken::new() }
    }

    /// Spawns a task of the engine.
    pub(crate) fn spawn(&self, part: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let guard = ExitGuard { part, supervisor: self.clone(), may_end: false };
        self.tasks.spawn(self.aborted.clone().run_until_cancelled_owned(async move {
            let _guard = guard;
            work.await;
        }));
    }

    /// Spawns a task of the engine that ends when it is not needed any more.
    pub(crate) fn spawn_temporary(&self, part: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let guard = ExitGuard { part, supervisor: self.clone(), may_end: false };
        self.tasks.spawn(self.aborted.clone().run_until_cancelled_owned(async move {
            // Moved as a whole: the task would otherwise take only the field.
            let mut guard = guard;
            work.await;
            guard.may_end = true;
        }));
    }

    /// Cancelled once a task has ended too early.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        if !self.may_end && !self.supervisor.stop.is_cancelled() && !self.supervisor.aborted.is_cancelled() {
            error!(part = self.part, "a part of the engine has ended: the engine cannot go on");
            self.supervisor.lost.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Supervisor {
        Supervisor::new(TaskTracker::new(), CancellationToken::new(), CancellationToken::new())
    }

    async fn all_ended(parts: &Supervisor) {
        parts.tasks.close();
        parts.tasks.wait().await;
    }

    #[tokio::test]
    async fn an_engine_fails_with_any_of_its_tasks() {
        let panicking = parts();
        panicking.spawn("panics", async { panic!("as the test wants it") });
        panicking.failed().cancelled().await;
        let ending = parts();
        ending.spawn("ends", async {});
        ending.failed().cancelled().await;
    }

    #[tokio::test]
    async fn an_engine_fails_with_the_panic_of_a_temporary_task_only() {
        let parts = parts();
        parts.spawn_temporary("ends", async {});
        all_ended(&parts).await;
        assert!(!parts.failed().is_cancelled());
        parts.spawn_temporary("panics", async { panic!("as the test wants it") });
        parts.failed().cancelled().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_with_its_engine_is_no_failure() {
        let stopped = parts();
        stopped.spawn("ends when stopped", stopped.stop.clone().cancelled_owned());
        stopped.stop.cancel();
        all_ended(&stopped).await;
        assert!(!stopped.failed().is_cancelled());
        let aborted = parts();
        aborted.spawn("never ends", std::future::pending());
        aborted.aborted.cancel();
        all_ended(&aborted).await;
        assert!(!aborted.failed().is_cancelled());
    }
}
