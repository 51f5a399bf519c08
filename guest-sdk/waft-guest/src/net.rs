//! TCP connections, for tasks whose flow asks for them and whose operator grants them. The standard library has none on `wasm32-wasip1`.
//!
//! ```no_run
//! use std::io::{Read as _, Write as _};
//!
//! use waft_guest::{net::TcpStream, prelude::*};
//!
//! /// Asks the database for its version.
//! #[task(provides = "version")]
//! fn version() -> Result<String, Failure> {
//!     let mut database = TcpStream::connect("db.example.com:6379")?;
//!     database.write_all(b"INFO server\r\nQUIT\r\n")?;
//!     let mut version = String::new();
//!     database.read_to_string(&mut version)?;
//!     Ok(version)
//! }
//! # fn main() {}
//! ```
//!
//! The flow names what the task connects to, and the operator of the worker grants it:
//!
//! ```toml
//! [[task]]
//! name = "version"
//! use = "database#version"
//! allow = { sockets = ["db.example.com:6379"] }
//! ```
//!
//! Outside waft, a connection is one of the standard library.

#[cfg(target_family = "wasm")]
mod wasi;

use std::{
    io::{self, Read, Write},
    net::Shutdown,
};

#[cfg(not(target_family = "wasm"))]
use std::net::TcpStream as Connection;
#[cfg(target_family = "wasm")]
use wasi::Connection;

/// A TCP connection. It ends when it is dropped, or with the call.
#[derive(Debug)]
pub struct TcpStream(Connection);

impl TcpStream {
    /// Connects to a host and a port, such as `db.example.com:5432`, at the first of its addresses that answers.
    ///
    /// # Errors
    /// When the host has no address, no address answers, or the connection is not allowed.
    pub fn connect(address: &str) -> io::Result<Self> {
        Connection::connect(address).map(Self)
    }

    /// Ends one direction of the connection, or both.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
