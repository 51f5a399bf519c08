//! The one file that names the codec, bincode: the three bytes before each message, and how its format grows.
//!
//! A message is two bytes that name its kind, one byte of format version, and the body. `docs/format.md` shows messages
//! byte by byte.
//!
//! Each kind has a version of its own. A message is always written in the newest one. Every earlier version is read, and a
//! later one is refused with [`DecodeError::Version`].
//!
//! - **A variant** is appended at the end of its enum. Nothing else is needed: a message without the variant is read as
//!   before, and an earlier program refuses a message with it ([`later`]).
//! - **A limit of a call, or a fact about a log,** has a number, and is left out where it has its usual value. A new one
//!   gets the next number. Nothing else is needed, for the same reasons.
//! - **Another field** changes the bytes around it. The earlier struct stays, named with the last version that has it
//!   (`WireItemV1`), and a `From` converts it into the current one. Each kind that holds it gets the next version, and
//!   matches [`Body::version`] to choose the type that it reads. A struct that contains the changed struct takes it as
//!   a type parameter, so that it is not written twice.
//!
//! `codec/growth.rs` is the worked example.

#[cfg(test)]
mod growth;
#[cfg(test)]
mod page;

pub(crate) use bincode::{BorrowDecode, Encode};

/// The maximum that the decoder allocates for one message, in bytes.
pub(crate) const MAX_DECODED_BYTES: usize = 256 << 20;

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_DECODED_BYTES>()
}

/// A kind of message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageKind {
    /// The first two bytes of each message of the kind.
    magic: [u8; 2],
    /// The name in errors.
    name: &'static str,
    /// The newest version, which is the one that is written.
    version: u8,
}

impl MessageKind {
    #[cfg(test)]
    const ALL: [Self; 21] = [
        Self::RECORDS,
        Self::SNAPSHOT,
        Self::LOG,
        Self::LIVE_LOG,
        Self::JOB,
        Self::REPORT,
        Self::REPORT_BATCH,
        Self::REPLY,
        Self::CONTROL,
        Self::WORKER_STATUS,
        Self::WORKER_DETAILS,
        Self::ENGINE_STATUS,
        Self::PERMITS_ANSWER,
        Self::FETCH_REQUEST,
        Self::PUT_REQUEST,
        Self::FETCH_REPLY,
        Self::PERMITS,
        Self::HTTP,
        Self::ATTEMPT,
        Self::GRANTS_ANSWER,
        Self::REMEMBERED,
    ];

    pub(crate) const RECORDS: Self = Self { magic: *b"wL", name: "record", version: 1 };
    pub(crate) const SNAPSHOT: Self = Self { magic: *b"wN", name: "snapshot of a run", version: 1 };
    pub(crate) const LOG: Self = Self { magic: *b"wO", name: "log of a call", version: 1 };
    pub(crate) const LIVE_LOG: Self = Self { magic: *b"wG", name: "message with lines of a call", version: 1 };
    pub(crate) const JOB: Self = Self { magic: *b"wJ", name: "job", version: 1 };
    pub(crate) const REPORT: Self = Self { magic: *b"wR", name: "report", version: 1 };
    pub(crate) const REPORT_BATCH: Self = Self { magic: *b"wB", name: "batch of reports", version: 1 };
    pub(crate) const REPLY: Self = Self { magic: *b"wQ", name: "reply of an engine", version: 1 };
    pub(crate) const CONTROL: Self = Self { magic: *b"wC", name: "control message", version: 1 };
    pub(crate) const WORKER_STATUS: Self = Self { magic: *b"wS", name: "worker's status", version: 1 };
    pub(crate) const WORKER_DETAILS: Self = Self { magic: *b"wD", name: "worker's details", version: 1 };
    pub(crate) const ENGINE_STATUS: Self = Self { magic: *b"wI", name: "engine's status", version: 1 };
    pub(crate) const PERMITS_ANSWER: Self = Self { magic: *b"wU", name: "answer about permits", version: 1 };
    pub(crate) const FETCH_REQUEST: Self = Self { magic: *b"wF", name: "request for content", version: 1 };
    pub(crate) const PUT_REQUEST: Self = Self { magic: *b"wP", name: "request to keep content", version: 1 };
    pub(crate) const FETCH_REPLY: Self = Self { magic: *b"wA", name: "answer to a request for content", version: 1 };
    pub(crate) const PERMITS: Self = Self { magic: *b"wK", name: "message about permits", version: 1 };
    pub(crate) const HTTP: Self = Self { magic: *b"wH", name: "record of HTTP exchanges", version: 1 };
    pub(crate) const ATTEMPT: Self = Self { magic: *b"wT", name: "recorded attempt", version: 1 };
    pub(crate) const GRANTS_ANSWER: Self = Self { magic: *b"wE", name: "worker's answer about grants", version: 1 };
    pub(crate) const REMEMBERED: Self = Self { magic: *b"wM", name: "remembered result", version: 1 };
}

/// Why bytes are not the expected message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes start differently.
    #[error("not a {what}: {length} bytes that begin {prefix:02x?}")]
    NotThisKind {
        /// The expected kind.
        what: &'static str,
        /// The number of bytes.
        length: usize,
        /// The first bytes.
        prefix: Vec<u8>,
    },
    /// The message has a version that this build does not know.
    #[error("a {expected} of format version {version}; this waft reads up to {known}: upgrade it")]
    Version {
        /// The expected kind.
        expected: &'static str,
        /// Its version.
        version: u8,
        /// The newest version that this build knows.
        known: u8,
    },
    /// The message is cut off or too long, or holds something that is not valid or not known.
    #[error("an unreadable {what}: {reason}")]
    Damaged {
        /// The expected kind.
        what: &'static str,
        /// The error.
        reason: String,
    },
}

impl DecodeError {
    /// Whether dropping the message loses something. A message that waft sends without persistence is sent again or is
    /// obsolete soon, like a probe or progress. Bytes that are no message of waft are never dropped, since their purpose is
    /// unknown.
    #[must_use]
    pub fn is_loss(&self, is_persistent: bool) -> bool {
        match self {
            Self::NotThisKind { .. } => true,
            Self::Version { .. } | Self::Damaged { .. } => is_persistent,
        }
    }
}

/// A message in the newest version of its kind.
pub(crate) fn encode(kind: MessageKind, message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(kind.magic);
    bytes.push(kind.version);
    bincode::encode_into_std_write(message, &mut bytes, configuration())
        .expect("plain types without locks encode into memory");
    bytes
}

/// Like [`encode`], for a message that may be too large: `None` once it has more bytes than the decoder allocates for any message.
pub(crate) fn encode_bounded(kind: MessageKind, message: &impl Encode) -> Option<Vec<u8>> {
    let mut bounded = Bounded(Vec::with_capacity(256));
    bounded.0.extend(kind.magic);
    bounded.0.push(kind.version);
    bincode::encode_into_std_write(message, &mut bounded, configuration()).ok()?;
    Some(bounded.0)
}

/// Bytes up to [`MAX_DECODED_BYTES`].
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MAX_DECODED_BYTES {
            return Err(std::io::Error::other("the message is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Encodes a value without the three header bytes: the input of a keyed hash.
pub(crate) fn encode_part(part: &impl Encode) -> Vec<u8> {
    bincode::encode_to_vec(part, configuration()).expect("plain types without locks encode into memory")
}

/// Whether the bytes begin like a message of the kind.
pub(crate) fn is_kind(kind: MessageKind, bytes: &[u8]) -> bool {
    bytes.starts_with(&kind.magic)
}

/// Decodes a message of a kind that reads all its versions as one type.
pub(crate) fn decode<'a, Message: BorrowDecode<'a, ()>>(
    kind: MessageKind,
    bytes: &'a [u8],
) -> Result<Message, DecodeError> {
    Body::open(kind, bytes)?.read()
}

/// The body of a message whose version this build knows.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    kind: MessageKind,
    version: u8,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Checks the bytes before the body.
    ///
    /// # Errors
    /// [`DecodeError`] for another kind, and for a version that this build does not know.
    pub(crate) fn open(kind: MessageKind, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(after_magic) = bytes.strip_prefix(&kind.magic) else {
            let prefix = bytes.iter().take(8).copied().collect();
            return Err(DecodeError::NotThisKind { what: kind.name, length: bytes.len(), prefix });
        };
        let Some((&version, bytes)) = after_magic.split_first() else {
            return Err(damaged(kind, "it ends before its version"));
        };
        if version == 0 || version > kind.version {
            return Err(DecodeError::Version { expected: kind.name, version, known: kind.version });
        }
        Ok(Self { kind, version, bytes })
    }

    /// The version of the message, which decides the type of the body.
    #[cfg_attr(not(test), expect(dead_code, reason = "each kind has one version so far"))]
    pub(crate) fn version(self) -> u8 {
        self.version
    }

    /// Decodes the first fields, so that the caller can reject the message before it allocates the rest.
    ///
    /// # Errors
    /// [`DecodeError::Damaged`] when the body does not begin so.
    pub(crate) fn read_beginning<Beginning: BorrowDecode<'a, ()>>(self) -> Result<Beginning, DecodeError> {
        let (beginning, _) =
            bincode::borrow_decode_from_slice(self.bytes, configuration()).map_err(|error| self.unreadable(&error))?;
        Ok(beginning)
    }

    /// Decodes the body, to its end.
    ///
    /// # Errors
    /// [`DecodeError::Damaged`] when the body is not such a message.
    pub(crate) fn read<Message: BorrowDecode<'a, ()>>(self) -> Result<Message, DecodeError> {
        let (message, read) =
            bincode::borrow_decode_from_slice(self.bytes, configuration()).map_err(|error| self.unreadable(&error))?;
        if read < self.bytes.len() {
            return Err(damaged(self.kind, format!("{} bytes follow its end", self.bytes.len() - read)));
        }
        Ok(message)
    }

    fn unreadable(self, error: &bincode::error::DecodeError) -> DecodeError {
        match error {
            // Enums only grow, so a variant beyond the last one is a later one.
            bincode::error::DecodeError::UnexpectedVariant { type_name, found, .. } => {
                damaged(self.kind, later(format!("variant {found} of {type_name}")))
            }
            error => damaged(self.kind, error),
        }
    }
}

/// The reason why a message with something that is not known here cannot be read.
pub(crate) fn later(unknown: impl std::fmt::Display) -> String {
    format!("{unknown} is not known here: a later waft wrote it, so upgrade this one")
}

pub(crate) fn damaged(kind: MessageKind, reason: impl ToString) -> DecodeError {
    DecodeError::Damaged { what: kind.name, reason: reason.to_string() }
}
