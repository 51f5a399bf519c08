//! The child's part: it gives up what it does not need, reads one module, and answers.

#[cfg(target_os = "linux")]
mod system_calls;

use std::io::{self, Read as _, Write as _};

use rustix::process::{Resource, Rlimit};

use super::message::{Reply, Request};
use crate::{
    Module,
    compiled::{CompileError, Compiled},
    engines::{Allocation, EngineKind, Engines},
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

/// The standard streams are open by then; nothing else can be opened, not even in their place.
const DESCRIPTORS: u64 = 0;

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

/// Gives up what the child never needs.
fn confine() -> io::Result<()> {
    give_up_privileges()?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, DESCRIPTORS)?;
    system_calls::restrict()
}

#[cfg(target_os = "linux")]
fn give_up_privileges() -> io::Result<()> {
    use rustix::{
        process::{DumpableBehavior, Signal},
        thread::{CapabilitySet, CapabilitySets},
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    // Root could raise its limits again, and more.
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Other systems have only the limits.
#[cfg(not(target_os = "linux"))]
fn give_up_privileges() -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
mod system_calls {
    pub(super) fn restrict() -> std::io::Result<()> {
        Ok(())
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

fn limit(resource: Resource, maximum: u64) -> io::Result<()> {
    limits(resource, maximum, maximum)
}

/// Sets a limit, at most as high as the one that the parent has.
fn limits(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limits = Rlimit { current: Some(current.min(inherited)), maximum: Some(maximum.min(inherited)) };
    Ok(rustix::process::setrlimit(resource, limits)?)
}

fn answer(request: Request, module: &[u8]) -> Reply {
    match request {
        Request::Componentize => match Module::componentize(module) {
            Ok(module) => Reply::Component(module.into_bytes()),
            Err(error) => Reply::Invalid(error),
        },
        Request::Compile => match compile(module) {
            Ok(code) => Reply::Code(code),
            Err(CompileError::Module { source, .. }) => Reply::Invalid(source),
            Err(CompileError::Refused { reason, .. } | CompileError::ContractMismatch { reason, .. }) => {
                Reply::Refused(reason)
            }
            Err(CompileError::Unavailable { .. } | CompileError::Interrupted { .. }) => {
                Reply::Refused("it was interrupted".into())
            }
        },
    }
}

fn compile(module: &[u8]) -> Result<Vec<u8>, CompileError> {
    // Only the parent needs the digest.
    let digest = flow::Digest::from_bytes([0; 32]);
    let refused = |reason: String| CompileError::Refused { digest, reason };
    let ticker = Ticker::start().map_err(|error| refused(error.to_string()))?;
    // The code is the same for every engine, and this one reserves no memory for instances.
    let engines = Engines::without_pool(ticker);
    Compiled::compile_with(&engines, EngineKind::first(Allocation::OnDemand), digest, module)
}
