//! Guests in child processes: what their caller notices of it. That they behave like guests in this process is checked in
//! `support.rs`, for each call of every test.

use std::sync::Arc;

use flow::{Digest, Failure, FailureKind, ModuleContent, Values};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Call, CompileError, Completion, Config, DescribeError, Isolation, Module, Sandbox};

use crate::support::{
    Content, Image, OnProgress, RecordingObserver, call, compile, guest, isolated, isolation, json, program, requiring,
    values,
};

/// The argument with which this program serves a sandbox: part of the name of the test below, which no other test has.
pub(crate) const CHILD: &str = "child_process_of_a_sandbox";

/// Not a test of its own: a sandbox starts this program with the name as its only argument.
#[test]
fn child_process_of_a_sandbox() {
    if std::env::args().skip(1).eq([CHILD]) {
        let served = sandbox::serve_calls();
        // The test runner has a thread that is not restricted. It does not go on.
        std::process::exit(i32::from(served.is_err()));
    }
}

fn baking() -> Vec<u8> {
    let mut image = Image::new();
    let cake = image.success(&[("cake", Content::Json("1"))]);
    guest(&image, "", &format!("(i32.const {cake})"))
}

/// Calls a guest that needs no observer.
async fn completion(sandbox: &Sandbox, compiled: &sandbox::Compiled, call: Call) -> Completion {
    sandbox.call(compiled, call, Arc::new(RecordingObserver::default())).await.completion
}

#[tokio::test]
async fn a_child_makes_many_calls_each_in_a_fresh_instance() {
    // It counts its calls in its memory.
    let mut image = Image::new();
    let (first, later) = (image.success(&[("n", Content::Json("1"))]), image.success(&[("n", Content::Json("2"))]));
    let counting = guest(
        &image,
        "(global $calls (mut i32) (i32.const 0))",
        &format!(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (i32.store (i32.const 40000) (i32.add (i32.load (i32.const 40000)) (i32.const 1)))
             (if (result i32) (i32.and (i32.eq (global.get $calls) (i32.const 1))
                                       (i32.eq (i32.load (i32.const 40000)) (i32.const 1)))
                (then (i32.const {first})) (else (i32.const {later})))"
        ),
    );
    let sandbox = isolated();
    let compiled = compile(&sandbox, &counting).await;
    for _ in 0..20 {
        let expected = Completion::Succeeded(values([("n", json("1"))]));
        assert_eq!(completion(&sandbox, &compiled, requiring(&["n"])).await, expected);
    }
}

#[tokio::test]
async fn as_many_calls_run_at_once_as_there_are_slots() {
    let progress = r#"(import "waft:task/host@1.0.0" "progress" (func $progress (param f64 i32 i32)))"#;
    let body = "(call $progress (f64.const 0) (i32.const 0) (i32.const 0)) (loop $l (br $l)) unreachable";
    let sandbox = isolated();
    let compiled = compile(&sandbox, &guest(&Image::new(), progress, body)).await;
    let barrier = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let calls = (0..4).map(|_| {
        let (all, arrived) = (sandbox.clone(), barrier.clone());
        let stop_all = move || {
            if arrived.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 3 {
                all.interrupt_all();
            }
        };
        let (sandbox, compiled) = (&sandbox, &compiled);
        async move { sandbox.call(compiled, call(), Arc::new(OnProgress(stop_all))).await.completion }
    });
    assert_eq!(futures::future::join_all(calls).await, vec![Completion::Interrupted; 4]);
}

#[tokio::test]
async fn a_module_is_described_by_a_child() {
    let sandbox = isolated();
    let tasks = compile(&sandbox, &baking()).await;
    let Ok(ModuleContent::Tasks(tasks)) = sandbox.describe(&tasks).await else { panic!("it has tasks") };
    assert_eq!(tasks[0].name.as_str(), "bake");
    let command = Module::componentize(&program("", "")).unwrap().into_bytes();
    let command = sandbox.compile(Digest::from_bytes([2; 32]), command).await.unwrap();
    assert!(matches!(sandbox.describe(&command).await, Ok(ModuleContent::Command)));
    let nothing = Module::componentize(&guest(&Image::describing_nothing(), "", "unreachable")).unwrap().into_bytes();
    let nothing = sandbox.compile(Digest::from_bytes([3; 32]), nothing).await.unwrap();
    assert!(matches!(sandbox.describe(&nothing).await, Err(DescribeError::Invalid { .. })));
}

#[tokio::test]
async fn a_module_of_another_contract_is_refused_when_it_is_compiled() {
    let text = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (param "no" u32)))))
        (core module $m (func (export "run") (result i32) (i32.const 0)))
        (core instance $m (instantiate $m))
        (func $run (result (result)) (canon lift (core func $m "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;
    let error =
        isolated().compile(Digest::from_bytes([1; 32]), wat::parse_str(text).unwrap().into()).await.unwrap_err();
    assert!(matches!(error, CompileError::ContractMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_child_that_cannot_be_started_is_not_the_modules_fault() {
    let isolation = Isolation::Process { program: "/nowhere/waft".into(), argument: CHILD };
    let sandbox = Sandbox::new(Config { isolation, ..Config::default() }).unwrap();
    let component = Module::componentize(&baking()).unwrap().into_bytes();
    let error = sandbox.compile(Digest::from_bytes([1; 32]), component).await.unwrap_err();
    assert!(matches!(error, CompileError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("no process for calls could be started"), "{error}");
    // A program that ends at once.
    let isolation = Isolation::Process { program: "/bin/false".into(), argument: CHILD };
    let sandbox = Sandbox::new(Config { isolation, ..Config::default() }).unwrap();
    let component = Module::componentize(&baking()).unwrap().into_bytes();
    let error = sandbox.compile(Digest::from_bytes([1; 32]), component).await.unwrap_err();
    assert!(matches!(error, CompileError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_sandbox_has_fewer_children_than_modules() {
    let sandbox = Sandbox::new(Config { slots: 1, isolation: isolation(), ..Config::default() }).unwrap();
    let component = Module::componentize(&baking()).unwrap().into_bytes();
    let mut modules = Vec::new();
    // A slot, and three descriptions.
    for number in 0..6 {
        modules.push(sandbox.compile(Digest::from_bytes([number; 32]), component.clone()).await.unwrap());
    }
    for compiled in &modules {
        assert_eq!(completion(&sandbox, compiled, call()).await, Completion::Succeeded(Values::new()));
    }
    let children = children().len();
    assert!(!has_own_process() || children <= 4, "{children} children");
}

/// Whether no other test has children in this process, as with our test runner.
fn has_own_process() -> bool {
    std::env::var_os("NEXTEST").is_some()
}

/// The child processes that have not ended, each with the letter of its state.
fn children() -> Vec<(i32, char)> {
    let parent = std::process::id().to_string();
    let child = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace();
        let (state, of) = (fields.next()?.chars().next()?, fields.next()?);
        Some((entry.file_name().to_str()?.parse().ok()?, state)).filter(|_| of == parent && state != 'Z')
    };
    std::fs::read_dir("/proc").unwrap().filter_map(child).collect()
}

#[tokio::test]
async fn a_child_that_ends_before_it_reads_a_call_fails_no_call() {
    if !has_own_process() {
        return;
    }
    let sandbox = isolated();
    let compiled = compile(&sandbox, &baking()).await;
    let [(child, _)] = children()[..] else { panic!("one child has loaded the module") };
    let child = Pid::from_raw(child).unwrap();
    kill_process(child, Signal::STOP).unwrap();
    while children() != [(child.as_raw_pid(), 'T')] {
        tokio::task::yield_now().await;
    }
    let end = async { kill_process(child, Signal::KILL).unwrap() };
    // Both futures are polled in this order, so the call is sent first.
    let (completion, ()) = futures::join!(completion(&sandbox, &compiled, call()), end);
    assert_eq!(completion, Completion::Succeeded(Values::new()));
    assert_ne!(children()[0].0, child.as_raw_pid());
}

#[tokio::test]
async fn a_child_that_was_ended_while_it_waited_gets_no_call() {
    if !has_own_process() {
        return;
    }
    let sandbox = isolated();
    let compiled = compile(&sandbox, &baking()).await;
    let [(child, _)] = children()[..] else { panic!("one child has loaded the module") };
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    while !children().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(completion(&sandbox, &compiled, call()).await, Completion::Succeeded(Values::new()));
}

#[tokio::test]
async fn a_value_that_does_not_fit_fails_its_call_alone() {
    let sandbox = isolated();
    let compiled = compile(&sandbox, &baking()).await;
    // A value that the memory of the guest cannot hold.
    let large = flow::Value::Bytes(vec![1; 128 << 20].into());
    let failed = completion(&sandbox, &compiled, Call { inputs: values([("batter", large)]), ..call() }).await;
    let Completion::Failed(Failure { kind, .. }) = failed else { panic!("it does not fit: {failed:?}") };
    assert!(matches!(kind, FailureKind::Memory | FailureKind::Trap), "{kind}");
    assert_eq!(completion(&sandbox, &compiled, call()).await, Completion::Succeeded(Values::new()));
}
