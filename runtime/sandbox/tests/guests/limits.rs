//! Each limit ends a call as its own kind of failure, and the message names limit and use.

use std::time::Duration;

use flow::{FailureKind, FailureSummary, Limits, Outcome};
use sandbox::{Action, Call, Completion, Module, ModuleError};

use crate::support::{
    Content, Image, assert_failure, call, failure, guest, json, limited, program, report, requiring, values,
};

/// A guest that requests 16 MiB repeatedly until that is denied, and then runs `then`.
fn growing(image: &Image, then: &str) -> Vec<u8> {
    guest(image, "", &format!("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 256)) (i32.const -1)))) {then}"))
}

const WASI_SLEEP: &str =
    r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;

/// One subscription at 0: the monotonic clock, an hour.
const SLEEP_AN_HOUR: &str = "
    (i32.store8 (i32.const 8) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";

#[tokio::test]
async fn a_busy_loop_ends_at_its_timeout() {
    let spinning = guest(&Image::new(), "", "(loop $l (br $l)) unreachable");
    let limits = Limits { timeout: Duration::from_millis(60), ..Limits::default() };
    let failure = failure(&spinning, limited(limits)).await;
    assert_failure(&failure, FailureKind::Timeout, &["it had run for ", "the limit is 60ms"]);
}

#[tokio::test]
async fn a_limit_above_the_maximum_fails_the_call() {
    let image = guest(&Image::new(), "", "unreachable");
    let limits = Limits { memory: 2 << 30, timeout: Duration::from_secs(60), ..Limits::default() };
    let failure = failure(&image, limited(limits)).await;
    let says = "it is not called: its memory of 2GiB is above the maximum here, 1GiB";
    assert_failure(&failure, FailureKind::Module, &[says]);
    // What was applied under a higher maximum can still be rolled back, within the lower one.
    let action = Action::Rollback { outcome: Outcome::Unknown, failures: FailureSummary::default() };
    let completion = report(&image, Call { action, ..limited(limits) }).await.completion;
    assert!(!format!("{completion:?}").contains("it is not called"), "{completion:?}");
}

#[tokio::test]
async fn a_sleep_ends_at_the_timeout_too() {
    let sleeping = guest(&Image::new(), WASI_SLEEP, &format!("{SLEEP_AN_HOUR} unreachable"));
    let limits = Limits { timeout: Duration::from_millis(60), ..Limits::default() };
    let failure = failure(&sleeping, limited(limits)).await;
    assert_failure(&failure, FailureKind::Timeout, &["it had run for ", "the limit is 60ms"]);
}

#[tokio::test]
async fn a_trap_after_denied_memory_is_a_memory_failure() {
    let failure = failure(&growing(&Image::new(), "unreachable"), call()).await;
    let expected = ["it requested 65600KiB of memory in total, the limit is 64MiB", "then it trapped", "unreachable"];
    assert_failure(&failure, FailureKind::Memory, &expected);
}

#[tokio::test]
async fn a_failure_after_denied_memory_is_a_memory_failure() {
    let mut image = Image::new();
    let result = image.failure(0, "no room to bake", None);
    let failure = failure(&growing(&image, &format!("(i32.const {result})")), call()).await;
    let expected = ["it requested 65600KiB of memory in total, the limit is 64MiB", "then it failed: no room to bake"];
    assert_failure(&failure, FailureKind::Memory, &expected);
}

#[tokio::test]
async fn a_guest_may_succeed_after_denied_memory() {
    let mut image = Image::new();
    let fine = image.success(&[("pan", Content::Json("1"))]);
    let report = report(&growing(&image, &format!("(i32.const {fine})")), requiring(&["pan"])).await;
    assert_eq!(report.completion, Completion::Succeeded(values([("pan", json("1"))])));
    assert_eq!(report.stats.memory, (48 << 20) + (64 << 10), "only granted memory counts");
}

#[tokio::test]
async fn memories_are_summed() {
    let image = Image::new();
    let fields = "(memory $other 1)";
    let body = "(drop (memory.grow $other (i32.const 512))) (drop (memory.grow (i32.const 512))) unreachable";
    let failure = failure(&guest(&image, fields, body), call()).await;
    assert_failure(&failure, FailureKind::Memory, &["it requested 65664KiB of memory in total, the limit is 64MiB"]);
}

#[tokio::test]
async fn an_initial_memory_beyond_the_limit_is_denied() {
    let image = Image::new();
    let failure =
        failure(&guest(&image, "", "unreachable"), limited(Limits { memory: 1 << 10, ..Limits::default() })).await;
    assert_failure(&failure, FailureKind::Memory, &["it requested 64KiB of memory in total, the limit is 1KiB"]);
}

#[tokio::test]
async fn tables_are_limited() {
    let fields = "(table $t 10 funcref)";
    let body = "(drop (table.grow $t (ref.null func) (i32.const 2000000))) unreachable";
    let failure = failure(&guest(&Image::new(), fields, body), call()).await;
    assert_failure(
        &failure,
        FailureKind::Memory,
        &["it requested 2000010 table elements in total, the limit is 100000"],
    );
}

#[tokio::test]
async fn instances_are_limited() {
    let image = Image::new();
    let with_adapter = guest(&image, WASI_SLEEP, &format!("{SLEEP_AN_HOUR} unreachable"));
    let failure = failure(&with_adapter, limited(Limits { instances: 2, ..Limits::default() })).await;
    let expected = ["its instance count too high at 3", "the limit is 2 core instances, memories and tables, each"];
    assert_failure(&failure, FailureKind::Memory, &expected);
}

/// A guest that recurses `depth` times, then succeeds.
fn recursive(depth: u32) -> Vec<u8> {
    let mut image = Image::new();
    let fine = image.success(&[]);
    let fields = "
        (func $down (param i32) (result i32)
            (if (result i32) (i32.eqz (local.get 0))
                (then (i32.const 0))
                (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))";
    guest(&image, fields, &format!("(drop (call $down (i32.const {depth}))) (i32.const {fine})"))
}

#[tokio::test]
async fn an_exhausted_stack_is_a_trap_that_names_its_limit() {
    let failure = failure(&recursive(u32::MAX), call()).await;
    assert_failure(
        &failure,
        FailureKind::Trap,
        &["its call stack is exhausted, the limit is 512KiB", "in down, called by down"],
    );
}

#[tokio::test]
async fn a_call_can_request_a_larger_stack() {
    let deep = recursive(40_000);
    let small = failure(&deep, call()).await;
    assert_failure(&small, FailureKind::Trap, &["the limit is 512KiB"]);
    let larger = report(&deep, limited(Limits { stack: 6 << 20, ..Limits::default() })).await;
    assert_eq!(larger.completion, Completion::Succeeded(values([])));
}

#[tokio::test]
async fn values_and_their_names_are_summed_against_the_limit_of_outputs() {
    let mut image = Image::new();
    let large = image.success(&[("pan", Content::At(0, 600)), ("dough", Content::At(0, 600))]);
    let core = guest(&image, "", &format!("(i32.const {large})"));
    let limits = |output| Limits { output, ..Limits::default() };
    let failure = failure(&core, limited(limits(1207))).await;
    assert_failure(
        &failure,
        FailureKind::OutputLimit,
        &["it returned 1208 bytes of values and names, the limit is 1207B"],
    );
    assert_eq!(report(&core, limited(limits(1208))).await.completion, Completion::Succeeded(values([])));
}

#[tokio::test]
async fn a_guest_cannot_force_large_host_allocations() {
    // A thousand values whose names of 24 KiB share one address.
    let mut image = Image::new();
    let overlapping = image.result_of_list(40_960, 1_000);
    let body = format!(
        "(local.set $i (i32.const 40960))
         (loop $l
            (i32.store (local.get $i) (i32.const 8192))
            (i32.store offset=4 (local.get $i) (i32.const 0x6000))
            (local.set $i (i32.add (local.get $i) (i32.const 20)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 60960))))
         (i32.const {overlapping})"
    );
    let overlapping = guest(&image, "", &body);
    let failure = failure(&overlapping, limited(Limits { output: 1 << 10, ..Limits::default() })).await;
    let expected = ["it passed more data at once than values of 1KiB need, the limit is 1KiB"];
    assert_failure(&failure, FailureKind::OutputLimit, &expected);
}

#[tokio::test]
async fn outputs_may_be_larger_than_what_an_import_gets_at_once() {
    let limits = Limits { output: 64 << 20, memory: 128 << 20, ..Limits::default() };
    let (size, call) = (34 << 20, Call { limits, ..requiring(&["cake"]) });
    let mut image = Image::new();
    let large = image.success(&[("cake", Content::At(1 << 20, size))]);
    let fields = r#"(import "waft:task/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#;
    let grown = "(drop (memory.grow (i32.const 1024)))";
    let returning = guest(
        &image,
        fields,
        &format!("{grown} (call $log (i32.const 2) (i32.const 0) (i32.const 1)) (i32.const {large})"),
    );
    let Completion::Succeeded(values) = report(&returning, call.clone()).await.completion else {
        panic!("it may return as much")
    };
    assert_eq!(values.values().map(flow::Value::size).sum::<usize>(), size as usize);
    let logging = guest(
        &image,
        fields,
        &format!("{grown} (call $log (i32.const 2) (i32.const 1048576) (i32.const {size})) (i32.const {large})"),
    );
    let failure = failure(&logging, call).await;
    let expected = ["it passed more data at once to a function of the host than its limit of 33MiB"];
    assert_failure(&failure, FailureKind::OutputLimit, &expected);
}

#[tokio::test]
async fn a_guest_that_logs_beyond_the_limit_is_stopped() {
    let mut image = Image::new();
    let line = image.put(b"ninety-nine");
    let fine = image.success(&[]);
    let fields = r#"(import "waft:task/host@1.0.0" "log" (func $log (param i32 i32 i32)))"#;
    let body = format!(
        "(local.set $i (i32.const 100))
         (loop $l
            (call $log (i32.const 2) (i32.const {line}) (i32.const 11))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br_if $l (local.get $i)))
         (i32.const {fine})"
    );
    let limits = Limits { log: 100, ..Limits::default() };
    let failure = failure(&guest(&image, fields, &body), limited(limits)).await;
    let expected = ["it had logged and printed 129 bytes when it was stopped, the limit is 100B"];
    assert_failure(&failure, FailureKind::OutputLimit, &expected);
}

#[tokio::test]
async fn a_guest_that_prints_beyond_the_limit_is_stopped() {
    let mut image = Image::new();
    let fine = image.success(&[]);
    let fields = r#"(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 6))
         (i64.store (i32.const 8) (i64.const 0x0a6f6c6c6568))
         (local.set $i (i32.const 10))
         (loop $l
            (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br_if $l (local.get $i)))
         (i32.const {fine})"
    );
    let failure = failure(&guest(&image, fields, &body), limited(Limits { log: 9, ..Limits::default() })).await;
    let expected = ["it had logged and printed 12 bytes when it was stopped, the limit is 9B"];
    assert_failure(&failure, FailureKind::OutputLimit, &expected);
}

#[tokio::test]
async fn a_command_that_writes_without_end_is_stopped_at_the_limit_of_outputs() {
    let endless = program("", "(loop $l (call $write (i32.const 1) (i32.const 64) (i32.const 4096)) (br $l))");
    let failure = failure(&endless, limited(Limits { output: 10_000, ..Limits::default() })).await;
    let expected = ["it had written 12288 bytes to standard output when it was stopped, the limit is 10000B"];
    assert_failure(&failure, FailureKind::OutputLimit, &expected);
}

#[test]
fn threads_are_not_supported() {
    let core = wat::parse_str(r#"(module (memory 1 1 shared) (func (export "_start")))"#).unwrap();
    let error = Module::componentize(&core).unwrap_err();
    assert!(matches!(&error, ModuleError::Invalid { reason, .. } if reason.contains("thread")), "{error}");
}
