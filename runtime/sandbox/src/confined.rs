//! A child process without rights: how its parent starts it, and what it gives up before it reads anything.
//!
//! The compiler and the calls of guests run in such processes. Each is the same program as its parent.

#[cfg(target_os = "linux")]
pub(crate) mod system_calls;

use std::{
    io,
    os::fd::RawFd,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Resource, Rlimit, Signal};
use tokio::process::Command;

/// The standard streams are open by then; nothing else can be opened, not even in their place.
const DESCRIPTORS: u64 = 0;

/// The exit code of a program that has panicked.
pub(crate) const PANIC_STATUS: i32 = 101;

/// A program that serves its parent when it is started with this argument alone.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) argument: &'static str,
}

/// Why the system calls of a process were not restricted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The kernel has no filters, or forbids them here.
    #[error("this system has no filter for system calls (seccomp), or forbids it here: {0}")]
    Unsupported(String),
    #[error("the filter for system calls failed")]
    Failed(#[source] io::Error),
}

impl Program {
    /// The command that starts the child, without environment and standard error. Dropping the child kills it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(self.argument).env_clear().current_dir("/").kill_on_drop(true);
        // Ctrl-C in a terminal is for the parent, which may let calls end.
        command.stderr(Stdio::null()).process_group(0);
        command
    }
}

/// Gives up what no child needs: inherited descriptors, capabilities, new privileges, and a life after its parent. If the machine has no
/// memory left, the system ends a child before its parent.
///
/// # Errors
/// The error of the operating system: the process must then end.
pub(crate) fn enter() -> io::Result<()> {
    close_inherited()?;
    prefer_for_out_of_memory();
    give_up_privileges()?;
    limit(Resource::Core, 0)
}

/// From now on, the process cannot open, create or extend a file.
pub(crate) fn forbid_files() -> io::Result<()> {
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, DESCRIPTORS)
}

/// Ignores the signals that ask a process to end: a service manager may send them to the parent and to all its children, and
/// the parent still decides when they end.
pub(crate) fn ignore_requests_to_stop() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        #[expect(unsafe_code, reason = "no safe function ignores a signal")]
        // SAFETY: No handler is installed that could run at a wrong time.
        unsafe {
            libc::signal(signal.as_raw(), libc::SIG_IGN);
        }
    }
}

/// Sets a limit that the process cannot raise any more.
pub(crate) fn limit(resource: Resource, maximum: u64) -> io::Result<()> {
    limits(resource, maximum, maximum)
}

/// Sets a limit, at most as high as the one that the parent has.
pub(crate) fn limits(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limits = Rlimit { current: Some(current.min(inherited)), maximum: Some(maximum.min(inherited)) };
    Ok(rustix::process::setrlimit(resource, limits)?)
}

/// Closes all descriptors but the standard streams: whoever started the parent may have left some open.
#[cfg(target_os = "linux")]
fn close_inherited() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe function closes descriptors that nothing owns")]
    // SAFETY: The process has opened nothing yet, so nothing in it owns one of these descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, libc::STDERR_FILENO + 1, libc::c_uint::MAX, 0) };
    match io::Error::last_os_error() {
        _ if closed == 0 => Ok(()),
        // Linux before 5.9, and filters of containers that do not know the call.
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) => {
            close_listed(Path::new("/proc/self/fd"))
        }
        error => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn close_inherited() -> io::Result<()> {
    close_listed(Path::new("/dev/fd"))
}

/// Closes the descriptors that a folder of the system lists, but the standard streams.
fn close_listed(folder: &Path) -> io::Result<()> {
    let number = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok();
    let open: Vec<RawFd> = std::fs::read_dir(folder)?.filter_map(number).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > libc::STDERR_FILENO) {
        #[expect(unsafe_code, reason = "no safe function closes descriptors that nothing owns")]
        // SAFETY: As above; the descriptor of the listing itself is closed already.
        unsafe {
            rustix::io::close(descriptor);
        }
    }
    Ok(())
}

/// Makes the process the first that the kernel ends for want of memory. What it does for its parent is lost, and nothing else.
#[cfg(target_os = "linux")]
fn prefer_for_out_of_memory() {
    // Best effort: a system without this file chooses by the memory of each process, and a child may have the most.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(not(target_os = "linux"))]
fn prefer_for_out_of_memory() {}

#[cfg(target_os = "linux")]
fn give_up_privileges() -> io::Result<()> {
    use rustix::{
        process::DumpableBehavior,
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
pub(crate) mod system_calls {
    use super::FilterError;

    fn unsupported() -> Result<(), FilterError> {
        Err(FilterError::Unsupported("only Linux has one".into()))
    }

    pub(crate) fn restrict_to_compiling() -> Result<(), FilterError> {
        unsupported()
    }

    pub(crate) fn restrict_to_loading() -> Result<(), FilterError> {
        unsupported()
    }

    pub(crate) fn restrict_to_calls() -> Result<(), FilterError> {
        unsupported()
    }
}
