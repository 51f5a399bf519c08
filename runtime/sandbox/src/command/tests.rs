//! What a program's standard output may hold.

use super::*;

fn names(names: &[&str]) -> Vec<ValueName> {
    names.iter().map(|name| ValueName::new(name).unwrap()).collect()
}

#[test]
fn bytes_are_an_object_with_base64_alone() {
    let left = answered(
        br#"{"a":{"base64":"AP8="},"b":{"base64":"AP8=","more":1},"c":{"base64":"?"}}"#,
        &names(&["a", "b", "c"]),
    );
    let values = left.unwrap();
    assert_eq!(values["a"], Value::Bytes([0, 255].into()));
    assert!(matches!(values["b"], Value::Json(_)));
    assert!(matches!(values["c"], Value::Json(_)));
}

#[test]
fn outputs_that_nobody_was_promised_are_dropped_and_names_are_checked_all_the_same() {
    assert_eq!(answered(br#"{"crumbs": 1}"#, &[]), Ok(Values::new()));
    let failure = answered(br#"{"a pan": 1}"#, &[]).unwrap_err();
    assert!(failure.message.starts_with("it left a value whose name \"a pan\" is not a name"), "{failure}");
}

#[test]
fn output_that_is_not_utf_8_is_refused_with_the_place() {
    let failure = answered(b"{\"a\xff\": 1}", &[]).unwrap_err();
    assert_eq!(failure, invalid("its standard output is not UTF-8 from byte 3 on"));
}

#[test]
fn a_failure_without_words_tells_its_status() {
    assert_eq!(
        failure(1, " \n"),
        Failure::new(FailureKind::Transient, "it exited with status 1 and wrote nothing to standard error")
    );
}
