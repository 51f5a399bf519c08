//! `waft rehearse`: reports what happens if a task of a flow fails, without calling a guest.

mod page;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use api::{Rehearsal, RehearsalQuery};
use client::Client;
use engine::{Clock as _, SystemClock};
use flow::{Flow, NodeName};
use logbook::LoadError;
use machine::Machine;
use rehearsal::{InvalidResults, Limits, Modules, Request, Results, Stubs};

use super::{
    remote::cli_error,
    run_location::{LocalRun, RunLocation, locate_to_read, missing},
};
use crate::{
    arguments::RehearseFlags,
    colour,
    display::rehearsal::lines,
    exit::{CliError, Exit},
    flow_file, input_file,
    modules::{self, Purpose},
    output::{self, Stream},
    output_file, sanitize,
    settings::Settings,
};

/// The maximum size of a file with results, in bytes.
const MAX_RESULTS_BYTES: u64 = 64 << 20;

pub(super) async fn run(settings: &Settings, flags: RehearseFlags) -> Result<Exit, CliError> {
    let results = flags.results.as_deref().map(read_results).transpose()?.unwrap_or_default();
    let only = flags.node.as_deref().map(NodeName::new).transpose().map_err(CliError::invalid)?;
    let (flow, modules, machine) = match (&flags.against, &flags.flow) {
        (Some(run), _) => {
            let local = match locate_to_read(settings, run).await? {
                RunLocation::Local(local) => local,
                RunLocation::Server(client) => return at_server(&client, run, &flags).await,
            };
            let machine = recorded(settings, local).await?;
            let flow = machine.flow().clone();
            (flow.clone(), stored_modules(settings, &flow).await?, Some(machine))
        }
        (None, Some(path)) => {
            let inputs = flow_file::parse_values(&flags.values)?;
            let library = modules::open_to_read(settings).await?;
            let mut checked = flow_file::check(&library, path, &inputs, Purpose::Check).await?;
            let modules = std::mem::take(&mut checked.modules);
            (checked.into_flow()?, modules, None)
        }
        (None, None) => unreachable!("clap requires one of them"),
    };
    let stubs = Stubs::new(&flow, &modules, &results).map_err(|errors| invalid_results(&errors, &flags))?;
    let request = Request { stubs: &stubs, now: SystemClock.now(), only, limits: Limits::default() };
    let rehearsed = match machine {
        None => rehearsal::rehearse(flow.clone(), &request),
        Some(machine) => rehearsal::rehearse_recorded(machine, &request),
    };
    let rehearsed = rehearsed.map_err(|error| {
        let hint = error.hint.clone();
        CliError::invalid(error).hint(hint)
    })?;
    if let Some(path) = &flags.report {
        output_file::replace(path, page::page(&flow, &rehearsed).as_bytes())?;
    }
    print(&rehearsed, flags.json)
}

/// Lets the server of a run rehearse it: the server has its records and its modules.
async fn at_server(client: &Client, run: &str, flags: &RehearseFlags) -> Result<Exit, CliError> {
    if flags.results.is_some() || flags.report.is_some() {
        return Err(CliError::invalid(anyhow!("run {run} is not in the logbook of this machine")).hint(
            "--results and --report need the records of the run: name the logbook of the server with --logbook",
        ));
    }
    let query = flags.node.iter().fold(RehearsalQuery::default(), |query, node| query.node(node));
    print(&client.rehearsal(run, &query).await.map_err(cli_error)?, flags.json)
}

fn print(rehearsed: &Rehearsal, json: bool) -> Result<Exit, CliError> {
    match json {
        true => output::json(serde_json::to_string(rehearsed).map_err(CliError::unreachable)?),
        false => lines(rehearsed, colour::on(Stream::Out)).iter().for_each(|line| output::line(line)),
    }
    Ok(Exit::Success)
}

fn read_results(path: &Path) -> Result<Results, CliError> {
    let shown = path.display();
    let text = input_file::read_text(path, MAX_RESULTS_BYTES);
    let text = text.with_context(|| format!("could not read the results {shown}")).map_err(CliError::invalid)?;
    Results::parse(&text).map_err(|error| {
        let hint = error.hint().to_owned();
        CliError::invalid(anyhow!(error).context(format!("{shown} has no results"))).hint(hint)
    })
}

/// The error for results that do not fit the flow: all known problems at once.
fn invalid_results(errors: &[InvalidResults], flags: &RehearseFlags) -> CliError {
    let file = flags.results.as_deref().unwrap_or(Path::new("")).display();
    let problems: Vec<String> = errors.iter().map(|error| format!("{file}: {error}")).collect();
    let error = CliError::invalid(anyhow!("{}", problems.join("\n       ")));
    errors.first().map(|first| first.hint().to_owned()).into_iter().fold(error, CliError::hint)
}

/// The state of a run in the logbook of this machine.
async fn recorded(settings: &Settings, LocalRun { logbook, run }: LocalRun) -> Result<Machine, CliError> {
    let history = logbook.load(&run).await.map_err(|error| match error {
        LoadError::Missing { .. } => missing(settings, &run),
        error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. }) => CliError::unreachable(error),
    })?;
    let machine = history.into_machine().map_err(CliError::unreachable)?;
    let state = machine.state();
    if state.is_final() {
        return Err(CliError::invalid(anyhow!("run {run} has ended in {state}: nothing of it can fail any more"))
            .hint("rehearse its flow: `waft rehearse FLOW`"));
    }
    Ok(machine)
}

/// The modules of a recorded flow, as far as the store has them. Of the results of others nothing is known.
async fn stored_modules(settings: &Settings, flow: &Arc<Flow>) -> Result<Modules, CliError> {
    let library = modules::open_to_read(settings).await?;
    let mut known = Modules::new();
    for (_, name, task) in flow.tasks() {
        if known.contains_key(&task.module) {
            continue;
        }
        match modules::find(&library, &task.module.to_string(), (Path::new("."), None), Purpose::Inspect).await {
            Ok(found) => drop(known.insert(found.digest, found.content)),
            Err(error) => {
                let reason = sanitize::one_line(&format!("{error:#}"));
                output::note!("the results of {name} are not known: {reason}");
            }
        }
    }
    Ok(known)
}
