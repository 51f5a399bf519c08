//! Measures a fresh instance and a no-op apply, compared with plain wasmtime, and in a child process, compared with in this one.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use flow::{Attempt, Digest, Firing, Limits, Timestamp, Values};
use sandbox::{Action, Call, Compiled, Completion, Isolation, Sandbox};
use tokio_util::sync::CancellationToken;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{Bench, report::Pairs};

mod bindings {
    //! The bindings that wasmtime generates from the contract.
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "task",
        imports: { default: async },
        exports: { default: async },
    });
}

use bindings::{TaskPre, exports::waft::task::guest as contract, waft::task::host};

/// The number of calls of a round.
const CALLS: u32 = 2_000;

/// The argument with which this program calls guests for another process of it.
pub(crate) const CHILD: &str = "call-for-bench";

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    against_wasmtime(bench).await?;
    isolated(bench).await
}

/// Calls in a child, compared with calls in this process.
async fn isolated(bench: &Bench) -> anyhow::Result<()> {
    let here = Sandbox::new(sandbox::Config { slots: 4, ..sandbox::Config::default() })?;
    let isolation = Isolation::Process { program: std::env::current_exe()?, argument: CHILD };
    let children = Sandbox::new(sandbox::Config { slots: 4, isolation, ..sandbox::Config::default() })?;
    let called_here = here.compile(Digest::from_bytes([1; 32]), bench.guest.clone()).await?;
    let started = Instant::now();
    let isolated = children.compile(Digest::from_bytes([1; 32]), bench.guest.clone()).await?;
    println!("compiled, and loaded by the first child, in {:.1?}", started.elapsed());
    let mut pairs = Pairs::default();
    for round in 0..12 {
        let in_child = seconds_for_a_call(&children, &isolated).await?;
        let in_process = seconds_for_a_call(&here, &called_here).await?;
        // The first rounds start the child and warm the pools.
        if round >= 2 {
            pairs.push(in_child, in_process);
        }
    }
    pairs.print_times("no-op apply in a child process", "no-op apply in this process");
    Ok(())
}

async fn seconds_for_a_call(sandbox: &Sandbox, compiled: &Compiled) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..CALLS {
        let report = sandbox.call(compiled, call(), Arc::new(NoopObserver)).await;
        ensure!(matches!(report.completion, Completion::Succeeded(_)), "the no-op failed: {:?}", report.completion);
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(CALLS))
}

async fn against_wasmtime(bench: &Bench) -> anyhow::Result<()> {
    let sandbox = Sandbox::new(sandbox::Config { slots: 4, ..sandbox::Config::default() })?;
    let compiled = sandbox.compile(Digest::from_bytes([1; 32]), bench.guest.clone()).await?;
    let bare = PlainWasmtime::new(&bench.guest)?;
    let mut pairs = Pairs::default();
    for round in 0..12 {
        let waft_seconds = seconds_for_a_call(&sandbox, &compiled).await?;
        let started = Instant::now();
        for _ in 0..CALLS {
            bare.call().await?;
        }
        let wasmtime_seconds = started.elapsed().as_secs_f64() / f64::from(CALLS);
        // The first rounds warm the pools.
        if round >= 2 {
            pairs.push(waft_seconds, wasmtime_seconds);
        }
    }
    pairs.print_times("fresh instance, no-op apply", "plain wasmtime");
    Ok(())
}

/// Hears nothing.
pub(crate) struct NoopObserver;

impl sandbox::Observer for NoopObserver {
    fn log(&self, _level: sandbox::Level, _line: &str) {}
    fn print(&self, _standard: sandbox::Standard, _bytes: &[u8]) {}
    fn progress(&self, _fraction: f64, _message: &str) {}
}

/// A call of `noop`.
pub(crate) fn call() -> Call {
    Call {
        run: "bench".parse().expect("a valid name"),
        flow: "bench".parse().expect("a valid name"),
        task: "noop".parse().expect("a valid name"),
        export: Some("noop".parse().expect("a valid name")),
        firing: Firing::FIRST.get(),
        attempt: Attempt::FIRST.get(),
        idempotency_key: "bench.noop.1".into(),
        job_time: Timestamp::from_micros(1_700_000_000_000_000),
        inputs: Values::new(),
        action: Action::Apply,
        limits: Limits::default(),
        outside: sandbox::Outside::default(),
        required_outputs: Vec::new(),
        interrupt: CancellationToken::new(),
        slot: std::sync::Arc::new(sandbox::KeptSlot),
    }
}

/// wasmtime with its own WASI and a pool, and without waft.
struct PlainWasmtime {
    engine: Engine,
    pre: TaskPre<BenchContext>,
}

struct BenchContext {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for BenchContext {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl host::Host for BenchContext {
    async fn log(&mut self, _level: host::Level, _message: String) {}
    async fn progress(&mut self, _fraction: f64, _message: String) {}
}

impl bindings::waft::task::types::Host for BenchContext {}

impl PlainWasmtime {
    fn new(guest: &[u8]) -> anyhow::Result<Self> {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::default()));
        let engine = Engine::new(&config)?;
        let mut linker: Linker<BenchContext> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        bindings::Task::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |context| context)?;
        let component = Component::new(&engine, guest)?;
        let pre = TaskPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, pre })
    }

    async fn call(&self) -> anyhow::Result<()> {
        let context = BenchContext { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, context);
        let task = self.pre.instantiate_async(&mut store).await?;
        let call = contract::Call {
            run: "bench".into(),
            flow: "bench".into(),
            task: "noop".into(),
            export: "noop".into(),
            firing: 1,
            attempt: 1,
            idempotency_key: "bench.noop.1".into(),
            deadline: 0,
        };
        let result = task.waft_task_guest().call_apply(&mut store, &call, &[]).await?;
        result.ok().context("the no-op failed")?;
        Ok(())
    }
}
