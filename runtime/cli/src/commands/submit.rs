//! `waft submit`: submits a flow to a server, and uploads the modules that it lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow};
use client::{
    Client, ClientError,
    api::{self, Run, Submission, ValuesObject, Worker, WorkerState},
};
use flow::{Diagnostic, Digest, Draft, Labels, Severity};
use serde_json::json;
use tokio::time::timeout;

use super::{missing_workers, remote, source::Source};
use crate::{
    arguments::SubmitFlags,
    exit::{CliError, Exit},
    flow_file::{self, CheckedFlow},
    input_file,
    modules::{self, ModuleLibrary, Reference, folder_of},
    otlp::parent_of_environment,
    sanitize,
    settings::Settings,
};

/// How long the server may take to answer a question about a new run: it lets workers answer for a second. The run has started, and
/// nothing depends on the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(settings: &Settings, flags: SubmitFlags) -> Result<Exit, CliError> {
    let SubmitFlags { flow: path, values, labels, run_id, wait, json: as_json } = flags;
    let labels = Labels::parse(&labels.label).map_err(CliError::invalid)?.to_map();
    let inputs = flow_file::parse_values(&values)?;
    let client = remote::client(settings)?;
    let text = flow_file::read(&path)?;
    let modules = push_modules(Target::Server(&client), &path, &text, flow::file::read(&text)).await?;
    let submission = Submission { run: run_id, flow: text, modules, inputs: ValuesObject::from(&inputs), labels };
    let submitted = match parent_of_environment() {
        Some(span) => client.submit_traced(&submission, &span.to_string()).await,
        None => client.submit(&submission).await,
    };
    let run = submitted.map_err(|error| refused(&path, &submission.flow, error))?;
    if !run.warnings.is_empty() {
        crate::output::note!("{}", remote::render(&run.warnings, &path.display().to_string(), &submission.flow));
    }
    if wait {
        if !as_json {
            crate::output::note!("run {}", sanitize::one_line(&run.run));
        }
        return remote::follow(&Source::Server(client), &run, as_json).await;
    }
    if as_json {
        let Run { run, flow, state, .. } = run;
        crate::output::json(json!({"run": run, "flow": flow, "state": state}));
    } else {
        crate::output::say!("{}", run.run);
        // Programs, which read JSON, need not wait for this: they find it in the run.
        if let Some(advice) = advice(&client, &run).await {
            crate::output::note!("{advice}");
        }
    }
    Ok(Exit::Success)
}

/// Names the queues in which calls of a run wait although no worker takes jobs from them; `None` if there are none, or if the server
/// does not say so soon.
async fn advice(client: &Client, run: &Run) -> Option<String> {
    // A token that may only submit gets no tasks, and may not ask.
    if run.state.is_final() || run.tasks.is_empty() {
        return None;
    }
    let run = timeout(ANSWER_TIMEOUT, client.run(&run.run)).await.ok()?.ok()?;
    let waiting = run.tasks.iter().filter_map(|task| task.out.as_ref()).filter(|out| out.unserved);
    let queues: BTreeSet<&str> = waiting.map(|out| out.queue.as_str()).collect();
    if queues.is_empty() {
        return None;
    }
    // A worker whose slots are all taken consumes no queue for a while, and still has its queues.
    let workers = timeout(ANSWER_TIMEOUT, client.workers()).await.ok()?.ok()?.workers;
    let takes_jobs = |worker: &&Worker| worker.state.as_ref().is_none_or(|state| *state == WorkerState::Active);
    let served = workers.iter().filter(takes_jobs).flat_map(|worker| &worker.queues).map(String::as_str);
    missing_workers::advice(queues, served)
}

/// Where to upload the module files that flows and edits name.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// A server.
    Server(&'a Client),
    /// The store of this machine.
    Local(&'a ModuleLibrary),
}

/// Uploads the module files that a flow names and the target lacks; returns the digests of all of them.
pub(super) async fn push_modules(
    target: Target<'_>,
    path: &Path,
    text: &str,
    draft: Draft,
) -> Result<BTreeMap<String, String>, CliError> {
    let folder = folder_of(path);
    let (mut modules, mut diagnostics) = (BTreeMap::new(), draft.diagnostics);
    // Many names may be of one content.
    let mut contents = BTreeMap::new();
    for (alias, reference) in draft.modules.iter().filter(|(_, reference)| !reference.text.is_empty()) {
        let found = match modules::reference(&reference.text, &folder) {
            Ok(Reference::Name) => continue,
            Ok(Reference::File(file)) => component(&file).await,
            Err(error) => Err(error),
        };
        match found {
            Ok((digest, bytes)) => {
                modules.insert(alias.clone(), digest.to_string());
                contents.insert(digest, bytes);
            }
            Err(error) => diagnostics.push(Diagnostic {
                severity: Severity::Error,
                message: format!("module {alias:?}: {error:#}"),
                hint: Some("build the module, or name a file, or a tag or digest of the server's".into()),
                span: reference.span.clone(),
            }),
        }
    }
    if !diagnostics.is_empty() {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
        let checked =
            CheckedFlow { path: path.into(), text: text.into(), flow: None, diagnostics, modules: Default::default() };
        return checked.into_flow().map(|_| BTreeMap::new());
    }
    for (digest, bytes) in contents {
        push(target, digest.to_string(), bytes).await?;
    }
    Ok(modules)
}

/// Uploads a module if the target lacks it; returns its digest.
async fn push(target: Target<'_>, digest: String, bytes: Vec<u8>) -> Result<String, CliError> {
    let client = match target {
        Target::Server(client) => client,
        Target::Local(library) => {
            let stored = library.store.put(bytes.into()).await;
            return stored.map(|digest| digest.to_string()).map_err(CliError::unreachable);
        }
    };
    if client.module(&digest).await.map_err(remote::cli_error)?.is_none() {
        client.push(bytes, None).await.map_err(remote::cli_error)?;
    }
    Ok(digest)
}

/// Uploads a module file if the target lacks it; returns its digest.
pub(super) async fn push_file(target: Target<'_>, file: &Path) -> Result<String, CliError> {
    let (digest, bytes) = component(file).await.map_err(CliError::invalid)?;
    push(target, digest.to_string(), bytes).await
}

/// The component in a module file, and its digest.
pub(super) async fn component(file: &Path) -> anyhow::Result<(Digest, Vec<u8>)> {
    let shown = file.display();
    let read = input_file::read(file, input_file::MAX_MODULE_BYTES);
    let read = read.with_context(|| format!("could not read {shown}"))?;
    let component = modules::compiler().componentize(read.into(), None).await;
    let bytes = component.with_context(|| format!("{shown} is not a module waft can run"))?.into_bytes();
    Ok((store::digest_of(&bytes), bytes.to_vec()))
}

/// Explains a refusal; shows the diagnostics of a flow as `waft check` does.
pub(super) fn refused(path: &Path, text: &str, error: ClientError) -> CliError {
    match &error {
        ClientError::Refused { problem, .. } if !problem.diagnostics.is_empty() => {
            diagnostics_error(path, text, &problem.diagnostics)
        }
        _ => remote::cli_error(error),
    }
}

/// Shows the diagnostics of a flow as `waft check` does.
pub(super) fn diagnostics_error(path: &Path, text: &str, diagnostics: &[api::Diagnostic]) -> CliError {
    let shown = path.display();
    crate::output::note!("{}", remote::render(diagnostics, &shown.to_string(), text));
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == api::Severity::Error).count();
    let plural = if errors == 1 { "" } else { "s" };
    CliError::invalid(anyhow!("{shown} has {errors} error{plural}"))
}
