//! Evaluates the links into a node: they may keep it from starting.

use std::{borrow::Cow, collections::BTreeMap};

use flow::{EvaluationBudget, NodeIndex, SkipReach, SourceOutcome, State, Value, ValueName, graph::Link};

use super::{super::condition_budget::ConditionBudget, FiringMachine, node::NodeState};

impl FiringMachine {
    /// Evaluates the links into a node that could start. The widest reach of a false condition wins; `None` when none is
    /// false. All conditions share one budget of their own, which decides whether they can be evaluated; what they cost is taken from the
    /// budget of the step.
    ///
    /// # Errors
    /// The reason, and the link, when a condition yields neither true nor false.
    pub(super) fn evaluate_links(
        &self,
        index: NodeIndex,
        budget: &ConditionBudget,
    ) -> Result<Option<SkipReach>, String> {
        let mut own_budget = EvaluationBudget::default();
        let evaluated = self.evaluate_links_within(index, &mut own_budget);
        budget.charge(&own_budget);
        evaluated
    }

    fn evaluate_links_within(
        &self,
        index: NodeIndex,
        budget: &mut EvaluationBudget,
    ) -> Result<Option<SkipReach>, String> {
        let mut widest = None;
        for link in self.links(index) {
            if !self.evaluate_link(link, budget)? {
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

    /// Whether conditions are evaluated when the node starts. A node that is called again has passed them.
    pub(super) fn has_conditions(&self, index: NodeIndex) -> bool {
        self.node(index).state == NodeState::Pending && self.links(index).iter().any(|link| link.when.is_some())
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
