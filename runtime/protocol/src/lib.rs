//! Messages as bytes, and as the JSON that other languages read.
//!
//! Each struct and enum in a message has its own type here, named `Wire…`, with conversions from and to the core's types.
//! Every message starts with its kind and a format version. `codec.rs` describes how the format grows, and is the only file
//! that names the codec. Bytes are never trusted: each failure to read them is a [`DecodeError`].

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod codec;
mod wire;

mod flow_wire;
mod record;
mod snapshot;

mod access;
mod attempt;
mod http;
mod job;
mod limits;
mod log;
mod memo;
mod permit_message;
mod permit_status;
mod reply_queue;
mod report;
mod report_batch;
mod seal;
mod run_command;

mod control;
pub mod fetch;
mod grants;
mod worker_details;
mod engine_status;

#[cfg(feature = "json")]
pub mod events;
mod headers;
pub mod lease;
pub mod topology;

pub use attempt::{MAX_ATTEMPT_BYTES, RecordedAttempt, RecordedOutcome};
pub use codec::DecodeError;
pub use control::{Control, MAX_STATUS_BYTES, MAX_WITHDRAWN_CALLS, Ping, WithdrawnCall, WorkerStatus};
pub use engine_status::{EngineStatus, MAX_LISTED_ENGINES};
pub use fetch::{FetchPart, FetchReply, FetchRequest, FetchResponse, PutRequest};
pub use grants::{AskingTask, GrantsAnswer, GrantsQuestion, MAX_ASKED_PARTS, MAX_GRANTS_ANSWER_BYTES};
pub use headers::{
    SendingId, call_of, headers, message_id, returned, sending, set_returned, set_sending, set_traceparent,
    set_unanswered, traceparent, unanswered,
};
pub use http::{
    HttpExchange, HttpExchanges, HttpRecord, MAX_ENCODED_HTTP_BYTES, MAX_HTTP_RECORD_BYTES, MAX_INLINE_HTTP_BYTES,
    RecordedAnswer, RecordedHttpFailure, RecordedRequest,
};
pub use job::Job;
pub use log::{
    AttemptLog, CallLog, CallUsage, LiveLine, LiveLog, LogJoin, LogLine, LogSource, MAX_LOG_BYTES, NewLines,
    Unrecorded, log_size,
};
pub use memo::{MemoAddress, MemoIdentity, MemoKey, RememberedResult};
pub use permit_message::{
    Permit, PermitGrant, PermitMessage, PermitRequest, PermitSnapshot, PermitTick, PermitUpdate, RequestedCall,
};
pub use permit_status::{MAX_LISTED_PERMITS, MAX_LISTED_TASKS, PermitsAnswer, PermitsQuestion, TaskPermits};
pub use record::{decode_records, encode_records};
pub use reply_queue::ReplyQueue;
pub use report::{HeartbeatNumber, MAX_REPORT_BYTES, OpenError, Progress, Report};
pub use report_batch::{BatchedReport, MAX_BATCH_REPORTS, ReportBatch};
pub use run_command::{CommandRequest, Reply, RunCommand};
pub use seal::{CallKeys, EngineSecret, Key, ReplyAddress, Seal};
pub use snapshot::{SnapshotTooLarge, decode_snapshot, encode_snapshot};
pub use worker_details::{
    DescribedWorker, DetailsQuestion, DrainAction, DrainRequest, MAX_DETAILS_BYTES, MAX_LISTED_CALLS,
    MAX_LISTED_QUEUES, WorkerCall, WorkerCalls, WorkerDetails, WorkerState,
};
