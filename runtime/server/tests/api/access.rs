//! Tokens, origins, health, and the OpenAPI description.

use super::*;

#[tokio::test]
async fn only_health_is_public_without_a_token() {
    let harness = Harness::with(config(Some("secret"))).await;
    for path in ["/v1/runs", "/v1/health/checks", "/v1/openapi.json", "/metrics", "/v1/nothing", "/nothing"] {
        for authorization in [None, Some("Bearer wrong"), Some("Basic secret"), Some("secret")] {
            let mut request = harness.request(Method::GET, path);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.try_clone().unwrap().send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(problem(request).await.status, 401, "{path} {authorization:?}");
        }
    }
    let with_token = harness.request(Method::GET, "/v1/runs").bearer_auth("secret").send().await.unwrap();
    assert_eq!(with_token.status(), StatusCode::OK);
    for path in ["/health", "/ready"] {
        let response = harness.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let client = Client::new(&format!("http://{}", harness.address), Some("secret".into())).unwrap();
    client.list(&ListQuery::default()).await.unwrap();
    client.ready().await.unwrap();
}

#[tokio::test]
async fn only_a_valid_token_keeps_a_connection_open() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let harness = Harness::with(config(Some("secret"))).await;
    // Two requests at once, and the answers to them.
    let answers = async |head: &str, ends: bool| {
        let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        let last = if ends { String::new() } else { head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n") };
        stream.write_all(format!("{head}{head}{last}").as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        (answers.matches("HTTP/1.").count(), answers.to_lowercase().contains("connection: close"))
    };
    let origin = "origin: https://evil.example\r\n";
    let wrong = "authorization: Bearer wrong\r\n";
    for (path, headers) in [("/health", ""), ("/ready", ""), ("/v1/runs", ""), ("/v1/runs", wrong), ("/health", origin)]
    {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        assert_eq!(answers(&head, true).await, (1, true), "{path} {headers}");
    }
    let old = "GET /health HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    assert_eq!(answers(old, true).await, (1, true), "HTTP/1.0");
    for path in ["/v1/runs", "/v1/nothing", "/v1/runs/nobody"] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\n\r\n");
        assert_eq!(answers(&head, false).await.0, 3, "{path}");
    }
}

#[tokio::test]
async fn a_foreign_origin_is_rejected() {
    let harness = Harness::new().await;
    let foreign = harness.request(Method::POST, "/v1/runs/r1/cancel").header("origin", "https://evil.example");
    assert_eq!(problem(foreign).await.status, 403);
    let rebound = harness.request(Method::GET, "/v1/runs").header("host", "evil.example");
    assert_eq!(problem(rebound).await.status, 403);
    let own = harness.request(Method::GET, "/v1/runs").header("origin", format!("http://{}", harness.address));
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_page_of_another_origin_causes_no_request_to_a_server_without_a_token() {
    let harness = Harness::new().await;
    let from = |site: &str| harness.request(Method::GET, "/v1/runs").header("sec-fetch-site", site);
    for other in ["cross-site", "same-site"] {
        let refused = problem(from(other)).await;
        assert!(refused.status == 403 && refused.title.contains("another origin"), "{refused:?}");
    }
    for own in ["same-origin", "none"] {
        assert_eq!(from(own).send().await.unwrap().status(), StatusCode::OK, "{own}");
    }
}

async fn token(harness: &Harness, name: &str, scopes: &[Scope], expires_in: Option<u64>) -> String {
    let new = NewToken { name: name.into(), scopes: scopes.to_vec(), namespace: None, expires_in };
    harness.client().create_token(&new).await.unwrap().secret
}

#[tokio::test]
async fn a_token_allows_what_its_scopes_say() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let requests = [
        (Method::GET, "/v1/runs/r1", Scope::Read),
        (Method::GET, "/v1/health/checks", Scope::Read),
        (Method::POST, "/v1/runs", Scope::Submit),
        (Method::POST, "/v1/runs/r1/notify", Scope::Submit),
        (Method::POST, "/v1/runs/r1/edits", Scope::Operate),
        (Method::POST, "/v1/runs/r1/cancel", Scope::Operate),
        (Method::POST, "/v1/modules", Scope::Push),
        (Method::GET, "/metrics", Scope::Metrics),
        (Method::GET, "/v1/tokens", Scope::Admin),
        (Method::GET, "/v1/audit", Scope::Admin),
        (Method::DELETE, "/v1/tokens/nobody", Scope::Admin),
    ];
    for own in Scope::ALL {
        let secret = token(&harness, own.as_str(), std::slice::from_ref(&own), None).await;
        for (method, path, needed) in &requests {
            let request = harness.request(method.clone(), path).bearer_auth(&secret);
            let response = request.try_clone().unwrap().send().await.unwrap();
            if own == *needed || own == Scope::Admin {
                assert!(!matches!(response.status().as_u16(), 401 | 403), "{own} {method} {path}");
            } else {
                let problem = problem(request).await;
                assert_eq!(problem.status, 403, "{own} {method} {path}");
                let expected = format!("the token {own} has the scopes {own}, and this needs {needed}");
                assert_eq!(problem.detail, expected);
            }
        }
        let missing = harness.request(Method::GET, "/v1/nothing").bearer_auth(&secret).send().await.unwrap();
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_token_for_metrics_reads_nothing_else() {
    for server_token in [Some("secret"), None] {
        let config = Config { metrics_token: Token::new("scrape me"), ..config(server_token) };
        let harness = Harness::with(config).await;
        let get = |path: &str| harness.request(Method::GET, path).bearer_auth("scrape me");
        let scraped = get("/metrics").send().await.unwrap();
        assert_eq!(scraped.status(), StatusCode::OK);
        assert_eq!(scraped.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(scraped.text().await.unwrap().contains("waft_build_info{version="));
        assert_eq!(
            problem(get("/v1/runs")).await.detail,
            "the token (metrics token) has the scopes metrics, and this needs read"
        );
        assert_eq!(problem(get("/v1/tokens")).await.status, 403);
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_while_a_body_arrives_allows_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let harness = Harness::new().await;
    let secret = token(&harness, "leaver", &[Scope::Admin], None).await;
    let body = r#"{"name":"stays","scopes":["admin"]}"#;
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..5]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    harness.client().revoke_token("leaver").await.unwrap();
    stream.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(harness.client().tokens().await.unwrap().tokens.is_empty());
}

#[tokio::test]
async fn the_audit_log_says_who_asked_for_what() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let reader = token(&harness, "reader", &[Scope::Read], None).await;
    let operator = token(&harness, "operator", &[Scope::Operate], None).await;
    let send = async |secret: &str, method: Method, path: &str| {
        harness.request(method, path).bearer_auth(secret).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(&reader, Method::GET, "/v1/runs/r1").await, 200);
    assert_eq!(send(&reader, Method::POST, "/v1/runs/r1/suspend").await, 403);
    assert_eq!(send("waft_unknown", Method::POST, "/v1/runs/r1/suspend").await, 401);
    assert_eq!(send(&operator, Method::POST, "/v1/runs/r1/cancel").await, 200);
    assert_eq!(send(&operator, Method::POST, "/v1/runs/none/cancel").await, 404);
    assert_eq!(send(&operator, Method::GET, "/v1/audit").await, 403);
    harness.client().revoke_token("reader").await.unwrap();
    let expected = [
        ("(owner)", "revoke-token", Some("reader"), 204),
        ("operator", "read", None, 403),
        ("operator", "cancel", Some("none"), 404),
        ("operator", "cancel", Some("r1"), 200),
        ("reader", "suspend", Some("r1"), 403),
        ("(owner)", "create-token", Some("operator"), 201),
        ("(owner)", "create-token", Some("reader"), 201),
    ];
    // Entries are written in the background.
    let read = async |query: &AuditQuery| harness.client().audit(query).await.unwrap();
    let mut entries = read(&AuditQuery::default()).await.entries;
    while entries.len() < expected.len() {
        entries = read(&AuditQuery::default()).await.entries;
    }
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.caller.as_str(), entry.action.as_str(), entry.subject.as_deref(), entry.status))
        .collect();
    assert_eq!(shown, expected);
    assert!(entries.iter().all(|entry| entry.peer.starts_with("127.0.0.1:")), "{entries:?}");
    let of_run = AuditQuery { subject: Some("r1".into()), limit: Some(1), after: None };
    let first = read(&of_run).await;
    assert_eq!(first.entries[0].action, "cancel");
    let second = read(&AuditQuery { after: first.next, ..of_run }).await;
    assert_eq!((second.entries[0].action.as_str(), second.next), ("suspend", None));
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_audit_log() {
    use tokio::io::AsyncWriteExt as _;
    let harness = Harness::new().await;
    for number in 0..40 {
        let body = format!(r#"{{"name":"t{number}","scopes":["read"]}}"#);
        let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        let head = "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
        stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(50 * number)).await;
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }
    // A last request is behind the others.
    token(&harness, "last", &[Scope::Read], None).await;
    let query = AuditQuery { limit: Some(1_000), ..AuditQuery::default() };
    let started = std::time::Instant::now();
    loop {
        let made = harness.client().tokens().await.unwrap().tokens.len();
        let noted = harness.client().audit(&query).await.unwrap().entries.len();
        if made == noted && started.elapsed().as_millis() > 300 {
            break;
        }
        assert!(started.elapsed().as_secs() < 20, "{made} made, {noted} noted");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stopping_server_writes_the_rest_of_its_audit_log() {
    let logbook: Arc<dyn Logbook> = Arc::new(Memory::new());
    let harness = Harness::over(config(None), dependencies_over(logbook.clone()).await).await;
    for number in 0..20 {
        token(&harness, &format!("t{number}"), &[Scope::Read], None).await;
    }
    harness.stop.cancel();
    harness.serving.wait().await;
    let filter = logbook::AuditFilter { subject: None, before: None, limit: 100 };
    assert_eq!(logbook.audit(&filter).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_token_ends_when_it_expires_or_is_revoked() {
    let harness = Harness::with(config(Some("secret"))).await;
    let admin = Client::new(&format!("http://{}", harness.address), Some("secret".into())).unwrap();
    let make = async |name: &str, expires_in| {
        let new = NewToken { name: name.into(), scopes: vec![Scope::Read, Scope::Submit], namespace: None, expires_in };
        admin.create_token(&new).await
    };
    let status = async |secret: &str| {
        let response = harness.request(Method::GET, "/v1/runs").bearer_auth(secret).send().await.unwrap();
        response.status().as_u16()
    };
    let lasting = make("lasting", None).await.unwrap();
    assert!(lasting.secret.starts_with("waft_") && lasting.token.expires_at.is_none());
    let short = make("short", Some(1)).await.unwrap();
    assert_eq!(status(&lasting.secret).await, 200);
    assert_eq!(status(&format!("{}x", &lasting.secret[..lasting.secret.len() - 1])).await, 401);
    let taken = make("lasting", None).await.unwrap_err();
    let ClientError::Refused { problem, .. } = taken else { panic!("{taken}") };
    assert_eq!(problem.status, 409);
    let listed = admin.tokens().await.unwrap().tokens;
    let shown: Vec<(&str, String)> = listed
        .iter()
        .map(|token| (token.name.as_str(), token.scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(shown, [("lasting", "read submit".to_owned()), ("short", "read submit".to_owned())]);
    assert!(!serde_json::to_string(&listed).unwrap().contains(&lasting.secret));
    while status(&short.secret).await == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status(&short.secret).await, 401);
    let renewed = make("short", None).await.unwrap();
    assert_eq!((status(&short.secret).await, status(&renewed.secret).await), (401, 200), "its name is free again");
    admin.revoke_token("lasting").await.unwrap();
    assert_eq!(status(&lasting.secret).await, 401, "a server that revokes a token forgets it at once");
    assert!(admin.revoke_token("lasting").await.is_err());
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused() {
    let harness = Harness::new().await;
    for (body, detail) in [
        (r#"{"name":"a b","scopes":["read"]}"#, "is not a name"),
        (r#"{"name":"a","scopes":[]}"#, "one scope at least"),
        (r#"{"name":"a","scopes":["root"]}"#, "there is no scope \"root\""),
        (r#"{"name":"a","scopes":["read"],"expires_in":0}"#, "expires_in"),
        (r#"{"name":"a","scopes":["read"],"expires_in":99999999999999}"#, "expires_in"),
        (r#"{"name":"a","scopes":["read"],"uses":1}"#, "uses"),
    ] {
        let request = harness.request(Method::POST, "/v1/tokens").header("content-type", "application/json").body(body);
        let problem = problem(request).await;
        assert_eq!(problem.status, 400, "{body}");
        assert!(problem.detail.contains(detail), "{body}: {}", problem.detail);
    }
    assert!(harness.client().tokens().await.unwrap().tokens.is_empty());
    // Whoever has a wrong token does not become the user who started the server.
    let wrong = harness.request(Method::GET, "/v1/runs").bearer_auth("wrong");
    assert_eq!(problem(wrong).await.status, 401);
}

/// Only root can start a process of another user, so the test checks nothing if another user runs it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_without_a_token_serves_only_its_own_user() {
    use std::os::unix::fs::MetadataExt as _;
    const NOBODY: u32 = 65_534;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let answer = async |harness: &Harness, path: &str, user: u32| {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'GET {path} HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n' >&3; head -n 1 <&3",
            harness.address.port()
        );
        let mut shell = tokio::process::Command::new("/bin/bash");
        let output = shell.args(["-c", &script]).uid(user).current_dir("/").output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let open = Harness::new().await;
    assert_eq!(answer(&open, "/v1/runs", 0).await, "HTTP/1.1 200 OK");
    assert_eq!(answer(&open, "/v1/runs", NOBODY).await, "HTTP/1.1 403 Forbidden");
    assert_eq!(answer(&open, "/health", NOBODY).await, "HTTP/1.1 200 OK");
    let with_token = Harness::with(config(Some("secret"))).await;
    assert_eq!(answer(&with_token, "/v1/runs", NOBODY).await, "HTTP/1.1 401 Unauthorized");
}

#[tokio::test]
async fn a_public_server_needs_a_token() {
    let everywhere = |token| Config { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config(token) };
    assert!(matches!(Server::bind(everywhere(None)).await, Err(BindError::NoToken { .. })));
    assert!(Server::bind(everywhere(Some("secret"))).await.is_ok());
}

#[tokio::test]
async fn a_server_whose_engine_has_stopped_is_not_ready() {
    let harness = Harness::new().await;
    harness.engine.stop().await;
    assert_eq!(harness.problem(Method::GET, "/ready").await.status, 503);
    assert_eq!(harness.request(Method::GET, "/health").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_server_checks_its_dependencies() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let found = harness.client().checks().await.unwrap();
    assert_eq!(found.version, env!("CARGO_PKG_VERSION"));
    let outcome = |name: &str| found.checks.iter().find(|check| check.check == name).map(|check| check.outcome.clone());
    for name in ["engine", "broker", "quarantine", "runs"] {
        assert_eq!(outcome(name), Some(Outcome::Ok), "{name}: {:#?}", found.checks);
    }
    // No worker takes the run's job, and an in-memory logbook ends with the process.
    assert_eq!((outcome("queues"), outcome("logbook")), (Some(Outcome::Fail), Some(Outcome::Warn)));
    for check in &found.checks {
        let needs_advice = matches!(check.outcome, Outcome::Warn | Outcome::Fail);
        assert_eq!(check.advice.is_some(), needs_advice, "{check:?}");
    }
}

#[tokio::test]
async fn the_checked_in_openapi_matches_the_code() {
    let text = format!("{}\n", server::description().to_pretty_json().unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("WAFT_WRITE_OPENAPI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == text,
        "docs/openapi.json differs from the description that the code makes: write it again with \
         `WAFT_WRITE_OPENAPI=1 cargo nextest run -p waft-server the_checked`"
    );
}

#[tokio::test]
async fn a_token_that_only_submits_reads_no_run() {
    let harness = Harness::new().await;
    let secret = token(&harness, "ci", &[Scope::Submit], None).await;
    let only_submits = Client::new(&format!("http://{}", harness.address), Some(secret)).unwrap();
    let submitted = submission(WAITS).run("r").input("x", 1);
    let run = harness.client().submit(&submitted).await.unwrap();
    assert!(!run.tasks.is_empty() && serde_json::to_string(&run).unwrap().contains("\"x\""), "{run:?}");
    let again = only_submits.submit(&submitted).await.unwrap();
    assert_eq!((again.run.as_str(), &again.state), ("r", &RunState::Running));
    assert!(again.tasks.is_empty() && !serde_json::to_string(&again).unwrap().contains("\"x\""), "{again:?}");
}
