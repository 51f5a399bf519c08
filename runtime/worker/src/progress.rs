//! Reports a guest's progress at intervals; a short call reports none.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{Broker, Message, Properties, Routing};
use flow::{MAX_PROGRESS_BYTES, WorkerName};
use protocol::{Job, Progress, Report, topology};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::live::Lines;

/// Interval of progress reports. A shorter call sends only its signal.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// The latest progress of a guest, and all lines that it wrote.
#[derive(Debug, Default)]
pub(crate) struct LastProgress {
    last: Mutex<(Option<f64>, Option<String>)>,
    /// The lines that the guest wrote.
    pub(crate) lines: Lines,
}

impl LastProgress {
    fn last(&self) -> (Option<f64>, Option<String>) {
        // Each assignment is a single operation, so a panic in another thread leaves no partial one.
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl sandbox::Observer for LastProgress {
    fn log(&self, level: sandbox::Level, line: &str) {
        // The level is the guest's choice: to an operator, all guest output is debug output.
        debug!(target: "waft::guest", %level, "{line}");
        self.last.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(beginning(line));
        self.lines.push(level.as_str(), line);
    }

    fn print(&self, standard: sandbox::Standard, bytes: &[u8]) {
        self.lines.print(standard, bytes);
    }

    fn progress(&self, fraction: f64, message: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.0 = Some(fraction);
        if !message.is_empty() {
            last.1 = Some(beginning(message));
        }
    }
}

/// The part of a guest's message that is reported. A line of its log may have megabytes.
fn beginning(message: &str) -> String {
    message[..message.floor_char_boundary(MAX_PROGRESS_BYTES)].into()
}

/// Reports a call to the engine every [`REPORT_INTERVAL`] until `done`: first that it runs here, then new
/// progress.
pub(crate) async fn report_progress(
    broker: Arc<dyn Broker>,
    job: &Job,
    worker: WorkerName,
    progress: Arc<LastProgress>,
    done: CancellationToken,
) {
    let mut reported = None;
    while done.run_until_cancelled(tokio::time::sleep(REPORT_INTERVAL)).await.is_some() {
        let latest = progress.last();
        if reported.as_ref() == Some(&latest) {
            continue;
        }
        let (fraction, message) = latest.clone();
        reported = Some(latest);
        let report = Report::Progress(Progress { call: job.call.clone(), worker: worker.clone(), fraction, message });
        let message = Message {
            exchange: topology::REPORTS.to_owned(),
            key: job.signal_to.clone(),
            routing: Routing::Optional,
            persistent: false,
            priority: 0,
            properties: Properties { headers: protocol::headers(&job.call), ..Properties::default() },
            body: report.encode(&job.keys).into(),
        };
        // No record depends on it: the next report repeats a lost one.
        let _ = done.run_until_cancelled(broker.publish(message)).await;
    }
}

#[cfg(test)]
mod tests {
    use sandbox::{Level, Observer as _};

    use super::*;

    #[test]
    fn only_the_beginning_of_a_long_line_is_reported() {
        let progress = LastProgress::default();
        progress.log(Level::Info, &"ä".repeat(MAX_PROGRESS_BYTES));
        assert_eq!(progress.last(), (None, Some("ä".repeat(MAX_PROGRESS_BYTES / 2))));
        progress.progress(0.5, &"x".repeat(MAX_PROGRESS_BYTES + 1));
        assert_eq!(progress.last(), (Some(0.5), Some("x".repeat(MAX_PROGRESS_BYTES))));
        progress.progress(0.75, "");
        assert_eq!(progress.last(), (Some(0.75), Some("x".repeat(MAX_PROGRESS_BYTES))), "the last message stays");
    }
}
