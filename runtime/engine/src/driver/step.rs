//! One step of the driver: decide, append, settle, publish. [`Driver::step`] shows the order.

use std::collections::{BTreeMap, BTreeSet};

use broker::Delivery;
use flow::{CallId, Namespace, RunId, RunState, Shard, Timestamp};
use machine::{Command, Event, NotificationCursor, StepLimits};
use protocol::{AttemptLog, Reply, topology};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    Batch, Driver, StepResult, Submitted,
    decisions::{DecidedBatch, Decisions, PendingWork},
    rejection,
    shares::Shares,
    skips, spans,
};
use crate::{
    SubmitError, WatchEvent,
    bug::{BUG_MESSAGE, catch_bug},
    condition_turns::MAX_FULL_TURNS,
    effects::{Effects, ReplyTo},
    listeners::{ListenedTask, listened_tasks},
    memo, messages, outbox,
    permits::{calls::EndedCalls, client::DispatchHistory},
    publications::PublishedRun,
    runs::{ActiveRun, RunEvent, StaleRun, is_inactive},
};

impl Driver {
    /// Decides records for every event of a batch, appends them all at once, and only then lets the outbox carry out
    /// the effects.
    pub(super) async fn step(&mut self, mut batch: Batch) {
        self.on_confirmed_versions();
        self.save_snapshots();
        let now = self.read_clock(&mut batch);
        let released = self.released_runs(&batch);
        let Batch { events, deferred, mut signals, mut logs, submitted, loaded, not_found, remote_runs, .. } = batch;
        let (mut unbind, mut effects) = (batch.unbind, batch.effects);
        let (steps, decided, copies) = self.decide(now, (events, deferred), (&released, &not_found), &mut effects);
        let watched = self.watched_logs(&logs);
        let refused = self.append(&steps, &mut logs).await;
        let is_appended = |(run, ..): &(RunId, _, _)| !refused.contains_key(run);
        effects.watch_events.extend(watched.into_iter().filter(is_appended).map(|(_, watcher, log)| (watcher, log)));
        unbind.extend(self.drop_refused(&refused, &submitted));
        self.note_leases(&decided);
        let stepped: Vec<RunId> =
            if cfg!(debug_assertions) { decided.iter().map(|(run, _)| run.clone()).collect() } else { Vec::new() };
        let gone: BTreeSet<RunId> = released.into_iter().chain(refused.keys().cloned()).collect();
        effects.to_accept.extend(take_refused(&mut signals, &refused));
        signals.extend(self.put_back_notifications(copies, &gone));
        self.settle(signals, (decided, &gone), &remote_runs, &mut effects);
        self.publish(steps, &refused, &mut effects);
        self.answer_submitted(submitted, refused);
        self.close_inactive(loaded, &mut effects);
        debug_assert_eq!(self.stalled(now, &stepped), None, "a run that can go on has no turn");
        debug_assert_eq!(self.forgotten_call(&stepped), None, "a call that may not start is not withdrawn");
        self.make_jobs(&mut effects);
        self.request_permits(&mut effects);
        let are_all_loaded =
            self.shards.owns_all() && !self.runs.delay_notifications() && !self.declarations.has_loads();
        let all_bound = self.is_lasting() || are_all_loaded;
        let has_room = outbox::has_room_for_backlog(&self.context.outbox);
        self.publications.add_to(&mut effects, all_bound, has_room, &self.context.secret);
        // The outbox outlives the driver: it ends when this sender is dropped.
        let _ = self.context.outbox.send(effects).await;
        self.unbind(unbind);
    }

    /// Returns the current time. If the clock was set, each run gets that event before all others.
    fn read_clock(&mut self, batch: &mut Batch) -> Timestamp {
        let (now, shift) = self.clock.read(&*self.context.clock);
        if let Some(by) = shift {
            warn!(
                seconds = by.as_micros() / 1_000_000,
                "the clock was set: waits go on for as long as they would have"
            );
            let event = |run: &RunId| RunEvent::new(run.clone(), Event::ClockSet { by });
            batch.events.splice(..0, self.runs.iter().map(|(run, _)| event(run)));
            self.runs.stale_iter_mut().for_each(|stale| stale.clock_changes.push(by));
        }
        now
    }

    /// The runs whose shards were released after their deliveries arrived: the deliveries go back to the queue.
    fn released_runs(&self, batch: &Batch) -> BTreeSet<RunId> {
        let is_explained = |run: &RunId| {
            batch.not_found.contains(run) || batch.remote_runs.contains_key(run) || self.runs.is_corrupt(run)
        };
        let is_released = |run: &RunId| !self.runs.is_active(run) && !is_explained(run);
        let of_copies = batch.events.iter().filter_map(|event| event.copy.as_ref()).map(|copy| &copy.run);
        let runs = batch.signals.iter().map(|(run, _)| run).chain(of_copies);
        runs.filter(|run| is_released(run)).cloned().collect()
    }

    /// Steps the machines. Returns the result of each run, the events that were decided, and the notifications among them with what is left
    /// of each. Notifications, and then events that were deferred, follow the others, and conditions are evaluated in turns, after everything else.
    fn decide(
        &mut self,
        now: Timestamp,
        (events, deferred): (Vec<RunEvent>, Vec<RunEvent>),
        (released, not_found): (&BTreeSet<RunId>, &BTreeSet<RunId>),
        effects: &mut Effects,
    ) -> DecidedBatch {
        let mut runs: BTreeMap<Option<Namespace>, BTreeSet<RunId>> = BTreeMap::new();
        for event in events.iter().chain(&deferred) {
            runs.entry(self.namespace_of(&event.run)).or_default().insert(event.run.clone());
        }
        let shares = Shares::new(runs, self.conditions.len().min(MAX_FULL_TURNS));
        let mut decisions = Decisions::new(now, shares, (released, not_found), effects);
        let (notifications, others): (Vec<RunEvent>, Vec<RunEvent>) =
            events.into_iter().partition(|event| event.copy.is_some());
        for event in others {
            self.decide_event(event, 0, &mut decisions);
        }
        for events in [notifications, deferred] {
            decisions.begin_kind();
            for event in events {
                self.decide_event(event, 0, &mut decisions);
            }
        }
        self.conditions.begin_batch();
        decisions.begin_conditions(self.conditions.len().min(MAX_FULL_TURNS));
        while decisions.has_room()
            && let Some((run, max_cost)) = self.conditions.next()
        {
            let event = RunEvent::new(run, Event::Tick);
            let has_room = decisions.records_left(&event.run) > 0 && decisions.bytes_left(&event.run) > 0;
            if self.runs.is_active(&event.run) && has_room {
                self.decide_event(event, max_cost, &mut decisions);
            } else {
                self.defer(event);
            }
        }
        let (decided, held) = decisions.end();
        held.into_iter().for_each(|run| self.defer(RunEvent::new(run, Event::Tick)));
        decided
    }

    /// Decides an event, with conditions that cost this much.
    fn decide_event(&mut self, mut event: RunEvent, max_cost: u64, decisions: &mut Decisions<'_>) {
        let copy = event.copy.take();
        let rest = self.decide_part(event, max_cost, decisions);
        decisions.copies.extend(copy.map(|copy| (*copy, rest)));
    }

    /// Decides an event, or a part of a notification. Returns what is left of the notification.
    fn decide_part(
        &mut self,
        RunEvent { run, event, reply_to, copy: _ }: RunEvent,
        max_cost: u64,
        decisions: &mut Decisions<'_>,
    ) -> Option<NotificationCursor> {
        let Some(active) = self.runs.get_mut(&run) else {
            self.reject(&run, reply_to, decisions);
            return None;
        };
        let now = decisions.now;
        let bytes = decisions.bytes_left(&run);
        if bytes == 0 && matches!(event, Event::Tick) {
            decisions.hold(run);
            return None;
        }
        let is_remembering = !self.context.memo_limits.is_zero();
        let new_result = is_remembering.then(|| memo::new_result(&active.machine, &event, now)).flatten();
        let (records, expiry) = (decisions.records_left(&run), active.call_expiry());
        let limits = StepLimits { records, bytes, conditions: max_cost, expiry };
        let traced = spans::ending_attempt(active, &event);
        let doing = || format!("after version {}, {}", active.version.get(), event.summary());
        let step = match catch_bug(&run, &doing(), || active.machine.step_within(now, &event, limits)) {
            Ok(step) => step,
            Err(reason) => {
                let earlier = decisions.steps.remove(&run).map(|step| step.reply_to).unwrap_or_default();
                self.stop_buggy(run, reason, earlier.into_iter().chain(reply_to), decisions.effects);
                return None;
            }
        };
        self.conditions.charge(step.condition_cost);
        if step.awaits_conditions {
            self.conditions.push(&run, active.machine.flow().name.namespace());
        }
        if step.records.is_empty() {
            if let Some(call) = active.machine.excess_execution(&event) {
                let reason = format!("a report of one more execution than {call} may have");
                self.refusals.log(&topology::shard_queue(&active.shard), &reason);
            }
            if let Some(reply_to) = reply_to {
                decisions.effects.reply(reply_to, rejection(&active.machine, &event, step.refusal));
            }
            if matches!(event, Event::Tick) && !step.awaits_conditions {
                // The tick may be that of its timer, which no record changes.
                self.runs.update_due(&run);
            }
            decisions.decided.push((run, event));
            return step.rest;
        }
        let result = decisions.result_of(&run, &step);
        if active.is_suspended && !is_inactive(active.machine.state()) {
            active.is_suspended = false;
            // What was abandoned when it was suspended is sent again. Each call waits for its job once, also if it is new.
            let PendingWork { calls, fetches } = PendingWork::of(&active.machine);
            let new: BTreeSet<&CallId> = step.commands.iter().filter_map(fetch_id).collect();
            let abandoned = fetches.into_iter().filter(|fetch| !new.contains(&fetch.id));
            result.commands.extend(abandoned.map(|fetch| Command::Fetch(Box::new(fetch))));
            result.resumed.extend(calls);
            result.may_repeat = true;
        }
        result.is_unfinished = step.is_unfinished && !step.awaits_conditions;
        result.memos.remembered.extend(new_result.filter(|_| memo::is_success(&step.records)));
        memo::add_forgotten(&active.machine, &step.records, &mut result.memos);
        result.is_retried |= matches!(event, Event::Retry);
        result.ended = std::mem::take(&mut result.ended).and(EndedCalls::from_event(&event, &step.records));
        result.ended_attempts.extend(step.ended_attempts);
        result.schedule_delays.extend(step.schedule_delays);
        let ended = spans::ended_attempts(active, traced, step.unanswered_calls);
        result.traced_attempts.extend(ended.into_iter().map(|attempt| (attempt, now)));
        result.records.extend(step.records);
        result.commands.extend(step.commands);
        result.reply_to.extend(reply_to);
        decisions.decided.push((run, event));
        step.rest
    }

    /// Replies to the sender of an event for a run that is not in memory.
    fn reject(
        &self,
        run: &RunId,
        reply_to: Option<ReplyTo>,
        Decisions { released, not_found, effects, .. }: &mut Decisions<'_>,
    ) {
        let Some(reply_to) = reply_to else { return };
        if released.contains(run) && matches!(reply_to, ReplyTo::Remote { .. }) {
            // The command goes back to the queue with its delivery.
            return;
        }
        let reply = if self.runs.is_corrupt(run) {
            let bug = self.runs.bug(run).map(|bug| format!(": {bug}")).unwrap_or_default();
            Reply::Failed(format!("{BUG_MESSAGE}{bug}"))
        } else if not_found.contains(run) {
            Reply::RunNotFound
        } else {
            Reply::Failed("the run is driven by another engine now".into())
        };
        effects.reply(reply_to, reply);
    }

    /// Stops a run that meets a bug of waft.
    fn stop_buggy(
        &mut self,
        run: RunId,
        reason: String,
        reply_to: impl Iterator<Item = ReplyTo>,
        effects: &mut Effects,
    ) {
        let reply = || Reply::Failed(format!("{BUG_MESSAGE}: {reason}"));
        reply_to.for_each(|reply_to| effects.reply(reply_to, reply()));
        self.permits.remove_run(&run);
        self.runs.mark_buggy(run, reason);
    }

    /// Drops the machines of runs whose records were not appended: they are ahead of their records. Returns what the new runs
    /// among them would have listened to: the queues of their shards are bound to these tasks.
    fn drop_refused(
        &mut self,
        refused: &BTreeMap<RunId, SubmitError>,
        submitted: &[Submitted],
    ) -> BTreeSet<ListenedTask> {
        let new: BTreeSet<&RunId> = submitted.iter().map(|submitted| &submitted.run).collect();
        let mut listened = BTreeSet::new();
        for (run, error) in refused {
            if matches!(error, SubmitError::Append(_)) {
                // Its stale runs would be read again at once, and their appends fail again: they wait for the next tick.
                self.is_reloading = false;
            }
            // A run that may have begun is read again; a new run whose name is taken is not.
            let may_have_started = !new.contains(run) || matches!(error, SubmitError::Append(_));
            if !may_have_started && let Some(active) = self.runs.get(run) {
                listened.extend(listened_tasks(&active.shard, &active.machine));
            }
            self.drop_machine(run, may_have_started);
        }
        listened
    }

    /// Drops the machine of a run that differs from its records; the run is read again if it had begun.
    pub(super) fn drop_machine(&mut self, run: &RunId, had_started: bool) {
        let Some(active) = self.runs.remove(run) else { return };
        let is_requeued = self.cancel_resend(run);
        // If the shard was lost meanwhile, its new driver reads the run.
        if had_started && self.shards.owns(&active.shard) {
            let ActiveRun { version, watcher, shard, .. } = active;
            let known = StaleRun { awaits_barrier: self.shards.awaits_barrier(&shard), ..StaleRun::of(Some(&shard)) };
            let stale = StaleRun { sent: version, watcher, was_active: true, is_requeued, ..known };
            self.runs.replace_stale(run.clone(), stale);
        }
    }

    /// Starts watching the leases that the events began, and stops watching the leases that they ended. Events of
    /// refused runs are not durable; their machines are already dropped, so the events have no effect here.
    fn note_leases(&mut self, decided: &[(RunId, Event)]) {
        for (run, event) in decided {
            if let Some(active) = self.runs.get(run) {
                self.leases.on_event(&active.shard, &active.machine, event);
            }
        }
        let is_watched = |active: &ActiveRun| self.leases.watches_all(&active.shard, &active.machine);
        debug_assert!(
            decided.iter().filter_map(|(run, _)| self.runs.get(run)).all(is_watched),
            "a lease is known and not watched"
        );
    }

    /// Settles the deliveries of a batch: those of runs here once the outbox has sent everything; others are forwarded,
    /// held, or go back to the queue for the new driver of their shard.
    fn settle(
        &mut self,
        signals: Vec<(RunId, Delivery)>,
        (decided, gone): (Vec<(RunId, Event)>, &BTreeSet<RunId>),
        remote_runs: &BTreeMap<RunId, Shard>,
        effects: &mut Effects,
    ) {
        // If their records were not written, these two events would be lost. All others are repeated or need no repeat: a
        // signal or heartbeat is held with its delivery, a start or command was answered, fetches and withdrawals are
        // repeated, and time passes by itself.
        for (run, event) in decided {
            let Some(stale) = self.runs.stale_mut(&run) else { continue };
            if let Event::ClockSet { by } = event {
                stale.unrecorded_clock_change = Some(by);
            } else if matches!(event, Event::Abandon) {
                stale.pending.push(RunEvent::new(run, event));
            }
        }
        for (run, delivery) in signals {
            let Some(delivery) = self.hold_for_corrupt(&run, delivery, effects) else { continue };
            if let Some(shard) = remote_runs.get(&run) {
                effects.messages.push(messages::forward(shard, &delivery, &self.context.secret));
                effects.to_accept.push(delivery);
                continue;
            }
            let Some(delivery) = self.hold_for_stale(&run, delivery, effects) else { continue };
            match gone.contains(&run) {
                true => delivery.requeue(),
                false => effects.to_accept.push(delivery),
            }
        }
    }

    /// Publishes what the appended records of each run caused, and replies to those who asked for it.
    fn publish(
        &mut self,
        steps: BTreeMap<RunId, StepResult>,
        refused: &BTreeMap<RunId, SubmitError>,
        effects: &mut Effects,
    ) {
        for (run, step) in steps {
            match refused.get(&run) {
                None => self.publish_run(run, step, effects),
                Some(error) => {
                    let reason = error.to_string();
                    let is_limit = is_limit(error);
                    let reply =
                        || if is_limit { Reply::Refused(reason.clone()) } else { Reply::Failed(reason.clone()) };
                    step.reply_to.into_iter().for_each(|reply_to| effects.reply(reply_to, reply()));
                }
            }
        }
        effects.messages.extend(self.withdrawals.ask(&self.context.secret));
    }

    fn publish_run(&mut self, run: RunId, step: StepResult, effects: &mut Effects) {
        let StepResult {
            records,
            commands,
            resumed,
            reply_to,
            ended,
            may_repeat,
            bytes: _,
            is_unfinished,
            is_retried: _,
            memos: _,
            ended_attempts: _,
            schedule_delays: _,
            traced_attempts: _,
        } = step;
        let mut state = RunState::Running;
        let mut sent = None;
        if let Some(active) = self.runs.get(&run) {
            skips::log(&active.machine, &records);
            state = active.machine.state();
            sent = Some(PublishedRun::of(run.clone(), active));
        }
        reply_to.into_iter().for_each(|reply_to| effects.reply(reply_to, Reply::Recorded(state)));
        let history = if may_repeat { DispatchHistory::MaybeSent } else { DispatchHistory::NeverSent };
        let interrupts = commands.iter().any(|command| matches!(command, Command::Interrupt(_)));
        for call in resumed {
            self.dispatch_call(call, DispatchHistory::MaybeSent);
        }
        self.perform(&run, commands, history, effects);
        // The version comes behind the changes that lead to it.
        if let Some(sent) = sent {
            self.publications.sent(sent, effects);
        }
        self.release_ended(&run, &ended);
        if is_unfinished && self.runs.is_active(&run) {
            self.defer(RunEvent::new(run.clone(), Event::Tick));
        }
        if interrupts {
            // A worker that has started a call must stop it now, and can report the start as well.
            self.withdrawals.begin_to_ask();
        }
        self.context.changes.notify(&run, state.is_final());
    }

    fn answer_submitted(&self, submitted: Vec<Submitted>, mut refused: BTreeMap<RunId, SubmitError>) {
        for Submitted { run, reply_to, watch } in submitted {
            let result = match refused.remove(&run) {
                Some(error) => Err(error),
                None if self.runs.is_corrupt(&run) => Err(SubmitError::Bug { run }),
                None => Ok(watch),
            };
            // The requester may have disconnected.
            let _ = reply_to.send(result);
        }
    }

    /// Closes the runs that were loaded for this batch and are still inactive: the end is recorded, but the watcher may
    /// not have received it.
    fn close_inactive(&mut self, loaded: BTreeSet<RunId>, effects: &mut Effects) {
        for run in loaded {
            if self.runs.get(&run).is_some_and(|active| active.is_suspended) {
                self.close(&run, effects);
            }
        }
    }

    /// Sends changed permit requests to the coordinators.
    fn request_permits(&mut self, effects: &mut Effects) {
        let unread = |shard: &Shard| self.shards.owns(shard).then(|| self.runs.unread_of(shard));
        let coordinate = |flow: &_, task: &_| self.context.topology.permits().on_request(flow, task);
        effects.probes.extend(self.permits.take_requests(self.context.clock.now(), unread, coordinate));
    }

    /// Unbinds the queues of shards from tasks that no run listens to any more. The listeners of a shard that was released
    /// meanwhile are known to its new driver. A binding that is being made is left: its next notification comes here again.
    fn unbind(&mut self, tasks: BTreeSet<ListenedTask>) {
        for listened in tasks {
            let (shard, flow, task) = &listened;
            let may_listen = self.listeners.has(&listened)
                || self.declarations.is_binding(&listened)
                || self.runs.has_unread_listeners(shard);
            if !self.shards.owns(shard) || may_listen {
                continue;
            }
            debug!(%shard, %flow, %task, "nobody listens to the task any more");
            let exchange = protocol::topology::task_exchange(flow, task);
            if let Some(unbinding) = self.context.topology.start_unbind(&exchange, shard) {
                self.declarations.unbind(shard.clone(), unbinding);
            }
        }
    }

    /// Returns the guests' logs of watched runs, each with its watcher.
    fn watched_logs(
        &self,
        logs: &BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> Vec<(RunId, mpsc::Sender<WatchEvent>, WatchEvent)> {
        let of_run = |(run, logs): (&RunId, &Vec<AttemptLog>)| {
            let watcher = self.runs.get(run)?.watcher.clone()?;
            let event = |log: &AttemptLog| (run.clone(), watcher.clone(), WatchEvent::Log(log.clone()));
            // Nobody watches what a silent attempt used.
            Some(logs.iter().filter(|log| !log.log.is_silent()).map(event).collect::<Vec<_>>())
        };
        logs.iter().filter_map(of_run).flatten().collect()
    }
}

/// Whether a run was refused because too many are open.
fn is_limit(error: &SubmitError) -> bool {
    matches!(error, SubmitError::TooManyOpen { .. } | SubmitError::TooManyOpenInNamespace { .. })
}

/// Takes the deliveries of commands that were refused because too many runs are open. Their senders have this answer: the commands must
/// not have an effect later, once fewer runs are open.
fn take_refused(signals: &mut Vec<(RunId, Delivery)>, refused: &BTreeMap<RunId, SubmitError>) -> Vec<Delivery> {
    let is_refused = |(run, delivery): &mut (RunId, Delivery)| {
        refused.get(&*run).is_some_and(is_limit) && messages::is_request(delivery)
    };
    signals.extract_if(.., is_refused).map(|(_, delivery)| delivery).collect()
}

/// The id of a fetch; `None` for another command.
fn fetch_id(command: &Command) -> Option<&CallId> {
    match command {
        Command::Fetch(fetch) => Some(&fetch.id),
        Command::Call(_) | Command::Interrupt(_) | Command::Publish(_) => None,
    }
}
