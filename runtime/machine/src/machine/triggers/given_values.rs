//! The values that a firing begins with.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use flow::{NodeIndex, Value, ValueName, Values};

use crate::machine::firing::FiringMachine;

/// The cost of a node or a value besides its name and content, in bytes.
const ENTRY_OVERHEAD: u64 = 8;

/// Values by the node that provided them, and their size. Firings share them in memory, but a snapshot writes them once for each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GivenValues {
    by_node: Arc<BTreeMap<NodeIndex, Values>>,
    bytes: u64,
}

impl GivenValues {
    /// Their bytes in a snapshot, approximately.
    pub(in crate::machine) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether both are the same values in memory.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by_node, &other.by_node)
    }

    /// Replaces the values of nodes.
    pub(in crate::machine) fn extend(&mut self, provided: impl IntoIterator<Item = (NodeIndex, Values)>) {
        let by_node = Arc::make_mut(&mut self.by_node);
        by_node.extend(provided);
        self.bytes = size(by_node);
    }
}

impl From<BTreeMap<NodeIndex, Values>> for GivenValues {
    fn from(by_node: BTreeMap<NodeIndex, Values>) -> Self {
        Self { bytes: size(&by_node), by_node: Arc::new(by_node) }
    }
}

impl Deref for GivenValues {
    type Target = BTreeMap<NodeIndex, Values>;

    fn deref(&self) -> &Self::Target {
        &self.by_node
    }
}

impl FiringMachine {
    /// The values of a firing: the inherited values, overridden by the values of its own nodes.
    pub(super) fn provided(&self) -> GivenValues {
        let mut inherited = self.inherited.clone();
        inherited.extend(self.values());
        inherited
    }
}

fn size(by_node: &BTreeMap<NodeIndex, Values>) -> u64 {
    by_node.values().map(|values| written_size(values).saturating_add(ENTRY_OVERHEAD)).fold(0, u64::saturating_add)
}

/// The bytes of values in a snapshot, approximately. Only the digest of a value in the store is written.
pub(super) fn written_size(values: &Values) -> u64 {
    let written = |(name, value): (&ValueName, &Value)| (name.as_str().len() + value.written_size()) as u64;
    let sizes = values.iter().map(|entry| ENTRY_OVERHEAD + written(entry));
    sizes.fold(0, u64::saturating_add)
}
