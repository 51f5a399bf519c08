//! Calls that need a permit: the part of the work that concerns their runs.

use std::collections::{BTreeMap, BTreeSet};

use broker::Message;
use flow::{Action, Call, CallId, Command, Event, Fact, Machine, NodeName, Pace, Record, RunId, RunState, Shard, Task};
use protocol::PermitGrant;
use tracing::warn;

use super::{Batch, Driver, RunEvent};
use crate::outbox::OutboxBatch;
use crate::permits::client::PacedCall;

/// The calls that an event may have ended.
pub(super) enum EndedCalls {
    /// Only these calls.
    Calls(Vec<CallId>),
    /// Any call of the run.
    Any,
}

impl Default for EndedCalls {
    fn default() -> Self {
        Self::Calls(Vec::new())
    }
}

impl EndedCalls {
    /// Returns the calls that an event and its records may have ended.
    pub(super) fn from_event(event: &Event, records: &[Record]) -> Self {
        let takes_back = |record: &Record| {
            matches!(record.fact, Fact::FailureResolved { .. } | Fact::Expired | Fact::CancelRequested)
        };
        if records.iter().any(takes_back) {
            return Self::Any;
        }
        match event {
            Event::Signal(signal) => Self::Calls(vec![signal.call.clone()]),
            Event::Start
            | Event::Leased { .. }
            | Event::Notify { .. }
            | Event::TaskNotification(_)
            | Event::Fetched { .. }
            | Event::Withdrawn { .. }
            | Event::ClockSet { .. }
            | Event::Tick => Self::default(),
            Event::Cancel
            | Event::Suspend
            | Event::Abandon
            | Event::Resume
            | Event::Lost { .. }
            | Event::Retry
            | Event::Skip { .. }
            | Event::Edit { .. } => Self::Any,
        }
    }

    /// Combines two sets of calls.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Calls(mut some), Self::Calls(others)) => {
                some.extend(others);
                Self::Calls(some)
            }
            (Self::Any, Self::Calls(_) | Self::Any) | (Self::Calls(_), Self::Any) => Self::Any,
        }
    }
}

/// Whether a call needs a permit. A rollback never waits behind applies.
pub(super) fn is_paced(task: &Task, action: Action) -> bool {
    action == Action::Apply && !task.pace.is_unlimited()
}

/// Creates a permit request for a call, with the job that dispatches it.
pub(super) fn paced_call(task: &Task, call: CallId, job: Message) -> PacedCall {
    PacedCall { call, pace: task.pace, priority: task.priority, job }
}

impl Driver {
    /// Holds permits for the calls of a run that workers have under a lease.
    pub(super) fn hold_leased(&mut self, run: &RunId) {
        let Some(live) = self.runs.get(run) else { return };
        let machine = &live.machine;
        let pace =
            |call: &CallId| machine.task(&call.task).filter(|task| is_paced(task, call.action)).map(|task| task.pace);
        let leased: BTreeMap<CallId, Pace> =
            machine.leased_calls().filter_map(|(call, _)| pace(&call).map(|pace| (call, pace))).collect();
        if leased.is_empty() {
            return;
        }
        let now = self.tools.clock.now();
        for call in machine.outstanding_calls() {
            if let Some(pace) = leased.get(&call) {
                self.permits.hold(now, &live.shard, &machine.flow().name, call, *pace);
            }
        }
    }

    /// An adopted run of this shard is driven here: the other runs of the shard keep their permits.
    pub(super) async fn note_adopted(&mut self, shard: &Shard) {
        match self.tools.logbook.open_runs(shard).await {
            Ok(open) => {
                let open = open.into_iter().map(|(run, _)| run);
                self.abandoned.extend(open.filter(|run| !self.runs.contains_key(run)));
            }
            Err(error) => warn!(%shard, %error, "what other runs of the shard have is not known"),
        }
    }

    /// Handles a grant: dispatches the calls that have a permit now.
    pub(super) fn on_grant(&mut self, shard: &Shard, granted: &PermitGrant, round: &mut Batch) {
        let (jobs, known) = self.permits.on_grant(shard, granted);
        round.messages.extend(jobs);
        for run in known {
            self.release_ended(&run, &EndedCalls::Any);
        }
    }

    /// Handles calls that may have ended: releases their permits, and withdraws waiting calls that are no longer
    /// wanted.
    pub(super) fn release_ended(&mut self, run: &RunId, ended: &EndedCalls) {
        match ended {
            EndedCalls::Any => self.note_withdrawable(run),
            EndedCalls::Calls(_) => {}
        }
        if !self.permits.has(run) {
            return;
        }
        let Some(live) = self.runs.get(run) else { return };
        match ended {
            EndedCalls::Calls(calls) => calls.iter().for_each(|call| self.permits.release(call)),
            EndedCalls::Any => {
                let out: BTreeSet<CallId> = live.machine.outstanding_calls().collect();
                let nodes = live.machine.flow().nodes.iter();
                let removed: BTreeSet<&NodeName> = nodes.filter(|node| node.retired).map(|node| &node.name).collect();
                for call in self.permits.calls_of(run) {
                    let is_wanted = || live.machine.is_wanted(&call) && !removed.contains(&call.task.base());
                    if !out.contains(&call) {
                        self.permits.release(&call);
                    } else if self.permits.is_waiting(&call) && !is_wanted() {
                        self.permits.release(&call);
                        let (run, event) = (run.clone(), Event::Withdrawn { call });
                        self.deferred.push(RunEvent { run, event, reply_to: None });
                    }
                }
                self.permits.set_requesting(run, live.machine.state() != RunState::Suspending);
            }
        }
        // No worker has a call of this run, and no new one may start: it is suspended, and requests permits again on
        // resume.
        if live.machine.state() == RunState::Suspending {
            let mut out = live.machine.outstanding_calls().peekable();
            if out.peek().is_some() && out.all(|call| self.permits.is_waiting(&call)) {
                self.deferred.push(RunEvent { run: run.clone(), event: Event::Abandon, reply_to: None });
            }
        }
    }

    /// Sends changed permit requests to the coordinators.
    pub(super) fn send_permit_requests(&mut self, batch: &mut OutboxBatch) {
        let (shards, lost, left) = (&self.shards, &self.stale, &self.abandoned);
        let unread = |shard: &Shard| {
            let lost = lost.iter().filter(|(_, lost)| lost.may_be_of(shard) || lost.has_unknown_shard());
            shards.owns(shard).then(|| lost.map(|(run, _)| run).chain(left).cloned().collect())
        };
        batch.probes.extend(self.permits.take_requests(self.tools.clock.now(), unread));
    }
}

/// Splits the commands to perform again into calls that need a permit, and all others.
pub(super) fn split_paced(machine: &Machine, commands: Vec<Command>) -> (Vec<Command>, Vec<Command>) {
    let needs_permit = |call: &Call| machine.task(&call.id.task).is_some_and(|task| is_paced(task, call.id.action));
    commands.into_iter().partition(|command| match command {
        Command::Call(call) => needs_permit(call),
        Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => false,
    })
}
