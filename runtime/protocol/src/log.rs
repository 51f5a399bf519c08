//! What a worker says about one attempt besides its result: what the guest wrote and used, and the HTTP exchanges that were
//! recorded. It is stored with its run.

mod join;
mod live;
mod usage;

use flow::{CallId, Timestamp, WorkerName};

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    http::{HttpRecord, WireHttpRecord},
};

pub use join::{LogJoin, NewLines};
pub use live::{LiveLine, LiveLog, LogSource, log_size};
pub use usage::CallUsage;

/// The maximum bytes of text that are stored of one attempt.
pub const MAX_LOG_BYTES: usize = 64 << 10;

/// The cost of a line besides its text, in bytes, so that the number of empty lines is limited too.
const LINE_OVERHEAD: usize = 16;

/// The maximum length of a level that is read, in bytes. It is part of the cost of a line besides its text.
const MAX_LEVEL_BYTES: usize = LINE_OVERHEAD;

/// The log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallLog {
    /// The lines: the logged ones in order, then standard output and standard error.
    pub lines: Vec<LogLine>,
    /// Whether the guest wrote more than [`MAX_LOG_BYTES`].
    pub cut: bool,
    /// What the attempt used; `None` if no guest was called.
    pub usage: Option<CallUsage>,
    /// What the attempt saw of its worker that is not recorded.
    pub unrecorded: Unrecorded,
    /// The HTTP exchanges of the attempt, if they were recorded.
    pub http: Option<HttpRecord>,
}

/// What an attempt was granted of its worker's machine. None of it is recorded, so a replay cannot repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unrecorded {
    /// The clocks of the machine.
    pub clock: bool,
    /// The randomness of the machine.
    pub random: bool,
    /// HTTP requests whose answers the flow does not let the worker record.
    pub http: bool,
    /// Configuration values or environment variables.
    pub settings: bool,
    /// Directories.
    pub directories: bool,
    /// TCP connections.
    pub connections: bool,
}

/// One line that a guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The level's name; `stdout` or `stderr` for printed lines.
    pub level: String,
    /// The line.
    pub text: String,
}

/// The log of one attempt, as a logbook stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptLog {
    /// The call.
    pub call: CallId,
    /// When the result of the attempt was recorded.
    pub at: Timestamp,
    /// The worker that made the call.
    pub worker: Option<WorkerName>,
    /// The lines that the guest wrote.
    pub log: CallLog,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct WireLog<'a> {
    lines: Vec<(&'a str, &'a str)>,
    /// Facts about the attempt, by their numbers. A fact without a value here is not written.
    facts: Vec<(u8, u64)>,
    http: Option<WireHttpRecord<'a>>,
}

/// The log was cut.
const CUT: u8 = 1;
/// What the attempt was granted and is not recorded: a bit for each.
const UNRECORDED: u8 = 10;

impl Unrecorded {
    fn bits(self) -> u64 {
        let Self { clock, random, http, settings, directories, connections } = self;
        let bits = (0..).zip([clock, random, http, settings, directories, connections]);
        bits.map(|(bit, is_set)| u64::from(is_set) << bit).sum()
    }

    fn of_bits(bits: u64) -> Self {
        let has = |bit: u32| bits >> bit & 1 != 0;
        Self { clock: has(0), random: has(1), http: has(2), settings: has(3), directories: has(4), connections: has(5) }
    }
}

impl CallLog {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the guest wrote nothing.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.lines.is_empty() && !self.cut
    }

    /// Whether there is more to store than the usage.
    #[must_use]
    pub fn has_more_than_usage(&self) -> bool {
        !self.is_silent() || self.unrecorded != Unrecorded::default() || self.http.is_some()
    }

    /// Adds a line, unless the log has reached [`MAX_LOG_BYTES`]. It takes as long as the log has lines: [`Self::extend`] adds many.
    pub fn push(&mut self, level: impl Into<String>, text: impl Into<String>) {
        self.extend([(level.into(), text.into())]);
    }

    /// Adds lines, each with its level, until the log has reached [`MAX_LOG_BYTES`]. It takes no further line after that, so it takes only as
    /// long as the lines of a full log.
    pub fn extend<Text: Into<String>>(&mut self, lines: impl IntoIterator<Item = (Text, Text)>) {
        if self.cut {
            return;
        }
        let size: usize = self.lines.iter().map(|line| line.text.len() + LINE_OVERHEAD).sum();
        let mut remaining = MAX_LOG_BYTES.saturating_sub(size);
        for (level, text) in lines {
            let mut text = text.into();
            if text.len() + LINE_OVERHEAD > remaining {
                self.cut = true;
                text.truncate(text.floor_char_boundary(remaining.saturating_sub(LINE_OVERHEAD)));
            }
            if remaining >= LINE_OVERHEAD {
                remaining = remaining.saturating_sub(text.len() + LINE_OVERHEAD);
                self.lines.push(LogLine { level: level.into(), text });
            }
            if self.cut {
                return;
            }
        }
    }

    /// Encodes the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MessageKind::LOG, &WireLog::from(self))
    }

    /// Decodes the log.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a log of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(codec::decode::<WireLog<'_>>(MessageKind::LOG, bytes)?.into())
    }
}

impl<'a> From<&'a CallLog> for WireLog<'a> {
    fn from(log: &'a CallLog) -> Self {
        let lines = log.lines.iter().map(|line| (line.level.as_str(), line.text.as_str())).collect();
        let unrecorded = Some(log.unrecorded.bits()).filter(|bits| *bits != 0).map(|bits| (UNRECORDED, bits));
        let facts = log.cut.then_some((CUT, 1)).into_iter().chain(log.usage.iter().flat_map(CallUsage::facts));
        Self { lines, facts: facts.chain(unrecorded).collect(), http: log.http.as_ref().map(Into::into) }
    }
}

impl From<WireLog<'_>> for CallLog {
    fn from(wire: WireLog<'_>) -> Self {
        // A fact that only a later waft knows is of no use here, and the lines are.
        let fact = |number| wire.facts.iter().find(|(other, _)| *other == number).map(|(_, value)| *value);
        let mut log = Self::default();
        // The sender may not have kept to the bounds.
        log.extend(
            wire.lines.into_iter().map(|(level, text)| (&level[..level.floor_char_boundary(MAX_LEVEL_BYTES)], text)),
        );
        log.cut |= fact(CUT).is_some();
        log.usage = CallUsage::of_facts(fact);
        log.unrecorded = Unrecorded::of_bits(fact(UNRECORDED).unwrap_or_default());
        log.http = wire.http.and_then(WireHttpRecord::into_record);
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_beyond_its_limit_is_marked_truncated() {
        let mut log = CallLog::default();
        log.push("info", "ä".repeat((MAX_LOG_BYTES - 2 * LINE_OVERHEAD) / 2 - 1));
        assert!(!log.cut);
        log.push("warn", "äää");
        log.push("warn", "more");
        assert!(log.cut);
        assert_eq!(log.lines.len(), 2);
        assert_eq!(log.lines[1].text, "ä");
        assert_eq!(CallLog::decode(&log.encode()), Ok(log));
    }

    #[test]
    fn a_log_of_a_sender_without_bounds_is_cut() {
        let (level, text) = ("l".repeat(1 << 20), "t".repeat(1 << 20));
        let wire = WireLog {
            lines: (0..16).map(|_| (level.as_str(), text.as_str())).collect(),
            facts: Vec::new(),
            http: None,
        };
        let read = CallLog::decode(&codec::encode(MessageKind::LOG, &wire)).unwrap();
        assert!(read.cut);
        let size: usize = read.lines.iter().map(|line| line.level.len() + line.text.len()).sum();
        assert!(size <= MAX_LOG_BYTES, "{size}");
        let wire = WireLog { lines: vec![("stdout", ""); 100_000], facts: Vec::new(), http: None };
        let read = CallLog::decode(&codec::encode(MessageKind::LOG, &wire)).unwrap();
        let size: usize = read.lines.iter().map(|line| line.level.len() + line.text.len()).sum();
        assert!(size <= MAX_LOG_BYTES, "{size}");
    }

    #[test]
    fn lines_that_are_added_together_are_cut_like_those_added_one_by_one() {
        let texts: Vec<String> = (0..600).map(|number| "ä".repeat(number % 200)).collect();
        let mut one_by_one = CallLog::default();
        texts.iter().for_each(|text| one_by_one.push("info", text.as_str()));
        let mut together = CallLog::default();
        together.extend(texts.iter().map(|text| ("info", text.as_str())));
        assert!(together.cut && together.lines.len() < texts.len());
        assert_eq!(together, one_by_one);
        let before = together.clone();
        together.extend([("info", "more")]);
        assert_eq!(together, before, "a log that was cut stays as it is");
    }

    #[test]
    fn no_line_is_taken_that_a_full_log_cannot_have() {
        let (mut log, mut taken) = (CallLog::default(), 0);
        // There is no end of these lines.
        log.extend(std::iter::repeat_with(|| {
            taken += 1;
            ("stdout", "")
        }));
        assert_eq!(
            (log.cut, log.lines.len(), taken),
            (true, MAX_LOG_BYTES / LINE_OVERHEAD, MAX_LOG_BYTES / LINE_OVERHEAD + 1)
        );
        log.extend(std::iter::repeat(("stdout", "")).inspect(|_| panic!("the log is full")));
        assert_eq!(log.lines.len(), MAX_LOG_BYTES / LINE_OVERHEAD);
    }

    #[test]
    fn an_unknown_fact_is_passed_over() {
        let later = WireLog { lines: vec![("info", "a")], facts: vec![(200, 7), (CUT, 1)], http: None };
        let read = CallLog::decode(&codec::encode(MessageKind::LOG, &later)).unwrap();
        assert_eq!((read.lines.len(), read.cut), (1, true));
    }

    #[test]
    fn usage_and_what_is_not_recorded_are_facts() {
        let usage = CallUsage { memory: 7, http_requests: 2, ..CallUsage::default() };
        let unrecorded = Unrecorded { clock: true, http: true, connections: true, ..Unrecorded::default() };
        let log = CallLog { usage: Some(usage), unrecorded, ..CallLog::default() };
        assert!(log.is_silent() && !log.is_empty());
        assert_eq!(CallLog::decode(&log.encode()), Ok(log));
        let nothing = CallLog { usage: Some(CallUsage::default()), ..CallLog::default() };
        assert_eq!(CallLog::decode(&nothing.encode()).unwrap().usage, Some(CallUsage::default()));
    }

    #[test]
    fn lines_without_text_are_bounded_too() {
        let mut log = CallLog::default();
        (0..100_000).for_each(|_| log.push("stdout", ""));
        assert!(log.cut);
        assert!(log.encode().len() <= MAX_LOG_BYTES, "{}", log.encode().len());
    }
}
