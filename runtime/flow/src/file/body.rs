//! The common parts of the whole flow and of nested flows: nodes, links, pattern, order and retry controller.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Spanned, de::DeValue};

use super::{
    foreign_keys, keys,
    reader::{Diagnostics, Reader, WithSpan, wrong_type},
    retry, task,
};
use crate::{
    Condition, Diagnostic, Join, NodeName, Pattern, SkipReach, SourceOutcome,
    draft::{DraftFlow, DraftLink, DraftNode, FlowBody, LinkSpans},
    suggest,
};

/// Reads the body of a flow from the flow's table. The parser bounds the nesting of flows, and therefore this recursion.
pub(super) fn read(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> FlowBody {
    let pattern = diagnostics
        .read_needed(|diagnostics| table.keyword("pattern", Pattern::WORDS, diagnostics))
        .unwrap_or_default();
    let controller = table.take("retry").and_then(|toml| {
        let controller = retry::controller(toml, &table.owner, diagnostics);
        diagnostics.is_partial |= controller.is_none();
        controller
    });
    let mut nodes = Vec::new();
    for toml in tables(table, "task", "[[task]]", diagnostics) {
        nodes.extend(task::read(toml, diagnostics).map(|task| (toml.span().start, DraftNode::Task(Box::new(task)))));
    }
    for toml in tables(table, "flow", "[[flow]]", diagnostics) {
        nodes.extend(nested(toml, diagnostics).map(|flow| (toml.span().start, DraftNode::Flow(flow))));
    }
    nodes.sort_by_key(|(start, _)| *start);
    let mut nodes: Vec<DraftNode> = nodes.into_iter().map(|(_, node)| node).collect();
    let links =
        tables(table, "link", "[[link]]", diagnostics).iter().filter_map(|toml| link(toml, diagnostics)).collect();
    diagnostics.read_needed(|diagnostics| apply_order(table, pattern, &mut nodes, diagnostics));
    let starts = table.starts(diagnostics);
    FlowBody { pattern, nodes, links, controller, starts }
}

pub(super) fn tables<'t>(
    table: &mut Reader<'t>,
    key: &'static str,
    example: &str,
    diagnostics: &mut Diagnostics,
) -> &'t [Spanned<DeValue<'t>>] {
    let expected = format!("a list of tables, each begun by {example}");
    diagnostics.read_needed(|diagnostics| table.list(key, &expected, diagnostics)).map_or(&[], |list| list.value)
}

fn nested<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftFlow> {
    let mut table = diagnostics.read_needed(|diagnostics| {
        Reader::open(toml, "a flow", &keys::NESTED_FLOW, "{ name = \"icing\" }", diagnostics)
    })?;
    let name = task::name(&mut table, "inner-flow", diagnostics);
    let body = read(&mut table, diagnostics);
    let foreign = |key: &str| match key {
        "inputs" | "modules" => Some(format!("{key} belong to the whole flow: move them to the top of the file")),
        "expires" => Some("a run expires as a whole: move it to the top of the file".into()),
        key if keys::is_of_whole_flow(key) => {
            Some(format!("{key} belongs to the whole flow: move it to the top of the file"))
        }
        _ => foreign_keys::suggest_flow_key(key),
    };
    table.finish(foreign, diagnostics);
    Some(DraftFlow { name: name?.value, body, span: Some(toml.span()) })
}

fn link<'t>(toml: &'t Spanned<DeValue<'t>>, diagnostics: &mut Diagnostics) -> Option<DraftLink> {
    let example = "{ from = \"mix\", to = \"bake\" }";
    let mut table =
        diagnostics.read_needed(|diagnostics| Reader::open(toml, "a link", &keys::LINK, example, diagnostics))?;
    let mut end = |key| {
        if table.take(key).is_none() {
            diagnostics.is_partial = true;
            diagnostics.push_missing(table.missing_key(key, &format!("{key} = \"the name of a node\"")));
        }
        table.name_or_nearest::<NodeName>(key, diagnostics)
    };
    let (from, to) = (end("from"), end("to"));
    let span_of = |key| table.take(key).map(Spanned::span);
    let (on_span, when_span, reach_span) = (span_of("on"), span_of("when"), span_of("reach"));
    let join_span = span_of("join");
    let options = diagnostics.read_needed(|diagnostics| read_link_options(&mut table, diagnostics));
    table.finish(foreign_keys::suggest_link_key, diagnostics);
    let (from, to) = (from?, to?);
    let spans = LinkSpans {
        from: Some(from.span),
        to: Some(to.span),
        on: on_span,
        when: when_span,
        reach: reach_span,
        join: join_span,
    };
    let LinkOptions { on, when, reach, join } = options;
    Some(DraftLink { from: from.value, to: to.value, on, when, reach, join, spans })
}

/// The options of a link besides its ends.
pub(super) struct LinkOptions {
    pub(super) on: SourceOutcome,
    pub(super) when: Option<Condition>,
    pub(super) reach: Option<SkipReach>,
    pub(super) join: Join,
}

pub(super) fn read_link_options(table: &mut Reader<'_>, diagnostics: &mut Diagnostics) -> LinkOptions {
    let on = table.keyword("on", SourceOutcome::WORDS, diagnostics).unwrap_or_default();
    let when =
        table.string("when", "a condition in quotes", diagnostics).and_then(|text| match Condition::new(text.value) {
            Ok(condition) => Some(condition),
            Err(error) => {
                diagnostics.push(Diagnostic::rejected(Some(text.span), "\"when\" of a link", &error));
                None
            }
        });
    let reach = table.keyword("reach", SkipReach::WORDS, diagnostics);
    let join = table.keyword("join", Join::WORDS, diagnostics).unwrap_or_default();
    LinkOptions { on, when, reach, join }
}

/// Orders the nodes as `order` states, and reports missing, duplicate and unknown names.
fn apply_order(table: &mut Reader<'_>, pattern: Pattern, nodes: &mut [DraftNode], diagnostics: &mut Diagnostics) {
    let Some(order) = table.list("order", "a list of names", diagnostics) else { return };
    if pattern != Pattern::Linear {
        let message = format!("{} has an order, but is not linear", table.owner);
        diagnostics
            .push(Diagnostic::error(Some(order.span), message).hint("write pattern = \"linear\", or leave order out"));
        return;
    }
    let positions = order_positions(&order, &table.owner, nodes, diagnostics);
    for node in nodes.iter().filter(|node| !positions.contains_key(node.name().as_str())) {
        let message = format!("the order of {} misses {:?}", table.owner, node.name());
        diagnostics.push_missing(
            Diagnostic::error(Some(order.span.clone()), message).hint("name every node of the flow once"),
        );
    }
    nodes.sort_by_key(|node| positions.get(node.name().as_str()).copied());
}

fn order_positions<'t>(
    order: &WithSpan<&'t [Spanned<DeValue<'t>>]>,
    owner: &str,
    nodes: &[DraftNode],
    diagnostics: &mut Diagnostics,
) -> BTreeMap<&'t str, usize> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.name().as_str()).collect();
    let mut positions = BTreeMap::new();
    for (position, toml) in order.value.iter().enumerate() {
        let Some(name) = toml.get_ref().as_str() else {
            diagnostics.push(wrong_type(
                &format!("a name in the order of {owner}"),
                "a text",
                toml.get_ref(),
                toml.span(),
            ));
            continue;
        };
        if !known.contains(name) {
            let message = format!("the order of {owner} names {name:?}, which is no node of it");
            let is_read = diagnostics.present.len() < suggest::MAX_SUGGESTIONS;
            let hint = is_read.then(|| suggest::did_you_mean(name, known.iter().copied())).flatten();
            let hint = hint.unwrap_or_else(|| "name every node of the flow once, and no other".into());
            diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint(hint));
        } else if positions.insert(name, position).is_some() {
            let message = format!("the order of {owner} names {name:?} twice");
            diagnostics.push(Diagnostic::error(Some(toml.span()), message).hint("name every node of the flow once"));
        }
    }
    positions
}
