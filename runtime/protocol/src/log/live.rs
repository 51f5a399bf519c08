//! Lines that a guest writes, published by its worker while the attempt runs.

use flow::{CallId, WorkerName};

use super::{LogLine, MAX_LEVEL_BYTES, MAX_LOG_BYTES};
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

/// The maximum size of a message that is read, in bytes. Empty lines have a few bytes each besides what they count.
const MAX_MESSAGE_BYTES: usize = 4 * MAX_LOG_BYTES;

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

    /// Decodes the message. Lines beyond [`MAX_LOG_BYTES`] are cut off.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not live lines of a known version, and for more bytes than a worker sends at once.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // Workers publish these messages without a seal, so anybody with a worker's user may have sent this one.
        if bytes.len() > MAX_MESSAGE_BYTES {
            let reason = format!("its {} bytes are more than {MAX_MESSAGE_BYTES}", bytes.len());
            return Err(codec::damaged(MessageKind::LIVE_LOG, reason));
        }
        let wire: WireLive<'_> = codec::decode(MessageKind::LIVE_LOG, bytes)?;
        wire.into_log().map_err(|reason| codec::damaged(MessageKind::LIVE_LOG, reason))
    }
}

impl WireLive<'_> {
    fn into_log(self) -> Result<LiveLog, Invalid> {
        let (mut lines, mut left) = (Vec::new(), MAX_LOG_BYTES);
        let count = self.lines.len();
        for (number, level, text) in self.lines {
            let Some(rest) = left.checked_sub(log_size(text)) else { break };
            left = rest;
            let level = level[..level.floor_char_boundary(MAX_LEVEL_BYTES)].into();
            lines.push(LiveLine { number, line: LogLine { level, text: text.into() } });
        }
        Ok(LiveLog {
            call: self.call.into_call()?,
            worker: WorkerName::new(self.worker).map_err(invalid)?,
            cut: self.cut || lines.len() < count,
            lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn log(lines: usize, level: &str, text: &str) -> LiveLog {
        let call = CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let line = |number| LiveLine { number, line: LogLine { level: level.into(), text: text.into() } };
        LiveLog { call, worker: "w".parse().unwrap(), lines: (1..).take(lines).map(line).collect(), cut: false }
    }

    #[test]
    fn the_largest_log_is_read_whole() {
        for (lines, text) in [(MAX_LINES, String::new()), (1, "x".repeat(MAX_LOG_BYTES - 16))] {
            let whole = log(lines, "information-long", &text);
            assert_eq!(LiveLog::decode(&whole.encode()), Ok(whole));
        }
    }

    #[test]
    fn lines_beyond_the_largest_log_are_cut_off() {
        let read = LiveLog::decode(&log(3, &"l".repeat(1_000), &"x".repeat(MAX_LOG_BYTES / 2)).encode()).unwrap();
        assert_eq!((read.lines.len(), read.cut), (1, true));
        assert_eq!(read.lines[0].line.level.len(), MAX_LEVEL_BYTES);
        let large = log(1, "info", &"x".repeat(MAX_MESSAGE_BYTES)).encode();
        assert!(LiveLog::decode(&large).unwrap_err().to_string().contains("are more than 262144"));
    }
}
