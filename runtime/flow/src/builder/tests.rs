//! A flow built in Rust is the flow of its file, and what is wrong in it is told as of a file.

use std::collections::BTreeMap;

use super::{Builder, Nested};
use crate::{
    Backoff, Digest, Draft, Json, LimitOverrides, ModuleContent, ModuleInfo, Otherwise, Pattern, RetryPolicy, Strategy,
    Value, Values, file, render, wire,
};

fn modules() -> BTreeMap<String, ModuleInfo> {
    [("m".into(), ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Command })].into()
}

const FILE: &str = r#"
    name = "f"
    pattern = "linear"
    retry = { times = 3, provides = "try", otherwise = "rollback-all" }
    [modules]
    m = "m.wasm"
    [inputs]
    size = 3
    [[task]]
    name = "mix"
    use = "m"
    requires = ["size", "try"]
    provides = ["batter", "bowl"]
    with = { speed = [1, 2] }
    retry = { attempts = 4, backoff = "fixed", initial = "200ms", max = "10s", jitter = false }
    timeout = "5s"
    memory = "1MiB"
    queue = "bowls"
    priority = 2
    max_running = 3
    rate = "100/m"
    rollback = true
    [[flow]]
    name = "pans"
    pattern = "unordered"
    retry = { for_each = [1, "two"], provides = "place" }
    [[flow.task]]
    name = "pan"
    use = "m"
    requires = { dough = "batter", where = "place" }
    provides = { pan = "first_pan" }
    [[flow.task]]
    name = "wash"
    use = "m"
    [[flow.link]]
    from = "wash"
    to = "pan"
    [[flow.flow]]
    name = "inner"
    retry = { always = "rollback" }
"#;

fn built() -> Draft {
    let retry = RetryPolicy {
        attempts: 4,
        backoff: Backoff::Fixed,
        initial: std::time::Duration::from_millis(200),
        max: std::time::Duration::from_secs(10),
        jitter: false,
    };
    let places = Strategy::ForEach(vec![Json::parse("1").unwrap(), Json::parse("\"two\"").unwrap()]);
    Draft::builder("f")
        .unwrap()
        .pattern(Pattern::Linear)
        .retry_as("try", Strategy::Times(3), Otherwise::RollbackAll)
        .module("m", "m.wasm")
        .input("size", Value::json(&3.into()))
        .task("mix", "m", |task| {
            task.requires_same(["size", "try"])
                .provides_same(["batter", "bowl"])
                .with("speed", Value::json(&[1, 2].into()))
                .retry(retry)
                .limits(LimitOverrides { memory: Some(1 << 20), ..LimitOverrides::default() })
                .timeout("5s")
                .queue("bowls")
                .priority(2)
                .max_running(3)
                .rate("100/m")
                .rollback(true)
        })
        .flow("pans", |flow| {
            flow.pattern(Pattern::Unordered)
                .retry_as("place", places, Otherwise::Rollback)
                .task("pan", "m", |task| {
                    task.requires("dough", "batter").requires("where", "place").provides("pan", "first_pan")
                })
                .task("wash", "m", |task| task)
                .link("wash", "pan")
                .flow("inner", |flow| flow.retry(Strategy::Always, Otherwise::Rollback))
        })
        .build()
}

#[test]
fn a_flow_built_in_rust_is_the_flow_of_its_file() {
    let from_file = file::parse(FILE).unwrap_or_else(|mistakes| panic!("{}", render(&mistakes, "f", FILE)));
    let flow = |draft| wire(draft, &modules(), &Values::new()).unwrap();
    assert_eq!(flow(&built()), flow(&from_file));
}

#[test]
fn what_is_no_name_or_no_duration_is_told_when_the_flow_is_wired() {
    let draft = Draft::builder("f")
        .unwrap()
        .input("a b", Value::json(&1.into()))
        .task("a b", "m", |task| task)
        .task("t", "m", |task| {
            task.requires("a.b", "c")
                .provides_same(["d/e"])
                .with("", Value::json(&1.into()))
                .timeout("5")
                .queue("q q")
                .max_running(0)
                .rate("ten/s")
        })
        .flow("n", |flow| flow.link("t", "ä").retry_as("x y", Strategy::Times(2), Otherwise::Rollback))
        .flow("", |flow| flow)
        .build();
    let mistakes = wire(&draft, &modules(), &Values::new()).unwrap_err();
    let told: Vec<&str> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
    let wanted = [
        "an input: \"a b\" is not a name",
        "a task: \"a b\" is not a name",
        "\"requires\" of task \"t\": \"a.b\" is not a name",
        "\"provides\" of task \"t\": \"d/e\" is not a name",
        "\"with\" of task \"t\": \"\" is not a name",
        "\"timeout\" of task \"t\": \"5\" is not a duration",
        "\"queue\" of task \"t\": \"q q\" is not a name",
        "\"max_running\" of task \"t\" is 0",
        "\"rate\" of task \"t\": \"ten/s\" is not a rate",
        "the target of a link: \"ä\" is not a name",
        "what a retry controller provides: \"x y\" is not a name",
        "a flow: \"\" is not a name",
    ];
    assert_eq!(told, wanted);
    assert_eq!(mistakes[5].hint.as_deref(), Some("write a whole number and ms, s, m, h or d, as in \"30s\""));
}

#[test]
fn the_name_of_the_whole_flow_is_asked_for_at_once() {
    assert_eq!(
        Draft::builder("bake a cake").unwrap_err().to_string(),
        "\"bake a cake\" is not a name: use 1 to 100 of the characters A-Z a-z 0-9 _ -"
    );
}

#[test]
fn a_retry_without_attempts_is_refused() {
    let retry = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    let draft = Draft::builder("f").unwrap().task("t", "m", |task| task.retry(retry)).build();
    let mistakes = wire(&draft, &modules(), &Values::new()).unwrap_err();
    assert_eq!(mistakes[0].message, "the retry of task \"t\" has no attempts");
}

#[test]
fn flows_nested_without_end_are_refused() {
    fn deeper(flow: Builder<Nested>, depth: usize) -> Builder<Nested> {
        if depth == 0 { flow } else { flow.flow(format!("n{depth}"), |flow| deeper(flow, depth - 1)) }
    }
    let draft = Draft::builder("f").unwrap().flow("n", |flow| deeper(flow, 63)).build();
    assert!(wire(&draft, &modules(), &Values::new()).is_ok());
    let draft = Draft::builder("f").unwrap().flow("n", |flow| deeper(flow, 200)).build();
    let mistakes = wire(&draft, &modules(), &Values::new()).unwrap_err();
    let told: Vec<&str> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
    assert_eq!(told, ["flow \"n137\" is nested more than 64 deep"]);
}
