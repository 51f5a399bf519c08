//! Rules of trimmed records.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use flow::{
    Action, Attempt, CallId, Digest, Firing, NodeIndex, Revision, RunState, Stored, Timestamp, Value, ValueKind, Values,
};
use machine::{Event, Fact, Record, Snapshot, Trigger};
use protocol::{AttemptLog, CallLog, CallUsage, HttpRecord};

use super::{digest, flow, info, logs::logs_after, run, started_run, write};
use crate::{
    Append, AppendError, LogFilter, Logbook, MaxUnended, MemoChanges, ReadError, Replay, RevisionEntry, Version,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};

fn append(follows: Version, records: &[Record]) -> Append {
    Append {
        run: run("long"),
        follows,
        records: records.to_vec(),
        info: info("s", "f", RunState::Running),
        logs: vec![log(follows)],
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    }
}

/// The log of an attempt at a version.
fn log(version: Version) -> AttemptLog {
    let mut log = CallLog::default();
    log.push("info", version.get().to_string());
    let (firing, attempt) = (Firing::FIRST, Attempt::new(1));
    let task = "a".parse().expect("a valid name");
    let call = CallId { run: run("long"), task, firing, attempt, action: Action::Apply };
    AttemptLog { call, at: Timestamp::from_micros(3), worker: None, log }
}

async fn trim(logbook: &impl Logbook, before: Version) {
    logbook.trim(&run("long"), before).await.expect("the logbook can be written");
}

async fn mark_published(logbook: &impl Logbook, version: Version) {
    logbook.mark_published(&[(run("long"), version)]).await.expect("the logbook can be written");
}

async fn save_snapshot(logbook: &impl Logbook, version: Version, snapshot: &Snapshot) {
    logbook.save_snapshot(&run("long"), version, snapshot.clone()).await.expect("the logbook can be written");
}

async fn trim_version(logbook: &impl Logbook) -> Option<Version> {
    let trim_point = logbook.trim_point(&run("long")).await.expect("the run is there");
    trim_point.map(|trim_point| trim_point.version)
}

pub(super) async fn a_trimmed_run_starts_with_a_snapshot(logbook: impl Logbook) {
    let (mut machine, mut records) = started_run();
    let edit = Event::Edit { revision: Revision::FIRST, flow: flow() };
    records.extend(machine.step(Timestamp::from_micros(6), &edit).records);
    let first = Version::NONE.after(&records);
    write(&logbook, vec![append(Version::NONE, &records)]).await;
    let early = machine.snapshot();
    save_snapshot(&logbook, first, &early).await;
    let later = machine.step(Timestamp::from_micros(7), &Event::Suspend).records;
    let second = first.after(&later);
    write(&logbook, vec![append(first, &later)]).await;
    // Some changes are not published yet.
    trim(&logbook, first).await;
    assert_eq!(trim_version(&logbook).await, None);
    mark_published(&logbook, second).await;
    // There is no snapshot of that version.
    trim(&logbook, second).await;
    assert_eq!(trim_version(&logbook).await, None);
    let summary = logbook.summary(&run("long")).await.expect("the run is there");
    let loaded = logbook.load(&run("long")).await.expect("the run is there");

    trim(&logbook, first).await;
    assert_eq!(logbook.summary(&run("long")).await.expect("the run is there"), summary);
    assert_eq!(logbook.load(&run("long")).await.expect("the run is there"), loaded);
    let trim_point = logbook.trim_point(&run("long")).await.expect("the run is there").expect("it was trimmed");
    let entry = RevisionEntry { revision: Revision::FIRST.next(), at: Timestamp::from_micros(6), edits: 0 };
    assert_eq!((trim_point.version, &trim_point.snapshot), (first, &early));
    assert_eq!(trim_point.revisions, [entry]);
    let error = logbook.read(&run("long"), Version::NONE, 9).await.expect_err("they were trimmed");
    assert!(matches!(error, ReadError::Trimmed { version, .. } if version == first), "{error}");
    assert_eq!(logbook.read(&run("long"), first, 9).await.expect("they still exist"), later);
    assert_eq!(logs_after(&logbook, "long", Version::NONE).await, [log(first)]);

    save_snapshot(&logbook, second, &machine.snapshot()).await;
    let last = machine.step(Timestamp::from_micros(8), &Event::Resume).records;
    write(&logbook, vec![append(second, &last)]).await;
    trim(&logbook, second).await;
    let trim_point = logbook.trim_point(&run("long")).await.expect("the run is there").expect("it was trimmed");
    assert_eq!(
        (trim_point.version, trim_point.revisions),
        (second, vec![entry]),
        "the earlier revision is still listed"
    );
    let history = logbook.load(&run("long")).await.expect("the run is there");
    assert_eq!((history.version(), &history.records), (second.after(&last), &last));
    let logbook = Arc::new(logbook);
    let mut replay = Replay::new(run("long"), logbook.clone());
    for record in replay.read().await.expect("the run is there").records {
        replay.apply(&record).expect("the record applies");
    }
    assert_eq!((replay.version(), replay.revisions()), (second.after(&last), &[entry][..]));
    assert!(replay.machine() == Some(&machine), "the machine is equal");

    let ended = Append { info: info("s", "f", RunState::Success), ..append(second.after(&last), &later) };
    write(&*logbook, vec![ended]).await;
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(99)).await.expect("the logbook can be written"), 1);
    write(&*logbook, vec![append(Version::NONE, &records)]).await;
    assert_eq!(trim_version(&*logbook).await, None, "the new run has no trim point");
}

pub(super) async fn digests_of_trimmed_records_are_released(logbook: impl Logbook) {
    let stored = |byte| {
        let digest = Digest::from_bytes([byte; 32]);
        let stored = Value::Stored(Stored { digest, size: 100_000, form: ValueKind::Bytes });
        let values = Values::from([("value".parse().expect("a valid name"), stored)]);
        let (firing, entry, by) = (Firing::FIRST, NodeIndex(0), Trigger::Start);
        Record { at: Timestamp::from_micros(9), firing: None, fact: Fact::Triggered { firing, entry, by, values } }
    };
    let (machine, records) = started_run();
    let first = Version::NONE.after(&records);
    write(&logbook, vec![append(Version::NONE, &records)]).await;
    let (old, new) = ([stored(7), stored(8)], [stored(8), stored(9)]);
    let with_exchanges = |byte, mut append: Append| {
        let digest = Digest::from_bytes([byte; 32]);
        append.logs[0].log.http = Some(HttpRecord::Stored { digest, size: 9 });
        append
    };
    write(&logbook, vec![with_exchanges(10, append(first, &old))]).await;
    let second = first.after(&old);
    write(&logbook, vec![with_exchanges(11, append(second, &new))]).await;
    let needs = async |bytes: &[u8]| {
        let needed = logbook.digests().await.expect("the logbook can be read");
        let expected = bytes.iter().map(|byte| Digest::from_bytes([*byte; 32])).chain([digest()]).collect();
        assert_eq!(needed, expected);
    };
    needs(&[7, 8, 9, 10, 11]).await;
    save_snapshot(&logbook, second, &machine.snapshot()).await;
    mark_published(&logbook, second).await;
    trim(&logbook, second).await;
    assert_eq!(trim_version(&logbook).await, Some(second));
    needs(&[8, 9, 11]).await;
}

pub(super) async fn usages_and_exchanges_of_trimmed_records_are_deleted(logbook: impl Logbook) {
    let with = |task: &str, mut append: Append| {
        let log = &mut append.logs[0];
        log.call.task = task.parse().expect("a valid name");
        log.log.usage = Some(CallUsage::default());
        log.log.http = Some(HttpRecord::Inline(vec![1]));
        append
    };
    let (mut machine, records) = started_run();
    let first = Version::NONE.after(&records);
    write(&logbook, vec![with("old", append(Version::NONE, &records))]).await;
    let snapshot = machine.snapshot();
    let later = machine.step(Timestamp::from_micros(7), &Event::Suspend).records;
    write(&logbook, vec![with("new", append(first, &later))]).await;
    let tasks = async || {
        let usages = logbook.last_usages(&run("long")).await.expect("the run is there");
        let exchanges = logbook.http_logs(&run("long"), &LogFilter::default()).await.expect("the run is there");
        let name = |log: AttemptLog| log.call.task.to_string();
        let exchanges: Vec<String> = exchanges.logs.into_iter().map(|(_, log)| name(log)).collect();
        (usages.into_iter().map(name).collect::<Vec<_>>(), exchanges)
    };
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tasks().await, (names(&["new", "old"]), names(&["new", "old"])));
    save_snapshot(&logbook, first, &snapshot).await;
    mark_published(&logbook, first).await;
    trim(&logbook, first).await;
    assert_eq!(trim_version(&logbook).await, Some(first));
    assert_eq!(tasks().await, (names(&["new"]), names(&["new"])));
}

/// Trims a run before each read of its records, up to one snapshot after the other.
struct TrimsBeforeReads<L> {
    logbook: Arc<L>,
    snapshots: Mutex<VecDeque<(Version, Snapshot)>>,
}

#[async_trait]
impl<L: Logbook> AppendInterceptor for TrimsBeforeReads<L> {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn before_read(&self) {
        let next = self.snapshots.lock().expect("no thread panics while it holds the lock").pop_front();
        if let Some((version, snapshot)) = next {
            save_snapshot(&*self.logbook, version, &snapshot).await;
            trim(&*self.logbook, version).await;
        }
    }
}

pub(super) async fn a_reader_overtaken_by_a_trim_restarts_at_the_trim_point(logbook: impl Logbook) {
    let (mut machine, records) = started_run();
    write(&logbook, vec![append(Version::NONE, &records)]).await;
    let mut version = Version::NONE.after(&records);
    let mut snapshots = VecDeque::new();
    for (at, event) in (6..).zip([Event::Suspend, Event::Resume, Event::Suspend, Event::Resume]) {
        snapshots.push_back((version, machine.snapshot()));
        let records = machine.step(Timestamp::from_micros(at), &event).records;
        write(&logbook, vec![append(version, &records)]).await;
        version = version.after(&records);
    }
    mark_published(&logbook, version).await;
    let (last, _) = snapshots[3];
    let logbook = Arc::new(logbook);
    let interceptor = Arc::new(TrimsBeforeReads { logbook: logbook.clone(), snapshots: snapshots.into() });
    let mut replay = Replay::new(run("long"), Arc::new(InterceptedLogbook::new(logbook, interceptor)));
    let page = replay.read().await.expect("the run is there");
    assert!(page.starts_replay);
    assert_eq!(replay.version(), last, "the replay starts at the last trim point");
    for record in &page.records {
        replay.apply(record).expect("the record applies");
    }
    assert_eq!(replay.version(), version);
    assert!(replay.machine() == Some(&machine));
    let page = replay.read().await.expect("the run is there");
    assert!(!page.starts_replay && page.records.is_empty(), "the replay continues at its position");
}
