//! Describes the triggers of a node for people.

use super::{Flow, NodeIndex};
use crate::SourceOutcome;

impl Flow {
    /// The triggers that fire a node, or complete a waiting one; each ends the sentence `it fires …`.
    #[must_use]
    pub fn describe_triggers(&self, index: NodeIndex) -> Vec<String> {
        let listeners = self.listeners.iter().filter(|listener| listener.to == index).map(|listener| {
            let verb = match listener.on {
                SourceOutcome::Success => "succeeds",
                SourceOutcome::Failure => "fails",
                SourceOutcome::Any => "ends",
            };
            format!("when {}.{} {verb}", listener.flow, listener.task)
        });
        let flow_triggers = self.triggers.iter();
        let schedules =
            flow_triggers.clone().flat_map(|triggers| &triggers.schedules).filter(|schedule| schedule.to == index);
        let schedules = schedules.map(|schedule| format!("at {} ({})", schedule.cron.line(), schedule.cron.zone()));
        let back_edges =
            flow_triggers.clone().flat_map(|triggers| &triggers.back_edges).filter(|edge| edge.to == index);
        let back_edges = back_edges.map(|edge| format!("again after {}", self.node(edge.link.from).name));
        let mut triggers: Vec<String> = listeners.chain(schedules).chain(back_edges).collect();
        let is_entry = flow_triggers.clone().any(|triggers| triggers.entries.contains(&index));
        if triggers.is_empty() && is_entry {
            triggers.push("when it is notified".into());
        }
        triggers
    }
}
