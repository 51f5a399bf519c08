//! The policy in use.

use std::sync::{Arc, PoisonError, RwLock};

use super::Policy;

/// The policy in use. Cheap to clone: all clones share it, and it may change at any time.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    policy: Arc<RwLock<Arc<Policy>>>,
}

impl Admission {
    /// Starts with a policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(RwLock::new(Arc::new(policy))) }
    }

    /// The policy that is in use now. Ask anew for each decision.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses another policy for all decisions from now on.
    pub fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}
