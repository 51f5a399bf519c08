//! The tables `[[grant]]` and `[secret.NAME]` of the settings files while a command runs: what calls may reach changes as soon as
//! a file changes, or a file with the public key of a signer that a table names.
//!
//! A file with an error changes nothing: its tables before stay in use, since half of a table could grant more than all of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
};

use gateway::{CurrentRules, Rules};
use store::check_regularly;
use tracing::{error, info};

use super::{
    RawSettings,
    files::read_file,
    follow::{CHECK_INTERVAL, ChangeDetector, settings_files},
    grants::RawGrants,
    guest_secrets::RawGuestSecrets,
    parser::Parser,
};

/// The tables that each settings file had when it was last read without an error.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastTables(BTreeMap<PathBuf, Tables>);

#[derive(Debug, Clone, Default)]
struct Tables {
    grants: RawGrants,
    secrets: RawGuestSecrets,
}

/// The files with the rules of this process.
struct RuleFiles {
    rules: CurrentRules,
    files: Vec<PathBuf>,
    /// The files with public keys that the tables in use name.
    key_files: Vec<PathBuf>,
    last: LastTables,
    changes: ChangeDetector,
    /// What the log has about the files as they are now.
    faults: Vec<String>,
}

/// Reads the rules again whenever a file changes, for ever. `last` is what the rules were made from.
pub(crate) async fn follow(rules: CurrentRules, last: LastTables) -> Infallible {
    let files = RuleFiles::new(rules, settings_files(), last);
    check_regularly("grants", CHECK_INTERVAL, files, RuleFiles::check).await
}

impl LastTables {
    /// Notes the tables of a file.
    pub(super) fn note(&mut self, path: &Path, settings: &RawSettings) {
        let tables = Tables { grants: settings.grant.clone(), secrets: settings.secret.clone() };
        self.0.insert(path.to_owned(), tables);
    }

    /// The files with public keys that the tables name.
    fn key_files(&self) -> Vec<PathBuf> {
        self.0.values().flat_map(|tables| tables.grants.key_files()).collect()
    }
}

impl Tables {
    fn rules(&self, parser: &mut Parser) -> Rules {
        Rules { grants: self.grants.grants(parser), secrets: self.secrets.secrets(parser) }
    }
}

impl RuleFiles {
    fn new(rules: CurrentRules, files: Vec<PathBuf>, last: LastTables) -> Self {
        let (key_files, changes) = (last.key_files(), ChangeDetector::default());
        Self { rules, files, key_files, last, changes, faults: Vec::new() }
    }

    fn check(&mut self) {
        // A disk that fails may work again without a change of the file.
        let files = self.files.iter().chain(&self.key_files);
        if !self.changes.is_due(files, !self.faults.is_empty()) {
            return;
        }
        let mut faults = self.read();
        self.key_files = self.last.key_files();
        faults.extend(self.apply());
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            error!("changed settings are not used: {fault}");
        }
        if faults.is_empty() && !self.faults.is_empty() {
            info!("all settings files can be used again");
        }
        self.faults = faults;
    }

    /// Reads the files; returns what is wrong with them.
    fn read(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for path in &self.files {
            let settings = match read_file(path) {
                Ok(Some(settings)) => settings,
                Ok(None) => {
                    self.last.0.remove(path);
                    continue;
                }
                Err(error) => {
                    faults.push(format!("{:#}: mend the file; {UNCHANGED}", error.error));
                    continue;
                }
            };
            let tables = Tables { grants: settings.grant, secrets: settings.secret };
            let mut parser = Parser::default();
            tables.rules(&mut parser);
            if parser.errors.is_empty() {
                self.last.0.insert(path.clone(), tables);
            } else {
                faults.push(format!("{}; {UNCHANGED}", parser.errors.join("; ")));
            }
        }
        faults
    }

    /// Uses the tables of all files; returns what is wrong with them together, such as directories that lie inside others.
    fn apply(&self) -> Option<String> {
        let merged = self.files.iter().filter_map(|path| self.last.0.get(path)).fold(
            Tables::default(),
            |Tables { grants, secrets }, lower| Tables {
                grants: grants.or(lower.grants.clone()),
                secrets: secrets.or(lower.secrets.clone()),
            },
        );
        let mut parser = Parser::default();
        let rules = merged.rules(&mut parser);
        if !parser.errors.is_empty() {
            return Some(format!("{}; {ALL_UNCHANGED}", parser.errors.join("; ")));
        }
        if rules != *self.rules.now() {
            let (grants, secrets) = (rules.grants.0.len(), rules.secrets.0.len());
            info!(grants, secrets, "what calls may reach has changed: calls that start from now on use it");
            self.rules.replace(rules);
        }
        None
    }
}

/// What a fault of one file changes.
const UNCHANGED: &str = "until then its tables [[grant]] and [secret] before stay in use";

/// What a fault of all files together changes.
const ALL_UNCHANGED: &str = "until then the tables [[grant]] and [secret] before of all files stay in use";

#[cfg(test)]
mod tests {
    use std::fs;

    use store::SigningKey;

    use super::*;

    /// The rules that are in use once no file has changed for a while.
    fn checked(files: &mut RuleFiles) -> Vec<Option<String>> {
        for _ in 0..4 {
            files.check();
        }
        let signer = |grant: &flow::Grant| grant.signer.as_ref().map(|key| key.0.clone());
        files.rules.now().grants.0.iter().map(signer).collect()
    }

    #[test]
    fn a_grant_follows_the_key_file_of_its_signer() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, key) = (folder.path().join("config.toml"), folder.path().join("ci.pub"));
        let [old, new] = [(); 2].map(|()| SigningKey::generate().unwrap().signer());
        fs::write(&key, old.to_file()).unwrap();
        fs::write(&settings, format!("[[grant]]\nsigner = {key:?}\nclock = true\n")).unwrap();
        let mut files = RuleFiles::new(CurrentRules::default(), vec![settings], LastTables::default());
        assert_eq!(checked(&mut files), [Some(old.to_string())]);
        // The settings stay as they are. A file that is written anew has another inode or time.
        let written = folder.path().join("written");
        fs::write(&written, new.to_file()).unwrap();
        fs::rename(&written, &key).unwrap();
        assert_eq!(checked(&mut files), [Some(new.to_string())]);
        // A file that cannot be read changes nothing, and is read again when it can be.
        fs::rename(&key, &written).unwrap();
        assert_eq!(checked(&mut files), [Some(new.to_string())]);
        assert!(files.faults[0].contains("ci.pub") && files.faults[0].ends_with(UNCHANGED), "{:?}", files.faults);
        fs::write(&key, old.to_file()).unwrap();
        assert_eq!(checked(&mut files), [Some(old.to_string())]);
        assert_eq!(files.faults, [""; 0]);
    }

    #[test]
    fn directories_of_two_files_that_overlap_are_named_with_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["user.toml", "system.toml"].map(|name| folder.path().join(name));
        let [user, system] = &paths;
        fs::write(user, "[[grant]]\nclock = true\n[[grant]]\ndirs = { a = { path = \"/c/e\" } }\n").unwrap();
        fs::write(system, "[[grant]]\ndirs = { b = { path = \"/c\" } }\n").unwrap();
        let mut files = RuleFiles::new(CurrentRules::default(), paths.to_vec(), LastTables::default());
        assert_eq!(checked(&mut files), []);
        let expected = format!(
            "{}, line 3, column 1: [[grant]]: the directory /c/e is inside of /c, which {}, line 1, column 1 grants: grant \
             directories beside each other; {ALL_UNCHANGED}",
            user.display(),
            system.display()
        );
        assert_eq!(files.faults, [expected]);
    }
}
