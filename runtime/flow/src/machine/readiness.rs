//! Who may start: counts that follow every change of state, and a worklist of those that reached nothing.

use crate::{NodeIndex, Role, ScopeIndex, Timestamp, Values};

use super::{
    Machine,
    node::{Intention, NodeState},
};

impl Machine {
    /// Puts a node in a state, and everything that follows from it without a decision: counts, who may start,
    /// and the passing of flows' beginnings and ends, which are never told.
    pub(super) fn enter(&mut self, index: NodeIndex, state: NodeState) {
        let mut work = Vec::new();
        self.place(index, state, &mut work);
        self.settle(work);
    }

    /// Looks again at nodes whose scope has a new intention.
    pub(super) fn settle(&mut self, mut work: Vec<NodeIndex>) {
        while let Some(index) = work.pop() {
            let node = self.node(index);
            let executing = self.executing(self.flow.node(index).scope);
            let is_marker = match self.flow.node(index).role {
                Role::Begin | Role::End => true,
                Role::Task(_) | Role::Controller(_) => false,
            };
            match &node.state {
                NodeState::Pending | NodeState::Retrying if node.waiting == 0 && executing => {
                    if is_marker {
                        self.place(index, NodeState::Success { provided: Values::new() }, &mut work);
                    } else {
                        self.ready.insert(self.turn(index));
                    }
                }
                NodeState::Success { .. } | NodeState::Failure { .. } if node.holding == 0 && !executing => {
                    if is_marker {
                        self.place(index, NodeState::RolledBack, &mut work);
                    } else {
                        self.unwinding.insert(self.turn(index));
                    }
                }
                NodeState::Pending
                | NodeState::Running { .. }
                | NodeState::Success { .. }
                | NodeState::Failure { .. }
                | NodeState::RollingBack { .. }
                | NodeState::RolledBack
                | NodeState::RollbackFailure { .. }
                | NodeState::Retrying => {}
            }
        }
    }

    /// Whether the scope and all around it are to execute.
    pub(super) fn executing(&self, scope: ScopeIndex) -> bool {
        self.enclosing(scope).all(|scope| self.scope(scope).intention == Intention::Execute)
    }

    /// Gives a scope a stronger intention and looks at all that ran in it. What waited for another attempt or for
    /// a decision in it waits no more.
    pub(super) fn mark(&mut self, at: Timestamp, scope: ScopeIndex, intention: Intention) {
        let known = &mut self.scope_mut(scope).intention;
        *known = intention.max(*known);
        let ran = self.ran_within(scope);
        for index in &ran {
            self.unresolved.remove(index);
            if let NodeState::Failure { retry_at, .. } = &mut self.node_mut(*index).state
                && let Some(due) = retry_at.take()
            {
                self.due.remove(&(due, *index));
            }
        }
        let ready = std::mem::take(&mut self.ready);
        self.ready = ready.into_iter().filter(|turn| self.executing(self.flow.node(turn.1).scope)).collect();
        // First these: what comes before them is not to be rolled back yet.
        self.roll_back_strays(at);
        self.settle(ran);
    }

    /// The nodes in a scope and in those nested in it that are not pending.
    pub(super) fn ran_within(&self, scope: ScopeIndex) -> Vec<NodeIndex> {
        let mut ran = Vec::new();
        for scope in self.scopes_within(scope) {
            ran.extend(self.scope(scope).ran.iter().copied());
        }
        ran.sort_unstable();
        ran
    }

    /// A scope and those nested in it that have begun.
    pub(super) fn scopes_within(&self, scope: ScopeIndex) -> Vec<ScopeIndex> {
        let mut found = vec![scope];
        let mut next = 0;
        while let Some(scope) = found.get(next).copied() {
            next += 1;
            let begun = |child: &&ScopeIndex| !self.scope(**child).ran.is_empty();
            found.extend(self.scope(scope).children.iter().filter(begun));
        }
        found
    }

    /// Takes a node's call out of those that wait for another attempt.
    pub(super) fn not_due(&mut self, at: Option<Timestamp>, index: NodeIndex) {
        if let Some(at) = at {
            self.due.remove(&(at, index));
        }
    }

    fn place(&mut self, index: NodeIndex, state: NodeState, work: &mut Vec<NodeIndex>) {
        let flow = self.flow.clone();
        let node = flow.node(index);
        let turn = self.turn(index);
        self.ready.remove(&turn);
        self.unwinding.remove(&turn);
        if state == NodeState::Pending {
            self.scope_mut(node.scope).ran.remove(&index);
        } else {
            self.scope_mut(node.scope).ran.insert(index);
        }
        let old = std::mem::replace(&mut self.node_mut(index).state, state);
        let (let_follow, held_back) = (old.lets_follow(), old.holds_back());
        let lets_follow = self.node(index).state.lets_follow();
        let holds_back = self.node(index).state.holds_back();
        work.push(index);
        if let_follow != lets_follow {
            for after in &node.after {
                self.count_waiting(*after, lets_follow, work);
            }
        }
        if held_back != holds_back {
            for before in &node.before {
                self.count_holding(*before, holds_back, work);
            }
        }
    }

    fn count_waiting(&mut self, index: NodeIndex, one_less: bool, work: &mut Vec<NodeIndex>) {
        let node = self.node_mut(index);
        if one_less {
            node.waiting -= 1;
            if node.waiting == 0 {
                work.push(index);
            }
        } else {
            node.waiting += 1;
            let turn = self.turn(index);
            self.ready.remove(&turn);
        }
    }

    fn count_holding(&mut self, index: NodeIndex, one_more: bool, work: &mut Vec<NodeIndex>) {
        let node = self.node_mut(index);
        if one_more {
            node.holding += 1;
            let turn = self.turn(index);
            self.unwinding.remove(&turn);
        } else {
            node.holding -= 1;
            if node.holding == 0 {
                work.push(index);
            }
        }
    }
}
