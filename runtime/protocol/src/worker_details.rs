//! What a worker answers about itself beside its status: whether it takes jobs, its slots, and the calls that it makes; and the message
//! that drains it.
//!
//! Control messages go through an exchange to which no worker may publish, so no worker drains another.

use std::{collections::BTreeMap, time::Duration};

use flow::{CallId, FlowName, Namespace, QueueName, WorkerName};

use crate::{
    DecodeError, WorkerStatus,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{Invalid, WireCall, invalid, micros, wire_enum},
};

/// The maximum number of calls that a worker lists.
pub const MAX_LISTED_CALLS: usize = 100;

/// The maximum number of queues with slots of their own that a worker lists.
pub const MAX_LISTED_QUEUES: usize = 100;

/// The maximum size of an answer, in bytes: enough for all listed calls and queues with names of the maximum length. Answers have no
/// seal, and whoever asks receives all of them.
pub const MAX_DETAILS_BYTES: usize = 64 << 10;

/// Asks each worker for its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailsQuestion {
    /// The queue for the answers.
    pub reply_to: String,
    /// Lists only calls of this namespace, and counts the others; without it, all calls are listed.
    pub namespace: Option<Namespace>,
}

/// Tells one worker whether to take jobs. It answers with its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainRequest {
    /// The queue for the answer.
    pub reply_to: String,
    /// The worker.
    pub worker: WorkerName,
    /// What it does.
    pub action: DrainAction,
}

/// What a worker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainAction {
    /// It takes no new jobs, ends its calls, and stays.
    Drain,
    /// It takes no new jobs, and exits once its calls have ended.
    DrainAndExit,
    /// It takes jobs again.
    Resume,
}

/// Whether a worker takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It takes jobs.
    Active,
    /// It takes no new jobs.
    Draining,
    /// It takes no new jobs, and exits once its calls have ended.
    Exiting,
}

/// The details of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerDetails {
    /// Its name.
    pub name: WorkerName,
    /// Distinguishes two workers of one name, as in [`WorkerStatus`].
    pub instance: String,
    /// Whether it takes jobs.
    pub state: WorkerState,
    /// Some of its queues, with the slots that each has of its own.
    pub own_slots: BTreeMap<QueueName, u32>,
    /// The calls that it makes.
    pub calls: WorkerCalls,
}

/// The calls that a worker makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerCalls {
    /// At most [`MAX_LISTED_CALLS`] of the wanted calls; those that have run longest come first.
    pub listed: Vec<WorkerCall>,
    /// The number of wanted calls that are not listed.
    pub unlisted: u32,
    /// The number of calls of other namespaces.
    pub of_others: u32,
}

/// A call that a worker makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCall {
    /// The flow of its run.
    pub flow: FlowName,
    /// The call.
    pub call: CallId,
    /// How long the worker has had it, by its own clock.
    pub running_for: Duration,
}

/// What is known of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedWorker {
    /// Its status.
    pub status: WorkerStatus,
    /// Its details; `None` if it has not answered, like a worker of an earlier version.
    pub details: Option<WorkerDetails>,
}

wire_enum! { WireDrainAction = DrainAction { Drain, DrainAndExit, Resume } }
wire_enum! { WireWorkerState = WorkerState { Active, Draining, Exiting } }

/// A question as a control message has it.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WireDetailsQuestion<'a> {
    reply_to: &'a str,
    namespace: Option<&'a str>,
}

/// A request as a control message has it.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WireDrainRequest<'a> {
    reply_to: &'a str,
    worker: &'a str,
    action: WireDrainAction,
}

#[derive(Encode, BorrowDecode)]
struct WireDetails<'a> {
    name: &'a str,
    instance: &'a str,
    state: WireWorkerState,
    own_slots: Vec<(&'a str, u32)>,
    calls: Vec<WireWorkerCall<'a>>,
    unlisted: u32,
    of_others: u32,
}

#[derive(Encode, BorrowDecode)]
struct WireWorkerCall<'a> {
    flow: &'a str,
    call: WireCall<'a>,
    running_for: u64,
}

impl<'a> From<&'a DetailsQuestion> for WireDetailsQuestion<'a> {
    fn from(DetailsQuestion { reply_to, namespace }: &'a DetailsQuestion) -> Self {
        Self { reply_to, namespace: namespace.as_ref().map(Namespace::as_str) }
    }
}

impl WireDetailsQuestion<'_> {
    pub(crate) fn into_question(self) -> Result<DetailsQuestion, Invalid> {
        Ok(DetailsQuestion {
            reply_to: self.reply_to.into(),
            namespace: self.namespace.map(Namespace::new).transpose().map_err(invalid)?,
        })
    }
}

impl<'a> From<&'a DrainRequest> for WireDrainRequest<'a> {
    fn from(DrainRequest { reply_to, worker, action }: &'a DrainRequest) -> Self {
        Self { reply_to, worker: worker.as_str(), action: (*action).into() }
    }
}

impl WireDrainRequest<'_> {
    pub(crate) fn into_request(self) -> Result<DrainRequest, Invalid> {
        Ok(DrainRequest {
            reply_to: self.reply_to.into(),
            worker: WorkerName::new(self.worker).map_err(invalid)?,
            action: self.action.into(),
        })
    }
}

impl WorkerDetails {
    /// Encodes the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { name, instance, state, own_slots, calls } = self;
        let wire = WireDetails {
            name: name.as_str(),
            instance,
            state: (*state).into(),
            own_slots: own_slots.iter().map(|(queue, slots)| (queue.as_str(), *slots)).collect(),
            calls: calls.listed.iter().map(WireWorkerCall::from).collect(),
            unlisted: calls.unlisted,
            of_others: calls.of_others,
        };
        codec::encode(MessageKind::WORKER_DETAILS, &wire)
    }

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a worker's details of a known version, and for more than [`MAX_DETAILS_BYTES`],
    /// [`MAX_LISTED_CALLS`] or [`MAX_LISTED_QUEUES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let damaged = |reason| codec::damaged(MessageKind::WORKER_DETAILS, reason);
        if bytes.len() > MAX_DETAILS_BYTES {
            return Err(damaged(format!("its {} bytes are more than {MAX_DETAILS_BYTES}", bytes.len())));
        }
        let wire: WireDetails<'_> = codec::decode(MessageKind::WORKER_DETAILS, bytes)?;
        wire.into_details().map_err(damaged)
    }
}

impl<'a> From<&'a WorkerCall> for WireWorkerCall<'a> {
    fn from(WorkerCall { flow, call, running_for }: &'a WorkerCall) -> Self {
        Self { flow: flow.as_str(), call: call.into(), running_for: micros(*running_for) }
    }
}

impl WireDetails<'_> {
    fn into_details(self) -> Result<WorkerDetails, Invalid> {
        for (count, max, what) in
            [(self.calls.len(), MAX_LISTED_CALLS, "calls"), (self.own_slots.len(), MAX_LISTED_QUEUES, "queues")]
        {
            if count > max {
                return Err(format!("it lists {count} {what}, and {max} are allowed"));
            }
        }
        let queue = |(queue, slots): (&str, u32)| Ok::<_, Invalid>((QueueName::new(queue).map_err(invalid)?, slots));
        let call = |WireWorkerCall { flow, call, running_for }: WireWorkerCall<'_>| {
            Ok::<_, Invalid>(WorkerCall {
                flow: FlowName::new(flow).map_err(invalid)?,
                call: call.into_call()?,
                running_for: Duration::from_micros(running_for),
            })
        };
        Ok(WorkerDetails {
            name: WorkerName::new(self.name).map_err(invalid)?,
            instance: self.instance.into(),
            state: self.state.into(),
            own_slots: self.own_slots.into_iter().map(queue).collect::<Result<_, _>>()?,
            calls: WorkerCalls {
                listed: self.calls.into_iter().map(call).collect::<Result<_, _>>()?,
                unlisted: self.unlisted,
                of_others: self.of_others,
            },
        })
    }
}

impl WorkerState {
    /// The name of the state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Exiting => "exiting",
        }
    }
}

impl WorkerCalls {
    /// The number of all calls.
    #[must_use]
    pub fn count(&self) -> u32 {
        let listed = u32::try_from(self.listed.len()).unwrap_or(u32::MAX);
        listed.saturating_add(self.unlisted).saturating_add(self.of_others)
    }
}

#[cfg(feature = "json")]
impl From<&DescribedWorker> for api::Worker {
    fn from(DescribedWorker { status, details }: &DescribedWorker) -> Self {
        let WorkerStatus { name, host, process, slots, busy, queues, version, instance: _ } = status;
        let details = details.as_ref();
        let calls = details.map(|details| details.calls.clone()).unwrap_or_default();
        let own_slots = details.map(|details| &details.own_slots).into_iter().flatten();
        Self {
            name: name.to_string(),
            host: Some(host.clone()),
            process: Some(*process),
            slots: *slots,
            own_slots: own_slots.map(|(queue, slots)| (queue.to_string(), *slots)).collect(),
            busy: *busy,
            queues: queues.iter().map(ToString::to_string).collect(),
            version: version.clone(),
            state: details.map(|details| details.state.as_str().into()),
            calls: calls.listed.iter().map(Into::into).collect(),
            more_calls: calls.unlisted,
            other_calls: calls.of_others,
        }
    }
}

#[cfg(feature = "json")]
impl From<&WorkerCall> for api::WorkerCall {
    fn from(WorkerCall { flow, call, running_for }: &WorkerCall) -> Self {
        Self {
            flow: flow.to_string(),
            run: call.run.to_string(),
            task: call.task.to_string(),
            firing: call.firing.get(),
            attempt: call.attempt.get(),
            call: call.action.into(),
            seconds: running_for.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn details(calls: usize, queues: usize) -> WorkerDetails {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let call = WorkerCall { flow: "f".parse().unwrap(), call, running_for: Duration::from_secs(1) };
        let queue = |number: usize| (format!("q{number}").parse::<QueueName>().unwrap(), 1);
        WorkerDetails {
            name: "w".parse().unwrap(),
            instance: "1".into(),
            state: WorkerState::Active,
            own_slots: (0..queues).map(queue).collect(),
            calls: WorkerCalls { listed: vec![call; calls], unlisted: 0, of_others: 0 },
        }
    }

    #[test]
    fn an_answer_with_too_many_calls_or_queues_is_refused() {
        let read = |calls, queues| WorkerDetails::decode(&details(calls, queues).encode());
        assert_eq!(read(MAX_LISTED_CALLS, MAX_LISTED_QUEUES), Ok(details(MAX_LISTED_CALLS, MAX_LISTED_QUEUES)));
        for (refused, what) in [(read(MAX_LISTED_CALLS + 1, 0), "calls"), (read(0, MAX_LISTED_QUEUES + 1), "queues")] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.ends_with(&format!("it lists 101 {what}, and 100 are allowed")), "{refused}");
        }
    }
}
