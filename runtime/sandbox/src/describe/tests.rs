//! Invalid descriptions.

use super::*;

fn parameter(name: &str) -> description::Parameter {
    description::Parameter { name: name.into(), doc: String::new(), schema: None, optional: false }
}

fn provided(name: &str) -> description::Provided {
    description::Provided { name: name.into(), doc: String::new(), schema: None }
}

fn task(name: &str) -> description::TaskInfo {
    description::TaskInfo {
        name: name.into(),
        doc: "Bakes.".into(),
        requires: vec![parameter("pan")],
        provides: vec![provided("cake")],
        rollback: None,
        retry: None,
        limits: description::Limits { timeout_milliseconds: None, memory_bytes: None },
    }
}

fn invalid_reason(tasks: Vec<description::TaskInfo>) -> String {
    content(tasks).unwrap_err()
}

#[test]
fn a_valid_description_is_accepted() {
    let retry = description::Retry {
        attempts: 4,
        backoff: description::Backoff::Fixed,
        initial_milliseconds: 200,
        max_milliseconds: 1_000,
        jitter: true,
    };
    let schema = Some("{\"type\": \"integer\"}".into());
    let description = description::TaskInfo {
        requires: vec![description::Parameter { schema, optional: true, ..parameter("pan") }],
        rollback: Some(vec![parameter("reason")]),
        retry: Some(retry),
        limits: description::Limits { timeout_milliseconds: Some(30_000), memory_bytes: Some(1 << 20) },
        ..task("bake")
    };
    let [task] = content(vec![description]).unwrap().try_into().unwrap();
    assert_eq!(task.requires[0].schema.as_ref().unwrap().as_str(), "{\"type\": \"integer\"}");
    assert!(task.requires[0].optional);
    let Rollback::Guest { requires } = task.rollback else { panic!("it has a rollback") };
    assert_eq!(requires[0].name.as_str(), "reason");
    let policy = task.retry.unwrap();
    assert_eq!((policy.attempts, policy.backoff, policy.initial), (4, Backoff::Fixed, Duration::from_millis(200)));
    assert_eq!((task.limits.timeout, task.limits.memory), (Some(Duration::from_secs(30)), Some(1 << 20)));
}

#[test]
fn invalid_and_duplicate_names_are_rejected() {
    assert!(invalid_reason(vec![task("a cake")]).starts_with("it has a task whose name \"a cake\" is not a name"));
    assert_eq!(invalid_reason(vec![task("bake"), task("bake")]), "it has two tasks named bake");
    let twice = description::TaskInfo { requires: vec![parameter("pan"), parameter("pan")], ..task("bake") };
    assert_eq!(invalid_reason(vec![twice]), "its task bake requires pan twice");
    let twice = description::TaskInfo { provides: vec![provided("cake"), provided("cake")], ..task("bake") };
    assert_eq!(invalid_reason(vec![twice]), "its task bake provides cake twice");
    let unnamed = description::TaskInfo { provides: vec![provided("")], ..task("bake") };
    assert!(invalid_reason(vec![unnamed]).starts_with("its task bake provides a value whose name \"\" is not a name"));
    let duplicate = description::TaskInfo { rollback: Some(vec![parameter("pan")]), ..task("bake") };
    assert_eq!(invalid_reason(vec![duplicate]), "its task bake requires pan for apply and for rollback");
}

#[test]
fn invalid_schemas_and_numbers_are_rejected() {
    let schema = |text: &str| description::TaskInfo {
        requires: vec![description::Parameter { schema: Some(text.into()), ..parameter("pan") }],
        ..task("bake")
    };
    assert!(
        invalid_reason(vec![schema("{")]).starts_with("its task bake has a schema for pan that is not a JSON value")
    );
    assert_eq!(
        invalid_reason(vec![schema("7")]),
        "its task bake has a schema for pan that is neither an object nor true or false"
    );
    let retry = description::Retry {
        attempts: 0,
        backoff: description::Backoff::Fixed,
        initial_milliseconds: 0,
        max_milliseconds: 0,
        jitter: false,
    };
    assert_eq!(
        invalid_reason(vec![description::TaskInfo { retry: Some(retry), ..task("bake") }]),
        "its task bake requests 0 attempts"
    );
    let limits = description::Limits { timeout_milliseconds: Some(0), memory_bytes: None };
    assert_eq!(
        invalid_reason(vec![description::TaskInfo { limits, ..task("bake") }]),
        "its task bake requests a timeout of 0"
    );
}

#[test]
fn oversized_descriptions_are_rejected() {
    let oversized = description::TaskInfo { requires: vec![parameter("pan"); MAX_ITEMS + 1], ..task("bake") };
    assert_eq!(invalid_reason(vec![oversized]), "its task bake has 1001 parameters, the limit is 1000");
    let tasks = (0..=MAX_ITEMS).map(|index| task(&format!("bake-{index}"))).collect();
    assert_eq!(invalid_reason(tasks), "has 1001 tasks, the limit is 1000");
}
