//! A recorded attempt with everything that its replay needs, as one message: what a server returns, and a file for a colleague.
//!
//! Nothing in it is trusted. The reader compares each content with its digest.

use std::collections::BTreeMap;

use flow::{Digest, Failure, Outcome, Timestamp, Value, Values, WorkerName};

use crate::{
    CallLog, DecodeError, HttpRecord, Job,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{
        Invalid, WireFailure, WireValues, time_from_wire, time_to_wire, values_from_wire, values_to_wire,
        worker_from_wire, worker_to_wire,
    },
};

/// The maximum size of a recorded attempt with all its contents, in bytes.
pub const MAX_ATTEMPT_BYTES: u64 = 240 << 20;

/// A recorded attempt, with all that it got.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAttempt {
    /// Its job, without keys and queues.
    pub job: Job,
    /// What was recorded of its end; `None` if it has not ended.
    pub outcome: Option<RecordedOutcome>,
    /// The worker that made the call, where known.
    pub worker: Option<WorkerName>,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
    /// What the guest wrote and used, and its HTTP exchanges.
    pub log: CallLog,
    /// The contents that the job and the log name: the module, values and exchanges.
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

/// The end of an attempt, as the records of its run have it.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedOutcome {
    /// It provided these values, by the module's names. Large ones are references, whose contents are left out.
    Succeeded(Values),
    /// It failed.
    Failed(Failure),
    /// Its effects were rolled back.
    RolledBack,
    /// Its worker was lost: what it did is not known.
    Lost,
}

#[derive(Encode, BorrowDecode)]
struct WireAttempt<'a> {
    job: &'a [u8],
    outcome: Option<WireRecordedOutcome<'a>>,
    worker: Option<&'a str>,
    ended_at_micros: Option<u64>,
    log: &'a [u8],
    contents: Vec<([u8; 32], &'a [u8])>,
}

#[derive(Encode, BorrowDecode)]
enum WireRecordedOutcome<'a> {
    Succeeded(WireValues<'a>),
    Failed(WireFailure<'a>),
    RolledBack,
    Lost,
}

impl RecordedAttempt {
    /// The digests that the job and the log name.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        let provided = self.job.rollback.iter().filter_map(|(outcome, _)| match outcome {
            Outcome::Provided(values) => Some(values),
            Outcome::Failed(_) | Outcome::Unknown => None,
        });
        let values = provided.chain([&self.job.inputs]).flat_map(Values::values).filter_map(Value::digest);
        values.chain([self.job.module]).chain(self.log.http.as_ref().and_then(HttpRecord::digest))
    }

    /// Encodes the attempt.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (job, log) = (self.job.encode(), self.log.encode());
        let outcome = self.outcome.as_ref().map(|outcome| match outcome {
            RecordedOutcome::Succeeded(values) => WireRecordedOutcome::Succeeded(values_to_wire(values)),
            RecordedOutcome::Failed(failure) => WireRecordedOutcome::Failed(failure.into()),
            RecordedOutcome::RolledBack => WireRecordedOutcome::RolledBack,
            RecordedOutcome::Lost => WireRecordedOutcome::Lost,
        });
        let contents = self.contents.iter().map(|(digest, bytes)| (*digest.as_bytes(), bytes.as_slice()));
        let wire = WireAttempt {
            job: &job,
            outcome,
            worker: worker_to_wire(self.worker.as_ref()),
            ended_at_micros: time_to_wire(self.ended_at),
            log: &log,
            contents: contents.collect(),
        };
        codec::encode(MessageKind::ATTEMPT, &wire)
    }

    /// Decodes an attempt. Its contents are not compared with their digests.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no attempt of a known version, and for more than [`MAX_ATTEMPT_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() as u64 > MAX_ATTEMPT_BYTES {
            let reason = format!("its {} bytes are more than {MAX_ATTEMPT_BYTES}", bytes.len());
            return Err(codec::damaged(MessageKind::ATTEMPT, reason));
        }
        let wire: WireAttempt<'_> = codec::decode(MessageKind::ATTEMPT, bytes)?;
        let (job, log) = (Job::decode(wire.job)?, CallLog::decode(wire.log)?);
        let damaged = |reason: Invalid| codec::damaged(MessageKind::ATTEMPT, reason);
        Ok(Self {
            job,
            outcome: wire.outcome.map(WireRecordedOutcome::into_outcome).transpose().map_err(damaged)?,
            worker: worker_from_wire(wire.worker).map_err(damaged)?,
            ended_at: time_from_wire(wire.ended_at_micros),
            log,
            contents: wire
                .contents
                .into_iter()
                .map(|(digest, bytes)| (Digest::from_bytes(digest), bytes.to_vec()))
                .collect(),
        })
    }
}

impl WireRecordedOutcome<'_> {
    fn into_outcome(self) -> Result<RecordedOutcome, Invalid> {
        Ok(match self {
            Self::Succeeded(values) => RecordedOutcome::Succeeded(values_from_wire(values)?),
            Self::Failed(failure) => RecordedOutcome::Failed(failure.into_failure()?),
            Self::RolledBack => RecordedOutcome::RolledBack,
            Self::Lost => RecordedOutcome::Lost,
        })
    }
}
