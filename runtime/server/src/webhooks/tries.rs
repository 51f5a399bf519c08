//! What becomes of an event after a try, and which events have a place to wait for another one.
//!
//! Whoever submits flows chooses texts in events, and so may choose events that the server of a webhook refuses. Such events may not take
//! all places from those of others.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flow::Namespace;

use super::post::Verdict;

/// The number of tries that fail, perhaps because of the event, after which it is given up: with the first pauses, about 15 seconds.
const MAX_REFUSALS: u32 = 5;

/// The tries of one event since it was taken from the queue.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Those that failed, perhaps because of the event.
    refusals: u32,
    /// Whether there were other ones before, after which the event returned to the queue.
    has_returned: bool,
}

/// What else decides what becomes of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Whether the event is so old that no failed try is the reason for another one.
    pub(super) is_old: bool,
    /// Whether there is a place for the event until the next try.
    pub(super) has_place: bool,
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
    /// No tries yet, of an event that has perhaps returned to the queue before.
    pub(super) fn new(has_returned: bool) -> Self {
        Self { refusals: 0, has_returned }
    }

    /// Notes a try, and says what becomes of the event.
    pub(super) fn after(&mut self, verdict: Verdict, situation: Situation) -> Step {
        let Situation { is_old, has_place, is_held_too_long } = situation;
        self.refusals += u32::from(matches!(verdict, Verdict::Refused | Verdict::Failed));
        let is_refused_often = self.refusals >= MAX_REFUSALS;
        match verdict {
            Verdict::Accepted => Step::Delivered,
            Verdict::Gone => Step::GiveUp("its server wants no events any more"),
            Verdict::Refused | Verdict::Failed | Verdict::Unavailable if is_old => {
                Step::GiveUp("it was not delivered for too long")
            }
            Verdict::Refused if !has_place => {
                Step::GiveUp("its server has refused it, and many others of its namespace wait for another try")
            }
            Verdict::Refused if is_refused_often || is_held_too_long => {
                Step::GiveUp("its server has refused it several times")
            }
            // Its pauses are long by now.
            Verdict::Failed if !has_place && (is_refused_often || self.has_returned) => {
                Step::GiveUp("its server fails with it, and many others of its namespace wait for another try")
            }
            Verdict::Failed | Verdict::Unavailable if is_held_too_long => Step::Requeue,
            Verdict::Refused | Verdict::Failed | Verdict::Unavailable => Step::TryAgain,
        }
    }
}

/// The places for events that wait for another try, by namespace.
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

    const ROOM: Situation = Situation { is_old: false, has_place: true, is_held_too_long: false };
    const CROWD: Situation = Situation { has_place: false, ..ROOM };
    const LONG: Situation = Situation { is_held_too_long: true, ..ROOM };
    const OLD: Situation = Situation { is_old: true, ..ROOM };

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
            (Verdict::Refused, LONG, 1),
            (Verdict::Failed, CROWD, MAX_REFUSALS),
            (Verdict::Failed, OLD, 1),
            (Verdict::Unavailable, OLD, 1),
            (Verdict::Gone, ROOM, 1),
        ] {
            let sent = sent(verdict, situation);
            assert!(sent.0 == number && is_given_up(sent), "{verdict:?} {situation:?}: {sent:?}");
        }
        for (verdict, situation, step) in [
            (Verdict::Failed, ROOM, Step::TryAgain),
            (Verdict::Unavailable, ROOM, Step::TryAgain),
            (Verdict::Unavailable, CROWD, Step::TryAgain),
            (Verdict::Failed, LONG, Step::Requeue),
            (Verdict::Unavailable, LONG, Step::Requeue),
            (Verdict::Accepted, OLD, Step::Delivered),
        ] {
            assert_eq!(sent(verdict, situation).1, step, "{verdict:?} {situation:?}");
        }
    }

    #[test]
    fn a_server_that_was_away_does_not_count_as_refusing() {
        let mut tries = Tries::default();
        for _ in 0..2 * MAX_REFUSALS {
            assert_eq!(tries.after(Verdict::Unavailable, ROOM), Step::TryAgain);
        }
        assert_eq!(tries.after(Verdict::Refused, ROOM), Step::TryAgain);
    }

    #[test]
    fn an_event_that_returns_from_the_queue_has_no_second_series_in_a_crowd() {
        let mut tries = Tries::new(true);
        assert_eq!(tries.after(Verdict::Failed, ROOM), Step::TryAgain);
        assert_eq!(tries.after(Verdict::Unavailable, CROWD), Step::TryAgain);
        assert!(matches!(tries.after(Verdict::Failed, CROWD), Step::GiveUp(_)));
    }

    #[test]
    fn a_namespace_leaves_places_to_others() {
        let places = Places::new(2);
        let (shop, bank) = (Namespace::new("shop").unwrap(), Namespace::new("bank").unwrap());
        let taken = [(); 2].map(|()| places.take(Some(&shop)).expect("it has fewer than two"));
        assert!(places.take(Some(&shop)).is_none());
        let others = [Some(&bank), None, None, None].map(|namespace| places.take(namespace));
        assert!(others.iter().all(Option::is_some), "another namespace, and events of none");
        drop(taken);
        assert!(places.take(Some(&shop)).is_some());
        drop(others);
        assert!(places.lock().is_empty(), "nothing is left of namespaces without events");
    }
}
