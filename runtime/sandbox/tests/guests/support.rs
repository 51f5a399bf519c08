//! Guests from WebAssembly text, and calls of them.

mod image;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flow::{
    Digest, Export, Failure, FailureKind, FlowName, Json, Limits, NodeName, RunId, Timestamp, Value, ValueName, Values,
};
use sandbox::{Action, Call, CallReport, Compiled, Completion, Config, Isolation, Level, Module, Observer, Sandbox};
use tokio_util::sync::CancellationToken;
use wit_component::StringEncoding;
use wit_parser::Resolve;

pub(crate) use image::{Content, Image};

/// The start of a guest's heap: its static data is below.
const HEAP: u32 = 32 << 10;

/// A core module with the contract's exports, the given body of apply, and the given fields.
///
/// The fields are either all imports or none is. The body may use them, the local `$i` and the memory's first 32 KiB (with
/// `image` in it), and must leave the address of a result.
pub(crate) fn guest(image: &Image, fields: &str, body: &str) -> Vec<u8> {
    contract(core(image, fields, body))
}

/// The same without the section that names its WIT world.
pub(crate) fn core(image: &Image, fields: &str, body: &str) -> Vec<u8> {
    let (imports, fields) = if fields.contains("(import ") { (fields, "") } else { ("", fields) };
    let data = image.as_wat();
    let rollback = image.rollback();
    let describe = image.describe();
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 1)
            {fields}
            (global $heap (mut i32) (i32.const {HEAP}))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (local.set $at (global.get $heap))
                (global.set $heap (i32.add (global.get $heap) (local.get 3)))
                (block $enough
                    (loop $more
                        (br_if $enough (i32.ge_u (i32.mul (memory.size) (i32.const 65536)) (global.get $heap)))
                        (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
                        unreachable))
                (local.get $at))
            (func (export "waft:task/guest@1.0.0#describe") (result i32) (i32.const {describe}))
            (func $apply (export "waft:task/guest@1.0.0#apply")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i64 i32 i32) (result i32)
                (local $i i32)
                {body})
            (func (export "waft:task/guest@1.0.0#rollback") (param i32) (result i32) (i32.const {rollback}))
            {data})"#
    );
    wat::parse_str(text).unwrap()
}

/// Adds the section that names a core module's WIT world, as the guest SDK does.
pub(crate) fn contract(mut module: Vec<u8>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/wit/task.wit");
    let package = resolve.push_path(wit).unwrap().0;
    let world = resolve.select_world(&[package], Some("task")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// A WASI program whose `_start` has this body.
pub(crate) fn program(data: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
            (memory (export "memory") 4)
            (func $write (param $file i32) (param $at i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $fd_write (local.get $file) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start")
                (local $count i32)
                {body})
            {data})"#
    );
    wat::parse_str(text).unwrap()
}

/// A sandbox that calls guests in this process.
pub(crate) fn sandbox() -> Sandbox {
    sandbox_with(Isolation::None)
}

/// A sandbox that calls guests in child processes. See `isolation.rs`.
pub(crate) fn isolated() -> Sandbox {
    sandbox_with(isolation())
}

/// Children of this test program: with this argument alone, it runs one test, which serves the parent.
pub(crate) fn isolation() -> Isolation {
    Isolation::Process { program: std::env::current_exe().unwrap(), argument: crate::isolation::CHILD }
}

fn sandbox_with(isolation: Isolation) -> Sandbox {
    Sandbox::new(Config { slots: 4, isolation, ..Config::default() }).unwrap()
}

/// Componentizes and compiles. The digest does not match the bytes: no test depends on that.
pub(crate) async fn compile(sandbox: &Sandbox, core: &[u8]) -> Compiled {
    let component = Module::componentize(core).unwrap().into_bytes();
    sandbox.compile(Digest::from_bytes([1; 32]), component).await.unwrap()
}

/// A call without required outputs.
pub(crate) fn call() -> Call {
    Call {
        run: RunId::new("run-1").unwrap(),
        flow: FlowName::new("bake-cake").unwrap(),
        task: NodeName::new("bake").unwrap(),
        export: Some(Export::new("bake").unwrap()),
        firing: 1,
        attempt: 1,
        idempotency_key: "run-1.bake.1".into(),
        job_time: Timestamp::from_micros(1_700_000_000_123_456),
        inputs: Values::new(),
        action: Action::Apply,
        limits: Limits::default(),
        required_outputs: Vec::new(),
        outside: sandbox::Outside::default(),
        interrupt: CancellationToken::new(),
        slot: Arc::new(sandbox::KeptSlot),
    }
}

pub(crate) fn requiring(names: &[&str]) -> Call {
    Call { required_outputs: names.iter().map(|name| ValueName::new(name).unwrap()).collect(), ..call() }
}

pub(crate) fn limited(limits: Limits) -> Call {
    Call { limits, ..call() }
}

/// Calls a guest made of `core` in separate sandboxes: in this process, and in a child. A guest must not notice a difference,
/// and neither must its caller.
pub(crate) async fn report(core: &[u8], call: Call) -> CallReport {
    let (here, observed_here) = report_in(&sandbox(), core, call.clone()).await;
    let (isolated, observed_isolated) = report_in(&isolated(), core, call).await;
    assert_eq!(without_times(&isolated.completion), without_times(&here.completion));
    assert_eq!((&isolated.log, &isolated.stdout, &isolated.stderr), (&here.log, &here.stdout, &here.stderr));
    assert_eq!(isolated.stats.memory, here.stats.memory);
    assert_eq!(observed_isolated, observed_here);
    here
}

async fn report_in(sandbox: &Sandbox, core: &[u8], call: Call) -> (CallReport, Vec<String>) {
    let compiled = compile(sandbox, core).await;
    let observer = Arc::new(RecordingObserver::default());
    let report = sandbox.call(&compiled, call, observer.clone()).await;
    (report, observer.lines())
}

/// A completion without the time that a guest had run when it was stopped.
fn without_times(completion: &Completion) -> Completion {
    match completion {
        Completion::Failed(failure) if failure.kind == FailureKind::Timeout => {
            Completion::Failed(Failure::new(FailureKind::Timeout, ""))
        }
        other => other.clone(),
    }
}

pub(crate) async fn failure(core: &[u8], call: Call) -> Failure {
    match report(core, call).await.completion {
        Completion::Failed(failure) => failure,
        other => panic!("it did not fail: {other:?}"),
    }
}

/// Asserts that the failure is of this kind and that its message contains all these texts.
#[track_caller]
pub(crate) fn assert_failure(failure: &Failure, kind: FailureKind, texts: &[&str]) {
    assert_eq!(failure.kind, kind, "{failure}");
    for text in texts {
        assert!(failure.message.contains(text), "{:?} does not contain {text:?}", failure.message);
    }
}

pub(crate) fn values<const N: usize>(values: [(&str, Value); N]) -> Values {
    values.into_iter().map(|(name, value)| (ValueName::new(name).unwrap(), value)).collect()
}

pub(crate) fn json(text: &str) -> Value {
    Value::Json(Json::parse(text).unwrap())
}

pub(crate) fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.into())
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Records a guest's output.
#[derive(Default)]
pub(crate) struct RecordingObserver(Mutex<Vec<String>>);

impl RecordingObserver {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for RecordingObserver {
    fn log(&self, level: Level, line: &str) {
        self.0.lock().unwrap().push(format!("{level}: {line}"));
    }

    fn print(&self, standard: sandbox::Standard, bytes: &[u8]) {
        self.0.lock().unwrap().push(format!("{standard:?}: {}", String::from_utf8_lossy(bytes)));
    }

    fn progress(&self, fraction: f64, message: &str) {
        self.0.lock().unwrap().push(format!("{fraction}: {message}"));
    }
}

/// Runs a function when a guest reports progress.
pub(crate) struct OnProgress<F>(pub(crate) F);

impl<F: Fn() + Send + Sync> Observer for OnProgress<F> {
    fn log(&self, _level: Level, _line: &str) {}

    fn print(&self, _standard: sandbox::Standard, _bytes: &[u8]) {}

    fn progress(&self, _fraction: f64, _message: &str) {
        self.0();
    }
}
