//! Reads one run from its records.

mod outstanding_calls;

use std::{collections::BTreeMap, sync::Arc};

use api::{self, FiringState, Node, NodeEvent, Revision};
use axum::{Json, extract::State};
use flow::{
    Edit, Flow, NodeIndex, NodeKind, NodeName, RunId, RunState, State as NodeState, Task, Timestamp, Values,
    graph::Role,
};
use logbook::{LoadError, Logbook, Page, Replay, Summary};
use machine::{Change, Fact, Machine, NodeChange, Record};
use protocol::events::rfc3339;
use store::Store;

use crate::{
    extract,
    problem::Problem,
    runs::{history::HistoryReader, logs::usage},
    state::Shared,
    values::{MAX_BYTES_OF_RUN, ValueBudget},
};

/// Shows a run with all its tasks.
#[utoipa::path(get, operation_id = "show_run", path = "/v1/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "The run's id")), responses(
        (status = 200, description = "The run", body = api::Run),
        (status = 404, description = "There is no such run", body = api::Problem,
            content_type = "application/problem+json"),
        (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(state): Shared, extract::Run(run): extract::Run) -> Result<Json<api::Run>, Problem> {
    let (mut run, machine) =
        read_with_machine(&state.dependencies.logbook, &*state.dependencies.modules.store, &run).await?;
    let mut calls = outstanding_calls::outstanding_calls(&state.dependencies, &machine).await;
    for node in &mut run.tasks {
        node.out = NodeName::new(&node.name).ok().and_then(|name| calls.remove(&name));
    }
    Ok(Json(run))
}

/// The last change of a node.
struct LastChange {
    change: NodeChange,
    started_at: Option<Timestamp>,
}

/// Reads a run from its records.
///
/// # Errors
/// [`LoadError`] when there is no such run, or it cannot be read.
pub async fn read(logbook: &Arc<dyn Logbook>, store: &dyn Store, run: &RunId) -> Result<api::Run, LoadError> {
    read_with_machine(logbook, store, run).await.map(|(run, _)| run)
}

async fn read_with_machine(
    logbook: &Arc<dyn Logbook>,
    store: &dyn Store,
    run: &RunId,
) -> Result<(api::Run, Machine), LoadError> {
    let summary = logbook.summary(run).await?;
    let mut reader = HistoryReader::of(&summary, logbook);
    let mut history = History::default();
    // The summary is older than the records read after it.
    let mut changed_at = summary.changed_at;
    loop {
        let Page { records, starts_replay } = reader.read().await?;
        if starts_replay {
            // The collected changes belong to records that were trimmed meanwhile.
            history = History { is_cancelled: history.is_cancelled, ..History::default() };
        }
        if records.is_empty() {
            break;
        }
        for record in &records {
            changed_at = changed_at.max(record.at);
            history.add_record(record, reader.replay.machine());
            reader.replay.apply(record)?.changes.into_iter().for_each(|change| history.add_change(change));
        }
    }
    let machine = reader.replay.machine().ok_or_else(|| LoadError::Missing { run: run.clone() })?;
    let shown = shown(&Summary { changed_at, ..summary }, machine, &history.last_changes, store).await;
    let cancelling = history.is_cancelled && !machine.state().is_final();
    let usages = last_usages(&**logbook, run).await?;
    let with_usage = |node: Node| Node { last_usage: usages.get(&node.name).cloned(), ..node };
    let tasks = shown.tasks.into_iter().map(|node| with_usage(history.complete(node))).collect();
    let revisions = trimmed_revisions(&reader.replay, machine.flow()).chain(history.revisions).collect();
    let run = api::Run { revisions, tasks, cancelling, ..shown };
    Ok((run, reader.replay.into_machine().expect("the run was shown from it")))
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

/// The facts in the records of a run that its machine does not hold.
#[derive(Default)]
struct History {
    last_changes: BTreeMap<NodeName, LastChange>,
    revisions: Vec<Revision>,
    /// The reasons for skipped rollbacks, by task.
    skipped_rollbacks: BTreeMap<NodeName, String>,
    lost_workers: BTreeMap<NodeName, Vec<api::LostWorker>>,
    is_cancelled: bool,
}

impl History {
    /// Adds a record, given the machine before it.
    fn add_record(&mut self, record: &Record, machine: Option<&Machine>) {
        match &record.fact {
            Fact::Edited { flow, revision } => {
                let known = machine.map_or(0, |machine| edits_of(machine.flow()).len());
                let edits = edits_of(flow).iter().skip(known).map(ToString::to_string).collect();
                self.revisions.push(Revision { revision: revision.get(), at: rfc3339(record.at), edits });
            }
            Fact::RollbackSkipped { node, reason } => {
                if let Some((name, _)) = machine.and_then(|machine| machine.call_of(record.firing, *node)) {
                    self.skipped_rollbacks.insert(name.base(), reason.clone());
                }
            }
            Fact::CancelRequested => self.is_cancelled = true,
            // If the run fires more than once, this counts only for the run as a whole.
            Fact::Expired => self.is_cancelled |= record.firing.is_none(),
            Fact::Reset => self.is_cancelled = false,
            Fact::Lost { attempt, worker, .. } => {
                if let Some((name, _)) = machine.and_then(|machine| machine.call_of(record.firing, attempt.node)) {
                    let worker = worker.as_ref().map(ToString::to_string);
                    let lost = api::LostWorker { worker, attempt: attempt.attempt.get(), at: rfc3339(record.at) };
                    self.lost_workers.entry(name.base()).or_default().push(lost);
                }
            }
            _ => {}
        }
    }

    fn add_change(&mut self, change: Change) {
        let Change::Node(mut change) = change else { return };
        // The elements of a list may be a million, and only their task is shown.
        if change.name.as_element().is_some() {
            return;
        }
        let before = self.last_changes.get(&change.name);
        let started_at = match change.state.is_called() {
            true => Some(change.at),
            false => before.and_then(|before| before.started_at),
        };
        // The worker is known once it has answered; the state may change later without another call.
        if change.worker.is_none() && change.state != NodeState::Running {
            change.worker = before.and_then(|before| before.change.worker.clone());
        }
        self.last_changes.insert(change.name.clone(), LastChange { change, started_at });
    }

    /// Adds the skipped rollback and the lost workers to a node.
    fn complete(&mut self, mut node: Node) -> Node {
        let Ok(name) = NodeName::new(&node.name) else { return node };
        // A node that started again since is no longer rolled back.
        if node.state == api::NodeState::RolledBack {
            node.rollback_skipped = self.skipped_rollbacks.get(&name).cloned();
        }
        node.lost = self.lost_workers.remove(&name).unwrap_or_default();
        node
    }
}

/// The revisions in trimmed records: their edits are the first of the flow's current edits.
fn trimmed_revisions(replay: &Replay, flow: &Flow) -> impl Iterator<Item = Revision> {
    let known = edits_of(flow);
    let mut made = 0;
    replay.revisions().iter().map(move |revised| {
        let edits = known.iter().take(revised.edits).skip(made).map(ToString::to_string).collect();
        made = revised.edits;
        Revision { revision: revised.revision.get(), at: rfc3339(revised.at), edits }
    })
}

fn edits_of(flow: &Flow) -> &[Edit] {
    flow.origin.as_ref().map_or(&[], |origin| &origin.edits)
}

async fn shown(
    summary: &Summary,
    machine: &Machine,
    last_changes: &BTreeMap<NodeName, LastChange>,
    store: &dyn Store,
) -> api::Run {
    let (inputs, provided) = (machine.flow().inputs.clone(), machine.provided());
    let of_nodes = nodes(machine).filter_map(|(index, _)| last_changes.get(&machine.flow().node(index).name));
    let of_nodes = of_nodes.filter_map(|last| last.change.provides.as_ref()).flat_map(Values::values);
    let mut budget = ValueBudget::new(inputs.values().chain(provided.values()).chain(of_nodes), MAX_BYTES_OF_RUN);
    let (inputs, provided) = (budget.load(store, inputs).await, budget.load(store, provided).await);
    let failures = protocol::events::failures(machine);
    let calls: BTreeMap<NodeIndex, &Task> = machine.flow().tasks().map(|(index, _, task)| (index, task)).collect();
    let mut tasks = Vec::new();
    for (index, kind) in nodes(machine) {
        let name = &machine.flow().node(index).name;
        let mut node = match last_changes.get(name) {
            Some(change) => node_with_change(change, &mut budget, store).await,
            None => node_without_change(kind, name),
        };
        // If the run fires more than once, the last change names the firing that the state belongs to.
        if machine.flow().triggers.is_none() || !last_changes.contains_key(name) {
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
        if node.failure.is_none() {
            node.failure = failures.get(name.as_str()).cloned();
        }
        tasks.push(node);
    }
    api::Run {
        run: machine.run().to_string(),
        flow: machine.flow().name.to_string(),
        state: machine.state().into(),
        cancelling: false,
        labels: summary.labels.to_map(),
        revision: machine.revision().get(),
        started_at: rfc3339(summary.started_at),
        changed_at: rfc3339(summary.changed_at),
        revisions: Vec::new(),
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
    // Few nodes can wait, and the search goes through all that do.
    let Role::Wait(wait) = &machine.flow().node(index).role else { return None };
    let (_, until) = machine.waiting_tasks().find(|(expected, _)| *expected == index)?;
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
async fn node_with_change(last: &LastChange, budget: &mut ValueBudget, store: &dyn Store) -> Node {
    let provides = match &last.change.provides {
        Some(provides) => Some(budget.load(store, provides.clone()).await),
        None => None,
    };
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
