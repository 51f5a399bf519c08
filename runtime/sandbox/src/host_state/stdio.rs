//! A guest's output: log lines, standard output and standard error, with one limit for all three.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flow::{Limits, MAX_MESSAGE_BYTES, Size};
use wasmtime_wasi::async_trait;
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynOutputStream, OutputStream, StreamError, StreamResult},
};

use crate::call::{Level, LogLine, Observer, Standard};

/// The maximum size of one write of a guest; standard libraries write less at once.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// How much of the end of standard error is available despite the limit: a failure's message is there.
const STDERR_TAIL_BYTES: usize = MAX_MESSAGE_BYTES;

/// What a line of the log counts besides its text, in bytes: about what it takes in memory, so that empty lines count too.
const LINE_BYTES: usize = 32;

/// The use of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stdout {
    /// Part of the log.
    #[default]
    Log,
    /// A command's outputs, with the limit of outputs.
    Output,
}

/// The guest's output exceeded a limit; [`Streams::overflow`] returns which.
#[derive(Debug, thiserror::Error)]
#[error("the output of the guest exceeds its limit")]
pub(crate) struct LimitExceeded;

impl From<LimitExceeded> for StreamError {
    fn from(error: LimitExceeded) -> Self {
        Self::Trap(error.into())
    }
}

/// A handle to a guest's output. The guest's streams hold clones of it.
#[derive(Clone)]
pub(crate) struct Streams {
    state: Arc<Mutex<StreamState>>,
    /// Receives the output that goes to the log.
    observer: Option<Arc<dyn Observer>>,
}

/// The captured output.
#[derive(Debug, Default)]
pub(crate) struct CapturedOutput {
    pub(crate) log: Vec<LogLine>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// The exceeded limit, and the size that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExceededLimit {
    /// A command's outputs.
    Output { used: u64 },
    /// All other output.
    Log { used: u64 },
}

/// The output so far.
#[derive(Debug)]
struct StreamState {
    captured: CapturedOutput,
    stdout: Stdout,
    /// The bytes of log lines, standard output and standard error so far.
    logged: u64,
    log_limit: u64,
    output_limit: u64,
    overflow: Option<ExceededLimit>,
    tail: Vec<u8>,
}

impl Streams {
    pub(crate) fn new(limits: &Limits, stdout: Stdout, observer: Option<Arc<dyn Observer>>) -> Self {
        let state = StreamState {
            captured: CapturedOutput::default(),
            stdout,
            logged: 0,
            log_limit: limits.log,
            output_limit: limits.output,
            overflow: None,
            tail: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), observer }
    }

    /// Handles printed bytes. Bytes for the log go to the observer too.
    pub(crate) fn print(&self, standard: Standard, bytes: &[u8]) -> StreamResult<()> {
        let is_log = {
            let mut state = self.lock();
            state.write(standard, bytes)?;
            standard == Standard::Error || state.stdout == Stdout::Log
        };
        if is_log && let Some(observer) = &self.observer {
            observer.print(standard, bytes);
        }
        Ok(())
    }

    /// The bytes that are in memory.
    pub(crate) fn held(&self) -> u64 {
        let state = self.lock();
        let CapturedOutput { log: _, stdout, stderr } = &state.captured;
        state.logged.saturating_add((stdout.capacity() + stderr.capacity() + state.tail.capacity()) as u64)
    }

    /// The end of standard error as text.
    pub(crate) fn stderr_tail(&self) -> String {
        self.lock().stderr_tail()
    }

    /// The exceeded limit, with limit and use, if any.
    pub(crate) fn overflow(&self) -> Option<String> {
        self.lock().overflow()
    }

    /// Takes the outputs that a command printed, and leaves none.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().captured.stdout)
    }

    /// Takes the captured output, and leaves none.
    pub(crate) fn take(&self) -> CapturedOutput {
        std::mem::take(&mut self.lock().captured)
    }

    /// Private, so that no caller can hold the guard and lock a second time.
    fn lock(&self) -> MutexGuard<'_, StreamState> {
        // Each change is complete, so a panic in another thread cannot leave a partial one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a log line.
    ///
    /// # Errors
    /// [`LimitExceeded`] when the line exceeds the limit: the guest has to be stopped.
    pub(crate) fn log(&self, level: Level, message: &str) -> Result<(), LimitExceeded> {
        let mut state = self.lock();
        state.count_log_bytes(message.len() + LINE_BYTES)?;
        state.captured.log.push(LogLine { level, message: message.into() });
        Ok(())
    }

    pub(crate) fn writer(&self, standard: Standard) -> DynOutputStream {
        Box::new(Writer { streams: self.clone(), standard })
    }
}

impl StreamState {
    /// The end of standard error as text.
    fn stderr_tail(&self) -> String {
        let start = self.tail.len().saturating_sub(STDERR_TAIL_BYTES);
        String::from_utf8_lossy(&self.tail[start..]).into_owned()
    }

    fn overflow(&self) -> Option<String> {
        Some(match self.overflow? {
            ExceededLimit::Output { used } => {
                let limit = Size(self.output_limit);
                format!("it had written {used} bytes to standard output when it was stopped, the limit is {limit}")
            }
            ExceededLimit::Log { used } => {
                let limit = Size(self.log_limit);
                format!("it had logged and printed {used} bytes when it was stopped, the limit is {limit}")
            }
        })
    }

    /// Counts bytes against the limit of logs.
    fn count_log_bytes(&mut self, count: usize) -> Result<(), LimitExceeded> {
        self.logged = self.logged.saturating_add(count as u64);
        if self.logged > self.log_limit {
            self.overflow = Some(ExceededLimit::Log { used: self.logged });
            return Err(LimitExceeded);
        }
        Ok(())
    }

    fn write(&mut self, standard: Standard, bytes: &[u8]) -> StreamResult<()> {
        match (standard, self.stdout) {
            (Standard::Output, Stdout::Output) => {
                let used = self.captured.stdout.len() as u64 + bytes.len() as u64;
                if used > self.output_limit {
                    self.overflow = Some(ExceededLimit::Output { used });
                    return Err(LimitExceeded.into());
                }
                self.captured.stdout.extend_from_slice(bytes);
            }
            (Standard::Output, Stdout::Log) => {
                self.count_log_bytes(bytes.len())?;
                self.captured.stdout.extend_from_slice(bytes);
            }
            (Standard::Error, Stdout::Output | Stdout::Log) => {
                self.append_tail(bytes);
                self.count_log_bytes(bytes.len())?;
                self.captured.stderr.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn append_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STDERR_TAIL_BYTES)..];
        self.tail.extend_from_slice(bytes);
        // Truncated occasionally, not at every write.
        if self.tail.len() > 2 * STDERR_TAIL_BYTES {
            self.tail.drain(..self.tail.len() - STDERR_TAIL_BYTES);
        }
    }
}

/// One of a guest's output streams.
struct Writer {
    streams: Streams,
    standard: Standard,
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.streams.print(self.standard, &bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_log_limit_covers_all_streams_and_the_stderr_tail_survives() {
        let limits = Limits { log: 42, ..Limits::default() };
        let streams = Streams::new(&limits, Stdout::Log, None);
        assert!(streams.log(Level::Info, "four").is_ok());
        streams.lock().write(Standard::Output, b"five!").unwrap();
        assert_eq!(streams.overflow(), None);
        assert!(streams.lock().write(Standard::Error, b"the end").is_err());
        assert_eq!(streams.stderr_tail(), "the end");
        let overflow = streams.overflow().unwrap();
        assert_eq!(overflow, "it had logged and printed 48 bytes when it was stopped, the limit is 42B");
        let captured = streams.take();
        assert_eq!(
            (captured.log.len(), captured.stdout.as_slice(), captured.stderr.as_slice()),
            (1, &b"five!"[..], &b""[..])
        );
    }

    #[test]
    fn empty_lines_count_with_the_memory_that_they_take() {
        let streams = Streams::new(&Limits { log: 1_000, ..Limits::default() }, Stdout::Log, None);
        let lines = (0..).take_while(|_| streams.log(Level::Info, "").is_ok()).count();
        assert_eq!(lines, 1_000 / LINE_BYTES);
    }

    #[test]
    fn command_output_counts_against_the_output_limit() {
        let limits = Limits { log: 1, output: 4, ..Limits::default() };
        let streams = Streams::new(&limits, Stdout::Output, None);
        streams.lock().write(Standard::Output, b"1234").unwrap();
        assert!(streams.lock().write(Standard::Output, b"5").is_err());
        let overflow = streams.overflow().unwrap();
        assert_eq!(overflow, "it had written 5 bytes to standard output when it was stopped, the limit is 4B");
    }
}
