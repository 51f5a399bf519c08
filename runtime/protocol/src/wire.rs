//! Parts that several kinds of message share: the core's types as plain types that borrow from the bytes.

use std::time::Duration;

use flow::{
    Action, Attempt, CallId, Digest, Failure, FailureKind, Failures, Firing, Json, NodeName, Outcome, RunId, Stored,
    Timestamp, Value, ValueKind, ValueName, Values, WorkerName,
};

use crate::codec::{BorrowDecode, Encode};

/// The reason why decoded data is not valid.
pub(crate) type Invalid = String;

pub(crate) fn invalid(error: impl ToString) -> Invalid {
    error.to_string()
}

/// Defines a wire enum whose variants have no fields, with its conversions from and to the core's enum.
macro_rules! wire_enum {
    ($wire:ident = $core:ident { $($variant:ident),+ }) => {
        #[derive(Encode, BorrowDecode)]
        pub(crate) enum $wire {
            $($variant,)+
        }

        impl From<$core> for $wire {
            fn from(core: $core) -> Self {
                match core {
                    $($core::$variant => Self::$variant,)+
                }
            }
        }

        impl From<$wire> for $core {
            fn from(wire: $wire) -> Self {
                match wire {
                    $($wire::$variant => Self::$variant,)+
                }
            }
        }
    };
}

pub(crate) use wire_enum;

/// Converts a duration to microseconds; one that does not fit becomes the maximum.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn time_to_wire(at: Option<Timestamp>) -> Option<u64> {
    at.map(Timestamp::as_micros)
}

pub(crate) fn time_from_wire(micros: Option<u64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

pub(crate) fn worker_to_wire(worker: Option<&WorkerName>) -> Option<&str> {
    worker.map(WorkerName::as_str)
}

pub(crate) fn worker_from_wire(worker: Option<&str>) -> Result<Option<WorkerName>, Invalid> {
    worker.map(WorkerName::new).transpose().map_err(invalid)
}

/// A list of JSON values, each as its text.
pub(crate) fn list_to_wire(list: &[Json]) -> Vec<&str> {
    list.iter().map(Json::as_str).collect()
}

pub(crate) fn list_from_wire<List: FromIterator<Json>>(list: Vec<&str>) -> Result<List, Invalid> {
    list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(invalid)
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
                Self::Stored { digest: *digest.as_bytes(), size: *size, is_json: *form == ValueKind::Json }
            }
        }
    }
}

pub(crate) fn values_to_wire<'a>(values: impl IntoIterator<Item = (&'a ValueName, &'a Value)>) -> WireValues<'a> {
    values.into_iter().map(|(name, value)| (name.as_str(), value.into())).collect()
}

pub(crate) fn values_from_wire(wire: WireValues<'_>) -> Result<Values, Invalid> {
    let mut values = Values::new();
    for (name, value) in wire {
        let name = ValueName::new(name).map_err(invalid)?;
        let value = value_from_wire(value).map_err(|error| format!("value {name}: {error}"))?;
        values.insert(name, value);
    }
    Ok(values)
}

pub(crate) fn value_from_wire(wire: WireValue<'_>) -> Result<Value, Invalid> {
    Ok(match wire {
        WireValue::Json(text) => Value::Json(Json::parse(text).map_err(invalid)?),
        WireValue::Bytes(bytes) => Value::Bytes(bytes.into()),
        WireValue::Stored { digest, size, is_json } => Value::Stored(Stored {
            digest: Digest::from_bytes(digest),
            size,
            form: if is_json { ValueKind::Json } else { ValueKind::Bytes },
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

wire_enum!(WireAction = Action { Apply, Rollback });

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
    pub(crate) fn into_call(self) -> Result<CallId, Invalid> {
        Ok(CallId {
            run: RunId::new(self.run).map_err(invalid)?,
            task: NodeName::new(self.task).map_err(invalid)?,
            firing: Firing::new(self.firing),
            attempt: Attempt::new(self.attempt),
            action: self.action.into(),
        })
    }
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireFailure<'a> {
    /// The name of the kind.
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
    pub(crate) fn into_failure(self) -> Result<Failure, Invalid> {
        let kind: FailureKind = self.kind.parse()?;
        let details = self.details.map(Json::parse).transpose().map_err(invalid)?;
        Ok(Failure { details, ..Failure::new(kind, self.message) })
    }
}

pub(crate) type WireFailures<'a> = Vec<(&'a str, WireFailure<'a>)>;

pub(crate) fn failures_to_wire(failures: &Failures) -> WireFailures<'_> {
    failures.iter().map(|(task, failure)| (task.as_str(), WireFailure::from(failure))).collect()
}

pub(crate) fn failures_from_wire(wire: WireFailures<'_>) -> Result<Failures, Invalid> {
    let from_wire =
        |(task, failure): (&str, WireFailure<'_>)| Ok((NodeName::new(task).map_err(invalid)?, failure.into_failure()?));
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
    pub(crate) fn into_outcome(self) -> Result<Outcome, Invalid> {
        Ok(match self {
            Self::Provided(values) => Outcome::Provided(values_from_wire(values)?),
            Self::Failed(failure) => Outcome::Failed(failure.into_failure()?),
            Self::Unknown => Outcome::Unknown,
        })
    }
}
