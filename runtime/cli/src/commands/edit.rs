//! `waft edit`: the flow of a run, changed while it runs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, anyhow};
use client::{
    Client,
    api::{Edit, Edited, Edits},
};
use flow::{Value, file::WrittenEdit};
use serde_json::{json, value::RawValue};

use super::{
    remote,
    submit::{push_file, push_modules, refused},
};
use crate::{
    arguments::EditCommand,
    exit::{Exit, Failed},
    flow_file::{Checked, json_or_text},
    out,
    settings::Settings,
};

/// What is to be changed, and when.
pub(super) struct Wanted {
    pub(super) edit: EditCommand,
    pub(super) if_revision: Option<u64>,
    pub(super) dry_run: bool,
}

pub(super) async fn run(settings: &Settings, run: &str, wanted: Wanted, as_json: bool) -> Result<Exit, Failed> {
    let client = remote::client(settings)?;
    let Wanted { edit, if_revision, dry_run } = wanted;
    let edits = edits(&client, edit).await?;
    let (path, text) = match &edits[..] {
        [Edit::Add { text, .. }] => ("the added text", text.clone()),
        _ => ("the changed flow", String::new()),
    };
    let asked = client.edit(run, &Edits { edits, if_revision, dry_run }).await;
    let Edited { run, revision, applied, edits, warnings } =
        asked.map_err(|error| refused(Path::new(path), &text, error))?;
    if as_json {
        crate::out::json(json!({"run": run, "revision": revision, "applied": applied, "edits": edits}));
        return Ok(Exit::Success);
    }
    for warning in warnings {
        crate::out::note!("warning: {}", warning.message);
    }
    let done = if applied { "is at" } else { "would be at" };
    out::say!("{run} {done} revision {revision}");
    edits.iter().for_each(|edit| out::say!("  {edit}"));
    Ok(Exit::Success)
}

async fn edits(client: &Client, edit: EditCommand) -> Result<Vec<Edit>, Failed> {
    Ok(vec![match edit {
        EditCommand::Add { file } => add(client, &file).await?,
        EditCommand::Remove { task } => Edit::Remove { task },
        EditCommand::Link { from, to, on, when, reach, join } => Edit::Link { from, to, on, when, reach, join },
        EditCommand::Unlink { from, to } => Edit::Unlink { from, to },
        EditCommand::Use { task, module } => uses(client, Path::new(""), task, &module).await?,
        EditCommand::Set { task, value } => {
            let (parameter, value) = split(&value)?;
            Edit::Set { task, parameter, value: raw_json(&json_or_text(value).map_err(Failed::invalid)?) }
        }
        EditCommand::Require { task, value } => {
            let (parameter, value) = split(&value)?;
            Edit::Require { task, parameter, value: value.into() }
        }
        EditCommand::Apply { file } => return apply(client, &file).await,
    }])
}

fn split(text: &str) -> Result<(String, &str), Failed> {
    let (parameter, value) = text.split_once('=').ok_or_else(|| {
        Failed::invalid(anyhow!("{text:?} has no `=`")).hint("write PARAMETER=VALUE, as in celsius=180")
    })?;
    Ok((parameter.into(), value))
}

fn raw_json(value: &Value) -> Box<RawValue> {
    let json = match value {
        Value::Json(json) => json.as_str().to_owned(),
        Value::Bytes(_) | Value::Stored(_) => unreachable!("what is written is JSON, or a string of it"),
    };
    RawValue::from_string(json).expect("it was checked to be JSON")
}

async fn add(client: &Client, file: &Path) -> Result<Edit, Failed> {
    let text = read(file)?;
    let draft = flow::Edit::read_addition(&text);
    let modules = push_modules(client, file, &text, draft).await?;
    Ok(Edit::Add { text, modules })
}

/// A module that is a file here goes to the server first. Paths are relative to a folder.
async fn uses(client: &Client, folder: &Path, task: String, module: &str) -> Result<Edit, Failed> {
    let (name, export) = module.split_once('#').map_or((module, None), |(name, export)| (name, Some(export)));
    let file = folder.join(name);
    let name = if file.is_file() { push_file(client, &file).await? } else { name.to_owned() };
    let uses = export.map_or_else(|| name.clone(), |export| format!("{name}#{export}"));
    Ok(Edit::Use { task, uses })
}

fn read(file: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display())).map_err(Failed::invalid)
}

/// The edits of a file, read as a flow file is; files in it are relative to it.
async fn apply(client: &Client, file: &Path) -> Result<Vec<Edit>, Failed> {
    let text = read(file)?;
    let written = match flow::file::edits(&text) {
        Ok(written) => written,
        Err(mistakes) => {
            let checked = Checked { path: file.into(), text, flow: None, mistakes };
            return checked.into_flow().map(|_| Vec::new());
        }
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut edits = Vec::new();
    for edit in written {
        edits.push(match edit {
            WrittenEdit::Add { file } => add(client, &folder.join(file)).await?,
            WrittenEdit::Edit(flow::Edit::Use { task, uses: module }) => {
                uses(client, folder, task.to_string(), &module).await?
            }
            WrittenEdit::Edit(edit) => asked(edit),
        });
    }
    Ok(edits)
}

/// An edit as a server is asked for it.
fn asked(edit: flow::Edit) -> Edit {
    match edit {
        flow::Edit::Add { text } => Edit::Add { text: text.to_string(), modules: BTreeMap::new() },
        flow::Edit::Remove { task, ran: _ } => Edit::Remove { task: task.to_string() },
        flow::Edit::Link { from, to, on, when, reach, join } => Edit::Link {
            from: from.to_string(),
            to: to.to_string(),
            on: Some(on.as_str().into()),
            when: when.map(|when| when.to_string()),
            reach: reach.map(|reach| reach.as_str().into()),
            join: Some(join.as_str().into()),
        },
        flow::Edit::Unlink { from, to } => Edit::Unlink { from: from.to_string(), to: to.to_string() },
        flow::Edit::Use { task, uses } => Edit::Use { task: task.to_string(), uses },
        flow::Edit::Set { task, parameter, value } => {
            let (task, parameter) = (task.to_string(), parameter.to_string());
            Edit::Set { task, parameter, value: raw_json(&value) }
        }
        flow::Edit::Require { task, parameter, value } => {
            let (task, parameter, value) = (task.to_string(), parameter.to_string(), value.to_string());
            Edit::Require { task, parameter, value }
        }
    }
}
