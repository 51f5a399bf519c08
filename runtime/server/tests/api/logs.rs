//! What guests wrote, page by page.

use client::api::{LogEvent, LogsQuery};
use flow::{Action, Attempt, CallId, Firing, Timestamp};
use logbook::{MaxUnended, RunInfo, Version};
use machine::{Fact, Record};
use protocol::{AttemptLog, CallLog};

use super::*;

const LOGS: u32 = 60;

/// The log of an attempt with almost as many bytes as one may have.
fn log(attempt: u32) -> AttemptLog {
    let (run, task) = ("x".parse().unwrap(), if attempt.is_multiple_of(2) { "t" } else { "u[0]" });
    let call = CallId {
        run,
        task: task.parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::new(attempt),
        action: Action::Apply,
    };
    let mut log = CallLog::default();
    log.push("stdout", "\u{1}".repeat(60 << 10));
    AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
}

#[tokio::test]
async fn the_logs_of_a_large_run_are_read_and_followed_page_by_page() {
    let dependencies = dependencies().await;
    let append = Append {
        run: "x".parse().unwrap(),
        follows: Version::NONE,
        records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
        info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: flow::RunState::Failure },
        logs: (1..=LOGS).map(log).collect(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: logbook::MemoChanges::default(),
    };
    dependencies.logbook.append(vec![append]).await.unwrap();
    let harness = Harness::over(config(None), dependencies).await;
    let read = async |query: LogsQuery| {
        let (mut pages, mut read) = (Vec::new(), harness.client().log_pages("x", query));
        while let Some(logs) = read.next().await.unwrap() {
            assert!(logs.iter().all(|log| log.lines.len() == 1));
            pages.push(logs.iter().map(|log| log.attempt).collect::<Vec<_>>());
        }
        pages
    };
    let pages = read(LogsQuery::default()).await;
    assert_eq!(pages.concat(), (1..=LOGS).collect::<Vec<_>>());
    assert!(pages.len() > 1 && pages.iter().all(|page| page.len() < 40), "{pages:?}");
    assert_eq!(read(LogsQuery::default().task("u").limit(20)).await.len(), 2);
    let mut follow = harness.client().follow_logs("x");
    let mut ended = Vec::new();
    while let Some(event) = follow.next().await.unwrap() {
        if let LogEvent::End(attempt) = event {
            ended.push(attempt.attempt);
        }
    }
    assert_eq!(ended, pages.concat());
    assert_eq!(refusal(harness.client().logs("none", &LogsQuery::default()).await).status, 404);
}
