//! The peer of a connection. A server without a token serves only its own user.

#[cfg(target_os = "linux")]
mod kernel;

use std::{fmt, net::SocketAddr};

use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Prepares to find out who opens connections to an address on which this process listens.
pub(crate) fn prepare(listening: SocketAddr) {
    #[cfg(target_os = "linux")]
    kernel::prove(listening);
    #[cfg(not(target_os = "linux"))]
    let _ = listening;
}

/// The peer of a connection.
pub(crate) struct Peer {
    address: SocketAddr,
    is_own_user: bool,
    /// The subject of the certificate that the peer has shown, if the server asks for one.
    certificate: Option<String>,
}

impl Peer {
    /// Finds out who opened a connection. With `asks_for_user`, also whether the user of this process, or root, did.
    pub(crate) async fn of(stream: &TcpStream, address: SocketAddr, asks_for_user: bool) -> Self {
        let is_own_user = asks_for_user && is_of_own_user(stream, address).await;
        Self { address, is_own_user, certificate: None }
    }

    /// The peer, with the certificates that it has shown: its own comes first.
    pub(crate) fn with_certificate(self, shown: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate = shown.and_then(|shown| shown.first()).map(|own| {
            // The authority may leave the subject out, and name the owner in another field.
            credentials::subject(own).unwrap_or_else(|| "a certificate without a subject".to_owned())
        });
        Self { certificate, ..self }
    }

    /// The subject of the certificate that the peer has shown.
    pub(crate) fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// The peer of a request that came without a connection.
    pub(crate) fn unconnected() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), is_own_user: false, certificate: None }
    }

    /// Whether the user of this process, or root, opened the connection. It is false if nobody asked for it.
    pub(crate) fn is_own_user(&self) -> bool {
        self.is_own_user
    }
}

/// The address and the port of the peer.
impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.address)
    }
}

/// Only Linux tells who opened a connection: elsewhere, everybody on this machine counts as the user of this process.
#[cfg(not(target_os = "linux"))]
async fn is_of_own_user(_: &TcpStream, _: SocketAddr) -> bool {
    true
}

#[cfg(target_os = "linux")]
async fn is_of_own_user(stream: &TcpStream, peer: SocketAddr) -> bool {
    use rustix::process::geteuid;
    /// The user for which a user namespace shows all users that it does not map. The kernel's default; it is hardly ever changed.
    const UNMAPPED: u32 = 65_534;
    let Ok(local) = stream.local_addr() else { return false };
    let owner = match kernel::find(peer, local).await {
        Ok(socket) => socket.filter(|socket| socket.is_open).map(|socket| socket.user),
        Err(error) => {
            tracing::warn!(%error, "it is unknown which user opened a connection, so its requests are refused: set a token");
            None
        }
    };
    // As long as this end is connected, no other connected socket has the addresses of the peer. A peer that has reset the
    // connection may have made room for another user's socket.
    let is_connected = stream.peer_addr().is_ok();
    is_connected && owner.is_some_and(|user| user == 0 || (user == geteuid().as_raw() && user != UNMAPPED))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt::set_socket_linger;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_of_this_process_is_of_its_user() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let client = TcpStream::connect(listener.local_addr().expect("it has one")).await.expect("it listens");
        let (stream, address) = listener.accept().await.expect("it was connected to");
        assert!(Peer::of(&stream, address, true).await.is_own_user());
        assert!(!Peer::of(&stream, address, false).await.is_own_user());
        drop(client);
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_is_of_nobody_although_its_port_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let server = listener.local_addr().expect("it has one");
        let first = TcpStream::connect(server).await.expect("it listens");
        let (stream, address) = listener.accept().await.expect("it was connected to");
        set_socket_linger(&first, Some(std::time::Duration::ZERO)).expect("a socket can be reset");
        drop(first);
        // The next socket, of a user who may use the server, gets the same port.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("the port is free again");
        let _second = socket.connect(server).await.expect("it listens");
        assert!(!Peer::of(&stream, address, true).await.is_own_user());
    }
}
