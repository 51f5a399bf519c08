//! Keys and seals. A seal proves that the sender may send the message.
//!
//! All keys are keyed hashes under the secret of the engines. A job carries the key of its call, and the key of each content
//! that it names. The holder of a key makes and checks seals with it. The keys themselves stay in jobs and in the
//! answers of a store:
//!
//! - A report about a call ends with a seal under the key of the call, and so does a request to keep content. A report that
//!   names content in the store also holds a seal under the keys of all that content.
//! - A request for content ends with a seal under the key of the content. It includes where the reply goes.
//! - What engines send to each other ends with a seal under the secret itself.
//! - An interruption, a withdrawal and the answer whether a call may start hold a proof: a seal without content under the key
//!   of the call. A worker that has the job has that key, so it can check the proof.
//!
//! - The answer to a question with a wrong seal holds that seal: it proves nothing but that its sender knows the question.
//!
//! A seal is the last 32 bytes of its message in every version of the formats, so it is checked even if the rest is of a
//! newer version.

use std::collections::{BTreeMap, BTreeSet};

use flow::{CallId, Digest};

use crate::{
    SendingId,
    codec::{self, Encode},
    wire::WireCall,
};

/// The number of bytes of a key, and of a seal.
const SEAL_BYTES: usize = 32;

/// The name of the header with the seal of a notification.
const NOTIFICATION_SEAL: &str = "seal";

/// A key. The holder of a key makes and checks seals with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; SEAL_BYTES]);

/// A keyed hash of a message. Two seals are compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal(blake3::Hash);

/// The secret of all engines that share a logbook, which keeps it.
#[derive(Clone, Copy)]
pub struct EngineSecret(Key);

/// The keys that a job gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallKeys {
    /// The key of the call.
    pub call: Key,
    /// The key of each content that the job names: of its module, and of its values in the store.
    pub contents: BTreeMap<Digest, Key>,
}

/// What a seal is for: no seal of one kind is a seal of another.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    /// The key of a call.
    Call = 1,
    /// The key of a content.
    Content = 2,
    /// A message.
    Message = 3,
    /// The keys of the contents that a report names.
    Contents = 4,
    /// The interruption of a call.
    Interrupt = 5,
    /// The withdrawal of a call.
    Withdraw = 6,
    /// A call may start.
    Start = 7,
    /// A call may not start.
    DoNotStart = 8,
    /// The name of a secret.
    Fingerprint = 9,
    /// The id of a message that sends a job.
    Sending = 10,
}

/// Where the reply to a sealed request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
pub struct ReplyAddress<'a> {
    /// The reply queue.
    pub queue: &'a str,
    /// The correlation id of the reply.
    pub id: &'a str,
}

impl Key {
    /// A key that no secret makes: for a job without a readable key. Engines refuse its seals.
    pub const NONE: Self = Self([0; SEAL_BYTES]);

    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SEAL_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SEAL_BYTES] {
        &self.0
    }

    /// The key at the end of a job; [`Key::NONE`] if the message is too short for one. It can be read in a job of any version.
    #[must_use]
    pub fn of_job(job: &[u8]) -> Self {
        Self::split(job).map_or(Self::NONE, |(_, key)| key)
    }

    /// The proof that an engine interrupts the call with this key.
    #[must_use]
    pub fn interrupt_proof(&self) -> Seal {
        self.make(Purpose::Interrupt, [])
    }

    /// The proof that an engine withdraws the call with this key.
    #[must_use]
    pub fn withdraw_proof(&self) -> Seal {
        self.make(Purpose::Withdraw, [])
    }

    /// The proof of an engine's answer whether the call with this key may start.
    #[must_use]
    pub fn may_start_proof(&self, wanted: bool) -> Seal {
        self.make(if wanted { Purpose::Start } else { Purpose::DoNotStart }, [])
    }

    /// The seal of a message.
    #[must_use]
    pub fn seal(&self, message: &[u8]) -> Seal {
        self.make(Purpose::Message, [message])
    }

    /// The seal of a request, with the address of its reply.
    pub(crate) fn seal_request(&self, request: &[u8], reply: ReplyAddress<'_>) -> Seal {
        self.make(Purpose::Message, [request, &codec::encode_part(&reply)])
    }

    /// Splits a message into its body and the key at its end; `None` if it is too short for one.
    pub(crate) fn split(message: &[u8]) -> Option<(&[u8], Self)> {
        let (body, key) = message.split_last_chunk()?;
        Some((body, Self(*key)))
    }

    fn make<'a>(&self, purpose: Purpose, parts: impl IntoIterator<Item = &'a [u8]>) -> Seal {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[purpose as u8]);
        for part in parts {
            hasher.update(part);
        }
        Seal(hasher.finalize())
    }
}

impl Seal {
    /// A seal that no key makes.
    pub const NONE: Self = Self(blake3::Hash::from_bytes([0; SEAL_BYTES]));

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

    /// Splits a message into the part that is sealed, and the seal; `None` if it is too short for one.
    pub(crate) fn split(message: &[u8]) -> Option<(&[u8], Self)> {
        let (body, seal) = message.split_last_chunk()?;
        Some((body, Self::from_bytes(*seal)))
    }

    /// The bytes of the seal.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SEAL_BYTES] {
        self.0.as_bytes()
    }

    pub(crate) const fn from_bytes(bytes: [u8; SEAL_BYTES]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// Puts the seal at the end of a message.
    pub(crate) fn append_to(self, message: &mut Vec<u8>) {
        message.extend(self.0.as_bytes());
    }
}

impl CallKeys {
    /// The keys of a job that names no content.
    #[must_use]
    pub const fn of_call(call: Key) -> Self {
        Self { call, contents: BTreeMap::new() }
    }

    /// The key of a content; [`Key::NONE`] if these keys have none for it.
    #[must_use]
    pub fn content(&self, digest: &Digest) -> Key {
        self.contents.get(digest).copied().unwrap_or(Key::NONE)
    }

    /// These keys, and those of more contents.
    #[must_use]
    pub fn with_contents(mut self, contents: BTreeMap<Digest, Key>) -> Self {
        self.contents.extend(contents);
        self
    }

    /// Proves that the sender of the report has the key of each of these contents; `None` if there are none.
    pub(crate) fn contents_proof(&self, contents: &BTreeSet<Digest>) -> Option<Seal> {
        contents_proof(&self.call, contents, |digest| self.content(digest))
    }
}

/// Proves that the holder of the call's key has the key of each of these contents too; `None` if there are none.
fn contents_proof(call: &Key, contents: &BTreeSet<Digest>, key: impl Fn(&Digest) -> Key) -> Option<Seal> {
    let keys: Vec<Key> = contents.iter().map(key).collect();
    (!keys.is_empty()).then(|| call.make(Purpose::Contents, keys.iter().map(|key| &key.0[..])))
}

impl EngineSecret {
    /// The secret with these bytes, which are random.
    #[must_use]
    pub const fn new(bytes: [u8; SEAL_BYTES]) -> Self {
        Self(Key(bytes))
    }

    /// The key of a call.
    #[must_use]
    pub fn call_key(&self, call: &CallId) -> Key {
        self.derive(Purpose::Call, &codec::encode_part(&WireCall::from(call)))
    }

    /// The keys that the job of a call gives, if it names these contents.
    #[must_use]
    pub fn call_keys(&self, call: &CallId, contents: impl IntoIterator<Item = Digest>) -> CallKeys {
        let contents = contents.into_iter().map(|digest| (digest, self.content_key(&digest))).collect();
        CallKeys { call: self.call_key(call), contents }
    }

    /// The id of the message that sends the job of a call again, the `number`th time. Only those who receive the message
    /// know its id.
    #[must_use]
    pub fn sending_id(&self, call: &CallId, number: u64) -> SendingId {
        let (call, number) = (codec::encode_part(&WireCall::from(call)), number.to_le_bytes());
        let seal = self.0.make(Purpose::Sending, [&call[..], &number[..]]);
        let (id, _) = seal.as_bytes().split_first_chunk().expect("a seal has 32 bytes");
        SendingId::new(u64::from_le_bytes(*id))
    }

    /// The key of a content.
    #[must_use]
    pub fn content_key(&self, digest: &Digest) -> Key {
        self.derive(Purpose::Content, digest.as_bytes())
    }

    /// The seal of an engine's message: of all bytes before it, or of the JSON that it stands beside.
    #[must_use]
    pub fn message_seal(&self, body: &[u8]) -> Seal {
        self.0.seal(body)
    }

    /// Whether a message ends with the seal of an engine. The message may be of any version.
    #[must_use]
    pub fn has_sealed(&self, message: &[u8]) -> bool {
        Seal::split(message).is_some_and(|(body, seal)| self.message_seal(body) == seal)
    }

    /// The header with the seal of a notification, whose body is JSON for programs in any language.
    #[must_use]
    pub fn notification_header(&self, body: &[u8]) -> (String, String) {
        (NOTIFICATION_SEAL.to_owned(), self.message_seal(body).to_hex())
    }

    /// Whether an engine of this logbook published a notification with these headers and this body.
    #[must_use]
    pub fn has_sealed_notification(&self, headers: &BTreeMap<String, String>, body: &[u8]) -> bool {
        let seal = headers.get(NOTIFICATION_SEAL).and_then(|hex| Seal::from_hex(hex));
        seal == Some(self.message_seal(body))
    }

    /// Whether a message ends with a seal under the key of a call. The message may be of any version.
    #[must_use]
    pub fn is_sealed_for(&self, call: &CallId, message: &[u8]) -> bool {
        Seal::split(message).is_some_and(|(body, seal)| self.call_key(call).seal(body) == seal)
    }

    /// A name of this secret, which does not show it. Engines with one logbook have the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.make(Purpose::Fingerprint, []).to_hex()[..16].to_owned()
    }

    /// Proves that the sender of the report has the key of each of these contents; `None` if there are none.
    pub(crate) fn contents_proof(&self, call: &Key, contents: &BTreeSet<Digest>) -> Option<Seal> {
        contents_proof(call, contents, |digest| self.content_key(digest))
    }

    /// A message of an engine, with its seal at the end.
    pub(crate) fn sealed(&self, mut message: Vec<u8>) -> Vec<u8> {
        self.message_seal(&message).append_to(&mut message);
        message
    }

    fn derive(&self, purpose: Purpose, part: &[u8]) -> Key {
        Key(*self.0.make(purpose, [part]).as_bytes())
    }
}

// None of them is to be seen in a log.
impl std::fmt::Debug for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Key")
    }
}

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
