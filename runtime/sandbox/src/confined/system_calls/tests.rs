//! Each test restricts a process of its own, and that process tries what it must not do.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    process::{Command, Output},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Resource, Rlimit, Signal},
};

use super::*;
use crate::confined::{enter, forbid_files, limit};

const IS_CONFINED: &str = "WAFT_TEST_CONFINED";

/// The number of the descriptor that the process inherits.
const INHERITED: &str = "WAFT_TEST_INHERITED";

fn denied(error: io::Error) {
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}

/// Tries what no confined process may do.
fn try_everything() {
    let parent = Pid::from_raw(std::os::unix::process::parent_id().try_into().unwrap_or(1)).unwrap();
    denied(rustix::process::kill_process(parent, Signal::TERM).unwrap_err().into());
    denied(File::open("/dev/null").unwrap_err());
    denied(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err());
    denied(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap_err().into());
    denied(Command::new("/bin/true").status().unwrap_err());
    let raised = Rlimit { current: Some(200), maximum: Some(200) };
    denied(rustix::process::setrlimit(Resource::Cpu, raised).unwrap_err().into());
    drop(vec![1_u8; 64 << 20]);
}

fn enter_without_inherited_descriptor() {
    let inherited = format!("/proc/self/fd/{}", std::env::var(INHERITED).unwrap());
    assert!(std::fs::symlink_metadata(&inherited).is_ok(), "it was inherited");
    enter().unwrap();
    assert!(std::fs::symlink_metadata(&inherited).is_err(), "it is closed");
    assert!(rustix::thread::capabilities(None).unwrap().effective.is_empty(), "also of root");
}

/// Not a test of its own: a test below starts it in a process of its own.
#[test]
fn confined_to_compile() {
    if std::env::var_os(IS_CONFINED).is_none() {
        return;
    }
    enter_without_inherited_descriptor();
    forbid_files().unwrap();
    restrict_to_compiling().unwrap();
    limit(Resource::Cpu, 100).unwrap();
    try_everything();
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7, "threads are allowed");
    print!("confined");
}

/// Not a test of its own either.
#[test]
fn confined_to_calls() {
    if std::env::var_os(IS_CONFINED).is_none() {
        return;
    }
    enter_without_inherited_descriptor();
    restrict_to_loading().unwrap();
    limit(Resource::Cpu, 100).unwrap();
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let earlier_thread = std::thread::spawn(move || {
        rx.recv().unwrap();
        std::thread::Builder::new().spawn(|| {}).map(drop)
    });
    assert!(map(libc::PROT_READ | libc::PROT_EXEC).is_ok(), "code may be loaded");
    forbid_files().unwrap();
    restrict_to_calls().unwrap();
    try_everything();
    denied(std::thread::Builder::new().spawn(|| {}).map(drop).unwrap_err());
    tx.send(()).unwrap();
    denied(earlier_thread.join().unwrap().unwrap_err());
    assert!(map(libc::PROT_READ | libc::PROT_WRITE).is_ok(), "memory is allowed");
    denied(map(libc::PROT_READ | libc::PROT_EXEC).unwrap_err());
    assert!(restrict_to_calls().is_err(), "there are no further filters");
    print!("confined");
}

/// Maps a page of memory.
fn map(protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    #[expect(unsafe_code, reason = "only the system call shows what is allowed")]
    // SAFETY: It is a new mapping, which nothing uses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Starts a test of this file in a process of its own, which inherits a descriptor.
fn confined_process(test: &str) -> Output {
    let inherited = File::open("/dev/null").unwrap();
    fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = format!("confined::system_calls::tests::{test}");
    child.args([&name, "--exact", "--nocapture"]).env(IS_CONFINED, "1");
    child.env(INHERITED, inherited.as_raw_fd().to_string()).output().unwrap()
}

#[test]
fn a_confined_process_opens_nothing_and_reaches_no_other() {
    for test in ["confined_to_compile", "confined_to_calls"] {
        let output = confined_process(test);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("confined"), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
