//! Several reports of one worker in one message. A broker's cost for a message is mostly the same for a small one and a
//! large one, so a busy worker reports about many short calls at once.
//!
//! A batch is only an envelope, and stays at version 1: what grows is the reports in it. An engine that cannot read a report
//! fails its call; if it could not read the envelope, it would not know the calls, and their runs would wait. So a call in it
//! keeps the fields of [`WireCall`] as they are now.

use flow::CallId;

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::WireCall,
};

/// The maximum number of reports in one message: enough to share a broker's cost for it. Engines refuse more, since a message of
/// the largest size could hold millions, and each costs an engine more than its bytes.
///
/// It is a part of the format and stays as it is: an earlier engine would refuse a larger batch without knowing its calls.
pub const MAX_BATCH_REPORTS: usize = 256;

/// Several encoded reports in one message, in the order in which they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBatch<'a> {
    /// The reports.
    pub reports: Vec<BatchedReport<'a>>,
}

/// A report in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchedReport<'a> {
    /// The call that the report is about. It is known even if the report itself cannot be read.
    pub call: CallId,
    /// The encoded [`Report`](crate::Report).
    pub report: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct WireReportBatch<'a> {
    reports: Vec<WireBatchedReport<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireBatchedReport<'a> {
    call: WireCall<'a>,
    report: &'a [u8],
}

impl<'a> From<&'a BatchedReport<'a>> for WireBatchedReport<'a> {
    fn from(BatchedReport { call, report }: &'a BatchedReport<'a>) -> Self {
        Self { call: call.into(), report }
    }
}

impl<'a> ReportBatch<'a> {
    /// Whether the bytes begin like a batch. Only then is it worth decoding one.
    #[must_use]
    pub fn is_batch(bytes: &[u8]) -> bool {
        codec::is_kind(MessageKind::REPORT_BATCH, bytes)
    }

    /// Encodes the batch.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let reports = self.reports.iter().map(WireBatchedReport::from).collect();
        codec::encode(MessageKind::REPORT_BATCH, &WireReportBatch { reports })
    }

    /// Decodes the batch, but not its reports.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a batch of a known version, and for more than [`MAX_BATCH_REPORTS`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let body = codec::Body::open(MessageKind::REPORT_BATCH, bytes)?;
        // A list begins with its length.
        let count: u64 = body.read_beginning()?;
        if count > MAX_BATCH_REPORTS as u64 {
            let reason = format!("it holds {count} reports, and {MAX_BATCH_REPORTS} are allowed");
            return Err(codec::damaged(MessageKind::REPORT_BATCH, reason));
        }
        let wire: WireReportBatch<'a> = body.read()?;
        let batched = |WireBatchedReport { call, report }: WireBatchedReport<'a>| {
            Ok(BatchedReport { call: call.into_call()?, report })
        };
        let reports = wire.reports.into_iter().map(batched).collect::<Result<_, _>>();
        let damaged = |reason: crate::wire::Invalid| codec::damaged(MessageKind::REPORT_BATCH, reason);
        Ok(Self { reports: reports.map_err(damaged)? })
    }
}
