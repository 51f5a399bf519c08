//! Joins the lines published while attempts ran with the lines recorded at their end: each line appears once.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use flow::CallId;

use super::{CallLog, LiveLine, LiveLog, LogLine, LogSource, live::MAX_LINES};

/// The maximum number of attempts to remember. It exceeds the number of concurrent attempts, so that lines which arrive
/// after the end of their attempt are recognised.
const REMEMBERED: usize = 512;

/// Finds out which lines are new. The recorded log is authoritative: it fills gaps, and a line that differs from it is new.
#[derive(Debug, Default)]
pub struct LogJoin {
    calls: HashMap<CallId, KnownLines>,
    oldest: VecDeque<CallId>,
}

/// The known lines of one attempt.
#[derive(Debug, Default)]
struct KnownLines {
    /// A hash of each known line, by its position; `None` for a missing line.
    lines: [Vec<Option<u64>>; LogSource::COUNT],
    /// Whether its log is recorded.
    is_recorded: bool,
}

/// Lines that are new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLines {
    /// The lines.
    pub lines: Vec<LiveLine>,
    /// How many lines before these turned out to be missing. They arrive when the attempt ends, or sooner.
    pub missing: usize,
}

impl LogJoin {
    /// Adds published lines of a running attempt. The same attempt may run twice when its first worker was lost.
    pub fn live(&mut self, log: LiveLog) -> NewLines {
        let attempt = self.known_lines(&log.call);
        let mut joined = NewLines::default();
        for line in log.lines {
            // No line can have such a number: another program sent the message, and it must not cost memory.
            let Some(index) = (line.number as usize).checked_sub(1).filter(|index| *index < MAX_LINES) else {
                continue;
            };
            let known = &mut attempt.lines[LogSource::of(&line.line.level) as usize];
            if index >= known.len() {
                joined.missing += if attempt.is_recorded { 0 } else { index - known.len() };
                known.resize(index + 1, None);
            }
            let hash = Some(hash(&line.line));
            if std::mem::replace(&mut known[index], hash) != hash {
                joined.lines.push(line);
            }
        }
        joined
    }

    /// Adds the recorded log of an attempt, and returns the lines that are new.
    pub fn recorded(&mut self, call: &CallId, log: &CallLog) -> Vec<LiveLine> {
        let attempt = self.known_lines(call);
        attempt.is_recorded = true;
        let mut next_index = [0; LogSource::COUNT];
        let mut new = Vec::new();
        for (position, line) in log.lines.iter().enumerate() {
            let source = LogSource::of(&line.level) as usize;
            let (index, known) = (next_index[source], &mut attempt.lines[source]);
            next_index[source] += 1;
            if index >= known.len() {
                known.resize(index + 1, None);
            }
            let hash = Some(hash(line));
            let before = std::mem::replace(&mut known[index], hash);
            // The last line of a cut log may be the start of a line that is fully known.
            let is_cut = log.cut && position + 1 == log.lines.len() && before.is_some();
            if before != hash && !is_cut {
                let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
                new.push(LiveLine { number, line: line.clone() });
            }
        }
        new
    }

    fn known_lines(&mut self, call: &CallId) -> &mut KnownLines {
        if !self.calls.contains_key(call) {
            self.oldest.push_back(call.clone());
            if self.oldest.len() > REMEMBERED
                && let Some(oldest) = self.oldest.pop_front()
            {
                self.calls.remove(&oldest);
            }
        }
        self.calls.entry(call.clone()).or_default()
    }
}

fn hash(line: &LogLine) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&line.level, &line.text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn call(attempt: u32) -> CallId {
        CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::new(attempt),
            action: Action::Apply,
        }
    }

    fn live(lines: &[(u32, &str, &str)]) -> LiveLog {
        let line = |(number, level, text): &(u32, &str, &str)| LiveLine {
            number: *number,
            line: LogLine { level: (*level).into(), text: (*text).into() },
        };
        LiveLog { call: call(1), worker: "w".parse().unwrap(), lines: lines.iter().map(line).collect(), cut: false }
    }

    fn recorded(lines: &[(&str, &str)]) -> CallLog {
        let mut log = CallLog::default();
        lines.iter().for_each(|(level, text)| log.push(*level, *text));
        log
    }

    fn texts(lines: &[LiveLine]) -> Vec<&str> {
        lines.iter().map(|line| line.line.text.as_str()).collect()
    }

    #[test]
    fn each_line_is_returned_once_and_recorded_logs_fill_gaps() {
        let mut join = LogJoin::default();
        let first = join.live(live(&[(1, "info", "a"), (1, "stdout", "x"), (2, "warn", "b")]));
        assert_eq!((texts(&first.lines), first.missing), (vec!["a", "x", "b"], 0));
        // A redelivered job writes the same lines a second time.
        let repeated = join.live(live(&[(1, "info", "a"), (2, "warn", "b")]));
        assert_eq!((repeated.lines, repeated.missing), (vec![], 0));
        let later = join.live(live(&[(5, "info", "e")]));
        assert_eq!((texts(&later.lines), later.missing), (vec!["e"], 2));
        let log = recorded(&[
            ("info", "a"),
            ("warn", "b"),
            ("info", "c"),
            ("info", "d"),
            ("info", "e"),
            ("info", "f"),
            ("stdout", "x"),
            ("stdout", "y"),
            ("stderr", "z"),
        ]);
        assert_eq!(texts(&join.recorded(&call(1), &log)), ["c", "d", "f", "y", "z"]);
        assert_eq!(join.recorded(&call(1), &log), []);
        // A message that arrives after the end adds nothing.
        assert_eq!(join.live(live(&[(6, "info", "f")])), NewLines::default());
        assert_eq!(texts(&join.recorded(&call(2), &log)).len(), 9, "another attempt has lines of its own");
    }

    #[test]
    fn the_recorded_log_overrides_what_a_lost_attempt_wrote() {
        let mut join = LogJoin::default();
        join.live(live(&[(1, "info", "at 12:00"), (2, "info", "same")]));
        let log = recorded(&[("info", "at 12:01"), ("info", "same")]);
        assert_eq!(texts(&join.recorded(&call(1), &log)), ["at 12:01"]);
    }

    #[test]
    fn a_line_that_the_record_cuts_is_not_new() {
        let mut join = LogJoin::default();
        join.live(live(&[(1, "info", "long")]));
        let mut log = recorded(&[("info", "lo")]);
        log.cut = true;
        assert_eq!(join.recorded(&call(1), &log), []);
    }

    #[test]
    fn impossible_line_numbers_are_ignored() {
        let mut join = LogJoin::default();
        assert_eq!(join.live(live(&[(0, "info", "a"), (u32::MAX, "info", "b")])), NewLines::default());
    }

    #[test]
    fn attempts_are_forgotten_in_their_order() {
        let mut join = LogJoin::default();
        let log = recorded(&[("info", "a")]);
        for attempt in 0..u32::try_from(REMEMBERED).unwrap() + 1 {
            assert_eq!(join.recorded(&call(attempt), &log).len(), 1);
        }
        assert_eq!(join.calls.len(), REMEMBERED);
        assert_eq!(join.recorded(&call(1), &log), []);
        assert_eq!(join.recorded(&call(0), &log).len(), 1);
    }
}
