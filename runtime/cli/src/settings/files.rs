//! The files with settings, and the folders of a user.

use std::{
    env,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use toml::de::DeTable;

use super::{
    RawSettings, admission::LastRead, grants::RawGrants, guest_secrets::RawGuestSecrets, limits, located::FileText,
    outside::LastTables, storage::StoragePlace, webhooks::RawWebhooks,
};
use crate::exit::CliError;

/// The settings file of a project, in the folder where waft runs.
const PROJECT_FILE: &str = "waft.toml";

/// The settings file of the system.
pub(super) const SYSTEM_FILE: &str = "/etc/waft/config.toml";

/// The maximum size of a settings file, in bytes. A folder that anyone may have written can contain any file of this name.
const MAX_FILE: u64 = 1 << 20;

/// The settings files that exist, and their settings: the project's override the user's, and those override the system's.
pub(super) struct SettingsFiles {
    pub(super) names: Vec<String>,
    pub(super) settings: RawSettings,
    /// Those that contain a token, or an address with a password.
    pub(super) with_secrets: Vec<PathBuf>,
    /// What each names of logbook and store; those that take precedence come first.
    pub(super) storage: Vec<StoragePlace>,
    /// The table `[admission]` of each.
    pub(super) admission: LastRead,
    /// The tables `[[grant]]` and `[secret]` of each.
    pub(super) outside: LastTables,
}

impl SettingsFiles {
    pub(super) fn read() -> Result<Self, CliError> {
        let mut files = Self {
            names: Vec::new(),
            settings: RawSettings::default(),
            with_secrets: Vec::new(),
            storage: Vec::new(),
            admission: LastRead::default(),
            outside: LastTables::default(),
        };
        let project = PathBuf::from(PROJECT_FILE);
        for path in [Some(project.clone()), user_file(), Some(PathBuf::from(SYSTEM_FILE))].into_iter().flatten() {
            let Some(settings) = read_file(&path)? else { continue };
            if path == project {
                check_project(&settings)?;
            }
            settings.check_secrets(&path.display().to_string())?;
            if settings.has_secrets() {
                files.with_secrets.push(path.clone());
            }
            files.storage.push(StoragePlace::of(path.display().to_string(), &settings));
            files.admission.note_table(&path, &settings.admission);
            files.outside.note(&path, &settings);
            files.names.push(path.display().to_string());
            files.settings = files.settings.or(settings);
        }
        Ok(files)
    }
}

/// Checks that a project sets nothing that belongs to the user.
fn check_project(settings: &RawSettings) -> Result<(), CliError> {
    let keys = settings.private_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let error = anyhow!(
        "{PROJECT_FILE} in this folder sets {}: a folder must not choose where waft takes code from, keeps data or sends a token, which modules run, nor raise a limit or lower the protection",
        keys.join(", ")
    );
    let user = writable_settings_file();
    Err(CliError::invalid(error).hint(format!(
        "move the lines to {}, or use the environment or flags; a project may set [worker] slots, waiting, waiting_memory, queues, grace and delivery_limit",
        user.display()
    )))
}

/// The folder with the keys of the user that sign modules; `None` without a home folder.
pub(crate) fn keys_folder() -> Option<PathBuf> {
    base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("waft/keys"))
}

/// The settings file of the user; `None` without a home folder.
pub(super) fn user_file() -> Option<PathBuf> {
    base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("waft/config.toml"))
}

/// The settings file that a person would write: the user's, or else the system's.
pub(crate) fn writable_settings_file() -> PathBuf {
    user_file().unwrap_or_else(|| PathBuf::from(SYSTEM_FILE))
}

/// The settings of a file; `None` if it does not exist.
pub(super) fn read_file(path: &Path) -> Result<Option<RawSettings>, CliError> {
    let read = credentials::read_regular(path, MAX_FILE);
    let read = read.and_then(|bytes| String::from_utf8(bytes).map_err(|error| io::Error::other(error.utf8_error())));
    match read {
        Ok(text) => parse(&text, &path.display().to_string()).map(Some),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(CliError::invalid(anyhow!(error).context(format!("could not read {}", path.display())))),
    }
}

/// Parses the text of a file. `name` says which file it is, for errors.
pub(super) fn parse(text: &str, name: &str) -> Result<RawSettings, CliError> {
    let file = FileText::new(name, text);
    let failed = |error: toml::de::Error| {
        let place = error.span().map_or_else(|| name.to_owned(), |span| file.place(span.start).to_string());
        let message = anyhow!("the settings in {place} cannot be read: {}", error.message());
        CliError::invalid(message).hint(format!(
            "the settings are broker, broker_file, logbook, logbook_file, server, store, cache, cache_size, [worker] slots, waiting, \
             waiting_memory, queues, grace, delivery_limit, isolate, [serve] listen, token, token_file, certificate, key, client_authority, largest_request, [client] \
             authority, certificate, key, [limits] {}, [namespace.NAME] open_runs, bytes, [admission] modules, [[admission.allow]] signer, digest, tags, \
             [admission.deny] digests, signers, [[grant]], [secret.NAME] and [[webhook]]",
            limits::names()
        ))
    };
    let mut settings: RawSettings = toml::from_str(text).map_err(failed)?;
    let document = DeTable::parse(text).map_err(failed)?;
    if let Some(grants) = document.get_ref().get("grant") {
        settings.grant = RawGrants::read(grants, &file);
    }
    if let Some(secrets) = document.get_ref().get("secret") {
        settings.secret = RawGuestSecrets::read(secrets, &file);
    }
    if let Some(webhooks) = document.get_ref().get("webhook") {
        settings.webhook = RawWebhooks::read(webhooks, &file);
    }
    Ok(settings)
}

pub(super) fn default_dir(variable: &str, below_home: &str, name: &str) -> Result<PathBuf, CliError> {
    let base = base_dir(variable, below_home).ok_or_else(|| {
        let error = anyhow!("there is no home folder to store modules in");
        CliError::invalid(error).hint("set WAFT_STORE and WAFT_CACHE, or HOME")
    })?;
    Ok(base.join(name))
}

/// A base folder of the user: that of a variable, or else one below the home folder.
pub(super) fn base_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|base| base.is_absolute());
    named.or_else(|| Some(env::home_dir().filter(|home| home.is_absolute())?.join(below_home)))
}
