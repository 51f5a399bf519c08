//! A child that a guest has taken over: the test plays it, and the parent checks everything.

use std::sync::{Arc, Mutex};

use flow::{FailureSummary, Limits, Outcome, Timestamp, Value};
use tokio::io::{DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    call::{Level, Standard},
    host_state::Stdout,
    isolation::message::{FailureHead, value_heads},
};

const NUMBER: ExchangeNumber = ExchangeNumber::new([1, 2, 3, 4, 5, 6, 7, 8]);

/// What an observer has received.
#[derive(Default)]
struct Observed(Mutex<Vec<String>>);

impl Observer for Observed {
    fn log(&self, _: Level, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }

    fn print(&self, _: Standard, bytes: &[u8]) {
        self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into());
    }

    fn progress(&self, _: f64, message: &str) {
        self.0.lock().unwrap().push(message.into());
    }
}

fn apply() -> Call {
    Call {
        run: "r".parse().unwrap(),
        flow: "f".parse().unwrap(),
        task: "t".parse().unwrap(),
        export: None,
        firing: 1,
        attempt: 1,
        idempotency_key: "key".into(),
        job_time: Timestamp::default(),
        inputs: Values::new(),
        action: Action::Apply,
        limits: Limits { log: 50, output: 20, memory: 1 << 20, ..Limits::default() },
        required_outputs: vec!["cake".parse().unwrap()],
        outside: crate::call::Outside::default(),
        interrupt: CancellationToken::new(),
        slot: Arc::new(crate::KeptSlot),
    }
}

/// Makes a call with a child that answers with these bytes and leaves.
async fn answered(asked: &Call, answer: &[u8]) -> (Result<Ended, ExchangeError>, Vec<String>) {
    let (mut parent, mut child) = duplex(1 << 20);
    let observed = Arc::new(Observed::default());
    let streams = Streams::new(&asked.limits, Stdout::Log, Some(observed.clone()));
    child.write_all(answer).await.unwrap();
    let leave = async {
        tokio::io::copy(&mut (&mut child).take(HEADER_BYTES as u64), &mut tokio::io::sink()).await.unwrap();
        drop(child);
    };
    let (ended, ()) = tokio::join!(Exchange::new(&mut parent, NUMBER).call(asked, &streams, &*observed), leave);
    let received = observed.0.lock().unwrap().clone();
    (ended, received)
}

#[track_caller]
fn assert_violation<Answer: std::fmt::Debug>(answer: Result<Answer, ExchangeError>, says: &str) {
    match answer {
        Err(ExchangeError::Violation(what)) => assert_eq!(what, says),
        other => panic!("{says:?} was accepted: {other:?}"),
    }
}

fn ended(result: ResultHead, body: &[u8]) -> Vec<u8> {
    trapped(result, Vec::new(), body)
}

fn trapped(result: ResultHead, backtrace: Vec<Frame>, body: &[u8]) -> Vec<u8> {
    let head = EndedHead { result, memory: u64::MAX, cpu_micros: u64::MAX, backtrace };
    NUMBER.message(Tag::Ended, &head, &[body]).unwrap()
}

fn succeeded(values: &Values) -> Vec<u8> {
    let mut parts = Vec::new();
    let heads = value_heads(values, &mut parts);
    ended(ResultHead::Succeeded(heads), &parts.concat())
}

fn bytes(name: &str, size: usize) -> (flow::ValueName, Value) {
    (name.parse().unwrap(), Value::Bytes(vec![0; size].into()))
}

#[tokio::test]
async fn an_honest_answer_is_accepted() {
    let output =
        [NUMBER.log(Level::Info, "hot"), NUMBER.print(Standard::Error, b"hiss"), NUMBER.progress(1.0, "done")].concat();
    let values = Values::from([bytes("cake", 16)]);
    let (answer, received) = answered(&apply(), &[output, succeeded(&values)].concat()).await;
    let Ended { completion, memory, .. } = answer.unwrap();
    assert_eq!((completion, memory), (Completion::Succeeded(values), 1 << 20), "memory is at most the limit");
    assert_eq!(received, ["hot", "hiss", "done"]);
}

#[tokio::test]
async fn values_that_no_guest_can_return_are_refused() {
    let refused = async |values: Values, says| assert_violation(answered(&apply(), &succeeded(&values)).await.0, says);
    refused(Values::from([bytes("cake", 17)]), "more values than its limit").await;
    refused(Values::from([bytes("cake", 1), bytes("pan", 1)]), "a value that was not required").await;
    refused(Values::new(), "too few values").await;
    let too_large = Values::from([bytes("cake", 1_000)]);
    refused(too_large, "a message that is too large, or comes at a wrong time").await;
    let failures = FailureSummary::default();
    let rollback = Call { action: Action::Rollback { outcome: Outcome::Unknown, failures }, ..apply() };
    let (answer, _) = answered(&rollback, &succeeded(&Values::from([bytes("cake", 1)]))).await;
    assert_violation(answer, "a value that was not required");
    assert!(answered(&rollback, &succeeded(&Values::new())).await.0.is_ok());
}

#[tokio::test]
async fn failures_that_no_guest_can_have_are_refused() {
    let failed = |failure: &Failure| ended(ResultHead::Failed(FailureHead::from(failure)), b"");
    for kind in FailureKind::ALL {
        let failure = Failure::new(kind, "no");
        let (answer, _) = answered(&apply(), &failed(&failure)).await;
        match kind {
            FailureKind::MissingInput | FailureKind::Module | FailureKind::Poison | FailureKind::Cancelled => {
                assert_violation(answer, "a failure that no guest can have");
            }
            FailureKind::Transient
            | FailureKind::Permanent
            | FailureKind::Timeout
            | FailureKind::Memory
            | FailureKind::Denied
            | FailureKind::Trap
            | FailureKind::OutputLimit
            | FailureKind::InvalidOutput => assert_eq!(answer.unwrap().completion, Completion::Failed(failure)),
        }
    }
    let cut = Failure::new(FailureKind::Trap, "x".repeat(100_000));
    assert_eq!(answered(&apply(), &failed(&cut)).await.0.unwrap().completion, Completion::Failed(cut));
    let long = Failure { message: "x".repeat(100_000), ..Failure::new(FailureKind::Trap, "") };
    assert_violation(answered(&apply(), &failed(&long)).await.0, "a failure that no guest can have");
}

#[tokio::test]
async fn a_backtrace_is_accepted_unless_it_is_too_large() {
    let frame = |bytes: usize| Frame { function: "f".repeat(bytes), place: Some("lib.rs:1:2".into()) };
    let answer = async |backtrace: Vec<Frame>| {
        let failure = Failure::new(FailureKind::Trap, "no");
        let head = ResultHead::Failed(FailureHead::from(&failure));
        answered(&apply(), &trapped(head, backtrace, b"")).await.0
    };
    let small = vec![frame(10), frame(20)];
    assert_eq!(answer(small.clone()).await.unwrap().backtrace, small);
    assert_violation(answer(vec![frame(2_000)]).await, "a backtrace that no guest can have");
    assert_violation(answer(vec![frame(1); 65]).await, "a backtrace that no guest can have");
}

#[tokio::test]
async fn output_beyond_the_limit_ends_the_call() {
    // A line of the log counts more than its text.
    let (answer, received) = answered(&apply(), &NUMBER.log(Level::Info, &"x".repeat(19))).await;
    assert_violation(answer, "more output than its limit");
    assert_eq!(received, [""; 0], "no observer receives it");
    let prints = [NUMBER.print(Standard::Error, &[b'x'; 25]), NUMBER.print(Standard::Error, &[b'y'; 26])].concat();
    let (answer, received) = answered(&apply(), &prints).await;
    assert_violation(answer, "more output than its limit");
    assert_eq!(received, ["x".repeat(25)]);
    let lines = [NUMBER.log(Level::Info, "01234"), NUMBER.log(Level::Info, "56789")].concat();
    let (answer, received) = answered(&apply(), &lines).await;
    assert_violation(answer, "more output than its limit");
    assert_eq!(received, ["01234"]);
}

#[tokio::test]
async fn a_message_of_any_size_takes_no_memory() {
    for tag in [Tag::Log, Tag::Print, Tag::Progress, Tag::Ended] {
        let header = Header { tag, exchange: NUMBER, head: 0, body: u64::MAX }.encode();
        assert_violation(answered(&apply(), &header).await.0, "a message that is too large, or comes at a wrong time");
    }
    assert_violation(answered(&apply(), &[0; HEADER_BYTES]).await.0, "a message of an unknown kind");
}

#[tokio::test]
async fn a_child_that_leaves_within_a_message_is_lost() {
    let whole = succeeded(&Values::from([bytes("cake", 16)]));
    for length in [0, 5, HEADER_BYTES, whole.len() - 1] {
        let (answer, _) = answered(&apply(), &whole[..length]).await;
        assert!(matches!(answer, Err(ExchangeError::Lost(_))), "{length}: {answer:?}");
    }
}

#[tokio::test]
async fn a_description_comes_only_when_it_is_asked_for() {
    let described =
        NUMBER.message(Tag::Described, &Ok::<_, FailureHead>(Vec::<description::TaskInfo>::new()), &[]).unwrap();
    let (answer, _) = answered(&apply(), &described).await;
    assert_violation(answer, "a message that belongs to no call");
    let ask = async |answer: &[u8]| {
        let (mut parent, mut child): (DuplexStream, DuplexStream) = duplex(1 << 20);
        child.write_all(answer).await.unwrap();
        Exchange::new(&mut parent, NUMBER).describe().await
    };
    assert_eq!(ask(&described).await.unwrap(), Ok(Vec::new()));
    assert_violation(ask(&NUMBER.log(Level::Info, "x")).await, "a message that is too large, or comes at a wrong time");
    assert_violation(ask(&NUMBER.log(Level::Info, "")).await, "another message than a description");
}

#[tokio::test]
async fn an_answer_from_before_a_call_does_not_answer_it() {
    let (mut parent, mut child) = duplex(1 << 20);
    let answer = succeeded(&Values::from([bytes("cake", 16)]));
    // The child answers the first call twice.
    child.write_all(&[answer.clone(), answer].concat()).await.unwrap();
    let asked = apply();
    let observed = Arc::new(Observed::default());
    let streams = Streams::new(&asked.limits, Stdout::Log, Some(observed.clone()));
    assert!(Exchange::new(&mut parent, NUMBER).call(&asked, &streams, &*observed).await.is_ok());
    let next = Exchange::new(&mut parent, ExchangeNumber::random());
    let answer = next.call(&asked, &streams, &*observed).await;
    assert_violation(answer, "a message that does not answer the request");
}

#[tokio::test]
async fn a_request_that_its_child_has_not_read_is_told_from_a_lost_call() {
    let ended = async |reads_request: bool| {
        let (mut parent, mut child) = tokio::net::UnixStream::pair().unwrap();
        let asked = apply();
        let observed = Arc::new(Observed::default());
        let streams = Streams::new(&asked.limits, Stdout::Log, Some(observed.clone()));
        let leave = async {
            let mut request = vec![0; encode_call(NUMBER, &asked).unwrap().len()];
            let length = if reads_request { request.len() } else { HEADER_BYTES };
            child.read_exact(&mut request[..length]).await.unwrap();
            drop(child);
        };
        let (ended, ()) = tokio::join!(Exchange::new(&mut parent, NUMBER).call(&asked, &streams, &*observed), leave);
        ended.unwrap_err()
    };
    assert!(matches!(ended(true).await, ExchangeError::Lost(_)), "the guest may have been called");
    assert!(matches!(ended(false).await, ExchangeError::Unread(_)), "no guest was called");
}

/// A request with this head, as a hostile child may write it, and a body.
fn request(authority: &str, headers: &[(&str, &str)], body: usize) -> Vec<u8> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let head = serde_json::json!({
        "method": "GET", "scheme": "http", "authority": authority, "path_with_query": "/", "headers": headers,
        "response_timeout": null, "between_bytes_timeout": null,
    });
    NUMBER.message(Tag::HttpRequest, &head, &[&vec![0; body]]).unwrap()
}

#[tokio::test]
async fn requests_of_a_child_are_checked() {
    let refused = async |message: &[u8], says| assert_violation(answered(&apply(), message).await.0, says);
    let host = "the request is refused: its authority is not a host, or a host and a port";
    refused(&request("a@b", &[], 0), host).await;
    refused(&request("a.example", &[("a\n", "b")], 0), "an invalid name of a header").await;
    refused(&request("a.example", &[("a", "b\r\nc: d")], 0), "an invalid header").await;
    let too_large = "a message that is too large, or comes at a wrong time";
    let limits = Limits { http_bytes: 10, ..apply().limits };
    let answer = answered(&Call { limits, ..apply() }, &request("a.example", &[], 11)).await.0;
    assert_violation(answer, too_large);
    let long = Header { tag: Tag::HttpRequest, exchange: NUMBER, head: (1 << 20) + 1, body: 0 };
    refused(&long.encode(), too_large).await;
    refused(&NUMBER.message(Tag::HttpResponse, &(), &[]).unwrap(), too_large).await;
}

#[tokio::test]
async fn a_child_learns_why_its_request_was_not_sent() {
    let (mut parent, mut child) = duplex(1 << 20);
    let streams = Streams::new(&apply().limits, Stdout::Log, None);
    let observed = Observed::default();
    let asks = async {
        let values = Values::from([bytes("cake", 1)]);
        child.write_all(&[request("a.example", &[], 0), succeeded(&values)].concat()).await.unwrap();
        let mut received = Vec::new();
        child.read_to_end(&mut received).await.unwrap();
        String::from_utf8_lossy(&received).into_owned()
    };
    let call = apply();
    let call = async {
        let ended = Exchange::new(&mut parent, NUMBER).call(&call, &streams, &observed).await;
        drop(parent);
        ended
    };
    let (ended, received) = tokio::join!(call, asks);
    assert!(matches!(ended.unwrap().completion, Completion::Succeeded(_)));
    assert!(received.contains(r#"{"Failed":{"Denied":"no guest has a network here"}}"#), "{received}");
}
