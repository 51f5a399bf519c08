//! What a run's commands become: jobs, notifications and fetches; and what the end of a run causes.

use std::sync::Arc;

use broker::Delivery;
use flow::{CallId, RunId, RunState};
use machine::{Call, Command, Event};
use protocol::RememberedResult;
use tracing::{debug, error, info, warn};

use super::{Batch, Driver, spans, unreadable::execution_of};
use crate::{
    WatchEvent,
    call_queue::QueuedStep,
    effects::{Effects, JobMessage},
    memo::{self, LookedUpCall},
    messages::{self, JobSending},
    permits::{calls, client::DispatchHistory},
    runs::{RunEvent, is_inactive},
};

/// Log target of the one line that closes each run, so that a program that shows the end itself can filter it out.
const RUN_LOG_TARGET: &str = "waft::run";

/// Bytes of inputs after which a batch makes no further job: the jobs of a batch are in memory together until the broker has them. Each is
/// bounded, since its run may have no larger inputs than its limit `value` allows.
const MAX_BATCH_JOB_BYTES: usize = 16 << 20;

/// The bytes of a job beside its inputs.
const JOB_OVERHEAD: usize = 4 << 10;

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
                Command::Call(call) => self.dispatch_call(call.id, history),
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

    /// Dispatches a call: its job is made in its turn, after its remembered result was looked for and with a permit, if the call needs them.
    /// The result of a call whose job may be with a worker already is not looked for: what the worker does has to be known.
    pub(super) fn dispatch_call(&mut self, call: CallId, history: DispatchHistory) {
        let is_remembering = !self.context.memo_limits.is_zero() && history == DispatchHistory::NeverSent;
        let task = self.runs.get(&call.run).and_then(|active| active.machine.task(&call.task));
        let Some(task) = task else { return };
        if is_remembering && memo::is_remembered(task, call.action) {
            self.queue_call(call, QueuedStep::LookUp);
        } else {
            self.queue_permitted(call, history);
        }
    }

    /// Queues the job of a call, once it has a permit if it needs one.
    fn queue_permitted(&mut self, call: CallId, history: DispatchHistory) {
        let Some(active) = self.runs.get(&call.run) else { return };
        let Some(task) = active.machine.task(&call.task) else { return };
        if calls::is_paced(task, call.action) {
            let (now, paced) = (self.context.clock.now(), calls::paced_call(task, call.clone()));
            let is_held = self.permits.request(now, &active.shard, &active.machine.flow().name, paced, history);
            if !is_held {
                return;
            }
        }
        self.queue_call(call, QueuedStep::Send);
    }

    /// Lets a call wait for its turn. A run that is not in memory sends its unanswered calls when it is loaded.
    pub(super) fn queue_call(&mut self, call: CallId, step: QueuedStep) {
        if let Some(active) = self.runs.get(&call.run) {
            self.call_queue.add(call, step, active.machine.flow().name.namespace());
        }
    }

    /// Makes the jobs of calls in their turns, as many as a batch may have bytes. The other calls wait for the next batch.
    pub(super) fn make_jobs(&mut self, effects: &mut Effects) {
        let mut bytes = 0;
        while bytes < MAX_BATCH_JOB_BYTES
            && let Some((call, step)) = self.call_queue.take()
        {
            bytes += JOB_OVERHEAD + self.continue_call(call, step, effects);
        }
    }

    /// Continues with a call whose turn it is. Returns the bytes that were read for it.
    fn continue_call(&mut self, id: CallId, step: QueuedStep, effects: &mut Effects) -> usize {
        let Some(active) = self.runs.get(&id.run).filter(|active| !active.is_suspended) else { return 0 };
        let Some(call) = active.machine.unstarted_call(&id) else {
            if active.machine.outstanding_since(&id).is_none() {
                // It ended before its permit arrived.
                self.permits.release(&id);
            }
            return 0;
        };
        let flow = active.machine.flow();
        if active.machine.is_withdrawable(&id) {
            // It is withdrawn without a job.
            self.call_queue.set_aside(id, step, flow.name.namespace());
            return 0;
        }
        let bytes = call.bytes();
        match step {
            QueuedStep::LookUp => {
                let task = active.machine.task(&id.task);
                match task.and_then(|task| memo::address_of(flow, task, &call)) {
                    Some(address) => self.lookups.add(id, address),
                    None => self.queue_permitted(id, DispatchHistory::NeverSent),
                }
            }
            QueuedStep::Send => effects.jobs.extend(self.job(call)),
        }
        bytes
    }

    /// Lookups have ended: a result that was found is recorded, and the jobs of the other calls are sent. A run that is not in
    /// memory sends its unanswered calls when it is loaded.
    pub(super) fn on_looked_up(&mut self, ended: Vec<LookedUpCall>) {
        for LookedUpCall { call, result } in ended {
            let run = call.run.clone();
            let Some(active) = self.runs.get(&run).filter(|active| !active.is_suspended) else { continue };
            let event = result.map(|RememberedResult { computed_by, values, .. }| Event::Remembered {
                call: call.clone(),
                values,
                computed_by,
            });
            match event.filter(|event| !active.machine.decide(self.context.clock.now(), event).is_empty()) {
                // Each has the values of a result.
                Some(event) => self.defer(RunEvent::new(run, event)),
                // It is with the others that wait until they are withdrawn.
                None if active.machine.is_withdrawable(&call) => self.queue_call(call, QueuedStep::LookUp),
                None if active.machine.unstarted_call(&call).is_some() => {
                    self.queue_permitted(call, DispatchHistory::NeverSent);
                }
                None => {}
            }
        }
    }

    /// The job of a call of a run in memory. It has to be sent: from now on, no returned message counts that sent the job
    /// before.
    fn job(&mut self, call: Call) -> Option<JobMessage> {
        self.lookups.forget(&call.id);
        let sending = self.runs.returned_jobs.next_sending(&call.id, &self.context.secret);
        let active = self.runs.get(&call.id.run)?;
        let task = active.machine.task(&call.id.task)?;
        let (store_queue, secret) = (&self.context.store_queue, &self.context.secret);
        let reply_to = messages::EngineAddress { shard: &active.shard, store_queue, secret };
        let traceparent = spans::traceparent(active.trace.as_deref(), &call.id);
        let mut job = messages::job(&reply_to, active.machine.flow(), task, call, sending);
        if let Some(traceparent) = traceparent {
            protocol::set_traceparent(&mut job.message.properties.headers, traceparent);
        }
        Some(job)
    }

    /// A worker has returned the job of a call that it did not start: sends the job again, if the call still waits for a
    /// worker, and if the worker received the message that sent the job last. So each message is sent again once at most,
    /// however often a worker returns it.
    pub(super) fn on_not_started(&mut self, call: &CallId, sending: JobSending, delivery: Delivery, batch: &mut Batch) {
        let run = &call.run;
        let has_lost_delivery = sending.earlier.redeliveries > 0;
        // Nothing is known of the calls of a run that cannot be read. They are sent again once it can.
        if self.runs.is_corrupt(run) && !has_lost_delivery {
            return delivery.accept();
        }
        let Some(delivery) = self.hold_for_stale(run, delivery, &mut batch.effects) else { return };
        if self.runs.is_active(run) {
            if has_lost_delivery {
                // Only this message says so. Its record says it to each later step and engine, whatever the call waits for meanwhile.
                let execution = execution_of(&delivery);
                batch.push(run.clone(), Event::LostDelivery { call: call.clone(), execution });
            }
            self.on_returned(call, sending);
        }
        batch.signals.push((run.clone(), delivery));
    }

    /// Remembers what is known of the returned job of a call, and sends the job again unless something else does.
    fn on_returned(&mut self, call: &CallId, JobSending { id, earlier }: JobSending) {
        let Some(active) = self.runs.get(&call.run) else { return };
        if active.machine.outstanding_since(call).is_none() {
            return;
        }
        if !self.runs.returned_jobs.is_last_sending(call, id) {
            debug!(%call, "a job is returned that was sent again since");
            return self.runs.add_returned(call, earlier);
        }
        if active.machine.unstarted_call(call).is_none() {
            // Another worker has it.
            return;
        }
        // Others are sent again when the run continues, or in their turn.
        let is_sent_later = active.outstanding_at_load.contains(call) || self.call_queue.has(call);
        let is_sent_now = !active.is_suspended && !is_sent_later;
        self.runs.add_returned(call, earlier);
        if is_sent_now {
            self.send_returned(call.clone());
        }
    }

    /// Sends the job of a call again that a worker has returned, in its turn. A start that counts only for a rate is spent already.
    fn send_returned(&mut self, call: CallId) {
        let Some(active) = self.runs.get(&call.run) else { return };
        let Some(task) = active.machine.task(&call.task) else { return };
        let is_paced = calls::is_paced(task, call.action);
        let has_started = task.pace.max_running.is_none() && !self.permits.is_queued(&call);
        if is_paced && !has_started {
            self.queue_permitted(call, DispatchHistory::MaybeSent);
        } else {
            self.queue_call(call, QueuedStep::Send);
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
