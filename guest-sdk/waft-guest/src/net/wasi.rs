//! Connects by `wasi:sockets`.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
};

use bindings::wasi::{
    io::streams::{InputStream, OutputStream, StreamError},
    sockets::{
        instance_network::{self, Network},
        ip_name_lookup,
        network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress},
        tcp::{ShutdownType, TcpSocket},
        tcp_create_socket,
    },
};

mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "net",
        generate_all,
    });
}

/// The bytes that a stream takes at once.
const WRITE_BYTES: usize = 4_096;

/// A connection. Its streams go before the socket that they belong to.
#[derive(Debug)]
pub(super) struct Connection {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

impl Connection {
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        let invalid = || io::Error::new(ErrorKind::InvalidInput, format!("{address:?} is no host with a port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let network = instance_network::instance_network();
        let failed = |code| error(address, code);
        let lookup = ip_name_lookup::resolve_addresses(&network, host).map_err(failed)?;
        let mut last = ErrorCode::NameUnresolvable;
        loop {
            match lookup.resolve_next_address() {
                Ok(Some(found)) => match connect_to(&network, found, port) {
                    Ok(connection) => return Ok(connection),
                    Err(code) => last = code,
                },
                Ok(None) => return Err(failed(last)),
                Err(ErrorCode::WouldBlock) => lookup.subscribe().block(),
                Err(code) => return Err(failed(code)),
            }
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => ShutdownType::Receive,
            Shutdown::Write => ShutdownType::Send,
            Shutdown::Both => ShutdownType::Both,
        };
        self.socket.shutdown(how).map_err(|code| error("the connection", code))
    }
}

fn connect_to(network: &Network, address: IpAddress, port: u16) -> Result<Connection, ErrorCode> {
    let (family, address) = match address {
        IpAddress::Ipv4(address) => (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })),
        IpAddress::Ipv6(address) => {
            let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    };
    let socket = tcp_create_socket::create_tcp_socket(family)?;
    socket.start_connect(network, address)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok(Connection { input, output, socket }),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(code) => return Err(code),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.input.blocking_read(buffer.len() as u64) {
            Ok(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(StreamError::Closed) => Ok(0),
            Err(StreamError::LastOperationFailed(_)) => Err(lost()),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(WRITE_BYTES)];
        match self.output.blocking_write_and_flush(part) {
            Ok(()) => Ok(part.len()),
            Err(StreamError::Closed) => Err(ErrorKind::BrokenPipe.into()),
            Err(StreamError::LastOperationFailed(_)) => Err(lost()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::new(ErrorKind::ConnectionReset, "the connection was lost")
}

fn error(address: &str, code: ErrorCode) -> io::Error {
    let (kind, reason) = match code {
        ErrorCode::AccessDenied => (ErrorKind::PermissionDenied, "the connection is not allowed"),
        ErrorCode::ConnectionRefused => (ErrorKind::ConnectionRefused, "the connection was refused"),
        ErrorCode::ConnectionReset => (ErrorKind::ConnectionReset, "the connection was reset"),
        ErrorCode::ConnectionAborted => (ErrorKind::ConnectionAborted, "the connection was aborted"),
        ErrorCode::RemoteUnreachable => (ErrorKind::NetworkUnreachable, "there is no way to it"),
        ErrorCode::Timeout => (ErrorKind::TimedOut, "it did not answer in time"),
        ErrorCode::NameUnresolvable | ErrorCode::TemporaryResolverFailure | ErrorCode::PermanentResolverFailure => {
            (ErrorKind::HostUnreachable, "its host has no address")
        }
        ErrorCode::NewSocketLimit => (ErrorKind::QuotaExceeded, "the call has too many connections"),
        ErrorCode::InvalidArgument => (ErrorKind::InvalidInput, "the address is invalid"),
        _ => (ErrorKind::Other, code.name()),
    };
    io::Error::new(kind, format!("{address}: {reason}"))
}
