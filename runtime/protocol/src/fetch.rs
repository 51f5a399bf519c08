//! Content transfer over the bus: requested by ranges of chunks, answered chunk by chunk. The signatures of a content are
//! requested beside it.

use std::ops::Range;

use flow::{CallId, Digest};

use crate::{
    DecodeError, EngineSecret, Key, OpenError, ReplyAddress, Seal,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::WireCall,
};

/// The size of a chunk in bytes; the last chunk of a content may be shorter. It is part of the format: a chunk's offset
/// follows from its index. A module takes few messages of this size, and a broker passes them on easily.
pub const CHUNK: usize = 256 << 10;

/// The maximum number of chunks in the answer to one request.
pub const MAX_RANGE_CHUNKS: u32 = 16;

/// The maximum number of signatures in a reply.
pub const MAX_REPLY_SIGNATURES: usize = 16;

/// The maximum size of a signature in a reply, in bytes.
pub const MAX_REPLY_SIGNATURE_BYTES: usize = 1_024;

/// Requests some chunks of a content, or its signatures. The message's reply queue and correlation id say where the replies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The digest of the content.
    pub digest: Digest,
    /// What is requested.
    pub part: FetchPart,
}

/// What a [`FetchRequest`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchPart {
    /// Some chunks. Chunks behind the end or beyond [`MAX_RANGE_CHUNKS`] are not answered.
    Chunks(Range<u32>),
    /// All signatures.
    Signatures,
}

/// Asks a store to store a content. The message's reply queue and correlation id say where the reply goes.
///
/// It is one message, since any of several engines may receive it; the output limit of a call limits its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest<'a> {
    /// The bytes of the content.
    pub bytes: &'a [u8],
    /// The call that has made them.
    pub call: CallId,
}

/// Answers a [`FetchRequest`], once per chunk or once for the whole request; or answers a [`PutRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchReply<'a> {
    /// The digest of the requested content.
    pub digest: Digest,
    /// The answer.
    pub response: FetchResponse<'a>,
}

/// The result of a request for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchResponse<'a> {
    /// One chunk. Empty content has one empty chunk.
    Chunk {
        /// The size of the whole content, in bytes.
        size: u64,
        /// The index of the chunk, from 0.
        index: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The signatures of the content as texts: none if there are none, or no such content.
    Signatures(Vec<&'a str>),
    /// The store now has the content, as durably as it has any.
    Stored {
        /// The key of the content: the result of the call may name the content.
        key: Key,
    },
    /// The store does not have the content.
    Missing,
    /// The store has other bytes under this digest.
    Corrupt {
        /// The digest of those bytes.
        actual: Digest,
    },
    /// The request does not show that a job of its sender names the content.
    Refused,
    /// The store could not read or write the content.
    Unreadable {
        /// The reason.
        reason: &'a str,
    },
}

#[derive(Encode, BorrowDecode)]
struct WireRequest {
    digest: [u8; 32],
    part: WirePart,
}

#[derive(Encode, BorrowDecode)]
enum WirePart {
    Chunks { first: u32, end: u32 },
    Signatures,
}

#[derive(Encode, BorrowDecode)]
struct WireReply<'a> {
    digest: [u8; 32],
    answer: WireAnswer<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireAnswer<'a> {
    Chunk { size: u64, index: u32, bytes: &'a [u8] },
    Missing,
    Corrupt { actual: [u8; 32] },
    Unreadable { reason: &'a str },
    Stored { key: [u8; 32] },
    Refused,
    Signatures { texts: Vec<&'a str> },
}

#[derive(Encode, BorrowDecode)]
struct WirePut<'a> {
    call: WireCall<'a>,
    bytes: &'a [u8],
}

impl<'a> PutRequest<'a> {
    /// Encodes the request, sealed with the key of the call.
    #[must_use]
    pub fn encode(&self, key: &Key, reply: ReplyAddress<'_>) -> Vec<u8> {
        let wire = WirePut { call: (&self.call).into(), bytes: self.bytes };
        sealed(codec::encode(MessageKind::PUT_REQUEST, &wire), key, reply)
    }

    /// Decodes the request, which borrows the bytes, and checks that its sender was given the job of the call.
    ///
    /// # Errors
    /// [`OpenError`] for bytes that are not a request of a known version, and for a seal that is not the request's.
    pub fn open(bytes: &'a [u8], reply: ReplyAddress<'_>, secret: &EngineSecret) -> Result<Self, OpenError> {
        let request = Self::decode(bytes)?;
        is_sealed(bytes, &secret.call_key(&request.call), reply).then_some(request).ok_or(OpenError::Forged)
    }

    /// Decodes the request without a look at its seal.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a request of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let body = Seal::split(bytes).map_or(bytes, |(body, _)| body);
        let WirePut { call, bytes } = codec::decode(MessageKind::PUT_REQUEST, body)?;
        let call = call.into_call().map_err(|reason| codec::damaged(MessageKind::PUT_REQUEST, reason))?;
        Ok(Self { bytes, call })
    }
}

impl FetchRequest {
    /// Encodes the request, sealed with the key of the content.
    #[must_use]
    pub fn encode(&self, key: &Key, reply: ReplyAddress<'_>) -> Vec<u8> {
        let part = match self.part {
            FetchPart::Chunks(Range { start: first, end }) => WirePart::Chunks { first, end },
            FetchPart::Signatures => WirePart::Signatures,
        };
        let wire = WireRequest { digest: *self.digest.as_bytes(), part };
        sealed(codec::encode(MessageKind::FETCH_REQUEST, &wire), key, reply)
    }

    /// Decodes the request, and checks that its sender has the key of the content.
    ///
    /// # Errors
    /// [`OpenError`] for bytes that are not a request of a known version, and for a seal that is not the request's.
    pub fn open(bytes: &[u8], reply: ReplyAddress<'_>, secret: &EngineSecret) -> Result<Self, OpenError> {
        let request = Self::decode(bytes)?;
        is_sealed(bytes, &secret.content_key(&request.digest), reply).then_some(request).ok_or(OpenError::Forged)
    }

    /// Decodes the request without a look at its seal.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a request of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = Seal::split(bytes).map_or(bytes, |(body, _)| body);
        let WireRequest { digest, part } = codec::decode(MessageKind::FETCH_REQUEST, body)?;
        let part = match part {
            WirePart::Chunks { first, end } => FetchPart::Chunks(first..end),
            WirePart::Signatures => FetchPart::Signatures,
        };
        Ok(Self { digest: Digest::from_bytes(digest), part })
    }
}

fn sealed(mut request: Vec<u8>, key: &Key, reply: ReplyAddress<'_>) -> Vec<u8> {
    key.seal_request(&request, reply).append_to(&mut request);
    request
}

fn is_sealed(request: &[u8], key: &Key, reply: ReplyAddress<'_>) -> bool {
    Seal::split(request).is_some_and(|(body, seal)| key.seal_request(body, reply) == seal)
}

impl<'a> FetchReply<'a> {
    /// Encodes the reply.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let answer = match &self.response {
            FetchResponse::Chunk { size, index, bytes } => WireAnswer::Chunk { size: *size, index: *index, bytes },
            FetchResponse::Signatures(texts) => WireAnswer::Signatures { texts: texts.clone() },
            FetchResponse::Stored { key } => WireAnswer::Stored { key: *key.as_bytes() },
            FetchResponse::Refused => WireAnswer::Refused,
            FetchResponse::Missing => WireAnswer::Missing,
            FetchResponse::Corrupt { actual } => WireAnswer::Corrupt { actual: *actual.as_bytes() },
            FetchResponse::Unreadable { reason } => WireAnswer::Unreadable { reason },
        };
        codec::encode(MessageKind::FETCH_REPLY, &WireReply { digest: *self.digest.as_bytes(), answer })
    }

    /// Decodes the reply, which borrows the bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not a reply of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let WireReply { digest, answer } = codec::decode(MessageKind::FETCH_REPLY, bytes)?;
        let answer = match answer {
            WireAnswer::Chunk { size, index, bytes } => FetchResponse::Chunk { size, index, bytes },
            WireAnswer::Stored { key } => FetchResponse::Stored { key: Key::from_bytes(key) },
            WireAnswer::Signatures { texts } => {
                if texts.len() > MAX_REPLY_SIGNATURES || texts.iter().any(|text| text.len() > MAX_REPLY_SIGNATURE_BYTES)
                {
                    let reason = format!("it has more than {MAX_REPLY_SIGNATURES} signatures, or one that is too long");
                    return Err(codec::damaged(MessageKind::FETCH_REPLY, reason));
                }
                FetchResponse::Signatures(texts)
            }
            WireAnswer::Refused => FetchResponse::Refused,
            WireAnswer::Missing => FetchResponse::Missing,
            WireAnswer::Corrupt { actual } => FetchResponse::Corrupt { actual: Digest::from_bytes(actual) },
            WireAnswer::Unreadable { reason } => FetchResponse::Unreadable { reason },
        };
        Ok(Self { digest: Digest::from_bytes(digest), response: answer })
    }
}
