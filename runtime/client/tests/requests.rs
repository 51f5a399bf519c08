//! Checks what the client sends, and how it reads answers, against a mock server. `tests/cases/server` tests the real one.

#![expect(clippy::unwrap_used, reason = "values in tests are valid")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
};

use futures::TryStreamExt;
use serde_json::{Value, json};
use waft_client::{
    Client, ClientError,
    api::{BulkAction, BulkRequest, Edits, ListQuery, LogsQuery, Notification, RunFilter, RunState, Submission},
    flow::{Draft, file},
};

/// A received request.
struct Request {
    /// Its first line.
    line: String,
    headers: Vec<String>,
    body: Value,
}

/// The status, the content type and the body of an answer.
type CannedResponse = (u16, &'static str, String);

/// A server that answers each request with the next canned response, and returns the requests.
struct CannedServer {
    address: SocketAddr,
    serving: JoinHandle<Vec<Request>>,
}

impl CannedServer {
    fn new(answers: Vec<CannedResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move |(status, kind, body): CannedResponse| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read(&stream);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
            write!(stream, "{head}connection: close\r\n\r\n{body}").unwrap();
            request
        };
        let serving = std::thread::spawn(move || answers.into_iter().map(answer).collect());
        Self { address, serving }
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address), Some("secret".into())).unwrap()
    }

    fn requests(self) -> Vec<Request> {
        self.serving.join().unwrap()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Request { line: lines.remove(0), headers: lines, body }
}

fn run(state: &str) -> CannedResponse {
    let run = json!({"run": "r1", "flow": "f", "state": state, "revision": 1, "started_at": "", "changed_at": "",
        "tasks": [], "inputs": {}, "provides": {"cake": 1}, "failures": {}});
    (200, "application/json", run.to_string())
}

#[tokio::test]
async fn a_flow_is_submitted_as_the_text_of_a_flow_file_under_one_id() {
    let played = CannedServer::new(vec![run("running"), run("running")]);
    let client = played.client();
    let flow = Draft::builder("f")
        .unwrap()
        .persistent()
        .module("m", "steady")
        .input("size", 3)
        .task("t", "m#t", |task| task.requires_same(["size"]))
        .listen("other", "task", "t")
        .build();
    let submission = Submission::of(&flow).unwrap();
    for _ in 0..2 {
        assert_eq!(client.submit(&submission).await.unwrap().state, RunState::Running);
    }
    let requests = played.requests();
    assert_eq!(requests[0].line, "post /v1/runs http/1.1");
    assert!(requests[0].headers.contains(&"authorization: bearer secret".into()));
    let body = &requests[0].body;
    assert!(body["run"].is_string());
    assert_eq!(body, &requests[1].body, "what is submitted again is the same run");
    assert_eq!(body["inputs"], json!({"size": 3}));
    let read = file::parse(body["flow"].as_str().unwrap()).unwrap();
    assert!(read.triggers.persistent && read.inputs.is_empty());
    assert_eq!((read.listeners.len(), read.body.nodes.len()), (1, 1));
}

#[tokio::test]
async fn wait_resumes_after_a_lost_connection() {
    let line = |id: u32, state: &str| format!("id: {id}\ndata: {{\"event\":\"run\",\"state\":\"{state}\"}}\n\n");
    let events = |text: String| (200, "text/event-stream", text);
    let answers = vec![events(line(1, "running")), events(line(2, "success")), run("success")];
    let played = CannedServer::new(answers);
    let ended = played.client().wait("r1").await.unwrap();
    assert_eq!((ended.state, ended.provides.json("cake")), (RunState::Success, Some("1")));
    let requests = played.requests();
    assert_eq!(requests[0].line, "get /v1/runs/r1/events http/1.1");
    assert!(requests[1].headers.contains(&"last-event-id: 1".into()), "{:?}", requests[1].headers);
    assert_eq!(requests[2].line, "get /v1/runs/r1 http/1.1");
}

#[tokio::test]
async fn a_run_is_watched_as_a_stream_that_ends_with_it() {
    let text = "id: 1\ndata: {\"event\":\"run\",\"state\":\"running\"}\n\nid: 2\ndata: {\"event\":\"firing\",\"firing\":1,\
                \"state\":\"running\"}\n\nid: 3\ndata: {\"event\":\"run\",\"state\":\"rolled-back\"}\n\n";
    let played = CannedServer::new(vec![(200, "text/event-stream", text.into())]);
    let events: Vec<_> = played.client().watch("r1").into_stream().try_collect().await.unwrap();
    let states: Vec<_> = events.iter().map(waft_client::Event::run_state).collect();
    assert_eq!(states, [Some(RunState::Running), None, Some(RunState::RolledBack)]);
}

#[tokio::test]
async fn the_pages_of_logs_follow_each_other() {
    let page = |attempt: u32, next: Option<&str>| {
        let log = json!({"task": "t", "attempt": attempt, "firing": 1, "call": "apply", "worker": null, "at": "", "lines": [],
            "cut": false});
        let mut page = json!({"logs": [log]});
        if let Some(next) = next {
            page["next"] = next.into();
        }
        (200, "application/json", page.to_string())
    };
    let played = CannedServer::new(vec![page(1, Some("7.0")), page(2, None)]);
    let mut pages = played.client().log_pages("r1", LogsQuery::default().task("t"));
    let mut attempts = Vec::new();
    while let Some(logs) = pages.next().await.unwrap() {
        attempts.extend(logs.iter().map(|log| log.attempt));
    }
    assert_eq!(attempts, [1, 2]);
    let requests = played.requests();
    assert_eq!(requests[0].line, "get /v1/runs/r1/logs?task=t http/1.1");
    assert_eq!(requests[1].line, "get /v1/runs/r1/logs?task=t&after=7.0 http/1.1");
}

#[tokio::test]
async fn notifications_and_edits_are_sent_and_rejections_reported() {
    let refusal = json!({"type": "urn:waft:problem:conflict", "title": "the flow of the run cannot be changed so",
        "status": 409, "detail": "the flow of the run is at revision 2"});
    let state = json!({"run": "r1", "state": "running"});
    let answers =
        vec![(200, "application/json", state.to_string()), (409, "application/problem+json", refusal.to_string())];
    let played = CannedServer::new(answers);
    let client = played.client();
    let notification = Notification::of("t").value("ip", "10.0.0.7").value_bytes("photo", "ab").key("once");
    assert_eq!(client.notify("r1", &notification).await.unwrap().state, RunState::Running);
    let error = client.edit("r1", &Edits::default().remove("t").if_revision(1)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { .. }) && error.status() == Some(409), "{error}");
    assert!(error.to_string().ends_with("cannot be changed so: the flow of the run is at revision 2"), "{error}");
    let requests = played.requests();
    assert_eq!(requests[0].line, "post /v1/runs/r1/notify http/1.1");
    let notified = json!({"task": "t", "values": {"ip": "10.0.0.7", "$bytes": {"photo": "YWI="}}, "key": "once"});
    assert_eq!(requests[0].body, notified);
    assert_eq!(requests[1].line, "post /v1/runs/r1/edits http/1.1");
    let edited = json!({"edits": [{"do": "remove", "task": "t"}], "if_revision": 1, "dry_run": false});
    assert_eq!(requests[1].body, edited);
}

#[tokio::test]
async fn an_endless_refusal_is_not_read_to_its_end() {
    let played = CannedServer::new(vec![(500, "application/problem+json", "x".repeat(17 << 20))]);
    let error = played.client().list(&waft_client::api::ListQuery::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("the answer has more than 16 MiB"), "{error}");
}

/// The content type of an answer, and the address that it redirects to.
const REDIRECT: &str = "text/html\r\nlocation: https://waft.example.com/v1/runs";

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let played = CannedServer::new(vec![(301, REDIRECT, "moved".into())]);
    let error = played.client().list(&waft_client::api::ListQuery::default()).await.unwrap_err();
    let says = "it redirects to https://waft.example.com/v1/runs; if that is your server, use its address instead";
    assert!(error.to_string().ends_with(says), "{error}");
    assert_eq!(played.requests().len(), 1);
}

#[tokio::test]
async fn a_filter_is_sent_with_each_of_its_labels() {
    let answers = [
        json!({"runs": [], "next": null}),
        json!({"flows": [], "total": 0}),
        json!({"action": "cancel", "dry_run": false, "done": 0, "refused": 0, "next": null}),
    ];
    let played = CannedServer::new(answers.map(|answer| (200, "application/json", answer.to_string())).into());
    let client = played.client();
    let query = ListQuery::default().label("team=a&b").label("order").text("50%").limit(2);
    assert!(client.list(&query).await.unwrap().runs.is_empty());
    let filter = RunFilter::default().label("team=a&b").label("order").text("50%");
    let counts = client.counts(&filter).await.unwrap();
    assert_eq!((counts.total, counts.more), (0, false));
    let result = client.bulk(&BulkRequest::new(BulkAction::Cancel, filter).expect(3)).await.unwrap();
    assert_eq!((result.matched, result.next), (None, None));
    let requests = played.requests();
    let filter = "label=team%3da%26b&label=order&text=50%25";
    assert_eq!(requests[0].line, format!("get /v1/runs?{filter}&limit=2 http/1.1"));
    assert_eq!(requests[1].line, format!("get /v1/runs/counts?{filter} http/1.1"));
    let conditions = json!({"label": ["team=a&b", "order"], "text": "50%"});
    assert_eq!(requests[2].body, json!({"action": "cancel", "where": conditions, "expect": 3}));
}
