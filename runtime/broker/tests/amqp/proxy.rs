//! A network proxy that can be cut.

use std::{
    future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The switches for the connections since the last cut.
#[derive(Clone, Default)]
struct Line {
    /// Cancelled to cut the connections.
    cut: CancellationToken,
    /// Cancelled so that the client receives no more data.
    replies_held: CancellationToken,
    /// Cancelled to close new connections at once.
    closed: CancellationToken,
}

/// Forwards connections to a broker, unless switched off.
pub(crate) struct Proxy {
    address: SocketAddr,
    line: Arc<Mutex<Line>>,
    /// The queue whose requests are dropped; empty for none.
    filtered_queue: Arc<Mutex<String>>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts a proxy in front of the broker at this address.
    pub(crate) async fn start(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, stop) = (Arc::<Mutex<Line>>::default(), CancellationToken::new());
        let filtered_queue = Arc::<Mutex<String>>::default();
        let server = serve(listener, broker, line.clone(), filtered_queue.clone());
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(server));
        Self { address, line, filtered_queue, stop }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections. New ones are forwarded.
    pub(crate) fn cut(&self) {
        self.replace(Line::default());
    }

    /// Cuts all connections and accepts no new ones.
    pub(crate) fn close(&self) {
        let line = Line::default();
        line.closed.cancel();
        self.replace(line);
    }

    /// Accepts connections again.
    pub(crate) fn open(&self) {
        self.replace(Line::default());
    }

    /// Drops all requests about a queue: the broker seems not to answer about it.
    pub(crate) fn filter_queue(&self, queue: &str) {
        *self.filtered_queue.lock().unwrap() = queue.to_owned();
    }

    /// Holds back the broker's replies on the existing connections.
    pub(crate) fn hold_replies(&self) {
        self.line.lock().unwrap().replies_held.cancel();
    }

    fn replace(&self, line: Line) {
        std::mem::replace(&mut *self.line.lock().unwrap(), line).cut.cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, broker: String, line: Arc<Mutex<Line>>, filtered_queue: Arc<Mutex<String>>) {
    let connections = TaskTracker::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let line = line.lock().unwrap().clone();
        if !line.closed.is_cancelled() {
            let forwarding = forward(client, broker.clone(), line.replies_held, filtered_queue.clone());
            connections.spawn(line.cut.run_until_cancelled_owned(forwarding));
        }
    }
}

async fn forward(
    client: TcpStream,
    broker: String,
    replies_held: CancellationToken,
    filtered_queue: Arc<Mutex<String>>,
) {
    let server = TcpStream::connect(broker).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = forward_client(from_client, to_server, filtered_queue) => {}
        () = copy(from_server, to_client, replies_held) => {}
    }
}

/// Copies the client's frames, except requests about the filtered queue.
async fn forward_client(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, filtered_queue: Arc<Mutex<String>>) {
    let mut header = [0; 8];
    if from.read_exact(&mut header).await.is_err() || to.write_all(&header).await.is_err() {
        return;
    }
    loop {
        // A frame has a type, a channel and a length, then a payload and an end mark.
        let mut frame = vec![0; 7];
        if from.read_exact(&mut frame).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
        frame.resize(7 + length + 1, 0);
        if from.read_exact(&mut frame[7..]).await.is_err() {
            return;
        }
        let is_filtered = names_queue(&frame, filtered_queue.lock().unwrap().as_bytes());
        if !is_filtered && to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Whether a frame declares, deletes or consumes a queue: class, method, two reserved bytes, and the queue's name.
fn names_queue(frame: &[u8], queue: &[u8]) -> bool {
    const METHODS: [[u8; 4]; 3] = [[0, 50, 0, 10], [0, 50, 0, 40], [0, 60, 0, 20]];
    let is_method = frame[0] == 1 && METHODS.iter().any(|method| frame[7..].starts_with(method));
    let name = || frame.get(14..14 + usize::from(*frame.get(13)?));
    is_method && !queue.is_empty() && name() == Some(queue)
}

/// Copies until one side closes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, replies_held: CancellationToken) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if replies_held.is_cancelled() {
            future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
