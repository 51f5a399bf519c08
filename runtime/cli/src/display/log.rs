//! Formats what guests wrote, line by line, with the call of each line.

use api::{AttemptLog, LogAttempt};
use flow::CallId;

use crate::sanitize;

/// The displayed name of the call that wrote the lines.
pub(crate) struct Title(String);

impl Title {
    /// The title of a call.
    pub(crate) fn of(call: &CallId) -> Self {
        Self::new(call.task.as_str(), call.action.as_str(), call.firing.get(), call.attempt.get())
    }

    /// The title of an attempt that is followed.
    pub(crate) fn of_followed(attempt: &LogAttempt) -> Self {
        Self::new(&attempt.task, attempt.call.as_str(), attempt.firing, attempt.attempt)
    }

    pub(super) fn new(task: &str, call: &str, firing: u64, attempt: u32) -> Self {
        let mut title = sanitize::one_line(task);
        if call == "rollback" {
            title.push_str(" rollback");
        }
        if firing > 1 {
            title.push_str(&format!(" firing {firing}"));
        }
        if attempt > 1 {
            title.push_str(&format!(" attempt {attempt}"));
        }
        Self(title)
    }

    /// Formats one line of the call.
    pub(crate) fn line(&self, level: &str, text: &str) -> String {
        format!("{} | {:6} {}", self.0, sanitize::one_line(level), sanitize::one_line(text))
    }

    /// A line about the call that is not its own.
    pub(super) fn about(&self, text: &str) -> String {
        format!("{} | {}", self.0, sanitize::one_line(text))
    }

    /// A line that says that the call wrote more than is stored.
    pub(crate) fn cut(&self) -> String {
        format!("{} | … there was more than is stored", self.0)
    }

    /// A line that says that some of the call's lines are not known yet.
    pub(crate) fn missing(&self, lines: usize) -> String {
        let (lines, follow) =
            if lines == 1 { ("a line is".into(), "follows") } else { (format!("{lines} lines are"), "follow") };
        format!("{} | … {lines} missing here, and {follow} at the end of the attempt", self.0)
    }
}

/// The lines of an attempt, formatted for people.
pub(crate) fn lines(log: &AttemptLog) -> Vec<String> {
    let title = Title::new(&log.task, log.call.as_str(), log.firing, log.attempt);
    let cut = log.cut.then(|| title.cut());
    log.lines.iter().map(|line| title.line(line.level.as_str(), &line.text)).chain(cut).collect()
}
