//! What is said to all workers at once, and what they answer.

use flow::{CallId, QueueName, RunId, WorkerName};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{Invalid, WireCall, invalid},
};

/// Said to all workers.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// Say who you are.
    Ping(Ping),
    /// Stop this attempt, if you have it.
    Interrupt(CallId),
    /// Nobody wants these calls any more: whoever has begun one says so with [`Report::Begun`](crate::Report::Begun), and
    /// whoever gets the job of one does not begin it before an engine says that it may.
    Withdraw(Vec<CallId>),
    /// An engine's answer to one worker that asked with [`Report::MayStart`](crate::Report::MayBegin).
    MayStart {
        /// Which call.
        call: CallId,
        /// Whether the call is to be made; if not, the run has withdrawn it, or has an answer to it.
        wanted: bool,
    },
    /// Somebody follows what the guests of a run write: whoever calls some publishes their lines on
    /// [`LOGS`](crate::topology::LOGS) from the first one again.
    TellLogs {
        /// The run.
        run: RunId,
    },
}

/// A question to all workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// The queue that takes the answers.
    pub reply_to: String,
}

/// A worker's answer to a ping.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Its name.
    pub name: WorkerName,
    /// Tells two workers of one name apart: chosen anew at each start.
    pub instance: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// How many calls it takes at once.
    pub slots: u32,
    /// How many it has now.
    pub busy: u32,
    /// The queues it takes jobs from.
    pub queues: Vec<QueueName>,
    /// The version of waft it is.
    pub version: String,
}

#[derive(Encode, BorrowDecode)]
enum WireControl<'a> {
    Ping { reply_to: &'a str },
    Interrupt { call: WireCall<'a> },
    Withdraw { calls: Vec<WireCall<'a>> },
    MayBegin { call: WireCall<'a>, wanted: bool },
    TellLogs { run: &'a str },
}

#[derive(Encode, BorrowDecode)]
struct WireStatus<'a> {
    name: &'a str,
    instance: &'a str,
    host: &'a str,
    process: u32,
    slots: u32,
    busy: u32,
    queues: Vec<&'a str>,
    version: &'a str,
}

impl Control {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Ping(Ping { reply_to }) => WireControl::Ping { reply_to },
            Self::Interrupt(call) => WireControl::Interrupt { call: call.into() },
            Self::Withdraw(calls) => WireControl::Withdraw { calls: calls.iter().map(Into::into).collect() },
            Self::MayStart { call, wanted } => WireControl::MayBegin { call: call.into(), wanted: *wanted },
            Self::TellLogs { run } => WireControl::TellLogs { run: run.as_str() },
        };
        codec::encode(MessageKind::CONTROL, &wire)
    }

    /// The message in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a control message of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireControl<'_> = codec::decode(MessageKind::CONTROL, bytes)?;
        wire.into_control().map_err(|reason| codec::damaged(MessageKind::CONTROL, reason))
    }
}

impl WorkerStatus {
    /// The answer as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireStatus {
            name: self.name.as_str(),
            instance: &self.instance,
            host: &self.host,
            process: self.process,
            slots: self.slots,
            busy: self.busy,
            queues: self.queues.iter().map(QueueName::as_str).collect(),
            version: &self.version,
        };
        codec::encode(MessageKind::WORKER_STATUS, &wire)
    }

    /// The answer in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a worker's status of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireStatus<'_> = codec::decode(MessageKind::WORKER_STATUS, bytes)?;
        wire.into_status().map_err(|reason| codec::damaged(MessageKind::WORKER_STATUS, reason))
    }
}

impl WireControl<'_> {
    fn into_control(self) -> Result<Control, Invalid> {
        Ok(match self {
            Self::Ping { reply_to } => Control::Ping(Ping { reply_to: reply_to.into() }),
            Self::Interrupt { call } => Control::Interrupt(call.into_call()?),
            Self::Withdraw { calls } => {
                Control::Withdraw(calls.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?)
            }
            Self::MayBegin { call, wanted } => Control::MayStart { call: call.into_call()?, wanted },
            Self::TellLogs { run } => Control::TellLogs { run: RunId::new(run).map_err(invalid)? },
        })
    }
}

impl WireStatus<'_> {
    fn into_status(self) -> Result<WorkerStatus, Invalid> {
        Ok(WorkerStatus {
            name: WorkerName::new(self.name).map_err(invalid)?,
            instance: self.instance.into(),
            host: self.host.into(),
            process: self.process,
            slots: self.slots,
            busy: self.busy,
            queues: self.queues.into_iter().map(QueueName::new).collect::<Result<_, _>>().map_err(invalid)?,
            version: self.version.into(),
        })
    }
}
