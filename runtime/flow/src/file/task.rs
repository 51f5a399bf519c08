//! Reads one task of a flow file.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range};

use toml::{Spanned, de::DeValue};

use super::{
    access, foreign_keys, json, keys,
    reader::{Diagnostics, Reader, WithSpan, wrong_type},
    retry,
};
use crate::{
    Access, Diagnostic, LimitEntry, LimitOverrides, MAX_DELIVERY_LIMIT, NodeName, QueueName, Recording, ValueName,
    Values,
    draft::{DraftForEach, DraftList, DraftTask, DraftTaskKind, Renames},
};

pub(super) type Spans = BTreeMap<String, Range<usize>>;

/// Reads a task; `None` when even its kind is unknown.
pub(super) fn read<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftTask> {
    let example = "{ name = \"mix\", use = \"kitchen#mix\" }";
    let mut table =
        diagnostics.read_needed(|diagnostics| Reader::open(toml, "a task", &keys::TASK, example, diagnostics))?;
    let mut spans = Spans::from([(String::new(), toml.span())]);
    let name = name(&mut table, "first-task", diagnostics);
    let kind = task_kind(&mut table, &mut spans, diagnostics);
    diagnostics.is_partial |= kind.is_none();
    let (requires, provides, with) = diagnostics.read_needed(|diagnostics| {
        let requires = renames(&mut table, "requires", &mut spans, diagnostics);
        let provides = renames(&mut table, "provides", &mut spans, diagnostics);
        (requires, provides, constants(&mut table, &mut spans, diagnostics))
    });
    let retry = table.take("retry").and_then(|toml| {
        spans.insert("retry".into(), toml.span());
        retry::policy(toml, &table.owner, diagnostics)
    });
    let limits = limits(&mut table, diagnostics);
    let access = table.take("allow").map(|toml| access::read(toml, &table.owner, diagnostics)).unwrap_or_default();
    let arguments = access::arguments(&mut table, diagnostics);
    let record = table.keyword("record", Recording::WORDS, diagnostics).unwrap_or_default();
    let memo = access::memo(&mut table, diagnostics);
    let access = Access { arguments, record, memo, ..access };
    let queue: Option<WithSpan<QueueName>> = table.name("queue", diagnostics);
    let priority = table.integer("priority", i32::MIN..=i32::MAX, diagnostics).unwrap_or_default();
    let pace = table.pace(diagnostics);
    let expires = table.duration("expires", diagnostics);
    let delivery_limit = table.integer("delivery_limit", 1..=MAX_DELIVERY_LIMIT, diagnostics).and_then(NonZeroU32::new);
    let rollback = table.boolean("rollback", diagnostics);
    let starts = table.starts(diagnostics);
    let deadline = table.duration("deadline", diagnostics);
    let for_each = diagnostics.read_needed(|diagnostics| for_each(&mut table, diagnostics));
    for key in keys::TASK.iter().filter(|key| key.is_of_call || key.name == "deadline") {
        spans.extend(table.take(key.name).map(|toml| (key.name.to_owned(), toml.span())));
    }
    table.finish(foreign_keys::suggest_task_key, diagnostics);
    let (name, kind) = (name?, kind?);
    spans.insert("name".into(), name.span);
    let rollback = rollback.map(|rollback| {
        spans.insert("rollback".into(), rollback.span);
        rollback.value
    });
    let queue = queue.map(|queue| queue.value);
    let name = name.value;
    Some(DraftTask {
        name,
        kind,
        requires,
        provides,
        with,
        retry,
        limits,
        access,
        queue,
        priority,
        pace,
        expires,
        delivery_limit,
        rollback,
        starts,
        deadline,
        for_each,
        retired: false,
        spans,
    })
}

/// Reads the limits of a task's calls. The keys `timeout`, `memory` and others come from the `limits!` macro.
fn limits(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> LimitOverrides {
    let mut limits = LimitOverrides::default();
    for (key, limit) in limits.entries() {
        match limit {
            LimitEntry::Time(time) => *time = table.duration(key, diagnostics),
            LimitEntry::Bytes(bytes) => *bytes = table.size(key, diagnostics),
            LimitEntry::Count(count) => *count = table.integer(key, 0..=u64::MAX, diagnostics),
            LimitEntry::SmallCount(count) => *count = table.integer(key, 0..=u32::MAX, diagnostics),
        }
    }
    limits
}

/// Reads the list of a `for_each` task.
fn for_each(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> Option<DraftForEach> {
    let toml = table.take("for_each");
    let element: Option<WithSpan<ValueName>> = table.name("as", diagnostics);
    let is_misnamed = element.is_none() && table.take("as").is_some();
    let max_parallel = table.integer("max_parallel", 1..=DraftForEach::MAX_PARALLEL, diagnostics);
    let Some(toml) = toml else {
        for key in ["as", "max_parallel"] {
            if let Some(toml) = table.take(key) {
                let message = format!("{} sets {key:?}, and is called once", table.owner);
                let hint = "set for_each = \"a list\", or leave it out";
                diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
            }
        }
        return None;
    };
    let owner = format!("\"for_each\" of {}", table.owner);
    let list = match toml.get_ref() {
        DeValue::String(text) => DraftList::Value(parse_name(text, toml.span(), &owner, diagnostics)?),
        DeValue::Array(elements) => {
            let owner = format!("an element of {owner}");
            let read = |element| json::json(element, &owner).map_err(|diagnostic| diagnostics.push(diagnostic)).ok();
            DraftList::Literal(elements.iter().filter_map(read).collect())
        }
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_)) => {
            let expected = "the name of a value that holds a list, or a list such as [1, 2, 3]";
            diagnostics.push(wrong_type(&owner, expected, other, toml.span()));
            return None;
        }
    };
    if is_misnamed {
        // It is unknown which of its values is the element.
        return None;
    }
    Some(DraftForEach { list, element: element.map(|element| element.value), max_parallel })
}

/// Reads the kind of a task: it calls a guest, or waits.
fn task_kind(table: &mut Reader<'_>, spans: &mut Spans, diagnostics: &mut Diagnostics) -> Option<DraftTaskKind> {
    let uses = table.string("use", "a text such as \"module#task\"", diagnostics);
    let wait = table.string("wait", "a text such as \"approval\"", diagnostics);
    let (calls, waits) = (table.take("use").is_some(), table.take("wait").is_some());
    if calls && let Some(wait) = &wait {
        let message = format!("{} has both \"use\" and \"wait\"", table.owner);
        diagnostics
            .push(Diagnostic::error(Some(wait.span.clone()), message).hint("a task calls a guest or waits: keep one"));
    }
    if !calls && !waits {
        diagnostics.push_missing(table.missing_key("use", "use = \"module#task\", or wait = \"approval\""));
    }
    match (uses, wait) {
        (Some(uses), _) => {
            spans.insert("use".into(), uses.span);
            Some(DraftTaskKind::Call(uses.value.to_owned()))
        }
        (None, Some(wait)) => {
            spans.insert("wait".into(), wait.span);
            Some(DraftTaskKind::Wait(wait.value.to_owned()))
        }
        (None, None) => None,
    }
}

/// Reads the name of a node, which the diagnostics of its table then contain.
pub(super) fn name(table: &mut Reader<'_>, example: &str, diagnostics: &mut Diagnostics) -> Option<WithSpan<NodeName>> {
    if table.take("name").is_none() {
        diagnostics.is_partial = true;
        diagnostics.push_missing(table.missing_key("name", &format!("name = {example:?}")));
    }
    let name: WithSpan<NodeName> = table.name_or_nearest("name", diagnostics)?;
    let is_as_written = table.take("name").is_some_and(|toml| toml.get_ref().as_str() == Some(name.value.as_str()));
    if is_as_written {
        let kind = table.owner.trim_start_matches("a ");
        table.owner = format!("{kind} {:?}", name.value);
    }
    Some(name)
}

/// Reads value names: the task's name = the flow's name; a list keeps the names.
pub(super) fn renames(
    table: &mut Reader<'_>,
    key: &'static str,
    spans: &mut Spans,
    diagnostics: &mut Diagnostics,
) -> Option<Renames> {
    let toml = table.take(key)?;
    let owner = format!("{key:?} of {}", table.owner);
    let mut renames = Renames::new();
    spans.insert(key.into(), toml.span());
    match toml.get_ref() {
        DeValue::Array(names) => {
            for name in names {
                let Some(value) = value_name(name, &owner, diagnostics) else { continue };
                spans.insert(format!("{key}.{value}"), name.span());
                if renames.insert(value.clone(), value.clone()).is_some() {
                    let diagnostic = Diagnostic::error(Some(name.span()), format!("{owner} has {value:?} twice"));
                    diagnostics.push(diagnostic.hint("name it once"));
                }
            }
        }
        DeValue::Table(entries) => {
            for (own_key, value) in entries {
                let own_name = key_name(own_key, &owner, diagnostics);
                let flow_name = value_name(value, &owner, diagnostics);
                let (Some(own_name), Some(flow_name)) = (own_name, flow_name) else { continue };
                spans.insert(format!("{key}.{own_name}"), own_key.span().start..value.span().end);
                renames.insert(own_name, flow_name);
            }
        }
        other @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => {
            let expected = "a list such as [\"pan\"], or a table such as { pan = \"first_pan\" }";
            diagnostics.push(wrong_type(&owner, expected, other, toml.span()));
        }
    }
    Some(renames)
}

fn constants(table: &mut Reader<'_>, spans: &mut Spans, diagnostics: &mut Diagnostics) -> Values {
    let Some(toml) = table.take("with") else { return Values::new() };
    spans.insert("with".into(), toml.span());
    let (values, value_spans) = values(toml, &format!("\"with\" of {}", table.owner), diagnostics);
    spans.extend(value_spans.into_iter().map(|(name, span)| (format!("with.{name}"), span)));
    values
}

/// Reads a table of values by name, with their spans.
pub(super) fn values<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    owner: &str,
    diagnostics: &mut Diagnostics,
) -> (Values, BTreeMap<ValueName, Range<usize>>) {
    let (mut values, mut spans) = (Values::new(), BTreeMap::new());
    let DeValue::Table(entries) = toml.get_ref() else {
        let expected = "a table such as { celsius = 180 }";
        diagnostics.push(wrong_type(owner, expected, toml.get_ref(), toml.span()));
        return (values, spans);
    };
    for (key, toml) in entries {
        let Some(name) = key_name(key, owner, diagnostics) else { continue };
        match json::value(toml, &format!("{name:?} in {owner}")) {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
        spans.insert(name, key.span());
    }
    (values, spans)
}

fn value_name(toml: &Spanned<DeValue<'_>>, owner: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    match toml.get_ref() {
        DeValue::String(text) => parse_name(text, toml.span(), owner, diagnostics),
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => {
            diagnostics.push(wrong_type(&format!("a name in {owner}"), "a text in quotes", other, toml.span()));
            None
        }
    }
}

fn key_name(key: &Spanned<std::borrow::Cow<'_, str>>, owner: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    parse_name(key.get_ref(), key.span(), owner, diagnostics)
}

fn parse_name(text: &str, span: Range<usize>, owner: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    ValueName::new(text).map_err(|error| diagnostics.push(Diagnostic::rejected(Some(span), owner, &error))).ok()
}
