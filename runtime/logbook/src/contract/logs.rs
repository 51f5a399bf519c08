//! Rules of the logs of attempts: lines, usages and HTTP exchanges.

use flow::{Action, Attempt, CallId, Digest, Firing, Namespace, RunState, Timestamp};
use protocol::{AttemptLog, CallLog, CallUsage, HttpRecord};

use super::{append, append_as, info, run, write};
use crate::{Append, LoadError, LogFilter, LogPage, LogPosition, LogRange, Logbook, Version};

/// The logs of a run that came with records after a version.
pub(super) async fn logs_after(logbook: &impl Logbook, name: &str, after: Version) -> Vec<AttemptLog> {
    let range = LogRange { from: LogPosition::at(after), ..LogRange::default() };
    let LogPage { logs, next } = logbook.logs(&run(name), &range).await.expect("the run is there");
    assert_eq!(next, None, "they are few");
    logs.into_iter().map(|(_, log)| log).collect()
}

pub(super) async fn logs_are_stored_with_the_run(logbook: impl Logbook) {
    let log = |task: &str, text: &str| {
        let mut log = CallLog::default();
        log.push("info", text);
        let call = CallId {
            run: run("a"),
            task: task.parse().expect("a valid name"),
            firing: Firing::FIRST,
            attempt: Attempt::new(2),
            action: Action::Rollback,
        };
        AttemptLog { call, at: Timestamp::from_micros(3), worker: Some("w".parse().expect("a valid name")), log }
    };
    write(&logbook, vec![Append { logs: vec![log("z", "one"), log("y", "two")], ..append("a", 0, [1]) }]).await;
    write(&logbook, vec![Append { logs: vec![log("x", "three")], ..append("a", 1, [2]) }]).await;
    // A conflicting append leaves no log.
    write(&logbook, vec![Append { logs: vec![log("x", "never")], ..append("a", 1, [2]) }]).await;
    let logs = async |after| logs_after(&logbook, "a", Version::new(after)).await;
    assert_eq!(logs(0).await, [log("z", "one"), log("y", "two"), log("x", "three")]);
    assert_eq!(logs(1).await, [log("x", "three")]);
    assert_eq!(logs(2).await, []);
}

pub(super) async fn logs_are_read_in_pages(logbook: impl Logbook) {
    let written = |task: &str, attempt, bytes| {
        let mut log = CallLog::default();
        log.push("info", "a".repeat(bytes));
        attempt_log(task, attempt, log)
    };
    let first = vec![written("x", 1, 1_000), attempt_log("x", 2, used(1)), written("x[0]", 1, 1_000)];
    let second = vec![written("xy", 1, 60_000), written("x", 3, 10)];
    write(&logbook, vec![Append { logs: first, ..append("a", 0, [1, 2]) }]).await;
    write(&logbook, vec![Append { logs: second, ..append("a", 2, [3]) }]).await;
    // Each log as its task and its attempt.
    let pages = async |range: LogRange| {
        let (mut range, mut pages) = (range, Vec::new());
        loop {
            let LogPage { logs, next } = logbook.logs(&run("a"), &range).await.expect("the run is there");
            for (position, log) in &logs {
                // A reader may continue at each log, and behind it.
                let from = |from| LogRange { from, limit: 9, ..LogRange::default() };
                let at = logbook.logs(&run("a"), &from(*position)).await.expect("the run is there");
                assert_eq!(at.logs.first(), Some(&(*position, log.clone())));
                let behind = logbook.logs(&run("a"), &from(position.next())).await.expect("the run is there");
                assert_eq!(behind.logs, at.logs.get(1..).expect("it has one"));
            }
            let shown = logs.iter().map(|(_, log)| format!("{} {}", log.call.task, log.call.attempt));
            pages.push(shown.collect::<Vec<_>>().join(", "));
            match next {
                Some(next) => range.from = next.to_string().parse().expect("it is a cursor"),
                None => return pages,
            }
        }
    };
    let of = |limit, max_bytes| LogRange { limit, max_bytes, ..LogRange::default() };
    assert_eq!(pages(of(9, 1 << 20)).await, ["x 1, x[0] 1, xy 1, x 3"]);
    assert_eq!(pages(of(5, 1 << 20)).await, ["x 1, x[0] 1, xy 1, x 3"], "there is no empty page at the end");
    assert_eq!(pages(of(2, 1 << 20)).await, ["x 1", "x[0] 1, xy 1", "x 3"], "those that are left out count");
    assert_eq!(pages(of(9, 1_500)).await, ["x 1, x[0] 1", "xy 1", "x 3"], "a page has at most one more than the bytes");
    assert_eq!(pages(of(0, 0)).await, ["x 1", "", "x[0] 1", "xy 1", "x 3"], "a page goes on by at least one");
    let task = |task: &str| Some(task.parse().expect("a valid name"));
    assert_eq!(pages(LogRange { task: task("x"), ..of(9, 1 << 20) }).await, ["x 1, x[0] 1, x 3"]);
    assert_eq!(pages(LogRange { task: task("x[0]"), ..of(9, 1 << 20) }).await, ["x[0] 1"]);
    assert_eq!(
        pages(LogRange { task: task("x"), ..of(9, 1_500) }).await,
        ["x 1, x[0] 1", "x 3"],
        "others are not read"
    );
    write(&logbook, vec![append("b", 0, [1])]).await;
    let nothing = LogPage { logs: Vec::new(), next: None };
    assert_eq!(logbook.logs(&run("b"), &LogRange::default()).await.expect("the run is there"), nothing);
}

/// A log with a usage only.
fn used(memory: u64) -> CallLog {
    CallLog { usage: Some(CallUsage { memory, ..CallUsage::default() }), ..CallLog::default() }
}

/// A log with a usage and a line.
fn spoken(memory: u64) -> CallLog {
    let mut log = used(memory);
    log.push("info", "a line");
    log
}

/// The attempt log of a task with these parts.
fn attempt_log(task: &str, attempt: u32, log: CallLog) -> AttemptLog {
    let task = task.parse().expect("a valid name");
    let (firing, attempt) = (Firing::FIRST, Attempt::new(attempt));
    let call = CallId { run: run("a"), task, firing, attempt, action: Action::Apply };
    AttemptLog { call, at: Timestamp::from_micros(3), worker: None, log }
}

pub(super) async fn usages_are_stored_beside_the_logs(logbook: impl Logbook) {
    let (first, second) = (attempt_log("x", 1, used(1)), attempt_log("x", 2, spoken(2)));
    let logs = vec![attempt_log("y[0]", 1, used(3)), attempt_log("z", 1, CallLog::default())];
    write(&logbook, vec![Append { logs, ..append("a", 0, [1]) }]).await;
    // Two attempts may end in one batch.
    write(&logbook, vec![Append { logs: vec![first.clone(), second.clone()], ..append("a", 1, [2]) }]).await;
    let logs = logs_after(&logbook, "a", Version::NONE).await;
    assert_eq!(logs, std::slice::from_ref(&second), "only those with more than a usage");
    for log in [&first, &second] {
        assert_eq!(logbook.attempt_log(&log.call).await.expect("the run is there").as_ref(), Some(log));
    }
    let unknown = attempt_log("x", 3, CallLog::default());
    assert_eq!(logbook.attempt_log(&unknown.call).await.expect("the run is there"), None);
    let missing = CallId { run: run("c"), ..first.call };
    assert!(matches!(logbook.attempt_log(&missing).await, Err(LoadError::Missing { .. })));
}

pub(super) async fn the_usage_of_the_last_attempt_is_read_without_logs(logbook: impl Logbook) {
    let last_usages = async |name: &str| logbook.last_usages(&run(name)).await;
    let of_a = async || last_usages("a").await.expect("the run is there");
    let first = vec![attempt_log("y", 1, spoken(5)), attempt_log("x", 7, used(1)), attempt_log("x", 8, spoken(2))];
    write(&logbook, vec![Append { logs: first, ..append("a", 0, [1]) }]).await;
    let [x, y] = [attempt_log("x", 8, used(2)), attempt_log("y", 1, used(5))];
    assert_eq!(of_a().await, [x, y.clone()], "without lines, in the order of the tasks");
    // Neither an element nor an attempt without a usage replaces the last one, and the number of the attempt starts again.
    let second = [("x[0]", 1, used(9)), ("y[0]", 1, spoken(9)), ("x", 1, used(3)), ("y", 2, CallLog::default())];
    let second = second.map(|(task, attempt, log)| attempt_log(task, attempt, log)).into();
    write(&logbook, vec![Append { logs: second, ..append("a", 1, [2]) }]).await;
    assert_eq!(of_a().await, [attempt_log("x", 1, used(3)), y]);
    // A conflicting append changes nothing.
    let logs = vec![attempt_log("x", 2, used(4))];
    write(&logbook, vec![Append { logs, ..append("a", 1, [2]) }]).await;
    assert_eq!(of_a().await.len(), 2);
    write(&logbook, vec![append_as("b", 0, [1], info("s", "f", RunState::Success))]).await;
    assert_eq!(last_usages("b").await.expect("the run is there"), []);
    assert!(matches!(last_usages("c").await, Err(LoadError::Missing { .. })));
    let ended = append_as("a", 2, [3], info("s", "f", RunState::Success));
    write(&logbook, vec![ended]).await;
    assert_eq!(logbook.delete_ended_runs(Timestamp::from_micros(9)).await.expect("the logbook can be written"), 2);
    write(&logbook, vec![append("a", 0, [1])]).await;
    assert_eq!(of_a().await, [], "those of another run of this id are deleted with it");
}

pub(super) async fn exchanges_are_listed_from_the_youngest(logbook: impl Logbook) {
    let stored = |byte| HttpRecord::Stored { digest: Digest::from_bytes([byte; 32]), size: 9 };
    let with = |task: &str, attempt, http| attempt_log(task, attempt, CallLog { http: Some(http), ..spoken(1) });
    let first = [
        with("x", 1, HttpRecord::Inline(vec![1])),
        attempt_log("x", 2, spoken(1)),
        with("x[0]", 1, stored(5)),
        with("xy", 1, HttpRecord::Inline(vec![2])),
    ];
    let mut last = with("x", 3, stored(6));
    (last.call.firing, last.call.action) = (Firing::new(2), Action::Rollback);
    write(&logbook, vec![Append { logs: first.to_vec(), ..append("a", 0, [1]) }]).await;
    write(&logbook, vec![Append { logs: vec![last.clone()], ..append("a", 1, [2]) }]).await;
    let page = async |filter: LogFilter| logbook.http_logs(&run("a"), &filter).await.expect("the run is there");
    let logs = async |filter: LogFilter| page(filter).await.logs.into_iter().map(|(_, log)| log).collect::<Vec<_>>();
    let [x, _, element, other] = first;
    let all = [last.clone(), other.clone(), element.clone(), x.clone()];
    assert_eq!(logs(LogFilter::default()).await, all);
    let mut filter = LogFilter { limit: 1, ..LogFilter::default() };
    for expected in &all {
        let LogPage { logs, next } = page(filter.clone()).await;
        let [(position, log)] = &logs[..] else { panic!("a page has one attempt") };
        assert_eq!(log, expected);
        assert_eq!(next, (expected != &x).then_some(*position), "the last page is known to be the last one");
        filter.before = Some(position.to_string().parse().expect("it is a cursor"));
    }
    let nothing = LogPage { logs: Vec::new(), next: None };
    assert_eq!(page(filter).await, nothing);
    // Each page of the attempts of a task looks at two logs only.
    for (task, expected) in [("x", vec!["x 3", "x[0] 1, x 1"]), ("xy", vec!["xy 1", ""]), ("y", vec!["", ""])] {
        let task = Some(task.parse().expect("a valid name"));
        let (mut filter, mut pages) = (LogFilter { task, max_looked_at: 2, ..LogFilter::default() }, Vec::new());
        loop {
            let LogPage { logs, next } = page(filter.clone()).await;
            let shown = logs.iter().map(|(_, log)| format!("{} {}", log.call.task, log.call.attempt));
            pages.push(shown.collect::<Vec<_>>().join(", "));
            filter.before = next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(pages, expected);
    }
    let of = |task: &str| LogFilter { task: Some(task.parse().expect("a valid name")), ..LogFilter::default() };
    assert_eq!(logs(of("x")).await, [last.clone(), element.clone(), x.clone()], "with its elements");
    assert_eq!(logs(of("x[0]")).await, [element]);
    assert_eq!(logs(of("y")).await, []);
    assert_eq!(logs(LogFilter { attempt: Some(Attempt::FIRST), ..of("xy") }).await, [other]);
    assert_eq!(logs(LogFilter { firing: Some(Firing::new(2)), ..LogFilter::default() }).await, [last.clone()]);
    assert_eq!(logs(LogFilter { action: Some(Action::Rollback), ..of("x") }).await, [last]);
    let digests = logbook.exchange_digests(&run("a")).await.expect("the run is there");
    assert_eq!(digests, [5, 6].map(|byte| Digest::from_bytes([byte; 32])).into());
    write(&logbook, vec![append("b", 0, [1])]).await;
    let of_other = logbook.http_logs(&run("b"), &LogFilter::default()).await.expect("the run is there");
    assert_eq!(of_other, nothing);
    assert_eq!(logbook.exchange_digests(&run("b")).await.expect("the run is there"), [].into());
    let missing = logbook.http_logs(&run("c"), &LogFilter::default()).await;
    assert!(matches!(missing, Err(LoadError::Missing { .. })));
    assert!(matches!(logbook.exchange_digests(&run("c")).await, Err(LoadError::Missing { .. })));
}

pub(super) async fn usages_count_as_bytes_of_their_namespace(logbook: impl Logbook) {
    let namespaces = ["with", "without"].map(|name| name.parse::<Namespace>().expect("a valid name"));
    let logs = [vec![attempt_log("x", 1, used(1))], Vec::new()];
    let mut bytes = Vec::new();
    for (namespace, logs) in namespaces.iter().zip(logs) {
        let info = info("s", &format!("{namespace}/f"), RunState::Running);
        write(&logbook, vec![Append { logs, ..append_as(namespace.as_str(), 0, [1], info) }]).await;
        bytes.push(logbook.usage(namespace).await.expect("the logbook can be read").bytes);
    }
    assert!(bytes[0] > bytes[1], "{bytes:?}");
}

pub(super) async fn exchanges_in_the_store_are_listed_with_the_digests(logbook: impl Logbook) {
    let digest = Digest::from_bytes([5; 32]);
    let log = CallLog { http: Some(HttpRecord::Stored { digest, size: 9 }), ..CallLog::default() };
    let log = attempt_log("x", 1, log);
    write(&logbook, vec![Append { logs: vec![log.clone()], ..append("a", 0, [1]) }]).await;
    assert_eq!(logbook.digests().await.expect("the logbook can be read"), [digest].into());
    assert_eq!(logbook.attempt_log(&log.call).await.expect("the run is there"), Some(log));
}
