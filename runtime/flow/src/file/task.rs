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
pub(super) fn read<'t>(toml: &'t Spanned<DeValue<'t>>, mistakes: &mut Diagnostics) -> Option<DraftTask> {
    let example = "{ name = \"mix\", use = \"kitchen#mix\" }";
    let mut table = mistakes.read_needed(|mistakes| Reader::open(toml, "a task", example, mistakes))?;
    let mut spans = Spans::from([(String::new(), toml.span())]);
    let name = name(&mut table, "first-task", mistakes);
    let does = task_kind(&mut table, &mut spans, mistakes);
    mistakes.is_partial |= does.is_none();
    let (requires, provides, with) = mistakes.read_needed(|mistakes| {
        let requires = renames(&mut table, "requires", &mut spans, mistakes);
        let provides = renames(&mut table, "provides", &mut spans, mistakes);
        (requires, provides, constants(&mut table, &mut spans, mistakes))
    });
    let retry = table.take("retry").and_then(|toml| {
        spans.insert("retry".into(), toml.span());
        retry::policy(toml, &table.owner, mistakes)
    });
    let limits = LimitOverrides {
        timeout: table.duration("timeout", mistakes),
        memory: table.size("memory", mistakes),
        stack: table.size("stack", mistakes),
        output: table.size("output", mistakes),
        log: table.size("log", mistakes),
        table_elements: table.integer("table_elements", 0..=u64::MAX, mistakes),
        instances: table.integer("instances", 0..=u32::MAX, mistakes),
    };
    let queue: Option<WithSpan<QueueName>> = table.name("queue", mistakes);
    let priority = table.integer("priority", i32::MIN..=i32::MAX, mistakes).unwrap_or_default();
    let pace = table.pace(mistakes);
    let expires = table.duration("expires", mistakes);
    let delivery_limit = table.integer("delivery_limit", 1..=MAX_DELIVERY_LIMIT, mistakes).and_then(NonZeroU32::new);
    let rollback = table.boolean("rollback", mistakes);
    let starts = table.starts(mistakes);
    let deadline = table.duration("deadline", mistakes);
    let for_each = mistakes.read_needed(|mistakes| for_each(&mut table, mistakes));
    for key in CALL_KEYS.into_iter().chain(["deadline"]) {
        spans.extend(table.take(key).map(|toml| (key.to_owned(), toml.span())));
    }
    table.finish(foreign_keys::suggest_task_key, mistakes);
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
fn for_each(table: &mut Reader<'_>, mistakes: &mut Diagnostics) -> Option<DraftForEach> {
    let toml = table.take("for_each");
    let element: Option<WithSpan<ValueName>> = table.name("as", mistakes);
    let is_misnamed = element.is_none() && table.take("as").is_some();
    let max_parallel = table.integer("max_parallel", 1..=u32::MAX, mistakes);
    let Some(toml) = toml else {
        for key in ["as", "max_parallel"] {
            if let Some(toml) = table.take(key) {
                let message = format!("{} says {key:?}, and is called once", table.owner);
                let hint = "say for_each = \"a list\", or leave it out";
                mistakes.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
            }
        }
        return None;
    };
    let whose = format!("\"for_each\" of {}", table.owner);
    let list = match toml.get_ref() {
        DeValue::String(text) => DraftList::Value(parse_name(text, toml.span(), &whose, mistakes)?),
        DeValue::Array(elements) => {
            let whose = format!("an element of {whose}");
            let read = |element| json::json(element, &whose).map_err(|mistake| mistakes.push(mistake)).ok();
            DraftList::Literal(elements.iter().filter_map(read).collect())
        }
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_)) => {
            let what = "the name of a value that holds a list, or a list such as [1, 2, 3]";
            mistakes.push(wrong_type(&whose, what, other, toml.span()));
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
fn task_kind(table: &mut Reader<'_>, spans: &mut Spans, mistakes: &mut Diagnostics) -> Option<DraftTaskKind> {
    let uses = table.string("use", "a text such as \"module#task\"", mistakes);
    let wait = table.string("wait", "a text such as \"approval\"", mistakes);
    let (calls, waits) = (table.take("use").is_some(), table.take("wait").is_some());
    if calls && let Some(wait) = &wait {
        let message = format!("{} has both \"use\" and \"wait\"", table.owner);
        mistakes
            .push(Diagnostic::error(Some(wait.span.clone()), message).hint("a task calls a guest or waits: keep one"));
    }
    if !calls && !waits {
        mistakes.push_missing(table.missing_key("use", "use = \"module#task\", or wait = \"approval\""));
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
pub(super) fn name(table: &mut Reader<'_>, example: &str, mistakes: &mut Diagnostics) -> Option<WithSpan<NodeName>> {
    if table.take("name").is_none() {
        mistakes.is_partial = true;
        mistakes.push_missing(table.missing_key("name", &format!("name = {example:?}")));
    }
    let name: WithSpan<NodeName> = table.name_or_nearest("name", mistakes)?;
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
    mistakes: &mut Diagnostics,
) -> Option<Renames> {
    let toml = table.take(key)?;
    let whose = format!("{key:?} of {}", table.owner);
    let mut renames = Renames::new();
    spans.insert(key.into(), toml.span());
    match toml.get_ref() {
        DeValue::Array(names) => {
            for name in names {
                let Some(known) = value_name(name, &whose, mistakes) else { continue };
                spans.insert(format!("{key}.{known}"), name.span());
                if renames.insert(known.clone(), known.clone()).is_some() {
                    let mistake = Diagnostic::error(Some(name.span()), format!("{whose} has {known:?} twice"));
                    mistakes.push(mistake.hint("name it once"));
                }
            }
        }
        DeValue::Table(entries) => {
            for (own, flows) in entries {
                let own_name = key_name(own, &whose, mistakes);
                let flows_name = value_name(flows, &whose, mistakes);
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
            mistakes.push(wrong_type(&whose, what, other, toml.span()));
        }
    }
    Some(renames)
}

fn constants(table: &mut Reader<'_>, spans: &mut Spans, mistakes: &mut Diagnostics) -> Values {
    let Some(toml) = table.take("with") else { return Values::new() };
    spans.insert("with".into(), toml.span());
    let (values, places) = values(toml, &format!("\"with\" of {}", table.owner), mistakes);
    spans.extend(places.into_iter().map(|(name, span)| (format!("with.{name}"), span)));
    values
}

/// Reads a table of values by name, with their spans.
pub(super) fn values<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    whose: &str,
    mistakes: &mut Diagnostics,
) -> (Values, BTreeMap<ValueName, Range<usize>>) {
    let (mut values, mut spans) = (Values::new(), BTreeMap::new());
    let DeValue::Table(entries) = toml.get_ref() else {
        let what = "a table such as { celsius = 180 }";
        mistakes.push(wrong_type(whose, what, toml.get_ref(), toml.span()));
        return (values, spans);
    };
    for (key, toml) in entries {
        let Some(name) = key_name(key, whose, mistakes) else { continue };
        match json::value(toml, &format!("{name:?} in {whose}")) {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(mistake) => mistakes.push(mistake),
        }
        spans.insert(name, key.span());
    }
    (values, spans)
}

fn value_name(toml: &Spanned<DeValue<'_>>, whose: &str, mistakes: &mut Diagnostics) -> Option<ValueName> {
    match toml.get_ref() {
        DeValue::String(text) => parse_name(text, toml.span(), whose, mistakes),
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => {
            mistakes.push(wrong_type(&format!("a name in {whose}"), "a text in quotes", other, toml.span()));
            None
        }
    }
}

fn key_name(key: &Spanned<std::borrow::Cow<'_, str>>, whose: &str, mistakes: &mut Diagnostics) -> Option<ValueName> {
    parse_name(key.get_ref(), key.span(), whose, mistakes)
}

fn parse_name(text: &str, span: Range<usize>, whose: &str, mistakes: &mut Diagnostics) -> Option<ValueName> {
    ValueName::new(text).map_err(|error| mistakes.push(Diagnostic::rejected(Some(span), whose, &error))).ok()
}
