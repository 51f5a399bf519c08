//! The tasks of a flow: what each calls or waits for, and the sources of its inputs.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use super::NodeIndex;
use crate::{Access, Digest, Export, Limits, Pace, QueueName, RetryPolicy, Value, ValueName};

/// A task that is called for each element of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForEach {
    /// The task of each call.
    pub task: Task,
    /// The source of the list.
    pub list: Source,
    /// The maximum number of parallel calls; further ones wait for their turn.
    pub max_parallel: Option<u32>,
}

/// A task that waits for a person, or for another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// A short description of the awaited event, for people.
    pub waits_for: String,
    /// The values that a notification must contain: the notification's name, and the flow's name.
    pub provides: BTreeMap<ValueName, ValueName>,
    /// The maximum wait before it fails; `None` means without limit.
    pub deadline: Option<Duration>,
}

/// The call of a task, with its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The module.
    pub module: Digest,
    /// The task in the module; `None` for a WASI command.
    pub export: Option<Export>,
    /// The source of each parameter, including those of `rollback` alone.
    pub inputs: Vec<Input>,
    /// The values that it provides: the task's name, and the flow's name.
    pub provides: BTreeMap<ValueName, ValueName>,
    /// Whether its rollback calls the guest.
    pub rollback: bool,
    /// The retry policy for a failed call.
    pub retry: RetryPolicy,
    /// The resource limits of a call.
    pub limits: Limits,
    /// What the flow asks for a call beyond its sandbox.
    pub access: Access,
    /// The queue of its jobs.
    pub queue: QueueName,
    /// The priority; higher runs first.
    pub priority: i32,
    /// The maximum of parallel applies, and their start rate: over all runs of flows of this name.
    pub pace: Pace,
    /// The maximum time that an apply may wait for a worker after its dispatch; `None` means without limit.
    pub expires: Option<Duration>,
    /// The number of workers that may be lost with one call of it before the call fails as poison; `None` means
    /// [`DELIVERY_LIMIT`], or the worker's configuration.
    pub delivery_limit: Option<NonZeroU32>,
}

impl Task {
    /// The maximum number of values that a task provides. A module that describes itself has no more either, and each job of a command
    /// names all of them.
    pub const MAX_PROVIDES: usize = 1_000;
}

/// The number of workers that may be lost with one call before it fails as poison, unless the task sets another.
pub const DELIVERY_LIMIT: NonZeroU32 = NonZeroU32::new(5).expect("it is not 0");

/// The largest delivery limit of a task: job queues have their own limit, which is higher.
pub const MAX_DELIVERY_LIMIT: u32 = 50;

/// One parameter of a task and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The task's name for it.
    pub parameter: ValueName,
    /// The source of the value.
    pub source: Source,
    /// Whether the task accepts a missing value.
    pub optional: bool,
    /// The calls that receive it.
    pub used_by: InputUse,
}

/// Whether a value may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requiredness {
    /// It may.
    Optional,
    /// It may not.
    Required,
}

/// The calls that receive an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputUse {
    /// `apply` and `rollback`.
    ApplyAndRollback,
    /// Only `rollback`.
    Rollback,
}

/// The source of a parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A constant in the flow.
    Constant(Value),
    /// A task or controller provides it.
    Node {
        /// The provider.
        node: NodeIndex,
        /// The flow's name for the value.
        value: ValueName,
    },
    /// The run starts with this input.
    RunInput(ValueName),
    /// The list element of the call.
    Element,
    /// The failure of the first of these nodes that failed.
    Failure(Vec<NodeIndex>),
    /// A loop-carried value: from the notification, or from the first of these nodes that provided it in the previous
    /// firing.
    LoopCarried {
        /// The providers, in the order of preference.
        nodes: Vec<NodeIndex>,
        /// The flow's name for the value.
        value: ValueName,
        /// The source in the first firing.
        initial: Box<Source>,
    },
    /// No node provides it, and the task does not need it.
    Absent,
}
