//! The system calls that a confined process may make. Every other one fails with `EPERM`.
//!
//! A module that takes control of the process can then use memory, threads and its streams, and nothing else: it cannot start a
//! program, send a signal to another process, look into its memory or open anything. A process that calls guests also gives up
//! threads and new machine code, once it has loaded its module.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::FilterError;

/// Allowed whatever their arguments are.
const ALLOWED: &[i64] = &[
    // Requests and replies.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, and what the standard library does for each. The other filter answers `clone3`.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
];

/// Also allowed while a process loads the code of a module: the initial content of memories in sealed files without a name, and
/// on some processors a barrier before new code runs. The last one adds the next filter.
const ALLOWED_TO_LOAD: &[i64] = &[libc::SYS_memfd_create, libc::SYS_fcntl, libc::SYS_membarrier, libc::SYS_seccomp];

/// Restricts a process that compiles. It is called before another thread starts, and the threads that start later are restricted
/// too.
///
/// # Errors
/// [`FilterError`]; after [`FilterError::Unsupported`] the process is as before, and its limits remain.
pub(crate) fn restrict_to_compiling() -> Result<(), FilterError> {
    let arch = arch()?;
    [without_clone3(arch), allowed(arch, &[], &[libc::PR_SET_NAME])].into_iter().try_for_each(apply)
}

/// Restricts a process that loads the code of a module, as [`restrict_to_compiling`] does.
///
/// # Errors
/// As [`restrict_to_compiling`].
pub(crate) fn restrict_to_loading() -> Result<(), FilterError> {
    let arch = arch()?;
    let options = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS];
    [without_clone3(arch), allowed(arch, ALLOWED_TO_LOAD, &options)].into_iter().try_for_each(apply)
}

/// Takes what only loading needs from all threads of a process: from now on it starts no thread, and makes no memory executable.
///
/// # Errors
/// [`FilterError`]: the process must then call no guest.
pub(crate) fn restrict_to_calls() -> Result<(), FilterError> {
    let program = compiled(without_threads_and_code(arch()?))?;
    seccompiler::apply_filter_all_threads(&program).map_err(filter_error)
}

fn arch() -> Result<TargetArch, FilterError> {
    let unsupported = |_| FilterError::Unsupported(format!("the processor is {}", std::env::consts::ARCH));
    TargetArch::try_from(std::env::consts::ARCH).map_err(unsupported)
}

type BuiltFilter = Result<SeccompFilter, seccompiler::BackendError>;

fn compiled(filter: BuiltFilter) -> Result<BpfProgram, FilterError> {
    filter.and_then(TryInto::try_into).map_err(|error| FilterError::Failed(io::Error::other(error)))
}

fn apply(filter: BuiltFilter) -> Result<(), FilterError> {
    seccompiler::apply_filter(&compiled(filter)?).map_err(filter_error)
}

fn filter_error(error: seccompiler::Error) -> FilterError {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) if is_unsupported(&error) => {
            FilterError::Unsupported(error.to_string())
        }
        error => FilterError::Failed(io::Error::other(error)),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// The flags of `clone3` are in memory, where a filter cannot see them. The C library then takes `clone`.
fn without_clone3(arch: TargetArch) -> BuiltFilter {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)
}

/// Allows these system calls beside the usual ones, and these options of `prctl`.
fn allowed(arch: TargetArch, also: &[i64], options: &[libc::c_int]) -> BuiltFilter {
    use SeccompCmpOp::{Eq, MaskedEq};
    let always = ALLOWED.iter().chain(also);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = always.map(|call| (*call, Vec::new())).collect();
    let mut allow_if = |call: i64, argument: u8, operator: SeccompCmpOp, value: u64| {
        rules.entry(call).or_default().push(rule(argument, operator, value)?);
        Ok::<_, seccompiler::BackendError>(())
    };
    let thread = libc::CLONE_THREAD as u64;
    allow_if(libc::SYS_clone, 0, MaskedEq(thread), thread)?;
    // The limit on memory counts private memory only.
    let kinds = (libc::MAP_PRIVATE | libc::MAP_SHARED | libc::MAP_GROWSDOWN) as u64;
    allow_if(libc::SYS_mmap, 3, MaskedEq(kinds), libc::MAP_PRIVATE as u64)?;
    for option in options {
        allow_if(libc::SYS_prctl, 0, Eq, *option as u64)?;
    }
    // Its own limits, and a signal to itself when it aborts.
    allow_if(libc::SYS_prlimit64, 0, Eq, 0)?;
    allow_if(libc::SYS_tgkill, 0, Eq, std::process::id().into())?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)
}

/// Denies what a process needs only before it calls guests.
fn without_threads_and_code(arch: TargetArch) -> BuiltFilter {
    let executable = libc::PROT_EXEC as u64;
    let makes_code = || rule(2, SeccompCmpOp::MaskedEq(executable), executable);
    let no_privileges = rule(0, SeccompCmpOp::Eq, libc::PR_SET_NO_NEW_PRIVS as u64)?;
    let never = [libc::SYS_clone, libc::SYS_clone3].iter().chain(ALLOWED_TO_LOAD);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = never.map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, vec![makes_code()?]);
    rules.insert(libc::SYS_mprotect, vec![makes_code()?]);
    rules.insert(libc::SYS_prctl, vec![no_privileges]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)
}

/// A condition on one argument.
fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?])
}

#[cfg(test)]
mod tests;
