//! The cases of a flow: the run without a failure, and for each task the runs in which it fails.
//!
//! The machine decides which cases there are too. A failure handler is called only in a case in which something else fails, so
//! its case is that one with one more failure. A rollback is called only in a case with a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{Rehearsal, RehearsedCase};
use flow::{
    Action, Flow, NodeIndex, NodeName, RunState, Timestamp,
    graph::{BackEdgeTiming, Role},
};
use machine::Machine;

use crate::{
    Stubs,
    injection::{FailingTask, Injection, Tries},
    report,
    world::{Beginning, TriggerKind, World},
};

/// The maximum number of steps of all cases. A step takes some microseconds. Small in tests, so that they reach it.
const MAX_STEPS: usize = if cfg!(test) { 50_000 } else { 1_000_000 };

/// What is rehearsed.
#[derive(Debug)]
pub struct Request<'r> {
    /// The stubbed results.
    pub stubs: &'r Stubs,
    /// The time at which each case begins.
    pub now: Timestamp,
    /// Only the cases of this task; `None` for those of all tasks.
    pub only: Option<NodeName>,
}

/// The flow has no task of this name.
#[derive(Debug, thiserror::Error)]
#[error("flow {flow} has no task {node:?}")]
pub struct UnknownNode {
    flow: String,
    node: NodeName,
    /// The intended name, or the names that there are.
    pub hint: String,
}

/// Rehearses a new run of a flow.
///
/// # Errors
/// [`UnknownNode`] when the request names a task that the flow does not have.
pub fn rehearse(flow: Arc<Flow>, request: &Request<'_>) -> Result<Rehearsal, UnknownNode> {
    all_cases(Beginning::New(flow.clone()), flow, request)
}

/// Rehearses how a recorded run goes on.
///
/// # Errors
/// As [`rehearse`].
pub fn rehearse_recorded(machine: Machine, request: &Request<'_>) -> Result<Rehearsal, UnknownNode> {
    let (flow, run) = (machine.flow().clone(), machine.run().to_string());
    let rehearsal = all_cases(Beginning::Recorded(Box::new(machine)), flow, request)?;
    Ok(Rehearsal { run: Some(run), ..rehearsal })
}

fn all_cases(beginning: Beginning, flow: Arc<Flow>, request: &Request<'_>) -> Result<Rehearsal, UnknownNode> {
    let index_of = named_nodes(&flow);
    if let Some(node) = &request.only
        && !index_of.get(node).is_some_and(|index| is_task(&flow, *index))
    {
        let hint = flow.unknown_task(node).map_or_else(|| "name a task, not a flow".into(), |unknown| unknown.hint());
        return Err(UnknownNode { flow: flow.name.to_string(), node: node.clone(), hint });
    }
    let cases = Cases { beginning, flow: &flow, now: request.now, stubs: request.stubs, index_of };
    let mut plan = Plan { cases: &cases, steps: 0, omitted: 0 };
    let cases = plan.all(request.only.as_ref());
    let omitted = plan.omitted;
    Ok(Rehearsal { flow: flow.name.to_string(), run: None, stubs: request.stubs.all(&flow), cases, omitted })
}

/// What all cases of a rehearsal have in common.
pub(crate) struct Cases<'r> {
    pub(crate) beginning: Beginning,
    pub(crate) flow: &'r Flow,
    pub(crate) now: Timestamp,
    pub(crate) stubs: &'r Stubs,
    /// The tasks and retry controllers, by name.
    pub(crate) index_of: BTreeMap<NodeName, NodeIndex>,
}

/// A case that was run.
struct RunCase {
    injection: Injection,
    /// The tasks that were called, or waited.
    applied: BTreeSet<NodeName>,
    /// The tasks whose rollback was called.
    rollback_called: BTreeSet<NodeName>,
    report: RehearsedCase,
}

/// The steps that cases may still have.
struct Plan<'r> {
    cases: &'r Cases<'r>,
    steps: usize,
    omitted: u64,
}

impl Plan<'_> {
    /// The run without a failure, and the cases of each task, in the order of the flow.
    fn all(&mut self, only: Option<&NodeName>) -> Vec<RehearsedCase> {
        let base = self.run(Injection::default());
        let mut tasks = self.tasks();
        // The cases that are asked for come first, in case that not all may be run.
        tasks.sort_by_key(|task| only.is_some_and(|only| only != task));
        let applies = self.apply_cases(&base, &tasks);
        let mut reports = vec![base.report];
        for task in tasks.iter().filter(|task| only.is_none_or(|only| only == *task)) {
            if let Some(apply) = applies.get(task) {
                reports.push(apply.report.clone());
                reports.extend(self.first_try_case(apply).map(|case| case.report));
            }
            reports.extend(self.rollback_case(task, &tasks, &applies).map(|case| case.report));
        }
        reports
    }

    fn tasks(&self) -> Vec<NodeName> {
        let flow = self.cases.flow;
        let tasks = flow.indices().filter(|index| is_task(flow, *index) && !flow.node(*index).retired);
        tasks.map(|index| flow.node(index).name.clone()).collect()
    }

    /// The case of each task in which its calls fail.
    fn apply_cases(&mut self, base: &RunCase, tasks: &[NodeName]) -> BTreeMap<NodeName, RunCase> {
        let mut found: BTreeMap<NodeName, RunCase> = BTreeMap::new();
        let mut unreached: Vec<&NodeName> = tasks.iter().collect();
        loop {
            let before = unreached.len();
            for task in std::mem::take(&mut unreached) {
                let is_called = |case: &&RunCase| case.applied.contains(task);
                let mut others = tasks.iter().filter_map(|other| found.get(other));
                let leading = Some(base).filter(is_called).or_else(|| others.find(is_called));
                let Some(injection) = leading.map(|case| case.injection.and(failing(task, Action::Apply))) else {
                    unreached.push(task);
                    continue;
                };
                found.extend(self.try_run(injection).map(|case| (task.clone(), case)));
            }
            // A failure of one task may lead to the call of another.
            if unreached.len() == before || unreached.is_empty() {
                break;
            }
        }
        for task in unreached {
            let injection = base.injection.and(failing(task, Action::Apply));
            let report = RehearsedCase { failing: injection.describe(), reached: false, ..base.report.clone() };
            let (applied, rollback_called) = (base.applied.clone(), base.rollback_called.clone());
            found.insert(task.clone(), RunCase { injection, applied, rollback_called, report });
        }
        found
    }

    /// The case in which a task succeeds once a retry controller runs its flow again.
    fn first_try_case(&mut self, apply: &RunCase) -> Option<RunCase> {
        let is_retried = apply.report.reached && !apply.report.retried_flows.is_empty();
        is_retried.then(|| apply.injection.in_first_try()).and_then(|injection| self.try_run(injection))
    }

    /// The case in which the rollback of a task fails: it is called because another task fails, or else the task itself.
    fn rollback_case(
        &mut self,
        task: &NodeName,
        tasks: &[NodeName],
        applies: &BTreeMap<NodeName, RunCase>,
    ) -> Option<RunCase> {
        let others = tasks.iter().filter(|other| *other != task).chain([task]);
        let leading = others.filter_map(|other| applies.get(other)).find(|case| case.rollback_called.contains(task))?;
        self.try_run(leading.injection.and(failing(task, Action::Rollback)))
    }

    /// Runs a case, if there are steps left for it.
    fn try_run(&mut self, injection: Injection) -> Option<RunCase> {
        if self.steps > MAX_STEPS {
            self.omitted += 1;
            return None;
        }
        Some(self.run(injection))
    }

    fn run(&mut self, injection: Injection) -> RunCase {
        let Cases { flow, index_of, .. } = self.cases;
        let mut world = World::start(self.cases, &injection);
        world.drive();
        let mut history = std::mem::take(&mut world.history);
        history.states = index_of.values().map(|index| (*index, world.machine.node_state(*index))).collect();
        let (mut reached, mut stopped) = (world.reached, world.stopped.clone());
        self.steps += world.steps;
        let triggers = if world.is_open() { triggers(flow, &world.machine) } else { Vec::new() };
        for (part, trigger) in (1..).zip(triggers) {
            if injection.target().is_some() && (world.reached || !self.is_in_firing(&injection, trigger)) {
                continue;
            }
            let mut fired = world.fork(part);
            match fired.fire(trigger) {
                Ok(()) => fired.drive(),
                Err(reason) => fired.history.refuse(flow, trigger.entry(), &reason),
            }
            self.steps += fired.steps;
            reached |= fired.reached;
            stopped = stopped.or(fired.stopped.take());
            fired.history.end_part(&fired.machine, index_of);
            history.absorb(fired.history);
        }
        let state = world.machine.state();
        let end = CaseEnd { reached, state, stopped };
        let report = report::describe(self.cases, &injection, &history, end);
        let applied = history.applied.iter().map(NodeName::base).collect();
        let rollback_called = history.rollback_calls.iter().map(|(.., task)| task.base()).collect();
        RunCase { injection, applied, rollback_called, report }
    }

    /// Whether some task of an injection is in the firings that a trigger starts.
    fn is_in_firing(&self, injection: &Injection, trigger: TriggerKind) -> bool {
        let reachable = self.cases.flow.reachable_from([trigger.entry()]);
        reachable.iter().any(|index| injection.concerns(&self.cases.flow.node(*index).name))
    }
}

/// How a case ended.
pub(crate) struct CaseEnd {
    pub(crate) reached: bool,
    pub(crate) state: RunState,
    pub(crate) stopped: Option<String>,
}

fn failing(task: &NodeName, action: Action) -> FailingTask {
    FailingTask { node: task.clone(), action, tries: Tries::All }
}

/// The triggers of a persistent flow, besides its start: a notification of each task that waits for one, and the first time of
/// each schedule.
fn triggers(flow: &Flow, machine: &Machine) -> Vec<TriggerKind> {
    let Some(triggers) = flow.triggers.as_ref().filter(|triggers| triggers.persistent) else { return Vec::new() };
    let is_listener = |index: NodeIndex| flow.listeners.iter().any(|listener| listener.to == index);
    let is_scheduled = |index: NodeIndex| triggers.schedules.iter().any(|schedule| schedule.to == index);
    let is_linked = |index: NodeIndex| {
        triggers.back_edges.iter().any(|edge| edge.timing == BackEdgeTiming::Success && edge.to == index)
    };
    let entries = triggers.entries.iter().copied();
    let notified = entries.filter(|index| match flow.node(*index).role {
        Role::Task(_) | Role::ForEach(_) => is_listener(*index) || !(is_scheduled(*index) || is_linked(*index)),
        Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
    });
    let scheduled = machine.next_times().map(|(entry, at)| TriggerKind::Schedule(entry, at));
    notified.map(TriggerKind::Notification).chain(scheduled).collect()
}

/// The tasks and retry controllers of a flow, by name.
fn named_nodes(flow: &Flow) -> BTreeMap<NodeName, NodeIndex> {
    let is_named = |index: &NodeIndex| match flow.node(*index).role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::Controller(_) => true,
        Role::FanIn(_) | Role::Begin | Role::End => false,
    };
    flow.indices().filter(is_named).map(|index| (flow.node(index).name.clone(), index)).collect()
}

/// Whether a node is a task.
fn is_task(flow: &Flow, index: NodeIndex) -> bool {
    match flow.node(index).role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => true,
        Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
    }
}
