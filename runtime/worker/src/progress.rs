//! What a guest says while it runs, told now and then: a call that is over soon says nothing on the way.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{Broker, Message, Properties, Routing};
use flow::{CallId, WorkerName};
use protocol::{Progress, Report};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::live::Lines;

/// How often a call is heard of. A shorter call sends its signal alone.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// The last thing a guest said, and all that it wrote.
#[derive(Debug, Default)]
pub(crate) struct LastProgress {
    last: Mutex<(Option<f64>, Option<String>)>,
    /// The lines that it wrote.
    pub(crate) lines: Lines,
}

impl LastProgress {
    fn last(&self) -> (Option<f64>, Option<String>) {
        // Each assignment is whole, so a panic elsewhere cannot have left half of one.
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl sandbox::Observer for LastProgress {
    fn log(&self, level: sandbox::Level, line: &str) {
        // Its level is the guest's: to an operator, all that guests say is detail.
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

/// Tells the engine of a call every [`PERIOD`] until `done`: that it runs here, then whatever is new.
pub(crate) async fn report_progress(
    broker: Arc<dyn Broker>,
    signal_to: String,
    call: CallId,
    worker: WorkerName,
    progress: Arc<LastProgress>,
    done: CancellationToken,
) {
    let mut told = None;
    while done.run_until_cancelled(tokio::time::sleep(REPORT_INTERVAL)).await.is_some() {
        let now = progress.last();
        if told.as_ref() == Some(&now) {
            continue;
        }
        let (fraction, message) = now.clone();
        told = Some(now);
        let report = Report::Progress(Progress { call: call.clone(), worker: worker.clone(), fraction, message });
        let message = Message {
            exchange: String::new(),
            key: signal_to.clone(),
            routing: Routing::Optional,
            persistent: false,
            priority: 0,
            properties: Properties { headers: protocol::headers(&call), ..Properties::default() },
            body: report.encode().into(),
        };
        // Nobody's record depends on it: what is lost is told again with the next.
        let _ = done.run_until_cancelled(broker.publish(message)).await;
    }
}
