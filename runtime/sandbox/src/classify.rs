//! Classifies how a guest ended: which limit it reached, or what failed and where.

use flow::{Failure, FailureKind, Size, Values};
use wasmtime::{Trap, WasmBacktrace};

use crate::{
    backtrace::demangled,
    call::Completion,
    host_state::{Exited, HostState},
    run::{StopReason, Watchdog},
    transfer,
};

/// The maximum number of functions shown from a trap's stack: the first few give the location.
const MAX_FRAMES: usize = 5;

/// The maximum number of lines of standard error shown with a trap.
const MAX_STDERR_LINES: usize = 3;

/// Classifies a guest that ran. A reached limit decides the kind, regardless of what the guest did afterwards.
pub(crate) fn classify(
    result: wasmtime::Result<Result<Values, Failure>>,
    state: &HostState,
    stack: usize,
) -> Completion {
    match result {
        Ok(Ok(values)) => Completion::Succeeded(values),
        Ok(Err(failure)) => Completion::Failed(match state.meter.denied() {
            Some(denied) if failure.kind != FailureKind::OutputLimit => {
                let message = format!("{denied}; then it failed: {}", failure.message);
                Failure { details: failure.details, ..Failure::new(FailureKind::Memory, message) }
            }
            Some(_) | None => not_granted(failure, state),
        }),
        Err(error) => match error.downcast_ref::<StopReason>() {
            Some(StopReason::Interrupt) => Completion::Interrupted,
            Some(StopReason::Timeout) => Completion::Failed(timeout(&state.watch)),
            None => Completion::Failed(not_granted(classify_error(&error, state, stack), state)),
        },
    }
}

/// Messages with which Rust's standard library reports a missing capability, and the explanation. It calls no import in
/// these cases, so the message text decides; tests verify the texts.
const MISSING_CAPABILITY_MESSAGES: [(&str, &str); 3] = [
    ("operation not supported on this platform", "guests have no sockets, threads or processes"),
    ("failed to find a pre-opened file descriptor", NO_FILES),
    // The error number is WASI's own. Newer versions of the library ask the C library, which has no preopened folder.
    ("No such file or directory (os error 44)", NO_FILES),
];

const NO_FILES: &str =
    "guests have no files, unless the flow asks for a directory, as with allow = { dirs = [\"NAME\"] }";

/// Marks a failure as denied after the guest tried to use what it was not granted: every retry would fail too. The message names
/// it.
fn not_granted(failure: Failure, state: &HostState) -> Failure {
    let by_guest = matches!(failure.kind, FailureKind::Transient | FailureKind::Permanent | FailureKind::Trap);
    let missing = || {
        MISSING_CAPABILITY_MESSAGES
            .iter()
            .filter(|(_, explanation)| *explanation != NO_FILES || !state.has_files())
            .find(|(text, _)| failure.message.contains(text))
            .map(|(_, explanation)| (*explanation).to_owned())
    };
    match state.denied().or_else(missing).filter(|_| by_guest) {
        Some(reason) => {
            let message = format!("{reason}; then it failed: {}", failure.message);
            Failure { details: failure.details, ..Failure::new(FailureKind::Denied, message) }
        }
        None => failure,
    }
}

/// Classifies a call that ended before the guest was instantiated.
pub(crate) fn without_guest(error: &wasmtime::Error, watch: &Watchdog) -> Completion {
    match error.downcast_ref::<StopReason>() {
        Some(StopReason::Interrupt) => Completion::Interrupted,
        Some(StopReason::Timeout) => Completion::Failed(timeout(watch)),
        None => Completion::Failed(Failure::new(FailureKind::Module, format!("it could not be prepared: {error:#}"))),
    }
}

fn timeout(watch: &Watchdog) -> Failure {
    let (used, limit) = (watch.elapsed(), watch.timeout());
    Failure::new(FailureKind::Timeout, format!("it had run for {used:.1?} when it was stopped, the limit is {limit:?}"))
}

/// Classifies a guest that ended without a result.
fn classify_error(error: &wasmtime::Error, state: &HostState, stack: usize) -> Failure {
    let limits = state.meter.limits();
    let root = error.root_cause().to_string();
    if let Some(overflow) = state.streams.overflow() {
        return Failure::new(FailureKind::OutputLimit, overflow);
    }
    if let Some(denied) = state.meter.denied() {
        let trap = trap(error, state, stack);
        return Failure::new(FailureKind::Memory, format!("{denied}; then it trapped: {trap}"));
    }
    // Wasmtime has no types for these two errors, so the message text decides; tests verify the texts.
    if root.contains("fuel allocated for hostcalls has been exhausted") {
        return transfer::exceeded(error, limits);
    }
    if let Some(resource) = root.strip_prefix("resource limit exceeded: ") {
        let limit = limits.instances;
        let message = format!("its {resource}, the limit is {limit} core instances, memories and tables, each");
        return Failure::new(FailureKind::Memory, message);
    }
    if let Some(Exited(status)) = error.downcast_ref::<Exited>() {
        let message = format!("it exited with status {status} and returned no result{}", stderr_tail(state));
        return Failure::new(FailureKind::Trap, message);
    }
    Failure::new(FailureKind::Trap, trap(error, state, stack))
}

/// The reason of a trap, its location, and the guest's own message.
fn trap(error: &wasmtime::Error, state: &HostState, stack: usize) -> String {
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => format!("its call stack is exhausted, the limit is {}", Size(stack as u64)),
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => error.root_cause().to_string(),
    };
    let location = backtrace(error);
    match panic_message(&state.streams.stderr_tail()) {
        Some(panic) => format!("{panic} ({cause}{location})"),
        None => format!("{cause}{location}{}", stderr_tail(state)),
    }
}

/// The functions on a trap's stack, innermost first, as far as the module has names for them.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names: Vec<String> =
        backtrace.frames().iter().filter_map(|frame| frame.func_name()).take(MAX_FRAMES).map(demangled).collect();
    if names.is_empty() { String::new() } else { format!(", in {}", names.join(", called by ")) }
}

/// The message of a Rust panic, in one line, if standard error ends with one.
fn panic_message(stderr: &str) -> Option<String> {
    let start = stderr.rfind("panicked at ")?;
    let start = stderr[..start].rfind('\n').map_or(0, |end| end + 1);
    let lines: Vec<&str> = stderr[start..].lines().take_while(|line| !line.starts_with("note: ")).collect();
    Some(lines.join(" ").trim().to_owned())
}

fn stderr_tail(state: &HostState) -> String {
    let stderr = state.streams.stderr_tail();
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let lines = &lines[lines.len().saturating_sub(MAX_STDERR_LINES)..];
    if lines.is_empty() { String::new() } else { format!("; the end of its standard error: {}", lines.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_message_is_one_line_without_its_note() {
        let stderr =
            "before\n\nthread 'main' panicked at src/lib.rs:3:5:\nno\nbatter\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_message(stderr).unwrap(), "thread 'main' panicked at src/lib.rs:3:5: no batter");
        assert_eq!(panic_message("no panic message"), None);
    }
}
