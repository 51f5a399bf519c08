//! Reports a guest's progress at intervals; a short call reports none.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{Broker, Message, Properties, Routing};
use flow::WorkerName;
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
        self.last.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(line.into());
        self.lines.push(level.as_str(), line);
    }

    fn print(&self, standard: sandbox::Standard, bytes: &[u8]) {
        self.lines.print(standard, bytes);
    }

    fn progress(&self, fraction: f64, message: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.0 = Some(fraction);
        if !message.is_empty() {
            last.1 = Some(message.into());
        }
    }
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
