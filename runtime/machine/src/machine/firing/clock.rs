//! Clock changes: a wait keeps its remaining length when the clock is set.

use flow::{ClockShift, NodeIndex, StartTime, Timestamp};

use super::FiringMachine;

impl FiringMachine {
    /// Whether this firing waits for a time.
    pub(in crate::machine) fn has_timer(&self) -> bool {
        !self.retries.is_empty() || self.expires_at.is_some()
    }

    /// Converts the times of all waits to the new clock. Times that the flow names stay.
    pub(super) fn shift(&mut self, by: ClockShift) {
        let shifted = |at: &mut Timestamp| *at = at.shift(by);
        self.expires_at.iter_mut().for_each(shifted);
        let due = std::mem::take(&mut self.retries).into_iter();
        let due =
            due.map(|(at, index)| if self.starts_at_fixed_time(index) { (at, index) } else { (at.shift(by), index) });
        self.retries = due.collect();
        let indices: Vec<NodeIndex> = self.indices().collect();
        for index in indices {
            let is_fixed = self.starts_at_fixed_time(index);
            let node = self.node_mut(index);
            if !is_fixed && node.rare.starts_at.is_some() {
                node.rare.starts_at.iter_mut().for_each(shifted);
            }
            let (since, retry_at) = node.state.times_mut();
            since.into_iter().chain(retry_at.into_iter().flatten()).for_each(shifted);
        }
    }

    /// Whether a node waits to start until a time that its flow names, rather than for a duration.
    fn starts_at_fixed_time(&self, index: NodeIndex) -> bool {
        self.node(index).rare.starts_at.is_some() && matches!(self.definition(index).starts, Some(StartTime::At(_)))
    }
}
