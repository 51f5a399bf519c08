//! Changes that are published later, in the order of each run: those of a run that another process left, and newer ones
//! behind them. A run that was left may have a hundred thousand of them, and others are not to wait for it.

use std::collections::{BTreeMap, VecDeque};

use flow::{FlowName, RunId};
use logbook::Version;
use machine::NodeChange;
use protocol::EngineSecret;

use crate::{effects::Effects, messages};

/// Maximum number of waiting changes that one batch publishes.
const MAX_BATCH_CHANGES: usize = 512;

/// The waiting changes of all runs.
#[derive(Default)]
pub(crate) struct Backlog {
    runs: BTreeMap<RunId, RunBacklog>,
}

/// The waiting changes of one run.
struct RunBacklog {
    flow: FlowName,
    entries: VecDeque<Entry>,
}

enum Entry {
    Change(Box<NodeChange>),
    /// All changes up to this version come before.
    Version(Version),
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether changes of a run wait.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    pub(crate) fn push_change(&mut self, run: &RunId, flow: &FlowName, change: NodeChange) {
        self.push(run, flow, Entry::Change(change.into()));
    }

    pub(crate) fn push_version(&mut self, run: &RunId, flow: &FlowName, version: Version) {
        self.push(run, flow, Entry::Version(version));
    }

    fn push(&mut self, run: &RunId, flow: &FlowName, entry: Entry) {
        let backlog = self.runs.entry(run.clone());
        let new = || RunBacklog { flow: flow.clone(), entries: VecDeque::new() };
        backlog.or_insert_with(new).entries.push_back(entry);
    }

    /// Moves the next changes to the effects, an equal share for each run.
    pub(crate) fn take(&mut self, secret: &EngineSecret, effects: &mut Effects) {
        let share = (MAX_BATCH_CHANGES / self.runs.len().max(1)).max(1);
        for (run, backlog) in self.runs.iter_mut().take(MAX_BATCH_CHANGES) {
            let mut left = share;
            while let Some(entry) = backlog.entries.pop_front_if(|entry| left > 0 || matches!(entry, Entry::Version(_)))
            {
                match entry {
                    Entry::Change(change) => {
                        effects.messages.push(messages::notification(run, &backlog.flow, &change, secret));
                        left -= 1;
                    }
                    Entry::Version(version) => effects.published.push((run.clone(), version)),
                }
            }
        }
        self.runs.retain(|_, backlog| !backlog.entries.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::{Attempt, Digest, Firing, NodeKind, State, Timestamp};

    fn change(attempt: u32) -> NodeChange {
        NodeChange {
            kind: NodeKind::Task,
            name: "t".parse().expect("a valid name"),
            state: State::Running,
            firing: Firing::FIRST,
            attempt: Attempt::new(attempt),
            at: Timestamp::from_micros(0),
            provides: None,
            failure: None,
            retry_in: None,
            worker: None,
            digest: Some(Digest::from_bytes([1; 32])),
        }
    }

    #[test]
    fn a_long_backlog_does_not_delay_a_short_one_and_stays_in_order() {
        let flow: FlowName = "f".parse().expect("a valid name");
        let [long, short]: [RunId; 2] = ["long", "short"].map(|run| run.parse().expect("a valid name"));
        let secret = EngineSecret::new([7; 32]);
        let mut backlog = Backlog::default();
        for attempt in 1..=2_000 {
            backlog.push_change(&long, &flow, change(attempt));
        }
        backlog.push_version(&long, &flow, Version::new(9));
        backlog.push_change(&short, &flow, change(1));
        backlog.push_version(&short, &flow, Version::new(3));
        let mut bodies = Vec::new();
        let mut published = Vec::new();
        while !backlog.is_empty() {
            let mut effects = Effects::default();
            backlog.take(&secret, &mut effects);
            assert!(effects.messages.len() <= MAX_BATCH_CHANGES);
            bodies.extend(effects.messages.into_iter().map(|message| message.body));
            published.push(effects.published);
        }
        assert_eq!(published.first(), Some(&vec![(short.clone(), Version::new(3))]));
        assert_eq!(published.last(), Some(&vec![(long.clone(), Version::new(9))]));
        let expected: Vec<_> =
            (1..=2_000).map(|attempt| messages::notification(&long, &flow, &change(attempt), &secret).body).collect();
        let of_short = messages::notification(&short, &flow, &change(1), &secret).body;
        bodies.retain(|body| *body != of_short);
        assert_eq!(bodies, expected);
    }
}
