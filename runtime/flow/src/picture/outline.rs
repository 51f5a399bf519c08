//! A flow as data, for programs that draw it themselves.

use super::{Drawings, Shape, policy};
use crate::{
    Flow, NodeIndex, NodeName, SourceOutcome, ValueName,
    graph::{Link, Role, ScopeIndex},
};

/// A flow with the same shapes and arrows as in its pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The strategy of the retry controller of the whole flow, for people.
    pub retry: Option<String>,
    /// The tasks and nested flows, in the order of the file. A nested flow comes before what it contains.
    pub shapes: Vec<OutlineShape>,
    /// The arrows. Each connects two shapes that are directly in the same flow.
    pub arrows: Vec<OutlineArrow>,
}

/// A task, or a nested flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineShape {
    /// Its name. No other shape has it.
    pub name: NodeName,
    /// The node that it begins with.
    pub node: NodeIndex,
    /// What it is.
    pub kind: ShapeKind,
    /// The nested flow that contains it directly; `None` for the whole flow.
    pub within: Option<NodeName>,
    /// What fires it, for people; each ends the sentence `it fires …`.
    pub triggers: Vec<String>,
    /// The strategy of the retry controller of a nested flow, for people.
    pub retry: Option<String>,
    /// Whether it handles failures.
    pub is_failure_handler: bool,
    /// Whether an edit has removed it after it had run.
    pub retired: bool,
}

/// What a shape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeKind {
    /// A task that is called once.
    Task,
    /// A task that is called for each element of a list.
    ForEach,
    /// A task that waits for a notification.
    Wait,
    /// A nested flow.
    Flow,
}

/// An arrow: its target starts after its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArrow {
    /// The source.
    pub from: NodeName,
    /// The target.
    pub to: NodeName,
    /// The values that it carries.
    pub values: Vec<ValueName>,
    /// The links with properties besides the order.
    pub links: Vec<OutlineLink>,
    /// Whether it starts the next firing of its target. It does not order the nodes of a firing.
    pub is_back_edge: bool,
}

/// A link with properties besides the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineLink {
    /// The outcome of the source that it waits for.
    pub on: SourceOutcome,
    /// Its condition.
    pub when: Option<String>,
}

/// The outline of a flow.
#[must_use]
pub fn outline(flow: &Flow) -> Outline {
    let drawings = Drawings::of(flow);
    let mut outline = Outline { retry: retry(flow, ScopeIndex::ROOT), shapes: Vec::new(), arrows: Vec::new() };
    for drawing in &drawings.by_scope {
        outline.shapes.extend(drawing.shapes.iter().map(|shape| outlined(&drawings, *shape)));
        outline.arrows.extend(drawing.arrows.iter().map(|((from, to), label)| OutlineArrow {
            from: name(flow, *from),
            to: name(flow, *to),
            values: label.values.iter().map(|value| (*value).clone()).collect(),
            links: label.links.iter().map(|link| outlined_link(link)).collect(),
            is_back_edge: false,
        }));
    }
    outline.arrows.extend(back_edges(&drawings));
    outline
}

fn outlined(drawings: &Drawings<'_>, shape: Shape) -> OutlineShape {
    let flow = drawings.flow;
    let (node, kind, retry) = match shape {
        Shape::Task(index) => (index, kind(flow, index), None),
        Shape::Flow(scope) => (flow.scope(scope).begin, ShapeKind::Flow, retry(flow, scope)),
    };
    let parent = drawings.parent_scope(shape).filter(|parent| *parent != ScopeIndex::ROOT);
    OutlineShape {
        name: name(flow, shape),
        node,
        kind,
        within: parent.map(|parent| name(flow, Shape::Flow(parent))),
        triggers: flow.describe_triggers(node),
        retry,
        is_failure_handler: flow.node(node).is_failure_handler,
        retired: flow.node(node).retired,
    }
}

fn kind(flow: &Flow, index: NodeIndex) -> ShapeKind {
    match flow.node(index).role {
        Role::ForEach(_) => ShapeKind::ForEach,
        Role::Wait(_) => ShapeKind::Wait,
        Role::Task(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => ShapeKind::Task,
    }
}

fn name(flow: &Flow, shape: Shape) -> NodeName {
    let index = match shape {
        Shape::Task(index) => index,
        Shape::Flow(scope) => flow.scope(scope).begin,
    };
    flow.node(index).name.clone()
}

fn retry(flow: &Flow, scope: ScopeIndex) -> Option<String> {
    match &flow.node(flow.scope(scope).begin).role {
        Role::Controller(controller) => Some(policy(controller)),
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Begin | Role::End => None,
    }
}

fn outlined_link(link: &Link) -> OutlineLink {
    OutlineLink { on: link.on, when: link.when.as_ref().map(ToString::to_string) }
}

fn back_edges(drawings: &Drawings<'_>) -> impl Iterator<Item = OutlineArrow> {
    let edges = drawings.flow.triggers.iter().flat_map(|triggers| &triggers.back_edges);
    edges.filter_map(|edge| {
        let from = drawings.shape_ending_at(edge.link.from)?;
        let to = drawings.shape_starting_at(edge.to)?;
        Some(OutlineArrow {
            from: name(drawings.flow, from),
            to: name(drawings.flow, to),
            values: Vec::new(),
            links: vec![outlined_link(&edge.link)],
            is_back_edge: true,
        })
    })
}
