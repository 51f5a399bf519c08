//! One fetch: requests ranges of chunks, takes replies, requests missing chunks again, and verifies the content.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use broker::{Broker, Message, Properties, PublishError, Routing};
use bytes::Bytes;
use flow::Digest;
use protocol::{FetchPart, FetchReply, FetchRequest, FetchResponse, Key, ReplyAddress, topology};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::{
    assembly::{ChunkAssembly, ChunkOutcome},
    server::DIGEST,
};
use crate::{FetchError, blocking::blocking, digest::digest_of};

/// How long to wait without progress before the missing chunks are requested again. A busy server gets more time with each
/// retry; after the last delay, the fetch times out.
const RETRY_DELAYS: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(12),
];

/// How often in a row the queue may be missing: a restarted broker has no queue until the engine is back too, some seconds
/// later.
pub(super) const MAX_MISSING_QUEUE: u32 = 3;

/// The destination of one fetch's requests, and the requested content.
pub(super) struct ChunkRequester<'a> {
    pub(super) broker: &'a dyn Broker,
    pub(super) queue: &'a str,
    pub(super) reply_queue: &'a str,
    /// The correlation id of the replies.
    pub(super) id: &'a str,
    pub(super) digest: Digest,
    /// The key of the content.
    pub(super) key: Key,
}

/// A fetch in progress.
pub(super) struct Fetch<'a> {
    requester: ChunkRequester<'a>,
    replies: mpsc::Receiver<Bytes>,
    assembly: ChunkAssembly,
    /// When the last new chunk arrived.
    last_chunk_at: Instant,
    /// The number of retries since then, and when the next one is due.
    retries: usize,
    due: Instant,
    queue_misses: u32,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(requester: ChunkRequester<'a>, replies: mpsc::Receiver<Bytes>, max_bytes: u64) -> Self {
        let assembly = ChunkAssembly::new(requester.digest, max_bytes);
        let now = Instant::now();
        Self {
            requester,
            replies,
            assembly,
            last_chunk_at: now,
            retries: 0,
            due: now + RETRY_DELAYS[0],
            queue_misses: 0,
        }
    }

    pub(super) async fn run(mut self) -> Result<Bytes, FetchError> {
        loop {
            if let Some(bytes) = self.assembly.take_complete() {
                return check(self.requester.digest, bytes).await;
            }
            while let Some(range) = self.assembly.advance() {
                self.request(range).await?;
            }
            match timeout_at(self.due, self.replies.recv()).await {
                Ok(Some(reply)) => self.on_reply(&reply)?,
                Ok(None) => return Err(FetchError::Closed { digest: self.requester.digest }),
                Err(_) => self.request_missing().await?,
            }
        }
    }

    async fn request_missing(&mut self) -> Result<(), FetchError> {
        self.retries += 1;
        if self.retries == RETRY_DELAYS.len() {
            let ChunkRequester { queue, digest, .. } = self.requester;
            return Err(FetchError::TimedOut { digest, queue: queue.into(), waited: self.last_chunk_at.elapsed() });
        }
        debug!(queue = self.requester.queue, digest = %self.requester.digest, "missing chunks are requested again");
        for range in self.assembly.outstanding() {
            self.request(range).await?;
        }
        Ok(())
    }

    async fn request(&mut self, chunks: Range<u32>) -> Result<(), FetchError> {
        let ChunkRequester { queue, digest, .. } = self.requester;
        match self.requester.broker.publish(self.requester.message(FetchPart::Chunks(chunks))).await {
            Ok(()) => self.queue_misses = 0,
            Err(PublishError::Unroutable { .. }) => {
                self.queue_misses += 1;
                if self.queue_misses == MAX_MISSING_QUEUE {
                    return Err(FetchError::QueueMissing { digest, queue: queue.into() });
                }
            }
            // The name of the queue is the only part of it that can be too large, and no queue has such a name.
            Err(PublishError::TooLarge { .. }) => {
                return Err(FetchError::QueueMissing { digest, queue: queue.into() });
            }
            // The request may have arrived. Either way it counts as lost, and is sent again when no reply comes.
            Err(
                error @ (PublishError::Unconfirmed { .. }
                | PublishError::Rejected { .. }
                | PublishError::Refused { .. }),
            ) => {
                debug!(queue, %digest, %error, "a request for a module may be lost");
            }
            Err(PublishError::Closed) => return Err(FetchError::Closed { digest }),
        }
        // Counted from now, since publishing may have waited for a lost connection.
        self.due = Instant::now() + RETRY_DELAYS[self.retries];
        Ok(())
    }

    fn on_reply(&mut self, body: &[u8]) -> Result<(), FetchError> {
        let ChunkRequester { queue, digest, .. } = self.requester;
        let response = match FetchReply::decode(body) {
            Ok(reply) if reply.digest == digest => reply.response,
            Ok(other) => {
                warn!(queue, %digest, other = %other.digest, "a reply for another module is dropped");
                return Ok(());
            }
            Err(error) => {
                warn!(queue, %digest, %error, "an unreadable reply is dropped");
                return Ok(());
            }
        };
        match response {
            FetchResponse::Chunk { size, index, bytes } => match self.assembly.take(size, index, bytes)? {
                ChunkOutcome::New => {
                    self.last_chunk_at = Instant::now();
                    self.retries = 0;
                    self.due = self.last_chunk_at + RETRY_DELAYS[0];
                }
                ChunkOutcome::Duplicate => {}
                ChunkOutcome::Invalid => {
                    warn!(queue, %digest, size, index, "an invalid chunk is dropped")
                }
            },
            FetchResponse::Stored { .. } | FetchResponse::Signatures(_) => {
                debug!(queue, %digest, "a reply to another request is dropped");
            }
            FetchResponse::Refused => return Err(FetchError::Refused { digest, queue: queue.into() }),
            FetchResponse::Missing => return Err(FetchError::Missing { digest }),
            FetchResponse::Corrupt { actual } => {
                return Err(FetchError::Corrupt { expected: digest, actual });
            }
            FetchResponse::Unreadable { reason } => {
                return Err(FetchError::Unreadable { digest, queue: queue.into(), reason: reason.into() });
            }
        }
        Ok(())
    }
}

impl ChunkRequester<'_> {
    pub(super) fn message(&self, part: FetchPart) -> Message {
        let request = FetchRequest { digest: self.digest, part };
        let reply = ReplyAddress { queue: self.reply_queue, id: self.id };
        Message {
            exchange: topology::CONTENT.to_owned(),
            key: self.queue.into(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties {
                reply_to: Some(self.reply_queue.into()),
                correlation_id: Some(self.id.into()),
                headers: BTreeMap::from([(DIGEST.into(), self.digest.to_string())]),
                ..Properties::default()
            },
            body: request.encode(&self.key, reply).into(),
        }
    }
}

async fn check(digest: Digest, bytes: Bytes) -> Result<Bytes, FetchError> {
    let (actual, bytes) = blocking(move || (digest_of(&bytes), bytes)).await;
    if actual != digest {
        return Err(FetchError::Corrupt { expected: digest, actual });
    }
    Ok(bytes)
}
