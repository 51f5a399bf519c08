//! Asks the kernel which user owns a TCP socket of this machine.
//!
//! `sock_diag` finds one socket by its addresses (sock_diag(7), `struct inet_diag_req_v2`). A kernel without it has a table of
//! all sockets to search, which takes long on a busy machine, so only one search runs at a time.

use std::{
    fs::File,
    io::{self, BufReader},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use procfs_core::{
    ExplicitSystemInfo, FromBufReadSI as _,
    net::{TcpNetEntries, TcpNetEntry},
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// A TCP socket, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    /// The user who opened it.
    pub(super) user: u32,
    /// Whether a process has it open. The kernel shows a socket that its process has closed as one of root.
    pub(super) is_open: bool,
}

/// Whether `sock_diag` has found a socket in this process: then a socket that it does not find does not exist.
static FINDS_SOCKETS: AtomicBool = AtomicBool::new(false);

/// Searches of the table that run at the same time.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// Finds out whether `sock_diag` works here, with the socket that listens on an address.
pub(super) fn prove(listening: SocketAddr) {
    // Its answer is the listener, since nobody is connected from this port.
    let _ = ask(listening, SocketAddr::new(listening.ip(), 1));
}

/// The socket with these addresses; `None` if this machine has none.
///
/// # Errors
/// The error of the kernel when it does not answer.
pub(super) async fn find(own: SocketAddr, other: SocketAddr) -> io::Result<Option<Socket>> {
    if let Ok(found) = ask(own, other)
        && FINDS_SOCKETS.load(Ordering::Relaxed)
    {
        return Ok(found);
    }
    let _search = SEARCHES.acquire().await;
    spawn_blocking(move || search(own, other)).await.unwrap_or_else(|error| Err(error.into()))
}

/// `SOCK_DIAG_BY_FAMILY`, the type of the request and of its answer.
const BY_FAMILY: u16 = 20;

/// `NLMSG_ERROR`, the type of an answer without a socket.
const ERROR: u16 = 2;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// The protocol TCP.
const TCP: u8 = 6;

/// The states of the client's end while the server's end is connected: `TCP_ESTABLISHED`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2` and
/// `TCP_CLOSE_WAIT`. In any other state, such as of a listener or of a client that tries to connect, it is another socket with
/// the same addresses.
const CONNECTED: [u8; 4] = [1, 4, 5, 8];

/// Asks for one socket.
fn ask(own: SocketAddr, other: SocketAddr) -> io::Result<Option<Socket>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    // The kernel answers before the send returns.
    sendto(&kernel, &request(own, other), SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    let (length, _) = recv(&kernel, &mut answer[..], RecvFlags::empty())?;
    read_answer(&answer[..length], other.port())
}

fn request(own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let (family, own_ip, other_ip) = match (own.ip().to_canonical(), other.ip().to_canonical()) {
        (IpAddr::V4(own), IpAddr::V4(other)) => (AddressFamily::INET, padded(&own.octets()), padded(&other.octets())),
        (own, other) => (AddressFamily::INET6, in_v6(own), in_v6(other)),
    };
    let mut body = vec![u8::try_from(family.as_raw()).unwrap_or_default(), TCP, 0, 0];
    // All states.
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(own.port().to_be_bytes());
    body.extend(other.port().to_be_bytes());
    body.extend(own_ip);
    body.extend(other_ip);
    // Any interface, and no cookie.
    body.extend(0_u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or_default().to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
    message.extend(body);
    message
}

fn padded(octets: &[u8; 4]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..4].copy_from_slice(octets);
    padded
}

fn in_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Reads `struct inet_diag_msg`.
fn read_answer(answer: &[u8], other_port: u16) -> io::Result<Option<Socket>> {
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's answer is cut off");
    let field = |at: usize| answer.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).ok_or_else(cut);
    let kind = answer.get(4..6).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).ok_or_else(cut)?;
    if u16::from_ne_bytes(kind) == ERROR {
        let error = io::Error::from_raw_os_error(-i32::from_ne_bytes(field(HEADER)?));
        return if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) };
    }
    let state = *answer.get(HEADER + 1).ok_or_else(cut)?;
    let found_port = answer.get(HEADER + 6..HEADER + 8).ok_or_else(cut)?;
    FINDS_SOCKETS.store(true, Ordering::Relaxed);
    if !CONNECTED.contains(&state) || found_port != other_port.to_be_bytes() {
        return Ok(None);
    }
    let (user, inode) = (u32::from_ne_bytes(field(HEADER + 64)?), u32::from_ne_bytes(field(HEADER + 68)?));
    Ok(Some(Socket { user, is_open: inode != 0 }))
}

/// The tables of all TCP sockets.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The tables contain addresses in the byte order of the machine; they use nothing else of this.
const SYSTEM: ExplicitSystemInfo = ExplicitSystemInfo {
    boot_time_secs: 0,
    ticks_per_second: 0,
    page_size: 0,
    is_little_endian: cfg!(target_endian = "little"),
};

/// Searches the tables of all sockets.
fn search(own: SocketAddr, other: SocketAddr) -> io::Result<Option<Socket>> {
    let mut is_readable = false;
    for table in TABLES {
        let table = match File::open(table) {
            Ok(file) => BufReader::new(file),
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        is_readable = true;
        let entries = TcpNetEntries::from_buf_read(table, &SYSTEM).map_err(io::Error::other)?;
        if let Some(entry) = entries.0.into_iter().find(|entry| is_between(entry, own, other)) {
            return Ok(Some(Socket { user: entry.uid, is_open: entry.inode != 0 }));
        }
    }
    if is_readable { Ok(None) } else { Err(io::Error::other("the kernel shows no sockets here")) }
}

/// Whether an entry has these addresses. A client may use an IPv6 socket for an IPv4 address.
fn is_between(entry: &TcpNetEntry, own: SocketAddr, other: SocketAddr) -> bool {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let is_connected = CONNECTED.contains(&entry.state.to_u8());
    is_connected
        && canonical(entry.local_address) == canonical(own)
        && canonical(entry.remote_address) == canonical(other)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream},
    };

    use rustix::process::geteuid;

    use super::*;

    #[test]
    fn both_ways_find_the_same_sockets() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).expect("a port is free");
            let server = listener.local_addr().expect("it has an address");
            for mapped in [false, true] {
                let connect_to = match server {
                    SocketAddr::V4(at) if mapped => SocketAddr::from((at.ip().to_ipv6_mapped(), at.port())),
                    server => server,
                };
                let client = TcpStream::connect(connect_to).expect("it listens");
                let (_accepted, own) = listener.accept().expect("it was connected to");
                let expected = Some(Socket { user: geteuid().as_raw(), is_open: true });
                assert_eq!(ask(own, server).expect("the kernel answers"), expected, "{own} {server}");
                assert_eq!(search(own, server).expect("the tables are there"), expected, "{own} {server}");
                drop(client);
                for found in [ask(own, server), search(own, server)] {
                    let found = found.expect("the kernel answers");
                    assert!(found.is_none_or(|socket| !socket.is_open), "{found:?}");
                }
            }
            // The kernel must not answer with the listener.
            let nobody = SocketAddr::new(server.ip(), 1);
            assert_eq!(ask(server, nobody).expect("the kernel answers"), None);
        }
    }

    /// Two ends of a connection, the client first.
    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let client = TcpStream::connect(listener.local_addr().expect("it has an address")).expect("it listens");
        (client, listener.accept().expect("it was connected to").0)
    }

    /// Asserts that both ways find the client's end, or that none does. An end that was shut down needs a moment.
    #[track_caller]
    fn assert_found(client: (SocketAddr, SocketAddr), is_found: bool, state: &str) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let found = [ask(client.0, client.1), search(client.0, client.1)];
            let found = found.map(|found| found.expect("the kernel answers").is_some_and(|socket| socket.is_open));
            if found == [is_found; 2] {
                return;
            }
            assert!(std::time::Instant::now() < until, "{state}: {found:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn addresses(client: &TcpStream) -> (SocketAddr, SocketAddr) {
        (client.local_addr().expect("it is bound"), client.peer_addr().expect("it is connected"))
    }

    #[test]
    fn an_end_that_still_sends_or_receives_is_connected() {
        let (client, server) = connected();
        let ends = addresses(&client);
        assert_found(ends, true, "established");
        client.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!((&server).read(&mut [0]).expect("it is connected"), 0, "the client sends nothing more");
        assert_found(ends, true, "fin-wait-2");
        drop(server);
        assert_eq!((&client).read(&mut [0]).expect("it is connected"), 0, "the server sends nothing more");
        assert_found(ends, false, "time-wait");
        let (client, server) = connected();
        server.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!((&client).read(&mut [0]).expect("it is connected"), 0, "the server sends nothing more");
        assert_found(addresses(&client), true, "close-wait");
        let (client, _server) = connected();
        client.set_nonblocking(true).expect("an option");
        while (&client).write(&[0; 1 << 16]).is_ok() {}
        client.shutdown(Shutdown::Write).expect("it is connected");
        assert_found(addresses(&client), true, "fin-wait-1: the server has not received everything");
    }

    #[test]
    fn an_end_that_connects_is_not_connected() {
        let listener =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        rustix::net::listen(&listener, 0).expect("it is bound");
        let server =
            SocketAddr::try_from(rustix::net::getsockname(&listener).expect("it is bound")).expect("an address");
        // The queue of the listener has room for one connection.
        let _first = TcpStream::connect(server).expect("it listens");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
        let connecting = rustix::net::connect(&client, &server);
        assert_eq!(connecting, Err(rustix::io::Errno::INPROGRESS));
        let own = SocketAddr::try_from(rustix::net::getsockname(&client).expect("it is bound")).expect("an address");
        assert_found((own, server), false, "syn-sent");
    }
}
