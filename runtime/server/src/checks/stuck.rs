//! When a run is stuck: nothing that it waits for will come by itself.
//!
//! A run goes on when a call is answered or lost, a time comes, or somebody notifies it. The rule is kept apart from how its
//! facts are found: it is the same for every run, and cautious: what is not known counts as going on.

/// What a run that is running or suspending could go on with.
#[derive(Debug, Default)]
pub(super) struct Prospects {
    /// Whether it fires again by itself or by notifications: a persistent run waits for those.
    pub(super) fires: bool,
    /// Whether a time will come that it waits for: a pause, a deadline, a schedule, its end.
    pub(super) has_timer: bool,
    /// Whether tasks wait to be notified.
    pub(super) waits_for_notification: bool,
    /// Whether something is being fetched from the store for it.
    pub(super) fetches: bool,
    /// Its calls that are out.
    pub(super) calls: Vec<(String, Place)>,
}

/// Where a call that is out is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It has not been out for long.
    Young,
    /// A worker has it under a lease: the engine notices when its heartbeats stop.
    Leased,
    /// The engine has it, and waits for a permit or for answers that it has not read yet.
    WithEngine,
    /// Its queue has jobs.
    Queued,
    /// Workers of its queue have calls in hand.
    WithWorker,
    /// It cannot be told, and why.
    Unknown(String),
    /// In no queue, with no worker, and under no lease.
    Nowhere,
}

/// Who drives a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// An engine, or a process of `waft run`.
    Somebody,
    /// Nobody.
    Nobody,
    /// That is not known.
    Unknown,
}

/// What comes of a look at one run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on by itself, or when somebody notifies it.
    GoesOn,
    /// Nobody drives it.
    Undriven,
    /// Nothing that it waits for will come: these calls are nowhere; none is out where there are none.
    Stuck(Vec<String>),
    /// It cannot be told, and why.
    Unknown(String),
}

/// The rule.
pub(super) fn verdict(driver: Driver, prospects: &Prospects) -> Verdict {
    let Prospects { fires, has_timer, waits_for_notification, fetches, calls } = prospects;
    match driver {
        Driver::Somebody => {}
        Driver::Nobody => return Verdict::Undriven,
        // Without a driver no time comes and no lease is missed, so nothing else tells.
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

/// What is known of the queue of a call, and of who takes jobs from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takers {
    /// Jobs that wait.
    pub(super) ready: u64,
    /// Consumers of the queue.
    pub(super) consumers: u64,
    /// Workers of the queue that answered.
    pub(super) answered: u64,
    /// Calls that those have in hand.
    pub(super) busy: u64,
    /// Answers that wait for the engine.
    pub(super) answers: u64,
}

/// Where a call is that has been out for long and has no lease: a worker that has it would have taken one by now.
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
