//! Supervises the tasks that an engine needs.
//!
//! A task that panics ends silently, and its callers would wait for ever. So each task is spawned here. If one ends
//! before the engine is stopped, the engine ends too, and its process should be restarted.

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
}

impl Supervisor {
    /// Creates a supervisor. Its tasks may end once `stop` is cancelled, and end at once when `aborted` is.
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken, aborted: CancellationToken) -> Self {
        Self { tasks, stop, aborted, lost: CancellationToken::new() }
    }

    /// Spawns a task of the engine.
    pub(crate) fn spawn(&self, part: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let guard = ExitGuard { part, supervisor: self.clone() };
        self.tasks.spawn(self.aborted.clone().run_until_cancelled_owned(async move {
            let _guard = guard;
            work.await;
        }));
    }

    /// Cancelled once a task has ended too early.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        if !self.supervisor.stop.is_cancelled() && !self.supervisor.aborted.is_cancelled() {
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
