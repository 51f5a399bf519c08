//! Every message survives a round trip, no bytes panic the decoder, every golden file still decodes.

#![expect(clippy::unwrap_used, reason = "the values of a test are valid")]

mod flows;
mod golden;
mod notifications;
mod strategies;

use std::collections::BTreeMap;

use flow::{
    Attempt, Digest, Firing, NodeIndex, NodeKind, NotificationOutcome, RunState, Signal, State, Stored, TaskResult,
    Timestamp, Value, Values,
};
use machine::{GivenValues, NodeChange, PendingTrigger, QueuedFiring, Trigger};
use proptest::prelude::*;
use protocol::{
    BatchedReport, CallKeys, CallLog, Control, DecodeError, EngineSecret, EngineStatus, FetchPart, FetchReply,
    FetchRequest, FetchResponse, GrantsAnswer, HttpExchanges, Job, Key, MAX_BATCH_REPORTS, OpenError, PermitMessage,
    PermitsAnswer, PutRequest, RecordedAttempt, Reply, ReplyAddress, Report, ReportBatch, WorkerDetails, WorkerStatus,
    decode_records, decode_snapshot, encode_records, encode_snapshot,
};

use flows::{linked_flow, long_lived_snapshot, snapshot, snapshot_of};
use strategies::{
    call, control, grants_answer, job, log,
    operators::{engine_status, permits_answer, worker_details},
    permits, record, report, status, values,
};

proptest! {
    // A failed case becomes a named test instead.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_round_trips(job in job()) {
        prop_assert_eq!(Job::decode(&job.encode()), Ok(job));
    }

    #[test]
    fn every_report_round_trips(report in report()) {
        let secret = EngineSecret::new([7; 32]);
        let encoded = match report.call() {
            Some(call) => report.encode(&secret.call_keys(call, report.contents())),
            None => report.encode_by_engine(&secret),
        };
        prop_assert_eq!(Report::open(&encoded, &secret), Ok(report.clone()));
        let question = if let Report::AskStart { call } = &report { Some(call.clone()) } else { None };
        prop_assert_eq!(Report::question(&encoded).map(|(call, _)| call), question);
        prop_assert_eq!(Report::open(&encoded, &EngineSecret::new([8; 32])), Err(OpenError::Forged));
        // Who knows the key of a call cannot use it for another report of an engine.
        prop_assert_eq!(Report::open(&report.encode(&CallKeys::of_call(Key::NONE)), &secret), Err(OpenError::Forged));
    }

    #[test]
    fn every_batch_of_reports_round_trips(reports in proptest::collection::vec(report(), 0..4), call in call()) {
        let encoded: Vec<Vec<u8>> = reports.iter().map(|report| report.encode(&CallKeys::of_call(Key::NONE))).collect();
        let batched = |report| BatchedReport { call: call.clone(), report };
        let batch = ReportBatch { reports: encoded.iter().map(|report| batched(report)).collect() };
        let bytes = batch.encode();
        prop_assert!(ReportBatch::is_batch(&bytes) && encoded.iter().all(|report| !ReportBatch::is_batch(report)));
        prop_assert_eq!(ReportBatch::decode(&bytes), Ok(batch));
    }

    #[test]
    fn every_permit_message_round_trips(permits in permits()) {
        let secret = EngineSecret::new([7; 32]);
        let encoded = permits.encode(&secret);
        prop_assert_eq!(PermitMessage::open(&encoded, &EngineSecret::new([8; 32])), Err(OpenError::Forged));
        prop_assert_eq!(PermitMessage::open(&encoded, &secret), Ok(permits));
    }

    #[test]
    fn every_control_message_survives_a_round_trip(control in control()) {
        prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
    }

    #[test]
    fn every_status_of_a_worker_survives_a_round_trip(status in status()) {
        prop_assert_eq!(WorkerStatus::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn the_details_of_a_worker_survive_a_round_trip(details in worker_details()) {
        prop_assert_eq!(WorkerDetails::decode(&details.encode()), Ok(details));
    }

    #[test]
    fn the_status_of_an_engine_survives_a_round_trip(status in engine_status()) {
        prop_assert_eq!(EngineStatus::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn every_answer_about_permits_survives_a_round_trip(answer in permits_answer()) {
        prop_assert_eq!(PermitsAnswer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn every_answer_about_grants_survives_a_round_trip(answer in grants_answer()) {
        prop_assert_eq!(GrantsAnswer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn every_record_round_trips(records in proptest::collection::vec(record(), 0..4)) {
        prop_assert_eq!(decode_records(&encode_records(&records)), Ok(records));
    }

    #[test]
    fn every_snapshot_round_trips(seed in any::<u64>()) {
        for snapshot in [snapshot(seed), snapshot_of(linked_flow(), seed), long_lived_snapshot()] {
            prop_assert_eq!(decode_snapshot(&encode_snapshot(&snapshot).unwrap()), Ok(snapshot));
        }
    }

    #[test]
    fn outputs_keep_their_kind_in_notifications(values in values()) {
        let change = NodeChange { provides: Some(values.clone()), ..succeeded() };
        let body = protocol::events::notification(&"r".parse().unwrap(), &"f".parse().unwrap(), &change);
        let received = protocol::events::parse_notification(body.as_bytes()).unwrap().unwrap();
        prop_assert_eq!(received.outcome, NotificationOutcome::Success(values));
    }

    #[test]
    fn every_log_round_trips(log in log()) {
        prop_assert_eq!(CallLog::decode(&log.encode()), Ok(log));
    }

    #[test]
    fn every_reply_round_trips(state in 0..RunState::ALL.len(), reason in "\\PC{0,20}") {
        let state = RunState::ALL[state];
        for reply in [Reply::Recorded(state), Reply::NotApplicable(state), Reply::RunNotFound, Reply::Failed(reason.clone()), Reply::Refused(reason)] {
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn every_fetch_request_round_trips(digest in any::<[u8; 32]>(), chunks in any::<std::ops::Range<u32>>()) {
        for part in [FetchPart::Chunks(chunks), FetchPart::Signatures] {
            let request = FetchRequest { digest: Digest::from_bytes(digest), part };
            let (secret, reply) = (EngineSecret::new([7; 32]), ReplyAddress { queue: "waft.reply.a", id: "1" });
            let encoded = request.encode(&secret.content_key(&request.digest), reply);
            let other = ReplyAddress { id: "2", ..reply };
            prop_assert_eq!(FetchRequest::open(&encoded, other, &secret), Err(OpenError::Forged));
            prop_assert_eq!(FetchRequest::open(&encoded, reply, &secret), Ok(request));
        }
    }

    #[test]
    fn every_fetch_reply_round_trips(
        digest in any::<[u8; 32]>(),
        (size, index) in any::<(u64, u32)>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        reason in "\\PC{0,20}",
    ) {
        let digest = Digest::from_bytes(digest);
        let answers = [
            FetchResponse::Chunk { size, index, bytes: &bytes },
            FetchResponse::Stored { key: Key::from_bytes([9; 32]) },
            FetchResponse::Signatures(vec![&reason, "signature"]),
            FetchResponse::Missing,
            FetchResponse::Corrupt { actual: digest },
            FetchResponse::Unreadable { reason: &reason },
        ];
        for answer in answers {
            let reply = FetchReply { digest, response: answer };
            let encoded = reply.encode();
            prop_assert_eq!(FetchReply::decode(&encoded), Ok(reply));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for magic in [&b""[..], b"wL\x01", b"wN\x01", b"wO\x01", b"wQ\x01", b"wP\x01", b"wJ\x01", b"wR\x01", b"wB\x01", b"wC\x01", b"wS\x01", b"wD\x01", b"wI\x01", b"wU\x01", b"wF\x01", b"wA\x01", b"wK\x01", b"wH\x01", b"wT\x01", b"wE\x01"] {
            let bytes = [magic, &bytes].concat();
            let _ = (Job::decode(&bytes), Report::decode(&bytes), Control::decode(&bytes), WorkerStatus::decode(&bytes), WorkerDetails::decode(&bytes), EngineStatus::decode(&bytes), PermitsAnswer::decode(&bytes), GrantsAnswer::decode(&bytes));
            let _ = (FetchRequest::decode(&bytes), FetchReply::decode(&bytes), PutRequest::decode(&bytes).is_ok());
            let _ = (ReportBatch::decode(&bytes), HttpExchanges::decode(&bytes), RecordedAttempt::decode(&bytes));
            let _ = (decode_records(&bytes), decode_snapshot(&bytes), PermitMessage::decode(&bytes), CallLog::decode(&bytes), Reply::decode(&bytes));
        }
    }

    #[test]
    fn a_damaged_message_is_an_error_or_a_valid_message(job in job(), at in any::<prop::sample::Index>(), bits in 1u8..) {
        let encoded = job.encode();
        let at = at.index(encoded.len());
        prop_assert!(Job::decode(&encoded[..at]).is_err());
        let mut damaged = encoded;
        damaged[at] ^= bits;
        let _ = Job::decode(&damaged);
    }
}

/// A task that has succeeded.
fn succeeded() -> NodeChange {
    NodeChange {
        kind: NodeKind::Task,
        name: "t".parse().unwrap(),
        state: State::Success,
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        at: Timestamp::default(),
        provides: None,
        failure: None,
        retry_in: None,
        worker: None,
        computed_by: None,
        digest: None,
        is_of_empty_firing: false,
    }
}

#[test]
fn a_batch_of_too_many_reports_is_refused_as_one_message() {
    let call: flow::CallId = flow::CallId {
        run: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: flow::Action::Apply,
    };
    let batch_of = |count| {
        let reports = vec![BatchedReport { call: call.clone(), report: b"" }; count];
        ReportBatch { reports }.encode()
    };
    assert_eq!(ReportBatch::decode(&batch_of(MAX_BATCH_REPORTS)).unwrap().reports.len(), MAX_BATCH_REPORTS);
    let refused = ReportBatch::decode(&batch_of(MAX_BATCH_REPORTS + 1)).unwrap_err();
    assert!(refused.to_string().ends_with("it holds 257 reports, and 256 are allowed"), "{refused}");
}

/// The result of a call that names a content in the store.
fn result_with(digest: Digest) -> Report {
    let stored = Value::Stored(Stored { digest, size: 3, form: flow::ValueKind::Bytes });
    let signal = Signal {
        call: flow::CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: flow::Action::Apply,
        },
        answer: TaskResult::Succeeded([("x".parse().unwrap(), stored)].into()),
        execution: flow::Execution::new(1),
        redelivered: false,
        worker: None,
    };
    Report::Signal(signal, CallLog::default())
}

#[test]
fn a_result_names_only_content_whose_key_its_sender_has() {
    let secret = EngineSecret::new([7; 32]);
    let [digest, other] = [1, 2].map(|byte| Digest::from_bytes([byte; 32]));
    let report = result_with(digest);
    let call = report.call().unwrap();
    for contents in [vec![], vec![other]] {
        let encoded = report.encode(&secret.call_keys(call, contents));
        assert_eq!(Report::open(&encoded, &secret), Err(OpenError::Forged), "its sender does not have the content");
    }
    let encoded = report.encode(&secret.call_keys(call, [digest, other]));
    assert_eq!(Report::open(&encoded, &secret), Ok(report.clone()));
    // A report shows no key: who sees it can make no other.
    let key = secret.call_key(call);
    assert!(!encoded.windows(32).any(|bytes| bytes == key.as_bytes()));
}

#[test]
fn an_unknown_version_error_has_advice() {
    let error = Job::decode(b"wJ\xfa").unwrap_err();
    let DecodeError::Version { expected: "job", version: 250, known } = error else { panic!("{error}") };
    assert_eq!(error.to_string(), format!("a job of format version 250; this waft reads up to {known}: upgrade it"));
    let error = decode_records(b"wL\xfa\0").unwrap_err();
    assert!(matches!(error, DecodeError::Version { expected: "record", version: 250, .. }), "{error}");
    let garbage = Job::decode(b"{\"hello\":1}").unwrap_err();
    assert!(garbage.to_string().starts_with("not a job: 11 bytes that begin [7b, 22"), "{garbage}");
}

#[test]
fn a_snapshot_that_could_not_be_read_is_not_written() {
    // All firings share one value, and a snapshot writes it for each.
    let large = Value::Bytes(vec![0; 1 << 20].into());
    let waiting = |number| QueuedFiring {
        firing: Firing::new(number),
        entry: None,
        by: Trigger::Start,
        values: Values::from([("x".parse().unwrap(), large.clone())]),
        inherited: None,
    };
    let mut snapshot = long_lived_snapshot();
    snapshot.triggers.as_mut().unwrap().queued.extend((1..=100).map(waiting));
    assert!(encode_snapshot(&snapshot).is_ok_and(|bytes| bytes.len() > 100 << 20));
    snapshot.triggers.as_mut().unwrap().queued.extend((101..=256).map(waiting));
    let error = encode_snapshot(&snapshot).unwrap_err();
    assert!(error.to_string().starts_with("the snapshot of the run is larger than waft reads, 256MiB"), "{error}");
}

#[test]
fn back_edges_of_one_firing_write_its_values_once() {
    let provided = |number: u32| {
        let text = Value::json(&format!("{number}{}", "x".repeat(10_000)).into());
        GivenValues::from(BTreeMap::from([(NodeIndex(1), Values::from([("y".parse().unwrap(), text)]))]))
    };
    let mut snapshot = long_lived_snapshot();
    let before = encode_snapshot(&snapshot).unwrap().len();
    for given in [provided(1), provided(2)] {
        let pending = (0..100).map(|back_edge| {
            let values = Values::from([("x".parse().unwrap(), Value::json(&back_edge.into()))]);
            let values = if back_edge < 50 { Values::new() } else { values };
            PendingTrigger { back_edge, values, given: given.clone(), not_before: None }
        });
        snapshot.triggers.as_mut().unwrap().pending_triggers.extend(pending);
    }
    // The values of the trigger differ in half of them.
    let encoded = encode_snapshot(&snapshot).unwrap();
    assert!(encoded.len() - before < 2 * 52 * 10_100, "{}", encoded.len() - before);
    let decoded = decode_snapshot(&encoded).unwrap();
    let pending = &decoded.triggers.as_ref().unwrap().pending_triggers;
    assert!(pending[0].given.is_shared_with(&pending[49].given));
    assert!(!pending[0].given.is_shared_with(&pending[100].given));
    assert_eq!(decoded, snapshot);
}
