//! Tests of the permit coordinator, with one queue that this file simulates.

mod fault_simulation;
mod returns;

use std::collections::VecDeque;

use flow::{Action, Attempt, Firing};
use protocol::RequestedCall;

use super::*;

/// A permit queue with its coordinators: their messages return, in order, to the coordinator that is given.
#[derive(Default)]
struct Harness {
    now: Timestamp,
    number: u64,
    queue: VecDeque<(bool, PermitMessage)>,
    /// Messages that the coordinator has not settled.
    unsettled: Vec<PermitMessage>,
    /// The number of unsettled messages when the last snapshot was written.
    unsettled_at_snapshot: usize,
    granted: Vec<(Shard, PermitGrant)>,
}

fn coordinator(engine: &str) -> PermitCoordinator {
    PermitCoordinator::new(engine.into(), "f".parse().unwrap(), "t".parse().unwrap(), 0)
}

fn shard(name: &str) -> Shard {
    name.parse().unwrap()
}

fn call(run: &str) -> CallId {
    let (run, task) = (run.parse().unwrap(), "t".parse().unwrap());
    CallId { run, task, firing: Firing::FIRST, attempt: Attempt::FIRST, action: Action::Apply }
}

/// Runs with this name prefix have a higher priority.
fn priority(run: &str) -> i32 {
    if run.starts_with("urgent") { 5 } else { 0 }
}

fn at_once(max_running: u32) -> Pace {
    Pace { max_running: std::num::NonZeroU32::new(max_running), rate: None }
}

fn rate(text: &str) -> Pace {
    Pace { max_running: None, rate: Some(Rate::parse(text).unwrap()) }
}

impl Harness {
    fn request(&mut self, of: &str, pace: Pace, held: &[&str], wanted: &[&str]) -> PermitRequest {
        self.number += 1;
        PermitRequest {
            shard: shard(of),
            engine: format!("engine-of-{of}"),
            since: Timestamp::from_micros(1),
            number: self.number,
            pace,
            unloaded: Vec::new(),
            wants_reply: false,
            held: held.iter().map(|run| call(run)).collect(),
            wanted: wanted.iter().map(|run| RequestedCall { call: call(run), priority: priority(run) }).collect(),
        }
    }

    fn send_request(&mut self, of: &str, pace: Pace, held: &[&str], wanted: &[&str]) {
        let request = self.request(of, pace, held, wanted);
        self.queue.push_back((false, PermitMessage::Request(request)));
    }

    /// Delivers all messages to a coordinator, including those that it writes meanwhile. Returns the runs that were
    /// granted permits.
    fn settle(&mut self, coordinator: &mut PermitCoordinator) -> Vec<String> {
        loop {
            coordinator.poll_grants(self.now);
            for action in coordinator.take_actions() {
                match action {
                    CoordinatorAction::WriteSnapshot(snapshot) => {
                        self.unsettled_at_snapshot = self.unsettled.len();
                        self.queue.push_back((false, PermitMessage::Snapshot(snapshot)));
                    }
                    CoordinatorAction::SendTick(tick) => self.queue.push_back((false, PermitMessage::Tick(tick))),
                    CoordinatorAction::Grant(shard, granted) => self.granted.push((shard, granted)),
                }
            }
            let Some((redelivered, message)) = self.queue.pop_front() else { break };
            self.deliver(coordinator, redelivered, message);
        }
        let granted = std::mem::take(&mut self.granted);
        granted.into_iter().flat_map(|(_, granted)| granted.calls).map(|call| call.run.to_string()).collect()
    }

    /// Delivers a message, and settles it as the coordinator wants it.
    fn deliver(&mut self, coordinator: &mut PermitCoordinator, redelivered: bool, message: PermitMessage) {
        match coordinator.on_message(redelivered, message.clone()) {
            DeliveryDisposition::Accept => {}
            DeliveryDisposition::Hold | DeliveryDisposition::HoldIfRoom => self.unsettled.push(message),
            DeliveryDisposition::Replace => {
                self.unsettled.drain(..self.unsettled_at_snapshot);
                self.unsettled.push(message);
            }
        }
    }

    /// Advances the clock by a second, with a tick.
    fn second(&mut self, coordinator: &mut PermitCoordinator) -> Vec<String> {
        self.now = self.now.after(Duration::from_secs(1));
        coordinator.tick();
        self.settle(coordinator)
    }

    /// The coordinator dies: its unsettled messages are redelivered first.
    fn dies(&mut self) {
        self.unsettled_at_snapshot = 0;
        for message in std::mem::take(&mut self.unsettled).into_iter().rev() {
            self.queue.push_front((true, message));
        }
    }
}

#[test]
fn grants_never_exceed_max_running() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(2), &[], &["r1", "r2", "r3"]);
    harness.send_request("2", at_once(2), &[], &["s1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1", "r2"]);
    harness.send_request("1", at_once(2), &["r2"], &["r3"]);
    assert_eq!(harness.settle(&mut coordinator), ["r3"]);
    harness.send_request("1", at_once(2), &["r3"], &[]);
    assert_eq!(harness.settle(&mut coordinator), ["s1"]);
}

#[test]
fn no_more_permits_are_granted_than_a_message_can_name() {
    for pace in [at_once(u32::MAX), rate("1000000/s")] {
        let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
        let of = call("r");
        let calls: Vec<CallId> =
            (0..10_100).map(|number| CallId { task: of.task.element(number), ..of.clone() }).collect();
        let wanted =
            |calls: &[CallId]| calls.iter().map(|call| RequestedCall { call: call.clone(), priority: 0 }).collect();
        let mut request = harness.request("1", pace, &[], &[]);
        request.wanted = wanted(&calls);
        harness.queue.push_back((false, PermitMessage::Request(request)));
        let mut granted = harness.settle(&mut coordinator).len();
        while granted < MAX_PERMITS {
            // A rate lets them start over some time.
            let more = harness.second(&mut coordinator).len();
            assert!(more > 0, "after {granted}");
            granted += more;
        }
        assert_eq!(granted, MAX_PERMITS);
        assert!(harness.second(&mut coordinator).is_empty(), "the others wait");
        let mut request = harness.request("1", pace, &[], &[]);
        (request.held, request.wanted) = (calls[1..MAX_PERMITS].to_vec(), wanted(&calls[MAX_PERMITS..]));
        harness.queue.push_back((false, PermitMessage::Request(request)));
        assert_eq!(harness.settle(&mut coordinator).len(), 1, "one has ended");
    }
}

#[test]
fn a_snapshot_that_the_broker_refuses_grants_nothing_and_the_next_has_fewer_permits() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(9), &[], &["r1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    harness.send_request("1", at_once(9), &["r1"], &["r2", "r3", "r4", "r5"]);
    let mut refuse_next = |harness: &mut Harness| {
        if let Some((_, request)) = harness.queue.pop_front() {
            coordinator.on_message(false, request);
        }
        coordinator.poll_grants(harness.now);
        let written = coordinator.take_actions();
        let [CoordinatorAction::WriteSnapshot(snapshot)] = &written[..] else { panic!("{written:?}") };
        coordinator.on_snapshot_refused(snapshot.number + 1);
        assert_eq!(coordinator.poll_grants(harness.now), None);
        assert!(coordinator.take_actions().is_empty(), "it waits for this snapshot");
        coordinator.on_snapshot_refused(snapshot.number);
        snapshot.permits.len()
    };
    assert_eq!([refuse_next(&mut harness), refuse_next(&mut harness)], [5, 3]);
    // Each refused grant was a turn of its run.
    assert_eq!(harness.settle(&mut coordinator), ["r4"]);
    harness.send_request("1", at_once(9), &["r1", "r4"], &["r2", "r3", "r5"]);
    assert!(harness.settle(&mut coordinator).is_empty());
    harness.send_request("1", at_once(9), &["r4"], &["r2", "r3", "r5"]);
    assert_eq!(harness.settle(&mut coordinator).len(), 1, "one has ended");
}

#[test]
fn the_slowest_requested_pace_applies() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(3), &[], &["r1", "r2", "r3"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1", "r2", "r3"]);
    harness.send_request("2", at_once(1), &[], &["s1"]);
    harness.send_request("1", at_once(3), &["r1", "r2"], &["r4"]);
    assert!(harness.settle(&mut coordinator).is_empty());
    harness.send_request("2", at_once(1), &[], &[]);
    assert_eq!(harness.settle(&mut coordinator), ["r4"], "the flow with the slower pace is gone");
}

#[test]
fn higher_priority_comes_first_then_arrival_order() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    harness.send_request("1", at_once(1), &["r1"], &["r2"]);
    harness.send_request("2", at_once(1), &[], &["s1", "urgent"]);
    assert!(harness.settle(&mut coordinator).is_empty());
    harness.send_request("1", at_once(1), &[], &["r2"]);
    assert_eq!(harness.settle(&mut coordinator), ["urgent"]);
    harness.send_request("2", at_once(1), &[], &["s1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r2"]);
    harness.send_request("1", at_once(1), &[], &[]);
    assert_eq!(harness.settle(&mut coordinator), ["s1"]);
}

#[test]
fn runs_alternate_however_many_calls_they_request() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    let element = |run: &str, number: u32| {
        let of = call(run);
        CallId { task: of.task.element(number), ..of }
    };
    let wanted = |call: CallId| RequestedCall { call, priority: 0 };
    let many: Vec<CallId> = (0..200).map(|number| element("many", number)).collect();
    let request = harness.request("1", at_once(1), &[], &[]);
    let wants = many.iter().cloned().map(wanted).collect();
    harness.queue.push_back((false, PermitMessage::Request(PermitRequest { wanted: wants, ..request })));
    assert_eq!(harness.settle(&mut coordinator), ["many"]);
    // A run of another shard arrives, while all of them wait.
    harness.send_request("2", at_once(1), &[], &["few"]);
    let mut given = Vec::new();
    for held in 0..3 {
        let mut request = harness.request("1", at_once(1), &[], &[]);
        request.wanted = many[held + 1..].iter().cloned().map(wanted).collect();
        harness.queue.push_back((false, PermitMessage::Request(request)));
        given.extend(harness.settle(&mut coordinator));
        if given.last().is_some_and(|run| run == "few") {
            break;
        }
    }
    assert!(given.len() <= 2 && given.last().is_some_and(|run| run == "few"), "{given:?}");
}

#[test]
fn duplicate_and_late_messages_change_nothing() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    let first = harness.request("1", at_once(1), &[], &["r1", "r2"]);
    let second = harness.request("1", at_once(1), &["r1"], &["r2"]);
    let third = harness.request("1", at_once(1), &["r2"], &[]);
    for (request, given) in
        [(&first, &["r1"][..]), (&first, &[]), (&second, &[]), (&first, &[]), (&third, &[]), (&second, &[])]
    {
        harness.queue.push_back((false, PermitMessage::Request(request.clone())));
        assert_eq!(harness.settle(&mut coordinator), given);
    }
}

#[test]
fn a_repeated_request_keeps_its_permit() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1", "r2"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    // Another engine drives the shard now, and does not know which call holds a permit.
    let mut request = harness.request("1", at_once(1), &[], &["r2", "r1"]);
    request.engine = "another".into();
    request.since = Timestamp::from_micros(2);
    request.wants_reply = true;
    harness.queue.push_back((false, PermitMessage::Request(request)));
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
}

#[test]
fn permits_of_unloaded_runs_are_kept() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    let request =
        PermitRequest { unloaded: vec!["r1".parse().unwrap()], ..harness.request("1", at_once(1), &[], &["r2"]) };
    harness.queue.push_back((false, PermitMessage::Request(request)));
    assert!(harness.settle(&mut coordinator).is_empty());
    harness.send_request("1", at_once(1), &[], &["r2"]);
    assert_eq!(harness.settle(&mut coordinator), ["r2"]);
}

#[test]
fn requests_of_a_former_shard_owner_are_ignored() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    let late =
        |request: PermitRequest| PermitRequest { engine: "later".into(), since: Timestamp::from_micros(2), ..request };
    let request = late(harness.request("1", at_once(1), &["r1"], &["r2"]));
    harness.queue.push_back((false, PermitMessage::Request(request)));
    harness.settle(&mut coordinator);
    harness.send_request("1", at_once(1), &[], &["r3"]);
    assert!(harness.settle(&mut coordinator).is_empty(), "permits of the later coordinator are not granted");
}

#[test]
fn grants_survive_the_coordinator() {
    let (mut harness, mut one) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(2), &[], &["r1", "r2", "r3"]);
    assert_eq!(harness.settle(&mut one), ["r1", "r2"]);
    harness.dies();
    let mut other = coordinator("b");
    // An engine without a permit sends the first request.
    harness.send_request("2", at_once(2), &[], &["s1"]);
    assert!(harness.settle(&mut other).is_empty());
    harness.send_request("1", at_once(2), &["r1"], &["r3"]);
    assert_eq!(harness.settle(&mut other), ["s1"]);
    harness.dies();
    let mut third = coordinator("c");
    harness.send_request("1", at_once(2), &["r1"], &["r3"]);
    assert!(harness.settle(&mut third).is_empty());
}

#[test]
fn a_replaced_coordinator_grants_nothing() {
    let (mut harness, mut one) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    harness.settle(&mut one);
    harness.send_request("1", at_once(1), &[], &["r2", "r3"]);
    let (_, request) = harness.queue.pop_front().unwrap();
    one.on_message(false, request);
    one.poll_grants(harness.now);
    let written = one.take_actions();
    let [CoordinatorAction::WriteSnapshot(snapshot)] = &written[..] else { panic!("{written:?}") };
    // The first coordinator loses its subscription, and its snapshot reaches the next one.
    harness.dies();
    harness.queue.push_back((false, PermitMessage::Snapshot(snapshot.clone())));
    let mut other = coordinator("b");
    harness.send_request("1", at_once(1), &[], &["r3", "r2"]);
    assert!(harness.settle(&mut other).is_empty());
    harness.send_request("1", at_once(1), &[], &["r3", "r2"]);
    assert_eq!(harness.settle(&mut other), ["r2"], "it may have been given");
    // When the first is active again, the redelivery shows that another was active, and it receives that one's
    // snapshot.
    harness.dies();
    harness.send_request("1", at_once(1), &["r2"], &["r3"]);
    assert!(harness.settle(&mut one).is_empty());
    harness.send_request("1", at_once(1), &[], &["r3"]);
    assert_eq!(harness.settle(&mut one), ["r3"]);
}

#[test]
fn a_silent_shard_loses_its_permits() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    harness.send_request("2", at_once(1), &[], &["s1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    for second in 2..LOST_SHARD_TICKS {
        harness.send_request("2", at_once(1), &[], &["s1"]);
        assert!(harness.second(&mut coordinator).iter().all(|run| run == "r1"), "it is asked at most, after {second}");
    }
    harness.send_request("2", at_once(1), &[], &["s1"]);
    assert_eq!(harness.second(&mut coordinator), ["s1"]);
}

#[test]
fn a_silent_queue_revokes_nothing() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    harness.send_request("2", at_once(1), &[], &["s1"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    for _ in 0..10 * LOST_SHARD_TICKS {
        coordinator.tick();
        coordinator.poll_grants(harness.now);
    }
    let beats = coordinator.take_actions().len();
    assert!(beats <= usize::try_from(MAX_UNANSWERED_TICKS).unwrap(), "it does not go on asking: {beats}");
    harness.send_request("1", at_once(1), &["r1"], &[]);
    assert!(harness.settle(&mut coordinator).is_empty());
}

#[test]
fn starts_are_spaced_by_the_rate() {
    for (text, step, most) in [("2/s", 100, 20), ("30/m", 1_000, 50), ("1/h", 36_000, 1), ("100/s", 50, 509)] {
        let step = Duration::from_millis(step);
        let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
        let runs: Vec<String> = (0..600).map(|number| format!("r{number}")).collect();
        let mut left: Vec<&str> = runs.iter().map(String::as_str).collect();
        let mut given = 0;
        for _ in 0..100 {
            harness.send_request("1", rate(text), &[], &left);
            let now = harness.settle(&mut coordinator);
            given += now.len();
            left.retain(|run| !now.iter().any(|given| given == run));
            harness.now = harness.now.after(step);
        }
        assert!(given <= most && given + given / 10 + 1 >= most, "{text}: {given}");
    }
}

#[test]
fn the_rate_sets_the_next_start() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", rate("2/s"), &[], &["r1", "r2"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1"]);
    harness.send_request("1", rate("2/s"), &[], &["r2"]);
    harness.settle(&mut coordinator);
    harness.now = harness.now.after(Duration::from_millis(100));
    assert_eq!(coordinator.poll_grants(harness.now), Some(Timestamp::from_micros(500_000)));
}

#[test]
fn a_rate_survives_a_new_coordinator_and_a_clock_change() {
    let (mut harness, mut one) =
        (Harness { now: Timestamp::from_micros(7_200_000_000), ..Harness::default() }, coordinator("a"));
    harness.send_request("1", rate("60/h"), &[], &["r1"]);
    assert_eq!(harness.settle(&mut one), ["r1"]);
    harness.send_request("1", rate("60/h"), &[], &["r2"]);
    assert!(harness.settle(&mut one).is_empty());
    harness.dies();
    let mut other = coordinator("b");
    // The clock of the other coordinator is an hour behind.
    harness.now = Timestamp::from_micros(3_600_000_000);
    harness.send_request("1", rate("60/h"), &[], &["r2"]);
    assert!(harness.settle(&mut other).is_empty());
    harness.now = harness.now.after(Duration::from_secs(60));
    assert_eq!(harness.settle(&mut other), ["r2"]);
}

#[test]
fn a_coordinator_without_permits_holds_no_delivery() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    harness.settle(&mut coordinator);
    assert!(!coordinator.is_empty(harness.now));
    harness.send_request("1", at_once(1), &[], &[]);
    harness.settle(&mut coordinator);
    assert!(coordinator.is_empty(harness.now));
    coordinator.tick();
    assert!(coordinator.take_actions().is_empty(), "nor does it ask whether it is the coordinator");
}
