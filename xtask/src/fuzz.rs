//! `cargo xtask fuzz`: gives waft inputs that nobody would write, and reports those that it does not handle.
//!
//! The engine is libFuzzer, which the crate `libfuzzer-sys` compiles. cargo-fuzz is not used: it needs a nightly compiler for its
//! sanitizers, which find wrong `unsafe` code, and waft has almost none. What libFuzzer itself needs, counters in the code that it
//! explores, a stable compiler also adds: an LLVM pass does it, and `-C passes` is a stable option.

mod keep;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use target::Target;
use xtask::{
    process::{self, shown},
    project,
};

/// What to fuzz, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FuzzOptions {
    /// The target; all of them, one after the other, without one.
    pub(crate) target: Option<String>,
    /// The time for each target.
    pub(crate) seconds: u64,
    /// Whether to add the best inputs to the corpus in the repository afterwards.
    pub(crate) keep: bool,
}

/// Adds the counters and the comparisons that libFuzzer watches to each crate.
const INSTRUMENTATION: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Otherwise the optimizer merges branches, and the engine sees fewer of them.
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    // The counters of a crate are registered by each of its codegen units.
    "-Ccodegen-units=1",
];

/// An input that takes longer is a fault, in seconds.
const MAX_SECONDS: u64 = 5;

/// An input that takes more memory is a fault, in MiB.
const MAX_MEMORY_MIB: u64 = 1024;

/// The stack, in KiB. Servers and workers read inputs on threads with this stack, and a deeper recursion ends their process.
const STACK_KIB: u64 = 2048;

/// The largest inputs that the engine makes, in bytes: larger ones are slow, and find little that smaller ones do not.
const MAX_INPUT: u64 = 16 << 10;

pub(crate) fn run(options: &FuzzOptions) -> Result<ExitCode> {
    let all = target::all()?;
    let chosen: Vec<&Target> = match &options.target {
        Some(name) => {
            let names = || all.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(" ");
            vec![
                all.iter()
                    .find(|target| target.name == *name)
                    .with_context(|| format!("the targets are {}", names()))?,
            ]
        }
        None => all.iter().collect(),
    };
    let mut failed = Vec::new();
    for target in chosen {
        println!("\n== {} ==", target.name);
        let program = build(target)?;
        if !explore(target, &program, options.seconds)? {
            failed.push(target.name.as_str());
        } else if options.keep {
            keep::keep(target, &program)?;
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "error: faults in {}\n\nhint: docs/fuzzing.md says what to do with the inputs in fuzz/artifacts",
        failed.join(", ")
    );
    Ok(ExitCode::FAILURE)
}

/// Builds the program of a target, with the features that it needs and no others.
fn build(target: &Target) -> Result<PathBuf> {
    let (folder, machine) = (target_folder(), machine()?);
    let mut cargo = process::command("cargo");
    cargo
        .args(["build", "--release", "--target", &machine, "--bin", &target.name])
        .current_dir(project::fuzz_workspace());
    if !target.features.is_empty() {
        cargo.args(["--features", &target.features.join(",")]);
    }
    // With a `--target`, the flags are not those of build scripts and macros.
    cargo.env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    run_shown(&mut cargo)?;
    Ok(folder.join(machine).join("release").join(&target.name))
}

/// Lets the engine explore a target. Returns whether it found no fault.
fn explore(target: &Target, program: &Path, seconds: u64) -> Result<bool> {
    let found = target.found();
    let artifacts = target.artifacts();
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let mut engine = engine(program, &artifacts);
    engine.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={MAX_INPUT}")).arg("-print_final_stats=1");
    // New inputs go to the first folder.
    engine.arg(found).args(target.seeds());
    println!("$ {}", shown(&engine));
    let status = engine.status().with_context(|| format!("could not run `{}`", shown(&engine)))?;
    Ok(status.success())
}

/// The program of a target, with the limits for each input.
fn engine(program: &Path, artifacts: &Path) -> Command {
    let mut engine = process::command("sh");
    // The shell sets the limit, since a limit on the stack holds from the start of a program.
    engine.args(["-c", &format!("ulimit -s {STACK_KIB} && exec \"$0\" \"$@\"")]).arg(program);
    engine.arg(format!("-timeout={MAX_SECONDS}")).arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"));
    engine.arg(format!("-artifact_prefix={}/", artifacts.display()));
    engine.current_dir(project::root());
    engine
}

fn run_shown(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("could not run `{}`", shown(command)))?;
    ensure!(status.success(), "`{}` ended with {status}", shown(command));
    Ok(())
}

/// The build folder of the fuzzer. It differs from that of the project, because all crates are built with other flags.
fn target_folder() -> PathBuf {
    project::build_folder().join("fuzz")
}

/// The name of this machine for the compiler.
fn machine() -> Result<String> {
    let mut rustc = process::command("rustc");
    let output = rustc.args(["--version", "--verbose"]).current_dir(project::root()).output();
    let output = output.context("could not run `rustc`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(machine) => Ok(machine.to_owned()),
        None => bail!("`rustc --version --verbose` names no host: {text}"),
    }
}
