//! Content on its way over the bus: asked for by ranges of chunks, answered chunk by chunk.

use std::ops::Range;

use flow::Digest;

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
};

/// The bytes of a chunk; the last one of a content may be shorter. It is part of the format: a chunk's place follows
/// from its index. Large enough that a module is a few messages, small enough that a broker passes them on with ease.
pub const CHUNK: usize = 256 << 10;

/// The most chunks that one request is answered with.
pub const MAX_RANGE_CHUNKS: u32 = 16;

/// Asks for some chunks of a content. The message's reply queue and correlation id say where the answers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The content.
    pub digest: Digest,
    /// Which of its chunks. What lies behind its end, or goes beyond [`MAX_RANGE_CHUNKS`], is not answered.
    pub chunks: Range<u32>,
}

/// Asks a store to keep a content. The message's reply queue and correlation id say where the answer goes.
///
/// It is one message, since any of several engines may take it; what a call may leave bounds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Answers a [`FetchRequest`], once for every chunk or once in all; or a [`PutRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchReply<'a> {
    /// The content that was asked for.
    pub digest: Digest,
    /// The answer.
    pub response: FetchResponse<'a>,
}

/// What became of a request for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchResponse<'a> {
    /// One chunk. Empty content has one, which is empty.
    Chunk {
        /// How many bytes the whole content has.
        size: u64,
        /// Which chunk this is, from 0.
        index: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The store has the content now, as durably as it has anything.
    Stored,
    /// The store does not have the content.
    Missing,
    /// The store has other bytes in its place.
    Corrupt {
        /// Their digest.
        actual: Digest,
    },
    /// The store could not read it, or not keep it.
    Unreadable {
        /// Why.
        reason: &'a str,
    },
}

#[derive(Encode, BorrowDecode)]
struct WireRequest {
    digest: [u8; 32],
    first: u32,
    end: u32,
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
    Kept,
}

#[derive(Encode, BorrowDecode)]
struct WirePut<'a> {
    bytes: &'a [u8],
}

impl<'a> PutRequest<'a> {
    /// The request as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MessageKind::PUT_REQUEST, &WirePut { bytes: self.bytes })
    }

    /// The request in some bytes, which it borrows.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a request of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let WirePut { bytes } = codec::decode(MessageKind::PUT_REQUEST, bytes)?;
        Ok(Self { bytes })
    }
}

impl FetchRequest {
    /// The request as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Range { start: first, end } = self.chunks;
        codec::encode(MessageKind::FETCH_REQUEST, &WireRequest { digest: *self.digest.as_bytes(), first, end })
    }

    /// The request in some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a request of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let WireRequest { digest, first, end } = codec::decode(MessageKind::FETCH_REQUEST, bytes)?;
        Ok(Self { digest: Digest::from_bytes(digest), chunks: first..end })
    }
}

impl<'a> FetchReply<'a> {
    /// The reply as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let answer = match self.response {
            FetchResponse::Chunk { size, index, bytes } => WireAnswer::Chunk { size, index, bytes },
            FetchResponse::Stored => WireAnswer::Kept,
            FetchResponse::Missing => WireAnswer::Missing,
            FetchResponse::Corrupt { actual } => WireAnswer::Corrupt { actual: *actual.as_bytes() },
            FetchResponse::Unreadable { reason } => WireAnswer::Unreadable { reason },
        };
        codec::encode(MessageKind::FETCH_REPLY, &WireReply { digest: *self.digest.as_bytes(), answer })
    }

    /// The reply in some bytes, which it borrows.
    ///
    /// # Errors
    /// [`DecodeError`] for whatever is not a reply of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let WireReply { digest, answer } = codec::decode(MessageKind::FETCH_REPLY, bytes)?;
        let answer = match answer {
            WireAnswer::Chunk { size, index, bytes } => FetchResponse::Chunk { size, index, bytes },
            WireAnswer::Kept => FetchResponse::Stored,
            WireAnswer::Missing => FetchResponse::Missing,
            WireAnswer::Corrupt { actual } => FetchResponse::Corrupt { actual: Digest::from_bytes(actual) },
            WireAnswer::Unreadable { reason } => FetchResponse::Unreadable { reason },
        };
        Ok(Self { digest: Digest::from_bytes(digest), response: answer })
    }
}
