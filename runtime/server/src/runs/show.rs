//! Reads one run from its records, and shows it with all its tasks.

mod failures;
mod history;
pub(crate) mod outstanding_calls;

use std::{collections::BTreeMap, sync::Arc};

use api::{self, FiringState, Node, NodeEvent};
use axum::{Extension, extract::State, response::Response};
use bytes::Bytes;
use flow::{Labels, NodeIndex, NodeKind, NodeName, RunId, RunState, Task, Value, Values, graph::Role};
use logbook::{LoadError, Logbook, Summary};
use machine::{Machine, NodeChange};
use protocol::events::rfc3339;
use sandbox::Owner;
use store::Store;
use traces::RunTrace;

use self::{
    failures::FailureBudget,
    history::{History, LastChange},
    outstanding_calls::{OldestCall, oldest_calls, outstanding_calls},
};
use super::history::{LoadedRun, replay_run};
use crate::{
    auth::{namespace::CallerNamespace, permission::Permission},
    extract,
    large_answers::AnswerMemory,
    problem::Problem,
    runs::logs::usage,
    shared_reads::SharedReads,
    shares::Sender,
    state::{self, Shared},
    turns,
    values::{LoadedValues, MAX_BYTES_OF_RUN, ValueBudget},
};

/// The runs that requests share, as JSON: of senders that are limited to the same namespace, or of all others.
pub(crate) type SharedRuns = SharedReads<(Owner, RunId), Bytes>;

/// Shows a run with all its tasks.
///
/// If its failures have more than 4 MiB together, the messages of the others are cut: the timeline and the elements have them whole.
#[utoipa::path(get, operation_id = "show_run", path = "/v1/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The run", body = api::Run),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The server sends as many large answers as it has memory for", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
    Extension(CallerNamespace(namespace)): Extension<CallerNamespace>,
    extract::Run(run): extract::Run,
) -> Result<Response, Problem> {
    let mut held = None;
    let question = (namespace.clone(), run.clone());
    let reading = async {
        let dependencies = &state.dependencies;
        let read = match ReadRun::read(&dependencies.logbook, &*dependencies.modules.store, &run).await {
            Ok(read) => read,
            Err(error) => return Ok::<_, Problem>(Err(Problem::from(error))),
        };
        let (json, memory) = complete(&state, permission.sender(), namespace, (&run, read)).await?;
        held = memory;
        Ok(Ok(json))
    };
    // Boxed because it is large.
    let json = state.shared_runs.get(question, Box::pin(reading)).await?;
    match held {
        Some(memory) => memory.json(json),
        // It is small, or another request has read it.
        None => state.large_answers.json(permission.sender(), json),
    }
}

/// Makes the JSON of a run that was read, with the memory for it in an answer to the sender. The memory is taken before others may read
/// their runs.
///
/// # Errors
/// [`Problem`] when there is not enough memory for the sender.
async fn complete(
    state: &Arc<state::State>,
    sender: &Sender,
    namespace: Owner,
    (run, mut read): (&RunId, ReadRun),
) -> Result<(Bytes, Option<AnswerMemory>), Problem> {
    let calls = std::mem::take(&mut read.oldest_calls);
    let (shared, sender) = (state.clone(), sender.clone());
    if calls.is_empty() {
        let make = move |shown: api::Run| {
            let json = encode(&shown);
            let memory = shared.large_answers.hold_json(&sender, None, &json)?;
            Ok::<_, Problem>((Bytes::from(json), memory))
        };
        return read.answer(make).await;
    }
    let hold = move |shown: api::Run| {
        let memory = shared.large_answers.hold(&sender, encode(&shown).len())?;
        Ok::<_, Problem>((shown, memory, shared, sender))
    };
    let (mut shown, memory, shared, sender) = read.answer(hold).await?;
    // The turn at reading a long run is for others while the engine and the broker are asked.
    let mut calls = outstanding_calls(state, run, calls, namespace.clone()).await;
    let make = move || {
        for task in &mut shown.tasks {
            task.out = calls.remove(&task.name);
        }
        let json = encode(&shown);
        drop(shown);
        let memory = shared.large_answers.hold_json(&sender, memory, &json)?;
        Ok::<_, Problem>((Bytes::from(json), memory))
    };
    turns::in_turn_to_answer(namespace, make).await
}

/// A run as JSON.
pub(super) fn encode(run: &api::Run) -> Vec<u8> {
    serde_json::to_vec(run).expect("strings and numbers are JSON")
}

/// Reads a run from its records.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub async fn read(logbook: &Arc<dyn Logbook>, store: &dyn Store, run: &RunId) -> Result<api::Run, LoadError> {
    let read = ReadRun::read(logbook, store, run).await?;
    Ok(read.answer(|run| run).await)
}

/// A run that was read, with what is shown of it.
pub(super) struct ReadRun {
    loaded: LoadedRun,
    details: Details,
    /// The outstanding calls of its tasks, before anybody was asked about them.
    oldest_calls: BTreeMap<NodeName, OldestCall>,
}

/// What is shown of a run besides its machine.
struct Details {
    summary: Summary,
    history: History,
    values: LoadedValues,
    usages: BTreeMap<String, api::LastUsage>,
}

impl ReadRun {
    /// Reads a run, and loads the values that an answer shows.
    ///
    /// # Errors
    /// [`LoadError`] when there is no such run, or it cannot be read.
    pub(super) async fn read(logbook: &Arc<dyn Logbook>, store: &dyn Store, run: &RunId) -> Result<Self, LoadError> {
        let summary = logbook.summary(run).await?;
        // The summary is older than the records read after it.
        let (loaded, history) = replay_run(logbook, &summary, History::new(summary.changed_at)).await?;
        let look = move |machine: &Machine| {
            let (inputs, provided) = (&machine.flow().inputs, machine.provided());
            let values = || shown_values(machine, (inputs, &provided), &history);
            let wanted = ValueBudget::new(values(), MAX_BYTES_OF_RUN).stored(values());
            (wanted, oldest_calls(machine), history)
        };
        let (loaded, (wanted, oldest_calls, history)) = loaded.look(look).await;
        let values = LoadedValues::load(store, wanted).await;
        let usages = last_usages(&**logbook, run).await?;
        let details = Details { summary, history, values, usages };
        Ok(Self { loaded, details, oldest_calls })
    }

    /// Makes an answer from the run, as [`LoadedRun::answer`] does.
    pub(super) async fn answer<Answer: Send + 'static>(
        self,
        answer: impl FnOnce(api::Run) -> Answer + Send + 'static,
    ) -> Answer {
        let Self { loaded, details, oldest_calls: _ } = self;
        loaded.answer(move |machine| answer(details.shown(machine))).await
    }
}

/// What the last call of each task used.
async fn last_usages(logbook: &dyn Logbook, run: &RunId) -> Result<BTreeMap<String, api::LastUsage>, LoadError> {
    let of = |log: protocol::AttemptLog| {
        let protocol::AttemptLog { call, log, .. } = log;
        let usage = usage(&log.usage?);
        let (firing, attempt) = (call.firing.get(), call.attempt.get());
        Some((call.task.to_string(), api::LastUsage { firing, attempt, call: call.action.into(), usage }))
    };
    Ok(logbook.last_usages(run).await?.into_iter().filter_map(of).collect())
}

/// The values that are shown, in the order in which they are.
fn shown_values<'a>(
    machine: &'a Machine,
    (inputs, provided): (&'a Values, &'a Values),
    history: &'a History,
) -> impl Iterator<Item = &'a Value> {
    let changes =
        nodes(machine).filter_map(move |(index, _)| history.last_changes.get(&machine.flow().node(index).name));
    let of_nodes = changes.filter_map(|last| last.change.provides.as_ref()).flat_map(Values::values);
    inputs.values().chain(provided.values()).chain(of_nodes)
}

impl Details {
    fn shown(mut self, machine: &Machine) -> api::Run {
        let (inputs, provided) = (machine.flow().inputs.clone(), machine.provided());
        let values = shown_values(machine, (&inputs, &provided), &self.history);
        let mut budget = ValueBudget::new(values, MAX_BYTES_OF_RUN);
        let (inputs, provided) = (budget.show(&self.values, inputs), budget.show(&self.values, provided));
        let mut fitting = FailureBudget::new();
        let failures = protocol::events::failures(machine);
        let failures: BTreeMap<String, api::Failure> =
            failures.into_iter().map(|(node, failure)| (node, fitting.fit(failure))).collect();
        let tasks = self.tasks(machine, &mut budget, &failures);
        let Self { summary, mut history, .. } = self;
        let (trace_id, trace_url) = trace_of(machine.run(), &summary.labels);
        api::Run {
            run: machine.run().to_string(),
            flow: machine.flow().name.to_string(),
            state: machine.state().into(),
            cancelling: history.is_cancelling(machine),
            labels: summary.labels.to_map(),
            trace_id,
            trace_url,
            revision: machine.revision().get(),
            started_at: rfc3339(summary.started_at),
            changed_at: rfc3339(history.changed_at),
            revisions: history.revisions(machine.flow()),
            fired: machine.flow().triggers.as_ref().map(|_| machine.firing_count()),
            firings: firings(machine),
            skipped: skipped(machine),
            backlogs: backlogs(machine),
            schedules: schedules(machine),
            tasks,
            inputs: (&inputs).into(),
            provides: (&provided).into(),
            failures,
            warnings: Vec::new(),
        }
    }

    fn tasks(
        &mut self,
        machine: &Machine,
        budget: &mut ValueBudget,
        failures: &BTreeMap<String, api::Failure>,
    ) -> Vec<Node> {
        let calls: BTreeMap<NodeIndex, &Task> = machine.flow().tasks().map(|(index, _, task)| (index, task)).collect();
        let mut fitting = FailureBudget::new();
        let mut tasks = Vec::new();
        for (index, kind) in nodes(machine) {
            let name = &machine.flow().node(index).name;
            let last_change = self.history.last_changes.get(name);
            let mut node = match last_change {
                Some(change) => node_with_change(change, budget, &self.values),
                None => node_without_change(kind, name),
            };
            // If the run fires more than once, the last change names the firing that the state belongs to.
            if machine.flow().triggers.is_none() || last_change.is_none() {
                node.state = api::NodeState::of(kind, machine.node_state(index));
            }
            node.awaits = awaits(machine, index);
            node.queue = calls.get(&index).map(|task| task.queue.to_string());
            node.has_rollback = match kind {
                // A task that waits for a notification calls nobody.
                NodeKind::Task => Some(calls.get(&index).is_some_and(|task| task.rollback)),
                NodeKind::Retry => None,
            };
            node.elements = machine
                .progress(index)
                .map(|(count, succeeded)| api::ElementProgress { count: count as u64, succeeded: succeeded as u64 });
            let failure = node.failure.take().or_else(|| failures.get(name.as_str()).cloned());
            node.failure = failure.map(|failure| fitting.fit(failure));
            node.last_usage = self.usages.remove(&node.name);
            tasks.push(self.history.complete(node));
        }
        tasks
    }
}

/// The id and the page of the trace of a run, as far as this server has them.
pub(super) fn trace_of(run: &RunId, labels: &Labels) -> (Option<String>, Option<String>) {
    // The traces of firings are others.
    let trace = RunTrace::of(run, labels, false);
    (trace.as_ref().map(|trace| trace.id().to_string()), trace.and_then(|trace| trace.link()))
}

/// The firings that are in progress or need a person.
fn firings(machine: &Machine) -> Vec<FiringState> {
    let is_shown = |state: RunState| state == RunState::Failure || !state.is_final();
    let firings = machine.firings().filter(|(_, state)| machine.flow().triggers.is_some() && is_shown(*state));
    firings.map(|(firing, state)| FiringState { firing: firing.get(), state: state.into() }).collect()
}

/// The triggers that fired nothing.
fn skipped(machine: &Machine) -> Vec<api::SkippedTriggers> {
    let skipped = machine.skips().map(|(task, reason, skips)| api::SkippedTriggers {
        task: machine.flow().node(task).name.to_string(),
        reason: reason.into(),
        count: skips.count,
        last_at: rfc3339(skips.last_at),
    });
    skipped.collect()
}

/// The schedules with missed times to catch up on.
fn backlogs(machine: &Machine) -> Vec<api::Backlog> {
    let backlogs = machine.backlogs();
    let task = |task| machine.flow().node(task).name.to_string();
    backlogs.map(|(to, next)| api::Backlog { task: task(to), next: rfc3339(next) }).collect()
}

/// The next time of each schedule.
fn schedules(machine: &Machine) -> Vec<api::NextTime> {
    let task = |task| machine.flow().node(task).name.to_string();
    machine.next_times().map(|(to, at)| api::NextTime { task: task(to), at: rfc3339(at) }).collect()
}

/// The notification that a task waits for now.
fn awaits(machine: &Machine, index: NodeIndex) -> Option<api::AwaitedNotification> {
    let Role::Wait(wait) = &machine.flow().node(index).role else { return None };
    if !machine.is_waiting(index) {
        return None;
    }
    let until = machine.wait_deadline(index);
    let values = wait.provides.keys().map(ToString::to_string).collect();
    Some(api::AwaitedNotification { word: wait.waits_for.clone(), values, until: until.map(rfc3339) })
}

/// The nodes that are shown.
fn nodes(machine: &Machine) -> impl Iterator<Item = (NodeIndex, NodeKind)> {
    machine.flow().indices().filter_map(|index| Some((index, kind(machine, index)?)))
}

fn kind(machine: &Machine, index: NodeIndex) -> Option<NodeKind> {
    match &machine.flow().node(index).role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => Some(NodeKind::Task),
        Role::Controller(_) => Some(NodeKind::Retry),
        Role::FanIn(_) | Role::Begin | Role::End => None,
    }
}

/// A node, as in the event of its last change.
fn node_with_change(last: &LastChange, budget: &mut ValueBudget, values: &LoadedValues) -> Node {
    let provides = last.change.provides.as_ref().map(|provides| budget.show(values, provides.clone()));
    let change = NodeChange { provides, ..last.change.clone() };
    let NodeEvent {
        kind,
        name,
        state,
        firing,
        attempt,
        at,
        provides,
        failure,
        retry_in,
        worker,
        computed_by,
        digest,
        ..
    } = protocol::events::node_event(&change);
    Node {
        kind,
        name,
        state,
        firing: Some(firing),
        attempt: Some(attempt),
        started_at: last.started_at.map(rfc3339),
        at: Some(at),
        provides,
        failure,
        rollback_skipped: None,
        has_rollback: None,
        retry_in,
        awaits: None,
        out: None,
        lost: Vec::new(),
        elements: None,
        queue: None,
        worker,
        computed_by,
        digest,
        last_usage: None,
    }
}

fn node_without_change(kind: NodeKind, name: &NodeName) -> Node {
    Node {
        kind: kind.into(),
        name: name.to_string(),
        state: api::NodeState::Pending,
        firing: None,
        attempt: None,
        started_at: None,
        at: None,
        provides: None,
        failure: None,
        rollback_skipped: None,
        has_rollback: None,
        retry_in: None,
        awaits: None,
        elements: None,
        out: None,
        lost: Vec::new(),
        queue: None,
        worker: None,
        computed_by: None,
        digest: None,
        last_usage: None,
    }
}
