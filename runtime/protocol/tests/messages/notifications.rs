//! The notifications, which are JSON for programs in any language: byte for byte, and with their seals.

use std::{collections::BTreeMap, path::Path};

use flow::{Attempt, Digest, Firing, FlowName, Json, NodeKind, RunId, RunState, State, Timestamp, Value, Values};
use machine::NodeChange;
use protocol::{EngineSecret, events};

const AT: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A notification that a listener reads keeps its form: fields may be added, and then the file gets the next number.
#[test]
fn every_notification_is_written_as_it_was() {
    let (run, flow): (RunId, FlowName) = ("bake-1".parse().unwrap(), "shop/bake-cake".parse().unwrap());
    let change = NodeChange {
        kind: NodeKind::Task,
        name: "pan".parse().unwrap(),
        state: State::Success,
        firing: Firing::FIRST,
        attempt: Attempt::new(2),
        at: AT,
        provides: Some(Values::from([("batter_ml".parse().unwrap(), Value::Json(Json::parse("900").unwrap()))])),
        failure: None,
        retry_in: None,
        worker: Some("worker-1".parse().unwrap()),
        computed_by: None,
        digest: Some(Digest::from_bytes([7; 32])),
        is_of_empty_firing: false,
    };
    let samples = [
        ("task-notification-1", events::notification(&run, &flow, &change)),
        ("run-notification-1", events::run_notification(&run, &flow, RunState::RolledBack, AT)),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-json");
    for (name, text) in samples {
        let path = folder.join(format!("{name}.json"));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, text, "{name} is written as it was");
    }
}

#[test]
fn the_seal_of_a_notification_is_that_of_its_body() {
    let (secret, body) = (EngineSecret::new([7; 32]), b"{}");
    let headers = BTreeMap::from([secret.notification_header(body)]);
    assert!(secret.has_sealed_notification(&headers, body));
    assert!(!secret.has_sealed_notification(&headers, b"{ }"), "of another body");
    assert!(!EngineSecret::new([8; 32]).has_sealed_notification(&headers, body), "of another logbook");
    assert!(!secret.has_sealed_notification(&BTreeMap::new(), body), "without a seal");
}
