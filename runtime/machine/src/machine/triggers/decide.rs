//! Turns an event into records in a run that fires more than once. Nothing here changes the machine.

use crate::{Event, Fact, Record, Trigger};
use flow::{
    EvaluationBudget, Firing, NodeIndex, NodeName, RunState, Signal, TaskResult, Timestamp, Value, ValueName, Values,
    graph::{BackEdge, Requiredness, Role},
    invalid::EvaluationError,
};

use super::{PendingTrigger, TriggerState, is_active};
use crate::machine::{
    MAX_STEP_RECORDS, Machine,
    condition_budget::ConditionBudget,
    firing::{FiringMachine, FiringStart},
};

impl Machine {
    pub(in crate::machine) fn decide_triggers(
        &self,
        trigger_state: &TriggerState,
        now: Timestamp,
        event: &Event,
        budget: &ConditionBudget,
    ) -> Vec<Record> {
        let run_record = |fact| Record { at: now, firing: None, fact };
        let decide_firing = |firing: &FiringMachine| {
            let number = Some(firing.firing);
            let facts = firing.decide(now, event, budget).into_iter();
            facts.map(move |fact| Record { at: now, firing: number, fact }).collect::<Vec<_>>()
        };
        match (trigger_state.state, event) {
            (_, Event::Signal(Signal { call, .. }) | Event::Leased { call, .. } | Event::Lost { call, .. })
            | (_, Event::Fetched { id: call, .. } | Event::Remembered { call, .. } | Event::Withdrawn { call })
            | (_, Event::LostDelivery { call, .. }) => {
                self.firings.get(&call.firing).map(decide_firing).unwrap_or_default()
            }
            (RunState::Running, Event::Cancel) if !trigger_state.ending => vec![run_record(Fact::CancelRequested)],
            (RunState::Suspending | RunState::Suspended, Event::Cancel) if !trigger_state.ending => {
                vec![run_record(Fact::Resumed), run_record(Fact::CancelRequested)]
            }
            (RunState::Running, Event::Suspend) => vec![run_record(Fact::SuspendRequested)],
            (RunState::Suspending | RunState::Suspended, Event::Resume) => vec![run_record(Fact::Resumed)],
            (RunState::Suspending, Event::Abandon) => {
                self.firings.values().filter(|firing| is_active(firing)).flat_map(decide_firing).collect()
            }
            (RunState::RolledBack, Event::Retry) => vec![run_record(Fact::Reset)],
            (RunState::Running | RunState::Failure, Event::Retry | Event::Skip { .. }) => {
                let stuck = self.firings.values().filter(|firing| firing.state == RunState::Failure);
                let mut records = stuck.map(decide_firing).filter(|records| !records.is_empty());
                let is_skip = matches!(event, Event::Skip { .. });
                if is_skip { records.next().unwrap_or_default() } else { records.flatten().collect() }
            }
            (RunState::Running | RunState::Suspending, Event::Notify { task, result, key }) => {
                self.decide_notification(trigger_state, now, (task, result, key.as_deref()), (event, budget))
            }
            (RunState::Running, Event::Tick) => self.decide_firings(trigger_state, now, budget),
            (RunState::Suspending, Event::Tick) => {
                let records: Vec<Record> =
                    self.firings.values().filter(|firing| is_active(firing)).flat_map(decide_firing).collect();
                let is_stopped =
                    |firing: &FiringMachine| firing.state == RunState::Suspended || firing.state.is_final();
                if records.is_empty() && self.firings.values().all(is_stopped) {
                    return vec![run_record(Fact::RunStateChanged { state: RunState::Suspended })];
                }
                records
            }
            _ => Vec::new(),
        }
    }

    fn decide_notification(
        &self,
        trigger_state: &TriggerState,
        now: Timestamp,
        (task, result, key): (&NodeName, &TaskResult, Option<&str>),
        (event, budget): (&Event, &ConditionBudget),
    ) -> Vec<Record> {
        let Some(index) = self.tasks.get(task).copied() else { return Vec::new() };
        if matches!(self.flow.node(index).role, Role::Wait(_)) {
            let Some(firing) = self.firings.values().find(|firing| firing.waiting_tasks.contains(&index)) else {
                return Vec::new();
            };
            let record = |fact| Record { at: now, firing: Some(firing.firing), fact };
            return firing.decide(now, event, budget).into_iter().map(record).collect();
        }
        let TaskResult::Succeeded(values) = result else { return Vec::new() };
        let by = Trigger::Notification { key: key.map(Into::into) };
        vec![Record { at: now, firing: None, fact: self.fire(trigger_state, index, by, values.clone()) }]
    }

    pub(super) fn fire(&self, trigger_state: &TriggerState, entry: NodeIndex, by: Trigger, values: Values) -> Fact {
        Fact::Triggered { firing: Firing::new(trigger_state.firing_count + 1), entry, by, values }
    }

    /// Explains to people why a notification cannot fire a task now.
    pub(in crate::machine) fn firing_notification_error(
        &self,
        index: NodeIndex,
        result: &TaskResult,
    ) -> Option<String> {
        let name = &self.flow.node(index).name;
        let (Some(trigger_state), Some(triggers)) = (&self.triggers, &self.flow.triggers) else {
            return Some(format!("task {name:?} calls a guest: only a task that waits can be notified"));
        };
        if !triggers.persistent {
            return Some(format!(
                "task {name:?} calls a guest: in a flow that is not persistent only a task that waits can be notified"
            ));
        }
        if self.flow.node(index).scope != flow::graph::ScopeIndex::ROOT {
            return Some(format!("task {name:?} is in a nested flow: notify one that is in the flow itself"));
        }
        if self.flow.node(index).retired {
            return Some(format!("task {name:?} was removed"));
        }
        if trigger_state.ending || trigger_state.state.is_final() {
            return Some("the run was asked to end, and fires no more".into());
        }
        if let Some(max) = triggers.max_firings.filter(|max| trigger_state.firing_count >= *max) {
            return Some(format!("the run has fired {max} times, and its flow allows no more"));
        }
        if let Some(reason) = self.no_free_firing(trigger_state) {
            return Some(format!("{reason}: try again later"));
        }
        let TaskResult::Succeeded(values) = result else {
            return Some(format!("task {name:?} calls a guest: a notification fires it, and cannot fail it"));
        };
        self.notification_values_error(index, values)
    }

    /// Why the values of a notification do not match the inputs of a task.
    fn notification_values_error(&self, index: NodeIndex, values: &Values) -> Option<String> {
        let accepted = self.flow.notification_values(index);
        let quoted =
            |names: Vec<&ValueName>| names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let unknown: Vec<&ValueName> = values.keys().filter(|name| !accepted.contains_key(*name)).collect();
        if !unknown.is_empty() {
            let known = quoted(accepted.keys().collect());
            let known = if known.is_empty() { "nothing".into() } else { known };
            return Some(format!("{} is not waited for: it takes {known}", quoted(unknown)));
        }
        let is_missing = |(name, requiredness): &(&ValueName, &Requiredness)| {
            **requiredness == Requiredness::Required && !values.contains_key(*name)
        };
        let missing: Vec<&ValueName> = accepted.iter().filter(is_missing).map(|(name, _)| name).collect();
        if !missing.is_empty() {
            return Some(format!("{} is missing", quoted(missing)));
        }
        self.flow.firing_mismatch(index, values)
    }

    fn decide_firings(&self, trigger_state: &TriggerState, now: Timestamp, budget: &ConditionBudget) -> Vec<Record> {
        let held = budget.held();
        let active = self.firings.values().filter(|firing| is_active(firing));
        let records_of_firings = active.flat_map(|firing| {
            let record = |fact| Record { at: now, firing: Some(firing.firing), fact };
            firing.decide(now, &Event::Tick, budget).into_iter().map(record)
        });
        let records: Vec<Record> = records_of_firings.take(MAX_STEP_RECORDS).collect();
        // Whether another firing may begin depends on those that go on.
        if !records.is_empty() || budget.held() > held {
            return records;
        }
        let facts = if let Some(pending) =
            trigger_state.next_pending(now).and_then(|index| trigger_state.pending_triggers.get(index))
        {
            let Some(fact) = self.decide_back_edge(trigger_state, pending, budget) else { return Vec::new() };
            vec![fact]
        } else if trigger_state.expires_at.is_some_and(|at| at <= now) && !trigger_state.ending {
            vec![Fact::Expired]
        } else if trigger_state.ending {
            return self.decide_end(trigger_state, now);
        } else {
            self.decide_schedules(trigger_state, now)
        };
        if facts.is_empty() {
            return self.decide_end(trigger_state, now);
        }
        facts.into_iter().map(|fact| Record { at: now, firing: None, fact }).collect()
    }

    /// Decides whether a back edge fires its target, now that its source has finished. `None` if its condition has no budget.
    fn decide_back_edge(
        &self,
        trigger_state: &TriggerState,
        pending: &PendingTrigger,
        budget: &ConditionBudget,
    ) -> Option<Fact> {
        let skipped = |reason| Fact::BackEdgeSkipped { back_edge: pending.back_edge, reason };
        let triggers = self.triggers();
        let Some(edge) = triggers.back_edges.get(pending.back_edge as usize) else {
            return Some(skipped("the link was removed".into()));
        };
        if let Some(max) = triggers.max_firings.filter(|max| trigger_state.firing_count >= *max) {
            return Some(skipped(format!("the run has fired {max} times")));
        }
        // Each firing may have more than one back edge.
        if trigger_state.pending_triggers.len() > self.free_firings(trigger_state) {
            let reason = self.no_free_firing(trigger_state);
            let reason = reason.unwrap_or_else(|| "too few further firings may open for all back edges".into());
            return Some(skipped(reason));
        }
        if !budget.admits(edge.link.when.is_some()) {
            return None;
        }
        let mut own_budget = EvaluationBudget::default();
        let evaluated = self.evaluate_back_edge(edge, pending, &mut own_budget);
        budget.charge(&own_budget);
        Some(match evaluated {
            Ok(true) => self.fire(trigger_state, edge.to, Trigger::BackEdge(pending.back_edge), pending.values.clone()),
            Ok(false) => skipped("its condition is false".into()),
            Err(error) => skipped(error.to_string()),
        })
    }

    fn evaluate_back_edge(
        &self,
        edge: &BackEdge,
        pending: &PendingTrigger,
        budget: &mut EvaluationBudget,
    ) -> Result<bool, EvaluationError> {
        let Some(condition) = &edge.link.when else { return Ok(true) };
        let firing = self.new_firing(FiringStart {
            firing: Firing::FIRST,
            entry: Some(edge.to),
            by: Trigger::BackEdge(pending.back_edge),
            inputs: pending.values.clone(),
            inherited: pending.given.clone(),
        });
        let known: Vec<(&ValueName, Value)> =
            edge.link.reads.iter().filter_map(|(name, source)| Some((name, firing.inherited_value(source)?))).collect();
        condition.evaluate_within(&known.iter().map(|(name, value)| ((*name).clone(), value)).collect(), budget)
    }

    fn decide_end(&self, trigger_state: &TriggerState, now: Timestamp) -> Vec<Record> {
        if self.firings.values().any(is_active)
            || !trigger_state.queued.is_empty()
            || !trigger_state.pending_triggers.is_empty()
        {
            return Vec::new();
        }
        let triggers = self.triggers();
        let base = trigger_state.base_firing.filter(|_| trigger_state.ending).and_then(|base| self.firings.get(&base));
        if let Some(base) = base.filter(|base| base.state == RunState::Success) {
            // The first firing of the run is rolled back last.
            return vec![Record { at: now, firing: Some(base.firing), fact: Fact::CancelRequested }];
        }
        let is_exhausted = triggers.max_firings.is_some_and(|max| trigger_state.firing_count >= max);
        if triggers.persistent && !trigger_state.ending && !is_exhausted {
            return Vec::new();
        }
        let state = if self.firings.values().any(|firing| firing.state == RunState::Failure) {
            RunState::Failure
        } else if trigger_state.ending || (!triggers.persistent && trigger_state.last_end == Some(RunState::RolledBack))
        {
            RunState::RolledBack
        } else {
            RunState::Success
        };
        vec![Record { at: now, firing: None, fact: Fact::RunStateChanged { state } }]
    }
}
