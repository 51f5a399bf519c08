//! The contract with the host, on the target where there is one: between the generated types and our own.

use std::time::{Duration, SystemTime};

use crate::{
    Call, Failure, Failures, Outcome, RecordedFailure, Retryable,
    content::{Content, Value},
    info::{Backoff, Limits, Parameter, Provided, Retry, TaskInfo},
    inputs::Inputs,
    log::Level,
    module::Entry,
    task::RollbackCall,
};
use bindings::{
    exports::waft::task::guest::Guest,
    waft::task::{host, types},
};

/// The output of wit-bindgen for the world in `guest-sdk/wit`.
#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "task",
        pub_export_macro: true,
        export_macro_name: "export_guest",
        default_bindings_module: "waft_guest::__private::bindings",
        runtime_path: "waft_guest::__private::runtime",
    });
}

pub use wit_bindgen::rt as runtime;

/// The tasks of a module: what `export!` implements.
pub trait Tasks {
    /// All of them.
    const TASKS: &'static [Entry];
}

impl<M: Tasks> Guest for M {
    fn describe() -> Vec<types::TaskInfo> {
        M::TASKS.iter().map(|task| task.info().into()).collect()
    }

    fn apply(call: types::Call, inputs: Vec<types::Value>) -> Result<Vec<types::Value>, types::Failure> {
        let task = Entry::find(M::TASKS, &call.export)?;
        let inputs = Inputs::new(inputs.into_iter().map(Value::from));
        let provided = task.apply(&call.into(), inputs)?;
        Ok(provided.into_iter().map(types::Value::from).collect())
    }

    fn rollback(
        call: types::Call,
        inputs: Vec<types::Value>,
        outcome: types::Outcome,
        failures: Vec<types::TaskFailure>,
    ) -> Result<(), types::Failure> {
        let task = Entry::find(M::TASKS, &call.export)?;
        let rollback = RollbackCall {
            inputs: Inputs::new(inputs.into_iter().map(Value::from)),
            outcome: outcome.into(),
            failures: failures.into_iter().map(|failed| (failed.task, failed.failure.into())).collect::<Failures>(),
        };
        Ok(task.rollback(&call.into(), rollback)?)
    }
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => host::Level::Trace,
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, message);
}

pub(crate) fn progress(fraction: f64, message: &str) {
    host::progress(fraction, message);
}

impl From<types::Call> for Call {
    fn from(call: types::Call) -> Self {
        Self {
            run: call.run,
            flow: call.flow,
            task: call.task,
            firing: call.firing,
            attempt: call.attempt,
            idempotency_key: call.idempotency_key,
            deadline: SystemTime::UNIX_EPOCH + Duration::from_millis(call.deadline),
        }
    }
}

impl From<types::Value> for Value {
    fn from(value: types::Value) -> Self {
        let content = match value.content {
            types::Content::Json(text) => Content::Json(text),
            types::Content::Bytes(bytes) => Content::Bytes(bytes),
        };
        Self { name: value.name, content }
    }
}

impl From<Value> for types::Value {
    fn from(value: Value) -> Self {
        let content = match value.content {
            Content::Json(text) => types::Content::Json(text),
            Content::Bytes(bytes) => types::Content::Bytes(bytes),
        };
        Self { name: value.name, content }
    }
}

impl From<types::Outcome> for Outcome<Inputs> {
    fn from(outcome: types::Outcome) -> Self {
        match outcome {
            types::Outcome::Provided(values) => Self::Provided(Inputs::provided(values.into_iter().map(Value::from))),
            types::Outcome::Failed(failure) => Self::Failed(failure.into()),
            types::Outcome::Unknown => Self::Unknown,
        }
    }
}

impl From<types::RecordedFailure> for RecordedFailure {
    fn from(failure: types::RecordedFailure) -> Self {
        // The host checked that they are JSON; a text that is not is still worth showing.
        let details =
            failure.details.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)));
        Self { kind: failure.kind.into(), message: failure.message, details }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        let retryable = match failure.retryable() {
            Retryable::Transient => types::Retryable::Transient,
            Retryable::Permanent => types::Retryable::Permanent,
        };
        let details = failure.details().map(ToString::to_string);
        Self { retryable, message: failure.message().into(), details }
    }
}

impl From<TaskInfo> for types::TaskInfo {
    fn from(info: TaskInfo) -> Self {
        let parameters = |list: Vec<Parameter>| list.into_iter().map(types::Parameter::from).collect();
        Self {
            name: info.name.into(),
            doc: info.doc.into(),
            requires: parameters(info.requires),
            provides: info.provides.into_iter().map(types::Provided::from).collect(),
            rollback: info.rollback.map(parameters),
            retry: info.retry.map(types::Retry::from),
            limits: info.limits.into(),
        }
    }
}

impl From<Parameter> for types::Parameter {
    fn from(parameter: Parameter) -> Self {
        Self {
            name: parameter.name.into(),
            doc: parameter.doc.into(),
            schema: parameter.schema,
            optional: parameter.optional,
        }
    }
}

impl From<Provided> for types::Provided {
    fn from(provided: Provided) -> Self {
        Self { name: provided.name.into(), doc: provided.doc.into(), schema: provided.schema }
    }
}

impl From<Retry> for types::Retry {
    fn from(retry: Retry) -> Self {
        let backoff = match retry.backoff {
            Backoff::Exponential => types::Backoff::Exponential,
            Backoff::Fixed => types::Backoff::Fixed,
        };
        Self {
            attempts: retry.attempts,
            backoff,
            initial_milliseconds: retry.initial_milliseconds,
            max_milliseconds: retry.max_milliseconds,
            jitter: retry.jitter,
        }
    }
}

impl From<Limits> for types::Limits {
    fn from(limits: Limits) -> Self {
        Self { timeout_milliseconds: limits.timeout_milliseconds, memory_bytes: limits.memory_bytes }
    }
}
