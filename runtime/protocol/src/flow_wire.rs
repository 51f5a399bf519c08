//! A flow as bytes: the first record of a run, an edit and every snapshot hold one.

mod flow;
mod links;
mod node;
mod origin;
mod source;
mod task;
mod triggers;

use ::flow::{Digest, NodeIndex, graph::ScopeIndex};

pub(crate) use self::{
    flow::WireFlow,
    links::WireReach,
    task::{WirePace, check_provides},
};
use crate::wire::Invalid;

/// Upper bounds for the indices in a flow. An index from bytes is checked before use.
struct Bounds {
    nodes: usize,
    scopes: usize,
    modules: Vec<Digest>,
}

impl Bounds {
    fn node(&self, index: u32) -> Result<NodeIndex, Invalid> {
        if (index as usize) < self.nodes { Ok(NodeIndex(index)) } else { Err(format!("there is no node {index}")) }
    }

    fn nodes(&self, indices: Vec<u32>) -> Result<Vec<NodeIndex>, Invalid> {
        indices.into_iter().map(|index| self.node(index)).collect()
    }

    fn scope(&self, index: u32) -> Result<ScopeIndex, Invalid> {
        if (index as usize) < self.scopes { Ok(ScopeIndex(index)) } else { Err(format!("there is no scope {index}")) }
    }

    fn module(&self, index: u32) -> Result<Digest, Invalid> {
        self.modules.get(index as usize).copied().ok_or_else(|| format!("there is no module {index}"))
    }
}
