//! Lines that a guest writes, published by its worker while the attempt runs.

use flow::{CallId, WorkerName};

use super::{LogLine, MAX_LOG_BYTES};
use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{Invalid, WireCall, invalid},
};

/// Some lines of a running attempt. They may be lost; the log that is recorded with the result has all lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLog {
    /// The call.
    pub call: CallId,
    /// The worker that makes the call.
    pub worker: WorkerName,
    /// The lines.
    pub lines: Vec<LiveLine>,
    /// Whether the worker stopped publishing, because the lines reached [`MAX_LOG_BYTES`].
    pub cut: bool,
}

/// A line and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLine {
    /// The line's number, from 1, among the lines of its source: log, standard output or standard error.
    pub number: u32,
    /// The line.
    pub line: LogLine,
}

/// The source of a line. In the recorded log the lines of each source are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogSource {
    /// The guest logged the line, at some level.
    Logged,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl LogSource {
    /// The number of sources.
    pub const COUNT: usize = 3;

    /// The source of lines with this level name.
    #[must_use]
    pub fn of(level: &str) -> Self {
        match level {
            "stdout" => Self::Output,
            "stderr" => Self::Error,
            _ => Self::Logged,
        }
    }
}

/// The bytes that a line counts against [`MAX_LOG_BYTES`].
#[must_use]
pub fn log_size(text: &str) -> usize {
    text.len() + super::LINE_OVERHEAD
}

/// The maximum number of lines of one attempt: each line costs at least the overhead.
pub(super) const MAX_LINES: usize = MAX_LOG_BYTES / super::LINE_OVERHEAD;

#[derive(Encode, BorrowDecode)]
struct WireLive<'a> {
    call: WireCall<'a>,
    worker: &'a str,
    lines: Vec<(u32, &'a str, &'a str)>,
    cut: bool,
}

impl LiveLog {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let lines = self.lines.iter();
        let lines = lines.map(|LiveLine { number, line }| (*number, line.level.as_str(), line.text.as_str())).collect();
        let wire = WireLive { call: (&self.call).into(), worker: self.worker.as_str(), lines, cut: self.cut };
        codec::encode(MessageKind::LIVE_LOG, &wire)
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not live lines of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wire: WireLive<'_> = codec::decode(MessageKind::LIVE_LOG, bytes)?;
        wire.into_log().map_err(|reason| codec::damaged(MessageKind::LIVE_LOG, reason))
    }
}

impl WireLive<'_> {
    fn into_log(self) -> Result<LiveLog, Invalid> {
        let line = |(number, level, text): (u32, &str, &str)| LiveLine {
            number,
            line: LogLine { level: level.into(), text: text.into() },
        };
        Ok(LiveLog {
            call: self.call.into_call()?,
            worker: WorkerName::new(self.worker).map_err(invalid)?,
            lines: self.lines.into_iter().map(line).collect(),
            cut: self.cut,
        })
    }
}
