//! Where hostile bytes are parsed and compiled: in this process, or in a child that can be killed.
//!
//! A small module can make its compiler run for minutes, take all memory, or overflow its stack. A worker compiles modules
//! that it has never seen, so the binary lets a child do it: a process of its own program with limits on CPU time and memory,
//! without files and without network. What the child returns is code, which is trusted as far as the compiler is.

pub(crate) mod child;
mod kills;
mod message;
mod process;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use flow::{Digest, Namespace};

use crate::{
    Module, ModuleError,
    compiled::{CompileError, Compiled},
    confined::Program,
    engines::{Backtraces, Engines},
    permits::{Full, Permits},
};
use kills::{Kills, MAX_KILLS};
use message::{Reply, Request};
use process::ChildError;

/// The maximum number of children that check or compile modules. Each uses a core, and up to some gigabytes of memory. A namespace has at
/// most two of them, so that its slow modules leave one for another namespace.
const MAX_CHILDREN: usize = 3;

/// The maximum number of requests of one namespace that wait for a child: more would only wait for minutes.
pub(crate) const MAX_WAITING: usize = 16;

/// The compiler of a process. Clones are cheap and share the limit on children. Namespaces take turns, and none has all children.
#[derive(Debug, Clone)]
pub struct Compiler(Place);

#[derive(Debug, Clone)]
enum Place {
    Here,
    Child { program: Program, children: Permits, kills: Arc<Kills> },
}

impl Compiler {
    /// Compiles in this process: only for modules that are trusted. A stack overflow of the compiler ends the process.
    #[must_use]
    pub const fn here() -> Self {
        Self(Place::Here)
    }

    /// Compiles in children. `program` must call [`serve_compiler`](crate::serve_compiler) when `argument` is its only
    /// argument.
    #[must_use]
    pub fn in_children(program: PathBuf, argument: &'static str) -> Self {
        let program = Program { path: program, argument };
        Self(Place::Child { program, children: Permits::new(MAX_CHILDREN, MAX_WAITING), kills: Arc::default() })
    }

    /// Checks a component, or converts a core module to a component, as [`Module::componentize`] does. Dropping the future
    /// stops a child. `owner` is the namespace of whoever asks.
    ///
    /// # Errors
    /// [`ModuleError`] when the bytes are not a usable module, or checking them takes too much time or memory.
    pub async fn componentize(&self, bytes: Bytes, owner: Option<&Namespace>) -> Result<Module, ModuleError> {
        let Place::Child { .. } = &self.0 else {
            let componentizing = tokio::task::spawn_blocking(move || Module::componentize(&bytes)).await;
            return componentizing.unwrap_or(Err(ModuleError::Unavailable { reason: "the process ends".into() }));
        };
        match self.ask(Request::Componentize, &bytes, owner).await {
            Ok(Reply::Component(component)) => Ok(Module::checked(component)),
            Ok(Reply::Invalid(error)) => Err(error),
            Ok(Reply::Code(_) | Reply::Refused(_)) => Err(ModuleError::Unchecked { reason: "a wrong reply".into() }),
            Err(ChildError::Module(reason)) => Err(ModuleError::Unchecked { reason }),
            Err(ChildError::Killed(reason) | ChildError::Machine(reason)) => Err(ModuleError::Unavailable { reason }),
            Err(ChildError::Busy) => Err(ModuleError::Busy),
        }
    }

    /// Compiles a component to code for [`Compiled::load`]. Dropping the future stops a child.
    pub(crate) async fn compile(
        &self,
        engines: &Arc<Engines>,
        digest: Digest,
        bytes: Bytes,
        owner: Option<&Namespace>,
    ) -> Result<Vec<u8>, CompileError> {
        let Place::Child { kills, .. } = &self.0 else {
            let engines = engines.clone();
            let compiling = tokio::task::spawn_blocking(move || Compiled::compile(&engines, digest, &bytes)).await;
            return compiling.unwrap_or(Err(CompileError::Interrupted { digest }));
        };
        let refused = |reason| CompileError::Refused { digest, reason };
        let request = match engines.backtraces() {
            Backtraces::Names => Request::Compile,
            Backtraces::Lines => Request::CompileWithLines,
        };
        let reply = self.ask(request, &bytes, owner).await;
        if reply.is_ok() {
            kills.forget(&digest);
        }
        match reply {
            Ok(Reply::Code(code)) => Ok(code),
            Ok(Reply::Invalid(source)) => Err(CompileError::Module { digest, source }),
            Ok(Reply::Refused(reason)) => Err(refused(reason)),
            Ok(Reply::Component(_)) => Err(refused("a wrong reply".into())),
            Err(ChildError::Module(reason)) => Err(refused(reason)),
            // Whoever waits for the module would try it again for ever.
            Err(ChildError::Killed(reason)) if kills.are_too_many(digest) => {
                Err(refused(format!("{reason}; that happened {MAX_KILLS} times in succession")))
            }
            Err(ChildError::Killed(reason) | ChildError::Machine(reason)) => {
                Err(CompileError::Unavailable { digest, reason })
            }
            Err(ChildError::Busy) => Err(CompileError::Busy { digest }),
        }
    }

    /// Asks a child, once there are few enough and it is the turn of the owner.
    async fn ask(&self, request: Request, bytes: &[u8], owner: Option<&Namespace>) -> Result<Reply, ChildError> {
        let Place::Child { program, children, kills: _ } = &self.0 else {
            return Err(ChildError::Machine("there is no child".into()));
        };
        let _permit = children.acquire(owner.cloned()).await.map_err(|Full| ChildError::Busy)?;
        process::ask(program, request, bytes).await
    }
}
