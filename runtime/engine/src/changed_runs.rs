//! Notifies subscribers of new records of a run. Each subscriber is woken by its own run only: a busy engine changes runs a thousand times a
//! second, and hundreds of clients may each wait for another run.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flow::RunId;
use tokio::sync::watch;

/// The runs that somebody waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangedRuns(Arc<Mutex<BTreeMap<RunId, Subscribed>>>);

/// A run with subscribers.
#[derive(Debug)]
struct Subscribed {
    /// The number of subscriptions that are not dropped.
    count: usize,
    /// Is sent to at each change: whether it has ended the run.
    changed: watch::Sender<bool>,
}

/// A subscription to the changes of one run.
#[derive(Debug)]
pub struct RunChanges {
    run: RunId,
    changed: watch::Receiver<bool>,
    runs: ChangedRuns,
}

impl ChangedRuns {
    /// Wakes the subscribers of a run, which the change may have ended.
    pub(crate) fn notify(&self, run: &RunId, has_ended: bool) {
        if let Some(subscribed) = self.lock().get(run) {
            subscribed.changed.send_replace(has_ended);
        }
    }

    /// Subscribes to the changes of a run from now on.
    pub(crate) fn subscribe(&self, run: RunId) -> RunChanges {
        let changed = {
            let mut runs = self.lock();
            let new = || Subscribed { count: 0, changed: watch::channel(false).0 };
            let subscribed = runs.entry(run.clone()).or_insert_with(new);
            subscribed.count += 1;
            subscribed.changed.subscribe()
        };
        RunChanges { run, changed, runs: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Subscribed>> {
        // Nothing between two changes of the map panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunChanges {
    /// Waits until the run has new records since the last call of this or of [`RunChanges::mark_unchanged`]. Cancel-safe.
    pub async fn changed(&mut self) {
        self.changed.changed().await.expect("the sender stays as long as its subscribers");
    }

    /// Waits until the run has ended by a change, and goes on at once if the last change has ended it. Cancel-safe.
    pub async fn ended(&mut self) {
        let ended = self.changed.wait_for(|has_ended| *has_ended).await;
        ended.map(drop).expect("the sender stays as long as its subscribers");
    }

    /// The number of subscriptions to the changes of the run, with this one.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.runs.lock().get(&self.run).map_or(1, |subscribed| subscribed.count)
    }

    /// Ignores the changes so far.
    pub fn mark_unchanged(&mut self) {
        self.changed.mark_unchanged();
    }
}

impl Drop for RunChanges {
    fn drop(&mut self) {
        let mut runs = self.runs.lock();
        let Some(subscribed) = runs.get_mut(&self.run) else { return };
        subscribed.count -= 1;
        if subscribed.count == 0 {
            runs.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    #[test]
    fn a_subscriber_is_woken_by_its_own_run_only() {
        let runs = ChangedRuns::default();
        let mut subscribers: Vec<RunChanges> = (0..200).map(|id| runs.subscribe(run(&format!("r{id}")))).collect();
        let mut second = runs.subscribe(run("r7"));
        for _ in 0..1_000 {
            runs.notify(&run("r7"), false);
        }
        runs.notify(&run("nobody-waits-for-it"), false);
        let woken = |subscriber: &mut RunChanges| subscriber.changed().now_or_never().is_some();
        let all: Vec<usize> = (0..200).filter(|index| woken(&mut subscribers[*index])).collect();
        assert_eq!(all, [7], "of 200 runs, one has changed");
        assert!(woken(&mut second), "another subscriber of the same run");
        assert!(!woken(&mut second), "many changes are one");
        runs.notify(&run("r7"), false);
        second.mark_unchanged();
        assert!(!woken(&mut second) && woken(&mut subscribers[7]));
    }

    #[test]
    fn only_runs_with_subscribers_are_in_memory() {
        let runs = ChangedRuns::default();
        let (first, mut second) = (runs.subscribe(run("r")), runs.subscribe(run("r")));
        assert_eq!(second.subscribers(), 2);
        drop(first);
        assert_eq!(second.subscribers(), 1);
        runs.notify(&run("r"), false);
        assert!(second.changed().now_or_never().is_some(), "the other one has left");
        drop(second);
        runs.notify(&run("r"), false);
        assert!(runs.lock().is_empty());
    }

    #[test]
    fn the_end_of_a_run_is_known_until_it_goes_on() {
        let runs = ChangedRuns::default();
        let mut subscriber = runs.subscribe(run("r"));
        for (has_ended, seen) in [(false, false), (true, true), (false, false)] {
            runs.notify(&run("r"), has_ended);
            assert_eq!(subscriber.ended().now_or_never().is_some(), seen);
        }
    }
}
