//! Describes a case from what happened in it.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    Failure, NodeKind, NodeState, RehearsedCase, RehearsedFiring, RehearsedNode, RetriedCall, RetriedFlow, SkippedLink,
    SkippedNode, StubOrigin, StubbedValue,
};
use flow::{
    Action, FailureKind, Firing, Flow, NodeIndex, NodeName, RunState, SourceOutcome, State, Task, ValueName,
    graph::{Link, Role, ScopeIndex, Source},
};
use machine::NodeChange;

use crate::{
    history::{History, NodeKey},
    injection::{self, Injection},
    rehearse::{CaseEnd, Cases},
    stubs,
};

/// The maximum number of stubbed values that are listed for a link.
const MAX_STUBS_OF_LINK: usize = 20;

/// The maximum length of the text of a stubbed value that is listed for a link, in bytes: many cases have the same link.
const MAX_STUB_BYTES: usize = 256;

/// The maximum number of nodes with unexpected failures that are listed: mostly they have the same reason.
const MAX_UNEXPECTED: usize = 20;

/// The case as JSON.
pub(crate) fn describe(cases: &Cases<'_>, injection: &Injection, history: &History, end: CaseEnd) -> RehearsedCase {
    let CaseEnd { reached, state, stopped } = end;
    let report = Report { cases, injection, history, executions: executions(history), state };
    RehearsedCase {
        failing: injection.describe(),
        reached: reached || injection.target().is_none(),
        state: state.into(),
        stopped,
        nodes: report.nodes(),
        retried: report.retried(),
        retried_flows: report.retried_flows(),
        rolled_back: report.rolled_back(),
        without_rollback: report.without_rollback(),
        still_applied: report.still_applied(),
        handlers: report.handlers(),
        stuck: report.in_state(State::RollbackFailure),
        notified: history.notified.iter().map(NodeName::to_string).collect(),
        skipped: report.skipped(),
        firings: report.firings(),
        unexpected: report.unexpected(),
    }
}

/// The changes of one node in one firing, in order.
type Execution<'h> = Vec<(usize, &'h NodeChange)>;

/// The changes of each node, with their positions in the history.
fn executions(history: &History) -> BTreeMap<NodeKey, Execution<'_>> {
    let mut executions: BTreeMap<NodeKey, Execution<'_>> = BTreeMap::new();
    for (position, (part, change)) in history.changes.iter().enumerate() {
        let key = (*part, change.firing, change.name.clone());
        executions.entry(key).or_default().push((position, change));
    }
    executions
}

struct Report<'h> {
    cases: &'h Cases<'h>,
    injection: &'h Injection,
    history: &'h History,
    executions: BTreeMap<NodeKey, Execution<'h>>,
    state: RunState,
}

impl<'h> Report<'h> {
    fn flow(&self) -> &'h Flow {
        self.cases.flow
    }

    /// The node of the flow with a name; for a list element, its task.
    fn index(&self, name: &NodeName) -> Option<NodeIndex> {
        self.cases.index_of.get(&name.base()).copied()
    }

    fn nodes(&self) -> Vec<RehearsedNode> {
        let mut named: Vec<(NodeIndex, &NodeName)> =
            self.cases.index_of.iter().map(|(name, index)| (*index, name)).collect();
        named.sort_unstable();
        let node = |(index, name): (NodeIndex, &NodeName)| {
            let kind = match self.flow().node(index).role {
                Role::Controller(_) => flow::NodeKind::Retry,
                Role::Task(_) | Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Begin | Role::End => {
                    flow::NodeKind::Task
                }
            };
            let state = self.history.states.get(&index).copied().unwrap_or(State::Pending);
            RehearsedNode { name: name.to_string(), kind: NodeKind::from(kind), state: NodeState::of(kind, state) }
        };
        named.into_iter().map(node).collect()
    }

    /// The executions whose last state is this one, in the order in which they entered it.
    fn ended_in(&self, state: State) -> Vec<(&NodeKey, &Execution<'h>)> {
        let is_last = |(_, changes): &(&NodeKey, &Execution<'h>)| {
            changes.last().is_some_and(|(_, change)| change.state == state && change.kind == flow::NodeKind::Task)
        };
        let mut ended: Vec<_> = self.executions.iter().filter(is_last).collect();
        ended.sort_by_key(|(_, changes)| changes.last().map(|(position, _)| *position));
        ended
    }

    fn in_state(&self, state: State) -> Vec<String> {
        self.ended_in(state).into_iter().map(|((.., name), _)| name.to_string()).collect()
    }

    fn rolled_back(&self) -> Vec<String> {
        let ended = self.ended_in(State::RolledBack).into_iter();
        let called = ended.filter(|(key, _)| self.history.rollback_calls.contains(key));
        called.map(|((.., name), _)| name.to_string()).collect()
    }

    /// The tasks that succeeded, went through the rollback and have none. A task that waits has no effects.
    fn without_rollback(&self) -> Vec<String> {
        let has_no_rollback = |name: &NodeName| self.task(name).is_some_and(|task| !task.rollback);
        // A recorded run may have succeeded with the task before the rehearsal began.
        let has_succeeded = |changes: &Execution<'_>| {
            changes.first().is_some_and(|(_, change)| change.state == State::RollingBack)
                || changes.iter().any(|(_, change)| change.state == State::Success)
        };
        let ended = self.ended_in(State::RolledBack).into_iter();
        let names = ended.filter(|((.., name), changes)| has_no_rollback(name) && has_succeeded(changes));
        once(names.map(|((.., name), _)| name.base()))
    }

    /// The tasks that are in success although their run or firing did not succeed, in the order of the flow.
    fn still_applied(&self) -> Vec<String> {
        let is_end = |state: RunState| matches!(state, RunState::Failure | RunState::RolledBack);
        let has_failed = |(part, firing, _): &NodeKey| {
            is_end(self.history.firings.get(&(*part, *firing)).map_or(self.state, |(_, state)| *state))
        };
        let ended = self.ended_in(State::Success).into_iter().filter(|(key, _)| has_failed(key));
        let mut applied: BTreeSet<NodeIndex> = ended.filter_map(|((.., name), _)| self.index(name)).collect();
        if self.flow().triggers.is_none() && is_end(self.state) {
            // Some may have succeeded before the rehearsal began.
            let states = self.history.states.iter();
            applied.extend(states.filter(|(_, state)| **state == State::Success).map(|(index, _)| *index));
        }
        let nodes = applied.into_iter().map(|index| self.flow().node(index));
        let with_effects = nodes.filter(|node| !node.is_failure_handler && self.task(&node.name).is_some());
        with_effects.map(|node| node.name.to_string()).collect()
    }

    /// The task that a node calls; for a list element, the task of its list.
    fn task(&self, name: &NodeName) -> Option<&'h Task> {
        match &self.flow().node(self.index(name)?).role {
            Role::Task(task) => Some(task),
            Role::ForEach(each) => Some(&each.task),
            Role::Wait(_) | Role::FanIn(_) | Role::Controller(_) | Role::Begin | Role::End => None,
        }
    }

    fn handlers(&self) -> Vec<String> {
        let is_handler =
            |name: &NodeName| self.index(name).is_some_and(|index| self.flow().node(index).is_failure_handler);
        let started = self.history.changes.iter().map(|(_, change)| change);
        let started = started.filter(|change| change.state == State::Running && is_handler(&change.name));
        once(started.map(|change| change.name.base()))
    }

    /// The calls that were repeated after a pause.
    fn retried(&self) -> Vec<RetriedCall> {
        let mut retried = Vec::new();
        for ((.., name), changes) in &self.executions {
            for action in [Action::Apply, Action::Rollback] {
                let (mut attempts, mut pauses, mut current) = (0, Vec::new(), Action::Apply);
                for (_, change) in changes {
                    current = match change.state {
                        State::Running => Action::Apply,
                        State::RollingBack => Action::Rollback,
                        State::Pending
                        | State::Success
                        | State::Failure
                        | State::RolledBack
                        | State::RollbackFailure
                        | State::Ignored
                        | State::Retrying => current,
                    };
                    if current == action {
                        attempts += u32::from(matches!(change.state, State::Running | State::RollingBack));
                        pauses.extend(change.retry_in.map(|pause| pause.as_secs_f64()));
                    }
                }
                if !pauses.is_empty() {
                    let jitter = self.task(name).is_some_and(|task| task.retry.jitter);
                    retried.push(RetriedCall {
                        node: name.to_string(),
                        action: action.into(),
                        attempts,
                        pauses,
                        jitter,
                    });
                }
            }
        }
        retried
    }

    fn retried_flows(&self) -> Vec<RetriedFlow> {
        // What was rolled back in a scope before its second run, by the part and the firing.
        let mut rolled_back: BTreeMap<(usize, Firing, ScopeIndex), (usize, Vec<String>)> = BTreeMap::new();
        let mut controllers = Vec::new();
        for (key, changes) in &self.executions {
            let (part, firing, name) = key;
            let retrying = changes.iter().find(|(_, change)| change.state == State::Retrying);
            let Some((until, _)) = retrying else { continue };
            let Some(scope) = self.index(name).map(|index| self.flow().node(index).scope) else { continue };
            let starts = changes.iter().filter(|(_, change)| change.state == State::Running).count();
            controllers.push((key, scope, u32::try_from(starts).unwrap_or(u32::MAX)));
            rolled_back.insert((*part, *firing, scope), (*until, Vec::new()));
        }
        if controllers.is_empty() {
            return Vec::new();
        }
        for (position, (part, change)) in self.history.changes.iter().enumerate() {
            if change.state != State::RolledBack {
                continue;
            }
            let key = (*part, change.firing, change.name.clone());
            if !self.history.rollback_calls.contains(&key) {
                continue;
            }
            let inner = self.index(&change.name).map(|index| self.flow().node(index).scope);
            for scope in std::iter::successors(inner, |scope| self.flow().scope(*scope).parent) {
                if let Some((until, names)) = rolled_back.get_mut(&(*part, change.firing, scope))
                    && position < *until
                {
                    names.push(change.name.to_string());
                }
            }
        }
        let retried = controllers.into_iter().map(|((part, firing, name), scope, runs)| {
            let names = rolled_back.remove(&(*part, *firing, scope)).map(|(_, names)| names).unwrap_or_default();
            RetriedFlow { flow: name.to_string(), runs, rolled_back: names }
        });
        retried.collect()
    }

    fn firings(&self) -> Vec<RehearsedFiring> {
        let firing = |(by, state): &(String, RunState)| RehearsedFiring { by: by.clone(), state: (*state).into() };
        self.history.firings.values().map(firing).collect()
    }

    fn unexpected(&self) -> BTreeMap<String, Failure> {
        let mut unexpected = BTreeMap::new();
        for (_, change) in &self.history.changes {
            let is_final = change.retry_in.is_none();
            let Some(failure) = change.failure.as_ref().filter(|_| is_final) else { continue };
            let is_consequence = failure.kind == FailureKind::Cancelled || failure.message == injection::MESSAGE;
            if unexpected.len() == MAX_UNEXPECTED {
                break;
            }
            if !is_consequence && !self.injection.concerns(&change.name.base()) {
                unexpected.entry(change.name.to_string()).or_insert_with(|| Failure::from(failure));
            }
        }
        unexpected
    }

    fn skipped(&self) -> Vec<SkippedNode> {
        let nodes = self.history.skipped.iter().map(|index| {
            let node = self.flow().node(*index);
            let is_told = |link: &&Link| link.when.is_some() || link.on != SourceOutcome::Success;
            let links = node.links.iter().filter(is_told).map(|link| self.skipped_link(link));
            SkippedNode { node: node.name.to_string(), links: links.collect() }
        });
        let back_edges = self.flow().triggers.iter().flat_map(|triggers| triggers.back_edges.iter().zip(0..));
        let is_skipped = |number: u32| self.history.skipped_back_edges.contains(&number);
        let back_edges = back_edges.filter(|(edge, number)| edge.link.when.is_some() && is_skipped(*number));
        let back_edges = back_edges.map(|(edge, _)| SkippedNode {
            node: self.flow().node(edge.to).name.to_string(),
            links: vec![self.skipped_link(&edge.link)],
        });
        nodes.chain(back_edges).collect()
    }

    fn skipped_link(&self, link: &Link) -> SkippedLink {
        let mut read = BTreeSet::new();
        for (_, source) in &link.reads {
            values_of(source, &mut read);
        }
        let flow = self.flow();
        let of_results = read.iter().filter_map(|(node, value)| self.cases.stubs.describe(flow, *node, value));
        let of_failures = link.reads.iter().filter_map(|(name, source)| self.failure_stub(name, source));
        let shown = |stub: StubbedValue| {
            let value = stub.value.filter(|value| value.get().len() <= MAX_STUB_BYTES);
            StubbedValue { value, ..stub }
        };
        let stubs = of_results.chain(of_failures).take(MAX_STUBS_OF_LINK).map(shown).collect();
        SkippedLink {
            from: flow.node(link.from).name.to_string(),
            when: link.when.as_ref().map(|when| when.as_str().to_owned()),
            on_failure: link.on == SourceOutcome::Failure,
            stubs,
        }
    }

    /// The failure that a condition reads, if the case lets it happen.
    fn failure_stub(&self, name: &ValueName, source: &Source) -> Option<StubbedValue> {
        let Source::Failure(nodes) = source else { return None };
        let mut failed = nodes.iter().map(|index| &self.flow().node(*index).name);
        let task = failed.find(|name| self.injection.find(name, Action::Apply).is_some())?;
        let flow::Value::Json(value) = injection::failure().as_value(task) else { return None };
        Some(stubs::describe(task, name, &value, StubOrigin::Failure))
    }
}

/// The values of nodes that a source may read.
fn values_of(source: &Source, values: &mut BTreeSet<(NodeIndex, ValueName)>) {
    match source {
        Source::Node { node, value } => drop(values.insert((*node, value.clone()))),
        Source::LoopCarried { nodes, value, initial } => {
            values.extend(nodes.iter().map(|node| (*node, value.clone())));
            values_of(initial, values);
        }
        Source::Constant(_) | Source::RunInput(_) | Source::Element | Source::Failure(_) | Source::Absent => {}
    }
}

/// Each name once, in order.
fn once(names: impl Iterator<Item = NodeName>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).map(|name| name.to_string()).collect()
}
