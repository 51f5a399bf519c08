//! Evaluates the links into a node: they may keep it from starting.

use std::{borrow::Cow, collections::BTreeMap};

use flow::{EvaluationBudget, NodeIndex, SkipReach, SourceOutcome, State, Value, ValueName, graph::Link};

use super::{FiringMachine, node::NodeState};

impl FiringMachine {
    /// Evaluates the links into a node that could start. The widest reach of a false condition wins; `None` when none is
    /// false. All conditions share one budget.
    ///
    /// # Errors
    /// The reason, and the link, when a condition yields neither true nor false.
    pub(super) fn evaluate_links(&self, index: NodeIndex) -> Result<Option<SkipReach>, String> {
        let mut widest = None;
        let mut budget = EvaluationBudget::default();
        for link in self.links(index) {
            if !self.evaluate_link(link, &mut budget)? {
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

    /// A rough cost of evaluating the conditions of the links into a node that starts, at most
    /// [`EvaluationBudget::MAX_COST`].
    pub(in crate::machine) fn evaluation_cost(&self, index: NodeIndex) -> u64 {
        if matches!(self.node(index).state, NodeState::Running { .. } | NodeState::Retrying) {
            // It has passed its conditions.
            return 0;
        }
        let cost = |link: &Link| {
            let condition = link.when.as_ref()?;
            Some(condition.rough_cost(&borrow(&self.values_read(link))))
        };
        self.links(index).iter().filter_map(cost).fold(0, u64::saturating_add).min(EvaluationBudget::MAX_COST)
    }

    fn links(&self, index: NodeIndex) -> &[Link] {
        if self.element(index).is_some() { &[] } else { &self.flow.node(index).links }
    }

    fn evaluate_link(&self, link: &Link, budget: &mut EvaluationBudget) -> Result<bool, String> {
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
        let values = self.values_read(link);
        let result = condition.evaluate_within(&borrow(&values), budget);
        result.map_err(|error| format!("the link from {:?}: {error}", source.name))
    }

    /// The values that the condition of a link reads and that exist.
    fn values_read<'a>(&'a self, link: &'a Link) -> Vec<(&'a ValueName, Cow<'a, Value>)> {
        link.reads.iter().filter_map(|(name, source)| Some((name, self.read(source)?))).collect()
    }
}

fn borrow<'a>(values: &'a [(&ValueName, Cow<'a, Value>)]) -> BTreeMap<ValueName, &'a Value> {
    values.iter().map(|(name, value)| ((*name).clone(), &**value)).collect()
}
