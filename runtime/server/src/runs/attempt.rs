//! Reads one attempt of a run with everything that its replay needs.
//!
//! The records of the run are replayed through its machine up to the attempt, which gives its job. So an attempt whose records
//! are trimmed cannot be read any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use flow::{
    Action, Attempt, CallId, Digest, FailureKind, Firing, NodeName, RunId, Size, Task, Value, ValueName, Values,
};
use logbook::{AppliedRecord, LoadError, Logbook, Replay, Version};
use machine::{Call, Fact, Machine, NodeAttempt, Record};
use protocol::{CallLog, HttpRecord, Job, MAX_ATTEMPT_BYTES, RecordedAttempt, RecordedOutcome};
use store::{FetchError, Store};
use tokio::task::spawn_blocking;

use crate::{
    auth::permission::Permission,
    extract::{Query, RunValue},
    problem::Problem,
    runs::history::{Collector, replay_run},
    state::Shared,
    turns,
};

/// One attempt of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedAttempt {
    /// The run.
    pub run: RunId,
    /// The task, or an element of its list.
    pub task: NodeName,
    /// Apply or rollback.
    pub action: Action,
    /// The firing; `None` for the last one.
    pub firing: Option<Firing>,
    /// The attempt; `None` for the last one.
    pub attempt: Option<Attempt>,
}

/// Why an attempt cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The run cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The records have no such attempt.
    #[error("{}", missing(wanted, *trimmed))]
    Missing {
        /// The attempt that was wanted.
        wanted: WantedAttempt,
        /// The number of trimmed records.
        trimmed: Version,
        /// What the records have, in words for a user.
        known: String,
    },
    /// It is larger than a replay may be.
    #[error(
        "the module, the values and the HTTP record of the attempt have {} together, and at most {} can be replayed",
        Size(*.size), Size(MAX_CONTENT_BYTES)
    )]
    TooLarge {
        /// The bytes of all of them.
        size: u64,
    },
    /// The store does not have something any more that the attempt got.
    #[error("{what} of the attempt is not in the store any more: {digest}")]
    Deleted {
        /// The module, a value or the record.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The store could not be read.
    #[error("could not read {what} of the attempt: {digest}")]
    Content {
        /// The module, a value or the record.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The error of the store.
        source: Box<FetchError>,
    },
}

fn missing(WantedAttempt { run, task, action, firing, attempt }: &WantedAttempt, trimmed: Version) -> String {
    let attempt = attempt.map(|attempt| format!("attempt {attempt} of ")).unwrap_or_default();
    let firing = firing.map(|firing| format!(" in firing {firing}")).unwrap_or_default();
    let trimmed = match trimmed {
        Version::NONE => String::new(),
        trimmed => {
            format!("; its first {} records were trimmed, and what they contained cannot be replayed", trimmed.get())
        }
    };
    format!("run {run} has no {attempt}{action} of {task}{firing}{trimmed}")
}

impl AttemptError {
    fn of_store(what: &'static str, digest: Digest, source: FetchError) -> Self {
        match source {
            FetchError::Missing { .. } => Self::Deleted { what, digest },
            source => Self::Content { what, digest, source: Box::new(source) },
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { known, .. } => Some(known.clone()),
            Self::Load(_) => None,
            Self::TooLarge { .. } => Some("let the task take a reference to large data in place of the data".into()),
            Self::Deleted { .. } => {
                Some("name the store that the run used with --store, or restore it from a backup".into())
            }
            Self::Content { .. } => Some("see that the store of the server, or --store, can be read".into()),
        }
    }
}

impl From<AttemptError> for Problem {
    fn from(error: AttemptError) -> Self {
        let hint = error.hint();
        let problem = match error {
            AttemptError::Load(error) => error.into(),
            AttemptError::Missing { .. } => Self::missing_attempt(error.to_string()),
            AttemptError::TooLarge { .. } => Self::too_large_answer(error.to_string()),
            AttemptError::Deleted { .. } => Self::deleted_content(error.to_string()),
            AttemptError::Content { .. } => Self::internal(&error),
        };
        hint.into_iter().fold(problem, Self::hint)
    }
}

/// The query of a request for an attempt.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttemptQuery {
    firing: Option<u64>,
    attempt: Option<u32>,
    call: Option<String>,
}

/// The schema of a recorded attempt.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
struct AttemptBytes(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

/// Returns one attempt with everything that `waft replay` needs.
///
/// The body is one message in the format of waft: the job with its inputs, what was recorded of its end, what the guest wrote and
/// used, its recorded HTTP exchanges, and the bytes of its module and its values. It is a file for `waft replay`. Without `firing` or
/// `attempt` it is the last one. The task may be an element of a list: `resize[3]`.
#[utoipa::path(get, operation_id = "run_attempt", path = "/v1/runs/{run}/attempts/{task}", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"),
    ("task" = String, Path, description = "The task, or an element of its list"),
    ("firing" = Option<u64>, Query, description = "The firing"),
    ("attempt" = Option<u32>, Query, description = "The attempt"),
    ("call" = Option<String>, Query, description = "`apply`, which is the default, or `rollback`")),
    responses(
        (status = 200, description = "The attempt", content((inline(AttemptBytes) = "application/octet-stream"))),
        (status = 404, description = "There is no such run, its records have no such attempt, or the store does not have its module and values any more", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "The attempt is too large to be replayed", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn attempt(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    RunValue { run, name }: RunValue,
    Query(AttemptQuery { firing, attempt, call }): Query<AttemptQuery>,
) -> Result<Response, Problem> {
    let invalid = |what: &str, error: String| Problem::bad_request(format!("the {what}: {error}"));
    let task = NodeName::new(name).map_err(|error| invalid("task", error.to_string()))?;
    let action = match call.as_deref() {
        None | Some("apply") => Action::Apply,
        Some("rollback") => Action::Rollback,
        Some(other) => return Err(invalid("call", format!("{other:?} is neither apply nor rollback"))),
    };
    let (firing, attempt) = (firing.map(Firing::new), attempt.map(Attempt::new));
    let wanted = WantedAttempt { run, task, action, firing, attempt };
    let found = find(&state.dependencies.logbook, &wanted).await?;
    let store = &*state.dependencies.modules.store;
    let size = found.size(store).await?;
    // The contents are in memory twice while the message is made.
    let memory = state.large_answers.take(permission.sender(), usize::try_from(2 * size).unwrap_or(usize::MAX))?;
    let store = state.dependencies.modules.store.clone();
    // The store reads a file to its end, also if the client leaves: its memory counts until then.
    turns::to_its_end(async move {
        let recorded = found.with_contents(&*store).await?;
        let bytes = spawn_blocking(move || recorded.encode()).await.expect("encoding does not panic");
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, bytes.len().to_string()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Ok::<_, Problem>((headers, memory.body(bytes.into())).into_response())
    })
    .await
}

/// Reads one attempt of a run with everything that its replay needs.
///
/// # Errors
/// [`AttemptError`] when there is no such attempt, or it cannot be read.
pub async fn read(
    logbook: &Arc<dyn Logbook>,
    store: &dyn Store,
    wanted: &WantedAttempt,
) -> Result<RecordedAttempt, AttemptError> {
    let found = find(logbook, wanted).await?;
    found.size(store).await?;
    found.with_contents(store).await
}

/// An attempt without the contents that it names.
struct AttemptWithoutContents(RecordedAttempt);

impl AttemptWithoutContents {
    /// The contents that it names, each once, and what they are: first the module, so that a store without any is noticed by it.
    fn contents(&self) -> Vec<(Digest, &'static str)> {
        let Self(RecordedAttempt { job, log, .. }) = self;
        let provided = job.rollback.iter().filter_map(|(outcome, _)| outcome.provided());
        let values = provided.chain([&job.inputs]).flat_map(Values::values).filter_map(Value::digest);
        let record = log.http.as_ref().and_then(HttpRecord::digest).map(|digest| (digest, "the HTTP record"));
        let module = (job.module, "the module");
        let mut seen = BTreeSet::new();
        let named = [module].into_iter().chain(values.map(|digest| (digest, "a value"))).chain(record);
        named.filter(|(digest, _)| seen.insert(*digest)).collect()
    }

    /// The bytes of its contents together.
    async fn size(&self, store: &dyn Store) -> Result<u64, AttemptError> {
        let mut size = 0_u64;
        for (digest, what) in self.contents() {
            let stored = store.size(&digest).await.map_err(|source| AttemptError::of_store(what, digest, source))?;
            size = size.saturating_add(stored.ok_or(AttemptError::Deleted { what, digest })?);
        }
        check_size(size)
    }

    /// Adds the contents, as long as they are not too large together.
    async fn with_contents(self, store: &dyn Store) -> Result<RecordedAttempt, AttemptError> {
        let (contents, Self(mut attempt)) = (self.contents(), self);
        let mut size = 0;
        for (digest, what) in contents {
            let bytes = store.fetch(&digest).await.map_err(|source| AttemptError::of_store(what, digest, source))?;
            size = check_size(size + bytes.len() as u64)?;
            attempt.contents.insert(digest, bytes.into());
        }
        Ok(attempt)
    }
}

/// The maximum size of a job and a log without the contents that they name, in bytes. Both travel over a broker.
const MAX_MESSAGE_BYTES: u64 = 16 << 20;

/// The maximum size of the contents of an attempt together, in bytes.
const MAX_CONTENT_BYTES: u64 = MAX_ATTEMPT_BYTES - MAX_MESSAGE_BYTES;

fn check_size(size: u64) -> Result<u64, AttemptError> {
    if size > MAX_CONTENT_BYTES { Err(AttemptError::TooLarge { size }) } else { Ok(size) }
}

/// Finds an attempt in the records of its run.
async fn find(logbook: &Arc<dyn Logbook>, wanted: &WantedAttempt) -> Result<AttemptWithoutContents, AttemptError> {
    let summary = logbook.summary(&wanted.run).await?;
    let search = Search { wanted: wanted.clone(), found: None, last: None, trimmed: Version::NONE };
    let (loaded, search) = replay_run(logbook, &summary, search).await?;
    let mut found = loaded.answer(move |machine| search.end(machine)).await?;
    if let Some(log) = logbook.attempt_log(&found.job.call).await? {
        found.worker = found.worker.or(log.worker);
        found.log = log.log;
    }
    Ok(AttemptWithoutContents(found))
}

/// The search for an attempt in records.
struct Search {
    wanted: WantedAttempt,
    found: Option<RecordedAttempt>,
    /// The last call of the task, whatever was wanted of it.
    last: Option<CallId>,
    trimmed: Version,
}

impl Collector for Search {
    fn start(&mut self, replay: &Replay) {
        self.trimmed = replay.version();
    }

    fn add_record(&mut self, record: &Record, machine: Option<&Machine>) {
        self.add_outcome(record, machine);
    }

    fn add_applied(&mut self, applied: AppliedRecord, machine: &Machine) {
        applied.calls.into_iter().for_each(|call| self.add_call(call, machine));
    }
}

impl Search {
    /// The attempt that was found, given the machine after all records.
    fn end(mut self, machine: &Machine) -> Result<RecordedAttempt, AttemptError> {
        self.found.take().ok_or_else(|| self.missing(machine))
    }

    /// Adds a dispatched call, given the machine after its record.
    fn add_call(&mut self, call: Call, machine: &Machine) {
        let WantedAttempt { task, action, firing, attempt, .. } = &self.wanted;
        if call.id.task != *task {
            return;
        }
        self.last = Some(call.id.clone());
        let is_wanted = call.id.action == *action
            && firing.is_none_or(|firing| firing == call.id.firing)
            && attempt.is_none_or(|attempt| attempt == call.id.attempt);
        if let Some(task) = machine.task(&call.id.task).filter(|_| is_wanted) {
            self.found = Some(RecordedAttempt {
                job: Job::of_call(&machine.flow().name, task, call),
                outcome: None,
                worker: None,
                ended_at: None,
                log: CallLog::default(),
                contents: BTreeMap::new(),
            });
        }
    }

    /// Adds the end of the attempt, if the record has it, given the machine before the record.
    fn add_outcome(&mut self, record: &Record, machine: Option<&Machine>) {
        let Some((ended, action)) = ended(&record.fact) else { return };
        let Some((found, machine)) = self.found.as_mut().zip(machine) else { return };
        let CallId { task, firing, attempt, action: own, .. } = &found.job.call;
        if (ended.firing, ended.attempt, action) != (*firing, *attempt, *own) {
            return;
        }
        let Some((name, called)) = machine.call_of(record.firing, ended.node) else { return };
        if name != *task {
            return;
        }
        // A worker that was lost may have answered later. If a job was delivered twice, the run went on with the first outcome.
        if matches!(record.fact, Fact::LateOutcome { .. }) && found.outcome.as_ref().is_some_and(is_known) {
            return;
        }
        let (outcome, worker) = outcome(&record.fact, called);
        if let Some(outcome) = outcome {
            found.outcome = Some(outcome);
            found.ended_at = Some(record.at);
            found.worker = worker;
        }
    }

    fn missing(&self, machine: &Machine) -> AttemptError {
        let task = &self.wanted.task;
        let known = match &self.last {
            Some(CallId { firing, attempt, action, .. }) => {
                format!("the last call of {task} in its records is attempt {attempt} of {action} in firing {firing}")
            }
            None if machine.task(task).is_none() => "`waft show RUN` lists its tasks".to_owned(),
            None if task.as_element().is_none() => {
                format!("its records have no call of {task}; of a task with `for_each`, name an element with --element")
            }
            None => format!("its records have no call of {task}"),
        };
        AttemptError::Missing { wanted: self.wanted.clone(), trimmed: self.trimmed, known }
    }
}

/// The attempt that a record ends.
fn ended(fact: &Fact) -> Option<(NodeAttempt, Action)> {
    match fact {
        Fact::Succeeded { attempt, .. } | Fact::Remembered { attempt, .. } | Fact::Failed { attempt, .. } => {
            Some((*attempt, Action::Apply))
        }
        Fact::RolledBack { attempt, .. } | Fact::RollbackFailed { attempt, .. } => Some((*attempt, Action::Rollback)),
        Fact::Lost { attempt, action, .. } | Fact::LateOutcome { attempt, action, .. } => Some((*attempt, *action)),
        _ => None,
    }
}

/// Whether an outcome says how the guest ended.
fn is_known(outcome: &RecordedOutcome) -> bool {
    match outcome {
        RecordedOutcome::Succeeded(_) | RecordedOutcome::RolledBack => true,
        RecordedOutcome::Failed(failure) => failure.kind != FailureKind::Cancelled,
        RecordedOutcome::Lost => false,
    }
}

/// What a record says of the end of an attempt, with the names of its module.
fn outcome(fact: &Fact, task: &Task) -> (Option<RecordedOutcome>, Option<flow::WorkerName>) {
    let by_module = |provided: &Values| {
        let rename = |(own, name): (&ValueName, &ValueName)| Some((own.clone(), provided.get(name)?.clone()));
        RecordedOutcome::Succeeded(task.provides.iter().filter_map(rename).collect())
    };
    match fact {
        Fact::Succeeded { provided, worker, .. } => (Some(by_module(provided)), worker.clone()),
        Fact::Remembered { provided, .. } => (Some(by_module(provided)), None),
        Fact::Failed { failure, worker, .. } | Fact::RollbackFailed { failure, worker, .. } => {
            (Some(RecordedOutcome::Failed(failure.clone())), worker.clone())
        }
        Fact::RolledBack { worker, .. } => (Some(RecordedOutcome::RolledBack), worker.clone()),
        Fact::Lost { worker, .. } => (Some(RecordedOutcome::Lost), worker.clone()),
        Fact::LateOutcome { outcome, worker, .. } => {
            let outcome = outcome.as_ref().and_then(|outcome| match outcome {
                flow::Outcome::Provided(provided) => Some(by_module(provided)),
                flow::Outcome::Failed(failure) => Some(RecordedOutcome::Failed(failure.clone())),
                flow::Outcome::Unknown => None,
            });
            (outcome, worker.clone())
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests;
