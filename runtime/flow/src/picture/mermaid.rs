//! Draws a flow for Mermaid, which many wikis and code hosts render.

use super::{Drawings, Shape};
use crate::{Flow, graph::ScopeIndex};

/// The flow as a Mermaid flowchart; nested flows are subgraphs.
#[must_use]
pub fn mermaid(flow: &Flow) -> String {
    let drawings = Drawings::of(flow);
    let title = drawings.title(Shape::Flow(ScopeIndex::ROOT));
    let mut out = format!("---\ntitle: {}\n---\nflowchart TB\n", quoted(&title));
    inside(&drawings, ScopeIndex::ROOT, "  ", &mut out);
    out
}

fn inside(drawings: &Drawings<'_>, scope: ScopeIndex, indent: &str, out: &mut String) {
    let drawing = drawings.drawing(scope);
    for shape in &drawing.shapes {
        let (id, title) = (id(*shape), quoted(&drawings.title(*shape)));
        match shape {
            // Mermaid does not draw an empty subgraph.
            Shape::Flow(nested) if !drawings.drawing(*nested).shapes.is_empty() => {
                out.push_str(&format!("{indent}subgraph {id}[{title}]\n"));
                inside(drawings, *nested, &format!("{indent}  "), out);
                out.push_str(&format!("{indent}end\n"));
            }
            Shape::Task(_) | Shape::Flow(_) => out.push_str(&format!("{indent}{id}[{title}]\n")),
        }
    }
    for ((from, to), label) in &drawing.arrows {
        let label = label.label();
        let label = if label.is_empty() { label } else { format!("|{}|", quoted(&label)) };
        out.push_str(&format!("{indent}{} -->{label} {}\n", id(*from), id(*to)));
    }
}

/// The id of a shape. Names can be keywords of Mermaid, such as `end`; these ids cannot.
fn id(shape: Shape) -> String {
    match shape {
        Shape::Task(index) => format!("t{}", index.0),
        Shape::Flow(scope) => format!("f{}", scope.0),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "#quot;"))
}
