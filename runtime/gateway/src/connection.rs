//! A connection to a server, which has one request at a time. It spawns nothing: whoever owns it does its work, and dropping it closes
//! its socket and frees its buffers at once.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::{
    HttpError,
    headers::MAX_HEADERS_BYTES,
    meter::{Content, Meter, Metered},
};

/// A connection.
pub(crate) struct Connection {
    sender: Sender,
    tasks: Tasks,
    meter: Arc<Meter>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why a request has no response.
pub(crate) enum SendError {
    /// The connection had ended: nothing of the request was sent.
    NotSent(HttpError),
    /// The request may have been sent.
    Failed(HttpError),
}

type Task = BoxFuture<'static, ()>;

/// The work of a connection beside its request: reading and writing, and over HTTP/2 also the body of the request.
struct Tasks {
    running: FuturesUnordered<Task>,
    /// Those that have just been started. A request starts at most three, and none starts further ones.
    started: UnboundedReceiver<Task>,
}

/// Starts the tasks of a connection.
#[derive(Clone)]
struct Starter(UnboundedSender<Task>);

impl<T: Future<Output = ()> + Send + 'static> Executor<T> for Starter {
    fn execute(&self, task: T) {
        // Without a receiver the connection is being dropped, with all of its tasks.
        drop(self.0.send(Box::pin(task)));
    }
}

impl Tasks {
    fn new() -> (Starter, Self) {
        let (sender, started) = mpsc::unbounded_channel();
        (Starter(sender), Self { running: FuturesUnordered::new(), started })
    }

    /// Does the work; ready once there is none, and never will be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(Some(task)) = self.started.poll_recv(cx) {
                self.running.push(task);
            }
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Does the work while something else is waited for, which may need it.
    async fn during<T>(&mut self, meter: &Meter, waiting: impl Future<Output = T>) -> T {
        let mut waiting = pin!(waiting);
        poll_fn(|cx| {
            // What has been received is taken before more is.
            if let Poll::Ready(result) = waiting.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            meter.begin_turn();
            // A connection that has ended has told the request so.
            let _: Poll<()> = self.poll(cx);
            waiting.as_mut().poll(cx)
        })
        .await
    }
}

impl Connection {
    /// A connection with HTTP/1.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn http1(stream: Metered<Content>, meter: Arc<Meter>) -> Result<Self, HttpError> {
        let (starter, tasks) = Tasks::new();
        let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| HttpError::of_exchange(&error))?;
        // The request has the error too.
        starter.execute(async move { drop(connection.await) });
        Ok(Self { sender: Sender::Http1(sender), tasks, meter })
    }

    /// A connection with HTTP/2.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn http2(stream: Metered<Content>, meter: Arc<Meter>) -> Result<Self, HttpError> {
        let (starter, tasks) = Tasks::new();
        let mut builder = http2::Builder::new(starter.clone());
        builder.max_header_list_size(MAX_HEADERS_BYTES as u32);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| HttpError::of_exchange(&error))?;
        starter.execute(async move { drop(connection.await) });
        Ok(Self { sender: Sender::Http2(sender), tasks, meter })
    }

    /// Whether it has HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether it can take a request.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Sends a request, and receives the head of its response. If the future is dropped, the connection has to be dropped too.
    ///
    /// # Errors
    /// [`SendError`], and then the connection has to be dropped.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        self.meter.set_busy(true);
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                let sent = sender.try_send_request(request);
                self.tasks.during(&self.meter, sent).await
            }
            Sender::Http2(sender) => {
                let sent = sender.try_send_request(request);
                self.tasks.during(&self.meter, sent).await
            }
        };
        sent.map_err(|mut error: TrySendError<Request<Full<Bytes>>>| {
            let kind = if error.take_message().is_some() { SendError::NotSent } else { SendError::Failed };
            kind(self.error(&error.into_error()))
        })
    }

    /// Does the work of the connection while its request waits for something, such as the next part of the response.
    pub(crate) async fn during<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        self.tasks.during(&self.meter, waiting).await
    }

    /// Does the work of the connection that waits for nothing.
    pub(crate) async fn advance(&mut self) {
        poll_fn(|cx| {
            // Whether it is closed is asked later.
            let _: Poll<()> = self.poll_closed(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Notes that the request was sent and its response received, both whole. Without it, dropping the connection resets it. So it does with
    /// HTTP/2: a server can make a client send when there is no request, and take nothing of it.
    pub(crate) fn complete(&mut self) {
        self.meter.set_busy(self.is_http2());
    }

    /// Does the work of an unused connection; ready once the server has closed it.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.meter.begin_turn();
        self.tasks.poll(cx)
    }

    /// Why the connection receives no more, although the response may look complete.
    pub(crate) fn failure(&self) -> Option<HttpError> {
        self.meter.failure().cloned()
    }

    /// What an error of the connection means.
    pub(crate) fn error(&self, error: &hyper::Error) -> HttpError {
        self.failure().unwrap_or_else(|| HttpError::of_exchange(error))
    }
}
