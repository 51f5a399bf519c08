//! Reads `retry`: a task's own policy, or a flow's retry controller.

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys, json, keys,
    reader::{Diagnostics, Reader, WithSpan, wrong_type},
};
use crate::{Backoff, Diagnostic, Otherwise, RetryPolicy, Strategy, ValueName, draft::DraftController};

/// Reads a task's own policy.
pub(super) fn policy<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    owner: &str,
    diagnostics: &mut Diagnostics,
) -> Option<RetryPolicy> {
    let mut table =
        Reader::open(toml, format!("the retry of {owner}"), &keys::POLICY, "{ attempts = 3 }", diagnostics)?;
    let default = RetryPolicy::default();
    let policy = RetryPolicy {
        attempts: table.integer("attempts", 1..=u32::MAX, diagnostics).unwrap_or(default.attempts),
        backoff: table.keyword("backoff", Backoff::WORDS, diagnostics).unwrap_or(default.backoff),
        initial: table.duration("initial", diagnostics).unwrap_or(default.initial),
        max: table.duration("max", diagnostics).unwrap_or(default.max),
        jitter: table.boolean("jitter", diagnostics).map_or(default.jitter, |jitter| jitter.value),
    };
    let foreign = |key: &str| {
        let is_controller_key = keys::CONTROLLER.iter().any(|known| known.name == key);
        let hint = || {
            format!("{key} is for a flow's retry controller; a task's own retry takes {}", keys::names(&keys::POLICY))
        };
        is_controller_key.then(hint).or_else(|| foreign_keys::suggest_policy_key(key))
    };
    table.finish(foreign, diagnostics);
    Some(policy)
}

/// Reads a flow's retry controller.
pub(super) fn controller<'t>(
    toml: &'t Spanned<DeValue<'t>>,
    owner: &str,
    diagnostics: &mut Diagnostics,
) -> Option<DraftController> {
    let mut table =
        Reader::open(toml, format!("the retry of {owner}"), &keys::CONTROLLER, "{ times = 3 }", diagnostics)?;
    let times = table.integer("times", 0..=u32::MAX, diagnostics).map(Strategy::Times);
    let for_each = table.take("for_each").and_then(|toml| for_each(toml, &table.owner, diagnostics));
    let always = table.keyword("always", Otherwise::WORDS, diagnostics);
    let otherwise = table.keyword("otherwise", Otherwise::WORDS, diagnostics);
    let provides: Option<WithSpan<ValueName>> = table.name("provides", diagnostics);
    one_strategy(&table, toml, diagnostics);
    let foreign = |key: &str| {
        let is_policy_key = keys::POLICY.iter().any(|known| known.name == key);
        is_policy_key
            .then(|| {
                format!(
                    "{key} is for a task's own retry; a flow's retry controller takes {}",
                    keys::names(&keys::CONTROLLER)
                )
            })
            .or_else(|| foreign_keys::suggest_controller_key(key))
    };
    table.finish(foreign, diagnostics);
    let strategy = times.or(for_each).or(always.map(|_| Strategy::Always))?;
    let provides = provides.map(|name| name.value);
    Some(DraftController {
        strategy,
        otherwise: always.or(otherwise).unwrap_or_default(),
        provides,
        span: Some(toml.span()),
    })
}

fn for_each(toml: &Spanned<DeValue<'_>>, owner: &str, diagnostics: &mut Diagnostics) -> Option<Strategy> {
    let owner = format!("\"for_each\" of {owner}");
    match toml.get_ref() {
        DeValue::Array(elements) => {
            let values = elements.iter().map(|element| json::json(element, &owner));
            let (values, errors): (Vec<_>, Vec<_>) = values.partition(Result::is_ok);
            let is_valid = errors.is_empty();
            diagnostics.present.extend(errors.into_iter().filter_map(Result::err));
            is_valid.then(|| Strategy::ForEach(values.into_iter().filter_map(Result::ok).collect()))
        }
        DeValue::String(name) => match ValueName::new(name) {
            Ok(name) => Some(Strategy::ForEachOf(name)),
            Err(error) => {
                diagnostics.push(Diagnostic::rejected(Some(toml.span()), &owner, &error));
                None
            }
        },
        other @ (DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_)) => {
            diagnostics.push(wrong_type(&owner, "a list, or the name of a value that is one", other, toml.span()));
            None
        }
    }
}

/// Checks that a controller states one strategy and one final answer.
fn one_strategy(table: &Reader<'_>, toml: &Spanned<DeValue<'_>>, diagnostics: &mut Diagnostics) {
    let is_present = |key: &&str| toml.get_ref().get(*key).is_some();
    let strategies: Vec<&str> = ["times", "for_each", "always"].into_iter().filter(is_present).collect();
    match strategies.as_slice() {
        [] => {
            let message = format!("{} sets no strategy", table.owner);
            let hint = "write times = 3, for_each = [..], or always = \"rollback\"";
            diagnostics.push_missing(Diagnostic::error(Some(toml.span()), message).hint(hint));
        }
        [_] => {}
        [one, other, ..] => {
            let message = format!("{} has both {one} and {other}", table.owner);
            diagnostics.push(
                Diagnostic::error(Some(toml.span()), message).hint("a retry controller does one of them: keep one"),
            );
        }
    }
    if is_present(&"always") && is_present(&"otherwise") {
        let message = format!("{} has both always and otherwise", table.owner);
        diagnostics
            .push(Diagnostic::error(Some(toml.span()), message).hint("always sets the answer: leave otherwise out"));
    }
}
