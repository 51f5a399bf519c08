//! The text of a run's flow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The flow of a run at one of its revisions, as the text of a flow file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FlowText {
    /// The run's id.
    pub run: String,
    /// The revision, from 1.
    pub revision: u64,
    /// The text. The namespace of the flow may be missing in the name of a submitted text.
    pub text: String,
    /// Whether this is the text as it was submitted. Otherwise it was written anew, with the edits up to the revision.
    pub submitted: bool,
    /// The digests of the modules that the text names, by alias; perhaps also of modules that later edits name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
}

/// The choice of a revision.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct FlowTextQuery {
    /// The revision, from 1; the last one if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Whether the first revision is written anew, too, as all others are: without comments, and with the digests of its modules. Such
    /// texts can be compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
}
