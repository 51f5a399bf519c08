//! OpenAPI schemas of types whose Rust form differs from their JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// Values by name. Any JSON value is stored under its name. Values that are not JSON are under two keys that are not valid
/// names of values: bytes as base64 under `$bytes`, and references to the server's store under `$stored`. A request cannot
/// contain references.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Values {
    /// The values that are bytes, as base64, by name.
    #[serde(rename = "$bytes", default, skip_serializing_if = "BTreeMap::is_empty")]
    bytes: BTreeMap<String, String>,
    /// The references to values in the store, by name. A request with a reference is refused.
    #[serde(rename = "$stored", default, skip_serializing_if = "BTreeMap::is_empty")]
    stored: BTreeMap<String, StoredValue>,
    /// The values that are JSON, by name.
    #[serde(flatten)]
    json: BTreeMap<String, serde_json::Value>,
}

/// A reference to a value in the store.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StoredValue {
    /// The digest of its bytes; for JSON, of its text.
    digest: String,
    /// Its size in bytes.
    size: u64,
    /// The kind of the value: `json` or `bytes`.
    form: String,
}

/// The result of a check.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Outcome {
    Ok,
    Skipped,
    Warn,
    Fail,
}
