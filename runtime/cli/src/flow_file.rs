//! From a flow file to a flow that can run, or to every mistake in it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::anyhow;
use flow::{Draft, Flow, InvalidJson, Json, Mistake, Severity, Value, ValueName, Values};

use crate::{
    arguments::ValueFlags,
    exit::Failed,
    modules::{self, Keep, Library, folder_of},
};

/// A flow file and what is wrong with it.
pub(crate) struct Checked {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `None` when a mistake keeps it from running.
    pub(crate) flow: Option<Flow>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Checked {
    /// Prints the mistakes for a person.
    pub(crate) fn print_mistakes(&self) {
        if !self.mistakes.is_empty() {
            let name = self.path.display().to_string();
            eprintln!("{}", flow::render(&self.mistakes, &name, &self.text));
        }
    }

    /// The flow; its mistakes are printed either way.
    pub(crate) fn into_flow(self) -> Result<Arc<Flow>, Failed> {
        self.print_mistakes();
        let refused = self.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
        match self.flow {
            Some(flow) => Ok(Arc::new(flow)),
            None => {
                let plural = if refused == 1 { "" } else { "s" };
                Err(Failed::invalid(anyhow!("{} has {refused} mistake{plural}", self.path.display())))
            }
        }
    }
}

/// Reads the text of a flow file.
pub(crate) async fn read(path: &Path) -> Result<String, Failed> {
    tokio::fs::read_to_string(path).await.map_err(|error| {
        let error = anyhow!(error).context(format!("could not read the flow file {}", path.display()));
        Failed::invalid(error).hint("name a flow file; `waft new NAME` writes one to begin with")
    })
}

/// Reads a flow file, finds its modules and wires it.
pub(crate) async fn check(library: &Library, path: &Path, given: &Values, keep: Keep) -> Result<Checked, Failed> {
    let text = read(path).await?;
    let (path, text) = (path.to_owned(), text);
    let draft = match flow::file::parse(&text) {
        Ok(draft) => draft,
        Err(mistakes) => return Ok(Checked { path, text, flow: None, mistakes }),
    };
    let (flow, mistakes) = wire(library, &draft, &folder_of(&path), given, keep).await;
    Ok(Checked { path, text, flow, mistakes })
}

async fn wire(
    library: &Library,
    draft: &Draft,
    folder: &Path,
    given: &Values,
    keep: Keep,
) -> (Option<Flow>, Vec<Mistake>) {
    let references = draft.modules.iter().map(|(alias, reference)| (alias.clone(), reference.text.clone()));
    let (modules, missing) = modules::find_all(library, references, folder, keep).await;
    let wired = flow::wire(draft, &modules, given);
    if missing.is_empty() {
        return match wired {
            Ok((flow, warnings)) => (Some(flow), warnings),
            Err(mistakes) => (None, mistakes),
        };
    }
    let mistake = |(alias, error): (String, anyhow::Error)| Mistake {
        severity: Severity::Error,
        message: format!("module {alias:?}: {error:#}"),
        hint: Some("build the module, or name a file, a tag (`waft modules` lists them) or a digest".into()),
        span: draft.modules.get(&alias).and_then(|reference| reference.span.clone()),
    };
    let mut mistakes: Vec<Mistake> = missing.into_iter().map(mistake).collect();
    mistakes.extend(wired.map_or_else(|mistakes| mistakes, |(_, warnings)| warnings));
    mistakes.sort_by_key(|mistake| mistake.span.as_ref().map(|span| span.start));
    (None, mistakes)
}

/// Takes `--set` and `--set-file`; every mistake in them is told at once.
pub(crate) fn given_values(flags: &ValueFlags) -> Result<Values, Failed> {
    let mut values = Values::new();
    let mut mistakes = Vec::new();
    for text in &flags.set {
        let parsed = split(text, "--set").and_then(|(name, value)| match json_or_text(value) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err(format!("--set {name}: {error}")),
        });
        match parsed {
            Ok((name, value)) => drop(values.insert(name, value)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    for text in &flags.set_file {
        let read = split(text, "--set-file").and_then(|(name, path)| match std::fs::read(path) {
            Ok(bytes) => Ok((name, Value::Bytes(bytes.into()))),
            Err(error) => Err(format!("--set-file {name}: could not read {path}: {error}")),
        });
        match read {
            Ok((name, value)) => drop(values.insert(name, value)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        return Ok(values);
    }
    Err(Failed::invalid(anyhow!("{}", mistakes.join("\n       ")))
        .hint("write --set name=VALUE, where VALUE is JSON or else a string, or --set-file name=PATH"))
}

fn split<'a>(text: &'a str, flag: &str) -> Result<(ValueName, &'a str), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{flag} {text:?} has no `=`"))?;
    let name = ValueName::new(name).map_err(|error| format!("{flag}: {error}"))?;
    Ok((name, value))
}

/// The value that a text is: JSON, or else a string.
///
/// # Errors
/// [`InvalidJson`] for JSON that means another value to each reader; a string is not what was meant.
pub(crate) fn json_or_text(text: &str) -> Result<Value, InvalidJson> {
    match Json::parse(text) {
        Ok(json) => Ok(Value::Json(json)),
        Err(InvalidJson::Syntax(_)) => Ok(Value::json(&text.into())),
        Err(error @ InvalidJson::DoubledKey { .. }) => Err(error),
    }
}
