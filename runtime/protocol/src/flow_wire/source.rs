//! Where the value of an input comes from.

use flow::{NodeIndex, ValueName, graph::Source};

use super::Bounds;
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, WireValue, invalid, value_from_wire},
};

#[derive(Encode, BorrowDecode)]
pub(super) enum WireSource<'a> {
    Constant(WireValue<'a>),
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
    Failure(Vec<u32>),
    LoopCarried { nodes: Vec<u32>, value: &'a str, initial: WireInitial<'a> },
    Element,
}

/// The source of a loop-carried value in the first firing.
#[derive(Encode, BorrowDecode)]
pub(super) enum WireInitial<'a> {
    Node { node: u32, value: &'a str },
    RunInput(&'a str),
    Absent,
}

impl<'a> From<&'a Source> for WireSource<'a> {
    fn from(source: &'a Source) -> Self {
        let indices = |nodes: &[NodeIndex]| nodes.iter().map(|node| node.0).collect();
        match source {
            Source::Constant(value) => Self::Constant(value.into()),
            Source::Node { node, value } => Self::Node { node: node.0, value: value.as_str() },
            Source::RunInput(name) => Self::RunInput(name.as_str()),
            Source::Element => Self::Element,
            Source::Absent => Self::Absent,
            Source::Failure(nodes) => Self::Failure(indices(nodes)),
            Source::LoopCarried { nodes, value, initial } => {
                Self::LoopCarried { nodes: indices(nodes), value: value.as_str(), initial: (&**initial).into() }
            }
        }
    }
}

impl<'a> From<&'a Source> for WireInitial<'a> {
    fn from(source: &'a Source) -> Self {
        match source {
            Source::Node { node, value } => Self::Node { node: node.0, value: value.as_str() },
            Source::RunInput(name) => Self::RunInput(name.as_str()),
            Source::Constant(_)
            | Source::Element
            | Source::Failure(_)
            | Source::LoopCarried { .. }
            | Source::Absent => Self::Absent,
        }
    }
}

impl WireSource<'_> {
    pub(super) fn into_source(self, bounds: &Bounds) -> Result<Source, Invalid> {
        Ok(match self {
            Self::Constant(value) => Source::Constant(value_from_wire(value)?),
            Self::Node { node, value } => WireInitial::Node { node, value }.into_source(bounds)?,
            Self::RunInput(name) => WireInitial::RunInput(name).into_source(bounds)?,
            Self::Absent => Source::Absent,
            Self::Element => Source::Element,
            Self::Failure(nodes) => Source::Failure(bounds.nodes(nodes)?),
            Self::LoopCarried { nodes, value, initial } => Source::LoopCarried {
                nodes: bounds.nodes(nodes)?,
                value: ValueName::new(value).map_err(invalid)?,
                initial: Box::new(initial.into_source(bounds)?),
            },
        })
    }
}

impl WireInitial<'_> {
    fn into_source(self, bounds: &Bounds) -> Result<Source, Invalid> {
        Ok(match self {
            Self::Node { node, value } => {
                Source::Node { node: bounds.node(node)?, value: ValueName::new(value).map_err(invalid)? }
            }
            Self::RunInput(name) => Source::RunInput(ValueName::new(name).map_err(invalid)?),
            Self::Absent => Source::Absent,
        })
    }
}
