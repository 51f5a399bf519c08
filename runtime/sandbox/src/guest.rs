//! The contract as Rust types, and their conversions. Data from a guest is never trusted.

use std::collections::BTreeSet;

use flow::{
    Failure, FailureKind, Json, MAX_DETAILS_BYTES, MAX_PROGRESS_BYTES, Outcome, Size, Value, ValueName, Values,
    too_long_details, without_details,
};
use wasmtime::component::{HasSelf, Linker};

use crate::{
    call::{Action, Call, Level},
    host_state::HostState,
};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "task",
        imports: { default: trappable },
        exports: { default: async },
        // The guest borrows its inputs, so they are not copied first.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(crate) use bindings::{Task, TaskPre, waft::task::types as wit};

use bindings::waft::task::host;

pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    host::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl host::Host for HostState {
    fn log(&mut self, level: host::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            host::Level::Trace => Level::Trace,
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        self.streams.log(level, &message)?;
        if let Some(observer) = &self.observer {
            observer.log(level, &message);
        }
        Ok(())
    }

    fn progress(&mut self, fraction: f64, mut message: String) -> wasmtime::Result<()> {
        // Nothing counts it, and the host has copied it already: a guest must not go on like this.
        if message.len() > MAX_PROGRESS_ARGUMENT_BYTES {
            let (size, limit) = (message.len(), Size(MAX_PROGRESS_ARGUMENT_BYTES as u64));
            let reason = format!("it reported its progress with a message of {size} bytes, the limit is {limit}");
            return Err(wasmtime::Error::msg(reason));
        }
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        message.truncate(message.floor_char_boundary(MAX_PROGRESS_BYTES));
        if let Some(observer) = &self.observer {
            observer.progress(fraction, &message);
        }
        Ok(())
    }
}

/// The maximum size of a progress message that a guest passes, in bytes. Its end beyond [`MAX_PROGRESS_BYTES`] is left out.
const MAX_PROGRESS_ARGUMENT_BYTES: usize = 64 << 10;

/// Calls the guest's function for the job, and checks its result.
pub(crate) async fn call(
    task: &Task,
    store: &mut wasmtime::Store<HostState>,
    call: &Call,
) -> wasmtime::Result<Result<Values, Failure>> {
    let guest = task.waft_task_guest();
    let (wit_call, inputs) = (wit_call(call), borrow_values(&call.inputs));
    match &call.action {
        Action::Apply => {
            let result = guest.call_apply(&mut *store, wit_call, &inputs).await?;
            let outputs = match result {
                Ok(outputs) => outputs,
                Err(reported) => return Ok(Err(failure(reported))),
            };
            let used: u64 = outputs.iter().map(size).sum();
            if let Err(exceeded) = call.limits.check_output(used) {
                return Ok(Err(exceeded));
            }
            let (names, watch) = (call.required_outputs.clone(), store.data().watch.clone());
            // Each value takes some memory beside its bytes.
            let bytes = outputs.len() * size_of::<wit::ValueResult>() + usize::try_from(used).unwrap_or(usize::MAX);
            watch.parse(bytes, move || checked_outputs(outputs, &names)).await
        }
        Action::Rollback { outcome, failures } => {
            let provided = match outcome {
                Outcome::Provided(values) => borrow_values(values),
                Outcome::Failed(_) | Outcome::Unknown => Vec::new(),
            };
            let outcome = match outcome {
                Outcome::Provided(_) => wit::Outcome::Provided(&provided),
                Outcome::Failed(failure) => wit::Outcome::Failed(recorded(failure)),
                Outcome::Unknown => wit::Outcome::Unknown,
            };
            let failures: Vec<_> = failures
                .first
                .iter()
                .map(|(task, failure)| wit::TaskFailure { task: task.as_str(), failure: recorded(failure) })
                .collect();
            let result = guest.call_rollback(store, wit_call, &inputs, outcome, &failures).await?;
            Ok(result.map_err(failure).map(|()| Values::new()))
        }
    }
}

fn wit_call(call: &Call) -> wit::Call<'_> {
    let deadline = call.job_time.after(call.limits.timeout);
    wit::Call {
        run: call.run.as_str(),
        flow: call.flow.as_str(),
        task: call.task.as_str(),
        export: call.export.as_ref().map_or("", |export| export.as_str()),
        firing: call.firing,
        attempt: call.attempt,
        idempotency_key: &call.idempotency_key,
        deadline: deadline.as_micros() / 1_000,
    }
}

fn borrow_values(values: &Values) -> Vec<wit::ValueParam<'_>> {
    values.iter().map(|(name, value)| wit::ValueParam { name: name.as_str(), content: borrow_content(value) }).collect()
}

fn borrow_content(value: &Value) -> wit::ContentParam<'_> {
    match value {
        Value::Json(json) => wit::ContentParam::Json(json.as_str()),
        Value::Bytes(bytes) => wit::ContentParam::Bytes(bytes),
        Value::Stored(_) => panic!("a worker fetches a value before it calls"),
    }
}

fn recorded(failure: &Failure) -> wit::RecordedFailure<'_> {
    wit::RecordedFailure {
        kind: failure.kind.as_str(),
        message: &failure.message,
        details: failure.details.as_ref().map(Json::as_str),
    }
}

/// Converts the guest's own failure.
fn failure(failure: wit::Failure) -> Failure {
    let kind = match failure.retryable {
        wit::Retryable::Transient => FailureKind::Transient,
        wit::Retryable::Permanent => FailureKind::Permanent,
    };
    let (details, dropped) = match failure.details {
        None => (None, None),
        Some(details) if details.len() > MAX_DETAILS_BYTES => (None, Some(too_long_details(details.len()))),
        Some(details) => match Json::parse(details) {
            Ok(details) => (Some(details), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let message = match dropped {
        None => failure.message,
        Some(reason) => without_details(&failure.message, &reason),
    };
    Failure { details, ..Failure::new(kind, message) }
}

/// The values that an apply returned, checked against the required outputs.
fn checked_outputs(outputs: Vec<wit::ValueResult>, required: &[ValueName]) -> Result<Values, Failure> {
    let declared: BTreeSet<&ValueName> = required.iter().collect();
    let mut values = Values::new();
    let mut names = BTreeSet::new();
    for value in outputs {
        let name =
            ValueName::new(&value.name).map_err(|error| invalid(format!("it returned a value whose name {error}")))?;
        if !names.insert(name.clone()) {
            return Err(invalid(format!("it returned the value {name} twice")));
        }
        // Undeclared outputs are dropped without reading them.
        if declared.contains(&name) {
            values.insert(name.clone(), parsed(&name, value.content)?);
        }
    }
    require_outputs(values, required)
}

fn size(value: &wit::ValueResult) -> u64 {
    let content = match &value.content {
        wit::ContentResult::Json(text) => text.len(),
        wit::ContentResult::Bytes(bytes) => bytes.len(),
    };
    (value.name.len() + content) as u64
}

fn parsed(name: &ValueName, content: wit::ContentResult) -> Result<Value, Failure> {
    match content {
        wit::ContentResult::Bytes(bytes) => Ok(Value::Bytes(bytes.into())),
        wit::ContentResult::Json(text) => match Json::parse(text) {
            Ok(json) => Ok(Value::Json(json)),
            Err(error) => Err(invalid(format!("the returned value {name} is {error}"))),
        },
    }
}

/// Returns the values if all required outputs are among them.
pub(crate) fn require_outputs(values: Values, required: &[ValueName]) -> Result<Values, Failure> {
    let missing: Vec<&str> =
        required.iter().filter(|name| !values.contains_key(*name)).map(ValueName::as_str).collect();
    if missing.is_empty() {
        return Ok(values);
    }
    let mut returned: Vec<&str> = values.keys().map(ValueName::as_str).collect();
    if returned.is_empty() {
        returned.push("none of the required outputs");
    }
    Err(invalid(format!(
        "it did not return the required outputs {}; it returned {}",
        missing.join(", "),
        returned.join(", ")
    )))
}

pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::InvalidOutput, message)
}
