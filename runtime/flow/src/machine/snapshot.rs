//! A machine without its history: what a long run is loaded from, with the records that came after.
//!
//! Only what records decided is kept. Who may start, who waits for whom and what is due follow from that, and are found
//! anew.

use std::sync::Arc;

use crate::{Failures, Flow, NodeIndex, Revision, Role, RunId, RunState, ScopeIndex, Timestamp};

use super::{
    Machine,
    node::{Intention, NodeRun, NodeState},
};

/// A run at one point of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The flow, as the run has it by now.
    pub flow: Arc<Flow>,
    /// What the flow looks like by now.
    pub revision: Revision,
    /// The state of the run.
    pub state: RunState,
    /// The nodes that are not as they were before the run began.
    pub nodes: Vec<(NodeIndex, NodeRun)>,
    /// The scopes that are not to execute.
    pub intentions: Vec<(ScopeIndex, Intention)>,
    /// Nodes that failed in the last pass, and why.
    pub failures: Failures,
    /// When the run is stopped, if it is not done by then.
    pub expires_at: Option<Timestamp>,
}

/// A snapshot that tells of nodes or scopes its flow does not have: the logbook is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of run {run} is not one of its flow")]
pub struct IllegalSnapshot {
    run: RunId,
}

impl Machine {
    /// The machine without its history.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let touched = |(index, node): (NodeIndex, &NodeRun)| {
            let (waiting, holding) = (0, 0);
            let bare = NodeRun { waiting, holding, ..node.clone() };
            (bare != NodeRun::untouched()).then_some((index, bare))
        };
        let indices = self.flow.indices();
        let scopes = (0..).map(ScopeIndex).zip(&self.scopes);
        Snapshot {
            flow: self.flow.clone(),
            revision: self.revision,
            state: self.state,
            nodes: indices.zip(&self.nodes).filter_map(touched).collect(),
            intentions: scopes
                .filter(|(_, scope)| scope.intention != Intention::Execute)
                .map(|(index, scope)| (index, scope.intention))
                .collect(),
            failures: (*self.failures).clone(),
            expires_at: self.expires_at,
        }
    }

    /// The machine that a snapshot was taken of.
    ///
    /// # Errors
    /// [`IllegalSnapshot`] when it tells of nodes or scopes that its flow does not have.
    pub fn restore(run: RunId, snapshot: Snapshot) -> Result<Self, IllegalSnapshot> {
        let Snapshot { flow, revision, state, nodes, intentions, failures, expires_at } = snapshot;
        let mut machine = Self::new(run.clone(), flow);
        let illegal = || IllegalSnapshot { run: run.clone() };
        machine.revision = revision;
        machine.state = state;
        machine.failures = Arc::new(failures);
        machine.expires_at = expires_at;
        for (index, intention) in intentions {
            machine.scopes.get_mut(index.0 as usize).ok_or_else(illegal)?.intention = intention;
        }
        for (index, node) in nodes {
            *machine.nodes.get_mut(index.0 as usize).ok_or_else(illegal)? = node;
        }
        machine.find_anew();
        Ok(machine)
    }

    /// Finds what follows from the states of the nodes.
    fn find_anew(&mut self) {
        let flow = self.flow.clone();
        for index in flow.indices() {
            let node = flow.node(index);
            let is_waited_for = |before: &&NodeIndex| !self.lets_follow(**before, &self.node(**before).state, index);
            let waiting = node.before.iter().filter(is_waited_for).count();
            self.node_mut(index).waiting = waiting;
            // What a rollback passes through passes on what it is counted for.
            if !self.passes_rollback(index) && self.holds_back(index) {
                let (before, mut nobody) = (node.before.clone(), Vec::new());
                before.into_iter().for_each(|before| self.count_holding(before, true, &mut nobody));
            }
            let run = self.node(index);
            let is_stray = run.stray.is_some();
            let (state, starts_at) = (run.state.clone(), run.starts_at);
            // After an edit it may have to wait for others first.
            if waiting == 0 && !node.retired && self.goes_on(index) {
                self.due.extend(starts_at.map(|at| (at, index)));
            } else {
                self.node_mut(index).starts_at = None;
            }
            if state != NodeState::Pending {
                self.scope_mut(node.scope).ran.insert(index);
            }
            match state {
                NodeState::Pending | NodeState::Ignored if is_stray => {
                    self.strays.insert(index);
                }
                NodeState::Running { retry_at: None, .. } | NodeState::RollingBack { retry_at: None, .. } => {
                    match node.role {
                        Role::Task(_) => drop(self.calling.insert(index)),
                        Role::Wait(_) => self.expect(index),
                        Role::Controller(_) | Role::Begin | Role::End => {}
                    }
                }
                NodeState::Running { retry_at: Some(due), .. }
                | NodeState::RollingBack { retry_at: Some(due), .. }
                | NodeState::Failure { retry_at: Some(due), .. } => {
                    self.due.insert((due, index));
                }
                NodeState::Failure { retry_at: None, .. }
                    if self.executing(node.scope) && !node.aside && !node.retired =>
                {
                    self.unresolved.insert(index);
                }
                NodeState::RollbackFailure { .. } => {
                    self.stuck.insert(index);
                }
                NodeState::Pending
                | NodeState::Success { .. }
                | NodeState::Failure { .. }
                | NodeState::RolledBack
                | NodeState::Retrying
                | NodeState::Ignored => {}
            }
        }
        if self.state != RunState::Pending {
            self.settle(flow.indices().collect());
        }
    }
}
