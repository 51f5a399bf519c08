//! A flow as bytes: what the first record of a run and every snapshot hold.

mod more;
mod origin;

use std::{sync::Arc, time::Duration};

use flow::{
    Audience, Backoff, Controller, Digest, Export, Flow, FlowName, Input, Json, Node, NodeIndex, NodeName, Otherwise,
    Pace, QueueName, RetryPolicy, Role, Scope, ScopeIndex, Source, Strategy, Task, ValueName,
};

pub(crate) use self::more::{WireMore, WirePace, WireReach, more_to_wire};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Unlawful, WireLimits, WireValue, WireValues, unlawful, value_from_wire, values_from_wire, values_to_wire},
};

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireFlow<'a> {
    name: &'a str,
    nodes: Vec<WireNode<'a>>,
    scopes: Vec<WireScope>,
    inputs: WireValues<'a>,
}

#[derive(Encode, BorrowDecode)]
struct WireScope {
    parent: Option<u32>,
    begin: u32,
    end: u32,
}

#[derive(Encode, BorrowDecode)]
struct WireNode<'a> {
    name: &'a str,
    scope: u32,
    role: WireRole<'a>,
    before: Vec<u32>,
    after: Vec<u32>,
}

#[derive(Encode, BorrowDecode)]
enum WireRole<'a> {
    Task(WireTask<'a>),
    Controller(WireController<'a>),
    Begin,
    End,
}

#[derive(Encode, BorrowDecode)]
struct WireTask<'a> {
    module: [u8; 32],
    export: Option<&'a str>,
    inputs: Vec<WireInput<'a>>,
    provides: Vec<(&'a str, &'a str)>,
    rollback: bool,
    retry: WireRetry,
    limits: WireLimits,
    queue: &'a str,
    priority: i32,
}

#[derive(Encode, BorrowDecode)]
struct WireInput<'a> {
    parameter: &'a str,
    source: WireSource<'a>,
    optional: bool,
    rollback_only: bool,
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireSource<'a> {
    Constant(WireValue<'a>),
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
    Failure(Vec<u32>),
    // From here on what the third version of the format has added.
    Carried { nodes: Vec<u32>, value: &'a str, first: WireFirst<'a> },
    Element,
}

/// Where what comes round comes from the first time: a source that is not such itself.
#[derive(Encode, BorrowDecode)]
pub(crate) enum WireFirst<'a> {
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
}

#[derive(Encode, BorrowDecode)]
struct WireRetry {
    attempts: u32,
    exponential: bool,
    initial_micros: u64,
    max_micros: u64,
    jitter: bool,
}

#[derive(Encode, BorrowDecode)]
struct WireController<'a> {
    strategy: WireStrategy<'a>,
    list: Option<WireSource<'a>>,
    rollback_all: bool,
    provides: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
enum WireStrategy<'a> {
    Times(u32),
    ForEach(Vec<&'a str>),
    ForEachOf(&'a str),
    Always,
}

impl<'a> From<&'a Flow> for WireFlow<'a> {
    fn from(flow: &'a Flow) -> Self {
        let scope = |scope: &Scope| WireScope {
            parent: scope.parent.map(|parent| parent.0),
            begin: scope.begin.0,
            end: scope.end.0,
        };
        Self {
            name: flow.name.as_str(),
            nodes: flow.nodes.iter().map(WireNode::from).collect(),
            scopes: flow.scopes.iter().map(scope).collect(),
            inputs: values_to_wire(&flow.inputs),
        }
    }
}

impl<'a> From<&'a Node> for WireNode<'a> {
    fn from(node: &'a Node) -> Self {
        let indices = |nodes: &[NodeIndex]| nodes.iter().map(|node| node.0).collect();
        Self {
            name: node.name.as_str(),
            scope: node.scope.0,
            role: match &node.role {
                Role::Task(task) => WireRole::Task((&**task).into()),
                Role::Controller(controller) => WireRole::Controller(controller.into()),
                // What it is stands among what the first format cannot say.
                Role::ForEach(each) => WireRole::Task((&each.task).into()),
                Role::Begin | Role::Wait(_) => WireRole::Begin,
                // No flow that travels has the elements of a list: a run gives them to it.
                Role::End | Role::Gather(_) | Role::Element(_) => WireRole::End,
            },
            before: indices(&node.before),
            after: indices(&node.after),
        }
    }
}

impl<'a> From<&'a Task> for WireTask<'a> {
    fn from(task: &'a Task) -> Self {
        let input = |input: &'a Input| WireInput {
            parameter: input.parameter.as_str(),
            source: (&input.source).into(),
            optional: input.optional,
            rollback_only: input.audience == Audience::Rollback,
        };
        Self {
            module: *task.module.as_bytes(),
            export: task.export.as_ref().map(Export::as_str),
            inputs: task.inputs.iter().map(input).collect(),
            provides: task.provides.iter().map(|(own, flows)| (own.as_str(), flows.as_str())).collect(),
            rollback: task.rollback,
            retry: WireRetry {
                attempts: task.retry.attempts,
                exponential: task.retry.backoff == Backoff::Exponential,
                initial_micros: micros(task.retry.initial),
                max_micros: micros(task.retry.max),
                jitter: task.retry.jitter,
            },
            limits: task.limits.into(),
            queue: task.queue.as_str(),
            priority: task.priority,
        }
    }
}

impl<'a> From<&'a Source> for WireSource<'a> {
    fn from(source: &'a Source) -> Self {
        match source {
            Source::Constant(value) => Self::Constant(value.into()),
            Source::Node { node, value } => Self::Node { node: node.0, value: value.as_str() },
            Source::RunInput(name) => Self::RunInput(name.as_str()),
            Source::Element => Self::Element,
            Source::Absent => Self::Absent,
            Source::Failure(nodes) => Self::Failure(nodes.iter().map(|node| node.0).collect()),
            Source::Carried { nodes, value, first } => Self::Carried {
                nodes: nodes.iter().map(|node| node.0).collect(),
                value: value.as_str(),
                first: match &**first {
                    Source::Node { node, value } => WireFirst::Node { node: node.0, value: value.as_str() },
                    Source::RunInput(name) => WireFirst::RunInput(name.as_str()),
                    Source::Constant(_)
                    | Source::Element
                    | Source::Failure(_)
                    | Source::Carried { .. }
                    | Source::Absent => WireFirst::Absent,
                },
            },
        }
    }
}

impl<'a> From<&'a Controller> for WireController<'a> {
    fn from(controller: &'a Controller) -> Self {
        Self {
            strategy: match &controller.strategy {
                Strategy::Times(times) => WireStrategy::Times(*times),
                Strategy::ForEach(list) => WireStrategy::ForEach(list.iter().map(Json::as_str).collect()),
                Strategy::ForEachOf(name) => WireStrategy::ForEachOf(name.as_str()),
                Strategy::Always => WireStrategy::Always,
            },
            list: controller.list.as_ref().map(WireSource::from),
            rollback_all: controller.otherwise == Otherwise::RollbackAll,
            provides: controller.provides.as_ref().map(ValueName::as_str),
        }
    }
}

impl WireFlow<'_> {
    pub(crate) fn into_flow(self, more: WireMore<'_>) -> Result<Arc<Flow>, Unlawful> {
        let (nodes, scopes) = (self.nodes.len(), self.scopes.len());
        let node = |index: u32| {
            if (index as usize) < nodes { Ok(NodeIndex(index)) } else { Err(format!("there is no node {index}")) }
        };
        let scope = |index: u32| {
            if (index as usize) < scopes { Ok(ScopeIndex(index)) } else { Err(format!("there is no scope {index}")) }
        };
        let into_node = |wire: WireNode<'_>| {
            let indices = |wire: Vec<u32>| wire.into_iter().map(node).collect::<Result<_, _>>();
            Ok(Node {
                name: NodeName::new(wire.name).map_err(unlawful)?,
                scope: scope(wire.scope)?,
                role: match wire.role {
                    WireRole::Task(task) => Role::Task(Box::new(task.into_task(&node)?)),
                    WireRole::Controller(controller) => Role::Controller(controller.into_controller(&node)?),
                    WireRole::Begin => Role::Begin,
                    WireRole::End => Role::End,
                },
                starts: None,
                links: Vec::new(),
                retired: false,
                aside: false,
                before: indices(wire.before)?,
                after: indices(wire.after)?,
            })
        };
        let into_scope = |(index, wire): (usize, WireScope)| {
            let parent = wire.parent.map(scope).transpose()?;
            // A parent stands before its children, so that there is no circle; the whole flow has none.
            if parent.map_or(index != 0, |parent| parent.0 as usize >= index) {
                return Err(format!("scope {index} has no parent before it"));
            }
            Ok(Scope { parent, begin: node(wire.begin)?, end: node(wire.end)? })
        };
        if scopes == 0 {
            return Err("a flow has at least one scope".into());
        }
        let mut nodes: Vec<Node> = self.nodes.into_iter().map(into_node).collect::<Result<_, Unlawful>>()?;
        let said = more.tell(&mut nodes, &node)?;
        Ok(Arc::new(Flow {
            name: FlowName::new(self.name).map_err(unlawful)?,
            nodes,
            scopes: self.scopes.into_iter().enumerate().map(into_scope).collect::<Result<_, Unlawful>>()?,
            inputs: values_from_wire(self.inputs)?,
            expires: said.expires,
            origin: said.origin,
            living: said.living,
            listens: said.listens,
            accepts: said.accepts,
        }))
    }
}

fn provided((own, flows): (&str, &str)) -> Result<(ValueName, ValueName), Unlawful> {
    Ok((ValueName::new(own).map_err(unlawful)?, ValueName::new(flows).map_err(unlawful)?))
}

fn micros(pause: Duration) -> u64 {
    u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)
}

impl WireTask<'_> {
    fn into_task(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Task, Unlawful> {
        let input = |wire: WireInput<'_>| {
            Ok(Input {
                parameter: ValueName::new(wire.parameter).map_err(unlawful)?,
                source: wire.source.into_source(node)?,
                optional: wire.optional,
                audience: if wire.rollback_only { Audience::Rollback } else { Audience::Both },
            })
        };
        Ok(Task {
            module: Digest::from_bytes(self.module),
            export: self.export.map(Export::new).transpose().map_err(unlawful)?,
            inputs: self.inputs.into_iter().map(input).collect::<Result<_, Unlawful>>()?,
            provides: self.provides.into_iter().map(provided).collect::<Result<_, Unlawful>>()?,
            rollback: self.rollback,
            retry: RetryPolicy {
                attempts: self.retry.attempts,
                backoff: if self.retry.exponential { Backoff::Exponential } else { Backoff::Fixed },
                initial: Duration::from_micros(self.retry.initial_micros),
                max: Duration::from_micros(self.retry.max_micros),
                jitter: self.retry.jitter,
            },
            limits: self.limits.into(),
            queue: QueueName::new(self.queue).map_err(unlawful)?,
            priority: self.priority,
            pace: Pace::default(),
            expires: None,
            delivery_limit: None,
        })
    }
}

impl WireSource<'_> {
    fn into_source(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Source, Unlawful> {
        Ok(match self {
            Self::Constant(value) => Source::Constant(value_from_wire(value)?),
            Self::Node { node: index, value } => {
                Source::Node { node: node(index)?, value: ValueName::new(value).map_err(unlawful)? }
            }
            Self::RunInput(name) => Source::RunInput(ValueName::new(name).map_err(unlawful)?),
            Self::Absent => Source::Absent,
            Self::Element => Source::Element,
            Self::Failure(nodes) => Source::Failure(nodes.into_iter().map(node).collect::<Result<_, _>>()?),
            Self::Carried { nodes, value, first } => {
                let first = match first {
                    WireFirst::Node { node: index, value } => {
                        Source::Node { node: node(index)?, value: ValueName::new(value).map_err(unlawful)? }
                    }
                    WireFirst::RunInput(name) => Source::RunInput(ValueName::new(name).map_err(unlawful)?),
                    WireFirst::Absent => Source::Absent,
                };
                Source::Carried {
                    nodes: nodes.into_iter().map(node).collect::<Result<_, _>>()?,
                    value: ValueName::new(value).map_err(unlawful)?,
                    first: Box::new(first),
                }
            }
        })
    }
}

impl WireController<'_> {
    fn into_controller(self, node: &impl Fn(u32) -> Result<NodeIndex, Unlawful>) -> Result<Controller, Unlawful> {
        Ok(Controller {
            strategy: match self.strategy {
                WireStrategy::Times(times) => Strategy::Times(times),
                WireStrategy::ForEach(list) => {
                    Strategy::ForEach(list.into_iter().map(Json::parse).collect::<Result<_, _>>().map_err(unlawful)?)
                }
                WireStrategy::ForEachOf(name) => Strategy::ForEachOf(ValueName::new(name).map_err(unlawful)?),
                WireStrategy::Always => Strategy::Always,
            },
            list: self.list.map(|source| source.into_source(node)).transpose()?,
            otherwise: if self.rollback_all { Otherwise::RollbackAll } else { Otherwise::Rollback },
            provides: self.provides.map(ValueName::new).transpose().map_err(unlawful)?,
        })
    }
}
