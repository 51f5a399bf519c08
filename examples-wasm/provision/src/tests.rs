//! Tests the tasks as plain functions, with the answers of a cloud.

use std::cell::RefCell;

use waft_guest::http::{self, ErrorKind, Request, Response};

use super::*;

fn server() -> Server {
    Server { id: "srv-1".into(), address: "blog-1.eu-north.example".into() }
}

/// Answers all requests with a status and a body; returns what the test returns, and the requests.
fn answered<T>(status: u16, body: &str, test: impl FnOnce() -> T) -> (T, Vec<Request>) {
    thread_local!(static RECEIVED: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) });
    let body = body.to_owned();
    let answer = move |request: &Request| -> Result<Response, ErrorKind> {
        RECEIVED.with_borrow_mut(|received| received.push(request.clone()));
        Ok(Response::new(status, body.clone()))
    };
    let result = http::answer_with(answer, test);
    (result, RECEIVED.take())
}

#[test]
fn a_server_is_created_with_the_key_of_the_call_and_the_secret_token() {
    let call = Call { idempotency_key: "r.create-server.1".into(), ..Call::default() };
    let answer =
        r#"{"id":"srv-1","name":"blog","region":"eu-north","address":"blog-1.eu-north.example","protected":false}"#;
    let (created, requests) = answered(201, answer, || create_server(&call, "blog", None, None, None));
    let Created { server: created, ledger: Ledger(lines) } = created.unwrap();
    assert_eq!((created, lines), (server(), vec!["created srv-1 at blog-1.eu-north.example".into()]));
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((request.method(), request.url()), ("POST", "http://127.0.0.1:7480/v1/servers"));
    assert_eq!(request.find_header("idempotency-key"), Some("r.create-server.1"));
    assert_eq!(request.find_header("authorization"), Some("Bearer {{secret:CLOUD_TOKEN}}"));
    let body: serde_json::Value = serde_json::from_slice(request.body_bytes()).unwrap();
    assert_eq!(body, json!({ "name": "blog", "region": "eu-north", "protected": false }));
}

#[test]
fn each_step_adds_its_line_to_the_ledger() {
    let (lines, requests) = answered(201, "{}", || {
        let (call, server, cloud) = (Call::default(), server(), Some("http://cloud.example".to_owned()));
        let ledger = install_wordpress(&call, &server, Ledger::default(), None, None, cloud.clone()).unwrap();
        let ledger = add_to_load_balancer(&call, &server, ledger, None, cloud.clone()).unwrap();
        add_monitor(&call, &server, ledger, None, cloud).unwrap().0
    });
    assert_eq!(
        lines,
        [
            "installed WordPress 6.9 on srv-1",
            "added blog-1.eu-north.example to the load balancer",
            "watches blog-1.eu-north.example",
        ]
    );
    let urls: Vec<&str> = requests.iter().map(Request::url).collect();
    assert_eq!(
        urls,
        [
            "http://cloud.example/v1/servers/srv-1/wordpress",
            "http://cloud.example/v1/pools/web/addresses",
            "http://cloud.example/v1/servers/srv-1/monitors",
        ]
    );
}

#[test]
fn a_rollback_deletes_by_key_and_accepts_that_there_is_nothing() {
    let call = Call { idempotency_key: "r.create-server.1".into(), ..Call::default() };
    for status in [204, 404] {
        let (result, requests) = answered(status, "", || destroy_server(&call, None));
        result.unwrap();
        let [request] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(
            (request.method(), request.url()),
            ("DELETE", "http://127.0.0.1:7480/v1/requests/r.create-server.1")
        );
    }
    let (result, _) = answered(409, r#"{"error":"it is protected"}"#, || destroy_server(&call, None));
    let message = result.unwrap_err().to_string();
    assert!(message.contains("409") && message.contains("it is protected"), "{message}");
}
