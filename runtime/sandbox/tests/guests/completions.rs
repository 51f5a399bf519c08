//! A guest's answer is checked, and its output reaches the observer.

use std::sync::Arc;

use flow::{Failure, FailureKind, FailureSummary, Outcome, Values};
use sandbox::{Action, Call, Completion, Level};

use crate::support::{
    Content, Image, RecordingObserver, assert_failure, bytes, call, compile, failure, guest, json, report, requiring,
    sandbox, text, values,
};

/// A guest that returns these values.
fn returning(values: &[(&str, Content<'_>)]) -> Vec<u8> {
    let mut image = Image::new();
    let at = image.success(values);
    guest(&image, "", &format!("(i32.const {at})"))
}

/// A guest that reports its own failure.
fn failing(retryable: u8, message: &str, details: Option<&str>) -> Vec<u8> {
    let mut image = Image::new();
    let at = image.failure(retryable, message, details);
    guest(&image, "", &format!("(i32.const {at})"))
}

#[tokio::test]
async fn declared_outputs_are_returned_verbatim_and_others_dropped() {
    let core = returning(&[
        ("pan", Content::Json(" {\"cm\": 12345678901234567890} ")),
        ("dough", Content::Bytes(&[0, 255])),
        ("crumbs", Content::Json("not JSON, but not required")),
    ]);
    let completion = report(&core, requiring(&["pan", "dough"])).await.completion;
    let expected = values([("pan", json(" {\"cm\": 12345678901234567890} ")), ("dough", bytes(&[0, 255]))]);
    assert_eq!(completion, Completion::Succeeded(expected));
}

#[tokio::test]
async fn a_missing_output_is_named() {
    let core = returning(&[("pan", Content::Json("1"))]);
    let failure = failure(&core, requiring(&["pan", "dough", "icing"])).await;
    let expected = ["it did not return the required outputs dough, icing; it returned pan"];
    assert_failure(&failure, FailureKind::InvalidOutput, &expected);
}

#[tokio::test]
async fn an_invalid_json_output_reports_its_position() {
    let core = returning(&[("pan", Content::Json("{\"cm\": }"))]);
    let failure = failure(&core, requiring(&["pan"])).await;
    let expected = ["the returned value pan is not a JSON value", "line 1 column 8"];
    assert_failure(&failure, FailureKind::InvalidOutput, &expected);
}

#[tokio::test]
async fn invalid_and_duplicate_names_are_rejected() {
    let none = failure(&returning(&[("a pan", Content::Json("1"))]), call()).await;
    assert_failure(&none, FailureKind::InvalidOutput, &["it returned a value whose name \"a pan\" is not a name"]);
    let twice = returning(&[("pan", Content::Json("1")), ("pan", Content::Json("2"))]);
    assert_failure(&failure(&twice, call()).await, FailureKind::InvalidOutput, &["it returned the value pan twice"]);
}

#[tokio::test]
async fn a_guests_own_failure_keeps_its_kind_message_and_details() {
    let transient = failure(&failing(0, "the oven is cold", Some("{\"celsius\": 20}")), call()).await;
    let details = match json("{\"celsius\": 20}") {
        flow::Value::Json(details) => Some(details),
        flow::Value::Bytes(_) | flow::Value::Stored(_) => None,
    };
    assert_eq!(transient, Failure { details, ..Failure::new(FailureKind::Transient, "the oven is cold") });
    let permanent = failure(&failing(1, "there is no oven", None), call()).await;
    assert_eq!(permanent, Failure::new(FailureKind::Permanent, "there is no oven"));
}

#[tokio::test]
async fn invalid_failure_details_are_dropped_with_a_reason() {
    let failure = failure(&failing(0, "the oven is cold", Some("20°")), call()).await;
    assert_failure(&failure, FailureKind::Transient, &["the oven is cold [its details are dropped: not a JSON value"]);
    assert_eq!(failure.details, None);
}

#[tokio::test]
async fn a_trap_reports_cause_and_backtrace() {
    let fields = "(func $divide (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))";
    let failure = failure(&guest(&Image::new(), fields, "(call $divide (i32.const 0))"), call()).await;
    assert_failure(&failure, FailureKind::Trap, &["integer divide by zero, in divide, called by apply"]);
}

#[tokio::test]
async fn a_panic_reports_its_message() {
    let mut image = Image::new();
    let panic = "\nthread 'main' panicked at src/lib.rs:7:5:\nthe oven is on fire\nnote: run with more\n";
    let at = image.put(panic.as_bytes());
    let fields = r#"(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        "(i32.store (i32.const 0) (i32.const {at})) (i32.store (i32.const 4) (i32.const {}))
         (drop (call $w (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))
         unreachable",
        panic.len()
    );
    let report = report(&guest(&image, fields, &body), call()).await;
    assert_eq!(text(&report.stderr), panic);
    let Completion::Failed(failure) = report.completion else { panic!("it trapped") };
    let expected = ["thread 'main' panicked at src/lib.rs:7:5: the oven is on fire (", "unreachable"];
    assert_failure(&failure, FailureKind::Trap, &expected);
}

#[tokio::test]
async fn a_guest_that_exits_has_no_result() {
    let fields = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let failure = failure(&guest(&Image::new(), fields, "(call $exit (i32.const 0)) unreachable"), call()).await;
    assert_failure(&failure, FailureKind::Trap, &["it exited with status 0 and returned no result"]);
}

#[tokio::test]
async fn log_lines_and_progress_are_observed_and_captured() {
    let mut image = Image::new();
    let line = image.put(b"the pan is warm");
    let fine = image.success(&[]);
    let fields = r#"(import "waft:task/host@1.0.0" "log" (func $log (param i32 i32 i32)))
        (import "waft:task/host@1.0.0" "progress" (func $progress (param f64 i32 i32)))"#;
    let body = format!(
        "(call $log (i32.const 3) (i32.const {line}) (i32.const 15))
         (call $progress (f64.const 0.5) (i32.const {line}) (i32.const 7))
         (call $progress (f64.const 7) (i32.const {line}) (i32.const 0))
         (i32.const {fine})"
    );
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &guest(&image, fields, &body)).await;
    let observer = Arc::new(RecordingObserver::default());
    let report = sandbox.call(&compiled, call(), observer.clone()).await;
    assert_eq!(observer.lines(), ["warn: the pan is warm", "0.5: the pan", "1: "]);
    let log: Vec<_> = report.log.iter().map(|line| (line.level, line.message.as_str())).collect();
    assert_eq!(log, [(Level::Warn, "the pan is warm")]);
}

#[tokio::test]
async fn a_rollback_returns_nothing() {
    let rollback = |outcome| Call {
        action: Action::Rollback { outcome, failures: FailureSummary::default() },
        required_outputs: requiring(&["pan"]).required_outputs,
        ..call()
    };
    let core = guest(&Image::new(), "", "unreachable");
    for outcome in [
        Outcome::Provided(values([("pan", json("1"))])),
        Outcome::Failed(Failure::new(FailureKind::Timeout, "too slow")),
        Outcome::Unknown,
    ] {
        assert_eq!(report(&core, rollback(outcome)).await.completion, Completion::Succeeded(Values::new()));
    }
}

#[tokio::test]
async fn inputs_arrive() {
    // Returns the bytes of its one input: the input list is the second to last parameter of apply.
    let mut image = Image::new();
    let at = image.success(&[("copy", Content::At(0, 0))]);
    // The element's content is at offset 12; the result's list is at offset 4.
    let body = format!(
        "(local.set $i (i32.load offset=4 (i32.const {at})))
         (i32.store offset=12 (local.get $i) (i32.load offset=12 (local.get 13)))
         (i32.store offset=16 (local.get $i) (i32.load offset=16 (local.get 13)))
         (i32.const {at})"
    );
    let call = Call { inputs: values([("batter", bytes(b"900 ml"))]), ..requiring(&["copy"]) };
    let completion = report(&guest(&image, "", &body), call).await.completion;
    assert_eq!(completion, Completion::Succeeded(values([("copy", bytes(b"900 ml"))])));
}
