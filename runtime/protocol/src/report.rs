//! What a worker tells the engine of a call.

use flow::{Answer, CallId, Signal, WorkerName};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, Kind},
    wire::{Unlawful, WireCall, WireFailure, WireValues, unlawful, values_from_wire, values_to_wire},
};

/// What a worker tells the engine of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// How it ended.
    Signal(Signal),
    /// How far it has come. Sent for calls that take a while, kept by nobody.
    Progress(Progress),
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which call.
    pub call: CallId,
    /// Who calls it.
    pub worker: WorkerName,
    /// From 0 to 1, when the guest has said so.
    pub fraction: Option<f64>,
    /// What the guest said last: with its progress, or in its log.
    pub message: Option<String>,
}

#[derive(Encode, BorrowDecode)]
enum WireReport<'a> {
    Succeeded { call: WireCall<'a>, worker: Option<&'a str>, values: WireValues<'a> },
    Failed { call: WireCall<'a>, worker: Option<&'a str>, failure: WireFailure<'a> },
    Progress { call: WireCall<'a>, worker: &'a str, fraction: Option<f64>, message: Option<&'a str> },
}

impl Report {
    /// The report as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self {
            Self::Signal(Signal { call, answer, worker }) => {
                let (call, worker) = (call.into(), worker.as_ref().map(WorkerName::as_str));
                match answer {
                    Answer::Succeeded(values) => WireReport::Succeeded { call, worker, values: values_to_wire(values) },
                    Answer::Failed(failure) => WireReport::Failed { call, worker, failure: failure.into() },
                }
            }
            Self::Progress(Progress { call, worker, fraction, message }) => WireReport::Progress {
                call: call.into(),
                worker: worker.as_str(),
                fraction: *fraction,
                message: message.as_deref(),
            },
        };
        codec::encode(Kind::Report, &wire)
    }

    /// The report in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a report of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireReport<'_> = codec::decode(Kind::Report, bytes)?;
        wire.into_report().map_err(|reason| codec::damaged(Kind::Report, reason))
    }
}

impl WireReport<'_> {
    fn into_report(self) -> Result<Report, Unlawful> {
        let named = |worker: Option<&str>| worker.map(WorkerName::new).transpose().map_err(unlawful);
        Ok(match self {
            Self::Succeeded { call, worker, values } => Report::Signal(Signal {
                call: call.into_call()?,
                answer: Answer::Succeeded(values_from_wire(values)?),
                worker: named(worker)?,
            }),
            Self::Failed { call, worker, failure } => Report::Signal(Signal {
                call: call.into_call()?,
                answer: Answer::Failed(failure.into_failure()?),
                worker: named(worker)?,
            }),
            Self::Progress { call, worker, fraction, message } => Report::Progress(Progress {
                call: call.into_call()?,
                worker: WorkerName::new(worker).map_err(unlawful)?,
                fraction,
                message: message.map(Into::into),
            }),
        })
    }
}
