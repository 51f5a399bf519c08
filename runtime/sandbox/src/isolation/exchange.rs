//! The conversation of a parent with its child, over any stream.
//!
//! A guest may have taken the child over, so nothing from it is believed: not a size, not a name, not that it keeps the limits of
//! its call. A child that breaks a rule is ended. What it says belongs to the one call that it makes, whatever it says: it has to
//! repeat the number of the request, so what it has said before the call counts for nothing.

use std::{collections::BTreeSet, io, time::Duration};

use flow::{Failure, FailureKind, Limits, ValueName, Values};
use gateway::HttpError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::message::{
    Bounds, EndedHead, ExchangeNumber, HEADER_BYTES, Header, Refusal, Reply, ResultHead, Start, Started, Tag,
    encode_call, encode_response, read_values,
};
use crate::{
    backtrace,
    call::{Action, Call, Completion, Frame, Observer},
    describe::description,
    guest::require_outputs,
    host_state::Streams,
    host_work,
};

/// How a call in a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) completion: Completion,
    /// Bytes over all linear memories of the guest.
    pub(super) memory: u64,
    /// As the child says.
    pub(super) cpu: Duration,
    /// The functions on the guest's stack when it trapped, as the child says.
    pub(super) backtrace: Vec<Frame>,
}

impl Ended {
    /// A call whose child has not reported what it used.
    pub(super) fn without_stats(completion: Completion) -> Self {
        Self { completion, memory: 0, cpu: Duration::ZERO, backtrace: Vec::new() }
    }
}

/// Why a conversation has ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The child has closed the stream, mostly because it has ended.
    #[error("the stream has ended: {0}")]
    Lost(io::Error),
    /// The child has closed the stream before it read all of the request: nothing came of it.
    #[error("the stream has ended before the request was read: {0}")]
    Unread(io::Error),
    /// The child has sent what it must not send.
    #[error("it sent {0}")]
    Violation(String),
}

fn violation(what: &str) -> ExchangeError {
    ExchangeError::Violation(what.to_owned())
}

/// One request, and its reply.
pub(super) struct Exchange<'a, S> {
    stream: &'a mut S,
    number: ExchangeNumber,
    /// Whether a message of the reply has arrived.
    is_answered: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Exchange<'a, S> {
    pub(super) fn new(stream: &'a mut S, number: ExchangeNumber) -> Self {
        Self { stream, number, is_answered: false }
    }

    /// Lets a child load code.
    pub(super) async fn start(mut self, start: &Start, code: &[u8]) -> Result<Result<Started, Refusal>, ExchangeError> {
        self.send(self.number.head(Tag::Start, start, code.len() as u64)).await?;
        self.stream.write_all(code).await.map_err(|error| self.lost(error))?;
        match self.read(Bounds::NO_CALL).await? {
            Reply::Started(started) => Ok(started),
            Reply::Log(..)
            | Reply::Print(..)
            | Reply::Progress(..)
            | Reply::Ended(..)
            | Reply::Described(_)
            | Reply::HttpRequest(_) => Err(violation("another message than that it has started")),
        }
    }

    /// Makes a call. The streams limit what the child may log and print, as they limit a guest in this process.
    pub(super) async fn call(
        mut self,
        call: &Call,
        streams: &Streams,
        observer: &dyn Observer,
    ) -> Result<Ended, ExchangeError> {
        let bounds = Bounds::of(&call.limits, call.required_outputs.len());
        self.send(encode_call(self.number, call)).await?;
        loop {
            match self.read(bounds).await? {
                Reply::Log(level, line) => {
                    streams.log(level, &line).map_err(|_| violation("more output than its limit"))?;
                    observer.log(level, &line);
                }
                Reply::Print(standard, bytes) => {
                    streams.print(standard, &bytes).map_err(|_| violation("more output than its limit"))?;
                }
                Reply::Progress(fraction, message) => observer.progress(fraction, &message),
                Reply::HttpRequest(request) => {
                    let response = match &call.outside.gateway {
                        Some(gateway) => gateway.send(*request).await,
                        None => Err(HttpError::Denied("no guest has a network here".into())),
                    };
                    self.send(encode_response(self.number, response)).await?;
                }
                Reply::Ended(EndedHead { result, memory, cpu_micros, backtrace }, body) => {
                    if !backtrace::is_possible(&backtrace) {
                        return Err(violation("a backtrace that no guest can have"));
                    }
                    let size = body.len();
                    let completion = match result {
                        ResultHead::Succeeded(heads) => {
                            let (limits, required) = (call.limits, required_outputs(call));
                            let read = move || {
                                let values = read_values(heads, &mut body.as_slice()).map_err(invalid)?;
                                checked_values(values, &limits, &required)
                            };
                            Completion::Succeeded(parsed(size, read).await?)
                        }
                        ResultHead::Failed(failure) => {
                            Completion::Failed(checked_failure(failure.into_failure().map_err(invalid)?)?)
                        }
                    };
                    let (memory, cpu) = (memory.min(call.limits.memory), Duration::from_micros(cpu_micros));
                    return Ok(Ended { completion, memory, cpu, backtrace });
                }
                Reply::Started(_) | Reply::Described(_) => return Err(violation("a message that belongs to no call")),
            }
        }
    }

    /// Requests the description of the module.
    pub(super) async fn describe(mut self) -> Result<Result<Vec<description::TaskInfo>, Failure>, ExchangeError> {
        self.send(self.number.message(Tag::Describe, &(), &[])).await?;
        match self.read(Bounds::NO_CALL).await? {
            Reply::Described(Ok(tasks)) => Ok(Ok(tasks)),
            Reply::Described(Err(failure)) => Ok(Err(checked_failure(failure.into_failure().map_err(invalid)?)?)),
            Reply::Log(..)
            | Reply::Print(..)
            | Reply::Progress(..)
            | Reply::Ended(..)
            | Reply::Started(_)
            | Reply::HttpRequest(_) => Err(violation("another message than a description")),
        }
    }

    async fn send(&mut self, message: io::Result<Vec<u8>>) -> Result<(), ExchangeError> {
        let message = message.map_err(ExchangeError::Lost)?;
        self.stream.write_all(&message).await.map_err(|error| self.lost(error))
    }

    /// Reads a message of a child, after a look at its size.
    async fn read(&mut self, bounds: Bounds) -> Result<Reply, ExchangeError> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).await.map_err(|error| self.lost(error))?;
        self.is_answered = true;
        let header = Header::decode(header).ok_or_else(|| violation("a message of an unknown kind"))?;
        if header.exchange != self.number {
            return Err(violation("a message that does not answer the request"));
        }
        if !bounds.allow(header) {
            return Err(violation("a message that is too large, or comes at a wrong time"));
        }
        let length = |size: u64| usize::try_from(size).map_err(|_| violation("a message that is too large"));
        let mut head = vec![0; header.head as usize];
        self.stream.read_exact(&mut head).await.map_err(ExchangeError::Lost)?;
        // The memory grows with what arrives, not with what was announced.
        let mut body = Vec::with_capacity(length(header.body)?.min(FIRST_READ));
        (&mut *self.stream).take(header.body).read_to_end(&mut body).await.map_err(ExchangeError::Lost)?;
        if body.len() as u64 != header.body {
            return Err(ExchangeError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        parsed(head.len(), move || Reply::decode(header.tag, &head, body).map_err(invalid)).await
    }

    /// The stream has ended. The kernel says so in this way if the child has left some of the request in it.
    fn lost(&self, error: io::Error) -> ExchangeError {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset if !self.is_answered => {
                ExchangeError::Unread(error)
            }
            _ => ExchangeError::Lost(error),
        }
    }
}

/// The memory that is taken before a body arrives, in bytes.
const FIRST_READ: usize = 64 << 10;

fn invalid(error: io::Error) -> ExchangeError {
    ExchangeError::Violation(error.to_string())
}

/// Parses this many bytes of a child. No thread of the runtime does it if they are many.
async fn parsed<T: Send + 'static>(
    bytes: usize,
    parse: impl FnOnce() -> Result<T, ExchangeError> + Send + 'static,
) -> Result<T, ExchangeError> {
    host_work::parsed(bytes, parse).await.map_err(|error| ExchangeError::Lost(io::Error::other(error)))?
}

/// The values that a call has to return.
fn required_outputs(call: &Call) -> Vec<ValueName> {
    match call.action {
        Action::Apply => call.required_outputs.clone(),
        Action::Rollback { .. } => Vec::new(),
    }
}

/// The values of a call, if a guest within its limits can have returned them.
fn checked_values(values: Values, limits: &Limits, required: &[ValueName]) -> Result<Values, ExchangeError> {
    let used: u64 = values.iter().map(|(name, value)| (name.as_str().len() + value.size()) as u64).sum();
    limits.check_output(used).map_err(|_| violation("more values than its limit"))?;
    let expected: BTreeSet<&ValueName> = required.iter().collect();
    if values.keys().any(|name| !expected.contains(name)) {
        return Err(violation("a value that was not required"));
    }
    require_outputs(values, required).map_err(|_| violation("too few values"))
}

/// The failure of a call, if a guest that was called can have it.
fn checked_failure(failure: Failure) -> Result<Failure, ExchangeError> {
    let is_possible = match failure.kind {
        FailureKind::Transient
        | FailureKind::Permanent
        | FailureKind::Timeout
        | FailureKind::Memory
        | FailureKind::Trap
        | FailureKind::OutputLimit
        | FailureKind::InvalidOutput
        | FailureKind::Denied => true,
        // These say that the guest was not called, or what only an engine knows.
        FailureKind::MissingInput | FailureKind::Module | FailureKind::Poison | FailureKind::Cancelled => false,
    };
    if is_possible && failure.is_within_bounds() {
        Ok(failure)
    } else {
        Err(violation("a failure that no guest can have"))
    }
}

#[cfg(test)]
mod tests;
