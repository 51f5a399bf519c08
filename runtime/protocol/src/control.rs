//! Messages to all workers, and their answers.

use flow::{CallId, QueueName, RunId, WorkerName};

use crate::{
    DecodeError, DetailsQuestion, DrainRequest, GrantsQuestion, Seal,
    codec::{self, BorrowDecode, Encode, MessageKind},
    grants::WireQuestion,
    wire::{Invalid, WireCall, invalid},
    worker_details::{WireDetailsQuestion, WireDrainRequest},
};

/// A message to all workers.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// Asks each worker for its status.
    Ping(Ping),
    /// Stops this attempt on the worker that has it.
    Interrupt {
        /// The call.
        call: CallId,
        /// Proves that an engine stops it: see [`Key::interrupt_proof`](crate::Key::interrupt_proof).
        proof: Seal,
    },
    /// Withdraws calls. A worker that has started one answers with [`Report::Started`](crate::Report::Started). A worker
    /// that receives the job of one later asks the engine before it starts the call.
    Withdraw(Vec<WithdrawnCall>),
    /// An engine's answer to a worker that asked with [`Report::AskStart`](crate::Report::AskStart).
    MayStart {
        /// The call.
        call: CallId,
        /// Whether to make the call; false when the run has withdrawn it or already has its result.
        wanted: bool,
        /// Proves that an engine answers so: see [`Key::may_start_proof`](crate::Key::may_start_proof).
        proof: Seal,
    },
    /// An engine's answer to a question whether a call may start, when the question is not sealed with a key of this logbook:
    /// no engine will ever answer it.
    UnknownKey {
        /// The call.
        call: CallId,
        /// The seal of the question: see [`Report::question_seal`](crate::Report::question_seal). Only the worker that asked
        /// and the engines know it.
        question: Seal,
    },
    /// A client follows the log of a run. Each worker that calls a guest of the run publishes its lines, from the first, on
    /// [`LOGS`](crate::topology::LOGS).
    FollowLogs {
        /// The run.
        run: RunId,
    },
    /// Asks each worker how much it grants of what a flow asks for. It answers with [`GrantsAnswer`](crate::GrantsAnswer).
    ExplainGrants(GrantsQuestion),
    /// Asks each worker for its details. It answers with [`WorkerDetails`](crate::WorkerDetails).
    Details(DetailsQuestion),
    /// Tells one worker whether to take jobs. It answers with [`WorkerDetails`](crate::WorkerDetails).
    Drain(DrainRequest),
}

/// The maximum number of calls in one withdrawal: workers refuse more, since each is compared with all their calls.
pub const MAX_WITHDRAWN_CALLS: usize = 1_000;

/// A call that an engine withdraws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawnCall {
    /// The call.
    pub call: CallId,
    /// Proves that an engine withdraws it: see [`Key::withdraw_proof`](crate::Key::withdraw_proof).
    pub proof: Seal,
}

/// The maximum size of a worker's status, in bytes: enough for hundreds of queues. Statuses have no seal, and whoever asks keeps
/// all of them.
pub const MAX_STATUS_BYTES: usize = 64 << 10;

/// A question to all workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// The queue for the answers.
    pub reply_to: String,
}

/// A worker's answer to a ping.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Its name.
    pub name: WorkerName,
    /// Distinguishes two workers of one name: chosen at each start.
    pub instance: String,
    /// The host that the worker runs on.
    pub host: String,
    /// Its process id on that host.
    pub process: u32,
    /// The maximum number of calls that compute at once.
    pub slots: u32,
    /// The number of calls that it makes now, also of those that wait without a slot.
    pub busy: u32,
    /// The queues that it consumes jobs from.
    pub queues: Vec<QueueName>,
    /// The version of waft.
    pub version: String,
}

#[derive(Encode, BorrowDecode)]
enum WireControl<'a> {
    Ping { reply_to: &'a str },
    Interrupt { call: WireCall<'a>, proof: [u8; 32] },
    Withdraw { calls: Vec<(WireCall<'a>, [u8; 32])> },
    MayStart { call: WireCall<'a>, wanted: bool, proof: [u8; 32] },
    FollowLogs { run: &'a str },
    UnknownKey { call: WireCall<'a>, question: [u8; 32] },
    ExplainGrants { question: WireQuestion<'a> },
    Details { question: WireDetailsQuestion<'a> },
    Drain { request: WireDrainRequest<'a> },
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
    /// Encodes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Ping(Ping { reply_to }) => WireControl::Ping { reply_to },
            Self::Interrupt { call, proof } => WireControl::Interrupt { call: call.into(), proof: *proof.as_bytes() },
            Self::Withdraw(calls) => {
                let wire = calls.iter().map(|WithdrawnCall { call, proof }| (call.into(), *proof.as_bytes()));
                WireControl::Withdraw { calls: wire.collect() }
            }
            Self::MayStart { call, wanted, proof } => {
                WireControl::MayStart { call: call.into(), wanted: *wanted, proof: *proof.as_bytes() }
            }
            Self::FollowLogs { run } => WireControl::FollowLogs { run: run.as_str() },
            Self::UnknownKey { call, question } => {
                WireControl::UnknownKey { call: call.into(), question: *question.as_bytes() }
            }
            Self::ExplainGrants(question) => WireControl::ExplainGrants { question: question.into() },
            Self::Details(question) => WireControl::Details { question: question.into() },
            Self::Drain(request) => WireControl::Drain { request: request.into() },
        };
        codec::encode(MessageKind::CONTROL, &wire)
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a control message of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireControl<'_> = codec::decode(MessageKind::CONTROL, bytes)?;
        wire.into_control().map_err(|reason| codec::damaged(MessageKind::CONTROL, reason))
    }
}

impl WorkerStatus {
    /// Encodes the answer.
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

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a worker's status of a known version, and for more than [`MAX_STATUS_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_STATUS_BYTES {
            let reason = format!("its {} bytes are more than {MAX_STATUS_BYTES}", bytes.len());
            return Err(codec::damaged(MessageKind::WORKER_STATUS, reason));
        }
        let wire: WireStatus<'_> = codec::decode(MessageKind::WORKER_STATUS, bytes)?;
        wire.into_status().map_err(|reason| codec::damaged(MessageKind::WORKER_STATUS, reason))
    }
}

impl WireControl<'_> {
    fn into_control(self) -> Result<Control, Invalid> {
        Ok(match self {
            Self::Ping { reply_to } => Control::Ping(Ping { reply_to: reply_to.into() }),
            Self::Interrupt { call, proof } => {
                Control::Interrupt { call: call.into_call()?, proof: Seal::from_bytes(proof) }
            }
            Self::Withdraw { calls } if calls.len() > MAX_WITHDRAWN_CALLS => {
                return Err(format!("it withdraws {} calls, and {MAX_WITHDRAWN_CALLS} are allowed", calls.len()));
            }
            Self::Withdraw { calls } => {
                let withdrawn = |(call, proof): (WireCall<'_>, _)| {
                    Ok::<_, Invalid>(WithdrawnCall { call: call.into_call()?, proof: Seal::from_bytes(proof) })
                };
                Control::Withdraw(calls.into_iter().map(withdrawn).collect::<Result<_, _>>()?)
            }
            Self::MayStart { call, wanted, proof } => {
                Control::MayStart { call: call.into_call()?, wanted, proof: Seal::from_bytes(proof) }
            }
            Self::FollowLogs { run } => Control::FollowLogs { run: RunId::new(run).map_err(invalid)? },
            Self::UnknownKey { call, question } => {
                Control::UnknownKey { call: call.into_call()?, question: Seal::from_bytes(question) }
            }
            Self::ExplainGrants { question } => Control::ExplainGrants(question.into_question()?),
            Self::Details { question } => Control::Details(question.into_question()?),
            Self::Drain { request } => Control::Drain(request.into_request()?),
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
