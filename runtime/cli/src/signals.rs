//! Ctrl-C and its like.

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{CliError, Exit};

/// What the operating system says about stopping.
#[derive(Debug, Clone)]
pub(crate) struct StopSignal {
    /// Somebody asked to stop.
    pub(crate) requested: CancellationToken,
    /// Somebody asked again: stop at once.
    pub(crate) forced: CancellationToken,
}

impl StopSignal {
    /// Does something that nothing is lost by leaving out: it ends as soon as somebody asks to stop.
    pub(crate) async fn until_stop_requested<Done>(
        &self,
        work: impl Future<Output = Result<Done, CliError>>,
    ) -> Result<Done, CliError> {
        let stopped = || CliError::new(Exit::Interrupted, anyhow!("stopped before it had begun"));
        self.requested.run_until_cancelled(work).await.ok_or_else(stopped)?
    }

    /// Listens for SIGINT and SIGTERM from now on.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let stop = Self { requested: CancellationToken::new(), forced: CancellationToken::new() };
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let heard = stop.clone();
        let listening = async move {
            for token in [&heard.requested, &heard.forced] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        };
        // It lives as long as the process: the tracker is never waited for.
        tokio_util::task::TaskTracker::new().spawn(listening);
        Ok(stop)
    }
}
