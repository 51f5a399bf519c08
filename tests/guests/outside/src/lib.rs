//! A guest that uses what it is granted: HTTP, the clock and randomness of the machine.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use waft_guest::{
    http::{self, Request},
    net::TcpStream,
    prelude::*,
};

/// A response, as a value of the flow.
#[derive(Serialize, JsonSchema)]
struct Answer {
    status: u16,
    body: String,
    /// The header `x-answer`, if there is one.
    header: Option<String>,
}

/// Sends one request, and provides its response, whatever its status is.
#[task(provides = "answer")]
fn request(
    call: &Call,
    method: Option<String>,
    url: String,
    /// Two texts: the name and the value.
    header: Option<(String, String)>,
    body: Option<String>,
    timeout_ms: Option<u64>,
) -> Result<Answer, Failure> {
    let mut request = Request::new(method.unwrap_or_else(|| "GET".into()), url).idempotency_key(call);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    if let Some(timeout) = timeout_ms {
        request = request.timeout(Duration::from_millis(timeout));
    }
    let response = request.body(body.unwrap_or_default()).send()?;
    let header = response.header("x-answer").map(str::to_owned);
    Ok(Answer { status: response.status(), body: response.text()?.to_owned(), header })
}

/// Gets a text. A status that is no success is a failure.
#[task(provides = "text")]
fn fetch(url: String) -> Result<String, Failure> {
    Ok(http::get(url)?.success()?.text()?.to_owned())
}

/// Tries a request, and succeeds whatever comes of it: provides what went wrong.
#[task(provides = "outcome")]
fn try_request(url: String) -> String {
    http::get(url).map_or_else(|error| format!("{:?}", error.kind()), |response| response.status().to_string())
}

/// Gets each address in turn, and provides the statuses, and what went wrong.
#[task(provides = "outcomes")]
fn visit(urls: Vec<String>) -> Vec<String> {
    urls.into_iter().map(try_request).collect()
}

/// Sends a secret in the header `x-ask`, reads it from an answer in reverse, and leaves it everywhere: also in headers of another
/// request, in the value of `x-again` and in a name, and in the address of one that is denied. It fails with it, if `fails`.
#[task(provides = "left")]
fn leak(url: String, fails: bool) -> Result<serde_json::Value, Failure> {
    let response = Request::get(url.clone()).header("x-ask", "{{secret:KEY}}").send()?;
    let value: String = response.text()?.chars().rev().collect();
    Request::get(url).header("x-again", value.as_str()).header(format!("x-{value}"), "1").send()?;
    try_request(format!("http://denied.example/{value}"));
    log::info!("logged {value}");
    println!("printed {value}");
    eprintln!("complained {value}");
    let details = serde_json::json!({ "value": value, value.clone(): 1 });
    match fails {
        true => Err(Failure::permanent(format!("failed with {value}")).with_details(details)),
        false => Ok(details),
    }
}

/// Two readings of each clock, with a sleep between them.
#[derive(Serialize, JsonSchema)]
struct Clocks {
    unix_ms: u64,
    slept_ms: u64,
}

/// Sleeps for 20 ms, and provides what the clocks say.
#[task(provides = "clocks")]
fn clocks() -> Clocks {
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Clocks { unix_ms: milliseconds(since), slept_ms: milliseconds(started.elapsed()) }
}

/// Provides a random number, from the seed of the standard library's hash maps.
#[task(provides = "number")]
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(1)
}

/// Reads a configuration value.
#[task(provides = "value")]
fn read_config(name: String) -> Result<String, Failure> {
    Ok(waft_guest::config(&name)?)
}

/// Provides what a configuration value is, or nothing.
#[task(provides = "value")]
fn try_config(name: String) -> Option<String> {
    waft_guest::config(&name).ok()
}

/// Reads an environment variable.
#[task(provides = "value")]
fn read_variable(name: String) -> Result<String, Failure> {
    std::env::var(&name).map_err(|error| Failure::transient(format!("{name}: {error}")))
}

/// Reads a file.
#[task(provides = "text")]
fn read_file(path: String) -> Result<String, Failure> {
    std::fs::read_to_string(&path).map_err(|error| Failure::transient(format!("{path}: {error}")))
}

/// Appends a text to a file several times, and creates the file if it is missing.
#[task(provides = "size")]
fn write_file(path: String, text: String, times: Option<usize>) -> Result<u64, Failure> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        for _ in 0..times.unwrap_or(1) {
            file.write_all(text.as_bytes())?;
        }
        Ok(file.metadata()?.len())
    };
    write().map_err(|error: std::io::Error| Failure::transient(format!("{path}: {error}")))
}

/// Does one thing to files, and provides what came of it.
#[task(provides = "outcome")]
fn change_files(action: String, path: String, other: Option<String>) -> String {
    let other = other.unwrap_or_default();
    let done = match action.as_str() {
        "list" => std::fs::read_dir(&path).map(|entries| {
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        }),
        "remove" => std::fs::remove_file(&path).map(|()| "done".into()),
        "make" => std::fs::create_dir_all(&path).map(|()| "done".into()),
        "rename" => std::fs::rename(&path, &other).map(|()| "done".into()),
        "hard-link" => std::fs::hard_link(&path, &other).map(|()| "done".into()),
        "grow" => std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).map(|()| "done".into()),
        "open-many" => {
            (0..200).map(|_| std::fs::File::open(&path)).collect::<Result<Vec<_>, _>>().map(|_| "done".into())
        }
        _ => return format!("no action is called {action:?}"),
    };
    done.unwrap_or_else(|error: std::io::Error| format!("{:?}", error.kind()))
}

/// Connects, sends a text, and provides what comes back.
#[task(provides = "text")]
fn exchange(address: String, text: String) -> Result<String, Failure> {
    let mut connection = TcpStream::connect(&address)?;
    connection.write_all(text.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Connects often, and provides how many connections there were.
#[task(provides = "count")]
fn connect_often(address: String) -> usize {
    let connections: Vec<TcpStream> = (0..100).map_while(|_| TcpStream::connect(&address).ok()).collect();
    connections.len()
}

waft_guest::export!(
    exchange,
    connect_often,
    read_file,
    write_file,
    change_files,
    request,
    fetch,
    try_request,
    visit,
    leak,
    clocks,
    random,
    read_config,
    try_config,
    read_variable
);
