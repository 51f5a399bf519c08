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
mod log;
mod modules;
mod otlp;
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
    let exit = match log::start(&arguments).and_then(|()| run(arguments)) {
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
