//! The only way from this process to its two streams: data to standard output, diagnostics to standard error.
//!
//! Printing never fails and never panics. After a write to a stream has failed, further output to it is dropped. The
//! command finishes its work, and `main` ends with an exit code that reports the lost data ([`WriteFailure`]). Lost
//! diagnostics change nothing. All text is sanitized (`sanitize.rs`), since guests, people and other processes supply parts
//! of it. `clippy.toml` keeps all other code in this crate from the streams.

use std::{
    fmt::Display,
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

pub(crate) use crate::stream::Stream;
use crate::{
    colour,
    sanitize::{self, ColourCodes},
};

/// Why a stream accepts no more output.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// Its reader has left, as `head -1` does.
    ReaderGone,
    /// The operating system refuses the bytes: for example, the disk is full.
    Refused(io::Error),
}

/// The failure of each stream, once a write to it failed.
static WRITE_FAILURES: [OnceLock<WriteFailure>; 2] = [const { OnceLock::new() }; 2];

/// What each stream still has to write. The lock is held during a write, so that lines of several threads do not mix.
static PENDING: [Mutex<Pending>; 2] = [const { Mutex::new(Pending { bytes: Vec::new(), writers_together: 0 }) }; 2];

/// Bytes that are written later, with those that follow.
struct Pending {
    bytes: Vec<u8>,
    /// The number of threads in [`together`]: while there is one, bytes wait.
    writers_together: usize,
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
            return self.write_now(bytes);
        }
        pending.bytes.extend_from_slice(bytes);
        if pending.bytes.len() >= MAX_PENDING {
            self.write_now(&std::mem::take(&mut pending.bytes));
        }
    }

    /// Writes all bytes, or notes the stream's failure. The caller holds the lock of the stream.
    fn write_now(self, mut bytes: &[u8]) {
        while self.failure().is_none() && !bytes.is_empty() {
            match rustix::io::write(self.descriptor(), bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR) => {}
                // Another process has set the shared pipe to non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT)], None);
                }
                Err(rustix::io::Errno::PIPE) => drop(WRITE_FAILURES[self as usize].set(WriteFailure::ReaderGone)),
                Err(error) => drop(WRITE_FAILURES[self as usize].set(WriteFailure::Refused(error.into()))),
            }
        }
    }
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
                stream.write_now(&std::mem::take(&mut pending.bytes));
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

/// Waits until the reader of standard output leaves, which a command without output would not notice. Waits forever if
/// there is no such reader: for a file or a terminal.
pub(crate) async fn wait_for_reader_gone() {
    let (tx, reader_gone) = oneshot::channel();
    // The thread blocks until the reader leaves, and ends with the process at the latest.
    let thread = std::thread::Builder::new().name("reader of stdout".into()).spawn(move || {
        let mut polled = [PollFd::from_borrowed_fd(Stream::Out.descriptor(), PollFlags::empty())];
        // `poll` always reports errors and hang-ups, and no other events were requested.
        while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
        if polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            drop(WRITE_FAILURES[Stream::Out as usize].set(WriteFailure::ReaderGone));
            // The waiting future may have been dropped; a failed send is fine.
            let _ = tx.send(());
        }
    });
    if thread.is_err() || reader_gone.await.is_err() {
        std::future::pending().await
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
