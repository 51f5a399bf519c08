//! Every message survives a round trip, no bytes panic the decoder, every version ever released still decodes.

#![expect(clippy::unwrap_used, reason = "what a test makes up is lawful")]

use std::{collections::BTreeMap, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use flow::{
    Action, Answer, Attempt, CallId, Condition, Digest, Edit, Event, Execution, Fact, Failure, FailureKind, Firing,
    Flow, Form, Join, Json, LimitOverrides, Limits, Machine, ModuleContent, ModuleInfo, NodeAttempt, NodeIndex, On,
    Origin, Outcome, Pace, Parameter, Per, Provided, Rate, Reach, Record, Resolution, Revision, Rollback, RunState,
    ScopeIndex, Shard, Signal, Snapshot, Stored, TaskInfo, Timestamp, Trigger, Value, Values,
};
use proptest::prelude::*;
use protocol::{
    Beat, CallLog, Claims, Control, DecodeError, FetchAnswer, FetchReply, FetchRequest, Granted, Job, Kept, LogLine,
    Permit, Permits, Ping, Progress, PutRequest, Reply, Report, Wanted, Wish, WorkerStatus, decode_records,
    decode_snapshot, encode_records, encode_snapshot,
};

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,20}"
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(|number| Value::Json(Json::parse(number.to_string()).unwrap())),
        "\\PC{0,40}".prop_map(|text| Value::json(&text.into())),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Value::Bytes(bytes.into())),
        (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, is_json)| {
            let form = if is_json { Form::Json } else { Form::Bytes };
            Value::Stored(Stored { digest: Digest::from_bytes(digest), size, form })
        }),
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
            expires_at: (number % 2 == 1).then(|| Timestamp::from_micros(u64::from(number) + 1)),
            signal_to: "waft.engine.a".into(),
            fetch_from: "waft.store.a".into(),
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let answer = prop_oneof![values().prop_map(Answer::Succeeded), failure().prop_map(Answer::Failed)];
    let signal = (call(), answer, proptest::option::of(name()), any::<bool>(), log()).prop_map(
        |(call, answer, worker, redelivered, log)| {
            let worker = worker.map(|worker| worker.parse().unwrap());
            Report::Signal(Signal { call, answer, execution: Execution::new(7), redelivered, worker }, log)
        },
    );
    let lease = (call(), name(), any::<bool>()).prop_map(|(call, worker, alive)| {
        let worker = worker.parse().unwrap();
        if alive { Report::Heartbeat { call, worker } } else { Report::Released { call, worker } }
    });
    let request =
        (name(), wish()).prop_map(|(run, wish)| Report::Request(protocol::Request { run: run.parse().unwrap(), wish }));
    let probe = (name(), any::<u64>()).prop_map(|(engine, number)| Report::Probe { engine, number });
    let progress = (call(), name(), proptest::option::of(0.0..1.0), proptest::option::of("\\PC{0,20}")).prop_map(
        |(call, worker, fraction, message)| {
            Report::Progress(Progress { call, worker: worker.parse().unwrap(), fraction, message })
        },
    );
    let granted = (name(), name(), any::<u64>(), proptest::collection::vec(call(), 0..3)).prop_map(
        |(flow, engine, number, calls)| {
            let (flow, task) = (flow.parse().unwrap(), "t".parse().unwrap());
            Report::Granted(Granted { flow, task, engine, number, calls })
        },
    );
    prop_oneof![signal, progress, lease, request, probe, granted]
}

fn permits() -> impl Strategy<Value = Permits> {
    let pace = (any::<u32>(), any::<u32>(), 0..Per::ALL.len()).prop_map(|(most, count, per)| Pace {
        max_running: NonZeroU32::new(most),
        rate: NonZeroU32::new(count).map(|count| Rate { count, per: Per::ALL[per] }),
    });
    let calls = || proptest::collection::vec((call(), any::<i32>()), 0..3);
    let claims = (name(), name(), any::<u64>(), pace, calls(), calls(), any::<bool>()).prop_map(
        |(shard, engine, number, pace, held, wanted, asks)| {
            let (shard, since) = (shard.parse().unwrap(), Timestamp::from_micros(number));
            let (held, unread) = held.into_iter().map(|(call, _): (CallId, i32)| (call.clone(), call.run)).unzip();
            let wanted = wanted.into_iter().map(|(call, priority)| Wanted { call, priority }).collect();
            Permits::Claims(Claims { shard, engine, since, number, pace, unread, asks, held, wanted })
        },
    );
    let kept = (name(), any::<u64>(), calls()).prop_map(|(keeper, number, calls)| {
        let (shard, engine) = ("0".parse().unwrap(), "e");
        let permit = |(call, _)| Permit { call, shard: Shard::clone(&shard), engine: engine.into(), asked: number };
        let permits = calls.into_iter().map(permit).collect();
        Permits::Kept(Kept { keeper, number, free_at: Timestamp::from_micros(number), permits })
    });
    let beat = (name(), any::<u64>()).prop_map(|(keeper, number)| Permits::Beat(Beat { keeper, number }));
    prop_oneof![claims, kept, beat]
}

fn log() -> impl Strategy<Value = CallLog> {
    (proptest::collection::vec((name(), "\\PC{1,20}"), 0..3), any::<bool>()).prop_map(|(lines, cut)| CallLog {
        lines: lines.into_iter().map(|(level, text)| LogLine { level, text }).collect(),
        cut,
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        Just(Wish::Cancel),
        Just(Wish::Suspend),
        Just(Wish::Resume),
        Just(Wish::Retry),
        (name(), "\\PC{0,20}").prop_map(|(task, reason)| Wish::Skip { task: task.parse().unwrap(), reason }),
        (name(), values()).prop_map(|(task, values)| {
            let key = (task.len() % 2 == 0).then(|| task.clone());
            Wish::Notify { task: task.parse().unwrap(), answer: Answer::Succeeded(values), key }
        }),
        (name(), failure()).prop_map(|(task, failure)| Wish::Notify {
            task: task.parse().unwrap(),
            answer: Answer::Failed(failure),
            key: None
        }),
    ]
}

fn attempt() -> impl Strategy<Value = NodeAttempt> {
    any::<(u32, u64, u32)>().prop_map(|(node, firing, attempt)| NodeAttempt {
        node: NodeIndex(node),
        firing: Firing::new(firing),
        attempt: Attempt::new(attempt),
    })
}

fn record() -> impl Strategy<Value = Record> {
    let worker = || proptest::option::of(name().prop_map(|name| name.parse().unwrap()));
    let later = || proptest::option::of(any::<u64>().prop_map(Timestamp::from_micros));
    let action = || prop_oneof![Just(Action::Apply), Just(Action::Rollback)];
    let node = || any::<u32>().prop_map(NodeIndex);
    let fact = prop_oneof![
        Just(Fact::RunStarted { flow: flow(), revision: Revision::new(3) }),
        (attempt(), action()).prop_map(|(attempt, action)| Fact::Started { attempt, action }),
        (attempt(), values(), any::<u64>(), worker()).prop_map(|(attempt, provided, execution, worker)| {
            let execution = Execution::new(execution);
            Fact::Succeeded { attempt, provided, execution, worker }
        }),
        (attempt(), failure(), later(), any::<bool>(), worker()).prop_map(
            |(attempt, failure, retry_at, redelivered, worker)| Fact::Failed {
                attempt,
                failure,
                retry_at,
                execution: redelivered.then(|| Execution::new(9)),
                redelivered,
                worker
            }
        ),
        (attempt(), action(), name()).prop_map(|(attempt, action, worker)| Fact::Leased {
            attempt,
            action,
            worker: worker.parse().unwrap()
        }),
        (attempt(), action(), worker()).prop_map(|(attempt, action, worker)| Fact::Lost { attempt, action, worker }),
        (attempt(), action(), proptest::option::of(outcome()), worker()).prop_map(
            |(attempt, action, outcome, worker)| Fact::Late {
                attempt,
                action,
                execution: Some(Execution::new(3)),
                outcome,
                worker
            }
        ),
        (attempt(), worker()).prop_map(|(attempt, worker)| Fact::RolledBack { attempt, worker }),
        (attempt(), failure(), later(), worker()).prop_map(|(attempt, failure, retry_at, worker)| {
            Fact::RollbackFailed { attempt, failure, retry_at, worker }
        }),
        node().prop_map(|node| Fact::PassedRollback { node }),
        node().prop_map(|node| Fact::RollbackRetried { node }),
        (node(), "\\PC{0,20}").prop_map(|(node, reason)| Fact::RollbackSkipped { node, reason }),
        (node(), proptest::option::of(any::<u32>())).prop_map(|(node, scope)| Fact::Resolved {
            node,
            resolution: scope.map_or(Resolution::RollbackRun, |scope| Resolution::Retry(ScopeIndex(scope))),
        }),
        (node(), any::<u32>(), proptest::option::of(value())).prop_map(|(node, attempt, value)| {
            let list = Some(vec![Json::parse("[1,\"a\"]").unwrap(), Json::parse("null").unwrap()]);
            Fact::ControllerRan { node, attempt: Attempt::new(attempt), value, list }
        }),
        (node(), any::<u32>(), failure()).prop_map(|(node, attempt, failure)| Fact::NotStarted {
            node,
            attempt: Attempt::new(attempt),
            failure
        }),
        node().prop_map(|node| Fact::Retrying { node }),
        node().prop_map(|node| Fact::Begun { node }),
        (node(), reach()).prop_map(|(node, reach)| Fact::Ignored { node, reach }),
        Just(Fact::RunStarted { flow: later_flow(), revision: Revision::FIRST }),
        (node(), any::<u64>()).prop_map(|(node, at)| Fact::Delayed { node, until: Timestamp::from_micros(at) }),
        Just(Fact::Expired),
        Just(Fact::RunStarted { flow: living_flow(), revision: Revision::FIRST }),
        (any::<u64>(), node(), trigger(), values()).prop_map(|(firing, entry, by, values)| Fact::Fired {
            firing: Firing::new(firing),
            entry,
            by,
            values
        }),
        (any::<u32>(), "\\PC{0,20}").prop_map(|(turn, reason)| Fact::Unfired { turn, reason }),
        (node(), proptest::collection::vec(any::<u32>(), 0..4)).prop_map(|(node, list)| {
            let list = list.into_iter().map(|number| Json::from(&number.into())).collect();
            Fact::Expanded { node, list }
        }),
        (any::<u32>(), proptest::option::of(any::<u64>()))
            .prop_map(|(schedule, next)| Fact::Scheduled { schedule, next: next.map(Timestamp::from_micros) }),
        Just(Fact::Edited { flow: later_flow(), revision: Revision::new(2) }),
        Just(Fact::Reset),
        Just(Fact::CancelRequested),
        Just(Fact::SuspendRequested),
        Just(Fact::Resumed),
        (0..RunState::ALL.len()).prop_map(|state| Fact::RunEntered { state: RunState::ALL[state] }),
    ];
    let firing = proptest::option::of(any::<u64>());
    (any::<u64>(), firing, fact).prop_map(|(at, firing, fact)| {
        let firing = firing.map(Firing::new);
        Record { at: Timestamp::from_micros(at), firing, fact }
    })
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        Just(Trigger::Start),
        any::<u32>().prop_map(Trigger::Turn),
        proptest::option::of("\\PC{0,20}").prop_map(|key| Trigger::Notified { key }),
        any::<u32>().prop_map(Trigger::Schedule),
    ]
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![Just(Reach::Task), Just(Reach::Neighbors), Just(Reach::Flow), Just(Reach::All)]
}

/// A flow with everything that the second format has added.
fn later_flow() -> Arc<Flow> {
    wired(&format!(
        "expires = \"7d\"\n{FLOW}{}",
        r#"
[[task]]
name = "alarm"
use = "g#t"
requires = { x = "failure" }
provides = []
[[link]]
from = "first"
to = "alarm"
on = "failure"
when = "failure.kind == 'timeout'"
[[link]]
from = "second"
to = "inner"
when = "size(list) > 2"
reach = "neighbors"
[[link]]
from = "first"
to = "second"
when = "first_y == 5"
reach = "task"
[[task]]
name = "approve"
wait = "approval"
provides = { by = "approved_by" }
deadline = "2d"
[[task]]
name = "later"
use = "g#t"
requires = { x = "approved_by" }
provides = []
start_after = "10m"
[[flow]]
name = "on-time"
start_at = 2027-01-31T08:00:00+01:00
"#
    ))
}

/// A flow with everything that the first format has.
fn flow() -> Arc<Flow> {
    wired(FLOW)
}

const FLOW: &str = r#"
name = "all"
retry = { for_each = ["a", 2], provides = "word" }
[modules]
g = "g.wasm"
[inputs]
list = [1, 2]
[[task]]
name = "first"
use = "g#t"
with = { x = { deep = [1.50] } }
provides = { y = "first_y" }
retry = { attempts = 3, backoff = "fixed", initial = "20ms", jitter = false }
queue = "ovens"
priority = -4
timeout = "3s"
[[task]]
name = "second"
use = "g#t"
requires = { x = "first_y" }
provides = []
[[flow]]
name = "inner"
retry = { for_each = "list", otherwise = "rollback-all" }
[[flow.task]]
name = "third"
use = "g#t"
requires = { x = "word" }
provides = []
"#;

/// A flow with every edit that there is.
fn edited_flow() -> Arc<Flow> {
    let node = |name: &str| name.parse().unwrap();
    let value = |name: &str| name.parse().unwrap();
    let edits = vec![
        Edit::Add { text: "[[task]]\nname = \"x\"\nuse = \"g#t\"\n".into() },
        Edit::Remove { task: node("second"), ran: true },
        Edit::Link {
            from: node("first"),
            to: node("x"),
            on: On::Any,
            when: Some(Condition::new("first_y == 5").unwrap()),
            reach: Some(Reach::Flow),
            join: Join::All,
        },
        Edit::Unlink { from: node("first"), to: node("alarm") },
        Edit::Use { task: node("x"), uses: "g#t".into() },
        Edit::Set { task: node("x"), parameter: value("x"), value: Value::json(&7.into()) },
        Edit::Require { task: node("later"), parameter: value("x"), value: value("first_y") },
    ];
    let modules = BTreeMap::from([("g".to_owned(), Digest::from_bytes([9; 32]))]);
    let origin = Some(Arc::new(Origin { text: FLOW.into(), modules, edits }));
    let mut flow = Flow { origin, ..Arc::unwrap_or_clone(later_flow()) };
    flow.nodes[1].retired = true;
    Arc::new(flow)
}

/// A flow with everything that the third format has added.
fn living_flow() -> Arc<Flow> {
    let text = r#"
name = "pool"
persistent = true
cyclic = true
max_firings = 1000
max_parallel = 2
[modules]
g = "g.wasm"
[inputs]
list = [1]
[[task]]
name = "add"
use = "g#t"
requires = { x = "round" }
provides = { y = "round" }
max_running = 2
rate = "100/m"
[[task]]
name = "tell"
use = "g#t"
with = { x = 1 }
provides = []
[[task]]
name = "hear"
use = "g#t"
for_each = "list"
as = "each"
max_parallel = 3
expires = "1h"
requires = { x = "each" }
provides = []
[[link]]
from = "tell"
to = "add"
when = "list[0] == 1"
[[link]]
from = "tell"
to = "hear"
join = "any"
[[listen]]
flow = "create-server"
task = "kick-server"
on = "any"
to = "hear"
[[schedule]]
cron = "0 3 * * *"
zone = "Europe/Berlin"
overlap = "queue"
missed = "all"
to = "hear"
"#;
    let flow = Arc::unwrap_or_clone(wired(text));
    let node = |name: &str| name.parse().unwrap();
    let (from, to) = (node("tell"), node("hear"));
    let edits = vec![Edit::Link { from, to, on: On::Success, when: None, reach: None, join: Join::Any }];
    let modules = BTreeMap::from([("g".to_owned(), Digest::from_bytes([9; 32]))]);
    Arc::new(Flow { origin: Some(Arc::new(Origin { text: text.into(), modules, edits })), ..flow })
}

/// A run of that flow: one firing is under way, and one waits for its turn.
fn living_snapshot() -> Snapshot {
    let mut machine = Machine::new("r".parse().unwrap(), living_flow());
    let at = Timestamp::from_micros(1);
    machine.step(at, &Event::Start);
    for (task, key) in [("add", None), ("hear", Some("k1".to_owned())), ("tell", None)] {
        let round = ("round".parse().unwrap(), Value::json(&1.into()));
        let values = Values::from_iter((task == "add").then_some(round));
        machine.step(at, &Event::Notify { task: task.parse().unwrap(), answer: Answer::Succeeded(values), key });
    }
    let call = machine.calls_out().next().unwrap();
    let provided = Values::from([("y".parse().unwrap(), Value::json(&2.into()))]);
    let (answer, execution) = (Answer::Succeeded(provided), Execution::new(1));
    machine.step(at, &Event::Signal(Signal { call, answer, execution, redelivered: false, worker: None }));
    machine.snapshot()
}

fn wired(text: &str) -> Arc<Flow> {
    let parameter =
        |name: &str, optional| Parameter { name: name.parse().unwrap(), doc: String::new(), schema: None, optional };
    let task = TaskInfo {
        name: "t".parse().unwrap(),
        doc: String::new(),
        requires: vec![parameter("x", false), parameter("maybe", true)],
        provides: vec![Provided { name: "y".parse().unwrap(), doc: String::new(), schema: None }],
        rollback: Rollback::Guest { requires: vec![parameter("list", false)] },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([9; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).0)
}

/// A run of that flow after some answers.
fn snapshot(seed: u64) -> Snapshot {
    snapshot_of(flow(), seed)
}

fn snapshot_of(flow: Arc<Flow>, seed: u64) -> Snapshot {
    let mut machine = Machine::new("r".parse().unwrap(), flow);
    let mut at = Timestamp::from_micros(1);
    let mut out = machine.step(at, &Event::Start).commands;
    for turn in 0..seed % 20 {
        at = at.after(Duration::from_secs(1));
        let Some(call) = machine.calls_out().next() else { break };
        let event = match (seed >> turn) % 4 {
            0 => Event::Lost { call, worker: "w".parse().unwrap() },
            1 => Event::Leased { call, worker: "w".parse().unwrap() },
            2 => {
                let answer = Answer::Failed(Failure::new(FailureKind::Transient, "no"));
                Event::Signal(Signal { call, answer, execution: Execution::new(turn), redelivered: true, worker: None })
            }
            _ => {
                let answer = Answer::Succeeded([("y".parse().unwrap(), Value::json(&5.into()))].into());
                Event::Signal(Signal {
                    call,
                    answer,
                    execution: Execution::new(turn),
                    redelivered: false,
                    worker: None,
                })
            }
        };
        out.extend(machine.step(at, &event).commands);
    }
    assert!(!out.is_empty());
    machine.snapshot()
}

proptest! {
    // A case that failed becomes a test by its name.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_survives_a_round_trip(job in job()) {
        prop_assert_eq!(Job::decode(&job.encode()), Ok(job));
    }

    #[test]
    fn every_report_survives_a_round_trip(report in report()) {
        prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
    }

    #[test]
    fn every_word_about_permits_survives_a_round_trip(permits in permits()) {
        prop_assert_eq!(Permits::decode(&permits.encode()), Ok(permits));
    }

    #[test]
    fn every_record_survives_a_round_trip(records in proptest::collection::vec(record(), 0..4)) {
        prop_assert_eq!(decode_records(&encode_records(&records)), Ok(records));
    }

    #[test]
    fn every_snapshot_survives_a_round_trip(seed in any::<u64>()) {
        for snapshot in [snapshot(seed), snapshot_of(later_flow(), seed), living_snapshot()] {
            prop_assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)), Ok(snapshot));
        }
    }

    #[test]
    fn every_log_survives_a_round_trip(log in log()) {
        prop_assert_eq!(CallLog::decode(&log.encode()), Ok(log));
    }

    #[test]
    fn every_reply_survives_a_round_trip(state in 0..RunState::ALL.len(), reason in "\\PC{0,20}") {
        let state = RunState::ALL[state];
        for reply in [Reply::Recorded(state), Reply::Meaningless(state), Reply::Missing, Reply::Failed(reason.clone()), Reply::Refused(reason)] {
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
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
            FetchAnswer::Kept,
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
        for magic in [&b""[..], b"wL\x01", b"wL\x02", b"wL\x03", b"wN\x01", b"wN\x02", b"wN\x03", b"wO\x01", b"wQ\x01", b"wP\x01", b"wJ\x01", b"wJ\x02", b"wR\x01", b"wC\x01", b"wS\x01", b"wF\x01", b"wA\x01", b"wK\x01"] {
            let bytes = [magic, &bytes].concat();
            let _ = (Job::decode(&bytes), Report::decode(&bytes), Control::decode(&bytes), WorkerStatus::decode(&bytes));
            let _ = (FetchRequest::decode(&bytes), FetchReply::decode(&bytes), PutRequest::decode(&bytes).is_ok());
            let _ = (decode_records(&bytes), decode_snapshot(&bytes), Permits::decode(&bytes), CallLog::decode(&bytes), Reply::decode(&bytes));
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
    assert_eq!(error, DecodeError::Version { what: "job", version: 9, known: 2 });
    assert_eq!(error.to_string(), "a job of format version 9; this waft reads up to 2: upgrade it");
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
        expires_at: None,
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
    let mut log = CallLog::default();
    log.push("info", "stirring");
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
        (Some(7), Fact::Expanded { node: NodeIndex(3), list: vec![Json::parse("1").unwrap()] }),
        (None, Fact::Unfired { turn: 0, reason: "its condition says no".into() }),
        (Some(7), Fact::RunEntered { state: RunState::Success }),
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
            || Reply::decode(&bytes).is_ok();
        assert!(known, "{} no longer decodes", path.display());
    }
}
