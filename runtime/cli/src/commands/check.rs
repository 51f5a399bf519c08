//! `waft check`: reports all diagnostics of a flow at once.

use std::path::Path;

use flow::{Diagnostic, Digest, Flow, GrantedPart, Grants, Lines, Node, Severity, SignerKey, graph::Role};
use serde_json::json;
use store::Signature;

use super::remote_grants;
use crate::{
    arguments::ValueFlags,
    exit::{CliError, Exit},
    flow_file,
    modules::{self, ModuleLibrary, Purpose},
    sanitize,
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
    let asking = match settings.server.is_chosen() {
        true => match remote_grants::describe(settings, &flow).await {
            Ok(asking) => asking,
            Err(error) => {
                let reason = sanitize::one_line(&format!("{:#}", error.error));
                crate::output::note!("what the workers of the server grant is not known: {reason}");
                describe_access(settings, &library, &flow).await?
            }
        },
        false => describe_access(settings, &library, &flow).await?,
    };
    for (task, access) in asking {
        crate::output::say!("{}", sanitize::one_line(&format!("  {task} asks for {access}")));
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

/// What the tasks ask for outside their sandbox, and how much of it the settings of this machine grant.
async fn describe_access(
    settings: &Settings,
    library: &ModuleLibrary,
    flow: &Flow,
) -> Result<Vec<(String, String)>, CliError> {
    let rules = settings.rules.now();
    let mut asking = Vec::new();
    for (_, name, task) in flow.tasks().filter(|(_, _, task)| task.access.needs_grants()) {
        let signatures = signatures_for(library, &rules.grants, &task.module).await?;
        let grants = grants_for(settings, &rules.grants, &task.module, &signatures);
        let parts = grants.of_call(&task.access, &flow.name, name, &task.module).granted_parts();
        let described = parts.into_iter().map(|(asked, part)| match part {
            GrantedPart::All => format!("{asked} (granted here)"),
            GrantedPart::Some => format!("{asked} (granted here in part)"),
            GrantedPart::None => format!("{asked} (not granted here)"),
        });
        asking.push((name.to_string(), described.collect::<Vec<_>>().join(", ")));
    }
    Ok(asking)
}

/// The signatures of a module, if grants depend on them.
pub(super) async fn signatures_for(
    library: &ModuleLibrary,
    grants: &Grants,
    module: &Digest,
) -> Result<Vec<Signature>, CliError> {
    match grants.name_signers() {
        true => library.store.signatures(module).await.map_err(CliError::unreachable),
        false => Ok(Vec::new()),
    }
}

/// The grants for a module: those that name a signer only if the signer has signed it.
pub(super) fn grants_for(settings: &Settings, grants: &Grants, module: &Digest, signatures: &[Signature]) -> Grants {
    let policy = settings.admission.policy();
    grants.with_signers(|key: &SignerKey| {
        key.0.parse().is_ok_and(|signer| policy.is_signed_by(module, signatures, &signer))
    })
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
