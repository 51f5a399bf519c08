//! A small HTTP server for guests: it answers by path, and notes what it received.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The first line: `GET /path HTTP/1.1`.
    pub line: String,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The number of the connection, from 1.
    pub connection: usize,
}

/// The server. It ends with the process of the test.
///
/// | path | answer |
/// | --- | --- |
/// | `/text` | "text of the server" |
/// | `/echo` | the body of the request; the header `x-answer` is that of `x-ask` |
/// | `/status/503` | this status |
/// | `/redirect?to=ADDRESS` | a redirect to the address |
/// | `/large` | 20 MiB |
/// | `/endless` | a body in parts that never ends |
/// | `/slow/1500` | "text of the server" after so many milliseconds |
/// | `/held` | "text of the server" after [`HttpServer::release`] |
/// | `/reversed` | the header `x-ask`, from its end |
/// | `/v1/secret/data/NAME` | as Vault answers for the token `t0ken`: its field `token` is `NAME-s3cret-` and the number of requests |
/// | `/never` | nothing: it reads the request and waits |
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    state: Arc<State>,
}

/// What the connections of a server share.
#[derive(Debug, Default)]
struct State {
    received: Mutex<Vec<Received>>,
    /// The number of requests without an answer: now, and the most so far.
    open: Mutex<(usize, usize)>,
    is_released: Mutex<bool>,
    released: Condvar,
}

impl HttpServer {
    /// Starts on a free port of loopback.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let state: Arc<State> = Arc::default();
        let of_connections = Arc::clone(&state);
        thread::spawn(move || {
            for (stream, number) in listener.incoming().flatten().zip(1..) {
                let state = Arc::clone(&of_connections);
                thread::spawn(move || serve(stream, number, &state));
            }
        });
        Self { address, state }
    }

    /// The address of a path: `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it has received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// The largest number of requests that had no answer at the same time.
    #[must_use]
    pub fn most_open(&self) -> usize {
        lock(&self.state.open).1
    }

    /// Lets it answer the requests to `/held`, from now on at once.
    pub fn release(&self) {
        *lock(&self.state.is_released) = true;
        self.state.released.notify_all();
    }
}

impl Received {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of a connection until the client leaves.
fn serve(stream: TcpStream, connection: usize, state: &State) {
    let mut reader = BufReader::new(&stream);
    while let Some(request) = receive(&mut reader, connection) {
        {
            let mut open = lock(&state.open);
            open.0 += 1;
            open.1 = open.1.max(open.0);
        }
        lock(&state.received).push(request.clone());
        if answer(&stream, &request, state).is_err() {
            return;
        }
    }
}

fn receive(reader: &mut BufReader<&TcpStream>, connection: usize) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let split = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.iter().skip(1).filter_map(split).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (line, body) = (lines.into_iter().next()?, String::from_utf8_lossy(&body).into_owned());
    Some(Received { line, headers, body, connection })
}

fn answer(mut stream: &TcpStream, request: &Received, state: &State) -> std::io::Result<()> {
    let count = lock(&state.received).len();
    let target = request.line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |stream: &mut &TcpStream, status: &str, header: &str, body: &[u8]| {
        // Before its client has the answer, and sends another request.
        lock(&state.open).0 -= 1;
        write!(stream, "HTTP/1.1 {status} x\r\n{header}content-length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)
    };
    match path {
        "/text" => text(&mut stream, "200", "", b"text of the server"),
        "/echo" => {
            let header = request.header("x-ask").map(|asked| format!("x-answer: {asked}\r\n"));
            text(&mut stream, "200", &header.unwrap_or_default(), request.body.as_bytes())
        }
        "/reversed" => {
            let reversed: String = request.header("x-ask").unwrap_or_default().chars().rev().collect();
            text(&mut stream, "200", "", reversed.as_bytes())
        }
        "/redirect" => {
            let to = query.trim_start_matches("to=");
            text(&mut stream, "302", &format!("location: {to}\r\n"), b"")
        }
        "/large" => text(&mut stream, "200", "", &vec![b'x'; 20 << 20]),
        "/endless" => {
            write!(stream, "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n{}\r\n", "x".repeat(0x1_0000))?;
            }
        }
        "/never" => loop {
            thread::sleep(Duration::from_secs(600));
        },
        entry if entry.starts_with("/v1/secret/data/") => {
            if request.header("x-vault-token") != Some("t0ken") {
                return text(&mut stream, "403", "", br#"{"errors":["permission denied"]}"#);
            }
            let name = &entry["/v1/secret/data/".len()..];
            let data = format!(r#"{{"token":"{name}-s3cret-{count}"}}"#);
            let answer = format!(r#"{{"data":{{"data":{data},"metadata":{{"deletion_time":"","version":{count}}}}}}}"#);
            text(&mut stream, "200", "", answer.as_bytes())
        }
        "/held" => {
            let is_held = |is_released: &mut bool| !*is_released;
            drop(state.released.wait_while(lock(&state.is_released), is_held).unwrap_or_else(PoisonError::into_inner));
            text(&mut stream, "200", "", b"text of the server")
        }
        slow if slow.starts_with("/slow/") => {
            thread::sleep(Duration::from_millis(slow["/slow/".len()..].parse().unwrap_or(0)));
            text(&mut stream, "200", "", b"text of the server")
        }
        _ => match path.strip_prefix("/status/") {
            Some(status) => text(&mut stream, status, "retry-after: 7\r\n", b"it is busy"),
            None => text(&mut stream, "404", "", b"no such path"),
        },
    }
}
