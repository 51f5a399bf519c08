//! The recorded HTTP exchanges of an attempt: they answer its requests when it is replayed.
//!
//! A worker records what the guest has sent and seen. So a secret is in a record only as the text that the guest wrote in its
//! place. A small record is in the log of its attempt, a large one is a content of the store.

use std::time::Duration;

use flow::Digest;

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
};

/// The maximum size of the exchanges that are recorded of one attempt, in bytes. Later ones are left out.
pub const MAX_HTTP_RECORD_BYTES: usize = 4 << 20;

/// The maximum size of a record in the log of an attempt, in bytes. A larger one goes to the store.
pub const MAX_INLINE_HTTP_BYTES: usize = 16 << 10;

/// The cost of an exchange besides its texts and bodies, in bytes, so that the number of small exchanges is limited too.
const EXCHANGE_OVERHEAD: usize = 64;

/// The cost of a header besides its name and value, in bytes.
const HEADER_OVERHEAD: usize = 8;

/// The maximum size of an encoded record that is read, in bytes. Lengths and tags cost less than the overheads.
pub const MAX_ENCODED_HTTP_BYTES: usize = MAX_HTTP_RECORD_BYTES + (64 << 10);

/// Where the recorded exchanges of an attempt are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpRecord {
    /// Here, encoded: at most [`MAX_INLINE_HTTP_BYTES`].
    Inline(Vec<u8>),
    /// In the store.
    Stored {
        /// The digest of the encoded exchanges.
        digest: Digest,
        /// The number of bytes.
        size: u64,
    },
}

/// The recorded exchanges of an attempt, in the order in which it sent the requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, BorrowDecode)]
pub struct HttpExchanges {
    /// The exchanges.
    pub exchanges: Vec<HttpExchange>,
    /// Whether there were more than [`MAX_HTTP_RECORD_BYTES`].
    pub cut: bool,
}

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct HttpExchange {
    /// The request, as the guest made it.
    pub request: RecordedRequest,
    /// What the guest got.
    pub answer: RecordedAnswer,
    /// The time from the request to the answer.
    pub took: Duration,
}

/// A request as a guest made it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The address, with its query.
    pub url: String,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub enum RecordedAnswer {
    /// A response.
    Response {
        /// The status.
        status: u16,
        /// Names and values, in order.
        headers: Vec<(String, Vec<u8>)>,
        /// The body.
        body: Vec<u8>,
    },
    /// The request was denied before its body was read, with this reason.
    DeniedAtOnce(String),
    /// There was no response.
    Failed(RecordedHttpFailure),
    /// The call ended first.
    None,
}

/// Why there was no response.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub enum RecordedHttpFailure {
    /// The flow or the operator did not allow the request.
    Denied(String),
    /// A secret had no value.
    Secret {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The name of the host had no address.
    NoAddress {
        /// The name.
        host: String,
        /// The reason.
        reason: String,
    },
    /// There was no connection, with the reason.
    Connect(String),
    /// TLS failed, with the reason.
    Tls(String),
    /// There was no answer in time, which was this.
    Timeout(Duration),
    /// The exchanges of the call were larger than this limit.
    TooLarge(u64),
    /// The call had as many requests without a response as this limit.
    TooMany(u64),
    /// The exchange failed, with the reason.
    Protocol(String),
}

#[derive(Encode, BorrowDecode)]
pub(crate) enum WireHttpRecord<'a> {
    Inline(&'a [u8]),
    Stored { digest: [u8; 32], size: u64 },
}

impl HttpExchanges {
    /// Encodes the exchanges.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MessageKind::HTTP, self)
    }

    /// Decodes the exchanges.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no exchanges of a known version, and for more bytes than a worker records.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED_HTTP_BYTES {
            let reason = format!("its {} bytes are more than {MAX_ENCODED_HTTP_BYTES}", bytes.len());
            return Err(codec::damaged(MessageKind::HTTP, reason));
        }
        codec::decode(MessageKind::HTTP, bytes)
    }
}

impl RecordedRequest {
    /// What it counts against [`MAX_HTTP_RECORD_BYTES`].
    #[must_use]
    pub fn size(&self) -> usize {
        EXCHANGE_OVERHEAD + self.method.len() + self.url.len() + headers_size(&self.headers) + self.body.len()
    }
}

impl RecordedAnswer {
    /// What it counts against [`MAX_HTTP_RECORD_BYTES`].
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Response { headers, body, .. } => headers_size(headers) + body.len(),
            Self::DeniedAtOnce(reason) => reason.len(),
            Self::Failed(failure) => match failure {
                RecordedHttpFailure::Denied(text)
                | RecordedHttpFailure::Connect(text)
                | RecordedHttpFailure::Tls(text)
                | RecordedHttpFailure::Protocol(text) => text.len(),
                RecordedHttpFailure::Secret { name, reason } => name.len() + reason.len(),
                RecordedHttpFailure::NoAddress { host, reason } => host.len() + reason.len(),
                RecordedHttpFailure::Timeout(_)
                | RecordedHttpFailure::TooLarge(_)
                | RecordedHttpFailure::TooMany(_) => 0,
            },
            Self::None => 0,
        }
    }
}

fn headers_size(headers: &[(String, Vec<u8>)]) -> usize {
    headers.iter().map(|(name, value)| HEADER_OVERHEAD + name.len() + value.len()).sum()
}

impl HttpRecord {
    /// The digest of a record in the store.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        match self {
            Self::Inline(_) => None,
            Self::Stored { digest, .. } => Some(*digest),
        }
    }
}

impl<'a> From<&'a HttpRecord> for WireHttpRecord<'a> {
    fn from(record: &'a HttpRecord) -> Self {
        match record {
            HttpRecord::Inline(bytes) => Self::Inline(bytes),
            HttpRecord::Stored { digest, size } => Self::Stored { digest: *digest.as_bytes(), size: *size },
        }
    }
}

impl WireHttpRecord<'_> {
    /// The record; `None` if it is larger than a worker may make it.
    pub(crate) fn into_record(self) -> Option<HttpRecord> {
        match self {
            Self::Inline(bytes) if bytes.len() > MAX_INLINE_HTTP_BYTES => None,
            Self::Inline(bytes) => Some(HttpRecord::Inline(bytes.to_vec())),
            Self::Stored { size, .. } if size > MAX_ENCODED_HTTP_BYTES as u64 => None,
            Self::Stored { digest, size } => Some(HttpRecord::Stored { digest: Digest::from_bytes(digest), size }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(answer: RecordedAnswer) -> HttpExchange {
        let headers = vec![("accept".to_owned(), b"*/*".to_vec())];
        let request =
            RecordedRequest { method: "GET".into(), url: "https://a.example/?q=1".into(), headers, body: vec![0, 255] };
        HttpExchange { request, answer, took: Duration::from_millis(3) }
    }

    #[test]
    fn exchanges_round_trip() {
        let failure = RecordedHttpFailure::NoAddress { host: "a".into(), reason: "none".into() };
        let response = RecordedAnswer::Response { status: 503, headers: Vec::new(), body: vec![1; 100] };
        let denied = RecordedAnswer::DeniedAtOnce("no".into());
        let answers = [response, denied, RecordedAnswer::Failed(failure), RecordedAnswer::None];
        let all = HttpExchanges { exchanges: answers.map(exchange).into(), cut: true };
        assert_eq!(HttpExchanges::decode(&all.encode()), Ok(all));
    }

    #[test]
    fn a_record_of_a_sender_without_bounds_is_not_read() {
        assert!(WireHttpRecord::Inline(&[0; MAX_INLINE_HTTP_BYTES + 1]).into_record().is_none());
        assert!(WireHttpRecord::Stored { digest: [0; 32], size: u64::MAX }.into_record().is_none());
        let error = HttpExchanges::decode(&vec![0; MAX_ENCODED_HTTP_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("are more than"), "{error}");
    }

    #[test]
    fn the_overheads_cover_what_the_codec_adds() {
        let smallest = HttpExchange {
            request: RecordedRequest { method: "A".into(), url: "b".into(), headers: Vec::new(), body: Vec::new() },
            answer: RecordedAnswer::None,
            took: Duration::MAX,
        };
        let count = MAX_HTTP_RECORD_BYTES / (smallest.request.size() + smallest.answer.size());
        let all = HttpExchanges { exchanges: vec![smallest; count], cut: true };
        assert!(all.encode().len() <= MAX_ENCODED_HTTP_BYTES);
    }
}
