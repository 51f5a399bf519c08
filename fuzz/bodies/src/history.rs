//! The history of a run, as a logbook stores it: records or a snapshot, decoded and replayed into a machine.

use std::time::Duration;

use flow::Timestamp;
use machine::{Event, Machine, Record};
use protocol::{decode_records, decode_snapshot};

use crate::{drive, round_trip};

/// The input is the records of an append, which begin a run, or a snapshot.
pub fn run(input: &[u8]) {
    if let Ok(records) = decode_records(input) {
        replay(&round_trip::records(&records));
    }
    if let Ok(snapshot) = decode_snapshot(input) {
        let snapshot = round_trip::snapshot(&snapshot);
        let _ = (snapshot.size(), snapshot.digests());
        let latest = snapshot.latest;
        if let Ok(machine) = Machine::restore(drive::run_id(), snapshot) {
            continue_run(machine, latest);
        }
    }
}

/// Replays records. The machine does not trust them, so it refuses those that do not fit.
fn replay(records: &[Record]) {
    records.iter().for_each(|record| drop(record.digests()));
    match Machine::replay(drive::run_id(), records) {
        Ok(machine) => continue_run(machine, records.last().map(|record| record.at).unwrap_or_default()),
        Err(error) => assert!(!error.to_string().contains("a bug of waft"), "{error}"),
    }
}

/// Drives a run that was loaded as an engine does.
fn continue_run(mut machine: Machine, latest: Timestamp) {
    drive::ask(&machine);
    let snapshot = round_trip::snapshot(&machine.snapshot());
    let restored = Machine::restore(drive::run_id(), snapshot).unwrap_or_else(|error| panic!("{error}"));
    drive::ask(&restored);
    let now = latest.after(Duration::from_secs(3));
    for event in [Event::Tick, Event::Suspend, Event::Resume, Event::Cancel, Event::Retry] {
        machine.step(now, &event);
    }
    drive::ask(&machine);
}
