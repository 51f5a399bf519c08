//! Invalid requests: missing resources, filters and bodies.

use super::*;

#[tokio::test]
async fn a_missing_resource_is_a_problem() {
    let harness = Harness::new().await;
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/v1/nothing", 404),
        (Method::DELETE, "/v1/runs", 405),
        (Method::POST, "/health", 405),
        (Method::GET, "/v1/runs/nobody", 404),
        (Method::GET, "/v1/runs/nobody/events", 404),
        (Method::GET, "/v1/runs/nobody/logs", 404),
        (Method::POST, "/v1/runs/nobody/cancel", 404),
        (Method::GET, "/v1/runs/a%20b", 400),
        (Method::GET, "/v1/modules/nobody", 404),
        (Method::POST, "/v1/webhooks/nobody/test", 404),
        (Method::GET, "/v1/modules/a%20b", 400),
        (Method::POST, "/v1/modules?tag=a%20b", 400),
        (Method::POST, "/v1/modules", 422),
        (Method::POST, "/v1/runs", 415),
    ] {
        let problem = harness.problem(method.clone(), path).await;
        assert_eq!(problem.status, status, "{method} {path}: {problem:?}");
    }
}

#[tokio::test]
async fn an_invalid_filter_is_explained() {
    let harness = Harness::new().await;
    for (query, message) in [
        ("limit=0", "limit: 0"),
        ("limit=1001", "limit: 1001"),
        ("limit=x", "limit"),
        ("state=done", "\"done\" is no state"),
        ("since=yesterday", "\"yesterday\" is no time"),
        ("until=1", "\"1\" is no time"),
        ("flow=a%20b", "flow: "),
        ("after=x", "after: "),
        ("stat=running", "stat"),
    ] {
        let problem = harness.problem(Method::GET, &format!("/v1/runs?{query}")).await;
        assert!(problem.status == 400 && problem.detail.contains(message), "{query}: {problem:?}");
    }
    for (query, message) in
        [("limit=0", "limit: 0"), ("task=a%20b", "task: "), ("after=1", "after: "), ("tas=a", "tas")]
    {
        let problem = harness.problem(Method::GET, &format!("/v1/runs/nobody/logs?{query}")).await;
        assert!(problem.status == 400 && problem.detail.contains(message), "{query}: {problem:?}");
    }
}

#[tokio::test]
async fn an_invalid_body_is_explained() {
    let harness = Harness::new().await;
    let post = |body: &str| {
        let request = harness.request(Method::POST, "/v1/runs").header("content-type", "application/json");
        problem(request.body(body.to_owned()))
    };
    for (body, message) in [
        ("", "EOF"),
        ("{}", "missing field `flow`"),
        ("{\"flow\":\"\",\"flw\":1}", "unknown field `flw`"),
        ("{\"flow\":\"name = \\\"f\\\"\",\"run\":\"a b\"}", "run: \"a b\" is not a name"),
        (r#"{"flow":"","inputs":{"a b":1}}"#, "inputs: \"a b\""),
        (r#"{"flow":"","inputs":{"$bytes":{"a":"?"}}}"#, "inputs: \"a\": not base64"),
        (r#"{"flow":"","inputs":{"a":1,"$bytes":{"a":""}}}"#, "inputs: \"a\" is given twice"),
        (r#"["name = \"f\""]"#, "not an object"),
        (r#"{"flow":"","flow":""}"#, "key \"flow\" twice"),
        (r#"{"flow":"","inputs":{"a":1,"a":2}}"#, "key \"a\" twice"),
        (r#"{"flow":"","inputs":{"a":[{"b":1,"\u0062":2}]}}"#, "key \"b\" twice"),
        (r#"{"flow":"","modules":{"m":"x","m":"y"}}"#, "key \"m\" twice"),
    ] {
        let problem = post(body).await;
        assert!(problem.status == 400 && problem.detail.contains(message), "{body}: {problem:?}");
    }
    let large = format!("{{\"flow\":\"{}\"}}", "x".repeat(LARGEST as usize));
    assert_eq!(post(&large).await.status, 413);
    let module = harness.request(Method::POST, "/v1/modules").body(vec![0; LARGEST as usize + 1]);
    assert_eq!(problem(module).await.status, 413);
}

#[tokio::test]
async fn an_invalid_event_id_is_rejected() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let request = harness.request(Method::GET, "/v1/runs/r1/events").header("last-event-id", "x");
    assert_eq!(problem(request).await.status, 400);
}

#[tokio::test]
async fn a_large_question_about_grants_is_not_parsed() {
    let harness = Harness::over(Config { max_request_bytes: 16 << 20, ..config(None) }, dependencies().await).await;
    let question = |body: String| {
        let request = harness.request(Method::POST, "/v1/grants/explain");
        request.header("content-type", "application/json").body(body).send()
    };
    // It is no JSON either.
    let large = question("{".repeat((8 << 20) + 1)).await.unwrap();
    assert_eq!(large.status(), StatusCode::BAD_REQUEST);
    let problem: Problem = large.json().await.unwrap();
    assert_eq!(problem.detail, "the question has more than 8388608 bytes");
    let other = question("{".into()).await.unwrap().json::<Problem>().await.unwrap();
    assert!(other.detail.starts_with("the body: "), "{other:?}");
}
