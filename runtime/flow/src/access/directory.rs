//! Directories of a worker: what a flow asks for, what an operator grants, and what a call gets.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{AccessDenial, CallAccess};
use crate::DirectoryName;

/// What a task does with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectoryUse {
    /// It reads.
    Read,
    /// It reads and changes.
    Write,
}

/// A directory that a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedDirectory {
    /// Where it is on the machine of the worker.
    pub path: PathBuf,
    /// The size up to which calls may fill it, in bytes; `None` if they may only read.
    pub max_bytes: Option<u64>,
}

/// A directory that a call gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDirectory {
    /// Where it is on the machine of the worker.
    pub path: PathBuf,
    /// The size up to which the call may fill it, in bytes, or why it may only read.
    pub write: Result<u64, AccessDenial>,
}

impl CallAccess {
    /// The directories that the flow asks for. If several rules have a directory of a name, the first one counts.
    #[must_use]
    pub fn directories(&self) -> BTreeMap<DirectoryName, Result<CallDirectory, AccessDenial>> {
        let directory = |(name, asked): (&DirectoryName, &DirectoryUse)| {
            let directory = match self.granted_directory(name) {
                Some(granted) => Ok(granted.for_call(name, *asked)),
                None => Err(AccessDenial::NotGranted { tried: format!("the directory {name}") }),
            };
            (name.clone(), directory)
        };
        self.asked().directories.iter().map(directory).collect()
    }

    fn granted_directory(&self, name: &DirectoryName) -> Option<&GrantedDirectory> {
        self.grants().iter().find_map(|grant| grant.directories.get(name))
    }
}

impl GrantedDirectory {
    fn for_call(&self, name: &DirectoryName, asked: DirectoryUse) -> CallDirectory {
        let tried = || format!("writing to the directory {name}");
        let write = match (asked, self.max_bytes) {
            (DirectoryUse::Write, Some(max_bytes)) => Ok(max_bytes),
            (DirectoryUse::Write, None) => Err(AccessDenial::NotGranted { tried: tried() }),
            (DirectoryUse::Read, _) => Err(AccessDenial::NotAsked {
                tried: tried(),
                ask: format!("allow = {{ dirs = [{{ name = \"{name}\", write = true }}] }}"),
            }),
        };
        CallDirectory { path: self.path.clone(), write }
    }
}

impl fmt::Display for DirectoryUse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Read => "to read",
            Self::Write => "to write",
        })
    }
}
