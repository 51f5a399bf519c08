//! Decides when a run is stuck: nothing that it waits for will come by itself.
//!
//! A run continues when a call is answered or lost, a timer fires, or it is notified. This module holds the rule,
//! separate from the search for its facts. The rule is the same for every run, and cautious: an unknown fact counts as
//! progress.

/// What can let a running or suspending run continue.
#[derive(Debug, Default)]
pub(super) struct WakeSources {
    /// Whether it fires again by itself or through notifications: a persistent run waits for those.
    pub(super) fires: bool,
    /// Whether a timer is pending: a pause, a deadline, a schedule, or the end of the run.
    pub(super) has_timer: bool,
    /// Whether tasks wait for notifications.
    pub(super) waits_for_notification: bool,
    /// Whether the engine is fetching something from the store for it.
    pub(super) fetches: bool,
    /// Its outstanding calls.
    pub(super) calls: Vec<(String, CallState)>,
}

/// The state of an outstanding call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallState {
    /// The call is recent.
    Recent,
    /// A worker holds it under a lease: the engine notices when the heartbeats stop.
    Leased,
    /// The engine holds it, and waits for a permit or has unread answers.
    WithEngine,
    /// Its queue has jobs.
    Queued,
    /// Workers of its queue are executing calls.
    WithWorker,
    /// Unknown, with the reason.
    Unknown(String),
    /// In no queue, at no worker, and under no lease.
    Lost,
}

/// Whether a run has a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// An engine, or a process of `waft run`.
    Present,
    /// There is none.
    Absent,
    /// This is unknown.
    Unknown,
}

/// The health of one run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RunHealth {
    /// It continues by itself, or when it is notified.
    Healthy,
    /// No engine or process drives it.
    Undriven,
    /// Nothing that it waits for will come. The list names its lost calls; it is empty if no call is outstanding.
    Stuck(Vec<String>),
    /// Unknown, with the reason.
    Unknown(String),
}

/// Decides whether a run is stuck.
pub(super) fn classify(driver: Driver, sources: &WakeSources) -> RunHealth {
    let WakeSources { fires, has_timer, waits_for_notification, fetches, calls } = sources;
    match driver {
        Driver::Present => {}
        Driver::Absent => return RunHealth::Undriven,
        // Without a driver, no timer fires and no lease expires, so no other fact decides.
        Driver::Unknown => {
            return RunHealth::Unknown("only its broker or its server knows whether an engine drives it".to_owned());
        }
    }
    if *fires || *has_timer || *waits_for_notification || *fetches {
        return RunHealth::Healthy;
    }
    let mut lost = Vec::new();
    let mut unknown = None;
    for (call, state) in calls {
        match state {
            CallState::Recent
            | CallState::Leased
            | CallState::WithEngine
            | CallState::Queued
            | CallState::WithWorker => {
                return RunHealth::Healthy;
            }
            CallState::Unknown(reason) => unknown = unknown.or(Some(reason.clone())),
            CallState::Lost => lost.push(call.clone()),
        }
    }
    unknown.map_or(RunHealth::Stuck(lost), RunHealth::Unknown)
}

/// The activity of the queue of a call and its consumers.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueActivity {
    /// The number of waiting jobs.
    pub(super) ready: u64,
    /// The number of consumers of the queue.
    pub(super) consumers: u64,
    /// The number of the queue's workers that responded.
    pub(super) answered: u64,
    /// The number of calls that those workers are executing.
    pub(super) busy: u64,
    /// The number of signals that wait for the engine.
    pub(super) answers: u64,
}

/// The state of a call that has been outstanding for long without a lease. A worker that executes it would hold a lease by
/// now.
pub(super) fn locate(activity: QueueActivity) -> CallState {
    let QueueActivity { ready, consumers, answered, busy, answers } = activity;
    if ready > 0 {
        CallState::Queued
    } else if busy > 0 {
        CallState::WithWorker
    } else if answered < consumers {
        CallState::Unknown(format!("{} of {consumers} workers of its queue did not answer", consumers - answered))
    } else if answers > 0 {
        CallState::Unknown("signals wait for the engine, and its result may be among them".to_owned())
    } else {
        CallState::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(states: &[CallState]) -> WakeSources {
        let calls = states.iter().enumerate().map(|(number, state)| (format!("c{number}"), state.clone())).collect();
        WakeSources { calls, ..WakeSources::default() }
    }

    #[test]
    fn a_run_is_stuck_when_nothing_that_it_waits_for_will_come() {
        let classify = |sources: &WakeSources| classify(Driver::Present, sources);
        assert_eq!(classify(&WakeSources::default()), RunHealth::Stuck(Vec::new()));
        assert_eq!(classify(&calls(&[CallState::Lost])), RunHealth::Stuck(vec!["c0".into()]));
        for in_progress in
            [CallState::Recent, CallState::Leased, CallState::WithEngine, CallState::Queued, CallState::WithWorker]
        {
            assert_eq!(classify(&calls(&[CallState::Lost, in_progress])), RunHealth::Healthy);
        }
        let with_unknown = calls(&[CallState::Lost, CallState::Unknown("why".into())]);
        assert_eq!(classify(&with_unknown), RunHealth::Unknown("why".into()));
    }

    #[test]
    fn a_run_with_a_timer_or_a_notification_to_come_is_healthy() {
        let lost = || calls(&[CallState::Lost]);
        for sources in [
            WakeSources { fires: true, ..lost() },
            WakeSources { has_timer: true, ..lost() },
            WakeSources { waits_for_notification: true, ..lost() },
            WakeSources { fetches: true, ..lost() },
        ] {
            assert_eq!(classify(Driver::Present, &sources), RunHealth::Healthy);
            assert_eq!(classify(Driver::Absent, &sources), RunHealth::Undriven, "no driver watches the clock");
        }
    }

    #[test]
    fn the_health_of_a_run_without_a_known_driver_is_unknown() {
        for state in [CallState::Lost, CallState::Leased] {
            assert!(matches!(classify(Driver::Unknown, &calls(&[state])), RunHealth::Unknown(_)));
        }
    }

    #[test]
    fn a_call_is_lost_only_if_no_queue_or_worker_can_have_it() {
        let idle = QueueActivity { ready: 0, consumers: 1, answered: 1, busy: 0, answers: 0 };
        assert_eq!(locate(idle), CallState::Lost);
        assert_eq!(locate(QueueActivity { consumers: 0, answered: 0, ..idle }), CallState::Lost);
        assert_eq!(locate(QueueActivity { ready: 1, ..idle }), CallState::Queued);
        assert_eq!(locate(QueueActivity { busy: 1, ..idle }), CallState::WithWorker);
        assert!(matches!(locate(QueueActivity { consumers: 2, ..idle }), CallState::Unknown(_)));
        assert!(matches!(locate(QueueActivity { answers: 1, ..idle }), CallState::Unknown(_)));
    }
}
