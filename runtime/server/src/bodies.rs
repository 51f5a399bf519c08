//! The memory for the bodies of requests. Each request has its part from before its body is read until its handler has ended,
//! also if its client has left. So a sender of many large requests cannot take all memory of the process.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest as _, Request},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use http_body::Body as _;

use crate::{
    extract,
    problem::Problem,
    shares::{Exhausted, Sender, Share, Shares},
};

/// Maximum size of a small body, in bytes. Small bodies have memory of their own, so that large ones do not block them.
const SMALL: usize = 64 << 10;

/// Memory for small bodies, in bytes: as many of them as there are connections.
const SMALL_TOTAL: usize = 512 * SMALL;

/// Memory for large bodies: it is enough for so many of the largest.
const LARGE_COUNT: usize = 8;

/// The part of a request whose body is smaller, in bytes. It bounds the number of requests whose clients have left, too.
const MIN_PART: usize = 4 << 10;

/// The memory for bodies. A sender has half of it at most.
pub(crate) struct Bodies {
    small: Arc<Shares>,
    large: Arc<Shares>,
    largest_request: usize,
}

impl Bodies {
    pub(crate) fn new(largest_request: usize) -> Self {
        let half_for_sender = |total| Shares::new(total, total / 2);
        let large = half_for_sender(largest_request.saturating_mul(LARGE_COUNT));
        Self { small: half_for_sender(SMALL_TOTAL), large, largest_request }
    }

    /// Waits for the body of a request. Its memory is taken until the share is dropped.
    ///
    /// # Errors
    /// The answer to a request whose body does not come, or for which there is no memory now.
    pub(crate) async fn read(&self, sender: &Sender, request: Request) -> Result<(Request, Share), Response> {
        let (head, body) = request.into_parts();
        let (share, body) = match body.size_hint().exact() {
            Some(bytes) => (self.take(sender, usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(busy)?, body),
            None => self.take_for_unknown(sender, body).await?,
        };
        let body = extract::Body::from_request(Request::from_parts(head.clone(), body), &()).await;
        let extract::Body(bytes) = body.map_err(|problem| problem.into_response())?;
        Ok((Request::from_parts(head, Body::from(bytes)), share))
    }

    /// Takes memory for a body of a known size. Of one that is too large, no more bytes are read than of the largest.
    fn take(&self, sender: &Sender, bytes: usize) -> Result<Share, Exhausted> {
        let bytes = bytes.min(self.largest_request);
        let shares = if bytes <= SMALL { &self.small } else { &self.large };
        shares.take(sender, bytes.max(MIN_PART))
    }

    /// Takes memory for a body whose size is not known before its end: it counts as small, and if it is not, as the largest.
    async fn take_for_unknown(&self, sender: &Sender, body: Body) -> Result<(Share, Body), Response> {
        let small = self.take(sender, SMALL).map_err(busy)?;
        let (mut chunks, mut first, mut bytes) = (body.into_data_stream(), Vec::new(), 0);
        while bytes <= SMALL {
            let Some(chunk) = chunks.next().await else {
                return Ok((small, Body::from_stream(stream::iter(first))));
            };
            let is_last = chunk.is_err();
            bytes += chunk.as_ref().map_or(0, Bytes::len);
            first.push(chunk);
            if is_last {
                return Ok((small, Body::from_stream(stream::iter(first))));
            }
        }
        drop(small);
        let large = self.take(sender, self.largest_request).map_err(busy)?;
        Ok((large, Body::from_stream(stream::iter(first).chain(chunks))))
    }
}

/// The answer to a request for whose body there is no memory now.
fn busy(exhausted: Exhausted) -> Response {
    let detail = match exhausted {
        Exhausted::All => "other requests take all the memory that the server has for the bodies of requests",
        Exhausted::OfSender => {
            "other requests of the token or its namespace take half of the memory that the server has for the bodies of requests"
        }
    };
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests are in progress", detail)
        .hint("send it again when some of them are answered");
    ([(header::RETRY_AFTER, "1")], problem).into_response()
}
