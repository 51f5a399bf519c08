//! Lines that a guest writes, as its worker publishes them while the attempt runs.

use flow::{CallId, WorkerName};

use super::{LogLine, MAX_LOG_BYTES};
use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::{Invalid, WireCall, invalid},
};

/// Some lines of an attempt that runs. The log that is recorded with the answer has all of them; these come sooner, and may
/// be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLog {
    /// Which call.
    pub call: CallId,
    /// Who calls it.
    pub worker: WorkerName,
    /// The lines.
    pub lines: Vec<LiveLine>,
    /// Whether no more are published, since there were [`MAX_LOG_BYTES`] bytes.
    pub cut: bool,
}

/// A line and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLine {
    /// Its number, from 1, among the lines of its source: what the attempt logged, its standard output, its standard error.
    pub number: u32,
    /// The line.
    pub line: LogLine,
}

/// Where a line comes from. In the recorded log the lines of each source stand in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogSource {
    /// It was logged, at some level.
    Logged,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl LogSource {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// The source of the lines with a level's word.
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

/// The most lines of an attempt: none is free.
pub(super) const MOST_LINES: usize = MAX_LOG_BYTES / super::LINE_OVERHEAD;

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

    /// The message in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever are no such lines of a known version.
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
