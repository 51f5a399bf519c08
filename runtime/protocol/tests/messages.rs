//! Every message survives a round trip, no bytes panic the decoder, every version ever released still decodes.

#![expect(clippy::unwrap_used, reason = "what a test makes up is lawful")]

use std::{path::Path, time::Duration};

use flow::{
    Action, Answer, Attempt, CallId, Digest, Failure, FailureKind, Firing, Json, Limits, Outcome, Signal, Timestamp,
    Value, Values,
};
use proptest::prelude::*;
use protocol::{
    Control, DecodeError, FetchAnswer, FetchReply, FetchRequest, Job, Ping, Progress, Report, WorkerStatus,
};

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,20}"
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(|number| Value::Json(Json::parse(number.to_string()).unwrap())),
        "\\PC{0,40}".prop_map(|text| Value::json(&text.into())),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Value::Bytes(bytes.into())),
    ]
}

fn values() -> impl Strategy<Value = Values> {
    proptest::collection::btree_map(name().prop_map(|name| name.parse().unwrap()), value(), 0..5)
}

fn call() -> impl Strategy<Value = CallId> {
    (name(), name(), any::<u64>(), any::<u32>(), any::<bool>()).prop_map(|(run, task, firing, attempt, apply)| CallId {
        run: run.parse().unwrap(),
        task: task.parse().unwrap(),
        firing: Firing::new(firing),
        attempt: Attempt::new(attempt),
        action: if apply { Action::Apply } else { Action::Rollback },
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    (0..FailureKind::ALL.len(), "\\PC{0,60}", any::<bool>()).prop_map(|(kind, message, detailed)| Failure {
        details: detailed.then(|| Json::parse(r#"{"code":18446744073709551615}"#).unwrap()),
        ..Failure::new(FailureKind::ALL[kind], message)
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![values().prop_map(Outcome::Provided), failure().prop_map(Outcome::Failed), Just(Outcome::Unknown),]
}

fn job() -> impl Strategy<Value = Job> {
    let failures = proptest::collection::btree_map(name().prop_map(|name| name.parse().unwrap()), failure(), 0..3);
    let rollback = proptest::option::of((outcome(), failures));
    (call(), name(), any::<[u8; 32]>(), proptest::option::of(name()), values(), rollback, any::<u32>()).prop_map(
        |(call, flow, module, export, inputs, rollback, number)| Job {
            call,
            flow: flow.parse().unwrap(),
            module: Digest::from_bytes(module),
            export: export.map(|export| export.parse().unwrap()),
            promised: inputs.keys().cloned().collect(),
            inputs,
            rollback,
            limits: Limits { timeout: Duration::from_millis(number.into()), ..Limits::default() },
            at: Timestamp::from_micros(number.into()),
            signal_to: "waft.engine.a".into(),
            fetch_from: "waft.store.a".into(),
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let answer = prop_oneof![values().prop_map(Answer::Succeeded), failure().prop_map(Answer::Failed)];
    let signal = (call(), answer, proptest::option::of(name())).prop_map(|(call, answer, worker)| {
        Report::Signal(Signal { call, answer, worker: worker.map(|worker| worker.parse().unwrap()) })
    });
    let progress = (call(), name(), proptest::option::of(0.0..1.0), proptest::option::of("\\PC{0,20}")).prop_map(
        |(call, worker, fraction, message)| {
            Report::Progress(Progress { call, worker: worker.parse().unwrap(), fraction, message })
        },
    );
    prop_oneof![signal, progress]
}

proptest! {
    #[test]
    fn every_job_survives_a_round_trip(job in job()) {
        prop_assert_eq!(Job::decode(&job.encode()), Ok(job));
    }

    #[test]
    fn every_report_survives_a_round_trip(report in report()) {
        prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
    }

    #[test]
    fn every_request_for_content_survives_a_round_trip(digest in any::<[u8; 32]>(), chunks in any::<std::ops::Range<u32>>()) {
        let request = FetchRequest { digest: Digest::from_bytes(digest), chunks };
        prop_assert_eq!(FetchRequest::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn every_answer_with_content_survives_a_round_trip(
        digest in any::<[u8; 32]>(),
        (size, index) in any::<(u64, u32)>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        reason in "\\PC{0,20}",
    ) {
        let digest = Digest::from_bytes(digest);
        let answers = [
            FetchAnswer::Chunk { size, index, bytes: &bytes },
            FetchAnswer::Missing,
            FetchAnswer::Corrupt { actual: digest },
            FetchAnswer::Unreadable { reason: &reason },
        ];
        for answer in answers {
            let reply = FetchReply { digest, answer };
            let encoded = reply.encode();
            prop_assert_eq!(FetchReply::decode(&encoded), Ok(reply));
        }
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for magic in [&b""[..], b"wJ\x01", b"wR\x01", b"wC\x01", b"wS\x01", b"wF\x01", b"wA\x01"] {
            let bytes = [magic, &bytes].concat();
            let _ = (Job::decode(&bytes), Report::decode(&bytes), Control::decode(&bytes), WorkerStatus::decode(&bytes));
            let _ = (FetchRequest::decode(&bytes), FetchReply::decode(&bytes));
        }
    }

    #[test]
    fn a_cut_or_changed_message_is_an_error_or_another_message(job in job(), at in any::<prop::sample::Index>(), bits in 1u8..) {
        let whole = job.encode();
        let at = at.index(whole.len());
        prop_assert!(Job::decode(&whole[..at]).is_err());
        let mut changed = whole;
        changed[at] ^= bits;
        let _ = Job::decode(&changed);
    }
}

#[test]
fn an_unknown_version_says_what_to_do() {
    let error = Job::decode(b"wJ\x09").unwrap_err();
    assert_eq!(error, DecodeError::Version { what: "job", version: 9, known: 1 });
    assert_eq!(error.to_string(), "a job of format version 9; this waft reads up to 1: upgrade it");
    let garbage = Job::decode(b"{\"hello\":1}").unwrap_err();
    assert!(garbage.to_string().starts_with("not a job: 11 bytes that begin [7b, 22"), "{garbage}");
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let call = CallId {
        run: "run-1".parse().unwrap(),
        task: "choose-pan".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::new(2),
        action: Action::Rollback,
    };
    let values = Values::from([
        ("batter_ml".parse().unwrap(), Value::Json(Json::parse("900").unwrap())),
        ("photo".parse().unwrap(), Value::Bytes(vec![0, 255].into())),
    ]);
    let failure = Failure {
        details: Some(Json::parse(r#"{"code":7}"#).unwrap()),
        ..Failure::new(FailureKind::Transient, "no pan left")
    };
    let worker = Some("worker-1".parse().unwrap());
    let job = Job {
        call: call.clone(),
        flow: "bake-cake".parse().unwrap(),
        module: Digest::from_bytes([7; 32]),
        export: Some("choose-pan".parse().unwrap()),
        inputs: values.clone(),
        rollback: Some((Outcome::Failed(failure.clone()), [("heat".parse().unwrap(), failure.clone())].into())),
        promised: vec!["pan".parse().unwrap()],
        limits: Limits { log: 256 << 10, ..Limits::default() },
        at: Timestamp::from_micros(1_700_000_000_000_000),
        signal_to: "waft.engine.e1".into(),
        fetch_from: "waft.store.e1".into(),
    };
    let status = WorkerStatus {
        name: "worker-1".parse().unwrap(),
        instance: "a1".into(),
        host: "oven".into(),
        process: 4711,
        slots: 4,
        busy: 1,
        queues: vec!["default".parse().unwrap()],
        version: "0.1.0".into(),
    };
    let digest = Digest::from_bytes([7; 32]);
    let reply = |answer| FetchReply { digest, answer }.encode();
    let signal = |answer| Report::Signal(Signal { call: call.clone(), answer, worker: worker.clone() }).encode();
    vec![
        ("job-1", job.encode()),
        ("succeeded-1", signal(Answer::Succeeded(values))),
        ("failed-1", signal(Answer::Failed(failure))),
        ("ping-1", Control::Ping(Ping { reply_to: "waft.reply.1".into() }).encode()),
        ("interrupt-1", Control::Interrupt(call.clone()).encode()),
        ("worker-status-1", status.encode()),
        ("fetch-request-1", FetchRequest { digest, chunks: 4..8 }.encode()),
        ("fetch-chunk-1", reply(FetchAnswer::Chunk { size: 300_000, index: 1, bytes: b"egg" })),
        ("fetch-missing-1", reply(FetchAnswer::Missing)),
        ("fetch-corrupt-1", reply(FetchAnswer::Corrupt { actual: Digest::from_bytes([8; 32]) })),
        ("fetch-unreadable-1", reply(FetchAnswer::Unreadable { reason: "the disk is gone" })),
    ]
}

/// A new message or version gets a file of its own here; one that is there never changes.
#[test]
fn every_version_ever_released_still_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, bytes) in samples() {
        let path = folder.join(format!("{name}.bin"));
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, bytes, "{name} is written as it was released");
    }
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let known = Job::decode(&bytes).is_ok()
            || Report::decode(&bytes).is_ok()
            || Control::decode(&bytes).is_ok()
            || WorkerStatus::decode(&bytes).is_ok()
            || FetchRequest::decode(&bytes).is_ok()
            || FetchReply::decode(&bytes).is_ok();
        assert!(known, "{} no longer decodes", path.display());
    }
}
