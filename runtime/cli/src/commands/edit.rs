//! `waft edit`: changes the flow of a run while it runs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, anyhow};
use client::{
    Client,
    api::{Edit, EditResult, Edits},
};
use engine::{Clock, SystemClock};
use flow::{Value, file::ParsedEdit};
use serde_json::{json, value::RawValue};

use super::{
    remote,
    run_location::{LocalRun, RunLocation, locate},
    submit::{Target, diagnostics_error, push_file, push_modules, refused},
};
use crate::{
    arguments::EditCommand,
    exit::{CliError, Exit},
    flow_file::{CheckedFlow, json_or_text},
    input_file, modules, output, sanitize,
    settings::Settings,
};

/// The edits, and their conditions.
pub(super) struct EditRequest {
    pub(super) edit: EditCommand,
    pub(super) if_revision: Option<u64>,
    pub(super) dry_run: bool,
}

pub(super) async fn run(settings: &Settings, run: &str, request: EditRequest, as_json: bool) -> Result<Exit, CliError> {
    let edited = match locate(settings, run).await? {
        RunLocation::Server(client) => edit_at_server(&client, run, request).await?,
        RunLocation::Local(local) => {
            let edited = edit_locally(settings, local, request).await?;
            if edited.applied {
                crate::output::note!("no process drives the run; `waft run --resume {run}` goes on with it");
            }
            edited
        }
    };
    let EditResult { run, revision, applied, edits, warnings, preview: _ } = edited;
    if as_json {
        crate::output::json(json!({"run": run, "revision": revision, "applied": applied, "edits": edits}));
        return Ok(Exit::Success);
    }
    for warning in warnings {
        crate::output::note!("warning: {}", sanitize::one_line(&warning.message));
    }
    let done = if applied { "is at" } else { "would be at" };
    output::say!("{run} {done} revision {revision}");
    edits.iter().for_each(|edit| output::say!("  {edit}"));
    Ok(Exit::Success)
}

/// Sends the edits to a server.
async fn edit_at_server(client: &Client, run: &str, request: EditRequest) -> Result<EditResult, CliError> {
    let EditRequest { edit, if_revision, dry_run } = request;
    let edits = edits(Target::Server(client), edit).await?;
    let (path, text) = added_text(&edits);
    let response = client.edit(run, &Edits { edits, if_revision, dry_run, ..Edits::default() }).await;
    response.map_err(|error| refused(Path::new(path), &text, error))
}

/// Edits a run of `waft run` that no process drives, in its logbook. If a process drives the run, that process holds the
/// flow.
async fn edit_locally(settings: &Settings, local: LocalRun, request: EditRequest) -> Result<EditResult, CliError> {
    let LocalRun { logbook, run } = local;
    let EditRequest { edit, if_revision, dry_run } = request;
    // Held until the edits are written.
    let Some(_lock) = logbook.lock_run(&run).await.map_err(CliError::unreachable)? else {
        let holder = logbook.run_lock_holder(&run).await.ok().flatten();
        let holder = holder.unwrap_or_else(|| "another process".into());
        return Err(CliError::invalid(anyhow!("{holder} drives run {run}, and takes no edits meanwhile")).hint(
            format!(
                "stop it with Ctrl-C, which suspends the run; then edit it, and `waft run --resume {run}`; the runs of \
             `waft serve` are edited while they run"
            ),
        ));
    };
    let library = modules::open(settings).await?;
    let edits = edits(Target::Local(&library), edit).await?;
    let (path, text) = added_text(&edits);
    let request = Edits { edits, if_revision, dry_run, ..Edits::default() };
    let edited = ::server::edit_alone(&*logbook, &library, &run, request, SystemClock.now()).await;
    edited.map_err(|problem| {
        let problem = problem.into_document();
        if problem.diagnostics.is_empty() {
            remote::local_refusal(problem)
        } else {
            diagnostics_error(Path::new(path), &text, &problem.diagnostics)
        }
    })
}

/// The text that diagnostics point into, if there is exactly one, and its name.
fn added_text(edits: &[Edit]) -> (&'static str, String) {
    match edits {
        [Edit::Add { text, .. }] => ("the added text", text.clone()),
        _ => ("the changed flow", String::new()),
    }
}

async fn edits(target: Target<'_>, edit: EditCommand) -> Result<Vec<Edit>, CliError> {
    Ok(vec![match edit {
        EditCommand::Add { file } => add(target, &file, read(&file)?).await?,
        EditCommand::Remove { task } => Edit::Remove { task },
        EditCommand::Link { from, to, on, when, reach, join } => Edit::Link {
            from,
            to,
            on: on.map(|on| on.as_str().into()),
            when,
            reach: reach.map(|reach| reach.as_str().into()),
            join: join.map(|join| join.as_str().into()),
        },
        EditCommand::Unlink { from, to } => Edit::Unlink { from, to },
        EditCommand::Use { task, module } => uses(target, Path::new(""), task, &module).await?,
        EditCommand::Set { task, value } => {
            let (parameter, value) = split(&value)?;
            Edit::Set { task, parameter, value: raw_json(&json_or_text(value).map_err(CliError::invalid)?) }
        }
        EditCommand::Require { task, value } => {
            let (parameter, value) = split(&value)?;
            Edit::Require { task, parameter, value: value.into() }
        }
        EditCommand::Apply { file } => return apply(target, &file).await,
    }])
}

fn split(text: &str) -> Result<(String, &str), CliError> {
    let (parameter, value) = text.split_once('=').ok_or_else(|| {
        CliError::invalid(anyhow!("{text:?} has no `=`")).hint("write PARAMETER=VALUE, as in celsius=180")
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

async fn add(target: Target<'_>, file: &Path, text: String) -> Result<Edit, CliError> {
    let draft = flow::Edit::read_addition(&text);
    let modules = push_modules(target, file, &text, draft).await?;
    Ok(Edit::Add { text, modules })
}

/// Uploads a module that is a local file to the target first. Paths are relative to `folder`.
async fn uses(target: Target<'_>, folder: &Path, task: String, module: &str) -> Result<Edit, CliError> {
    let (name, export) = module.split_once('#').map_or((module, None), |(name, export)| (name, Some(export)));
    let file = folder.join(name);
    let name = if file.is_file() { push_file(target, &file).await? } else { name.to_owned() };
    let uses = export.map_or_else(|| name.clone(), |export| format!("{name}#{export}"));
    Ok(Edit::Use { task, uses })
}

fn read(file: &Path) -> Result<String, CliError> {
    input_file::read_text(file, input_file::MAX_TEXT_BYTES)
        .with_context(|| format!("could not read {}", file.display()))
        .map_err(CliError::invalid)
}

/// Reads the edits from a file, as a flow file is read; paths in it are relative to it.
async fn apply(target: Target<'_>, file: &Path) -> Result<Vec<Edit>, CliError> {
    let text = read(file)?;
    let edits_in_file = match flow::file::edits(&text) {
        Ok(edits_in_file) => edits_in_file,
        Err(diagnostics) => {
            let checked = CheckedFlow { path: file.into(), text, flow: None, diagnostics, modules: Default::default() };
            return checked.into_flow().map(|_| Vec::new());
        }
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let (mut edits, mut added) = (Vec::new(), 0);
    for edit in edits_in_file {
        edits.push(match edit {
            ParsedEdit::Add { file: added_file, span: _ } => {
                let added_file = folder.join(added_file);
                let text = read(&added_file)?;
                added += text.len() as u64;
                if added > input_file::MAX_TEXT_BYTES {
                    let most = flow::Size(input_file::MAX_TEXT_BYTES);
                    let error = anyhow!("the files that {} adds have more than {most} together", file.display());
                    return Err(CliError::invalid(error).hint("apply the edits one after the other"));
                }
                add(target, &added_file, text).await?
            }
            // Paths of modules in it are relative to the file of edits.
            ParsedEdit::Edit(flow::Edit::Add { text }) => {
                add(target, &folder.join("the added text"), text.to_string()).await?
            }
            ParsedEdit::Edit(flow::Edit::Use { task, uses: module }) => {
                uses(target, folder, task.to_string(), &module).await?
            }
            ParsedEdit::Edit(edit) => to_api_edit(edit),
        });
    }
    Ok(edits)
}

/// Converts an edit for a request to a server.
fn to_api_edit(edit: flow::Edit) -> Edit {
    match edit {
        flow::Edit::Add { text } => Edit::Add { text: text.to_string(), modules: BTreeMap::new() },
        flow::Edit::Remove { task, ran: _ } => Edit::Remove { task: task.to_string() },
        flow::Edit::Link { from, to, on, when, reach, join } => Edit::Link {
            from: from.to_string(),
            to: to.to_string(),
            on: Some(on.into()),
            when: when.map(|when| when.to_string()),
            reach: reach.map(Into::into),
            join: Some(join.into()),
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
