//! The flow itself: its nodes, its nested flows, and the settings of the whole flow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flow::{
    Digest, Flow, FlowName, Node, NodeIndex,
    graph::{Role, Scope},
};

use super::{
    Bounds,
    links::{WireAccept, WireListen},
    node::WireNode,
    origin::WireOrigin,
    task::task_of,
    triggers::WireTriggers,
};
use crate::{
    codec::{BorrowDecode, Encode},
    limits::{WireLimits, run_limits_from_wire, run_limits_to_wire},
    wire::{Invalid, WireValues, invalid, micros, values_from_wire, values_to_wire},
};

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireFlow<'a> {
    name: &'a str,
    /// The modules that tasks call, each once: tasks refer to them by index.
    modules: Vec<[u8; 32]>,
    nodes: Vec<WireNode<'a>>,
    scopes: Vec<WireScope>,
    inputs: WireValues<'a>,
    expires_micros: Option<u64>,
    origin: Option<WireOrigin<'a>>,
    /// The triggers of a flow that fires more than once.
    triggers: Option<WireTriggers<'a>>,
    listens: Vec<WireListen<'a>>,
    accepts: Vec<WireAccept<'a>>,
    limits: WireLimits,
}

/// The whole flow, or a nested flow.
#[derive(Encode, BorrowDecode)]
struct WireScope {
    parent: Option<u32>,
    begin: u32,
    end: u32,
}

impl<'a> From<&'a Flow> for WireFlow<'a> {
    fn from(flow: &'a Flow) -> Self {
        let Flow { name, nodes, scopes, inputs, expires, origin, triggers, listeners, notification_inputs, limits } =
            flow;
        let modules: BTreeSet<Digest> = nodes.iter().filter_map(|node| Some(task_of(&node.role)?.module)).collect();
        let modules: Vec<Digest> = modules.into_iter().collect();
        Self {
            name: name.as_str(),
            nodes: nodes.iter().map(|node| WireNode::new(node, &modules)).collect(),
            modules: modules.iter().map(|module| *module.as_bytes()).collect(),
            scopes: scopes.iter().map(WireScope::from).collect(),
            inputs: values_to_wire(inputs),
            expires_micros: expires.map(micros),
            origin: origin.as_deref().map(WireOrigin::from),
            triggers: triggers.as_ref().map(WireTriggers::from),
            listens: listeners.iter().map(WireListen::from).collect(),
            accepts: notification_inputs.iter().map(WireAccept::from).collect(),
            limits: run_limits_to_wire(limits),
        }
    }
}

impl From<&Scope> for WireScope {
    fn from(scope: &Scope) -> Self {
        Self { parent: scope.parent.map(|parent| parent.0), begin: scope.begin.0, end: scope.end.0 }
    }
}

impl WireFlow<'_> {
    pub(crate) fn into_flow(self) -> Result<Arc<Flow>, Invalid> {
        let modules = self.modules.into_iter().map(Digest::from_bytes).collect();
        let bounds = &Bounds { nodes: self.nodes.len(), scopes: self.scopes.len(), modules };
        if self.scopes.is_empty() {
            return Err("a flow has at least one scope".into());
        }
        let mut schemas = BTreeMap::new();
        let nodes = self.nodes.into_iter().map(|node| node.into_node(bounds)).collect::<Result<Vec<_>, _>>()?;
        check_fan_ins(&nodes)?;
        let scopes = self.scopes.into_iter().enumerate().map(|(index, scope)| scope.into_scope(index, bounds));
        Ok(Arc::new(Flow {
            name: FlowName::new(self.name).map_err(invalid)?,
            nodes,
            scopes: scopes.collect::<Result<_, _>>()?,
            inputs: values_from_wire(self.inputs)?,
            expires: self.expires_micros.map(Duration::from_micros),
            origin: self.origin.map(WireOrigin::into_origin).transpose()?.map(Arc::new),
            triggers: self.triggers.map(|triggers| triggers.into_triggers(bounds)).transpose()?,
            listeners: self.listens.into_iter().map(|listen| listen.into_listen(bounds)).collect::<Result<_, _>>()?,
            notification_inputs: self
                .accepts
                .into_iter()
                .map(|accept| accept.into_accept(&mut schemas, bounds))
                .collect::<Result<_, _>>()?,
            limits: run_limits_from_wire(self.limits)?,
        }))
    }
}

impl WireScope {
    fn into_scope(self, index: usize, bounds: &Bounds) -> Result<Scope, Invalid> {
        let parent = self.parent.map(|parent| bounds.scope(parent)).transpose()?;
        // A parent precedes its children, so that no flow is nested in itself. The whole flow has no parent.
        if parent.map_or(index != 0, |parent| parent.0 as usize >= index) {
            return Err(format!("scope {index} has no parent before it"));
        }
        Ok(Scope { parent, begin: bounds.node(self.begin)?, end: bounds.node(self.end)? })
    }
}

/// Checks that each task that is called for the elements of a list is followed by its fan-in node.
fn check_fan_ins(nodes: &[Node]) -> Result<(), Invalid> {
    let mut index = 0;
    while let Some(node) = nodes.get(index) {
        let task = NodeIndex(u32::try_from(index).map_err(invalid)?);
        match &node.role {
            Role::ForEach(_) => {
                let is_its_fan_in = |next: &&Node| next.role == Role::FanIn(task) && next.name == node.name;
                if nodes.get(index + 1).filter(is_its_fan_in).is_none() {
                    return Err(format!("for_each node {index} has no fan-in node after it"));
                }
                index += 2;
            }
            Role::FanIn(_) => return Err(format!("fan-in node {index} has no for_each task before it")),
            Role::Task(_) | Role::Wait(_) | Role::Controller(_) | Role::Begin | Role::End => {
                index += 1;
            }
        }
    }
    Ok(())
}
