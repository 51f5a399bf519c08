//! Starts a run: from the text of a flow file to a durably recorded start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{self, Submission, ValuesObject};
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use engine::SubmitError;
use flow::{
    Diagnostic, Draft, Flow, Labels, Namespace, NodeName, QueueName, Revision, RunId, Severity, StoredReferences,
    Values,
    draft::{DraftNode, FlowBody, MissingModule, Span},
};
use logbook::{LoadError, Summary};
use protocol::events::rfc3339;
use store::{FetchError, Refusal};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    namespace,
    resubmission::{Resubmission, reject_different},
    show::{self, ReadRun},
};
use crate::{
    LibraryError, ModuleLibrary, QueueCoverage, WiredFlow,
    audit::Subject,
    auth::{MayRead, client::Client, namespace::CallerNamespace, permission::Permission},
    extract,
    problem::{IN_THE_LOG, Problem, chain},
    state::{self, Shared},
    turns, wire_draft,
};

/// The maximum number of diagnostics in an answer. A text can have hundreds of thousands, each longer than its cause.
const MAX_DIAGNOSTICS: usize = 100;

/// How long a new run may take to be shown: a long one waits for its turn behind whoever reads runs. The sender has to learn soon that it has
/// started.
const MAX_SHOWING: Duration = Duration::from_secs(10);

/// The ids that a run must not have: `/v1/runs/counts` is about all runs.
const RESERVED: [&str; 2] = ["bulk", "counts"];

/// Starts a run of a flow.
///
/// If a run with this id already exists, it is returned as it is, so a request without a response may be sent again. A request
/// with another flow, other inputs, modules or labels is refused. If the server sends as many large answers as it has memory for, or cannot
/// show a new run within ten seconds, the answer has no tasks and no values.
#[utoipa::path(post, operation_id = "submit_run", path = "/v1/runs", tag = "runs", request_body = Submission, params(
    ("traceparent" = Option<String>, Header, description = "The span of the submitter, as in W3C Trace Context: a server that traces continues its trace")), responses(
    (status = 201, description = "The run has started", body = api::Run),
    (status = 200, description = "The run already exists", body = api::Run),
    (status = 409, description = "The id belongs to a run with other content: the differences; or too many runs of the flow or namespace have not ended; or the namespace has no space left", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 413, description = "The request is too large", body = api::Problem,
        content_type = "application/problem+json"),
    (status = 422, description = "The flow has errors: all of them", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn submit(
    State(state): Shared,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    Extension(MayRead(may_read)): Extension<MayRead>,
    Extension(client): Extension<Client>,
    Extension(permission): Extension<Arc<Permission>>,
    headers: HeaderMap,
    extract::Json(mut submission): extract::Json<Submission>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Extension<Subject>, Response), Problem> {
    let run = match &submission.run {
        Some(run) => RunId::new(run),
        None => RunId::new(uuid::Uuid::now_v7().to_string()),
    };
    let run = run.map_err(|error| Problem::bad_request(format!("run: {error}")))?;
    if RESERVED.contains(&run.as_str()) {
        return Err(Problem::bad_request(format!("run: {run} is a part of the path of another request"))
            .hint("choose another run id"));
    }
    let labels = labels_of(&submission, &headers)?;
    // Both may be large: neither is copied here.
    let text = Arc::new(std::mem::take(&mut submission.flow));
    let (to_read, inputs) = (text.clone(), std::mem::take(&mut submission.inputs));
    let read = move || Ok::<_, Problem>((parse_values("inputs", &inputs)?, flow::file::read(&to_read)));
    let (overrides, mut draft) = turns::in_turn(namespace.clone(), read).await?;
    namespace::enter(&mut draft, namespace.as_ref())?;
    override_modules(&mut draft, &submission);
    let draft = Arc::new(draft);
    if !draft.diagnostics.is_empty() {
        return Err(collect_diagnostics(&state, &draft, &text, &overrides, namespace.as_ref()).await);
    }
    let submitted = Resubmission {
        run: &run,
        draft: &draft,
        text: &text,
        overrides: &overrides,
        labels: &labels,
        namespace: namespace.as_ref(),
        client: &client,
    };
    let (status, warnings) = if run_exists(&state, &run).await? {
        reject_different(&state, &submitted).await?;
        (StatusCode::OK, Vec::new())
    } else {
        start(&state, &submitted).await?
    };
    drop((draft, text, overrides));
    let dependencies = &state.dependencies;
    let read = Box::pin(ReadRun::read(&dependencies.logbook, &*dependencies.modules.store, &run));
    let (shared, sender) = (state.clone(), permission.sender().clone());
    let short_warnings = warnings.clone();
    let whole = move |shown: api::Run| {
        let shown = if may_read { shown } else { without_content(shown) };
        let shown = api::Run { warnings, ..shown };
        // The run has started, whether or not the server has memory for a large answer.
        let whole = shared.large_answers.json(&sender, show::encode(&shown));
        whole.or_else(|_| {
            let short = api::Run { warnings: Vec::new(), ..without_content(shown) };
            shared.large_answers.json(&sender, show::encode(&short))
        })
    };
    // Both are boxed because they are large.
    let answer = Box::pin(async { read.await?.answer(whole).await });
    let answer = if status == StatusCode::OK {
        // It may have a long history.
        client.while_present(answer).await?
    } else {
        match timeout(MAX_SHOWING, answer).await {
            Ok(Ok(answer)) => answer,
            // The run has started, whether or not it can be shown now.
            Ok(Err(_)) | Err(_) => {
                let started = started(dependencies.logbook.summary(&run).await?);
                let with_warnings = show::encode(&api::Run { warnings: short_warnings, ..started.clone() });
                let answer = state.large_answers.json(permission.sender(), with_warnings);
                // The server may have no memory for many warnings.
                answer.or_else(|_| state.large_answers.json(permission.sender(), show::encode(&started)))?
            }
        }
    };
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    Ok((status, location, Extension(Subject(run.to_string())), answer))
}

/// The labels of a submission, with the span of its sender if this server traces.
fn labels_of(submission: &Submission, headers: &HeaderMap) -> Result<Labels, Problem> {
    let labels = Labels::of(&submission.labels).map_err(|error| Problem::bad_request(format!("labels: {error}")))?;
    let header = headers.get(traces::PARENT_LABEL).and_then(|value| value.to_str().ok());
    let span: Option<traces::SpanContext> = header.and_then(|text| text.parse().ok());
    let Some(span) = span.filter(|_| traces::global().is_some_and(traces::Traces::accepts_parents)) else {
        return Ok(labels);
    };
    let mut texts = submission.labels.clone();
    // A label that the sender wrote stays.
    texts.entry(traces::PARENT_LABEL.to_owned()).or_insert_with(|| span.to_string());
    // No submission is refused for its header: with as many labels as a run may have, its trace is one of its own.
    Ok(Labels::of(&texts).unwrap_or(labels))
}

/// A run that has started, if it is not shown.
fn started(Summary { run, info, labels, started_at, changed_at, .. }: Summary) -> api::Run {
    let (trace_id, trace_url) = show::trace_of(&run, &labels);
    api::Run {
        run: run.to_string(),
        flow: info.flow.to_string(),
        state: info.state.into(),
        cancelling: false,
        labels: labels.to_map(),
        trace_id,
        trace_url,
        revision: Revision::FIRST.get(),
        started_at: rfc3339(started_at),
        changed_at: rfc3339(changed_at),
        revisions: Vec::new(),
        fired: None,
        firings: Vec::new(),
        skipped: Vec::new(),
        backlogs: Vec::new(),
        schedules: Vec::new(),
        tasks: Vec::new(),
        inputs: ValuesObject::default(),
        provides: ValuesObject::default(),
        failures: BTreeMap::new(),
        warnings: Vec::new(),
    }
}

/// A run for a sender that may not read it, as the run may have existed before, or that cannot get a large answer now.
fn without_content(run: api::Run) -> api::Run {
    api::Run {
        revisions: Vec::new(),
        firings: Vec::new(),
        skipped: Vec::new(),
        backlogs: Vec::new(),
        schedules: Vec::new(),
        tasks: Vec::new(),
        inputs: ValuesObject::default(),
        provides: ValuesObject::default(),
        failures: BTreeMap::new(),
        ..run
    }
}

/// Whether there is such a run.
async fn run_exists(state: &state::State, run: &RunId) -> Result<bool, Problem> {
    match state.dependencies.logbook.summary(run).await {
        Ok(_) => Ok(true),
        Err(LoadError::Missing { .. }) => Ok(false),
        Err(error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => Err(error.into()),
    }
}

async fn start(
    state: &Arc<state::State>,
    submitted: &Resubmission<'_>,
) -> Result<(StatusCode, Vec<api::Diagnostic>), Problem> {
    let Resubmission { run, draft, text, overrides, labels, namespace, client } = *submitted;
    let input_bytes: usize = overrides.values().map(flow::Value::size).sum();
    let label_bytes: usize = labels.iter().map(|(name, value)| name.as_str().len() + value.as_str().len()).sum();
    state.add_bytes(draft.namespace().as_ref(), text.len() + input_bytes + label_bytes).await?;
    let wired = client
        .while_present(async {
            let wired = wire(&state.dependencies.modules, draft, overrides, namespace).await;
            wired.map_err(|diagnostics| diagnostics_problem(&diagnostics, text))
        })
        .await?;
    let foreign = namespace::foreign_names(&wired.flow, namespace);
    if !foreign.is_empty() {
        return Err(diagnostics_problem(&foreign, text));
    }
    let unserved = unserved_queues(&state.dependencies.coverage, &draft.body, &wired.flow);
    if !unserved.is_empty() {
        return Err(diagnostics_problem(&unserved, text));
    }
    let warnings = first_diagnostics(&wired.warnings, Severity::Warning, text);
    let flow = Arc::new(wired.with_source(text));
    match state.dependencies.engine.submit_labelled(run.clone(), flow, labels.clone()).await {
        Ok(_) => Ok((StatusCode::CREATED, warnings)),
        // A concurrent request created the run first.
        Err(SubmitError::Exists { .. }) => {
            if !run_exists(state, run).await? {
                return Err(Problem::unavailable("another request with this id was refused at the same time")
                    .hint("submit it again"));
            }
            reject_different(state, submitted).await?;
            Ok((StatusCode::OK, Vec::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces the modules of a flow with those that the request names.
fn override_modules(draft: &mut Draft, submission: &Submission) {
    for (alias, reference) in &submission.modules {
        draft.modules.entry(alias.clone()).or_default().text.clone_from(reference);
    }
}

/// Collects all diagnostics of a flow whose file already has some.
async fn collect_diagnostics(
    state: &state::State,
    draft: &Arc<Draft>,
    text: &str,
    overrides: &Values,
    limited_to: Option<&Namespace>,
) -> Problem {
    match wire(&state.dependencies.modules, draft, overrides, limited_to).await {
        Ok(_) => diagnostics_problem(&draft.diagnostics, text),
        Err(diagnostics) => diagnostics_problem(&diagnostics, text),
    }
}

/// Parses the values of a request's field and reports all errors at once. A value must not refer to the store, which holds
/// the values of all runs.
pub(super) fn parse_values(field: &str, values: &ValuesObject) -> Result<Values, Problem> {
    values.read(StoredReferences::Reject).map_err(|error| Problem::bad_request(format!("{field}: {error}")))
}

/// Finds the modules of a flow in the store, and wires it, for a sender that may be limited to a namespace.
pub(super) async fn wire(
    library: &ModuleLibrary,
    draft: &Arc<Draft>,
    overrides: &Values,
    limited_to: Option<&Namespace>,
) -> Result<WiredFlow, Vec<Diagnostic>> {
    let namespace = draft.namespace();
    let find = async |text: String| {
        library.find_for_run(&text, namespace.as_ref()).await.map_err(|error| missing_module(&error, limited_to))
    };
    wire_draft(draft.clone(), overrides, &library.maximum(), find).await
}

/// Explains why a module cannot be used, to a sender that may be limited to a namespace.
pub(super) fn missing_module(error: &LibraryError, limited_to: Option<&Namespace>) -> MissingModule {
    let not_found = |why: String| MissingModule::NotFound {
        reason: format!("{why}; the server reads no files, so push the module first, or let `waft submit` do that"),
    };
    let unusable =
        |reason: String, hint: Option<&str>| MissingModule::Unusable { reason, hint: hint.map(str::to_owned) };
    match error {
        LibraryError::NotAdmitted(refusal) => match limited_to {
            Some(namespace) => {
                info!(%namespace, detail = %refusal, "a sender was answered without the details");
                unusable(refusal.without_rules(), Some(Refusal::ADVICE_WITHOUT_RULES))
            }
            None => unusable(refusal.to_string(), Some(refusal.advice())),
        },
        // The text is most likely a file path.
        LibraryError::Name { text, .. } => not_found(format!("{text:?} is no tag and no digest")),
        LibraryError::NoTag { .. } | LibraryError::Fetch(FetchError::Missing { .. }) => not_found(chain(error)),
        error => match limited_to.filter(|_| error.is_about_server()) {
            Some(namespace) => {
                warn!(%namespace, error = chain(error), "a module cannot be used");
                unusable(IN_THE_LOG.to_owned(), None)
            }
            None => unusable(chain(error), None),
        },
    }
}

/// Reports the queues of a flow that no worker serves.
pub(super) fn unserved_queues(coverage: &QueueCoverage, body: &FlowBody, flow: &Flow) -> Vec<Diagnostic> {
    let QueueCoverage::Embedded(queues) = coverage else { return Vec::new() };
    let mut unserved = flow.tasks().filter(|(_, _, task)| !queues.contains(&task.queue)).peekable();
    // Whoever is limited to a namespace learns nothing of the queues of others.
    let namespace = flow.name.namespace();
    let is_known = |queue: &&QueueName| namespace.is_none() || queue.namespace() == namespace;
    let served: Vec<&str> = queues.iter().filter(is_known).map(|queue| queue.as_str()).collect();
    let spans: BTreeMap<&NodeName, Span> = unserved.peek().map(|_| spans_of_queues(body)).unwrap_or_default();
    let diagnostic = |(_, name, task): (_, &NodeName, &flow::Task)| Diagnostic {
        severity: Severity::Error,
        message: format!("no worker takes jobs from the queue {} of task {:?}", task.queue, name.as_str()),
        hint: Some(format!(
            "the worker in this server takes jobs from {}: add the queue to queues under [worker] in its settings, or \
             give it a broker and start `waft worker --queues {}`",
            if served.is_empty() { "no queue of the namespace".to_owned() } else { served.join(", ") },
            task.queue
        )),
        span: spans.get(name).cloned().flatten(),
    };
    unserved.map(diagnostic).collect()
}

/// The span of each task's queue in the file, or of the task.
fn spans_of_queues(body: &FlowBody) -> BTreeMap<&NodeName, Span> {
    let (mut spans, mut bodies) = (BTreeMap::new(), vec![body]);
    while let Some(body) = bodies.pop() {
        for node in &body.nodes {
            match node {
                DraftNode::Task(task) => {
                    let span =
                        task.spans.get("queue").or_else(|| task.spans.get("name")).or_else(|| task.spans.get(""));
                    spans.insert(&task.name, span.cloned());
                }
                DraftNode::Flow(flow) => bodies.push(&flow.body),
            }
        }
    }
    spans
}

/// The problem of a flow that cannot run.
pub(super) fn diagnostics_problem(diagnostics: &[Diagnostic], text: &str) -> Problem {
    let (detail, shown) = shown_diagnostics("the flow", diagnostics, text);
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-flow", "the flow cannot run", detail).diagnostics(shown)
}

/// The problem of the text of a file of edits that cannot be read.
pub(super) fn edits_problem(diagnostics: &[Diagnostic], text: &str) -> Problem {
    let (detail, shown) = shown_diagnostics("the file of edits", diagnostics, text);
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-edits", "the edits cannot be read", detail)
        .diagnostics(shown)
}

/// The errors of a text in one sentence about its owner, and the first of its diagnostics.
fn shown_diagnostics(owner: &str, diagnostics: &[Diagnostic], text: &str) -> (String, Vec<api::Diagnostic>) {
    let errors: Vec<&Diagnostic> =
        diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect();
    let detail = match errors[..] {
        [only] => only.message.clone(),
        _ => format!("{owner} has {} errors", errors.len()),
    };
    (detail, first_diagnostics(diagnostics, Severity::Error, text))
}

/// The first diagnostics, and one of a severity that has the number of the others.
pub(super) fn first_diagnostics(diagnostics: &[Diagnostic], severity: Severity, text: &str) -> Vec<api::Diagnostic> {
    let (shown, others) = diagnostics.split_at(diagnostics.len().min(MAX_DIAGNOSTICS));
    let mut shown = api_diagnostics(shown, text);
    if !others.is_empty() {
        let message = format!("{} more are not shown: `waft check` prints all", others.len());
        shown.extend(api_diagnostics(&[Diagnostic { severity, message, hint: None, span: None }], text));
    }
    shown
}

fn api_diagnostics(diagnostics: &[Diagnostic], text: &str) -> Vec<api::Diagnostic> {
    let lines = flow::Lines::of(text);
    let api_diagnostic = |diagnostic: &Diagnostic| {
        let position = diagnostic.span.as_ref().map(|span| lines.line_and_column(span.start));
        api::Diagnostic {
            severity: diagnostic.severity.into(),
            message: diagnostic.message.clone(),
            hint: diagnostic.hint.clone(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            span: diagnostic.span.as_ref().map(|span| (span.start, span.end)),
        }
    };
    diagnostics.iter().map(api_diagnostic).collect()
}
