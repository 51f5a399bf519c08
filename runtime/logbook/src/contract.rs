//! What every logbook keeps, as one suite to run over each.

use std::future::Future;

use flow::{Fact, Record, RunId, RunState, Timestamp};

use crate::{Append, Appended, LoadError, Logbook, Version};

/// Runs the whole suite, each rule over a logbook of its own.
///
/// # Panics
/// When a rule is broken.
pub async fn all<L: Logbook, Making: Future<Output = L>>(make: impl Fn() -> Making) {
    records_come_back_in_order(make().await).await;
    of_two_that_follow_one_version_one_loses(make().await).await;
    a_conflict_in_a_batch_keeps_nobody_else_from_being_written(make().await).await;
    a_run_that_is_not_there_is_missing(make().await).await;
}

fn run(name: &str) -> RunId {
    RunId::new(name).expect("a lawful name")
}

fn record(at: u64) -> Record {
    Record { at: Timestamp::from_micros(at), fact: Fact::RunEntered { state: RunState::Success } }
}

fn append(name: &str, follows: u64, at: impl IntoIterator<Item = u64>) -> Append {
    Append { run: run(name), follows: Version::new(follows), records: at.into_iter().map(record).collect() }
}

async fn write(logbook: &impl Logbook, appends: Vec<Append>) -> Vec<Appended> {
    logbook.append(appends).await.expect("the logbook can be written")
}

async fn records_come_back_in_order(logbook: impl Logbook) {
    assert_eq!(write(&logbook, vec![append("a", 0, [1, 2]), append("b", 0, [7])]).await, [Appended::Durable; 2]);
    assert_eq!(write(&logbook, vec![append("a", 2, [3])]).await, [Appended::Durable]);
    let records = logbook.load(&run("a")).await.expect("the run is there");
    assert_eq!(records, [record(1), record(2), record(3)]);
}

async fn of_two_that_follow_one_version_one_loses(logbook: impl Logbook) {
    assert_eq!(write(&logbook, vec![append("a", 0, [1])]).await, [Appended::Durable]);
    assert_eq!(write(&logbook, vec![append("a", 0, [2])]).await, [Appended::Conflict(Version::new(1))]);
    assert_eq!(write(&logbook, vec![append("a", 5, [2])]).await, [Appended::Conflict(Version::new(1))]);
    assert_eq!(logbook.load(&run("a")).await.expect("the run is there"), [record(1)]);
}

async fn a_conflict_in_a_batch_keeps_nobody_else_from_being_written(logbook: impl Logbook) {
    write(&logbook, vec![append("a", 0, [1])]).await;
    let batch = vec![append("a", 0, [9]), append("b", 0, [2])];
    assert_eq!(write(&logbook, batch).await, [Appended::Conflict(Version::new(1)), Appended::Durable]);
    assert_eq!(logbook.load(&run("b")).await.expect("the run is there"), [record(2)]);
}

async fn a_run_that_is_not_there_is_missing(logbook: impl Logbook) {
    let error = logbook.load(&run("nobody")).await.expect_err("there is no such run");
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
}
