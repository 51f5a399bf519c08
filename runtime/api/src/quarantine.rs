//! Messages that no worker and no engine could handle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The first messages in quarantine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Quarantine {
    /// The messages, in the order of the queue: at most 1,000, and none after those that have 16 MiB together.
    pub messages: Vec<QuarantinedMessage>,
    /// The number of messages behind them. They can be read after some of the first are released or deleted.
    pub unread: u64,
}

/// A message in quarantine. Whoever may publish at the broker can have written its texts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct QuarantinedMessage {
    /// Its id: the id of its call, if it is a job. Several messages may have the same.
    pub id: String,
    /// The queue that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Why it is in quarantine: a sentence, or `delivery_limit` if the broker gave it up. At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ids in its headers, such as the run and the task. Those that do not fit into 2 KiB are left out.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The number of headers that are left out.
    #[serde(default)]
    pub more_headers: u32,
    /// Its size in bytes.
    pub size: u64,
}

/// Which messages in quarantine are released or deleted: those with an id, or all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams, utoipa::ToSchema), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct QuarantineSelection {
    /// The messages with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All messages that one request reads. Without it, an id must be given.
    #[serde(default)]
    pub all: bool,
}

impl QuarantineSelection {
    /// The messages with an id.
    #[must_use]
    pub fn id(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), all: false }
    }

    /// All messages that one request reads.
    #[must_use]
    pub fn all() -> Self {
        Self { id: None, all: true }
    }
}

/// What was released or deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct QuarantineResult {
    /// The released or deleted messages.
    pub done: Vec<QuarantinedMessage>,
    /// The messages that could not be released, and stay: they do not name the queue that they came from, or that queue no longer
    /// exists.
    pub without_origin: Vec<QuarantinedMessage>,
    /// The number of messages that were not read, since they are behind too many or too large ones.
    pub unread: u64,
}
