//! Limits how often refused messages are logged, so that a publisher cannot fill the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

/// The least time between two log lines about refused messages.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Counts the refused messages between two log lines.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<RefusalCount>);

#[derive(Debug, Default)]
struct RefusalCount {
    count: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    /// Logs that a message of a queue is refused, or counts it for the next line. Returns whether it was logged.
    pub fn log(&self, queue: &str, reason: &str) -> bool {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner).add();
        if let Some(count) = count {
            warn!(queue, count, reason, "messages are refused: see docs/security.md");
        }
        count.is_some()
    }
}

impl RefusalCount {
    /// Adds a refused message; returns the number of messages that the next log line tells of, if one is due.
    fn add(&mut self) -> Option<u64> {
        self.count += 1;
        if self.logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            return None;
        }
        self.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_logged_as_one_number() {
        let mut refusals = RefusalCount::default();
        assert_eq!(refusals.add(), Some(1), "the first is logged at once");
        for _ in 0..1_000 {
            assert_eq!(refusals.add(), None);
        }
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(refusals.add(), Some(1_001));
    }
}
