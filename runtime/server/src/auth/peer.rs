//! The user who opened a connection from this machine: a server without a token serves only its own user.

use std::{fs::File, io, io::BufReader, net::SocketAddr};

use procfs_core::{
    ExplicitSystemInfo, FromBufReadSI as _,
    net::{TcpNetEntries, TcpNetEntry},
};
use rustix::process::geteuid;
use tokio::{sync::OnceCell, task::spawn_blocking};
use tracing::warn;

/// The peer of a connection.
pub(crate) struct Peer {
    remote: SocketAddr,
    local: SocketAddr,
    is_own_user: OnceCell<bool>,
}

/// The address and the port of the peer.
impl std::fmt::Display for Peer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.remote)
    }
}

/// The tables in which the kernel lists the TCP sockets of this machine, each with the user who opened it.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

impl Peer {
    /// The peer of a connection between two addresses.
    pub(crate) fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        Self { remote, local, is_own_user: OnceCell::new() }
    }

    /// Whether the user of this process, or root, opened the connection. Only Linux tells who did: elsewhere, everybody on this
    /// machine counts as that user.
    pub(crate) async fn is_own_user(&self) -> bool {
        if cfg!(not(target_os = "linux")) {
            return true;
        }
        let (remote, local) = (self.remote, self.local);
        let find = || async move {
            let found = spawn_blocking(move || owner(remote, local)).await.unwrap_or_else(|error| Err(error.into()));
            match found {
                Ok(owner) => owner.is_some_and(|user| user == geteuid().as_raw() || user == 0),
                Err(error) => {
                    warn!(%error, "it is unknown which user opened a connection, so its requests are refused");
                    false
                }
            }
        };
        *self.is_own_user.get_or_init(find).await
    }
}

/// The user of the socket at the remote end of a connection; `None` if it has no open socket on this machine.
fn owner(remote: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    for table in SOCKET_TABLES {
        let table = match File::open(table) {
            Ok(file) => BufReader::new(file),
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let entries = TcpNetEntries::from_buf_read(table, &SYSTEM).map_err(io::Error::other)?;
        let found = entries.0.into_iter().find(|entry| is_between(entry, remote, local));
        if let Some(entry) = found {
            // The kernel shows a socket that its process has closed as one of root. Such a socket has no inode.
            return Ok((entry.inode != 0).then_some(entry.uid));
        }
    }
    Ok(None)
}

/// The tables contain addresses in the byte order of the machine; they use nothing else of this.
const SYSTEM: ExplicitSystemInfo = ExplicitSystemInfo {
    boot_time_secs: 0,
    ticks_per_second: 0,
    page_size: 0,
    is_little_endian: cfg!(target_endian = "little"),
};

/// Whether an entry is the remote end of a connection. A client may use an IPv6 socket for an IPv4 address.
fn is_between(entry: &TcpNetEntry, remote: SocketAddr, local: SocketAddr) -> bool {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    canonical(entry.local_address) == canonical(remote) && canonical(entry.remote_address) == canonical(local)
}

#[cfg(all(test, target_os = "linux"))]
#[expect(clippy::unwrap_used, reason = "sockets of this machine")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connected(listen: &str, connect: impl Fn(SocketAddr) -> TcpStream) -> (TcpStream, Peer) {
        let listener = TcpListener::bind(listen).unwrap();
        let client = connect(listener.local_addr().unwrap());
        let (stream, remote) = listener.accept().unwrap();
        (client, Peer::new(remote, stream.local_addr().unwrap()))
    }

    #[tokio::test]
    async fn a_connection_of_this_process_is_of_its_user() {
        let (_client, peer) = connected("127.0.0.1:0", |address| TcpStream::connect(address).unwrap());
        assert_eq!(owner(peer.remote, peer.local).unwrap(), Some(geteuid().as_raw()));
        assert!(peer.is_own_user().await);
    }

    #[tokio::test]
    async fn a_client_may_use_an_ipv6_socket_for_ipv4() {
        let mapped =
            |address: SocketAddr| TcpStream::connect(format!("[::ffff:127.0.0.1]:{}", address.port())).unwrap();
        let (_client, peer) = connected("127.0.0.1:0", mapped);
        assert!(peer.is_own_user().await);
    }

    #[tokio::test]
    async fn a_socket_that_its_process_has_closed_is_not_of_root() {
        let (client, peer) = connected("127.0.0.1:0", |address| TcpStream::connect(address).unwrap());
        drop(client);
        assert_eq!(owner(peer.remote, peer.local).unwrap(), None);
        assert!(!peer.is_own_user().await);
    }
}
