//! A call in a message.

use std::{collections::BTreeMap, fmt::Display, io, sync::Arc, time::Duration};

use flow::{FailureSummary, Limits, Outcome, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{ExchangeNumber, FailureHead, Tag, ValueHead, invalid, json, read_values, value_heads};
use crate::{
    call::{Action, Call, Directories, Directory, Outside, Settings, Sockets},
    call_slot::KeptSlot,
};

#[derive(Serialize, Deserialize)]
struct CallHead {
    run: String,
    flow: String,
    task: String,
    export: Option<String>,
    firing: u64,
    attempt: u32,
    idempotency_key: String,
    job_time: u64,
    inputs: Vec<ValueHead>,
    action: ActionHead,
    limits: LimitsHead,
    required_outputs: Vec<String>,
    clock: bool,
    random: bool,
    settings: Settings,
    /// Why directories are denied. No child has one.
    denied_directories: BTreeMap<String, String>,
    /// Why sockets are denied. No child has one.
    denied_sockets: String,
    arguments: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum ActionHead {
    Apply,
    Rollback { outcome: OutcomeHead, failures: Vec<(String, FailureHead)>, failures_total: u64 },
}

#[derive(Serialize, Deserialize)]
enum OutcomeHead {
    Provided(Vec<ValueHead>),
    Failed(FailureHead),
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct LimitsHead {
    timeout: Duration,
    memory: u64,
    stack: u64,
    output: u64,
    log: u64,
    table_elements: u64,
    instances: u32,
    http_bytes: u64,
}

/// The message that asks a child for a call. The interrupt stays with the parent.
pub(in crate::isolation) fn encode_call(exchange: ExchangeNumber, call: &Call) -> io::Result<Vec<u8>> {
    // Every field is named, so that none is forgotten.
    let Call {
        run,
        flow,
        task,
        export,
        firing,
        attempt,
        idempotency_key,
        job_time,
        inputs,
        action,
        limits,
        required_outputs,
        // A child sends its requests to its parent.
        outside: Outside { clock, random, settings, directories, sockets, arguments, gateway: _ },
        interrupt: _,
        // Its slot stays with the parent.
        slot: _,
    } = call;
    let mut body = Vec::new();
    let inputs = value_heads(inputs, &mut body);
    let action = match action {
        Action::Apply => ActionHead::Apply,
        Action::Rollback { outcome, failures } => ActionHead::Rollback {
            outcome: match outcome {
                Outcome::Provided(values) => OutcomeHead::Provided(value_heads(values, &mut body)),
                Outcome::Failed(failure) => OutcomeHead::Failed(failure.into()),
                Outcome::Unknown => OutcomeHead::Unknown,
            },
            failures: failures.first.iter().map(|(task, failure)| (task.to_string(), failure.into())).collect(),
            failures_total: failures.total,
        },
    };
    let head = CallHead {
        run: run.to_string(),
        flow: flow.to_string(),
        task: task.to_string(),
        export: export.as_ref().map(ToString::to_string),
        firing: *firing,
        attempt: *attempt,
        idempotency_key: idempotency_key.clone(),
        job_time: job_time.as_micros(),
        inputs,
        action,
        limits: limits.into(),
        required_outputs: required_outputs.iter().map(ToString::to_string).collect(),
        clock: *clock,
        random: *random,
        settings: settings.clone(),
        denied_directories: denied(directories),
        denied_sockets: match sockets {
            Sockets::Denied(reason) => reason.clone(),
            Sockets::Granted { .. } => return Err(invalid("a child cannot have sockets")),
        },
        arguments: arguments.clone(),
    };
    exchange.message(Tag::Call, &head, &body)
}

/// Decodes a call of the parent.
pub(in crate::isolation) fn decode_call(head: &[u8], mut body: &[u8]) -> io::Result<Call> {
    let head: CallHead = json(head)?;
    let inputs = read_values(head.inputs, &mut body)?;
    let action = match head.action {
        ActionHead::Apply => Action::Apply,
        ActionHead::Rollback { outcome, failures, failures_total } => {
            let outcome = match outcome {
                OutcomeHead::Provided(values) => Outcome::Provided(read_values(values, &mut body)?),
                OutcomeHead::Failed(failure) => Outcome::Failed(failure.into_failure()?),
                OutcomeHead::Unknown => Outcome::Unknown,
            };
            let failure = |(task, failure): (String, FailureHead)| Ok((name(&task)?, failure.into_failure()?));
            let first = failures.into_iter().map(failure).collect::<io::Result<_>>()?;
            Action::Rollback { outcome, failures: FailureSummary { first, total: failures_total } }
        }
    };
    Ok(Call {
        run: name(&head.run)?,
        flow: name(&head.flow)?,
        task: name(&head.task)?,
        export: head.export.map(|export| name(&export)).transpose()?,
        firing: head.firing,
        attempt: head.attempt,
        idempotency_key: head.idempotency_key,
        job_time: Timestamp::from_micros(head.job_time),
        inputs,
        action,
        limits: head.limits.into(),
        required_outputs: head.required_outputs.iter().map(|output| name(output)).collect::<io::Result<_>>()?,
        outside: Outside {
            clock: head.clock,
            random: head.random,
            settings: head.settings,
            directories: only_denied(head.denied_directories),
            sockets: Sockets::Denied(head.denied_sockets),
            arguments: head.arguments,
            gateway: None,
        },
        interrupt: CancellationToken::new(),
        slot: Arc::new(KeptSlot),
    })
}

fn denied(directories: &Directories) -> BTreeMap<String, String> {
    let reason = |(name, own): (&String, &Result<Directory, String>)| Some((name.clone(), own.clone().err()?));
    directories.all.iter().filter_map(reason).collect()
}

fn only_denied(denied: BTreeMap<String, String>) -> Directories {
    Directories {
        all: denied.into_iter().map(|(name, reason)| (name, Err(reason))).collect(),
        ..Directories::default()
    }
}

fn name<Name: std::str::FromStr<Err: Display>>(text: &str) -> io::Result<Name> {
    text.parse().map_err(|error| invalid(&format!("an invalid name: {error}")))
}

impl From<&Limits> for LimitsHead {
    fn from(limits: &Limits) -> Self {
        let Limits { timeout, memory, stack, output, log, table_elements, instances, http_bytes } = *limits;
        Self { timeout, memory, stack, output, log, table_elements, instances, http_bytes }
    }
}

impl From<LimitsHead> for Limits {
    fn from(head: LimitsHead) -> Self {
        let LimitsHead { timeout, memory, stack, output, log, table_elements, instances, http_bytes } = head;
        Self { timeout, memory, stack, output, log, table_elements, instances, http_bytes }
    }
}
