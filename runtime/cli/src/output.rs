//! The only way from this process to its two streams: data to standard output, diagnostics to standard error.
//!
//! Printing never fails and never panics. After a write to standard output has failed, further data is dropped, since what
//! follows a gap is worth nothing. A command that does work finishes it, a command that only prints ends
//! ([`wait_for_failure`]), and `main` ends with an exit code that reports the lost data ([`WriteFailure`]). A lost
//! diagnostic changes nothing, and the next one is written: the log of a service goes on once its disk has space again.
//! All text is sanitized (`sanitize.rs`), since guests, people and other processes supply parts
//! of it. `clippy.toml` keeps all other code in this crate from the streams.

use std::{
    fmt::Display,
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

pub(crate) use crate::stream::Stream;
use crate::{
    colour,
    sanitize::{self, ColourCodes},
};

/// Why a write to a stream has failed.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// Its reader has left, as `head -1` does.
    ReaderGone,
    /// The operating system refuses the bytes: for example, the disk is full.
    Refused(io::Error),
}

/// The failure after which nothing more is written to a stream.
static WRITE_FAILURES: [OnceLock<WriteFailure>; 2] = [const { OnceLock::new() }; 2];

/// Wakes [`wait_for_failure`] when standard output has failed.
static OUT_FAILED: Notify = Notify::const_new();

/// What each stream still has to write. The lock is held during a write, so that lines of several threads do not mix.
static PENDING: [Mutex<Pending>; 2] =
    [const { Mutex::new(Pending { bytes: Vec::new(), writers_together: 0, is_cut: false }) }; 2];

/// Bytes that are written later, with those that follow.
struct Pending {
    bytes: Vec<u8>,
    /// The number of threads in [`together`]: while there is one, bytes wait.
    writers_together: usize,
    /// Whether the last write stopped within a line.
    is_cut: bool,
}

/// The number of bytes that are written without waiting for more.
const MAX_PENDING: usize = 64 * 1024;

impl Stream {
    fn colours(self) -> ColourCodes {
        if colour::on(self) { ColourCodes::Keep } else { ColourCodes::Strip }
    }

    /// Why output to the stream was lost, if some was.
    pub(crate) fn failure(self) -> Option<&'static WriteFailure> {
        WRITE_FAILURES[self as usize].get()
    }

    fn pending(self) -> MutexGuard<'static, Pending> {
        PENDING[self as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all bytes, or notes the stream's failure. In [`together`] the bytes may wait.
    fn write(self, bytes: &[u8]) {
        let mut pending = self.pending();
        if pending.writers_together == 0 {
            return self.write_now(&mut pending, bytes);
        }
        pending.bytes.extend_from_slice(bytes);
        if pending.bytes.len() >= MAX_PENDING {
            self.write_pending(&mut pending);
        }
    }

    /// Writes the bytes that waited.
    fn write_pending(self, pending: &mut Pending) {
        let bytes = std::mem::take(&mut pending.bytes);
        self.write_now(pending, &bytes);
    }

    /// Writes all bytes, or notes the stream's failure. The caller holds the lock of the stream.
    fn write_now(self, pending: &mut Pending, bytes: &[u8]) {
        if self.failure().is_some() || bytes.is_empty() {
            return;
        }
        // The rest of the line before is lost; this text starts a line of its own.
        let mut result = if pending.is_cut { self.write_all(b"\n") } else { Ok(()) };
        if result.is_ok() {
            pending.is_cut = false;
            result = self.write_all(bytes).map_err(|Unwritten { written, failure }| {
                pending.is_cut = written > 0 && bytes[written - 1] != b'\n';
                Unwritten { written, failure }
            });
        }
        if let Err(Unwritten { failure, .. }) = result {
            self.note_failure(failure);
        }
    }

    /// Writes all bytes to the descriptor.
    fn write_all(self, bytes: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(self.descriptor(), &bytes[written..]) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                // Another process has set the shared pipe to non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT)], None);
                }
                Err(rustix::io::Errno::PIPE) => return Err(Unwritten { written, failure: WriteFailure::ReaderGone }),
                Err(error) => return Err(Unwritten { written, failure: WriteFailure::Refused(error.into()) }),
            }
        }
        Ok(())
    }

    /// Notes why a write has failed, if nothing more may be written. A reader that has left does not come back. A disk that
    /// is full may have space later: then diagnostics go on, while data would have a gap.
    fn note_failure(self, failure: WriteFailure) {
        match (self, &failure) {
            (Self::Err, WriteFailure::Refused(_)) => {}
            (Self::Out, WriteFailure::Refused(_)) | (Self::Out | Self::Err, WriteFailure::ReaderGone) => {
                // Only the first failure counts.
                let _ = WRITE_FAILURES[self as usize].set(failure);
            }
        }
        if self == Self::Out {
            OUT_FAILED.notify_waiters();
        }
    }
}

/// Bytes that could not be written.
struct Unwritten {
    /// The number of bytes before them that were written.
    written: usize,
    failure: WriteFailure,
}

/// Writes all that `print` prints with few system calls: its lines are there already, and a reader wakes up once for them.
pub(crate) fn together<Printed>(print: impl FnOnce() -> Printed) -> Printed {
    /// Ends it, also after a panic.
    struct Writing;
    impl Drop for Writing {
        fn drop(&mut self) {
            for stream in [Stream::Out, Stream::Err] {
                let mut pending = stream.pending();
                pending.writers_together -= 1;
                stream.write_pending(&mut pending);
            }
        }
    }
    for stream in [Stream::Out, Stream::Err] {
        stream.pending().writers_together += 1;
    }
    let _writing = Writing;
    print()
}

/// Writes a line of data. Text of others in it cannot start another line, which could look like a row of waft's.
pub(crate) fn line(text: &str) {
    Stream::Out.write(row(text, Stream::Out.colours()).as_bytes());
}

/// One line of a stream, whatever is in the text.
fn row(text: &str, colours: ColourCodes) -> String {
    sanitize::without_line_ends(&sanitize::sanitize(text, colours)) + "\n"
}

/// Writes data of several lines. The caller has cleaned the text of others in it with [`sanitize::one_line`].
pub(crate) fn lines(text: &str) {
    Stream::Out.write(format!("{}\n", sanitize::sanitize(text, Stream::Out.colours())).as_bytes());
}

/// Writes JSON as a line of data.
pub(crate) fn json(json: impl Display) {
    Stream::Out.write(format!("{}\n", sanitize::sanitize_json(&json.to_string())).as_bytes());
}

/// Writes data without cleaning: it comes from waft itself, or does not go to a terminal.
pub(crate) fn bytes(bytes: &[u8]) {
    Stream::Out.write(bytes);
}

/// Writes a diagnostic of one or more lines.
pub(crate) fn diagnostic(text: &str) {
    Stream::Err.write(format!("{}\n", sanitize::sanitize(text, Stream::Err.colours())).as_bytes());
}

/// Writes cursor moves to the terminal of standard error. [`sanitize::cut`] has cleaned the text in them.
pub(crate) fn draw(text: &str) {
    Stream::Err.write(text.as_bytes());
}

/// Waits until data is lost: the reader of standard output leaves, which a command without output would not notice, or the
/// system refuses a write. `main` reports it then, so the caller ends as after success. Waits forever if neither happens.
pub(crate) async fn wait_for_failure() {
    // It is woken by each failure from now on, also before it is polled.
    let failed = OUT_FAILED.notified();
    // The thread blocks until the reader leaves, and ends with the process at the latest. Without it, the next write notices.
    let _ = std::thread::Builder::new().name("reader of stdout".into()).spawn(|| {
        let mut polled = [PollFd::from_borrowed_fd(Stream::Out.descriptor(), PollFlags::empty())];
        // `poll` always reports errors and hang-ups, and no other events were requested.
        while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
        if polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            Stream::Out.note_failure(WriteFailure::ReaderGone);
        }
    });
    if Stream::Out.failure().is_none() {
        failed.await;
    }
}

/// Writes log lines of `tracing` as diagnostics; it never fails, since a failure would be logged.
pub(crate) struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Each write is one event: text quoted in it must not start another.
        let event = String::from_utf8_lossy(bytes);
        Stream::Err.write(row(event.trim_end(), Stream::Err.colours()).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes log lines of `tracing` that are JSON.
pub(crate) struct JsonLog;

impl io::Write for JsonLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Each write is one event.
        let event = String::from_utf8_lossy(bytes);
        Stream::Err.write(format!("{}\n", sanitize::sanitize_json(event.trim_end())).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line of data, as `println!` would.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(&format!($($text)*)) };
}
pub(crate) use say;

/// Writes a line of diagnostics, as `eprintln!` would.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::diagnostic(&format!($($text)*)) };
}
pub(crate) use note;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_starts_no_line() {
        let hostile = "r1  bake  success\r\nr2  bake\u{2028}failure\rr3";
        let written = "r1  bake  success ⏎ r2  bake\\u{2028}failure\\x0dr3\n";
        for colours in [ColourCodes::Keep, ColourCodes::Strip] {
            assert_eq!(row(hostile, colours), written);
        }
        assert_eq!(row("\x1b[31ma\nb", ColourCodes::Keep), "\x1b[31ma\x1b[0m ⏎ b\n");
    }
}
