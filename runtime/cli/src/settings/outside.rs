//! The tables `[[grant]]` and `[secret.NAME]` of the settings files while a command runs: what calls may reach changes as soon as
//! a file changes.
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
}

impl Tables {
    fn rules(&self, parser: &mut Parser) -> Rules {
        Rules { grants: self.grants.grants(parser), secrets: self.secrets.secrets(parser) }
    }
}

impl RuleFiles {
    fn new(rules: CurrentRules, files: Vec<PathBuf>, last: LastTables) -> Self {
        Self { rules, files, last, changes: ChangeDetector::default(), faults: Vec::new() }
    }

    fn check(&mut self) {
        // A disk that fails may work again without a change of the file.
        if !self.changes.is_due(&self.files, !self.faults.is_empty()) {
            return;
        }
        let mut faults = self.read();
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
            return Some(format!("{}; {UNCHANGED}", parser.errors.join("; ")));
        }
        if rules != *self.rules.now() {
            let (grants, secrets) = (rules.grants.0.len(), rules.secrets.0.len());
            info!(grants, secrets, "what calls may reach has changed: calls that start from now on use it");
            self.rules.replace(rules);
        }
        None
    }
}

/// What a fault changes.
const UNCHANGED: &str = "until then its tables [[grant]] and [secret] before stay in use";
