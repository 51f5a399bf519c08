//! Flow files: parses TOML into a [`Draft`] or every diagnostic, and writes drafts as TOML.
//!
//! Tables are read key by key and not through serde, so that one wrong value does not hide the next. [`crate::wire`] checks
//! the meaning of the keys together.

mod access;
mod body;
mod syntax_errors;
mod edits;
mod json;
pub(crate) mod keys;
mod triggers;
mod reader;
mod retry;
mod task;
#[cfg(test)]
mod tests;
mod foreign_keys;
mod writer;

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use self::edits::{ParsedEdit, edits};
use self::reader::{Diagnostics, Reader, wrong_type};
pub use self::writer::{WriteError, write, write_access_lines, write_addition};
use crate::{
    Access, Diagnostic, Draft, FlowName, Size,
    draft::{ModuleReference, ParseExtent},
    wire::MAX_SCHEDULES,
};

/// The maximum size of a flow file, in bytes. Each run has the text of its flow in its history, and some requests read it
/// again, so a text costs more than once.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Parses a flow file that must be valid.
///
/// # Errors
/// Every diagnostic in it, in the order of the file.
pub fn parse(text: &str) -> Result<Draft, Vec<Diagnostic>> {
    let mut draft = read(text);
    if draft.diagnostics.is_empty() { Ok(draft) } else { Err(std::mem::take(&mut draft.diagnostics)) }
}

/// Parses what a task asks for from the lines of a table, which are the keys of `allow`.
///
/// # Errors
/// Every diagnostic in it.
pub fn parse_access(text: &str) -> Result<Access, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics = Diagnostics::default();
    let toml = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let access = access::read(&toml, "the access", &mut diagnostics);
    let diagnostics = match errors.is_empty() {
        true => {
            diagnostics.present.append(&mut diagnostics.missing);
            diagnostics.present
        }
        false => syntax_errors::with_syntax_errors(diagnostics.present, &errors, text),
    };
    if diagnostics.is_empty() { Ok(access) } else { Err(diagnostics) }
}

/// Reads as much of a flow file as possible. [`crate::wire`] reports its diagnostics together with those of wiring.
#[must_use]
pub fn read(text: &str) -> Draft {
    if text.len() > MAX_TEXT_BYTES {
        return too_large(text);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics = Diagnostics::default();
    let draft = read_root(&table, &mut diagnostics);
    let (mut diagnostics, extent) = if errors.is_empty() {
        diagnostics.present.append(&mut diagnostics.missing);
        (diagnostics.present, if diagnostics.is_partial { ParseExtent::Partial } else { ParseExtent::Whole })
    } else {
        (syntax_errors::with_syntax_errors(diagnostics.present, &errors, text), ParseExtent::Nothing)
    };
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    diagnostics.dedup();
    Draft { diagnostics, extent, ..draft }
}

/// The draft of a text that is not read, since it is too large.
fn too_large(text: &str) -> Draft {
    let (size, maximum) = (Size(text.len() as u64), Size(MAX_TEXT_BYTES as u64));
    let message = format!("it has {size:#}, and the maximum is {maximum:#}");
    let hint = "give large values as inputs of the run, and divide a flow of very many tasks";
    let (table, _) = DeTable::parse_recoverable("");
    let draft = read_root(&table, &mut Diagnostics::default());
    let diagnostics = vec![Diagnostic::error(None, message).hint(hint)];
    Draft { diagnostics, extent: ParseExtent::Nothing, ..draft }
}

fn read_root(toml: &Spanned<DeTable<'_>>, diagnostics: &mut Diagnostics) -> Draft {
    let mut table = Reader::new(toml.get_ref(), 0..0, "the flow", &keys::FLOW);
    if table.take("name").is_none() {
        diagnostics.push_missing(table.missing_key("name", "name = \"my-flow\" at the top of the file"));
    }
    let name = table.name_or_nearest::<FlowName>("name", diagnostics).map(|name| name.value);
    let is_as_written =
        |name: &&FlowName| toml.get_ref().get("name").and_then(|toml| toml.get_ref().as_str()) == Some(name.as_str());
    if let Some(name) = name.as_ref().filter(is_as_written) {
        table.owner = format!("flow {name:?}");
    }
    // Nothing else depends on the name of the whole flow.
    let name = name.or_else(|| FlowName::new("flow").ok());
    let modules = table.take("modules").map(|toml| modules(toml, diagnostics)).unwrap_or_default();
    let inputs = table
        .take("inputs")
        .map(|toml| diagnostics.read_needed(|diagnostics| task::values(toml, "inputs", diagnostics)));
    let (inputs, input_spans) = inputs.unwrap_or_default();
    let body = body::read(&mut table, diagnostics);
    let expires = table.duration("expires", diagnostics);
    let triggers = diagnostics.read_needed(|diagnostics| triggers::read(&mut table, diagnostics));
    let listeners = body::tables(&mut table, "listen", "[[listen]]", diagnostics);
    let listeners = listeners.iter().filter_map(|toml| triggers::listen(toml, diagnostics)).collect();
    let schedules = body::tables(&mut table, "schedule", "[[schedule]]", diagnostics);
    // A cron line takes kilobytes in memory, and its times are searched. Wiring refuses one more than allowed, and so any number.
    let schedules = schedules.iter().take(MAX_SCHEDULES + 1);
    let schedules = schedules.filter_map(|toml| triggers::schedule(toml, diagnostics)).collect();
    table.finish(foreign_keys::suggest_flow_key, diagnostics);
    let (diagnostics, extent) = (Vec::new(), ParseExtent::Whole);
    Draft { expires, name, modules, inputs, input_spans, body, triggers, listeners, schedules, diagnostics, extent }
}

fn modules(toml: &Spanned<DeValue<'_>>, diagnostics: &mut Diagnostics) -> BTreeMap<String, ModuleReference> {
    let mut modules = BTreeMap::new();
    let DeValue::Table(entries) = toml.get_ref() else {
        diagnostics.is_partial = true;
        diagnostics.push(wrong_type("modules", "a table of paths, tags or digests", toml.get_ref(), toml.span()));
        return modules;
    };
    for (alias, reference) in entries {
        let name = alias.get_ref();
        if name.is_empty() || name.contains('#') {
            let diagnostic = Diagnostic::error(Some(alias.span()), format!("a module cannot be called {name:?}"));
            diagnostics.push(diagnostic.hint("`#` separates the module from its task in use = \"module#task\""));
        }
        // A task that names the module finds it, although the reference is invalid.
        let unresolved = ModuleReference { span: Some(reference.span()), ..ModuleReference::default() };
        modules.insert(name.clone().into_owned(), unresolved);
        match reference.get_ref().as_str() {
            Some("") => {
                let diagnostic = Diagnostic::error(Some(reference.span()), format!("module {name:?} is an empty text"));
                diagnostics.push(diagnostic.hint("write a path, a tag, or sha256:…"));
            }
            Some(text) => {
                let span = Some(reference.span());
                let reference = ModuleReference { text: text.into(), span, missing: None };
                modules.insert(name.clone().into_owned(), reference);
            }
            None => {
                let owner = format!("module {name:?}");
                diagnostics.push(wrong_type(
                    &owner,
                    "a path, a tag or a digest in quotes",
                    reference.get_ref(),
                    reference.span(),
                ));
            }
        }
    }
    modules
}
