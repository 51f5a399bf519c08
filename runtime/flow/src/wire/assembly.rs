//! Builds the arena of a flow from the results of wiring.

use std::collections::BTreeMap;

use super::{
    graph::Graph,
    layout::{Layout, Slot},
    links::LinkProperties,
    scope_resolver::ResolvedInput,
    task::ResolvedTask,
};
use crate::{
    Flow, FlowName, Node, NodeIndex, RunLimits, Values,
    graph::{Controller, Role, Scope, ScopeIndex},
};

/// Assembles the flow.
pub(super) fn assemble(
    layout: &Layout<'_>,
    tasks: BTreeMap<NodeIndex, ResolvedTask>,
    graphs: &BTreeMap<ScopeIndex, Graph>,
    resolved_inputs: Vec<ResolvedInput>,
    link_properties: LinkProperties,
    ends: EndDependencies,
    (name, inputs): (FlowName, Values),
) -> Flow {
    let mut nodes = nodes(layout, tasks);
    for ResolvedInput { node, input, source } in resolved_inputs {
        match &mut nodes[node.0 as usize].role {
            Role::Task(task) => task.inputs[input].source = source,
            Role::ForEach(each) => match each.task.inputs.get_mut(input) {
                Some(input) => input.source = source,
                // The requirement of the list follows those of the inputs.
                None => each.list = source,
            },
            Role::Controller(controller) => controller.list = Some(source),
            Role::Wait(_) | Role::FanIn(_) | Role::Begin | Role::End => {}
        }
    }
    for (node, links) in link_properties.links {
        nodes[node.0 as usize].links = links;
    }
    for index in link_properties.failure_handlers {
        let node = &mut nodes[index.0 as usize];
        node.is_failure_handler = true;
        match &mut node.role {
            Role::Task(task) => task.rollback = false,
            Role::ForEach(each) => {
                each.task.rollback = false;
                nodes[index.0 as usize + 1].is_failure_handler = true;
            }
            Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => {}
        }
    }
    for (scope, graph) in graphs {
        let ends = if *scope == ScopeIndex::ROOT { ends } else { EndDependencies::Last };
        connect(layout, *scope, graph, ends, &mut nodes);
    }
    for node in &mut nodes {
        node.before.sort_unstable();
        node.after.sort_unstable();
    }
    let scope = |scope| {
        let flow = layout.flow(scope);
        Scope { parent: flow.parent.map(|position| position.scope), begin: flow.begin, end: flow.end }
    };
    let scopes = layout.scopes().map(scope).collect();
    Flow {
        name,
        nodes,
        scopes,
        inputs,
        expires: None,
        origin: None,
        triggers: None,
        listeners: Vec::new(),
        notification_inputs: Vec::new(),
        limits: RunLimits::default(),
    }
}

fn nodes(layout: &Layout<'_>, mut tasks: BTreeMap<NodeIndex, ResolvedTask>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (index, slot) in layout.slots() {
        let (name, scope, role) = match slot {
            Slot::Task { task, position } => {
                let resolved = tasks.remove(&index).expect("each task of the layout was resolved");
                (task.name.clone(), position.scope, resolved.role)
            }
            Slot::FanIn { task, position } => (task.name.clone(), position.scope, Role::FanIn(NodeIndex(index.0 - 1))),
            Slot::Begin(scope) => (layout.flow(*scope).name.clone(), *scope, begin_role(layout, *scope)),
            Slot::End(scope) => (layout.flow(*scope).name.clone(), *scope, Role::End),
        };
        let starts = match slot {
            Slot::Task { task, .. } => task.starts,
            Slot::Begin(scope) => layout.flow(*scope).body.starts,
            Slot::FanIn { .. } | Slot::End(_) => None,
        };
        let retired = matches!(slot, Slot::Task { task, .. } | Slot::FanIn { task, .. } if task.retired);
        let (links, is_failure_handler, before, after) = (Vec::new(), false, Vec::new(), Vec::new());
        nodes.push(Node { name, scope, role, starts, links, retired, is_failure_handler, before, after });
    }
    nodes
}

fn begin_role(layout: &Layout<'_>, scope: ScopeIndex) -> Role {
    let Some(draft) = &layout.flow(scope).body.controller else { return Role::Begin };
    Role::Controller(Box::new(Controller {
        strategy: draft.strategy.clone(),
        list: None,
        otherwise: draft.otherwise,
        provides: draft.provides.clone(),
    }))
}

/// The members that the end of a flow follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndDependencies {
    /// The members without successors.
    Last,
    /// All members: the successors of a member may belong to another firing.
    All,
}

/// Connects the members of a flow with one another, with its begin and with its end.
fn connect(layout: &Layout<'_>, scope: ScopeIndex, graph: &Graph, ends: EndDependencies, nodes: &mut [Node]) {
    let flow = layout.flow(scope);
    let mut add_edge = |before: NodeIndex, after: NodeIndex| {
        nodes[before.0 as usize].after.push(after);
        nodes[after.0 as usize].before.push(before);
    };
    for (from, to) in graph.edges() {
        add_edge(flow.members[from].last, flow.members[to].first);
    }
    for (index, member) in flow.members.iter().enumerate() {
        if member.nested.is_none() && member.first != member.last {
            add_edge(member.first, member.last);
        }
        if graph.before[index].is_empty() {
            add_edge(flow.begin, member.first);
        }
        if graph.after[index].is_empty() || ends == EndDependencies::All {
            add_edge(member.last, flow.end);
        }
    }
    if flow.members.is_empty() {
        add_edge(flow.begin, flow.end);
    }
}
