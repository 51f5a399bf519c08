//! The audit log: who asked for what.

use serde::{Deserialize, Serialize};

/// A request that did more than read, or was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AuditEntry {
    /// When it was answered.
    pub at: String,
    /// Who sent it: the name of a token, `(server token)`, or `(owner)` for the user who started the server. The subject of the
    /// client's certificate follows in parentheses, if the server asks for one: `ci (CN=build-7)`.
    pub caller: String,
    /// The address and port it came from.
    pub peer: String,
    /// What it asked for: `submit`, `notify`, `cancel`, `suspend`, `resume`, `retry`, `skip`, `edit`, `push`, `sign`,
    /// `create-token`, `revoke-token`, or `read` for a refused request that only reads. A push that sets a tag also has an
    /// entry `move-tag`.
    pub action: String,
    /// The id of the run, the digest of the module, the tag or the name of the token that it is about; left out if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The status of the answer, as in HTTP.
    pub status: u16,
    /// The digests of a moved tag, before and after. Or the number of further requests that this entry stands for: if requests
    /// of one sender with the same action and status are refused within a minute, the first has an entry of its own, and the
    /// others share one. Left out for other entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A page of the audit log, the youngest entry first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AuditLog {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// The value for `after` in the request for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// A filter for the audit log. All given conditions must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct AuditQuery {
    /// Only entries about this run, module, tag or token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The maximum number of entries: 1 to 1000; the default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The value of `next` on the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
