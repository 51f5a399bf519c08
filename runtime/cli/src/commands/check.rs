//! `waft check`: reports all diagnostics of a flow at once.

use std::path::Path;

use flow::{Diagnostic, Flow, GrantedPart, Lines, Node, Severity, SignerKey, graph::Role};
use serde_json::json;

use crate::{
    arguments::ValueFlags,
    exit::{CliError, Exit},
    flow_file,
    modules::{self, ModuleLibrary, Purpose},
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    flow: &Path,
    values: &ValueFlags,
    as_json: bool,
) -> Result<Exit, CliError> {
    let inputs = flow_file::parse_values(values)?;
    let library = modules::open_to_read(settings).await?;
    let checked = flow_file::check(&library, flow, &inputs, Purpose::Check).await?;
    if as_json {
        let lines = Lines::of(&checked.text);
        for diagnostic in &checked.diagnostics {
            crate::output::json(diagnostic_json(flow, &lines, diagnostic));
        }
        return Ok(if checked.flow.is_some() { Exit::Success } else { Exit::Invalid });
    }
    let flow = checked.into_flow()?;
    let is_task = |node: &&Node| matches!(node.role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    let count = flow.nodes.iter().filter(is_task).count();
    let tasks = if count == 1 { "task" } else { "tasks" };
    crate::output::say!("{}: {count} {tasks}, ready to run", flow.name);
    for node in &flow.nodes {
        if let Some(access) = describe_access(settings, &library, &flow, node).await? {
            crate::output::say!("  {} asks for {access}", node.name);
        }
    }
    for index in flow.indices() {
        let triggers = flow.describe_triggers(index);
        if !triggers.is_empty() {
            crate::output::say!("  {} fires {}", flow.node(index).name, triggers.join(", and "));
        }
    }
    if !flow.listeners.is_empty() {
        crate::output::say!("  The flows that are listened to need not exist yet: it waits for them.");
    }
    Ok(Exit::Success)
}

/// What a task asks for outside its sandbox, and how much of it the settings of this machine grant.
async fn describe_access(
    settings: &Settings,
    library: &ModuleLibrary,
    flow: &Flow,
    node: &Node,
) -> Result<Option<String>, CliError> {
    let task = match &node.role {
        Role::Task(task) => task,
        Role::ForEach(each) => &each.task,
        Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => return Ok(None),
    };
    let signatures = match settings.grants.name_signers() && !task.access.is_empty() {
        true => library.store.signatures(&task.module).await.map_err(CliError::unreachable)?,
        false => Vec::new(),
    };
    let policy = settings.admission.policy();
    let has_signed =
        |key: &SignerKey| key.0.parse().is_ok_and(|signer| policy.is_signed_by(&task.module, &signatures, &signer));
    let parts = settings
        .grants
        .with_signers(has_signed)
        .of_call(&task.access, &flow.name, &node.name, &task.module)
        .granted_parts();
    let described = parts.into_iter().map(|(asked, part)| match part {
        GrantedPart::All => format!("{asked} (granted here)"),
        GrantedPart::Some => format!("{asked} (granted here in part)"),
        GrantedPart::None => format!("{asked} (not granted here)"),
    });
    let described: Vec<String> = described.collect();
    Ok((!described.is_empty()).then(|| described.join(", ")))
}

fn diagnostic_json(file: &Path, lines: &Lines<'_>, diagnostic: &Diagnostic) -> serde_json::Value {
    let position = diagnostic.span.as_ref().map(|span| lines.line_and_column(span.start));
    json!({
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "file": file,
        "line": position.map(|(line, _)| line),
        "column": position.map(|(_, column)| column),
        "message": diagnostic.message,
        "hint": diagnostic.hint,
    })
}
