//! Tests that a schema refuses invalid values, and never a value that may match.

use super::*;

fn mismatch_text(schema: &str, value: &str) -> String {
    let schema = Schema::new(&Json::parse(schema).unwrap());
    let value = Value::Json(Json::parse(value).unwrap());
    schema.mismatch(&value).map_or_else(String::new, |mismatch| mismatch.to_string())
}

/// A schema as `schemars` writes it for types of serde.
const PAN: &str = r##"{"title": "Pan", "type": "object", "properties": {
    "size": {"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255},
    "colour": {"oneOf": [{"type": "string", "enum": ["red", "blue"]},
        {"type": "object", "properties": {"mixed": {"type": "array", "items": {"type": "string"}}},
         "required": ["mixed"], "additionalProperties": false}]},
    "lids": {"type": "array", "items": {"$ref": "#"}},
    "handle": {"type": ["string", "null"]},
    "maker": {"anyOf": [{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}, {"type": "null"}]},
    "at": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
    "weights": {"type": "object", "additionalProperties": {"type": "number", "format": "double"}},
    "mark": {"type": "string", "minLength": 1, "maxLength": 1}
}, "required": ["size"]}"##;

#[test]
fn a_valid_value_is_never_rejected() {
    for value in [
        r#"{"size": 1}"#,
        r#"{"size": 255.0, "unknown": []}"#,
        r#"{"size": 1, "colour": "red", "lids": [{"size": 2, "lids": []}], "handle": null, "maker": null}"#,
        r#"{"size": 1, "colour": {"mixed": ["red"]}, "maker": {"name": "x"}, "at": [1, "x"], "weights": {"a": 1.5, "b": 2}}"#,
        r#"{"size": 1, "mark": "ä"}"#,
    ] {
        assert_eq!(mismatch_text(PAN, value), "", "{value}");
    }
    for (schema, value) in [
        ("true", "[1]"),
        ("{}", "null"),
        (r#"{"type": "integer"}"#, "1.0"),
        (r#"{"type": "number"}"#, "1"),
        (r#"{"const": 1}"#, "1.0"),
        (r#"{"unknown": 1, "pattern": "^x$", "type": "string"}"#, "\"y\""),
        (r#"{"type": "kind-of-a-later-draft"}"#, "1"),
        (r#"{"type": "string", "enum": ["a"], "nullable": true}"#, "null"),
        (r##"{"$ref": "#"}"##, "1"),
        (r##"{"$ref": "https://elsewhere"}"##, "1"),
        (r##"{"$ref": "#/$defs/nothing"}"##, "1"),
        (r#"{"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": false}"#, "{\"b\": 1}"),
    ] {
        assert_eq!(mismatch_text(schema, value), "", "{schema}: {value}");
    }
}

#[test]
fn a_mismatch_names_the_path_and_both_types() {
    for (value, expected) in [
        ("3", "it is a whole number, and has to be an object"),
        ("{}", "it lacks \"size\""),
        (r#"{"size": "1"}"#, "size is a text, and has to be a whole number"),
        (r#"{"size": 1.5}"#, "size is a number, and has to be a whole number"),
        (r#"{"size": -1}"#, "size is -1, and has to be at least 0"),
        (r#"{"size": 256}"#, "size is 256, and has to be at most 255"),
        (r#"{"size": 1, "colour": "green"}"#, "colour is \"green\", and has to be \"red\" or \"blue\""),
        (r#"{"size": 1, "colour": 3}"#, "colour is a whole number, and has to be a text or an object"),
        (r#"{"size": 1, "colour": {"mixed": [], "x": 1}}"#, "colour has \"x\", and may only have \"mixed\""),
        (r#"{"size": 1, "lids": [{"size": 1}, {"size": null}]}"#, "lids[1].size is null, and has to be a whole number"),
        (r#"{"size": 1, "maker": {}}"#, "maker lacks \"name\""),
        (r#"{"size": 1, "handle": []}"#, "handle is a list, and has to be null or a text"),
        (r#"{"size": 1, "at": [1]}"#, "at has 1 elements, and has to have at least 2"),
        (r#"{"size": 1, "at": ["x", 1]}"#, "at[0] is a text, and has to be a number"),
        (r#"{"size": 1, "weights": {"a b": "x"}}"#, "weights[\"a b\"] is a text, and has to be a number"),
        (r#"{"size": 1, "mark": "xy"}"#, "mark has 2 characters, and has to have at most 1"),
    ] {
        assert_eq!(mismatch_text(PAN, value), expected, "{value}");
    }
    assert_eq!(mismatch_text(r#"{"type": "array"}"#, "\"abc\""), "it is a text, and has to be a list");
    assert_eq!(
        mismatch_text(r#"{"type": "integer", "format": "int32"}"#, "3000000000"),
        "it is 3000000000, and has to be at most 2147483647"
    );
    assert_eq!(mismatch_text("false", "1"), "it must not be there");
}

#[test]
fn bytes_match_as_text_and_stored_values_are_not_checked() {
    let schema = |text: &str| Schema::new(&Json::parse(text).unwrap());
    let (text, list) = (schema(r#"{"type": "string"}"#), schema(r#"{"type": "array"}"#));
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.into());
    assert_eq!(text.mismatch(&bytes(b"abc")), None);
    assert_eq!(text.mismatch(&bytes(&[255])).unwrap().to_string(), "it is bytes, and has to be a text");
    assert_eq!(list.mismatch(&bytes(b"abc")).unwrap().to_string(), "it is a text, and has to be a list");
    let digest = crate::Digest::from_bytes([1; 32]);
    assert_eq!(list.mismatch(&Value::Stored(crate::Stored { digest, size: 1, form: crate::ValueKind::Bytes })), None);
}

#[test]
fn an_adversarial_schema_is_checked_in_bounded_time() {
    let mut nested = "{\"type\": \"object\"}".to_owned();
    for _ in 0..30 {
        nested = format!("{{\"anyOf\": [{nested}]}}");
    }
    assert_eq!(mismatch_text(&nested, "1"), "it is a whole number, and has to be an object");
    let itself = r##"{"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}"##;
    assert_eq!(mismatch_text(itself, "1"), "");
    assert!(Schema::new(&Json::parse(itself).unwrap()).view().types() == ValueTypes::ANY);
}

#[test]
fn alternatives_of_alternatives_that_all_fail_are_checked_in_bounded_time() {
    for (leaf, value) in [("false", "1"), (r#"{"type":"null"}"#, "1"), (r#"{"enum":[1,2,3]}"#, "4")] {
        let references = |level: usize| vec![format!("{{\"$ref\":\"#/$defs/{level}\"}}"); 2].join(",");
        let levels = (1..31).map(|level| format!(",\"{level}\":{{\"anyOf\":[{}]}}", references(level - 1)));
        let levels: String = levels.collect();
        let schema = format!("{{\"$ref\":\"#/$defs/30\",\"$defs\":{{\"0\":{leaf}{levels}}}}}");
        let schema = Schema::new(&Json::parse(schema).unwrap());
        let budget = Budget::new();
        // What is too expensive is accepted, and the elements of a list share the steps.
        let list = Value::Json(Json::parse(format!("[{}]", vec![value; 1_000].join(","))).unwrap());
        let list = ReadValue::new(&list, &budget);
        assert_eq!(schema.element_mismatch(&list, &budget), None, "{leaf}");
    }
}

/// A schema of alternatives of alternatives: 2^`levels` times the leaf.
fn nested_alternatives(levels: usize, leaf: &str) -> Schema {
    let reference = |level: usize| format!("{{\"$ref\":\"#/$defs/{level}\"}}");
    let level = |level: usize| format!(",\"{level}\":{{\"anyOf\":[{0},{0}]}}", reference(level - 1));
    let text: String = (1..=levels).map(level).collect();
    let schema = format!("{{\"$ref\":\"#/$defs/{levels}\",\"$defs\":{{\"0\":{leaf}{text}}}}}");
    Schema::new(&Json::parse(schema).unwrap())
}

/// The mismatch of a value, and the steps that finding it takes beside those of reading the value.
fn mismatch_and_steps(schema: &Schema, value: &Value) -> (Option<String>, usize) {
    let budget = Budget::new();
    let value = ReadValue::new(value, &budget);
    let before = budget.left();
    (schema.mismatch_within(&value, &budget).map(|mismatch| mismatch.to_string()), before - budget.left())
}

#[test]
fn a_large_text_costs_only_where_its_bytes_are_read() {
    let text = Value::json(&"x".repeat(64 << 10).into());
    // No alternative looks at the text: none counts its characters, and none shows it.
    let (mismatch, steps) = mismatch_and_steps(&nested_alternatives(8, r#"{"enum": [1]}"#), &text);
    assert_eq!(mismatch.as_deref(), Some("it is a text, and has to be a number"));
    assert!(steps < 10_000, "{steps}");
    // Each of these counts its characters.
    let (mismatch, steps) = mismatch_and_steps(&nested_alternatives(8, r#"{"minLength": 70000}"#), &text);
    assert!(mismatch.is_some());
    assert!((256 * 1_024..600_000).contains(&steps), "{steps}");
    let (mismatch, steps) = mismatch_and_steps(&nested_alternatives(18, r#"{"minLength": 70000}"#), &text);
    assert_eq!(mismatch, None, "it is accepted once the steps are spent");
    assert!(steps > 900_000, "{steps}");
    // Comparing it with a text of the same length costs too.
    let other = format!("{{\"enum\": [\"{}y\"]}}", "x".repeat((64 << 10) - 1));
    let (_, steps) = mismatch_and_steps(&nested_alternatives(4, &other), &text);
    assert!(steps > 16 * 1_024, "{steps}");
    let longer = format!("{{\"enum\": [\"{}y\"]}}", "x".repeat(64 << 10));
    let (_, steps) = mismatch_and_steps(&nested_alternatives(4, &longer), &text);
    assert!(steps < 1_000, "{steps}");
}

#[test]
fn a_long_reference_is_not_followed_and_a_short_one_costs_its_parts() {
    let schema = |pointer: &str| {
        let text = serde_json::json!({"$ref": pointer, "a": {"a": {"a": {"type": "null"}}}, "x~/y": {"type": "null"}});
        Schema::new(&Json::from(&text))
    };
    let value = Value::json(&1.into());
    let (mismatch, steps) = mismatch_and_steps(&schema("#/a/a/a"), &value);
    assert_eq!((mismatch.as_deref(), steps), (Some("it is a whole number, and has to be null"), 5));
    assert!(mismatch_and_steps(&schema("#/x~0~1y"), &value).0.is_some());
    // Nobody knows what it stands for, so it accepts everything, however long it is.
    for pointer in [format!("#/{}", "x".repeat(3 << 20)), format!("#{}", "/a".repeat(1 << 20)), "#/a/a/b".into()] {
        let (mismatch, steps) = mismatch_and_steps(&schema(&pointer), &value);
        assert_eq!(mismatch, None);
        assert!(steps < 10, "{steps}");
    }
}

#[test]
fn a_value_that_is_too_large_in_memory_is_not_read() {
    let schema = Schema::new(&Json::parse(r#"{"type": "null"}"#).unwrap());
    let objects = |count: usize| Value::Json(Json::parse(format!("[{}]", vec!["{\"\":0}"; count].join(","))).unwrap());
    assert!(mismatch_and_steps(&schema, &objects(10_000)).0.is_some());
    let budget = Budget::new();
    let read = ReadValue::new(&objects(200_000), &budget);
    assert!(matches!(read, ReadValue::Unknown), "its tree has over a hundred megabytes");
    assert!(budget.left() > 900_000, "and the steps are left for others: {}", budget.left());
    assert_eq!(schema.mismatch_within(&read, &budget), None);
}

#[test]
fn the_types_of_a_schema_are_found_in_bounded_time_for_each_part_of_it() {
    let alternatives = vec!["true"; 1_000_000].join(",");
    let schema = Schema::new(&Json::parse(format!("{{\"anyOf\": [{alternatives}], \"type\": \"null\"}}")).unwrap());
    let budget = Budget::new();
    assert_eq!(schema.view().types_by(&budget), ValueTypes::of(ValueType::Null));
    assert!(budget.left() > 980_000, "{}", budget.left());
    let names = vec!["\"null\""; 1_000_000].join(",");
    let schema = Schema::new(&Json::parse(format!("{{\"type\": [{names}]}}")).unwrap());
    assert_eq!(schema.types(), ValueTypes::ANY);
    // Most enumerations are short.
    let names: Vec<String> = (0..5_000).map(|number| format!("\"{number}\"")).collect();
    let schema = Schema::new(&Json::parse(format!("{{\"enum\": [{}]}}", names.join(","))).unwrap());
    assert_eq!(schema.types(), ValueTypes::of(ValueType::Text));
}

#[test]
fn the_problem_of_a_deep_part_is_explained_without_copies_of_its_path() {
    let long = "k".repeat(100_000);
    let value = Value::json(&serde_json::json!({(&long): {"a": [0, {"b": 1}]}}));
    let schema = r#"{"additionalProperties": {"properties": {"a": {"items": {"anyOf": [{"type": "integer"}, {"properties": {"b": {"type": "null"}}}]}}}}}"#;
    let mismatch = Schema::new(&Json::parse(schema).unwrap()).mismatch(&value).unwrap().to_string();
    let name = "k".repeat(200);
    assert_eq!(mismatch, format!("{name}….a[1].b is a whole number, and has to be null"));
}

#[test]
fn a_schema_lists_the_types_of_its_values() {
    for (schema, expected) in [
        (PAN, "an object"),
        (r#"{"type": ["integer", "null"]}"#, "null or a whole number"),
        (r#"{"enum": ["a", 1.5]}"#, "a number or a text"),
        (r#"{"anyOf": [{"type": "string"}, {"type": "array"}]}"#, "a text or a list"),
        (r#"{"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}"#, "a text"),
        (r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}"##, "true or false"),
        (r#"{"type": "string", "nullable": true}"#, "null or a text"),
        ("{}", "anything"),
    ] {
        assert_eq!(Schema::new(&Json::parse(schema).unwrap()).view().types().to_string(), expected, "{schema}");
    }
}
