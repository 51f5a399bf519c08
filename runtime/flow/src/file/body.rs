//! The common parts of the whole flow and of nested flows: nodes, links, pattern, order and retry controller.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys,
    reader::{Diagnostics, Reader, WithSpan, wrong_type},
    retry, task,
};
use crate::{
    Condition, Diagnostic, DraftFlow, DraftLink, DraftNode, FlowBody, Join, LinkSpans, NodeName, Pattern, SkipReach,
    SourceOutcome, suggest,
};

/// Reads the body of a flow from the flow's table. The parser bounds the nesting of flows, and therefore this recursion.
pub(super) fn read(table: &mut Reader<'_>, mistakes: &mut Diagnostics) -> FlowBody {
    let pattern =
        mistakes.read_needed(|mistakes| table.keyword("pattern", Pattern::WORDS, mistakes)).unwrap_or_default();
    let controller = table.take("retry").and_then(|toml| {
        let controller = retry::controller(toml, &table.owner, mistakes);
        mistakes.is_partial |= controller.is_none();
        controller
    });
    let mut nodes = Vec::new();
    for toml in tables(table, "task", "[[task]]", mistakes) {
        nodes.extend(task::read(toml, mistakes).map(|task| (toml.span().start, DraftNode::Task(Box::new(task)))));
    }
    for toml in tables(table, "flow", "[[flow]]", mistakes) {
        nodes.extend(nested(toml, mistakes).map(|flow| (toml.span().start, DraftNode::Flow(flow))));
    }
    nodes.sort_by_key(|(start, _)| *start);
    let mut nodes: Vec<DraftNode> = nodes.into_iter().map(|(_, node)| node).collect();
    let links = tables(table, "link", "[[link]]", mistakes).iter().filter_map(|toml| link(toml, mistakes)).collect();
    mistakes.read_needed(|mistakes| apply_order(table, pattern, &mut nodes, mistakes));
    let starts = table.starts(mistakes);
    FlowBody { pattern, nodes, links, controller, starts }
}

pub(super) fn tables<'t>(
    table: &mut Reader<'t>,
    key: &'static str,
    example: &str,
    mistakes: &mut Diagnostics,
) -> &'t [Spanned<DeValue<'t>>] {
    let what = format!("a list of tables, each begun by {example}");
    mistakes.read_needed(|mistakes| table.list(key, &what, mistakes)).map_or(&[], |list| list.value)
}

fn nested<'t>(toml: &'t Spanned<DeValue<'t>>, mistakes: &mut Diagnostics) -> Option<DraftFlow> {
    let mut table = mistakes.read_needed(|mistakes| Reader::open(toml, "a flow", "{ name = \"icing\" }", mistakes))?;
    let name = task::name(&mut table, "inner-flow", mistakes);
    let body = read(&mut table, mistakes);
    let foreign = |key: &str| match key {
        "inputs" | "modules" => Some(format!("{key} belong to the whole flow: move them to the top of the file")),
        "expires" => Some("a run expires as a whole: move it to the top of the file".into()),
        "persistent" | "cyclic" | "max_firings" | "max_parallel" | "listen" | "schedule" => {
            Some(format!("{key} is said of the whole flow: move it to the top of the file"))
        }
        _ => foreign_keys::suggest_flow_key(key),
    };
    table.finish(foreign, mistakes);
    Some(DraftFlow { name: name?.value, body, span: Some(toml.span()) })
}

fn link<'t>(toml: &'t Spanned<DeValue<'t>>, mistakes: &mut Diagnostics) -> Option<DraftLink> {
    let example = "{ from = \"mix\", to = \"bake\" }";
    let mut table = mistakes.read_needed(|mistakes| Reader::open(toml, "a link", example, mistakes))?;
    let mut end = |key| {
        if table.take(key).is_none() {
            mistakes.is_partial = true;
            mistakes.push_missing(table.missing_key(key, &format!("{key} = \"the name of a node\"")));
        }
        table.name_or_nearest::<NodeName>(key, mistakes)
    };
    let (from, to) = (end("from"), end("to"));
    let mut span_of = |key| table.take(key).map(Spanned::span);
    let (on_span, when_span, reach_span) = (span_of("on"), span_of("when"), span_of("reach"));
    let join_span = span_of("join");
    let said = mistakes.read_needed(|mistakes| read_link_options(&mut table, mistakes));
    table.finish(|_| None, mistakes);
    let (from, to) = (from?, to?);
    let spans = LinkSpans {
        from: Some(from.span),
        to: Some(to.span),
        on: on_span,
        when: when_span,
        reach: reach_span,
        join: join_span,
    };
    let LinkOptions { on, when, reach, join } = said;
    Some(DraftLink { from: from.value, to: to.value, on, when, reach, join, spans })
}

/// The options of a link besides its ends.
pub(super) struct LinkOptions {
    pub(super) on: SourceOutcome,
    pub(super) when: Option<Condition>,
    pub(super) reach: Option<SkipReach>,
    pub(super) join: Join,
}

pub(super) fn read_link_options(table: &mut Reader<'_>, mistakes: &mut Diagnostics) -> LinkOptions {
    let on = table.keyword("on", SourceOutcome::WORDS, mistakes).unwrap_or_default();
    let when =
        table.string("when", "a condition in quotes", mistakes).and_then(|text| match Condition::new(text.value) {
            Ok(condition) => Some(condition),
            Err(error) => {
                mistakes.push(Diagnostic::rejected(Some(text.span), "\"when\" of a link", &error));
                None
            }
        });
    let reach = table.keyword("reach", SkipReach::WORDS, mistakes);
    let join = table.keyword("join", Join::WORDS, mistakes).unwrap_or_default();
    LinkOptions { on, when, reach, join }
}

/// Orders the nodes as `order` states, and reports missing, duplicate and unknown names.
fn apply_order(table: &mut Reader<'_>, pattern: Pattern, nodes: &mut [DraftNode], mistakes: &mut Diagnostics) {
    let Some(order) = table.list("order", "a list of names", mistakes) else { return };
    if pattern != Pattern::Linear {
        let message = format!("{} has an order, but is not linear", table.owner);
        mistakes
            .push(Diagnostic::error(Some(order.span), message).hint("write pattern = \"linear\", or leave order out"));
        return;
    }
    let places = order_positions(&order, &table.owner, nodes, mistakes);
    for node in nodes.iter().filter(|node| !places.contains_key(node.name().as_str())) {
        let message = format!("the order of {} misses {:?}", table.owner, node.name());
        mistakes.push_missing(
            Diagnostic::error(Some(order.span.clone()), message).hint("name every node of the flow once"),
        );
    }
    nodes.sort_by_key(|node| places.get(node.name().as_str()).copied());
}

fn order_positions<'t>(
    order: &WithSpan<&'t [Spanned<DeValue<'t>>]>,
    whose: &str,
    nodes: &[DraftNode],
    mistakes: &mut Diagnostics,
) -> BTreeMap<&'t str, usize> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.name().as_str()).collect();
    let mut places = BTreeMap::new();
    for (place, toml) in order.value.iter().enumerate() {
        let Some(name) = toml.get_ref().as_str() else {
            mistakes.push(wrong_type(
                &format!("a name in the order of {whose}"),
                "a text",
                toml.get_ref(),
                toml.span(),
            ));
            continue;
        };
        if !known.contains(name) {
            let message = format!("the order of {whose} names {name:?}, which is no node of it");
            let is_read = mistakes.present.len() < suggest::MAX_SUGGESTIONS;
            let hint = is_read.then(|| suggest::did_you_mean(name, known.iter().copied())).flatten();
            let hint = hint.unwrap_or_else(|| "name every node of the flow once, and no other".into());
            mistakes.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
        } else if places.insert(name, place).is_some() {
            let message = format!("the order of {whose} names {name:?} twice");
            mistakes.push(Diagnostic::error(Some(toml.span()), message).hint("name every node of the flow once"));
        }
    }
    places
}
