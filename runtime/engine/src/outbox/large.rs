//! Messages that are too large: the values of a job move to the store if possible, a job that is still too large fails its call, and any
//! other message is given up.

use std::collections::BTreeMap;

use broker::{Broker, Message, PublishError};
use flow::{Execution, Failure, FailureKind, Outcome, Signal, Size, TaskResult, Value, ValueName};
use protocol::{CallLog, EngineSecret, Job, Report, topology as names};
use store::Store;
use tracing::{error, warn};

use crate::messages;

/// A job with more bytes than this has its largest values moved to the store. Each value is small enough for a
/// message alone, but inputs come from many tasks.
const MAX_INLINE_JOB_BYTES: usize = 1 << 20;

/// The position of a value in a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ValueSlot {
    Input(ValueName),
    Provided(ValueName),
}

/// Moves the largest values of a large job to the store. A value that cannot be stored stays in the message.
pub(super) async fn move_large_values(store: &dyn Store, secret: &EngineSecret, message: &mut Message) {
    if message.exchange != names::JOBS || message.body.len() <= MAX_INLINE_JOB_BYTES {
        return;
    }
    let Ok(mut job) = Job::decode(&message.body) else { return };
    let mut values: BTreeMap<ValueSlot, &mut Value> =
        job.inputs.iter_mut().map(|(name, value)| (ValueSlot::Input(name.clone()), value)).collect();
    if let Some((Outcome::Provided(provided), _)) = &mut job.rollback {
        values.extend(provided.iter_mut().map(|(name, value)| (ValueSlot::Provided(name.clone()), value)));
    }
    for slot in store::values::too_large_for_message(values.iter().map(|(slot, value)| (slot, &**value))) {
        let Some(value) = values.get_mut(&slot) else { continue };
        if let Err(error) = store::values::put(store, value).await {
            warn!(call = %job.call, ?slot, %error, "a value of a large job could not be put into the store");
            break;
        }
    }
    message.body = job.with_keys(secret).encode().into();
}

/// Gives up a message that the broker never takes. A job fails its call; any other message is only logged.
pub(super) async fn give_up(broker: &dyn Broker, message: &Message, error: &PublishError) {
    let size = Size(message.body.len() as u64);
    error!(key = message.key, %size, error = %error, "a message is given up: the broker never takes it");
    if message.exchange != names::JOBS {
        return;
    }
    let Ok(job) = Job::decode(&message.body) else { return };
    let reason = format!("the job of this call has {size:#}, and could not be sent: {error}");
    let signal = Signal {
        call: job.call,
        answer: TaskResult::Failed(Failure::new(FailureKind::Permanent, reason)),
        // No worker executes it.
        execution: Execution::new(0),
        redelivered: false,
        worker: None,
    };
    let answer = messages::report(job.signal_to, &Report::Signal(signal, CallLog::default()), &job.keys);
    if let Err(error) = broker.publish(answer).await {
        warn!(%error, "the failure of a call could not be published; the call is sent again when its run is loaded");
    }
}
