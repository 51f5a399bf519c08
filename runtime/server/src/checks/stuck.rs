//! Decides when a run is stuck: nothing that it waits for will come by itself.
//!
//! A run continues when a call is answered or lost, a timer fires, or somebody notifies it. This module holds the rule,
//! separate from the search for its facts. The rule is the same for every run, and cautious: an unknown fact counts as
//! progress.

/// What can let a running or suspending run continue.
#[derive(Debug, Default)]
pub(super) struct Prospects {
    /// Whether it fires again by itself or through notifications: a persistent run waits for those.
    pub(super) fires: bool,
    /// Whether a timer is pending: a pause, a deadline, a schedule, or the end of the run.
    pub(super) has_timer: bool,
    /// Whether tasks wait for notifications.
    pub(super) waits_for_notification: bool,
    /// Whether the engine is fetching something from the store for it.
    pub(super) fetches: bool,
    /// Its outstanding calls.
    pub(super) calls: Vec<(String, Place)>,
}

/// Where an outstanding call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The call is recent.
    Young,
    /// A worker holds it under a lease: the engine notices when the heartbeats stop.
    Leased,
    /// The engine holds it, and waits for a permit or has unread answers.
    WithEngine,
    /// Its queue has jobs.
    Queued,
    /// Workers of its queue are executing calls.
    WithWorker,
    /// Its place is unknown, with the reason.
    Unknown(String),
    /// In no queue, at no worker, and under no lease.
    Nowhere,
}

/// Who drives a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// An engine, or a process of `waft run`.
    Somebody,
    /// Nobody.
    Nobody,
    /// It is unknown whether somebody drives it.
    Unknown,
}

/// The result for one run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It continues by itself, or when somebody notifies it.
    GoesOn,
    /// Nobody drives it.
    Undriven,
    /// Nothing that it waits for will come. The list names its lost calls; it is empty if no call is outstanding.
    Stuck(Vec<String>),
    /// Unknown, with the reason.
    Unknown(String),
}

/// Decides whether a run is stuck.
pub(super) fn verdict(driver: Driver, prospects: &Prospects) -> Verdict {
    let Prospects { fires, has_timer, waits_for_notification, fetches, calls } = prospects;
    match driver {
        Driver::Somebody => {}
        Driver::Nobody => return Verdict::Undriven,
        // Without a driver, no timer fires and no lease expires, so no other fact decides.
        Driver::Unknown => {
            return Verdict::Unknown(
                "whether a server drives it shows only at its broker, or at the server".to_owned(),
            );
        }
    }
    if *fires || *has_timer || *waits_for_notification || *fetches {
        return Verdict::GoesOn;
    }
    let mut nowhere = Vec::new();
    let mut unknown = None;
    for (call, place) in calls {
        match place {
            Place::Young | Place::Leased | Place::WithEngine | Place::Queued | Place::WithWorker => {
                return Verdict::GoesOn;
            }
            Place::Unknown(reason) => unknown = unknown.or(Some(reason.clone())),
            Place::Nowhere => nowhere.push(call.clone()),
        }
    }
    unknown.map_or(Verdict::Stuck(nowhere), Verdict::Unknown)
}

/// The facts about the queue of a call and its consumers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takers {
    /// The number of waiting jobs.
    pub(super) ready: u64,
    /// The number of consumers of the queue.
    pub(super) consumers: u64,
    /// The number of the queue's workers that responded.
    pub(super) answered: u64,
    /// The number of calls that those workers are executing.
    pub(super) busy: u64,
    /// The number of answers that wait for the engine.
    pub(super) answers: u64,
}

/// The place of a call that has been outstanding for long without a lease. A worker that has it would hold a lease by now.
pub(super) fn place(takers: Takers) -> Place {
    let Takers { ready, consumers, answered, busy, answers } = takers;
    if ready > 0 {
        Place::Queued
    } else if busy > 0 {
        Place::WithWorker
    } else if answered < consumers {
        Place::Unknown(format!("{} of {consumers} workers of its queue did not answer", consumers - answered))
    } else if answers > 0 {
        Place::Unknown("answers wait for the engine, and its own may be among them".to_owned())
    } else {
        Place::Nowhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(places: &[Place]) -> Prospects {
        let calls = places.iter().enumerate().map(|(number, place)| (format!("c{number}"), place.clone())).collect();
        Prospects { calls, ..Prospects::default() }
    }

    #[test]
    fn a_run_is_stuck_when_nothing_that_it_waits_for_will_come() {
        let verdict = |prospects: &Prospects| verdict(Driver::Somebody, prospects);
        assert_eq!(verdict(&Prospects::default()), Verdict::Stuck(Vec::new()));
        assert_eq!(verdict(&calls(&[Place::Nowhere])), Verdict::Stuck(vec!["c0".into()]));
        for hopeful in [Place::Young, Place::Leased, Place::WithEngine, Place::Queued, Place::WithWorker] {
            assert_eq!(verdict(&calls(&[Place::Nowhere, hopeful])), Verdict::GoesOn);
        }
        let unsure = calls(&[Place::Nowhere, Place::Unknown("why".into())]);
        assert_eq!(verdict(&unsure), Verdict::Unknown("why".into()));
    }

    #[test]
    fn a_time_a_person_or_a_notification_lets_a_run_go_on() {
        let lost = || calls(&[Place::Nowhere]);
        for prospects in [
            Prospects { fires: true, ..lost() },
            Prospects { has_timer: true, ..lost() },
            Prospects { waits_for_notification: true, ..lost() },
            Prospects { fetches: true, ..lost() },
        ] {
            assert_eq!(verdict(Driver::Somebody, &prospects), Verdict::GoesOn);
            assert_eq!(verdict(Driver::Nobody, &prospects), Verdict::Undriven, "nobody looks at the clock");
        }
    }

    #[test]
    fn of_a_run_of_which_it_is_not_known_who_drives_it_nothing_is_said() {
        for place in [Place::Nowhere, Place::Leased] {
            assert!(matches!(verdict(Driver::Unknown, &calls(&[place])), Verdict::Unknown(_)));
        }
    }

    #[test]
    fn a_call_is_nowhere_only_if_nobody_can_have_it() {
        let idle = Takers { ready: 0, consumers: 1, answered: 1, busy: 0, answers: 0 };
        assert_eq!(place(idle), Place::Nowhere);
        assert_eq!(place(Takers { consumers: 0, answered: 0, ..idle }), Place::Nowhere);
        assert_eq!(place(Takers { ready: 1, ..idle }), Place::Queued);
        assert_eq!(place(Takers { busy: 1, ..idle }), Place::WithWorker);
        assert!(matches!(place(Takers { consumers: 2, ..idle }), Place::Unknown(_)));
        assert!(matches!(place(Takers { answers: 1, ..idle }), Place::Unknown(_)));
    }
}
