//! The one file that names the codec, so that it can be replaced under a new format version.
//!
//! A message is two bytes that say what it is, one byte of format version, and the codec's bytes.

pub(crate) use bincode::{BorrowDecode, Encode};

/// The most a message may make the decoder allocate.
const LARGEST: usize = 256 << 20;

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LARGEST>()
}

/// What kind of message some bytes are: the two bytes it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Records,
    Snapshot,
    Log,
    LiveLog,
    Job,
    Report,
    Reply,
    Control,
    WorkerStatus,
    FetchRequest,
    PutRequest,
    FetchReply,
    Permits,
}

impl Kind {
    const fn magic(self) -> [u8; 2] {
        match self {
            Self::Records => *b"wL",
            Self::Snapshot => *b"wN",
            Self::Log => *b"wO",
            Self::LiveLog => *b"wG",
            Self::Job => *b"wJ",
            Self::Report => *b"wR",
            Self::Reply => *b"wQ",
            Self::Control => *b"wC",
            Self::WorkerStatus => *b"wS",
            Self::FetchRequest => *b"wF",
            Self::PutRequest => *b"wP",
            Self::FetchReply => *b"wA",
            Self::Permits => *b"wK",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "record",
            Self::Snapshot => "snapshot of a run",
            Self::Log => "log of a call",
            Self::LiveLog => "message with lines of a call",
            Self::Job => "job",
            Self::Report => "report",
            Self::Reply => "reply of an engine",
            Self::Control => "control message",
            Self::WorkerStatus => "worker's status",
            Self::FetchRequest => "request for content",
            Self::PutRequest => "request to keep content",
            Self::FetchReply => "answer to a request for content",
            Self::Permits => "message about permits",
        }
    }

    /// The newest format version that is known here. Every earlier one is read too: later versions only add to them.
    const fn newest(self) -> u8 {
        match self {
            Self::Records | Self::Snapshot => 3,
            Self::Job | Self::Control => 2,
            Self::Log
            | Self::LiveLog
            | Self::Report
            | Self::Reply
            | Self::WorkerStatus
            | Self::FetchRequest
            | Self::PutRequest
            | Self::FetchReply
            | Self::Permits => 1,
        }
    }
}

/// Why some bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin as one.
    #[error("not a {what}: {length} bytes that begin {beginning:02x?}")]
    Foreign {
        /// What was expected.
        what: &'static str,
        /// How many bytes there were.
        length: usize,
        /// The first of them.
        beginning: Vec<u8>,
    },
    /// They are of a format that this build does not know.
    #[error("a {what} of format version {version}; this waft reads up to {known}: upgrade it")]
    Version {
        /// What was expected.
        what: &'static str,
        /// Its version.
        version: u8,
        /// The newest version known here.
        known: u8,
    },
    /// They break off, go on too long, or say something unlawful.
    #[error("a damaged {what}: {reason}")]
    Damaged {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl DecodeError {
    /// Whether losing the message loses something. What waft sends without persistence is sent again or is obsolete soon,
    /// like probes and progress; bytes that are no message of waft at all are kept, since nobody knows what they are.
    #[must_use]
    pub fn is_loss(&self, is_persistent: bool) -> bool {
        match self {
            Self::Foreign { .. } => true,
            Self::Version { .. } | Self::Damaged { .. } => is_persistent,
        }
    }
}

/// A message in the first version of its format.
pub(crate) fn encode(kind: Kind, message: &impl Encode) -> Vec<u8> {
    encode_as(kind, 1, message)
}

/// A message in a version of its format: the first one that can say all of it, so that an older waft reads what it can.
pub(crate) fn encode_as(kind: Kind, version: u8, message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(kind.magic());
    bytes.push(version);
    bincode::encode_into_std_write(message, &mut bytes, configuration())
        .expect("plain types without locks encode into memory");
    bytes
}

pub(crate) fn decode<'a, Message: BorrowDecode<'a, ()>>(kind: Kind, bytes: &'a [u8]) -> Result<Message, DecodeError> {
    let what = kind.as_str();
    let Some(rest) = bytes.strip_prefix(&kind.magic()) else {
        let beginning = bytes.iter().take(8).copied().collect();
        return Err(DecodeError::Foreign { what, length: bytes.len(), beginning });
    };
    let Some((version, body)) = rest.split_first() else {
        return Err(damaged(kind, "it ends before its version"));
    };
    if *version == 0 || *version > kind.newest() {
        return Err(DecodeError::Version { what, version: *version, known: kind.newest() });
    }
    let (message, read) =
        bincode::borrow_decode_from_slice(body, configuration()).map_err(|error| damaged(kind, error))?;
    if read < body.len() {
        return Err(damaged(kind, format!("{} bytes follow its end", body.len() - read)));
    }
    Ok(message)
}

/// The format version of some bytes, as they say it.
pub(crate) fn version_of(kind: Kind, bytes: &[u8]) -> Option<u8> {
    bytes.strip_prefix(&kind.magic())?.first().copied()
}

pub(crate) fn damaged(kind: Kind, reason: impl ToString) -> DecodeError {
    DecodeError::Damaged { what: kind.as_str(), reason: reason.to_string() }
}
