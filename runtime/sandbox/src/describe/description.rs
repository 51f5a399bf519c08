//! A guest's own description of its tasks, before it is validated: plain data that a child process can send.

use serde::{Deserialize, Serialize};

use crate::guest::wit;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskInfo {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) requires: Vec<Parameter>,
    pub(crate) provides: Vec<Provided>,
    pub(crate) rollback: Option<Vec<Parameter>>,
    pub(crate) retry: Option<Retry>,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) schema: Option<String>,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provided {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) schema: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retry {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) initial_milliseconds: u64,
    pub(crate) max_milliseconds: u64,
    pub(crate) jitter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Backoff {
    Exponential,
    Fixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) timeout_milliseconds: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
}

impl From<wit::TaskInfo> for TaskInfo {
    fn from(task: wit::TaskInfo) -> Self {
        let wit::TaskInfo { name, doc, requires, provides, rollback, retry, limits } = task;
        let wit::Limits { timeout_milliseconds, memory_bytes } = limits;
        Self {
            name,
            doc,
            requires: requires.into_iter().map(Parameter::from).collect(),
            provides: provides.into_iter().map(Provided::from).collect(),
            rollback: rollback.map(|parameters| parameters.into_iter().map(Parameter::from).collect()),
            retry: retry.map(Retry::from),
            limits: Limits { timeout_milliseconds, memory_bytes },
        }
    }
}

impl From<wit::Parameter> for Parameter {
    fn from(parameter: wit::Parameter) -> Self {
        let wit::Parameter { name, doc, schema, optional } = parameter;
        Self { name, doc, schema, optional }
    }
}

impl From<wit::Provided> for Provided {
    fn from(provided: wit::Provided) -> Self {
        let wit::Provided { name, doc, schema } = provided;
        Self { name, doc, schema }
    }
}

impl From<wit::Retry> for Retry {
    fn from(retry: wit::Retry) -> Self {
        let wit::Retry { attempts, backoff, initial_milliseconds, max_milliseconds, jitter } = retry;
        let backoff = match backoff {
            wit::Backoff::Exponential => Backoff::Exponential,
            wit::Backoff::Fixed => Backoff::Fixed,
        };
        Self { attempts, backoff, initial_milliseconds, max_milliseconds, jitter }
    }
}
