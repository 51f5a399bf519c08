//! Tests that a flow built in Rust equals the flow of its file, with the same diagnostics.

use std::{collections::BTreeMap, time::Duration};

use super::{Builder, NestedFlow};
use crate::{
    Backoff, Diagnostic, Digest, Draft, Join, Json, LimitOverrides, MissedPolicy, ModuleContent, ModuleInfo, Otherwise,
    OverlapPolicy, Pattern, RetryPolicy, SourceOutcome, StartTime, Strategy, Timestamp, Value, Values, file, render,
    wire,
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
    delivery_limit = 9
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
    [[flow.flow.task]]
    name = "dry"
    use = "m"
"#;

fn built() -> Draft {
    let retry = RetryPolicy {
        attempts: 4,
        backoff: Backoff::Fixed,
        initial: Duration::from_millis(200),
        max: Duration::from_secs(10),
        jitter: false,
    };
    let sizes = Strategy::ForEach(vec![Json::parse("1").unwrap(), Json::parse("\"two\"").unwrap()]);
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
                .delivery_limit(9)
                .rollback(true)
        })
        .flow("pans", |flow| {
            flow.pattern(Pattern::Unordered)
                .retry_as("place", sizes, Otherwise::Rollback)
                .task("pan", "m", |task| {
                    task.requires("dough", "batter").requires("where", "place").provides("pan", "first_pan")
                })
                .task("wash", "m", |task| task)
                .link("wash", "pan")
                .flow("inner", |flow| flow.retry(Strategy::Always, Otherwise::Rollback).task("dry", "m", |task| task))
        })
        .build()
}

#[test]
fn a_flow_built_in_rust_is_the_flow_of_its_file() {
    let from_file = file::parse(FILE).unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, "f", FILE)));
    let flow = |draft| wire(draft, &modules(), &Values::new()).unwrap();
    assert_eq!(flow(&built()), flow(&from_file));
}

const PERSISTENT_FLOW: &str = r#"
    name = "f"
    persistent = true
    cyclic = true
    max_firings = 7
    max_parallel = 3
    start_at = 2027-01-31T08:00:00+01:00
    expires = "2d"
    [modules]
    m = "m.wasm"
    [[task]]
    name = "approve"
    wait = "approval"
    provides = ["by"]
    deadline = "1h"
    [[flow]]
    name = "later"
    start_after = "30m"
    [[flow.task]]
    name = "ship"
    use = "m"
    [[task]]
    name = "add"
    use = "m"
    requires = ["ip"]
    [[link]]
    from = "add"
    to = "add"
    join = "any"
    [[listen]]
    flow = "servers"
    task = "kick"
    to = "add"
    [[listen]]
    flow = "servers"
    task = "kick"
    on = "failure"
    to = "approve"
    [[schedule]]
    cron = "0 3 * * *"
    to = "add"
    [[schedule]]
    cron = "*/5 * * * *"
    zone = "Europe/Berlin"
    overlap = "queue"
    missed = "all"
    to = "add"
"#;

#[test]
fn a_persistent_flow_built_in_rust_equals_its_file() {
    let eight_in_berlin = Timestamp::from_micros(1_801_378_800_000_000);
    let built = Draft::builder("f")
        .unwrap()
        .persistent()
        .cyclic()
        .max_firings(7)
        .max_parallel(3)
        .starts(StartTime::At(eight_in_berlin))
        .expires(Duration::from_secs(2 * 86_400))
        .module("m", "m.wasm")
        .wait("approve", "approval", |task| task.provides_same(["by"]).deadline(Duration::from_secs(3_600)))
        .flow("later", |flow| flow.starts(StartTime::After(Duration::from_secs(1_800))).task("ship", "m", |task| task))
        .task("add", "m", |task| task.requires_same(["ip"]))
        .link_with("add", "add", |link| link.join(Join::Any))
        .listen("servers", "kick", "add")
        .listen_on("servers", "kick", SourceOutcome::Failure, "approve")
        .schedule("0 3 * * *", "add")
        .schedule_with("*/5 * * * *", "add", |schedule| {
            schedule.zone("Europe/Berlin").overlap(OverlapPolicy::Queue).missed(MissedPolicy::All)
        })
        .build();
    let from_file = file::parse(PERSISTENT_FLOW)
        .unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, "f", PERSISTENT_FLOW)));
    assert_eq!(file::write(&built).unwrap(), file::write(&from_file).unwrap());
    let flow = |draft| wire(draft, &modules(), &Values::new());
    let messages =
        |diagnostics: Vec<Diagnostic>| diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>();
    assert_eq!(flow(&built).map_err(messages), flow(&from_file).map_err(messages));
}

#[test]
fn firing_limits_are_checked_in_files_and_in_the_builder() {
    let draft = Draft::builder("f")
        .unwrap()
        .max_firings(0)
        .max_parallel(10_001)
        .listen("a b", "t", "t")
        .schedule_with("0 3 * * *", "t", |schedule| schedule.zone("Mars"))
        .schedule(vec!["0"; 1_000].join(","), "t")
        .build();
    let diagnostics = wire(&draft, &modules(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    let expected = [
        "\"max_firings\" of the flow is 0",
        "\"max_parallel\" of the flow is 10001",
        "the flow that is listened to: \"a b\" is not a name",
        "a schedule: there is no time zone \"Mars\"",
        "a schedule: the cron line has 1999 bytes",
    ];
    assert_eq!(messages, expected);
    let each =
        |max| Draft::builder("f").unwrap().task("a", "m", |task| task.for_each("l", "item").max_parallel(max)).build();
    let diagnostics = wire(&each(10_001), &modules(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert!(messages.contains(&"\"max_parallel\" of task \"a\" is 10001"), "{messages:?}");
    let once = Draft::builder("f").unwrap().max_firings(2).build();
    let diagnostics = wire(&once, &modules(), &Values::new()).unwrap_err();
    assert_eq!(diagnostics[0].message, "the flow fires once, and sets max_firings");
}

#[test]
fn the_parallel_calls_of_a_list_are_checked_in_the_builder() {
    let diagnostics = |max: u32| {
        let list = [Json::from(&serde_json::json!(1))];
        let task = |task: super::TaskBuilder| task.for_each_of(list, "item").max_parallel(max);
        let draft = Draft::builder("f").unwrap().module("m", "m.wasm").task("t", "m", task).build();
        wire(&draft, &modules(), &Values::new()).err().unwrap_or_default()
    };
    for (max, is_refused) in [(0, true), (1, false), (10_000, false), (10_001, true)] {
        let message = format!("\"max_parallel\" of task \"t\" is {max}");
        assert_eq!(diagnostics(max).iter().any(|diagnostic| diagnostic.message == message), is_refused, "{max}");
    }
}

#[test]
fn invalid_names_and_durations_are_reported_when_the_flow_is_wired() {
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
    let diagnostics = wire(&draft, &modules(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    let expected = [
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
    assert_eq!(messages, expected);
    assert_eq!(diagnostics[5].hint.as_deref(), Some("write a whole number and ms, s, m, h or d, as in \"30s\""));
}

#[test]
fn an_invalid_flow_name_is_rejected_immediately() {
    assert_eq!(
        Draft::builder("bake a cake").unwrap_err().to_string(),
        "\"bake a cake\" is not a name: use 1 to 100 of the characters A-Z a-z 0-9 _ -"
    );
}

#[test]
fn a_retry_without_attempts_is_refused() {
    let retry = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
    let draft = Draft::builder("f").unwrap().task("t", "m", |task| task.retry(retry)).build();
    let diagnostics = wire(&draft, &modules(), &Values::new()).unwrap_err();
    assert_eq!(diagnostics[0].message, "the retry of task \"t\" has no attempts");
}

#[test]
fn flows_nested_too_deeply_are_rejected() {
    fn deeper(flow: Builder<NestedFlow>, depth: usize) -> Builder<NestedFlow> {
        if depth == 0 { flow } else { flow.flow(format!("n{depth}"), |flow| deeper(flow, depth - 1)) }
    }
    let draft = Draft::builder("f").unwrap().flow("n", |flow| deeper(flow, 63)).build();
    assert!(wire(&draft, &modules(), &Values::new()).is_ok());
    let draft = Draft::builder("f").unwrap().flow("n", |flow| deeper(flow, 200)).build();
    let diagnostics = wire(&draft, &modules(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["flow \"n137\" is nested more than 64 deep"]);
}
