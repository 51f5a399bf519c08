//! Evaluates the links into a node: they may keep it from starting.

use std::collections::BTreeMap;

use flow::{NodeIndex, SkipReach, SourceOutcome, State, Value, graph::Link, invalid::EvaluationError};

use super::{FiringMachine, node::NodeState};

impl FiringMachine {
    /// Evaluates the links into a node that could start. The widest reach of a false condition wins; `None` when none is
    /// false.
    ///
    /// # Errors
    /// [`EvaluationError`] when a condition yields neither true nor false.
    pub(super) fn evaluate_links(&self, index: NodeIndex) -> Result<Option<SkipReach>, EvaluationError> {
        let mut widest = None;
        let links = if self.element(index).is_some() { &[] } else { &*self.flow.node(index).links };
        for link in links {
            if !self.evaluate_link(link)? {
                widest = widest.max(Some(link.reach));
            }
        }
        // A failure handler that failed stops only the nodes after it.
        let failed = |before: NodeIndex| {
            self.definition(before).is_failure_handler
                && self.node(before).state.published() == State::Failure
                && !self.handles_failure_of(index, before)
        };
        if self.all_before(index).any(failed) {
            widest = Some(SkipReach::All);
        }
        Ok(widest)
    }

    fn evaluate_link(&self, link: &Link) -> Result<bool, EvaluationError> {
        let source = self.flow.node(link.from);
        let is_ignored = self.node(link.from).state == NodeState::Ignored;
        let failed = self.failures.contains_key(&source.name);
        match link.on {
            // Ignored sources do not count.
            SourceOutcome::Success if is_ignored => return Ok(true),
            SourceOutcome::Any | SourceOutcome::Failure if is_ignored => return Ok(false),
            SourceOutcome::Failure if !failed => return Ok(false),
            SourceOutcome::Success | SourceOutcome::Any | SourceOutcome::Failure => {}
        }
        let Some(condition) = &link.when else { return Ok(true) };
        let values: Vec<_> = link.reads.iter().map(|(name, source)| (name, self.read(source))).collect();
        let known: BTreeMap<_, &Value> =
            values.iter().filter_map(|(name, value)| value.as_deref().map(|value| ((*name).clone(), value))).collect();
        condition.evaluate(&known)
    }
}
