//! What a run's commands become: jobs, notifications and fetches; and what the end of a run causes.

use std::sync::Arc;

use broker::{Delivery, Message};
use flow::{CallId, Failure, FailureKind, RunId, RunState, Signal, TaskResult};
use machine::{Call, Command, Event};
use protocol::RememberedResult;
use tracing::{debug, error, info, warn};

use super::{Batch, Driver, unreadable::execution_of};
use crate::{
    WatchEvent,
    effects::Effects,
    memo::{self, LookedUpCall},
    messages::{self, JobSending},
    permits::{calls, client::DispatchHistory},
    runs::is_inactive,
};

/// Log target of the one line that closes each run, so that a program that shows the end itself can filter it out.
const RUN_LOG_TARGET: &str = "waft::run";

impl Driver {
    /// Converts commands into effects, and closes the run if it is inactive afterwards.
    pub(super) fn perform(
        &mut self,
        run: &RunId,
        commands: Vec<Command>,
        history: DispatchHistory,
        effects: &mut Effects,
    ) {
        self.dispatch(run, commands, history, effects);
        self.runs.update_due(run);
        if let Some(active) = self.runs.get(run) {
            self.listeners.update(&active.shard, &active.machine);
            if is_inactive(active.machine.state()) {
                self.close(run, effects);
            }
        }
    }

    pub(super) fn dispatch(
        &mut self,
        run: &RunId,
        commands: Vec<Command>,
        history: DispatchHistory,
        effects: &mut Effects,
    ) {
        for command in commands {
            match command {
                Command::Call(call) => self.send_or_look_up(run, *call, history, effects),
                Command::Fetch(fetch) => self.fetches.send(run.clone(), *fetch),
                Command::Interrupt(call) => effects.messages.push(messages::interrupt(call, &self.context.secret)),
                Command::Publish(change) => {
                    let Some(active) = self.runs.get_mut(run) else { return };
                    self.publications.publish(run, active, &change, &self.context.secret, effects);
                    if let Some(watcher) = &active.watcher {
                        effects.watch_events.push((watcher.clone(), WatchEvent::Change(change)));
                    }
                }
            }
        }
    }

    /// Sends the job of a call, or looks first for its result if it may be remembered. A job that may be with a worker already is
    /// sent: what the worker does has to be known.
    fn send_or_look_up(&mut self, run: &RunId, call: Call, history: DispatchHistory, effects: &mut Effects) {
        let is_remembering = !self.context.memo_limits.is_zero();
        let address = self.runs.get(run).filter(|_| is_remembering).and_then(|active| {
            let task = active.machine.task(&call.id.task)?;
            memo::address_of(active.machine.flow(), task, &call)
        });
        match (address, history) {
            (Some(address), DispatchHistory::NeverSent) => self.lookups.add(call.id, address),
            (Some(_), DispatchHistory::MaybeSent) | (None, _) => self.send_job(run, call, history, effects),
        }
    }

    /// Lookups have ended: a result that was found is recorded, and the jobs of the other calls are sent. A run that is not in
    /// memory sends its unanswered calls when it is loaded.
    pub(super) fn on_looked_up(&mut self, ended: Vec<LookedUpCall>, batch: &mut Batch) {
        for LookedUpCall { call, result } in ended {
            let run = call.run.clone();
            let Some(active) = self.runs.get(&run).filter(|active| !active.is_suspended) else { continue };
            let event = result.map(|RememberedResult { computed_by, values, .. }| Event::Remembered {
                call: call.clone(),
                values,
                computed_by,
            });
            match event.filter(|event| !active.machine.decide(self.context.clock.now(), event).is_empty()) {
                Some(event) => batch.push(run, event),
                None => {
                    // A call that is no longer needed is withdrawn without a job.
                    let unstarted = active.machine.unstarted_call(&call).filter(|_| active.machine.is_wanted(&call));
                    if let Some(unstarted) = unstarted {
                        self.send_job(&run, unstarted, DispatchHistory::NeverSent, &mut batch.effects);
                    }
                }
            }
        }
    }

    /// Sends the job of a call, once it has a permit if it needs one.
    fn send_job(&mut self, run: &RunId, call: Call, history: DispatchHistory, effects: &mut Effects) {
        let id = call.id.clone();
        self.lookups.forget(&id);
        let Some(job) = self.job(run, call) else { return };
        let Some(active) = self.runs.get(run) else { return };
        let Some(task) = active.machine.task(&id.task) else { return };
        if calls::is_paced(task, id.action) {
            let (now, call) = (self.context.clock.now(), calls::paced_call(task, id, job));
            let granted = self.permits.request(now, &active.shard, &active.machine.flow().name, call, history);
            effects.messages.extend(granted);
        } else {
            effects.messages.push(job);
        }
    }

    /// The message that dispatches a call of a run in memory. It has to be sent: from now on, no returned message counts
    /// that sent the job before.
    fn job(&mut self, run: &RunId, call: Call) -> Option<Message> {
        let sending = self.runs.returned_jobs.next_sending(&call.id, &self.context.secret);
        let active = self.runs.get(run)?;
        let task = active.machine.task(&call.id.task)?;
        let (store_queue, secret) = (&self.context.store_queue, &self.context.secret);
        let reply_to = messages::EngineAddress { shard: &active.shard, store_queue, secret };
        Some(messages::job(&reply_to, active.machine.flow(), task, call, sending))
    }

    /// A worker has returned the job of a call that it did not start: sends the job again, if the call still waits for a worker,
    /// and if the worker received the message that sent the job last. So each message is sent again once at most, however
    /// often a worker returns it.
    pub(super) fn on_not_started(
        &mut self,
        call: &CallId,
        JobSending { id, earlier }: JobSending,
        delivery: Delivery,
        batch: &mut Batch,
    ) {
        let run = &call.run;
        // Nothing is known of the calls of a run that cannot be read. They are sent again once it can.
        if self.runs.is_corrupt(run) {
            return delivery.accept();
        }
        let Some(delivery) = self.runs.hold_for_stale(run, delivery) else { return };
        if let Some(active) = self.runs.get(run) {
            if active.machine.outstanding_since(call).is_none() {
                if earlier.redeliveries > 0 {
                    batch.push(run.clone(), Event::Signal(perhaps_executed(call, &delivery)));
                }
            } else if !self.runs.returned_jobs.is_last_sending(call, id) {
                debug!(%call, "a job is returned that was sent again since");
                self.runs.add_returned(call, earlier);
            } else if let Some(unstarted) = active.machine.unstarted_call(call) {
                // Others are sent again when the run continues.
                let is_sent_now = !active.is_suspended && !active.outstanding_at_load.contains(call);
                self.runs.add_returned(call, earlier);
                if is_sent_now {
                    self.send_returned(run, unstarted, &mut batch.effects);
                }
            }
        }
        batch.signals.push((run.clone(), delivery));
    }

    /// Sends the job of a call again that a worker has returned. A start that counts only for a rate is spent already.
    fn send_returned(&mut self, run: &RunId, call: Call, effects: &mut Effects) {
        let Some(active) = self.runs.get(run) else { return };
        let Some(task) = active.machine.task(&call.id.task) else { return };
        let has_started = task.pace.max_running.is_none() && !self.permits.is_queued(&call.id);
        if calls::is_paced(task, call.id.action) && has_started {
            effects.messages.extend(self.job(run, call));
        } else {
            self.send_job(run, call, DispatchHistory::MaybeSent, effects);
        }
    }

    /// Removes a run that has ended or is suspended from the runs that are driven.
    pub(super) fn close(&mut self, run: &RunId, effects: &mut Effects) {
        self.permits.remove_run(run);
        let Some(active) = self.runs.remove(run) else { return };
        if active.machine.state().is_final() {
            self.runs.returned_jobs.remove_run(run);
        }
        let flow = &active.machine.flow().name;
        if !active.is_suspended {
            match active.machine.state() {
                RunState::Failure => error!(target: RUN_LOG_TARGET, %run, %flow, state = "failure", "run ended"),
                RunState::RolledBack => warn!(target: RUN_LOG_TARGET, %run, %flow, state = "rolled-back", "run ended"),
                state @ (RunState::Success
                | RunState::Suspended
                | RunState::Pending
                | RunState::Running
                | RunState::Suspending) => info!(target: RUN_LOG_TARGET, %run, %flow, %state, "run ended"),
            }
        }
        match active.watcher.as_ref().filter(|watcher| !watcher.is_closed()).cloned() {
            Some(watcher) => effects.watch_events.push((watcher, WatchEvent::Ended(Arc::new(active.machine)))),
            None => self.recent.put(run.clone(), active),
        }
    }
}

/// The result of a call that nobody waits for, and whose job was lost with a worker before it was returned: only that worker knew
/// whether it had executed the call.
fn perhaps_executed(call: &CallId, delivery: &Delivery) -> Signal {
    Signal {
        call: call.clone(),
        answer: TaskResult::Failed(Failure::new(
            FailureKind::Cancelled,
            "no worker started it again after one was lost",
        )),
        execution: execution_of(delivery),
        redelivered: true,
        worker: None,
    }
}
