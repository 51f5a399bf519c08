//! One child, as its parent sees it: its start, its calls, and how it ended.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use flow::{Failure, FailureKind};
use rustix::process::Signal;
use tokio::{io::BufReader, net::UnixStream, process::Child, time::timeout};

use super::{
    exchange::{Ended, Exchange, ExchangeError},
    message::{ExchangeNumber, Refusal, Start, Started},
};
use crate::{
    call::{Call, Observer},
    confined::{PANIC_STATUS, Program},
    describe::description,
    host_state::Streams,
    loaded::LoadError,
};

/// How long a child may take to start and to load its module. It takes milliseconds; a busy machine takes longer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end of a child may take after its stream has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A child process that has loaded a module. Dropping it kills the process.
pub(super) struct CallProcess {
    child: Child,
    stream: BufReader<UnixStream>,
}

/// Why a child is not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The module cannot be called.
    #[error(transparent)]
    Load(LoadError),
    /// The machine is the cause.
    #[error("{0}")]
    Machine(String),
}

impl CallProcess {
    /// Starts a child, and lets it load code.
    pub(super) async fn start(program: &Program, start: &Start, code: &[u8]) -> Result<(Self, Started), StartError> {
        let machine = |error: io::Error| StartError::Machine(format!("no process for calls could be started: {error}"));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(machine)?;
        ours.set_nonblocking(true).map_err(machine)?;
        let stream = BufReader::new(UnixStream::from_std(ours).map_err(machine)?);
        // The child's end of the stream is closed here with the command.
        let spawned = program.command().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn();
        let mut process = Self { child: spawned.map_err(machine)?, stream };
        let starting = process.exchange().start(start, code);
        match timeout(START_TIMEOUT, starting).await {
            Ok(Ok(Ok(started))) => Ok((process, started)),
            Ok(Ok(Err(Refusal::Load(error)))) => Err(StartError::Load(error)),
            Ok(Ok(Err(Refusal::System(reason)))) => Err(StartError::Machine(reason)),
            Ok(Err(error)) => Err(process.explain_start(error).await),
            Err(_) => {
                let seconds = START_TIMEOUT.as_secs();
                Err(StartError::Machine(format!(
                    "a process was not ready within {seconds} seconds: the machine is busy"
                )))
            }
        }
    }

    /// Checks a process that waits for a call. The error completes "a process that waited for a call …".
    pub(super) fn check_idle(&mut self) -> Result<(), String> {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Err("was ended from outside".into());
        }
        match has_unread(&self.stream) {
            true => Err(format!("has sent what nobody asked for: a guest may have taken the process over; {REPORT}")),
            false => Ok(()),
        }
    }

    fn exchange(&mut self) -> Exchange<'_, BufReader<UnixStream>> {
        Exchange::new(&mut self.stream, ExchangeNumber::random())
    }

    /// Makes a call. After an error, the process is of no more use.
    pub(super) async fn call(
        &mut self,
        call: &Call,
        streams: &Streams,
        observer: &dyn Observer,
    ) -> Result<Ended, ExchangeError> {
        self.exchange().call(call, streams, observer).await
    }

    /// Requests the module's description. After an error, the process is of no more use.
    pub(super) async fn describe(&mut self) -> Result<Result<Vec<description::TaskInfo>, Failure>, ExchangeError> {
        self.exchange().describe().await
    }

    /// The failure of a call whose child has not answered as it must. Unless the request was not read, the guest was called, so it
    /// may have done its work.
    pub(super) async fn explain(&mut self, error: ExchangeError) -> Failure {
        let message = match error {
            ExchangeError::Violation(what) => {
                format!(
                    "its process was ended because it sent {what}: the guest may have taken the process over; {REPORT}"
                )
            }
            ExchangeError::Lost(error) | ExchangeError::Unread(error) => match self.exit_status().await {
                Some(status) => explain_exit(status),
                None => format!("its process has closed its connection and did not end: {error}; {REPORT}"),
            },
        };
        tracing::warn!(message, "the process of a call was lost");
        Failure::new(FailureKind::Trap, message)
    }

    async fn explain_start(&mut self, error: ExchangeError) -> StartError {
        let refused = |reason| StartError::Load(LoadError::Refused(reason));
        match error {
            ExchangeError::Violation(what) => refused(format!("the process that loads it sent {what}")),
            ExchangeError::Lost(error) | ExchangeError::Unread(error) => match self.exit_status().await {
                Some(status) if is_crash(status) => refused(format!("it crashes the process that loads it: {status}")),
                Some(status) => StartError::Machine(format!("a process for calls has ended: {status}")),
                None => StartError::Machine(format!("a process for calls was lost: {error}")),
            },
        }
    }

    /// How the process has ended; `None` if it runs on.
    async fn exit_status(&mut self) -> Option<ExitStatus> {
        timeout(EXIT_TIMEOUT, self.child.wait()).await.ok()?.ok()
    }
}

/// Whether a child has sent bytes that the parent has not read.
fn has_unread(stream: &BufReader<UnixStream>) -> bool {
    !stream.buffer().is_empty() || rustix::io::ioctl_fionread(stream.get_ref()) != Ok(0)
}

/// What to do about a guest that breaks out of the engine.
const REPORT: &str = "trust its module no more, and report it to the maintainers of waft";

/// Signals that a process gets for what it does itself.
fn is_crash(status: ExitStatus) -> bool {
    let crashes =
        [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::ABORT, Signal::TRAP, Signal::SYS, Signal::XFSZ];
    status.signal().and_then(Signal::from_named_raw).is_some_and(|signal| crashes.contains(&signal))
        || status.code() == Some(PANIC_STATUS)
}

/// Why a child has ended during a call, and what to do.
fn explain_exit(status: ExitStatus) -> String {
    if is_crash(status) {
        return format!(
            "its process crashed ({status}): the guest has found an error of the WebAssembly engine, or needs more memory than a \
             process may use; {REPORT}"
        );
    }
    match status.signal() {
        Some(_) => format!(
            "its process was ended from outside ({status}): mostly the machine has no memory left; give the worker fewer slots, \
             or the machine more memory"
        ),
        None => format!("its process ended without an answer ({status}); {REPORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_child_names_its_signal_and_what_to_do() {
        let explain = |raw| explain_exit(ExitStatus::from_raw(raw));
        let crashed = explain(Signal::SEGV.as_raw());
        assert!(crashed.contains("signal: 11 (SIGSEGV)") && crashed.contains("report it"), "{crashed}");
        let killed = explain(Signal::KILL.as_raw());
        assert!(killed.contains("signal: 9 (SIGKILL)") && killed.contains("fewer slots"), "{killed}");
        assert!(explain(PANIC_STATUS << 8).contains("exit status: 101"));
        assert!(explain(0).contains("ended without an answer (exit status: 0)"));
    }

    #[tokio::test]
    async fn bytes_that_nobody_asked_for_are_noticed_before_the_next_call() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = BufReader::new(ours);
        assert!(!has_unread(&ours));
        theirs.write_all(b"an").await.unwrap();
        assert!(has_unread(&ours), "in the stream");
        ours.read_u8().await.unwrap();
        assert!(has_unread(&ours), "in the buffer");
        ours.read_u8().await.unwrap();
        assert!(!has_unread(&ours));
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_says_nothing_of_the_module() {
        let program = Program { path: "/nowhere/waft".into(), argument: "call" };
        let kind = crate::engines::EngineKind::first(crate::engines::Allocation::Pooled);
        let start = Start { kind, memory: 0, backtraces: crate::Backtraces::Names };
        let started = CallProcess::start(&program, &start, b"code").await;
        let Err(StartError::Machine(reason)) = started else { panic!("the module is not to blame") };
        assert!(reason.contains("could be started"), "{reason}");
    }
}
