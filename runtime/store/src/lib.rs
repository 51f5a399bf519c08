//! Content by the SHA-256 of its bytes: modules, and values too large for a message.
//!
//! [`Store`] is the contract and [`contract`] the suite that defines its meaning; [`Memory`] and [`Directory`] pass it
//! alike. [`bus`] carries content from the store of an engine to a worker that has only a broker, and [`Cache`] stores
//! fetched content there. Bytes that do not match the requested digest are never returned and never cached. Beside a content
//! are the [`Signature`]s of those who vouch for its digest, and [`Policy`] decides by them what may run. This crate alone
//! computes digests and keyed hashes with SHA-256 and checks signatures, and does not know what its content means. Start reading at `store.rs`.

// Printing panics when the reader has left; only the binary prints, and handles that.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod blocking;
mod digest;
mod hmac;
mod store;
mod tag;

mod signature;
mod signing_key;
mod admission;

mod folder;
mod followed_files;

mod cache;
pub mod values;
mod directory;
mod memory;
mod writable;

pub mod bus;

pub mod contract;

pub use admission::{Admission, InvalidTagPattern, Modules, Objection, Policy, Refusal, Rule, TagPattern};
pub use cache::Cache;
pub use digest::digest_of;
pub use directory::Directory;
pub use folder::OpenError;
pub use followed_files::{FileStates, check_regularly};
pub use hmac::hmac_sha256;
pub use memory::Memory;
pub use signature::{
    InvalidSignature, InvalidSigner, MAX_NAMESPACE_SIGNATURES, MAX_SIGNATURE_BYTES, MAX_SIGNATURES, Signature, Signer,
};
pub use signing_key::{Protection, SigningKey, SigningKeyError};
pub use store::{
    EarlierDigest, Entry, FetchError, ListError, PutError, RemoveError, RetryAdvice, SignError, Store, TagError,
};
pub use tag::{InvalidTag, MAX_NAMESPACE_TAGS, Tag};
pub use writable::try_writing;
