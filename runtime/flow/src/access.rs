//! What calls may reach outside their sandbox.
//!
//! Two people agree on it: the author of a flow asks for each task (`allow` in the flow file), and the operator of a worker
//! grants (`[[grant]]` in the settings). A call may do only what both name. Without them a call reaches nothing.

mod directory;
mod grant;
mod host;
mod http;
mod memo;
mod network;
mod part;
mod setting;
mod socket;

use std::collections::{BTreeMap, BTreeSet};

use crate::{DirectoryName, SecretName, SettingName};

pub use self::{
    directory::{CallDirectory, DirectoryUse, GrantedDirectory},
    grant::{AccessDenial, CallAccess, Grant, Grants, Reach, SignerKey},
    http::{HttpPattern, HttpTarget, InvalidHttpPattern, InvalidHttpTarget},
    memo::Memo,
    network::{InvalidNetwork, Network, is_public},
    part::GrantedPart,
    setting::{Setting, SettingKind},
    socket::{InvalidSocketPattern, SocketHost, SocketPattern},
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
    /// Configuration values that the guest reads.
    pub config: BTreeSet<SettingName>,
    /// Environment variables that the guest sees.
    pub variables: BTreeSet<SettingName>,
    /// Directories of the worker.
    pub directories: BTreeMap<DirectoryName, DirectoryUse>,
    /// TCP connections.
    pub sockets: BTreeSet<SocketPattern>,
    /// The arguments of its program, after its name. They are data of the flow, and need no grant.
    pub arguments: Vec<String>,
    /// The clocks of the worker, instead of clocks that stand at the time of the job.
    pub clock: bool,
    /// Randomness that nobody can predict, instead of the same numbers for each attempt.
    pub random: bool,
    /// What the worker records of the attempts. A grant does not say it.
    pub record: Recording,
    /// For how long the results are remembered. A task with it asks for nothing that needs a grant, and a grant does not say it.
    pub memo: Option<Memo>,
}

/// What a worker records of an attempt, so that it can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recording {
    /// HTTP requests and their answers.
    #[default]
    Http,
    /// Nothing.
    None,
}

/// Why a task asks for too much: each job carries all of it, and each request of a call is compared with each pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessTooLarge {
    /// It has too many patterns and names.
    #[error("{count} patterns and names in \"allow\", and the maximum is {}", Access::MAX_PARTS)]
    Parts {
        /// Their number.
        count: usize,
    },
    /// Its patterns and names are too long together.
    #[error("{bytes} bytes of patterns and names in \"allow\", and the maximum is {}", Access::MAX_PARTS_BYTES)]
    PartsBytes {
        /// Their bytes.
        bytes: usize,
    },
    /// The arguments of its program are too long together.
    #[error("arguments of {bytes} bytes, and the maximum is {}", Access::MAX_ARGUMENTS_BYTES)]
    ArgumentsBytes {
        /// Their bytes, each with the one that ends it.
        bytes: usize,
    },
}

impl AccessTooLarge {
    /// Whether it is about the arguments of the program, instead of what the task may reach.
    #[must_use]
    pub const fn is_about_arguments(&self) -> bool {
        match self {
            Self::Parts { .. } | Self::PartsBytes { .. } => false,
            Self::ArgumentsBytes { .. } => true,
        }
    }
}

impl Access {
    /// The maximum number of patterns and names that a task asks for, of all kinds together.
    pub const MAX_PARTS: usize = 256;

    /// The maximum size of these patterns and names together, in bytes.
    pub const MAX_PARTS_BYTES: usize = 64 << 10;

    /// The maximum size of the arguments of a program together, in bytes: a command line is shorter.
    pub const MAX_ARGUMENTS_BYTES: usize = 64 << 10;

    /// Checks that a task may ask for as much. What an operator grants has no maximum.
    ///
    /// # Errors
    /// [`AccessTooLarge`] when it is too much.
    pub fn check_size(&self) -> Result<(), AccessTooLarge> {
        let Self {
            http,
            secrets,
            config,
            variables,
            directories,
            sockets,
            arguments,
            clock: _,
            random: _,
            record: _,
            memo: _,
        } = self;
        let count = http.len() + secrets.len() + config.len() + variables.len() + directories.len() + sockets.len();
        if count > Self::MAX_PARTS {
            return Err(AccessTooLarge::Parts { count });
        }
        let bytes = http.iter().map(|pattern| pattern.to_string().len()).sum::<usize>()
            + sockets.iter().map(|pattern| pattern.to_string().len()).sum::<usize>()
            + secrets.iter().map(|name| name.as_str().len()).sum::<usize>()
            + config.iter().chain(variables).map(|name| name.as_str().len()).sum::<usize>()
            + directories.keys().map(|name| name.as_str().len()).sum::<usize>();
        if bytes > Self::MAX_PARTS_BYTES {
            return Err(AccessTooLarge::PartsBytes { bytes });
        }
        let bytes = arguments.iter().map(|argument| argument.len() + 1).sum();
        if bytes > Self::MAX_ARGUMENTS_BYTES { Err(AccessTooLarge::ArgumentsBytes { bytes }) } else { Ok(()) }
    }

    /// Whether it contains nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each thing in it that an operator has to grant, alone.
    pub fn parts(&self) -> impl Iterator<Item = Self> {
        let Self {
            http,
            secrets,
            config,
            variables,
            directories,
            sockets,
            arguments: _,
            clock,
            random,
            record: _,
            memo: _,
        } = self;
        let http = http.iter().map(|pattern| Self { http: [pattern.clone()].into(), ..Self::default() });
        let sockets = sockets.iter().map(|pattern| Self { sockets: [pattern.clone()].into(), ..Self::default() });
        let secrets = secrets.iter().map(|name| Self { secrets: [name.clone()].into(), ..Self::default() });
        let config = config.iter().map(|name| Self { config: [name.clone()].into(), ..Self::default() });
        let variables = variables.iter().map(|name| Self { variables: [name.clone()].into(), ..Self::default() });
        let directories = directories.iter().map(|(name, directory_use)| Self {
            directories: [(name.clone(), *directory_use)].into(),
            ..Self::default()
        });
        let clock = clock.then(|| Self { clock: true, ..Self::default() });
        let random = random.then(|| Self { random: true, ..Self::default() });
        http.chain(sockets).chain(secrets).chain(config).chain(variables).chain(directories).chain(clock).chain(random)
    }

    /// Whether an operator has to grant something of it.
    #[must_use]
    pub fn needs_grants(&self) -> bool {
        self.parts().next().is_some()
    }

    /// Adds what another one contains.
    pub fn extend(&mut self, other: &Self) {
        let Self {
            http,
            secrets,
            config,
            variables,
            directories,
            sockets,
            arguments,
            clock,
            random,
            record: _,
            memo: _,
        } = other;
        self.http.extend(http.iter().cloned());
        self.secrets.extend(secrets.iter().cloned());
        self.config.extend(config.iter().cloned());
        self.variables.extend(variables.iter().cloned());
        for (name, directory_use) in directories {
            let own = self.directories.entry(name.clone()).or_insert(*directory_use);
            *own = (*own).max(*directory_use);
        }
        self.sockets.extend(sockets.iter().cloned());
        self.arguments.extend(arguments.iter().cloned());
        self.clock |= clock;
        self.random |= random;
    }
}

#[cfg(test)]
mod tests;
