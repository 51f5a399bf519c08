//! What a flow would be granted.

use serde::{Deserialize, Serialize};

/// The tasks of a flow that ask for something outside their sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct GrantsQuestion {
    /// The name of the flow. For a token that is limited to a namespace, it is a flow in the namespace.
    pub flow: String,
    /// Its tasks that ask for something. They ask for at most 1,000 things together, and their `allow` have at most 4 MiB.
    pub tasks: Vec<AskingTask>,
}

/// A task that asks for something outside its sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AskingTask {
    /// The task.
    pub task: String,
    /// Its queue.
    pub queue: String,
    /// The digest of its module.
    pub module: String,
    /// The keys of its `allow`, as lines of a flow file.
    pub allow: String,
}

/// What a flow would be granted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct GrantsExplanation {
    /// The flow, with its namespace.
    #[serde(default)]
    pub flow: String,
    /// The tasks, as they were asked for.
    pub tasks: Vec<ExplainedTask>,
}

/// What a task would be granted by the workers that take jobs from its queue.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ExplainedTask {
    /// The task.
    pub task: String,
    /// Its queue, with its namespace.
    pub queue: String,
    /// The number of workers of the queue that answered within a second.
    pub workers: u32,
    /// What it asks for.
    pub asked: Vec<ExplainedPart>,
}

/// How many workers grant one thing that a task asks for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ExplainedPart {
    /// The thing: `http GET https://…`, `secret NAME`, `clock`.
    pub what: String,
    /// The number of workers that grant it.
    pub all: u32,
    /// The number of workers that grant a part of it.
    pub some: u32,
    /// The number of workers that do not grant it.
    pub none: u32,
}
