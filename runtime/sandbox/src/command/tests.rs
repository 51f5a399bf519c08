//! Valid and invalid standard output of a program.

use super::*;

fn names(names: &[&str]) -> Vec<ValueName> {
    names.iter().map(|name| ValueName::new(name).unwrap()).collect()
}

#[test]
fn json_output_never_becomes_bytes() {
    let outputs = parse_outputs(
        br#"{"a":{"base64":"AP8="},"b":["dGVzdA=="],"c":"AP8=","$bytes":{"d":"AP8="}}"#,
        &names(&["a", "b", "c", "d"]),
    );
    let values = outputs.unwrap();
    let json = |text: &str| Value::Json(flow::Json::parse(text).unwrap());
    assert_eq!(values["a"], json(r#"{"base64":"AP8="}"#));
    assert_eq!(values["b"], json(r#"["dGVzdA=="]"#));
    assert_eq!(values["c"], json(r#""AP8=""#));
    assert_eq!(values["d"], Value::Bytes([0, 255].into()));
}

#[test]
fn a_program_cannot_return_a_reference_into_the_store() {
    let reference = format!(r#"{{"digest":"sha256:{}","size":1,"form":"json"}}"#, "0".repeat(64));
    let in_band = parse_outputs(format!(r#"{{"a":{reference}}}"#).as_bytes(), &names(&["a"])).unwrap();
    assert_eq!(in_band["a"], Value::Json(flow::Json::parse(reference.as_str()).unwrap()));
    let stored = format!(r#"{{"$stored":{{"a":{reference}}}}}"#);
    let failure = parse_outputs(stored.as_bytes(), &names(&["a"])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidOutput);
    assert!(failure.message.contains("\"a\": a reference into the store cannot be given"), "{failure}");
}

#[test]
fn ambiguous_json_outputs_are_rejected() {
    for text in [&br#"{"a":{"x":1,"x":2}}"#[..], br#"{"a":1,"$bytes":{"a":""}}"#, br#"{"a":1,"a":1}"#] {
        let failure = parse_outputs(text, &names(&["a"])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidOutput, "{failure}");
        assert!(failure.message.contains("twice"), "{failure}");
    }
}

#[test]
fn undeclared_outputs_are_dropped_after_a_name_check() {
    assert_eq!(parse_outputs(br#"{"crumbs": 1}"#, &[]), Ok(Values::new()));
    let failure = parse_outputs(br#"{"a pan": 1}"#, &[]).unwrap_err();
    assert!(failure.message.contains("\"a pan\" is not a name"), "{failure}");
}

#[test]
fn each_of_many_outputs_is_looked_up_once_among_many_names() {
    let declared: Vec<ValueName> = (0..1_000).map(|index| ValueName::new(format!("n{index}")).unwrap()).collect();
    let members: Vec<String> = (0..100_000).map(|index| format!("\"n{index}\":{index}")).collect();
    let values = parse_outputs(format!("{{{}}}", members.join(",")).as_bytes(), &declared).unwrap();
    assert!(values.keys().eq(declared.iter().collect::<BTreeSet<_>>()));
    assert_eq!(values["n999"], Value::Json(flow::Json::parse("999").unwrap()));
}

#[test]
fn a_failure_names_a_few_of_many_invalid_outputs() {
    let members: Vec<String> = (0..100_000).map(|index| format!("\"a {index}\":1")).collect();
    let failure = parse_outputs(format!("{{{}}}", members.join(",")).as_bytes(), &[]).unwrap_err();
    assert_eq!(failure.message.matches(" is not a name").count(), MAX_INVALID_NAMES);
    assert!(failure.message.contains("\"a 15\" is not a name"), "{failure}");
}

#[test]
fn invalid_utf_8_output_reports_its_position() {
    let failure = parse_outputs(b"{\"a\xff\": 1}", &[]).unwrap_err();
    assert_eq!(failure, invalid("its standard output is not UTF-8 from byte 3 on"));
}

#[test]
fn a_silent_failure_reports_its_status() {
    assert_eq!(
        failure(1, " \n"),
        Failure::new(FailureKind::Transient, "it exited with status 1 and wrote nothing to standard error")
    );
}
