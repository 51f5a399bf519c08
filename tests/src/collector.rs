//! A collector of OpenTelemetry for tests: an HTTP server that decodes OTLP, and may also refuse it or never answer.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::status::StatusCode,
};
use prost::Message as _;

/// A span as it arrived, with its ids in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// The name of the service.
    pub service: String,
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The id of its parent; empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Its kind, as a number of OTLP.
    pub kind: i32,
    /// When it began and ended, in nanoseconds since 1970.
    pub times: (u64, u64),
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whether it has failed.
    pub has_failed: bool,
}

/// What the collector does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorMood {
    /// It takes the spans.
    Takes,
    /// It answers with this status.
    Refuses(u16),
    /// It reads the request, and never answers.
    Silent,
    /// It reads the request, and answers with bytes that are no HTTP, without an end.
    Babbles,
}

/// The collector. It ends with the process of the test.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    mood: CollectorMood,
    spans: Mutex<Vec<ReceivedSpan>>,
    requests: Mutex<Vec<Vec<String>>>,
}

impl Collector {
    /// Starts on a free port of loopback.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(mood: CollectorMood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(State { mood, spans: Mutex::default(), requests: Mutex::default() });
        let of_connections = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_connections);
                // A connection that breaks off is closed.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { address, state }
    }

    /// Its address, for `--otlp`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans so far, by their beginning.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let mut spans = lock(&self.state.spans).clone();
        spans.sort_by_key(|span| span.times);
        spans
    }

    /// The spans with a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<ReceivedSpan> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The heads of the requests so far: the first line and the headers.
    #[must_use]
    pub fn requests(&self) -> Vec<Vec<String>> {
        lock(&self.state.requests).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, state: &State) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let length = head.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        lock(&state.requests).push(head);
        let status = match state.mood {
            CollectorMood::Takes => {
                lock(&state.spans).extend(decode(&body));
                200
            }
            CollectorMood::Refuses(status) => status,
            CollectorMood::Silent => loop {
                thread::sleep(Duration::from_secs(600));
            },
            CollectorMood::Babbles => {
                let mut answer = stream;
                loop {
                    // It ends when the reader has left.
                    answer.write_all(&[b'x'; 4096])?;
                }
            }
        };
        let mut answer = stream;
        write!(answer, "HTTP/1.1 {status} x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// The spans of a request. A request that is no OTLP fails the test: its spans are missing.
fn decode(body: &[u8]) -> Vec<ReceivedSpan> {
    let request = ExportTraceServiceRequest::decode(body).expect("a request is OTLP in protobuf");
    let mut received = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.expect("a process says what it is").attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "{span:?}");
            received.push(ReceivedSpan {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                trace: hexadecimal(&span.trace_id),
                id: hexadecimal(&span.span_id),
                parent: hexadecimal(&span.parent_span_id),
                kind: span.kind,
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                has_failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
                attributes: attributes(span.attributes),
                name: span.name,
            });
        }
    }
    received
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("waft sends no {other:?}"),
    };
    let pair = |pair: KeyValue| (pair.key, pair.value.and_then(|value| value.value).map(text).unwrap_or_default());
    pairs.into_iter().map(pair).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
