//! Seals: they show that who sends a report was given its job, or is an engine.
//!
//! The last 32 bytes of each job and of each report are its seal, in every version of their formats: so a seal is checked even
//! if the rest is of a newer version. The seal of a job is the key of its call. A worker puts it at the end of each report
//! about the call; who was not given the job does not know it. An engine seals what it sends to other engines with a keyed
//! hash of all bytes before the seal.

use flow::CallId;

use crate::{
    codec::{self, Encode},
    wire::WireCall,
};

/// The number of bytes of a seal.
const SEAL_BYTES: usize = 32;

/// The end of a job or of a report. Two seals are compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal(blake3::Hash);

/// What a hash is of: no seal of one kind is a seal of the other.
#[derive(Encode)]
enum Sealed<'a> {
    Call(WireCall<'a>),
    Message(&'a [u8]),
}

/// The secret of all engines that share a logbook, which keeps it.
#[derive(Clone, Copy)]
pub struct EngineSecret([u8; SEAL_BYTES]);

impl Seal {
    /// A seal that no secret makes: for a message about a call whose job has no readable seal. Engines refuse it.
    pub const NONE: Self = Self(blake3::Hash::from_bytes([0; SEAL_BYTES]));

    /// Splits a message into the part that is sealed, and the seal; `None` if it is too short for one.
    #[must_use]
    pub fn split(message: &[u8]) -> Option<(&[u8], Self)> {
        let (body, seal) = message.split_last_chunk()?;
        Some((body, Self(blake3::Hash::from_bytes(*seal))))
    }

    /// Puts the seal at the end of a message.
    pub(crate) fn append_to(self, message: &mut Vec<u8>) {
        message.extend(self.0.as_bytes());
    }
}

impl EngineSecret {
    /// The secret with these bytes, which are random.
    #[must_use]
    pub const fn new(bytes: [u8; SEAL_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key of a call: the seal of its job, and of each report about it.
    #[must_use]
    pub fn call_key(&self, call: &CallId) -> Seal {
        self.seal(&Sealed::Call(call.into()))
    }

    /// The seal of an engine's message, of all bytes before it.
    pub(crate) fn message_seal(&self, body: &[u8]) -> Seal {
        self.seal(&Sealed::Message(body))
    }

    fn seal(&self, sealed: &Sealed<'_>) -> Seal {
        Seal(blake3::keyed_hash(&self.0, &codec::encode_part(sealed)))
    }
}

// Neither is to be seen in a log.
impl std::fmt::Debug for Seal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Seal")
    }
}

impl std::fmt::Debug for EngineSecret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("EngineSecret")
    }
}
