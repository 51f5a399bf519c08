//! Tokens: who may do what on a server.

use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// What a token allows.
    Scope {
        /// Read runs, their values and logs, schedules, permits, queues, modules, workers, engines and checks.
        Read = "read",
        /// Start runs, and notify them.
        Submit = "submit",
        /// Cancel, suspend, resume, retry and edit runs, skip rollbacks, and drain workers.
        Operate = "operate",
        /// Store modules, and move tags.
        Push = "push",
        /// Read the metrics of the whole server, with the names of flows and tasks.
        Metrics = "metrics",
        /// Everything: also make and revoke tokens, and use the quarantine.
        Admin = "admin",
    }
}

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Read, Self::Submit, Self::Operate, Self::Push, Self::Metrics, Self::Admin];
}

/// A token that is to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct NewToken {
    /// Its name, which no other token has: 1 to 100 of the characters A-Z a-z 0-9 _ -.
    pub name: String,
    /// What it allows: `read`, `submit`, `operate`, `push`, `metrics` or `admin`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub scopes: Vec<Scope>,
    /// The namespace that it is limited to: it reaches only the flows, runs and tags there. Without it, it reaches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The seconds after which it expires; without them it is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl NewToken {
    /// A token that is valid until it is revoked.
    #[must_use]
    pub fn new(name: impl Into<String>, scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self { name: name.into(), scopes: scopes.into_iter().collect(), namespace: None, expires_in: None }
    }

    /// The token, limited to a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The token, with the time after which it expires, in whole seconds.
    #[must_use]
    pub fn expires_in(mut self, lifetime: std::time::Duration) -> Self {
        self.expires_in = Some(lifetime.as_secs());
        self
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it allows.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub scopes: Vec<Scope>,
    /// The namespace that it is limited to; left out for one that reaches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it expires; left out for one that is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A token that was just made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct CreatedToken {
    /// The text that requests carry as `Authorization: Bearer …`. The server does not keep it, and never shows it again.
    pub secret: String,
    /// The token.
    pub token: Token,
}

/// Without the secret, so that no log contains it.
impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// The tokens of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Tokens {
    /// The tokens, in order of name; expired ones too.
    pub tokens: Vec<Token>,
}
