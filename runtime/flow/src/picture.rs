//! Pictures of a flow: Graphviz, Mermaid, waft's own SVG, and an outline for programs that draw it themselves.
//!
//! All of them show the same: tasks as boxes, nested flows as frames around their nodes, order as arrows, and on an arrow its
//! values. The begin and the end of a flow are not shown; a retry controller appears in the title of its flow.

mod dot;
mod layers;
mod mermaid;
mod outline;
mod svg;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    dot::dot,
    mermaid::mermaid,
    outline::{Outline, OutlineArrow, OutlineLink, OutlineShape, ShapeKind, outline},
    svg::{svg, svg_with_states},
};
use crate::{
    Flow, NodeIndex, Otherwise, SourceOutcome, Strategy, ValueName,
    graph::{Controller, Link, Role, ScopeIndex, Source},
};

/// A drawn shape: a task, or a nested flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Task(NodeIndex),
    Flow(ScopeIndex),
}

/// The shapes of one flow and the arrows between them, with their values.
struct Drawing<'f> {
    shapes: Vec<Shape>,
    arrows: BTreeMap<(Shape, Shape), ArrowLabel<'f>>,
}

/// The label of an arrow.
#[derive(Default)]
struct ArrowLabel<'f> {
    /// The values that the arrow carries.
    values: BTreeSet<&'f ValueName>,
    /// The links with properties besides the order.
    links: Vec<&'f Link>,
}

impl ArrowLabel<'_> {
    /// The text of the label; empty for most arrows.
    fn label(&self) -> String {
        let values = self.values.iter().map(|value| value.to_string());
        let conditions = self.links.iter().flat_map(|link| {
            let on = match link.on {
                SourceOutcome::Success => None,
                SourceOutcome::Failure => Some("on failure".to_owned()),
                SourceOutcome::Any => Some("on any end".to_owned()),
            };
            on.into_iter().chain(link.when.as_ref().map(|condition| format!("when {condition}")))
        });
        values.chain(conditions).collect::<Vec<_>>().join(", ")
    }
}

/// A flow as drawings, the whole flow first.
struct Drawings<'f> {
    flow: &'f Flow,
    by_scope: Vec<Drawing<'f>>,
}

impl<'f> Drawings<'f> {
    fn of(flow: &'f Flow) -> Self {
        let empty = || Drawing { shapes: Vec::new(), arrows: BTreeMap::new() };
        let mut drawings = Self { flow, by_scope: flow.scopes.iter().map(|_| empty()).collect() };
        for index in flow.indices() {
            if let Some(shape) = drawings.shape_starting_at(index)
                && let Some(parent) = drawings.parent_scope(shape)
            {
                drawings.by_scope[parent.0 as usize].shapes.push(shape);
            }
        }
        flow.indices().for_each(|index| drawings.order_after(index));
        flow.indices().for_each(|index| drawings.values_into(index));
        flow.indices().for_each(|index| drawings.links_into(index));
        drawings
    }

    fn drawing(&self, scope: ScopeIndex) -> &Drawing<'f> {
        &self.by_scope[scope.0 as usize]
    }

    /// The shape that begins with a node.
    fn shape_starting_at(&self, index: NodeIndex) -> Option<Shape> {
        let node = self.flow.node(index);
        match node.role {
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => Some(Shape::Task(index)),
            Role::Begin | Role::Controller(_) => Some(Shape::Flow(node.scope)),
            Role::FanIn(_) | Role::End => None,
        }
    }

    /// The shape that ends with a node.
    fn shape_ending_at(&self, index: NodeIndex) -> Option<Shape> {
        let node = self.flow.node(index);
        match node.role {
            Role::Task(_) | Role::Wait(_) => Some(Shape::Task(index)),
            Role::FanIn(each) => Some(Shape::Task(each)),
            Role::End => Some(Shape::Flow(node.scope)),
            Role::Begin | Role::ForEach(_) | Role::Controller(_) => None,
        }
    }

    /// The flow that contains a shape; `None` for the whole flow.
    fn parent_scope(&self, shape: Shape) -> Option<ScopeIndex> {
        match shape {
            Shape::Task(index) => Some(self.flow.node(index).scope),
            Shape::Flow(scope) => self.flow.scope(scope).parent,
        }
    }

    /// The title of a shape: its name, its triggers and, for a flow with a retry controller, the controller's strategy.
    fn title(&self, shape: Shape) -> String {
        match shape {
            Shape::Task(index) => {
                let for_each = self.flow.for_each(index).map(|_| "for each".to_owned());
                let details: Vec<String> = for_each.into_iter().chain(self.flow.describe_triggers(index)).collect();
                let name = &self.flow.node(index).name;
                if details.is_empty() { name.to_string() } else { format!("{name} ({})", details.join(", ")) }
            }
            Shape::Flow(scope) => title(self.flow, scope),
        }
    }

    fn order_after(&mut self, index: NodeIndex) {
        let Some(from) = self.shape_ending_at(index) else { return };
        let Some(parent) = self.parent_scope(from) else { return };
        for after in &self.flow.node(index).after {
            if let Some(to) = self.shape_starting_at(*after) {
                self.by_scope[parent.0 as usize].arrows.entry((from, to)).or_default();
            }
        }
    }

    fn values_into(&mut self, index: NodeIndex) {
        let node = self.flow.node(index);
        let sources: Vec<&'f Source> = match &node.role {
            Role::Task(task) => task.inputs.iter().map(|input| &input.source).collect(),
            Role::ForEach(each) => each.task.inputs.iter().map(|input| &input.source).chain([&each.list]).collect(),
            Role::Controller(controller) => controller.list.iter().collect(),
            Role::Wait(_) | Role::FanIn(_) | Role::Begin | Role::End => Vec::new(),
        };
        for source in sources {
            match source {
                Source::Node { node, value } => self.add_value(*node, index, value),
                Source::Constant(_)
                | Source::Element
                | Source::RunInput(_)
                | Source::Failure(_)
                | Source::LoopCarried { .. }
                | Source::Absent => {}
            }
        }
    }

    /// Adds a value to the arrow between the shapes in one flow that contain its provider and its consumer.
    fn add_value(&mut self, provider: NodeIndex, consumer: NodeIndex, value: &'f ValueName) {
        let (from_shapes, to_shapes) = (self.enclosing_shapes(provider), self.enclosing_shapes(consumer));
        let differing = from_shapes.iter().zip(&to_shapes).find(|(from, to)| from != to);
        // A controller provides to nodes inside its flow, which needs no arrow.
        let Some((from, to)) = differing else { return };
        let Some(parent) = self.parent_scope(*from) else { return };
        let arrows = &mut self.by_scope[parent.0 as usize].arrows;
        // Where a link reversed the order, the value never arrives.
        if !arrows.contains_key(&(*to, *from)) {
            arrows.entry((*from, *to)).or_default().values.insert(value);
        }
    }

    fn links_into(&mut self, index: NodeIndex) {
        let Some(to) = self.shape_starting_at(index) else { return };
        let Some(parent) = self.parent_scope(to) else { return };
        for link in &self.flow.node(index).links {
            let Some(from) = self.shape_ending_at(link.from) else { continue };
            self.by_scope[parent.0 as usize].arrows.entry((from, to)).or_default().links.push(link);
        }
    }

    /// The shapes that contain a node, from the whole flow inward, the node itself last.
    fn enclosing_shapes(&self, index: NodeIndex) -> Vec<Shape> {
        let node = self.flow.node(index);
        let mut shapes = Vec::new();
        match node.role {
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => shapes.push(Shape::Task(index)),
            Role::FanIn(each) => shapes.push(Shape::Task(each)),
            Role::Controller(_) | Role::Begin | Role::End => {}
        }
        let mut scope = Some(node.scope);
        while let Some(inner) = scope {
            shapes.push(Shape::Flow(inner));
            scope = self.flow.scope(inner).parent;
        }
        shapes.reverse();
        shapes
    }
}

/// The title of a flow: its name, and the strategy of its retry controller if it has one.
fn title(flow: &Flow, scope: ScopeIndex) -> String {
    let begin = flow.node(flow.scope(scope).begin);
    match &begin.role {
        Role::Controller(controller) => format!("{} ({})", begin.name, policy(controller)),
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Begin | Role::End => {
            begin.name.to_string()
        }
    }
}

fn policy(controller: &Controller) -> String {
    let tries = match &controller.strategy {
        Strategy::Times(times) => format!("retry: {} in all", times.max(&1)),
        Strategy::ForEach(values) => format!("retry: for each of {} values", values.len()),
        Strategy::ForEachOf(value) => format!("retry: for each of {value}"),
        Strategy::Always => "always".into(),
    };
    match (&controller.strategy, controller.otherwise) {
        (Strategy::Always, Otherwise::Rollback) => format!("{tries} rollback"),
        (Strategy::Always, Otherwise::RollbackAll) => format!("{tries} rollback-all"),
        (_, Otherwise::Rollback) => tries,
        (_, Otherwise::RollbackAll) => format!("{tries}, then rollback-all"),
    }
}
