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
    /// Who signed it.
    #[serde(default)]
    pub signatures: Vec<ModuleSignature>,
}

/// A checked signature of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ModuleSignature {
    /// The public key of the signer, as minisign writes it: it begins with RW.
    pub signer: String,
    /// The id of the key, as minisign shows it: 16 hex digits. It does not identify the key.
    pub key_id: String,
    /// The only tag under which the signer wants the module to be found; left out for any use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// When it was signed, by the clock of the signer.
    pub signed_at: String,
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
    /// Who signed it.
    #[serde(default)]
    pub signatures: Vec<ModuleSignature>,
}
