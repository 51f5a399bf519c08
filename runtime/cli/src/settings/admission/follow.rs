//! Follows the files with the policy: those of the settings, and the files with public keys that they name.
//!
//! Some of these files belong to other people than the operator. A file that cannot be used never keeps the rest from being
//! applied, and never ends a denial.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
};

use store::{Admission, Policy, Signer, check_regularly};
use tracing::{error, info, warn};

use super::{super::RawSettings, Checked, RawAdmission, UnreadableKey};
use crate::settings::{
    files::read_file,
    follow::{CHECK_INTERVAL, ChangeDetector, settings_files},
};

/// The keys of files when they were last read.
pub(super) type LastKeys = BTreeMap<PathBuf, Signer>;

/// What the files of a policy had when they were last read.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastRead {
    /// The last table of each settings file that has had one: a file that is missing or empty for a moment must not admit more.
    tables: BTreeMap<PathBuf, RawAdmission>,
    pub(super) keys: LastKeys,
}

impl LastRead {
    /// Notes the table of a file, unless the file has none.
    pub(in crate::settings) fn note_table(&mut self, path: &Path, table: &RawAdmission) {
        if !table.keys().is_empty() {
            self.tables.insert(path.to_owned(), table.clone());
        }
    }

    /// The table that a file has, or its last one if it has none any more.
    fn table(&self, path: &Path) -> RawAdmission {
        self.tables.get(path).cloned().unwrap_or_default()
    }
}

/// The files with the policy of this process.
struct PolicyFiles {
    admission: Admission,
    settings: Vec<PathBuf>,
    key_files: Vec<PathBuf>,
    last: LastRead,
    changes: ChangeDetector,
    /// What the log has about the files as they are now.
    faults: Faults,
}

/// What is wrong with the files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    /// Files that cannot be read. That may end without a change of their states, so they are read again at each check.
    unreadable: Vec<String>,
    /// Mistakes of whoever wrote the settings.
    errors: Vec<String>,
}

/// Reads the policy again whenever a file changes, for ever. `last` is what the policy was made from.
pub(crate) async fn follow(admission: Admission, last: LastRead) -> Infallible {
    let files = PolicyFiles::new(admission, settings_files(), last);
    check_regularly("admission", CHECK_INTERVAL, files, PolicyFiles::check).await
}

impl PolicyFiles {
    fn new(admission: Admission, settings: Vec<PathBuf>, last: LastRead) -> Self {
        let (key_files, changes, faults) = (Vec::new(), ChangeDetector::default(), Faults::default());
        Self { admission, settings, key_files, last, changes, faults }
    }

    fn check(&mut self) {
        let files = self.settings.iter().chain(&self.key_files);
        if !self.changes.is_due(files, !self.faults.unreadable.is_empty()) {
            return;
        }
        let (policy, faults) = self.read();
        self.log(faults);
        self.apply(policy);
    }

    /// Reads the files. The next check takes the states of the key files that are named now.
    fn read(&mut self) -> (Policy, Faults) {
        let (mut table, mut faults) = (RawAdmission::default(), Faults::default());
        for path in &self.settings {
            match read_file(path) {
                Ok(file) => {
                    let written = file.map(|RawSettings { admission, .. }| admission).unwrap_or_default();
                    if written.keys().is_empty() && self.last.tables.contains_key(path) {
                        faults.errors.push(format!(
                            "{} has no [admission] any more: the policy before stays in use until a restart, or until it says \
                             modules = \"any\"",
                            path.display()
                        ));
                    }
                    self.last.note_table(path, &written);
                }
                Err(error) => {
                    faults.unreadable.push(format!("{:#}: its [admission] before stays in use", error.error));
                }
            }
            table = table.or(self.last.table(path));
        }
        let Checked { mut policy, key_files, errors, unreadable } = table.check(&mut self.last.keys);
        self.key_files = key_files;
        let unreadable = unreadable.into_iter().map(|UnreadableKey { error, effect }| format!("{error}: {effect}"));
        faults.unreadable.extend(unreadable);
        if !errors.is_empty() {
            let before = self.admission.policy();
            policy.modules = before.modules.clone();
            policy.denied_digests.extend(&before.denied_digests);
            policy.denied_signers.extend(before.denied_signers.iter().cloned());
            faults.errors.push(format!(
                "the settings have changed and cannot be used: {}. What was allowed and denied before stays so, and what they \
                 deny now is denied too",
                errors.join("; ")
            ));
        }
        (policy, faults)
    }

    /// Writes each fault into the log once for as long as it lasts.
    fn log(&mut self, faults: Faults) {
        for fault in faults.unreadable.iter().filter(|fault| !self.faults.unreadable.contains(fault)) {
            error!("a file of the admission policy cannot be used: {fault}");
        }
        for fault in faults.errors.iter().filter(|fault| !self.faults.errors.contains(fault)) {
            warn!("{fault}");
        }
        if faults.unreadable.is_empty() && !self.faults.unreadable.is_empty() {
            info!("all files of the admission policy can be used again");
        }
        self.faults = faults;
    }

    fn apply(&self, policy: Policy) {
        if policy != *self.admission.policy() {
            info!(policy = policy.describe(), "the admission policy has changed: the next call of each module uses it");
            self.admission.replace(policy);
        }
    }
}

#[cfg(test)]
mod tests;
