//! Sends the spans of this process to a collector, over HTTP.
//!
//! Nothing waits for the collector: it has a batch at a time, and meanwhile the queue of spans fills, and drops what does not fit. Of what
//! it answers, only the status is read, within a bound.

mod config;

use std::time::Duration;

use flow::{HttpTarget, Reach};
use gateway::{Gateway, HttpRequest, Timeouts};
use http::{HeaderMap, StatusCode};
use metrics::SpanOutcome;
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use traces::{Span, SpanQueue};
use tracing::{info, warn};

use self::config::{Otlp, Process};
use crate::{exit::CliError, settings::TracesSettings};

/// The maximum number of spans in a request.
const MAX_BATCH: usize = 512;

/// How long a batch waits for more spans after its first.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Pauses before a batch is sent again that the collector may take later.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// The maximum of what the collector may send for a request, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// How long a process that ends goes on to send spans.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans until the process ends.
pub(crate) struct Exporter {
    stop: CancellationToken,
    sending: TaskTracker,
}

impl Exporter {
    /// Begins to trace, if the settings, the environment or a flag name a collector.
    ///
    /// # Errors
    /// A setting or variable that cannot be used.
    pub(crate) fn start(
        settings: &TracesSettings,
        flag: Option<&str>,
        service: &'static str,
    ) -> Result<Option<Self>, CliError> {
        let process = Process { service, instance: uuid::Uuid::now_v7().to_string() };
        let variable = |name: &str| std::env::var(name).ok();
        let Some(otlp) = config::read(settings, flag, &process, variable)? else { return Ok(None) };
        let config = traces::Config {
            sampler: otlp.sampler,
            accepts_parents: settings.accepts_parents,
            link: settings.page.clone(),
            instance: process.instance,
        };
        let Some(queue) = traces::install(config) else { return Ok(None) };
        info!(collector = %otlp.target.url().origin().ascii_serialization(), "spans are sent to a collector");
        let (stop, sending) = (CancellationToken::new(), TaskTracker::new());
        sending.spawn(run(Collector::new(otlp), queue, stop.clone()));
        Ok(Some(Self { stop, sending }))
    }

    /// Sends the spans that wait, as far as the collector takes them soon.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        self.sending.close();
        if timeout(FINISH_TIMEOUT, self.sending.wait()).await.is_err() {
            warn!("the collector of traces does not take the last spans; they are dropped");
        }
    }
}

async fn run(mut collector: Collector, mut queue: SpanQueue, stop: CancellationToken) {
    let mut batch = Vec::new();
    // A batch that is cut off keeps the spans that it has.
    while stop.run_until_cancelled(collect(&mut queue, &mut batch)).await.is_some() {
        let body = collector.encode(&batch);
        let is_sent = collector.send(&body, &stop).await;
        count(&mut batch, is_sent);
    }
    queue.close();
    while queue.next(&mut batch, MAX_BATCH).await > 0 || !batch.is_empty() {
        let body = collector.encode(&batch);
        let is_sent = collector.post(&body).await == Answer::Taken;
        count(&mut batch, is_sent);
    }
}

/// Fills a batch: until it is full, or some time after its first span. Cancel-safe.
async fn collect(queue: &mut SpanQueue, batch: &mut Vec<Span>) {
    queue.next(batch, MAX_BATCH).await;
    let fill = async { while batch.len() < MAX_BATCH && queue.next(batch, MAX_BATCH).await > 0 {} };
    // Without more spans, the batch is sent as it is.
    let _ = timeout(BATCH_DELAY, fill).await;
}

fn count(batch: &mut Vec<Span>, is_sent: bool) {
    let outcome = if is_sent { SpanOutcome::Sent } else { SpanOutcome::Dropped };
    metrics::global().count_spans(outcome, batch.len());
    batch.clear();
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Taken,
    /// The collector may take it later.
    Later,
    Refused,
}

/// The collector, and whether it takes spans.
struct Collector {
    gateway: Gateway,
    target: HttpTarget,
    headers: HeaderMap,
    timeout: Duration,
    resource: Vec<(String, String)>,
    is_failing: bool,
}

impl Collector {
    fn new(otlp: Otlp) -> Self {
        let Otlp { target, headers, timeout, tls, sampler: _, resource } = otlp;
        Self { gateway: Gateway::new(tls), target, headers, timeout, resource, is_failing: false }
    }

    fn encode(&self, batch: &[Span]) -> bytes::Bytes {
        traces::encode(batch, &self.resource, env!("CARGO_PKG_VERSION")).into()
    }

    /// Sends a batch, and repeats it a few times if the collector may take it later. A collector may get a batch twice: spans have ids.
    async fn send(&mut self, body: &bytes::Bytes, stop: &CancellationToken) -> bool {
        for pause in RETRY_PAUSES {
            match self.post(body).await {
                Answer::Taken => return true,
                Answer::Refused => return false,
                Answer::Later => {}
            }
            // The last spans of a process that ends are not kept for later.
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        self.post(body).await == Answer::Taken
    }

    async fn post(&mut self, body: &bytes::Bytes) -> Answer {
        let request = HttpRequest {
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: body.clone(),
            timeouts: Timeouts { response: Some(self.timeout), between_bytes: None },
        };
        // The operator names the collector, wherever it is.
        let (answer, reason) = match self.gateway.notify(request, Reach::everywhere(), MAX_ANSWER_BYTES).await {
            Ok(status) if status.is_success() => (Answer::Taken, String::new()),
            Ok(status) => (answer_of(status), format!("it answered {status}")),
            Err(error) => (Answer::Later, error.to_string()),
        };
        match (answer, self.is_failing) {
            (Answer::Taken, true) => info!("the collector of traces takes spans again"),
            (Answer::Later | Answer::Refused, false) => {
                warn!(reason, "the collector of traces takes no spans; those that it does not take are dropped");
            }
            (Answer::Taken, false) | (Answer::Later | Answer::Refused, true) => {}
        }
        self.is_failing = answer != Answer::Taken;
        answer
    }
}

/// What a status means, by the specification of OTLP.
fn answer_of(status: StatusCode) -> Answer {
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Later,
        _ => Answer::Refused,
    }
}

/// The span that the environment names, as a program that starts others sets it.
pub(crate) fn parent_of_environment() -> Option<traces::SpanContext> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

/// The labels of a new run, with the span that the environment names. A label that a person gives stays.
pub(crate) fn with_parent_of_environment(mut labels: Vec<String>) -> Vec<String> {
    let is_named = labels.iter().any(|label| label.split('=').next() == Some(traces::PARENT_LABEL));
    let accepts = traces::global().is_some_and(traces::Traces::accepts_parents);
    let is_added = accepts && !is_named && labels.len() < flow::MAX_LABELS;
    if let Some(span) = parent_of_environment().filter(|_| is_added) {
        labels.push(format!("{}={span}", traces::PARENT_LABEL));
    }
    labels
}
