//! Modules, and the contents of the store.

use serde::{Deserialize, Serialize};

/// A module that the server has checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Module {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// The names of its tasks; empty for a WASI command.
    pub tasks: Vec<String>,
}

/// The contents of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Modules {
    /// The modules and large values, in order of digest.
    pub modules: Vec<StoredModule>,
}

/// One content of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct StoredModule {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was stored.
    pub stored_at: String,
    /// The tags that refer to it.
    pub tags: Vec<String>,
}
