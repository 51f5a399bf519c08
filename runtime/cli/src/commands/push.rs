//! `waft push`: stores modules and prints their digests.

use std::path::{Path, PathBuf};

use ::server::LibraryError;
use anyhow::anyhow;
use engine::{Clock as _, SystemClock};
use flow::{Digest, Size};
use serde_json::json;
use store::{SignError, Signature, SigningKey, Tag};

use super::{remote, submit};
use crate::{
    arguments::SignFlags,
    exit::{CliError, Exit},
    input_file, keys, modules,
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    files: &[PathBuf],
    tag: Option<&str>,
    SignFlags { sign, password_file }: SignFlags,
    as_json: bool,
) -> Result<Exit, CliError> {
    let tag: Option<Tag> = tag.map(str::parse).transpose().map_err(CliError::invalid)?;
    if tag.is_some() && files.len() > 1 {
        let error = anyhow!("one tag cannot refer to {} modules", files.len());
        return Err(CliError::invalid(error).hint("push them one by one"));
    }
    let key = sign.map(|key| keys::read_secret(&key, password_file.as_deref())).transpose()?;
    if settings.server.is_chosen() {
        return to_server(settings, files, tag.as_ref(), key.as_ref(), as_json).await;
    }
    let library = modules::open(settings).await?;
    for file in files {
        let component = modules::component(&library, file).await.map_err(invalid_module)?;
        let signature = key.as_ref().map(|key| sign_now(key, component.digest, tag.as_ref())).transpose()?;
        let pushed = library.push(component, signature.as_slice(), tag.as_ref()).await;
        let (found, _) = pushed.map_err(|error| refused(file, error))?;
        print(file, &found.digest.to_string(), found.bytes.len() as u64, &found.task_names(), as_json);
    }
    Ok(Exit::Success)
}

/// Signs a stored module.
pub(super) async fn sign_stored(
    settings: &Settings,
    digest: &str,
    tag: Option<&str>,
    key: &SigningKey,
) -> Result<Exit, CliError> {
    let digest: Digest = digest.parse().map_err(|_| {
        CliError::invalid(anyhow!("{digest:?} is no digest")).hint("`waft modules` lists the digests in the store")
    })?;
    let tag: Option<Tag> = tag.map(str::parse).transpose().map_err(CliError::invalid)?;
    let signature = sign_now(key, digest, tag.as_ref())?;
    if settings.server.is_chosen() {
        let client = remote::client(settings)?;
        client.sign(&digest.to_string(), signature.as_str()).await.map_err(remote::cli_error)?;
    } else {
        let library = modules::open(settings).await?;
        library.sign(&digest, &signature).await.map_err(not_signed)?;
    }
    crate::output::note!("{} has signed {digest}", key.signer());
    Ok(Exit::Success)
}

fn sign_now(key: &SigningKey, digest: Digest, tag: Option<&Tag>) -> Result<Signature, CliError> {
    key.sign(digest, tag.cloned(), SystemClock.now()).map_err(CliError::unreachable)
}

fn refused(file: &Path, error: LibraryError) -> CliError {
    match error {
        LibraryError::Module(_)
        | LibraryError::Compile(_)
        | LibraryError::Describe(_)
        | LibraryError::TooLarge { .. }
        | LibraryError::Exceeds { .. } => invalid_module(modules::file_error(file, error)),
        error => {
            let CliError { exit, error, hint } = not_signed(error);
            CliError { exit, error: error.context(format!("could not push {}", file.display())), hint }
        }
    }
}

fn invalid_module(error: anyhow::Error) -> CliError {
    let hint = match error.downcast_ref::<LibraryError>() {
        Some(LibraryError::TooLarge { .. } | LibraryError::Exceeds { .. }) => {
            "an operator changes the maximum under [limits] in the settings"
        }
        _ => "build a guest with `cargo build --target wasm32-wasip1 --release`; `waft new NAME` creates one",
    };
    CliError::invalid(error).hint(hint)
}

fn not_signed(error: LibraryError) -> CliError {
    match error {
        LibraryError::NotAdmitted(refusal) => {
            let advice = refusal.advice();
            CliError::invalid(refusal).hint(advice)
        }
        LibraryError::Sign(SignError::TooMany { .. }) => CliError::invalid(error)
            .hint("sign it for no tag, which counts for every tag; or remove files below `signatures` in the store"),
        LibraryError::Sign(SignError::Missing { .. }) => {
            CliError::invalid(error).hint("`waft modules` lists the digests in the store")
        }
        error => CliError::unreachable(error),
    }
}

/// Uploads modules to a server, which converts, checks and stores them.
async fn to_server(
    settings: &Settings,
    files: &[PathBuf],
    tag: Option<&Tag>,
    key: Option<&SigningKey>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    for file in files {
        let (bytes, signature) = match key {
            None => (read(file)?, None),
            // The signature is of the component.
            Some(key) => {
                let (digest, bytes) = submit::component(file).await.map_err(CliError::invalid)?;
                (bytes, Some(sign_now(key, digest, tag)?))
            }
        };
        let signatures: Vec<&str> = signature.iter().map(Signature::as_str).collect();
        let pushed = client.push_signed(bytes, tag.map(Tag::as_str), &signatures).await.map_err(|error| {
            let CliError { exit, error, hint } = remote::cli_error(error);
            CliError { exit, error: error.context(format!("could not push {}", file.display())), hint }
        })?;
        print(file, &pushed.digest, pushed.size, &pushed.tasks, as_json);
    }
    Ok(Exit::Success)
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    input_file::read(file, input_file::MAX_MODULE_BYTES)
        .map_err(|error| CliError::invalid(anyhow!(error).context(format!("could not read {}", file.display()))))
}

fn print(file: &Path, digest: &str, size: u64, tasks: &[String], as_json: bool) {
    if as_json {
        crate::output::json(json!({"digest": digest, "size": size, "file": file, "tasks": tasks}));
        return;
    }
    crate::output::say!("{digest}");
    let described = if tasks.is_empty() { "a WASI command".into() } else { format!("tasks {}", tasks.join(", ")) };
    crate::output::note!("{}: {:#}, {described}", file.display(), Size(size));
}
