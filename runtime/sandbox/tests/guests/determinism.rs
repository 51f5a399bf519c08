//! A call depends only on its job: clocks, randomness and numbers are the same in every attempt's environment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flow::{Timestamp, Value};
use sandbox::{Call, Compiled, Completion, Sandbox};

use crate::support::{Content, Image, RecordingObserver, compile, guest, requiring, sandbox};

/// A guest that returns, as bytes, the wall clock, the monotonic clock before and after a sleep of 3 ms, 16 random bytes, and
/// two NaNs made with different signs.
fn observing() -> Vec<u8> {
    let mut image = Image::new();
    let at = image.success(&[("observed", Content::At(512, 48))]);
    let fields = r#"
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        "(drop (call $clock (i32.const 0) (i64.const 1) (i32.const 512)))
         (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 520)))
         (i32.store8 (i32.const 8) (i32.const 0))
         (i32.store (i32.const 16) (i32.const 1))
         (i64.store (i32.const 24) (i64.const 3000000))
         (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
         (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 528)))
         (drop (call $random (i32.const 536) (i32.const 16)))
         (f32.store (i32.const 552) (f32.div (f32.load (i32.const 4096)) (f32.load (i32.const 4096))))
         (f32.store (i32.const 556) (f32.add (f32.const -nan:0x200001) (f32.load (i32.const 4096))))
         (i32.const {at})"
    );
    guest(&image, fields, &body)
}

async fn observed(sandbox: &Sandbox, compiled: &Compiled, call: Call) -> Vec<u8> {
    match sandbox.call(compiled, call, Arc::new(RecordingObserver::default())).await.completion {
        Completion::Succeeded(values) => match &values["observed"] {
            Value::Bytes(bytes) => bytes.to_vec(),
            other => panic!("{other:?} is not bytes"),
        },
        other => panic!("{other:?}"),
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[tokio::test]
async fn a_job_is_deterministic() {
    let (one, other) = (sandbox(), sandbox());
    let (compiled_in_one, compiled_in_other) = (compile(&one, &observing()).await, compile(&other, &observing()).await);
    let job = requiring(&["observed"]);
    let first = observed(&one, &compiled_in_one, job.clone()).await;
    assert_eq!(observed(&one, &compiled_in_one, job.clone()).await, first, "in a second call");
    assert_eq!(observed(&other, &compiled_in_other, job.clone()).await, first, "in another sandbox");
    // A larger stack uses another engine.
    let mut larger = job;
    larger.limits.stack = 2 << 20;
    assert_eq!(observed(&one, &compiled_in_one, larger).await, first, "in another engine");
}

#[tokio::test]
async fn the_wall_clock_is_fixed_and_sleep_advances_the_monotonic_clock() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &observing()).await;
    let job = Call { job_time: Timestamp::from_micros(1_234_567_000_001), ..requiring(&["observed"]) };
    let before = Instant::now();
    let observed = observed(&sandbox, &compiled, job).await;
    assert!(before.elapsed() >= Duration::from_millis(3), "the sleep takes real time");
    assert_eq!(number(&observed[..8]), 1_234_567_000_001_000);
    let (before_sleep, after_sleep) = (number(&observed[8..16]), number(&observed[16..24]));
    assert!((3_000_000..3_100_000).contains(&(after_sleep - before_sleep)), "{before_sleep} to {after_sleep}");
}

#[tokio::test]
async fn each_attempt_has_its_own_random_seed() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &observing()).await;
    let job = requiring(&["observed"]);
    let first = observed(&sandbox, &compiled, job.clone()).await;
    let others = [
        Call { attempt: 2, ..job.clone() },
        Call { firing: 2, ..job.clone() },
        Call { task: flow::NodeName::new("heat").unwrap(), ..job.clone() },
        Call { run: flow::RunId::new("run-2").unwrap(), ..job },
    ];
    for other in others {
        let observed = observed(&sandbox, &compiled, other).await;
        assert_ne!(observed[24..40], first[24..40], "random bytes");
        assert_eq!((&observed[..24], &observed[40..]), (&first[..24], &first[40..]), "clocks and numbers");
    }
}

#[tokio::test]
async fn nans_are_canonical() {
    let sandbox = sandbox();
    let compiled = compile(&sandbox, &observing()).await;
    let observed = observed(&sandbox, &compiled, requiring(&["observed"])).await;
    let canonical = 0x7fc0_0000_u32.to_le_bytes();
    assert_eq!((&observed[40..44], &observed[44..]), (&canonical[..], &canonical[..]));
}
