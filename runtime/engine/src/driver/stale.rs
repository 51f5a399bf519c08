//! Runs that cannot be read at once: those whose append failed, those that take long to read, and those that cannot be read. What
//! arrives for them is held within limits; here is also what becomes of the rest.

use std::{collections::BTreeMap, time::Duration};

use broker::{Delivery, quarantined};
use flow::{RunId, Shard};
use logbook::LoadError;
use machine::Event;
use protocol::{Reply, Report, topology as names};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Batch, Driver, load::LookedUpRun};
use crate::{
    WatchEvent,
    clock::TICK,
    deferred::MAX_BATCH_DEFERRED,
    effects::{Effects, ReplyTo},
    loads::{self, EndedLoad, LoadedRun, LongRun},
    messages,
    requeued::RequeuedDelivery,
    runs::{
        ActiveRun, HeldDeliveries, Hold, LoadProgress, MAX_FAILED_READS, RunEvent, StaleRun, UnknownListeners,
        is_inactive,
    },
    shards::ShardDelivery,
};

/// How long a run is left alone that cannot be read, although the logbook answers about it: its records may be too large for the
/// database, and each try takes time from other loads.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

/// The reply to a command for a run that is read, when too much is held for it.
pub(super) const TOO_MANY_HELD: &str =
    "the run is being read from the logbook, and too many commands wait for it: try it again";

/// A delivery that was held, and is received again.
pub(super) struct ReturnedDelivery {
    delivery: ShardDelivery,
    /// Runs whose unanswered calls are sent again behind it.
    resends: Vec<RunId>,
}

impl ReturnedDelivery {
    /// The unanswered calls of a run are not sent again behind it.
    pub(super) fn forget_resend(&mut self, run: &RunId) {
        self.resends.retain(|other| other != run);
    }
}

/// Reading them.
impl Driver {
    /// Reads the records of stale runs, as many as one batch reads; each run that can be read continues from there. If the logbook does
    /// not answer, the rest waits for the next tick.
    pub(super) async fn reload_stale(&mut self, batch: &mut Batch) {
        let mut runs = self.runs.take_due_stale(MAX_BATCH_DEFERRED);
        let mut has_more = runs.len() == MAX_BATCH_DEFERRED;
        let mut unread = BTreeMap::new();
        while let Some((run, stale)) = runs.pop_first() {
            if !batch.has_room_to_reload() {
                unread.insert(run, stale);
                has_more = true;
                break;
            }
            let found = self.find(&run, stale.send_state(), batch).await;
            let Some(stale) = self.continue_stale(&run, stale, found, batch) else { continue };
            let (stale, is_answered) = self.after_failed_read(&run, stale).await;
            unread.insert(run, stale);
            if !is_answered {
                has_more = false;
                break;
            }
        }
        unread.append(&mut runs);
        self.runs.return_stale(unread);
        self.is_reloading = has_more;
    }

    /// A run could not be read. Returns whether the logbook answers about it: then its records may be the reason, and after several such
    /// reads the run is left alone for some time.
    pub(super) async fn after_failed_read(&self, run: &RunId, stale: StaleRun) -> (StaleRun, bool) {
        let info = match self.context.logbook.summary(run).await {
            Ok(summary) => Some(summary.info),
            Err(LoadError::Missing { .. } | LoadError::Damaged { .. }) => None,
            Err(LoadError::Unavailable { .. }) => return (StaleRun { load: LoadProgress::Due, ..stale }, false),
        };
        let (now, failed_reads) = (Instant::now(), stale.failed_reads.saturating_add(1));
        let load = if failed_reads < MAX_FAILED_READS {
            LoadProgress::Due
        } else {
            error!(%run, failed_reads, "only this run cannot be read: it is tried again later, and misses notifications in the end");
            LoadProgress::Paused(now + UNREADABLE_PAUSE)
        };
        let has_ended = stale.has_ended || info.as_ref().is_some_and(|info| info.state.is_final());
        let shard = stale.shard.clone().or(info.map(|info| info.shard));
        (StaleRun { shard, has_ended, load, failed_reads, retry_at: Some(now + TICK), ..stale }, true)
    }

    /// Continues a stale run from its records, or begins to read them. Returns the run if the logbook is unavailable.
    fn continue_stale(
        &mut self,
        run: &RunId,
        stale: StaleRun,
        found: Result<LookedUpRun, LoadError>,
        batch: &mut Batch,
    ) -> Option<StaleRun> {
        match found {
            Ok(LookedUpRun::Loaded(loaded)) => self.continue_loaded(run, stale, *loaded, batch),
            Ok(LookedUpRun::Long(long)) => {
                self.begin_load(run, stale, *long);
                for delivery in self.runs.take_excess(run) {
                    self.turn_away(run, delivery, &mut batch.effects);
                }
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot go on yet");
                return Some(StaleRun { load: LoadProgress::Due, ..stale });
            }
            Err(error @ LoadError::Missing { .. }) => {
                warn!(%run, %error, "the run did not begin");
                self.permits.remove_run(run);
                drop(stale.give_up(&Reply::Failed(error.to_string())));
            }
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is stopped");
                self.permits.remove_run(run);
                let shard = stale.shard.clone();
                let held = stale.give_up(&Reply::Failed(error.to_string()));
                self.runs.mark_unreadable(run.clone(), shard.as_ref());
                self.return_held(shard.as_ref(), held);
            }
        }
        None
    }

    /// Continues a stale run that was read, with everything that arrived for it meanwhile.
    fn continue_loaded(&mut self, run: &RunId, mut stale: StaleRun, loaded: LoadedRun, batch: &mut Batch) {
        let LoadedRun { active, unpublished, unwatched } = loaded;
        // An adopted run has its new shard in no record yet.
        let shard = stale.shard.clone().unwrap_or_else(|| active.shard.clone());
        if self.shards.term(&shard).is_none() || !self.shards.owns(&shard) {
            return stale.requeue_deliveries();
        }
        if let Some(watcher) = &stale.watcher {
            let events = unwatched.into_iter().map(|change| (watcher.clone(), WatchEvent::Change(change)));
            batch.effects.watch_events.extend(events);
        }
        let active = ActiveRun { shard: shard.clone(), watcher: stale.watcher.take(), ..active };
        self.publications.republish(run, &active, unpublished);
        self.insert_with_held(run, active, StaleRun { shard: Some(shard), ..stale }, batch);
    }

    /// Puts a run into memory that was stale, with everything that arrived for it from the queue of the shard that it had then. Its
    /// unanswered calls are sent again behind that.
    pub(super) fn insert_with_held(&mut self, run: &RunId, active: ActiveRun, mut stale: StaleRun, batch: &mut Batch) {
        batch.events.extend(stale.take_clock_changes(active.version).map(|event| RunEvent::new(run.clone(), event)));
        let shard = active.shard.clone();
        let is_resent = self.insert_before_held(run, active, batch);
        // They come before the calls are sent again.
        let leased = stale.heartbeats.into_iter().map(|(call, worker)| Event::Leased { call, worker });
        batch.events.extend(leased.map(|event| RunEvent::new(run.clone(), event)));
        batch.events.extend(stale.pending);
        self.return_held(stale.shard.as_ref(), stale.held);
        let requeued = stale.shard.as_ref().map(|shard| self.requeued.take_run(shard, run)).unwrap_or_default();
        let requeued = requeued.into_iter().map(|delivery| ReturnedDelivery { delivery, resends: Vec::new() });
        self.returned.extend(requeued);
        // If an adopted run has another shard now, no probe or barrier of its old one comes for it.
        let is_of_queue = stale.shard.as_ref() == Some(&shard);
        if is_resent && stale.is_requeued && is_of_queue {
            self.resend_behind_queue(run, &shard, batch);
        } else if is_resent && !(stale.awaits_barrier && is_of_queue) {
            self.resend_behind_held(run);
        }
    }

    /// Sends the unanswered calls of a run again once all messages that are in the queue of its shard now are received: there are answers
    /// among them.
    fn resend_behind_queue(&mut self, run: &RunId, shard: &Shard, batch: &mut Batch) {
        batch.effects.messages.push(self.shards.probe(shard));
        self.resend_at_probe.insert((shard.clone(), self.shards.last_probe()), run.clone());
    }

    /// A probe of this engine has returned: the next iteration sends the calls again that waited for it, once what was received before it
    /// is decided. A probe of a tick may overtake it.
    pub(super) fn resend_after_probe(&mut self, shard: &Shard, number: u64) {
        self.resend_next.extend(self.resend_at_probe.remove(&(shard.clone(), number)));
    }

    /// Puts a run into memory that its row in the logbook calls open, or for which something is held. Returns whether its unanswered calls
    /// have to be sent again, behind what is held. The records decide whether it goes on, and not the row: an earlier waft may have written
    /// records that this one understands otherwise.
    pub(super) fn insert_before_held(&mut self, run: &RunId, active: ActiveRun, batch: &mut Batch) -> bool {
        // While it was read, the answers of its workers may have been put behind the probes that measure their leases.
        self.leases.renew_of(&active.shard, &active.machine);
        let (state, version) = (active.machine.state(), active.version);
        if is_inactive(state) {
            debug!(%run, %state, "the run has nothing to do: no engine drives it");
            self.activate(run.clone(), active, batch);
            self.runs.note_inactive(run, version);
            return false;
        }
        self.insert_before_resend(run.clone(), active, batch);
        true
    }

    /// Sends the unanswered calls of a run again once everything that was held is received and handled.
    pub(super) fn resend_behind_held(&mut self, run: &RunId) {
        match self.returned.back_mut() {
            Some(last) => last.resends.push(run.clone()),
            None => drop(self.resend_next.insert(run.clone())),
        }
        self.defer(RunEvent::new(run.clone(), Event::Tick));
    }

    /// Begins to read a run beside the driver, or lets it wait until there is room for it.
    pub(super) fn begin_load(&mut self, run: &RunId, stale: StaleRun, LongRun { info, latest, history }: LongRun) {
        let has_ended = info.state.is_final();
        // Until it is read, notifications are held for it, and they arrive only where its queue is bound.
        if let Some(flow) = history.as_ref().and_then(loads::known_flow)
            && !has_ended
        {
            self.declare_beside(run, flow, &info.shard);
        }
        let load = if self.loads.may_begin() {
            info!(%run, records = latest.get(), "the run has many records, or large ones: it goes on once they are read");
            LoadProgress::Running(self.loads.start(run, history, stale.send_state()))
        } else {
            self.loads.wait(info.flow.namespace(), run.clone());
            LoadProgress::Waiting
        };
        let shard = stale.shard.clone().or(Some(info.shard));
        self.runs.replace_stale(run.clone(), StaleRun { shard, has_ended, load, ..stale });
    }

    /// Begins to read the runs that wait, as far as there is room.
    pub(super) fn start_loads(&mut self) {
        while self.loads.has_room()
            && let Some(run) = self.loads.next_waiting()
        {
            // It may have been dropped since, or adopted.
            if let Some(stale) = self.runs.waiting_mut(&run) {
                stale.load = LoadProgress::Running(self.loads.start(&run, None, stale.send_state()));
            }
        }
    }

    /// Continues a run whose records were read beside the driver.
    pub(super) async fn finish_load(&mut self, ended: EndedLoad, batch: &mut Batch) {
        let EndedLoad { id, run, result } = ended;
        let Some(stale) = self.runs.take_loaded(&run, id) else { return };
        let found = result.map(|loaded| LookedUpRun::Loaded(Box::new(loaded)));
        if let Some(stale) = self.continue_stale(&run, stale, found, batch) {
            let (stale, _) = self.after_failed_read(&run, stale).await;
            self.runs.replace_stale(run, stale);
        }
        self.return_held_notifications(batch);
    }
}

/// What arrives for them.
impl Driver {
    /// Holds a delivery for a stale run; returns it if the run is not stale.
    pub(super) fn hold_for_stale(
        &mut self,
        run: &RunId,
        delivery: Delivery,
        effects: &mut Effects,
    ) -> Option<Delivery> {
        match self.runs.hold_for_stale(run, delivery) {
            Hold::NotNeeded(delivery) => Some(delivery),
            Hold::Held => None,
            Hold::TooMany(delivery) => {
                self.turn_away(run, delivery, effects);
                None
            }
        }
    }

    /// Holds a delivery for a corrupt run; returns it if the run is not corrupt.
    pub(super) fn hold_for_corrupt(
        &mut self,
        run: &RunId,
        delivery: Delivery,
        effects: &mut Effects,
    ) -> Option<Delivery> {
        if messages::is_request(&delivery) && self.runs.is_corrupt(run) {
            // Its sender has the answer that the run cannot be read.
            effects.to_accept.push(delivery);
            return None;
        }
        match self.runs.hold_for_corrupt(run, delivery) {
            Hold::NotNeeded(delivery) => Some(delivery),
            Hold::Held => None,
            Hold::TooMany(delivery) => {
                self.turn_away(run, delivery, effects);
                None
            }
        }
    }

    /// Removes a delivery from the queue for which nothing can be held, so that it blocks no other, and loses nothing.
    ///
    /// What its sender repeats by itself is dropped, and a command is refused. A report for a run that is being read goes to the end of
    /// its queue, mostly with the next tick; with a broker in this process it is held nevertheless, since it takes as much memory there. A
    /// report for a run that cannot be read goes to the quarantine, where an operator finds it once the run can be read: in the queue it
    /// would go round for ever.
    fn turn_away(&mut self, run: &RunId, delivery: Delivery, effects: &mut Effects) {
        match Report::open(&delivery.message.body, &self.context.secret) {
            Ok(
                Report::Heartbeat { .. }
                | Report::Started { .. }
                | Report::AskStart { .. }
                | Report::Progress(_)
                | Report::Probe { .. }
                | Report::DescribeEngine
                | Report::DescribePermits(_)
                | Report::PermitGrant(_),
            ) => return delivery.accept(),
            Ok(Report::Command(_)) => {
                if let Some(queue) = messages::reply_queue_of(&delivery) {
                    let correlation_id = delivery.message.properties.correlation_id.clone();
                    effects.reply(ReplyTo::Remote { queue, correlation_id }, Reply::Refused(TOO_MANY_HELD.into()));
                    effects.to_accept.push(delivery);
                    return;
                }
            }
            Ok(Report::Signal(..) | Report::NotStarted { .. } | Report::Released { .. }) | Err(_) => {}
        }
        let is_being_read = self.runs.is_being_read(run);
        if is_being_read && !self.context.is_durable {
            return self.runs.hold_anyway(run, delivery);
        }
        let shard = self.runs.shard_of_unread(run).cloned();
        if let Some(shard) = shard.as_ref().filter(|_| is_being_read) {
            return self.requeue_behind(Some(run), shard, delivery, effects);
        }
        // The key of a report is the name of its queue.
        let queue = shard.map_or_else(|| delivery.message.key.clone(), |shard| names::shard_queue(&shard));
        let reason = format!("run {run} cannot be read, and the engine holds no more messages for it");
        warn!(queue, reason, "a message is kept in waft.quarantine");
        effects.messages.push(quarantined(&delivery.message, &queue, &reason));
        effects.to_accept.push(delivery);
    }

    /// Puts a report, or a notification without a run, behind the other messages of its queue: now, or with the next tick.
    pub(super) fn requeue_behind(
        &mut self,
        run: Option<&RunId>,
        shard: &Shard,
        delivery: Delivery,
        effects: &mut Effects,
    ) {
        // Without a term its shard was just released, and the delivery goes back to the queue.
        let Some(term) = self.shards.term(shard) else { return };
        let delivery = ShardDelivery { shard: shard.clone(), term, delivery };
        if let Some(requeued) = self.requeued.push(RequeuedDelivery { run: run.cloned(), delivery }) {
            self.forward_requeued(requeued, effects);
        }
    }

    fn forward_requeued(&mut self, RequeuedDelivery { run, delivery }: RequeuedDelivery, effects: &mut Effects) {
        let ShardDelivery { shard, term: _, delivery } = delivery;
        effects.messages.push(messages::put_behind(&shard, &delivery));
        effects.to_accept.push(delivery);
        if let Some(run) = run
            && let Some(stale) = self.runs.stale_mut(&run)
        {
            stale.is_requeued = true;
        }
    }

    /// Puts the deliveries behind the other messages of their queues that waited for this tick. Those that wait for no read any more are
    /// received again.
    pub(super) fn continue_requeued(&mut self, effects: &mut Effects) {
        for requeued in self.requeued.take() {
            let is_being_read = match &requeued.run {
                Some(run) => self.runs.is_being_read(run),
                None => self.unknown_listeners(&requeued.delivery.shard) == UnknownListeners::BeingRead,
            };
            if is_being_read {
                self.forward_requeued(requeued, effects);
            } else {
                self.returned.push_back(ReturnedDelivery { delivery: requeued.delivery, resends: Vec::new() });
            }
        }
    }

    /// Lets deliveries that were held be received again, behind earlier ones, in the batches that have room for them.
    pub(super) fn return_held(&mut self, shard: Option<&Shard>, held: HeldDeliveries) {
        // Deliveries of a shard that was released since go back to its queue.
        let Some((shard, term)) = shard.and_then(|shard| Some((shard, self.shards.term(shard)?))) else { return };
        let returned = held.into_deliveries().map(|delivery| {
            let delivery = ShardDelivery { shard: shard.clone(), term, delivery };
            ReturnedDelivery { delivery, resends: Vec::new() }
        });
        self.returned.extend(returned);
    }

    /// Receives deliveries again that were held, as many as fit the batch, and at least one.
    pub(super) async fn receive_returned(&mut self, batch: &mut Batch) {
        while let Some(ReturnedDelivery { delivery, resends }) = self.returned.pop_front() {
            batch.count_message(delivery.delivery.message.body.len());
            self.resend_next.extend(resends);
            Box::pin(self.receive_delivery(delivery, batch)).await;
            if !batch.has_room() {
                break;
            }
        }
    }
}
