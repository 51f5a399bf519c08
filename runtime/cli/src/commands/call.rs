//! `waft call`: runs one task now.

use std::{path::Path, sync::Arc};

use ::server::{WiredFlow, wire_draft};
use anyhow::anyhow;
use flow::{Draft, Labels, ModuleContent, Rollback, Severity, ValueName, Values};

use super::run::{OutputOptions, RunContext, RunTarget, run_flow};
use crate::{
    arguments::{BrokerFlag, ValueFlags},
    display::FullValueHint,
    exit::{CliError, Exit},
    flow_file,
    modules::{self, Purpose},
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    task: &str,
    values: &ValueFlags,
    broker: &BrokerFlag,
    provides: &[String],
    (as_json, guests): OutputOptions,
) -> Result<Exit, CliError> {
    let inputs = flow_file::parse_values(values)?;
    let (module, export) = match task.rsplit_once('#') {
        Some((module, export)) => (module, Some(export)),
        None => (task, None),
    };
    let library = modules::open_for_calls(settings, super::run::slots(settings)).await?;
    let found = modules::find(&library, module, (Path::new("."), None), Purpose::Run).await.map_err(|error| {
        let hint = modules::advice(&error).unwrap_or("write MODULE#TASK; the module is a file, a tag or a digest");
        CliError::invalid(error).hint(hint)
    })?;
    let provides: Result<Vec<ValueName>, _> = provides.iter().map(ValueName::new).collect();
    let provides = provides.map_err(CliError::invalid)?;
    reject_unknown_inputs(&inputs, &found.content, export)?;
    let draft = Draft::builder("call").map_err(CliError::invalid)?.module("module", module);
    let uses = export.map_or_else(|| "module".to_owned(), |export| format!("module#{export}"));
    let node = task_name(export);
    let draft = draft.task(&node, &uses, |task| {
        // Pass them as constants: a task may use one name for a required and a provided value.
        let task = inputs.into_iter().fold(task, |task, (name, value)| task.with(name, value));
        if provides.is_empty() { task } else { task.provides_same(provides) }
    });
    let find = |_| std::future::ready(Ok(found.clone()));
    let wired = wire_draft(Arc::new(draft.build()), &Values::new(), &library.maximum(), find).await;
    let WiredFlow { flow, .. } = wired.map_err(|diagnostics| {
        let errors = diagnostics.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        let messages: Vec<String> = errors.map(|diagnostic| diagnostic.message).collect();
        CliError::invalid(anyhow!("{}", messages.join("\n       ")))
            .hint("`waft inspect MODULE` shows its tasks and what they require; give values with --set name=VALUE")
    })?;
    let logbook = Arc::new(logbook::Memory::new());
    let (flow, run, full_value_hint) = (Arc::new(flow), RunTarget::New(None), FullValueHint::Json);
    run_flow(RunContext {
        settings,
        modules: library,
        flow,
        logbook,
        broker,
        run,
        labels: Labels::default(),
        as_json,
        full_value_hint,
        guests,
        lock: None,
    })
    .await
}

/// Refuses a value that the task does not require: as a constant, the guest would ignore it. A WASI command accepts any
/// value. Wiring reports a wrong task name.
fn reject_unknown_inputs(inputs: &Values, content: &ModuleContent, export: Option<&str>) -> Result<(), CliError> {
    let ModuleContent::Tasks(tasks) = content else { return Ok(()) };
    let Some(task) = tasks.iter().find(|task| export.is_none_or(|name| task.name.as_str() == name)) else {
        return Ok(());
    };
    let rollback_requires = match &task.rollback {
        Rollback::Guest { requires } => requires.as_slice(),
        Rollback::None => &[],
    };
    let takes =
        |name: &ValueName| task.requires.iter().chain(rollback_requires).any(|parameter| parameter.name == *name);
    let unknown: Vec<&str> = inputs.keys().filter(|name| !takes(name)).map(ValueName::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(CliError::invalid(anyhow!("task {:?} does not take {}", task.name, unknown.join(", ")))
        .hint("`waft inspect MODULE` shows its tasks and what they require"))
}

/// The name of the one task in displays: the export's name.
fn task_name(export: Option<&str>) -> String {
    export.filter(|name| flow::NodeName::new(name).is_ok()).unwrap_or("task").into()
}
