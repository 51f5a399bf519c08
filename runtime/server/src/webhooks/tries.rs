//! What becomes of an event after a try, and which events have a place to wait for another one.
//!
//! Whoever submits flows chooses texts in events, and so may choose events that the server of a webhook does not accept. Such events may not
//! take all places from those of others. A server that is down accepts no event: then nobody chose that, and no event is given up.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use flow::Namespace;

use super::post::Verdict;

/// The number of tries that fail because of the event after which an event that was refused is given up: with the first pauses, about 15
/// seconds.
const MAX_REFUSALS: u32 = 5;

/// The number of tries that fail because of the event after which one without a place is given up. Several, over about 15 seconds, since a
/// part of the servers may be down for a moment, while the others accept events.
const MAX_FAILURES_WITHOUT_PLACE: u32 = 5;

/// The number of events that the server of a webhook has accepted. While it grows, the server is not down.
#[derive(Debug, Default)]
pub(super) struct Acceptances(AtomicU64);

impl Acceptances {
    /// Counts an event.
    pub(super) fn note(&self) {
        // It guards no other memory.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number so far.
    pub(super) fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The tries of one event since it was taken from the queue.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Those that failed because of the event.
    failures: u32,
    /// The number of accepted events when the last try began.
    begun_at: Option<u64>,
    /// The number of accepted events when the try before began, or else the last one.
    compared_with: u64,
}

/// Why a try has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server: it has accepted no other event since the try before.
    Server,
    /// The event, and there is a place for it until the next try.
    Event,
    /// The event, and too many of its namespace wait for another try.
    EventWithoutPlace,
}

/// What else decides what becomes of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Whether the event is so old that no failed try is the reason for another one.
    pub(super) is_old: bool,
    /// Why the try has failed, if it has.
    pub(super) cause: Cause,
    /// Whether the event would be held for too long until the next try.
    pub(super) is_held_too_long: bool,
}

/// What becomes of an event after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The server has it.
    Delivered,
    /// It is not sent any more, for this reason.
    GiveUp(&'static str),
    /// It is sent again after a pause.
    TryAgain,
    /// It returns to the queue, and comes again.
    Requeue,
}

impl Tries {
    /// Begins a try, when the server has accepted so many events.
    pub(super) fn begin(&mut self, accepted: u64) {
        self.compared_with = self.begun_at.replace(accepted).unwrap_or(accepted);
    }

    /// Whether a try has failed because of the event: the server has accepted another one since the try before began.
    pub(super) fn is_about_event(&self, verdict: Verdict, accepted: u64) -> bool {
        match verdict {
            Verdict::Refused | Verdict::Failed => accepted > self.compared_with,
            Verdict::Accepted | Verdict::Gone | Verdict::Unavailable => false,
        }
    }

    /// Notes a try, and says what becomes of the event.
    pub(super) fn after(&mut self, verdict: Verdict, situation: Situation) -> Step {
        let Situation { is_old, cause, is_held_too_long } = situation;
        self.failures += match cause {
            Cause::Server => 0,
            Cause::Event | Cause::EventWithoutPlace => 1,
        };
        match verdict {
            Verdict::Accepted => Step::Delivered,
            Verdict::Gone => Step::GiveUp("its server wants no events any more"),
            Verdict::Refused | Verdict::Failed | Verdict::Unavailable if is_old => {
                Step::GiveUp("it was not delivered for too long")
            }
            Verdict::Refused if cause == Cause::EventWithoutPlace => {
                Step::GiveUp("its server has refused it, and many others of its namespace wait for another try")
            }
            Verdict::Refused if self.failures >= MAX_REFUSALS => {
                Step::GiveUp("its server has refused it several times, and accepted others")
            }
            Verdict::Failed if cause == Cause::EventWithoutPlace && self.failures >= MAX_FAILURES_WITHOUT_PLACE => {
                Step::GiveUp("its server fails with it, and many others of its namespace wait for another try")
            }
            Verdict::Refused | Verdict::Failed | Verdict::Unavailable if is_held_too_long => Step::Requeue,
            Verdict::Refused | Verdict::Failed | Verdict::Unavailable => Step::TryAgain,
        }
    }
}

/// The places for events that failed and wait for another try, by namespace.
#[derive(Debug)]
pub(super) struct Places {
    /// The maximum number of places of one namespace.
    of_namespace: u16,
    taken: Mutex<BTreeMap<Namespace, u16>>,
}

/// A place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<'p> {
    places: &'p Places,
    /// `None` for an event whose namespace is not limited.
    namespace: Option<Namespace>,
}

impl Places {
    /// Places, of which one namespace has at most so many.
    pub(super) fn new(of_namespace: u16) -> Self {
        Self { of_namespace, taken: Mutex::default() }
    }

    /// A place for an event of a namespace, if it has fewer than the maximum; `None` as namespace is not limited.
    pub(super) fn take(&self, namespace: Option<&Namespace>) -> Option<Place<'_>> {
        if let Some(namespace) = namespace {
            let mut all = self.lock();
            let taken = all.get(namespace).copied().unwrap_or_default();
            if taken >= self.of_namespace {
                return None;
            }
            all.insert(namespace.clone(), taken + 1);
        }
        Some(Place { places: self, namespace: namespace.cloned() })
    }

    /// Whether an event of a namespace would get no place.
    pub(super) fn are_taken(&self, namespace: Option<&Namespace>) -> bool {
        namespace.and_then(|namespace| self.lock().get(namespace).copied()).unwrap_or_default() >= self.of_namespace
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Namespace, u16>> {
        // A panic in another thread leaves whole numbers.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(namespace) = &self.namespace else { return };
        let mut all = self.places.lock();
        if let Some(taken) = all.get_mut(namespace) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Situation = Situation { is_old: false, cause: Cause::Server, is_held_too_long: false };
    const ROOM: Situation = Situation { cause: Cause::Event, ..DOWN };
    const CROWD: Situation = Situation { cause: Cause::EventWithoutPlace, ..DOWN };
    const LONG: Situation = Situation { is_held_too_long: true, ..DOWN };
    const OLD: Situation = Situation { is_old: true, ..DOWN };

    /// The number of tries until the event is not sent again, and what becomes of it then; at most a hundred.
    fn sent(verdict: Verdict, situation: Situation) -> (u32, Step) {
        let (mut tries, mut number) = (Tries::default(), 1);
        loop {
            match tries.after(verdict, situation) {
                Step::TryAgain if number < 100 => number += 1,
                step => return (number, step),
            }
        }
    }

    #[test]
    fn an_event_that_is_refused_is_tried_fewer_times_than_one_whose_server_is_away() {
        let is_given_up = |(_, step): (u32, Step)| matches!(step, Step::GiveUp(_));
        for (verdict, situation, number) in [
            (Verdict::Refused, ROOM, MAX_REFUSALS),
            (Verdict::Refused, CROWD, 1),
            (Verdict::Failed, CROWD, MAX_FAILURES_WITHOUT_PLACE),
            (Verdict::Failed, OLD, 1),
            (Verdict::Unavailable, OLD, 1),
            (Verdict::Gone, DOWN, 1),
        ] {
            let sent = sent(verdict, situation);
            assert!(sent.0 == number && is_given_up(sent), "{verdict:?} {situation:?}: {sent:?}");
        }
        for (verdict, situation, step) in [
            (Verdict::Refused, DOWN, Step::TryAgain),
            (Verdict::Failed, DOWN, Step::TryAgain),
            (Verdict::Failed, ROOM, Step::TryAgain),
            (Verdict::Unavailable, DOWN, Step::TryAgain),
            (Verdict::Refused, LONG, Step::Requeue),
            (Verdict::Failed, LONG, Step::Requeue),
            (Verdict::Unavailable, LONG, Step::Requeue),
            (Verdict::Accepted, OLD, Step::Delivered),
        ] {
            assert_eq!(sent(verdict, situation).1, step, "{verdict:?} {situation:?}");
        }
    }

    #[test]
    fn tries_of_a_server_that_was_down_do_not_count() {
        let mut tries = Tries::default();
        for _ in 0..2 * MAX_REFUSALS {
            assert_eq!(tries.after(Verdict::Refused, DOWN), Step::TryAgain);
        }
        for _ in 1..MAX_FAILURES_WITHOUT_PLACE {
            assert_eq!(tries.after(Verdict::Failed, CROWD), Step::TryAgain);
        }
        assert!(matches!(tries.after(Verdict::Failed, CROWD), Step::GiveUp(_)));
    }

    #[test]
    fn a_try_is_about_the_event_if_another_one_was_accepted_since_the_try_before() {
        let mut tries = Tries::default();
        for (begun_at, ended_at, expected) in [
            (3, 3, false),
            (3, 4, true),
            // Between the two tries.
            (5, 5, true),
            // Not since then: the server may be down.
            (5, 5, false),
            (5, 6, true),
        ] {
            tries.begin(begun_at);
            for verdict in [Verdict::Refused, Verdict::Failed] {
                assert_eq!(tries.is_about_event(verdict, ended_at), expected, "{begun_at} {ended_at}");
            }
            assert!(!tries.is_about_event(Verdict::Unavailable, ended_at), "it asks for a later try");
        }
    }

    #[test]
    fn a_namespace_leaves_places_to_others() {
        let places = Places::new(2);
        let (shop, bank) = (Namespace::new("shop").unwrap(), Namespace::new("bank").unwrap());
        let taken = [(); 2].map(|()| places.take(Some(&shop)).expect("it has fewer than two"));
        assert!(places.take(Some(&shop)).is_none() && places.are_taken(Some(&shop)));
        assert!(!places.are_taken(Some(&bank)) && !places.are_taken(None));
        let others = [Some(&bank), None, None, None].map(|namespace| places.take(namespace));
        assert!(others.iter().all(Option::is_some), "another namespace, and events of none");
        drop(taken);
        assert!(places.take(Some(&shop)).is_some());
        drop(others);
        assert!(places.lock().is_empty(), "nothing is left of namespaces without events");
    }
}
