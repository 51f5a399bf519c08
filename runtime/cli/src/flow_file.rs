//! Reads a flow file into a flow that can run, or into all of its diagnostics.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::anyhow;
use flow::{Diagnostic, Draft, Flow, FlowSource, InvalidJson, Json, Severity, Value, ValueName, Values};

use crate::{
    arguments::ValueFlags,
    exit::CliError,
    modules::{self, ModuleLibrary, Persist, folder_of},
};

/// A flow file and its diagnostics.
pub(crate) struct CheckedFlow {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `None` when an error prevents it from running.
    pub(crate) flow: Option<Flow>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl CheckedFlow {
    /// Prints the diagnostics for a person.
    pub(crate) fn print_diagnostics(&self) {
        if !self.diagnostics.is_empty() {
            let name = self.path.display().to_string();
            crate::output::note!("{}", flow::render(&self.diagnostics, &name, &self.text));
        }
    }

    /// Returns the flow; prints its diagnostics in any case.
    pub(crate) fn into_flow(self) -> Result<Arc<Flow>, CliError> {
        self.print_diagnostics();
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
        match self.flow {
            Some(flow) => Ok(Arc::new(flow)),
            None => {
                let plural = if errors == 1 { "" } else { "s" };
                Err(CliError::invalid(anyhow!("{} has {errors} mistake{plural}", self.path.display())))
            }
        }
    }
}

/// Reads the text of a flow file.
pub(crate) async fn read(path: &Path) -> Result<String, CliError> {
    tokio::fs::read_to_string(path).await.map_err(|error| {
        let error = anyhow!(error).context(format!("could not read the flow file {}", path.display()));
        CliError::invalid(error).hint("name a flow file; `waft new NAME` creates one")
    })
}

/// Reads a flow file, finds its modules and wires it, as far as possible: an error in one step hides no error
/// in the next.
pub(crate) async fn check(
    library: &ModuleLibrary,
    path: &Path,
    inputs: &Values,
    persist: Persist,
) -> Result<CheckedFlow, CliError> {
    let text = read(path).await?;
    let mut draft = flow::file::read(&text);
    let modules = find_modules(library, &mut draft, &folder_of(path), persist).await;
    let (flow, diagnostics) = match flow::wire(&draft, &modules, inputs) {
        Ok((flow, warnings)) => {
            // The source, so that a run of the flow can be edited.
            let modules = modules.into_iter().map(|(alias, module)| (alias, module.digest)).collect();
            let origin = FlowSource { text: text.as_str().into(), modules, edits: Vec::new() };
            (Some(Flow { origin: Some(Arc::new(origin)), ..flow }), warnings)
        }
        Err(diagnostics) => (None, diagnostics),
    };
    Ok(CheckedFlow { path: path.to_owned(), text, flow, diagnostics })
}

/// Finds the modules that a flow names. The draft notes why a module is not available, and wiring reports it.
async fn find_modules(
    library: &ModuleLibrary,
    draft: &mut Draft,
    folder: &Path,
    persist: Persist,
) -> BTreeMap<String, flow::ModuleInfo> {
    // The diagnostics of the file already report an empty reference.
    let named = draft.modules.iter().filter(|(_, reference)| !reference.text.is_empty());
    let references: Vec<(String, String)> =
        named.map(|(alias, reference)| (alias.clone(), reference.text.clone())).collect();
    let (modules, missing) = modules::find_all(library, references, folder, persist).await;
    for (alias, error) in missing {
        if let Some(reference) = draft.modules.get_mut(&alias) {
            reference.missing = Some(format!("{error:#}"));
        }
    }
    modules
}

/// Parses `--set` and `--set-file`, and reports all errors at once.
pub(crate) fn parse_values(flags: &ValueFlags) -> Result<Values, CliError> {
    let mut values = Values::new();
    let mut errors = Vec::new();
    for text in &flags.set {
        let parsed = split(text, "--set").and_then(|(name, value)| match json_or_text(value) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(format!("--set {name}: {error}")),
        });
        match parsed {
            Ok((name, _)) if values.contains_key(&name) => errors.push(format!("{name} is given twice")),
            Ok((name, value)) => drop(values.insert(name, value)),
            Err(error) => errors.push(error),
        }
    }
    for text in &flags.set_file {
        let read = split(text, "--set-file").and_then(|(name, path)| match std::fs::read(path) {
            Ok(bytes) => Ok((name, Value::Bytes(bytes.into()))),
            Err(error) => Err(format!("--set-file {name}: could not read {path}: {error}")),
        });
        match read {
            Ok((name, _)) if values.contains_key(&name) => errors.push(format!("{name} is given twice")),
            Ok((name, value)) => drop(values.insert(name, value)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        return Ok(values);
    }
    Err(CliError::invalid(anyhow!("{}", errors.join("\n       ")))
        .hint("write --set name=VALUE, where VALUE is JSON or else a string, or --set-file name=PATH"))
}

fn split<'a>(text: &'a str, flag: &str) -> Result<(ValueName, &'a str), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{flag} {text:?} has no `=`"))?;
    let name = ValueName::new(name).map_err(|error| format!("{flag}: {error}"))?;
    Ok((name, value))
}

/// Parses a text as JSON, or else takes it as a string.
///
/// # Errors
/// [`InvalidJson`] for JSON that readers understand differently; a string was not intended.
pub(crate) fn json_or_text(text: &str) -> Result<Value, InvalidJson> {
    match Json::parse(text) {
        Ok(json) => Ok(Value::Json(json)),
        Err(InvalidJson::Syntax(_)) => Ok(Value::json(&text.into())),
        Err(error @ InvalidJson::DuplicateKey { .. }) => Err(error),
    }
}
