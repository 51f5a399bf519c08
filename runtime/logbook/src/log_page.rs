//! Pages of the logs of a run, with at most so many logs and bytes: a run may have gigabytes of them.

use flow::{NodeName, RunId};
use protocol::AttemptLog;
use tokio::task::spawn_blocking;

use crate::{LoadError, LogFilter, LogPosition, row::LogRow};

/// Selects the next logs of a run, in the order in which their results were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// Only attempts of this task; of a task with `for_each`, also those of its elements.
    pub task: Option<NodeName>,
    /// Where the page begins: [`LogPosition::START`], or the [`LogPage::next`] of the page before.
    pub from: LogPosition,
    /// The maximum number of stored logs that are looked at. Those that are not selected count too, so a page may be empty and
    /// not the last one.
    pub limit: usize,
    /// The page ends after the log with which its encoded logs reach this number of bytes.
    pub max_bytes: usize,
}

impl Default for LogRange {
    fn default() -> Self {
        Self { task: None, from: LogPosition::START, limit: 1_000, max_bytes: 1 << 20 }
    }
}

impl LogRange {
    /// Whether it selects the logs of a task.
    pub(crate) fn selects(&self, task: &str) -> bool {
        let is_of = |wanted: &NodeName| {
            task.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        self.task.as_ref().is_none_or(is_of)
    }
}

/// A page of the logs of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPage {
    /// The selected logs, each with its position.
    pub logs: Vec<(LogPosition, AttemptLog)>,
    /// Where the next page begins; `None` if there are no more logs yet. If the youngest logs come first, it is the
    /// [`LogFilter::before`] of the next page.
    pub next: Option<LogPosition>,
}

/// Collects a page, log by log.
pub(crate) struct PageBuilder<Log> {
    limit: usize,
    max_bytes: usize,
    looked_at: usize,
    bytes: usize,
    pub(crate) logs: Vec<(LogPosition, Log)>,
    pub(crate) next: Option<LogPosition>,
}

impl<Log> PageBuilder<Log> {
    pub(crate) fn new(range: &LogRange) -> Self {
        let LogRange { limit, max_bytes, .. } = range;
        // A page without any log would never end.
        Self { limit: (*limit).max(1), max_bytes: *max_bytes, looked_at: 0, bytes: 0, logs: Vec::new(), next: None }
    }

    /// Whether the log at a position may be on the page. If not, the next page begins there.
    pub(crate) fn has_room(&mut self, position: LogPosition) -> bool {
        let is_full = self.looked_at == self.limit || !self.logs.is_empty() && self.bytes >= self.max_bytes;
        if is_full {
            self.next = Some(position);
        } else {
            self.looked_at += 1;
        }
        !is_full
    }

    /// Adds a selected log with its bytes.
    pub(crate) fn push(&mut self, position: LogPosition, bytes: usize, log: Log) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.logs.push((position, log));
    }
}

/// Collects a page of the logs with HTTP exchanges, log by log, the youngest first.
pub(crate) struct HttpPageBuilder<Log> {
    limit: usize,
    max_looked_at: usize,
    looked_at: usize,
    last: Option<LogPosition>,
    pub(crate) logs: Vec<(LogPosition, Log)>,
    pub(crate) next: Option<LogPosition>,
}

impl<Log> HttpPageBuilder<Log> {
    pub(crate) fn new(filter: &LogFilter) -> Self {
        // Pages without any log would never end.
        let (limit, max_looked_at) = (filter.limit.max(1), filter.max_looked_at.max(1));
        Self { limit, max_looked_at, looked_at: 0, last: None, logs: Vec::new(), next: None }
    }

    /// Whether the log at a position may be on the page. If not, the next page begins with it.
    pub(crate) fn has_room(&mut self, position: LogPosition) -> bool {
        let is_full = self.looked_at == self.max_looked_at || self.logs.len() == self.limit;
        if is_full {
            self.next = self.last;
        } else {
            self.looked_at += 1;
            self.last = Some(position);
        }
        !is_full
    }

    /// Adds a selected log.
    pub(crate) fn push(&mut self, position: LogPosition, log: Log) {
        self.logs.push((position, log));
    }
}

impl PageBuilder<LogRow> {
    /// Decodes the rows of the page.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when a row holds a value that waft does not write.
    pub(crate) async fn decode(self, run: &RunId, location: &str) -> Result<LogPage, LoadError> {
        let (run, location) = (run.clone(), location.to_owned());
        // Thousands of lines take long enough to delay other tasks.
        let Self { logs, next, .. } = self;
        let decode = move || {
            let log = |(position, row): (LogPosition, LogRow)| {
                Ok((position, row.into_log(&run).map_err(|error| error.within(&location))?))
            };
            logs.into_iter().map(log).collect::<Result<_, LoadError>>()
        };
        let logs = spawn_blocking(decode).await.expect("decoding does not panic")?;
        Ok(LogPage { logs, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_the_logs_of_its_elements() {
        let of = |task: &str| LogRange { task: Some(task.parse().unwrap()), ..LogRange::default() };
        for (wanted, task, expected) in
            [("x", "x", true), ("x", "x[0]", true), ("x", "xy", false), ("x[0]", "x", false), ("x[0]", "x[0]", true)]
        {
            assert_eq!(of(wanted).selects(task), expected, "{wanted} and {task}");
        }
        assert!(LogRange::default().selects("x"));
    }
}
