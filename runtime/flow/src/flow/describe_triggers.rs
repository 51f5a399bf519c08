//! Describes the triggers of a node for people.

use super::{Flow, NodeIndex};
use crate::SourceOutcome;

impl Flow {
    /// The triggers that fire a node, or complete a waiting one; each ends the sentence `it fires …`.
    #[must_use]
    pub fn describe_triggers(&self, index: NodeIndex) -> Vec<String> {
        let listens = self.listeners.iter().filter(|listen| listen.to == index).map(|listen| {
            let does = match listen.on {
                SourceOutcome::Success => "succeeds",
                SourceOutcome::Failure => "fails",
                SourceOutcome::Any => "ends",
            };
            format!("when {}.{} {does}", listen.flow, listen.task)
        });
        let living = self.triggers.iter();
        let schedules = living.clone().flat_map(|living| &living.schedules).filter(|schedule| schedule.to == index);
        let schedules = schedules.map(|schedule| format!("at {} ({})", schedule.cron.line(), schedule.cron.zone()));
        let turns = living.clone().flat_map(|living| &living.back_edges).filter(|turn| turn.to == index);
        let turns = turns.map(|turn| format!("again after {}", self.node(turn.link.from).name));
        let mut triggers: Vec<String> = listens.chain(schedules).chain(turns).collect();
        let is_entry = living.clone().any(|living| living.entries.contains(&index));
        if triggers.is_empty() && is_entry {
            triggers.push("when it is notified".into());
        }
        triggers
    }
}
