//! When the changes of a run count as published: once the broker has confirmed all notifications about them. Jobs do not matter for that.
//!
//! Each run counts alone: a notification that cannot be sent yet delays no other run of its batch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use broker::Message;
use flow::RunId;
use logbook::Version;
use protocol::topology as names;

/// The versions whose messages the broker has confirmed. The outbox adds to them, and the driver takes them once per
/// batch. Cheap to clone. It has at most the versions sent since the driver last took them. Nothing blocks on it.
#[derive(Clone, Default)]
pub(crate) struct ConfirmedVersions(Arc<Mutex<Vec<(RunId, Version)>>>);

impl ConfirmedVersions {
    /// Takes all versions that were added since the last call.
    pub(crate) fn take(&self) -> Vec<(RunId, Version)> {
        std::mem::take(&mut *self.lock())
    }

    fn add(&self, published: impl IntoIterator<Item = (RunId, Version)>) {
        self.lock().extend(published);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(RunId, Version)>> {
        // A panic in another thread leaves no partial entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The versions of a run in a batch whose notifications are not all confirmed yet.
pub(super) struct PendingPublication {
    left: AtomicUsize,
    run: RunId,
    versions: Vec<Version>,
    confirmed: ConfirmedVersions,
}

impl PendingPublication {
    /// The broker has one more of the run's notifications, or never will.
    pub(super) fn confirm_one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.confirmed.add(self.versions.iter().map(|version| (self.run.clone(), *version)));
        }
    }
}

/// The publication that each message of a batch belongs to, in order. The versions of runs without a notification in the batch are
/// confirmed at once.
pub(super) fn of_batch(
    messages: &[Message],
    published: Vec<(RunId, Version)>,
    confirmed: &ConfirmedVersions,
) -> Vec<Option<Arc<PendingPublication>>> {
    let runs: Vec<Option<RunId>> = messages.iter().map(notifying_run).collect();
    let mut left: BTreeMap<&RunId, usize> = BTreeMap::new();
    runs.iter().flatten().for_each(|run| *left.entry(run).or_default() += 1);
    let (waiting, done): (Vec<_>, Vec<_>) = published.into_iter().partition(|(run, _)| left.contains_key(run));
    confirmed.add(done);
    let mut versions: BTreeMap<RunId, Vec<Version>> = BTreeMap::new();
    waiting.into_iter().for_each(|(run, version)| versions.entry(run).or_default().push(version));
    let pending = |(run, left): (&RunId, usize)| {
        let versions = versions.remove(run).unwrap_or_default();
        let (run, left, confirmed) = (run.clone(), AtomicUsize::new(left), confirmed.clone());
        (run.clone(), Arc::new(PendingPublication { left, run, versions, confirmed }))
    };
    let pending: BTreeMap<RunId, Arc<PendingPublication>> = left.into_iter().map(pending).collect();
    runs.iter().map(|run| pending.get(run.as_ref()?).cloned()).collect()
}

/// The run that a notification is about, or that of its task; `None` for other messages.
fn notifying_run(message: &Message) -> Option<RunId> {
    names::run_of_notification(&message.exchange, &message.key)
}

#[cfg(test)]
mod tests {
    use broker::{Properties, Routing};

    use super::*;

    fn message(exchange: &str, key: &str) -> Message {
        Message {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            routing: Routing::Optional,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: "{}".into(),
        }
    }

    #[test]
    fn a_version_waits_for_the_notifications_of_its_run_and_of_its_tasks() {
        let confirmed = ConfirmedVersions::default();
        let version: (RunId, Version) = ("r".parse().expect("a valid name"), Version::new(3));
        let messages = [
            message(names::NOTIFICATIONS, "f.t.r.success"),
            message(names::RUNS, "f.r.success"),
            message(names::RUNS, "f.other.running"),
        ];
        let pending = of_batch(&messages, vec![version.clone()], &confirmed);
        let confirm = |index: usize| pending[index].as_ref().expect("it is a notification").confirm_one();
        [1, 2].into_iter().for_each(confirm);
        assert_eq!(confirmed.take(), [], "the notification of the task is not confirmed");
        confirm(0);
        assert_eq!(confirmed.take(), [version]);
    }
}
