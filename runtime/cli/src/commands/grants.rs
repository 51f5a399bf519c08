//! `waft grants explain`: which of what a flow asks for is granted, by which table of which file, and what would grant the rest.

use std::collections::{BTreeMap, BTreeSet};

use flow::{
    Access, DirectoryName, DirectoryUse, FlowName, Grant, GrantedPart, Grants, NodeName, SettingName, Task,
    file::write_access_lines,
};
use gateway::Rules;
use serde_json::json;

use super::{check, remote_grants};
use crate::{
    arguments::{GrantsCommand, ValueFlags},
    exit::{CliError, Exit},
    flow_file,
    modules::{self, Purpose},
    output, sanitize,
    settings::{Place, Settings, writable_settings_file},
};

/// A task that asks for something outside its sandbox, and how much of it the settings of this machine grant.
struct TaskExplanation<'a> {
    name: &'a NodeName,
    task: &'a Task,
    asked: Vec<AskedPart<'a>>,
    /// What is not granted, or only in part.
    missing: Access,
}

/// One thing that a task asks for.
struct AskedPart<'a> {
    /// In the words of a flow file: `http GET https://…`, `clock`.
    what: String,
    part: GrantedPart,
    /// The tables that grant it, or a part of it.
    by: Vec<&'a Place>,
}

pub(super) async fn run(settings: &Settings, command: GrantsCommand) -> Result<Exit, CliError> {
    let GrantsCommand::Explain { flow, values, local, json } = command;
    explain(settings, &flow, &values, local, json).await
}

async fn explain(
    settings: &Settings,
    file: &std::path::Path,
    values: &ValueFlags,
    local: bool,
    as_json: bool,
) -> Result<Exit, CliError> {
    let inputs = flow_file::parse_values(values)?;
    let library = modules::open_to_read(settings).await?;
    let flow = flow_file::check(&library, file, &inputs, Purpose::Check).await?.into_flow()?;
    if !flow.tasks().any(|(_, _, task)| task.access.needs_grants()) {
        if !as_json {
            output::note!("no task of {} asks for anything outside its sandbox", flow.name);
        }
        return Ok(Exit::Success);
    }
    if settings.server.is_chosen() && !local {
        return remote_grants::explain(settings, &flow, as_json).await;
    }
    let rules = settings.rules.now();
    for (_, name, task) in flow.tasks().filter(|(_, _, task)| task.access.needs_grants()) {
        let signatures = check::signatures_for(&library, &rules.grants, &task.module).await?;
        let of_table =
            |grant: &Grant| check::grants_for(settings, &Grants(vec![grant.clone()]), &task.module, &signatures);
        let grants: Vec<Grants> = rules.grants.0.iter().map(of_table).collect();
        let explained = TaskExplanation::of(&flow.name, name, task, &grants, &settings.grant_places);
        match as_json {
            true => output::json(explained.json(&flow.name)),
            false => explained.print(&flow.name, &rules),
        }
    }
    Ok(Exit::Success)
}

impl<'a> TaskExplanation<'a> {
    /// `grants` has the grants for the module that each table makes, and `places` where the tables are.
    fn of(flow: &FlowName, name: &'a NodeName, task: &'a Task, grants: &[Grants], places: &'a [Place]) -> Self {
        let all = Grants(grants.iter().flat_map(|grants| grants.0.iter().cloned()).collect());
        let mut missing = Access::default();
        let asked = task.access.parts().flat_map(|part| {
            let granted = |grants: &Grants| grants.of_call(&part, flow, name, &task.module).granted_parts();
            let grants_some =
                |parts: &[(String, GrantedPart)]| parts.iter().any(|(_, part)| *part != GrantedPart::None);
            let alone = grants.iter().map(granted).zip(places);
            let by: Vec<&Place> = alone.filter(|(parts, _)| grants_some(parts)).map(|(_, place)| place).collect();
            let parts = granted(&all);
            if parts.iter().any(|(_, part)| *part != GrantedPart::All) {
                missing.extend(&part);
            }
            parts.into_iter().map(move |(what, part)| AskedPart { what, part, by: by.clone() })
        });
        let asked = asked.collect();
        TaskExplanation { name, task, asked, missing }
    }
}

impl TaskExplanation<'_> {
    /// The table that would grant what is missing; `None` if nothing is.
    fn grant(&self, flow: &FlowName) -> Option<String> {
        grant_text(flow, self.name, &self.missing)
    }

    fn json(&self, flow: &FlowName) -> serde_json::Value {
        let place = |place: &&Place| json!({ "file": &*place.file, "line": place.line });
        let asked = |AskedPart { what, part, by }: &AskedPart<'_>| json!({ "what": what, "granted": part_word(*part), "by": by.iter().map(place).collect::<Vec<_>>() });
        json!({
            "task": self.name.as_str(),
            "queue": self.task.queue.as_str(),
            "module": self.task.module.to_string(),
            "asked": self.asked.iter().map(asked).collect::<Vec<_>>(),
            "grant": self.grant(flow),
        })
    }

    fn print(&self, flow: &FlowName, rules: &Rules) {
        output::say!("{}", sanitize::one_line(&format!("{} in the queue {}", self.name, self.task.queue)));
        for AskedPart { what, part, by } in &self.asked {
            let by: Vec<String> = by.iter().map(|place| format!("{}, line {}", place.file, place.line)).collect();
            let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", and ")) };
            let part = match part {
                GrantedPart::All => "granted",
                GrantedPart::Some => "granted in part",
                GrantedPart::None => "refused",
            };
            output::say!("  {}", sanitize::one_line(&format!("{what}: {part}{by}")));
        }
        if let Some(grant) = self.grant(flow) {
            let file = writable_settings_file().display().to_string();
            print_advice(&format!("add this to {file} where the task is called"), &grant);
        }
        for name in self.task.access.secrets.iter().filter(|name| !rules.secrets.0.contains_key(*name)) {
            output::say!("  The settings have no [secret.{name}], so requests cannot contain it.");
        }
    }
}

/// Prints the table that would grant the rest. `who` says who adds it, and to what.
pub(super) fn print_advice(who: &str, grant: &str) {
    output::say!("  {}", sanitize::one_line(&format!("To grant the rest, {who}:")));
    for line in std::iter::once("").chain(grant.lines()).chain([""]) {
        output::say!("{}", sanitize::one_line(line));
    }
}

/// The table that grants this to a task; `None` if it is nothing.
pub(super) fn grant_text(flow: &FlowName, task: &NodeName, access: &Access) -> Option<String> {
    let named: String = grant_lines(access);
    let lines = write_access_lines(&Access {
        config: BTreeSet::new(),
        variables: BTreeSet::new(),
        directories: BTreeMap::new(),
        ..access.clone()
    });
    (!access.is_empty()).then(|| format!("[[grant]]\nflow = \"{flow}\"\ntask = \"{task}\"\n{lines}{named}"))
}

/// The keys of a table that give what the flow only names: the operator writes the values.
fn grant_lines(access: &Access) -> String {
    let values = |key: &str, names: &BTreeSet<SettingName>| {
        let values: Vec<String> = names.iter().map(|name| format!("{name} = \"VALUE\"")).collect();
        if values.is_empty() { String::new() } else { format!("{key} = {{ {} }}\n", values.join(", ")) }
    };
    let directory = |(name, directory_use): (&DirectoryName, &DirectoryUse)| match directory_use {
        DirectoryUse::Read => format!("{name} = {{ path = \"/FULL/PATH\" }}"),
        DirectoryUse::Write => format!("{name} = {{ path = \"/FULL/PATH\", write = true, max = \"1GiB\" }}"),
    };
    let directories: Vec<String> = access.directories.iter().map(directory).collect();
    let directories = match directories.is_empty() {
        true => String::new(),
        false => format!("dirs = {{ {} }}\n", directories.join(", ")),
    };
    format!("{}{}{directories}", values("config", &access.config), values("env", &access.variables))
}

pub(super) const fn part_word(part: GrantedPart) -> &'static str {
    match part {
        GrantedPart::All => "all",
        GrantedPart::Some => "some",
        GrantedPart::None => "none",
    }
}
