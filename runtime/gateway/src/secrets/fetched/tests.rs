//! Tests of commands, and of a server that answers as the API of Vault documents it; and of what is remembered of both.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use credentials::{ClientTls, Trust};
use futures::FutureExt as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    Secret, Secrets,
    clients::Clients,
    gateway::MAX_OPERATOR_BYTES,
    secrets::source::{FETCH_TIMEOUT, MAX_ANSWER_BYTES},
};

async fn get(fetched: &FetchedValues, source: &SecretSource) -> Result<String, String> {
    let tls = ClientTls { trust: Trust::Nothing, identity: None }.config().unwrap();
    let client = async move { Ok(Clients::new(tls, Arc::default()).for_operator(MAX_OPERATOR_BYTES)) };
    fetched.get(source, client).await
}

/// A program that runs these lines of shell.
fn script(folder: &TempDir, lines: &str) -> Vec<String> {
    let path = folder.path().join("secret.sh");
    std::fs::write(&path, format!("#!/bin/sh\ncd {:?}\n{lines}\n", folder.path())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    vec![path.display().to_string(), "lb token; echo x".into()]
}

fn command(folder: &TempDir, lines: &str, refresh: Duration) -> SecretSource {
    SecretSource::Command { command: script(folder, lines), refresh }
}

#[tokio::test]
async fn a_command_is_run_without_a_shell_and_once_for_all_calls() {
    let folder = tempfile::tempdir().unwrap();
    let fetched = FetchedValues::default();
    let source = command(&folder, "echo run >> runs; sleep 0.1; echo \"s3cret of $1\"", Duration::from_secs(60));
    let results = futures::future::join_all((0..20).map(|_| get(&fetched, &source))).await;
    assert!(results.iter().all(|result| result.as_deref() == Ok("s3cret of lb token; echo x")), "{results:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn a_command_is_run_again_when_its_value_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let fetched = FetchedValues::default();
    let source = command(&folder, "echo run >> runs; wc -l < runs", Duration::from_millis(50));
    assert_eq!(get(&fetched, &source).await.map(|value| value.trim().to_owned()), Ok("1".into()));
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(get(&fetched, &source).await.map(|value| value.trim().to_owned()), Ok("2".into()));
}

#[tokio::test]
async fn a_command_that_fails_shows_no_output() {
    let folder = tempfile::tempdir().unwrap();
    for (lines, reason) in [
        ("echo s3cret; echo s3cret >&2; exit 3", "failed: exit status: 3"),
        ("echo s3cret; echo s3cret", "it has more than one line"),
        ("exit 0", "it is empty"),
        ("exec head -c 70000 /dev/zero", "prints more than 65536 bytes"),
    ] {
        let error =
            get(&FetchedValues::default(), &command(&folder, lines, Duration::from_secs(60))).await.unwrap_err();
        assert!(error.contains(reason) && !error.contains("s3cret"), "{reason:?} is not in {error:?}");
    }
    let missing = SecretSource::Command { command: vec!["/no/such/program".into()], refresh: Duration::from_secs(60) };
    let error = get(&FetchedValues::default(), &missing).await.unwrap_err();
    assert!(error.contains("/no/such/program could not be run"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_never_ends_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let source = command(&folder, "exec sleep 1000", Duration::from_secs(60));
    let error = get(&FetchedValues::default(), &source).await.unwrap_err();
    assert!(error.contains("secret.sh did not answer in 10s"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_dropped_stops_no_fetch_and_begins_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let fetched = FetchedValues::default();
    let lines = "echo run >> runs; until [ -e go ]; do sleep 0.02; done; echo s3cret";
    let source = command(&folder, lines, Duration::ZERO);
    let runs = || std::fs::read_to_string(folder.path().join("runs")).unwrap_or_default();
    for _ in 0..5 {
        let asking = tokio::time::timeout(Duration::from_millis(1), get(&fetched, &source));
        asking.await.expect_err("the command waits");
    }
    while runs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        tokio::time::timeout(Duration::from_millis(1), get(&fetched, &source)).await.expect_err("the command waits");
    }
    assert_eq!(fetched.known(&source).now_or_never(), Some(Vec::new()), "nobody waits for the value of another call");
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(get(&fetched, &source).await.as_deref(), Ok("s3cret"));
    assert_eq!((runs().as_str(), fetched.known(&source).await), ("run\n", vec!["s3cret".to_owned()]));
}

#[tokio::test]
async fn what_a_server_may_still_have_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let fetched = FetchedValues::default();
    let next = "echo run >> runs; read -r next < next && echo $next";
    let source = command(&folder, next, Duration::ZERO);
    for value in ["one", "one", "two", "three"] {
        std::fs::write(folder.path().join("next"), format!("{value}\n")).unwrap();
        assert_eq!(get(&fetched, &source).await.as_deref(), Ok(value));
    }
    std::fs::remove_file(folder.path().join("next")).unwrap();
    get(&fetched, &source).await.unwrap_err();
    assert_eq!(fetched.known(&source).await, ["three", "two"], "a failure is no value, and changes none");

    let path = folder.path().join("file");
    let file = SecretSource::File(path.clone());
    let write = |value: &str| {
        std::fs::write(&path, value).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    assert_eq!(fetched.known(&file).await, Vec::<String>::new());
    write("one");
    assert_eq!(get(&fetched, &file).await.as_deref(), Ok("one"));
    write("two");
    assert_eq!(fetched.known(&file).await, ["two", "one"]);
    std::fs::remove_file(&path).unwrap();
    get(&fetched, &file).await.unwrap_err();
    assert_eq!(fetched.known(&file).await, ["two", "one"]);
    write(&"x".repeat(MAX_VALUE_BYTES + 1));
    get(&fetched, &file).await.unwrap();
    assert_eq!(fetched.known(&file).await, ["two", "one"], "no request contains it");
}

#[tokio::test]
async fn a_source_is_remembered_as_long_as_something_uses_rules_with_it() {
    let fetched = FetchedValues::default();
    let source = |value: &str| {
        let command = vec!["/bin/echo".to_owned(), value.to_owned()];
        SecretSource::Command { command, refresh: Duration::ZERO }
    };
    let rules = |values: &[&str]| {
        let secret = |value: &&str| {
            let secret =
                Secret { source: source(value), headers: Vec::new(), query: Vec::new(), body: true, http: Vec::new() };
            (value.parse().unwrap(), secret)
        };
        let secrets = Secrets(values.iter().map(secret).collect());
        let rules = Arc::new(Rules { secrets, ..Rules::default() });
        fetched.remember_for(&rules);
        rules
    };
    let (old, new) = (rules(&["A", "B"]), rules(&["B", "C"]));
    let known = async |value: &str| !fetched.known(&source(value)).await.is_empty();
    for value in ["A", "B", "C"] {
        get(&fetched, &source(value)).await.unwrap();
    }
    assert!(known("A").await && known("B").await && known("C").await);
    drop(old);
    let newest = rules(&["B", "D"]);
    get(&fetched, &source("D")).await.unwrap();
    assert!(!known("A").await && known("B").await && known("C").await && known("D").await);
    drop((new, newest));
}

/// A server that answers one request with this status and body, and its requests.
struct Vault {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

impl Vault {
    /// With an empty body, it never answers.
    async fn start(status: u16, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answer = if body.is_empty() { String::new() } else { answer };
        let vault = Self { address, requests: Arc::default(), count: Arc::default() };
        let (requests, count, tasks) = (vault.requests.clone(), vault.count.clone(), TaskTracker::new());
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tasks.spawn(serve(stream, answer.clone(), requests.clone(), count.clone())));
            }
        });
        vault
    }

    fn entry(&self, folder: &TempDir) -> SecretSource {
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "hvs.t0ken\n").unwrap();
        std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        SecretSource::Vault(VaultEntry {
            url: format!("{}/v1/secret/data/lb", self.address).parse().unwrap(),
            field: "token".into(),
            token_file,
            namespace: Some("team-a".into()),
            refresh: Duration::from_secs(60),
        })
    }
}

async fn serve(mut stream: TcpStream, answer: String, requests: Arc<Mutex<Vec<String>>>, count: Arc<AtomicUsize>) {
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(length) => received.extend_from_slice(&bytes[..length]),
        }
        if received.ends_with(b"\r\n\r\n") {
            requests.lock().unwrap().push(String::from_utf8(std::mem::take(&mut received)).unwrap());
            count.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The answer to a read of the API's page on the key-value store, version 2.
const ENTRY: &str = r#"{"request_id":"9c7a","lease_id":"","renewable":false,"lease_duration":0,
    "data":{"data":{"token":"s3cret","port":8080},"metadata":{"created_time":"2018-03-22T02:24:06.945319214Z",
    "custom_metadata":null,"deletion_time":"","destroyed":false,"version":2}},"wrap_info":null,"warnings":null,"auth":null}"#;

#[tokio::test]
async fn vault_is_asked_as_its_api_says_and_once_for_all_calls() {
    let (folder, vault) = (tempfile::tempdir().unwrap(), Vault::start(200, ENTRY).await);
    let (fetched, source) = (FetchedValues::default(), vault.entry(&folder));
    let results = futures::future::join_all((0..20).map(|_| get(&fetched, &source))).await;
    assert!(results.iter().all(|result| result.as_deref() == Ok("s3cret")), "{results:?}");
    assert_eq!(vault.count.load(Ordering::SeqCst), 1);
    let request = vault.requests.lock().unwrap().concat();
    assert!(request.starts_with("GET /v1/secret/data/lb HTTP/1.1\r\n"), "{request}");
    for header in ["x-vault-token: hvs.t0ken\r\n", "x-vault-namespace: team-a\r\n", "x-vault-request: true\r\n"] {
        assert!(request.contains(header), "{header} is not in {request}");
    }
}

#[tokio::test]
async fn what_vault_refuses_is_explained_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let deleted =
        r#"{"data":{"data":null,"metadata":{"deletion_time":"2024-01-01T00:00:00Z","version":2}},"token":"s3cret"}"#;
    let large = format!(r#"{{"data":{{"data":{{"token":"{}"}}}}}}"#, "x".repeat(MAX_ANSWER_BYTES));
    for (status, body, reason) in [
        (403, r#"{"errors":["permission denied s3cret"]}"#, "status 403: the token is not valid, or its policy"),
        (404, r#"{"errors":[]}"#, "status 404: there is no such entry"),
        (404, deleted, "its version was deleted"),
        (503, r#"{"errors":["Vault is sealed"]}"#, "status 503: it is sealed"),
        (500, r#"{"errors":["internal s3cret"]}"#, "status 500"),
        (429, r#"{"errors":["s3cret"]}"#, "status 429"),
        (307, "s3cret", "status 307"),
        (200, r#"{"data":{"token":"s3cret"}}"#, "is not of a key-value store of version 2"),
        (200, r#"{"data":{"data":{"other":"s3cret"}}}"#, "the entry has no field token"),
        (200, r#"{"data":{"data":{"token":["s3cret"]}}}"#, "the field token is no text"),
        (
            200,
            r#"{"data":{"data":{"token":"s3cret\nb"}}}"#,
            "the field token cannot be used: it has more than one line",
        ),
        (200, "s3cret", "its answer is no JSON"),
        (200, &large, "its answer has more than 1048576 bytes"),
    ] {
        let vault = Vault::start(status, body).await;
        let error = get(&FetchedValues::default(), &vault.entry(&folder)).await.unwrap_err();
        assert!(error.starts_with(&format!("Vault at {}", vault.address)), "{error}");
        assert!(error.contains(reason) && !error.contains("s3cret") && !error.contains("hvs"), "{reason:?}: {error}");
    }
}

#[tokio::test]
async fn a_failure_is_kept_for_a_moment() {
    let (folder, vault) = (tempfile::tempdir().unwrap(), Vault::start(503, r#"{"errors":["Vault is sealed"]}"#).await);
    let (fetched, source) = (FetchedValues::default(), vault.entry(&folder));
    for _ in 0..10 {
        assert!(get(&fetched, &source).await.is_err());
    }
    assert_eq!(vault.count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn vault_that_is_slow_or_away_is_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::start(200, "").await;
    let source = vault.entry(&folder);
    let (fetched, slow) = (FetchedValues::default(), source.clone());
    // The real time until the request has arrived, and then the timeout at once.
    let asking = get(&fetched, &slow);
    let slow = async {
        while vault.count.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::pause();
        tokio::time::advance(FETCH_TIMEOUT).await;
    };
    let (result, ()) = tokio::join!(asking, slow);
    assert!(result.unwrap_err().contains("did not answer in 10s"));
    tokio::time::resume();
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let error = get(&FetchedValues::default(), &source).await.unwrap_err();
    assert!(error.contains("the secret in ") && error.contains("token"), "{error}");
}
