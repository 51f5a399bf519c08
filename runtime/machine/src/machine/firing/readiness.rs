//! Readiness of nodes: counts that follow every change of state, and a worklist of nodes whose count reached zero.

use std::collections::BTreeSet;

use flow::{NodeIndex, SkipReach, Timestamp, graph::ScopeIndex};

use super::{
    FiringMachine,
    graph::NodeRole,
    held::state_bytes,
    node::{Intention, NodeState, ProvidedValues},
};

impl FiringMachine {
    /// Puts a node in a state and applies everything that follows without a decision: the counts, the ready nodes, and the
    /// begin and end nodes of flows, which are never published.
    pub(in crate::machine) fn enter(&mut self, index: NodeIndex, state: NodeState) {
        let mut work = Vec::new();
        self.set_state(index, state, &mut work);
        self.update_readiness(work);
    }

    /// Checks nodes again whose scope has a new intention.
    pub(in crate::machine) fn update_readiness(&mut self, mut work: Vec<NodeIndex>) {
        while let Some(index) = work.pop() {
            let node = self.node(index);
            let may_continue = self.may_continue(index);
            let definition = self.definition(index);
            let passes_at_once = definition.links.is_empty() && definition.starts.is_none();
            let is_marker = match self.role(index) {
                NodeRole::Begin | NodeRole::End => true,
                NodeRole::Task(_)
                | NodeRole::Wait(_)
                | NodeRole::ForEach(_)
                | NodeRole::Element(_)
                | NodeRole::FanIn(_)
                | NodeRole::Controller(_) => false,
            };
            let can_start = matches!(node.state, NodeState::Pending | NodeState::Retrying) && node.waiting == 0;
            // A controller that was to retry has had no effects since.
            let can_roll_back = node.state.is_applied() || node.state == NodeState::Retrying;
            if can_start && may_continue {
                if node.rare.starts_at.is_some() {
                    // It waits for that time.
                } else if definition.retired {
                    // Its flow runs again, and the node does not.
                    self.set_state(index, NodeState::Ignored, &mut work);
                } else if is_marker && passes_at_once {
                    self.set_state(index, NodeState::Success { provided: ProvidedValues::default() }, &mut work);
                } else if let Some(element) = self.element(index) {
                    // Once its task has failed, no other element starts, but failure handlers continue.
                    if self.node(self.flow.fan_in_of(element.of)).state == NodeState::Pending {
                        self.queue(index, element);
                    }
                } else {
                    self.ready.insert(self.start_order(index));
                }
            } else if can_roll_back && node.rollback_blockers == 0 && !may_continue {
                if is_marker {
                    self.set_state(index, NodeState::RolledBack, &mut work);
                } else {
                    self.mark_rollback_ready(index);
                }
            }
        }
    }

    /// Whether a node is to run and keep its effects: its scope executes, or it is a failure handler outside the rollback.
    pub(in crate::machine) fn may_continue(&self, index: NodeIndex) -> bool {
        let node = self.definition(index);
        node.is_failure_handler || self.executing(node.scope)
    }

    /// Whether other nodes are unaffected when this node fails.
    pub(super) fn is_isolated(&self, index: NodeIndex) -> bool {
        let node = self.definition(index);
        node.is_failure_handler || node.retired
    }

    /// Whether a node that failed or was lost is retried.
    pub(super) fn may_retry(&self, index: NodeIndex) -> bool {
        self.may_continue(index) && !self.definition(index).retired
    }

    /// Ignores a waiting node and the nodes that the skip reaches; returns the ignored nodes in order.
    pub(super) fn ignore(&mut self, index: NodeIndex, reach: SkipReach) -> Vec<NodeIndex> {
        let mut ignored = self.nodes_to_skip(index, reach);
        ignored.retain(|index| self.node(*index).state == NodeState::Pending);
        ignored.sort_unstable();
        let mut work = Vec::new();
        // Ignore all of them before checking which nodes may start: a successor of one may be another.
        for index in &ignored {
            self.set_state(*index, NodeState::Ignored, &mut work);
        }
        self.update_readiness(work);
        ignored
    }

    /// The node and the nodes that a skip at it reaches.
    fn nodes_to_skip(&self, index: NodeIndex, reach: SkipReach) -> Vec<NodeIndex> {
        let scope = self.definition(index).scope;
        let mut nodes_to_skip = self.nodes_of(index);
        let successors = self.successors(index).to_vec();
        match reach {
            SkipReach::Task => {}
            SkipReach::Neighbors => {
                let tasks = successors.into_iter().filter(|after| self.is_task(*after));
                nodes_to_skip.extend(tasks.flat_map(|task| self.nodes_of(task)));
            }
            SkipReach::Flow | SkipReach::All => {
                let (mut seen, mut work) = (BTreeSet::new(), successors);
                while let Some(next) = work.pop() {
                    if seen.insert(next) {
                        work.extend(self.successors(next));
                    }
                }
                let is_in_reach = |node: &NodeIndex| {
                    reach == SkipReach::All || (self.definition(*node).scope == scope && self.is_task(*node))
                };
                nodes_to_skip.extend(seen.into_iter().filter(is_in_reach).flat_map(|node| self.nodes_of(node)));
            }
        }
        nodes_to_skip
    }

    fn is_task(&self, index: NodeIndex) -> bool {
        matches!(self.role(index), NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::ForEach(_))
    }

    /// The node itself; for a begin node, all nodes of its flow.
    fn nodes_of(&self, index: NodeIndex) -> Vec<NodeIndex> {
        match self.role(index) {
            NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::Element(_) | NodeRole::FanIn(_) => vec![index],
            // A task that has started is not ignored, and neither is any part of it.
            NodeRole::ForEach(_) if self.node(index).state != NodeState::Pending => vec![index],
            NodeRole::ForEach(_) => {
                let ends = [index, self.flow.fan_in_of(index)];
                ends.into_iter().chain(self.elements_of(index).iter().copied()).collect()
            }
            NodeRole::Begin | NodeRole::Controller(_) => {
                let end = self.flow.scope(self.scope_of(index)).end;
                (index.0..=end.0).map(NodeIndex).collect()
            }
            // Other nodes of the flow may still run, so the flow's end stays.
            NodeRole::End => Vec::new(),
        }
    }

    /// The direct successors of a node; for a begin node, the successors of its flow.
    fn successors(&self, index: NodeIndex) -> &[NodeIndex] {
        let last = match self.role(index) {
            NodeRole::Task(_) | NodeRole::Wait(_) | NodeRole::FanIn(_) | NodeRole::End => index,
            NodeRole::ForEach(_) => self.flow.fan_in_of(index),
            NodeRole::Element(element) => self.flow.fan_in_of(element.of),
            NodeRole::Begin | NodeRole::Controller(_) => self.flow.scope(self.scope_of(index)).end,
        };
        &self.flow.node(last).after
    }

    /// Whether the scope and all enclosing scopes are to execute.
    pub(in crate::machine) fn executing(&self, scope: ScopeIndex) -> bool {
        self.enclosing(scope).all(|scope| self.scope(scope).intention == Intention::Execute)
    }

    /// Gives a scope a stronger intention and checks all nodes that ran in it. Nodes in it that waited for another attempt
    /// or for a decision stop waiting.
    pub(super) fn set_intention(&mut self, at: Timestamp, scope: ScopeIndex, intention: Intention) {
        let current = &mut self.scope_mut(scope).intention;
        *current = intention.max(*current);
        let ran = self.ran_within(scope);
        for index in &ran {
            if !self.definition(*index).is_failure_handler {
                self.unresolved.remove(index);
            }
            if let NodeState::Failure { failure, retry_at: Some(due) } = &self.node(*index).state
                && !self.definition(*index).is_failure_handler
            {
                let (failure, due) = (failure.clone(), *due);
                self.retries.remove(&(due, *index));
                // The failure is permanent now; other nodes may listen to it.
                self.enter(*index, NodeState::Failure { failure, retry_at: None });
            }
        }
        let is_pending = |index: &NodeIndex| self.node(*index).state == NodeState::Pending;
        let delayed: Vec<NodeIndex> = self.retries.iter().map(|(_, index)| *index).filter(is_pending).collect();
        delayed.into_iter().filter(|index| !self.may_continue(*index)).collect::<Vec<_>>().into_iter().for_each(
            |index| {
                self.cancel_wait(index);
            },
        );
        let ready = std::mem::take(&mut self.ready);
        self.ready = ready.into_iter().filter(|order| self.may_continue(order.1)).collect();
        self.unqueue_all();
        // These come first: their predecessors must not be rolled back yet.
        self.roll_back_late_outcomes(at);
        self.update_readiness(ran);
    }

    /// The nodes of a scope and its nested scopes that are not pending.
    pub(super) fn ran_within(&self, scope: ScopeIndex) -> Vec<NodeIndex> {
        let mut ran = Vec::new();
        for scope in self.scopes_within(scope) {
            ran.extend(self.scope(scope).ran.iter().copied());
        }
        ran.sort_unstable();
        ran
    }

    /// A scope and its nested scopes. A scope that has not started may contain late effects of a lost attempt.
    pub(super) fn scopes_within(&self, scope: ScopeIndex) -> Vec<ScopeIndex> {
        let mut scopes = vec![scope];
        let mut next = 0;
        while let Some(scope) = scopes.get(next).copied() {
            next += 1;
            scopes.extend(&self.scope(scope).children);
        }
        scopes
    }

    /// Removes a node from the calls that wait for another attempt.
    pub(super) fn remove_retry(&mut self, at: Option<Timestamp>, index: NodeIndex) {
        if let Some(at) = at {
            self.retries.remove(&(at, index));
        }
    }

    /// Delays a node that could start until a time.
    pub(super) fn wait_until(&mut self, index: NodeIndex, until: Timestamp) {
        let order = self.start_order(index);
        self.ready.remove(&order);
        self.node_mut(index).rare.starts_at = Some(until);
        self.retries.insert((until, index));
    }

    /// Ends a node's wait for its start time.
    fn cancel_wait(&mut self, index: NodeIndex) {
        let at = self.node_mut(index).rare.remove(|rare| rare.starts_at.take());
        self.remove_retry(at, index);
    }

    /// Removes the ready mark of a node that may not start any more.
    fn unmark_ready(&mut self, index: NodeIndex) {
        match self.element(index) {
            Some(element) => self.unqueue(index, element),
            None => drop(self.ready.remove(&self.start_order(index))),
        }
    }

    fn set_state(&mut self, index: NodeIndex, state: NodeState, work: &mut Vec<NodeIndex>) {
        let scope = self.scope_of(index);
        self.unmark_ready(index);
        self.clear_rollback_ready(index);
        self.cancel_wait(index);
        if state == NodeState::Pending {
            self.scope_mut(scope).ran.remove(&index);
        } else {
            self.scope_mut(scope).ran.insert(index);
        }
        let delayed_before = self.delays_rollback(index);
        if let Some(element) = self.element(index) {
            self.update_active_count(index, element, &state);
        }
        let after = state_bytes(&state);
        let old = std::mem::replace(&mut self.node_mut(index).state, state);
        self.count_held(state_bytes(&old), after);
        let delays_rollback = self.delays_rollback(index);
        work.push(index);
        let mut position = 0;
        while let Some(after) = self.after(index, position) {
            position += 1;
            let unblocks_successors = self.unblocks_successors(index, &self.node(index).state, after);
            if self.unblocks_successors(index, &old, after) != unblocks_successors {
                self.count_waiting(after, unblocks_successors, work);
            }
        }
        if delayed_before != delays_rollback {
            let mut position = 0;
            while let Some(before) = self.before(index, position) {
                position += 1;
                self.update_rollback_blockers(before, delays_rollback, work);
            }
        }
    }

    /// Whether a node in this state no longer blocks its successors.
    pub(in crate::machine) fn unblocks_successors(
        &self,
        index: NodeIndex,
        state: &NodeState,
        after: NodeIndex,
    ) -> bool {
        if self.definition(index).retired && *state != NodeState::Pending {
            return true;
        }
        // A failure handler delays no other node once it has failed.
        let is_over =
            (self.definition(index).is_failure_handler || self.handles_failure_of(after, index)) && state.is_over();
        is_over || state.unblocks_successors()
    }

    /// Whether a node delays the rollback of its predecessors.
    pub(in crate::machine) fn delays_rollback(&self, index: NodeIndex) -> bool {
        let node = self.node(index);
        if self.is_transparent_to_rollback(index) { node.rollback_blockers > 0 } else { node.state.delays_rollback() }
    }

    /// Whether a rollback passes through a node: it delays its predecessors for as long as any successor does. After an
    /// edit, a node that has run may follow a node that has not. A failure handler delays the rollback of its predecessors
    /// while it runs itself.
    pub(in crate::machine) fn is_transparent_to_rollback(&self, index: NodeIndex) -> bool {
        let state = &self.node(index).state;
        state.is_untouched() || (self.definition(index).is_failure_handler && state.is_over())
    }

    pub(super) fn count_waiting(&mut self, index: NodeIndex, one_less: bool, work: &mut Vec<NodeIndex>) {
        let node = self.node_mut(index);
        if one_less {
            node.waiting -= 1;
            if node.waiting == 0 {
                work.push(index);
            }
        } else {
            node.waiting += 1;
            self.unmark_ready(index);
            self.cancel_wait(index);
        }
    }

    pub(in crate::machine) fn update_rollback_blockers(
        &mut self,
        index: NodeIndex,
        one_more: bool,
        work: &mut Vec<NodeIndex>,
    ) {
        let mut counting = vec![index];
        while let Some(index) = counting.pop() {
            let node = self.node_mut(index);
            let was_blocked = node.rollback_blockers > 0;
            if one_more {
                node.rollback_blockers += 1;
            } else {
                node.rollback_blockers -= 1;
            }
            let is_blocked = node.rollback_blockers > 0;
            if was_blocked != is_blocked && self.is_transparent_to_rollback(index) {
                counting.extend(self.all_before(index));
            }
            if one_more {
                self.clear_rollback_ready(index);
            } else if !is_blocked {
                work.push(index);
            }
        }
    }
}
