//! Strategies that generate any message, for the property tests.

pub(crate) mod operators;

use std::{num::NonZeroU32, time::Duration};

use flow::{
    Access, Action, Attempt, CallId, ClockShift, Digest, Execution, Failure, FailureKind, FailureSummary, Firing,
    GrantedPart, Json, Labels, Limits, NodeIndex, NotificationOutcome, Outcome, Pace, Per, Rate, Revision, RunState,
    Shard, Signal, SkipReach, SkipReason, Stored, TaskNotification, TaskResult, Timestamp, Value, ValueKind, Values,
    graph::ScopeIndex,
};
use machine::{Fact, NodeAttempt, Record, Resolution, Trigger};
use proptest::prelude::*;
use protocol::{
    AskingTask, CallKeys, CallLog, CallUsage, Control, DetailsQuestion, DrainAction, DrainRequest, EngineSecret,
    GrantsAnswer, GrantsQuestion, HeartbeatNumber, HttpRecord, Job, Key, LogLine, Permit, PermitGrant, PermitMessage,
    PermitRequest, PermitSnapshot, PermitTick, PermitUpdate, PermitsQuestion, Ping, Progress, Report, RequestedCall,
    RunCommand, Seal, WithdrawnCall, WorkerStatus,
};

use crate::flows::{edited_flow, flow, linked_flow, long_lived_flow};

pub(crate) fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,20}"
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(|number| Value::Json(Json::parse(number.to_string()).unwrap())),
        "\\PC{0,40}".prop_map(|text| Value::json(&text.into())),
        deceptive_json().prop_map(|json| Value::json(&json)),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Value::Bytes(bytes.into())),
        (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, is_json)| {
            let form = if is_json { ValueKind::Json } else { ValueKind::Bytes };
            Value::Stored(Stored { digest: Digest::from_bytes(digest), size, form })
        }),
    ]
}

/// JSON that looks like an encoding of bytes or references, and JSON that does not.
pub(crate) fn deceptive_json() -> impl Strategy<Value = serde_json::Value> {
    let digest = serde_json::Value::from(format!("sha256:{}", "ab".repeat(32)));
    let leaf = prop_oneof![Just("dGVzdA==".into()), Just(digest), any::<u32>().prop_map(serde_json::Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let keys = ["base64", "digest", "size", "form", "$bytes", "$stored", "x"];
        let member = ((0..keys.len()).prop_map(move |key| keys[key].to_owned()), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..3).prop_map(serde_json::Value::from),
            proptest::collection::vec(member, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

pub(crate) fn values() -> impl Strategy<Value = Values> {
    proptest::collection::btree_map(name().prop_map(|name| name.parse().unwrap()), value(), 0..5)
}

pub(crate) fn call() -> impl Strategy<Value = CallId> {
    (name(), name(), any::<u64>(), any::<u32>(), any::<bool>()).prop_map(|(run, task, firing, attempt, apply)| CallId {
        run: run.parse().unwrap(),
        task: task.parse().unwrap(),
        firing: Firing::new(firing),
        attempt: Attempt::new(attempt),
        action: if apply { Action::Apply } else { Action::Rollback },
    })
}

pub(crate) fn failure() -> impl Strategy<Value = Failure> {
    (0..FailureKind::ALL.len(), "\\PC{0,60}", any::<bool>()).prop_map(|(kind, message, detailed)| Failure {
        details: detailed.then(|| Json::parse(r#"{"code":18446744073709551615}"#).unwrap()),
        ..Failure::new(FailureKind::ALL[kind], message)
    })
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![values().prop_map(Outcome::Provided), failure().prop_map(Outcome::Failed), Just(Outcome::Unknown),]
}

pub(crate) fn job() -> impl Strategy<Value = Job> {
    let failures = proptest::collection::btree_map(name().prop_map(|name| name.parse().unwrap()), failure(), 0..3);
    let summary = (failures, any::<u64>()).prop_map(|(first, total)| FailureSummary { first, total });
    let rollback = proptest::option::of((outcome(), summary));
    (call(), name(), any::<[u8; 32]>(), proptest::option::of(name()), values(), rollback, any::<u32>()).prop_map(
        |(call, flow, module, export, inputs, rollback, number)| Job {
            flow: flow.parse().unwrap(),
            module: Digest::from_bytes(module),
            export: export.map(|export| export.parse().unwrap()),
            required_outputs: inputs.keys().cloned().collect(),
            inputs,
            rollback,
            limits: Limits { timeout: Duration::from_millis(number.into()), ..Limits::default() },
            access: Access { clock: number % 5 == 1, random: number % 7 == 1, ..Access::default() },
            at: Timestamp::from_micros(number.into()),
            expires_at: (number % 2 == 1).then(|| Timestamp::from_micros(u64::from(number) + 1)),
            signal_to: "waft.engine.a".into(),
            fetch_from: "waft.store.a".into(),
            delivery_limit: NonZeroU32::new(number % 3),
            keys: CallKeys {
                call: EngineSecret::new(module).call_key(&call),
                contents: [(Digest::from_bytes(module), Key::NONE)].into(),
            },
            call,
        },
    )
}

pub(crate) fn report() -> impl Strategy<Value = Report> {
    let answer = prop_oneof![values().prop_map(TaskResult::Succeeded), failure().prop_map(TaskResult::Failed)];
    let signal = (call(), answer, proptest::option::of(name()), any::<bool>(), log()).prop_map(
        |(call, answer, worker, redelivered, log)| {
            let worker = worker.map(|worker| worker.parse().unwrap());
            Report::Signal(Signal { call, answer, execution: Execution::new(7), redelivered, worker }, log)
        },
    );
    let lease = (call(), name(), any::<[u64; 2]>(), 0..5).prop_map(|(call, worker, [execution, count], which)| {
        let number = HeartbeatNumber { execution: Execution::new(execution), count };
        let worker = worker.parse().unwrap();
        match which {
            0 => Report::Heartbeat { call, worker, number },
            1 => Report::Started { call, worker, number },
            2 => Report::AskStart { call },
            3 => Report::NotStarted {
                call,
                redeliveries: count as u32,
                unanswered: 7,
                sending: protocol::SendingId::new(count),
            },
            _ => Report::Released { call, worker },
        }
    });
    let request = (name(), run_command())
        .prop_map(|(run, command)| Report::Command(protocol::CommandRequest { run: run.parse().unwrap(), command }));
    let probe = (name(), any::<u64>()).prop_map(|(engine, number)| Report::Probe { engine, number });
    let progress = (call(), name(), proptest::option::of(0.0..1.0), proptest::option::of("\\PC{0,20}")).prop_map(
        |(call, worker, fraction, message)| {
            Report::Progress(Progress { call, worker: worker.parse().unwrap(), fraction, message })
        },
    );
    let grant = (name(), name(), any::<u64>(), proptest::collection::vec(call(), 0..3)).prop_map(
        |(flow, engine, number, calls)| {
            let (flow, task) = (flow.parse().unwrap(), "t".parse().unwrap());
            Report::PermitGrant(PermitGrant { flow, task, engine, number, calls })
        },
    );
    let after = proptest::option::of((name(), name()));
    let permits =
        (proptest::option::of(name()), proptest::option::of(name()), after).prop_map(|(namespace, flow, after)| {
            let namespace = namespace.map(|namespace| namespace.parse().unwrap());
            let flow = flow.map(|flow| flow.parse().unwrap());
            let after = after.map(|(flow, task)| (flow.parse().unwrap(), task.parse().unwrap()));
            Report::DescribePermits(PermitsQuestion { namespace, flow, after })
        });
    prop_oneof![signal, progress, lease, request, probe, grant, permits, Just(Report::DescribeEngine)]
}

pub(crate) fn permits() -> impl Strategy<Value = PermitMessage> {
    let pace = (any::<u32>(), any::<u32>(), 0..Per::ALL.len()).prop_map(|(max_running, count, per)| Pace {
        max_running: NonZeroU32::new(max_running),
        rate: NonZeroU32::new(count).map(|count| Rate { count, per: Per::ALL[per] }),
    });
    let calls = || proptest::collection::vec((call(), any::<i32>()), 0..3);
    let request = (name(), name(), any::<u64>(), pace, calls(), calls(), any::<bool>()).prop_map(
        |(shard, engine, number, pace, held, wanted, wants_reply)| {
            let (shard, since) = (shard.parse().unwrap(), Timestamp::from_micros(number));
            let (held, unloaded) = held.into_iter().map(|(call, _): (CallId, i32)| (call.clone(), call.run)).unzip();
            let wanted = wanted.into_iter().map(|(call, priority)| RequestedCall { call, priority }).collect();
            PermitMessage::Request(PermitRequest {
                shard,
                engine,
                since,
                number,
                pace,
                unloaded,
                wants_reply,
                held,
                wanted,
            })
        },
    );
    let snapshot = (name(), any::<u64>(), calls()).prop_map(|(coordinator, number, calls)| {
        let (shard, engine) = ("0".parse().unwrap(), "e");
        let permit =
            |(call, _)| Permit { call, shard: Shard::clone(&shard), engine: engine.into(), request_number: number };
        let permits = calls.into_iter().map(permit).collect();
        PermitMessage::Snapshot(PermitSnapshot {
            coordinator,
            number,
            free_at: Timestamp::from_micros(number),
            permits,
        })
    });
    let tick = (name(), any::<u64>())
        .prop_map(|(coordinator, number)| PermitMessage::Tick(PermitTick { coordinator, number }));
    let update = (name(), name(), any::<u64>(), any::<u64>(), calls(), calls()).prop_map(
        |(shard, engine, number, follows, released, wanted)| {
            let released = released.into_iter().map(|(call, _): (CallId, i32)| call).collect();
            let wanted = wanted.into_iter().map(|(call, priority)| RequestedCall { call, priority }).collect();
            PermitMessage::Update(PermitUpdate {
                shard: shard.parse().unwrap(),
                engine,
                number,
                follows,
                released,
                wanted,
            })
        },
    );
    prop_oneof![request, snapshot, tick, update]
}

pub(crate) fn log() -> impl Strategy<Value = CallLog> {
    let lines = proptest::collection::vec(("[a-z]{1,16}", "\\PC{1,20}"), 0..3);
    (lines, any::<bool>(), any::<Option<u32>>()).prop_map(|(lines, cut, number)| {
        let lines = lines.into_iter().map(|(level, text)| LogLine { level, text }).collect();
        let mut log = CallLog::default();
        (log.lines, log.cut) = (lines, cut);
        let memory = number.map(u64::from);
        log.usage =
            memory.map(|memory| CallUsage { memory, wall: Duration::from_micros(memory), ..CallUsage::default() });
        log.unrecorded.clock = number.is_some_and(|number| number % 2 == 0);
        let digest = Digest::from_bytes([7; 32]);
        log.http = number.map(|number| match number % 3 {
            0 => HttpRecord::Inline(vec![7; number as usize % 100]),
            _ => HttpRecord::Stored { digest, size: u64::from(number % 1_000) },
        });
        log
    })
}

pub(crate) fn run_command() -> impl Strategy<Value = RunCommand> {
    prop_oneof![
        Just(RunCommand::Cancel),
        Just(RunCommand::Suspend),
        Just(RunCommand::Resume),
        Just(RunCommand::Retry),
        (name(), "\\PC{0,20}").prop_map(|(task, reason)| RunCommand::Skip { task: task.parse().unwrap(), reason }),
        (name(), values()).prop_map(|(task, values)| {
            let key = (task.len() % 2 == 0).then(|| task.clone());
            RunCommand::Notify { task: task.parse().unwrap(), answer: TaskResult::Succeeded(values), key }
        }),
        Just(RunCommand::Edit { revision: Revision::new(4), flow: edited_flow() }),
        (name(), name(), "\\PC{0,20}", notification_outcome()).prop_map(|(flow, task, key, outcome)| {
            RunCommand::TaskNotification(TaskNotification {
                flow: flow.parse().unwrap(),
                task: task.parse().unwrap(),
                key,
                outcome,
            })
        }),
        (name(), failure()).prop_map(|(task, failure)| RunCommand::Notify {
            task: task.parse().unwrap(),
            answer: TaskResult::Failed(failure),
            key: None
        }),
    ]
}

fn notification_outcome() -> impl Strategy<Value = NotificationOutcome> {
    prop_oneof![values().prop_map(NotificationOutcome::Success), value().prop_map(NotificationOutcome::Failure)]
}

pub(crate) fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        name().prop_map(|reply_to| Control::Ping(Ping { reply_to })),
        call().prop_map(|call| Control::Interrupt { call, proof: Seal::NONE }),
        proptest::collection::vec(call(), 0..3).prop_map(|calls| {
            let withdrawn = |call| WithdrawnCall { call, proof: Seal::NONE };
            Control::Withdraw(calls.into_iter().map(withdrawn).collect())
        }),
        (call(), any::<bool>()).prop_map(|(call, wanted)| Control::MayStart { call, wanted, proof: Seal::NONE }),
        call().prop_map(|call| Control::UnknownKey { call, question: Seal::NONE }),
        (name(), name(), any::<[bool; 2]>()).prop_map(|(reply_to, flow, [clock, random])| {
            let access = Access { clock, random, ..Access::default() };
            let task = AskingTask { task: "t".parse().unwrap(), module: Digest::from_bytes([1; 32]), access };
            Control::ExplainGrants(GrantsQuestion { reply_to, flow: flow.parse().unwrap(), tasks: vec![task] })
        }),
        (name(), proptest::option::of(name())).prop_map(|(reply_to, namespace)| {
            let namespace = namespace.map(|namespace| namespace.parse().unwrap());
            Control::Details(DetailsQuestion { reply_to, namespace })
        }),
        (name(), name(), drain_action()).prop_map(|(reply_to, worker, action)| {
            Control::Drain(DrainRequest { reply_to, worker: worker.parse().unwrap(), action })
        }),
    ]
}

fn drain_action() -> impl Strategy<Value = DrainAction> {
    prop_oneof![Just(DrainAction::Drain), Just(DrainAction::DrainAndExit), Just(DrainAction::Resume)]
}

pub(crate) fn grants_answer() -> impl Strategy<Value = GrantsAnswer> {
    let part = prop_oneof![Just(GrantedPart::All), Just(GrantedPart::Some), Just(GrantedPart::None)];
    let tasks = proptest::collection::vec(proptest::collection::vec(part, 0..3), 0..3);
    let queues = proptest::collection::vec(name().prop_map(|queue| queue.parse().unwrap()), 0..3);
    (queues, tasks).prop_map(|(queues, tasks)| GrantsAnswer { queues, tasks })
}

pub(crate) fn status() -> impl Strategy<Value = WorkerStatus> {
    let queues = proptest::collection::vec(name().prop_map(|queue| queue.parse().unwrap()), 0..3);
    (name(), name(), name(), any::<[u32; 3]>(), queues, name()).prop_map(
        |(name, instance, host, [process, slots, busy], queues, version)| WorkerStatus {
            name: name.parse().unwrap(),
            instance,
            host,
            process,
            slots,
            busy,
            queues,
            version,
        },
    )
}

pub(crate) fn attempt() -> impl Strategy<Value = NodeAttempt> {
    any::<(u32, u64, u32)>().prop_map(|(node, firing, attempt)| NodeAttempt {
        node: NodeIndex(node),
        firing: Firing::new(firing),
        attempt: Attempt::new(attempt),
    })
}

fn node() -> impl Strategy<Value = NodeIndex> {
    any::<u32>().prop_map(NodeIndex)
}

fn fact_of_call() -> impl Strategy<Value = Fact> {
    let worker = || proptest::option::of(name().prop_map(|name| name.parse().unwrap()));
    let later = || proptest::option::of(any::<u64>().prop_map(Timestamp::from_micros));
    let action = || prop_oneof![Just(Action::Apply), Just(Action::Rollback)];
    prop_oneof![
        (attempt(), action()).prop_map(|(attempt, action)| Fact::Started { attempt, action }),
        (attempt(), values(), any::<u64>(), worker()).prop_map(|(attempt, provided, execution, worker)| {
            let execution = Execution::new(execution);
            Fact::Succeeded { attempt, provided, execution, worker }
        }),
        (attempt(), values(), call()).prop_map(|(attempt, provided, computed_by)| Fact::Remembered {
            attempt,
            provided,
            computed_by
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
            |(attempt, action, outcome, worker)| Fact::LateOutcome {
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
        (node(), any::<u32>(), failure()).prop_map(|(node, attempt, failure)| Fact::StartFailed {
            node,
            attempt: Attempt::new(attempt),
            failure
        }),
    ]
}

fn fact_of_node() -> impl Strategy<Value = Fact> {
    prop_oneof![
        node().prop_map(|node| Fact::RollbackNotNeeded { node }),
        node().prop_map(|node| Fact::RollbackRetried { node }),
        (node(), "\\PC{0,20}").prop_map(|(node, reason)| Fact::RollbackSkipped { node, reason }),
        (node(), proptest::option::of(any::<u32>())).prop_map(|(node, scope)| Fact::FailureResolved {
            node,
            resolution: scope.map_or(Resolution::RollbackRun, |scope| Resolution::Retry(ScopeIndex(scope))),
        }),
        (node(), any::<u32>(), proptest::option::of(value())).prop_map(|(node, attempt, value)| {
            let list = Some(vec![Json::parse("[1,\"a\"]").unwrap(), Json::parse("null").unwrap()]);
            Fact::ControllerRan { node, attempt: Attempt::new(attempt), value, list }
        }),
        node().prop_map(|node| Fact::Retrying { node }),
        node().prop_map(|node| Fact::ScopeStarted { node }),
        (node(), reach()).prop_map(|(node, reach)| Fact::Ignored { node, reach }),
        (node(), any::<u64>()).prop_map(|(node, at)| Fact::Delayed { node, until: Timestamp::from_micros(at) }),
        (node(), proptest::collection::vec(any::<u32>(), 0..4)).prop_map(|(node, list)| {
            let list = list.into_iter().map(|number| Json::from(&number.into())).collect();
            Fact::Expanded { node, list }
        }),
    ]
}

fn fact_of_trigger() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (any::<u64>(), node(), trigger(), values()).prop_map(|(firing, entry, by, values)| Fact::Triggered {
            firing: Firing::new(firing),
            entry,
            by,
            values
        }),
        (any::<u32>(), "\\PC{0,20}").prop_map(|(back_edge, reason)| Fact::BackEdgeSkipped { back_edge, reason }),
        (any::<u32>(), proptest::option::of(any::<u64>()))
            .prop_map(|(schedule, next)| Fact::Scheduled { schedule, next: next.map(Timestamp::from_micros) }),
        (node(), trigger(), 0..SkipReason::ALL.len(), any::<u64>()).prop_map(|(entry, by, reason, count)| {
            Fact::TriggerSkipped { entry, by, reason: SkipReason::ALL[reason], count }
        }),
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(schedule, from, until)| Fact::BacklogAdded {
            schedule,
            from: Timestamp::from_micros(from),
            until: Timestamp::from_micros(until),
        }),
        (any::<u32>(), proptest::option::of(any::<u64>()))
            .prop_map(|(schedule, next)| Fact::BacklogFired { schedule, next: next.map(Timestamp::from_micros) }),
        any::<i64>().prop_map(|by| Fact::ClockSet { by: ClockShift::from_micros(by) }),
        (node(), "\\PC{0,20}").prop_map(|(node, key)| Fact::NotificationReceived { node, key }),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[a-z0-9][a-z0-9._/-]{0,9}", "\\PC{0,20}", 0..=16)
        .prop_filter_map("a value may have a character that reorders text", |labels| Labels::of(labels).ok())
}

fn fact_of_run() -> impl Strategy<Value = Fact> {
    prop_oneof![
        Just(Fact::RunStarted { flow: flow(), revision: Revision::new(3), labels: Labels::default() }),
        labels().prop_map(|labels| Fact::RunStarted { flow: linked_flow(), revision: Revision::FIRST, labels }),
        Just(Fact::Expired),
        Just(Fact::RunStarted { flow: long_lived_flow(), revision: Revision::FIRST, labels: Labels::default() }),
        Just(Fact::Edited { flow: linked_flow(), revision: Revision::new(2) }),
        Just(Fact::Edited { flow: edited_flow(), revision: Revision::new(3) }),
        Just(Fact::Reset),
        Just(Fact::CancelRequested),
        Just(Fact::SuspendRequested),
        Just(Fact::Resumed),
        (0..RunState::ALL.len()).prop_map(|state| Fact::RunStateChanged { state: RunState::ALL[state] }),
    ]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let fact = prop_oneof![fact_of_call(), fact_of_node(), fact_of_trigger(), fact_of_run()];
    let firing = proptest::option::of(any::<u64>());
    (any::<u64>(), firing, fact).prop_map(|(at, firing, fact)| {
        let firing = firing.map(Firing::new);
        Record { at: Timestamp::from_micros(at), firing, fact }
    })
}

pub(crate) fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        Just(Trigger::Start),
        any::<u32>().prop_map(Trigger::BackEdge),
        proptest::option::of("\\PC{0,20}").prop_map(|key| Trigger::Notification { key }),
        any::<u32>().prop_map(Trigger::Schedule),
    ]
}

pub(crate) fn reach() -> impl Strategy<Value = SkipReach> {
    prop_oneof![Just(SkipReach::Task), Just(SkipReach::Neighbors), Just(SkipReach::Flow), Just(SkipReach::All)]
}
