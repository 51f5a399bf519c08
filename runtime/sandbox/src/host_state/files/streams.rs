//! The streams of files: what a guest reads and writes, one operation at a time.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use futures::FutureExt as _;
use wasmtime_wasi::{
    async_trait,
    runtime::{AbortOnDropJoinHandle, spawn},
};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{DynInputStream, InputStream, OutputStream, StreamError, StreamResult},
};

use super::{StreamPlace, quota::Quota};

/// The maximum size of one write, in bytes.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// A stream that reads a file. It counts as one of the guest's open files.
pub(super) struct Reader {
    pub(super) stream: DynInputStream,
    pub(super) _place: StreamPlace,
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// A stream that writes a file within a quota.
pub(super) struct Writer {
    file: Arc<File>,
    quota: Quota,
    /// Where the next bytes go; `None` for the end of the file.
    position: Option<u64>,
    state: State,
    _place: StreamPlace,
}

enum State {
    Ready,
    /// A write that may not be finished. It is a task of its own: a guest may never ask for its end, and while it waits for the
    /// directory, all others wait behind it.
    Writing(AbortOnDropJoinHandle<io::Result<()>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    pub(super) fn new(file: Arc<File>, quota: Quota, position: Option<u64>, place: StreamPlace) -> Self {
        Self { file, quota, position, state: State::Ready, _place: place }
    }

    fn settle(&mut self, written: io::Result<()>) {
        self.state = written.map_or_else(State::Failed, |()| State::Ready);
    }

    /// Reports a failed write once.
    fn check(&mut self) -> StreamResult<()> {
        if let State::Writing(write) = &mut self.state
            && let Some(written) = write.now_or_never()
        {
            self.settle(written);
        }
        match &self.state {
            State::Ready | State::Writing(_) => Ok(()),
            State::Closed => Err(StreamError::Closed),
            State::Failed(_) => match std::mem::replace(&mut self.state, State::Closed) {
                State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                State::Ready | State::Writing(_) | State::Closed => Err(StreamError::Closed),
            },
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let State::Writing(write) = &mut self.state {
            let written = write.await;
            self.settle(written);
        }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if !matches!(self.state, State::Ready) || bytes.len() > MAX_WRITE_BYTES {
            return Err(StreamError::trap("it wrote more than check_write allows"));
        }
        let (quota, file, position) = (self.quota.clone(), self.file.clone(), self.position);
        self.position = position.map(|position| position.saturating_add(bytes.len() as u64));
        self.state = State::Writing(spawn(async move { quota.write(file, bytes, position).await }));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(if matches!(self.state, State::Ready) { MAX_WRITE_BYTES } else { 0 })
    }

    async fn cancel(&mut self) {
        // What the guest has written is not lost when it drops the stream.
        self.ready().await;
    }
}
