//! The streams of connections, whose bytes count.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult},
};

use crate::host_state::denied::Denied;

/// The bytes that all connections of a call may still send and receive.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(limit)), limit }
    }

    /// Counts bytes.
    ///
    /// # Errors
    /// When too many are sent or received.
    fn take(&self, bytes: usize, denied: &Denied) -> StreamResult<()> {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes as u64));
        taken.map(|_| ()).map_err(|_| {
            let limit = flow::Size(self.limit);
            denied.note(|| {
                format!("its TCP connections would send and receive more than http_bytes of the task allows: {limit}")
            });
            StreamError::LastOperationFailed(wasmtime::Error::msg("the connections of the call have no bytes left"))
        })
    }
}

/// What a connection receives.
pub(super) struct Received {
    pub(super) stream: DynInputStream,
    pub(super) budget: Budget,
    pub(super) denied: Denied,
}

#[async_trait]
impl Pollable for Received {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl InputStream for Received {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.stream.read(size)?;
        self.budget.take(bytes.len(), &self.denied)?;
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// What a connection sends.
pub(super) struct Sent {
    pub(super) stream: DynOutputStream,
    pub(super) budget: Budget,
    pub(super) denied: Denied,
}

#[async_trait]
impl Pollable for Sent {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl OutputStream for Sent {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.budget.take(bytes.len(), &self.denied)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
