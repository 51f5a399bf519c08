//! Messages that are too large: the values of a job move to the store if possible, a job that is still too large fails its call, and any
//! other message is given up.

use std::collections::BTreeMap;

use broker::{Broker, Message, PublishError};
use flow::{
    Execution, Failure, FailureKind, MAX_INLINE_TOTAL_BYTES, Outcome, Signal, Size, TaskResult, Value, ValueName,
    Values,
};
use protocol::{CallLog, EngineSecret, Job, Report, topology as names};
use store::Store;
use tracing::{error, warn};

use crate::messages;

/// The position of a value in a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ValueSlot {
    Input(ValueName),
    Provided(ValueName),
}

/// The bytes of the values of a job that are in memory, however often the job has them.
pub(super) fn values_size(job: &Job) -> usize {
    let provided = job.rollback.as_ref().and_then(|(outcome, _)| outcome.provided());
    provided.into_iter().chain([&job.inputs]).flat_map(Values::values).map(Value::written_size).sum()
}

/// Encodes a job. If its values are more than a message may have, its largest values move to the store first: inputs come from many tasks, and
/// the task may take one value by many names. A value that cannot be stored stays in the message.
pub(super) async fn encode(store: &dyn Store, secret: &EngineSecret, mut job: Job) -> Vec<u8> {
    if values_size(&job) <= MAX_INLINE_TOTAL_BYTES {
        return job.encode();
    }
    let mut values: BTreeMap<ValueSlot, &mut Value> =
        job.inputs.iter_mut().map(|(name, value)| (ValueSlot::Input(name.clone()), value)).collect();
    if let Some((Outcome::Provided(provided), _)) = &mut job.rollback {
        values.extend(provided.iter_mut().map(|(name, value)| (ValueSlot::Provided(name.clone()), value)));
    }
    // Each of these contents is stored once.
    let mut stored: BTreeMap<ContentAddress, Value> = BTreeMap::new();
    for slot in store::values::too_large_for_message(values.iter().map(|(slot, value)| (slot, &**value))) {
        let Some(value) = values.get_mut(&slot) else { continue };
        let Some(address) = ContentAddress::of(value) else { continue };
        if let Some(known) = stored.get(&address) {
            **value = known.clone();
            continue;
        }
        if let Err(error) = store::values::put(store, value).await {
            warn!(call = %job.call, ?slot, %error, "a value of a large job could not be put into the store");
            break;
        }
        stored.insert(address, (**value).clone());
    }
    job.with_keys(secret).encode()
}

/// Where the content of a value is in memory: values that a job has by several names share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ContentAddress {
    start: usize,
    bytes: usize,
    is_json: bool,
}

impl ContentAddress {
    /// `None` for a value that is in the store already.
    fn of(value: &Value) -> Option<Self> {
        let (content, is_json) = match value {
            Value::Json(json) => (json.as_str().as_bytes(), true),
            Value::Bytes(bytes) => (&bytes[..], false),
            Value::Stored(_) => return None,
        };
        Some(Self { start: content.as_ptr().addr(), bytes: content.len(), is_json })
    }
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

#[cfg(test)]
mod tests {
    use flow::MAX_INLINE_BYTES;

    use super::*;

    #[tokio::test]
    async fn a_value_that_a_task_takes_by_many_names_moves_to_the_store() {
        let value = Value::Bytes(vec![7; MAX_INLINE_BYTES].into());
        let inputs: Values = (0..240).map(|number| (format!("p{number}").parse().unwrap(), value.clone())).collect();
        let (store, secret) = (store::Memory::new(), EngineSecret::new([7; 32]));
        let job = super::super::tests::job_with(inputs.clone());
        assert_eq!(values_size(&job), 240 * MAX_INLINE_BYTES);
        let encoded = encode(&store, &secret, job).await;
        assert!(encoded.len() < 1 << 20, "{}", encoded.len());
        let sent = Job::decode(&encoded).unwrap();
        assert_eq!(store::values::load_values(&store, sent.inputs).await, inputs, "and nothing is lost");
    }

    #[test]
    fn values_that_share_their_content_are_stored_once() {
        let value = Value::Bytes(vec![7; 10].into());
        assert_eq!(ContentAddress::of(&value), ContentAddress::of(&value.clone()));
        assert_ne!(ContentAddress::of(&value), ContentAddress::of(&Value::Bytes(vec![7; 10].into())));
    }
}
