//! Records as bytes, as a logbook stores them. One append is one message with all its records.

mod call;
mod controller;
mod trigger;

use flow::{Attempt, ClockShift, Firing, Labels, NodeIndex, Revision, RunState, Timestamp, WorkerName};
use machine::{Fact, Record};

pub(crate) use self::trigger::{WireSkipReason, WireTrigger};
use self::{
    call::{WireAttempt, WireFailed, WireLate, WireRememberedFact, WireRollbackFailed, WireSucceeded},
    controller::{WireControllerRan, resolution_from_wire, resolution_to_wire},
    trigger::{WireBacklog, WireSkip, WireTriggered},
};
use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::{WireFlow, WireReach},
    wire::{
        Invalid, WireAction, WireFailure, invalid, list_from_wire, list_to_wire, time_from_wire, time_to_wire,
        worker_from_wire, worker_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
struct WireRecord<'a> {
    at_micros: u64,
    /// The firing that the record belongs to, in a run that fires more than once.
    firing: Option<u64>,
    fact: WireFact<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireFact<'a> {
    RunStarted { flow: Box<WireFlow<'a>>, revision: u64 },
    Started { attempt: WireAttempt, action: WireAction },
    Succeeded(WireSucceeded<'a>),
    Failed(WireFailed<'a>),
    Leased { attempt: WireAttempt, action: WireAction, worker: &'a str },
    Lost { attempt: WireAttempt, action: WireAction, worker: Option<&'a str> },
    LateOutcome(WireLate<'a>),
    RolledBack { attempt: WireAttempt, worker: Option<&'a str> },
    RollbackFailed(WireRollbackFailed<'a>),
    PassedRollback { node: u32 },
    RollbackRetried { node: u32 },
    RollbackSkipped { node: u32, reason: &'a str },
    Resolved { node: u32, retry: Option<u32> },
    ControllerRan(WireControllerRan<'a>),
    NotStarted { node: u32, attempt: u32, failure: WireFailure<'a> },
    Retrying { node: u32 },
    Ignored { node: u32, reach: WireReach },
    ScopeStarted { node: u32 },
    Delayed { node: u32, until_micros: u64 },
    Expanded { node: u32, list: Vec<&'a str> },
    Triggered(WireTriggered<'a>),
    BackEdgeSkipped { back_edge: u32, reason: &'a str },
    TriggerSkipped(WireSkip<'a>),
    Scheduled { schedule: u32, next_micros: Option<u64> },
    Backlogged(WireBacklog),
    CaughtUp { schedule: u32, next_micros: Option<u64> },
    NotificationReceived { node: u32, key: &'a str },
    Edited { flow: Box<WireFlow<'a>>, revision: u64 },
    Expired,
    Reset,
    CancelRequested,
    SuspendRequested,
    Resumed,
    ClockSet { by_micros: i64 },
    RunEntered { state: &'a str },
    Remembered(WireRememberedFact<'a>),
    RunStartedLabelled { flow: Box<WireFlow<'a>>, revision: u64, labels: Vec<(&'a str, &'a str)> },
}

/// Encodes records that are appended together.
#[must_use]
pub fn encode_records(records: &[Record]) -> Vec<u8> {
    let wire: Vec<WireRecord<'_>> = records.iter().map(WireRecord::from).collect();
    codec::encode(MessageKind::RECORDS, &wire)
}

/// Decodes records.
///
/// # Errors
/// [`DecodeError`] for bytes that are not records of a known version.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let wire: Vec<WireRecord<'_>> = codec::decode(MessageKind::RECORDS, bytes)?;
    let records = wire.into_iter().map(WireRecord::into_record).collect::<Result<_, Invalid>>();
    records.map_err(|reason| codec::damaged(MessageKind::RECORDS, reason))
}

impl<'a> From<&'a Record> for WireRecord<'a> {
    fn from(Record { at, firing, fact }: &'a Record) -> Self {
        Self { at_micros: at.as_micros(), firing: firing.map(Firing::get), fact: fact.into() }
    }
}

impl WireRecord<'_> {
    fn into_record(self) -> Result<Record, Invalid> {
        let (at, firing) = (Timestamp::from_micros(self.at_micros), self.firing.map(Firing::new));
        Ok(Record { at, firing, fact: self.fact.into_fact()? })
    }
}

impl<'a> From<&'a Fact> for WireFact<'a> {
    fn from(fact: &'a Fact) -> Self {
        match fact {
            Fact::RunStarted { flow, revision, labels } => {
                let (flow, revision) = (Box::new((&**flow).into()), revision.get());
                let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                match labels.is_empty() {
                    true => Self::RunStarted { flow, revision },
                    false => Self::RunStartedLabelled { flow, revision, labels },
                }
            }
            Fact::Started { attempt, action } => Self::Started { attempt: attempt.into(), action: (*action).into() },
            Fact::Succeeded { attempt, provided, execution, worker } => {
                Self::Succeeded(WireSucceeded::new(attempt, provided, *execution, worker.as_ref()))
            }
            Fact::Remembered { attempt, provided, computed_by } => {
                Self::Remembered(WireRememberedFact::new(attempt, provided, computed_by))
            }
            Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker } => {
                Self::Failed(WireFailed::new(attempt, failure, *retry_at, *execution, *redelivered, worker.as_ref()))
            }
            Fact::Leased { attempt, action, worker } => {
                Self::Leased { attempt: attempt.into(), action: (*action).into(), worker: worker.as_str() }
            }
            Fact::Lost { attempt, action, worker } => {
                let worker = worker_to_wire(worker.as_ref());
                Self::Lost { attempt: attempt.into(), action: (*action).into(), worker }
            }
            Fact::LateOutcome { attempt, action, execution, outcome, worker } => {
                Self::LateOutcome(WireLate::new(attempt, *action, *execution, outcome.as_ref(), worker.as_ref()))
            }
            Fact::RolledBack { attempt, worker } => {
                Self::RolledBack { attempt: attempt.into(), worker: worker_to_wire(worker.as_ref()) }
            }
            Fact::RollbackFailed { attempt, failure, retry_at, worker } => {
                Self::RollbackFailed(WireRollbackFailed::new(attempt, failure, *retry_at, worker.as_ref()))
            }
            Fact::RollbackNotNeeded { node } => Self::PassedRollback { node: node.0 },
            Fact::RollbackRetried { node } => Self::RollbackRetried { node: node.0 },
            Fact::RollbackSkipped { node, reason } => Self::RollbackSkipped { node: node.0, reason },
            Fact::FailureResolved { node, resolution } => {
                Self::Resolved { node: node.0, retry: resolution_to_wire(*resolution) }
            }
            Fact::ControllerRan { node, attempt, value, list } => {
                Self::ControllerRan(WireControllerRan::new(*node, *attempt, value.as_ref(), list.as_deref()))
            }
            Fact::StartFailed { node, attempt, failure } => {
                Self::NotStarted { node: node.0, attempt: attempt.get(), failure: failure.into() }
            }
            Fact::Retrying { node } => Self::Retrying { node: node.0 },
            Fact::Ignored { node, reach } => Self::Ignored { node: node.0, reach: (*reach).into() },
            Fact::ScopeStarted { node } => Self::ScopeStarted { node: node.0 },
            Fact::Delayed { node, until } => Self::Delayed { node: node.0, until_micros: until.as_micros() },
            Fact::Expanded { node, list } => Self::Expanded { node: node.0, list: list_to_wire(list) },
            Fact::Triggered { firing, entry, by, values } => {
                Self::Triggered(WireTriggered::new(*firing, *entry, by, values))
            }
            Fact::BackEdgeSkipped { back_edge, reason } => Self::BackEdgeSkipped { back_edge: *back_edge, reason },
            Fact::TriggerSkipped { entry, by, reason, count } => {
                Self::TriggerSkipped(WireSkip::new(*entry, by, *reason, *count))
            }
            Fact::Scheduled { schedule, next } => {
                Self::Scheduled { schedule: *schedule, next_micros: time_to_wire(*next) }
            }
            Fact::BacklogAdded { schedule, from, until } => {
                Self::Backlogged(WireBacklog::new(*schedule, *from, *until))
            }
            Fact::BacklogFired { schedule, next } => {
                Self::CaughtUp { schedule: *schedule, next_micros: time_to_wire(*next) }
            }
            Fact::NotificationReceived { node, key } => Self::NotificationReceived { node: node.0, key },
            Fact::Edited { flow, revision } => {
                Self::Edited { flow: Box::new((&**flow).into()), revision: revision.get() }
            }
            Fact::Expired => Self::Expired,
            Fact::Reset => Self::Reset,
            Fact::CancelRequested => Self::CancelRequested,
            Fact::SuspendRequested => Self::SuspendRequested,
            Fact::Resumed => Self::Resumed,
            Fact::ClockSet { by } => Self::ClockSet { by_micros: by.as_micros() },
            Fact::RunStateChanged { state } => Self::RunEntered { state: state.as_str() },
        }
    }
}

impl WireFact<'_> {
    fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(match self {
            Self::RunStarted { flow, revision } => {
                let (revision, labels) = (Revision::new(revision), Labels::default());
                Fact::RunStarted { flow: flow.into_flow()?, revision, labels }
            }
            Self::RunStartedLabelled { flow, revision, labels } => {
                let (revision, labels) = (Revision::new(revision), Labels::of(labels).map_err(invalid)?);
                Fact::RunStarted { flow: flow.into_flow()?, revision, labels }
            }
            Self::Started { attempt, action } => Fact::Started { attempt: attempt.into(), action: action.into() },
            Self::Succeeded(fact) => fact.into_fact()?,
            Self::Remembered(fact) => fact.into_fact()?,
            Self::Failed(fact) => fact.into_fact()?,
            Self::Leased { attempt, action, worker } => {
                let worker = WorkerName::new(worker).map_err(invalid)?;
                Fact::Leased { attempt: attempt.into(), action: action.into(), worker }
            }
            Self::Lost { attempt, action, worker } => {
                Fact::Lost { attempt: attempt.into(), action: action.into(), worker: worker_from_wire(worker)? }
            }
            Self::LateOutcome(fact) => fact.into_fact()?,
            Self::RolledBack { attempt, worker } => {
                Fact::RolledBack { attempt: attempt.into(), worker: worker_from_wire(worker)? }
            }
            Self::RollbackFailed(fact) => fact.into_fact()?,
            Self::PassedRollback { node } => Fact::RollbackNotNeeded { node: NodeIndex(node) },
            Self::RollbackRetried { node } => Fact::RollbackRetried { node: NodeIndex(node) },
            Self::RollbackSkipped { node, reason } => {
                Fact::RollbackSkipped { node: NodeIndex(node), reason: reason.into() }
            }
            Self::Resolved { node, retry } => {
                Fact::FailureResolved { node: NodeIndex(node), resolution: resolution_from_wire(retry) }
            }
            Self::ControllerRan(fact) => fact.into_fact()?,
            Self::NotStarted { node, attempt, failure } => {
                let (node, attempt) = (NodeIndex(node), Attempt::new(attempt));
                Fact::StartFailed { node, attempt, failure: failure.into_failure()? }
            }
            Self::Retrying { node } => Fact::Retrying { node: NodeIndex(node) },
            Self::Ignored { node, reach } => Fact::Ignored { node: NodeIndex(node), reach: reach.into() },
            Self::ScopeStarted { node } => Fact::ScopeStarted { node: NodeIndex(node) },
            Self::Delayed { node, until_micros } => {
                Fact::Delayed { node: NodeIndex(node), until: Timestamp::from_micros(until_micros) }
            }
            Self::Expanded { node, list } => Fact::Expanded { node: NodeIndex(node), list: list_from_wire(list)? },
            Self::Triggered(fact) => fact.into_fact()?,
            Self::BackEdgeSkipped { back_edge, reason } => Fact::BackEdgeSkipped { back_edge, reason: reason.into() },
            Self::TriggerSkipped(skip) => skip.into(),
            Self::Scheduled { schedule, next_micros } => {
                Fact::Scheduled { schedule, next: time_from_wire(next_micros) }
            }
            Self::Backlogged(backlog) => backlog.into(),
            Self::CaughtUp { schedule, next_micros } => {
                Fact::BacklogFired { schedule, next: time_from_wire(next_micros) }
            }
            Self::NotificationReceived { node, key } => {
                Fact::NotificationReceived { node: NodeIndex(node), key: key.into() }
            }
            Self::Edited { flow, revision } => {
                Fact::Edited { flow: flow.into_flow()?, revision: Revision::new(revision) }
            }
            Self::Expired => Fact::Expired,
            Self::Reset => Fact::Reset,
            Self::CancelRequested => Fact::CancelRequested,
            Self::SuspendRequested => Fact::SuspendRequested,
            Self::Resumed => Fact::Resumed,
            Self::ClockSet { by_micros } => Fact::ClockSet { by: ClockShift::from_micros(by_micros) },
            Self::RunEntered { state } => Fact::RunStateChanged { state: run_state(state)? },
        })
    }
}

/// The state of a run with this name.
pub(crate) fn run_state(name: &str) -> Result<RunState, Invalid> {
    let state = RunState::ALL.into_iter().find(|state| state.as_str() == name);
    state.ok_or_else(|| format!("{name:?} is no state of a run"))
}
