//! A WASI command as a task: a program with `main`, in any language.
//!
//! Apply: no argument, standard input is one JSON object of the inputs, standard output one of the outputs.
//! Rollback: the first argument is `rollback`, and standard input tells the outcome and the failures, too. Bytes are
//! written `{"base64":"…"}` in both directions. A status that is not 0 is a failure whose message is the last line of
//! standard error.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flow::{Failure, FailureKind, Json, Outcome, Value, ValueName, Values};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasmtime::Store;
use wasmtime_wasi::p2::bindings::Command;

use crate::{
    call::{Action, Call},
    guest::{invalid, promised},
    world::{Exited, Process, Stdout, World},
};

/// EX_DATAERR of sysexits.h: trying again cannot help.
const DATA_ERROR: u8 = 65;

/// How much of a text that is not JSON is shown.
const SHOWN: usize = 60;

type Object = BTreeMap<String, Box<RawValue>>;

/// What a rollback reads.
#[derive(Serialize)]
struct RollbackInput<'a> {
    inputs: Object,
    outcome: WrittenOutcome<'a>,
    failures: BTreeMap<&'a str, WrittenFailure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum WrittenOutcome<'a> {
    Provided(Object),
    Failed(WrittenFailure<'a>),
    Unknown,
}

#[derive(Serialize)]
struct WrittenFailure<'a> {
    kind: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
}

/// How bytes are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBytes {
    base64: String,
}

/// What the program is started with.
pub(crate) fn process(call: &Call) -> Process {
    let name = call.task.to_string();
    let (arguments, stdin, stdout) = match &call.action {
        Action::Apply => (vec![name], written(&object(&call.inputs)), Stdout::Answer),
        Action::Rollback { outcome, failures } => {
            let outcome = match outcome {
                Outcome::Provided(values) => WrittenOutcome::Provided(object(values)),
                Outcome::Failed(failure) => WrittenOutcome::Failed(failure.into()),
                Outcome::Unknown => WrittenOutcome::Unknown,
            };
            let failures = failures.iter().map(|(task, failure)| (task.as_str(), failure.into())).collect();
            let input = RollbackInput { inputs: object(&call.inputs), outcome, failures };
            (vec![name, "rollback".into()], written(&input), Stdout::Log)
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

/// Runs the program and judges what it left.
pub(crate) async fn call(
    program: &Command,
    store: &mut Store<World>,
    call: &Call,
) -> wasmtime::Result<Result<Values, Failure>> {
    let status = match program.wasi_cli_run().call_run(&mut *store).await {
        Ok(result) => u8::from(result.is_err()),
        Err(error) => match error.downcast_ref::<Exited>() {
            Some(Exited(status)) => *status,
            None => return Err(error),
        },
    };
    let streams = &store.data().streams;
    if status != 0 {
        return Ok(Err(failure(status, &streams.last_words())));
    }
    Ok(match &call.action {
        Action::Apply => answered(&streams.take_answer(), &call.promised),
        Action::Rollback { .. } => Ok(Values::new()),
    })
}

fn failure(status: u8, stderr: &str) -> Failure {
    let kind = if status == DATA_ERROR { FailureKind::Permanent } else { FailureKind::Transient };
    let message = match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim_end().to_owned(),
        None => format!("it exited with status {status} and wrote nothing to standard error"),
    };
    Failure::new(kind, message)
}

/// The outputs that a program wrote, if they are what it promised. A program that wrote nothing left nothing.
fn answered(stdout: &[u8], names: &[ValueName]) -> Result<Values, Failure> {
    let text = std::str::from_utf8(stdout)
        .map_err(|error| invalid(format!("its standard output is not UTF-8 from byte {} on", error.valid_up_to())))?;
    let mut values = Values::new();
    if !text.trim().is_empty() {
        let Members(members) = serde_json::from_str(text).map_err(|error| not_an_object(text, &error))?;
        for (name, value) in members {
            let name = ValueName::new(&name).map_err(|error| invalid(format!("it left a value whose name {error}")))?;
            // What nobody was promised is dropped, unread.
            if names.contains(&name) {
                values.insert(name, read(value));
            }
        }
    }
    promised(values, names)
}

fn not_an_object(text: &str, error: &serde_json::Error) -> Failure {
    let shown: String = text.trim_start().chars().take(SHOWN).collect();
    invalid(format!("its standard output is not one JSON object ({error}); it begins {shown:?}"))
}

/// The members of a JSON object, none of them twice.
struct Members(Object);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object of outputs by name")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Object::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("the output {name:?} is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn object(values: &Values) -> Object {
    let member = |value: &Value| match value {
        Value::Json(json) => raw(json.as_str().to_owned()),
        Value::Bytes(bytes) => raw(written(&WrittenBytes { base64: BASE64.encode(bytes) })),
        Value::Stored(_) => panic!("a worker fetches a value before it calls"),
    };
    values.iter().map(|(name, value)| (name.to_string(), member(value))).collect()
}

fn read(value: Box<RawValue>) -> Value {
    let bytes = serde_json::from_str(value.get()).ok();
    let bytes = bytes.and_then(|WrittenBytes { base64 }| BASE64.decode(base64).ok());
    match bytes {
        Some(bytes) => Value::Bytes(bytes.into()),
        None => {
            let text: Box<str> = value.into();
            Value::Json(Json::parse(String::from(text)).expect("a raw value is JSON"))
        }
    }
}

impl<'a> From<&'a Failure> for WrittenFailure<'a> {
    fn from(failure: &'a Failure) -> Self {
        let details = failure.details.as_ref().map(|details| raw(details.as_str().to_owned()));
        Self { kind: failure.kind.as_str(), message: &failure.message, details }
    }
}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("values were checked to be JSON when they were made")
}

fn written(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("strings, numbers and checked JSON serialize")
}

#[cfg(test)]
mod tests;
