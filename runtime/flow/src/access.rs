//! What calls may reach outside their sandbox.
//!
//! Two people agree on it: the author of a flow asks for each task (`allow` in the flow file), and the operator of a worker
//! grants (`[[grant]]` in the settings). A call may do only what both name. Without them a call reaches nothing.

mod grant;
mod http;
mod network;

use std::collections::BTreeSet;

use crate::SecretName;

pub use self::{
    grant::{AccessDenial, CallAccess, Grant, GrantedPart, Grants, Reach},
    http::{HttpPattern, HttpTarget, InvalidHttpPattern, InvalidHttpTarget},
    network::{InvalidNetwork, Network, is_public},
};

/// What stands before the name of a secret in a header, `{{secret:NAME}}`: the gateway replaces it by the value.
pub const SECRET_MARK: &str = "{{secret:";

/// What a task asks for, or what an operator grants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// HTTP requests.
    pub http: BTreeSet<HttpPattern>,
    /// Secrets that requests may contain. No guest sees their values.
    pub secrets: BTreeSet<SecretName>,
    /// The clocks of the worker, instead of clocks that stand at the time of the job.
    pub clock: bool,
    /// Randomness that nobody can predict, instead of the same numbers for each attempt.
    pub random: bool,
}

impl Access {
    /// Whether it contains nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each thing that it contains, alone.
    pub fn parts(&self) -> impl Iterator<Item = Self> {
        let Self { http, secrets, clock, random } = self;
        let http = http.iter().map(|pattern| Self { http: [pattern.clone()].into(), ..Self::default() });
        let secrets = secrets.iter().map(|name| Self { secrets: [name.clone()].into(), ..Self::default() });
        let clock = clock.then(|| Self { clock: true, ..Self::default() });
        let random = random.then(|| Self { random: true, ..Self::default() });
        http.chain(secrets).chain(clock).chain(random)
    }

    /// Adds what another one contains.
    pub fn extend(&mut self, other: &Self) {
        let Self { http, secrets, clock, random } = other;
        self.http.extend(http.iter().cloned());
        self.secrets.extend(secrets.iter().cloned());
        self.clock |= clock;
        self.random |= random;
    }
}

#[cfg(test)]
mod tests;
