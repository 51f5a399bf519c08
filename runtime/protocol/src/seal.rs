//! Seals: they show that who sends a message has the right to it. All are keyed hashes under the secret of the engines.
//!
//! The last 32 bytes of these messages are their seal, in every version of their formats, so it is checked even if the rest is
//! of a newer version:
//!
//! - A job ends with the key of its call. Each report about the call ends with the same key, and so does a request to keep
//!   content: who was not given the job does not know it.
//! - A request for content ends with the key of the content, which a job that names the content has.
//! - What engines send to each other ends with a hash of all bytes before it.
//!
//! A message to all workers must not show a key. So it carries a proof, which only who knows the key of the call can make or
//! check.

use flow::{CallId, Digest};

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
    Content([u8; 32]),
}

/// What an engine tells workers about a call.
#[derive(Encode)]
enum Instruction {
    Interrupt,
    MayStart { wanted: bool },
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

    /// The proof that an engine interrupts the call with this key.
    #[must_use]
    pub fn interrupt_proof(&self) -> Self {
        self.proof(&Instruction::Interrupt)
    }

    /// The proof of an engine's answer whether the call with this key may start.
    #[must_use]
    pub fn may_start_proof(&self, wanted: bool) -> Self {
        self.proof(&Instruction::MayStart { wanted })
    }

    fn proof(&self, instruction: &Instruction) -> Self {
        Self(blake3::keyed_hash(self.as_bytes(), &codec::encode_part(instruction)))
    }

    /// The seal as text: for the header of a message whose body is JSON.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }

    /// Reads a seal that [`Seal::to_hex`] wrote; `None` for any other text.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; SEAL_BYTES] {
        self.0.as_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; SEAL_BYTES]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
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

    /// The key of a content: a request for the content ends with it.
    #[must_use]
    pub fn content_key(&self, digest: &Digest) -> Seal {
        self.seal(&Sealed::Content(*digest.as_bytes()))
    }

    /// The seal of an engine's message: of all bytes before it, or of the JSON that it stands beside.
    #[must_use]
    pub fn message_seal(&self, body: &[u8]) -> Seal {
        self.seal(&Sealed::Message(body))
    }

    /// A message of an engine, with its seal at the end.
    pub(crate) fn sealed(&self, mut message: Vec<u8>) -> Vec<u8> {
        self.message_seal(&message).append_to(&mut message);
        message
    }

    /// Whether a message ends with the seal of an engine.
    pub(crate) fn has_sealed(&self, message: &[u8]) -> bool {
        Seal::split(message).is_some_and(|(body, seal)| self.message_seal(body) == seal)
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
