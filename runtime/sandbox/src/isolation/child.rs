//! The child's part: it gives up its rights, loads one module, and calls its guests until its parent leaves.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use flow::HttpTarget;
use futures::future::BoxFuture;
use gateway::{HttpError, HttpRequest, HttpResponse, Outbound};

use rustix::process::Resource;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::message::{
    self, EndedHead, ExchangeNumber, HEADER_BYTES, Header, Refusal, Request, ResultHead, Start, Started, Tag,
    value_heads,
};
use crate::{
    call::{Action, Call, CallReport, Completion, Level, Observer, Standard},
    confined::{self, limit, system_calls},
    describe,
    engines::{EngineKind, Engines},
    loaded::{LinkedModule, Loaded},
    run::{self, Watchdog},
    ticker::Ticker,
    waiting::WaitingCalls,
};

/// The stream to the parent: standard input, in both directions.
struct Connection {
    reader: Arc<Mutex<BufReader<File>>>,
    writer: Arc<File>,
}

/// Sends the parent the messages of one exchange.
struct Writer {
    stream: Arc<File>,
    exchange: ExchangeNumber,
}

/// A message as it was received.
struct Received {
    exchange: ExchangeNumber,
    tag: Tag,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// A module that is ready to be called.
struct Guests {
    engines: Arc<Engines>,
    loaded: Loaded,
    runtime: Runtime,
}

/// Loads the module that the parent sends on standard input, and makes its calls, one after the other, until the parent closes the
/// stream. From the first call on, the process opens no file and no socket, starts no process and no thread, sends no signal, and
/// makes no memory executable. It dies with its parent.
///
/// # Errors
/// When the rights cannot be given up, or the stream fails.
pub fn serve_calls() -> io::Result<()> {
    confined::enter()?;
    confined::ignore_requests_to_stop();
    let connection = Connection::of_stdin()?;
    // Before anything is read, so that a parent that only closes the stream learns whether it works here.
    let restricted = system_calls::restrict_to_loading();
    let Some(Received { exchange, tag, head, body: code }) = connection.receive()? else {
        return restricted.map_err(io::Error::other);
    };
    let writer = connection.writer(exchange);
    let start = Start::decode(tag, &head)?;
    let restricted = restricted.map_err(|error| Refusal::System(error.to_string()));
    let guests = match restricted.and_then(|()| Guests::load(&start, &code)) {
        Ok(guests) => guests,
        Err(refusal) => return writer.send(&exchange.message(Tag::Started, &Err::<Started, _>(refusal), &[])?),
    };
    drop(code);
    let (kind, module) = guests.loaded.first();
    let started = Started { allocation: kind.allocation(), is_command: module.is_command() };
    writer.send(&exchange.message(Tag::Started, &Ok::<_, Refusal>(started), &[])?)?;
    while let Some(Received { exchange, tag, head, body }) = connection.receive()? {
        let writer = connection.writer(exchange);
        match Request::decode(tag, &head, &body)? {
            Request::Call(mut call) => {
                drop((head, body));
                call.outside.gateway = Some(Arc::new(connection.gateway(exchange)));
                guests.call(kind, module.is_command(), &call, &Arc::new(writer))?;
            }
            Request::Describe => guests.describe(kind, module, &writer)?,
        }
    }
    Ok(())
}

impl Guests {
    /// Loads code, and then gives up what only loading needs. The code is not trusted either, since a module may have taken the
    /// compiler over: the caller has restricted the process.
    fn load(start: &Start, code: &[u8]) -> Result<Self, Refusal> {
        let system = |error: io::Error| Refusal::System(format!("a process for calls could not be set up: {error}"));
        limit(Resource::Data, start.memory).map_err(system)?;
        // The initial contents of memories are parts of the code.
        limit(Resource::Fsize, code.len() as u64).map_err(system)?;
        let engines = Arc::new(Engines::lazy(1, start.backtraces, Ticker::start().map_err(system)?));
        let loaded = Loaded::load(&engines, start.kind, code).map_err(Refusal::Load)?;
        let (_, module) = loaded.first();
        let prepared = module.component().initialize_copy_on_write_image();
        prepared.map_err(|error| system(io::Error::other(format!("{error:#}"))))?;
        let runtime = Builder::new_current_thread().enable_time().build().map_err(system)?;
        confined::forbid_files().map_err(system)?;
        system_calls::restrict_to_calls().map_err(|error| Refusal::System(error.to_string()))?;
        Ok(Self { engines, loaded, runtime })
    }

    fn call(&self, kind: EngineKind, is_command: bool, call: &Call, writer: &Arc<Writer>) -> io::Result<()> {
        let watch = Watchdog::start(call.limits.timeout, uninterrupted()).without_threads();
        // The parent has its slot.
        let waiting = WaitingCalls::none();
        let running = run::run((kind, &self.loaded), (self.engines.ticker(), &waiting), watch, call, writer.clone());
        let CallReport { completion, stdout, stats, log: _, stderr: _, backtrace } =
            self.runtime.block_on(Box::pin(running));
        // The parent has the rest already.
        let is_unsent = is_command && matches!(call.action, Action::Apply);
        if is_unsent && !stdout.is_empty() {
            writer.send(&writer.exchange.print(Standard::Output, &stdout))?;
        }
        let mut body = Vec::new();
        let result = match &completion {
            Completion::Succeeded(values) => ResultHead::Succeeded(value_heads(values, &mut body)),
            Completion::Failed(failure) => ResultHead::Failed(failure.into()),
            Completion::Interrupted => return Err(message::invalid("an interrupt that nobody sent")),
        };
        let cpu_micros = u64::try_from(stats.cpu.as_micros()).unwrap_or(u64::MAX);
        let ended = EndedHead { result, memory: stats.memory, cpu_micros, backtrace };
        writer.send(&writer.exchange.message(Tag::Ended, &ended, &body)?)
    }

    fn describe(&self, kind: EngineKind, module: &LinkedModule, writer: &Writer) -> io::Result<()> {
        let watch = Watchdog::start(describe::limits().timeout, uninterrupted()).without_threads();
        let describing = describe::run((kind, module), self.engines.ticker(), watch);
        let described = match self.runtime.block_on(Box::pin(describing)) {
            Ok(tasks) => Ok(tasks.unwrap_or_default()),
            Err(Completion::Failed(failure)) => Err(message::FailureHead::from(&failure)),
            Err(Completion::Succeeded(_) | Completion::Interrupted) => {
                return Err(message::invalid("a description without a result"));
            }
        };
        writer.send(&writer.exchange.message(Tag::Described, &described, &[])?)
    }
}

/// The parent interrupts a call by killing its process.
fn uninterrupted() -> [CancellationToken; 2] {
    [CancellationToken::new(), CancellationToken::new()]
}

impl Connection {
    /// Copies standard input, since the one of the standard library is only read.
    fn of_stdin() -> io::Result<Self> {
        let reader = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let writer = Arc::new(reader.try_clone()?);
        Ok(Self { reader: Arc::new(Mutex::new(BufReader::new(reader))), writer })
    }

    /// Sends the messages of one exchange.
    fn writer(&self, exchange: ExchangeNumber) -> Writer {
        Writer { stream: self.writer.clone(), exchange }
    }

    /// Lets the parent send the requests of one exchange.
    fn gateway(&self, exchange: ExchangeNumber) -> ParentGateway {
        ParentGateway { reader: self.reader.clone(), writer: self.writer(exchange) }
    }

    /// The next message; `None` once the parent has closed the stream.
    fn receive(&self) -> io::Result<Option<Received>> {
        receive(&mut *self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn receive(reader: &mut impl io::Read) -> io::Result<Option<Received>> {
    let mut header = [0; HEADER_BYTES];
    match reader.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let header = Header::decode(header).ok_or_else(|| message::invalid("a message of an unknown kind"))?;
    let mut head = vec![0; header.head as usize];
    reader.read_exact(&mut head)?;
    let mut body = vec![0; usize::try_from(header.body).map_err(io::Error::other)?];
    reader.read_exact(&mut body)?;
    Ok(Some(Received { exchange: header.exchange, tag: header.tag, head, body }))
}

/// Lets the parent send requests. The process has one thread, so everything in it waits for each response; the parent ends the
/// process when the call has no time left.
struct ParentGateway {
    reader: Arc<Mutex<BufReader<File>>>,
    writer: Writer,
}

impl ParentGateway {
    fn exchange(&self, request: &HttpRequest) -> io::Result<Result<HttpResponse, HttpError>> {
        self.writer.send(&message::encode_request(self.writer.exchange, request)?)?;
        let received = receive(&mut *self.reader.lock().unwrap_or_else(PoisonError::into_inner))?;
        match received {
            Some(Received { exchange, tag, head, body }) if exchange == self.writer.exchange => {
                message::decode_response(tag, &head, body)
            }
            Some(_) | None => Err(message::invalid("no response of the parent")),
        }
    }
}

impl std::fmt::Debug for ParentGateway {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ParentGateway").finish_non_exhaustive()
    }
}

impl Outbound for ParentGateway {
    /// The parent checks.
    fn check(&self, _: &HttpTarget) -> Result<(), String> {
        Ok(())
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        // Nobody waits for the call any more if the parent has left.
        let response = self.exchange(&request).unwrap_or_else(|_| std::process::exit(1));
        Box::pin(async { response })
    }
}

impl Writer {
    fn send(&self, message: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(message)
    }

    /// Sends a guest's output. Nobody waits for the call any more if the parent has left.
    fn send_output(&self, message: &[u8]) {
        if self.send(message).is_err() {
            std::process::exit(1);
        }
    }
}

impl Observer for Writer {
    fn log(&self, level: Level, line: &str) {
        self.send_output(&self.exchange.log(level, line));
    }

    fn print(&self, standard: Standard, bytes: &[u8]) {
        self.send_output(&self.exchange.print(standard, bytes));
    }

    fn progress(&self, fraction: f64, message: &str) {
        self.send_output(&self.exchange.progress(fraction, message));
    }
}
