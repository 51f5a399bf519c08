//! `waft new`: creates a guest crate that builds as it is. This binary contains the SDK and its contract.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use flow::FlowName;
use include_dir::{Dir, include_dir};

use crate::exit::{CliError, Exit};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/template");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest-sdk/wit");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest-sdk/waft-guest");
static MACROS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest-sdk/waft-guest-macros");

/// The folder of the SDK in the new crate.
const SDK_FOLDER: &str = "waft-sdk";

pub(super) fn run(name: &str) -> Result<Exit, CliError> {
    let name: FlowName = name.parse().map_err(CliError::invalid)?;
    if !name.as_str().starts_with(|first: char| first.is_ascii_alphabetic()) {
        let error = anyhow!("{name:?} cannot be the name of a crate: it does not start with a letter");
        return Err(CliError::invalid(error).hint("choose a name such as my-task"));
    }
    let folder = PathBuf::from(name.as_str());
    if folder.exists() {
        let error = anyhow!("{} is there already", folder.display());
        return Err(CliError::invalid(error).hint("choose another name, or remove it"));
    }
    write_all(&folder, &name).map_err(CliError::unreachable)?;
    crate::output::say!("{name}/");
    crate::output::note!("wrote the crate {name}: its tasks are in {name}/src/lib.rs, its flow in {name}/flow.toml\n");
    crate::output::note!("  cd {name}");
    crate::output::note!("  cargo build --target wasm32-wasip1 --release");
    crate::output::note!("  waft run flow.toml");
    Ok(Exit::Success)
}

/// Writes everything to a draft folder and then renames it: the crate exists completely or not at all.
fn write_all(folder: &Path, name: &FlowName) -> anyhow::Result<()> {
    let draft = PathBuf::from(format!(".{name}.waft-new-{}", std::process::id()));
    let result = write_draft(&draft, name)
        .and_then(|()| fs::rename(&draft, folder).with_context(|| format!("could not create {}", folder.display())));
    if result.is_err() {
        // The first error matters more.
        let _ = fs::remove_dir_all(&draft);
    }
    result
}

fn write_draft(draft: &Path, name: &FlowName) -> anyhow::Result<()> {
    write(&TEMPLATE, draft, &|_| true, name)?;
    let sdk = draft.join(SDK_FOLDER);
    write(&WIT, &sdk.join("wit"), &|_| true, name)?;
    let is_source = |path: &Path| path.starts_with("src") || path == Path::new("Cargo.toml");
    write(&SDK, &sdk.join("waft-guest"), &is_source, name)?;
    write(&MACROS, &sdk.join("waft-guest-macros"), &is_source, name)
}

fn write(from: &Dir<'_>, to: &Path, is_included: &dyn Fn(&Path) -> bool, name: &FlowName) -> anyhow::Result<()> {
    for file in from.files().filter(|file| is_included(file.path())) {
        // A template whose name cargo or git would treat as its own ends in `.in`.
        let path = to.join(file.path());
        let path = if path.extension().is_some_and(|end| end == "in") { path.with_extension("") } else { path };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("could not create {}", parent.display()))?;
        }
        let filled = file.contents_utf8().map(|text| fill(text, name));
        let contents = filled.as_ref().map_or(file.contents(), |text| text.as_bytes());
        fs::write(&path, contents).with_context(|| format!("could not write {}", path.display()))?;
    }
    for folder in from.dirs() {
        write(folder, to, is_included, name)?;
    }
    Ok(())
}

fn fill(text: &str, name: &FlowName) -> String {
    text.replace("{{name}}", name.as_str()).replace("{{crate}}", &name.as_str().replace('-', "_"))
}
