//! Publishes the lines that a guest writes, while it runs, for clients that follow its run.
//!
//! Publishing never delays the guest: a bounded buffer collects its lines, and they are published in batches, with best
//! effort. A call that writes nothing, or is short, publishes nothing: its log is part of its signal.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Broker, Message, Properties, PublishError, Routing};
use flow::{CallId, RunId, WorkerName};
use protocol::{LiveLine, LiveLog, LogLine, LogSource, MAX_LOG_BYTES, log_size, topology};
use sandbox::Standard;
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Pause after the start of a call before its first lines are published, and between two batches.
const PERIOD: Duration = Duration::from_millis(200);

/// Number of bytes that completes a batch at once: larger messages have no benefit.
const BATCH: usize = 16 << 10;

/// The runs that a client has just started to follow. A receiver that misses some publishes its lines again.
pub(crate) type FollowSender = broadcast::Sender<RunId>;

/// The maximum number of such runs that wait for a slow receiver.
const FOLLOW_CAPACITY: usize = 64;

/// Creates the channel for followed runs.
pub(crate) fn followed() -> FollowSender {
    broadcast::channel(FOLLOW_CAPACITY).0
}

/// The lines that a call has written so far: at most [`MAX_LOG_BYTES`] bytes, which is also the limit of its final
/// log.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    log: Mutex<BufferedLog>,
    /// Notified when there is a line to publish.
    line: Notify,
    /// Notified when there is a full batch to publish.
    batch: Notify,
}

#[derive(Debug, Default)]
struct BufferedLog {
    lines: Vec<LiveLine>,
    /// Number of published lines.
    published: usize,
    /// Number of bytes of the unpublished lines.
    waiting: usize,
    /// Number of bytes of all lines.
    used: usize,
    numbers: [u32; LogSource::COUNT],
    /// Standard output and standard error since the end of the last line.
    open: [Vec<u8>; 2],
    /// Whether lines were dropped because of the limit.
    cut: bool,
    /// Whether the cut was published.
    is_cut_published: bool,
}

impl Lines {
    /// Adds a line that the guest has logged or printed.
    pub(crate) fn push(&self, level: &str, text: &str) {
        let mut log = self.log();
        log.push(level, text);
        self.notify(&log);
    }

    /// Adds bytes that the guest has printed. A line is published once it has ended.
    pub(crate) fn print(&self, standard: Standard, bytes: &[u8]) {
        let mut log = self.log();
        log.print(standard, bytes);
        self.notify(&log);
    }

    fn notify(&self, log: &BufferedLog) {
        if log.has_unpublished() {
            self.line.notify_one();
        }
        if log.waiting >= BATCH {
            self.batch.notify_one();
        }
    }

    /// Returns the next lines to publish, and whether they are the last; `None` when there is nothing new.
    fn take(&self) -> Option<(Vec<LiveLine>, bool)> {
        self.log().take()
    }

    /// Marks all lines as unpublished.
    fn rewind(&self) {
        let mut log = self.log();
        log.published = 0;
        log.waiting = log.used;
        log.is_cut_published = false;
        self.notify(&log);
    }

    fn log(&self) -> MutexGuard<'_, BufferedLog> {
        // Each push is complete, so a panic in another thread leaves no partial one.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BufferedLog {
    fn has_unpublished(&self) -> bool {
        self.published < self.lines.len() || (self.cut && !self.is_cut_published)
    }

    fn push(&mut self, level: &str, text: &str) {
        let size = log_size(text);
        if self.cut || self.used + size > MAX_LOG_BYTES {
            self.cut = true;
            // Unfinished lines are no longer published.
            self.open = [Vec::new(), Vec::new()];
            return;
        }
        let number = &mut self.numbers[LogSource::of(level) as usize];
        *number += 1;
        self.lines.push(LiveLine { number: *number, line: LogLine { level: level.into(), text: text.into() } });
        self.used += size;
        self.waiting += size;
    }

    fn print(&mut self, standard: Standard, bytes: &[u8]) {
        let (level, open) = match standard {
            Standard::Output => ("stdout", 0),
            Standard::Error => ("stderr", 1),
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.cut {
                return;
            }
            if self.open[open].len() + part.len() > MAX_LOG_BYTES {
                self.cut = true;
                self.open = [Vec::new(), Vec::new()];
                return;
            }
            self.open[open].extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.open[open]);
                // The lines are split in the same way as when the log is recorded.
                String::from_utf8_lossy(&line).lines().for_each(|text| self.push(level, text));
            }
        }
    }

    fn take(&mut self) -> Option<(Vec<LiveLine>, bool)> {
        if !self.has_unpublished() {
            return None;
        }
        let mut size = 0;
        let unpublished = &self.lines[self.published..];
        let fits_batch = |line: &&LiveLine| {
            let is_first = size == 0;
            size += log_size(&line.line.text);
            is_first || size <= BATCH
        };
        let batch: Vec<LiveLine> = unpublished.iter().take_while(fits_batch).cloned().collect();
        self.published += batch.len();
        self.waiting -= batch.iter().map(|line| log_size(&line.line.text)).sum::<usize>();
        let is_end = self.cut && self.published == self.lines.len();
        self.is_cut_published |= is_end;
        Some((batch, is_end))
    }
}

/// Publishes the lines of a call until `done`: not before [`PERIOD`] after its start, in few messages, and all
/// of them again when a client starts to follow its run.
pub(crate) async fn publish(
    broker: Arc<dyn Broker>,
    call: CallId,
    worker: WorkerName,
    lines: &Lines,
    mut followed: broadcast::Receiver<RunId>,
    done: CancellationToken,
) {
    // A call that writes nothing sets no timer.
    let first_at = Instant::now() + PERIOD;
    let publish = async {
        loop {
            // Each branch only waits.
            tokio::select! {
                () = lines.line.notified() => {}
                run = followed.recv() => {
                    match run {
                        Ok(run) if run != call.run => {}
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => lines.rewind(),
                        // The worker ends.
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                    continue;
                }
            }
            sleep_until(first_at).await;
            while let Some((batch, cut)) = lines.take() {
                let log = LiveLog { call: call.clone(), worker: worker.clone(), lines: batch, cut };
                if let Err(error) = broker.publish(message(&log)).await {
                    // The final log contains them too.
                    debug!(%error, "some lines of a guest were not published");
                    if matches!(error, PublishError::Closed) {
                        return;
                    }
                }
            }
            tokio::select! {
                () = sleep(PERIOD) => {}
                () = lines.batch.notified() => {}
            }
        }
    };
    done.run_until_cancelled(publish).await;
}

fn message(log: &LiveLog) -> Message {
    Message {
        exchange: topology::LOGS.to_owned(),
        key: log.call.run.to_string(),
        // Usually no client follows the run.
        routing: Routing::Optional,
        persistent: false,
        priority: 0,
        properties: Properties { headers: protocol::headers(&log.call), ..Properties::default() },
        body: log.encode().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &Lines) -> Vec<(u32, String, String)> {
        let mut texts = Vec::new();
        while let Some((batch, _)) = lines.take() {
            texts.extend(batch.into_iter().map(|LiveLine { number, line }| (number, line.level, line.text)));
        }
        texts
    }

    #[test]
    fn lines_are_numbered_by_source_and_published_once_complete() {
        let lines = Lines::default();
        lines.push("info", "a");
        lines.print(Standard::Output, b"one\r\ntw");
        lines.print(Standard::Error, b"\n");
        lines.push("warn", "b");
        let line = |number, level: &str, text: &str| (number, level.to_owned(), text.to_owned());
        let first = [line(1, "info", "a"), line(1, "stdout", "one"), line(1, "stderr", ""), line(2, "warn", "b")];
        assert_eq!(texts(&lines), first);
        lines.print(Standard::Output, b"o\nthr");
        let last = [line(2, "stdout", "two")];
        assert_eq!(texts(&lines), last);
        assert_eq!(lines.take(), None);
        lines.rewind();
        assert_eq!(texts(&lines), [&first[..], &last].concat());
    }

    #[test]
    fn batches_are_small_and_the_log_of_a_call_is_limited() {
        let lines = Lines::default();
        for _ in 0..1_000 {
            lines.push("info", &"x".repeat(100));
        }
        let mut batches = Vec::new();
        while let Some((batch, cut)) = lines.take() {
            let size: usize = batch.iter().map(|line| log_size(&line.line.text)).sum();
            assert!(size <= BATCH, "{size}");
            batches.push((size, cut));
        }
        assert!(batches.iter().map(|(size, _)| size).sum::<usize>() <= MAX_LOG_BYTES);
        assert_eq!(batches.iter().filter(|(_, cut)| *cut).count(), 1, "only the last batch has the cut mark");
        lines.print(Standard::Output, &[b'x'; 2 * MAX_LOG_BYTES]);
        assert_eq!(lines.take(), None);
        assert!(lines.log().open.iter().all(Vec::is_empty));
    }

    #[test]
    fn an_endless_line_is_limited() {
        let lines = Lines::default();
        for _ in 0..100 {
            lines.print(Standard::Error, &[b'x'; MAX_LOG_BYTES / 10]);
        }
        assert_eq!(lines.take(), Some((Vec::new(), true)));
        assert!(lines.log().open.iter().all(|open| open.capacity() == 0));
    }
}
