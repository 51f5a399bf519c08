//! Requests the description of a module's tasks, and validates it.

pub(crate) mod description;

use std::{collections::BTreeSet, time::Duration};

use flow::{
    Backoff, Digest, Export, Failure, Json, LimitOverrides, Limits, ModuleContent, Namespace, Parameter, Provided,
    RetryPolicy, Rollback, TaskInfo, Timestamp, ValueName,
};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Completion, Outside},
    classify,
    compiled::{Compiled, Place},
    compiler::MAX_WAITING,
    engines::EngineKind,
    host_state::{CallOrigin, Files, HostState, Process, Seed},
    host_work,
    loaded::LinkedModule,
    permits::Full,
    run::{self, Watchdog},
    sandbox::Shared,
    ticker::Ticker,
};

/// The maximum number of tasks in a module, and of parameters and provided values of one task: far more than any author writes.
const MAX_ITEMS: usize = 1_000;

/// The size of a description with large schemas, in bytes.
const DESCRIPTION_BYTES: usize = 1 << 20;

/// The limits of a describe call, which computes almost nothing.
pub(crate) fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(10), memory: 128 << 20, output: 1 << 20, log: 16 << 10, ..Limits::default() }
}

/// Why a module could not be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The module did not answer.
    #[error("module {} does not describe itself: {failure}", digest.short())]
    Failed {
        /// The module.
        digest: Digest,
        /// The failure of the call.
        failure: Failure,
    },
    /// The description is invalid.
    #[error("module {} has an invalid description: {reason}", digest.short())]
    Invalid {
        /// The module.
        digest: Digest,
        /// The error.
        reason: String,
    },
    /// Too many modules of the same namespace, or of none, wait to describe themselves. That says nothing of the module.
    #[error("module {} cannot be described now: {MAX_WAITING} modules of the same namespace wait already", digest.short())]
    Busy {
        /// The module.
        digest: Digest,
    },
    /// All guests were stopped.
    #[error("describing module {} was interrupted", digest.short())]
    Interrupted {
        /// The module.
        digest: Digest,
    },
}

/// Describes a module, and validates the description.
pub(crate) async fn describe(
    shared: &Shared,
    owner: Option<&Namespace>,
    compiled: &Compiled,
) -> Result<ModuleContent, DescribeError> {
    let digest = compiled.digest();
    let interrupts = [CancellationToken::new(), shared.interrupts()];
    let permit_watch = Watchdog::start(Duration::MAX, interrupts.clone());
    let permit = permit_watch.run(async { Ok(shared.describing().acquire(owner.cloned()).await) }).await;
    let described = match permit {
        Ok(Ok(_permit)) => call_describe(shared, compiled, interrupts).await,
        Ok(Err(Full)) => return Err(DescribeError::Busy { digest }),
        Err(error) => Err(classify::without_guest(&error, &permit_watch)),
    };
    match described {
        Ok(None) => Ok(ModuleContent::Command),
        Ok(Some(tasks)) => match host_work::parsed(DESCRIPTION_BYTES, move || content(tasks)).await {
            Ok(Ok(tasks)) => Ok(ModuleContent::Tasks(tasks)),
            Ok(Err(reason)) => Err(DescribeError::Invalid { digest, reason }),
            // Only a runtime that ends stops a parser.
            Err(_) => Err(DescribeError::Interrupted { digest }),
        },
        Err(Completion::Failed(failure)) => Err(DescribeError::Failed { digest, failure }),
        Err(Completion::Interrupted | Completion::Succeeded(_)) => Err(DescribeError::Interrupted { digest }),
    }
}

/// The guest's description, from here or from a child; `None` for a command, which has none.
async fn call_describe(
    shared: &Shared,
    compiled: &Compiled,
    interrupts: [CancellationToken; 2],
) -> Result<Option<Vec<description::TaskInfo>>, Completion> {
    let loaded = match compiled.place() {
        Place::Here(loaded) => loaded,
        Place::Children(code) => return code.describe(interrupts).await,
    };
    let limits = limits();
    let watch = Watchdog::start(limits.timeout, interrupts);
    let kind = EngineKind::of(&limits, loaded.allocation());
    let ready = watch.run(run::ready(loaded, kind)).await;
    let module = ready.map_err(|error| classify::without_guest(&error, &watch))?;
    run((kind, module), shared.ticker(), watch).await
}

/// The description of a module that is linked for an engine, from this process.
pub(crate) async fn run(
    (kind, module): (EngineKind, &LinkedModule),
    ticker: &Ticker,
    watch: Watchdog,
) -> Result<Option<Vec<description::TaskInfo>>, Completion> {
    let pre = match module {
        LinkedModule::Command { .. } => return Ok(None),
        LinkedModule::Tasks { pre, .. } => pre,
    };
    let origin = CallOrigin { time: Timestamp::default(), seed: Seed::Describe };
    let state = HostState::new(
        limits(),
        watch.clone(),
        origin,
        Process::default(),
        &Outside::default(),
        Files::default(),
        None,
    );
    let _running = ticker.begin();
    let mut store = run::store(pre.engine(), state);
    let description = async {
        let task = pre.instantiate_async(&mut store).await?;
        task.waft_task_guest().call_describe(&mut store).await
    };
    match watch.run(description).await {
        Ok(tasks) => Ok(Some(tasks.into_iter().map(description::TaskInfo::from).collect())),
        Err(error) => Err(classify::classify(Err(error), store.data(), kind.stack())),
    }
}

/// Validates the guest's description; the error is the reason.
fn content(tasks: Vec<description::TaskInfo>) -> Result<Vec<TaskInfo>, String> {
    at_most(tasks.len(), "tasks")?;
    if tasks.is_empty() {
        return Err("it has no task".into());
    }
    let mut names = BTreeSet::new();
    let mut content = Vec::with_capacity(tasks.len());
    for task in tasks {
        let name = Export::new(&task.name).map_err(|error| format!("it has a task whose name {error}"))?;
        if !names.insert(name.clone()) {
            return Err(format!("it has two tasks named {name}"));
        }
        content.push(task_info(name.clone(), task).map_err(|reason| format!("its task {name} {reason}"))?);
    }
    Ok(content)
}

fn task_info(name: Export, task: description::TaskInfo) -> Result<TaskInfo, String> {
    let requires = parameters(task.requires)?;
    let provides = provides(task.provides)?;
    let rollback = match task.rollback {
        None => Rollback::None,
        Some(parameters_of_rollback) => {
            let rollback_requires =
                parameters(parameters_of_rollback).map_err(|reason| format!("{reason} for its rollback"))?;
            let duplicate = rollback_requires.iter().find(|one| requires.iter().any(|other| other.name == one.name));
            if let Some(parameter) = duplicate {
                return Err(format!("requires {} for apply and for rollback", parameter.name));
            }
            Rollback::Guest { requires: rollback_requires }
        }
    };
    let retry = task.retry.map(retry).transpose()?;
    Ok(TaskInfo { name, doc: task.doc, requires, provides, rollback, retry, limits: overrides(&task.limits)? })
}

fn parameters(parameters: Vec<description::Parameter>) -> Result<Vec<Parameter>, String> {
    at_most(parameters.len(), "parameters")?;
    let mut names = BTreeSet::new();
    parameters
        .into_iter()
        .map(|parameter| {
            let description::Parameter { name, doc, schema, optional } = parameter;
            let name = unique(&name, &mut names).map_err(|reason| format!("requires {reason}"))?;
            Ok(Parameter { schema: parsed(schema, &name)?, name, doc, optional })
        })
        .collect()
}

fn provides(provided: Vec<description::Provided>) -> Result<Vec<Provided>, String> {
    at_most(provided.len(), "provided values")?;
    let mut names = BTreeSet::new();
    provided
        .into_iter()
        .map(|provided| {
            let description::Provided { name, doc, schema } = provided;
            let name = unique(&name, &mut names).map_err(|reason| format!("provides {reason}"))?;
            Ok(Provided { schema: parsed(schema, &name)?, name, doc })
        })
        .collect()
}

fn unique(name: &str, names: &mut BTreeSet<ValueName>) -> Result<ValueName, String> {
    let name = ValueName::new(name).map_err(|error| format!("a value whose name {error}"))?;
    if !names.insert(name.clone()) {
        return Err(format!("{name} twice"));
    }
    Ok(name)
}

/// A schema is an object, or true or false.
fn parsed(schema: Option<String>, name: &ValueName) -> Result<Option<Json>, String> {
    let Some(schema) = schema else { return Ok(None) };
    let schema = Json::parse(schema).map_err(|error| format!("has a schema for {name} that is {error}"))?;
    let is_schema = schema.as_str().trim_start().starts_with(['{', 't', 'f']);
    if !is_schema {
        return Err(format!("has a schema for {name} that is neither an object nor true or false"));
    }
    Ok(Some(schema))
}

fn retry(retry: description::Retry) -> Result<RetryPolicy, String> {
    if retry.attempts == 0 {
        return Err("requests 0 attempts".into());
    }
    let backoff = match retry.backoff {
        description::Backoff::Exponential => Backoff::Exponential,
        description::Backoff::Fixed => Backoff::Fixed,
    };
    Ok(RetryPolicy {
        attempts: retry.attempts,
        backoff,
        initial: Duration::from_millis(retry.initial_milliseconds),
        max: Duration::from_millis(retry.max_milliseconds),
        jitter: retry.jitter,
    })
}

fn overrides(limits: &description::Limits) -> Result<LimitOverrides, String> {
    if limits.timeout_milliseconds == Some(0) {
        return Err("requests a timeout of 0".into());
    }
    if limits.memory_bytes == Some(0) {
        return Err("requests 0 bytes of memory".into());
    }
    Ok(LimitOverrides {
        timeout: limits.timeout_milliseconds.map(Duration::from_millis),
        memory: limits.memory_bytes,
        ..LimitOverrides::default()
    })
}

fn at_most(count: usize, what: &str) -> Result<(), String> {
    if count > MAX_ITEMS { Err(format!("has {count} {what}, the limit is {MAX_ITEMS}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
