//! A job: one call, with all that a worker needs for it.

use std::num::NonZeroU32;

use flow::{CallId, Digest, Export, FailureSummary, FlowName, Limits, Outcome, Timestamp, ValueName, Values};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, Kind},
    wire::{
        Unlawful, WireCall, WireFailures, WireLimits, WireOutcome, WireValues, failures_from_wire, failures_to_wire,
        unlawful, values_from_wire, values_to_wire,
    },
};

/// One call for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which call.
    pub call: CallId,
    /// The flow of the run.
    pub flow: FlowName,
    /// The module to call.
    pub module: Digest,
    /// The task in the module; `None` for a WASI command.
    pub export: Option<Export>,
    /// What it takes, by the module's names.
    pub inputs: Values,
    /// What a rollback is told: what apply left, and which tasks failed. `None` for an apply.
    pub rollback: Option<(Outcome, FailureSummary)>,
    /// What it must leave, by the module's names.
    pub promised: Vec<ValueName>,
    /// What it may use.
    pub limits: Limits,
    /// When it was handed out: the guest's clock stands here.
    pub at: Timestamp,
    /// When it is too late to begin it.
    pub expires_at: Option<Timestamp>,
    /// The queue that takes the signal.
    pub signal_to: String,
    /// The queue that answers requests for modules.
    pub fetch_from: String,
    /// How often it may come back before it is taken for poison; `None` leaves that to the worker.
    pub delivery_limit: Option<NonZeroU32>,
}

#[derive(Encode, BorrowDecode)]
struct WireJob<'a> {
    call: WireCall<'a>,
    flow: &'a str,
    module: [u8; 32],
    export: Option<&'a str>,
    inputs: WireValues<'a>,
    rollback: Option<WireRollback<'a>>,
    promised: Vec<&'a str>,
    limits: WireLimits,
    at_micros: u64,
    signal_to: &'a str,
    fetch_from: &'a str,
    delivery_limit: Option<u32>,
}

/// What a rollback is told.
#[derive(Encode, BorrowDecode)]
struct WireRollback<'a> {
    outcome: WireOutcome<'a>,
    failures: WireFailures<'a>,
    failures_total: u64,
}

/// The second version: the first, and when it is too late to begin it.
#[derive(Encode, BorrowDecode)]
struct WireExpiringJob<'a> {
    job: WireJob<'a>,
    expires_at_micros: u64,
}

impl Job {
    /// The job as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
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
            promised: self.promised.iter().map(ValueName::as_str).collect(),
            limits: self.limits.into(),
            at_micros: self.at.as_micros(),
            signal_to: &self.signal_to,
            fetch_from: &self.fetch_from,
            delivery_limit: self.delivery_limit.map(NonZeroU32::get),
        };
        match self.expires_at.map(Timestamp::as_micros) {
            None => codec::encode(Kind::Job, &wire),
            Some(expires_at_micros) => {
                codec::encode_as(Kind::Job, 2, &WireExpiringJob { job: wire, expires_at_micros })
            }
        }
    }

    /// The job in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a job of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (wire, expires_at) = match codec::version_of(Kind::Job, bytes) {
            Some(2) => {
                let wire: WireExpiringJob<'_> = codec::decode(Kind::Job, bytes)?;
                (wire.job, Some(Timestamp::from_micros(wire.expires_at_micros)))
            }
            Some(_) | None => (codec::decode(Kind::Job, bytes)?, None),
        };
        let job = wire.into_job().map_err(|reason| codec::damaged(Kind::Job, reason))?;
        Ok(Self { expires_at, ..job })
    }
}

impl WireJob<'_> {
    fn into_job(self) -> Result<Job, Unlawful> {
        let rollback = match self.rollback {
            Some(WireRollback { outcome, failures, failures_total: total }) => {
                Some((outcome.into_outcome()?, FailureSummary { first: failures_from_wire(failures)?, total }))
            }
            None => None,
        };
        Ok(Job {
            call: self.call.into_call()?,
            flow: FlowName::new(self.flow).map_err(unlawful)?,
            module: Digest::from_bytes(self.module),
            export: self.export.map(Export::new).transpose().map_err(unlawful)?,
            inputs: values_from_wire(self.inputs)?,
            rollback,
            promised: self.promised.into_iter().map(ValueName::new).collect::<Result<_, _>>().map_err(unlawful)?,
            limits: self.limits.into(),
            at: Timestamp::from_micros(self.at_micros),
            expires_at: None,
            signal_to: self.signal_to.into(),
            fetch_from: self.fetch_from.into(),
            delivery_limit: self.delivery_limit.and_then(NonZeroU32::new),
        })
    }
}
