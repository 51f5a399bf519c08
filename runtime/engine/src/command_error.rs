//! Why a run command failed.

use broker::PublishError;
use flow::{RunId, RunState};
use logbook::LoadError;
use protocol::Reply;

use crate::remote_engine::RemoteEngineError;

/// Why a run command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The run does not exist.
    #[error("there is no run {run}")]
    Missing {
        /// The run.
        run: RunId,
    },
    /// The command does not apply to a run in this state; nothing was recorded.
    #[error("run {run} is {state}: there is nothing to {command}")]
    NotApplicable {
        /// The run.
        run: RunId,
        /// The command.
        command: &'static str,
        /// The state of the run.
        state: RunState,
    },
    /// This engine drives the run already.
    #[error("run {run} is under way here already")]
    AlreadyDriven {
        /// The run.
        run: RunId,
    },
    /// No engine that drives the run has answered in time. The command may still take effect later.
    #[error("no engine that drives run {run} has answered")]
    Unreachable {
        /// The run.
        run: RunId,
    },
    /// No engine will drive the run by itself: the one process that could has ended.
    #[error("no process drives run {run}: the one that ran it has ended")]
    Abandoned {
        /// The run.
        run: RunId,
    },
    /// The run cannot accept the command now; nothing was recorded.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// No broker carries the message of the command; nothing was recorded.
    #[error("the command {command} for run {run} is too large: {reason}")]
    TooLarge {
        /// The run.
        run: RunId,
        /// The command.
        command: &'static str,
        /// Its size and the maximum.
        reason: String,
    },
    /// The command could not be recorded.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
}

impl CommandError {
    /// Converts a reply into the run's new state, or the reason why there is none.
    pub(crate) fn result(run: &RunId, command: &'static str, reply: Reply) -> Result<RunState, Self> {
        match reply {
            Reply::Recorded(state) => Ok(state),
            Reply::NotApplicable(state) => Err(Self::NotApplicable { run: run.clone(), command, state }),
            Reply::RunNotFound => Err(Self::Missing { run: run.clone() }),
            Reply::Failed(reason) => Err(Self::Failed { reason }),
            Reply::Refused(reason) => Err(Self::Refused { reason }),
        }
    }

    /// Why a request with a command got no reply.
    pub(crate) fn of_request(run: &RunId, command: &'static str, error: RemoteEngineError) -> Self {
        let run = run.clone();
        match error {
            RemoteEngineError::TooLarge { reason }
            | RemoteEngineError::Publish(PublishError::TooLarge { reason, .. }) => {
                Self::TooLarge { run, command, reason }
            }
            RemoteEngineError::Publish(PublishError::Unroutable { .. }) => Self::Abandoned { run },
            RemoteEngineError::Publish(
                PublishError::Rejected { .. }
                | PublishError::Refused { .. }
                | PublishError::Unconfirmed { .. }
                | PublishError::Closed,
            )
            | RemoteEngineError::Decode(_)
            | RemoteEngineError::Stopping => Self::Failed { reason: error.to_string() },
        }
    }

    pub(crate) fn of_load(run: &RunId, error: &LoadError) -> Self {
        match error {
            LoadError::Missing { .. } => Self::Missing { run: run.clone() },
            LoadError::Damaged { .. } | LoadError::Unavailable { .. } => Self::Failed { reason: error.to_string() },
        }
    }
}
