//! Calls of guests in child processes.
//!
//! WebAssembly keeps a guest within its memory, as long as the engine has no error. A child process confines what breaks out of it:
//! it can open nothing, start nothing and reach no other process, and it has one module and the data of one owner. The parent
//! never loads the code. Start reading at [`IsolatedCode::call`], then `exchange.rs` for the parent's part, and `child.rs`.

mod child;
mod exchange;
mod message;
mod pool;
mod process;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use flow::{Digest, Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Action, Call, CallReport, Completion, Observer, Sockets, Stats},
    classify,
    compiled::CompileError,
    confined::Program,
    describe::{self, description},
    engines::{Allocation, EngineKind},
    host_state::{CapturedOutput, Stdout, Streams},
    run::Watchdog,
};

pub use child::serve_calls;
pub(crate) use pool::Pool;

use exchange::{Ended, ExchangeError};
use message::Started;
use pool::{Member, Owner};
use process::StartError;

/// How long a child may take beyond the timeout of a call. It stops the guest itself, unless the machine is busy or the guest
/// has taken the child over.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// The pause before a call is returned because this machine cannot make it now: it may come back at once.
pub const UNAVAILABLE_DELAY: Duration = Duration::from_secs(1);

/// Why no call in a child has a directory: what could open files for it would have to be trusted by the parent.
const NO_FILES_IN_CHILDREN: &str = "the worker calls guests in processes of their own, which have no files; let a worker \
                                    without `--isolate process` take the job";

/// Why no call in a child has a socket: the child has one thread, which would wait for its parent at each byte.
const NO_SOCKETS_IN_CHILDREN: &str = "the worker calls guests in processes of their own, which have no network beside HTTP \
                                      requests; let a worker without `--isolate process` take the job";

/// A child has ended before it read its request, so no guest was called.
struct Unread;

/// Where guests are called.
#[derive(Debug, Clone, Default)]
pub enum Isolation {
    /// In this process.
    #[default]
    None,
    /// In children of this process, only on Linux.
    Process {
        /// A program that calls [`serve_calls`] when `argument` is its only argument.
        program: PathBuf,
        /// The argument.
        argument: &'static str,
    },
}

/// Why this machine cannot call guests in children.
#[derive(Debug, thiserror::Error)]
#[error("a process for calls could not give up its rights on this machine: {reason}")]
pub struct IsolationUnavailable {
    reason: String,
}

impl Isolation {
    /// Starts a child that makes no call, to find out whether this machine lets children give up their rights. Blocks for some
    /// milliseconds.
    ///
    /// # Errors
    /// [`IsolationUnavailable`] when it does not: all calls would be returned.
    pub fn check(&self) -> Result<(), IsolationUnavailable> {
        let Self::Process { program, argument } = self else { return Ok(()) };
        let unavailable = |reason: String| IsolationUnavailable { reason };
        let mut child = Program { path: program.clone(), argument }.command().into_std();
        let output = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let output = output.map_err(|error| unavailable(error.to_string()))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.trim().trim_start_matches("error: ");
                Err(unavailable(if said.is_empty() { output.status.to_string() } else { said.to_owned() }))
            }
        }
    }
}

/// The code of a module for children to load.
pub(crate) struct IsolatedCode {
    pool: Arc<Pool>,
    digest: Digest,
    bytes: Bytes,
    /// How its instances can be allocated.
    allocation: Allocation,
    is_command: bool,
}

impl IsolatedCode {
    /// Lets a child load the code, so that its errors are known. The child then waits for the first call.
    pub(crate) async fn load(pool: &Arc<Pool>, digest: Digest, bytes: Bytes) -> Result<Self, CompileError> {
        let kind = EngineKind::first(Allocation::Pooled);
        let (member, started) = pool.start(digest, kind, &bytes).await.map_err(|error| match error {
            StartError::Load(error) => CompileError::of_load(digest, error),
            StartError::Machine(reason) => CompileError::Unavailable { digest, reason },
        })?;
        member.release();
        let Started { allocation, is_command } = started;
        Ok(Self { pool: pool.clone(), digest, bytes, allocation, is_command })
    }

    /// The size of the code in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Calls the guest in a child. Dropping the future kills the child, and so does an interrupt. If the system ends the child
    /// before it has read the call, another child makes it.
    pub(crate) async fn call(
        &self,
        call: &Call,
        interrupts: [CancellationToken; 2],
        observer: Arc<dyn Observer>,
    ) -> CallReport {
        if let Sockets::Granted { .. } = call.outside.sockets {
            let reason = format!("the TCP connections of the task are denied: {NO_SOCKETS_IN_CHILDREN}");
            return CallReport::without_guest(Completion::Failed(Failure::new(FailureKind::Denied, reason)));
        }
        if let Some(name) = call.outside.directories.all.iter().find_map(|(name, own)| own.as_ref().ok().map(|_| name))
        {
            let reason = format!("the directory {name} is denied: {NO_FILES_IN_CHILDREN}");
            return CallReport::without_guest(Completion::Failed(Failure::new(FailureKind::Denied, reason)));
        }
        let report = match self.call_once(call, interrupts.clone(), observer.clone()).await {
            Err(Unread) => self.call_once(call, interrupts, observer).await,
            report => report,
        };
        match report {
            Ok(report) => report,
            Err(Unread) => CallReport::without_guest(self.unavailable(TWO_ENDED).await),
        }
    }

    async fn call_once(
        &self,
        call: &Call,
        interrupts: [CancellationToken; 2],
        observer: Arc<dyn Observer>,
    ) -> Result<CallReport, Unread> {
        let kind = EngineKind::of(&call.limits, self.allocation);
        let mut child = match self.child(kind, Some(Owner::of(&call.flow)), &interrupts).await {
            Ok(child) => child,
            Err(completion) => return Ok(CallReport::without_guest(completion)),
        };
        let stdout = match call.action {
            Action::Apply if self.is_command => Stdout::Output,
            Action::Apply | Action::Rollback { .. } => Stdout::Log,
        };
        let streams = Streams::new(&call.limits, stdout, Some(observer.clone()));
        let watch = Watchdog::start(call.limits.timeout, interrupts.clone());
        let kill = Watchdog::start(call.limits.timeout.saturating_add(KILL_GRACE), interrupts);
        let ended = kill.run(async { Ok(child.process().call(call, &streams, &*observer).await) }).await;
        let Ended { completion, memory, cpu, backtrace } = match ended {
            Ok(Ok(ended)) => {
                child.release();
                ended
            }
            Ok(Err(error)) => Ended::without_stats(Completion::Failed(explain(&mut child, error).await?)),
            Err(stop) => Ended::without_stats(classify::without_guest(&stop, &watch)),
        };
        let CapturedOutput { log, stdout, stderr } = streams.take();
        let duration = watch.elapsed();
        // A child has one thread.
        let stats = Stats { duration, cpu: cpu.min(duration), memory };
        let (stdout, stderr) = (stdout.into(), stderr.into());
        Ok(CallReport { completion, log, stdout, stderr, stats, backtrace })
    }

    /// Requests the description of the module's tasks from a child, within the limits of [`describe::limits`]; `None` for a
    /// command.
    pub(crate) async fn describe(
        &self,
        interrupts: [CancellationToken; 2],
    ) -> Result<Option<Vec<description::TaskInfo>>, Completion> {
        if self.is_command {
            return Ok(None);
        }
        let described = match self.describe_once(interrupts.clone()).await {
            Err(Unread) => self.describe_once(interrupts).await,
            described => described,
        };
        match described {
            Ok(described) => described.map(Some),
            Err(Unread) => Err(self.unavailable(TWO_ENDED).await),
        }
    }

    async fn describe_once(
        &self,
        interrupts: [CancellationToken; 2],
    ) -> Result<Result<Vec<description::TaskInfo>, Completion>, Unread> {
        let limits = describe::limits();
        let mut child = match self.child(EngineKind::of(&limits, self.allocation), None, &interrupts).await {
            Ok(child) => child,
            Err(completion) => return Ok(Err(completion)),
        };
        let watch = Watchdog::start(limits.timeout, interrupts.clone());
        let kill = Watchdog::start(limits.timeout.saturating_add(KILL_GRACE), interrupts);
        Ok(match kill.run(async { Ok(child.process().describe().await) }).await {
            Ok(Ok(described)) => {
                child.release();
                described.map_err(Completion::Failed)
            }
            Ok(Err(error)) => Err(Completion::Failed(explain(&mut child, error).await?)),
            Err(stop) => Err(classify::without_guest(&stop, &watch)),
        })
    }

    /// A child that has loaded the code, unless an interrupt comes first.
    async fn child(
        &self,
        kind: EngineKind,
        owner: Option<Owner>,
        interrupts: &[CancellationToken; 2],
    ) -> Result<Member, Completion> {
        // The timeout of a call starts when its child is ready.
        let watch = Watchdog::start(Duration::MAX, interrupts.clone());
        let taking = watch.run(async { Ok(self.pool.take(self.digest, kind, owner, &self.bytes).await) }).await;
        let error = match taking.map_err(|stop| classify::without_guest(&stop, &watch))? {
            Ok(child) => return Ok(child),
            Err(error) => error,
        };
        match error {
            StartError::Load(_) => {
                let reason = format!("it could not be prepared: {error}");
                Err(Completion::Failed(Failure::new(FailureKind::Module, reason)))
            }
            StartError::Machine(reason) => Err(self.unavailable(&reason).await),
        }
    }

    /// No child can make a call now. That says nothing of the module: another machine may call it, or this one later.
    async fn unavailable(&self, reason: &str) -> Completion {
        tracing::warn!(digest = %self.digest.short(), reason, "no process could make a call");
        tokio::time::sleep(UNAVAILABLE_DELAY).await;
        Completion::Interrupted
    }
}

const TWO_ENDED: &str = "two processes in a row have ended before they read it";

/// The failure of a call whose child has not answered as it must.
async fn explain(child: &mut Member, error: ExchangeError) -> Result<Failure, Unread> {
    let is_unread = matches!(error, ExchangeError::Unread(_));
    let failure = child.process().explain(error).await;
    if is_unread { Err(Unread) } else { Ok(failure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_does_not_end_well_makes_isolation_unavailable() {
        let check = |program: &str| Isolation::Process { program: program.into(), argument: "x" }.check();
        check("/bin/true").unwrap();
        let error = |program: &str| check(program).unwrap_err().to_string();
        let expected = "a process for calls could not give up its rights on this machine: exit status: 1";
        assert_eq!(error("/bin/false"), expected);
        assert!(error("/bin/ls").contains("x"), "what the child says is the reason: {}", error("/bin/ls"));
        assert!(error("/nowhere/waft").contains("No such file"), "{}", error("/nowhere/waft"));
        Isolation::None.check().unwrap();
    }
}
