//! `GET /metrics`: the metrics of this process, for Prometheus. What a scrape costs is bounded, however many clients scrape.

mod process;
mod queues;

use std::time::{Duration, Instant};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::sync::Mutex;

pub(crate) use queues::QueueLengths;

use crate::state::Shared;

/// How long the text of a scrape is used again.
const CACHE_FOR: Duration = Duration::from_secs(1);

/// Shows the metrics of this server in the text format of Prometheus.
///
/// The numbers of messages in queues may be ten seconds old, and all others one second.
#[utoipa::path(get, operation_id = "read_metrics", path = "/metrics", tag = "health", responses(
    (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn metrics(State(state): Shared) -> Response {
    answer(state.scrapes.text(state.queue_lengths.refresh(&state.dependencies)).await)
}

/// The answer to a scrape.
pub(crate) fn answer(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, ::metrics::CONTENT_TYPE)], text).into_response()
}

/// The last text.
#[derive(Debug, Default)]
pub(crate) struct Scrapes {
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Scrapes {
    /// The last text, or after a second a new one, which is written after `refresh`. Concurrent scrapes wait for the same text.
    pub(crate) async fn text(&self, refresh: impl Future<Output = ()>) -> Bytes {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < CACHE_FOR
        {
            return text.clone();
        }
        refresh.await;
        let metrics = ::metrics::global();
        if let Some(usage) = process::usage() {
            metrics.set_process(usage);
        }
        let text = Bytes::from(metrics.render());
        *last = Some((Instant::now(), text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_scrapes_at_once_cost_one() {
        let (scrapes, refreshes) = (Scrapes::default(), AtomicUsize::new(0));
        let refresh = async || {
            tokio::task::yield_now().await;
            refreshes.fetch_add(1, Ordering::Relaxed);
        };
        let texts = join_all((0..100).map(|_| scrapes.text(refresh()))).await;
        assert!(texts.iter().all(|text| *text == texts[0] && text.starts_with(b"# HELP ")));
        assert_eq!(refreshes.load(Ordering::Relaxed), 1);
    }
}
