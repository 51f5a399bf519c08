//! A WASI command as a task: a program with `main`, in any language.
//!
//! Apply: there is no argument but those of the flow, standard input is one JSON object of the inputs, and standard output is one JSON object of
//! the outputs. Rollback: the first argument is `rollback`, and standard input also has the outcome and the failures. Values
//! have the format of every [`ValuesObject`] in both directions: bytes are separate from the JSON, under `$bytes`. A nonzero
//! status is a failure whose message is the last line of standard error.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Failure, FailureKind, Outcome, StoredReferences, Value, ValueName, Values, ValuesObject};
use serde::Serialize;
use serde_json::value::RawValue;
use wasmtime::Store;
use wasmtime_wasi::p2::bindings::Command;

use crate::{
    call::{Action, Call},
    guest::{invalid, require_outputs},
    host_state::{Exited, HostState, Process, Stdout},
};

/// EX_DATAERR of sysexits.h: a retry cannot help.
const DATA_ERROR: u8 = 65;

/// The maximum length of an excerpt of a text that is not JSON, in characters.
const MAX_QUOTED_CHARS: usize = 60;

/// The maximum number of outputs with invalid names that a failure names.
const MAX_INVALID_NAMES: usize = 16;

/// The standard input of a rollback.
#[derive(Serialize)]
struct RollbackInput<'a> {
    inputs: ValuesObject,
    outcome: OutcomeJson<'a>,
    failures: BTreeMap<&'a str, FailureJson<'a>>,
    /// The total number of failures: `failures` names the first 16.
    failures_total: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum OutcomeJson<'a> {
    Provided(ValuesObject),
    Failed(FailureJson<'a>),
    Unknown,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
}

/// The arguments, environment and standard input of the program.
pub(crate) fn process(call: &Call) -> Process {
    let name = call.task.to_string();
    let (arguments, stdin, stdout) = match &call.action {
        Action::Apply => (vec![name], to_json(&object(&call.inputs)), Stdout::Output),
        Action::Rollback { outcome, failures } => {
            let outcome = match outcome {
                Outcome::Provided(values) => OutcomeJson::Provided(object(values)),
                Outcome::Failed(failure) => OutcomeJson::Failed(failure.into()),
                Outcome::Unknown => OutcomeJson::Unknown,
            };
            let failures_total = failures.total;
            let failures = failures.first.iter().map(|(task, failure)| (task.as_str(), failure.into())).collect();
            let input = RollbackInput { inputs: object(&call.inputs), outcome, failures, failures_total };
            (vec![name, "rollback".into()], to_json(&input), Stdout::Log)
        }
    };
    let environment = [
        ("WAFT_RUN", call.run.to_string()),
        ("WAFT_FLOW", call.flow.to_string()),
        ("WAFT_TASK", call.task.to_string()),
        ("WAFT_FIRING", call.firing.to_string()),
        ("WAFT_ATTEMPT", call.attempt.to_string()),
        ("WAFT_IDEMPOTENCY_KEY", call.idempotency_key.clone()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
    Process::command(arguments, environment, stdin, stdout)
}

/// Runs the program and classifies the result.
pub(crate) async fn call(
    program: &Command,
    store: &mut Store<HostState>,
    call: &Call,
) -> wasmtime::Result<Result<Values, Failure>> {
    let status = match program.wasi_cli_run().call_run(&mut *store).await {
        Ok(result) => u8::from(result.is_err()),
        Err(error) => match error.downcast_ref::<Exited>() {
            Some(Exited(status)) => *status,
            None => return Err(error),
        },
    };
    let HostState { streams, watch, .. } = store.data();
    let watch = watch.clone();
    if status != 0 {
        return Ok(Err(failure(status, &streams.stderr_tail())));
    }
    match &call.action {
        Action::Apply => {
            let (stdout, names) = (streams.take_output(), call.required_outputs.clone());
            watch.parse(stdout.len(), move || parse_outputs(&stdout, &names)).await
        }
        Action::Rollback { .. } => Ok(Ok(Values::new())),
    }
}

fn failure(status: u8, stderr: &str) -> Failure {
    let kind = if status == DATA_ERROR { FailureKind::Permanent } else { FailureKind::Transient };
    let message = match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim_end().to_owned(),
        None => format!("it exited with status {status} and wrote nothing to standard error"),
    };
    Failure::new(kind, message)
}

/// Parses the outputs of a program, and checks that they are the required ones. Empty output means no values.
fn parse_outputs(stdout: &[u8], names: &[ValueName]) -> Result<Values, Failure> {
    let text = std::str::from_utf8(stdout)
        .map_err(|error| invalid(format!("its standard output is not UTF-8 from byte {} on", error.valid_up_to())))?;
    if text.trim().is_empty() {
        return require_outputs(Values::new(), names);
    }
    let declared: BTreeSet<&str> = names.iter().map(ValueName::as_str).collect();
    let mut invalid_names = 0;
    // Undeclared outputs are dropped without reading them. An invalid name is an error.
    let keep = |name: &str| {
        if declared.contains(name) {
            return true;
        }
        let is_reported = invalid_names < MAX_INVALID_NAMES && ValueName::new(name).is_err();
        invalid_names += usize::from(is_reported);
        is_reported
    };
    let outputs = ValuesObject::parse_some(text, keep).map_err(|error| not_an_object(text, &error))?;
    let values =
        outputs.read(StoredReferences::Reject).map_err(|error| invalid(format!("its outputs are invalid: {error}")))?;
    require_outputs(values, names)
}

fn not_an_object(text: &str, error: &serde_json::Error) -> Failure {
    let excerpt: String = text.trim_start().chars().take(MAX_QUOTED_CHARS).collect();
    invalid(format!("its standard output is not one JSON object ({error}); it starts with {excerpt:?}"))
}

fn object(values: &Values) -> ValuesObject {
    let is_loaded = |value: &Value| match value {
        Value::Json(_) | Value::Bytes(_) => true,
        Value::Stored(_) => false,
    };
    assert!(values.values().all(is_loaded), "a worker fetches a value before it calls");
    values.into()
}

impl<'a> From<&'a Failure> for FailureJson<'a> {
    fn from(failure: &'a Failure) -> Self {
        let details = failure.details.as_ref().map(|details| raw(details.as_str().to_owned()));
        Self { kind: failure.kind.as_str(), message: &failure.message, details }
    }
}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("values are checked to be JSON when they are created")
}

fn to_json(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("strings, numbers and checked JSON serialize")
}

#[cfg(test)]
mod tests;
