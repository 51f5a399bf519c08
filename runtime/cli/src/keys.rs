//! The user's keys that sign modules: `NAME.key` and `NAME.pub` in one folder.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use flow::TokenName;
use store::{Protection, Signer, SigningKey};

use crate::{exit::CliError, settings};

/// The rights of others on a file.
const OTHERS: u32 = 0o077;

/// The maximum size of a key file or password file, in bytes.
const MAX_FILE: u64 = 4_096;

/// A public key of the user.
pub(crate) struct KnownKey {
    pub(crate) name: String,
    pub(crate) signer: Signer,
    pub(crate) file: PathBuf,
}

/// The folder with the keys.
pub(crate) fn folder() -> Result<PathBuf, CliError> {
    settings::keys_folder().ok_or_else(|| {
        let error = anyhow!("there is no home folder to keep keys in");
        CliError::invalid(error).hint("set HOME or XDG_CONFIG_HOME, or name a folder with --out")
    })
}

/// Makes a key pair in a folder. The secret file is for its owner only. An existing key is never replaced.
pub(crate) fn create(folder: &Path, name: &str, password: Option<&str>) -> Result<KnownKey, CliError> {
    let name = TokenName::new(name).map_err(CliError::invalid)?;
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.with_context(|| format!("could not make {}", folder.display())).map_err(CliError::invalid)?;
    let protection = password.map_or(Protection::FileMode, Protection::Password);
    let (signer, secret) = SigningKey::generate_file(protection).map_err(CliError::unreachable)?;
    let (secret_file, file) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    if file.exists() {
        return Err(exists(&file));
    }
    write_new(&secret_file, &secret, 0o600)?;
    write_new(&file, &signer.to_file(), 0o644)?;
    Ok(KnownKey { name: name.to_string(), signer, file })
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => CliError::invalid(anyhow!(error).context(format!("could not write {}", file.display()))),
    })
}

fn exists(file: &Path) -> CliError {
    let error = anyhow!("there is a key {} already", file.display());
    CliError::invalid(error).hint("choose another name; `waft keys list` lists the keys")
}

/// The public keys in the folder, in order of name. Files that are no public keys are left out.
pub(crate) fn known() -> Vec<KnownKey> {
    let Some(files) = settings::keys_folder().and_then(|folder| folder.read_dir().ok()) else { return Vec::new() };
    let key = |file: PathBuf| {
        let name = file.file_name()?.to_str()?.strip_suffix(".pub")?.to_owned();
        let signer = read(&file).ok()?.parse().ok()?;
        Some(KnownKey { name, signer, file })
    };
    let mut keys: Vec<KnownKey> = files.flatten().filter_map(|file| key(file.path())).collect();
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    keys
}

/// Names signers for a person: by the user's own files where there is one.
pub(crate) struct SignerNames(BTreeMap<String, String>);

impl SignerNames {
    pub(crate) fn read() -> Self {
        Self(known().into_iter().map(|key| (key.signer.to_string(), key.name)).collect())
    }

    /// The name of a signer, or the public key.
    pub(crate) fn of<'a>(&'a self, signer: &'a str) -> &'a str {
        self.0.get(signer).map_or(signer, String::as_str)
    }
}

/// Reads the secret key with a name, or in a file.
pub(crate) fn read_secret(name_or_file: &str, password_file: Option<&Path>) -> Result<SigningKey, CliError> {
    let named = Path::new(name_or_file);
    let file = if name_or_file.contains('/') || named.is_file() {
        named.to_owned()
    } else {
        folder()?.join(format!("{name_or_file}.key"))
    };
    let shown = file.display();
    let text = read(&file).map_err(|error| {
        CliError::invalid(anyhow!(error).context(format!("could not read the secret key {shown}")))
            .hint("name a key of `waft keys list`, or a file; `waft keys create NAME` makes a key")
    })?;
    let password = password_file.map(read_password).transpose()?;
    let protection = match &password {
        Some(password) => Protection::Password(password),
        None => {
            let mode = file.metadata().map_or(0, |metadata| metadata.mode());
            if mode & OTHERS != 0 {
                let error = anyhow!("other users may read the secret key {shown}, and it has no password");
                return Err(CliError::invalid(error).hint(format!("run `chmod 600 {shown}`")));
            }
            Protection::FileMode
        }
    };
    SigningKey::read(&text, protection).map_err(|error| {
        CliError::invalid(anyhow!(error).context(format!("could not use {shown}")))
            .hint("give the password of a key that has one, and only of such a key, with --password-file")
    })
}

/// Reads a password: the only line of a private file.
pub(crate) fn read_password(file: &Path) -> Result<String, CliError> {
    credentials::read_secret_once("the password", file).map_err(CliError::invalid)
}

/// Reads a small text file, such as one with a key.
///
/// # Errors
/// The operating system's error, or that the file is too large for a key or no regular file.
pub(crate) fn read(file: &Path) -> std::io::Result<String> {
    let bytes = credentials::read_regular(file, MAX_FILE)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}
