//! Notifications are compared with schemas in the server, before the engine has them.

use super::*;

/// A task that waits for a value, and one whose module lists all values that it takes: too many for an engine to read.
fn flow_with_large_schema() -> Arc<Flow> {
    let values: Vec<String> = (0..20_000).map(|number| format!("\"{number}\"")).collect();
    let schema = flow::Json::parse(format!("{{\"enum\": [{}]}}", values.join(","))).unwrap();
    let parameter =
        flow::Parameter { name: "v".parse().unwrap(), doc: String::new(), schema: Some(schema), optional: false };
    let text = "name = \"f\"\n[modules]\nm = \"m\"\n[[task]]\nname = \"ask\"\nwait = \"somebody\"\n\
                provides = [\"answer\"]\n[[task]]\nname = \"t\"\nuse = \"m\"\nrequires = { v = \"answer\" }\n";
    flow_with(text, vec![parameter])
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused_even_if_an_engine_could_not_check_them() {
    let harness = Harness::new().await;
    let flow = flow_with_large_schema();
    let ask = flow.indices().find(|index| flow.node(*index).name.as_str() == "ask").unwrap();
    let values = Values::from([("answer".parse().unwrap(), flow::Value::json(&"x".into()))]);
    assert_eq!(flow.wait_mismatch(ask, &values), None, "the engine would accept it");
    harness.engine.submit(RunId::new("r").unwrap(), flow).await.unwrap();
    let client = harness.client();
    let problem = refusal(client.notify("r", &Notification::of("ask").value("answer", "x").key("k")).await);
    assert_eq!(problem.status, 409, "{problem:?}");
    assert!(problem.detail.contains("\"answer\" does not fit task \"t\""), "{problem:?}");
    client.notify("r", &Notification::of("ask").value("answer", "7").key("k")).await.unwrap();
    // It was received, so the values of a repetition do not matter.
    client.notify("r", &Notification::of("ask").value("answer", "x").key("k")).await.unwrap();
    let problem = refusal(client.notify("r", &Notification::of("ask").value("answer", "7")).await);
    assert!(problem.detail.contains("does not wait now"), "{problem:?}");
}
