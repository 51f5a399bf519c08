//! Messages from the shard queues, and run commands: each adds events to the batch, or asks for effects.

use std::collections::BTreeMap;

use broker::Delivery;
use flow::{CallId, RunId, Shard, Signal};
use machine::{Event, NotificationPart};
use protocol::{
    AttemptLog, CommandRequest, EngineStatus, HeartbeatNumber, MAX_LISTED_ENGINES, PermitGrant, Report, RunCommand,
};
use tracing::{info, warn};

use super::{Batch, Driver};
use crate::{
    WatchEvent,
    call_queue::QueuedStep,
    effects::ReplyTo,
    leases::CallHolder,
    messages::{self, EarlierDeliveries, JobSending},
    permits::calls::EndedCalls,
    runs::RunEvent,
};

/// The treatment of a running call that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnwantedCallPolicy {
    /// The worker must stop the call.
    Interrupt,
    /// The call may finish.
    LetFinish,
}

impl Driver {
    /// Handles a report, whose run was loaded before. Returns leases that have expired, whose runs may not be loaded.
    pub(super) fn on_report(
        &mut self,
        shard: &Shard,
        report: Report,
        delivery: Delivery,
        batch: &mut Batch,
    ) -> Vec<CallHolder> {
        match report {
            Report::Signal(signal, log) => {
                if !log.is_empty() {
                    let (call, at) = (signal.call.clone(), self.context.clock.now());
                    let log = AttemptLog { call, at, worker: signal.worker.clone(), log };
                    batch.logs.entry(signal.call.run.clone()).or_default().push(log);
                }
                self.on_signal(signal, delivery, batch);
            }
            Report::Progress(progress) => {
                let watcher = self.runs.get(&progress.call.run).and_then(|active| active.watcher.as_ref());
                if let Some(watcher) = watcher {
                    // A slow watcher misses some progress, but no change.
                    let _ = watcher.try_send(WatchEvent::Progress(progress));
                }
                delivery.accept();
            }
            Report::Heartbeat { call, worker, number } => {
                self.on_heartbeat(shard, ((call, worker), number), UnwantedCallPolicy::Interrupt, delivery, batch);
            }
            Report::Started { call, worker, number } => {
                self.on_heartbeat(shard, ((call, worker), number), UnwantedCallPolicy::LetFinish, delivery, batch);
            }
            Report::AskStart { call } => self.reply_may_start(call, delivery, batch),
            Report::NotStarted { call, redeliveries, unanswered, sending } => {
                let earlier = EarlierDeliveries { redeliveries, unanswered };
                self.on_not_started(&call, JobSending { id: sending, earlier }, delivery, batch);
            }
            Report::Released { call, worker } => {
                let run = call.run.clone();
                if let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) {
                    self.on_call_lost((call, worker), batch);
                    batch.signals.push((run, delivery));
                }
            }
            Report::Command(CommandRequest { run, command }) => {
                // The command of a stale run is handled once its records are read.
                let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) else { return Vec::new() };
                let properties = &delivery.message.properties;
                let correlation_id = properties.correlation_id.clone();
                let reply_to =
                    messages::reply_queue_of(&delivery).map(|queue| ReplyTo::Remote { queue, correlation_id });
                self.on_command(run.clone(), command, reply_to, batch);
                batch.signals.push((run, delivery));
            }
            Report::PermitGrant(grant) => {
                self.on_grant(shard, &grant);
                delivery.accept();
            }
            Report::DescribeEngine => self.describe(shard, delivery, batch),
            Report::DescribePermits(question) => {
                if let Some(reply_to) = messages::reply_queue_of(&delivery) {
                    let correlation_id = delivery.message.properties.correlation_id.clone();
                    let answer = self.permits.describe(shard, &question).encode();
                    batch.effects.messages.push(messages::described(reply_to, correlation_id, answer));
                }
                delivery.accept();
            }
            Report::Probe { engine, number } => {
                delivery.accept();
                return self.on_probe(shard, &engine, number);
            }
        }
        Vec::new()
    }

    /// Answers an engine that asks who drives the shard.
    fn describe(&self, shard: &Shard, delivery: Delivery, batch: &mut Batch) {
        let driving_for = self.shards.driving_for(shard);
        if let Some((reply_to, driving_for)) = messages::reply_queue_of(&delivery).zip(driving_for) {
            let status = EngineStatus {
                engine: self.shards.engine().to_owned(),
                host: self.context.host.clone(),
                process: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                driving_for,
                runs: self.runs.of_shard(shard).count() as u64,
                others: self.shards.live_peers().take(MAX_LISTED_ENGINES).map(str::to_owned).collect(),
            };
            let correlation_id = delivery.message.properties.correlation_id.clone();
            batch.effects.messages.push(messages::described(reply_to, correlation_id, status.encode()));
        }
        delivery.accept();
    }

    /// A probe has returned: every earlier message of the queue was received. Returns the leases that have expired.
    fn on_probe(&mut self, shard: &Shard, engine: &str, number: u64) -> Vec<CallHolder> {
        if self.shards.is_barrier(shard, engine, number) {
            self.runs.on_barrier(shard);
            self.resend_outstanding(shard);
        }
        if !self.shards.is_self(engine) {
            return Vec::new();
        }
        self.publications.barrier.on_probe(shard, number);
        self.withdrawals.on_probe(shard, number);
        self.resend_after_probe(shard, number);
        let expired = self.leases.on_probe(shard, number);
        metrics::global().count_expired_leases(expired.len());
        for (call, workers) in workers_by_call(&expired) {
            warn!(%call, workers, "the lease of a call has expired: its worker counts as lost");
        }
        for (call, workers) in workers_by_call(&self.leases.newly_silent(shard)) {
            let silence = protocol::lease::SILENT_AFTER;
            warn!(%call, workers, "no heartbeat of the call was received for {silence:?}: its worker may be lost");
        }
        expired
    }

    /// A worker no longer has a call, and no answer to it will arrive.
    pub(super) fn on_call_lost(&mut self, (call, worker): CallHolder, batch: &mut Batch) {
        self.enqueue(RunEvent::new(call.run.clone(), Event::Lost { call, worker }), batch);
    }

    /// Withdraws the next of the unwanted calls that no worker has reported as started.
    pub(super) fn withdraw_due(&mut self, batch: &mut Batch) {
        let mut withdrawn: BTreeMap<RunId, usize> = BTreeMap::new();
        for call in self.withdrawals.take_due() {
            let run = call.run.clone();
            // It may have been answered, or reported as started.
            if !self.runs.get(&run).is_some_and(|active| active.machine.is_withdrawable(&call)) {
                continue;
            }
            *withdrawn.entry(run.clone()).or_default() += 1;
            self.enqueue(RunEvent::new(run, Event::Withdrawn { call }), batch);
        }
        for (run, calls) in withdrawn {
            info!(%run, calls, "calls are withdrawn: no worker has started them");
        }
    }

    fn on_signal(&mut self, signal: Signal, delivery: Delivery, batch: &mut Batch) {
        let run = signal.call.run.clone();
        if let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) {
            batch.push(run.clone(), Event::Signal(signal));
            batch.signals.push((run, delivery));
        }
    }

    /// Tells a worker whether it may begin a call, according to the durable records.
    fn reply_may_start(&mut self, call: CallId, delivery: Delivery, batch: &mut Batch) {
        let run = call.run.clone();
        // The calls of a run that cannot be read are unknown. The worker asks again, so nothing is held for its next driver.
        if self.runs.is_corrupt(&run) {
            return delivery.accept();
        }
        let Some(delivery) = self.hold_for_stale(&run, delivery, &mut batch.effects) else { return };
        // A run that a remote engine drives is answered there.
        let may_start = match self.runs.get(&run) {
            Some(active) => Some(active.machine.may_start(self.context.clock.now(), &call)),
            None => batch.not_found.contains(&run).then_some(false),
        };
        if let Some((may_start, reply_to)) = may_start.zip(messages::reply_queue_of(&delivery)) {
            batch.effects.messages.push(messages::may_start(reply_to, call, may_start, &self.context.secret));
        }
        batch.signals.push((run, delivery));
    }

    /// Tells a worker that it may not begin a call.
    pub(super) fn refuse_start(&mut self, call: CallId, delivery: Delivery, batch: &mut Batch) {
        if let Some(reply_to) = messages::reply_queue_of(&delivery) {
            batch.effects.messages.push(messages::may_start(reply_to, call, false, &self.context.secret));
        }
        batch.effects.to_accept.push(delivery);
    }

    /// Renews a lease. The first heartbeat of an execution is recorded even for an unwanted call, since its worker
    /// then accepts the job; the lease is watched from that record on.
    fn on_heartbeat(
        &mut self,
        shard: &Shard,
        (lease, number): (CallHolder, HeartbeatNumber),
        unwanted: UnwantedCallPolicy,
        delivery: Delivery,
        batch: &mut Batch,
    ) {
        let run = lease.0.run.clone();
        let is_watched = self.leases.holds(shard, &lease);
        if is_watched && !self.leases.on_heartbeat(shard, &lease, number) {
            // It arrived before, so it does not show that the worker still has the call.
            return delivery.accept();
        }
        if let Some(stale) = self.runs.stale_mut(&run) {
            if !is_watched {
                stale.note_heartbeat(lease);
            }
            // Its worker repeats it. If this engine dies before the run is read, the next one may send the call again before that.
            return delivery.accept();
        }
        // Nothing is known of the calls of a run that cannot be read, and a worker repeats its heartbeats.
        if self.runs.is_corrupt(&run) {
            return delivery.accept();
        }
        let (call, worker) = lease;
        let is_wanted = self.runs.get(&run).is_some_and(|active| active.machine.is_wanted(&call));
        if unwanted == UnwantedCallPolicy::Interrupt && !is_wanted {
            batch.effects.messages.push(messages::interrupt(call.clone(), &self.context.secret));
        }
        if is_watched || batch.not_found.contains(&run) {
            return delivery.accept();
        }
        batch.push(run.clone(), Event::Leased { call, worker });
        batch.signals.push((run, delivery));
    }

    /// Adds a run command to the batch.
    pub(super) fn on_command(&mut self, run: RunId, command: RunCommand, reply_to: Option<ReplyTo>, batch: &mut Batch) {
        let event = match command {
            RunCommand::Cancel => Event::Cancel,
            RunCommand::Suspend => Event::Suspend,
            RunCommand::Resume => Event::Resume,
            RunCommand::Retry => Event::Retry,
            RunCommand::Skip { task, reason } => Event::Skip { task, reason },
            // Another engine had taken it, for a run that was adopted since.
            RunCommand::TaskNotification(notification) => {
                Event::TaskNotification { notification, part: NotificationPart::Whole }
            }
            RunCommand::Notify { task, answer: result, key } => Event::Notify { task, result, key },
            RunCommand::Edit { revision, flow } => Event::Edit { revision, flow },
        };
        self.enqueue(RunEvent { run, event, reply_to, copy: None }, batch);
    }

    /// Handles a grant: dispatches the calls that have a permit now.
    fn on_grant(&mut self, shard: &Shard, grant: &PermitGrant) {
        let (calls, runs) = self.permits.on_grant(shard, grant);
        for call in calls {
            self.queue_call(call, QueuedStep::Send);
        }
        for run in runs {
            self.release_ended(&run, &EndedCalls::Any);
        }
    }

    /// Handles calls that may have ended: releases their permits, and withdraws waiting calls that are no longer
    /// wanted.
    pub(super) fn release_ended(&mut self, run: &RunId, ended: &EndedCalls) {
        let Some(active) = self.runs.get(run) else { return };
        match ended {
            EndedCalls::Any => {
                let namespace = active.machine.flow().name.namespace();
                // No worker has a call that waits for a permit.
                for call in active.machine.withdrawable_calls().filter(|call| !self.permits.is_waiting(call)) {
                    self.withdrawals.add(namespace.clone(), &active.shard, call);
                }
            }
            EndedCalls::Calls(_) => {}
        }
        let events = self.permits.on_ended(&active.machine, ended);
        for event in events {
            self.defer(RunEvent::new(run.clone(), event));
        }
    }
}

/// The workers of each call, for one log line about a call.
fn workers_by_call(holders: &[CallHolder]) -> BTreeMap<&CallId, String> {
    let mut workers: BTreeMap<&CallId, String> = BTreeMap::new();
    for (call, worker) in holders {
        let known = workers.entry(call).or_default();
        let separator = if known.is_empty() { "" } else { ", " };
        known.extend([separator, worker.as_str()]);
    }
    workers
}
