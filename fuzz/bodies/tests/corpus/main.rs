//! Replays the corpus of the fuzzer: the inputs written by hand, and those that it has found.

#[cfg(feature = "server")]
mod seeds;

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bodies::{TARGETS, Target};

/// The maximum number of files of one target. `cargo xtask fuzz --keep` adds no more.
const MAX_FILES: usize = 50;

/// The maximum size of the files of one target, in bytes.
const MAX_BYTES: u64 = 200 << 10;

/// The time for one input. The fuzzer allows less, but it optimizes the code, and has a core for itself.
const MAX_TIME: Duration = Duration::from_secs(20);

/// The memory for one input, in bytes, as in the fuzzer.
const MAX_MEMORY: u64 = 1 << 30;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The files of a target, in order.
fn files(target: &Target) -> Vec<PathBuf> {
    let folder = folder("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it is there").path()).collect();
    files.sort();
    files
}

/// The names of the entries of a folder, without extension.
fn names(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(name)).expect("it is there");
    entries
        .map(|entry| {
            entry.expect("it is there").path().file_stem().expect("it is there").to_string_lossy().into_owned()
        })
        .collect()
}

#[test]
fn every_input_of_the_corpus_is_handled() {
    let mut faults = Vec::new();
    for target in TARGETS {
        for file in files(target) {
            let input = fs::read(&file).unwrap();
            let (memory, started) = (PeakMemory::start(), Instant::now());
            let is_handled = catch_unwind(|| (target.run)(&input)).is_ok();
            let (time, used) = (started.elapsed(), memory.used());
            if !is_handled || time > MAX_TIME || used > MAX_MEMORY {
                faults.push(format!("{}: {time:?}, {used} bytes, handled: {is_handled}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "the output above says why:\n{}", faults.join("\n"));
}

#[test]
fn the_corpus_is_small() {
    for target in TARGETS {
        let files = files(target);
        let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        let (count, name) = (files.len(), target.name);
        assert!((5..=MAX_FILES).contains(&count) && bytes <= MAX_BYTES, "{name} has {count} files with {bytes} bytes");
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    // Without the feature `server`, some programs have no body here.
    assert!(names("fuzz_targets").is_superset(&targets) && names("corpus").is_superset(&targets));
    if cfg!(feature = "server") {
        assert_eq!((names("fuzz_targets"), names("corpus")), (targets.clone(), targets));
    }
}

/// The peak of the memory of this process, where the system tells it.
struct PeakMemory {
    before: Option<u64>,
}

impl PeakMemory {
    fn start() -> Self {
        // Resets the peak to what is used now. Older kernels and other systems keep the peak.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { before: peak() }
    }

    /// How far the peak has risen since the start.
    fn used(&self) -> u64 {
        peak().zip(self.before).map_or(0, |(after, before)| after.saturating_sub(before))
    }
}

fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[test]
fn the_memory_of_an_input_is_measured() {
    if peak().is_none() {
        return;
    }
    let memory = PeakMemory::start();
    let bytes = std::hint::black_box(vec![1_u8; 64 << 20]);
    assert!(memory.used() >= 60 << 20, "{} of {} bytes", memory.used(), bytes.len());
}
