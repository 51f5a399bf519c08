//! Results that a namespace remembers: their keys, their messages in the logbook, and what the guest of such a task sees in
//! place of its run.
//!
//! The result of a task with `memo` is a function of its module, its export, its arguments and its inputs. So its guest sees
//! the same run, flow, task, firing, attempt, clock and randomness whoever calls it ([`MemoIdentity`]).

use flow::{
    Attempt, CallId, Digest, Export, Firing, FlowName, Namespace, NodeName, RunId, Task, Timestamp, Value, ValueKind,
    ValueName, Values,
};

use crate::{
    DecodeError, Job,
    codec::{self, BorrowDecode, Encode, MessageKind},
    limits::{WireLimits, limits_to_wire},
    wire::{Invalid, WireCall, WireValues, values_from_wire, values_to_wire},
};

/// What the guest of a task with `memo` sees as its time: 2000-01-01T00:00:00Z.
const TIME: Timestamp = Timestamp::from_micros(946_684_800_000_000);

/// The name that its flow and its task have for it.
const NAME: &str = "memo";

/// The purpose of the hash that is the key. Change it when the same inputs no longer lead to the same result, as after a
/// change of what the guest sees.
const KEY_CONTEXT: &str = "waft remembered result 1";

/// The purpose of the hash that names the run.
const IDENTITY_CONTEXT: &str = "waft call of a remembered result 1";

/// The key of a remembered result: a hash of all that the result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoKey([u8; 32]);

/// Where a result is remembered: no namespace sees the results of another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoAddress {
    /// The namespace of the flow; `None` for flows in no namespace, which share their results.
    pub namespace: Option<Namespace>,
    /// The key in it.
    pub key: MemoKey,
}

/// A remembered result.
#[derive(Debug, Clone, PartialEq)]
pub struct RememberedResult {
    /// The call that computed it.
    pub computed_by: CallId,
    /// When that was recorded.
    pub at: Timestamp,
    /// The values, by the module's names.
    pub values: Values,
}

/// What the guest of a task with `memo` sees of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoIdentity {
    /// The run: a name that follows from the module, the task and its inputs, and seeds the randomness.
    pub run: RunId,
    /// The flow.
    pub flow: FlowName,
    /// The task.
    pub task: NodeName,
    /// The firing.
    pub firing: Firing,
    /// The attempt.
    pub attempt: Attempt,
    /// The idempotency key.
    pub idempotency_key: String,
    /// The time that the wall clock shows.
    pub time: Timestamp,
}

/// All that a result depends on.
#[derive(Encode)]
struct KeyParts<'a> {
    namespace: Option<&'a str>,
    function: FunctionParts<'a>,
    /// The outputs that the guest had to leave.
    required_outputs: Vec<&'a str>,
    /// A guest can notice its limits: memory that does not grow, a deadline.
    limits: WireLimits,
    inputs: WireValues<'a>,
}

/// The function that a call computes.
#[derive(Encode)]
struct FunctionParts<'a> {
    module: [u8; 32],
    export: Option<&'a str>,
    arguments: &'a [String],
}

impl<'a> FunctionParts<'a> {
    fn new(module: &Digest, export: Option<&'a Export>, arguments: &'a [String]) -> Self {
        Self { module: *module.as_bytes(), export: export.map(Export::as_str), arguments }
    }
}

impl MemoKey {
    /// The key with these bytes, which a logbook has.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl MemoAddress {
    /// Where the result of an apply is remembered. The inputs are by the module's names; of a large one, only the digest counts.
    #[must_use]
    pub fn of_call(flow: &FlowName, task: &Task, inputs: &Values) -> Self {
        let namespace = flow.namespace();
        let Task { module, export, provides, limits, access, .. } = task;
        let parts = KeyParts {
            namespace: namespace.as_ref().map(Namespace::as_str),
            function: FunctionParts::new(module, export.as_ref(), &access.arguments),
            required_outputs: provides.keys().map(ValueName::as_str).collect(),
            limits: limits_to_wire(limits),
            inputs: values_to_wire(inputs),
        };
        let key = MemoKey(blake3::derive_key(KEY_CONTEXT, &codec::encode_part(&parts)));
        Self { namespace, key }
    }
}

impl MemoIdentity {
    /// The identity that the guest of an apply with `memo` sees; `None` for any other call. All values of the job are loaded.
    #[must_use]
    pub fn of_job(job: &Job) -> Option<Self> {
        if job.access.memo.is_none() || job.rollback.is_some() {
            return None;
        }
        let function = FunctionParts::new(&job.module, job.export.as_ref(), &job.access.arguments);
        let mut hasher = blake3::Hasher::new_derive_key(IDENTITY_CONTEXT);
        hasher.update(&codec::encode_part(&function));
        for (name, value) in &job.inputs {
            let (kind, content): (ValueKind, &[u8]) = match value {
                Value::Json(json) => (ValueKind::Json, json.as_str().as_bytes()),
                Value::Bytes(bytes) => (ValueKind::Bytes, bytes),
                // The guest would get no such value.
                Value::Stored(stored) => (stored.form, stored.digest.as_bytes()),
            };
            hasher.update(&codec::encode_part(&(name.as_str(), kind == ValueKind::Json, content.len() as u64)));
            hasher.update(content);
        }
        let hash = hasher.finalize().to_hex();
        let name = "a hash in hex digits, and a word, are names";
        Some(Self {
            run: RunId::new(&hash[..]).expect(name),
            flow: FlowName::new(NAME).expect(name),
            task: NodeName::new(NAME).expect(name),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            idempotency_key: hash.to_string(),
            time: TIME,
        })
    }
}

#[derive(Encode, BorrowDecode)]
struct WireRemembered<'a> {
    computed_by: WireCall<'a>,
    at_micros: u64,
    values: WireValues<'a>,
}

impl RememberedResult {
    /// The bytes that it takes: of its values, and of their content in the store.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.values.iter().map(|(name, value)| (name.as_str().len() + value.size()) as u64).fold(0, u64::saturating_add)
    }

    /// The digests of the values in the store.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.values.values().filter_map(Value::digest)
    }

    /// Encodes the result.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireRemembered {
            computed_by: (&self.computed_by).into(),
            at_micros: self.at.as_micros(),
            values: values_to_wire(&self.values),
        };
        codec::encode(MessageKind::REMEMBERED, &wire)
    }

    /// Decodes a result.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a remembered result of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let WireRemembered { computed_by, at_micros, values } = codec::decode(MessageKind::REMEMBERED, bytes)?;
        let damaged = |reason: Invalid| codec::damaged(MessageKind::REMEMBERED, reason);
        Ok(Self {
            computed_by: computed_by.into_call().map_err(damaged)?,
            at: Timestamp::from_micros(at_micros),
            values: values_from_wire(values).map_err(damaged)?,
        })
    }
}

#[cfg(test)]
mod tests;
