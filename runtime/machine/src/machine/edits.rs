//! Edits of a running flow: which edits are valid, and how the run continues with the new flow.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{Change, Command, Fact};
use flow::{
    Draft, Edit, Flow, FlowSource, NodeIndex, NodeName, Revision, RunState, State, Task, Timestamp, ValueName,
    graph::{Role, ScopeIndex, Source},
};

use super::{
    Expansion, FiringSnapshot, Machine, NextFiring, NodeState, PendingTrigger, QueuedFiring, Snapshot, TriggerState,
    firing::FiringMachine,
};

/// The identity of a node across two flows. Names are unique, except that the begin and the end of a flow share a name, as
/// do a task and its fan-in; and a task may have the name of the whole flow.
type Key<'f> = (&'f NodeName, NodePart);

/// Distinguishes nodes that share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NodePart {
    Task,
    Results,
    Begin,
    End,
}

impl Machine {
    /// Plans some edits: returns the source and the draft of the edited flow.
    ///
    /// # Errors
    /// Every reason why the edits are invalid, for people.
    pub fn plan(&self, edits: &[Edit]) -> Result<(FlowSource, Draft), Vec<String>> {
        let Some(origin) = &self.flow.origin else {
            return Err(vec!["the run was submitted without its flow file, and cannot be edited".into()]);
        };
        let mut draft = origin.draft().map_err(|error| vec![error])?;
        let (mut planned, mut reasons) = (FlowSource::clone(origin), Vec::new());
        let mut inputs: BTreeSet<ValueName> = self.flow.inputs.keys().cloned().collect();
        for edit in edits {
            let edit = match edit {
                Edit::Remove { task, .. } => Edit::Remove { task: task.clone(), ran: self.has_run(task) },
                Edit::Add { .. }
                | Edit::Link { .. }
                | Edit::Unlink { .. }
                | Edit::Use { .. }
                | Edit::Set { .. }
                | Edit::Require { .. } => edit.clone(),
            };
            if let Edit::Add { text } = &edit
                && let Some(alias) = draft.conflicting_alias(text)
            {
                reasons
                    .push(format!("{edit}: the flow has another module {alias:?} already: choose another name for it"));
                continue;
            }
            let added = edit.added_inputs();
            if let Some(input) = added.iter().find(|name| inputs.contains(*name)) {
                reasons.push(format!("{edit}: the run has an input {input:?} already: choose another name for it"));
                continue;
            }
            inputs.extend(added);
            match draft.apply(&edit) {
                Ok(()) => planned.edits.push(edit),
                Err(reason) => reasons.push(format!("{edit}: {reason}")),
            }
        }
        if reasons.is_empty() { Ok((planned, draft.into_draft())) } else { Err(reasons) }
    }

    fn has_run(&self, task: &NodeName) -> bool {
        self.tasks.get(task).is_some_and(|index| !self.is_untouched(*index))
    }

    /// Whether this run never acted for a node, as far as effects could still be rolled back.
    fn is_untouched(&self, index: NodeIndex) -> bool {
        self.firings.values().all(|firing| firing.is_untouched(index) && firing.entry != Some(index))
    }

    /// Every reason why the run cannot continue with another flow, for people.
    #[must_use]
    pub fn edit_errors(&self, flow: &Flow) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.state().is_final() {
            reasons.push(format!("the run is {}: it has ended", self.state()));
        }
        if self.flow.triggers.is_some() != flow.triggers.is_some() {
            reasons.push("a run that fires once cannot become one that fires more than once, and vice versa".into());
        }
        let others = keys(flow);
        for index in self.flow.indices() {
            let (node, state) = (self.flow.node(index), self.node_state(index));
            match others.get(&key(&self.flow, index)).map(|other| flow.node(*other)) {
                None if !self.is_untouched(index) => reasons.push(format!("{:?} is {state} by now", node.name)),
                Some(other) if node.is_failure_handler != other.is_failure_handler && !self.is_untouched(index) => {
                    reasons.push(format!(
                        "{:?} is {state}: a task that has run cannot start or stop to listen to failures",
                        node.name
                    ))
                }
                Some(other) if !same_call((&self.flow, &node.role), (flow, &other.role)) => {
                    reasons.extend(self.call_in_use(index));
                }
                Some(_) | None => {}
            }
        }
        reasons.extend(self.unreachable_additions(flow));
        reasons
    }

    /// Why the call of a node cannot be replaced yet: its effects may still have to be rolled back, with the module and the
    /// values of that call.
    ///
    /// The effects of a successfully ended firing are final and do not matter. The exception is the first firing of a
    /// persistent run, which is rolled back when the run is asked to end.
    fn call_in_use(&self, index: NodeIndex) -> Option<String> {
        let name = &self.flow.node(index).name;
        let base = self.triggers.as_ref().and_then(|trigger_state| trigger_state.base_firing);
        let describe_firing = |firing: &FiringMachine| {
            if self.triggers.is_some() { format!(" in firing {}", firing.firing) } else { String::new() }
        };
        self.firings.values().find_map(|firing| {
            let state = firing.node_state(index);
            let is_final = firing.state == RunState::Success && Some(firing.firing) != base;
            if state.has_effects() && !is_final {
                return Some(format!(
                    "{name:?} is {state}{}: its call may still be rolled back",
                    describe_firing(firing)
                ));
            }
            let may_answer = firing.calls_of(index).any(|call| {
                let node = firing.node(call);
                !node.rare.lost.is_empty() || !node.rare.lease_holders.is_empty() || node.rare.late_outcome.is_some()
            });
            may_answer.then(|| {
                format!(
                    "an attempt of {name:?}{} was lost, and may answer yet: what it did that call has to take back",
                    describe_firing(firing)
                )
            })
        })
    }

    /// The tasks that another flow adds and that would never run: their firing has ended.
    ///
    /// In a flow that is cyclic but not persistent, the first firing is dropped once it has ended, and nothing starts it
    /// again; later firings start at the target of a back edge.
    fn unreachable_additions(&self, flow: &Flow) -> Vec<String> {
        let (Some(trigger_state), Some(triggers)) = (&self.triggers, &flow.triggers) else { return Vec::new() };
        let may_first_firing_continue = trigger_state.queued.iter().any(|queued| queued.entry.is_none())
            || self.firings.values().any(|firing| firing.entry.is_none() && !firing.state.is_final());
        if triggers.persistent || may_first_firing_continue || trigger_state.firing_count == 0 {
            return Vec::new();
        }
        let starts = triggers.back_edges.iter().map(|edge| edge.to).chain(triggers.entries.iter().copied());
        let reachable = flow.reachable_from(starts);
        let known = keys(&self.flow);
        let is_task =
            |index: NodeIndex| matches!(flow.node(index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
        let unreachable = flow
            .indices()
            .filter(|index| is_task(*index) && !reachable.contains(index) && !known.contains_key(&key(flow, *index)));
        unreachable
            .map(|index| {
                format!(
                    "{:?} would never run: the first firing has ended, and no link that fires anew leads to it",
                    flow.node(index).name
                )
            })
            .collect()
    }

    pub(super) fn decide_edit(&self, revision: Revision, flow: &Arc<Flow>) -> Option<Fact> {
        let is_valid = revision == self.revision && self.edit_errors(flow).is_empty();
        is_valid.then(|| Fact::Edited { flow: flow.clone(), revision: self.revision.next() })
    }

    /// Continues with another flow: the state of nodes is kept by name, and everything derived from it is recomputed.
    pub(super) fn replace_flow(&mut self, at: Timestamp, flow: &Arc<Flow>, revision: Revision) -> Vec<Command> {
        let snapshot = self.snapshot();
        let mapping = NodeMapping::new(&self.flow, flow);
        let trigger_state = snapshot.triggers.map(|trigger_state| mapping.map_trigger_state(trigger_state));
        let firings = snapshot.firings.into_iter().filter_map(|firing| mapping.map_firing(firing)).collect();
        let notifications = self.notifications.clone();
        let edited =
            Snapshot { flow: flow.clone(), revision, firings, triggers: trigger_state, notifications, latest: at };
        *self = Self::restore(self.run.clone(), edited).expect("nodes and scopes were looked up in the new flow");
        self.resume_base_firing(at)
    }

    /// Resumes the first firing of a persistent run where an edit has added nodes to it.
    fn resume_base_firing(&mut self, at: Timestamp) -> Vec<Command> {
        let Some(trigger_state) = self.triggers.as_ref().filter(|trigger_state| !trigger_state.ending) else {
            return Vec::new();
        };
        let (Some(base), state) = (trigger_state.base_firing, trigger_state.resumed_state()) else { return Vec::new() };
        let end = self.flow.scope(ScopeIndex::ROOT).end;
        let Some(firing) = self.firings.get(&base).filter(|firing| firing.state == RunState::Success) else {
            return Vec::new();
        };
        let is_pending = |index: NodeIndex| firing.node_state(index) == State::Pending;
        if !self.flow.indices().any(is_pending) {
            return Vec::new();
        }
        self.firings.change(base, |firing| {
            firing.enter(end, NodeState::Pending);
            firing.state = state;
        });
        vec![Command::Publish(Change::Firing { firing: base, state, at })]
    }
}

impl FiringMachine {
    /// The nodes whose calls belong to a node: itself, and its list elements.
    fn calls_of(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        let elements =
            self.elements.get(&index).into_iter().flat_map(|elements| elements.expansion.nodes.iter().copied());
        std::iter::once(index).chain(elements)
    }

    fn is_untouched(&self, index: NodeIndex) -> bool {
        let node = self.node(index);
        node.applies == 0 && node.state.is_untouched()
    }
}

/// Maps the nodes of a flow to the nodes of the edited flow.
struct NodeMapping<'f> {
    old: &'f Flow,
    new: &'f Flow,
    others: BTreeMap<Key<'f>, NodeIndex>,
}

impl<'f> NodeMapping<'f> {
    fn new(old: &'f Flow, new: &'f Flow) -> Self {
        Self { old, new, others: keys(new) }
    }

    fn node(&self, index: NodeIndex) -> Option<NodeIndex> {
        self.others.get(&key(self.old, index)).copied()
    }

    fn scope(&self, scope: ScopeIndex) -> Option<ScopeIndex> {
        Some(self.new.node(self.node(self.old.scope(scope).begin)?).scope)
    }

    fn map_keys<T: Clone>(&self, by_node: &BTreeMap<NodeIndex, T>) -> BTreeMap<NodeIndex, T> {
        by_node.iter().filter_map(|(index, value)| Some((self.node(*index)?, value.clone()))).collect()
    }

    /// `None` if the entry node was removed. An entry node stays while any node of its firing exists.
    fn map_firing(&self, firing: FiringSnapshot) -> Option<FiringSnapshot> {
        let entry = match firing.entry {
            Some(entry) => Some(self.node(entry)?),
            None => None,
        };
        let (elements, new_indices) = self.elements(&firing.elements);
        let of_elements =
            elements.iter().flat_map(|(each, expansion)| expansion.nodes.iter().map(|index| (*index, *each)));
        let tasks: BTreeMap<NodeIndex, NodeIndex> = of_elements.collect();
        let nodes = firing.nodes.iter().filter_map(|(old_index, node)| {
            let (index, mut node) = (self.node_or(*old_index, &new_indices)?, node.clone());
            // The task of an element decides what happens to the element.
            let of = tasks.get(&index).copied().unwrap_or(index);
            if let NodeState::Failure { retry_at, .. } = &mut node.state
                && self.new.node(of).retired
            {
                // A removed node makes no further attempt.
                *retry_at = None;
            }
            Some((index, node))
        });
        let scopes = firing.intentions.iter();
        let intentions = scopes.filter_map(|(old_index, intention)| Some((self.scope(*old_index)?, *intention)));
        let (nodes, intentions) = (nodes.collect(), intentions.collect());
        let inherited = self.map_keys(&firing.given).into();
        Some(FiringSnapshot { entry, elements, nodes, intentions, given: inherited, ..firing })
    }

    fn node_or(&self, index: NodeIndex, new_indices: &BTreeMap<NodeIndex, NodeIndex>) -> Option<NodeIndex> {
        if (index.0 as usize) < self.old.nodes.len() { self.node(index) } else { new_indices.get(&index).copied() }
    }

    /// The list elements of tasks, placed after the nodes of the new flow, with their previous indices.
    fn elements(
        &self,
        old: &[(NodeIndex, Expansion)],
    ) -> (Vec<(NodeIndex, Expansion)>, BTreeMap<NodeIndex, NodeIndex>) {
        let new_index = |each: NodeIndex| self.node(each).filter(|each| self.new.for_each(*each).is_some());
        let mut expansions: Vec<(NodeIndex, Expansion)> =
            old.iter().filter_map(|(each, expansion)| Some((new_index(*each)?, expansion.clone()))).collect();
        let mut nodes: Vec<NodeIndex> =
            expansions.iter().flat_map(|(_, expansion)| expansion.nodes.iter().copied()).collect();
        nodes.sort_unstable();
        let first = u32::try_from(self.new.nodes.len()).expect("wire refuses flows of over 2^32 nodes");
        let new_indices: BTreeMap<NodeIndex, NodeIndex> = nodes.into_iter().zip((first..).map(NodeIndex)).collect();
        for (_, expansion) in &mut expansions {
            expansion.nodes.iter_mut().for_each(|node| *node = new_indices[node]);
        }
        expansions.sort_by_key(|(each, _)| *each);
        (expansions, new_indices)
    }

    fn map_trigger_state(&self, state: TriggerState) -> TriggerState {
        let queued = state.queued.iter().filter_map(|queued| {
            let entry = match queued.entry {
                Some(entry) => Some(self.node(entry)?),
                None => None,
            };
            let inherited = queued.inherited.as_ref().map(|inherited| self.map_keys(inherited).into());
            Some(QueuedFiring { entry, inherited, ..queued.clone() })
        });
        let pending = state.pending_triggers.iter().filter_map(|pending| {
            let back_edge = self.back_edge(pending.back_edge)?;
            Some(PendingTrigger { back_edge, given: self.map_keys(&pending.given).into(), ..pending.clone() })
        });
        let schedules = self.new.triggers.iter().flat_map(|triggers| &triggers.schedules).map(|schedule| {
            let old_schedules = self.old.triggers.iter().flat_map(|triggers| &triggers.schedules);
            let old_schedules = old_schedules.zip(state.schedules.iter().zip(&*state.backlogs));
            let is_same =
                |old: &flow::graph::Schedule| old.cron == schedule.cron && self.node(old.to) == Some(schedule.to);
            let mut old_schedules =
                old_schedules.filter(|(old, _)| is_same(old)).map(|(_, (due, backlog))| (*due, backlog.clone()));
            old_schedules.next().unwrap_or((NextFiring::Unknown, VecDeque::new()))
        });
        let (schedules, backlogs): (Vec<NextFiring>, Vec<_>) = schedules.unzip();
        let (schedules, backlogs) = (schedules.into_iter().collect(), backlogs.into_iter().collect());
        let skips =
            state.skips.iter().filter_map(|((task, reason), skips)| Some(((self.node(*task)?, *reason), *skips)));
        let skips = skips.collect();
        TriggerState {
            queued: queued.collect(),
            pending_triggers: pending.collect(),
            schedules,
            backlogs,
            skips,
            latest_values: self.map_keys(&state.latest_values).into(),
            last_states: self.map_keys(&state.last_states),
            ..state
        }
    }

    /// The new index of a back edge; `None` when it is gone.
    fn back_edge(&self, number: u32) -> Option<u32> {
        let old = self.old.triggers.as_ref()?.back_edges.get(number as usize)?;
        let ends = (self.node(old.link.from)?, self.node(old.to)?);
        let back_edges = &self.new.triggers.as_ref()?.back_edges;
        let position = back_edges.iter().position(|edge| (edge.link.from, edge.to) == ends)?;
        u32::try_from(position).ok()
    }
}

/// Whether a task's call stays the same: the same module and the same values, wherever their providers are.
fn same_call((flow, role): (&Flow, &Role), (other_flow, other): (&Flow, &Role)) -> bool {
    match (role, other) {
        (Role::Task(task), Role::Task(other)) => is_the_same_task((flow, task), (other_flow, other)),
        (Role::ForEach(each), Role::ForEach(other)) => {
            is_the_same_task((flow, &each.task), (other_flow, &other.task))
                && describe_source(flow, &each.list) == describe_source(other_flow, &other.list)
        }
        (Role::FanIn(_), Role::FanIn(_)) => true,
        (Role::Wait(wait), Role::Wait(other)) => wait == other,
        (Role::Controller(_) | Role::Begin, Role::Controller(_) | Role::Begin) | (Role::End, Role::End) => true,
        (
            Role::Task(_)
            | Role::Wait(_)
            | Role::ForEach(_)
            | Role::FanIn(_)
            | Role::Controller(_)
            | Role::Begin
            | Role::End,
            _,
        ) => false,
    }
}

fn is_the_same_task((flow, task): (&Flow, &Task), (other_flow, other): (&Flow, &Task)) -> bool {
    let inputs = |flow: &Flow, task: &Task| -> Vec<String> {
        task.inputs
            .iter()
            .map(|input| format!("{} {}", input.parameter, describe_source(flow, &input.source)))
            .collect()
    };
    (task.module, &task.export, &task.provides, task.rollback)
        == (other.module, &other.export, &other.provides, other.rollback)
        && inputs(flow, task) == inputs(other_flow, other)
}

/// Describes the source of a value without node indices.
fn describe_source(flow: &Flow, source: &Source) -> String {
    let name = |node: &NodeIndex| flow.node(*node).name.to_string();
    match source {
        Source::Node { node, value } => format!("{value} of {}", name(node)),
        Source::Failure(nodes) => format!("failure of {:?}", nodes.iter().map(name).collect::<Vec<_>>()),
        Source::LoopCarried { nodes, value, .. } => {
            format!("{value} carried over from {:?}", nodes.iter().map(name).collect::<Vec<_>>())
        }
        source @ (Source::Constant(_) | Source::Element | Source::RunInput(_) | Source::Absent) => {
            format!("{source:?}")
        }
    }
}

fn keys(flow: &Flow) -> BTreeMap<Key<'_>, NodeIndex> {
    flow.indices().map(|index| (key(flow, index), index)).collect()
}

fn key(flow: &Flow, index: NodeIndex) -> Key<'_> {
    let node = flow.node(index);
    let part = match node.role {
        Role::Task(_) | Role::Wait(_) | Role::ForEach(_) => NodePart::Task,
        Role::FanIn(_) => NodePart::Results,
        Role::Controller(_) | Role::Begin => NodePart::Begin,
        Role::End => NodePart::End,
    };
    (&node.name, part)
}
