//! Strategies that generate the answers for operators.

use std::{num::NonZeroU32, time::Duration};

use flow::{Pace, Per, Rate};
use proptest::prelude::*;
use protocol::{EngineStatus, PermitsAnswer, TaskPermits, WorkerCall, WorkerCalls, WorkerDetails, WorkerState};

use super::{call, name};

pub(crate) fn permits_answer() -> impl Strategy<Value = PermitsAnswer> {
    let pace = (any::<u32>(), any::<u32>(), 0..Per::ALL.len()).prop_map(|(max_running, count, per)| Pace {
        max_running: NonZeroU32::new(max_running),
        rate: NonZeroU32::new(count).map(|count| Rate { count, per: Per::ALL[per] }),
    });
    let calls = || proptest::collection::vec(call(), 0..3);
    let task = (name(), name(), pace, any::<[u64; 2]>(), calls(), calls()).prop_map(
        |(flow, task, pace, [held, waiting], holders, next)| {
            let (flow, task) = (flow.parse().unwrap(), task.parse().unwrap());
            TaskPermits { flow, task, pace, held, waiting, holders, next }
        },
    );
    proptest::collection::vec(task, 0..3).prop_map(|tasks| PermitsAnswer { tasks })
}

pub(crate) fn engine_status() -> impl Strategy<Value = EngineStatus> {
    let others = proptest::collection::vec(name(), 0..3);
    (name(), name(), name(), any::<u32>(), any::<[u64; 2]>(), others).prop_map(
        |(engine, host, version, process, [micros, runs], others)| EngineStatus {
            engine,
            host,
            process,
            version,
            driving_for: Duration::from_micros(micros),
            runs,
            others,
        },
    )
}

pub(crate) fn worker_details() -> impl Strategy<Value = WorkerDetails> {
    let state = prop_oneof![Just(WorkerState::Active), Just(WorkerState::Draining), Just(WorkerState::Exiting)];
    let listed = proptest::collection::vec(
        (name(), call(), any::<u64>()).prop_map(|(flow, call, micros)| WorkerCall {
            flow: flow.parse().unwrap(),
            call,
            running_for: Duration::from_micros(micros),
        }),
        0..3,
    );
    let queue = name().prop_map(|queue| queue.parse::<flow::QueueName>().unwrap());
    let own_slots = proptest::collection::btree_map(queue, any::<u32>(), 0..3);
    (name(), name(), state, own_slots, listed, any::<[u32; 2]>()).prop_map(
        |(name, instance, state, own_slots, listed, [unlisted, of_others])| WorkerDetails {
            name: name.parse().unwrap(),
            instance,
            state,
            own_slots,
            calls: WorkerCalls { listed, unlisted, of_others },
        },
    )
}
