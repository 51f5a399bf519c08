//! The parent's part: it starts a child, sends a module, and explains how a child ended that has not answered.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use super::{
    child::cpu_seconds,
    message::{Reply, Request},
};

/// Wall-clock time for each second of CPU time that the child may take: other processes may need the cores too.
const WALL_PER_CPU: u32 = 4;

/// The maximum size of an answer beyond a multiple of the module's: code is some times larger than a module.
const ANSWER_BYTES: u64 = 64 << 20;
const ANSWER_BYTES_PER_BYTE: u64 = 64;

/// Lets a child answer a request. Dropping the future kills the child.
pub(super) async fn ask(program: &Path, argument: &str, request: Request, module: &[u8]) -> Result<Reply, String> {
    let mut command = Command::new(program);
    command.arg(argument).env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        command.spawn().map_err(|error| format!("no process for the compiler could be started: {error}"))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the compiler has no standard streams".into());
    };
    let size = module.len() as u64;
    let send = async move {
        // A child that has died reads nothing; its exit status says why.
        let _ = stdin.write_all(&[request.tag()]).await;
        let _ = stdin.write_all(module).await;
        let _ = stdin.shutdown().await;
    };
    let limit = ANSWER_BYTES.saturating_add(size.saturating_mul(ANSWER_BYTES_PER_BYTE));
    let receive = async move {
        let mut answer = Vec::new();
        stdout.take(limit).read_to_end(&mut answer).await.map(|_| answer)
    };
    let work = async {
        let ((), answer) = tokio::join!(send, receive);
        (answer, child.wait().await)
    };
    let seconds = cpu_seconds(size);
    let wall = Duration::from_secs(seconds) * WALL_PER_CPU;
    let Ok((answer, status)) = timeout(wall, work).await else {
        return Err(format!("the compiler has not finished within {} seconds", wall.as_secs()));
    };
    let status = status.map_err(|error| format!("the compiler was lost: {error}"))?;
    if !status.success() {
        return Err(explain(status, seconds));
    }
    let answer = answer.map_err(|error| format!("the compiler's answer was lost: {error}"))?;
    Reply::decode(answer).ok_or_else(|| "the compiler's answer cannot be read".into())
}

/// Why a child has not answered.
fn explain(status: ExitStatus, cpu_seconds: u64) -> String {
    let signal = status.signal().and_then(Signal::from_named_raw);
    match signal {
        Some(Signal::XCPU | Signal::KILL) => {
            format!("it takes the compiler more than {cpu_seconds} seconds of CPU time, or more memory than there is")
        }
        Some(Signal::SEGV | Signal::BUS) => "it overflows the compiler's stack".into(),
        Some(Signal::ABORT) => {
            "it overflows the compiler's stack, or takes more memory than the compiler may use".into()
        }
        Some(signal) => format!("the compiler was ended by signal {}", signal.as_raw()),
        None => format!("the compiler failed: {status}"),
    }
}
