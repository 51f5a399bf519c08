//! The submission of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ValuesObject;
#[cfg(feature = "server")]
use super::schema;

/// A run to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "server"), non_exhaustive)]
pub struct Submission {
    /// The run's id; the server chooses one if it is not given. If the run already exists, it is returned as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The text of the flow file.
    pub flow: String,
    /// Modules by alias, each a tag or a digest. They replace those in `[modules]` of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// Values that the run starts with. They replace those in `[inputs]` of the file.
    #[serde(default, skip_serializing_if = "ValuesObject::is_empty")]
    #[cfg_attr(feature = "server", schema(value_type = schema::Values))]
    pub inputs: ValuesObject,
}
