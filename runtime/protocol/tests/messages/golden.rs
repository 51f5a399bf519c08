//! One message of each kind and shape, byte for byte.

mod operators;

use std::{num::NonZeroU32, path::Path, time::Duration};

use flow::{
    Access, Action, Attempt, CallId, ClockShift, Digest, Execution, Failure, FailureKind, FailureSummary, Firing,
    GrantedPart, Json, Labels, Limits, Memo, NodeIndex, NotificationOutcome, Outcome, Pace, Rate, Revision, RunState,
    Signal, SkipReach, SkipReason, TaskNotification, TaskResult, Timestamp, Value, Values, WorkerName,
    graph::ScopeIndex,
};
use machine::{Fact, NodeAttempt, Record, Resolution, Trigger};
use protocol::{
    AskingTask, BatchedReport, CallKeys, CallLog, CallUsage, Control, EngineSecret, FetchPart, FetchReply,
    FetchRequest, FetchResponse, GrantsAnswer, GrantsQuestion, HeartbeatNumber, HttpExchange, HttpExchanges,
    HttpRecord, Job, LiveLine, LiveLog, Permit, PermitGrant, PermitMessage, PermitRequest, PermitSnapshot, PermitTick,
    PermitUpdate, Ping, Progress, PutRequest, RecordedAnswer, RecordedAttempt, RecordedHttpFailure, RecordedOutcome,
    RecordedRequest, RememberedResult, Reply, ReplyAddress, Report, ReportBatch, RequestedCall, RunCommand, SendingId,
    Unrecorded, WithdrawnCall, decode_records, decode_snapshot, encode_records, encode_snapshot,
};

use crate::flows::{
    edited_flow, flow, labelled_start, linked_flow, long_lived_flow, long_lived_snapshot, snapshot, snapshot_of,
};

type Samples = Vec<(&'static str, Vec<u8>)>;

fn samples() -> Samples {
    let of_calls = [jobs(), signals(), reports(), requests(), permits(), attempts()].concat();
    [records(), snapshots(), of_calls, controls(), contents(), operators::samples()].concat()
}

/// The secret of the engines.
fn secret() -> EngineSecret {
    EngineSecret::new([7; 32])
}

/// The keys of a job that names no content.
fn keys() -> CallKeys {
    secret().call_keys(&call(), [])
}

fn call() -> CallId {
    CallId {
        run: "run-1".parse().unwrap(),
        task: "choose-pan".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::new(2),
        action: Action::Rollback,
    }
}

/// The call that computed a remembered result.
fn apply() -> CallId {
    CallId { action: Action::Apply, ..call() }
}

fn values() -> Values {
    Values::from([
        ("batter_ml".parse().unwrap(), Value::Json(Json::parse("900").unwrap())),
        ("photo".parse().unwrap(), Value::Bytes(vec![0, 255].into())),
    ])
}

fn failure() -> Failure {
    let details = Some(Json::parse(r#"{"code":7}"#).unwrap());
    Failure { details, ..Failure::new(FailureKind::Transient, "no pan left") }
}

fn worker() -> WorkerName {
    "worker-1".parse().unwrap()
}

fn log() -> CallLog {
    let mut log = CallLog::default();
    log.push("info", "stirring");
    log
}

/// The log of an attempt whose exchanges are in the store.
fn used_log() -> CallLog {
    let usage = CallUsage {
        wall: Duration::from_millis(1_500),
        cpu: Duration::from_millis(20),
        memory: 2 << 20,
        input_bytes: 3,
        output_bytes: 12,
        http_requests: 1,
        http_request_bytes: 300,
        http_response_bytes: 70_000,
    };
    let http = HttpRecord::Stored { digest: Digest::from_bytes([9; 32]), size: 70_500 };
    CallLog {
        usage: Some(usage),
        unrecorded: Unrecorded { clock: true, ..Unrecorded::default() },
        http: Some(http),
        ..log()
    }
}

const AT: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const ATTEMPT: NodeAttempt = NodeAttempt { node: NodeIndex(1), firing: Firing::FIRST, attempt: Attempt::new(2) };

fn records() -> Samples {
    let of_run = |facts: Vec<Fact>| -> Vec<u8> {
        let records: Vec<Record> = facts.into_iter().map(|fact| Record { at: AT, firing: None, fact }).collect();
        encode_records(&records)
    };
    let firings: Vec<Record> = facts_of_firings()
        .into_iter()
        .map(|(firing, fact)| Record { at: AT, firing: firing.map(Firing::new), fact })
        .collect();
    vec![
        ("records-1", of_run([facts_of_calls(), facts_of_rollbacks()].concat())),
        ("records-linked-1", of_run(facts_of_links())),
        ("records-firings-1", encode_records(&firings)),
        ("record-succeeded-1", of_run(facts_of_calls().split_off(5)[..1].to_vec())),
        (
            "record-remembered-1",
            of_run(vec![Fact::Remembered { attempt: ATTEMPT, provided: values(), computed_by: apply() }]),
        ),
        ("record-labelled-1", of_run(vec![labelled_start()])),
        ("remembered-1", RememberedResult { computed_by: apply(), at: AT, values: values() }.encode()),
    ]
}

fn facts_of_calls() -> Vec<Fact> {
    let (attempt, action, execution) = (ATTEMPT, Action::Apply, Some(Execution::new(300)));
    vec![
        Fact::RunStarted { flow: flow(), revision: Revision::FIRST, labels: Labels::default() },
        Fact::Started { attempt, action },
        Fact::Leased { attempt, action, worker: worker() },
        Fact::Lost { attempt, action, worker: Some(worker()) },
        Fact::LateOutcome {
            attempt,
            action,
            execution,
            outcome: Some(Outcome::Provided(values())),
            worker: Some(worker()),
        },
        Fact::Succeeded { attempt, provided: values(), execution: Execution::new(300), worker: Some(worker()) },
        Fact::Failed {
            attempt,
            failure: failure(),
            retry_at: Some(AT),
            execution: None,
            redelivered: false,
            worker: None,
        },
    ]
}

fn facts_of_rollbacks() -> Vec<Fact> {
    let (attempt, node, controller) = (ATTEMPT, NodeIndex(3), NodeIndex(0));
    vec![
        Fact::RolledBack { attempt, worker: None },
        Fact::RollbackFailed { attempt, failure: failure(), retry_at: None, worker: None },
        Fact::RollbackNotNeeded { node },
        Fact::RollbackRetried { node },
        Fact::RollbackSkipped { node, reason: "cleaned by hand".into() },
        Fact::FailureResolved { node, resolution: Resolution::Retry(ScopeIndex(1)) },
        Fact::ControllerRan { node: controller, attempt: Attempt::FIRST, value: None, list: None },
        Fact::StartFailed { node: controller, attempt: Attempt::FIRST, failure: failure() },
        Fact::Retrying { node: controller },
        Fact::Reset,
        Fact::CancelRequested,
        Fact::SuspendRequested,
        Fact::Resumed,
        Fact::RunStateChanged { state: RunState::RolledBack },
    ]
}

fn facts_of_links() -> Vec<Fact> {
    vec![
        Fact::RunStarted { flow: linked_flow(), revision: Revision::FIRST, labels: Labels::default() },
        Fact::Ignored { node: NodeIndex(2), reach: SkipReach::Flow },
        Fact::ScopeStarted { node: NodeIndex(3) },
        Fact::Delayed { node: NodeIndex(3), until: AT },
        Fact::Expired,
        Fact::Edited { flow: edited_flow(), revision: Revision::new(2) },
    ]
}

fn facts_of_firings() -> Vec<(Option<u64>, Fact)> {
    let (entry, firing) = (NodeIndex(1), Firing::new(7));
    let by = Trigger::Notification { key: Some("server-1".into()) };
    vec![
        (None, Fact::RunStarted { flow: long_lived_flow(), revision: Revision::FIRST, labels: Labels::default() }),
        (None, Fact::Scheduled { schedule: 0, next: Some(AT) }),
        (None, Fact::Triggered { firing, entry, by, values: values() }),
        (Some(7), Fact::Started { attempt: ATTEMPT, action: Action::Apply }),
        (Some(7), Fact::Expanded { node: NodeIndex(3), list: [Json::parse("1").unwrap()].into() }),
        (None, Fact::BackEdgeSkipped { back_edge: 0, reason: "its condition says no".into() }),
        (Some(7), Fact::RunStateChanged { state: RunState::Success }),
        (None, Fact::TriggerSkipped { entry, by: Trigger::Schedule(0), reason: SkipReason::Overlap, count: 2 }),
        (None, Fact::BacklogAdded { schedule: 0, from: AT, until: Timestamp::from_micros(AT.as_micros() + 1) }),
        (None, Fact::BacklogFired { schedule: 0, next: None }),
        (None, Fact::ClockSet { by: ClockShift::from_micros(-3_600_000_000) }),
        (None, Fact::NotificationReceived { node: entry, key: "order-7".into() }),
    ]
}

fn snapshots() -> Samples {
    vec![
        ("snapshot-1", encode_snapshot(&snapshot(0x1_0CB3)).unwrap()),
        ("snapshot-linked-1", encode_snapshot(&snapshot_of(linked_flow(), 0x3_FFF3)).unwrap()),
        ("snapshot-firings-1", encode_snapshot(&long_lived_snapshot()).unwrap()),
    ]
}

fn access() -> Access {
    let http = ["GET,PUT https://oven.example/v1/pans/*".parse().unwrap()].into();
    Access { http, secrets: ["OVEN_TOKEN".parse().unwrap()].into(), clock: true, ..Access::default() }
}

fn jobs() -> Samples {
    let summary = FailureSummary { first: [("heat".parse().unwrap(), failure())].into(), total: 17 };
    let rollback = Job {
        call: call(),
        flow: "bake-cake".parse().unwrap(),
        module: Digest::from_bytes([7; 32]),
        export: Some("choose-pan".parse().unwrap()),
        inputs: values(),
        rollback: Some((Outcome::Failed(failure()), summary)),
        required_outputs: vec!["pan".parse().unwrap()],
        limits: Limits { log: 256 << 10, ..Limits::default() },
        access: access(),
        at: AT,
        expires_at: None,
        signal_to: "waft.engine.e1".into(),
        fetch_from: "waft.store.e1".into(),
        delivery_limit: NonZeroU32::new(3),
        keys: keys(),
    }
    .with_keys(&secret());
    let first = CallId { attempt: Attempt::FIRST, action: Action::Apply, ..call() };
    let apply = Job {
        call: first,
        inputs: Values::from([("batter_ml".parse().unwrap(), Value::Json(Json::parse("900").unwrap()))]),
        rollback: None,
        limits: Limits { memory: 128 << 20, ..Limits::default() },
        access: Access::default(),
        expires_at: Some(Timestamp::from_micros(1_700_000_060_000_000)),
        delivery_limit: None,
        ..rollback.clone()
    }
    .with_keys(&secret());
    let memo = Some(Memo::For(Duration::from_hours(7 * 24)));
    let remembered = Job { access: Access { memo, ..Access::default() }, ..apply.clone() };
    vec![("job-apply-1", apply.encode()), ("job-rollback-1", rollback.encode()), ("job-memo-1", remembered.encode())]
}

fn signals() -> Samples {
    let signal = |answer| {
        let (execution, worker) = (Execution::new(300), Some(worker()));
        Report::Signal(Signal { call: call(), answer, execution, redelivered: false, worker }, log())
    };
    let stored = values().values().filter_map(Value::digest).collect::<Vec<_>>();
    let signal = |answer| signal(answer).encode(&secret().call_keys(&call(), stored.clone()));
    vec![
        ("succeeded-1", signal(TaskResult::Succeeded(values()))),
        ("failed-1", signal(TaskResult::Failed(failure()))),
        ("log-1", log().encode()),
        ("log-used-1", used_log().encode()),
        ("report-batch-1", report_batch()),
    ]
}

fn number() -> HeartbeatNumber {
    HeartbeatNumber { execution: Execution::new(1_700_000_000_000_000), count: 300 }
}

fn report_batch() -> Vec<u8> {
    let other = CallId { task: "heat-oven".parse().unwrap(), ..call() };
    let heartbeat = |call: CallId| {
        let keys = secret().call_keys(&call, []);
        Report::Heartbeat { call, worker: worker(), number: number() }.encode(&keys)
    };
    let (first, second) = (heartbeat(call()), heartbeat(other.clone()));
    let reports = vec![BatchedReport { call: call(), report: &first }, BatchedReport { call: other, report: &second }];
    ReportBatch { reports }.encode()
}

fn reports() -> Samples {
    let progress =
        Progress { call: call(), worker: worker(), fraction: Some(0.5), message: Some("half of them".into()) };
    let not_started = Report::NotStarted { call: call(), redeliveries: 2, unanswered: 1, sending: SendingId::new(300) };
    vec![
        ("progress-1", Report::Progress(progress).encode(&keys())),
        ("heartbeat-1", Report::Heartbeat { call: call(), worker: worker(), number: number() }.encode(&keys())),
        ("released-1", Report::Released { call: call(), worker: worker() }.encode(&keys())),
        ("probe-1", Report::Probe { engine: "e1".into(), number: 300 }.encode_by_engine(&secret())),
        ("ask-start-1", Report::AskStart { call: call() }.encode(&keys())),
        ("started-1", Report::Started { call: call(), worker: worker(), number: number() }.encode(&keys())),
        ("not-started-1", not_started.encode(&keys())),
    ]
}

fn requests() -> Samples {
    let request = |command| {
        Report::Command(protocol::CommandRequest { run: "run-1".parse().unwrap(), command }).encode_by_engine(&secret())
    };
    let task = || "approve".parse().unwrap();
    let notify = |answer, key: Option<&str>| RunCommand::Notify { task: task(), answer, key: key.map(Into::into) };
    let succeeded = || TaskResult::Succeeded(values());
    let notification = TaskNotification {
        flow: "create-server".parse().unwrap(),
        task: task(),
        outcome: NotificationOutcome::Success(values()),
        key: "server-1".into(),
    };
    vec![
        ("command-1", request(RunCommand::Skip { task: "heat".parse().unwrap(), reason: "cleaned by hand".into() })),
        ("command-notify-1", request(notify(succeeded(), None))),
        ("command-notify-once-1", request(notify(succeeded(), Some("server-1")))),
        ("command-notify-failed-1", request(notify(TaskResult::Failed(failure()), None))),
        ("command-task-notification-1", request(RunCommand::TaskNotification(notification))),
        ("command-edit-1", request(RunCommand::Edit { revision: Revision::FIRST, flow: edited_flow() })),
        ("reply-1", Reply::Recorded(RunState::Suspending).encode()),
    ]
}

fn controls() -> Samples {
    let tasks = vec![vec![GrantedPart::All, GrantedPart::None], vec![GrantedPart::Some]];
    let answer = GrantsAnswer { queues: vec!["default".parse().unwrap()], tasks };
    vec![
        ("ping-1", Control::Ping(Ping { reply_to: "waft.reply.1".into() }).encode()),
        ("interrupt-1", Control::Interrupt { call: call(), proof: keys().call.interrupt_proof() }.encode()),
        (
            "withdraw-1",
            Control::Withdraw(vec![WithdrawnCall { call: call(), proof: keys().call.withdraw_proof() }]).encode(),
        ),
        ("follow-logs-1", Control::FollowLogs { run: "run-1".parse().unwrap() }.encode()),
        ("live-log-1", live_log().encode()),
        (
            "may-start-1",
            Control::MayStart { call: call(), wanted: true, proof: keys().call.may_start_proof(true) }.encode(),
        ),
        (
            "unknown-key-1",
            Control::UnknownKey { call: call(), question: Report::question_seal(&call(), &keys()).unwrap() }.encode(),
        ),
        ("explain-grants-1", Control::ExplainGrants(grants_question()).encode()),
        ("grants-answer-1", answer.encode()),
    ]
}

fn grants_question() -> GrantsQuestion {
    let http = ["PUT https://lb.example.com/**".parse().unwrap()].into();
    let access = Access { http, clock: true, ..Access::default() };
    let task = AskingTask { task: "add-ip".parse().unwrap(), module: Digest::from_bytes([7; 32]), access };
    GrantsQuestion { reply_to: "waft.reply.1".into(), flow: "shop/provision".parse().unwrap(), tasks: vec![task] }
}

fn live_log() -> LiveLog {
    let mut log = CallLog::default();
    log.push("info", "stirring");
    let lines = vec![LiveLine { number: 300, line: log.lines[0].clone() }];
    LiveLog { call: call(), worker: worker(), lines, cut: true }
}

fn contents() -> Samples {
    let digest = Digest::from_bytes([7; 32]);
    let reply = |answer| FetchReply { digest, response: answer }.encode();
    let address = ReplyAddress { queue: "waft.reply.w1", id: "7" };
    let fetch = |part| FetchRequest { digest, part }.encode(&secret().content_key(&digest), address);
    vec![
        ("put-request-1", PutRequest { bytes: b"egg", call: call() }.encode(&keys().call, address)),
        ("fetch-request-1", fetch(FetchPart::Chunks(4..8))),
        ("fetch-signatures-1", fetch(FetchPart::Signatures)),
        ("fetch-signed-1", reply(FetchResponse::Signatures(vec!["untrusted comment: …", "another one"]))),
        ("fetch-chunk-1", reply(FetchResponse::Chunk { size: 300_000, index: 1, bytes: b"egg" })),
        ("fetch-stored-1", reply(FetchResponse::Stored { key: secret().content_key(&digest) })),
        ("fetch-missing-1", reply(FetchResponse::Missing)),
        ("fetch-corrupt-1", reply(FetchResponse::Corrupt { actual: Digest::from_bytes([8; 32]) })),
        ("fetch-unreadable-1", reply(FetchResponse::Unreadable { reason: "the disk is gone" })),
    ]
}

fn exchanges() -> HttpExchanges {
    let headers = vec![("accept".to_owned(), b"*/*".to_vec())];
    let request = RecordedRequest {
        method: "PUT".into(),
        url: "https://oven.example/v1/pans/1".into(),
        headers: headers.clone(),
        body: b"egg".to_vec(),
    };
    let exchange = |answer| HttpExchange { request: request.clone(), answer, took: Duration::from_millis(20) };
    let text = |text: &str| text.to_owned();
    let failed = |failure| exchange(RecordedAnswer::Failed(failure));
    let exchanges = vec![
        exchange(RecordedAnswer::Response { status: 201, headers, body: vec![0, 255] }),
        exchange(RecordedAnswer::DeniedAtOnce(text("no"))),
        exchange(RecordedAnswer::None),
        failed(RecordedHttpFailure::Denied(text("no"))),
        failed(RecordedHttpFailure::Secret { name: text("OVEN_TOKEN"), reason: text("no file") }),
        failed(RecordedHttpFailure::NoAddress { host: text("oven.example"), reason: text("no name") }),
        failed(RecordedHttpFailure::Connect(text("refused"))),
        failed(RecordedHttpFailure::Tls(text("expired"))),
        failed(RecordedHttpFailure::Timeout(Duration::from_secs(300))),
        failed(RecordedHttpFailure::TooLarge(70_000)),
        failed(RecordedHttpFailure::TooMany(16)),
        failed(RecordedHttpFailure::Protocol(text("reset"))),
    ];
    HttpExchanges { exchanges, cut: true }
}

fn attempts() -> Samples {
    let (_, job) = jobs().into_iter().next().unwrap();
    let attempt = |outcome| RecordedAttempt {
        job: Job::decode(&job).unwrap(),
        outcome: Some(outcome),
        worker: Some(worker()),
        ended_at: Some(AT),
        log: used_log(),
        contents: [(Digest::from_bytes([7; 32]), b"egg".to_vec())].into(),
    };
    vec![
        ("exchanges-1", exchanges().encode()),
        ("attempt-succeeded-1", attempt(RecordedOutcome::Succeeded(values())).encode()),
        ("attempt-failed-1", attempt(RecordedOutcome::Failed(failure())).encode()),
        ("attempt-rolled-back-1", attempt(RecordedOutcome::RolledBack).encode()),
        ("attempt-lost-1", attempt(RecordedOutcome::Lost).encode()),
    ]
}

fn permits() -> Samples {
    let (shard, engine) = (|| "3".parse().unwrap(), || "e1".to_owned());
    let (flow, task) = ("bake-cake".parse().unwrap(), "choose-pan".parse().unwrap());
    let grant = PermitGrant { flow, task, engine: engine(), number: 300, calls: vec![call()] };
    let permit_request = PermitRequest {
        shard: shard(),
        engine: engine(),
        since: AT,
        number: 300,
        pace: Pace { max_running: NonZeroU32::new(2), rate: Some(Rate::parse("10/m").unwrap()) },
        unloaded: vec!["run-2".parse().unwrap()],
        wants_reply: false,
        held: vec![call()],
        wanted: vec![RequestedCall { call: CallId { attempt: Attempt::new(3), ..call() }, priority: -4 }],
    };
    let update = PermitUpdate {
        shard: shard(),
        engine: engine(),
        number: 301,
        follows: 300,
        released: vec![call()],
        wanted: vec![RequestedCall { call: CallId { attempt: Attempt::new(4), ..call() }, priority: 5 }],
    };
    let permits = vec![Permit { call: call(), shard: shard(), engine: engine(), request_number: 299 }];
    let snapshot = PermitSnapshot { coordinator: engine(), number: 7, free_at: AT, permits };
    vec![
        ("granted-1", Report::PermitGrant(grant).encode_by_engine(&secret())),
        ("permits-request-1", PermitMessage::Request(permit_request).encode(&secret())),
        ("permits-snapshot-1", PermitMessage::Snapshot(snapshot).encode(&secret())),
        ("permits-update-1", PermitMessage::Update(update).encode(&secret())),
        ("permits-tick-1", PermitMessage::Tick(PermitTick { coordinator: engine(), number: 300 }).encode(&secret())),
    ]
}

/// Each new message or version gets a golden file named with the version; an existing file never changes.
#[test]
fn every_golden_file_is_written_as_it_was_and_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, bytes) in samples() {
        let path = folder.join(format!("{name}.bin"));
        if std::env::var_os("WAFT_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, bytes, "{name} is written as it was");
    }
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let version = path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap();
        assert_eq!(bytes[2].to_string(), version, "{} is named with its version", path.display());
        let known = Job::decode(&bytes).is_ok()
            || Report::decode(&bytes).is_ok()
            || ReportBatch::decode(&bytes).is_ok()
            || Control::decode(&bytes).is_ok()
            || operators::is_known(&bytes)
            || GrantsAnswer::decode(&bytes).is_ok()
            || FetchRequest::decode(&bytes).is_ok()
            || FetchReply::decode(&bytes).is_ok()
            || PutRequest::decode(&bytes).is_ok()
            || decode_records(&bytes).is_ok()
            || decode_snapshot(&bytes).is_ok()
            || PermitMessage::decode(&bytes).is_ok()
            || CallLog::decode(&bytes).is_ok()
            || HttpExchanges::decode(&bytes).is_ok()
            || RecordedAttempt::decode(&bytes).is_ok()
            || RememberedResult::decode(&bytes).is_ok()
            || LiveLog::decode(&bytes).is_ok()
            || Reply::decode(&bytes).is_ok();
        assert!(known, "{} no longer decodes", path.display());
    }
}
