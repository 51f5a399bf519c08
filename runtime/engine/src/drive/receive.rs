//! Messages from the shard queues, and run commands.

use broker::Delivery;
use flow::{CallId, Event, RunId, Shard, Signal};
use protocol::{AttemptLog, CommandRequest, Report, RunCommand};
use tracing::warn;

use super::{Batch, Driver, ReplyTo, RunEvent, leases::CallHolder};
use crate::{
    WatchEvent,
    inbox::{Incoming, ShardDelivery},
    messages,
};

/// The content type of notifications.
const JSON: &str = "application/json";

/// The treatment of a running call that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnwantedCallPolicy {
    /// The worker must stop the call.
    Interrupt,
    /// The call may finish.
    LetFinish,
}

impl Driver {
    /// Handles an item from the queues of the shards.
    pub(super) async fn on_incoming(&mut self, incoming: Incoming, round: &mut Batch) {
        match incoming {
            Incoming::Delivery(arrived) => self.on_delivery(arrived, round).await,
            Incoming::Term { shard, term } => self.begin_term(&shard, term),
        }
    }

    /// Adds a delivery to the batch, or handles it at once if it needs no record.
    pub(super) async fn on_delivery(&mut self, arrived: ShardDelivery, round: &mut Batch) {
        let ShardDelivery { shard, term, delivery } = arrived;
        if !self.shards.is_current(&shard, term) {
            // It was delivered before the shard was released. If dropped, it goes back to the queue, for the current
            // driver.
            return;
        }
        // Deferred deliveries show that the logbook cannot be read: the next tick tries again.
        if !self.shards.owns(&shard) && (self.shards.has_deferred() || !self.take_over(&shard, round).await) {
            self.shards.defer(ShardDelivery { shard, term, delivery });
            return;
        }
        match Report::decode(&delivery.message.body) {
            Ok(Report::Signal(signal, log)) => {
                if !log.is_empty() {
                    let call = signal.call.clone();
                    let at = self.tools.clock.now();
                    let kept = AttemptLog { call, at, worker: signal.worker.clone(), log };
                    round.logs.entry(signal.call.run.clone()).or_default().push(kept);
                }
                self.on_signal(&shard, signal, delivery, round).await;
            }
            Ok(Report::Progress(progress)) => {
                let watcher = self.runs.get(&progress.call.run).and_then(|live| live.watcher.as_ref());
                if let Some(watcher) = watcher {
                    // A slow watcher misses some progress, but no change.
                    let _ = watcher.try_send(WatchEvent::Progress(progress));
                }
                delivery.accept();
            }
            Ok(Report::Heartbeat { call, worker }) => {
                self.on_heartbeat(&shard, (call, worker), UnwantedCallPolicy::Interrupt, delivery, round).await;
            }
            Ok(Report::Started { call, worker }) => {
                self.on_heartbeat(&shard, (call, worker), UnwantedCallPolicy::LetFinish, delivery, round).await;
            }
            Ok(Report::MayBegin { call }) => self.reply_may_start(&shard, call, delivery, round).await,
            Ok(Report::Released { call, worker }) => {
                let run = call.run.clone();
                self.on_call_lost(&shard, (call, worker), round).await;
                round.signals.push((run, delivery));
            }
            Ok(Report::Command(CommandRequest { run, command: wish })) => {
                let properties = &delivery.message.properties;
                let correlation_id = properties.correlation_id.clone();
                let answer = properties.reply_to.clone().map(|queue| ReplyTo::Remote { queue, correlation_id });
                self.on_command(run.clone(), Some(&shard), wish, answer, round).await;
                round.signals.push((run, delivery));
            }
            Ok(Report::Probe { engine, number }) => {
                if self.shards.is_barrier(&shard, &engine, number) {
                    self.resend_outstanding(&shard, round);
                }
                if self.shards.is_self(&engine) {
                    self.barrier.on_probe(&shard, number);
                    for (call, worker) in self.leases.on_probe(&shard, number) {
                        warn!(%call, %worker, "the lease of a call was missed: its worker is taken for lost");
                        self.on_call_lost(&shard, (call, worker), round).await;
                    }
                    for (call, worker) in self.leases.newly_silent(&shard) {
                        let silence = protocol::lease::SILENT_AFTER;
                        warn!(%call, %worker, "no heartbeat of the call has come for {silence:?}: its worker may be lost");
                    }
                    self.withdraw_due(&shard, number, round);
                }
                delivery.accept();
            }
            Ok(Report::PermitGrant(granted)) => {
                self.on_grant(&shard, &granted, round);
                delivery.accept();
            }
            Err(_) if delivery.message.properties.content_type.as_deref() == Some(JSON) => {
                self.on_notification(&shard, delivery, round).await;
            }
            // Rare, so it is boxed: that keeps the future of all other cases small.
            Err(error) => Box::pin(self.on_unreadable(&shard, delivery, &error, round)).await,
        }
    }

    /// A worker no longer has a call, and no answer to it will arrive.
    async fn on_call_lost(&mut self, shard: &Shard, (call, worker): CallHolder, round: &mut Batch) {
        let run = call.run.clone();
        self.load_inactive(&run, Some(shard), round).await;
        self.enqueue(RunEvent { run, event: Event::Lost { call, worker }, reply_to: None }, round);
    }

    async fn on_signal(&mut self, shard: &Shard, signal: Signal, delivery: Delivery, round: &mut Batch) {
        let run = signal.call.run.clone();
        if let Some(lost) = self.stale.get_mut(&run) {
            lost.signals.push(delivery);
            return;
        }
        // The signal may be late, when the run has ended or is suspended.
        self.load_inactive(&run, Some(shard), round).await;
        round.push(run.clone(), Event::Signal(signal));
        round.signals.push((run, delivery));
    }

    /// Tells a worker whether it may begin a call, according to the durable records.
    async fn reply_may_start(&mut self, shard: &Shard, call: CallId, delivery: Delivery, round: &mut Batch) {
        let run = call.run.clone();
        if let Some(lost) = self.stale.get_mut(&run) {
            lost.signals.push(delivery);
            return;
        }
        self.load_inactive(&run, Some(shard), round).await;
        // A run that a remote engine drives is answered there; the calls of an unreadable run are unknown.
        let wanted = match self.runs.get(&run) {
            Some(live) => Some(live.machine.may_start(self.tools.clock.now(), &call)),
            None => round.not_found.contains(&run).then_some(false),
        };
        if let Some((wanted, reply_to)) = wanted.zip(delivery.message.properties.reply_to.clone()) {
            round.messages.push(messages::may_start(reply_to, call, wanted));
        }
        round.signals.push((run, delivery));
    }

    /// Renews a lease. The first heartbeat of an execution is recorded even for an unwanted call, since its worker
    /// then accepts the job; the lease is watched from that record on.
    async fn on_heartbeat(
        &mut self,
        shard: &Shard,
        held: CallHolder,
        unwanted: UnwantedCallPolicy,
        delivery: Delivery,
        round: &mut Batch,
    ) {
        let run = held.0.run.clone();
        self.load_inactive(&run, Some(shard), round).await;
        let is_watched = self.leases.holds(shard, &held);
        if is_watched {
            self.leases.renew(shard, held.clone());
        }
        if let Some(lost) = self.stale.get_mut(&run) {
            lost.note_heartbeat(&held);
            return if is_watched { delivery.accept() } else { lost.signals.push(delivery) };
        }
        let (call, worker) = held;
        let is_wanted = self.runs.get(&run).is_some_and(|live| live.machine.is_wanted(&call));
        if unwanted == UnwantedCallPolicy::Interrupt && !is_wanted && !self.corrupt.contains_key(&run) {
            round.messages.push(messages::interrupt(call.clone()));
        }
        if is_watched || round.not_found.contains(&run) {
            return delivery.accept();
        }
        round.push(run.clone(), Event::Leased { call, worker });
        round.signals.push((run, delivery));
    }

    /// Adds a run command to the batch; an inactive run is read from the logbook.
    pub(super) async fn on_command(
        &mut self,
        run: RunId,
        shard: Option<&Shard>,
        wish: RunCommand,
        answer: Option<ReplyTo>,
        round: &mut Batch,
    ) {
        self.load_inactive(&run, shard, round).await;
        let event = match wish {
            RunCommand::Cancel => Event::Cancel,
            RunCommand::Suspend => Event::Suspend,
            RunCommand::Resume => Event::Resume,
            RunCommand::Retry => Event::Retry,
            RunCommand::Skip { task, reason } => Event::Skip { task, reason },
            RunCommand::TaskNotification(heard) => Event::TaskNotification(heard),
            RunCommand::Notify { task, answer, key } => Event::Notify { task, result: answer, key },
            RunCommand::Edit { revision, flow } => {
                // Declares what the new tasks need on the broker now; otherwise the first job without a queue would
                // declare it later.
                let shard = self.runs.get(&run).map(|live| live.shard.clone());
                let listened = match &shard {
                    Some(shard) => self.tools.declared.bind_listeners(&flow, shard).await,
                    None => Ok(()),
                };
                if let Err(error) = listened.and(self.tools.declared.declare_within(&flow).await) {
                    warn!(%run, %error, "the queues of an edited flow could not be declared");
                }
                Event::Edit { revision, flow }
            }
        };
        self.enqueue(RunEvent { run, event, reply_to: answer }, round);
    }

    /// Adds an event to the batch, or holds it for a stale run whose records must be read first.
    pub(super) fn enqueue(&mut self, happened: RunEvent, round: &mut Batch) {
        match self.stale.get_mut(&happened.run) {
            Some(lost) => lost.pending.push(happened),
            None => round.events.push(happened),
        }
    }
}
