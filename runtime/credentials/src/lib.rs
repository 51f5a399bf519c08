//! Secrets in files, certificates and keys, and the TLS of clients and servers that use them.
//!
//! It opens no connection and knows no protocol: it reads files, and returns the configuration of rustls. Each error names the file.
//! Start reading at `client.rs` and `server.rs`; `pem.rs` reads the files. `regular.rs` is for every file
//! that another user may have put there.

mod file;
mod regular;
mod secret;
mod pem;
mod client;
mod server;
mod subject;

pub use client::{ClientTls, Trust};
pub use file::{FileError, is_open_to_others};
pub use pem::Identity;
pub use regular::read_regular;
pub use secret::{parse_secret, read_secret, read_secret_once};
pub use server::ServerTls;
pub use subject::subject;
