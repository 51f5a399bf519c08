//! Which calls of a shard hold permits or wait for them: the question of an engine to the one that drives the shard, and its answer.

use flow::{CallId, FlowName, Namespace, NodeName, Pace};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    flow_wire::WirePace,
    wire::{Invalid, WireCall, invalid},
};

/// The maximum number of tasks in an answer.
pub const MAX_LISTED_TASKS: usize = 50;

/// The maximum number of calls of a task in an answer.
pub const MAX_LISTED_PERMITS: usize = 20;

/// Asks for the tasks whose calls hold permits or wait for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermitsQuestion {
    /// Only tasks of flows in this namespace.
    pub namespace: Option<Namespace>,
    /// Only tasks of this flow.
    pub flow: Option<FlowName>,
    /// Only tasks behind this one, in order of flow and task.
    pub after: Option<(FlowName, NodeName)>,
}

/// The first tasks of a shard that a question asks for, in order of flow and task: at most [`MAX_LISTED_TASKS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermitsAnswer {
    /// The tasks.
    pub tasks: Vec<TaskPermits>,
}

/// The calls of a task that hold permits or wait for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPermits {
    /// The flow.
    pub flow: FlowName,
    /// The task.
    pub task: NodeName,
    /// The strictest pace of these calls.
    pub pace: Pace,
    /// The number of calls that hold a permit.
    pub held: u64,
    /// The number of calls that wait for one.
    pub waiting: u64,
    /// Some calls that hold a permit, at most [`MAX_LISTED_PERMITS`].
    pub holders: Vec<CallId>,
    /// The calls that are next to get one, at most [`MAX_LISTED_PERMITS`].
    pub next: Vec<CallId>,
}

/// A question as a report has it.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WirePermitsQuestion<'a> {
    namespace: Option<&'a str>,
    flow: Option<&'a str>,
    after: Option<(&'a str, &'a str)>,
}

#[derive(Encode, BorrowDecode)]
struct WireAnswer<'a> {
    tasks: Vec<WireTaskPermits<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireTaskPermits<'a> {
    flow: &'a str,
    task: &'a str,
    pace: WirePace,
    held: u64,
    waiting: u64,
    holders: Vec<WireCall<'a>>,
    next: Vec<WireCall<'a>>,
}

impl<'a> From<&'a PermitsQuestion> for WirePermitsQuestion<'a> {
    fn from(PermitsQuestion { namespace, flow, after }: &'a PermitsQuestion) -> Self {
        Self {
            namespace: namespace.as_ref().map(Namespace::as_str),
            flow: flow.as_ref().map(FlowName::as_str),
            after: after.as_ref().map(|(flow, task)| (flow.as_str(), task.as_str())),
        }
    }
}

impl WirePermitsQuestion<'_> {
    pub(crate) fn into_question(self) -> Result<PermitsQuestion, Invalid> {
        let after = |(flow, task): (&str, &str)| {
            Ok::<_, Invalid>((FlowName::new(flow).map_err(invalid)?, NodeName::new(task).map_err(invalid)?))
        };
        Ok(PermitsQuestion {
            namespace: self.namespace.map(Namespace::new).transpose().map_err(invalid)?,
            flow: self.flow.map(FlowName::new).transpose().map_err(invalid)?,
            after: self.after.map(after).transpose()?,
        })
    }
}

impl PermitsAnswer {
    /// Encodes the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireAnswer { tasks: self.tasks.iter().map(WireTaskPermits::from).collect() };
        codec::encode(MessageKind::PERMITS_ANSWER, &wire)
    }

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no such answer of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireAnswer<'_> = codec::decode(MessageKind::PERMITS_ANSWER, bytes)?;
        let tasks = wire.tasks.into_iter().map(WireTaskPermits::into_permits).collect::<Result<_, _>>();
        let tasks = tasks.map_err(|reason| codec::damaged(MessageKind::PERMITS_ANSWER, reason))?;
        Ok(Self { tasks })
    }
}

impl<'a> From<&'a TaskPermits> for WireTaskPermits<'a> {
    fn from(permits: &'a TaskPermits) -> Self {
        let TaskPermits { flow, task, pace, held, waiting, holders, next } = permits;
        Self {
            flow: flow.as_str(),
            task: task.as_str(),
            pace: (*pace).into(),
            held: *held,
            waiting: *waiting,
            holders: holders.iter().map(WireCall::from).collect(),
            next: next.iter().map(WireCall::from).collect(),
        }
    }
}

impl WireTaskPermits<'_> {
    fn into_permits(self) -> Result<TaskPermits, Invalid> {
        Ok(TaskPermits {
            flow: FlowName::new(self.flow).map_err(invalid)?,
            task: NodeName::new(self.task).map_err(invalid)?,
            pace: self.pace.into_pace()?,
            held: self.held,
            waiting: self.waiting,
            holders: self.holders.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?,
            next: self.next.into_iter().map(WireCall::into_call).collect::<Result<_, _>>()?,
        })
    }
}
