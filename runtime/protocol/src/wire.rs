//! What messages are made of: the core's values in the wire's plain types, borrowed from the bytes.

use std::time::Duration;

use flow::{
    Action, Attempt, CallId, Digest, Failure, FailureKind, Failures, Firing, Form, Json, Limits, NodeName, Outcome,
    RunId, Stored, Value, ValueName, Values,
};

use crate::codec::{BorrowDecode, Encode};

/// A reason why something that was decoded is unlawful.
pub(crate) type Unlawful = String;

pub(crate) fn unlawful(error: impl ToString) -> Unlawful {
    error.to_string()
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireValue<'a> {
    Json(&'a str),
    Bytes(&'a [u8]),
    Stored { digest: [u8; 32], size: u64, is_json: bool },
}

pub(crate) type WireValues<'a> = Vec<(&'a str, WireValue<'a>)>;

impl<'a> From<&'a Value> for WireValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Json(json) => Self::Json(json.as_str()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Stored(Stored { digest, size, form }) => {
                Self::Stored { digest: *digest.as_bytes(), size: *size, is_json: *form == Form::Json }
            }
        }
    }
}

pub(crate) fn values_to_wire(values: &Values) -> WireValues<'_> {
    values.iter().map(|(name, value)| (name.as_str(), value.into())).collect()
}

pub(crate) fn values_from_wire(wire: WireValues<'_>) -> Result<Values, Unlawful> {
    let mut values = Values::new();
    for (name, value) in wire {
        let name = ValueName::new(name).map_err(unlawful)?;
        let value = value_from_wire(value).map_err(|error| format!("value {name}: {error}"))?;
        values.insert(name, value);
    }
    Ok(values)
}

pub(crate) fn value_from_wire(wire: WireValue<'_>) -> Result<Value, Unlawful> {
    Ok(match wire {
        WireValue::Json(text) => Value::Json(Json::parse(text).map_err(unlawful)?),
        WireValue::Bytes(bytes) => Value::Bytes(bytes.into()),
        WireValue::Stored { digest, size, is_json } => Value::Stored(Stored {
            digest: Digest::from_bytes(digest),
            size,
            form: if is_json { Form::Json } else { Form::Bytes },
        }),
    })
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireCall<'a> {
    run: &'a str,
    task: &'a str,
    firing: u64,
    attempt: u32,
    action: WireAction,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireAction {
    Apply,
    Rollback,
}

impl From<Action> for WireAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Apply => Self::Apply,
            Action::Rollback => Self::Rollback,
        }
    }
}

impl From<WireAction> for Action {
    fn from(wire: WireAction) -> Self {
        match wire {
            WireAction::Apply => Self::Apply,
            WireAction::Rollback => Self::Rollback,
        }
    }
}

impl<'a> From<&'a CallId> for WireCall<'a> {
    fn from(call: &'a CallId) -> Self {
        Self {
            run: call.run.as_str(),
            task: call.task.as_str(),
            firing: call.firing.get(),
            attempt: call.attempt.get(),
            action: call.action.into(),
        }
    }
}

impl WireCall<'_> {
    pub(crate) fn into_call(self) -> Result<CallId, Unlawful> {
        Ok(CallId {
            run: RunId::new(self.run).map_err(unlawful)?,
            task: NodeName::new(self.task).map_err(unlawful)?,
            firing: Firing::new(self.firing),
            attempt: Attempt::new(self.attempt),
            action: self.action.into(),
        })
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireFailure<'a> {
    /// The kind's word: kinds may be added without breaking old messages.
    kind: &'a str,
    message: &'a str,
    details: Option<&'a str>,
}

impl<'a> From<&'a Failure> for WireFailure<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            kind: failure.kind.as_str(),
            message: &failure.message,
            details: failure.details.as_ref().map(Json::as_str),
        }
    }
}

impl WireFailure<'_> {
    pub(crate) fn into_failure(self) -> Result<Failure, Unlawful> {
        let kind: FailureKind = self.kind.parse()?;
        let details = self.details.map(Json::parse).transpose().map_err(unlawful)?;
        Ok(Failure { details, ..Failure::new(kind, self.message) })
    }
}

pub(crate) type WireFailures<'a> = Vec<(&'a str, WireFailure<'a>)>;

pub(crate) fn failures_to_wire(failures: &Failures) -> WireFailures<'_> {
    failures.iter().map(|(task, failure)| (task.as_str(), WireFailure::from(failure))).collect()
}

pub(crate) fn failures_from_wire(wire: WireFailures<'_>) -> Result<Failures, Unlawful> {
    let from_wire = |(task, failure): (&str, WireFailure<'_>)| {
        Ok((NodeName::new(task).map_err(unlawful)?, failure.into_failure()?))
    };
    wire.into_iter().map(from_wire).collect()
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireOutcome<'a> {
    Provided(WireValues<'a>),
    Failed(WireFailure<'a>),
    Unknown,
}

impl<'a> From<&'a Outcome> for WireOutcome<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Provided(values) => Self::Provided(values_to_wire(values)),
            Outcome::Failed(failure) => Self::Failed(failure.into()),
            Outcome::Unknown => Self::Unknown,
        }
    }
}

impl WireOutcome<'_> {
    pub(crate) fn into_outcome(self) -> Result<Outcome, Unlawful> {
        Ok(match self {
            Self::Provided(values) => Outcome::Provided(values_from_wire(values)?),
            Self::Failed(failure) => Outcome::Failed(failure.into_failure()?),
            Self::Unknown => Outcome::Unknown,
        })
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireLimits {
    timeout_micros: u64,
    memory: u64,
    stack: u64,
    output: u64,
    log: u64,
    table_elements: u64,
    instances: u32,
}

impl From<Limits> for WireLimits {
    fn from(limits: Limits) -> Self {
        Self {
            timeout_micros: u64::try_from(limits.timeout.as_micros()).unwrap_or(u64::MAX),
            memory: limits.memory,
            stack: limits.stack,
            output: limits.output,
            log: limits.log,
            table_elements: limits.table_elements,
            instances: limits.instances,
        }
    }
}

impl From<WireLimits> for Limits {
    fn from(wire: WireLimits) -> Self {
        Self {
            timeout: Duration::from_micros(wire.timeout_micros),
            memory: wire.memory,
            stack: wire.stack,
            output: wire.output,
            log: wire.log,
            table_elements: wire.table_elements,
            instances: wire.instances,
        }
    }
}
