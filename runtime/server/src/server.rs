//! The server: a listener, the routes, and a shutdown that waits for open requests.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::serve::{Listener, ListenerExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    Config, Dependencies, Token,
    health::{Examination, Readiness},
    routes,
    state::State,
};

/// How long open requests may take after shutdown starts.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The server would accept requests from everybody.
    #[error("will not listen on {listen} without a token: everybody who reaches it could run anything")]
    NoToken {
        /// The address to listen on.
        listen: SocketAddr,
    },
    /// The operating system refused to listen there.
    #[error("could not listen on {listen}")]
    Listen {
        /// The address to listen on.
        listen: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A server that listens but handles no request yet: requests wait until it runs.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    token: Option<Token>,
    largest_request: usize,
}

impl Server {
    /// Starts to listen. Start the engine afterwards: an engine without a server is of no use.
    ///
    /// # Errors
    /// [`BindError`] when the system refuses, or the server would be open to everybody.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let Config { listen, token, max_request_bytes: largest_request } = config;
        if token.is_none() && !is_loopback(listen.ip()) {
            return Err(BindError::NoToken { listen });
        }
        let failed = |source| BindError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let largest_request = usize::try_from(largest_request).unwrap_or(usize::MAX);
        Ok(Self { listener, local_addr, token, largest_request })
    }

    /// The address it listens on, with the port that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Handles requests until `stop`. Then it accepts no more requests, ends event streams, and waits at most
    /// five seconds for the other requests.
    ///
    /// # Errors
    /// When the operating system stops it from listening.
    pub async fn run(self, dependencies: Dependencies, stop: CancellationToken) -> io::Result<()> {
        let Self { listener, token, largest_request, local_addr: _ } = self;
        let state = State {
            dependencies,
            token,
            readiness: Readiness::default(),
            examination: Examination::default(),
            stop: stop.clone(),
        };
        let router = routes::router(Arc::new(state), largest_request);
        let serving =
            axum::serve(without_delay(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            served = serving.into_future() => served,
            () = overdue => {
                info!("some requests were not answered to the end");
                Ok(())
            }
        }
    }
}

/// Sends each write of a connection at once. Otherwise an event waits for the peer's acknowledgement of what was sent
/// before, which the peer may delay by 40 ms.
fn without_delay(listener: TcpListener) -> impl Listener<Io = TcpStream, Addr = SocketAddr> {
    listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "the events of a connection may be delayed");
        }
    })
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_sends_each_event_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = without_delay(listener);
        let (peer, (connection, _)) = futures::join!(TcpStream::connect(address), listener.accept());
        assert!(connection.nodelay().unwrap());
        drop(peer);
    }
}
