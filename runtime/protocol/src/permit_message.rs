//! Messages about the permits of a rate-limited task: on its permit queue, and the grants sent back to the requesters.
//!
//! Each request lists all permits that the shard holds and wants, so lost or duplicate messages change nothing. Between two
//! requests with many permits there are updates, which name only those that are not needed any more. The permit
//! coordinator publishes a snapshot to the same queue before it grants permits: the queue outlives the coordinator.

use flow::{CallId, FlowName, NodeName, Pace, RunId, Shard, Timestamp};

use crate::{
    DecodeError, EngineSecret, OpenError, Seal,
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::WirePace,
    wire::{Invalid, WireCall, invalid},
};

/// A message on the permit queue of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum PermitMessage {
    /// The permits that the runs of a shard hold and request.
    Request(PermitRequest),
    /// The permits that are granted.
    Snapshot(PermitSnapshot),
    /// The coordinator checks whether it still consumes the queue.
    Tick(PermitTick),
    /// What has changed since a request or an update.
    Update(PermitUpdate),
}

/// What has changed in the permits that the runs of a shard hold and request. A coordinator that has not received the message before
/// asks for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitUpdate {
    /// The shard.
    pub shard: Shard,
    /// The engine that drives it.
    pub engine: String,
    /// The number of this message, counted with the requests of that engine.
    pub number: u64,
    /// The number of the engine's request or update for the shard and the task before.
    pub follows: u64,
    /// Calls that held a permit or wanted one, and do not any more.
    pub released: Vec<CallId>,
    /// All calls that want a permit.
    pub wanted: Vec<RequestedCall>,
}

/// The permits of a task that the runs of a shard hold and want.
#[derive(Debug, Clone, PartialEq)]
pub struct PermitRequest {
    /// The shard.
    pub shard: Shard,
    /// The engine that drives it.
    pub engine: String,
    /// When the engine began to drive the shard, as far as this task is concerned.
    pub since: Timestamp,
    /// The number of this request, counted by that engine.
    pub number: u64,
    /// The task's pace, according to the runs.
    pub pace: Pace,
    /// Runs of the shard that the engine has not loaded yet, so their permits are unknown.
    pub unloaded: Vec<RunId>,
    /// Whether the engine wants a reply even if nothing is new.
    pub wants_reply: bool,
    /// The calls that hold a permit.
    pub held: Vec<CallId>,
    /// The calls that want a permit.
    pub wanted: Vec<RequestedCall>,
}

/// A call that wants a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedCall {
    /// The call.
    pub call: CallId,
    /// Higher first.
    pub priority: i32,
}

/// The granted permits, as the permit coordinator writes them before it grants new ones.
#[derive(Debug, Clone, PartialEq)]
pub struct PermitSnapshot {
    /// The engine that coordinates the permits.
    pub coordinator: String,
    /// One more than the last number that this engine knew.
    pub number: u64,
    /// The earliest start of the next call that the task's rate allows.
    pub free_at: Timestamp,
    /// All granted permits, including the new ones.
    pub permits: Vec<Permit>,
}

/// A granted permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The call that holds the permit.
    pub call: CallId,
    /// The shard of its run.
    pub shard: Shard,
    /// The engine that requested it.
    pub engine: String,
    /// The number of the request that this permit answers.
    pub request_number: u64,
}

/// The coordinator checks whether it still consumes the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitTick {
    /// The engine.
    pub coordinator: String,
    /// The number of this tick, counted by that engine.
    pub number: u64,
}

/// Permits that are granted to the runs of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitGrant {
    /// The task's flow.
    pub flow: FlowName,
    /// The task.
    pub task: NodeName,
    /// The engine that sent the request.
    pub engine: String,
    /// The number of the request that this grant answers.
    pub number: u64,
    /// The requested calls that have a permit.
    pub calls: Vec<CallId>,
}

#[derive(Encode, BorrowDecode)]
enum WirePermits<'a> {
    Request(WirePermitRequest<'a>),
    Snapshot { coordinator: &'a str, number: u64, free_at_micros: u64, permits: Vec<WirePermit<'a>> },
    Tick { coordinator: &'a str, number: u64 },
    Update(WirePermitUpdate<'a>),
}

#[derive(Encode, BorrowDecode)]
struct WirePermitUpdate<'a> {
    shard: &'a str,
    engine: &'a str,
    number: u64,
    follows: u64,
    released: Vec<WireCall<'a>>,
    wanted: Vec<(WireCall<'a>, i32)>,
}

#[derive(Encode, BorrowDecode)]
struct WirePermitRequest<'a> {
    shard: &'a str,
    engine: &'a str,
    since_micros: u64,
    number: u64,
    pace: WirePace,
    unloaded: Vec<&'a str>,
    wants_reply: bool,
    held: Vec<WireCall<'a>>,
    wanted: Vec<(WireCall<'a>, i32)>,
}

#[derive(Encode, BorrowDecode)]
struct WirePermit<'a> {
    call: WireCall<'a>,
    shard: &'a str,
    engine: &'a str,
    request_number: u64,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireGranted<'a> {
    flow: &'a str,
    task: &'a str,
    engine: &'a str,
    number: u64,
    calls: Vec<WireCall<'a>>,
}

impl PermitMessage {
    /// Encodes the message.
    #[must_use]
    pub fn encode(&self, secret: &EngineSecret) -> Vec<u8> {
        let wire = match self {
            Self::Request(request) => WirePermits::Request(request.into()),
            Self::Snapshot(PermitSnapshot { coordinator, number, free_at, permits }) => WirePermits::Snapshot {
                coordinator,
                number: *number,
                free_at_micros: free_at.as_micros(),
                permits: permits.iter().map(WirePermit::from).collect(),
            },
            Self::Tick(PermitTick { coordinator, number }) => WirePermits::Tick { coordinator, number: *number },
            Self::Update(update) => WirePermits::Update(update.into()),
        };
        secret.sealed(codec::encode(MessageKind::PERMITS, &wire))
    }

    /// Decodes the message, and checks that an engine of this logbook sent it.
    ///
    /// # Errors
    /// [`OpenError`] for bytes that are no message of a known version, and for a seal that is not the message's.
    pub fn open(bytes: &[u8], secret: &EngineSecret) -> Result<Self, OpenError> {
        if secret.has_sealed(bytes) { Ok(Self::decode(bytes)?) } else { Err(OpenError::Forged) }
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a permit message of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = Seal::split(bytes).map_or(bytes, |(body, _)| body);
        let wire: WirePermits<'_> = codec::decode(MessageKind::PERMITS, bytes)?;
        wire.into_message().map_err(|reason| codec::damaged(MessageKind::PERMITS, reason))
    }
}

impl WirePermits<'_> {
    fn into_message(self) -> Result<PermitMessage, Invalid> {
        Ok(match self {
            Self::Request(request) => PermitMessage::Request(request.into_request()?),
            Self::Snapshot { coordinator, number, free_at_micros, permits } => {
                PermitMessage::Snapshot(PermitSnapshot {
                    coordinator: coordinator.into(),
                    number,
                    free_at: Timestamp::from_micros(free_at_micros),
                    permits: permits.into_iter().map(WirePermit::into_permit).collect::<Result<_, _>>()?,
                })
            }
            Self::Tick { coordinator, number } => {
                PermitMessage::Tick(PermitTick { coordinator: coordinator.into(), number })
            }
            Self::Update(update) => PermitMessage::Update(update.into_update()?),
        })
    }
}

impl<'a> From<&'a PermitRequest> for WirePermitRequest<'a> {
    fn from(request: &'a PermitRequest) -> Self {
        let PermitRequest { shard, engine, since, number, pace, unloaded, wants_reply, held, wanted } = request;
        Self {
            shard: shard.as_str(),
            engine,
            since_micros: since.as_micros(),
            number: *number,
            pace: (*pace).into(),
            unloaded: unloaded.iter().map(RunId::as_str).collect(),
            wants_reply: *wants_reply,
            held: held.iter().map(WireCall::from).collect(),
            wanted: wanted.iter().map(wire_requested).collect(),
        }
    }
}

fn wire_requested(RequestedCall { call, priority }: &RequestedCall) -> (WireCall<'_>, i32) {
    (call.into(), *priority)
}

fn requested_call((call, priority): (WireCall<'_>, i32)) -> Result<RequestedCall, Invalid> {
    Ok(RequestedCall { call: call.into_call()?, priority })
}

impl<'a> From<&'a PermitUpdate> for WirePermitUpdate<'a> {
    fn from(PermitUpdate { shard, engine, number, follows, released, wanted }: &'a PermitUpdate) -> Self {
        Self {
            shard: shard.as_str(),
            engine,
            number: *number,
            follows: *follows,
            released: released.iter().map(WireCall::from).collect(),
            wanted: wanted.iter().map(wire_requested).collect(),
        }
    }
}

impl WirePermitUpdate<'_> {
    fn into_update(self) -> Result<PermitUpdate, Invalid> {
        Ok(PermitUpdate {
            shard: Shard::new(self.shard).map_err(invalid)?,
            engine: self.engine.into(),
            number: self.number,
            follows: self.follows,
            released: self.released.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?,
            wanted: self.wanted.into_iter().map(requested_call).collect::<Result<_, _>>()?,
        })
    }
}

impl WirePermitRequest<'_> {
    fn into_request(self) -> Result<PermitRequest, Invalid> {
        Ok(PermitRequest {
            shard: Shard::new(self.shard).map_err(invalid)?,
            engine: self.engine.into(),
            since: Timestamp::from_micros(self.since_micros),
            number: self.number,
            pace: self.pace.into_pace()?,
            unloaded: self.unloaded.into_iter().map(RunId::new).collect::<Result<_, _>>().map_err(invalid)?,
            wants_reply: self.wants_reply,
            held: self.held.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?,
            wanted: self.wanted.into_iter().map(requested_call).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> From<&'a Permit> for WirePermit<'a> {
    fn from(permit: &'a Permit) -> Self {
        let Permit { call, shard, engine, request_number } = permit;
        Self { call: call.into(), shard: shard.as_str(), engine, request_number: *request_number }
    }
}

impl WirePermit<'_> {
    fn into_permit(self) -> Result<Permit, Invalid> {
        let Self { call, shard, engine, request_number } = self;
        let shard = Shard::new(shard).map_err(invalid)?;
        Ok(Permit { call: call.into_call()?, shard, engine: engine.into(), request_number })
    }
}

impl<'a> From<&'a PermitGrant> for WireGranted<'a> {
    fn from(grant: &'a PermitGrant) -> Self {
        let PermitGrant { flow, task, engine, number, calls } = grant;
        let calls = calls.iter().map(WireCall::from).collect();
        Self { flow: flow.as_str(), task: task.as_str(), engine, number: *number, calls }
    }
}

impl WireGranted<'_> {
    pub(crate) fn into_grant(self) -> Result<PermitGrant, Invalid> {
        Ok(PermitGrant {
            flow: FlowName::new(self.flow).map_err(invalid)?,
            task: NodeName::new(self.task).map_err(invalid)?,
            engine: self.engine.into(),
            number: self.number,
            calls: self.calls.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?,
        })
    }
}
