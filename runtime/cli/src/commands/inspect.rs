//! `waft inspect`: shows the tasks of a module.

use std::path::Path;

use flow::{Json, ModuleContent, Rollback, Size, TaskInfo};
use serde_json::{Value, json};

use super::modules::print_signature;
use crate::{
    colour::{self, Colour},
    exit::{CliError, Exit},
    keys::SignerNames,
    modules::{self, Purpose},
    output::Stream,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, module: &str, as_json: bool) -> Result<Exit, CliError> {
    let library = modules::open_to_read(settings).await?;
    let found = modules::find(&library, module, (Path::new("."), None), Purpose::Inspect).await.map_err(|error| {
        CliError::invalid(error).hint("name a file, a tag or a digest; `waft modules` lists the store")
    })?;
    let imports = sandbox::imports(&found.bytes).map_err(CliError::invalid)?;
    let uses = uses(&imports);
    let signatures = library.store.signatures(&found.digest).await.map_err(CliError::unreachable)?;
    let signatures: Vec<_> = signatures.iter().map(::server::shown).collect();
    if as_json {
        let (kind, tasks) = match &found.content {
            ModuleContent::Tasks(tasks) => ("tasks", tasks.iter().map(task_json).collect()),
            ModuleContent::Command => ("command", Vec::new()),
        };
        let (digest, size) = (found.digest.to_string(), found.bytes.len());
        crate::output::json(json!({
            "digest": digest, "size": size, "kind": kind, "tasks": tasks, "imports": imports,
            "uses": uses.iter().map(|(key, _)| key).collect::<Vec<_>>(), "signatures": signatures,
        }));
        return Ok(Exit::Success);
    }
    crate::output::say!("{}  {:#}", found.digest, Size(found.bytes.len() as u64));
    let names = SignerNames::read();
    signatures.iter().for_each(|signature| print_signature(&names, signature));
    match &found.content {
        ModuleContent::Tasks(tasks) => tasks.iter().for_each(print_task),
        ModuleContent::Command => {
            crate::output::line("");
            crate::output::say!("a WASI command: the flow declares what it requires and provides");
        }
    }
    if !uses.is_empty() {
        crate::output::line("");
        crate::output::line("may use, if the flow asks for it and an operator grants it");
        for (key, use_of) in uses {
            crate::output::say!("  {key:8} {use_of}");
        }
    }
    crate::output::line("");
    crate::output::line("imports");
    for import in imports {
        crate::output::say!("  {import}");
    }
    Ok(Exit::Success)
}

/// What lies outside the sandbox behind an import: the key of `allow`, and plain words.
const USES: [(&str, &str, &str); 10] = [
    ("wasi:http/outgoing-handler", "http", "sends HTTP requests"),
    ("wasi:sockets/tcp-create-socket", "sockets", "connects by TCP"),
    ("wasi:config/store", "config", "reads configuration values"),
    ("wasi:cli/environment", "env", "reads environment variables, and its arguments (`args` of the task)"),
    ("wasi:filesystem/preopens", "dirs", "reads and writes files"),
    ("wasi:clocks/wall-clock", "clock", CLOCK),
    ("wasi:clocks/monotonic-clock", "clock", CLOCK),
    ("wasi:random/random", "random", RANDOM),
    ("wasi:random/insecure", "random", RANDOM),
    ("wasi:random/insecure-seed", "random", RANDOM),
];

const CLOCK: &str = "reads the clock: without a grant, it stands at the time of the job";
const RANDOM: &str = "draws random numbers: without a grant, they follow from the attempt";

/// What a module could use outside its sandbox, by its imports. Standard libraries import more than programs need.
fn uses(imports: &[String]) -> Vec<(&'static str, &'static str)> {
    let has = |interface: &str| imports.iter().any(|import| import.split('@').next() == Some(interface));
    let mut uses: Vec<_> =
        USES.iter().filter(|(import, ..)| has(import)).map(|(_, key, words)| (*key, *words)).collect();
    uses.dedup();
    uses
}

fn print_task(task: &TaskInfo) {
    let colour = colour::on(Stream::Out);
    crate::output::line("");
    crate::output::say!("{}", Colour::Bold.text(task.name.as_str(), colour));
    for line in task.doc.lines() {
        crate::output::say!("  {line}");
    }
    let described = |doc: &str| if doc.is_empty() { String::new() } else { format!("  {}", doc.replace('\n', " ")) };
    for parameter in &task.requires {
        let optional = if parameter.optional { " (optional)" } else { "" };
        let kind = kind_of(parameter.schema.as_ref());
        crate::output::say!("  requires {}{kind}{optional}{}", parameter.name, described(&parameter.doc));
    }
    for provided in &task.provides {
        crate::output::say!(
            "  provides {}{}{}",
            provided.name,
            kind_of(provided.schema.as_ref()),
            described(&provided.doc)
        );
    }
    match &task.rollback {
        Rollback::None => crate::output::say!("  has no rollback"),
        Rollback::Guest { requires } if requires.is_empty() => crate::output::say!("  can be rolled back"),
        Rollback::Guest { requires } => {
            let names: Vec<&str> = requires.iter().map(|parameter| parameter.name.as_str()).collect();
            crate::output::say!("  can be rolled back, given {}", names.join(", "));
        }
    }
    if let Some(retry) = &task.retry {
        crate::output::say!("  has up to {} attempts", retry.attempts);
    }
}

/// The type in a schema, if it is a simple one.
fn kind_of(schema: Option<&Json>) -> String {
    let kind = schema.and_then(|schema| Some(schema.to_tree().ok()?.get("type")?.as_str()?.to_owned()));
    kind.map_or_else(String::new, |kind| format!(": {kind}"))
}

fn task_json(task: &TaskInfo) -> Value {
    let schema = |schema: &Option<Json>| schema.as_ref().map(|schema| schema.to_tree().unwrap_or(Value::Null));
    let parameter = |parameter: &flow::Parameter| {
        json!({
            "name": parameter.name.as_str(),
            "doc": parameter.doc,
            "schema": schema(&parameter.schema),
            "optional": parameter.optional,
        })
    };
    let provided = |provided: &flow::Provided| json!({"name": provided.name.as_str(), "doc": provided.doc, "schema": schema(&provided.schema)});
    let (has_rollback, rollback_requires) = match &task.rollback {
        Rollback::None => (false, Vec::new()),
        Rollback::Guest { requires } => (true, requires.iter().map(parameter).collect()),
    };
    json!({
        "name": task.name.as_str(),
        "doc": task.doc,
        "requires": task.requires.iter().map(parameter).collect::<Vec<_>>(),
        "provides": task.provides.iter().map(provided).collect::<Vec<_>>(),
        "rollback": has_rollback,
        "rollback_requires": rollback_requires,
    })
}
