//! Tests of valid and refused objects of values.

use proptest::prelude::*;

use super::*;

fn read(text: &str, references: StoredReferences) -> Result<Values, String> {
    let object: ValuesObject = serde_json::from_str(text).map_err(|error| error.to_string())?;
    object.read(references).map_err(|error| error.to_string())
}

/// Any JSON, and with some likelihood JSON that looks like bytes or like a reference.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z0-9+/=]{0,8}".prop_map(Into::into),
        Just("dGVzdA==".into()),
        Just(digest.into()),
    ];
    let key = prop_oneof![
        Just("base64".to_owned()),
        Just("digest".to_owned()),
        Just("size".to_owned()),
        Just("form".to_owned()),
        Just(BYTES.to_owned()),
        Just(STORED.to_owned()),
        "[a-z$]{0,6}",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any_json().prop_map(|json| Value::json(&json)),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
        1 => (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, is_json)| {
            let form = if is_json { ValueKind::Json } else { ValueKind::Bytes };
            Value::Stored(Stored { digest: crate::Digest::from_bytes(digest), size, form })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_round_trips(values in proptest::collection::btree_map("[A-Za-z0-9_-]{1,8}", any_value(), 0..5)) {
        let values: Values = values.into_iter().map(|(name, value)| (name.parse().unwrap(), value)).collect();
        let text = ValuesObject::from(&values).to_text();
        prop_assert_eq!(read(&text, StoredReferences::Accept), Ok(values));
    }

    #[test]
    fn untrusted_json_stays_json(json in any_json(), name in "[A-Za-z0-9_-]{1,8}") {
        let text = format!("{{\"{name}\":{json}}}");
        let read = read(&text, StoredReferences::Reject).unwrap();
        prop_assert_eq!(&read[&ValueName::new(&name).unwrap()], &Value::json(&json));
    }
}

#[test]
fn bytes_and_references_are_encoded_outside_the_json() {
    let digest = crate::Digest::from_bytes([7; 32]);
    let values = Values::from([
        ("celsius".parse().unwrap(), Value::Json(Json::parse("1.50").unwrap())),
        ("photo".parse().unwrap(), Value::Bytes([255, 0].into())),
        ("film".parse().unwrap(), Value::Stored(Stored { digest, size: 70_000, form: ValueKind::Bytes })),
    ]);
    let object = ValuesObject::from(&values);
    let stored = format!("{{\"film\":{{\"digest\":\"{digest}\",\"size\":70000,\"form\":\"bytes\"}}}}");
    let text = format!("{{\"celsius\":1.50,\"$bytes\":{{\"photo\":\"/wA=\"}},\"$stored\":{stored}}}");
    assert_eq!(object.to_text(), text);
    let digest = "sha256:".len() + 64;
    assert_eq!(object.size(), "celsius1.50".len() + "photo/wA=".len() + "film".len() + digest, "names and values");
    assert_eq!((object.json("celsius"), object.bytes("photo")), (Some("1.50"), Some(vec![255, 0])));
    assert_eq!((object.json("photo"), object.bytes("celsius")), (None, None));
}

#[test]
fn every_invalid_value_is_reported_at_once() {
    let stored = format!("{{\"d\":{{\"digest\":\"sha256:{}\",\"size\":1,\"form\":\"json\"}}}}", "0".repeat(64));
    let text = format!("{{\"a b\":1,\"c\":{{\"x\":1,\"x\":2}},\"$bytes\":{{\"e\":\"?\"}},\"$stored\":{stored}}}");
    let error = read(&text, StoredReferences::Reject).unwrap_err();
    for part in [
        "\"a b\" is not a name",
        "\"c\": JSON with the key \"x\" twice in one object",
        "\"e\": not base64",
        "\"d\": a reference into the store cannot be given",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = read("{\"a\":1,\"$bytes\":{\"a\":\"\"}}", StoredReferences::Reject).unwrap_err();
    assert!(error.starts_with("\"a\" is given twice"), "{error}");
}

#[test]
fn only_a_number_of_errors_are_listed() {
    let members: Vec<String> = (0..1_000).map(|index| format!("\"a {index:03}\":1")).collect();
    let object: ValuesObject = serde_json::from_str(&format!("{{{}}}", members.join(","))).unwrap();
    let InvalidValues { errors } = object.read(StoredReferences::Reject).unwrap_err();
    assert_eq!(errors.len(), MAX_ERRORS + 1);
    assert!(errors[0].starts_with("\"a 000\" is not a name"), "{}", errors[0]);
    assert_eq!(errors[MAX_ERRORS], "and 900 more errors");
}

#[test]
fn only_the_wanted_values_are_kept_and_each_name_is_asked_for_once() {
    let stored = format!("{{\"e\":{{\"digest\":\"sha256:{}\",\"size\":1,\"form\":\"json\"}},\"f\":1}}", "0".repeat(64));
    let text =
        format!("{{\"a\":1,\"b\":[1],\"b\":2,\"$bytes\":{{\"c\":\"YQ==\",\"d\":7,\"d\":8}},\"$stored\":{stored}}}");
    let mut asked = Vec::new();
    let object = ValuesObject::parse_some(&text, |name| {
        asked.push(name.to_owned());
        matches!(name, "a" | "c" | "e")
    });
    let object = object.unwrap();
    assert_eq!(asked, ["a", "b", "b", "c", "d", "d", "e", "f"]);
    assert!(
        object.json.keys().eq(["a"]) && object.bytes.keys().eq(["c"]) && object.stored.keys().eq(["e"]),
        "{object:?}"
    );
    for text in ["{\"a\":1,\"a\":2}", "{\"$bytes\":{\"a\":\"\",\"a\":\"\"}}", "{\"$bytes\":{},\"$bytes\":{}}"] {
        let error = ValuesObject::parse_some(text, |name| name == "a").unwrap_err().to_string();
        assert!(error.contains("is given twice"), "{text}: {error}");
    }
    for text in ["{\"b\":}", "{\"b\":1", "{\"b\":1} 2", "[]"] {
        assert!(ValuesObject::parse_some(text, |name| name == "a").is_err(), "{text} is not one object");
    }
}

#[test]
fn a_duplicate_name_is_rejected_in_each_section() {
    for text in [
        "{\"a\":1,\"a\":1}",
        "{\"$bytes\":{\"a\":\"\",\"a\":\"\"}}",
        "{\"$bytes\":{},\"$bytes\":{}}",
        "{\"$stored\":{},\"$stored\":{}}",
    ] {
        let error = read(text, StoredReferences::Accept).unwrap_err();
        assert!(error.contains("is given twice"), "{text}: {error}");
    }
}

#[test]
fn only_an_object_holds_values() {
    for text in ["[1]", "[\"dGVzdA==\"]", "null", "\"a\"", "{\"$bytes\":[\"YQ==\"]}", "{\"$bytes\":{\"a\":1}}"] {
        assert!(read(text, StoredReferences::Accept).is_err(), "{text}");
    }
}
