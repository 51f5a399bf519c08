//! Run commands to the engine that drives a run, wherever it is, and its replies.

use std::sync::Arc;

use flow::{Flow, FlowName, NodeName, NotificationOutcome, Revision, RunId, RunState, TaskNotification, TaskResult};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::WireFlow,
    record::run_state,
    wire::{Invalid, WireFailure, WireValue, WireValues, invalid, value_from_wire, values_from_wire, values_to_wire},
};

/// A command for one run, addressed to the engine that drives it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRequest {
    /// The run.
    pub run: RunId,
    /// The command.
    pub command: RunCommand,
}

/// A command for a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunCommand {
    /// Stops the run and rolls it back.
    Cancel,
    /// Starts nothing new; running calls may finish.
    Suspend,
    /// Continues a suspended run.
    Resume,
    /// Retries the rollbacks that failed permanently; a run that was rolled back starts again.
    Retry,
    /// Treats the permanently failed rollback of a task as done.
    Skip {
        /// The task.
        task: NodeName,
        /// The reason, as the user gave it.
        reason: String,
    },
    /// Continues with another flow.
    Edit {
        /// The revision of the flow that the edit is based on.
        revision: Revision,
        /// The new flow.
        flow: Arc<Flow>,
    },
    /// Delivers the outcome of a task of another flow.
    TaskNotification(TaskNotification),
    /// Completes or fires a task with a notification.
    Notify {
        /// The task.
        task: NodeName,
        /// The result that the notification gives the task.
        answer: TaskResult,
        /// The key that identifies the notification; a repeated key fires only once.
        key: Option<String>,
    },
}

/// An engine's reply to a command, sent once all its effects are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The command is recorded; the run is now in this state.
    Recorded(RunState),
    /// The command does not apply to a run in this state; nothing was recorded.
    NotApplicable(RunState),
    /// The run does not exist.
    RunNotFound,
    /// The command could not be recorded.
    Failed(String),
    /// The run cannot accept the command now, for this reason; nothing was recorded.
    Refused(String),
}

impl RunCommand {
    /// The name of the command.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Skip { .. } => "skip",
            Self::Notify { .. } => "notify",
            Self::TaskNotification(_) => "task notification",
            Self::Edit { .. } => "edit",
        }
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireRequest<'a> {
    run: &'a str,
    command: WireCommand<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireCommand<'a> {
    Cancel,
    Suspend,
    Resume,
    Retry,
    Skip { task: &'a str, reason: &'a str },
    Notify { task: &'a str, values: WireValues<'a>, key: Option<&'a str> },
    NotifyFailed { task: &'a str, failure: WireFailure<'a> },
    Edit { revision: u64, flow: Box<WireFlow<'a>> },
    TaskNotification { flow: &'a str, task: &'a str, key: &'a str, outcome: WireNotificationOutcome<'a> },
}

#[derive(Encode, BorrowDecode)]
enum WireNotificationOutcome<'a> {
    Success(WireValues<'a>),
    Failure(WireValue<'a>),
}

#[derive(Encode, BorrowDecode)]
enum WireReply<'a> {
    Recorded(&'a str),
    NotApplicable(&'a str),
    Missing,
    Failed(&'a str),
    Refused(&'a str),
}

impl<'a> From<&'a CommandRequest> for WireRequest<'a> {
    fn from(request: &'a CommandRequest) -> Self {
        let command = match &request.command {
            RunCommand::Cancel => WireCommand::Cancel,
            RunCommand::Suspend => WireCommand::Suspend,
            RunCommand::Resume => WireCommand::Resume,
            RunCommand::Retry => WireCommand::Retry,
            RunCommand::Skip { task, reason } => WireCommand::Skip { task: task.as_str(), reason },
            RunCommand::Edit { revision, flow } => {
                WireCommand::Edit { revision: revision.get(), flow: Box::new((&**flow).into()) }
            }
            RunCommand::TaskNotification(TaskNotification { flow, task, outcome, key }) => {
                WireCommand::TaskNotification {
                    flow: flow.as_str(),
                    task: task.as_str(),
                    key,
                    outcome: match outcome {
                        NotificationOutcome::Success(values) => {
                            WireNotificationOutcome::Success(values_to_wire(values))
                        }
                        NotificationOutcome::Failure(failure) => WireNotificationOutcome::Failure(failure.into()),
                    },
                }
            }
            RunCommand::Notify { task, answer: TaskResult::Succeeded(values), key } => {
                WireCommand::Notify { task: task.as_str(), values: values_to_wire(values), key: key.as_deref() }
            }
            // It needs no key, since a task fails only once.
            RunCommand::Notify { task, answer: TaskResult::Failed(failure), .. } => {
                WireCommand::NotifyFailed { task: task.as_str(), failure: failure.into() }
            }
        };
        Self { run: request.run.as_str(), command }
    }
}

impl WireRequest<'_> {
    pub(crate) fn into_request(self) -> Result<CommandRequest, Invalid> {
        let command = match self.command {
            WireCommand::Cancel => RunCommand::Cancel,
            WireCommand::Suspend => RunCommand::Suspend,
            WireCommand::Resume => RunCommand::Resume,
            WireCommand::Retry => RunCommand::Retry,
            WireCommand::Skip { task, reason } => {
                RunCommand::Skip { task: NodeName::new(task).map_err(invalid)?, reason: reason.into() }
            }
            WireCommand::Edit { revision, flow } => {
                RunCommand::Edit { revision: Revision::new(revision), flow: flow.into_flow()? }
            }
            WireCommand::TaskNotification { flow, task, key, outcome } => {
                RunCommand::TaskNotification(TaskNotification {
                    flow: FlowName::new(flow).map_err(invalid)?,
                    task: NodeName::new(task).map_err(invalid)?,
                    key: key.into(),
                    outcome: match outcome {
                        WireNotificationOutcome::Success(values) => {
                            NotificationOutcome::Success(values_from_wire(values)?)
                        }
                        WireNotificationOutcome::Failure(failure) => {
                            NotificationOutcome::Failure(value_from_wire(failure)?)
                        }
                    },
                })
            }
            WireCommand::Notify { task, values, key } => RunCommand::Notify {
                task: NodeName::new(task).map_err(invalid)?,
                answer: TaskResult::Succeeded(values_from_wire(values)?),
                key: key.map(Into::into),
            },
            WireCommand::NotifyFailed { task, failure } => RunCommand::Notify {
                task: NodeName::new(task).map_err(invalid)?,
                answer: TaskResult::Failed(failure.into_failure()?),
                key: None,
            },
        };
        Ok(CommandRequest { run: RunId::new(self.run).map_err(invalid)?, command })
    }
}

impl Reply {
    /// Encodes the reply.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Recorded(state) => WireReply::Recorded(state.as_str()),
            Self::NotApplicable(state) => WireReply::NotApplicable(state.as_str()),
            Self::RunNotFound => WireReply::Missing,
            Self::Failed(reason) => WireReply::Failed(reason),
            Self::Refused(reason) => WireReply::Refused(reason),
        };
        codec::encode(MessageKind::REPLY, &wire)
    }

    /// Decodes the reply.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a reply of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let state = |name| run_state(name).map_err(|reason| codec::damaged(MessageKind::REPLY, reason));
        Ok(match codec::decode(MessageKind::REPLY, bytes)? {
            WireReply::Recorded(name) => Self::Recorded(state(name)?),
            WireReply::NotApplicable(name) => Self::NotApplicable(state(name)?),
            WireReply::Missing => Self::RunNotFound,
            WireReply::Failed(reason) => Self::Failed(reason.into()),
            WireReply::Refused(reason) => Self::Refused(reason.into()),
        })
    }
}
