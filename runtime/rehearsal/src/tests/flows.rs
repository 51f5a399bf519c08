//! Flows of the tests, and their modules `m` and `g`.

use std::{collections::BTreeMap, sync::Arc};

use flow::{
    Digest, Flow, Json, LimitOverrides, ModuleContent, ModuleInfo, Parameter, Provided, Rollback, TaskInfo, Values,
};

use crate::Modules;

/// A task of a module: its name, what it requires and provides, and whether it has a rollback. After a colon is the JSON schema of
/// a value. A name with a question mark is optional.
type Described = (&'static str, &'static [&'static str], &'static [&'static str], bool);

/// The tasks of the module `m`.
const TASKS: [Described; 9] = [
    ("measure", &[], &["size:{\"type\": \"integer\", \"minimum\": 3}"], true),
    ("list", &[], &["items:{\"type\": \"array\", \"items\": {\"type\": \"integer\"}}"], false),
    ("make", &["item"], &["made"], true),
    ("noop", &[], &[], true),
    ("plain", &[], &[], false),
    ("report", &["failure?"], &[], false),
    ("count", &["word:{\"type\": \"integer\"}"], &[], false),
    ("seven", &["word:{\"enum\": [7]}"], &[], false),
    ("read", &["word:{\"type\": \"string\"}"], &[], false),
];

/// The tasks of the module `g`, which random flows use.
const RANDOM_TASKS: [Described; 11] = [
    ("noop", &[], &[], true),
    ("plain", &[], &[], false),
    ("flaky", &[], &[], true),
    ("fails", &[], &[], false),
    ("five", &[], &["value"], true),
    ("nasty", &[], &["value"], true),
    ("stubborn", &["item?"], &[], true),
    ("next", &["count"], &["count"], true),
    ("add", &["ip"], &["added"], true),
    ("list", &[], &["list"], false),
    ("make", &["item"], &["made"], true),
];

fn content(tasks: &[Described]) -> ModuleContent {
    let split = |text: &&str| match text.split_once(':') {
        Some((name, schema)) => (name.to_owned(), Some(Json::parse(schema).unwrap())),
        None => ((*text).to_owned(), None),
    };
    let parameter = |text: &&str| {
        let (name, schema) = split(text);
        let optional = name.ends_with('?');
        Parameter { name: name.trim_end_matches('?').parse().unwrap(), doc: String::new(), schema, optional }
    };
    let provided = |text: &&str| {
        let (name, schema) = split(text);
        Provided { name: name.parse().unwrap(), doc: String::new(), schema }
    };
    let task = |(name, requires, provides, rollback): &Described| TaskInfo {
        name: name.parse().unwrap(),
        doc: String::new(),
        requires: requires.iter().map(parameter).collect(),
        provides: provides.iter().map(provided).collect(),
        rollback: if *rollback { Rollback::Guest { requires: Vec::new() } } else { Rollback::None },
        retry: None,
        limits: LimitOverrides::default(),
    };
    ModuleContent::Tasks(tasks.iter().map(task).collect())
}

fn digest(of: u8) -> Digest {
    Digest::from_bytes([of; 32])
}

/// The modules of the tests.
pub(crate) fn modules() -> Modules {
    BTreeMap::from([(digest(1), content(&TASKS)), (digest(2), content(&RANDOM_TASKS))])
}

/// Wires a flow of the name `f`, which may use the modules `m` and `g`.
pub(crate) fn flow(text: &str) -> Arc<Flow> {
    let used = |alias: &str| text.contains(&format!("\"{alias}#")).then(|| format!("{alias} = \"{alias}.wasm\"\n"));
    let aliases: String = ["m", "g"].into_iter().filter_map(used).collect();
    let text = format!("name = \"f\"\n{text}\n[modules]\n{aliases}");
    let draft =
        flow::file::parse(&text).unwrap_or_else(|diagnostics| panic!("{}", flow::render(&diagnostics, "f", &text)));
    let module =
        |alias: &str, of: u8, tasks| (alias.to_owned(), ModuleInfo { digest: digest(of), content: content(tasks) });
    let modules = BTreeMap::from([module("m", 1, &TASKS), module("g", 2, &RANDOM_TASKS)]);
    let wired = flow::wire(&draft, &modules, &Values::new());
    let (flow, _) = wired.unwrap_or_else(|diagnostics| panic!("{}", flow::render(&diagnostics, "f", &text)));
    Arc::new(flow)
}
