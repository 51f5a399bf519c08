//! A guest is stopped from outside, and a computing guest does not block others.

use std::sync::Arc;

use flow::Values;
use sandbox::{Call, Compiled, Completion, Config, Sandbox};
use tokio_util::sync::CancellationToken;

use crate::support::{Content, Image, OnProgress, RecordingObserver, call, compile, guest, isolated, sandbox};

const PROGRESS: &str = r#"(import "waft:task/host@1.0.0" "progress" (func $progress (param f64 i32 i32)))"#;

/// A guest that reports that it has started, and then computes forever.
fn spinning() -> Vec<u8> {
    guest(
        &Image::new(),
        PROGRESS,
        "(call $progress (f64.const 0) (i32.const 0) (i32.const 0)) (loop $l (br $l)) unreachable",
    )
}

/// A guest that reports that it has started, and then sleeps for an hour.
fn sleeping() -> Vec<u8> {
    let fields = format!(
        r#"{PROGRESS} (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#
    );
    let body = "(call $progress (f64.const 0) (i32.const 0) (i32.const 0))
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
        unreachable";
    guest(&Image::new(), &fields, body)
}

fn quick() -> Vec<u8> {
    let mut image = Image::new();
    let fine = image.success(&[("crumb", Content::Json("1"))]);
    guest(&image, "", &format!("(i32.const {fine})"))
}

/// The completion of a call that `interrupt` interrupts as soon as the guest has started.
async fn interrupted(
    sandbox: &Sandbox,
    compiled: &Compiled,
    call: Call,
    interrupt: impl Fn() + Send + Sync + 'static,
) -> Completion {
    sandbox.call(compiled, call, Arc::new(OnProgress(interrupt))).await.completion
}

#[tokio::test]
async fn one_call_is_interrupted_whether_it_computes_or_waits() {
    for core in [spinning(), sleeping()] {
        for sandbox in [sandbox(), isolated()] {
            let compiled = compile(&sandbox, &core).await;
            let call = call();
            let stop = call.interrupt.clone();
            assert_eq!(interrupted(&sandbox, &compiled, call, move || stop.cancel()).await, Completion::Interrupted);
        }
    }
}

#[tokio::test]
async fn all_calls_that_run_are_interrupted_and_later_ones_are_not() {
    for sandbox in [sandbox(), isolated()] {
        interrupt_all(sandbox).await;
    }
}

async fn interrupt_all(sandbox: Sandbox) {
    let compiled = compile(&sandbox, &spinning()).await;
    let all = sandbox.clone();
    let stop = move || all.interrupt_all();
    assert_eq!(interrupted(&sandbox, &compiled, call(), stop).await, Completion::Interrupted);
    let quick_sandbox = sandbox.clone();
    let compiled = quick_sandbox
        .compile(flow::Digest::from_bytes([2; 32]), sandbox::Module::componentize(&quick()).unwrap().into_bytes())
        .await
        .unwrap();
    let report = sandbox.call(&compiled, call(), Arc::new(RecordingObserver::default())).await;
    assert_eq!(report.completion, Completion::Succeeded(Values::new()));
}

#[tokio::test]
async fn a_call_that_waits_for_a_slot_can_be_interrupted() {
    let sandbox = Sandbox::new(Config { slots: 1, ..Config::default() }).unwrap();
    let compiled = compile(&sandbox, &spinning()).await;
    let (first, second) = (call(), call());
    let (stop_first, stop_second) = (first.interrupt.clone(), second.interrupt.clone());
    let second = async {
        let report = sandbox.call(&compiled, second, Arc::new(RecordingObserver::default())).await;
        stop_first.cancel();
        report.completion
    };
    // The first call holds the only slot while it runs.
    let first = interrupted(&sandbox, &compiled, first, move || stop_second.cancel());
    let (first, second) = futures::join!(first, second);
    assert_eq!((first, second), (Completion::Interrupted, Completion::Interrupted));
}

// There is only one thread, so a task that blocks it blocks all others.
#[tokio::test(flavor = "current_thread")]
async fn a_busy_guest_does_not_starve_others() {
    let sandbox = sandbox();
    let spinning = compile(&sandbox, &spinning()).await;
    let quick = sandbox::Module::componentize(&quick()).unwrap().into_bytes();
    let quick = sandbox.compile(flow::Digest::from_bytes([2; 32]), quick).await.unwrap();
    let (started, stop) = (CancellationToken::new(), CancellationToken::new());
    let busy = async {
        let started = started.clone();
        let call = Call { interrupt: stop.clone(), ..call() };
        interrupted(&sandbox, &spinning, call, move || started.cancel()).await
    };
    let other = async {
        started.cancelled().await;
        // Timers run, too.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let report = sandbox.call(&quick, call(), Arc::new(RecordingObserver::default())).await;
        stop.cancel();
        report.completion
    };
    let (busy, other) = futures::join!(busy, other);
    assert_eq!((busy, other), (Completion::Interrupted, Completion::Succeeded(Values::new())));
}
