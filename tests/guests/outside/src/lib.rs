//! A guest that uses what it is granted: HTTP, the clock and randomness of the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use waft_guest::{
    http::{self, Request},
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

/// Sends a secret in the header `x-ask`, reads it from an answer in reverse, and leaves it everywhere. It fails with it, if `fails`.
#[task(provides = "left")]
fn leak(url: String, fails: bool) -> Result<serde_json::Value, Failure> {
    let response = Request::get(url).header("x-ask", "{{secret:KEY}}").send()?;
    let told: String = response.text()?.chars().rev().collect();
    log::info!("logged {told}");
    println!("printed {told}");
    eprintln!("complained {told}");
    let details = serde_json::json!({ "told": told, told.clone(): 1 });
    match fails {
        true => Err(Failure::permanent(format!("failed with {told}")).with_details(details)),
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

waft_guest::export!(request, fetch, try_request, visit, leak, clocks, random);
