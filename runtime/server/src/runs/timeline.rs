//! Shows the attempts of a run with their times.

use std::{collections::BTreeMap, sync::Arc};

use api::{AttemptOutcome, Timeline, TimelineAttempt, TimelineQuery};
use axum::{Extension, extract::State, response::Response};
use flow::{Action, Attempt, CallId, Failure, Firing, NodeKind, NodeName, RunId, State as NodeState, Timestamp};
use logbook::{AppliedRecord, Replay};
use machine::{Change, Fact, Machine, NodeAttempt, NodeChange, Record};
use protocol::events::rfc3339;
use traces::{RunTrace, Traces};

use super::{
    history::{Collector, replay_run},
    list::timestamp,
};
use crate::{
    auth::permission::Permission,
    extract::{Query, Run},
    problem::Problem,
    state::Shared,
};

/// The maximum number of attempts in an answer.
const MAX_ATTEMPTS: usize = 10_000;

/// The default of the maximum.
const DEFAULT_ATTEMPTS: usize = 1_000;

/// The maximum bytes of failures in an answer with several attempts.
const MAX_FAILURE_BYTES: usize = 4 << 20;

/// The memory for an attempt while the answer is made, without its failure.
const BYTES_OF_ATTEMPT: usize = 1 << 10;

/// Shows the attempts of a run with their times.
///
/// They are the attempts of its tasks and of the elements of their lists, those that wait for a notification too, and rollbacks. Without
/// other limits they are the 1,000 attempts that started last. For earlier ones, name the start of the first as `before`.
/// The failures in an answer have at most 4 MiB.
#[utoipa::path(get, operation_id = "run_timeline", path = "/v1/runs/{run}/timeline", tag = "runs", params(
    ("run" = String, Path, description = "The run's id"), TimelineQuery),
    responses(
        (status = 200, description = "The attempts, in the order of their start", body = Timeline),
        (status = 400, description = "The query cannot be read", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn timeline(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Run(run): Run,
    Query(query): Query<TimelineQuery>,
) -> Result<Response, Problem> {
    let filter = AttemptFilter::parse(query)?;
    // The bytes of a failure are twice in memory, and those that are no printable characters take six in JSON.
    let link_bytes = traces::global().map_or(0, Traces::link_bytes);
    // Each address is in the answer and in its JSON, where a character may take two bytes.
    let size = filter.limit * (BYTES_OF_ATTEMPT + 3 * link_bytes) + 7 * MAX_FAILURE_BYTES;
    let logbook = &state.dependencies.logbook;
    let summary = logbook.summary(&run).await?;
    let (loaded, attempts) = replay_run(logbook, &summary, Attempts::new(filter)).await?;
    let (state, sender) = (state.clone(), permission.sender().clone());
    let show = move |machine: &Machine| {
        let memory = state.large_answers.take(&sender, size)?;
        let trace = RunTrace::of(&run, &summary.labels, machine.flow().triggers.is_some());
        let timeline = attempts.into_timeline(&run, trace.as_deref());
        memory.json(serde_json::to_vec(&timeline).expect("strings and numbers are JSON"))
    };
    loaded.answer(show).await
}

/// The attempts that are wanted.
#[derive(Clone)]
struct AttemptFilter {
    task: Option<NodeName>,
    firing: Option<Firing>,
    before: Option<Timestamp>,
    limit: usize,
}

impl AttemptFilter {
    fn parse(TimelineQuery { task, firing, before, limit }: TimelineQuery) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(DEFAULT_ATTEMPTS);
        if !(1..=MAX_ATTEMPTS).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_ATTEMPTS}")));
        }
        let task = task.map(NodeName::new).transpose();
        Ok(Self {
            task: task.map_err(|error| Problem::bad_request(format!("task: {error}")))?,
            firing: firing.map(Firing::new),
            before: before.map(|time| timestamp("before", &time)).transpose()?,
            limit,
        })
    }

    fn matches(&self, span: &Span) -> bool {
        let is_of_task = |task: &NodeName| span.name == *task || span.name.base() == *task;
        self.task.as_ref().is_none_or(is_of_task)
            && self.firing.is_none_or(|firing| firing == span.firing)
            && self.before.is_none_or(|before| span.started_at < before)
    }
}

/// An attempt is one of these at a time in each firing: a task is not applied and rolled back at once.
type NodeOfFiring = (Firing, NodeName);

/// The attempts that were read. Each has a number, in the order of their start.
struct Attempts {
    filter: AttemptFilter,
    open: BTreeMap<NodeOfFiring, (u64, Span)>,
    ended: BTreeMap<u64, Span>,
    /// The bytes of the failures of ended attempts.
    failure_bytes: usize,
    /// The number of the next attempt that matches.
    next: u64,
    /// Attempts with lower numbers are left out, since there is no room for them.
    first_shown: u64,
    trimmed_records: u64,
}

/// An attempt with its times.
struct Span {
    name: NodeName,
    firing: Firing,
    attempt: u32,
    action: Action,
    started_at: Timestamp,
    leased_at: Option<Timestamp>,
    worker: Option<String>,
    end: Option<End>,
}

/// How an attempt ended.
struct End {
    at: Timestamp,
    outcome: AttemptOutcome,
    failure: Option<Failure>,
    retry_in: Option<f64>,
}

impl Collector for Attempts {
    fn start(&mut self, replay: &Replay) {
        let trimmed_records = replay.version().get();
        *self = Self { trimmed_records, ..Self::new(self.filter.clone()) };
        replay.machine().into_iter().for_each(|machine| self.add_outstanding(machine));
    }

    // A record about a call names a node of the machine before it.
    fn add_record(&mut self, record: &Record, machine: Option<&Machine>) {
        self.add_call(record, machine);
    }

    fn add_applied(&mut self, applied: AppliedRecord, _: &Machine) {
        for change in applied.changes {
            if let Change::Node(change) = change {
                self.add_change(change);
            }
        }
    }
}

impl Attempts {
    fn new(filter: AttemptFilter) -> Self {
        Self {
            filter,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            failure_bytes: 0,
            next: 0,
            first_shown: 0,
            trimmed_records: 0,
        }
    }

    /// Adds what a record says of a call besides the changes of its node.
    fn add_call(&mut self, record: &Record, machine: Option<&Machine>) {
        let open = |attempts: &Self, attempt: &NodeAttempt, action: Action| {
            let (name, _) = machine?.call_of(record.firing, attempt.node)?;
            let key = (record.firing.unwrap_or(Firing::FIRST), name);
            let (_, span) = attempts.open.get(&key)?;
            ((span.attempt, span.action) == (attempt.attempt.get(), action)).then_some(key)
        };
        match &record.fact {
            Fact::Leased { attempt, action, worker } => {
                let key = open(self, attempt, *action);
                if let Some((_, span)) = key.and_then(|key| self.open.get_mut(&key)) {
                    span.leased_at = span.leased_at.or(Some(record.at));
                    span.worker = Some(worker.to_string());
                }
            }
            Fact::Lost { attempt, action, .. } => {
                if let Some(key) = open(self, attempt, *action) {
                    self.end(&key, End::without_failure(record.at, AttemptOutcome::Lost), None);
                }
            }
            // The node stays in its state if it has to be rolled back once more.
            Fact::RolledBack { attempt, worker } => {
                if let Some(key) = open(self, attempt, Action::Rollback) {
                    let end = End::without_failure(record.at, AttemptOutcome::RolledBack);
                    self.end(&key, end, worker.as_ref().map(ToString::to_string));
                }
            }
            _ => {}
        }
    }

    fn add_change(&mut self, change: NodeChange) {
        let key = (change.firing, change.name.clone());
        let of_open = self.open.get(&key).map(|(_, span)| (span.attempt, span.action));
        if !change.state.is_called() {
            if let Some(outcome) = of_open.and_then(|(_, action)| outcome(&change, action)) {
                let retry_in = change.retry_in.map(|delay| delay.as_secs_f64());
                let end = End { at: change.at, outcome, failure: change.failure, retry_in };
                self.end(&key, end, change.worker.map(|worker| worker.to_string()));
            }
            return;
        }
        let action = if change.state == NodeState::Running { Action::Apply } else { Action::Rollback };
        let attempt = change.attempt.get();
        if of_open == Some((attempt, action)) {
            // It was sent again.
            return;
        }
        self.end(&key, End::without_failure(change.at, AttemptOutcome::Lost), None);
        if change.kind == NodeKind::Task {
            let NodeChange { name, firing, at, .. } = change;
            self.start(key, Span::new(name, firing, attempt, action, at));
        }
    }

    fn start(&mut self, key: NodeOfFiring, span: Span) {
        if self.filter.matches(&span) {
            self.open.insert(key, (self.next, span));
            self.next += 1;
        }
    }

    /// Adds the calls that are with the workers where the stored records begin.
    fn add_outstanding(&mut self, machine: &Machine) {
        let calls = machine.outstanding_calls().filter_map(|call| Some((machine.outstanding_since(&call)?, call)));
        let mut calls: Vec<(Timestamp, CallId)> = calls.collect();
        calls.sort_by_key(|(since, _)| *since);
        for (since, CallId { task, firing, attempt, action, .. }) in calls {
            self.start((firing, task.clone()), Span::new(task, firing, attempt.get(), action, since));
        }
    }

    /// Ends an attempt, if it is open, and drops the first ended ones beyond the maximum.
    fn end(&mut self, key: &NodeOfFiring, end: End, worker: Option<String>) {
        let Some((number, span)) = self.open.remove(key) else { return };
        if number < self.first_shown {
            return;
        }
        self.failure_bytes += end.failure_bytes();
        let worker = worker.or(span.worker);
        self.ended.insert(number, Span { worker, end: Some(end), ..span });
        let is_full = |attempts: &Self| {
            let count = attempts.ended.len();
            count > attempts.filter.limit || (count > 1 && attempts.failure_bytes > MAX_FAILURE_BYTES)
        };
        while is_full(self) {
            let Some((number, dropped)) = self.ended.pop_first() else { return };
            self.failure_bytes -= dropped.end.as_ref().map_or(0, End::failure_bytes);
            self.first_shown = number + 1;
        }
    }

    fn into_timeline(self, run: &RunId, trace: Option<&RunTrace>) -> Timeline {
        let mut spans = self.ended;
        let open = self.open.into_values().filter(|(number, _)| *number >= self.first_shown);
        spans.extend(open);
        let extra = spans.len().saturating_sub(self.filter.limit);
        let attempts: Vec<TimelineAttempt> =
            spans.into_values().skip(extra).map(|span| span.shown(run, trace)).collect();
        let earlier = self.next - attempts.len() as u64;
        Timeline { run: run.to_string(), attempts, earlier, trimmed_records: self.trimmed_records }
    }
}

impl End {
    const fn without_failure(at: Timestamp, outcome: AttemptOutcome) -> Self {
        Self { at, outcome, failure: None, retry_in: None }
    }

    fn failure_bytes(&self) -> usize {
        let details = |failure: &Failure| failure.details.as_ref().map_or(0, |details| details.as_str().len());
        self.failure.as_ref().map_or(0, |failure| failure.message.len() + details(failure))
    }
}

impl Span {
    const fn new(name: NodeName, firing: Firing, attempt: u32, action: Action, started_at: Timestamp) -> Self {
        Self { name, firing, attempt, action, started_at, leased_at: None, worker: None, end: None }
    }

    fn shown(self, run: &RunId, trace: Option<&RunTrace>) -> TimelineAttempt {
        let Self { name, firing, attempt, action, started_at, leased_at, worker, end } = self;
        let trace_url = trace.and_then(|trace| {
            let (run, task, attempt) = (run.clone(), name.clone(), Attempt::new(attempt));
            trace.link_of_attempt(&CallId { run, task, firing, attempt, action })
        });
        let (ended_at, outcome, failure, retry_in) = match end {
            Some(End { at, outcome, failure, retry_in }) => (Some(at), Some(outcome), failure, retry_in),
            None => (None, None, None, None),
        };
        TimelineAttempt {
            task: name.to_string(),
            firing: firing.get(),
            attempt,
            call: action.into(),
            started_at: rfc3339(started_at),
            leased_at: leased_at.map(rfc3339),
            ended_at: ended_at.map(rfc3339),
            outcome,
            failure: failure.as_ref().map(Into::into),
            retry_in,
            worker,
            trace_url,
        }
    }
}

/// How a change of its node ends an attempt; `None` if it does not.
fn outcome(change: &NodeChange, action: Action) -> Option<AttemptOutcome> {
    match (change.state, action) {
        (NodeState::Success, _) if change.computed_by.is_some() => Some(AttemptOutcome::Remembered),
        (NodeState::Success, _) => Some(AttemptOutcome::Success),
        (NodeState::Failure, Action::Apply) => Some(AttemptOutcome::Failure),
        // A rollback that is tried again has failed, and its node is still being rolled back.
        (NodeState::RollbackFailure, _) | (NodeState::Failure, Action::Rollback) => {
            Some(AttemptOutcome::RollbackFailure)
        }
        (NodeState::RolledBack, _) => Some(AttemptOutcome::RolledBack),
        (
            NodeState::Pending | NodeState::Running | NodeState::RollingBack | NodeState::Ignored | NodeState::Retrying,
            _,
        ) => None,
    }
}
