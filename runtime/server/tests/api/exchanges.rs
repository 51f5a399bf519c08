//! Recorded HTTP exchanges, page by page.

use client::api::ExchangesQuery;
use flow::{Action, Attempt, CallId, Firing, Timestamp};
use logbook::{MaxUnended, RunInfo, Version};
use machine::{Fact, Record};
use protocol::{AttemptLog, CallLog, HttpExchange, HttpExchanges, HttpRecord, RecordedAnswer, RecordedRequest};

use super::*;

/// The body of a request of 3 MiB: each byte is a character that JSON escapes, so only one is on a page.
const LARGE: usize = 3 << 20;

fn log(attempt: u32, http: HttpRecord) -> AttemptLog {
    let (run, task) = ("x".parse().unwrap(), "t[0]".parse().unwrap());
    let call = CallId { run, task, firing: Firing::FIRST, attempt: Attempt::new(attempt), action: Action::Apply };
    let log = CallLog { http: Some(http), ..CallLog::default() };
    AttemptLog { call, at: Timestamp::from_micros(1), worker: None, log }
}

fn record(body: usize) -> Vec<u8> {
    let request = RecordedRequest {
        method: "POST".into(),
        url: "http://a.example/".into(),
        headers: Vec::new(),
        body: vec![0; body],
    };
    let exchange = HttpExchange { request, answer: RecordedAnswer::None, took: std::time::Duration::ZERO };
    HttpExchanges { exchanges: vec![exchange], cut: false }.encode()
}

#[tokio::test]
async fn large_exchanges_are_read_page_by_page_from_the_last_attempt() {
    let dependencies = dependencies().await;
    let (logbook, store) = (dependencies.logbook.clone(), dependencies.modules.store.clone());
    let large = record(LARGE);
    let size = large.len() as u64;
    let stored = HttpRecord::Stored { digest: store.put(large.into()).await.unwrap(), size };
    let append = Append {
        run: "x".parse().unwrap(),
        follows: Version::NONE,
        records: vec![Record { at: Timestamp::from_micros(1), firing: None, fact: Fact::Resumed }],
        info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: flow::RunState::Failure },
        logs: vec![log(1, HttpRecord::Inline(record(1))), log(2, stored.clone()), log(3, stored)],
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: logbook::MemoChanges::default(),
    };
    logbook.append(vec![append]).await.unwrap();
    let harness = Harness::over(config(None), dependencies).await;
    let mut query = ExchangesQuery::default().task("t");
    let mut pages = Vec::new();
    loop {
        let page = harness.client().exchanges("x", &query).await.unwrap();
        let bodies = page.attempts.iter().map(|attempt| (attempt.attempt, attempt.exchanges[0].body.bytes));
        pages.push(bodies.collect::<Vec<_>>());
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![(3, LARGE as u64)], vec![(2, LARGE as u64), (1, 1)]]);
    let problem = refusal(harness.client().exchanges("x", &query.after("0")).await);
    assert_eq!((problem.status, problem.kind.as_str()), (400, "urn:waft:problem:bad-request"));
    assert_eq!(refusal(harness.client().exchanges("none", &ExchangesQuery::default()).await).status, 404);
}
