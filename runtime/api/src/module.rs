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

/// Which contents of the store to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct ModulesQuery {
    /// Only contents that a tag refers to. A token that is limited to a namespace lists no others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tagged: bool,
    /// The maximum number of contents: 1 to 500; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only the contents behind those of an earlier page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl ModulesQuery {
    /// Selects contents that a tag refers to.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// Sets the maximum number of contents: 1 to 500.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Continues after a page, given its [`Modules::next`].
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.after = Some(next.into());
        self
    }
}

/// A page of the contents of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Modules {
    /// The modules and large values, in order of digest.
    pub modules: Vec<StoredModule>,
    /// What to pass as `after` for the next page; left out at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
