//! The question to all workers how much of what a flow asks for they grant, and their answers. A worker says nothing else of its
//! grants.

use flow::{Access, Digest, FlowName, GrantedPart, NodeName, QueueName};

use crate::{
    DecodeError,
    access::{WireAccess, access_from_wire, access_to_wire},
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{Invalid, invalid},
};

/// The maximum number of things that a question asks for, in all its tasks together: each worker compares each of them with all
/// its grants. Tasks that ask for nothing count as one.
pub const MAX_ASKED_PARTS: usize = 1_000;

/// The maximum size of an answer, in bytes: enough for all parts, and for hundreds of queues. Answers have no seal, and whoever
/// asks receives all of them.
pub const MAX_GRANTS_ANSWER_BYTES: usize = 64 << 10;

/// A question to all workers.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantsQuestion {
    /// The queue for the answers.
    pub reply_to: String,
    /// The flow, with its namespace.
    pub flow: FlowName,
    /// Its tasks that ask for something.
    pub tasks: Vec<AskingTask>,
}

/// A task that asks for something.
#[derive(Debug, Clone, PartialEq)]
pub struct AskingTask {
    /// The task.
    pub task: NodeName,
    /// Its module.
    pub module: Digest,
    /// What it asks for.
    pub access: Access,
}

/// The answer of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantsAnswer {
    /// The queues that the worker consumes jobs from.
    pub queues: Vec<QueueName>,
    /// For each task of the question, how much is granted of each of its [parts](Access::parts).
    pub tasks: Vec<Vec<GrantedPart>>,
}

/// A question as a control message has it.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WireQuestion<'a> {
    reply_to: &'a str,
    flow: &'a str,
    tasks: Vec<(&'a str, [u8; 32], WireAccess)>,
}

#[derive(Encode, BorrowDecode)]
struct WireAnswer<'a> {
    queues: Vec<&'a str>,
    tasks: Vec<Vec<u8>>,
}

impl<'a> From<&'a GrantsQuestion> for WireQuestion<'a> {
    fn from(GrantsQuestion { reply_to, flow, tasks }: &'a GrantsQuestion) -> Self {
        let task = |AskingTask { task, module, access }: &'a AskingTask| {
            (task.as_str(), *module.as_bytes(), access_to_wire(access))
        };
        Self { reply_to, flow: flow.as_str(), tasks: tasks.iter().map(task).collect() }
    }
}

impl WireQuestion<'_> {
    pub(crate) fn into_question(self) -> Result<GrantsQuestion, Invalid> {
        let asked: usize = self.tasks.iter().map(|(_, _, access)| access.len().max(1)).sum();
        if asked > MAX_ASKED_PARTS {
            return Err(format!("it asks for {asked} grants, and {MAX_ASKED_PARTS} are allowed"));
        }
        let task = |(task, module, access): (&str, _, _)| {
            Ok::<_, Invalid>(AskingTask {
                task: NodeName::new(task).map_err(invalid)?,
                module: Digest::from_bytes(module),
                access: access_from_wire(access)?,
            })
        };
        Ok(GrantsQuestion {
            reply_to: self.reply_to.into(),
            flow: FlowName::new(self.flow).map_err(invalid)?,
            tasks: self.tasks.into_iter().map(task).collect::<Result<_, _>>()?,
        })
    }
}

impl GrantsAnswer {
    /// Encodes the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let number = |part: &GrantedPart| match part {
            GrantedPart::None => 0,
            GrantedPart::Some => 1,
            GrantedPart::All => 2,
        };
        let wire = WireAnswer {
            queues: self.queues.iter().map(QueueName::as_str).collect(),
            tasks: self.tasks.iter().map(|parts| parts.iter().map(number).collect()).collect(),
        };
        codec::encode(MessageKind::GRANTS_ANSWER, &wire)
    }

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no such answer of a known version, and for more than [`MAX_GRANTS_ANSWER_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let damaged = |reason| codec::damaged(MessageKind::GRANTS_ANSWER, reason);
        if bytes.len() > MAX_GRANTS_ANSWER_BYTES {
            return Err(damaged(format!("its {} bytes are more than {MAX_GRANTS_ANSWER_BYTES}", bytes.len())));
        }
        let wire: WireAnswer<'_> = codec::decode(MessageKind::GRANTS_ANSWER, bytes)?;
        wire.into_answer().map_err(damaged)
    }
}

impl WireAnswer<'_> {
    fn into_answer(self) -> Result<GrantsAnswer, Invalid> {
        let part = |number: u8| match number {
            0 => Ok(GrantedPart::None),
            1 => Ok(GrantedPart::Some),
            2 => Ok(GrantedPart::All),
            other => Err(codec::later(format!("part {other}"))),
        };
        let parts = |numbers: Vec<u8>| numbers.into_iter().map(part).collect::<Result<Vec<_>, Invalid>>();
        Ok(GrantsAnswer {
            queues: self.queues.into_iter().map(QueueName::new).collect::<Result<_, _>>().map_err(invalid)?,
            tasks: self.tasks.into_iter().map(parts).collect::<Result<_, _>>()?,
        })
    }
}
