//! `waft push`: stores modules and prints their digests.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use flow::Size;
use serde_json::json;
use store::Tag;

use super::remote;
use crate::{
    exit::{CliError, Exit},
    modules::{self, Persist},
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    files: &[PathBuf],
    tag: Option<&str>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let tag: Option<Tag> = tag.map(str::parse).transpose().map_err(CliError::invalid)?;
    if tag.is_some() && files.len() > 1 {
        let error = anyhow!("one tag cannot refer to {} modules", files.len());
        return Err(CliError::invalid(error).hint("push them one by one"));
    }
    if settings.server.is_chosen() {
        return to_server(settings, files, tag.as_ref(), as_json).await;
    }
    let library = modules::open(settings, 1).await?;
    for file in files {
        let found = modules::file(&library, file, Persist::Store).await.map_err(|error| {
            CliError::invalid(error)
                .hint("build a guest with `cargo build --target wasm32-wasip1 --release`; `waft new NAME` creates one")
        })?;
        if let Some(tag) = &tag {
            library.store.tag(tag, &found.digest).await.map_err(CliError::unreachable)?;
        }
        print(file, &found.digest.to_string(), found.bytes.len() as u64, &found.task_names(), as_json);
    }
    Ok(Exit::Success)
}

/// Uploads modules to a server, which converts, checks and stores them.
async fn to_server(settings: &Settings, files: &[PathBuf], tag: Option<&Tag>, as_json: bool) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    for file in files {
        let bytes = tokio::fs::read(file)
            .await
            .map_err(|error| CliError::invalid(anyhow!(error).context(format!("could not read {}", file.display()))))?;
        let pushed = client.push(bytes, tag.map(Tag::as_str)).await.map_err(|error| {
            let CliError { exit, error, hint } = remote::cli_error(error);
            CliError { exit, error: error.context(format!("could not push {}", file.display())), hint }
        })?;
        print(file, &pushed.digest, pushed.size, &pushed.tasks, as_json);
    }
    Ok(Exit::Success)
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
