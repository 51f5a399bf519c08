//! Tests what of an attempt in a file is loaded.

use std::collections::BTreeMap;

use flow::{Access, CallId, Limits, Timestamp, ValueKind};
use protocol::{CallLog, EngineSecret};

use super::*;

/// An attempt of a module of some bytes, whose inputs all refer to one content, with this size.
fn attempt(inputs: usize, content: &[u8], size: u64) -> RecordedAttempt {
    let (module, digest) = (store::digest_of(b"module"), store::digest_of(content));
    let call = CallId {
        run: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Number::FIRST,
        action: Action::Apply,
    };
    let input = |number: usize| {
        let stored = Stored { digest, size, form: ValueKind::Json };
        (format!("v{number}").parse().unwrap(), Value::Stored(stored))
    };
    let job = Job {
        flow: "f".parse().unwrap(),
        module,
        export: Some("t".parse().unwrap()),
        inputs: (0..inputs).map(input).collect(),
        rollback: None,
        required_outputs: Vec::new(),
        limits: Limits::default(),
        access: Access::default(),
        at: Timestamp::from_micros(1),
        expires_at: None,
        signal_to: String::new(),
        fetch_from: String::new(),
        delivery_limit: None,
        keys: EngineSecret::new([7; 32]).call_keys(&call, []),
        call,
    };
    let contents = BTreeMap::from([(module, b"module".to_vec()), (digest, content.to_vec())]);
    RecordedAttempt { job, outcome: None, worker: None, ended_at: None, log: CallLog::default(), contents }
}

#[test]
fn the_values_of_a_file_are_bounded_although_all_refer_to_one_content() {
    let Attempt { job, .. } = Attempt::check(attempt(3, b"\"dough\"", 7)).unwrap();
    assert!(job.inputs.len() == 3 && job.inputs.values().all(|value| *value == Value::json(&"dough".into())));
    // None of them has to be loaded for that.
    let error = Attempt::check(attempt(1_000, b"\"dough\"", 60 << 20)).err().unwrap().to_string();
    assert_eq!(error, "the values for the guest have 60000MiB together, and a replay loads at most 512MiB");
    let error = Attempt::check(attempt(2, b"\"dough\"", 8)).err().unwrap().to_string();
    assert_eq!(error, "the value v0 has 7 bytes, and the reference to it says 8");
}
