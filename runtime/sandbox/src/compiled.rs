//! A module as machine code, ready to call.

use std::sync::{Arc, OnceLock};

use flow::Digest;
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::{
    engines::{Allocation, EngineKind, Engines, LinkedEngine},
    guest::TaskPre,
    host_state::HostState,
    module::{self, ModuleError},
};

/// A module that was compiled on this machine. Clones are cheap and share the code.
#[derive(Clone)]
pub struct Compiled(Arc<Inner>);

struct Inner {
    digest: Digest,
    /// The size of code and data in bytes.
    size: usize,
    allocation: Allocation,
    engines: Arc<Engines>,
    /// The linked module for each engine: the first is linked after compilation, others when a call needs them.
    linked: [OnceLock<LinkedModule>; EngineKind::COUNT],
}

/// A component whose imports are linked.
pub(crate) enum LinkedModule {
    /// It exports the contract.
    Tasks { pre: TaskPre<HostState>, component: Component },
    /// It exports `wasi:cli/run`.
    Command { pre: CommandPre<HostState>, component: Component },
}

/// Why a module could not be compiled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not a callable module.
    #[error("module {} cannot be called", digest.short())]
    Module {
        /// The module.
        digest: Digest,
        /// The reason.
        source: ModuleError,
    },
    /// The compiler rejected the module.
    #[error("could not compile module {}: {reason}", digest.short())]
    Refused {
        /// The module.
        digest: Digest,
        /// The compiler's message.
        reason: String,
    },
    /// An import or export of the module has another type than in the contract.
    #[error("module {} violates the contract: {reason}", digest.short())]
    ContractMismatch {
        /// The module.
        digest: Digest,
        /// The difference.
        reason: String,
    },
    /// The compiler could not be run, or was ended from outside. That says nothing of the module.
    #[error("module {} could not be compiled now: {reason}", digest.short())]
    Unavailable {
        /// The module.
        digest: Digest,
        /// The reason.
        reason: String,
    },
    /// The process is ending.
    #[error("compiling module {} was interrupted", digest.short())]
    Interrupted {
        /// The module.
        digest: Digest,
    },
}

impl Compiled {
    /// The module's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The size of code and data in bytes.
    pub(crate) fn size(&self) -> usize {
        self.0.size
    }

    /// How its instances can be allocated.
    pub(crate) fn allocation(&self) -> Allocation {
        self.0.allocation
    }

    /// Compiles a component to code for the disk cache and [`Compiled::load`]. Slow: not for async threads.
    pub(crate) fn compile(engines: &Engines, digest: Digest, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        Self::compile_with(engines, EngineKind::first(Allocation::Pooled), digest, bytes)
    }

    /// Compiles a component with one of the engines; all compile the same code. Slow: not for async threads.
    pub(crate) fn compile_with(
        engines: &Engines,
        kind: EngineKind,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        module::check_component(bytes).map_err(|source| CompileError::Module { digest, source })?;
        let compile_error = |error: wasmtime::Error| CompileError::Refused { digest, reason: format!("{error:#}") };
        let linked_engine = engines.linked_engine(kind).map_err(compile_error)?;
        linked_engine.engine.precompile_component(bytes).map_err(compile_error)
    }

    /// Loads code from [`Compiled::compile`], and links it.
    pub(crate) fn load(engines: &Arc<Engines>, digest: Digest, code: &[u8]) -> Result<Self, CompileError> {
        let compile_error = |error: wasmtime::Error| CompileError::Refused { digest, reason: format!("{error:#}") };
        // The pool rejects a module with more memories or tables than a slot has; it is then allocated on demand.
        let (kind, linked_engine, component) = match load_into(engines, EngineKind::first(Allocation::Pooled), code) {
            Ok(component) => component,
            Err(_) => load_into(engines, EngineKind::first(Allocation::OnDemand), code).map_err(compile_error)?,
        };
        let first = link(linked_engine, component)
            .map_err(|error| CompileError::ContractMismatch { digest, reason: format!("{error:#}") })?;
        let ready = std::array::from_fn(|_| OnceLock::new());
        let _ = ready[kind.index()].set(first);
        let inner =
            Inner { digest, size: code.len(), allocation: kind.allocation(), engines: engines.clone(), linked: ready };
        Ok(Self(Arc::new(inner)))
    }

    /// The linked module for one of the engines, if it is ready.
    pub(crate) fn ready(&self, kind: EngineKind) -> Option<&LinkedModule> {
        self.0.linked[kind.index()].get()
    }

    /// Links the module for one of the engines. Slow: not for async threads.
    pub(crate) fn prepare(&self, kind: EngineKind) -> wasmtime::Result<()> {
        let inner = &*self.0;
        let first = inner.linked.iter().find_map(OnceLock::get).expect("loading a module links it once");
        let code = first.component().serialize()?;
        let (_, linked_engine, component) = load_into(&inner.engines, kind, &code)?;
        // If two threads prepare it at once, either result works.
        let _ = inner.linked[kind.index()].set(link(linked_engine, component)?);
        Ok(())
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Compiled").field("digest", &self.0.digest).field("size", &self.0.size).finish()
    }
}

impl LinkedModule {
    pub(crate) fn component(&self) -> &Component {
        match self {
            Self::Tasks { component, .. } | Self::Command { component, .. } => component,
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
