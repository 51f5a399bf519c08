//! `waft push`: modules into the store, their digests out.

use std::path::PathBuf;

use anyhow::anyhow;
use flow::{ModuleContent, Size};
use serde_json::json;
use store::Tag;

use crate::{
    exit::{Exit, Failed},
    modules::{Keep, Library},
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    files: &[PathBuf],
    tag: Option<&str>,
    as_json: bool,
) -> Result<Exit, Failed> {
    let tag: Option<Tag> = tag.map(str::parse).transpose().map_err(Failed::invalid)?;
    if tag.is_some() && files.len() > 1 {
        let error = anyhow!("one tag cannot stand for {} modules", files.len());
        return Err(Failed::invalid(error).hint("push them one by one"));
    }
    let library = Library::open(settings, 1).await?;
    for file in files {
        let found = library.file(file, Keep::Store).await.map_err(|error| {
            Failed::invalid(error)
                .hint("build a guest with `cargo build --target wasm32-wasip1 --release`; `waft new NAME` writes one")
        })?;
        if let Some(tag) = &tag {
            library.store.tag(tag, &found.digest).await.map_err(Failed::unreachable)?;
        }
        let (size, shown) = (found.bytes.len(), file.display());
        if as_json {
            let tasks = task_names(&found.content);
            println!("{}", json!({"digest": found.digest.to_string(), "size": size, "file": file, "tasks": tasks}));
        } else {
            println!("{}", found.digest);
            eprintln!("{shown}: {:#}, {}", Size(size as u64), describe(&found.content));
        }
    }
    Ok(Exit::Success)
}

fn task_names(content: &ModuleContent) -> Vec<String> {
    match content {
        ModuleContent::Tasks(tasks) => tasks.iter().map(|task| task.name.to_string()).collect(),
        ModuleContent::Command => Vec::new(),
    }
}

fn describe(content: &ModuleContent) -> String {
    match content {
        ModuleContent::Tasks(_) => format!("tasks {}", task_names(content).join(", ")),
        ModuleContent::Command => "a WASI command".into(),
    }
}
