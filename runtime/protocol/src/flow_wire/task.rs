//! The function that a task calls, its inputs and outputs, and its limits and pace.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use flow::{
    Backoff, Digest, Export, Pace, Per, QueueName, Rate, RetryPolicy, Task, ValueName,
    graph::{Input, InputUse, Role},
};

use super::{Bounds, source::WireSource};
use crate::{
    access::{WireAccess, access_from_wire, access_to_wire},
    codec::{BorrowDecode, Encode},
    limits::{WireLimits, limits_from_wire, limits_to_wire},
    wire::{Invalid, invalid, micros, wire_enum},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireTask<'a> {
    /// Index into the flow's modules.
    module: u32,
    export: Option<&'a str>,
    inputs: Vec<WireInput<'a>>,
    provides: Vec<(&'a str, &'a str)>,
    rollback: bool,
    retry: WireRetry,
    limits: WireLimits,
    access: WireAccess,
    queue: &'a str,
    priority: i32,
    pace: Option<WirePace>,
    expires_micros: Option<u64>,
    delivery_limit: Option<u32>,
}

#[derive(Encode, BorrowDecode)]
struct WireInput<'a> {
    parameter: &'a str,
    source: WireSource<'a>,
    optional: bool,
    rollback_only: bool,
}

#[derive(Encode, BorrowDecode)]
struct WireRetry {
    attempts: u32,
    exponential: bool,
    initial_micros: u64,
    max_micros: u64,
    jitter: bool,
}

/// The maximum number of concurrent calls of a task, and the rate at which they start.
#[derive(Encode, BorrowDecode)]
pub(crate) struct WirePace {
    max_running: Option<u32>,
    rate: Option<WireRate>,
}

#[derive(Encode, BorrowDecode)]
struct WireRate {
    count: u32,
    per: WirePer,
}

wire_enum!(WirePer = Per { Second, Minute, Hour });

/// The task of a node, if the node calls one.
pub(super) fn task_of(role: &Role) -> Option<&Task> {
    match role {
        Role::Task(task) => Some(task),
        Role::ForEach(each) => Some(&each.task),
        Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
    }
}

impl<'a> WireTask<'a> {
    /// Encodes a task. `modules` are the modules of its flow, sorted.
    pub(super) fn new(task: &'a Task, modules: &[Digest]) -> Self {
        let index = modules.binary_search(&task.module).expect("the list has the modules of all tasks");
        Self {
            module: u32::try_from(index).expect("a flow has fewer modules than nodes"),
            export: task.export.as_ref().map(Export::as_str),
            inputs: task.inputs.iter().map(WireInput::from).collect(),
            provides: provided_to_wire(&task.provides),
            rollback: task.rollback,
            retry: (&task.retry).into(),
            limits: limits_to_wire(&task.limits),
            access: access_to_wire(&task.access),
            queue: task.queue.as_str(),
            priority: task.priority,
            pace: (!task.pace.is_unlimited()).then(|| task.pace.into()),
            expires_micros: task.expires.map(micros),
            delivery_limit: task.delivery_limit.map(NonZeroU32::get),
        }
    }

    pub(super) fn into_task(self, bounds: &Bounds) -> Result<Task, Invalid> {
        Ok(Task {
            module: bounds.module(self.module)?,
            export: self.export.map(Export::new).transpose().map_err(invalid)?,
            inputs: self.inputs.into_iter().map(|input| input.into_input(bounds)).collect::<Result<_, _>>()?,
            provides: provided_from_wire(check_provides(self.provides)?)?,
            rollback: self.rollback,
            retry: self.retry.into(),
            limits: limits_from_wire(self.limits)?,
            access: access_from_wire(self.access)?,
            queue: QueueName::new(self.queue).map_err(invalid)?,
            priority: self.priority,
            pace: self.pace.map(WirePace::into_pace).transpose()?.unwrap_or_default(),
            expires: self.expires_micros.map(Duration::from_micros),
            delivery_limit: self.delivery_limit.and_then(NonZeroU32::new),
        })
    }
}

impl<'a> From<&'a Input> for WireInput<'a> {
    fn from(Input { parameter, source, optional, used_by }: &'a Input) -> Self {
        Self {
            parameter: parameter.as_str(),
            source: source.into(),
            optional: *optional,
            rollback_only: *used_by == InputUse::Rollback,
        }
    }
}

impl WireInput<'_> {
    fn into_input(self, bounds: &Bounds) -> Result<Input, Invalid> {
        Ok(Input {
            parameter: ValueName::new(self.parameter).map_err(invalid)?,
            source: self.source.into_source(bounds)?,
            optional: self.optional,
            used_by: if self.rollback_only { InputUse::Rollback } else { InputUse::ApplyAndRollback },
        })
    }
}

impl From<&RetryPolicy> for WireRetry {
    fn from(retry: &RetryPolicy) -> Self {
        Self {
            attempts: retry.attempts,
            exponential: retry.backoff == Backoff::Exponential,
            initial_micros: micros(retry.initial),
            max_micros: micros(retry.max),
            jitter: retry.jitter,
        }
    }
}

impl From<WireRetry> for RetryPolicy {
    fn from(wire: WireRetry) -> Self {
        Self {
            attempts: wire.attempts,
            backoff: if wire.exponential { Backoff::Exponential } else { Backoff::Fixed },
            initial: Duration::from_micros(wire.initial_micros),
            max: Duration::from_micros(wire.max_micros),
            jitter: wire.jitter,
        }
    }
}

impl From<Pace> for WirePace {
    fn from(pace: Pace) -> Self {
        Self {
            max_running: pace.max_running.map(NonZeroU32::get),
            rate: pace.rate.map(|Rate { count, per }| WireRate { count: count.get(), per: per.into() }),
        }
    }
}

impl WirePace {
    pub(crate) fn into_pace(self) -> Result<Pace, Invalid> {
        let count = |count: u32| NonZeroU32::new(count).ok_or_else(|| "a pace lets none run".to_owned());
        let rate = |wire: WireRate| Ok::<_, Invalid>(Rate { count: count(wire.count)?, per: wire.per.into() });
        Ok(Pace { max_running: self.max_running.map(count).transpose()?, rate: self.rate.map(rate).transpose()? })
    }
}

/// Refuses more provided values than a task may have: each job names them.
pub(crate) fn check_provides<Name>(names: Vec<Name>) -> Result<Vec<Name>, Invalid> {
    match names.len() > Task::MAX_PROVIDES {
        true => Err(format!("a task with {} provided values, and the maximum is {}", names.len(), Task::MAX_PROVIDES)),
        false => Ok(names),
    }
}

/// The values that a task or a notification provides: its own name of each value, and the flow's name.
pub(super) fn provided_to_wire(provides: &BTreeMap<ValueName, ValueName>) -> Vec<(&str, &str)> {
    provides.iter().map(|(own, flows)| (own.as_str(), flows.as_str())).collect()
}

pub(super) fn provided_from_wire(wire: Vec<(&str, &str)>) -> Result<BTreeMap<ValueName, ValueName>, Invalid> {
    let names = |(own, flows)| Ok((ValueName::new(own).map_err(invalid)?, ValueName::new(flows).map_err(invalid)?));
    wire.into_iter().map(names).collect()
}
