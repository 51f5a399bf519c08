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
    world::{self, Beginning, TriggerKind, World},
};

/// The default maximum number of steps of all cases. Small in tests, so that they reach it.
const MAX_STEPS: usize = if cfg!(test) { 300_000 } else { 2_000_000 };

/// The maximum number of failing calls of a case: a failure handler may listen to the failure of another one.
const MAX_FAILING: usize = 16;

/// The steps that the description of a link with stubbed values counts as.
const STEPS_PER_LINK: usize = 4;

/// The default maximum number of nodes and list elements of a case. Its steps mostly end it before.
const MAX_NODES: usize = 4_000_000;

/// The default maximum size of the descriptions of all cases, in bytes of JSON.
const MAX_REPORT_BYTES: usize = 1 << 30;

/// What is rehearsed.
pub struct Request<'r> {
    /// The stubbed results.
    pub stubs: &'r Stubs,
    /// The time at which each case begins.
    pub now: Timestamp,
    /// Only the cases of this task; `None` for those of all tasks.
    pub only: Option<NodeName>,
    /// How much the rehearsal may take.
    pub limits: Limits<'r>,
}

/// How much a rehearsal may take. The run without a failure is always rehearsed. Of the other cases, those beyond a limit are left out and
/// counted.
#[derive(Clone, Copy)]
pub struct Limits<'r> {
    /// The maximum number of steps of all cases. A step is a record of the machine, or what takes as long: some microseconds.
    pub steps: usize,
    /// The maximum number of nodes and list elements of a case. It ends with the list or the firing that exceeds it.
    pub nodes: usize,
    /// The maximum size of the descriptions of the cases, in bytes of JSON. Only the last description may exceed it.
    pub report_bytes: usize,
    /// Whether the time for the rehearsal is over. It is asked after each event of a case, so it has to answer quickly.
    pub is_over: &'r dyn Fn() -> bool,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { steps: MAX_STEPS, nodes: MAX_NODES, report_bytes: MAX_REPORT_BYTES, is_over: &|| false }
    }
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
        let hint = flow.unknown_task(node);
        let hint = hint.map_or_else(|| "name a task, not a flow or a list element".into(), |unknown| unknown.hint());
        return Err(UnknownNode { flow: flow.name.to_string(), node: node.clone(), hint });
    }
    let Request { stubs, now, limits, .. } = *request;
    let cases = Cases { beginning, flow: &flow, now, stubs, index_of, limits };
    let mut plan = Plan { cases: &cases, steps: 0, report_bytes: 0, is_cut: false, omitted: 0 };
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
    pub(crate) limits: Limits<'r>,
}

/// A case that was run.
struct RunCase {
    /// The tasks that were called, or waited.
    applied: BTreeSet<NodeName>,
    /// The tasks whose rollback was called.
    rollback_called: BTreeSet<NodeName>,
    report: RehearsedCase,
}

/// The first case in which each task is called: the failures of that case lead to the call.
#[derive(Default)]
struct Causes {
    applies: BTreeMap<NodeName, Injection>,
    /// The calls of rollbacks after the failure of another task.
    rollbacks: BTreeMap<NodeName, Injection>,
    /// The calls of rollbacks after the failure of the task itself.
    own_rollbacks: BTreeMap<NodeName, Injection>,
}

impl Causes {
    /// Takes a case that was run.
    fn add(&mut self, injection: &Injection, applied: BTreeSet<NodeName>, rollback_called: BTreeSet<NodeName>) {
        for task in applied {
            self.applies.entry(task).or_insert_with(|| injection.clone());
        }
        for task in rollback_called {
            let is_own = injection.target().is_some_and(|target| target.node == task);
            let rollbacks = if is_own { &mut self.own_rollbacks } else { &mut self.rollbacks };
            rollbacks.entry(task).or_insert_with(|| injection.clone());
        }
    }

    /// The failures that lead to the rollback of a task.
    fn of_rollback(&self, task: &NodeName) -> Option<&Injection> {
        self.rollbacks.get(task).or_else(|| self.own_rollbacks.get(task))
    }
}

/// The cases in which the calls of a task fail.
#[derive(Default)]
struct ApplyCases {
    /// The cases that are reported.
    run: BTreeMap<NodeName, (Injection, RehearsedCase)>,
    /// The tasks that no case calls.
    unreached: BTreeSet<NodeName>,
}

/// The steps of the cases so far.
struct Plan<'r> {
    cases: &'r Cases<'r>,
    steps: usize,
    /// The size of the descriptions that are kept.
    report_bytes: usize,
    /// Whether some case was not run.
    is_cut: bool,
    /// The number of cases that are asked for and were not run.
    omitted: u64,
}

impl Plan<'_> {
    /// The run without a failure, and the cases of each task, in the order of the flow.
    fn all(&mut self, only: Option<&NodeName>) -> Vec<RehearsedCase> {
        let none = Injection::default();
        let RunCase { applied, rollback_called, report } = self.run(&none);
        let mut causes = Causes::default();
        causes.add(&none, applied, rollback_called);
        let mut reports = vec![self.keep(report)];
        let mut tasks = self.tasks();
        // The cases that are asked for come first, in case that not all may be run.
        tasks.sort_by_key(|task| only.is_some_and(|only| only != task));
        let mut applies = self.apply_cases(&tasks, only, &mut causes);
        for task in tasks.iter().filter(|task| only.is_none_or(|only| only == *task)) {
            if let Some((injection, report)) = applies.run.remove(task) {
                let first_try = self.first_try_case(&injection, &report);
                reports.push(report);
                reports.extend(first_try);
            } else if applies.unreached.contains(task) {
                let unreached = self.unreached_case(task, &reports[0]);
                reports.extend(unreached);
            }
            reports.extend(self.rollback_case(task, &causes));
        }
        reports
    }

    fn tasks(&self) -> Vec<NodeName> {
        let flow = self.cases.flow;
        let tasks = flow.indices().filter(|index| is_task(flow, *index) && !flow.node(*index).retired);
        tasks.map(|index| flow.node(index).name.clone()).collect()
    }

    /// Runs the case of each task in which its calls fail. Those of other tasks than the only one show what leads to its calls.
    fn apply_cases(&mut self, tasks: &[NodeName], only: Option<&NodeName>, causes: &mut Causes) -> ApplyCases {
        let mut cases = ApplyCases::default();
        let mut waiting: Vec<&NodeName> = tasks.iter().collect();
        loop {
            let before = waiting.len();
            for task in std::mem::take(&mut waiting) {
                let Some(cause) = causes.applies.get(task) else {
                    waiting.push(task);
                    continue;
                };
                let injection = cause.and(failing(task, Action::Apply));
                let is_wanted = only.is_none_or(|only| only == task);
                match self.try_run(&injection) {
                    Some(RunCase { applied, rollback_called, report }) => {
                        causes.add(&injection, applied, rollback_called);
                        if is_wanted {
                            cases.run.insert(task.clone(), (injection, self.keep(report)));
                        }
                    }
                    None => self.omitted += u64::from(is_wanted),
                }
            }
            // A failure of one task may lead to the call of another.
            if waiting.len() == before || waiting.is_empty() {
                break;
            }
        }
        let wanted = waiting.into_iter().filter(|task| only.is_none_or(|only| only == *task));
        if self.is_cut {
            // A case that was not run may call them.
            self.omitted += wanted.count() as u64;
        } else {
            cases.unreached = wanted.cloned().collect();
        }
        cases
    }

    /// The description of a task that no case calls, beside that of the run without a failure.
    fn unreached_case(&mut self, task: &NodeName, base: &RehearsedCase) -> Option<RehearsedCase> {
        if self.is_at_limit() {
            self.omitted += 1;
            return None;
        }
        self.steps += steps_of_report(base);
        let injection = Injection::default().and(failing(task, Action::Apply));
        Some(self.keep(RehearsedCase { failing: injection.describe(), reached: false, ..base.clone() }))
    }

    /// The case in which a task succeeds once a retry controller runs its flow again.
    fn first_try_case(&mut self, injection: &Injection, apply: &RehearsedCase) -> Option<RehearsedCase> {
        if !apply.reached || apply.retried_flows.is_empty() {
            return None;
        }
        self.reported(&injection.in_first_try())
    }

    /// The case in which the rollback of a task fails: it is called because another task fails, or else the task itself.
    fn rollback_case(&mut self, task: &NodeName, causes: &Causes) -> Option<RehearsedCase> {
        let Some(cause) = causes.of_rollback(task) else {
            // A case that was not run may call it.
            self.omitted += u64::from(self.is_cut && self.has_rollback(task));
            return None;
        };
        self.reported(&cause.and(failing(task, Action::Rollback)))
    }

    fn has_rollback(&self, task: &NodeName) -> bool {
        let node = self.cases.index_of.get(task).map(|index| self.cases.flow.node(*index));
        node.is_some_and(|node| match &node.role {
            Role::Task(task) => task.rollback && !node.is_failure_handler,
            Role::ForEach(each) => each.task.rollback && !node.is_failure_handler,
            Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => false,
        })
    }

    /// The description of a case that is asked for, if there are steps left for it.
    fn reported(&mut self, injection: &Injection) -> Option<RehearsedCase> {
        let case = self.try_run(injection);
        self.omitted += u64::from(case.is_none());
        case.map(|case| self.keep(case.report))
    }

    /// Counts a description that is part of the answer.
    fn keep(&mut self, report: RehearsedCase) -> RehearsedCase {
        let bytes = serde_json::to_vec(&report).expect("strings and numbers are JSON").len();
        self.report_bytes = self.report_bytes.saturating_add(bytes);
        report
    }

    /// Whether no further case may be rehearsed.
    fn is_at_limit(&self) -> bool {
        let Limits { steps, report_bytes, is_over, .. } = self.cases.limits;
        self.steps > steps || self.report_bytes > report_bytes || is_over()
    }

    /// Runs a case, if there are steps left for it.
    fn try_run(&mut self, injection: &Injection) -> Option<RunCase> {
        if self.is_at_limit() || injection.len() > MAX_FAILING {
            self.is_cut = true;
            return None;
        }
        Some(self.run(injection))
    }

    fn run(&mut self, injection: &Injection) -> RunCase {
        let Cases { flow, index_of, .. } = self.cases;
        let mut world = World::start(self.cases, injection);
        world.drive(world::MAX_STEPS);
        let mut history = std::mem::take(&mut world.history);
        history.states = index_of.values().map(|index| (*index, world.machine.node_state(*index))).collect();
        let (mut reached, mut stopped, mut steps) = (world.reached, world.stopped.clone(), world.steps);
        // The state of the flow was built, or is copied.
        let copy = world.machine.size();
        self.steps += copy;
        let triggers = if world.is_open() { triggers(flow, &world.machine) } else { Vec::new() };
        let leading = self.nodes_before(injection);
        for (part, trigger) in (1..).zip(triggers) {
            if injection.target().is_some() && (world.reached || !leading.contains(&trigger.entry())) {
                continue;
            }
            if steps > world::MAX_STEPS || self.steps > self.cases.limits.steps {
                stopped = stopped.or_else(|| Some(world::out_of_steps()));
                break;
            }
            self.steps += copy;
            let mut fired = world.fork(part);
            match fired.fire(trigger) {
                Ok(()) => fired.drive(world::MAX_STEPS.saturating_sub(steps)),
                Err(reason) => fired.history.refuse(flow, trigger.entry(), &reason),
            }
            steps += fired.steps;
            reached |= fired.reached;
            stopped = stopped.or(fired.stopped.take());
            fired.history.end_part(&fired.machine, index_of);
            history.absorb(fired.history);
        }
        let end = CaseEnd { reached, state: world.machine.state(), stopped };
        let report = report::describe(self.cases, injection, &history, end);
        self.steps += steps + steps_of_report(&report);
        let applied = history.applied.iter().map(NodeName::base).collect();
        let rollback_called = history.rollback_calls.iter().map(|(.., task)| task.base()).collect();
        RunCase { applied, rollback_called, report }
    }

    /// The tasks of an injection, and all nodes before them: a firing that begins with one of these may reach the tasks.
    fn nodes_before(&self, injection: &Injection) -> BTreeSet<NodeIndex> {
        let mut work: Vec<NodeIndex> =
            injection.nodes().filter_map(|task| self.cases.index_of.get(task).copied()).collect();
        let mut reached = BTreeSet::new();
        while let Some(index) = work.pop() {
            if reached.insert(index) {
                work.extend(&self.cases.flow.node(index).before);
            }
        }
        reached
    }
}

/// The steps that the description of a case counts as, since all of them are kept.
fn steps_of_report(report: &RehearsedCase) -> usize {
    let links = report.skipped.iter().flat_map(|skipped| &skipped.links);
    report.nodes.len() + STEPS_PER_LINK * links.map(|link| 1 + link.stubs.len()).sum::<usize>()
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
