//! Tests the cloud of the examples: what it has stored survives its death, and a key makes one thing only.

use std::thread;

use serde_json::{Value, json};
use waft_tests::Cloud;

const BLOG: &str = r#"{"name":"blog","region":"eu-north"}"#;

/// The ids of the servers that exist.
fn servers(cloud: &Cloud) -> Vec<Value> {
    let answer = cloud.request("GET", "/v1/servers", &[], "").expect("it answers").json();
    answer["servers"].as_array().expect("a list").iter().map(|server| server["id"].clone()).collect()
}

#[test]
fn a_killed_cloud_knows_its_servers_and_keys_again() {
    let mut cloud = Cloud::start(&[]);
    let key = ["idempotency-key: r.create-server.1"];
    let made = cloud.request("POST", "/v1/servers", &key, BLOG).expect("it answers");
    assert_eq!(made.status, 201);
    let expected = json!({
        "id": "srv-1", "name": "blog", "region": "eu-north", "address": "blog-1.eu-north.example", "protected": false,
    });
    assert_eq!(made.json(), expected);
    for _ in 0..2 {
        cloud.restart(&[]);
        let again = cloud.request("POST", "/v1/servers", &key, BLOG).expect("it answers");
        assert_eq!((again.status, again.json()), (201, expected.clone()));
    }
    assert_eq!((servers(&cloud), cloud.ledger().len()), (vec![json!("srv-1")], 1));
    // Another request with the same key is a mistake of its client.
    let other = cloud.request("POST", "/v1/servers", &key, &BLOG.replace("blog", "shop")).expect("it answers");
    assert_eq!(other.status, 422);
    // Without a key, each request makes a server.
    cloud.request("POST", "/v1/servers", &[], BLOG).expect("it answers");
    assert_eq!(servers(&cloud), ["srv-1", "srv-2"]);
    let taken_back =
        |cloud: &Cloud| cloud.request("DELETE", "/v1/requests/r.create-server.1", &[], "").expect("it answers");
    assert_eq!(taken_back(&cloud).status, 204);
    cloud.restart(&[]);
    assert_eq!((taken_back(&cloud).status, servers(&cloud)), (404, vec![json!("srv-2")]));
}

#[test]
fn requests_at_the_same_time_with_the_same_key_make_one_server() {
    let cloud = Cloud::start(&["--slow", "50"]);
    let client = cloud.client();
    let make = || client.request("POST", "/v1/servers", &["idempotency-key: k"], BLOG).expect("it answers").json();
    let made: Vec<Value> = thread::scope(|scope| {
        let requests: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        requests.into_iter().map(|request| request.join().expect("it is answered")).collect()
    });
    assert!(made.iter().all(|server| server["id"] == "srv-1"), "{made:?}");
    assert_eq!(servers(&cloud), ["srv-1"]);
}

#[test]
fn a_flaky_cloud_is_busy_or_loses_the_answer_after_its_work() {
    let mut cloud = Cloud::start(&["--flaky", "100", "--seed", "3"]);
    let (mut busy, mut lost) = (0, 0);
    for number in 0..20 {
        let key = format!("k{number}");
        match cloud.request("POST", "/v1/servers", &[&format!("idempotency-key: {key}")], BLOG) {
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
                assert_eq!(cloud.made("server", &key, true).len(), 0, "nothing was done");
                busy += 1;
            }
            Err(_) => {
                assert_eq!(cloud.made("server", &key, true).len(), 1, "the work was done");
                lost += 1;
            }
        }
    }
    assert!(busy > 0 && lost > 0, "{busy} were busy, and {lost} were lost");
    // On a better day, each client tries again with its key, and has its server.
    cloud.restart(&[]);
    for number in 0..20 {
        let key = format!("idempotency-key: k{number}");
        assert_eq!(cloud.request("POST", "/v1/servers", &[&key], BLOG).expect("it answers").status, 201);
    }
    assert_eq!(servers(&cloud).len(), 20);
}

#[test]
fn the_work_goes_on_when_a_client_leaves() {
    let mut cloud = Cloud::start(&["--slow", "200"]);
    cloud.client().send_and_leave("POST", "/v1/servers", "idempotency-key: gone", BLOG);
    cloud.process().wait_for("201 for POST /v1/servers with the key gone");
    assert_eq!(servers(&cloud), ["srv-1"]);
    // A request that takes it back comes after it, although it arrives while the server is being made.
    cloud.client().send_and_leave("POST", "/v1/servers", "idempotency-key: late", BLOG);
    cloud.process().wait_for("received POST /v1/servers with the key late");
    assert_eq!(cloud.request("DELETE", "/v1/requests/late", &[], "").expect("it answers").status, 204);
    assert_eq!(servers(&cloud), ["srv-1"]);
}

#[test]
fn a_request_that_cannot_succeed_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("poem.txt"), "the end").expect("it can be written");
    let cloud = Cloud::start(&["--files", folder.path().to_str().expect("the path is text")]);
    let refused = |header: &str| cloud.client().send("POST", "/v1/servers", &[header], BLOG).expect("it answers");
    for header in ["x: y", "authorization: Basic t0ken-of-the-cloud-in-tests", "authorization: Bearer wrong"] {
        let answer = refused(header);
        assert_eq!((answer.status, answer.body.contains("CLOUD_TOKEN")), (401, true), "{header}: {answer:?}");
    }
    for (method, path, body, status, error) in [
        ("POST", "/v1/server", BLOG, 404, "there is no POST /v1/server"),
        ("POST", "/v1/servers", "{}", 422, "the body is not the expected JSON: missing field `name`"),
        ("POST", "/v1/servers", r#"{"name":"a b","region":"r"}"#, 422, "the name of a server has 1 to 63 of"),
        ("DELETE", "/v1/servers/srv-9", "", 404, "there is no server srv-9"),
        ("GET", "/v1/orders?day=2026-03-01&page=6", "", 404, "the orders of 2026-03-01 have no page 6"),
        ("GET", "/v1/orders?page=1", "", 422, "missing field `day`"),
        ("GET", "/files/prose.txt", "", 404, "there is no file prose.txt"),
    ] {
        let answer = cloud.request(method, path, &[], body).expect("it answers");
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.json()["error"].as_str().is_some_and(|text| text.contains(error)), "{error}: {answer:?}");
    }
    assert_eq!(cloud.ledger().len(), 0);
    // Files need no token.
    assert_eq!(cloud.client().send("GET", "/files/poem.txt", &[], "").expect("it answers").body, "the end");
}

#[test]
fn a_wrong_start_says_what_to_do() {
    let cloud = Cloud::start(&[]);
    let failed = |arguments: &[&str], token: &str| {
        let output = cloud.command().args(arguments).env("CLOUD_TOKEN", token).output().expect("it starts");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("it prints UTF-8")
    };
    let token = waft_tests::CLOUD_TOKEN;
    assert!(failed(&[], "short").contains("CLOUD_TOKEN needs at least 16 characters"));
    assert!(failed(&[], token).contains("another cloud uses the ledger"));
    assert!(failed(&["--flaky", "101"], token).contains("--flaky"));
}
