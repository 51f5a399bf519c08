//! Signals that ask the process to stop, such as Ctrl-C.

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{CliError, Exit};

/// Stop requests from the operating system.
#[derive(Debug, Clone)]
pub(crate) struct StopSignal {
    /// Cancelled by the first request to stop.
    pub(crate) requested: CancellationToken,
    /// Cancelled by the second request: stop at once.
    pub(crate) forced: CancellationToken,
}

impl StopSignal {
    /// Runs work that can be dropped at any point. The work ends at the first stop request.
    pub(crate) async fn until_stop_requested<Done>(
        &self,
        work: impl Future<Output = Result<Done, CliError>>,
    ) -> Result<Done, CliError> {
        let stopped = || CliError::new(Exit::Interrupted, anyhow!("stopped before it had started"));
        self.requested.run_until_cancelled(work).await.ok_or_else(stopped)?
    }

    /// Listens for SIGINT and SIGTERM from now on.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let stop = Self { requested: CancellationToken::new(), forced: CancellationToken::new() };
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let signal_tokens = stop.clone();
        let listening = async move {
            for token in [&signal_tokens.requested, &signal_tokens.forced] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        };
        // The task runs as long as the process: no task waits for the tracker.
        tokio_util::task::TaskTracker::new().spawn(listening);
        Ok(stop)
    }
}
