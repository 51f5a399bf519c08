//! Machine code that this process can call: loaded, and linked to the imports.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::{
    engines::{Allocation, EngineKind, Engines, LinkedEngine},
    guest::TaskPre,
    host_state::HostState,
    module,
};

/// A module in the memory of this process.
pub(crate) struct Loaded {
    /// The engine it was loaded for.
    kind: EngineKind,
    /// The size of code and data in bytes. Each engine for which it is linked has a copy.
    size: usize,
    engines: Arc<Engines>,
    /// The linked module for each engine: one is linked when the code is loaded, others when a call needs them.
    linked: [OnceLock<LinkedModule>; EngineKind::COUNT],
    /// Held while the module is linked for a further engine: that takes its code in memory twice more for a moment.
    preparing: Mutex<()>,
}

/// A component whose imports are linked.
pub(crate) enum LinkedModule {
    /// It exports the contract.
    Tasks { pre: TaskPre<HostState>, component: Component },
    /// It exports `wasi:cli/run`.
    Command { pre: CommandPre<HostState>, component: Component },
}

/// Why code could not be loaded; each has the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum LoadError {
    /// Wasmtime refused it.
    #[error("{0}")]
    Refused(String),
    /// An import or export has another type than in the contract.
    #[error("{0}")]
    ContractMismatch(String),
}

impl Loaded {
    /// Loads code from [`Compiled::compile`](crate::Compiled) for an engine, and links it. Slow: not for async threads.
    pub(crate) fn load(engines: &Arc<Engines>, kind: EngineKind, code: &[u8]) -> Result<Self, LoadError> {
        let refused = |error: wasmtime::Error| LoadError::Refused(format!("{error:#}"));
        // The pool rejects a module with more memories or tables than a slot has; it is then allocated on demand.
        let (kind, linked_engine, component) = match load_into(engines, kind, code) {
            Ok(loaded) => loaded,
            Err(_) => load_into(engines, kind.with(Allocation::OnDemand), code).map_err(refused)?,
        };
        let first =
            link(linked_engine, component).map_err(|error| LoadError::ContractMismatch(format!("{error:#}")))?;
        let linked = std::array::from_fn(|_| OnceLock::new());
        let _ = linked[kind.index()].set(first);
        Ok(Self { kind, size: code.len(), engines: engines.clone(), linked, preparing: Mutex::default() })
    }

    /// How its instances can be allocated.
    pub(crate) fn allocation(&self) -> Allocation {
        self.kind.allocation()
    }

    /// The size of all copies of code and data in bytes. It grows when a call needs a further engine.
    pub(crate) fn size(&self) -> usize {
        let copies = self.linked.iter().filter(|linked| linked.get().is_some()).count();
        self.size.saturating_mul(copies)
    }

    /// The engine it was loaded for, and the module linked for it.
    pub(crate) fn first(&self) -> (EngineKind, &LinkedModule) {
        (self.kind, self.ready(self.kind).expect("loading a module links it once"))
    }

    /// The linked module for one of the engines, if it is ready.
    pub(crate) fn ready(&self, kind: EngineKind) -> Option<&LinkedModule> {
        self.linked[kind.index()].get()
    }

    /// Links the module for one of the engines, once for concurrent callers. Slow: not for async threads.
    pub(crate) fn prepare(&self, kind: EngineKind) -> wasmtime::Result<()> {
        // It guards no data, so a panic in another thread says nothing.
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ready(kind).is_some() {
            return Ok(());
        }
        let (_, first) = self.first();
        let code = first.component().serialize()?;
        let (_, linked_engine, component) = load_into(&self.engines, kind, &code)?;
        // Nobody else sets it.
        let _ = self.linked[kind.index()].set(link(linked_engine, component)?);
        Ok(())
    }
}

impl LinkedModule {
    pub(crate) fn component(&self) -> &Component {
        match self {
            Self::Tasks { component, .. } | Self::Command { component, .. } => component,
        }
    }

    pub(crate) fn is_command(&self) -> bool {
        match self {
            Self::Tasks { .. } => false,
            Self::Command { .. } => true,
        }
    }
}

fn load_into<'a>(
    engines: &'a Engines,
    kind: EngineKind,
    code: &[u8],
) -> wasmtime::Result<(EngineKind, &'a LinkedEngine, Component)> {
    let linked_engine = engines.linked_engine(kind)?;
    #[expect(unsafe_code, reason = "machine code cannot be validated; only this crate creates it")]
    // SAFETY: The bytes come from `Engine::precompile_component` or `Component::serialize` in this process or in a child of
    // the same program, or from a file that one of these wrote. Only this user can write to the file's folder, and the file's
    // digest, engine compatibility and checksum were verified. See `disk_cache` and `compiler`.
    let component = unsafe { Component::deserialize(&linked_engine.engine, code)? };
    Ok((kind, linked_engine, component))
}

fn link(linked_engine: &LinkedEngine, component: Component) -> wasmtime::Result<LinkedModule> {
    let pre = linked_engine.linker.instantiate_pre(&component)?;
    if component.get_export_index(None, module::GUEST).is_some() {
        return Ok(LinkedModule::Tasks { pre: TaskPre::new(pre)?, component });
    }
    Ok(LinkedModule::Command { pre: CommandPre::new(pre)?, component })
}
