//! Draws a flow for Graphviz.

use super::{ArrowLabel, Drawings, Shape};
use crate::{Flow, graph::ScopeIndex};

/// The flow as a Graphviz graph; nested flows are clusters.
#[must_use]
pub fn dot(flow: &Flow) -> String {
    let drawings = Drawings::of(flow);
    let mut out = format!("digraph {} {{\n", quoted(flow.name.as_str()));
    out.push_str("  compound=true;\n  node [shape=box, style=rounded];\n");
    let root = Shape::Flow(ScopeIndex::ROOT);
    out.push_str(&format!("  label={};\n", quoted(&drawings.title(root))));
    write_scope(&drawings, ScopeIndex::ROOT, "  ", &mut out);
    out.push_str("}\n");
    out
}

fn write_scope(drawings: &Drawings<'_>, scope: ScopeIndex, indent: &str, out: &mut String) {
    let drawing = drawings.drawing(scope);
    if drawing.shapes.is_empty() && scope != ScopeIndex::ROOT {
        // Graphviz draws no empty cluster, and no edge to one.
        out.push_str(&format!(
            "{indent}{} [style=invis, label=\"\"];\n",
            node(drawings, Shape::Flow(scope), End::First)
        ));
    }
    for shape in &drawing.shapes {
        match shape {
            Shape::Task(_) => out.push_str(&format!("{indent}{};\n", quoted(&drawings.title(*shape)))),
            Shape::Flow(nested) => {
                out.push_str(&format!("{indent}subgraph {} {{\n", cluster(drawings, *nested)));
                let inner_indent = format!("{indent}  ");
                out.push_str(&format!("{inner_indent}label={};\n", quoted(&drawings.title(*shape))));
                write_scope(drawings, *nested, &inner_indent, out);
                out.push_str(&format!("{indent}}}\n"));
            }
        }
    }
    for ((from, to), label) in &drawing.arrows {
        let attributes = attributes(drawings, *from, *to, label);
        let (tail, head) = (node(drawings, *from, End::Last), node(drawings, *to, End::First));
        out.push_str(&format!("{indent}{tail} -> {head}{attributes};\n"));
    }
}

fn attributes(drawings: &Drawings<'_>, from: Shape, to: Shape, label: &ArrowLabel<'_>) -> String {
    let mut attributes = Vec::new();
    if let Shape::Flow(scope) = from {
        attributes.push(format!("ltail={}", cluster(drawings, scope)));
    }
    if let Shape::Flow(scope) = to {
        attributes.push(format!("lhead={}", cluster(drawings, scope)));
    }
    let label = label.label();
    if !label.is_empty() {
        attributes.push(format!("label={}", quoted(&label)));
    }
    if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) }
}

fn cluster(drawings: &Drawings<'_>, scope: ScopeIndex) -> String {
    let begin = drawings.flow.scope(scope).begin;
    quoted(&format!("cluster_{}", drawings.flow.node(begin).name))
}

/// The end of a flow whose task represents it where an edge needs a node.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

fn node(drawings: &Drawings<'_>, shape: Shape, end: End) -> String {
    match shape {
        Shape::Task(_) => quoted(&drawings.title(shape)),
        Shape::Flow(scope) => {
            let shapes = &drawings.drawing(scope).shapes;
            let member = match end {
                End::First => shapes.first(),
                End::Last => shapes.last(),
            };
            // No node name contains a colon.
            let empty = || quoted(&format!("empty:{}", drawings.flow.node(drawings.flow.scope(scope).begin).name));
            member.map_or_else(empty, |member| node(drawings, *member, end))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
