//! Tests of the sources of parameters, the order of nodes, and the diagnostics of flows that cannot run.

mod any_flow;
mod large;

use std::collections::BTreeMap;

use super::wire;
use crate::{
    Digest, Draft, Flow, Json, LimitOverrides, Limits, ModuleContent, ModuleInfo, Parameter, Provided, RetryPolicy,
    Rollback, TaskInfo, Value, Values,
    draft::MissingModule,
    file,
    graph::{Role, Source},
    render, test_tables,
};

/// A task's name, the values it requires (`?` marks optional ones), its provided values, and the values its rollback
/// requires.
type Described = (&'static str, &'static [&'static str], &'static [&'static str], Option<&'static [&'static str]>);

/// The tasks of the module `m`.
const TASKS: [Described; 7] = [
    ("mix", &[], &["batter"], Some(&[])),
    ("pan", &["batter", "size?"], &["pan"], Some(&[])),
    ("heat", &["pan"], &["oven"], None),
    ("bake", &["batter", "oven"], &["cake"], None),
    ("sweep", &[], &["floor"], Some(&["broom"])),
    ("rest", &[], &[], None),
    ("any", &["one?", "two?"], &["left"], None),
];

/// A value and its schema.
type Typed = (&'static str, &'static str);

/// The tasks of the module `typed`, with a schema for each value.
const TYPED: [(&str, &[Typed], &[Typed]); 5] = [
    (
        "sum",
        &[("orders", r#"{"type": "array", "items": {"type": "integer"}}"#), ("factor?", r#"{"type": "number"}"#)],
        &[("total", r#"{"type": "integer"}"#)],
    ),
    ("label", &[("text", r#"{"type": "string"}"#)], &[("label", r#"{"type": "string"}"#)]),
    ("double", &[("item", r#"{"type": "integer"}"#)], &[("doubled", r#"{"type": "integer"}"#)]),
    (
        "pack",
        &[("box", r#"{"type": "object", "properties": {"size": {"type": "string"}}, "required": ["size"]}"#)],
        &[],
    ),
    (
        "list",
        &[],
        &[
            ("names", r#"{"type": "array", "items": {"type": "string"}}"#),
            ("box", r#"{"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}"#),
        ],
    ),
];

fn parameter(name: &&str) -> Parameter {
    let optional = name.ends_with('?');
    Parameter { name: name.trim_end_matches('?').parse().unwrap(), doc: String::new(), schema: None, optional }
}

fn modules() -> BTreeMap<String, ModuleInfo> {
    let provided = |name: &&str| Provided { name: name.parse().unwrap(), doc: String::new(), schema: None };
    let tasks = TASKS.iter().map(|(name, requires, provides, rollback)| TaskInfo {
        name: name.parse().unwrap(),
        doc: String::new(),
        requires: requires.iter().map(parameter).collect(),
        provides: provides.iter().map(provided).collect(),
        rollback: match rollback {
            Some(requires) => Rollback::Guest { requires: requires.iter().map(parameter).collect() },
            None => Rollback::None,
        },
        retry: None,
        limits: LimitOverrides::default(),
    });
    let tasks: Vec<TaskInfo> = tasks.collect();
    let typed = TYPED.iter().map(|(name, requires, provides)| TaskInfo {
        name: name.parse().unwrap(),
        doc: String::new(),
        requires: requires
            .iter()
            .map(|(name, schema)| Parameter { schema: Some(Json::parse(*schema).unwrap()), ..parameter(name) })
            .collect(),
        provides: provides
            .iter()
            .map(|(name, schema)| Provided { schema: Some(Json::parse(*schema).unwrap()), ..provided(name) })
            .collect(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    });
    let typed: Vec<TaskInfo> = typed.collect();
    let module = |content| ModuleInfo { digest: Digest::from_bytes([1; 32]), content };
    [
        ("m".to_owned(), module(ModuleContent::Tasks(tasks.clone()))),
        ("typed".to_owned(), module(ModuleContent::Tasks(typed))),
        ("only".to_owned(), module(ModuleContent::Tasks(tasks[..1].to_vec()))),
        ("empty".to_owned(), module(ModuleContent::Tasks(Vec::new()))),
        ("program".to_owned(), module(ModuleContent::Command)),
    ]
    .into()
}

/// Every task, and every begin of a nested flow, with its predecessors and the sources of its inputs.
fn describe(flow: &Flow) -> String {
    let name = |index| match &flow.node(index).role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Controller(_) => flow.node(index).name.to_string(),
        Role::FanIn(_) => format!("all of {}", flow.node(index).name),
        Role::Begin => format!("begin of {}", flow.node(index).name),
        Role::End => format!("end of {}", flow.node(index).name),
    };
    let show_source = |source: &Source| match source {
        Source::Constant(Value::Json(json)) => format!("constant {}", json.as_str()),
        Source::Constant(Value::Bytes(bytes)) => format!("constant of {} bytes", bytes.len()),
        Source::Constant(Value::Stored(stored)) => format!("constant {stored:?}"),
        Source::Node { node, value } => format!("{value} of {}", name(*node)),
        Source::RunInput(value) => format!("input {value}"),
        Source::Element => "element".into(),
        Source::Failure(nodes) => {
            format!("failure of {}", nodes.iter().map(|node| name(*node)).collect::<Vec<_>>().join(" or "))
        }
        Source::LoopCarried { nodes, value, .. } => {
            let nodes = nodes.iter().map(|node| name(*node)).collect::<Vec<_>>();
            format!("{value} carried over from {}", nodes.join(" or "))
        }
        Source::Absent => "nothing".into(),
    };
    let mut text = String::new();
    for index in flow.indices() {
        let node = flow.node(index);
        let predecessors: Vec<String> = node.before.iter().map(|before| name(*before)).collect();
        if !predecessors.is_empty() && node.role != Role::End {
            text += &format!("{} waits for {}\n", name(index), predecessors.join(", "));
        }
        match &node.role {
            Role::Task(task) => {
                task.inputs
                    .iter()
                    .for_each(|input| text += &format!("  {} = {}\n", input.parameter, show_source(&input.source)));
            }
            Role::Controller(controller) => {
                controller.list.iter().for_each(|list| text += &format!("  its list = {}\n", show_source(list)));
            }
            Role::ForEach(each) => {
                each.task
                    .inputs
                    .iter()
                    .for_each(|input| text += &format!("  {} = {}\n", input.parameter, show_source(&input.source)));
                text += &format!("  its list = {}\n", show_source(&each.list));
            }
            Role::Wait(_) | Role::FanIn(_) | Role::Begin | Role::End => {}
        }
    }
    text
}

/// The module aliases in the flows of the tables; the last module is unknown.
const MODULES: &str = "
[modules]
m = \"m.wasm\"
only = \"only.wasm\"
empty = \"empty.wasm\"
program = \"program.wasm\"
lost = \"lost.wasm\"
";

fn wire_text(text: &str) -> String {
    let text = format!("{text}\n{MODULES}");
    match wire(&file::read(&text), &modules(), &Values::new()) {
        Ok((flow, warnings)) => describe(&flow) + &render(&warnings, "f.toml", &text),
        Err(diagnostics) => render(&diagnostics, "f.toml", &text),
    }
}

#[test]
fn every_requirement_resolves_to_the_nearest_provider() {
    test_tables::check(include_str!("sources.txt"), wire_text);
}

#[test]
fn an_unsatisfiable_requirement_names_the_task_and_value() {
    test_tables::check(include_str!("diagnostics.txt"), wire_text);
}

#[test]
fn a_type_mismatch_is_rejected_before_the_run() {
    test_tables::check(include_str!("types.txt"), wire_text);
}

/// The fields of its box never fit `pack`, but the first iteration takes the input.
#[test]
fn a_loop_carried_value_is_compared_only_by_its_types() {
    let text = "name = \"f\"\ncyclic = true\nmax_firings = 1\n[inputs]\nbox = { size = \"large\" }\n\
        [[task]]\nname = \"pack\"\nuse = \"typed#pack\"\n[[task]]\nname = \"list\"\nuse = \"typed#list\"\n\
        [[link]]\nfrom = \"pack\"\nto = \"list\"\n[[link]]\nfrom = \"list\"\nto = \"pack\"\n";
    let wired = wire_text(text);
    assert!(wired.contains("box carried over from list") && !wired.contains("error"), "{wired}");
}

#[test]
fn diagnostics_of_one_phase_do_not_hide_those_of_another() {
    test_tables::check(include_str!("layers.txt"), wire_text);
}

#[test]
fn a_missing_module_is_reported_once_with_its_users() {
    let text = "name = \"f\"\n[modules]\nm = \"m.wasm\"\nunused = \"u.wasm\"\n".to_owned()
        + &(0..12).map(|n| format!("[[task]]\nname = \"t{n}\"\nuse = \"m#x\"\n")).collect::<String>();
    let mut draft = file::parse(&text).unwrap();
    for reference in draft.modules.values_mut() {
        reference.missing = Some(MissingModule::NotFound { reason: format!("there is no file {}", reference.text) });
    }
    let diagnostics = wire(&draft, &BTreeMap::new(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    let expected = [
        "module \"m\", which tasks \"t0\", \"t1\", \"t2\", \"t3\", \"t4\", \"t5\", \"t6\", \"t7\", \"t8\", \"t9\" and 2 \
         more use, was not found: there is no file m.wasm",
        "module \"unused\" was not found: there is no file u.wasm",
    ];
    assert_eq!(messages, expected);
}

#[test]
fn a_module_that_was_found_and_cannot_be_used_has_a_hint_of_its_own() {
    let mut draft = file::parse("name = \"f\"\n[modules]\nm = \"m\"\n[[task]]\nname = \"t\"\nuse = \"m#x\"\n").unwrap();
    for hint in [Some("sign it".to_owned()), None] {
        let missing = MissingModule::Unusable { reason: "it is not signed".into(), hint: hint.clone() };
        draft.modules.get_mut("m").unwrap().missing = Some(missing);
        let diagnostics = wire(&draft, &BTreeMap::new(), &Values::new()).unwrap_err();
        let message = "module \"m\", which task \"t\" uses, cannot be used here: it is not signed";
        assert_eq!((diagnostics[0].message.as_str(), &diagnostics[0].hint), (message, &hint));
    }
}

#[test]
fn a_given_value_is_type_checked_and_null_is_allowed_for_optional() {
    let draft = Draft::builder("f").unwrap().task("sum", "typed#sum", |task| task).build();
    let wire_text = |orders: &str, factor: &str| {
        let value = |text: &str| Value::Json(Json::parse(text).unwrap());
        let given = [("orders".parse().unwrap(), value(orders)), ("factor".parse().unwrap(), value(factor))].into();
        wire(&draft, &modules(), &given)
            .map_err(|diagnostics| diagnostics[0].message.clone())
            .map(|(_, warnings)| warnings)
    };
    assert_eq!(wire_text("[1, 2]", "null"), Ok(vec![]));
    assert_eq!(wire_text("[1, 2]", "1.5"), Ok(vec![]));
    let rejected = |message: &str| Err(format!("input {message}"));
    assert_eq!(
        wire_text("\"abc\"", "1"),
        rejected("\"orders\" does not fit task \"sum\": it is a text, and has to be a list")
    );
    assert_eq!(
        wire_text("[1, \"2\"]", "1"),
        rejected("\"orders\" does not fit task \"sum\": [1] is a text, and has to be a whole number")
    );
}

#[test]
fn an_unprovided_requirement_is_rejected_in_the_builder() {
    let built = Draft::builder("f").unwrap().flow("inner", |flow| flow.task("heat", "m#heat", |task| task)).build();
    let diagnostics = wire(&built, &modules(), &Values::new()).unwrap_err();
    let messages: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["task \"heat\" requires \"pan\", which nothing provides"]);
    let given = Values::from([("pan".parse().unwrap(), Value::json(&1.into()))]);
    assert!(wire(&built, &modules(), &given).is_ok());
}

fn one_value(name: &str, value: u32) -> Values {
    [(name.parse().unwrap(), Value::json(&value.into()))].into()
}

#[test]
fn given_values_override_and_extend_the_inputs() {
    let pan = |inputs: Values| {
        let builder = Draft::builder("f").unwrap().task("pan", "m#pan", |task| task);
        inputs.into_iter().fold(builder, |builder, (name, value)| builder.input(name, value)).build()
    };
    let mut both = one_value("batter", 7);
    both.extend(one_value("size", 1));
    let draft = pan(one_value("batter", 3));
    let (flow, warnings) = wire(&draft, &modules(), &both).unwrap();
    assert_eq!((flow.inputs, warnings), (both, vec![]));
}

#[test]
fn a_given_value_is_checked_like_an_input() {
    let mix = Draft::builder("f").unwrap().task("mix", "m#mix", |task| task).build();
    let diagnostics = wire(&mix, &modules(), &one_value("batter", 1)).unwrap_err();
    assert_eq!(diagnostics[0].message, "input \"batter\" has the name of a value that task \"mix\" provides");
    let (_, warnings) = wire(&mix, &modules(), &one_value("nobodys", 1)).unwrap();
    assert_eq!(warnings[0].message, "no task requires input \"nobodys\"");
}

#[test]
fn a_stack_beyond_the_maximum_is_rejected() {
    let with_stack = |stack| LimitOverrides { stack: Some(stack), ..LimitOverrides::default() };
    let error = |flow_limits: LimitOverrides, module_limits: LimitOverrides| {
        let mut modules = modules();
        let Some(ModuleInfo { content: ModuleContent::Tasks(tasks), .. }) = modules.get_mut("only") else { panic!() };
        tasks[0].limits = module_limits;
        let draft = Draft::builder("f").unwrap().task("deep", "only", |task| task.limits(flow_limits)).build();
        wire(&draft, &modules, &Values::new()).err().map(|diagnostics| diagnostics[0].message.clone())
    };
    let rejected = Some("task \"deep\" has a stack of 64MiB, and the largest is 8MiB".to_owned());
    assert_eq!(error(with_stack(64 << 20), LimitOverrides::default()), rejected);
    assert_eq!(error(LimitOverrides::default(), with_stack(64 << 20)), rejected);
    assert_eq!(error(with_stack(crate::MAX_STACK_BYTES), with_stack(64 << 20)), None);
}

#[test]
fn flow_limits_override_module_limits() {
    let mut modules = modules();
    let Some(ModuleInfo { content: ModuleContent::Tasks(tasks), .. }) = modules.get_mut("only") else { panic!() };
    let module_retry = RetryPolicy { attempts: 5, ..RetryPolicy::default() };
    tasks[0].retry = Some(module_retry);
    tasks[0].limits = LimitOverrides { memory: Some(1), log: Some(2), ..LimitOverrides::default() };
    let flow_retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
    let limits = LimitOverrides { memory: Some(3), ..LimitOverrides::default() };
    let draft = Draft::builder("f")
        .unwrap()
        .task("module-says", "only", |task| task.provides_same([""; 0]))
        .task("flow-says", "only", |task| task.retry(flow_retry).limits(limits))
        .build();
    let (flow, _) = wire(&draft, &modules, &Values::new()).unwrap();
    let policies: Vec<_> = flow.tasks().map(|(_, _, task)| (task.retry, task.limits)).collect();
    let limits = |memory| Limits { memory, log: 2, ..Limits::default() };
    assert_eq!(policies, [(module_retry, limits(1)), (flow_retry, limits(3))]);
}

#[test]
fn a_flow_in_a_namespace_uses_queues_and_flows_of_the_namespace() {
    let text = |name: &str| {
        format!(
            "name = {name:?}\npersistent = true\n\
             [[task]]\nname = \"a\"\nuse = \"m#rest\"\n\
             [[task]]\nname = \"b\"\nuse = \"m#rest\"\nqueue = \"ovens\"\n\
             [[task]]\nname = \"c\"\nuse = \"m#rest\"\nqueue = \"other/ovens\"\n\
             [[flow]]\nname = \"n\"\n[[flow.task]]\nname = \"d\"\nuse = \"m#rest\"\n\
             [[listen]]\nflow = \"orders\"\ntask = \"t\"\nto = \"a\"\n\
             [[listen]]\nflow = \"other/orders\"\ntask = \"t\"\nto = \"a\"\n{MODULES}"
        )
    };
    let names = |name: &str| {
        let (flow, _) = wire(&file::parse(&text(name)).unwrap(), &modules(), &Values::new()).unwrap();
        let queues: Vec<String> = flow.tasks().map(|(_, _, task)| task.queue.to_string()).collect();
        let flows: Vec<String> = flow.listeners.iter().map(|listener| listener.flow.to_string()).collect();
        (queues.join(" "), flows.join(" "))
    };
    assert_eq!(names("f"), ("default ovens other/ovens default".into(), "orders other/orders".into()));
    assert_eq!(
        names("shop/f"),
        ("shop/default shop/ovens other/ovens shop/default".into(), "shop/orders other/orders".into())
    );
    let long = text("shop/f").replace("\"ovens\"", &format!("{:?}", "o".repeat(99)));
    let diagnostics = wire(&file::parse(&long).unwrap(), &modules(), &Values::new()).unwrap_err();
    assert!(diagnostics[0].message.starts_with("in the namespace of the flow, "), "{diagnostics:?}");
}
