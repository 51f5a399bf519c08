//! Permits that are returned, by requests and by updates, and what the next coordinator knows of them.

use protocol::{PermitUpdate, RequestedCall};

use super::*;

#[test]
fn the_next_coordinator_knows_of_permits_that_were_returned_by_an_engine_that_has_gone() {
    let (mut harness, mut one) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    assert_eq!(harness.settle(&mut one), ["r1"]);
    // The last run of this engine ends, and so does the engine.
    harness.send_request("1", at_once(1), &[], &[]);
    assert!(harness.settle(&mut one).is_empty());
    harness.dies();
    let mut other = coordinator("b");
    harness.send_request("2", at_once(1), &[], &["s1", "s2"]);
    assert_eq!(harness.settle(&mut other), ["s1"], "without waiting for the engine that has gone");
}

#[test]
fn a_permit_that_is_returned_while_a_snapshot_names_it_is_free_for_the_next_coordinator() {
    let (mut harness, mut one) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(2), &[], &["r1"]);
    assert_eq!(harness.settle(&mut one), ["r1"]);
    harness.send_request("2", at_once(2), &[], &["s1"]);
    let (_, request) = harness.queue.pop_front().unwrap();
    harness.deliver(&mut one, false, request);
    one.poll_grants(harness.now);
    harness.unsettled_at_snapshot = harness.unsettled.len();
    let written = one.take_actions();
    let [CoordinatorAction::WriteSnapshot(snapshot)] = &written[..] else { panic!("{written:?}") };
    // The request that returns the permit is delivered after the snapshot was written, and before it comes back.
    let request = harness.request("1", at_once(2), &[], &[]);
    harness.deliver(&mut one, false, PermitMessage::Request(request));
    harness.deliver(&mut one, false, PermitMessage::Snapshot(snapshot.clone()));
    assert_eq!(harness.unsettled.len(), 2, "the request and the snapshot: {:?}", harness.unsettled);
    harness.dies();
    let mut other = coordinator("b");
    harness.send_request("2", at_once(2), &["s1"], &["s2"]);
    assert_eq!(harness.settle(&mut other), ["s2"]);
    // The snapshot that granted it has replaced them.
    assert_eq!(harness.unsettled.len(), 1, "{:?}", harness.unsettled);
}

#[test]
fn a_request_that_counts_again_returns_no_permit_that_was_granted_later() {
    let (mut harness, mut one) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(1), &[], &["r1"]);
    assert_eq!(harness.settle(&mut one), ["r1"]);
    // It returns a permit, and then asks for one again.
    let request = harness.request("1", at_once(1), &[], &[]);
    harness.deliver(&mut one, false, PermitMessage::Request(request));
    let request = harness.request("1", at_once(1), &[], &["r2"]);
    harness.deliver(&mut one, false, PermitMessage::Request(request));
    one.poll_grants(harness.now);
    let written = one.take_actions();
    let [CoordinatorAction::WriteSnapshot(snapshot)] = &written[..] else { panic!("{written:?}") };
    harness.queue.push_back((false, PermitMessage::Snapshot(snapshot.clone())));
    harness.dies();
    let mut other = coordinator("b");
    // The grant may have arrived, so nobody else gets this permit.
    harness.send_request("2", at_once(1), &[], &["s1"]);
    assert!(harness.settle(&mut other).is_empty());
}

#[test]
fn an_update_changes_what_the_message_before_said_and_a_lost_one_is_asked_for() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    harness.send_request("1", at_once(2), &[], &["r1", "r2", "r3"]);
    assert_eq!(harness.settle(&mut coordinator), ["r1", "r2"]);
    let update = |number: u64, follows: u64, released: &[&str], wanted: &[&str]| {
        PermitMessage::Update(PermitUpdate {
            shard: shard("1"),
            engine: "engine-of-1".into(),
            number,
            follows,
            released: released.iter().map(|run| call(run)).collect(),
            wanted: wanted.iter().map(|run| RequestedCall { call: call(run), priority: 0 }).collect(),
        })
    };
    harness.queue.push_back((false, update(2, 1, &[], &["r3"])));
    assert!(harness.settle(&mut coordinator).is_empty(), "the held calls keep their permits");
    harness.queue.push_back((false, update(3, 2, &["r1"], &["r3"])));
    assert_eq!(harness.settle(&mut coordinator), ["r3"]);
    // A grant may be lost: it is repeated while the call wants a permit.
    harness.queue.push_back((false, update(4, 3, &[], &["r3"])));
    assert_eq!(harness.settle(&mut coordinator), ["r3"]);
    // The update before this one is lost, with what it released.
    harness.queue.push_back((false, update(6, 5, &[], &["r4"])));
    coordinator.poll_grants(harness.now);
    let (again, message) = harness.queue.pop_front().unwrap();
    harness.deliver(&mut coordinator, again, message);
    let asked = coordinator.take_actions();
    let [CoordinatorAction::Grant(of, PermitGrant { engine, calls, .. })] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((of, &**engine, calls.len()), (&shard("1"), "", 0), "no grant, but the question for a request");
    harness.number = 6;
    harness.send_request("1", at_once(2), &["r3"], &["r4"]);
    assert_eq!(harness.settle(&mut coordinator), ["r4"]);
}

#[test]
fn few_messages_stay_unsettled_however_many_permits_are_returned() {
    let (mut harness, mut coordinator) = (Harness::default(), coordinator("a"));
    let runs: Vec<String> = (0..500).map(|number| format!("r{number}")).collect();
    let mut held: Vec<&str> = runs.iter().map(String::as_str).collect();
    harness.send_request("1", at_once(500), &[], &held);
    assert_eq!(harness.settle(&mut coordinator).len(), 500);
    while held.len() > 1 {
        held.pop();
        harness.send_request("1", at_once(500), &held, &[]);
        harness.settle(&mut coordinator);
        assert!(harness.unsettled.len() <= 40, "{}", harness.unsettled.len());
    }
}
