//! Events that a later batch decides: those of runs that go on, of timers that are due, and of calls that the engine gives up
//! itself. A namespace, and in it a run, waits for one turn of each other, however many runs those have.

use std::collections::{BTreeSet, VecDeque};

use flow::{Namespace, RunId};
use machine::Event;

use crate::{
    runs::RunEvent,
    turns::{Turn, Turns},
};

/// Maximum number of these events in one batch: with the minimum share of records of each run, they make a full batch.
pub(crate) const MAX_BATCH_DEFERRED: usize = 512;

/// The events that wait for their turn. A plain value.
#[derive(Default)]
pub(crate) struct DeferredEvents {
    namespaces: Turns<Option<Namespace>, Turns<RunId, VecDeque<RunEvent>>>,
    /// The runs with a tick among their events.
    ticks: BTreeSet<RunId>,
}

impl DeferredEvents {
    /// Adds an event behind the others of its run. A run has one tick at most.
    pub(crate) fn push(&mut self, namespace: Option<Namespace>, event: RunEvent) {
        if matches!(event.event, Event::Tick) && !self.ticks.insert(event.run.clone()) {
            return;
        }
        self.namespaces.entry(namespace).entry(event.run.clone()).push_back(event);
    }

    /// Takes the event that has the next turn.
    pub(crate) fn take(&mut self) -> Option<RunEvent> {
        let event = self.namespaces.take(|runs| {
            let event = runs.take(|events| {
                let event = events.pop_front();
                (event, if events.is_empty() { Turn::WasLast } else { Turn::IsOver })
            });
            (event, if runs.is_empty() { Turn::WasLast } else { Turn::IsOver })
        })?;
        if matches!(event.event, Event::Tick) {
            self.ticks.remove(&event.run);
        }
        Some(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Whether a run has any event.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.namespaces.values().any(|runs| runs.get(run).is_some())
    }

    /// Whether a run has a tick among its events.
    pub(crate) fn has_tick(&self, run: &RunId) -> bool {
        self.ticks.contains(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(deferred: &mut DeferredEvents, namespace: &str, run: &str, event: Event) {
        let namespace = Namespace::new(namespace).expect("a valid name");
        deferred.push(Some(namespace), RunEvent::new(run.parse().expect("a valid name"), event));
    }

    #[test]
    fn namespaces_and_their_runs_take_turns() {
        let mut deferred = DeferredEvents::default();
        for number in 0..1_000 {
            push(&mut deferred, "a", &format!("a{number}"), Event::Tick);
            push(&mut deferred, "a", "a0", Event::Abandon);
        }
        push(&mut deferred, "b", "b", Event::Tick);
        push(&mut deferred, "b", "b", Event::Tick);
        push(&mut deferred, "b", "b", Event::Cancel);
        let first: Vec<String> = (0..5).filter_map(|_| deferred.take()).map(|event| event.run.to_string()).collect();
        assert_eq!(first, ["a0", "b", "a1", "b", "a2"]);
        let mut left = 0;
        while let Some(event) = deferred.take() {
            assert_ne!(event.run.as_str(), "b", "a run has one tick");
            left += 1;
        }
        assert_eq!((left, deferred.is_empty()), (2_000 - 3, true));
    }
}
