//! What the workers of a server grant of what a flow asks for, for `waft grants explain` and `waft check`.

use client::api::{AskingTask, ExplainedPart, ExplainedTask, GrantsQuestion};
use flow::{Access, Flow, FlowName, NodeName, file::write_access_lines};
use protocol::MAX_ASKED_PARTS;
use serde_json::json;

use super::{
    grants::{grant_text, print_advice},
    remote,
};
use crate::{
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// Prints how much the workers grant, and what their operators would have to add.
pub(super) async fn explain(settings: &Settings, flow: &Flow, as_json: bool) -> Result<Exit, CliError> {
    let ExplainedFlow { name, tasks } = ask(settings, flow).await?;
    for explained in tasks {
        let grant = missing(&name, flow, &explained);
        if as_json {
            let mut line = serde_json::to_value(&explained).map_err(CliError::unreachable)?;
            line["grant"] = json!(grant);
            output::json(line);
            continue;
        }
        let ExplainedTask { task, queue, workers, asked, .. } = &explained;
        output::say!("{}", sanitize::one_line(&format!("{task} in the queue {queue}: {}", answered(*workers))));
        for part in asked.iter().filter(|_| *workers > 0) {
            output::say!("  {}", sanitize::one_line(&format!("{}: {}", part.what, counted(part, *workers))));
        }
        if let Some(grant) = grant.filter(|_| *workers > 0) {
            print_advice("the operator of the workers adds this to their settings", &grant);
        }
    }
    Ok(Exit::Success)
}

/// Describes for `waft check` what each task asks for, and how much of it the workers grant.
pub(super) async fn describe(settings: &Settings, flow: &Flow) -> Result<Vec<(String, String)>, CliError> {
    let describe = |ExplainedTask { task, queue, workers, asked, .. }: ExplainedTask| {
        let part = |part: &ExplainedPart| match workers {
            0 => part.what.clone(),
            _ => format!("{} ({})", part.what, counted(part, workers)),
        };
        let parts: Vec<String> = asked.iter().map(part).collect();
        let nobody = if workers == 0 { format!(" (no worker of the queue {queue} answered)") } else { String::new() };
        (task, format!("{}{nobody}", parts.join(", ")))
    };
    Ok(ask(settings, flow).await?.tasks.into_iter().map(describe).collect())
}

/// What the server says of the tasks of a flow that ask for something.
struct ExplainedFlow {
    /// The flow as the server calls it: for a token of a namespace, it is in the namespace.
    name: FlowName,
    tasks: Vec<ExplainedTask>,
}

async fn ask(settings: &Settings, flow: &Flow) -> Result<ExplainedFlow, CliError> {
    let mut explained = ExplainedFlow { name: flow.name.clone(), tasks: Vec::new() };
    let client = remote::client(settings)?;
    for tasks in questions(flow) {
        let question = GrantsQuestion { flow: flow.name.to_string(), tasks };
        let answer = client.explain_grants(&question).await.map_err(remote::cli_error)?;
        // A server of an earlier waft does not say it.
        if !answer.flow.is_empty() {
            explained.name = answer.flow.parse().map_err(CliError::unreachable)?;
        }
        explained.tasks.extend(answer.tasks);
    }
    Ok(explained)
}

/// The tasks that ask for something, in groups of as many as the server answers at once.
fn questions(flow: &Flow) -> Vec<Vec<AskingTask>> {
    let (mut groups, mut parts): (Vec<Vec<AskingTask>>, usize) = (Vec::new(), 0);
    for (_, name, task) in flow.tasks().filter(|(_, _, task)| task.access.needs_grants()) {
        let asking = AskingTask {
            task: name.to_string(),
            queue: task.queue.to_string(),
            module: task.module.to_string(),
            // Arguments need no grant.
            allow: write_access_lines(&Access { arguments: Vec::new(), ..task.access.clone() }),
        };
        parts += task.access.count_parts();
        match groups.last_mut() {
            Some(group) if parts <= MAX_ASKED_PARTS => group.push(asking),
            Some(_) | None => {
                parts = task.access.count_parts();
                groups.push(vec![asking]);
            }
        }
    }
    groups
}

/// The table that grants what some worker does not grant; `None` if there is nothing.
fn missing(
    full_name: &FlowName,
    flow: &Flow,
    ExplainedTask { task: name, workers, asked, .. }: &ExplainedTask,
) -> Option<String> {
    let (_, name, task): (_, &NodeName, _) = flow.tasks().find(|(_, own, _)| own.as_str() == name)?;
    let mut missing = Access::default();
    // The server answers part by part, in this order.
    for (access, _) in task.access.parts().zip(asked).filter(|(_, part)| part.all < *workers) {
        missing.extend(&access);
    }
    grant_text(full_name, name, &missing)
}

fn answered(workers: u32) -> String {
    match workers {
        0 => "no worker answered".to_owned(),
        1 => "1 worker answered".to_owned(),
        workers => format!("{workers} workers answered"),
    }
}

/// How many workers grant a part.
fn counted(ExplainedPart { all, some, none, .. }: &ExplainedPart, workers: u32) -> String {
    if *all == workers {
        return if workers == 1 { "granted" } else { "granted by all workers" }.to_owned();
    }
    if *none == workers {
        return if workers == 1 { "refused" } else { "refused by all workers" }.to_owned();
    }
    let counts = [(*all, "granted by"), (*some, "granted in part by"), (*none, "refused by")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{word} {count} of {workers} workers")).collect();
    counts.join(", ")
}
