//! Records as bytes: what a logbook keeps.

use flow::{
    Attempt, ClockShift, Execution, Fact, Firing, Json, NodeAttempt, NodeIndex, Record, Resolution, Revision, RunState,
    ScopeIndex, SkipReason, Timestamp, Trigger, WorkerName,
};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, Kind},
    flow_wire::{WireFlow, WireMore, WireReach, more_to_wire},
    wire::{
        Unlawful, WireAction, WireFailure, WireOutcome, WireValue, WireValues, unlawful, value_from_wire,
        values_from_wire, values_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
struct WireRecord<'a> {
    at_micros: u64,
    fact: WireFact<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireFact<'a> {
    RunStarted {
        flow: WireFlow<'a>,
        revision: u64,
    },
    Started {
        attempt: WireAttempt,
        action: WireAction,
    },
    Succeeded {
        attempt: WireAttempt,
        provided: WireValues<'a>,
        execution: u64,
        worker: Option<&'a str>,
    },
    Failed {
        attempt: WireAttempt,
        failure: WireFailure<'a>,
        retry_at: Option<u64>,
        execution: Option<u64>,
        redelivered: bool,
        worker: Option<&'a str>,
    },
    Leased {
        attempt: WireAttempt,
        action: WireAction,
        worker: &'a str,
    },
    Lost {
        attempt: WireAttempt,
        action: WireAction,
        worker: Option<&'a str>,
    },
    Late {
        attempt: WireAttempt,
        action: WireAction,
        execution: Option<u64>,
        outcome: Option<WireOutcome<'a>>,
        worker: Option<&'a str>,
    },
    RolledBack {
        attempt: WireAttempt,
        worker: Option<&'a str>,
    },
    RollbackFailed {
        attempt: WireAttempt,
        failure: WireFailure<'a>,
        retry_at: Option<u64>,
        worker: Option<&'a str>,
    },
    PassedRollback {
        node: u32,
    },
    RollbackRetried {
        node: u32,
    },
    RollbackSkipped {
        node: u32,
        reason: &'a str,
    },
    Resolved {
        node: u32,
        retry: Option<u32>,
    },
    ControllerRan {
        node: u32,
        attempt: u32,
        value: Option<WireValue<'a>>,
        list: Option<Vec<&'a str>>,
    },
    NotStarted {
        node: u32,
        attempt: u32,
        failure: WireFailure<'a>,
    },
    Retrying {
        node: u32,
    },
    Reset,
    CancelRequested,
    SuspendRequested,
    Resumed,
    /// The state's word: states may be added without breaking old records.
    RunEntered {
        state: &'a str,
    },
    // From here on what the second version of the format has added.
    /// The first record of a flow that says more than the first version can.
    RunStartedWithMore {
        flow: WireFlow<'a>,
        revision: u64,
        more: WireMore<'a>,
    },
    Ignored {
        node: u32,
        reach: WireReach,
    },
    Begun {
        node: u32,
    },
    Delayed {
        node: u32,
        until_micros: u64,
    },
    Expired,
    Edited {
        flow: WireFlow<'a>,
        revision: u64,
        more: WireMore<'a>,
    },
    // From here on what the third version of the format has added.
    Fired {
        firing: u64,
        entry: u32,
        by: WireTrigger<'a>,
        values: WireValues<'a>,
    },
    Unfired {
        turn: u32,
        reason: &'a str,
    },
    Scheduled {
        schedule: u32,
        next_micros: Option<u64>,
    },
    Expanded {
        node: u32,
        list: Vec<&'a str>,
    },
    Skipped {
        entry: u32,
        by: WireTrigger<'a>,
        reason: WireSkipReason,
        count: u64,
    },
    Backlogged {
        schedule: u32,
        from_micros: u64,
        until_micros: u64,
    },
    CaughtUp {
        schedule: u32,
        next_micros: Option<u64>,
    },
    ClockSet {
        by_micros: i64,
    },
    NotificationReceived {
        node: u32,
        key: &'a str,
    },
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireSkipReason {
    Full,
    Overlap,
    Missed,
}

impl From<SkipReason> for WireSkipReason {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::Full => Self::Full,
            SkipReason::Overlap => Self::Overlap,
            SkipReason::Missed => Self::Missed,
        }
    }
}

impl From<WireSkipReason> for SkipReason {
    fn from(wire: WireSkipReason) -> Self {
        match wire {
            WireSkipReason::Full => Self::Full,
            WireSkipReason::Overlap => Self::Overlap,
            WireSkipReason::Missed => Self::Missed,
        }
    }
}

/// A record of the third version of the format: which firing it is about, and the record.
#[derive(Encode, BorrowDecode)]
struct WireFiringRecord<'a> {
    firing: Option<u64>,
    record: WireRecord<'a>,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireTrigger<'a> {
    Start,
    Turn(u32),
    Notified(Option<&'a str>),
    Schedule(u32),
}

impl<'a> From<&'a Trigger> for WireTrigger<'a> {
    fn from(trigger: &'a Trigger) -> Self {
        match trigger {
            Trigger::Start => Self::Start,
            Trigger::Turn(turn) => Self::Turn(*turn),
            Trigger::Notified { key } => Self::Notified(key.as_deref()),
            Trigger::Schedule(schedule) => Self::Schedule(*schedule),
        }
    }
}

impl From<WireTrigger<'_>> for Trigger {
    fn from(wire: WireTrigger<'_>) -> Self {
        match wire {
            WireTrigger::Start => Self::Start,
            WireTrigger::Turn(turn) => Self::Turn(turn),
            WireTrigger::Notified(key) => Self::Notified { key: key.map(Into::into) },
            WireTrigger::Schedule(schedule) => Self::Schedule(schedule),
        }
    }
}

#[derive(Encode, BorrowDecode)]
struct WireAttempt {
    node: u32,
    firing: u64,
    attempt: u32,
}

impl From<&NodeAttempt> for WireAttempt {
    fn from(attempt: &NodeAttempt) -> Self {
        Self { node: attempt.node.0, firing: attempt.firing.get(), attempt: attempt.attempt.get() }
    }
}

impl From<WireAttempt> for NodeAttempt {
    fn from(wire: WireAttempt) -> Self {
        Self { node: NodeIndex(wire.node), firing: Firing::new(wire.firing), attempt: Attempt::new(wire.attempt) }
    }
}

/// Records that were appended together, as bytes.
#[must_use]
pub fn encode_records(records: &[Record]) -> Vec<u8> {
    let wire: Vec<WireRecord<'_>> = records.iter().map(WireRecord::from).collect();
    let version = wire.iter().map(|record| record.fact.version()).max().unwrap_or(1);
    if version < 3 && records.iter().all(|record| record.firing.is_none()) {
        return codec::encode_as(Kind::Records, version, &wire);
    }
    let firings = records.iter().map(|record| record.firing.map(Firing::get));
    let wire: Vec<WireFiringRecord<'_>> =
        firings.zip(wire).map(|(firing, record)| WireFiringRecord { firing, record }).collect();
    codec::encode_as(Kind::Records, 3, &wire)
}

/// The records in some bytes.
///
/// # Errors
/// [`DecodeError`] for whatever are not records of a known version.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let wire: Vec<WireFiringRecord<'_>> = match codec::version_of(Kind::Records, bytes) {
        Some(1 | 2) => {
            let wire: Vec<WireRecord<'_>> = codec::decode(Kind::Records, bytes)?;
            wire.into_iter().map(|record| WireFiringRecord { firing: None, record }).collect()
        }
        Some(_) | None => codec::decode(Kind::Records, bytes)?,
    };
    let record = |wire: WireFiringRecord<'_>| {
        let firing = wire.firing.map(Firing::new);
        Ok(Record { firing, ..wire.record.into_record()? })
    };
    let records = wire.into_iter().map(record).collect::<Result<_, Unlawful>>();
    records.map_err(|reason| codec::damaged(Kind::Records, reason))
}

impl<'a> From<&'a Record> for WireRecord<'a> {
    fn from(record: &'a Record) -> Self {
        let micros = |at: &Option<Timestamp>| at.map(Timestamp::as_micros);
        fn name(worker: &Option<WorkerName>) -> Option<&str> {
            worker.as_ref().map(WorkerName::as_str)
        }
        let fact = match &record.fact {
            Fact::RunStarted { flow, revision } => {
                let (more, revision) = (more_to_wire(flow), revision.get());
                let flow = (&**flow).into();
                if more.is_empty() {
                    WireFact::RunStarted { flow, revision }
                } else {
                    WireFact::RunStartedWithMore { flow, revision, more }
                }
            }
            Fact::Started { attempt, action } => {
                WireFact::Started { attempt: attempt.into(), action: (*action).into() }
            }
            Fact::Succeeded { attempt, provided, execution, worker } => WireFact::Succeeded {
                attempt: attempt.into(),
                provided: values_to_wire(provided),
                execution: execution.get(),
                worker: name(worker),
            },
            Fact::Failed { attempt, failure, retry_at, execution, redelivered, worker } => WireFact::Failed {
                attempt: attempt.into(),
                failure: failure.into(),
                retry_at: micros(retry_at),
                execution: execution.map(Execution::get),
                redelivered: *redelivered,
                worker: name(worker),
            },
            Fact::Leased { attempt, action, worker } => {
                WireFact::Leased { attempt: attempt.into(), action: (*action).into(), worker: worker.as_str() }
            }
            Fact::Lost { attempt, action, worker } => {
                WireFact::Lost { attempt: attempt.into(), action: (*action).into(), worker: name(worker) }
            }
            Fact::Late { attempt, action, execution, outcome, worker } => WireFact::Late {
                attempt: attempt.into(),
                action: (*action).into(),
                execution: execution.map(Execution::get),
                outcome: outcome.as_ref().map(WireOutcome::from),
                worker: name(worker),
            },
            Fact::RolledBack { attempt, worker } => {
                WireFact::RolledBack { attempt: attempt.into(), worker: name(worker) }
            }
            Fact::RollbackFailed { attempt, failure, retry_at, worker } => WireFact::RollbackFailed {
                attempt: attempt.into(),
                failure: failure.into(),
                retry_at: micros(retry_at),
                worker: name(worker),
            },
            Fact::Expanded { node, list } => {
                WireFact::Expanded { node: node.0, list: list.iter().map(Json::as_str).collect() }
            }
            Fact::PassedRollback { node } => WireFact::PassedRollback { node: node.0 },
            Fact::RollbackRetried { node } => WireFact::RollbackRetried { node: node.0 },
            Fact::RollbackSkipped { node, reason } => WireFact::RollbackSkipped { node: node.0, reason },
            Fact::Resolved { node, resolution } => {
                let retry = match resolution {
                    Resolution::Retry(scope) => Some(scope.0),
                    Resolution::RollbackRun => None,
                };
                WireFact::Resolved { node: node.0, retry }
            }
            Fact::ControllerRan { node, attempt, value, list } => WireFact::ControllerRan {
                node: node.0,
                attempt: attempt.get(),
                value: value.as_ref().map(WireValue::from),
                list: list.as_ref().map(|list| list.iter().map(Json::as_str).collect()),
            },
            Fact::NotStarted { node, attempt, failure } => {
                WireFact::NotStarted { node: node.0, attempt: attempt.get(), failure: failure.into() }
            }
            Fact::Retrying { node } => WireFact::Retrying { node: node.0 },
            Fact::Reset => WireFact::Reset,
            Fact::CancelRequested => WireFact::CancelRequested,
            Fact::SuspendRequested => WireFact::SuspendRequested,
            Fact::Resumed => WireFact::Resumed,
            Fact::RunEntered { state } => WireFact::RunEntered { state: state.as_str() },
            Fact::Ignored { node, reach } => WireFact::Ignored { node: node.0, reach: (*reach).into() },
            Fact::Begun { node } => WireFact::Begun { node: node.0 },
            Fact::Delayed { node, until } => WireFact::Delayed { node: node.0, until_micros: until.as_micros() },
            Fact::Expired => WireFact::Expired,
            Fact::Edited { flow, revision } => {
                WireFact::Edited { flow: (&**flow).into(), revision: revision.get(), more: more_to_wire(flow) }
            }
            Fact::Fired { firing, entry, by, values } => {
                WireFact::Fired { firing: firing.get(), entry: entry.0, by: by.into(), values: values_to_wire(values) }
            }
            Fact::Unfired { turn, reason } => WireFact::Unfired { turn: *turn, reason },
            Fact::Scheduled { schedule, next } => {
                WireFact::Scheduled { schedule: *schedule, next_micros: micros(next) }
            }
            Fact::Skipped { entry, by, reason, count } => {
                WireFact::Skipped { entry: entry.0, by: by.into(), reason: (*reason).into(), count: *count }
            }
            Fact::Backlogged { schedule, from, until } => WireFact::Backlogged {
                schedule: *schedule,
                from_micros: from.as_micros(),
                until_micros: until.as_micros(),
            },
            Fact::ClockSet { by } => WireFact::ClockSet { by_micros: by.as_micros() },
            Fact::NotificationReceived { node, key } => WireFact::NotificationReceived { node: node.0, key },
            Fact::CaughtUp { schedule, next } => WireFact::CaughtUp { schedule: *schedule, next_micros: micros(next) },
        };
        Self { at_micros: record.at.as_micros(), fact }
    }
}

impl WireFact<'_> {
    /// The first version of the format that knows it.
    fn version(&self) -> u8 {
        match self {
            Self::RunStartedWithMore { more, .. } | Self::Edited { more, .. } if more.is_of_the_third_version() => 3,
            Self::Fired { .. }
            | Self::Unfired { .. }
            | Self::Scheduled { .. }
            | Self::Expanded { .. }
            | Self::Skipped { .. }
            | Self::Backlogged { .. }
            | Self::CaughtUp { .. }
            | Self::ClockSet { .. }
            | Self::NotificationReceived { .. } => 3,
            Self::RunStartedWithMore { .. }
            | Self::Ignored { .. }
            | Self::Begun { .. }
            | Self::Delayed { .. }
            | Self::Expired
            | Self::Edited { .. } => 2,
            _ => 1,
        }
    }
}

impl WireRecord<'_> {
    fn into_record(self) -> Result<Record, Unlawful> {
        let at = |micros: Option<u64>| micros.map(Timestamp::from_micros);
        let named = |worker: Option<&str>| worker.map(WorkerName::new).transpose().map_err(unlawful);
        let fact = match self.fact {
            WireFact::RunStarted { flow, revision } => {
                Fact::RunStarted { flow: flow.into_flow(WireMore::default())?, revision: Revision::new(revision) }
            }
            WireFact::RunStartedWithMore { flow, revision, more } => {
                Fact::RunStarted { flow: flow.into_flow(more)?, revision: Revision::new(revision) }
            }
            WireFact::Ignored { node, reach } => Fact::Ignored { node: NodeIndex(node), reach: reach.into() },
            WireFact::Begun { node } => Fact::Begun { node: NodeIndex(node) },
            WireFact::Delayed { node, until_micros } => {
                Fact::Delayed { node: NodeIndex(node), until: Timestamp::from_micros(until_micros) }
            }
            WireFact::Expired => Fact::Expired,
            WireFact::Edited { flow, revision, more } => {
                Fact::Edited { flow: flow.into_flow(more)?, revision: Revision::new(revision) }
            }
            WireFact::Fired { firing, entry, by, values } => Fact::Fired {
                firing: Firing::new(firing),
                entry: NodeIndex(entry),
                by: by.into(),
                values: values_from_wire(values)?,
            },
            WireFact::Unfired { turn, reason } => Fact::Unfired { turn, reason: reason.into() },
            WireFact::Scheduled { schedule, next_micros } => Fact::Scheduled { schedule, next: at(next_micros) },
            WireFact::Skipped { entry, by, reason, count } => {
                Fact::Skipped { entry: NodeIndex(entry), by: by.into(), reason: reason.into(), count }
            }
            WireFact::Backlogged { schedule, from_micros, until_micros } => Fact::Backlogged {
                schedule,
                from: Timestamp::from_micros(from_micros),
                until: Timestamp::from_micros(until_micros),
            },
            WireFact::ClockSet { by_micros } => Fact::ClockSet { by: ClockShift::from_micros(by_micros) },
            WireFact::NotificationReceived { node, key } => {
                Fact::NotificationReceived { node: NodeIndex(node), key: key.into() }
            }
            WireFact::CaughtUp { schedule, next_micros } => Fact::CaughtUp { schedule, next: at(next_micros) },
            WireFact::Started { attempt, action } => Fact::Started { attempt: attempt.into(), action: action.into() },
            WireFact::Succeeded { attempt, provided, execution, worker } => Fact::Succeeded {
                attempt: attempt.into(),
                provided: values_from_wire(provided)?,
                execution: Execution::new(execution),
                worker: named(worker)?,
            },
            WireFact::Failed { attempt, failure, retry_at, execution, redelivered, worker } => Fact::Failed {
                attempt: attempt.into(),
                failure: failure.into_failure()?,
                retry_at: at(retry_at),
                execution: execution.map(Execution::new),
                redelivered,
                worker: named(worker)?,
            },
            WireFact::Leased { attempt, action, worker } => Fact::Leased {
                attempt: attempt.into(),
                action: action.into(),
                worker: WorkerName::new(worker).map_err(unlawful)?,
            },
            WireFact::Lost { attempt, action, worker } => {
                Fact::Lost { attempt: attempt.into(), action: action.into(), worker: named(worker)? }
            }
            WireFact::Late { attempt, action, execution, outcome, worker } => Fact::Late {
                attempt: attempt.into(),
                action: action.into(),
                execution: execution.map(Execution::new),
                outcome: outcome.map(WireOutcome::into_outcome).transpose()?,
                worker: named(worker)?,
            },
            WireFact::RolledBack { attempt, worker } => {
                Fact::RolledBack { attempt: attempt.into(), worker: named(worker)? }
            }
            WireFact::RollbackFailed { attempt, failure, retry_at, worker } => Fact::RollbackFailed {
                attempt: attempt.into(),
                failure: failure.into_failure()?,
                retry_at: at(retry_at),
                worker: named(worker)?,
            },
            WireFact::Expanded { node, list } => Fact::Expanded {
                node: NodeIndex(node),
                list: list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?,
            },
            WireFact::PassedRollback { node } => Fact::PassedRollback { node: NodeIndex(node) },
            WireFact::RollbackRetried { node } => Fact::RollbackRetried { node: NodeIndex(node) },
            WireFact::RollbackSkipped { node, reason } => {
                Fact::RollbackSkipped { node: NodeIndex(node), reason: reason.into() }
            }
            WireFact::Resolved { node, retry } => Fact::Resolved {
                node: NodeIndex(node),
                resolution: retry.map_or(Resolution::RollbackRun, |scope| Resolution::Retry(ScopeIndex(scope))),
            },
            WireFact::ControllerRan { node, attempt, value, list } => Fact::ControllerRan {
                node: NodeIndex(node),
                attempt: Attempt::new(attempt),
                value: value.map(value_from_wire).transpose()?,
                list: match list {
                    Some(list) => Some(list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?),
                    None => None,
                },
            },
            WireFact::NotStarted { node, attempt, failure } => Fact::NotStarted {
                node: NodeIndex(node),
                attempt: Attempt::new(attempt),
                failure: failure.into_failure()?,
            },
            WireFact::Retrying { node } => Fact::Retrying { node: NodeIndex(node) },
            WireFact::Reset => Fact::Reset,
            WireFact::CancelRequested => Fact::CancelRequested,
            WireFact::SuspendRequested => Fact::SuspendRequested,
            WireFact::Resumed => Fact::Resumed,
            WireFact::RunEntered { state } => Fact::RunEntered { state: run_state(state)? },
        };
        Ok(Record { at: Timestamp::from_micros(self.at_micros), firing: None, fact })
    }
}

/// The state of a word.
pub(crate) fn run_state(word: &str) -> Result<RunState, Unlawful> {
    let known = RunState::ALL.into_iter().find(|state| state.as_str() == word);
    known.ok_or_else(|| format!("{word:?} is no state of a run"))
}
