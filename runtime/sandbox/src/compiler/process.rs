//! The parent's part: it starts a child, sends a module, and explains how a child ended that has not answered.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    child::cpu_seconds,
    message::{Reply, Request},
};
use crate::confined::{PANIC_STATUS, Program};

/// Wall-clock time for each second of CPU time that the child may take: other processes may need the cores too.
const WALL_PER_CPU: u32 = 4;

/// The maximum size of an answer. Code is some times larger than a module, and few modules have more than 20 MiB.
const MAX_ANSWER_BYTES: u64 = 512 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChildError {
    /// The module takes more than the child may use, or crashes it.
    Module(String),
    /// The child was killed from outside, mostly for want of memory. The module may need more than the machine has, or others use it.
    Killed(String),
    /// The child could not be started, or was ended from outside in another way.
    Machine(String),
    /// Too many requests of the same owner wait for a child.
    Busy,
}

/// Lets a child answer a request. Dropping the future kills the child.
pub(super) async fn ask(program: &Program, request: Request, module: &[u8]) -> Result<Reply, ChildError> {
    let lost = |what: &str, error: std::io::Error| ChildError::Machine(format!("{what}: {error}"));
    let spawned = program.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| lost("no process for the compiler could be started", error))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ChildError::Machine("the compiler has no standard streams".into()));
    };
    let send = async move {
        // A child that has died reads nothing; its exit status says why.
        let _ = stdin.write_all(&[request.tag()]).await;
        let _ = stdin.write_all(module).await;
        let _ = stdin.shutdown().await;
    };
    let receive = async move {
        let mut answer = Vec::new();
        stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map(|_| answer)
    };
    let work = async {
        let ((), answer) = tokio::join!(send, receive);
        (answer, child.wait().await)
    };
    let seconds = cpu_seconds(module.len() as u64);
    let wall = Duration::from_secs(seconds) * WALL_PER_CPU;
    let Ok((answer, status)) = timeout(wall, work).await else {
        let reason = format!("the compiler has not finished within {} seconds: the machine is busy", wall.as_secs());
        return Err(ChildError::Machine(reason));
    };
    let status = status.map_err(|error| lost("the compiler was lost", error))?;
    let answer = answer.map_err(|error| lost("the compiler's answer was lost", error))?;
    if answer.len() as u64 >= MAX_ANSWER_BYTES {
        return Err(ChildError::Module(format!("its code has more than {}", flow::Size(MAX_ANSWER_BYTES))));
    }
    if !status.success() {
        return Err(explain(status, seconds));
    }
    Reply::decode(answer).ok_or_else(|| ChildError::Machine("the compiler's answer cannot be read".into()))
}

/// Why a child has not answered.
fn explain(status: ExitStatus, cpu_seconds: u64) -> ChildError {
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => {
            ChildError::Module(format!("it takes the compiler more than {cpu_seconds} seconds of CPU time"))
        }
        Some(Signal::SEGV | Signal::BUS | Signal::ABORT) => ChildError::Module(
            "it overflows the compiler's stack, or takes more memory than the compiler may use".into(),
        ),
        Some(Signal::KILL) => ChildError::Killed(
            "the compiler was killed: the machine, or the service, has too little memory for it".into(),
        ),
        // Mostly a service that is stopped.
        Some(signal) => ChildError::Machine(format!("the compiler was ended by signal {}", signal.as_raw())),
        None if status.code() == Some(PANIC_STATUS) => ChildError::Module("it makes the compiler panic".into()),
        None => ChildError::Machine(format!("the compiler could not be set up: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_ended_from_outside_says_nothing_of_the_module() {
        let of_signal = |signal: Signal| explain(ExitStatus::from_raw(signal.as_raw()), 20);
        let xcpu = "it takes the compiler more than 20 seconds of CPU time";
        assert_eq!(of_signal(Signal::XCPU), ChildError::Module(xcpu.into()));
        assert!(matches!(of_signal(Signal::ABORT), ChildError::Module(_)));
        assert!(matches!(of_signal(Signal::KILL), ChildError::Killed(_)), "it may be short of memory");
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            assert!(matches!(of_signal(signal), ChildError::Machine(_)), "{signal:?}");
        }
        assert!(matches!(explain(ExitStatus::from_raw(1 << 8), 20), ChildError::Machine(_)), "its limits failed");
        assert!(matches!(explain(ExitStatus::from_raw(101 << 8), 20), ChildError::Module(_)), "it panicked");
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_says_nothing_of_the_module() {
        let program = Program { path: "/nowhere/waft".into(), argument: "compile" };
        let asked = ask(&program, Request::Compile, b"module").await;
        let ChildError::Machine(reason) = asked.unwrap_err() else { panic!("the module is not to blame") };
        assert!(reason.contains("could be started"), "{reason}");
    }
}
