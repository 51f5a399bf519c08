//! Reading a file that a person names in the settings.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::regular::open_regular;

/// The rights of users who are neither the owner nor in the group. Systemd gives a service its credentials with rights of the
/// group.
const OTHERS: u32 = 0o007;

/// The maximum size of a file. The certificates that a machine trusts have some 200 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// Why a file cannot be used. It never shows what is in the file.
#[derive(Debug, thiserror::Error)]
#[error("{part} in {} cannot be used: {reason}", .file.display())]
pub struct FileError {
    part: &'static str,
    file: PathBuf,
    reason: String,
}

impl FileError {
    pub(crate) fn new(part: &'static str, file: &Path, reason: impl ToString) -> Self {
        Self { part, file: file.to_owned(), reason: reason.to_string() }
    }
}

/// Whether users who are neither the owner nor in the group may open a file or a folder.
#[must_use]
pub fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & OTHERS != 0
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Everybody, since it holds no secret.
    Anyone,
    /// Its owner and its group.
    Few,
}

/// Reads a regular file. It never blocks for long: these files are read again while a process runs. `part` says what is in it, for the
/// error.
pub(crate) fn read(part: &'static str, file: &Path, readers: Readers) -> Result<Vec<u8>, FileError> {
    read_opened(part, file, readers, open_regular(file))
}

/// Reads a file, which may be a pipe: then it waits for the writer, perhaps for ever.
pub(crate) fn read_waiting(part: &'static str, file: &Path, readers: Readers) -> Result<Vec<u8>, FileError> {
    read_opened(part, file, readers, File::open(file))
}

fn read_opened(
    part: &'static str,
    file: &Path,
    readers: Readers,
    opened: io::Result<File>,
) -> Result<Vec<u8>, FileError> {
    let unusable = |reason: String| FileError::new(part, file, reason);
    let opened = opened.map_err(|error| unusable(error.to_string()))?;
    let metadata = opened.metadata().map_err(|error| unusable(error.to_string()))?;
    if readers == Readers::Few && is_open_to_others(&metadata) {
        let advice = format!("every user of this machine may open it: chmod o= {}", file.display());
        return Err(unusable(advice));
    }
    let mut bytes = Vec::new();
    // A pipe or a device may have no end.
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unusable(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unusable(format!("it has more than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}
