//! Tests of the keys of remembered results, and of the call that a guest with `memo` sees.

use std::collections::BTreeMap;

use flow::{Access, Action, Firing, Json, LimitOverrides, Limits, Memo, RetryPolicy, Stored};
use machine::Call;

use super::*;

fn task() -> Task {
    Task {
        module: Digest::from_bytes([1; 32]),
        export: Some("mix".parse().unwrap()),
        inputs: Vec::new(),
        provides: BTreeMap::from([("pan".parse().unwrap(), "first_pan".parse().unwrap())]),
        rollback: true,
        retry: RetryPolicy::default(),
        limits: Limits::default(),
        access: Access { memo: Some(Memo::Unlimited), ..Access::default() },
        queue: "default".parse().unwrap(),
        priority: 0,
        pace: flow::Pace::default(),
        expires: None,
        delivery_limit: None,
    }
}

fn json(text: &str) -> Value {
    Value::Json(Json::parse(text).unwrap())
}

fn inputs(values: &[(&str, Value)]) -> Values {
    values.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect()
}

fn stored(byte: u8) -> Value {
    Value::Stored(Stored { digest: Digest::from_bytes([byte; 32]), size: 9, form: ValueKind::Json })
}

fn call(run: &str, attempt: u32) -> CallId {
    CallId {
        run: run.parse().unwrap(),
        task: "t".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::new(attempt),
        action: Action::Apply,
    }
}

fn job(task: &Task, id: CallId, at: u64, inputs: Values) -> Job {
    let call = Call { id, node: flow::NodeIndex(1), at: Timestamp::from_micros(at), inputs, rollback: None };
    Job::of_call(&"f".parse().unwrap(), task, call)
}

#[test]
fn the_key_is_of_the_namespace_the_function_and_the_exact_inputs() {
    let flow = |name: &str| -> FlowName { name.parse().unwrap() };
    let given = || inputs(&[("a", json("1")), ("b", json("\"x\""))]);
    let key = |name: &str, task: &Task, inputs: &Values| MemoAddress::of_call(&flow(name), task, inputs);
    let known = key("shop/one", &task(), &given());
    assert_eq!(known.namespace.as_ref().map(Namespace::as_str), Some("shop"));
    assert_eq!(key("shop/other", &task(), &given()), known, "flows of a namespace share");
    // What changes how a call is made, and not what it returns.
    let same = Task {
        priority: 9,
        queue: "other".parse().unwrap(),
        provides: BTreeMap::from([("pan".parse().unwrap(), "renamed".parse().unwrap())]),
        access: Access { memo: Some(Memo::For(std::time::Duration::from_secs(1))), ..Access::default() },
        ..task()
    };
    assert_eq!(key("shop/one", &same, &given()), known);
    let limits = Limits::default().with(&LimitOverrides { memory: Some(1 << 20), ..LimitOverrides::default() });
    let arguments = Access { arguments: vec!["-v".into()], ..task().access };
    let provides = BTreeMap::from(["pan", "lid"].map(|name| (name.parse().unwrap(), name.parse().unwrap())));
    let others = [
        key("shop-2/one", &task(), &given()),
        key("one", &task(), &given()),
        key("shop/one", &Task { module: Digest::from_bytes([2; 32]), ..task() }, &given()),
        key("shop/one", &Task { export: None, ..task() }, &given()),
        key("shop/one", &Task { limits, ..task() }, &given()),
        key("shop/one", &Task { access: arguments, ..task() }, &given()),
        key("shop/one", &Task { provides, ..task() }, &given()),
        key("shop/one", &task(), &inputs(&[("a", json("1"))])),
        key("shop/one", &task(), &inputs(&[("a", json("1 ")), ("b", json("\"x\""))])),
        key("shop/one", &task(), &inputs(&[("a", json("\"x\"")), ("b", json("1"))])),
        key("shop/one", &task(), &inputs(&[("a", Value::Bytes(b"1"[..].into())), ("b", json("\"x\""))])),
        key("shop/one", &task(), &inputs(&[("a", stored(1)), ("b", json("\"x\""))])),
        key("shop/one", &task(), &inputs(&[("a", stored(2)), ("b", json("\"x\""))])),
    ];
    let mut keys: Vec<MemoKey> = others.iter().chain([&known]).map(|address| address.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1, "each has a key of its own");
    // Results of earlier versions stay known: this key must not change by accident.
    let hex: String = known.key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "91f3fb0a3648e25eba96dfaac479b5a54150df4c648289d83783e18149c8ba4e");
}

#[test]
fn the_guest_sees_nothing_of_its_run_attempt_and_time() {
    let given = || inputs(&[("a", json("1")), ("b", Value::Bytes(b"x"[..].into()))]);
    let identity =
        |task: &Task, run: &str, attempt, at, inputs| MemoIdentity::of_job(&job(task, call(run, attempt), at, inputs));
    let known = identity(&task(), "r", 1, 5, given()).unwrap();
    assert_eq!(identity(&task(), "other", 7, 9, given()), Some(known.clone()));
    assert_eq!((known.flow.as_str(), known.task.as_str()), ("memo", "memo"));
    assert_eq!(known.time.as_micros(), 946_684_800_000_000);
    let others = [
        identity(&Task { module: Digest::from_bytes([2; 32]), ..task() }, "r", 1, 5, given()),
        identity(&Task { export: Some("bake".parse().unwrap()), ..task() }, "r", 1, 5, given()),
        identity(&task(), "r", 1, 5, inputs(&[("a", json("12")), ("b", Value::Bytes(b""[..].into()))])),
        identity(&task(), "r", 1, 5, inputs(&[("a", json("1"))])),
    ];
    assert!(others.iter().all(|other| other.as_ref().unwrap().run != known.run), "each has its own randomness");
    let plain = Task { access: Access::default(), ..task() };
    assert_eq!(identity(&plain, "r", 1, 5, given()), None);
    let rollback = Some((flow::Outcome::Unknown, flow::FailureSummary::default()));
    assert_eq!(MemoIdentity::of_job(&Job { rollback, ..job(&task(), call("r", 1), 5, given()) }), None);
}

#[test]
fn a_remembered_result_is_read_as_it_was_written() {
    let values = inputs(&[("pan", json("[1]")), ("photo", Value::Bytes(vec![0, 1].into())), ("large", stored(3))]);
    let result = RememberedResult { computed_by: call("r", 2), at: Timestamp::from_micros(7), values };
    assert_eq!(RememberedResult::decode(&result.encode()), Ok(result.clone()));
    assert_eq!(result.size(), 3 + 3 + 5 + 2 + 5 + 9);
    assert_eq!(result.digests().collect::<Vec<_>>(), [Digest::from_bytes([3; 32])]);
    assert!(RememberedResult::decode(b"wL\x01").is_err());
}
