//! Retry controllers: each decides whether its flow runs again after a task of it has failed for good.

use crate::{Command, Resolution};
use flow::{
    Attempt, Json, NodeIndex, Otherwise, Size, State, Strategy, Timestamp, Value, ValueName, Values,
    graph::{Controller, Scope, ScopeIndex},
};

use super::{
    FiringMachine,
    node::{Intention, NodeState},
    publish::ChangeDetails,
};

impl FiringMachine {
    /// The value that a controller provides at its next attempt, and the list that it read for that, if it had not read it
    /// before.
    pub(super) fn next_value(
        &self,
        index: NodeIndex,
        controller: &Controller,
    ) -> Result<(Option<Value>, Option<Vec<Json>>), String> {
        let tried = self.node(index).applies as usize;
        let element = |list: &[Json]| list.get(tried).cloned().map(Value::Json);
        match &controller.strategy {
            Strategy::Times(_) => Ok((Some(Value::json(&(tried + 1).into())), None)),
            Strategy::ForEach(list) => Ok((element(list), None)),
            Strategy::Always => Ok((None, None)),
            Strategy::ForEachOf(name) => {
                if let Some(list) = &self.node(index).rare.list {
                    return Ok((element(list), None));
                }
                let value = controller.list.as_ref().and_then(|source| self.read(source));
                let list = read_list(name, value.as_deref())?;
                self.check_attempts(index, list.len())?;
                Ok((element(&list), Some(list)))
            }
        }
    }

    /// Checks how often the flows in a controller's flow may run with a list of this length. The rest is checked when the
    /// flow is submitted.
    fn check_attempts(&self, controller: NodeIndex, length: usize) -> Result<(), String> {
        let length_of_list = |scope: &Scope| match &self.node(scope.begin).rare.list {
            _ if scope.begin == controller => Some(length),
            list => list.as_ref().map(Vec::len),
        };
        let products = self.flow.attempts(length_of_list);
        let within = self.scopes_within(self.definition(controller).scope).into_iter();
        let most = within.filter_map(|scope| products.get(scope.0 as usize)).max().copied().unwrap_or_default();
        let allowed = self.flow.limits.attempts;
        if most > allowed.into() {
            return Err(format!(
                "the retry controller would try {length} elements, and with the retries of nested flows a flow would run \
                 {most} times: the limit `attempts` allows {allowed} here"
            ));
        }
        Ok(())
    }

    pub(super) fn run_controller(
        &mut self,
        at: Timestamp,
        index: NodeIndex,
        attempt: Attempt,
        value: Option<&Value>,
        list: Option<&[Json]>,
    ) -> Vec<Command> {
        self.node_mut(index).applies = attempt.get();
        if let Some(list) = list {
            self.set_controller_list(index, Some(list.to_vec()));
        }
        let name = self.controller(index).and_then(|controller| controller.provides.clone());
        let provided: Values = name.into_iter().zip(value.cloned()).collect();
        let running = self.publish_as(index, State::Running, at, ChangeDetails::default());
        self.enter(index, NodeState::Success { provided: provided.clone().into() });
        vec![running, self.publish(index, at, ChangeDetails::success(provided, None))]
    }

    /// Whether a permanent failure of a node goes to the controllers.
    pub(in crate::machine) fn asks_controller(&self, index: NodeIndex) -> bool {
        match self.for_each_task_of(index) {
            // The element fails its task, and the task's failure goes to the controllers.
            Some(each) => self.fails_for_each(index, each),
            // In a flow that is already being rolled back, controllers are not asked again; nor for a removed node or a
            // failure handler.
            None => self.executing(self.definition(index).scope) && !self.is_isolated(index),
        }
    }

    /// Asks the controllers, from the nearest outward.
    pub(super) fn resolve(&self, failed: NodeIndex) -> Resolution {
        let skipped = usize::from(self.controller(failed).is_some());
        // A failed controller does not resolve its own failure.
        for scope in self.enclosing(self.scope_of(failed)).skip(skipped) {
            let begin = self.flow.scope(scope).begin;
            let Some(controller) = self.controller(begin) else { continue };
            let tried = self.node(begin).applies;
            let tries_again = match &controller.strategy {
                Strategy::Times(times) => tried < *times,
                Strategy::ForEach(list) => (tried as usize) < list.len(),
                Strategy::ForEachOf(_) => {
                    self.node(begin).rare.list.as_ref().is_some_and(|list| (tried as usize) < list.len())
                }
                Strategy::Always => false,
            };
            match controller.otherwise {
                Otherwise::Rollback | Otherwise::RollbackAll if tries_again => return Resolution::Retry(scope),
                Otherwise::Rollback => {}
                Otherwise::RollbackAll => return Resolution::RollbackRun,
            }
        }
        Resolution::RollbackRun
    }

    /// Marks what the controllers have resolved to roll back. The rollback of each node is published when it starts.
    pub(super) fn follow_resolution(
        &mut self,
        at: Timestamp,
        index: NodeIndex,
        resolution: &Resolution,
    ) -> Vec<Command> {
        self.unresolved.remove(&index);
        match resolution {
            Resolution::Retry(scope) => self.set_intention(at, *scope, Intention::Retry),
            Resolution::RollbackRun => self.set_intention(at, ScopeIndex::ROOT, Intention::Rollback),
        }
        Vec::new()
    }

    /// Makes everything in a controller's flow pending again; the controllers in it start with an empty history.
    pub(super) fn retry_scope(&mut self, at: Timestamp, controller: NodeIndex) -> Vec<Command> {
        let scope = self.definition(controller).scope;
        let ran = self.ran_within(scope);
        for within in self.scopes_within(scope) {
            self.scope_mut(within).intention = Intention::Execute;
        }
        // The controller comes first: nothing in its flow may start before it has executed.
        self.enter(controller, NodeState::Retrying);
        let mut commands = vec![self.publish(controller, at, ChangeDetails::default())];
        for index in ran.into_iter().filter(|index| *index != controller) {
            commands.extend(self.make_pending(at, index));
        }
        commands
    }

    /// Whether only the controller's own flow, and no enclosing flow, is to run again.
    pub(super) fn will_retry(&self, controller: NodeIndex) -> bool {
        let mut intentions = self.enclosing(self.definition(controller).scope).map(|scope| self.scope(scope).intention);
        intentions.next() == Some(Intention::Retry) && intentions.all(|intention| intention == Intention::Execute)
    }

    /// Whether the flow of a controller that is to retry still has work under way or work to roll back. The effects of a
    /// lost attempt may be rolled back after everything before it, and an edit may have put a running node after a
    /// rolled-back one.
    pub(super) fn is_unfinished(&self, index: NodeIndex) -> bool {
        let has_work_left = |ran: &NodeIndex| {
            let state = &self.node(*ran).state;
            let has_effects_to_roll_back = || state.is_applied() && *ran != index && !self.may_continue(*ran);
            state.is_applying() || state.is_rolling_back() || has_effects_to_roll_back()
        };
        self.controller(index).is_some()
            && self.will_retry(index)
            && self.ran_within(self.scope_of(index)).iter().any(has_work_left)
    }
}

fn read_list(name: &ValueName, value: Option<&Value>) -> Result<Vec<Json>, String> {
    let json = match value {
        None => return Err(format!("value {name:?} is missing, and the retry controller tries its elements")),
        Some(Value::Bytes(_)) => {
            return Err(format!("value {name:?} is bytes, not a list whose elements the retry controller could try"));
        }
        Some(Value::Stored(stored)) => {
            let size = Size(stored.size);
            return Err(format!("value {name:?} is too large ({size:#}) for the retry controller to try its elements"));
        }
        Some(Value::Json(json)) => json,
    };
    let elements = json
        .elements()
        .ok_or_else(|| format!("value {name:?} is not a list whose elements the retry controller could try"))?;
    if elements.is_empty() {
        return Err(format!("value {name:?} is an empty list: there is nothing to try"));
    }
    Ok(elements)
}
