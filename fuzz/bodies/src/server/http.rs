//! Requests to a server: each input is a conversation with a new server, whose store has one module.

use std::{sync::Arc, time::Duration};

use server::{Answer, Dependencies, Request, Routes, Token};
use store::Store as _;

use super::{
    block_on, guest,
    memory::{Memory, Task},
    sandbox,
};

/// The maximum number of requests of an input.
const MAX_REQUESTS: usize = 8;

/// The maximum size of a body, as in the settings of a server.
const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// The time for an answer, on a clock that moves as soon as nothing else does. An engine answers a command in ten seconds at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The tasks of the module `kitchen`.
const TASKS: [Task<'static>; 2] = [
    Task {
        name: "t",
        requires: &[("x", None)],
        provides: &[("y", None)],
        rollback: Some(&[("list", None)]),
        retry: None,
        limits: [None; 2],
    },
    Task { name: "plain", requires: &[], provides: &[], rollback: None, retry: None, limits: [None; 2] },
];

const TOKEN: &str = "secret";

/// The input is requests, each as method and path in a line, lines of headers, an empty line and the body. A line `====` ends a request.
pub fn run(input: &[u8]) {
    let requests: Vec<Request<'_>> = split(input).take(MAX_REQUESTS).filter_map(request).collect();
    if requests.is_empty() {
        return;
    }
    block_on(async {
        let server = dependencies().await;
        let engine = server.engine.clone();
        let token = Token::new(TOKEN).expect("it is not empty");
        let mut routes = Routes::new(server, token, MAX_REQUEST_BYTES);
        for request in &requests {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, routes.answer(request)).await;
            check(request, answer.expect("each request is answered in time"));
        }
        engine.abort().await;
    });
}

fn split(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let separator = crate::SEPARATOR.as_bytes();
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(separator.len()).position(|window| window == separator);
        rest = end.map(|end| &bytes[end + separator.len()..]);
        Some(&bytes[..end.unwrap_or(bytes.len())])
    })
}

/// Reads a request; `None` where the input has none.
fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let end = bytes.windows(2).position(|window| window == b"\n\n").unwrap_or(bytes.len());
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let (method, path) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    // It examines the machine, and not the request.
    if path.starts_with("/v1/health/checks") {
        return None;
    }
    let mut headers: Vec<(&str, &[u8])> = lines.filter_map(header).collect();
    let has = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let (is_authorized, has_type) = (has("authorization"), has("content-type"));
    if !is_authorized {
        headers.push(("authorization", b"Bearer secret"));
    }
    if !has_type {
        headers.push(("content-type", b"application/json"));
    }
    Some(Request { method, path, headers, body: bytes.get(end + 2..).unwrap_or_default() })
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
}

/// A server whose store has one module.
async fn dependencies() -> Dependencies {
    let store = store::Memory::new();
    let module = store.put(guest::component(&Memory::of(&TASKS)).into()).await.expect("memory takes a module");
    store.tag(&"kitchen".parse().expect("a tag"), &module).await.expect("memory takes a tag");
    let dependencies =
        Dependencies::in_memory(Arc::new(logbook::Memory::new()), Arc::new(store), sandbox().clone()).await;
    dependencies.expect("an engine starts in memory")
}

/// A server answers with a document. It never reports damaged records or a bug of waft, since only its own records are there.
fn check(request: &Request<'_>, answer: Option<Answer>) {
    // The input is no request of HTTP: a server never sees it.
    let Some(Answer { status, content_type, body }) = answer else { return };
    let shown = || format!("{request:?} is answered with {status}: {}", String::from_utf8_lossy(&body));
    assert_ne!(status, 500, "{}", shown());
    // The answer to a HEAD has the headers of the answer to a GET, and no body.
    let content_type = if request.method == "HEAD" { "" } else { content_type.as_str() };
    match content_type {
        "application/json" => assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{}", shown()),
        "application/problem+json" => {
            let problem: api::Problem =
                serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {}", shown()));
            assert_eq!(problem.status, status, "{}", shown());
            assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{}", shown());
        }
        "text/event-stream" => assert_eq!(status, 200, "{}", shown()),
        // Also an answer without content.
        _ => assert!(body.is_empty(), "{}", shown()),
    }
}
