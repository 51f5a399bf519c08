//! A module as machine code, ready to call.

use std::sync::Arc;

use flow::Digest;

use crate::{
    compiler::MAX_WAITING,
    engines::Engines,
    isolation::IsolatedCode,
    loaded::{LoadError, Loaded},
    module::{self, ModuleError},
};

/// A module that was compiled on this machine. Clones are cheap and share the code.
#[derive(Clone)]
pub struct Compiled(Arc<Inner>);

struct Inner {
    digest: Digest,
    place: Place,
}

/// Where the code can be called.
pub(crate) enum Place {
    /// In this process.
    Here(Arc<Loaded>),
    /// In child processes. This process never loads it.
    Children(IsolatedCode),
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
    /// Too many modules of the same namespace, or of none, wait for the compiler. That says nothing of the module.
    #[error("module {} could not be compiled now: {MAX_WAITING} modules of the same namespace wait already", digest.short())]
    Busy {
        /// The module.
        digest: Digest,
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

    /// The size of code and data in this process in bytes. It may grow.
    pub(crate) fn size(&self) -> usize {
        match &self.0.place {
            Place::Here(loaded) => loaded.size(),
            Place::Children(code) => code.size(),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.place
    }

    /// Compiles a component to code for the disk cache and [`Compiled::load`]. Slow: not for async threads.
    pub(crate) fn compile(engines: &Engines, digest: Digest, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        module::check_component(bytes).map_err(|source| CompileError::Module { digest, source })?;
        let compile_error = |error: wasmtime::Error| CompileError::Refused { digest, reason: format!("{error:#}") };
        let linked_engine = engines.linked_engine(engines.first()).map_err(compile_error)?;
        linked_engine.engine.precompile_component(bytes).map_err(compile_error)
    }

    /// Loads code from [`Compiled::compile`] into this process. Slow: not for async threads.
    pub(crate) fn load(engines: &Arc<Engines>, digest: Digest, code: &[u8]) -> Result<Self, CompileError> {
        let loaded = Loaded::load(engines, engines.first(), code);
        let loaded = loaded.map_err(|error| CompileError::of_load(digest, error))?;
        Ok(Self::new(digest, Place::Here(Arc::new(loaded))))
    }

    /// Takes code that children have loaded and will load.
    pub(crate) fn isolated(digest: Digest, code: IsolatedCode) -> Self {
        Self::new(digest, Place::Children(code))
    }

    fn new(digest: Digest, place: Place) -> Self {
        Self(Arc::new(Inner { digest, place }))
    }
}

impl CompileError {
    pub(crate) fn of_load(digest: Digest, error: LoadError) -> Self {
        match error {
            LoadError::Refused(reason) => Self::Refused { digest, reason },
            LoadError::ContractMismatch(reason) => Self::ContractMismatch { digest, reason },
        }
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Compiled").field("digest", &self.0.digest).field("size", &self.size()).finish()
    }
}
