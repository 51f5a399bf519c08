//! Flow files: TOML in, a [`Draft`] or every mistake out; and the other way round.
//!
//! Tables are read key by key and not through serde, so that one wrong value does not hide the next. What the
//! words mean together is not asked here: [`crate::wire`] does that.

mod body;
mod breaks;
mod json;
mod living;
mod reader;
mod retry;
mod task;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::reader::{Mistakes, Reader, wrong_type};
pub(crate) use self::task::OF_CALLS;
pub use self::writer::{Unwritable, write, write_addition};
use crate::{Draft, FlowName, Mistake, ModuleReference};

/// Reads a flow file.
///
/// # Errors
/// Every mistake in it, in the order of the file.
pub fn parse(text: &str) -> Result<Draft, Vec<Mistake>> {
    let (table, breaks) = DeTable::parse_recoverable(text);
    let mut found = Mistakes::default();
    let draft = whole(&table, &mut found);
    let mut mistakes = if breaks.is_empty() {
        found.wrong.append(&mut found.missing);
        found.wrong
    } else {
        breaks::with_breaks(found.wrong, &breaks, text)
    };
    if mistakes.is_empty() {
        return Ok(draft);
    }
    mistakes.sort_by_key(|mistake| mistake.span.as_ref().map(|span| span.start));
    mistakes.dedup();
    Err(mistakes)
}

fn whole(toml: &Spanned<DeTable<'_>>, mistakes: &mut Mistakes) -> Draft {
    let mut table = Reader::new(toml.get_ref(), 0..0, "the flow");
    if table.take("name").is_none() {
        mistakes.miss(table.lacks("name", "name = \"my-flow\" at the top of the file"));
    }
    let name = table.name::<FlowName>("name", mistakes).map(|name| name.value);
    if let Some(name) = &name {
        table.whose = format!("flow {name:?}");
    }
    let modules = table.take("modules").map(|toml| modules(toml, mistakes)).unwrap_or_default();
    let inputs = table.take("inputs").map(|toml| task::values(toml, "inputs", mistakes));
    let (inputs, input_spans) = inputs.unwrap_or_default();
    let body = body::read(&mut table, mistakes);
    let expires = table.duration("expires", mistakes);
    let living = living::read(&mut table, mistakes);
    let listens = body::tables(&mut table, "listen", "[[listen]]", mistakes);
    let listens = listens.iter().filter_map(|toml| living::listen(toml, mistakes)).collect();
    let schedules = body::tables(&mut table, "schedule", "[[schedule]]", mistakes);
    let schedules = schedules.iter().filter_map(|toml| living::schedule(toml, mistakes)).collect();
    table.finish(|_| None, mistakes);
    Draft { expires, name, modules, inputs, input_spans, body, living, listens, schedules, mistakes: Vec::new() }
}

fn modules(toml: &Spanned<DeValue<'_>>, mistakes: &mut Mistakes) -> BTreeMap<String, ModuleReference> {
    let mut modules = BTreeMap::new();
    let DeValue::Table(entries) = toml.get_ref() else {
        mistakes.push(wrong_type("modules", "a table of paths, tags or digests", toml.get_ref(), toml.span()));
        return modules;
    };
    for (alias, reference) in entries {
        let name = alias.get_ref();
        if name.is_empty() || name.contains('#') {
            let mistake = Mistake::error(Some(alias.span()), format!("a module cannot be called {name:?}"));
            mistakes.push(mistake.hint("`#` parts the module from its task in use = \"module#task\""));
        }
        match reference.get_ref().as_str() {
            Some("") => {
                let mistake = Mistake::error(Some(reference.span()), format!("module {name:?} is an empty text"));
                mistakes.push(mistake.hint("write a path, a tag, or sha256:…"));
            }
            Some(text) => {
                let reference = ModuleReference { text: text.into(), span: Some(reference.span()) };
                modules.insert(name.clone().into_owned(), reference);
            }
            None => {
                let whose = format!("module {name:?}");
                mistakes.push(wrong_type(
                    &whose,
                    "a path, a tag or a digest in quotes",
                    reference.get_ref(),
                    reference.span(),
                ));
            }
        }
    }
    modules
}
