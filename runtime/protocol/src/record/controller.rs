//! Records about retry controllers.

use flow::{Attempt, Json, NodeIndex, Value, graph::ScopeIndex};
use machine::{Fact, Resolution};

use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, WireValue, list_from_wire, list_to_wire, value_from_wire},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireControllerRan<'a> {
    node: u32,
    attempt: u32,
    value: Option<WireValue<'a>>,
    list: Option<Vec<&'a str>>,
}

impl<'a> WireControllerRan<'a> {
    pub(super) fn new(node: NodeIndex, attempt: Attempt, value: Option<&'a Value>, list: Option<&'a [Json]>) -> Self {
        Self { node: node.0, attempt: attempt.get(), value: value.map(WireValue::from), list: list.map(list_to_wire) }
    }

    pub(super) fn into_fact(self) -> Result<Fact, Invalid> {
        Ok(Fact::ControllerRan {
            node: NodeIndex(self.node),
            attempt: Attempt::new(self.attempt),
            value: self.value.map(value_from_wire).transpose()?,
            list: self.list.map(list_from_wire).transpose()?,
        })
    }
}

/// The scope that is tried again, if any.
pub(super) fn resolution_to_wire(resolution: Resolution) -> Option<u32> {
    match resolution {
        Resolution::Retry(scope) => Some(scope.0),
        Resolution::RollbackRun => None,
    }
}

pub(super) fn resolution_from_wire(retry: Option<u32>) -> Resolution {
    retry.map_or(Resolution::RollbackRun, |scope| Resolution::Retry(ScopeIndex(scope)))
}
