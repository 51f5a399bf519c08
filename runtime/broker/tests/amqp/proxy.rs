//! A stretch of network that can be cut.

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

/// What becomes of the connections of a time.
#[derive(Clone, Default)]
struct Line {
    /// Cancelled, they are cut.
    cut: CancellationToken,
    /// Cancelled, the client hears nothing more.
    deaf: CancellationToken,
    /// Cancelled, new ones are closed at once.
    closed: CancellationToken,
}

/// Passes connections on to a broker, as long as it is let.
pub(crate) struct Proxy {
    address: SocketAddr,
    line: Arc<Mutex<Line>>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts one in front of the broker at this address.
    pub(crate) async fn start(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, stop) = (Arc::<Mutex<Line>>::default(), CancellationToken::new());
        let serving = serve(listener, broker, line.clone());
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { address, line, stop }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections. New ones are passed on.
    pub(crate) fn cut(&self) {
        self.replace(Line::default());
    }

    /// Cuts all connections and lets no new ones through.
    pub(crate) fn close(&self) {
        let line = Line::default();
        line.closed.cancel();
        self.replace(line);
    }

    /// Lets connections through again.
    pub(crate) fn open(&self) {
        self.replace(Line::default());
    }

    /// Holds back what the broker says over the connections there are.
    pub(crate) fn hold_answers(&self) {
        self.line.lock().unwrap().deaf.cancel();
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

async fn serve(listener: TcpListener, broker: String, line: Arc<Mutex<Line>>) {
    let connections = TaskTracker::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let line = line.lock().unwrap().clone();
        if !line.closed.is_cancelled() {
            let passing = pass(client, broker.clone(), line.deaf);
            connections.spawn(line.cut.run_until_cancelled_owned(passing));
        }
    }
}

async fn pass(client: TcpStream, broker: String, deaf: CancellationToken) {
    let server = TcpStream::connect(broker).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, CancellationToken::new()) => {}
        () = copy(from_server, to_client, deaf) => {}
    }
}

/// Copies until one side closes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: CancellationToken) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if deaf.is_cancelled() {
            future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
