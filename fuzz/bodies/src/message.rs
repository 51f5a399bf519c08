//! A message of the broker, or an entry of a logbook that is no record: each decoder reads the input.
//!
//! A decoder checks the kind in the first bytes. The seal is not checked first, as it is in an engine, because no fuzzer finds
//! one: what comes behind it has to be safe for every holder of a key. Messages that were decoded are sealed anew.

use protocol::{
    CallLog, Control, EngineSecret, EngineStatus, FetchReply, FetchRequest, HttpExchanges, Job, LiveLog, LogJoin,
    PermitMessage, PermitsAnswer, PutRequest, RecordedAttempt, Reply, ReplyAddress, Report, ReportBatch, WorkerDetails,
    WorkerStatus,
};

use crate::round_trip;

const REPLY: ReplyAddress<'static> = ReplyAddress { queue: "waft.reply.a", id: "1" };

fn secret() -> EngineSecret {
    EngineSecret::new([7; 32])
}

/// The input is the body of a message.
pub fn run(input: &[u8]) {
    if let Ok(job) = Job::decode(input) {
        round_trip::message(&job, Job::encode, Job::decode);
    }
    report(input);
    if let Ok(batch) = ReportBatch::decode(input) {
        assert!(ReportBatch::is_batch(input));
        batch.reports.iter().for_each(|batched| report(batched.report));
        assert_eq!(ReportBatch::decode(&batch.encode()), Ok(batch));
    }
    if let Ok(control) = Control::decode(input) {
        round_trip::message(&control, Control::encode, Control::decode);
    }
    if let Ok(status) = WorkerStatus::decode(input) {
        round_trip::message(&status, WorkerStatus::encode, WorkerStatus::decode);
    }
    if let Ok(details) = WorkerDetails::decode(input) {
        round_trip::message(&details, WorkerDetails::encode, WorkerDetails::decode);
    }
    if let Ok(status) = EngineStatus::decode(input) {
        round_trip::message(&status, EngineStatus::encode, EngineStatus::decode);
    }
    if let Ok(answer) = PermitsAnswer::decode(input) {
        round_trip::message(&answer, PermitsAnswer::encode, PermitsAnswer::decode);
    }
    if let Ok(reply) = Reply::decode(input) {
        round_trip::message(&reply, Reply::encode, Reply::decode);
    }
    if let Ok(permits) = PermitMessage::decode(input) {
        let secret = secret();
        round_trip::message(&permits, |permits| permits.encode(&secret), |bytes| PermitMessage::open(bytes, &secret));
    }
    content(input);
    logs(input);
}

fn report(input: &[u8]) {
    let Ok(report) = Report::decode(input) else { return };
    let secret = secret();
    let encode = |report: &Report| match report.call() {
        Some(call) => report.encode(&secret.call_keys(call, report.contents())),
        None => report.encode_by_engine(&secret),
    };
    round_trip::message(&report, encode, |bytes| Report::open(bytes, &secret));
    assert!(Report::open(input, &EngineSecret::new([8; 32])).is_err(), "nobody has this secret");
}

fn content(input: &[u8]) {
    let secret = secret();
    if let Ok(request) = FetchRequest::decode(input) {
        let encoded = request.encode(&secret.content_key(&request.digest), REPLY);
        assert_eq!(FetchRequest::open(&encoded, REPLY, &secret), Ok(request));
    }
    if let Ok(request) = PutRequest::decode(input) {
        let encoded = request.encode(&secret.call_key(&request.call), REPLY);
        assert_eq!(PutRequest::open(&encoded, REPLY, &secret), Ok(request));
    }
    if let Ok(reply) = FetchReply::decode(input) {
        assert_eq!(FetchReply::decode(&reply.encode()), Ok(reply));
    }
}

fn logs(input: &[u8]) {
    if let Ok(log) = CallLog::decode(input) {
        round_trip::message(&log, CallLog::encode, CallLog::decode);
    }
    if let Ok(exchanges) = HttpExchanges::decode(input) {
        round_trip::message(&exchanges, HttpExchanges::encode, HttpExchanges::decode);
    }
    if let Ok(attempt) = RecordedAttempt::decode(input) {
        round_trip::message(&attempt, RecordedAttempt::encode, RecordedAttempt::decode);
    }
    if let Ok(live) = LiveLog::decode(input) {
        let live = round_trip::message(&live, LiveLog::encode, LiveLog::decode);
        let (call, mut join) = (live.call.clone(), LogJoin::default());
        let mut recorded = CallLog::default();
        live.lines.iter().for_each(|line| recorded.push(line.line.level.clone(), line.line.text.clone()));
        let new = join.live(live.clone()).lines.len();
        assert!(new <= live.lines.len(), "no line is made up");
        assert!(join.recorded(&call, &recorded).len() <= recorded.lines.len(), "no line is made up");
        assert!(join.recorded(&call, &recorded).is_empty(), "each line comes once");
    }
}
