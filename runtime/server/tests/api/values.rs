//! Values of clients: their kind, and references into the store.

use super::*;

/// JSON that looks like bytes, or like a reference to the store.
fn deceptive() -> Vec<String> {
    let reference = format!(r#"{{"digest":"sha256:{}","size":4,"form":"json"}}"#, "ab".repeat(32));
    vec![
        r#"["dGVzdA=="]"#.into(),
        r#"{"base64":"dGVzdA=="}"#.into(),
        format!("[{reference}]"),
        format!(r#"{{"$stored":{{"v":{reference}}}}}"#),
        r#"{"$bytes":{"v":"dGVzdA=="}}"#.into(),
        reference,
    ]
}

#[tokio::test]
async fn client_values_keep_their_kind() {
    let harness = Harness::new().await;
    let post = async |path: &str, body: String| {
        let request = harness.request(Method::POST, path).header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    };
    for (number, json) in deceptive().into_iter().enumerate() {
        let (run, flow) = (format!("r{number}"), serde_json::Value::from(WAITS));
        let inputs = format!(r#"{{"x":{json},"$bytes":{{"b":"AP8="}}}}"#);
        post("/v1/runs", format!(r#"{{"run":"{run}","flow":{flow},"inputs":{inputs}}}"#)).await;
        post(&format!("/v1/runs/{run}/notify"), format!(r#"{{"task":"w","values":{{"v":{json}}}}}"#)).await;
        let ended = harness.client().wait(&run).await.unwrap();
        assert_eq!(ended.inputs.to_text(), inputs);
        assert_eq!(ended.provides.to_text(), format!(r#"{{"v":{json}}}"#), "its inputs are not among them");
        let provided = ended.tasks[0].provides.as_ref().unwrap();
        assert_eq!(provided.to_text(), format!(r#"{{"v":{json}}}"#));
        let mut watch = harness.client().watch(&run);
        let mut last = String::new();
        while let Some(event) = watch.next().await.unwrap() {
            last = event.line;
        }
        assert!(last.contains(&format!(r#""inputs":{inputs},"provides":{{"v":{json}}}"#)), "{last}");
    }
}

#[tokio::test]
async fn a_client_cannot_give_a_reference_into_the_store() {
    let harness = Harness::new().await;
    let started = submission(WAITS).run("r");
    harness.client().submit(&started).await.unwrap();
    let flow = serde_json::Value::from(WAITS);
    let stored = format!(r#"{{"$stored":{{"v":{{"digest":"sha256:{}","size":4,"form":"json"}}}}}}"#, "ab".repeat(32));
    for (path, body) in [
        ("/v1/runs", format!(r#"{{"flow":{flow},"inputs":{stored}}}"#)),
        ("/v1/runs/r/notify", format!(r#"{{"task":"w","values":{stored}}}"#)),
    ] {
        let request = harness.request(Method::POST, path).header("content-type", "application/json");
        let problem = problem(request.body(body)).await;
        assert!(problem.status == 400 && problem.detail.contains("cannot be given"), "{problem:?}");
    }
}
