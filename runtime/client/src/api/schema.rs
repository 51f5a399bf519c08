//! The OpenAPI schemas of values.

use std::collections::BTreeMap;

use serde::Serialize;

/// Values by name. A JSON value, any, stands under its name. What is not JSON stands apart, under keys that no value can be
/// named: bytes as base64 under `$bytes`; under `$stored` what only the server's store has, which a request cannot give.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Values {
    /// The values that are bytes, as base64, by name.
    #[serde(rename = "$bytes", default, skip_serializing_if = "BTreeMap::is_empty")]
    bytes: BTreeMap<String, String>,
    /// The values that only the store has, by name. A request that gives one is refused.
    #[serde(rename = "$stored", default, skip_serializing_if = "BTreeMap::is_empty")]
    stored: BTreeMap<String, StoredValue>,
    /// The values that are JSON, by name.
    #[serde(flatten)]
    json: BTreeMap<String, serde_json::Value>,
}

/// A value that only the store has.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StoredValue {
    /// The digest of its bytes: of the text, where it is JSON.
    digest: String,
    /// How many bytes it has.
    size: u64,
    /// What the bytes are: `json` or `bytes`.
    form: String,
}
