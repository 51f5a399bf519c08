//! Messages on the queue of a shard: workers' reports about calls, run commands, and engines' probes.

use std::collections::BTreeSet;

use flow::{CallId, Digest, Execution, MAX_PROGRESS_BYTES, Signal, TaskResult, Value, WorkerName};

use crate::{
    CallKeys, CallLog, CommandRequest, DecodeError, EngineSecret, HttpRecord, PermitGrant, PermitsQuestion, Seal,
    SendingId,
    codec::{self, BorrowDecode, Encode, MessageKind},
    log::WireLog,
    permit_message::WireGranted,
    permit_status::WirePermitsQuestion,
    run_command::WireRequest,
    wire::{Invalid, WireCall, WireFailure, WireValues, invalid, values_from_wire, values_to_wire},
};

/// The maximum size of a message with which a worker reports, in bytes. The inline values, the log and the rest of a call have about
/// half of it: larger values are in the store.
pub const MAX_REPORT_BYTES: usize = 2 << 20;

/// A message on the queue of a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The result of a call, and the log of its guest.
    Signal(Signal, CallLog),
    /// The progress of a long call. It is not recorded.
    Progress(Progress),
    /// Renews the lease that a worker holds for a long call. The worker sends the first heartbeat before it accepts the job.
    Heartbeat {
        /// The call.
        call: CallId,
        /// The worker that makes the call.
        worker: WorkerName,
        /// Its number: that of a later one of the same execution is higher.
        number: HeartbeatNumber,
    },
    /// A stopping worker returns a call that it held under a lease.
    Released {
        /// The call.
        call: CallId,
        /// The worker that held the lease.
        worker: WorkerName,
    },
    /// A run command. The message's reply queue and correlation id say where the reply goes.
    Command(CommandRequest),
    /// An engine's probe of the queue: the engine that receives it drives the shard from then on.
    Probe {
        /// The engine that sent the probe.
        engine: String,
        /// The number of the probe.
        number: u64,
    },
    /// The permit coordinator of a task granted permits, or confirms earlier grants.
    PermitGrant(PermitGrant),
    /// A worker asks before it starts a call that may have been withdrawn. The message's reply queue receives the answer,
    /// [`Control::MayStart`](crate::Control::MayStart).
    AskStart {
        /// The call.
        call: CallId,
    },
    /// A worker's answer to [`Control::Withdraw`](crate::Control::Withdraw) when it has already started the call. From then
    /// on, it holds the call under a lease.
    Started {
        /// The call.
        call: CallId,
        /// The worker that makes the call.
        worker: WorkerName,
        /// Its number among the heartbeats of the call.
        number: HeartbeatNumber,
    },
    /// A worker returns a job that it has not started: the engine sends it again. Only engines send jobs, so the worker does
    /// not do so itself.
    NotStarted {
        /// The call.
        call: CallId,
        /// How often the job was redelivered before: nobody started this delivery, but earlier ones may have been executed.
        redeliveries: u32,
        /// How many questions whether the call may start no engine has answered.
        unanswered: u32,
        /// The message that sent the job.
        sending: SendingId,
    },
    /// An engine asks the one that drives the shard to describe itself. The message's reply queue and correlation id say where
    /// its [`EngineStatus`](crate::EngineStatus) goes.
    DescribeEngine,
    /// An engine asks the one that drives the shard which calls hold permits or wait for them. The message's reply queue and
    /// correlation id say where its [`PermitsAnswer`](crate::PermitsAnswer) goes.
    DescribePermits(PermitsQuestion),
}

/// The number of a heartbeat. An engine ignores a heartbeat whose count is not higher than that of the last one of the same
/// execution, so nobody keeps the lease of a lost worker with a copy. No clock takes part: a worker that was restarted executes
/// the call anew, and begins to count anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatNumber {
    /// The execution that the heartbeat is about.
    pub execution: Execution,
    /// The number of heartbeats of the execution so far.
    pub count: u64,
}

/// The progress of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The call.
    pub call: CallId,
    /// The worker that makes the call.
    pub worker: WorkerName,
    /// From 0 to 1, when the guest has reported it.
    pub fraction: Option<f64>,
    /// The beginning of the guest's last message: from its progress or its log. It has at most [`MAX_PROGRESS_BYTES`] when it is read.
    pub message: Option<String>,
}

#[derive(Encode, BorrowDecode)]
enum WireReport<'a> {
    Succeeded { signal: WireSignal<'a>, values: WireValues<'a> },
    Failed { signal: WireSignal<'a>, failure: WireFailure<'a> },
    Progress { call: WireCall<'a>, worker: &'a str, fraction: Option<f64>, message: Option<&'a str> },
    Heartbeat { call: WireCall<'a>, worker: &'a str, number: WireHeartbeatNumber },
    Released { call: WireCall<'a>, worker: &'a str },
    Request(WireRequest<'a>),
    Probe { engine: &'a str, number: u64 },
    Granted(WireGranted<'a>),
    AskStart { call: WireCall<'a> },
    Started { call: WireCall<'a>, worker: &'a str, number: WireHeartbeatNumber },
    NotStarted { call: WireCall<'a>, redeliveries: u32, unanswered: u32, sending: u64 },
    DescribeEngine,
    DescribePermits(WirePermitsQuestion<'a>),
}

#[derive(Encode, BorrowDecode)]
struct WireHeartbeatNumber {
    execution: u64,
    count: u64,
}

/// What each report about a call begins with: the number of its variant, and the call.
#[derive(BorrowDecode)]
struct CallBeginning<'a> {
    variant: u32,
    call: WireCall<'a>,
}

/// The number of [`WireReport::AskStart`].
const ASK_START: u32 = 8;

#[derive(Encode, BorrowDecode)]
struct WireSignal<'a> {
    call: WireCall<'a>,
    worker: Option<&'a str>,
    execution: u64,
    redelivered: bool,
    log: Option<WireLog<'a>>,
    /// Shows that the worker has the keys of the contents in the store that the result names.
    contents_proof: Option<[u8; 32]>,
}

impl Report {
    /// Encodes a report about a call, sealed with the keys of its job and of the contents that the worker has stored.
    #[must_use]
    pub fn encode(&self, keys: &CallKeys) -> Vec<u8> {
        let mut bytes = self.encode_unsealed(keys.contents_proof(&self.contents()));
        keys.call.seal(&bytes).append_to(&mut bytes);
        bytes
    }

    /// Encodes what an engine sends to another engine.
    #[must_use]
    pub fn encode_by_engine(&self, secret: &EngineSecret) -> Vec<u8> {
        secret.sealed(self.encode_unsealed(None))
    }

    fn encode_unsealed(&self, contents_proof: Option<Seal>) -> Vec<u8> {
        let wire = match self {
            Self::Signal(Signal { call, answer, execution, redelivered, worker }, log) => {
                let signal = WireSignal {
                    call: call.into(),
                    worker: worker.as_ref().map(WorkerName::as_str),
                    execution: execution.get(),
                    redelivered: *redelivered,
                    log: (!log.is_empty()).then(|| log.into()),
                    contents_proof: contents_proof.map(|proof| *proof.as_bytes()),
                };
                match answer {
                    TaskResult::Succeeded(values) => WireReport::Succeeded { signal, values: values_to_wire(values) },
                    TaskResult::Failed(failure) => WireReport::Failed { signal, failure: failure.into() },
                }
            }
            Self::Progress(Progress { call, worker, fraction, message }) => WireReport::Progress {
                call: call.into(),
                worker: worker.as_str(),
                fraction: *fraction,
                message: message.as_deref(),
            },
            Self::Heartbeat { call, worker, number } => {
                WireReport::Heartbeat { call: call.into(), worker: worker.as_str(), number: number.into() }
            }
            Self::Released { call, worker } => WireReport::Released { call: call.into(), worker: worker.as_str() },
            Self::Command(request) => WireReport::Request(request.into()),
            Self::Probe { engine, number } => WireReport::Probe { engine, number: *number },
            Self::PermitGrant(grant) => WireReport::Granted(grant.into()),
            Self::AskStart { call } => WireReport::AskStart { call: call.into() },
            Self::Started { call, worker, number } => {
                WireReport::Started { call: call.into(), worker: worker.as_str(), number: number.into() }
            }
            Self::NotStarted { call, redeliveries, unanswered, sending } => WireReport::NotStarted {
                call: call.into(),
                redeliveries: *redeliveries,
                unanswered: *unanswered,
                sending: sending.get(),
            },
            Self::DescribeEngine => WireReport::DescribeEngine,
            Self::DescribePermits(question) => WireReport::DescribePermits(question.into()),
        };
        codec::encode(MessageKind::REPORT, &wire)
    }

    /// Decodes the report and checks its seal: its sender was given the job, and has the key of each content named. A
    /// report about no call must come from an engine.
    ///
    /// # Errors
    /// [`OpenError`] for bytes that are not a report of a known version, and for a seal that is not the report's.
    pub fn open(bytes: &[u8], secret: &EngineSecret) -> Result<Self, OpenError> {
        let unsealed = Seal::split(bytes).map_or(bytes, |(body, _)| body);
        let body = codec::Body::open(MessageKind::REPORT, unsealed)?;
        let beginning: Option<CallBeginning<'_>> = body.read_beginning().ok();
        let call = beginning.and_then(|beginning| beginning.call.into_call().ok());
        let sealed_call = call.filter(|call| secret.is_sealed_for(call, bytes));
        // The seal comes first, since the rest may cost much more than its bytes.
        if sealed_call.is_none() && !secret.has_sealed(bytes) {
            return Err(OpenError::Forged);
        }
        let (report, proof) = Self::decode_with_proof(bytes)?;
        let is_right = match report.call() {
            Some(call) => {
                sealed_call.as_ref() == Some(call)
                    && proof == secret.contents_proof(&secret.call_key(call), &report.contents())
            }
            None => sealed_call.is_none(),
        };
        if is_right { Ok(report) } else { Err(OpenError::Forged) }
    }

    /// Decodes the report without a look at its seal.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a report of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::decode_with_proof(bytes)?.0)
    }

    fn decode_with_proof(bytes: &[u8]) -> Result<(Self, Option<Seal>), DecodeError> {
        let body = Seal::split(bytes).map_or(bytes, |(body, _)| body);
        let wire: WireReport<'_> = codec::decode(MessageKind::REPORT, body)?;
        let proof = wire.contents_proof().map(Seal::from_bytes);
        let report = wire.into_report().map_err(|reason| codec::damaged(MessageKind::REPORT, reason))?;
        Ok((report, proof))
    }

    /// The question of encoded bytes and its seal, if they are a question whether a call may start. The seal is not checked, so
    /// nothing is decoded that has another size than a question.
    #[must_use]
    pub fn question(bytes: &[u8]) -> Option<(CallId, Seal)> {
        let (body, seal) = Seal::split(bytes)?;
        let beginning: CallBeginning<'_> = codec::Body::open(MessageKind::REPORT, body).ok()?.read_beginning().ok()?;
        if beginning.variant != ASK_START {
            return None;
        }
        match Self::decode(bytes) {
            Ok(Self::AskStart { call }) => Some((call, seal)),
            _ => None,
        }
    }

    /// The seal of the question whether the call of a job may start.
    #[must_use]
    pub fn question_seal(call: &CallId, keys: &CallKeys) -> Option<Seal> {
        Seal::split(&Self::AskStart { call: call.clone() }.encode(keys)).map(|(_, seal)| seal)
    }

    /// The contents in the store that the result of a call and its log name.
    #[must_use]
    pub fn contents(&self) -> BTreeSet<Digest> {
        let Self::Signal(Signal { answer, .. }, log) = self else { return BTreeSet::new() };
        let values = match answer {
            TaskResult::Succeeded(values) => Some(values.values().filter_map(Value::digest)),
            TaskResult::Failed(_) => None,
        };
        values.into_iter().flatten().chain(log.http.as_ref().and_then(HttpRecord::digest)).collect()
    }

    /// The call that a worker reports about; `None` for what engines send to each other.
    #[must_use]
    pub fn call(&self) -> Option<&CallId> {
        match self {
            Self::Signal(signal, _) => Some(&signal.call),
            Self::Progress(progress) => Some(&progress.call),
            Self::Heartbeat { call, .. }
            | Self::Released { call, .. }
            | Self::AskStart { call }
            | Self::Started { call, .. }
            | Self::NotStarted { call, .. } => Some(call),
            Self::Command(_)
            | Self::Probe { .. }
            | Self::PermitGrant(_)
            | Self::DescribeEngine
            | Self::DescribePermits(_) => None,
        }
    }
}

/// Why a message is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are no message of a known version.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// The seal is not that of the message: its sender lacks the key of a call or of a content, or is no engine of this logbook.
    #[error("a message whose sender was not given the job of its call, or is no engine of this logbook")]
    Forged,
}

impl WireReport<'_> {
    fn contents_proof(&self) -> Option<[u8; 32]> {
        match self {
            Self::Succeeded { signal, .. } | Self::Failed { signal, .. } => signal.contents_proof,
            _ => None,
        }
    }

    fn into_report(self) -> Result<Report, Invalid> {
        let worker_name = |worker: &str| WorkerName::new(worker).map_err(invalid);
        Ok(match self {
            Self::Succeeded { signal, values } => {
                signal.into_signal(TaskResult::Succeeded(values_from_wire(values)?))?
            }
            Self::Failed { signal, failure } => signal.into_signal(TaskResult::Failed(failure.into_failure()?))?,
            Self::Progress { call, worker, fraction, message } => Report::Progress(Progress {
                call: call.into_call()?,
                worker: worker_name(worker)?,
                fraction,
                // The sender may not have kept to the bound.
                message: message.map(|text| text[..text.floor_char_boundary(MAX_PROGRESS_BYTES)].into()),
            }),
            Self::Heartbeat { call, worker, number } => {
                Report::Heartbeat { call: call.into_call()?, worker: worker_name(worker)?, number: number.into() }
            }
            Self::Released { call, worker } => {
                Report::Released { call: call.into_call()?, worker: worker_name(worker)? }
            }
            Self::Request(request) => Report::Command(request.into_request()?),
            Self::Probe { engine, number } => Report::Probe { engine: engine.into(), number },
            Self::Granted(grant) => Report::PermitGrant(grant.into_grant()?),
            Self::AskStart { call } => Report::AskStart { call: call.into_call()? },
            Self::Started { call, worker, number } => {
                Report::Started { call: call.into_call()?, worker: worker_name(worker)?, number: number.into() }
            }
            Self::NotStarted { call, redeliveries, unanswered, sending } => Report::NotStarted {
                call: call.into_call()?,
                redeliveries,
                unanswered,
                sending: SendingId::new(sending),
            },
            Self::DescribeEngine => Report::DescribeEngine,
            Self::DescribePermits(question) => Report::DescribePermits(question.into_question()?),
        })
    }
}

impl From<&HeartbeatNumber> for WireHeartbeatNumber {
    fn from(number: &HeartbeatNumber) -> Self {
        let HeartbeatNumber { execution, count } = *number;
        Self { execution: execution.get(), count }
    }
}

impl From<WireHeartbeatNumber> for HeartbeatNumber {
    fn from(number: WireHeartbeatNumber) -> Self {
        Self { execution: Execution::new(number.execution), count: number.count }
    }
}

impl WireSignal<'_> {
    fn into_signal(self, answer: TaskResult) -> Result<Report, Invalid> {
        let worker = self.worker.map(WorkerName::new).transpose().map_err(invalid)?;
        let signal = Signal {
            call: self.call.into_call()?,
            answer,
            execution: Execution::new(self.execution),
            redelivered: self.redelivered,
            worker,
        };
        Ok(Report::Signal(signal, self.log.map(CallLog::from).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    #[test]
    fn a_message_about_progress_of_a_sender_without_bounds_is_cut() {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let secret = EngineSecret::new([7; 32]);
        let keys = secret.call_keys(&call, []);
        let progress = |message: String| {
            let (call, worker) = (call.clone(), "w".parse().unwrap());
            Report::Progress(Progress { call, worker, fraction: Some(0.5), message: Some(message) })
        };
        let opened = Report::open(&progress("ä".repeat(1 << 20)).encode(&keys), &secret);
        assert_eq!(opened, Ok(progress("ä".repeat(MAX_PROGRESS_BYTES / 2))));
    }
}
