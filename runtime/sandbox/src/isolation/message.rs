//! Messages between a process and a child that calls guests for it. Both are the same program, so the format has no version.
//!
//! A message is a tag, the number of its exchange, the length of its head, the length of its body, the head and the body. The head
//! is JSON. The body has what may be large: code, the contents of values one after the other, or a text.
//!
//! The parent does not trust its child, since a guest may have taken it over: [`Bounds`] limit what the parent reads, and
//! `exchange.rs` checks what it means.

mod call;
mod http;
mod values;

use std::io;

use ::gateway::HttpRequest;
use flow::{Limits, MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, MAX_PROGRESS_BYTES};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    backtrace,
    call::{Call, Frame, Level, Standard},
    describe::description::TaskInfo,
    engines::{Allocation, Backtraces, EngineKind},
    loaded::LoadError,
};

pub(super) use call::{decode_call, encode_call};
pub(super) use http::{decode_response, encode_request, encode_response};
pub(super) use values::{FailureHead, ValueHead, read_values, value_heads};

/// Tag, number of the exchange, length of the head, length of the body.
pub(super) const HEADER_BYTES: usize = 1 + 8 + 4 + 8;

/// The number of a request and of all messages of its reply. A child learns it with the request, so nothing that the child has
/// sent before can be taken for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExchangeNumber([u8; 8]);

impl ExchangeNumber {
    /// A number that nobody can guess.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    #[cfg(test)]
    pub(super) const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

/// The first message to a child; the body is the code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// The engine to load it for.
    pub(super) kind: EngineKind,
    /// The maximum memory of the child in bytes.
    pub(super) memory: u64,
    /// What its backtraces have: it has to load the code as the code was compiled.
    pub(super) backtraces: Backtraces,
}

/// A child is ready for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// How the instances of its module are allocated.
    pub(super) allocation: Allocation,
    pub(super) is_command: bool,
}

/// Why a child is not ready for calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    Load(LoadError),
    /// The process could not give up its rights, or the machine is the cause in another way.
    System(String),
}

/// How a call ended, as its child reports it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndedHead {
    pub(super) result: ResultHead,
    /// The memory that the guest used, in bytes.
    pub(super) memory: u64,
    /// The CPU time of the call, in microseconds.
    pub(super) cpu_micros: u64,
    /// The functions on the guest's stack when it trapped.
    pub(super) backtrace: Vec<Frame>,
}

/// The result of a call. The contents of the values are in the body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ResultHead {
    Succeeded(Vec<ValueHead>),
    Failed(FailureHead),
}

/// A message to a child after its start.
#[derive(Debug)]
pub(super) enum Request {
    Call(Box<Call>),
    Describe,
}

/// A message from a child.
#[derive(Debug)]
pub(super) enum Reply {
    Started(Result<Started, Refusal>),
    Log(Level, String),
    Print(Standard, Vec<u8>),
    Progress(f64, String),
    Ended(EndedHead, Vec<u8>),
    Described(Result<Vec<TaskInfo>, FailureHead>),
    HttpRequest(Box<HttpRequest>),
}

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Start = 1,
    Call,
    Describe,
    Started,
    Log,
    Print,
    Progress,
    Ended,
    Described,
    HttpRequest,
    HttpResponse,
}

impl Tag {
    const ALL: [Self; 11] = [
        Self::Start,
        Self::Call,
        Self::Describe,
        Self::Started,
        Self::Log,
        Self::Print,
        Self::Progress,
        Self::Ended,
        Self::Described,
        Self::HttpRequest,
        Self::HttpResponse,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == byte)
    }
}

/// The start of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) tag: Tag,
    pub(super) exchange: ExchangeNumber,
    pub(super) head: u32,
    pub(super) body: u64,
}

impl Header {
    /// Reads a header; `None` for an unknown tag.
    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Option<Self> {
        let (&[tag], rest) = bytes.split_first_chunk()?;
        let (&exchange, rest) = rest.split_first_chunk()?;
        let (&head, rest) = rest.split_first_chunk()?;
        let (&body, _) = rest.split_first_chunk()?;
        Some(Self {
            tag: Tag::of(tag)?,
            exchange: ExchangeNumber(exchange),
            head: u32::from_le_bytes(head),
            body: u64::from_le_bytes(body),
        })
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let Self { tag, exchange, head, body } = self;
        [&[tag as u8][..], &exchange.0, &head.to_le_bytes(), &body.to_le_bytes()].concat()
    }
}

/// The maximum sizes of the messages that a child may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    log: u64,
    output: u64,
    http: u64,
    /// The number of values that it may return.
    values: usize,
}

/// The largest head of a failure, in bytes: JSON needs up to six bytes for one.
const MAX_FAILURE_HEAD: usize = 6 * (MAX_MESSAGE_BYTES + MAX_DETAILS_BYTES) + 4_096;

/// The largest head of a returned value, in bytes: its name, its form and its size.
const MAX_VALUE_HEAD: usize = 256;

/// The largest head of a request, in bytes: its address and headers, in which JSON needs up to four bytes for one.
const MAX_REQUEST_HEAD: usize = 1 << 20;

/// The largest description of a module, in bytes. The call that returns it has a limit of a MiB.
const MAX_DESCRIPTION_HEAD: usize = 32 << 20;

/// The largest reason why a child is not ready, in bytes.
const MAX_STARTED_HEAD: usize = 1 << 20;

impl Bounds {
    /// A child that makes no call.
    pub(super) const NO_CALL: Self = Self { log: 0, output: 0, http: 0, values: 0 };

    pub(super) fn of(limits: &Limits, values: usize) -> Self {
        Self { log: limits.log, output: limits.output, http: limits.http_bytes, values }
    }

    /// Whether a child may send a message with this header.
    pub(super) fn allow(self, header: Header) -> bool {
        // A text has a byte or a number before it.
        let (head, body) = match header.tag {
            Tag::Start | Tag::Call | Tag::Describe | Tag::HttpResponse => return false,
            Tag::HttpRequest => (MAX_REQUEST_HEAD, self.http),
            Tag::Started => (MAX_STARTED_HEAD, 0),
            Tag::Log => (0, self.log.saturating_add(1)),
            // A command prints its outputs.
            Tag::Print => (0, self.log.max(self.output).saturating_add(1)),
            Tag::Progress => (0, MAX_PROGRESS_BYTES as u64 + 8),
            Tag::Ended => (MAX_FAILURE_HEAD + backtrace::MAX_JSON_BYTES + self.values * MAX_VALUE_HEAD, self.output),
            Tag::Described => (MAX_DESCRIPTION_HEAD, 0),
        };
        header.head as usize <= head && header.body <= body
    }
}

/// The messages of one exchange.
impl ExchangeNumber {
    /// The start of a message: its header, and its head in JSON.
    pub(super) fn head(self, tag: Tag, head: &impl Serialize, body: u64) -> io::Result<Vec<u8>> {
        let head = serde_json::to_vec(head)?;
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "the head of a message is too large");
        let header = Header { tag, exchange: self, head: u32::try_from(head.len()).map_err(too_large)?, body };
        Ok([header.encode(), head].concat())
    }

    /// A message with a head.
    pub(super) fn message(self, tag: Tag, with: &impl Serialize, body: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut message = self.head(tag, with, body.iter().map(|part| part.len() as u64).sum())?;
        body.iter().for_each(|part| message.extend_from_slice(part));
        Ok(message)
    }

    /// A message without a head.
    fn text(self, tag: Tag, body: &[&[u8]]) -> Vec<u8> {
        let header = Header { tag, exchange: self, head: 0, body: body.iter().map(|part| part.len() as u64).sum() };
        let mut message = header.encode();
        body.iter().for_each(|part| message.extend_from_slice(part));
        message
    }

    pub(super) fn log(self, level: Level, line: &str) -> Vec<u8> {
        self.text(Tag::Log, &[&[level as u8], line.as_bytes()])
    }

    pub(super) fn print(self, standard: Standard, bytes: &[u8]) -> Vec<u8> {
        self.text(Tag::Print, &[&[standard as u8], bytes])
    }

    pub(super) fn progress(self, fraction: f64, message: &str) -> Vec<u8> {
        self.text(Tag::Progress, &[&fraction.to_le_bytes(), message.as_bytes()])
    }
}

/// The error about a message that cannot be decoded.
pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn json<Head: DeserializeOwned>(head: &[u8]) -> io::Result<Head> {
    serde_json::from_slice(head).map_err(|_| invalid("a head that is not what its message needs"))
}

impl Request {
    /// Decodes a request of the parent.
    pub(super) fn decode(tag: Tag, head: &[u8], body: &[u8]) -> io::Result<Self> {
        match tag {
            Tag::Call => Ok(Self::Call(Box::new(decode_call(head, body)?))),
            Tag::Describe => Ok(Self::Describe),
            Tag::Start
            | Tag::Started
            | Tag::Log
            | Tag::Print
            | Tag::Progress
            | Tag::Ended
            | Tag::Described
            | Tag::HttpRequest
            | Tag::HttpResponse => Err(invalid("a message that is no request")),
        }
    }
}

impl Start {
    /// Decodes the first message of the parent.
    pub(super) fn decode(tag: Tag, head: &[u8]) -> io::Result<Self> {
        if tag == Tag::Start { json(head) } else { Err(invalid("another message than the start")) }
    }
}

impl Reply {
    /// Decodes a message of a child.
    pub(super) fn decode(tag: Tag, head: &[u8], mut body: Vec<u8>) -> io::Result<Self> {
        let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| invalid("a text that is not UTF-8"));
        let one_of = |body: &mut Vec<u8>| if body.is_empty() { None } else { Some(body.remove(0)) };
        match tag {
            Tag::Started => Ok(Self::Started(json(head)?)),
            Tag::Log => {
                let level = one_of(&mut body).and_then(|byte| LEVELS.into_iter().find(|level| *level as u8 == byte));
                Ok(Self::Log(level.ok_or_else(|| invalid("an unknown level"))?, utf8(body)?))
            }
            Tag::Print => {
                let standard = [Standard::Output, Standard::Error];
                let standard = one_of(&mut body).and_then(|byte| standard.into_iter().find(|one| *one as u8 == byte));
                Ok(Self::Print(standard.ok_or_else(|| invalid("an unknown stream"))?, body))
            }
            Tag::Progress => {
                let (fraction, message) =
                    body.split_first_chunk().ok_or_else(|| invalid("progress without a number"))?;
                let fraction = f64::from_le_bytes(*fraction);
                let is_valid = (0.0..=1.0).contains(&fraction);
                let fraction = if is_valid { Ok(fraction) } else { Err(invalid("progress beyond the end")) };
                Ok(Self::Progress(fraction?, utf8(message.to_vec())?))
            }
            Tag::Ended => Ok(Self::Ended(json(head)?, body)),
            Tag::Described => Ok(Self::Described(json(head)?)),
            Tag::HttpRequest => Ok(Self::HttpRequest(Box::new(http::decode_request(head, body)?))),
            Tag::Start | Tag::Call | Tag::Describe | Tag::HttpResponse => Err(invalid("a message that is no reply")),
        }
    }
}

const LEVELS: [Level; 5] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];

#[cfg(test)]
mod tests;
