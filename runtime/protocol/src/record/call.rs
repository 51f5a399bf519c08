//! Records about the calls of a task.

use flow::{Action, Attempt, CallId, Execution, Failure, Firing, NodeIndex, Outcome, Timestamp, Values, WorkerName};
use machine::{Fact, NodeAttempt};

use crate::{
    codec::{BorrowDecode, Encode},
    wire::{
        Invalid, WireAction, WireCall, WireFailure, WireOutcome, WireValues, time_from_wire, time_to_wire,
        values_from_wire, values_to_wire, worker_from_wire, worker_to_wire,
    },
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireAttempt {
    node: u32,
    firing: u64,
    attempt: u32,
}

#[derive(Encode, BorrowDecode)]
pub(super) struct WireSucceeded<'a> {
    attempt: WireAttempt,
    provided: WireValues<'a>,
    execution: u64,
    worker: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
pub(super) struct WireFailed<'a> {
    attempt: WireAttempt,
    failure: WireFailure<'a>,
    retry_at_micros: Option<u64>,
    execution: Option<u64>,
    redelivered: bool,
    worker: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
pub(super) struct WireRememberedFact<'a> {
    attempt: WireAttempt,
    provided: WireValues<'a>,
    computed_by: WireCall<'a>,
}

/// An outcome that arrives after its call was lost or already has a result.
#[derive(Encode, BorrowDecode)]
pub(super) struct WireLate<'a> {
    attempt: WireAttempt,
    action: WireAction,
    execution: Option<u64>,
    outcome: Option<WireOutcome<'a>>,
    worker: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
pub(super) struct WireRollbackFailed<'a> {
    attempt: WireAttempt,
    failure: WireFailure<'a>,
    retry_at_micros: Option<u64>,
    worker: Option<&'a str>,
}

impl From<&NodeAttempt> for WireAttempt {
    fn from(NodeAttempt { node, firing, attempt }: &NodeAttempt) -> Self {
        Self { node: node.0, firing: firing.get(), attempt: attempt.get() }
    }
}

impl From<WireAttempt> for NodeAttempt {
    fn from(wire: WireAttempt) -> Self {
        Self { node: NodeIndex(wire.node), firing: Firing::new(wire.firing), attempt: Attempt::new(wire.attempt) }
    }
}

impl<'a> WireSucceeded<'a> {
    pub(super) fn new(
        attempt: &NodeAttempt,
        provided: &'a Values,
        execution: Execution,
        worker: Option<&'a WorkerName>,
    ) -> Self {
        Self {
            attempt: attempt.into(),
            provided: values_to_wire(provided),
            execution: execution.get(),
            worker: worker_to_wire(worker),
        }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::Succeeded {
            attempt: self.attempt.into(),
            provided: values_from_wire(self.provided)?,
            execution: Execution::new(self.execution),
            worker: worker_from_wire(self.worker)?,
        })
    }
}

impl<'a> WireRememberedFact<'a> {
    pub(super) fn new(attempt: &NodeAttempt, provided: &'a Values, computed_by: &'a CallId) -> Self {
        Self { attempt: attempt.into(), provided: values_to_wire(provided), computed_by: computed_by.into() }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::Remembered {
            attempt: self.attempt.into(),
            provided: values_from_wire(self.provided)?,
            computed_by: self.computed_by.into_call()?,
        })
    }
}

impl<'a> WireFailed<'a> {
    pub(super) fn new(
        attempt: &NodeAttempt,
        failure: &'a Failure,
        retry_at: Option<Timestamp>,
        execution: Option<Execution>,
        redelivered: bool,
        worker: Option<&'a WorkerName>,
    ) -> Self {
        Self {
            attempt: attempt.into(),
            failure: failure.into(),
            retry_at_micros: time_to_wire(retry_at),
            execution: execution.map(Execution::get),
            redelivered,
            worker: worker_to_wire(worker),
        }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::Failed {
            attempt: self.attempt.into(),
            failure: self.failure.into_failure()?,
            retry_at: time_from_wire(self.retry_at_micros),
            execution: self.execution.map(Execution::new),
            redelivered: self.redelivered,
            worker: worker_from_wire(self.worker)?,
        })
    }
}

impl<'a> WireLate<'a> {
    pub(super) fn new(
        attempt: &NodeAttempt,
        action: Action,
        execution: Option<Execution>,
        outcome: Option<&'a Outcome>,
        worker: Option<&'a WorkerName>,
    ) -> Self {
        Self {
            attempt: attempt.into(),
            action: action.into(),
            execution: execution.map(Execution::get),
            outcome: outcome.map(WireOutcome::from),
            worker: worker_to_wire(worker),
        }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::LateOutcome {
            attempt: self.attempt.into(),
            action: self.action.into(),
            execution: self.execution.map(Execution::new),
            outcome: self.outcome.map(WireOutcome::into_outcome).transpose()?,
            worker: worker_from_wire(self.worker)?,
        })
    }
}

impl<'a> WireRollbackFailed<'a> {
    pub(super) fn new(
        attempt: &NodeAttempt,
        failure: &'a Failure,
        retry_at: Option<Timestamp>,
        worker: Option<&'a WorkerName>,
    ) -> Self {
        Self {
            attempt: attempt.into(),
            failure: failure.into(),
            retry_at_micros: time_to_wire(retry_at),
            worker: worker_to_wire(worker),
        }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::RollbackFailed {
            attempt: self.attempt.into(),
            failure: self.failure.into_failure()?,
            retry_at: time_from_wire(self.retry_at_micros),
            worker: worker_from_wire(self.worker)?,
        })
    }
}
