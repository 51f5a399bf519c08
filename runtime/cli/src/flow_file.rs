//! Reads a flow file into a flow that can run, or into all of its diagnostics.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::server::wire_draft;
use anyhow::anyhow;
use flow::{
    Diagnostic, Digest, Flow, Json, ModuleContent, Severity, Value, ValueName, Values, draft::MissingModule,
    invalid::InvalidJson,
};

use crate::{
    arguments::ValueFlags,
    exit::CliError,
    input_file,
    modules::{self, ModuleLibrary, Purpose, folder_of},
};

/// A flow file and its diagnostics.
pub(crate) struct CheckedFlow {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `None` when an error prevents it from running.
    pub(crate) flow: Option<Flow>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The modules that were found.
    pub(crate) modules: BTreeMap<Digest, ModuleContent>,
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
                Err(CliError::invalid(anyhow!("{} has {errors} error{plural}", self.path.display())))
            }
        }
    }
}

/// Reads the text of a flow file.
pub(crate) fn read(path: &Path) -> Result<String, CliError> {
    input_file::read_text(path, input_file::MAX_TEXT_BYTES).map_err(|error| {
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
    purpose: Purpose,
) -> Result<CheckedFlow, CliError> {
    let text = read(path)?;
    let draft = flow::file::read(&text);
    let folder = folder_of(path);
    let namespace = draft.namespace();
    let known = RefCell::new(BTreeMap::new());
    let find = async |reference: String| {
        let found = modules::find(library, &reference, (&folder, namespace.as_ref()), purpose).await;
        if let Ok(found) = &found {
            known.borrow_mut().insert(found.digest, found.content.clone());
        }
        found.map_err(|error| {
            let reason = format!("{error:#}");
            match modules::advice(&error) {
                Some(advice) => MissingModule::Unusable { reason, hint: Some(advice.to_owned()) },
                None => MissingModule::NotFound { reason },
            }
        })
    };
    let (flow, diagnostics) = match wire_draft(Arc::new(draft), inputs, &library.maximum(), find).await {
        Ok(mut wired) => {
            let warnings = std::mem::take(&mut wired.warnings);
            (Some(wired.with_source(&text)), warnings)
        }
        Err(diagnostics) => (None, diagnostics),
    };
    Ok(CheckedFlow { path: path.to_owned(), text, flow, diagnostics, modules: known.into_inner() })
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
        let read = split(text, "--set-file").and_then(|(name, path)| match read_value(path) {
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

fn read_value(path: &str) -> std::io::Result<Vec<u8>> {
    input_file::read(Path::new(path), input_file::MAX_VALUE_BYTES)
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
