//! How often retry controllers run the flows of a graph.

use super::{Flow, Role, Scope};
use crate::Strategy;

impl Flow {
    /// The number of times that retry controllers run each scope at most, in the order of [`Flow::scopes`]. The retries of
    /// nested flows multiply: each run of a flow starts the controllers in it anew.
    ///
    /// `list` has the length of the list that the controller of a scope reads when its flow starts. A list without a known
    /// length counts as one element.
    #[must_use]
    pub fn attempts(&self, list: impl Fn(&Scope) -> Option<usize>) -> Vec<u64> {
        // A parent comes before its flows.
        let mut products: Vec<u64> = Vec::with_capacity(self.scopes.len());
        for scope in &self.scopes {
            let of_parent = scope.parent.map_or(1, |parent| products[parent.0 as usize]);
            products.push(of_parent.saturating_mul(self.attempts_of(scope, list(scope))));
        }
        products
    }

    /// The number of times that the controller of a scope runs it at most, each time that the enclosing flow runs.
    pub(crate) fn attempts_of(&self, scope: &Scope, list: Option<usize>) -> u64 {
        match &self.node(scope.begin).role {
            Role::Controller(controller) => match &controller.strategy {
                Strategy::Times(times) => u64::from(*times).max(1),
                Strategy::ForEach(list) => list.len() as u64,
                Strategy::ForEachOf(_) => list.map_or(1, |length| length as u64),
                Strategy::Always => 1,
            },
            Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Begin | Role::End => 1,
        }
    }
}
