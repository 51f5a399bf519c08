//! The engines that run guests: one for each stack size and allocation strategy, created on first use.
//!
//! Wasmtime sets the stack size per engine and not per call, so there are a few stack classes. All engines compile the same
//! code.

use std::sync::OnceLock;

use flow::Limits;
use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::Linker,
};

use crate::{
    host_state::{self, HostState},
    ticker::Ticker,
};

/// The WebAssembly stack of each class, in bytes. The first is the default limit, the last the maximum for a flow.
const STACKS: [usize; 3] = [512 << 10, 2 << 20, flow::MAX_STACK_BYTES as usize];

/// The stack for host functions beyond the guest's part, enough for a debug build too.
const HOST_STACK: usize = 1 << 20;

/// The maximum memory, in bytes, and number of table elements of a slot in the pool.
const POOL_MEMORY: usize = 1 << 32;
const POOL_TABLE_ELEMENTS: u32 = 100_000;

/// The maximum for one component in the pool. A component made of a core module has four instances, one memory and two
/// tables.
const POOL_INSTANCES: u32 = 12;
const POOL_MEMORIES: u32 = 2;
const POOL_TABLES: u32 = 8;

/// How much of a memory is reset by copying after a call. Pages beyond it are returned to the operating system, which costs
/// a page fault each at the next call.
const KEEP_RESIDENT: usize = 128 << 10;

/// The maximum size of a component's own bookkeeping in the pool, in bytes.
const INSTANCE_SIZE: usize = 4 << 20;

/// How an engine allocates instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Allocation {
    /// From preallocated slots: fast, with a size limit.
    Pooled,
    /// From the operating system, for modules that do not fit a slot.
    OnDemand,
}

/// Selects an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EngineKind {
    stack: usize,
    allocation: Allocation,
}

/// An engine, and the imports that it offers to guests.
pub(crate) struct LinkedEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<HostState>,
}

/// All engines of a sandbox.
pub(crate) struct Engines {
    engines: [OnceLock<LinkedEngine>; EngineKind::COUNT],
    pool_slots: u32,
    backtraces: Backtraces,
    ticker: Ticker,
}

/// What the backtrace of a guest that trapped has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Backtraces {
    /// The names of functions.
    #[default]
    Names,
    /// Also files and lines, where the module has them. Its code is larger, and takes longer to load. The debug information of a
    /// module can crash the process that reads it, so call modules that are not trusted in processes of their own.
    Lines,
}

impl EngineKind {
    /// The number of engines.
    pub(crate) const COUNT: usize = 2 * STACKS.len();

    /// The engine for a call, given how the module can be allocated. A larger stack limit than the largest class is reduced
    /// to it.
    pub(crate) fn of(limits: &Limits, allocation: Allocation) -> Self {
        let is_enough = |bytes: usize| limits.stack <= bytes as u64;
        let stack = STACKS.iter().position(|bytes| is_enough(*bytes)).unwrap_or(STACKS.len() - 1);
        let in_pool = limits.memory <= POOL_MEMORY as u64 && limits.table_elements <= u64::from(POOL_TABLE_ELEMENTS);
        Self { stack, allocation: if in_pool { allocation } else { Allocation::OnDemand } }
    }

    /// The engine with the smallest stack.
    pub(crate) fn first(allocation: Allocation) -> Self {
        Self { stack: 0, allocation }
    }

    pub(crate) fn allocation(self) -> Allocation {
        self.allocation
    }

    /// The engine with the same stack and another allocation.
    pub(crate) fn with(self, allocation: Allocation) -> Self {
        Self { allocation, ..self }
    }

    /// The WebAssembly stack in bytes.
    pub(crate) fn stack(self) -> usize {
        STACKS[self.stack]
    }

    /// Its index in a list of all engines.
    pub(crate) fn index(self) -> usize {
        match self.allocation {
            Allocation::Pooled => self.stack,
            Allocation::OnDemand => STACKS.len() + self.stack,
        }
    }
}

impl Engines {
    /// Creates the engine that is always needed.
    pub(crate) fn new(pool_slots: u32, backtraces: Backtraces, ticker: Ticker) -> wasmtime::Result<Self> {
        let engines = Self::lazy(pool_slots, backtraces, ticker);
        engines.linked_engine(engines.first())?;
        Ok(engines)
    }

    /// Creates no engine yet. Without slots there is no pool: for a process that calls no guest.
    pub(crate) fn lazy(pool_slots: u32, backtraces: Backtraces, ticker: Ticker) -> Self {
        Self { engines: std::array::from_fn(|_| OnceLock::new()), pool_slots, backtraces, ticker }
    }

    /// The engine that compiles new modules. All compile the same code.
    pub(crate) fn first(&self) -> EngineKind {
        EngineKind::first(if self.pool_slots == 0 { Allocation::OnDemand } else { Allocation::Pooled })
    }

    /// What the backtraces of its guests have.
    pub(crate) fn backtraces(&self) -> Backtraces {
        self.backtraces
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// The engine of this kind, created now if missing.
    pub(crate) fn linked_engine(&self, kind: EngineKind) -> wasmtime::Result<&LinkedEngine> {
        let cell = &self.engines[kind.index()];
        if let Some(engine) = cell.get() {
            return Ok(engine);
        }
        let engine = self.engine(kind)?;
        let mut linker = Linker::new(&engine);
        host_state::link(&mut linker)?;
        // If two threads create it at once, one is dropped; the ticker ticks only the other.
        if cell.set(LinkedEngine { engine: engine.clone(), linker }).is_ok() {
            self.ticker.add(engine);
        }
        Ok(cell.get().expect("this thread or another one has just set it"))
    }

    fn engine(&self, kind: EngineKind) -> wasmtime::Result<Engine> {
        let mut config = config(kind.stack(), self.backtraces);
        match kind.allocation {
            Allocation::Pooled => {
                // A pool keeps the stacks of all calls, also of those that have ended. Of the large ones, it keeps only the top.
                config.async_stack_zeroing(kind.stack > 0);
                config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(self.pool_slots)));
                Engine::new(&config).or_else(|error| {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        slots = self.pool_slots,
                        "no instance pool can be created here, so each call allocates its own instance and is slower; \
                         is the address space limited (ulimit -v)? fewer slots need less of it"
                    );
                    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                    Engine::new(&config)
                })
            }
            Allocation::OnDemand => Engine::new(&config),
        }
    }
}

/// Settings of all engines: enforceable limits, and results that depend only on the job.
fn config(stack: usize, backtraces: Backtraces) -> Config {
    let mut config = Config::new();
    // Never from the environment: a process and its compiler must agree.
    config.wasm_backtrace_details(match backtraces {
        Backtraces::Names => WasmBacktraceDetails::Disable,
        Backtraces::Lines => WasmBacktraceDetails::Enable,
    });
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(stack);
    config.async_stack_size(stack + HOST_STACK);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // The slots of the pool have this size, and all engines must compile the same code.
    config.memory_reservation(POOL_MEMORY as u64);
    config.memory_init_cow(true);
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots);
    pool.total_core_instances(slots.saturating_mul(POOL_INSTANCES));
    pool.total_memories(slots.saturating_mul(POOL_MEMORIES));
    pool.total_tables(slots.saturating_mul(POOL_TABLES));
    pool.total_stacks(slots);
    pool.max_core_instances_per_component(POOL_INSTANCES);
    pool.max_memories_per_component(POOL_MEMORIES);
    pool.max_memories_per_module(POOL_MEMORIES);
    pool.max_tables_per_component(POOL_TABLES);
    pool.max_tables_per_module(POOL_TABLES);
    pool.max_component_instance_size(INSTANCE_SIZE);
    pool.max_core_instance_size(INSTANCE_SIZE);
    pool.max_memory_size(POOL_MEMORY);
    pool.table_elements(POOL_TABLE_ELEMENTS as usize);
    pool.linear_memory_keep_resident(KEEP_RESIDENT);
    pool.table_keep_resident(KEEP_RESIDENT);
    pool.async_stack_keep_resident(KEEP_RESIDENT);
    pool.pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_rounded_up_to_its_class_and_limited_to_the_largest() {
        let stack = |bytes| EngineKind::of(&Limits { stack: bytes, ..Limits::default() }, Allocation::Pooled).stack();
        assert_eq!(
            [stack(1), stack(512 << 10), stack((512 << 10) + 1), stack(1 << 40)],
            [512 << 10, 512 << 10, 2 << 20, 8 << 20]
        );
    }

    #[test]
    fn a_call_too_large_for_the_pool_runs_on_demand() {
        let kind = |limits| EngineKind::of(&limits, Allocation::Pooled).allocation;
        assert_eq!(kind(Limits::default()), Allocation::Pooled);
        assert_eq!(kind(Limits { memory: 1 << 33, ..Limits::default() }), Allocation::OnDemand);
        assert_eq!(kind(Limits { table_elements: 1 << 20, ..Limits::default() }), Allocation::OnDemand);
    }
}
