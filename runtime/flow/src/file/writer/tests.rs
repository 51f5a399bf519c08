//! Tests that a written flow is read as the same draft, and that inexpressible drafts are reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{WriteError, write, write_addition};
use crate::{
    Access, Backoff, DirectoryUse, Draft, Edit, Join, Json, LimitOverrides, Memo, MissedPolicy, Otherwise,
    OverlapPolicy, Pace, Pattern, Recording, RetryPolicy, SettingName, SkipReach, SourceOutcome, StartTime, Strategy,
    Timestamp, Value,
    builder::{Builder, LinkBuilder, TaskBuilder},
    draft::{
        DraftFlow, DraftForEach, DraftLink, DraftListener, DraftNode, DraftSchedule, DraftTask, DraftTriggers,
        FlowBody, LinkSpans, ModuleReference,
    },
    file::parse,
    seeded_rng::SeededRng,
};

fn without_spans(body: FlowBody) -> FlowBody {
    let node = |node| match node {
        DraftNode::Task(task) => DraftNode::Task(Box::new(DraftTask { spans: BTreeMap::new(), ..*task })),
        DraftNode::Flow(flow) => DraftNode::Flow(DraftFlow { span: None, body: without_spans(flow.body), ..flow }),
    };
    FlowBody {
        nodes: body.nodes.into_iter().map(node).collect(),
        links: body.links.into_iter().map(|link| DraftLink { spans: LinkSpans::default(), ..link }).collect(),
        controller: body.controller.map(|controller| crate::draft::DraftController { span: None, ..controller }),
        ..body
    }
}

/// A draft as text, without its spans.
fn normalized(draft: Draft) -> String {
    let module = |(alias, module)| (alias, ModuleReference { span: None, ..module });
    let draft = Draft {
        modules: draft.modules.into_iter().map(module).collect(),
        input_spans: BTreeMap::new(),
        body: without_spans(draft.body),
        triggers: DraftTriggers { spans: BTreeMap::new(), ..draft.triggers },
        listeners: draft.listeners.into_iter().map(|listener| DraftListener { span: None, ..listener }).collect(),
        schedules: draft.schedules.into_iter().map(|schedule| DraftSchedule { span: None, ..schedule }).collect(),
        ..draft
    };
    format!("{draft:#?}")
}

#[track_caller]
fn round_trips(draft: Draft) -> String {
    let text = write(&draft).unwrap_or_else(|error| panic!("{error}: {draft:#?}"));
    let parsed = parse(&text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{text}"));
    assert_eq!(normalized(parsed), normalized(draft), "{text}");
    text
}

/// The flows of the repository: the examples, the output of `waft new`, and the flows in the documents.
fn flows() -> Vec<String> {
    let files = [
        include_str!("../../../../../examples-wasm/kitchen/flow.toml"),
        include_str!("../../../../../examples-wasm/text/flow.toml"),
        include_str!("../../../../../examples-wasm/shout/flow.toml"),
        include_str!("../../../../../examples-wasm/provision/flow.toml"),
        include_str!("../../../../../examples-wasm/etl/flow.toml"),
        include_str!("../../../../../examples-wasm/etl/nightly.toml"),
        include_str!("../../../../cli/template/flow.toml"),
        include_str!("../../../../../docs/flows/client.toml"),
        include_str!("../../../../../docs/flows/create-server.toml"),
        include_str!("../../../../../docs/flows/cycles.toml"),
        include_str!("../../../../../docs/flows/edits.toml"),
        include_str!("../../../../../docs/flows/for-each.toml"),
        include_str!("../../../../../docs/flows/from-celery.toml"),
        include_str!("../../../../../docs/flows/join.toml"),
        include_str!("../../../../../docs/flows/links.toml"),
        include_str!("../../../../../docs/flows/load-balancer.toml"),
        include_str!("../../../../../docs/flows/people-and-time.toml"),
        include_str!("../../../../../docs/flows/persistent-flows.toml"),
        include_str!("../../../../../docs/flows/schedules.toml"),
        include_str!("../../../../../docs/flows/workers.toml"),
    ];
    let documents = [include_str!("../../../../../README.md"), include_str!("../../../../../docs/flow-file.md")];
    let blocks = documents.iter().flat_map(|document| document.split("```toml\n").skip(1));
    let blocks = blocks
        .map(|rest| rest.split("```").next().unwrap())
        // The settings of an operator are not a flow.
        .filter(|block| !block.contains("[[grant]]"))
        .map(|block| if block.starts_with("name") { block.to_owned() } else { format!("name = \"f\"\n{block}") });
    let files = files.into_iter().map(|file| file.replace("{{name}}", "n").replace("{{crate}}", "c"));
    files.chain(blocks).collect()
}

#[test]
fn every_flow_of_the_repository_round_trips() {
    let flows = flows();
    assert!(flows.len() > 10);
    for flow in flows {
        round_trips(parse(&flow).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}\n{flow}")));
    }
}

#[test]
fn every_readable_flow_of_the_test_tables_round_trips() {
    let tables = [
        include_str!("../diagnostics.txt"),
        include_str!("../../wire/diagnostics.txt"),
        include_str!("../../wire/sources.txt"),
    ];
    let cases = tables.iter().flat_map(|table| table.split("=== ").skip(1));
    let flows = cases.map(|case| case.split_once('\n').unwrap().1.split("---\n").next().unwrap());
    let parsed: Vec<Draft> = flows.filter_map(|flow| parse(flow).ok()).collect();
    assert!(parsed.len() > 50, "{}", parsed.len());
    parsed.into_iter().for_each(|draft| drop(round_trips(draft)));
}

/// A random JSON text in the reader's form: without spaces, and with sorted keys.
fn random_json(rng: &mut SeededRng, depth: usize) -> String {
    let text = |rng: &mut SeededRng| {
        let texts = ["", "a", "a b", "ä€", "\"'\\", "\n\r\t", "\u{0}\u{1b}\u{7f}", "#", "'''", "null", "1.5"];
        serde_json::Value::from(rng.pick(&texts)).to_string()
    };
    match rng.below(if depth < 4 { 8 } else { 6 }) {
        0 | 1 => text(rng),
        2 => rng.pick(&["true", "false"]).into(),
        3 => rng.pick(&["0", "-1", "18446744073709551615", "-9223372036854775808"]).into(),
        4 | 5 => rng.pick(&["0.10000000000000000001", "-0.0", "1e5", "2.5E+3", "1e-300"]).into(),
        6 => {
            let elements: Vec<String> = (0..rng.below(4)).map(|_| random_json(rng, depth + 1)).collect();
            format!("[{}]", elements.join(","))
        }
        _ => {
            let entries: BTreeMap<String, String> =
                (0..rng.below(4)).map(|_| (text(rng), random_json(rng, depth + 1))).collect();
            // Keys are sorted by their content, and not by their escaped form.
            let mut entries: Vec<(String, String)> = entries.into_iter().collect();
            entries.sort_by_key(|(key, _)| serde_json::from_str::<String>(key).unwrap());
            let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

fn random_value(rng: &mut SeededRng) -> Value {
    Value::Json(Json::parse(random_json(rng, 0)).unwrap())
}

fn random_duration(rng: &mut SeededRng) -> Duration {
    Duration::from_millis(rng.pick(&[0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, u64::MAX]))
}

fn random_starts(rng: &mut SeededRng) -> StartTime {
    let timestamps = [0, 1, 1_000_000, 1_800_000_000_000_000, 1_800_000_000_123_456];
    match rng.below(2) {
        0 => StartTime::After(random_duration(rng)),
        _ => StartTime::At(Timestamp::from_micros(rng.pick(&timestamps))),
    }
}

fn chance(rng: &mut SeededRng) -> bool {
    rng.below(3) == 0
}

#[test]
fn the_lines_of_an_access_are_read_as_it_was() {
    let mut rng = SeededRng(7);
    for _ in 0..200 {
        // The others are keys of the task beside it.
        let (arguments, record, memo) = (Vec::new(), Recording::default(), None);
        let access = Access { arguments, record, memo, ..random_access(&mut rng) };
        assert_eq!(crate::file::parse_access(&super::write_access_lines(&access)), Ok(access));
    }
    assert!(crate::file::parse_access("clok = true\nhttp = [3").is_err());
}

/// Sets each property of a task with some probability.
fn random_access(rng: &mut SeededRng) -> Access {
    let patterns = ["GET https://a.example/**", "* http://*:81/", "POST,PUT http://[::1]/x*y"];
    let http = patterns.into_iter().filter(|_| chance(rng)).map(|text| text.parse().unwrap()).collect();
    let secrets = ["LB_TOKEN", "key"].into_iter().filter(|_| chance(rng)).map(|name| name.parse().unwrap()).collect();
    let mut settings = |names: [&str; 2]| -> BTreeSet<SettingName> {
        names.into_iter().filter(|_| chance(rng)).map(|name| name.parse().unwrap()).collect()
    };
    let (config, variables) = (settings(["region", "size-2"]), settings(["TZ", "LANG"]));
    let uses = [("menu", DirectoryUse::Read), ("data", DirectoryUse::Write)];
    let directories =
        uses.into_iter().filter(|_| chance(rng)).map(|(name, own)| (name.parse().unwrap(), own)).collect();
    let sockets = ["db.example:5432", "*:1"].into_iter().filter(|_| chance(rng)).map(|text| text.parse().unwrap());
    let sockets = sockets.collect();
    let arguments = ["--all", "", "a b"].into_iter().filter(|_| chance(rng)).map(str::to_owned).collect();
    let (clock, random) = (chance(rng), chance(rng));
    let record = if chance(rng) { Recording::None } else { Recording::Http };
    let memo = match rng.below(5) {
        0 => Some(Memo::Unlimited),
        1 => Some(Memo::For(random_duration(rng).max(Duration::from_millis(1)))),
        2 => Some(Memo::Never),
        _ => None,
    };
    Access { http, secrets, config, variables, directories, sockets, arguments, clock, random, record, memo }
}

fn random_task(rng: &mut SeededRng, mut task: TaskBuilder) -> TaskBuilder {
    for _ in 0..rng.below(6) {
        task = match rng.below(20) {
            0 => task.requires(format!("own{}", rng.below(3)), format!("v{}", rng.below(3))),
            1 => task.requires_same(["a", "b"]),
            2 => task.requires_same([""; 0]),
            3 => task.provides("own", format!("v{}", rng.below(3))),
            4 => task.provides_same(["c"]),
            5 => task.provides_same([""; 0]),
            6 => task.with(format!("w{}", rng.below(3)), random_value(rng)),
            7 => task.retry(RetryPolicy {
                attempts: rng.pick(&[1, 2, u32::MAX]),
                backoff: rng.pick(&[Backoff::Exponential, Backoff::Fixed]),
                initial: random_duration(rng),
                max: random_duration(rng),
                jitter: chance(rng),
            }),
            8 => task.retry(RetryPolicy::default()),
            9 => task.limits(LimitOverrides {
                timeout: Some(random_duration(rng)),
                memory: Some(rng.pick(&[0, 1_000, 1 << 20, u64::MAX])),
                stack: Some(1 << 10).filter(|_| chance(rng)),
                log: Some(3 << 30),
                table_elements: Some(u64::MAX),
                instances: Some(u32::MAX).filter(|_| chance(rng)),
                ..LimitOverrides::default()
            }),
            10 => task.queue("ovens").priority(rng.pick(&[0, 1, i32::MIN])),
            11 => task.rollback(chance(rng)),
            12 => task.starts(random_starts(rng)),
            13 => task.max_running(rng.pick(&[1, Pace::MAX_RUNNING])),
            14 => task.rate(rng.pick(&["1/s", "100/m", "1000000/h"])),
            15 => task.for_each("list", "element").max_parallel(rng.pick(&[1, DraftForEach::MAX_PARALLEL])),
            16 => task
                .for_each_of([Json::from(&serde_json::json!(1)), Json::from(&serde_json::json!({"a": [2]}))], "item"),
            17 => task.expires(random_duration(rng)).delivery_limit(rng.pick(&[1, 50])),
            18 => task.allow(random_access(rng)),
            _ => task.deadline(random_duration(rng)),
        };
    }
    task
}

fn random_link(rng: &mut SeededRng, mut link: LinkBuilder) -> LinkBuilder {
    for _ in 0..rng.below(4) {
        link = match rng.below(4) {
            0 => link.on(rng.pick(&[SourceOutcome::Success, SourceOutcome::Failure, SourceOutcome::Any])),
            1 => link.when("size > 3 && word == \"a\\\"b\""),
            2 => link.reach(rng.pick(&[SkipReach::All, SkipReach::Flow, SkipReach::Neighbors, SkipReach::Task])),
            _ => link.join(rng.pick(&[Join::All, Join::Any])),
        };
    }
    link
}

/// Sets properties of a whole or nested flow.
fn random_body<Level>(rng: &mut SeededRng, mut flow: Builder<Level>, depth: usize) -> Builder<Level> {
    for _ in 0..rng.below(10) {
        let name = format!("n{}", rng.below(100));
        let otherwise = rng.pick(&[Otherwise::Rollback, Otherwise::RollbackAll]);
        flow = match rng.below(9) {
            0 => flow.pattern(rng.pick(&[Pattern::Graph, Pattern::Linear, Pattern::Unordered])),
            1 | 2 => flow.task(name, rng.pick(&["m", "m#t", "#\"\n"]), |task| random_task(rng, task)),
            3 => flow.wait(name, rng.pick(&["a word", ""]), |task| random_task(rng, task)),
            4 if depth < 3 => flow.flow(name, |flow| random_body(rng, flow, depth + 1)),
            5 => flow.link_with(name, "n1", |link| random_link(rng, link)),
            6 => {
                let list = (0..rng.below(3)).map(|_| Json::parse(random_json(rng, 0)).unwrap()).collect();
                let by_name = Strategy::ForEachOf("list".parse().unwrap());
                let strategies =
                    [Strategy::Times(rng.pick(&[0, 3])), Strategy::ForEach(list), by_name, Strategy::Always];
                flow.retry_as("try", strategies[rng.below(4)].clone(), otherwise)
            }
            7 => flow.retry(Strategy::Times(2), otherwise),
            _ => flow.starts(random_starts(rng)),
        };
    }
    flow
}

fn random_draft(rng: &mut SeededRng) -> Draft {
    let mut flow = random_body(rng, Draft::builder("f").unwrap(), 0);
    for _ in 0..rng.below(8) {
        flow = match rng.below(9) {
            0 => flow.module(rng.pick(&["m", "a b", "ä\""]), rng.pick(&["m.wasm", "../\"x\"", "tag"])),
            1 => flow.input(format!("i{}", rng.below(3)), random_value(rng)),
            2 => flow.expires(random_duration(rng)),
            3 => flow.persistent(),
            4 => flow.cyclic(),
            5 => flow.max_firings(rng.pick(&[1, u64::MAX])),
            6 => flow.max_parallel(rng.pick(&[1, DraftForEach::MAX_PARALLEL])),
            7 => flow.listen_on("other", "task", rng.pick(&[SourceOutcome::Success, SourceOutcome::Any]), "n1"),
            _ => flow.schedule_with(rng.pick(&["0 3 * * *", "*/5 * * * * *"]), "n1", |schedule| {
                let schedule = schedule.zone(rng.pick(&["UTC", "Europe/Berlin"]));
                let schedule =
                    schedule.overlap(rng.pick(&[OverlapPolicy::Skip, OverlapPolicy::Queue, OverlapPolicy::Allow]));
                schedule.missed(rng.pick(&[MissedPolicy::Once, MissedPolicy::Skip, MissedPolicy::All]))
            }),
        };
    }
    flow.build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flow_round_trips(seed in any::<u64>()) {
        round_trips(random_draft(&mut SeededRng(seed)));
    }
}

#[test]
fn a_flow_is_written_for_people() {
    let text = round_trips(
        Draft::builder("bake-cake")
            .unwrap()
            .persistent()
            .starts(StartTime::After(Duration::from_secs(90)))
            .module("kitchen", "kitchen.wasm")
            .input("batter_ml", 900)
            .task("pan", "kitchen#choose-pan", |task| task.timeout("60s").with("sizes", serde_json::json!([20, 24])))
            .flow("icing", |flow| flow.task("mix", "kitchen#mix", |task| task.requires("what", "sugar")))
            .link_with("pan", "icing", |link| link.when("pan.size > 30"))
            .schedule("0 3 * * *", "pan")
            .build(),
    );
    let expected = "name = \"bake-cake\"\nstart_after = \"90s\"\npersistent = true\n\n[modules]\nkitchen = \"kitchen.wasm\"\n\n\
                  [inputs]\nbatter_ml = 900\n\n[[task]]\nname = \"pan\"\nuse = \"kitchen#choose-pan\"\n\
                  with = { sizes = [20, 24] }\ntimeout = \"1m\"\n\n[[flow]]\nname = \"icing\"\n\n[[flow.task]]\n\
                  name = \"mix\"\nuse = \"kitchen#mix\"\nrequires = { what = \"sugar\" }\n\n[[link]]\nfrom = \"pan\"\n\
                  to = \"icing\"\nwhen = \"pan.size > 30\"\n\n[[schedule]]\ncron = \"0 3 * * *\"\nto = \"pan\"\n";
    assert_eq!(text, expected);
}

fn messages(error: &WriteError) -> Vec<&str> {
    assert!(error.diagnostics.iter().all(|diagnostic| diagnostic.hint.is_some() && diagnostic.span.is_none()));
    error.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect()
}

#[test]
fn every_unwritable_value_is_reported_at_once() {
    let invalid = Json::parse("{\"a\":[\"\\ud800\"]}").unwrap();
    let draft = Draft::builder("f")
        .unwrap()
        .module("a#b", "")
        .input("raw", Value::Bytes([1, 2].into()))
        .input("a b", 1)
        .max_firings(0)
        .schedule("0 0 30 2 *", "t")
        .expires(Duration::from_micros(1))
        .retry(Strategy::ForEach(vec![invalid]), Otherwise::Rollback)
        .task("t", "m", |task| {
            let task = task.retry(RetryPolicy { attempts: 0, ..RetryPolicy::default() });
            task.with("nothing", serde_json::json!({"x": null})).starts(StartTime::At(Timestamp::from_micros(u64::MAX)))
        })
        .build();
    let error = write(&draft).unwrap_err();
    let expected = [
        "an input: \"a b\" is not a name",
        "\"max_firings\" of the flow is 0",
        "a schedule: \"0 0 30 2 *\" never happens",
        "\"for_each\" of the retry of flow \"f\" holds half a character, which a flow file cannot",
        "\"expires\" of flow \"f\" is 1µs, and no whole number of milliseconds",
        "\"raw\" in inputs holds bytes, which a flow file cannot",
        "\"nothing\" in \"with\" of task \"t\" holds null, which a flow file cannot",
        "\"start_at\" of task \"t\" is not a supported time",
        "a module cannot be called \"a#b\"",
        "module \"a#b\" is an empty text",
        "\"attempts\" of the retry of task \"t\" is 0",
    ];
    assert_eq!(messages(&error), expected);
    assert!(error.to_string().starts_with("the flow cannot be written as a flow file: an input: \"a b\" is not"));
}

#[test]
fn flows_nested_deeper_than_can_be_read_are_not_written() {
    fn deeper<Level>(flow: Builder<Level>, depth: usize) -> Builder<Level> {
        if depth == 0 { flow } else { flow.flow(format!("n{depth}"), |flow| deeper(flow, depth - 1)) }
    }
    round_trips(deeper(Draft::builder("f").unwrap(), 64).build());
    let error = write(&deeper(Draft::builder("f").unwrap(), 200).build()).unwrap_err();
    assert_eq!(messages(&error), ["it is nested too deep to be read"]);
}

#[test]
fn negative_zero_keeps_its_sign() {
    let value = |text: &str| Value::Json(Json::parse(text).unwrap());
    let draft = Draft::builder("f").unwrap().input("zero", value("-0"));
    let parsed = parse(&write(&draft.build()).unwrap()).unwrap();
    assert_eq!(format!("{:?}", parsed.inputs), "{\"zero\": -0.0}");
    let large = Draft::builder("f").unwrap().input("large", value("18446744073709551616")).build();
    assert_eq!(messages(&write(&large).unwrap_err()), ["\"large\" in inputs is an integer of more than 64 bits"]);
}

#[test]
fn an_addition_is_written_without_a_name() {
    let added = Draft::addition().task("more", "m#more", |task| task.queue("ovens")).link("pan", "more");
    let text = write_addition(&added.build()).unwrap();
    assert_eq!(
        text,
        "[[task]]\nname = \"more\"\nuse = \"m#more\"\nqueue = \"ovens\"\n\n[[link]]\nfrom = \"pan\"\nto = \"more\"\n"
    );
    assert_eq!(normalized(Edit::parse_addition(&text).unwrap()).matches("\"more\"").count(), 2);
    let error = write_addition(&Draft::addition().persistent().build()).unwrap_err();
    assert!(messages(&error)[0].starts_with("an addition must not set keys of the whole flow"), "{error}");
    let error = write(&Draft::addition().build()).unwrap_err();
    assert_eq!(messages(&error), ["the flow has no \"name\""]);
    let named = Draft::builder("f").unwrap().link("a", "b").build();
    assert_eq!(write_addition(&named).unwrap(), "[[link]]\nfrom = \"a\"\nto = \"b\"\n");
}
