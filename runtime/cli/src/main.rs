//! The `waft` binary: flags, configuration, output, exit codes. Only this crate uses clap, the environment and OS signals.
//!
//! Start reading at `arguments.rs`, then `commands.rs`.

mod arguments;
mod sanitize;
mod commands;
mod display;
mod exit;
mod flow_file;
mod input_file;
mod keys;
mod modules;
mod output;
mod output_file;
mod queues;
mod colour;
mod settings;
mod stream;
mod signals;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    process::ExitCode,
};

use clap::Parser;
use mimalloc::MiMalloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use arguments::Arguments;
use exit::Exit;
use output::{Stream, WriteFailure};

/// Allocates faster than the system's allocator: a task's messages pass through several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    for (argument, serve) in modules::CHILDREN {
        if std::env::args_os().skip(1).eq([argument]) {
            let Err(error) = serve() else { return ExitCode::SUCCESS };
            // Only a check of this machine reads it. The parent of a child that works explains a failure.
            output::diagnostic(&error.to_string());
            return ExitCode::FAILURE;
        }
    }
    // Not in the children: their sandbox allows less than the output needs.
    std::panic::set_hook(Box::new(print_panic));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            return ExitCode::from(finish(usage(&error)).code());
        }
    };
    log(&arguments);
    let exit = match run(arguments) {
        Ok(exit) => exit,
        Err(failed) => {
            failed.print();
            failed.exit
        }
    };
    ExitCode::from(finish(exit).code())
}

/// Prints a panic. Its message may quote text of others, so it goes the way of all output.
fn print_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let panic = sanitize::indented(&panic.to_string(), 2);
    output::diagnostic(&format!("thread '{}' {panic}", thread.name().unwrap_or("without a name")));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        output::diagnostic(&backtrace.to_string());
    } else {
        output::note!("note: RUST_BACKTRACE=1 prints a backtrace");
    }
}

/// Prints help, the version or an error in the arguments.
fn usage(error: &clap::Error) -> Exit {
    // Help and version are no errors; clap knows which stream they go to.
    let (stream, exit) = if error.use_stderr() { (Stream::Err, Exit::Invalid) } else { (Stream::Out, Exit::Success) };
    let text = error.render();
    let text = if colour::on(stream) { text.ansi().to_string() } else { text.to_string() };
    match stream {
        Stream::Err => output::diagnostic(text.trim_end()),
        Stream::Out => output::lines(text.trim_end()),
    }
    exit
}

/// The exit code of a command whose output may have been lost. The code of another failure takes precedence.
fn finish(exit: Exit) -> Exit {
    match (exit, Stream::Out.failure()) {
        (Exit::Success, Some(WriteFailure::ReaderGone)) => Exit::ReaderGone,
        (Exit::Success, Some(WriteFailure::Refused(error))) => {
            output::note!("error: could not write to standard output: {error}");
            Exit::Unreachable
        }
        (exit, _) => exit,
    }
}

/// Lets this process open as many files as the system allows it: each connection, and each file of a call, is one. Many systems let a
/// process open 1,024 unless it asks for more.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Without it, calls and connections beyond the limit fail.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn run(arguments: Arguments) -> Result<Exit, exit::CliError> {
    if arguments.command.executes_tasks() {
        raise_open_files();
    }
    let settings = settings::Settings::read(&arguments.shared)?;
    // A command that mostly waits is faster on one thread: nothing has to wake another thread.
    let mut threads = match arguments.command.executes_tasks() {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = threads.enable_all().build().map_err(|error| {
        exit::CliError::unreachable(error).hint("the system refused to start threads; raise its limits")
    })?;
    let abandons_blocked_threads = arguments.command.abandons_blocked_threads();
    let done = runtime.block_on(commands::run(arguments.command, settings));
    if abandons_blocked_threads {
        // Dropping the runtime would wait for its blocking threads.
        runtime.shutdown_background();
    }
    done
}

/// The crates whose log lines are shown. Other libraries are shown from a warning on, and lapin never: it logs whole
/// messages.
const LOG_TARGETS: [&str; 8] = ["waft", "server", "engine", "worker", "sandbox", "logbook", "store", "broker"];

fn log(arguments: &Arguments) {
    let level = match arguments.shared.verbose {
        0 if arguments.command.is_service() => "info",
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let ours: String = LOG_TARGETS.iter().map(|target| format!("{target}={level},")).collect();
    // The summary shows how a run ended; a service prints none.
    let has_summary = arguments.shared.verbose == 0 && !arguments.command.is_service();
    let ending = if has_summary { "off" } else { "info" };
    let default = format!("warn,{ours}lapin=off,waft::run={ending}");
    let filter = match arguments.command.owns_terminal() && Stream::Err.is_terminal() {
        true => EnvFilter::new("off"),
        false => EnvFilter::try_from_env("WAFT_LOG").unwrap_or_else(|_| EnvFilter::new(default)),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| output::Log).with_target(false);
    // A log line that cannot be written is lost: reporting it on the same stream would be no use.
    logs.with_ansi(colour::on(Stream::Err)).compact().log_internal_errors(false).init();
}
