//! Messages for operators: about workers, engines and permits.

use std::{num::NonZeroU32, time::Duration};

use flow::{Pace, Rate};
use protocol::{
    Control, DetailsQuestion, DrainAction, DrainRequest, EngineStatus, PermitsAnswer, PermitsQuestion, Report,
    TaskPermits, WorkerCall, WorkerCalls, WorkerDetails, WorkerState, WorkerStatus,
};

use super::{Samples, call, secret, worker};

pub(super) fn samples() -> Samples {
    let status = WorkerStatus {
        name: worker(),
        instance: "a1".into(),
        host: "oven".into(),
        process: 4711,
        slots: 4,
        busy: 1,
        queues: vec!["default".parse().unwrap()],
        version: "0.1.0".into(),
    };
    vec![
        ("worker-status-1", status.encode()),
        ("details-1", Control::Details(details_question()).encode()),
        ("drain-1", Control::Drain(drain_request()).encode()),
        ("worker-details-1", worker_details().encode()),
        ("describe-engine-1", Report::DescribeEngine.encode_by_engine(&secret())),
        ("engine-status-1", engine_status().encode()),
        ("describe-permits-1", Report::DescribePermits(permits_question()).encode_by_engine(&secret())),
        ("permits-answer-1", permits_answer().encode()),
    ]
}

/// Whether bytes are an answer that only operators ask for.
pub(super) fn is_known(bytes: &[u8]) -> bool {
    WorkerStatus::decode(bytes).is_ok()
        || WorkerDetails::decode(bytes).is_ok()
        || EngineStatus::decode(bytes).is_ok()
        || PermitsAnswer::decode(bytes).is_ok()
}

fn permits_question() -> PermitsQuestion {
    let after = ("shop/bake-cake".parse().unwrap(), "choose-pan".parse().unwrap());
    PermitsQuestion { namespace: Some("shop".parse().unwrap()), flow: None, after: Some(after) }
}

fn permits_answer() -> PermitsAnswer {
    let permits = TaskPermits {
        flow: "shop/bake-cake".parse().unwrap(),
        task: "choose-pan".parse().unwrap(),
        pace: Pace { max_running: NonZeroU32::new(2), rate: Some(Rate::parse("10/m").unwrap()) },
        held: 3,
        waiting: 300,
        holders: vec![call()],
        next: Vec::new(),
    };
    PermitsAnswer { tasks: vec![permits] }
}

fn engine_status() -> EngineStatus {
    EngineStatus {
        engine: "e1".into(),
        host: "oven".into(),
        process: 4711,
        version: "0.1.0".into(),
        driving_for: Duration::from_millis(1_500),
        runs: 3,
        others: vec!["e2".into()],
    }
}

fn details_question() -> DetailsQuestion {
    DetailsQuestion { reply_to: "waft.reply.1".into(), namespace: Some("shop".parse().unwrap()) }
}

fn drain_request() -> DrainRequest {
    DrainRequest { reply_to: "waft.reply.1".into(), worker: worker(), action: DrainAction::DrainAndExit }
}

fn worker_details() -> WorkerDetails {
    let call =
        WorkerCall { flow: "shop/bake-cake".parse().unwrap(), call: call(), running_for: Duration::from_millis(1_500) };
    WorkerDetails {
        name: worker(),
        instance: "a1".into(),
        state: WorkerState::Draining,
        own_slots: [("shop/default".parse().unwrap(), 2)].into(),
        calls: WorkerCalls { listed: vec![call], unlisted: 3, of_others: 300 },
    }
}
