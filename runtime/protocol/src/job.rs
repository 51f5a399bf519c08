//! A job: one call, with everything that a worker needs for it.

use std::num::NonZeroU32;

use flow::{
    Access, CallId, Digest, Export, FailureSummary, FlowName, Limits, Outcome, Task, Timestamp, Value, ValueName,
    Values,
};
use machine::Call;

use crate::{
    CallKeys, DecodeError, EngineSecret, Key,
    access::{WireAccess, access_from_wire, access_to_wire},
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::check_provides,
    limits::{WireLimits, limits_from_wire, limits_to_wire},
    wire::{
        Invalid, WireCall, WireFailures, WireOutcome, WireValues, failures_from_wire, failures_to_wire, invalid,
        time_from_wire, time_to_wire, values_from_wire, values_to_wire,
    },
};

/// One call for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The call.
    pub call: CallId,
    /// The flow of the run.
    pub flow: FlowName,
    /// The module to call.
    pub module: Digest,
    /// The task in the module; `None` for a WASI command.
    pub export: Option<Export>,
    /// The inputs, by the module's names.
    pub inputs: Values,
    /// For a rollback, the outcome of apply and the failures; `None` for an apply.
    pub rollback: Option<(Outcome, FailureSummary)>,
    /// The outputs that the task must provide, by the module's names.
    pub required_outputs: Vec<ValueName>,
    /// The limits of the call.
    pub limits: Limits,
    /// What the flow asks for the call beyond its sandbox.
    pub access: Access,
    /// When the job was dispatched: the guest's clock shows this time.
    pub at: Timestamp,
    /// The deadline for starting the call.
    pub expires_at: Option<Timestamp>,
    /// The queue that receives the signal.
    pub signal_to: String,
    /// The queue that answers content requests.
    pub fetch_from: String,
    /// The maximum number of redeliveries before the job counts as poison; `None` leaves that to the worker.
    pub delivery_limit: Option<NonZeroU32>,
    /// The key of the call, and of each content that the job names.
    pub keys: CallKeys,
}

#[derive(Encode, BorrowDecode)]
struct WireJob<'a> {
    call: WireCall<'a>,
    flow: &'a str,
    module: [u8; 32],
    export: Option<&'a str>,
    inputs: WireValues<'a>,
    rollback: Option<WireRollback<'a>>,
    required_outputs: Vec<&'a str>,
    limits: WireLimits,
    access: WireAccess,
    at_micros: u64,
    expires_at_micros: Option<u64>,
    signal_to: &'a str,
    fetch_from: &'a str,
    delivery_limit: Option<u32>,
    content_keys: Vec<([u8; 32], [u8; 32])>,
}

/// The input of a rollback: the outcome of the apply, and the failures of its flow.
#[derive(Encode, BorrowDecode)]
struct WireRollback<'a> {
    outcome: WireOutcome<'a>,
    failures: WireFailures<'a>,
    failures_total: u64,
}

impl Job {
    /// The job of a call, without queues, keys and a deadline. A call that is replayed gets the same.
    #[must_use]
    pub fn of_call(flow: &FlowName, task: &Task, call: Call) -> Self {
        Self {
            flow: flow.clone(),
            module: task.module,
            export: task.export.clone(),
            inputs: call.inputs,
            rollback: call.rollback.map(|rollback| (rollback.outcome, rollback.failures)),
            required_outputs: task.provides.keys().cloned().collect(),
            limits: task.limits,
            access: task.access.clone(),
            at: call.at,
            expires_at: None,
            signal_to: String::new(),
            fetch_from: String::new(),
            delivery_limit: None,
            keys: CallKeys::of_call(Key::NONE),
            call: call.id,
        }
    }

    /// Adds the key of the call, and of each content that the job names.
    #[must_use]
    pub fn with_keys(mut self, secret: &EngineSecret) -> Self {
        let provided = self.rollback.iter().filter_map(|(outcome, _)| outcome.provided());
        let values = provided.chain([&self.inputs]).flat_map(Values::values);
        let digests = values.filter_map(Value::digest).chain([self.module]);
        self.keys = secret.call_keys(&self.call, digests);
        self
    }

    /// Encodes the job.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let CallKeys { call: key, contents } = &self.keys;
        let wire = WireJob {
            call: (&self.call).into(),
            flow: self.flow.as_str(),
            module: *self.module.as_bytes(),
            export: self.export.as_ref().map(Export::as_str),
            inputs: values_to_wire(&self.inputs),
            rollback: self.rollback.as_ref().map(|(outcome, failures)| WireRollback {
                outcome: outcome.into(),
                failures: failures_to_wire(&failures.first),
                failures_total: failures.total,
            }),
            required_outputs: self.required_outputs.iter().map(ValueName::as_str).collect(),
            limits: limits_to_wire(&self.limits),
            access: access_to_wire(&self.access),
            at_micros: self.at.as_micros(),
            expires_at_micros: time_to_wire(self.expires_at),
            signal_to: &self.signal_to,
            fetch_from: &self.fetch_from,
            delivery_limit: self.delivery_limit.map(NonZeroU32::get),
            content_keys: contents.iter().map(|(digest, key)| (*digest.as_bytes(), *key.as_bytes())).collect(),
        };
        let mut bytes = codec::encode(MessageKind::JOB, &wire);
        bytes.extend(key.as_bytes());
        bytes
    }

    /// Decodes the job.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a job of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (body, key) = Key::split(bytes).unwrap_or((bytes, Key::NONE));
        let wire: WireJob<'_> = codec::decode(MessageKind::JOB, body)?;
        wire.into_job(key).map_err(|reason| codec::damaged(MessageKind::JOB, reason))
    }
}

impl WireJob<'_> {
    fn into_job(self, key: Key) -> Result<Job, Invalid> {
        let rollback = match self.rollback {
            Some(WireRollback { outcome, failures, failures_total: total }) => {
                Some((outcome.into_outcome()?, FailureSummary { first: failures_from_wire(failures)?, total }))
            }
            None => None,
        };
        let content_key = |(digest, key)| (Digest::from_bytes(digest), Key::from_bytes(key));
        Ok(Job {
            call: self.call.into_call()?,
            flow: FlowName::new(self.flow).map_err(invalid)?,
            module: Digest::from_bytes(self.module),
            export: self.export.map(Export::new).transpose().map_err(invalid)?,
            inputs: values_from_wire(self.inputs)?,
            rollback,
            required_outputs: check_provides(self.required_outputs)?
                .into_iter()
                .map(ValueName::new)
                .collect::<Result<_, _>>()
                .map_err(invalid)?,
            limits: limits_from_wire(self.limits)?,
            access: access_from_wire(self.access)?,
            at: Timestamp::from_micros(self.at_micros),
            expires_at: time_from_wire(self.expires_at_micros),
            signal_to: self.signal_to.into(),
            fetch_from: self.fetch_from.into(),
            delivery_limit: self.delivery_limit.and_then(NonZeroU32::new),
            keys: CallKeys { call: key, contents: self.content_keys.into_iter().map(content_key).collect() },
        })
    }
}
