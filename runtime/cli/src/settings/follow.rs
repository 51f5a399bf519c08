//! Notices that settings files have changed, for the tables that take effect without a restart.

use std::{path::PathBuf, time::Duration};

use store::FileStates;

use super::files::{SYSTEM_FILE, user_file};

/// How often the files are compared with what was read. A changed file is read once it has not changed for as long, since its
/// writer may not be done before.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How many checks in a row may find another change before the files are read all the same: someone may change a file for ever.
pub(super) const MAX_WAITS: u32 = 3;

/// The settings files that are followed. A project's file has none of these tables.
pub(super) fn settings_files() -> Vec<PathBuf> {
    user_file().into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// Compares files with what was read.
#[derive(Debug, Default)]
pub(super) struct ChangeDetector {
    /// The states of the files at the last check, and those that were read.
    seen: Option<FileStates>,
    read: Option<FileStates>,
    /// The checks since the last reading that found another change.
    waits: u32,
}

impl ChangeDetector {
    /// Whether the files have to be read now: they have changed since they were read, and not since the last check. With
    /// `again`, they are read although they have not changed.
    pub(super) fn is_due<'a>(&mut self, files: impl IntoIterator<Item = &'a PathBuf>, again: bool) -> bool {
        let states = Some(FileStates::of(files));
        if states == self.read && !again {
            return false;
        }
        if states != self.seen && self.waits < MAX_WAITS {
            self.seen = states;
            self.waits += 1;
            return false;
        }
        (self.seen, self.read, self.waits) = (states.clone(), states, 0);
        true
    }
}
