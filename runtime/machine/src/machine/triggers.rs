//! Runs that fire more than once: the start and the end of firings, and the end of the run.
//!
//! Each firing has its own machine. It sees the values of the firing that triggered it, and also the values of the last
//! successful firing. Its effects are rolled back independently of other firings.

mod decide;
mod ended_firings;
mod given_values;
mod open_firings;
mod schedule_times;
mod schedules;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{Change, Command, Fact, Trigger};
use flow::{
    Failures, Firing, NodeIndex, NodeName, OverlapPolicy, RunState, SkipReason, State, Timestamp, Values,
    graph::{BackEdgeTiming, Role, Triggers},
};

use super::{
    Machine,
    firing::{FiringMachine, FiringStart},
};

pub use given_values::GivenValues;
pub use schedule_times::{Backlogs, ScheduleTimes};
pub use schedules::{Backlog, ScheduleStatus, SkipCount};

/// The delay before a back edge triggers the next firing after a firing without calls. Nothing else slows a cycle without
/// calls down: it would use all of an engine's time.
const EMPTY_FIRING_DELAY: Duration = Duration::from_millis(100);

/// The additional state of a run that fires more than once, apart from its firings.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerState {
    /// The state of the run.
    pub state: RunState,
    /// The number of firings so far: the number of the last one.
    pub firing_count: u64,
    /// Firings that wait for their turn, in order.
    pub queued: VecDeque<QueuedFiring>,
    /// Back edges that are to fire or skip their target, in order.
    pub pending_triggers: VecDeque<PendingTrigger>,
    /// The values of each node in its last successful firing.
    pub latest_values: GivenValues,
    /// The state of each node in its last ended firing.
    pub last_states: BTreeMap<NodeIndex, State>,
    /// Failures of ended firings whose node has not succeeded in a firing since.
    pub failures: Arc<Failures>,
    /// Whether the run was asked to end: it fires no more, and rolls back firings that are under way.
    pub ending: bool,
    /// The final state of the last firing.
    pub last_end: Option<RunState>,
    /// The time at which the run is asked to end, if it has not ended by then.
    pub expires_at: Option<Timestamp>,
    /// The next firing time of each schedule.
    pub schedules: ScheduleTimes,
    /// The first firing of a persistent run: it is rolled back when the run is asked to end.
    pub base_firing: Option<Firing>,
    /// The backlog of missed times of each schedule, in order.
    pub backlogs: Backlogs,
    /// The triggers that were skipped.
    pub skips: BTreeMap<(NodeIndex, SkipReason), SkipCount>,
}

/// A firing that waits for its turn.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedFiring {
    /// The number of the firing.
    pub firing: Firing,
    /// The node that it starts with; `None` for the first firing of a run.
    pub entry: Option<NodeIndex>,
    /// The trigger of the firing.
    pub by: Trigger,
    /// The values of the trigger.
    pub values: Values,
    /// The values of the firing that triggered it; `None` where no firing did.
    pub inherited: Option<GivenValues>,
}

/// A back edge that is to fire its target.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingTrigger {
    /// The index of the back edge in the flow.
    pub back_edge: u32,
    /// The notification values of the firing that the back edge leaves.
    pub values: Values,
    /// The values that this firing provided.
    pub given: GivenValues,
    /// The earliest time of the decision; `None` for an immediate one.
    pub not_before: Option<Timestamp>,
}

impl PendingTrigger {
    /// Whether the pause before the back edge is not over. A remaining wait longer than the pause means that the clock
    /// was set back: then it is over.
    fn is_early(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|at| now < at && at.since(now) <= EMPTY_FIRING_DELAY)
    }
}

/// When a schedule fires next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextFiring {
    /// The next time is not computed yet.
    Unknown,
    /// It fires at this time.
    At(Timestamp),
    /// It never fires again.
    Never,
}

impl TriggerState {
    pub(super) fn new(schedules: usize) -> Self {
        Self {
            state: RunState::Pending,
            firing_count: 0,
            queued: VecDeque::new(),
            pending_triggers: VecDeque::new(),
            latest_values: GivenValues::default(),
            last_states: BTreeMap::new(),
            failures: Arc::default(),
            ending: false,
            last_end: None,
            expires_at: None,
            schedules: std::iter::repeat_n(NextFiring::Unknown, schedules).collect(),
            base_firing: None,
            backlogs: std::iter::repeat_n(VecDeque::new(), schedules).collect(),
            skips: BTreeMap::new(),
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let of_back_edges = self.pending_triggers.iter().filter_map(|pending| pending.not_before);
        self.schedules
            .first_time()
            .into_iter()
            .chain(self.expires_at)
            .chain(of_back_edges)
            .filter(|_| !self.ending)
            .min()
    }

    /// The first back edge whose time has come: the next decision concerns it.
    fn next_pending(&self, now: Timestamp) -> Option<usize> {
        self.pending_triggers.iter().position(|pending| !pending.is_early(now))
    }

    /// Removes the back edge that was decided at a time.
    fn remove_pending(&mut self, at: Timestamp) -> Result<PendingTrigger, String> {
        let index = self.next_pending(at);
        index.and_then(|index| self.pending_triggers.remove(index)).ok_or_else(|| "no back edge is pending".into())
    }

    /// Whether it waits for a time.
    pub(super) fn has_timer(&self) -> bool {
        self.expires_at.is_some() || self.schedules.first_time().is_some()
    }

    /// The state of an ended firing that resumes: while the run is suspended, nothing in it starts.
    pub(super) fn resumed_state(&self) -> RunState {
        match self.state {
            RunState::Suspending | RunState::Suspended => RunState::Suspended,
            RunState::Pending | RunState::Running | RunState::Success | RunState::Failure | RunState::RolledBack => {
                RunState::Running
            }
        }
    }
}

/// Whether a firing is still under way.
fn is_active(firing: &FiringMachine) -> bool {
    !firing.state.is_final()
}

impl Machine {
    fn triggers(&self) -> &Triggers {
        self.flow.triggers.as_ref().expect("only a run of a flow with triggers is asked for them")
    }

    fn trigger_state_mut(&mut self) -> &mut TriggerState {
        self.triggers.as_mut().expect("only a run of a flow with triggers has a trigger state")
    }

    pub(super) fn start_triggers(&mut self, at: Timestamp) -> Vec<Command> {
        let expires_at = self.flow.expires.map(|expires| at.after(expires));
        let persistent = self.triggers().persistent;
        let has_start_nodes = self.flow.nodes_of_firing(None).is_some_and(|members| {
            members
                .iter()
                .any(|index| matches!(self.flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_)))
        });
        let trigger_state = self.trigger_state_mut();
        trigger_state.state = RunState::Running;
        trigger_state.expires_at = expires_at;
        let mut commands = vec![Command::Publish(Change::Run { state: RunState::Running, at })];
        if has_start_nodes {
            trigger_state.firing_count += 1;
            let firing = Firing::new(trigger_state.firing_count);
            if persistent {
                trigger_state.base_firing = Some(firing);
            }
            let (entry, by, values, inherited) = (None, Trigger::Start, Values::new(), None);
            trigger_state.queued.push_back(QueuedFiring { firing, entry, by, values, inherited });
            commands.extend(self.start_queued(at));
        }
        commands
    }

    /// Starts the queued firings whose turn it is.
    fn start_queued(&mut self, at: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        loop {
            let active = self.firings.values().filter(|firing_machine| is_active(firing_machine)).count();
            let Some(trigger_state) = &self.triggers else { return commands };
            if trigger_state.state != RunState::Running || active >= self.triggers().max_parallel as usize {
                return commands;
            }
            let Some(position) =
                trigger_state.queued.iter().position(|queued| self.may_start_firing(trigger_state, queued))
            else {
                return commands;
            };
            let Some(QueuedFiring { firing, entry, by, values, inherited }) =
                self.trigger_state_mut().queued.remove(position)
            else {
                return commands;
            };
            let inherited = inherited
                .or_else(|| self.triggers.as_ref().map(|trigger_state| trigger_state.latest_values.clone()))
                .unwrap_or_default();
            let mut firing_machine = self.new_firing(FiringStart { firing, entry, by, inputs: values, inherited });
            firing_machine.begin(at);
            commands.push(publish_firing(firing, RunState::Running, at));
            self.firings.insert(firing_machine);
        }
    }

    fn may_start_firing(&self, trigger_state: &TriggerState, queued: &QueuedFiring) -> bool {
        let base = trigger_state.base_firing.and_then(|base| self.firings.get(&base));
        let is_base_ready = match (&queued.by, base) {
            (Trigger::Start | Trigger::BackEdge(_), _) | (_, None) => true,
            (Trigger::Notification { .. } | Trigger::Schedule(_), Some(base)) => base.state == RunState::Success,
        };
        let Trigger::Schedule(number) = &queued.by else { return is_base_ready };
        let overlap = self.triggers().schedules.get(*number as usize).map(|schedule| schedule.overlap);
        let is_of_same_schedule = |firing: &FiringMachine| is_active(firing) && firing.by == queued.by;
        is_base_ready && (overlap != Some(OverlapPolicy::Queue) || !self.firings.values().any(is_of_same_schedule))
    }

    pub(super) fn evolve_firing(&mut self, at: Timestamp, firing: Firing, fact: &Fact) -> Result<Vec<Command>, String> {
        let Some(resumed_state) = self.triggers.as_ref().map(TriggerState::resumed_state) else {
            return Err("the run fires once".into());
        };
        let evolved = self.firings.change(firing, |firing_machine| -> Result<_, String> {
            let before = firing_machine.state;
            let commands = firing_machine.evolve(at, fact)?;
            if before.is_final() && !firing_machine.state.is_final() {
                firing_machine.state = resumed_state;
            }
            Ok((before, firing_machine.state, commands))
        });
        let Some(evolved) = evolved else {
            // An earlier waft may have kept an ended firing for longer.
            let has_existed = firing.get() <= self.firing_count();
            return if has_existed { Ok(Vec::new()) } else { Err(format!("there is no firing {firing}")) };
        };
        let (before, after, mut commands) = evolved?;
        commands.retain(|command| !matches!(command, Command::Publish(Change::Run { .. })));
        if let Fact::Succeeded { attempt, .. } | Fact::Remembered { attempt, .. } = fact {
            self.queue_back_edges(at, firing, BackEdgeTiming::Success, |from| from == attempt.node);
        }
        if before.is_final() && !after.is_final() {
            commands.push(publish_firing(firing, after, at));
            let trigger_state = self.trigger_state_mut();
            if trigger_state.state.is_final() {
                trigger_state.state = RunState::Running;
                commands.push(Command::Publish(Change::Run { state: RunState::Running, at }));
            }
        }
        if after.is_final() && !before.is_final() {
            commands.push(publish_firing(firing, after, at));
            self.end_firing(at, firing, after);
            commands.extend(self.start_queued(at));
        }
        Ok(commands)
    }

    /// Queues the back edges that are to fire their targets after a firing.
    fn queue_back_edges(
        &mut self,
        at: Timestamp,
        firing: Firing,
        timing: BackEdgeTiming,
        is_source: impl Fn(NodeIndex) -> bool,
    ) {
        let (Some(triggers), Some(firing_machine)) = (&self.flow.triggers, self.firings.get(&firing)) else { return };
        let back_edges =
            triggers.back_edges.iter().zip(0..).filter(|(edge, _)| edge.timing == timing && is_source(edge.link.from));
        let back_edges: Vec<u32> = back_edges.map(|(_, number)| number).collect();
        if back_edges.is_empty() || self.triggers.as_ref().is_none_or(|trigger_state| trigger_state.ending) {
            return;
        }
        let inherited = firing_machine.provided();
        let mut values = firing_machine.inputs.clone();
        for provided in inherited.values() {
            // Loop-carried values are newer than the values of a notification.
            provided.keys().for_each(|name| drop(values.remove(name)));
        }
        let not_before = (!firing_machine.has_called()).then(|| at.after(EMPTY_FIRING_DELAY));
        let pending =
            |back_edge| PendingTrigger { back_edge, values: values.clone(), given: inherited.clone(), not_before };
        let pending: Vec<PendingTrigger> = back_edges.into_iter().map(pending).collect();
        self.trigger_state_mut().pending_triggers.extend(pending);
    }

    /// Stores the results of a firing that has ended.
    fn end_firing(&mut self, at: Timestamp, firing: Firing, state: RunState) {
        let Some(firing_machine) = self.firings.get(&firing) else { return };
        let members: Vec<NodeIndex> = self.flow.indices().filter(|index| firing_machine.has(*index)).collect();
        let states: Vec<(NodeIndex, State)> =
            members.iter().map(|index| (*index, firing_machine.node_state(*index))).collect();
        let (failures, may_receive_more) = (firing_machine.failures.clone(), firing_machine.has_outstanding_attempts());
        let succeeded: Vec<(NodeIndex, Values)> = firing_machine.values().collect();
        if state == RunState::Success {
            let ended: Vec<NodeIndex> =
                states.iter().filter(|(_, state)| *state == State::Success).map(|(index, _)| *index).collect();
            self.queue_back_edges(at, firing, BackEdgeTiming::End, |from| ended.contains(&from));
        }
        let flow = self.flow.clone();
        let trigger_state = self.trigger_state_mut();
        trigger_state.last_end = Some(state);
        trigger_state.last_states.extend(states);
        let known_failures = Arc::make_mut(&mut trigger_state.failures);
        let replaced: BTreeSet<&NodeName> = members.iter().map(|index| &flow.node(*index).name).collect();
        known_failures.retain(|name, _| !replaced.contains(&name.base()));
        known_failures.extend((*failures).clone());
        if state == RunState::Success {
            trigger_state.latest_values.extend(succeeded);
        }
        let is_base = trigger_state.base_firing == Some(firing);
        if is_base && state != RunState::Success {
            // The first firing of the run did not succeed, so nothing can fire after it.
            trigger_state.ending = true;
            trigger_state.queued.clear();
            trigger_state.pending_triggers.clear();
        }
        self.count_failed();
        // A rolled-back firing may need another rollback, if one of its jobs was delivered twice.
        let keep = state != RunState::Success || is_base || may_receive_more;
        if !keep {
            self.firings.remove(firing);
        }
        self.evict_ended_firings();
    }

    pub(super) fn evolve_triggers(&mut self, at: Timestamp, fact: &Fact) -> Result<Vec<Command>, String> {
        let state = self.state();
        match fact {
            Fact::Triggered { firing, entry, by, values } => self.queue_firing(at, *firing, *entry, by, values),
            Fact::BackEdgeSkipped { .. } => {
                self.trigger_state_mut().remove_pending(at)?;
                Ok(Vec::new())
            }
            Fact::Scheduled { schedule, next } => {
                self.trigger_state_mut().set_next_firing(*schedule, *next).map(|()| Vec::new())
            }
            Fact::TriggerSkipped { entry, by, reason, count } => {
                if let Trigger::Notification { key: Some(key) } = by {
                    self.remember_notification(*entry, key)?;
                }
                self.trigger_state_mut().skip(at, *entry, *reason, *count);
                Ok(Vec::new())
            }
            Fact::BacklogAdded { schedule, from, until } => {
                self.trigger_state_mut().add_to_backlog(*schedule, *from, *until).map(|()| Vec::new())
            }
            Fact::ClockSet { by } => {
                self.firings.change_all(|firing| firing.evolve(at, fact).map(drop))?;
                self.set_clock(at, *by);
                Ok(Vec::new())
            }
            Fact::BacklogFired { schedule, next } => {
                self.trigger_state_mut().advance_backlog(*schedule, *next).map(|()| Vec::new())
            }
            Fact::CancelRequested | Fact::Expired => self.end_firings(at, fact),
            Fact::SuspendRequested => self.suspend_or_resume(at, fact, RunState::Suspending),
            Fact::Resumed => self.suspend_or_resume(at, fact, RunState::Running),
            Fact::RunStateChanged { state } => {
                self.trigger_state_mut().state = *state;
                Ok(vec![Command::Publish(Change::Run { state: *state, at })])
            }
            Fact::Reset if state == RunState::RolledBack => {
                let (fired, schedules) = (self.firing_count(), self.triggers().schedules.len());
                self.triggers = Some(TriggerState { firing_count: fired, ..TriggerState::new(schedules) });
                self.firings.clear();
                self.count_failed();
                Ok(self.start_triggers(at))
            }
            Fact::RunStarted { .. }
            | Fact::Edited { .. }
            | Fact::NotificationReceived { .. }
            | Fact::Started { .. }
            | Fact::Succeeded { .. }
            | Fact::Remembered { .. }
            | Fact::Failed { .. }
            | Fact::Leased { .. }
            | Fact::Lost { .. }
            | Fact::LateOutcome { .. }
            | Fact::RolledBack { .. }
            | Fact::RollbackFailed { .. }
            | Fact::Expanded { .. }
            | Fact::RollbackNotNeeded { .. }
            | Fact::RollbackRetried { .. }
            | Fact::RollbackSkipped { .. }
            | Fact::FailureResolved { .. }
            | Fact::ControllerRan { .. }
            | Fact::StartFailed { .. }
            | Fact::Ignored { .. }
            | Fact::ScopeStarted { .. }
            | Fact::Delayed { .. }
            | Fact::Retrying { .. }
            | Fact::Reset => Err("it needs the number of a firing, or the run has not ended".into()),
        }
    }

    fn queue_firing(
        &mut self,
        at: Timestamp,
        firing: Firing,
        entry: NodeIndex,
        by: &Trigger,
        values: &Values,
    ) -> Result<Vec<Command>, String> {
        if firing.get() != self.firing_count() + 1 || self.flow.nodes.len() <= entry.0 as usize {
            return Err(format!("firing {firing} does not follow firing {}", self.firing_count()));
        }
        if let Trigger::Notification { key: Some(key) } = by {
            self.remember_notification(entry, key)?;
        }
        let triggers = self.trigger_state_mut();
        let inherited = match by {
            Trigger::BackEdge(_) => Some(triggers.remove_pending(at)?.given),
            Trigger::Notification { .. } | Trigger::Start | Trigger::Schedule(_) => None,
        };
        triggers.firing_count = firing.get();
        let (by, values) = (by.clone(), values.clone());
        triggers.queued.push_back(QueuedFiring { firing, entry: Some(entry), by, values, inherited });
        Ok(self.start_queued(at))
    }

    /// Ends the run: nothing fires any more, and the active firings are rolled back.
    fn end_firings(&mut self, at: Timestamp, fact: &Fact) -> Result<Vec<Command>, String> {
        let triggers = self.trigger_state_mut();
        triggers.ending = true;
        triggers.queued.clear();
        triggers.pending_triggers.clear();
        let mut commands = Vec::new();
        self.firings.change_all(|firing| {
            if is_active(firing) && !firing.rolling_back() {
                commands.extend(firing.evolve(at, fact)?);
            }
            Ok(())
        })?;
        Ok(commands)
    }

    fn suspend_or_resume(&mut self, at: Timestamp, fact: &Fact, state: RunState) -> Result<Vec<Command>, String> {
        self.trigger_state_mut().state = state;
        self.firings.change_all(|firing| match is_active(firing) {
            true => firing.evolve(at, fact).map(drop),
            false => Ok(()),
        })?;
        let mut commands = vec![Command::Publish(Change::Run { state, at })];
        commands.extend(self.start_queued(at));
        Ok(commands)
    }
}

fn publish_firing(firing: Firing, state: RunState, at: Timestamp) -> Command {
    Command::Publish(Change::Firing { firing, state, at })
}
