//! One of each message, as it was released.

use std::{num::NonZeroU32, path::Path};

use flow::{
    Action, Answer, Attempt, CallId, ClockShift, Digest, Execution, Fact, Failure, FailureKind, FailureSummary, Firing,
    Json, Limits, NodeAttempt, NodeIndex, Outcome, Pace, Rate, Reach, Record, Resolution, Revision, RunState,
    ScopeIndex, Signal, SkipReason, Timestamp, Trigger, Value, Values,
};
use protocol::{
    Beat, CallLog, Claims, Control, FetchAnswer, FetchReply, FetchRequest, Granted, Job, Kept, LiveLine, LiveLog,
    Permit, Permits, Ping, PutRequest, Reply, Report, Wanted, Wish, WorkerStatus, decode_records, decode_snapshot,
    encode_records, encode_snapshot,
};

use crate::flows::{edited_flow, flow, later_flow, living_flow, living_snapshot, snapshot, snapshot_of};

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
        rollback: Some((
            Outcome::Failed(failure.clone()),
            FailureSummary { first: [("heat".parse().unwrap(), failure.clone())].into(), total: 17 },
        )),
        promised: vec!["pan".parse().unwrap()],
        limits: Limits { log: 256 << 10, ..Limits::default() },
        at: Timestamp::from_micros(1_700_000_000_000_000),
        expires_at: None,
        signal_to: "waft.engine.e1".into(),
        fetch_from: "waft.store.e1".into(),
        delivery_limit: NonZeroU32::new(3),
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
    let mut log = CallLog::default();
    log.push("info", "stirring");
    let live = LiveLog {
        call: call.clone(),
        worker: "worker-1".parse().unwrap(),
        lines: vec![LiveLine { number: 300, line: log.lines[0].clone() }],
        cut: true,
    };
    let signal = |answer| {
        let signal = Signal {
            call: call.clone(),
            answer,
            execution: Execution::new(300),
            redelivered: false,
            worker: worker.clone(),
        };
        Report::Signal(signal, log.clone()).encode()
    };
    let worker_name = || "worker-1".parse().unwrap();
    let notify = |key: Option<&str>| Wish::Notify {
        task: "approve".parse().unwrap(),
        answer: Answer::Succeeded(values.clone()),
        key: key.map(Into::into),
    };
    let request = |wish| Report::Request(protocol::Request { run: "run-1".parse().unwrap(), wish }).encode();
    let edit = Wish::Edit { revision: Revision::FIRST, flow: edited_flow() };
    let skip = Wish::Skip { task: "heat".parse().unwrap(), reason: "cleaned by hand".into() };
    let at = Timestamp::from_micros(1_700_000_000_000_000);
    let attempt = NodeAttempt { node: NodeIndex(1), firing: Firing::FIRST, attempt: Attempt::new(2) };
    let records = [
        Fact::RunStarted { flow: flow(), revision: Revision::FIRST },
        Fact::Started { attempt, action: Action::Apply },
        Fact::Leased { attempt, action: Action::Apply, worker: worker_name() },
        Fact::Lost { attempt, action: Action::Apply, worker: worker.clone() },
        Fact::Late {
            attempt,
            action: Action::Apply,
            execution: Some(Execution::new(300)),
            outcome: Some(Outcome::Provided(values.clone())),
            worker: worker.clone(),
        },
        Fact::Succeeded { attempt, provided: values.clone(), execution: Execution::new(300), worker: worker.clone() },
        Fact::Failed {
            attempt,
            failure: failure.clone(),
            retry_at: Some(at),
            execution: None,
            redelivered: false,
            worker: None,
        },
        Fact::RolledBack { attempt, worker: None },
        Fact::RollbackFailed { attempt, failure: failure.clone(), retry_at: None, worker: None },
        Fact::PassedRollback { node: NodeIndex(3) },
        Fact::RollbackRetried { node: NodeIndex(3) },
        Fact::RollbackSkipped { node: NodeIndex(3), reason: "cleaned by hand".into() },
        Fact::Resolved { node: NodeIndex(3), resolution: Resolution::Retry(ScopeIndex(1)) },
        Fact::ControllerRan { node: NodeIndex(0), attempt: Attempt::FIRST, value: None, list: None },
        Fact::NotStarted { node: NodeIndex(0), attempt: Attempt::FIRST, failure: failure.clone() },
        Fact::Retrying { node: NodeIndex(0) },
        Fact::Reset,
        Fact::CancelRequested,
        Fact::SuspendRequested,
        Fact::Resumed,
        Fact::RunEntered { state: RunState::RolledBack },
    ];
    let records: Vec<Record> = records.into_iter().map(|fact| Record { at, firing: None, fact }).collect();
    let later = [
        Fact::RunStarted { flow: later_flow(), revision: Revision::FIRST },
        Fact::Ignored { node: NodeIndex(2), reach: Reach::Flow },
        Fact::Begun { node: NodeIndex(3) },
        Fact::Delayed { node: NodeIndex(3), until: at },
        Fact::Expired,
        Fact::Edited { flow: edited_flow(), revision: Revision::new(2) },
    ];
    let later: Vec<Record> = later.into_iter().map(|fact| Record { at, firing: None, fact }).collect();
    let living = [
        (None, Fact::RunStarted { flow: living_flow(), revision: Revision::FIRST }),
        (None, Fact::Scheduled { schedule: 0, next: Some(at) }),
        (
            None,
            Fact::Fired {
                firing: Firing::new(7),
                entry: NodeIndex(1),
                by: Trigger::Notified { key: Some("server-1".into()) },
                values: values.clone(),
            },
        ),
        (Some(7), Fact::Started { attempt, action: Action::Apply }),
        (Some(7), Fact::Expanded { node: NodeIndex(3), list: [Json::parse("1").unwrap()].into() }),
        (None, Fact::Unfired { turn: 0, reason: "its condition says no".into() }),
        (Some(7), Fact::RunEntered { state: RunState::Success }),
        (None, Fact::Skipped { entry: NodeIndex(1), by: Trigger::Schedule(0), reason: SkipReason::Overlap, count: 2 }),
        (None, Fact::Backlogged { schedule: 0, from: at, until: Timestamp::from_micros(at.as_micros() + 1) }),
        (None, Fact::CaughtUp { schedule: 0, next: None }),
        (None, Fact::ClockSet { by: ClockShift::from_micros(-3_600_000_000) }),
    ];
    let living: Vec<Record> =
        living.into_iter().map(|(firing, fact)| Record { at, firing: firing.map(Firing::new), fact }).collect();
    let (granted, claims, kept) = samples_of_permits(&call, at);
    vec![
        ("records-2", encode_records(&later)),
        ("records-3", encode_records(&living)),
        ("snapshot-3", encode_snapshot(&living_snapshot())),
        ("snapshot-2", encode_snapshot(&snapshot_of(later_flow(), 0x3_FFF3))),
        ("job-1", job.encode()),
        ("job-2", Job { expires_at: Some(at), ..job.clone() }.encode()),
        ("succeeded-1", signal(Answer::Succeeded(values.clone()))),
        ("failed-1", signal(Answer::Failed(failure))),
        ("records-1", encode_records(&records)),
        ("snapshot-1", encode_snapshot(&snapshot(0x1_0CB3))),
        ("log-1", log.encode()),
        ("live-log-1", live.encode()),
        ("tell-logs-2", Control::TellLogs { run: "run-1".parse().unwrap() }.encode()),
        ("heartbeat-1", Report::Heartbeat { call: call.clone(), worker: worker_name() }.encode()),
        ("released-1", Report::Released { call: call.clone(), worker: worker_name() }.encode()),
        ("probe-1", Report::Probe { engine: "e1".into(), number: 300 }.encode()),
        ("granted-1", Report::Granted(granted).encode()),
        ("permits-claims-1", Permits::Claims(claims).encode()),
        ("permits-kept-1", Permits::Kept(kept).encode()),
        ("permits-beat-1", Permits::Beat(Beat { keeper: "e1".into(), number: 300 }).encode()),
        ("request-1", request(skip)),
        ("request-notify-1", request(notify(None))),
        ("request-notify-once-1", request(notify(Some("server-1")))),
        ("request-edit-1", request(edit)),
        ("reply-1", Reply::Recorded(RunState::Suspending).encode()),
        ("put-request-1", PutRequest { bytes: b"egg" }.encode()),
        ("fetch-kept-1", reply(FetchAnswer::Kept)),
        ("ping-1", Control::Ping(Ping { reply_to: "waft.reply.1".into() }).encode()),
        ("interrupt-1", Control::Interrupt(call.clone()).encode()),
        ("withdraw-1", Control::Withdraw(vec![call.clone()]).encode()),
        ("may-begin-1", Control::MayBegin { call: call.clone(), wanted: true }.encode()),
        ("may-begin-asked-1", Report::MayBegin { call: call.clone() }.encode()),
        ("begun-1", Report::Begun { call: call.clone(), worker: worker_name() }.encode()),
        ("worker-status-1", status.encode()),
        ("fetch-request-1", FetchRequest { digest, chunks: 4..8 }.encode()),
        ("fetch-chunk-1", reply(FetchAnswer::Chunk { size: 300_000, index: 1, bytes: b"egg" })),
        ("fetch-missing-1", reply(FetchAnswer::Missing)),
        ("fetch-corrupt-1", reply(FetchAnswer::Corrupt { actual: Digest::from_bytes([8; 32]) })),
        ("fetch-unreadable-1", reply(FetchAnswer::Unreadable { reason: "the disk is gone" })),
    ]
}

fn samples_of_permits(call: &CallId, at: Timestamp) -> (Granted, Claims, Kept) {
    let (shard, engine) = (|| "3".parse().unwrap(), || "e1".to_owned());
    let (flow, task) = ("bake-cake".parse().unwrap(), "choose-pan".parse().unwrap());
    let granted = Granted { flow, task, engine: engine(), number: 300, calls: vec![call.clone()] };
    let rate = Some(Rate::parse("10/m").unwrap());
    let claims = Claims {
        shard: shard(),
        engine: engine(),
        since: at,
        number: 300,
        pace: Pace { max_running: NonZeroU32::new(2), rate },
        unread: vec!["run-2".parse().unwrap()],
        asks: false,
        held: vec![call.clone()],
        wanted: vec![Wanted { call: CallId { attempt: Attempt::new(3), ..call.clone() }, priority: -4 }],
    };
    let permits = vec![Permit { call: call.clone(), shard: shard(), engine: engine(), asked: 299 }];
    (granted, claims, Kept { keeper: engine(), number: 7, free_at: at, permits })
}

/// A new message or version gets a file of its own here; one that is there never changes.
#[test]
fn every_version_ever_released_still_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, bytes) in samples() {
        let path = folder.join(format!("{name}.bin"));
        if std::env::var_os("WAFT_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
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
            || FetchReply::decode(&bytes).is_ok()
            || PutRequest::decode(&bytes).is_ok()
            || decode_records(&bytes).is_ok()
            || decode_snapshot(&bytes).is_ok()
            || Permits::decode(&bytes).is_ok()
            || CallLog::decode(&bytes).is_ok()
            || LiveLog::decode(&bytes).is_ok()
            || Reply::decode(&bytes).is_ok();
        assert!(known, "{} no longer decodes", path.display());
    }
}
