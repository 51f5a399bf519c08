//! What this server knows of the deliveries of a webhook since it was started.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::WebhookDelivery;

/// The maximum number of tries that are kept.
const MAX_TRIES: usize = 100;

/// The tries and their numbers.
#[derive(Default)]
pub(super) struct Journal(Mutex<Entries>);

/// The entries of a journal.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) given_up: u64,
    pub(super) dropped: u64,
    /// The newest first.
    pub(super) tries: VecDeque<WebhookDelivery>,
}

impl Journal {
    /// Notes a try.
    pub(super) fn note(&self, tried: WebhookDelivery) {
        let mut entries = self.lock();
        match tried.failure {
            None => entries.delivered += 1,
            Some(_) => entries.failed += 1,
        }
        entries.tries.push_front(tried);
        entries.tries.truncate(MAX_TRIES);
    }

    pub(super) fn note_given_up(&self) {
        self.lock().given_up += 1;
    }

    pub(super) fn note_dropped(&self, events: u64) {
        self.lock().dropped += events;
    }

    pub(super) fn entries(&self) -> Entries {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A panic in another thread leaves at worst a number without its try.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tries_are_kept_and_all_are_counted() {
        let journal = Journal::default();
        for number in 1..=250 {
            journal.note(WebhookDelivery {
                id: number.to_string(),
                subject: String::new(),
                at: String::new(),
                took_ms: 0,
                attempt: 1,
                status: None,
                failure: (number % 2 == 0).then(|| "no".to_owned()),
            });
        }
        let Entries { delivered, failed, tries, .. } = journal.entries();
        assert_eq!((delivered, failed, tries.len(), tries[0].id.as_str()), (125, 125, MAX_TRIES, "250"));
    }
}
