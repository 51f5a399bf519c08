//! Edit files: parses TOML into edits or every diagnostic.
//!
//! Edit files are read like flow files: a value means the same in both, and unknown keys are reported.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    body, foreign_keys,
    keys::{self, EDIT_KINDS},
    reader::{Diagnostics, Reader, wrong_type},
    syntax_errors, task,
};
use crate::{Diagnostic, Edit, NodeName, Values};

/// One step of an edit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedEdit {
    /// Adds the content of another file.
    Add {
        /// Its path, relative to the edit file.
        file: String,
        /// Where the edit file names it.
        span: Range<usize>,
    },
    /// Any other edit; the module of [`Edit::Use`] may be a path, relative to the edit file.
    Edit(Edit),
}

/// Parses an edit file.
///
/// # Errors
/// Every diagnostic in it, in the order of the file.
pub fn edits(text: &str) -> Result<Vec<ParsedEdit>, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics = Diagnostics::default();
    let edits = read_root(&table, text, &mut diagnostics);
    let mut diagnostics = if errors.is_empty() {
        diagnostics.present.append(&mut diagnostics.missing);
        diagnostics.present
    } else {
        syntax_errors::with_syntax_errors(diagnostics.present, &errors, text)
    };
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    diagnostics.dedup();
    if diagnostics.is_empty() { Ok(edits) } else { Err(diagnostics) }
}

fn read_root<'t>(toml: &'t Spanned<DeTable<'t>>, text: &str, diagnostics: &mut Diagnostics) -> Vec<ParsedEdit> {
    let mut table = Reader::new(toml.get_ref(), 0..0, "the file of edits", &keys::EDIT_FILE);
    let tables = body::tables(&mut table, "edit", "[[edit]]", diagnostics);
    if tables.is_empty() {
        diagnostics.push_missing(
            table.missing_key("edit", "[[edit]] with remove = \"task\", link = [\"a\", \"b\"] and the like"),
        );
    }
    let edits = tables.iter().flat_map(|toml| edit(toml, text, diagnostics)).collect();
    table.finish(|_| None, diagnostics);
    edits
}

/// The edits of one table: one edit per value, where the table gives several.
fn edit<'t>(toml: &'t Spanned<DeValue<'t>>, text: &str, diagnostics: &mut Diagnostics) -> Vec<ParsedEdit> {
    let Some(mut table) = Reader::open(toml, "an edit", &keys::EDIT, "{ remove = \"a task\" }", diagnostics) else {
        return Vec::new();
    };
    let is_present = |key: &&(&str, &[&str])| toml.get_ref().get(key.0).is_some();
    let present: Vec<&(&'static str, &[&str])> = EDIT_KINDS.iter().filter(is_present).collect();
    let Some((kind, extra_keys)) = present.first().copied() else {
        let kinds = EDIT_KINDS.map(|(kind, _)| kind).join(", ");
        let diagnostic = Diagnostic::error(Some(toml.span()), "an edit does nothing");
        // A key is probably misspelt.
        table.keep_keys(|key| EDIT_KINDS.iter().any(|(kind, _)| *kind == key));
        table.finish(foreign_keys::suggest_edit_key, diagnostics);
        diagnostics.push_missing(diagnostic.hint(format!("it does one of {kinds}")));
        return Vec::new();
    };
    if let Some((other, _)) = present.get(1) {
        let diagnostic = Diagnostic::error(Some(toml.span()), format!("an edit has both {kind:?} and {other:?}"));
        diagnostics.push(diagnostic.hint("an edit does one thing: begin another with [[edit]]"));
    }
    table.owner = format!("the edit {kind:?}");
    let edits = read(kind, &mut table, text, diagnostics);
    // The keys of other kinds that are present were already reported.
    table.keep_keys(|key| present.iter().any(|(kind, extra_keys)| *kind == key || extra_keys.contains(&key)));
    let foreign = |key: &str| {
        let other_kind = EDIT_KINDS.iter().find(|(_, keys)| keys.contains(&key)).map(|(kind, _)| *kind);
        let other_kind = other_kind.filter(|_| !extra_keys.contains(&key));
        let hint = other_kind.map(|kind| format!("{key} is for an edit with {kind:?}"));
        hint.or_else(|| foreign_keys::suggest_edit_key(key))
    };
    table.finish(foreign, diagnostics);
    edits
}

fn read(kind: &'static str, table: &mut Reader<'_>, text: &str, diagnostics: &mut Diagnostics) -> Vec<ParsedEdit> {
    let one = |edit: Option<Edit>| edit.map(ParsedEdit::Edit).into_iter().collect();
    match kind {
        "add" => {
            let file = table.string("add", "the path of a file", diagnostics);
            file.map(|file| ParsedEdit::Add { file: file.value.into(), span: file.span }).into_iter().collect()
        }
        "add_text" => one(addition(table, text, diagnostics)),
        "remove" => one(table.name("remove", diagnostics).map(|task| Edit::Remove { task: task.value, ran: false })),
        "link" => {
            let ends = ends(table, "link", diagnostics);
            let body::LinkOptions { on, when, reach, join } = body::read_link_options(table, diagnostics);
            one(ends.map(|(from, to)| Edit::Link { from, to, on, when, reach, join }))
        }
        "unlink" => one(ends(table, "unlink", diagnostics).map(|(from, to)| Edit::Unlink { from, to })),
        "use" => {
            let expected = "a task and what it is to call, as in [\"mix\", \"kitchen#mix\"]";
            let pair = pair(table, "use", expected, diagnostics);
            one(pair.and_then(|[task, uses]| {
                let task = parse_name(task, &table.owner, diagnostics)?;
                Some(Edit::Use { task, uses: uses.0.to_owned() })
            }))
        }
        "set" => {
            let task = table.name::<NodeName>("set", diagnostics);
            let values = constants(table, diagnostics);
            let Some(task) = task else { return Vec::new() };
            let set = |(parameter, value)| Edit::Set { task: task.value.clone(), parameter, value };
            values.into_iter().map(|value| ParsedEdit::Edit(set(value))).collect()
        }
        "require" => {
            let task = table.name::<NodeName>("require", diagnostics);
            let renames = task::renames(table, "requires", &mut BTreeMap::new(), diagnostics);
            if renames.as_ref().is_none_or(BTreeMap::is_empty) {
                diagnostics.push_missing(table.missing_key("requires", "requires = { pan = \"first_pan\" }"));
            }
            let Some(task) = task else { return Vec::new() };
            let require = |(parameter, value)| Edit::Require { task: task.value.clone(), parameter, value };
            renames.into_iter().flatten().map(|rename| ParsedEdit::Edit(require(rename))).collect()
        }
        _ => unreachable!("only the kinds are read"),
    }
}

/// The edit of an `add_text`, whose text stands in the edit file itself: its diagnostics point there.
fn addition(table: &mut Reader<'_>, text: &str, diagnostics: &mut Diagnostics) -> Option<Edit> {
    let added = table.string("add_text", "the text of a flow file without its name", diagnostics)?;
    let Err(errors) = Edit::parse_addition(added.value) else { return Some(Edit::Add { text: added.value.into() }) };
    // A text with escapes stands in the file in another form: then only the place of the whole text is known.
    let start = text.get(added.span.clone()).and_then(|raw| raw.find(added.value)).map(|at| added.span.start + at);
    for error in errors {
        let span = match (start, &error.span) {
            (Some(start), Some(span)) => start + span.start..start + span.end,
            (None, _) | (_, None) => added.span.clone(),
        };
        diagnostics.push(Diagnostic { span: Some(span), ..error });
    }
    None
}

/// The constants of a `set` edit.
fn constants(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> Values {
    let missing = |table: &Reader<'_>| table.missing_key("with", "with = { celsius = 180 }");
    let Some(toml) = table.take("with") else {
        diagnostics.push_missing(missing(table));
        return Values::new();
    };
    let (values, spans) = task::values(toml, &format!("\"with\" of {}", table.owner), diagnostics);
    if toml.get_ref().as_table().is_some_and(|entries| entries.is_empty()) && spans.is_empty() {
        diagnostics.push_missing(missing(table));
    }
    values
}

fn ends(table: &mut Reader<'_>, key: &'static str, diagnostics: &mut Diagnostics) -> Option<(NodeName, NodeName)> {
    let pair = pair(table, key, "two names, as in [\"mix\", \"bake\"]", diagnostics)?;
    let [from, to] = pair.map(|end| parse_name(end, &table.owner, diagnostics));
    Some((from?, to?))
}

/// A text and its span.
type Text<'t> = (&'t str, Range<usize>);

/// Two texts in a list.
fn pair<'t>(
    table: &mut Reader<'t>,
    key: &'static str,
    expected: &str,
    diagnostics: &mut Diagnostics,
) -> Option<[Text<'t>; 2]> {
    let list = table.list(key, expected, diagnostics)?;
    let text = |toml: &'t Spanned<DeValue<'t>>| Some((toml.get_ref().as_str()?, toml.span()));
    if let [one, other] = list.value
        && let (Some(one), Some(other)) = (text(one), text(other))
    {
        return Some([one, other]);
    }
    match list.value.iter().find(|toml| toml.get_ref().as_str().is_none()) {
        Some(other) => {
            let owner = format!("an element of {key:?} of {}", table.owner);
            diagnostics.push(wrong_type(&owner, "a text in quotes", other.get_ref(), other.span()));
        }
        None => {
            let message = format!("{key:?} of {} does not have two elements", table.owner);
            diagnostics.push(Diagnostic::error(Some(list.span), message).hint(format!("write {expected}")));
        }
    }
    None
}

fn parse_name((text, span): Text<'_>, owner: &str, diagnostics: &mut Diagnostics) -> Option<NodeName> {
    NodeName::new(text).map_err(|error| diagnostics.push(Diagnostic::rejected(Some(span), owner, &error))).ok()
}

#[cfg(test)]
mod tests;
