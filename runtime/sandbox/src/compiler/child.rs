//! The child's part: it gives up what it does not need, reads one module, and answers.

use std::io::{self, Read as _, Write as _};

use rustix::process::Resource;

use super::message::{Reply, Request};
use crate::{
    Module,
    compiled::{CompileError, Compiled},
    confined::{self, FilterError, limit, limits, system_calls},
    engines::{Backtraces, Engines},
    ticker::Ticker,
};

/// CPU time of all threads for any module, and for each MiB of one, in seconds. A component of CPython with 18 MB takes 12.
const CPU_SECONDS: u64 = 20;
const CPU_SECONDS_PER_MIB: u64 = 10;
const MAX_CPU_SECONDS: u64 = 240;

/// CPU time between the signal that explains the end and the one that nothing survives, in seconds.
const CPU_GRACE: u64 = 5;

/// Memory for any module, and for each byte of one.
const MEMORY: u64 = 3 << 30;
const MEMORY_PER_BYTE: u64 = 64;
const MAX_MEMORY: u64 = 5 << 30;

/// Answers one request on standard input, on standard output. The process then ends. It never uses more than its limits on
/// CPU time and memory, opens no file and no socket, starts no process, sends no signal, and dies with its parent.
///
/// # Errors
/// When a limit cannot be set, or a stream fails.
pub fn serve_compiler() -> io::Result<()> {
    confine()?;
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    limit_work(bytes.len())?;
    let reply = match bytes.split_first() {
        Some((tag, module)) => Request::of(*tag).map(|request| answer(request, module)),
        None => None,
    };
    let reply = reply.unwrap_or_else(|| Reply::Refused("an unknown request".into())).encode();
    let mut stdout = io::stdout().lock();
    stdout.write_all(&reply)?;
    stdout.flush()
}

/// Gives up what the child never needs. A kernel without filters for system calls leaves it with the limits.
fn confine() -> io::Result<()> {
    confined::enter()?;
    confined::forbid_files()?;
    match system_calls::restrict_to_compiling() {
        Ok(()) | Err(FilterError::Unsupported(_)) => Ok(()),
        Err(FilterError::Failed(error)) => Err(error),
    }
}

/// Limits the work for a module of some bytes.
fn limit_work(bytes: usize) -> io::Result<()> {
    let bytes = bytes as u64;
    limit(Resource::Data, MEMORY.saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE)).min(MAX_MEMORY))?;
    let seconds = cpu_seconds(bytes);
    limits(Resource::Cpu, seconds, seconds + CPU_GRACE)
}

/// The CPU time that a module of some bytes may take, in seconds.
pub(super) fn cpu_seconds(bytes: u64) -> u64 {
    (CPU_SECONDS + CPU_SECONDS_PER_MIB * (bytes >> 20)).min(MAX_CPU_SECONDS)
}

fn answer(request: Request, module: &[u8]) -> Reply {
    match request {
        Request::Componentize => match Module::componentize(module) {
            Ok(module) => Reply::Component(module.into_bytes()),
            Err(error) => Reply::Invalid(error),
        },
        Request::Compile | Request::CompileWithLines => match compile(module, backtraces_of(request)) {
            Ok(code) => Reply::Code(code),
            Err(CompileError::Module { source, .. }) => Reply::Invalid(source),
            Err(CompileError::Refused { reason, .. } | CompileError::ContractMismatch { reason, .. }) => {
                Reply::Refused(reason)
            }
            Err(CompileError::Unavailable { .. } | CompileError::Busy { .. } | CompileError::Interrupted { .. }) => {
                Reply::Refused("it was interrupted".into())
            }
        },
    }
}

fn backtraces_of(request: Request) -> Backtraces {
    match request {
        Request::Componentize | Request::Compile => Backtraces::Names,
        Request::CompileWithLines => Backtraces::Lines,
    }
}

fn compile(module: &[u8], backtraces: Backtraces) -> Result<Vec<u8>, CompileError> {
    // Only the parent needs the digest.
    let digest = flow::Digest::from_bytes([0; 32]);
    let refused = |reason: String| CompileError::Refused { digest, reason };
    let ticker = Ticker::start().map_err(|error| refused(error.to_string()))?;
    // The code is the same for every engine, and this one reserves no memory for instances.
    Compiled::compile(&Engines::lazy(0, backtraces, ticker), digest, module)
}
