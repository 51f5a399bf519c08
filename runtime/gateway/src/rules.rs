//! The rules of an operator: what is granted to which calls, and the secrets that requests may contain.

use std::sync::{Arc, PoisonError, RwLock};

use flow::Grants;

use crate::Secrets;

/// What an operator grants, and the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The grants.
    pub grants: Grants,
    /// The secrets.
    pub secrets: Secrets,
}

/// The rules in use. Cheap to clone: all clones share them, and they may change at any time. A call takes them once, when it
/// starts.
#[derive(Debug, Clone, Default)]
pub struct CurrentRules(Arc<RwLock<Arc<Rules>>>);

impl CurrentRules {
    /// Starts with rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }

    /// The rules that are in use now.
    #[must_use]
    pub fn now(&self) -> Arc<Rules> {
        // Each replacement is one assignment, so a panic in another thread leaves no partial one.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses other rules for all calls that start from now on.
    pub fn replace(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}
