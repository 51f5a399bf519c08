//! Messages round trip, and other bytes are refused.

use flow::{Failure, FailureKind, FailureSummary, Json, Outcome, Timestamp, Value, Values};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::call::Action;

const EXCHANGE: ExchangeNumber = ExchangeNumber::new([1, 2, 3, 4, 5, 6, 7, 8]);

fn values() -> Values {
    let json = Value::Json(Json::parse("{\"cm\": 12345678901234567890}").unwrap());
    let named = |name: &str, value| (name.parse().unwrap(), value);
    [named("pan", json), named("dough", Value::Bytes([0, 255].as_slice().into()))].into()
}

fn call(action: Action) -> Call {
    Call {
        run: "r".parse().unwrap(),
        flow: "f".parse().unwrap(),
        task: "t[3]".parse().unwrap(),
        export: Some("bake".parse().unwrap()),
        firing: u64::MAX,
        attempt: 7,
        idempotency_key: "key".into(),
        job_time: Timestamp::from_micros(1_700_000_000_123_456),
        inputs: values(),
        action,
        limits: Limits { memory: 1, stack: 2, output: 3, log: 4, table_elements: 5, instances: 6, ..Limits::default() },
        required_outputs: vec!["cake".parse().unwrap()],
        outside: crate::call::Outside::default(),
        interrupt: CancellationToken::new(),
        slot: std::sync::Arc::new(crate::KeptSlot),
    }
}

/// Splits a message; the body is checked against its length.
fn split(message: &[u8]) -> (Header, &[u8], &[u8]) {
    let (header, rest) = message.split_first_chunk().unwrap();
    let header = Header::decode(*header).unwrap();
    let (head, body) = rest.split_at(header.head as usize);
    assert_eq!((body.len() as u64, header.exchange), (header.body, EXCHANGE));
    (header, head, body)
}

#[test]
fn a_call_is_received_as_it_was_sent() {
    let failure = Failure { details: Some(Json::parse("[1]").unwrap()), ..Failure::new(FailureKind::Poison, "no") };
    let failures = FailureSummary { first: [("u".parse().unwrap(), failure.clone())].into(), total: 9 };
    let rollback = |outcome| Action::Rollback { outcome, failures: failures.clone() };
    for action in [
        Action::Apply,
        rollback(Outcome::Provided(values())),
        rollback(Outcome::Failed(failure.clone())),
        rollback(Outcome::Unknown),
    ] {
        let sent = call(action);
        let bytes = encode_call(EXCHANGE, &sent).unwrap();
        let (header, head, body) = split(&bytes);
        let Request::Call(received) = Request::decode(header.tag, head, body).unwrap() else { panic!("it is a call") };
        let shown = |call: Call| format!("{:?}", Call { interrupt: CancellationToken::new(), ..call });
        // Tokens show their addresses.
        let without_token = |text: String| text.split(", interrupt: ").next().unwrap().to_owned();
        assert_eq!(without_token(shown(*received)), without_token(shown(sent)));
    }
}

#[test]
fn output_is_received_as_it_was_sent() {
    let decode = |bytes: &[u8]| {
        let (header, head, body) = split(bytes);
        Reply::decode(header.tag, head, body.to_vec()).unwrap()
    };
    for level in LEVELS {
        assert!(
            matches!(decode(&EXCHANGE.log(level, "ä")), Reply::Log(received, line) if received == level && line == "ä")
        );
    }
    let printed = decode(&EXCHANGE.print(Standard::Error, b"\xff"));
    assert!(matches!(printed, Reply::Print(Standard::Error, bytes) if bytes == b"\xff"));
    assert!(matches!(decode(&EXCHANGE.progress(0.5, "half")), Reply::Progress(0.5, message) if message == "half"));
}

#[test]
fn replies_that_no_child_of_waft_sends_are_refused() {
    let refused = |tag, head: &[u8], body: &[u8]| Reply::decode(tag, head, body.to_vec()).unwrap_err().to_string();
    assert_eq!(refused(Tag::Log, b"", b""), "an unknown level");
    assert_eq!(refused(Tag::Log, b"", b"\x09line"), "an unknown level");
    assert_eq!(refused(Tag::Log, b"", b"\x02\xff"), "a text that is not UTF-8");
    assert_eq!(refused(Tag::Print, b"", b"\x07"), "an unknown stream");
    assert_eq!(refused(Tag::Progress, b"", b"half"), "progress without a number");
    assert_eq!(refused(Tag::Progress, b"", &f64::NAN.to_le_bytes()), "progress beyond the end");
    assert_eq!(refused(Tag::Progress, b"", &2_f64.to_le_bytes()), "progress beyond the end");
    assert_eq!(refused(Tag::Ended, b"{", b""), "a head that is not what its message needs");
    assert_eq!(refused(Tag::Call, b"{}", b""), "a message that is no reply");
    assert!(Header::decode([0; HEADER_BYTES]).is_none(), "an unknown tag");
}

#[test]
fn values_are_read_only_as_far_as_their_bytes_reach() {
    let values = values();
    let mut parts = Vec::new();
    let heads = value_heads(&values, &mut parts);
    let body = parts.concat();
    assert_eq!(read_values(heads.clone(), &mut body.as_slice()).unwrap(), values);
    let refused = |heads: Vec<ValueHead>, mut body: &[u8]| read_values(heads, &mut body).unwrap_err().to_string();
    let broken = [&body[..2], b"x", &body[3..]].concat();
    assert_eq!(refused(heads.clone(), &broken), "a value that is not JSON");
    assert_eq!(refused(heads.clone(), &body[..3]), "a value without its content");
    assert_eq!(refused(vec![heads[0].clone(), heads[0].clone()], b"\0\xff\0\xff"), "a value twice");
    let unnamed = "[{\"name\":\"a pan\",\"form\":\"Bytes\",\"size\":0}]";
    assert_eq!(refused(serde_json::from_str(unnamed).unwrap(), b""), "a value without a valid name");
}

#[test]
fn a_child_may_send_only_what_its_call_allows() {
    let limits = Limits { log: 10, output: 100, ..Limits::default() };
    let bounds = Bounds::of(&limits, 1);
    let allows = |tag, head, body| bounds.allow(Header { tag, exchange: EXCHANGE, head, body });
    assert!(allows(Tag::Log, 0, 11) && !allows(Tag::Log, 0, 12) && !allows(Tag::Log, 1, 0));
    assert!(allows(Tag::Print, 0, 101) && !allows(Tag::Print, 0, 102));
    assert!(allows(Tag::Progress, 0, 1_032) && !allows(Tag::Progress, 0, 1_033));
    assert!(allows(Tag::Ended, 10_000, 100) && !allows(Tag::Ended, 10_000, 101) && !allows(Tag::Ended, u32::MAX, 0));
    assert!(!allows(Tag::Described, u32::MAX, 0) && !allows(Tag::Started, u32::MAX, 0));
    for tag in [Tag::Start, Tag::Call, Tag::Describe] {
        assert!(!allows(tag, 0, 0), "{tag:?} is for children");
    }
    let idle = Bounds::NO_CALL.allow(Header { tag: Tag::Log, exchange: EXCHANGE, head: 0, body: 2 });
    assert!(!idle, "a child without a call logs nothing");
}
