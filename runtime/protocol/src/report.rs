//! What reaches the queue of a shard: what workers tell of calls, what is asked for runs, and engines' probes.

use flow::{CallId, Execution, Signal, TaskResult, WorkerName};

use crate::{
    CallLog, CommandRequest, DecodeError, PermitGrant,
    codec::{self, BorrowDecode, Encode, MessageKind},
    log::WireLog,
    permits::WireGranted,
    request::WireRequest,
    wire::{Invalid, WireCall, WireFailure, WireValues, invalid, values_from_wire, values_to_wire},
};

/// What reaches the queue of a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// How a call ended, and what its guest wrote.
    Signal(Signal, CallLog),
    /// How far a call has come. Sent for calls that take a while, kept by nobody.
    Progress(Progress),
    /// A long call is alive: its worker has it under a lease, which this renews. The first one comes before the worker
    /// accepts the job.
    Heartbeat {
        /// Which call.
        call: CallId,
        /// Who calls it.
        worker: WorkerName,
    },
    /// A worker that stops gives a call back that it had under a lease.
    Released {
        /// Which call.
        call: CallId,
        /// Who had it.
        worker: WorkerName,
    },
    /// Something asked for a run. The message's reply queue and correlation id say where the answer goes.
    Command(CommandRequest),
    /// An engine asks who hears this queue: whoever takes it drives the shard from then on.
    Probe {
        /// Which engine asks.
        engine: String,
        /// Which of its probes it is.
        number: u64,
    },
    /// Who keeps the permits of a task has given some, or has them given already.
    PermitGrant(PermitGrant),
    /// A worker asks before it begins a call that may have been withdrawn. The message's reply queue takes the
    /// [`Control::MayStart`](crate::Control::MayBegin) that answers it.
    MayBegin {
        /// Which call.
        call: CallId,
    },
    /// The answer to [`Control::Withdraw`](crate::Control::Withdraw) of a worker that has begun the call: it has the call
    /// under a lease from here on.
    Started {
        /// Which call.
        call: CallId,
        /// Who calls it.
        worker: WorkerName,
    },
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which call.
    pub call: CallId,
    /// Who calls it.
    pub worker: WorkerName,
    /// From 0 to 1, when the guest has said so.
    pub fraction: Option<f64>,
    /// What the guest said last: with its progress, or in its log.
    pub message: Option<String>,
}

#[derive(Encode, BorrowDecode)]
enum WireReport<'a> {
    Succeeded { signal: WireSignal<'a>, values: WireValues<'a> },
    Failed { signal: WireSignal<'a>, failure: WireFailure<'a> },
    Progress { call: WireCall<'a>, worker: &'a str, fraction: Option<f64>, message: Option<&'a str> },
    Heartbeat { call: WireCall<'a>, worker: &'a str },
    Released { call: WireCall<'a>, worker: &'a str },
    Request(WireRequest<'a>),
    Probe { engine: &'a str, number: u64 },
    Granted(WireGranted<'a>),
    MayBegin { call: WireCall<'a> },
    Begun { call: WireCall<'a>, worker: &'a str },
}

#[derive(Encode, BorrowDecode)]
struct WireSignal<'a> {
    call: WireCall<'a>,
    worker: Option<&'a str>,
    execution: u64,
    redelivered: bool,
    log: Option<WireLog<'a>>,
}

impl Report {
    /// The report as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Signal(Signal { call, answer, execution, redelivered, worker }, log) => {
                let signal = WireSignal {
                    call: call.into(),
                    worker: worker.as_ref().map(WorkerName::as_str),
                    execution: execution.get(),
                    redelivered: *redelivered,
                    log: (!log.is_empty()).then(|| log.into()),
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
            Self::Heartbeat { call, worker } => WireReport::Heartbeat { call: call.into(), worker: worker.as_str() },
            Self::Released { call, worker } => WireReport::Released { call: call.into(), worker: worker.as_str() },
            Self::Command(request) => WireReport::Request(request.into()),
            Self::Probe { engine, number } => WireReport::Probe { engine, number: *number },
            Self::PermitGrant(granted) => WireReport::Granted(granted.into()),
            Self::MayBegin { call } => WireReport::MayBegin { call: call.into() },
            Self::Started { call, worker } => WireReport::Begun { call: call.into(), worker: worker.as_str() },
        };
        codec::encode(MessageKind::REPORT, &wire)
    }

    /// The report in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a report of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireReport<'_> = codec::decode(MessageKind::REPORT, bytes)?;
        wire.into_report().map_err(|reason| codec::damaged(MessageKind::REPORT, reason))
    }
}

impl WireReport<'_> {
    fn into_report(self) -> Result<Report, Invalid> {
        let named = |worker: &str| WorkerName::new(worker).map_err(invalid);
        Ok(match self {
            Self::Succeeded { signal, values } => {
                signal.into_signal(TaskResult::Succeeded(values_from_wire(values)?))?
            }
            Self::Failed { signal, failure } => signal.into_signal(TaskResult::Failed(failure.into_failure()?))?,
            Self::Progress { call, worker, fraction, message } => Report::Progress(Progress {
                call: call.into_call()?,
                worker: named(worker)?,
                fraction,
                message: message.map(Into::into),
            }),
            Self::Heartbeat { call, worker } => Report::Heartbeat { call: call.into_call()?, worker: named(worker)? },
            Self::Released { call, worker } => Report::Released { call: call.into_call()?, worker: named(worker)? },
            Self::Request(request) => Report::Command(request.into_request()?),
            Self::Probe { engine, number } => Report::Probe { engine: engine.into(), number },
            Self::Granted(granted) => Report::PermitGrant(granted.into_grant()?),
            Self::MayBegin { call } => Report::MayBegin { call: call.into_call()? },
            Self::Begun { call, worker } => Report::Started { call: call.into_call()?, worker: named(worker)? },
        })
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
