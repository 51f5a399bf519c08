//! The ledger: a file with one JSON object in each line, to which lines are only added.
//!
//! A line is on the disk before its request is answered. A service that was killed while it wrote a line finds the start of the
//! line at the end of the file, and removes it: nobody got an answer.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::resource::Resource;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Entry {
    /// A resource was made.
    Made {
        resource: Resource,
        /// The idempotency key of the request, and what was requested.
        request: Option<KeyedRequest>,
    },
    /// A resource was changed to this.
    Changed { resource: Resource },
    /// A resource was deleted.
    Deleted {
        id: String,
        /// The idempotency key that no longer counts, so that a later request with it makes a resource again.
        forgotten_key: Option<String>,
    },
}

/// A request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyedRequest {
    pub(crate) key: String,
    /// The method, the path and the body: another request must not have the same key.
    pub(crate) content: String,
}

/// An open ledger. No other process has it open.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    path: PathBuf,
    /// A line could not be written. What is on the disk is unknown until the ledger is read again.
    is_broken: bool,
}

impl Ledger {
    /// Opens or creates the file, and reads its lines.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Entry>)> {
        let context = || format!("could not open the ledger {}", path.display());
        let mut file = File::options().read(true).append(true).create(true).open(path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another cloud uses the ledger {}: stop it, or choose another file with --ledger", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(context)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if complete < bytes.len() {
            file.set_len(complete as u64).with_context(context)?;
        }
        file.sync_all().with_context(context)?;
        sync_folder(path).with_context(context)?;
        let lines = bytes[..complete].split_inclusive(|byte| *byte == b'\n').zip(1..);
        let read = |(line, number): (&[u8], u64)| {
            serde_json::from_slice(line)
                .with_context(|| format!("line {number} of the ledger {} is not readable", path.display()))
        };
        let entries = lines.map(read).collect::<Result<_>>()?;
        Ok((Self { file, path: path.to_owned(), is_broken: false }, entries))
    }

    /// Adds a line, and returns when it is on the disk.
    ///
    /// # Errors
    /// When the line may be missing or incomplete. Later lines are refused, because they would follow an incomplete one.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other(format!(
                "an earlier line could not be written to {}: restart the service",
                self.path.display()
            )));
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        self.is_broken = written.is_err();
        written
    }
}

/// A new file is durable only when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = fs::canonicalize(path)?;
    folder.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(id: &str) -> Entry {
        Entry::Deleted { id: id.into(), forgotten_key: None }
    }

    #[test]
    fn an_incomplete_line_at_the_end_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (mut ledger, entries) = Ledger::open(&path).unwrap();
        assert_eq!(entries, []);
        ledger.append(&deleted("srv-1")).unwrap();
        drop(ledger);
        let complete = fs::read(&path).unwrap();
        for torn in [&b"{"[..], &complete[..complete.len() - 1]] {
            fs::write(&path, [&complete, torn].concat()).unwrap();
            let (mut ledger, entries) = Ledger::open(&path).unwrap();
            assert_eq!(entries, [deleted("srv-1")]);
            assert_eq!(fs::read(&path).unwrap(), complete);
            ledger.append(&deleted("srv-2")).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&path).unwrap().1, [deleted("srv-1"), deleted("srv-2")]);
        }
    }

    #[test]
    fn a_line_that_is_not_readable_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        fs::write(&path, "{\"deleted\":{\"id\":\"srv-1\",\"forgotten_key\":null}}\nnonsense\n").unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("line 2 of the ledger {} is not readable", path.display()));
    }

    #[test]
    fn two_services_do_not_share_a_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let first = Ledger::open(&path).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(error.to_string().starts_with("another cloud uses the ledger"), "{error}");
        drop(first);
        Ledger::open(&path).unwrap();
    }
}
