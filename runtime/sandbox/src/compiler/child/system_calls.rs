//! The system calls that the child may make. Every other one fails with `EPERM`.
//!
//! A module that takes control of the compiler can then use memory, threads and its two streams, and nothing else: it cannot
//! start a program, send a signal to another process, look into its memory or open anything.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Allowed whatever their arguments are.
const ALLOWED: &[i64] = &[
    // The request and the reply.
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

/// Restricts the system calls of this thread and of the threads that it starts. A kernel without filters, or one that forbids
/// them here, leaves the process as it is: the limits remain.
pub(super) fn restrict() -> io::Result<()> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    for filter in [without_clone3(arch), allowed(arch)] {
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
        match seccompiler::apply_filter(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error)) if is_unsupported(&error) => {
                return Ok(());
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// The flags of `clone3` are in memory, where a filter cannot see them. The C library then takes `clone`.
fn without_clone3(arch: TargetArch) -> Result<SeccompFilter, seccompiler::BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)
}

fn allowed(arch: TargetArch) -> Result<SeccompFilter, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let mut allow_if = |call: i64, argument: u8, operator: SeccompCmpOp, value: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
        Ok(())
    };
    let thread = libc::CLONE_THREAD as u64;
    allow_if(libc::SYS_clone, 0, MaskedEq(thread), thread)?;
    // The limit on memory counts private memory only.
    let kinds = (libc::MAP_PRIVATE | libc::MAP_SHARED | libc::MAP_GROWSDOWN) as u64;
    allow_if(libc::SYS_mmap, 3, MaskedEq(kinds), libc::MAP_PRIVATE as u64)?;
    allow_if(libc::SYS_prctl, 0, Eq, libc::PR_SET_NAME as u64)?;
    // Its own limits, and a signal to itself when it aborts.
    allow_if(libc::SYS_prlimit64, 0, Eq, 0)?;
    allow_if(libc::SYS_tgkill, 0, Eq, std::process::id().into())?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, Resource, Rlimit, Signal};

    use super::*;

    const IS_CONFINED: &str = "WAFT_TEST_CONFINED";

    /// Not a test of its own: the test below starts it in a process of its own.
    #[test]
    fn confined() {
        if std::env::var_os(IS_CONFINED).is_none() {
            return;
        }
        super::super::give_up_privileges().unwrap();
        assert!(rustix::thread::capabilities(None).unwrap().effective.is_empty(), "also of root");
        super::super::confine().unwrap();
        super::super::limit(Resource::Cpu, 100).unwrap();
        let denied = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let parent = Pid::from_raw(std::os::unix::process::parent_id().try_into().unwrap_or(1)).unwrap();
        denied(rustix::process::kill_process(parent, Signal::TERM).unwrap_err().into());
        denied(std::fs::File::open("/dev/null").unwrap_err());
        denied(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err());
        denied(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap_err().into());
        denied(Command::new("/bin/true").status().unwrap_err());
        let raised = Rlimit { current: Some(200), maximum: Some(200) };
        denied(rustix::process::setrlimit(Resource::Cpu, raised).unwrap_err().into());
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7, "threads are allowed");
        drop(vec![1_u8; 64 << 20]);
        print!("confined");
    }

    #[test]
    fn a_confined_process_opens_nothing_and_reaches_no_other() {
        let name = "compiler::child::system_calls::tests::confined";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args([name, "--exact", "--nocapture"]).env(IS_CONFINED, "1").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("confined"), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
