//! What `#[task]`, `#[rollback]` and `#[derive(Provides)]` create from functions: descriptions and calls.

use serde_json::json;
use waft_guest::{
    __private::{Content, Entry, Inputs, RollbackCall, Task, TaskInfo, Value},
    Retryable,
    prelude::*,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Pan {
    size_cm: u32,
}

/// serde writes it in another form than it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Sticker {
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(rename(serialize = "label", deserialize = "text"))]
    text: String,
}

#[task(provides = "printed")]
fn print_sticker(sticker: Sticker) -> Sticker {
    sticker
}

/// No schema: it does not implement `JsonSchema`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lid(String);

/// Chooses a pan for the given amount of batter.
///
/// The smallest one that holds it.
#[task(
    provides = "pan",
    rollback = put_back,
    retry(attempts = 3, backoff = "fixed", initial = "200ms", jitter = false),
    timeout = "30s",
    memory = "16MiB",
)]
fn choose_pan(
    /// How much batter there is,
    /// in millilitres.
    batter_ml: u32,
    shelf: Option<String>,
) -> Result<Pan, Failure> {
    if batter_ml > 5_000 {
        return Err(Failure::permanent("no pan is that large").with_details(json!({"largest": 5_000})));
    }
    Ok(Pan { size_cm: 20 + batter_ml / 100 + u32::from(shelf.is_some()) })
}

fn put_back(call: &Call, pan: Outcome<Pan>, failures: Failures) -> Result<(), Failure> {
    let description = match pan {
        Outcome::Provided(pan) => format!("pan of {}", pan.size_cm),
        Outcome::Failed(failure) => failure.to_string(),
        Outcome::Unknown => "unknown".into(),
    };
    let failed: Vec<&str> = failures.keys().map(String::as_str).collect();
    Err(Failure::permanent(format!(
        "{} attempt {}: {description}; failed: {}",
        call.task,
        call.attempt,
        failed.join(" ")
    )))
}

/// Borrows what it takes, provides a tuple.
#[task(provides = ["upper", "bytes"], rollback = undo::forget)]
fn shout(text: &str, raw: &[u8], lids: &[Lid], call: &Call) -> (String, Vec<u8>) {
    (format!("{} {} {}", text.to_uppercase(), lids.len(), call.run), raw.into())
}

mod undo {
    use super::*;

    #[rollback]
    pub(crate) fn forget(
        text: &str,
        /// Whom to notify.
        recipient: Option<String>,
        outcome: Outcome<(String, Vec<u8>)>,
        failures: &Failures,
    ) -> Result<(), Failure> {
        Err(Failure::transient(format!("{text} {recipient:?} {outcome:?} {}", failures.len())))
    }
}

#[derive(Debug, Provides)]
struct Halves {
    /// All up to the middle.
    first: String,
    second: Bytes,
}

#[task(provides = fields, rollback = join)]
fn r#halve(r#type: String) -> Result<Halves, std::num::ParseIntError> {
    let middle: usize = r#type.parse()?;
    Ok(Halves { first: r#type.clone(), second: vec![7; middle].into() })
}

#[rollback]
fn join(halves: Outcome<Halves>) -> Result<(), Failure> {
    Err(Failure::permanent(format!("{halves:?}")))
}

#[task(rollback = nothing)]
fn pause() {}

fn nothing() -> Result<(), Failure> {
    Ok(())
}

waft_guest::export!(choose_pan, shout, self::halve, crate::pause);

fn json_value(name: &str, text: &str) -> Value {
    Value { name: name.into(), content: Content::Json(text.into()) }
}

fn bytes_value(name: &str, bytes: &[u8]) -> Value {
    Value { name: name.into(), content: Content::Bytes(bytes.into()) }
}

fn apply<T: Task>(values: impl IntoIterator<Item = Value>) -> Result<Vec<Value>, Failure> {
    T::apply(&Call::default(), Inputs::new(values))
}

/// Rolls back and returns the message of the failure, in which the rollbacks here describe their arguments.
fn rollback_message<T: Task>(values: Vec<Value>, outcome: Outcome<Inputs>, failures: Failures) -> String {
    let rollback = RollbackCall { inputs: Inputs::new(values), outcome, failures };
    T::rollback(&Call::default(), rollback).expect_err("the rollbacks here always fail").message().into()
}

#[test]
fn a_task_describes_its_name_doc_parameters_and_limits() {
    let info: TaskInfo = choose_pan::info();
    assert_eq!(info.name, "choose-pan");
    assert_eq!(info.doc, "Chooses a pan for the given amount of batter.\n\nThe smallest one that holds it.");
    let requires: Vec<_> = info.requires.iter().map(|value| (value.name, value.doc, value.optional)).collect();
    assert_eq!(requires, [("batter_ml", "How much batter there is,\nin millilitres.", false), ("shelf", "", true)]);
    assert_eq!(info.provides[0].name, "pan");
    assert_eq!(info.rollback, Some(vec![]));
    let retry = info.retry.unwrap();
    assert_eq!((retry.attempts, retry.initial_milliseconds, retry.max_milliseconds), (3, 200, 60_000));
    assert!(!retry.jitter);
    assert_eq!(info.limits.timeout_milliseconds, Some(30_000));
    assert_eq!(info.limits.memory_bytes, Some(16 << 20));
}

#[test]
fn types_that_implement_it_have_a_schema() {
    let pan = choose_pan::info().provides[0].schema.clone().unwrap();
    let pan: serde_json::Value = serde_json::from_str(&pan).unwrap();
    assert_eq!(pan["type"], "object");
    assert_eq!(pan["properties"]["size_cm"]["type"], "integer");
    let schemas: Vec<bool> = shout::info().requires.iter().map(|value| value.schema.is_some()).collect();
    assert_eq!(schemas, [true, false, false], "text has one; bytes and a list of lids have none");
}

#[test]
fn the_schema_of_a_provided_value_is_that_of_what_is_written() {
    let required = |schema: &Option<String>| {
        let schema: serde_json::Value = serde_json::from_str(schema.as_ref().unwrap()).unwrap();
        let mut names: Vec<String> = serde_json::from_value(schema["required"].clone()).unwrap();
        names.sort();
        names
    };
    let info = print_sticker::info();
    assert_eq!(required(&info.requires[0].schema), ["note", "text"]);
    assert_eq!(required(&info.provides[0].schema), ["label"]);
}

#[test]
fn a_function_with_the_attribute_is_still_that_function() {
    assert_eq!(choose_pan(900, None), Ok(Pan { size_cm: 29 }));
    pause();
}

#[test]
fn inputs_are_read_by_name_and_the_value_provided() {
    let provided = apply::<choose_pan>([json_value("batter_ml", "900"), json_value("shelf", "null")]).unwrap();
    assert_eq!(provided, [json_value("pan", r#"{"size_cm":29}"#)]);
    let provided = apply::<choose_pan>([json_value("batter_ml", "900"), json_value("shelf", "\"top\"")]).unwrap();
    assert_eq!(provided, [json_value("pan", r#"{"size_cm":30}"#)]);
}

#[test]
fn text_and_bytes_are_converted() {
    let lids = || json_value("lids", r#"["a","b"]"#);
    let expected = [json_value("upper", "\"ÄH 2 run\""), bytes_value("bytes", "ö".as_bytes())];
    let inputs = [bytes_value("text", "äh".as_bytes()), json_value("raw", " \"ö\""), lids()];
    assert_eq!(apply::<shout>(inputs).unwrap(), expected);
    let inputs = [json_value("text", "\"äh\""), bytes_value("raw", "ö".as_bytes()), lids()];
    assert_eq!(apply::<shout>(inputs).unwrap(), expected);
    let numbers = [json_value("text", "\"äh\""), json_value("raw", "[195,182]"), lids()];
    assert_eq!(apply::<shout>(numbers).unwrap(), expected);
}

#[test]
fn an_input_of_another_type_is_a_permanent_failure() {
    let failed = |value: Option<Value>| apply::<choose_pan>(value).unwrap_err();
    let long = format!("\"{}\"", "x".repeat(100));
    let cut = format!("\"{}…", "x".repeat(79));
    for (input, expected) in [
        (None, "the input \"batter_ml\", a u32, is missing".to_owned()),
        (
            Some(json_value("batter_ml", "-3")),
            "the input \"batter_ml\" should be a u32 and is -3: invalid value: integer `-3`, expected u32 at line 1 column 2"
                .to_owned(),
        ),
        (
            Some(json_value("batter_ml", &long)),
            format!(
                "the input \"batter_ml\" should be a u32 and is {cut}: invalid type: string {long}, expected u32 at line 1 column 102"
            ),
        ),
        (
            Some(bytes_value("batter_ml", b"900")),
            "the input \"batter_ml\" should be a u32 and is the text \"900\": invalid type: string \"900\", expected u32"
                .to_owned(),
        ),
        (
            Some(bytes_value("batter_ml", &[0xff; 9])),
            "the input \"batter_ml\" should be a u32 and is 9 bytes that are not UTF-8".to_owned(),
        ),
    ] {
        let failure = failed(input);
        assert_eq!((failure.retryable(), failure.message()), (Retryable::Permanent, expected.as_str()));
    }
}

#[test]
fn a_tasks_own_failure_keeps_its_details_and_an_error_is_transient() {
    let failure = apply::<choose_pan>([json_value("batter_ml", "6000")]).unwrap_err();
    assert_eq!(failure.retryable(), Retryable::Permanent);
    assert_eq!(failure.details(), Some(&json!({"largest": 5_000})));
    let failure = apply::<halve>([json_value("type", "\"x\"")]).unwrap_err();
    assert_eq!((failure.retryable(), failure.message()), (Retryable::Transient, "invalid digit found in string"));
}

#[test]
fn the_fields_of_a_struct_are_values_with_their_docs() {
    let provides = halve::info().provides;
    let docs: Vec<_> = provides.iter().map(|value| (value.name, value.doc)).collect();
    assert_eq!(docs, [("first", "All up to the middle."), ("second", "")]);
    let provided = apply::<halve>([json_value("type", "\"3\"")]).unwrap();
    assert_eq!(provided, [json_value("first", "\"3\""), bytes_value("second", &[7, 7, 7])]);
    let message = rollback_message::<halve>(vec![], Outcome::Provided(Inputs::provided(provided)), Failures::default());
    assert_eq!(message, "Provided(Halves { first: \"3\", second: 3 bytes })");
}

#[test]
fn a_rollback_without_the_attribute_takes_arguments_by_type() {
    let recorded = RecordedFailure { kind: FailureKind::Trap, message: "it panicked".into(), details: None };
    let failures: Failures = [("bake".to_owned(), recorded.clone())].into_iter().collect();
    let provided = Inputs::provided([json_value("pan", r#"{"size_cm":29}"#)]);
    for (outcome, expected) in [
        (Outcome::Provided(provided), "task attempt 1: pan of 29; failed: bake"),
        (Outcome::Failed(recorded), "task attempt 1: trap: it panicked; failed: bake"),
        (Outcome::Unknown, "task attempt 1: unknown; failed: bake"),
    ] {
        assert_eq!(rollback_message::<choose_pan>(vec![], outcome, failures.clone()), expected);
    }
}

#[test]
fn a_rollback_with_the_attribute_takes_inputs_by_name_and_describes_its_own() {
    let requires = shout::info().rollback.unwrap();
    let requires: Vec<_> = requires.iter().map(|value| (value.name, value.doc, value.optional)).collect();
    assert_eq!(requires, [("recipient", "Whom to notify.", true)], "text is the task's own");
    let provided = Inputs::provided([json_value("upper", "\"X\""), bytes_value("bytes", &[1])]);
    let inputs = vec![json_value("text", "\"x\""), json_value("recipient", "\"me\"")];
    let message = rollback_message::<shout>(inputs, Outcome::Provided(provided), Failures::default());
    assert_eq!(message, "x Some(\"me\") Provided((\"X\", [1])) 0");
}

#[test]
fn a_provided_value_that_does_not_fit_fails_the_rollback() {
    let provided = Inputs::provided([json_value("pan", "7")]);
    let message = rollback_message::<choose_pan>(vec![], Outcome::Provided(provided), Failures::default());
    assert!(message.starts_with("the provided value \"pan\" should be a Pan and is 7: "), "{message}");
}

#[test]
fn a_rollback_may_take_nothing() {
    let rollback = RollbackCall { inputs: Inputs::new([]), outcome: Outcome::Unknown, failures: Failures::default() };
    assert_eq!(pause::rollback(&Call::default(), rollback), Ok(()));
}

#[test]
fn a_task_is_found_by_its_name_in_the_module() {
    let tasks = [Entry::of::<choose_pan>(), Entry::of::<pause>()];
    assert_eq!(Entry::find(&tasks, "pause").unwrap().info().name, "pause");
    let failure = Entry::find(&tasks, "choose_pan").unwrap_err();
    assert_eq!(failure.message(), "this module has no task \"choose_pan\"");
}
