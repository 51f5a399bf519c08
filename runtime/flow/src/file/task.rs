//! Reads one task of a flow file.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range};

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys, json,
    reader::{Diagnostics, Reader, WithSpan, wrong_type},
    retry,
};
use crate::{
    Diagnostic, DraftForEach, DraftList, DraftTask, DraftTaskKind, LimitOverrides, MAX_DELIVERY_LIMIT, NodeName,
    QueueName, Renames, ValueName, Values,
};

pub(super) type Spans = BTreeMap<String, Range<usize>>;

/// Reads a task; `None` when even its kind is unknown.
pub(super) fn read<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftTask> {
    let example = "{ name = \"mix\", use = \"kitchen#mix\" }";
    let mut table = diagnostics.read_needed(|diagnostics| Reader::open(toml, "a task", example, diagnostics))?;
    let mut spans = Spans::from([(String::new(), toml.span())]);
    let name = name(&mut table, "first-task", diagnostics);
    let does = task_kind(&mut table, &mut spans, diagnostics);
    diagnostics.is_partial |= does.is_none();
    let (requires, provides, with) = diagnostics.read_needed(|diagnostics| {
        let requires = renames(&mut table, "requires", &mut spans, diagnostics);
        let provides = renames(&mut table, "provides", &mut spans, diagnostics);
        (requires, provides, constants(&mut table, &mut spans, diagnostics))
    });
    let retry = table.take("retry").and_then(|toml| {
        spans.insert("retry".into(), toml.span());
        retry::policy(toml, &table.owner, diagnostics)
    });
    let limits = LimitOverrides {
        timeout: table.duration("timeout", diagnostics),
        memory: table.size("memory", diagnostics),
        stack: table.size("stack", diagnostics),
        output: table.size("output", diagnostics),
        log: table.size("log", diagnostics),
        table_elements: table.integer("table_elements", 0..=u64::MAX, diagnostics),
        instances: table.integer("instances", 0..=u32::MAX, diagnostics),
    };
    let queue: Option<WithSpan<QueueName>> = table.name("queue", diagnostics);
    let priority = table.integer("priority", i32::MIN..=i32::MAX, diagnostics).unwrap_or_default();
    let pace = table.pace(diagnostics);
    let expires = table.duration("expires", diagnostics);
    let delivery_limit = table.integer("delivery_limit", 1..=MAX_DELIVERY_LIMIT, diagnostics).and_then(NonZeroU32::new);
    let rollback = table.boolean("rollback", diagnostics);
    let starts = table.starts(diagnostics);
    let deadline = table.duration("deadline", diagnostics);
    let for_each = diagnostics.read_needed(|diagnostics| for_each(&mut table, diagnostics));
    for key in CALL_KEYS.into_iter().chain(["deadline"]) {
        spans.extend(table.take(key).map(|toml| (key.to_owned(), toml.span())));
    }
    table.finish(foreign_keys::suggest_task_key, diagnostics);
    let (name, does) = (name?, does?);
    spans.insert("name".into(), name.span);
    let rollback = rollback.map(|rollback| {
        spans.insert("rollback".into(), rollback.span);
        rollback.value
    });
    let queue = queue.map(|queue| queue.value);
    let name = name.value;
    Some(DraftTask {
        name,
        kind: does,
        requires,
        provides,
        with,
        retry,
        limits,
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

/// The keys that configure a call.
pub(crate) const CALL_KEYS: [&str; 20] = [
    "delivery_limit",
    "expires",
    "for_each",
    "as",
    "max_parallel",
    "requires",
    "with",
    "retry",
    "timeout",
    "memory",
    "stack",
    "output",
    "log",
    "table_elements",
    "instances",
    "queue",
    "priority",
    "max_running",
    "rate",
    "rollback",
];

/// Reads the list of a `for_each` task.
fn for_each(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> Option<DraftForEach> {
    let toml = table.take("for_each");
    let element: Option<WithSpan<ValueName>> = table.name("as", diagnostics);
    let is_misnamed = element.is_none() && table.take("as").is_some();
    let max_parallel = table.integer("max_parallel", 1..=u32::MAX, diagnostics);
    let Some(toml) = toml else {
        for key in ["as", "max_parallel"] {
            if let Some(toml) = table.take(key) {
                let message = format!("{} says {key:?}, and is called once", table.owner);
                let hint = "say for_each = \"a list\", or leave it out";
                diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
            }
        }
        return None;
    };
    let whose = format!("\"for_each\" of {}", table.owner);
    let list = match toml.get_ref() {
        DeValue::String(text) => DraftList::Value(parse_name(text, toml.span(), &whose, diagnostics)?),
        DeValue::Array(elements) => {
            let whose = format!("an element of {whose}");
            let read = |element| json::json(element, &whose).map_err(|diagnostic| diagnostics.push(diagnostic)).ok();
            DraftList::Literal(elements.iter().filter_map(read).collect())
        }
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_)) => {
            let what = "the name of a value that holds a list, or a list such as [1, 2, 3]";
            diagnostics.push(wrong_type(&whose, what, other, toml.span()));
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
    let is_so_called = table.take("name").is_some_and(|toml| toml.get_ref().as_str() == Some(name.value.as_str()));
    if is_so_called {
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
    let whose = format!("{key:?} of {}", table.owner);
    let mut renames = Renames::new();
    spans.insert(key.into(), toml.span());
    match toml.get_ref() {
        DeValue::Array(names) => {
            for name in names {
                let Some(known) = value_name(name, &whose, diagnostics) else { continue };
                spans.insert(format!("{key}.{known}"), name.span());
                if renames.insert(known.clone(), known.clone()).is_some() {
                    let diagnostic = Diagnostic::error(Some(name.span()), format!("{whose} has {known:?} twice"));
                    diagnostics.push(diagnostic.hint("name it once"));
                }
            }
        }
        DeValue::Table(entries) => {
            for (own, flows) in entries {
                let own_name = key_name(own, &whose, diagnostics);
                let flows_name = value_name(flows, &whose, diagnostics);
                let (Some(own_name), Some(flows_name)) = (own_name, flows_name) else { continue };
                spans.insert(format!("{key}.{own_name}"), own.span().start..flows.span().end);
                renames.insert(own_name, flows_name);
            }
        }
        other @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => {
            let what = "a list such as [\"pan\"], or a table such as { pan = \"first_pan\" }";
            diagnostics.push(wrong_type(&whose, what, other, toml.span()));
        }
    }
    Some(renames)
}

fn constants(table: &mut Reader<'_>, spans: &mut Spans, diagnostics: &mut Diagnostics) -> Values {
    let Some(toml) = table.take("with") else { return Values::new() };
    spans.insert("with".into(), toml.span());
    let (values, places) = values(toml, &format!("\"with\" of {}", table.owner), diagnostics);
    spans.extend(places.into_iter().map(|(name, span)| (format!("with.{name}"), span)));
    values
}

/// Reads a table of values by name, with their spans.
pub(super) fn values<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    whose: &str,
    diagnostics: &mut Diagnostics,
) -> (Values, BTreeMap<ValueName, Range<usize>>) {
    let (mut values, mut spans) = (Values::new(), BTreeMap::new());
    let DeValue::Table(entries) = toml.get_ref() else {
        let what = "a table such as { celsius = 180 }";
        diagnostics.push(wrong_type(whose, what, toml.get_ref(), toml.span()));
        return (values, spans);
    };
    for (key, toml) in entries {
        let Some(name) = key_name(key, whose, diagnostics) else { continue };
        match json::value(toml, &format!("{name:?} in {whose}")) {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
        spans.insert(name, key.span());
    }
    (values, spans)
}

fn value_name(toml: &Spanned<DeValue<'_>>, whose: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    match toml.get_ref() {
        DeValue::String(text) => parse_name(text, toml.span(), whose, diagnostics),
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => {
            diagnostics.push(wrong_type(&format!("a name in {whose}"), "a text in quotes", other, toml.span()));
            None
        }
    }
}

fn key_name(key: &Spanned<std::borrow::Cow<'_, str>>, whose: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    parse_name(key.get_ref(), key.span(), whose, diagnostics)
}

fn parse_name(text: &str, span: Range<usize>, whose: &str, diagnostics: &mut Diagnostics) -> Option<ValueName> {
    ValueName::new(text).map_err(|error| diagnostics.push(Diagnostic::rejected(Some(span), whose, &error))).ok()
}
