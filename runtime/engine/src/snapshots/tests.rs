//! When snapshots are due, and in which order they are saved.

use std::collections::BTreeMap;

use flow::{TaskResult, Timestamp, Value, Values};
use logbook::Memory;
use machine::Event;

use super::*;

/// The bytes of a small record.
const RECORD_BYTES: u64 = 64;

/// A run of a flow with this name, one of whose tasks holds a value of so many bytes.
fn holding(flow_name: &str, run: &str, bytes: usize) -> ActiveRun {
    let text = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"x\"\nprovides = { x = \"x\" }\n\
                [[task]]\nname = \"w2\"\nwait = \"y\"\nprovides = []\n";
    let draft = flow::file::parse(text).unwrap();
    let (mut flow, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).unwrap();
    flow.name = flow_name.parse().unwrap();
    let mut machine = Machine::new(run.parse().unwrap(), flow.into());
    machine.step(Timestamp::default(), &Event::Start);
    let values = [("x".parse().unwrap(), Value::Bytes(vec![0; bytes].into()))].into();
    let (task, result) = ("w".parse().unwrap(), TaskResult::Succeeded(values));
    machine.step(Timestamp::default(), &Event::Notify { task, result, key: None });
    ActiveRun::new(machine, Version::NONE, Version::NONE, "0".parse().unwrap())
}

/// Appends so many small records to a run, one after the other.
fn append(snapshots: &mut Snapshots, run: &RunId, active: &mut ActiveRun, records: u64) {
    for _ in 0..records {
        active.version = Version::new(active.version.get() + 1);
        active.unsaved.add(RECORD_BYTES);
        snapshots.on_appended(run, active, 1);
    }
}

/// Waits until all snapshots that were begun are saved.
async fn until_saved(snapshots: &mut Snapshots) {
    while let Some(ended) = snapshots.running.join_next_with_id().await {
        snapshots.on_ended(ended);
    }
}

fn new() -> Snapshots {
    Snapshots::new(Arc::new(Memory::new()))
}

#[tokio::test]
async fn the_snapshots_of_a_run_have_half_as_many_bytes_as_its_records_at_most() {
    let (mut snapshots, mut active) = (new(), holding("f", "r", 600_000));
    let (mut count, mut written, mut saved) = (0, 0, 0);
    for _ in 0..100 {
        append(&mut snapshots, &"r".parse().unwrap(), &mut active, 1_000);
        written += 1_000 * RECORD_BYTES;
        while let Some(run) = snapshots.next_waiting() {
            (count, saved) = (count + 1, saved + active.machine.snapshot_bytes());
            snapshots.save(run, &mut active, |_| true);
            until_saved(&mut snapshots).await;
        }
    }
    assert!(active.machine.snapshot_bytes() > 600_000, "{}", active.machine.snapshot_bytes());
    assert!((4..=6).contains(&count) && 2 * saved <= written, "{count} snapshots, {saved} of {written} bytes");
}

#[tokio::test]
async fn a_small_run_has_a_snapshot_after_each_thousand_records() {
    let (mut snapshots, mut active, run) = (new(), holding("f", "r", 10), "r".parse::<RunId>().unwrap());
    for expected in 1..=5 {
        append(&mut snapshots, &run, &mut active, 999);
        assert_eq!(snapshots.next_waiting(), None);
        append(&mut snapshots, &run, &mut active, 1);
        assert_eq!(snapshots.next_waiting(), Some(run.clone()));
        snapshots.save(run.clone(), &mut active, |_| true);
        assert_eq!(active.unsaved, Unsaved { after: Version::new(1_000 * expected), bytes: 0 });
        until_saved(&mut snapshots).await;
    }
}

#[tokio::test]
async fn namespaces_take_turns_and_a_large_snapshot_is_saved_alone() {
    let mut snapshots = new();
    let mut runs: BTreeMap<RunId, ActiveRun> = BTreeMap::new();
    for (flow, run) in [("a/f", "a1"), ("a/f", "a2"), ("a/f", "a3"), ("b/f", "b1")] {
        let run: RunId = run.parse().unwrap();
        let bytes = if run.as_str() == "a2" { 40 << 20 } else { 10 };
        let mut active = holding(flow, run.as_str(), bytes);
        active.unsaved.add(200 << 20);
        append(&mut snapshots, &run, &mut active, 1_000);
        // It waits once.
        append(&mut snapshots, &run, &mut active, 1_000);
        runs.insert(run, active);
    }
    let mut begun = Vec::new();
    for _ in 0..2 {
        while let Some(run) = snapshots.next_waiting() {
            begun.push(run.to_string());
            let active = runs.get_mut(&run).unwrap();
            snapshots.save(run, active, |_| true);
        }
        begun.push("-".to_owned());
        until_saved(&mut snapshots).await;
    }
    assert_eq!(begun, ["a1", "b1", "a2", "-", "a3", "-"]);
    assert!(snapshots.known.is_empty() && snapshots.saves.is_empty());
}
