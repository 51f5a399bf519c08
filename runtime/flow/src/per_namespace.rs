//! A setting that may differ from one namespace to another.

use std::collections::BTreeMap;

use crate::Namespace;

/// A value for each namespace: its own, or that of all namespaces without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerNamespace<Value> {
    /// The namespaces with a value of their own; `None`: the namespace has none.
    pub named: BTreeMap<Namespace, Option<Value>>,
    /// The value of all others.
    pub other: Option<Value>,
}

impl<Value> Default for PerNamespace<Value> {
    fn default() -> Self {
        Self { named: BTreeMap::new(), other: None }
    }
}

impl<Value: Copy> PerNamespace<Value> {
    /// The value of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &Namespace) -> Option<Value> {
        self.named.get(namespace).copied().unwrap_or(self.other)
    }
}
