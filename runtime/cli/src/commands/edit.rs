//! `waft edit`: the flow of a run, changed while it runs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, anyhow};
use client::{
    Client,
    api::{Edit, Edited, Edits},
};
use flow::Value;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    remote,
    submit::{push_file, push_modules, refused},
};
use crate::{
    arguments::EditCommand,
    exit::{Exit, Failed},
    flow_file::json_or_text,
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
        out::say!("{}", json!({"run": run, "revision": revision, "applied": applied, "edits": edits}));
        return Ok(Exit::Success);
    }
    for warning in warnings {
        eprintln!("warning: {}", warning.message);
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
            Edit::Set { task, parameter, value: raw(value)? }
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

fn raw(text: &str) -> Result<Box<RawValue>, Failed> {
    let json = match json_or_text(text).map_err(Failed::invalid)? {
        Value::Json(json) => json.as_str().to_owned(),
        Value::Bytes(_) | Value::Stored(_) => unreachable!("a text is JSON, or a string of it"),
    };
    Ok(RawValue::from_string(json).expect("it was checked to be JSON"))
}

async fn add(client: &Client, file: &Path) -> Result<Edit, Failed> {
    let text = read(file)?;
    let modules = push_modules(client, file, &text, flow::Edit::parse_addition(&text)).await?;
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

/// The edits of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditFile {
    edit: Vec<Table>,
}

/// One edit of a file: the word of what is done with its task, or its two nodes, and what else there is to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    add: Option<String>,
    remove: Option<String>,
    link: Option<(String, String)>,
    on: Option<String>,
    when: Option<String>,
    reach: Option<String>,
    join: Option<String>,
    unlink: Option<(String, String)>,
    #[serde(rename = "use")]
    uses: Option<(String, String)>,
    set: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, toml::Value>,
    require: Option<String>,
    #[serde(default)]
    requires: BTreeMap<String, String>,
}

async fn apply(client: &Client, file: &Path) -> Result<Vec<Edit>, Failed> {
    let shown = file.display();
    let parsed: EditFile =
        toml::from_str(&read(file)?).with_context(|| format!("{shown} holds no edits")).map_err(|error| {
            Failed::invalid(error).hint("write [[edit]] with remove = \"task\", link = [\"a\", \"b\"] and the like")
        })?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut edits = Vec::new();
    for (number, table) in (1..).zip(parsed.edit) {
        let before = edits.len();
        let Table { on, when, reach, join, with, requires, .. } = table;
        if let Some(added) = table.add {
            edits.push(add(client, &folder.join(added)).await?);
        }
        edits.extend(table.remove.map(|task| Edit::Remove { task }));
        edits.extend(table.link.map(|(from, to)| Edit::Link { from, to, on, when, reach, join }));
        edits.extend(table.unlink.map(|(from, to)| Edit::Unlink { from, to }));
        if let Some((task, module)) = table.uses {
            edits.push(uses(client, folder, task, &module).await?);
        }
        if let Some(task) = table.set {
            for (parameter, value) in with {
                let json = serde_json::to_string(&value).map_err(Failed::invalid)?;
                let value = RawValue::from_string(json).map_err(Failed::invalid)?;
                edits.push(Edit::Set { task: task.clone(), parameter, value });
            }
        }
        if let Some(task) = table.require {
            let one = |(parameter, value)| Edit::Require { task: task.clone(), parameter, value };
            edits.extend(requires.into_iter().map(one));
        }
        if edits.len() == before {
            let hint = "write add, remove, link, unlink, use, set (and with) or require (and requires)";
            return Err(Failed::invalid(anyhow!("edit {number} of {shown} does nothing")).hint(hint));
        }
    }
    Ok(edits)
}
