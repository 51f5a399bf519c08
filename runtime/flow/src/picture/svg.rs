//! Draws a flow as an SVG image that needs no other program.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    ArrowLabel, Drawings, Shape,
    layers::{Arrow, Layers, lay_out},
};
use crate::{Flow, NodeIndex, State, graph::ScopeIndex};

/// The width of a character in a title.
const CHARACTER: f64 = 8.0;
/// The width of a character on an arrow.
const SMALL_CHARACTER: f64 = 7.0;
const BOX_HEIGHT: f64 = 34.0;
/// The height of a box that also has the state of its task.
const STATE_BOX_HEIGHT: f64 = 50.0;
const BOX_PADDING: f64 = 14.0;
const FRAME_PADDING: f64 = 16.0;
const FRAME_TITLE: f64 = 26.0;

const STYLE: &str = "
  svg { background: #ffffff; font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
  .task { fill: #eef4ff; stroke: #3b6fd4; stroke-width: 1.2; }
  .flow { fill: #80808014; stroke: #8a94a6; stroke-dasharray: 5 3; }
  .arrow { fill: none; stroke: #5b6472; stroke-width: 1.3; }
  .head { fill: #5b6472; }
  text { fill: #1c2430; }
  .title { fill: #5b6472; }
  .value { fill: #96480f; font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  .state { font-size: 11px; }
  .success { fill: #e3f6e8; stroke: #1f8a3d; }
  .failure, .rollback-failure { fill: #fde8e8; stroke: #c62828; }
  .rollback-failure { stroke-width: 3; }
  .rolled-back, .rolling-back { fill: #fff4dc; stroke: #b7791f; }
  .pending, .ignored { fill: #f4f5f7; stroke: #a0a8b4; }
  .ignored { stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    svg { background: #14181f; }
    .task { fill: #1d2b45; stroke: #6f9bf0; }
    .success { fill: #14351f; stroke: #4cc46f; }
    .failure, .rollback-failure { fill: #45191b; stroke: #f07f7f; }
    .rolled-back, .rolling-back { fill: #40300f; stroke: #e3b04f; }
    .pending, .ignored { fill: #22262e; stroke: #6b7480; }
    .arrow { stroke: #9aa5b5; }
    .head { fill: #9aa5b5; }
    text { fill: #e6eaf0; }
    .title { fill: #9aa5b5; }
    .value { fill: #f0b27a; stroke: #14181f; }
  }
";

/// The flow as an SVG image; nested flows are framed.
#[must_use]
pub fn svg(flow: &Flow) -> String {
    draw_flow(&Picture { drawings: Drawings::of(flow), marker: "head".into(), states: None })
}

/// The flow as an SVG image with the states of its tasks, as colours and as text. A task without a state is drawn as pending.
///
/// Several of these images may be in one document: `number` tells their elements apart.
#[must_use]
pub fn svg_with_states(flow: &Flow, number: usize, states: &BTreeMap<NodeIndex, State>) -> String {
    draw_flow(&Picture { drawings: Drawings::of(flow), marker: format!("head-{number}"), states: Some(states) })
}

/// What is drawn.
struct Picture<'f> {
    drawings: Drawings<'f>,
    /// The id of the arrow head.
    marker: String,
    states: Option<&'f BTreeMap<NodeIndex, State>>,
}

impl Picture<'_> {
    /// The state of a task, if states are drawn.
    fn state(&self, task: NodeIndex) -> Option<State> {
        Some(self.states?.get(&task).copied().unwrap_or(State::Pending))
    }

    fn box_height(&self) -> f64 {
        if self.states.is_some() { STATE_BOX_HEIGHT } else { BOX_HEIGHT }
    }
}

fn draw_flow(picture: &Picture<'_>) -> String {
    let Picture { drawings, marker, .. } = picture;
    // A nested flow comes after its enclosing flow: so the inner sizes are known before the outer ones are computed.
    let scopes = drawings.flow.scopes.len();
    let mut frames: Vec<Option<Frame>> = std::iter::repeat_with(|| None).take(scopes).collect();
    for scope in (0..scopes).rev() {
        frames[scope] =
            Some(Frame::of(picture, ScopeIndex(u32::try_from(scope).expect("scopes have indices")), &frames));
    }
    let root = frames[0].as_ref().expect("every scope was framed");
    let (width, height) = (root.width, root.height);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"{marker}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path class=\"head\" d=\"M0 0L10 5L0 10z\"/></marker></defs>\n",
        escape(&drawings.title(Shape::Flow(ScopeIndex::ROOT)))
    );
    draw(picture, ScopeIndex::ROOT, &frames, (0.0, 0.0), &mut out);
    out.push_str("</svg>\n");
    out
}

/// One flow, laid out in a frame.
struct Frame {
    width: f64,
    height: f64,
    sizes: Vec<(f64, f64)>,
    arrows: Vec<Arrow>,
    layers: Layers,
}

impl Frame {
    fn of(picture: &Picture<'_>, scope: ScopeIndex, frames: &[Option<Frame>]) -> Self {
        let drawings = &picture.drawings;
        let drawing = drawings.drawing(scope);
        let size = |shape: &Shape| match shape {
            Shape::Task(task) => {
                let state = picture.state(*task).map_or(0.0, |state| text_width(state.as_str(), SMALL_CHARACTER));
                let width = text_width(&drawings.title(*shape), CHARACTER).max(state);
                (width + 2.0 * BOX_PADDING, picture.box_height())
            }
            Shape::Flow(nested) => {
                let frame = frames[nested.0 as usize].as_ref().expect("a nested flow was framed before its parent");
                (frame.width, frame.height)
            }
        };
        let sizes: Vec<(f64, f64)> = drawing.shapes.iter().map(size).collect();
        let index_of = |shape| {
            let index =
                drawing.shapes.binary_search_by_key(&first_node(drawings, shape), |other| first_node(drawings, *other));
            index.expect("arrows join shapes of the drawing")
        };
        let arrow = |((from, to), label): (&(Shape, Shape), &ArrowLabel<'_>)| Arrow {
            from: index_of(*from),
            to: index_of(*to),
            label: text_width(&label.label(), SMALL_CHARACTER),
        };
        let arrows: Vec<Arrow> = drawing.arrows.iter().map(arrow).collect();
        let layers = lay_out(&sizes, &arrows);
        let title = text_width(&drawings.title(Shape::Flow(scope)), CHARACTER);
        let width = layers.width.max(title) + 2.0 * FRAME_PADDING;
        let height = layers.height + FRAME_TITLE + 2.0 * FRAME_PADDING;
        Self { width, height, sizes, arrows, layers }
    }
}

/// The begin node of a shape: the shapes of a flow are sorted by it.
fn first_node(drawings: &Drawings<'_>, shape: Shape) -> crate::NodeIndex {
    match shape {
        Shape::Task(index) => index,
        Shape::Flow(scope) => drawings.flow.scope(scope).begin,
    }
}

/// Draws a flow with its upper left corner at a point.
fn draw(picture: &Picture<'_>, scope: ScopeIndex, frames: &[Option<Frame>], (left, top): (f64, f64), out: &mut String) {
    let drawings = &picture.drawings;
    let frame = frames[scope.0 as usize].as_ref().expect("every scope was framed");
    let drawing = drawings.drawing(scope);
    if scope != ScopeIndex::ROOT {
        let (width, height) = (frame.width, frame.height);
        let _ = writeln!(
            out,
            "<rect class=\"flow\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"10\"/>"
        );
    }
    let title = escape(&drawings.title(Shape::Flow(scope)));
    let (x, y) = (left + FRAME_PADDING, top + FRAME_PADDING + 6.0);
    let _ = writeln!(out, "<text class=\"title\" x=\"{x:.1}\" y=\"{y:.1}\">{title}</text>");
    // The layers are centered in a frame that its title makes wider.
    let (left, top) = (left + (frame.width - frame.layers.width) / 2.0, top + FRAME_PADDING + FRAME_TITLE);
    for (index, shape) in drawing.shapes.iter().enumerate() {
        let (x, y) = (left + frame.layers.corners[index].0, top + frame.layers.corners[index].1);
        match shape {
            Shape::Task(node) => {
                task(&drawings.title(*shape), picture.state(*node), (x, y), frame.sizes[index], out);
            }
            Shape::Flow(nested) => draw(picture, *nested, frames, (x, y), out),
        }
    }
    let (mut outs, mut ins) = (vec![0; drawing.shapes.len()], vec![0; drawing.shapes.len()]);
    for Arrow { from, to, .. } in &frame.arrows {
        outs[*from] += 1;
        ins[*to] += 1;
    }
    for ((path, arrow_label), Arrow { from, to, .. }) in
        frame.layers.arrow_paths.iter().zip(drawing.arrows.values()).zip(&frame.arrows)
    {
        let path: Vec<(f64, f64)> = path.iter().map(|(x, y)| (left + x, top + y)).collect();
        arrow(&path, &picture.marker, out);
        // The label is where arrows from one source have diverged, or arrows to one target have not converged yet.
        let along = if outs[*from] > ins[*to] { 0.75 } else { 0.25 };
        label(&arrow_label.label(), &path, along, out);
    }
}

fn task(name: &str, state: Option<State>, (x, y): (f64, f64), (width, height): (f64, f64), out: &mut String) {
    let class = state.map(|state| format!(" {state}")).unwrap_or_default();
    let center = x + width / 2.0;
    // The name is in the middle, or above it if there is a state below.
    let base = y + if state.is_some() { BOX_HEIGHT / 2.0 + 2.0 } else { height / 2.0 + 4.5 };
    let _ = writeln!(
        out,
        "<rect class=\"task{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"6\"/>\n\
         <text x=\"{center:.1}\" y=\"{base:.1}\" text-anchor=\"middle\">{}</text>",
        escape(name)
    );
    if let Some(state) = state {
        let base = y + height - 11.0;
        let _ = writeln!(
            out,
            "<text class=\"state\" x=\"{center:.1}\" y=\"{base:.1}\" text-anchor=\"middle\">{state}</text>"
        );
    }
}

/// Draws an arrow: straight through each layer, curved between two.
fn arrow(points: &[(f64, f64)], marker: &str, out: &mut String) {
    let Some(((x, y), rest)) = points.split_first() else { return };
    let mut path = format!("M{x:.1} {y:.1}");
    for (step, (x, y)) in rest.iter().enumerate() {
        if step % 2 == 0 {
            let _ = write!(path, "L{x:.1} {y:.1}");
        } else {
            let (from, above) = points[step];
            let half = f64::midpoint(above, *y);
            let _ = write!(path, "C{from:.1} {half:.1} {x:.1} {half:.1} {x:.1} {y:.1}");
        }
    }
    let _ = writeln!(out, "<path class=\"arrow\" marker-end=\"url(#{marker})\" d=\"{path}\"/>");
}

/// Writes the label of an arrow on its last curve.
fn label(label: &str, path: &[(f64, f64)], along: f64, out: &mut String) {
    if let [.., (from, above), (to, below), _] = path
        && !label.is_empty()
    {
        // The point of the curve in `arrow`, computed from its four control points.
        let rest = 1.0 - along;
        let [first, second, third, fourth] =
            [rest.powi(3), 3.0 * rest * rest * along, 3.0 * rest * along * along, along.powi(3)];
        let half = f64::midpoint(*above, *below);
        let x = (first + second) * from + (third + fourth) * to;
        let y = first * above + (second + third) * half + fourth * below + 4.0;
        let _ = writeln!(
            out,
            "<text class=\"value\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            escape(label)
        );
    }
}

fn text_width(text: &str, character: f64) -> f64 {
    text.chars().map(|_| character).sum()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
