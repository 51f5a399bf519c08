//! Turns an event into records in a run that fires more than once. Nothing here changes the machine.

use crate::{
    BackEdge, EvaluationError, Event, Fact, Firing, NodeIndex, NodeName, Record, Requiredness, Role, RunState, Signal,
    SkipReason, TaskNotification, TaskResult, Timestamp, Trigger, Value, ValueName, Values,
};

use super::{PendingTrigger, TriggerState, is_active};
use crate::machine::{
    MAX_STEP_RECORDS, Machine,
    firing::{FiringMachine, FiringStart},
};

/// The maximum number of queued firings. Beyond it, notifications are refused, back edges are skipped, and triggers without
/// a sender to refuse are skipped or wait in their schedule's backlog. Small in tests, so that they reach it.
pub(super) const MAX_QUEUED_FIRINGS: usize = if cfg!(test) { 500 } else { 10_000 };

impl Machine {
    pub(in crate::machine) fn decide_triggers(
        &self,
        life: &TriggerState,
        now: Timestamp,
        event: &Event,
    ) -> Vec<Record> {
        let run = |fact| Record { at: now, firing: None, fact };
        let of_pass = |pass: &FiringMachine| {
            let firing = Some(pass.firing);
            let facts = pass.decide(now, event).into_iter();
            facts.map(move |fact| Record { at: now, firing, fact }).collect::<Vec<_>>()
        };
        match (life.state, event) {
            (_, Event::Signal(Signal { call, .. }) | Event::Leased { call, .. } | Event::Lost { call, .. })
            | (_, Event::Fetched { id: call, .. } | Event::Withdrawn { call }) => {
                self.firings.get(&call.firing).map(of_pass).unwrap_or_default()
            }
            (RunState::Running, Event::Cancel) if !life.ending => vec![run(Fact::CancelRequested)],
            (RunState::Suspending | RunState::Suspended, Event::Cancel) if !life.ending => {
                vec![run(Fact::Resumed), run(Fact::CancelRequested)]
            }
            (RunState::Running, Event::Suspend) => vec![run(Fact::SuspendRequested)],
            (RunState::Suspending | RunState::Suspended, Event::Resume) => vec![run(Fact::Resumed)],
            (RunState::Suspending, Event::Abandon) => {
                self.firings.values().filter(|pass| is_active(pass)).flat_map(of_pass).collect()
            }
            (RunState::RolledBack, Event::Retry) => vec![run(Fact::Reset)],
            (RunState::Running | RunState::Failure, Event::Retry | Event::Skip { .. }) => {
                let stuck = self.firings.values().filter(|pass| pass.state == RunState::Failure);
                let mut records = stuck.map(of_pass).filter(|records| !records.is_empty());
                let is_of_one_task = matches!(event, Event::Skip { .. });
                if is_of_one_task { records.next().unwrap_or_default() } else { records.flatten().collect() }
            }
            (RunState::Running | RunState::Suspending, Event::Notify { task, result: answer, key }) => {
                self.decide_notification(life, now, (task, answer, key.as_deref()), event)
            }
            (RunState::Running | RunState::Suspending | RunState::Suspended, Event::TaskNotification(heard)) => {
                self.decide_task_notification(life, now, heard)
            }
            (RunState::Running, Event::Tick) => self.decide_firings(life, now),
            (RunState::Suspending, Event::Tick) => {
                let records: Vec<Record> =
                    self.firings.values().filter(|pass| is_active(pass)).flat_map(of_pass).collect();
                let is_at_rest = |pass: &FiringMachine| pass.state == RunState::Suspended || pass.state.is_final();
                if records.is_empty() && self.firings.values().all(is_at_rest) {
                    return vec![run(Fact::RunStateChanged { state: RunState::Suspended })];
                }
                records
            }
            _ => Vec::new(),
        }
    }

    fn decide_notification(
        &self,
        life: &TriggerState,
        now: Timestamp,
        (task, answer, key): (&NodeName, &TaskResult, Option<&str>),
        event: &Event,
    ) -> Vec<Record> {
        let Some(index) = self.tasks.get(task).copied() else { return Vec::new() };
        if matches!(self.flow.node(index).role, Role::Wait(_)) {
            let Some(pass) = self.firings.values().find(|pass| pass.waiting_tasks.contains(&index)) else {
                return Vec::new();
            };
            let about = |fact| Record { at: now, firing: Some(pass.firing), fact };
            return pass.decide(now, event).into_iter().map(about).collect();
        }
        let TaskResult::Succeeded(values) = answer else { return Vec::new() };
        let by = Trigger::Notification { key: key.map(Into::into) };
        vec![Record { at: now, firing: None, fact: self.fire(life, index, by, values.clone()) }]
    }

    /// A notification of a task in another flow fires the tasks that listen to it; the values that they take come with it.
    fn decide_task_notification(&self, life: &TriggerState, now: Timestamp, heard: &TaskNotification) -> Vec<Record> {
        let answers = self.firings.values().flat_map(|pass| {
            let about = |fact| Record { at: now, firing: Some(pass.firing), fact };
            pass.decide_task_notification(heard).into_iter().map(about)
        });
        let mut records: Vec<Record> = answers.collect();
        let max = self.triggers().max_firings.unwrap_or(u64::MAX);
        let (mut fired, mut waiting) = (life.firing_count, life.queued.len());
        for listen in self.flow.listeners.iter().filter(|listen| listen.is_for(heard)) {
            let node = self.flow.node(listen.to);
            let key = format!("{}>{}", heard.key, node.name);
            let is_call = matches!(node.role, Role::Task(_) | Role::ForEach(_)) && !node.retired;
            if !is_call || life.ending || fired >= max || self.has_received(&node.name, &key) {
                continue;
            }
            let by = Trigger::Notification { key: Some(key) };
            if waiting >= MAX_QUEUED_FIRINGS {
                let fact = Fact::TriggerSkipped { entry: listen.to, by, reason: SkipReason::QueueFull, count: 1 };
                records.push(Record { at: now, firing: None, fact });
                continue;
            }
            (fired, waiting) = (fired + 1, waiting + 1);
            let taken = self.flow.notification_values(listen.to);
            let values = heard.values().into_iter().filter(|(name, _)| taken.contains_key(name)).collect();
            let fact = Fact::Triggered { firing: Firing::new(fired), entry: listen.to, by, values };
            records.push(Record { at: now, firing: None, fact });
        }
        records
    }

    pub(super) fn fire(&self, life: &TriggerState, entry: NodeIndex, by: Trigger, values: Values) -> Fact {
        Fact::Triggered { firing: Firing::new(life.firing_count + 1), entry, by, values }
    }

    /// Explains to people why a notification cannot fire a task now.
    pub(in crate::machine) fn refuses_firing(&self, index: NodeIndex, answer: &TaskResult) -> Option<String> {
        let name = &self.flow.node(index).name;
        let (Some(life), Some(living)) = (&self.triggers, &self.flow.triggers) else {
            return Some(format!("task {name:?} calls a guest: only a task that waits can be notified"));
        };
        if !living.persistent {
            return Some(format!(
                "task {name:?} calls a guest: in a flow that is not persistent only a task that waits can be notified"
            ));
        }
        if self.flow.node(index).scope != crate::ScopeIndex::ROOT {
            return Some(format!("task {name:?} stands in a nested flow: notify one that stands in the flow itself"));
        }
        if self.flow.node(index).retired {
            return Some(format!("task {name:?} was removed"));
        }
        if life.ending || life.state.is_final() {
            return Some("the run was told to end, and fires no more".into());
        }
        if let Some(max) = living.max_firings.filter(|max| life.firing_count >= *max) {
            return Some(format!("the run has fired {max} times, and its flow allows no more"));
        }
        if life.queued.len() >= MAX_QUEUED_FIRINGS {
            return Some(format!("{MAX_QUEUED_FIRINGS} firings wait for their turn: try again later"));
        }
        let TaskResult::Succeeded(values) = answer else {
            return Some(format!("task {name:?} calls a guest: a notification fires it, and cannot fail it"));
        };
        self.notification_values_error(index, values)
    }

    /// Why the values of a notification do not match the inputs of a task.
    fn notification_values_error(&self, index: NodeIndex, values: &Values) -> Option<String> {
        let brought = self.flow.notification_values(index);
        let quoted =
            |names: Vec<&ValueName>| names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let unknown: Vec<&ValueName> = values.keys().filter(|name| !brought.contains_key(*name)).collect();
        if !unknown.is_empty() {
            let known = quoted(brought.keys().collect());
            let known = if known.is_empty() { "nothing".into() } else { known };
            return Some(format!("{} is not waited for: it takes {known}", quoted(unknown)));
        }
        let is_missing = |(name, need): &(&ValueName, &Requiredness)| {
            **need == Requiredness::Required && !values.contains_key(*name)
        };
        let missing: Vec<&ValueName> = brought.iter().filter(is_missing).map(|(name, _)| name).collect();
        if !missing.is_empty() {
            return Some(format!("{} is missing", quoted(missing)));
        }
        self.flow.firing_mismatch(index, values)
    }

    fn decide_firings(&self, life: &TriggerState, now: Timestamp) -> Vec<Record> {
        let of_passes = self.firings.values().filter(|pass| is_active(pass)).flat_map(|pass| {
            let about = |fact| Record { at: now, firing: Some(pass.firing), fact };
            pass.decide(now, &Event::Tick).into_iter().map(about)
        });
        let records: Vec<Record> = of_passes.take(MAX_STEP_RECORDS).collect();
        if !records.is_empty() {
            return records;
        }
        let facts = if let Some(owed) = life.next_pending(now).and_then(|place| life.pending_triggers.get(place)) {
            vec![self.decide_back_edge(life, owed)]
        } else if life.expires_at.is_some_and(|at| at <= now) && !life.ending {
            vec![Fact::Expired]
        } else if life.ending {
            return self.decide_end(life, now);
        } else {
            self.decide_schedules(life, now)
        };
        if facts.is_empty() {
            return self.decide_end(life, now);
        }
        facts.into_iter().map(|fact| Record { at: now, firing: None, fact }).collect()
    }

    /// Decides whether a back edge fires its target, now that its source has finished.
    fn decide_back_edge(&self, life: &TriggerState, owed: &PendingTrigger) -> Fact {
        let unfired = |reason| Fact::BackEdgeSkipped { back_edge: owed.turn, reason };
        let living = self.triggers();
        let Some(turn) = living.back_edges.get(owed.turn as usize) else {
            return unfired("the link is gone".into());
        };
        if let Some(max) = living.max_firings.filter(|max| life.firing_count >= *max) {
            return unfired(format!("the run has fired {max} times"));
        }
        // Each firing may have more than one back edge.
        if life.queued.len() + life.pending_triggers.len() > MAX_QUEUED_FIRINGS {
            return unfired(format!("{MAX_QUEUED_FIRINGS} firings wait for their turn"));
        }
        match self.evaluate_back_edge(turn, owed) {
            Ok(true) => self.fire(life, turn.to, Trigger::BackEdge(owed.turn), owed.values.clone()),
            Ok(false) => unfired("its condition says no".into()),
            Err(undecided) => unfired(undecided.to_string()),
        }
    }

    fn evaluate_back_edge(&self, turn: &BackEdge, owed: &PendingTrigger) -> Result<bool, EvaluationError> {
        let Some(condition) = &turn.link.when else { return Ok(true) };
        let asked = self.new_firing(FiringStart {
            firing: Firing::FIRST,
            entry: Some(turn.to),
            by: Trigger::BackEdge(owed.turn),
            inputs: owed.values.clone(),
            given: owed.given.clone(),
        });
        let known: Vec<(&ValueName, Value)> =
            turn.link.reads.iter().filter_map(|(name, source)| Some((name, asked.inherited_value(source)?))).collect();
        condition.evaluate(&known.iter().map(|(name, value)| ((*name).clone(), value)).collect())
    }

    fn decide_end(&self, life: &TriggerState, now: Timestamp) -> Vec<Record> {
        if self.firings.values().any(is_active) || !life.queued.is_empty() || !life.pending_triggers.is_empty() {
            return Vec::new();
        }
        let living = self.triggers();
        let base = life.base_firing.filter(|_| life.ending).and_then(|base| self.firings.get(&base));
        if let Some(base) = base.filter(|base| base.state == RunState::Success) {
            // The first firing of the run is rolled back last.
            return vec![Record { at: now, firing: Some(base.firing), fact: Fact::CancelRequested }];
        }
        let has_fired_enough = living.max_firings.is_some_and(|max| life.firing_count >= max);
        if living.persistent && !life.ending && !has_fired_enough {
            return Vec::new();
        }
        let state = if self.firings.values().any(|pass| pass.state == RunState::Failure) {
            RunState::Failure
        } else if life.ending || (!living.persistent && life.last_end == Some(RunState::RolledBack)) {
            RunState::RolledBack
        } else {
            RunState::Success
        };
        vec![Record { at: now, firing: None, fact: Fact::RunStateChanged { state } }]
    }
}
