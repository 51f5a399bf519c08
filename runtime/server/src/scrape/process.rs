//! What this process uses, as the operating system tells it.

use ::metrics::ProcessUsage;

/// What this process uses; `None` if the operating system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn usage() -> Option<ProcessUsage> {
    use std::time::Duration;

    use procfs_core::{FromRead as _, process::Status};
    use rustix::{
        process::{Resource, getrlimit},
        time::{ClockId, clock_gettime},
    };

    let status = Status::from_file("/proc/self/status").ok()?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(u64::try_from(cpu.tv_sec).ok()?, u32::try_from(cpu.tv_nsec).ok()?);
    // The folder that is read is open too.
    let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    let kibibytes = |size: Option<u64>| size.unwrap_or_default() << 10;
    Some(ProcessUsage {
        cpu,
        resident: kibibytes(status.vmrss),
        virtual_memory: kibibytes(status.vmsize),
        threads: status.threads,
        open_files: open_files as u64,
        max_open_files: getrlimit(Resource::Nofile).current,
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn usage() -> Option<ProcessUsage> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_what_this_process_uses() {
        let ProcessUsage { cpu, resident, virtual_memory, threads, open_files, max_open_files } =
            usage().expect("it tells");
        assert!(!cpu.is_zero() && threads > 0 && open_files >= 3, "{cpu:?} {threads} {open_files}");
        assert!(1 << 20 < resident && resident < virtual_memory, "{resident} {virtual_memory}");
        assert!(max_open_files.is_none_or(|max| open_files < max));
    }
}
