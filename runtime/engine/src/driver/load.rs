//! Reads runs from the logbook: the runs of a shard that is taken over, inactive runs that receive a message, stale runs
//! whose append failed, and ended runs with unpublished changes.

use std::{collections::BTreeMap, time::Duration};

use flow::{RunId, RunState, Shard};
use logbook::{Filter, History, LoadError, Version};
use machine::{Command, Event};
use protocol::Reply;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Batch, Driver};
use crate::{
    WatchEvent,
    loads::{self, EndedLoad, LoadedRun, MAX_INLINE_RECORDS, SendState},
    permits::{
        calls::{EndedCalls, split_paced},
        client::DispatchHistory,
    },
    runs::{ActiveRun, LoadProgress, RunEvent, StaleRun, is_inactive},
    shards::ShardDelivery,
};

/// Maximum number of ended runs that are republished at once; more follow after these. An engine ends about as many
/// in some seconds, so it leaves about as many when it dies.
const MAX_REPUBLISHED_RUNS: usize = 1_000;

/// How long a run is left alone that cannot be read, although the logbook answers about it: its records may be too large for the
/// database, and each try takes time from the other runs.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

/// A run that was looked up in the logbook.
enum LookedUpRun {
    Loaded(Box<LoadedRun>),
    /// It has many records, of which these are the first.
    Long(Box<History>),
}

/// Stale runs.
impl Driver {
    /// Reads the records of stale runs; each run that can be read continues from there. If the logbook does not answer, the
    /// rest waits for the next tick.
    pub(super) async fn reload_stale(&mut self, batch: &mut Batch) {
        let mut runs = self.runs.take_stale(self.loads.has_room());
        let mut unread = BTreeMap::new();
        while let Some((run, stale)) = runs.pop_first() {
            if matches!(stale.load, LoadProgress::Waiting) && !self.loads.has_room() {
                self.runs.replace_stale(run, stale);
                continue;
            }
            let found = self.find(&run, stale.send_state()).await;
            let Err(stale) = self.continue_stale(&run, stale, found, batch).await else { continue };
            let is_answered = self.is_answered_about(&run).await;
            let stale = if is_answered { paused(&run, stale) } else { stale };
            unread.insert(run, stale);
            if !is_answered {
                break;
            }
        }
        unread.append(&mut runs);
        self.runs.return_stale(unread);
    }

    /// Whether the logbook answers, so that only the records of this run cannot be read.
    async fn is_answered_about(&self, run: &RunId) -> bool {
        !matches!(self.context.logbook.summary(run).await, Err(LoadError::Unavailable { .. }))
    }

    /// Continues a stale run from its records, or begins to read them. Returns the run if the logbook is unavailable.
    async fn continue_stale(
        &mut self,
        run: &RunId,
        stale: StaleRun,
        found: Result<LookedUpRun, LoadError>,
        batch: &mut Batch,
    ) -> Result<(), StaleRun> {
        match found {
            Ok(LookedUpRun::Loaded(loaded)) => self.continue_loaded(run, stale, *loaded, batch).await,
            Ok(LookedUpRun::Long(history)) => self.begin_load(run, stale, *history),
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot go on yet");
                return Err(StaleRun { load: LoadProgress::Due, ..stale });
            }
            Err(error @ LoadError::Missing { .. }) => {
                warn!(%run, %error, "the run did not begin");
                self.permits.remove_run(run);
                drop(stale.give_up(&Reply::Failed(error.to_string())));
            }
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is stopped");
                self.permits.remove_run(run);
                let deliveries = stale.give_up(&Reply::Failed(error.to_string()));
                self.runs.mark_unreadable(run.clone(), deliveries);
            }
        }
        Ok(())
    }

    /// Continues a stale run that was read, with everything that arrived for it meanwhile.
    async fn continue_loaded(&mut self, run: &RunId, mut stale: StaleRun, loaded: LoadedRun, batch: &mut Batch) {
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
        batch.events.extend(stale.take_clock_changes(active.version).map(|event| RunEvent::new(run.clone(), event)));
        let active = ActiveRun { shard: shard.clone(), watcher: stale.watcher, ..active };
        self.publications.republish(run, &active, unpublished);
        self.continue_before_held(run, active, stale.awaits_barrier, batch);
        let StaleRun { pending, deliveries, .. } = stale;
        self.receive_held(StaleRun { pending, deliveries, ..StaleRun::of(Some(&shard)) }, batch).await;
    }

    /// Continues a run for which something is held: its unanswered calls are sent again behind that, with the barrier of its
    /// shard or in the next iteration.
    pub(super) fn continue_before_held(
        &mut self,
        run: &RunId,
        active: ActiveRun,
        awaits_barrier: bool,
        batch: &mut Batch,
    ) {
        if is_inactive(active.machine.state()) {
            return self.activate(run.clone(), active, batch);
        }
        self.insert_before_resend(run.clone(), active, batch);
        if !awaits_barrier {
            self.resend_next.insert(run.clone());
            self.deferred.push(RunEvent::new(run.clone(), Event::Tick));
        }
    }

    /// Receives what arrived for a stale run again, now that the run is in memory.
    pub(super) async fn receive_held(&mut self, stale: StaleRun, batch: &mut Batch) {
        batch.events.extend(stale.pending);
        // Deliveries of a shard that was released since go back to its queue.
        let Some((shard, term)) = stale.shard.and_then(|shard| Some((shard.clone(), self.shards.term(&shard)?))) else {
            return;
        };
        for delivery in stale.deliveries {
            let delivery = ShardDelivery { shard: shard.clone(), term, delivery };
            Box::pin(self.receive_delivery(delivery, batch)).await;
        }
    }

    /// Begins to read a run with many records beside the driver, or waits until there is room for it.
    fn begin_load(&mut self, run: &RunId, stale: StaleRun, history: History) {
        // Until it is read, notifications are held for it, and they arrive only where its queue is bound.
        if let Some(flow) = loads::known_flow(&history)
            && !history.info.state.is_final()
        {
            self.declare_beside(run, flow, &history.info.shard);
        }
        let load = if self.loads.has_room() {
            info!(%run, records = history.latest.get(), "the run has many records: it goes on once they are read");
            LoadProgress::Running(self.loads.start(history, stale.send_state()))
        } else {
            LoadProgress::Waiting
        };
        self.runs.replace_stale(run.clone(), StaleRun { load, ..stale });
    }

    /// Continues a run whose records were read beside the driver.
    pub(super) async fn finish_load(&mut self, ended: EndedLoad, batch: &mut Batch) {
        let EndedLoad { id, run, result } = ended;
        let Some(stale) = self.runs.take_loaded(&run, id) else { return };
        let found = result.map(|loaded| LookedUpRun::Loaded(Box::new(loaded)));
        if let Err(stale) = self.continue_stale(&run, stale, found, batch).await {
            self.runs.replace_stale(run, stale);
        }
        self.receive_held_notifications(batch).await;
    }

    /// Receives the held notifications again; those of shards whose listeners are not all known are held on.
    pub(super) async fn receive_held_notifications(&mut self, batch: &mut Batch) {
        let mut held = std::mem::take(&mut self.held_notifications);
        let is_received = |held: &mut ShardDelivery| {
            !self.shards.is_current(&held.shard, held.term) || !self.may_have_unknown_listeners(&held.shard)
        };
        let received: Vec<_> = held.extract_if(.., is_received).collect();
        self.held_notifications = held;
        for delivery in received {
            Box::pin(self.receive_delivery(delivery, batch)).await;
        }
    }
}

/// Runs of a shard.
impl Driver {
    /// Reads all open runs of a shard. Unanswered calls are sent again later, when it is known which answers wait in
    /// the queue.
    ///
    /// # Errors
    /// [`LoadError`] when the runs cannot be listed. A run that cannot be read is marked as stale.
    pub(super) async fn load_shard(&mut self, shard: &Shard, batch: &mut Batch) -> Result<usize, LoadError> {
        let open = self.context.logbook.open_runs(shard).await?;
        let count = open.len();
        let mut is_available = true;
        for (run, _) in open {
            if self.runs.is_active(&run) || self.runs.is_corrupt(&run) {
                continue;
            }
            if !is_available {
                self.runs.mark_stale(run, StaleRun { awaits_barrier: true, ..StaleRun::of(Some(shard)) });
                continue;
            }
            match self.find(&run, SendState::default()).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let LoadedRun { active, unpublished, .. } = *loaded;
                    self.publications.republish(&run, &active, unpublished);
                    self.insert_before_resend(run, active, batch);
                }
                Ok(LookedUpRun::Long(history)) => {
                    self.begin_load(&run, StaleRun { awaits_barrier: true, ..StaleRun::of(Some(shard)) }, *history)
                }
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "the run cannot be read: it is stopped");
                    self.runs.mark_unreadable(run, Vec::new());
                }
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Unavailable { .. }) => {
                    warn!(%run, %error, "the run cannot go on yet");
                    is_available = self.is_answered_about(&run).await;
                    let stale = StaleRun { awaits_barrier: true, ..StaleRun::of(Some(shard)) };
                    let stale = if is_available { paused(&run, stale) } else { stale };
                    self.runs.mark_stale(run, stale);
                }
            }
        }
        self.load_suspended_listeners(shard).await?;
        self.load_unpublished(shard).await?;
        Ok(count)
    }

    /// Records the listeners of a shard's suspended runs: a suspended run still receives notifications, and continues
    /// from there.
    async fn load_suspended_listeners(&mut self, shard: &Shard) -> Result<(), LoadError> {
        let (of_shard, states) = (Some(shard.clone()), vec![RunState::Suspended]);
        let filter = Filter { shard: of_shard, states, limit: usize::MAX >> 1, ..Filter::default() };
        let suspended = self.context.logbook.list(&filter).await?;
        for run in suspended.into_iter().map(|summary| summary.run) {
            match self.find(&run, SendState::default()).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let ActiveRun { machine, shard, .. } = &loaded.active;
                    self.declare_beside(&run, machine.flow(), shard);
                    self.listeners.update(shard, machine);
                }
                Ok(LookedUpRun::Long(history)) if !self.runs.is_known(&run) => {
                    self.begin_load(&run, StaleRun::of(Some(shard)), *history);
                }
                Ok(LookedUpRun::Long(_)) => {}
                Err(error @ LoadError::Unavailable { .. }) if !self.is_answered_about(&run).await => return Err(error),
                Err(error) => warn!(%run, %error, "the listeners of a suspended run could not be read"),
            }
        }
        Ok(())
    }

    /// Sends unanswered calls of a shard's runs again, now that every answer that waited in its queue is received.
    pub(super) fn resend_outstanding(&mut self, shard: &Shard, batch: &mut Batch) {
        let runs: Vec<RunId> = self.runs.of_shard(shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            self.resend_outstanding_calls(&run, batch);
        }
    }

    /// Sends the calls of a run again that were unanswered when it was loaded, and still are.
    pub(super) fn resend_outstanding_calls(&mut self, run: &RunId, batch: &mut Batch) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let outstanding = std::mem::take(&mut active.outstanding_at_load);
        // An answer in the current batch is not applied yet, so its call is still outstanding here and is sent
        // once too often.
        let mut commands = active.machine.pending();
        commands.retain(|command| call_id(command).is_none_or(|call| outstanding.contains(&call)));
        self.resend(run, commands, batch);
    }

    /// Continues a run where its records end. Its unanswered calls are sent again later: answers to them may wait in the
    /// queue.
    fn insert_before_resend(&mut self, run: RunId, active: ActiveRun, batch: &mut Batch) {
        let (paced, others) = split_paced(&active.machine, active.machine.pending());
        let outstanding = others.iter().filter_map(call_id).collect();
        self.insert(run.clone(), ActiveRun { outstanding_at_load: outstanding, ..active });
        // Their permits arrive behind every answer that waits in the queue.
        self.resend(&run, paced, batch);
        batch.push(run, Event::Tick);
    }

    /// This engine adopts one run of the shard. Notes the other open runs, so that their permits are not revoked.
    pub(super) async fn load_orphaned(&mut self, shard: &Shard) {
        match self.context.logbook.open_runs(shard).await {
            Ok(open) => self.runs.note_orphaned(open.into_iter().map(|(run, _)| run)),
            Err(error) => warn!(%shard, %error, "the other open runs of the shard could not be listed"),
        }
    }

    /// Compares one shard with the logbook; runs that differ are read again.
    ///
    /// They agree, unless records were added without the driver's knowledge. Example: the database commits an append
    /// after its reply was lost and the run was read again. Or an engine still appends although it no longer drives the
    /// shard. Mostly the next append meets a conflict, and the run is read again. But a run may have no next append, and
    /// would then wait for ever for something that is already written. So each shard is compared regularly.
    pub(super) async fn reconcile(&mut self) {
        // A broker that ends with this process has no other engines.
        if !self.is_lasting() {
            return;
        }
        let Some(shard) = self.shards.next_to_reconcile() else { return };
        match self.context.logbook.open_runs(&shard).await {
            Ok(open) => self.reload_changed(&shard, &open.into_iter().collect()),
            Err(error) => debug!(%shard, %error, "the runs of the shard could not be compared with the logbook"),
        }
    }

    fn reload_changed(&mut self, shard: &Shard, open: &BTreeMap<RunId, Version>) {
        for run in open.keys().filter(|run| !self.runs.is_known(run)).cloned().collect::<Vec<_>>() {
            warn!(%run, %shard, "another engine started the run: it is driven here");
            self.runs.mark_stale(run, StaleRun::of(Some(shard)));
        }
        // No append is running here, so a run is at the version of its last one.
        let is_ahead = |run: &RunId, known: Version| open.get(run).is_none_or(|version| *version > known);
        let of_shard = self.runs.of_shard(shard).filter(|(_, active)| !is_inactive(active.machine.state()));
        let ahead = of_shard.filter(|(run, active)| is_ahead(run, active.version)).map(|(run, _)| run.clone());
        for run in ahead.collect::<Vec<_>>() {
            warn!(%run, "another process appended to the run: it is read again");
            self.drop_machine(&run, true);
        }
    }
}

/// One run.
impl Driver {
    /// Loads the run that a message or request names. An inactive run is loaded for this batch; a run that cannot be
    /// read yet is marked as stale.
    pub(super) async fn load(&mut self, run: &RunId, shard: Option<&Shard>, batch: &mut Batch) {
        if self.runs.is_known(run) {
            return;
        }
        let found = match self.find_recent(run).await {
            Ok(Some(active)) => Ok(LookedUpRun::Loaded(Box::new(LoadedRun::of(active)))),
            Ok(None) => self.find(run, SendState::default()).await,
            Err(error) => Err(error),
        };
        let shard_of = |found: &LookedUpRun| match found {
            LookedUpRun::Loaded(loaded) => loaded.active.shard.clone(),
            LookedUpRun::Long(history) => history.info.shard.clone(),
        };
        match found {
            // The run was adopted since. The late message is forwarded to its new driver.
            Ok(found) if !self.shards.owns(&shard_of(&found)) => {
                batch.remote_runs.insert(run.clone(), shard_of(&found));
            }
            Ok(LookedUpRun::Loaded(loaded)) => {
                let LoadedRun { active, unpublished, .. } = *loaded;
                if !self.publications.cursors.is_publishing(run) {
                    self.publications.republish(run, &active, unpublished);
                }
                self.activate(run.clone(), active, batch);
            }
            Ok(LookedUpRun::Long(history)) => {
                let stale = StaleRun::of(Some(&history.info.shard));
                self.begin_load(run, stale, *history);
            }
            Err(LoadError::Missing { .. }) => drop(batch.not_found.insert(run.clone())),
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is stopped");
                self.runs.mark_unreadable(run.clone(), Vec::new());
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot be read yet");
                self.runs.mark_stale(run.clone(), StaleRun::of(shard));
            }
        }
    }

    /// Continues a run where its records end: unanswered calls are sent again. An inactive run stays for this batch,
    /// or until its events are handled.
    pub(super) fn activate(&mut self, run: RunId, active: ActiveRun, batch: &mut Batch) {
        if is_inactive(active.machine.state()) {
            self.permits.remove_run(&run);
            self.insert(run.clone(), ActiveRun { is_suspended: true, ..active });
            batch.loaded.insert(run);
            return;
        }
        let commands = active.machine.pending();
        self.insert(run.clone(), active);
        self.resend(&run, commands, batch);
        batch.push(run, Event::Tick);
    }

    /// Tells every part of a run that is in memory from now on.
    fn insert(&mut self, run: RunId, active: ActiveRun) {
        let (shard, machine) = (&active.shard, &active.machine);
        if !machine.state().is_final() {
            self.declare_beside(&run, machine.flow(), shard);
        }
        self.listeners.update(shard, machine);
        self.leases.watch(shard, machine);
        self.permits.hold_leased(self.context.clock.now(), shard, machine);
        // All its unanswered calls are sent again, also those that were being looked up.
        self.lookups.forget_run(&run);
        self.runs.note_driven(&run);
        self.runs.insert(run, active);
    }

    /// Performs commands that may have been performed before.
    fn resend(&mut self, run: &RunId, commands: Vec<Command>, batch: &mut Batch) {
        self.dispatch(run, commands, DispatchHistory::MaybeSent, &mut batch.effects);
        self.release_ended(run, &EndedCalls::Any);
    }

    /// Finds a run that was in memory until recently.
    async fn find_recent(&mut self, run: &RunId) -> Result<Option<ActiveRun>, LoadError> {
        if !self.recent.contains(run) {
            return Ok(None);
        }
        Ok(self.recent.take(&self.context.logbook.summary(run).await?))
    }

    /// Finds a run in the logbook, and reads it if that takes some milliseconds at most.
    async fn find(&self, run: &RunId, send_state: SendState) -> Result<LookedUpRun, LoadError> {
        let history = self.context.logbook.load_within(run, MAX_INLINE_RECORDS).await?;
        if loads::is_long(&history, send_state) {
            return Ok(LookedUpRun::Long(Box::new(history)));
        }
        Ok(LookedUpRun::Loaded(Box::new(self.read(history, send_state).await?)))
    }

    async fn read(&self, history: History, send_state: SendState) -> Result<LoadedRun, LoadError> {
        loads::read(self.context.logbook.clone(), history, send_state).await
    }

    /// Reads a run that another process left, however many records it has.
    pub(super) async fn read_orphaned(&self, run: &RunId) -> Result<LoadedRun, LoadError> {
        let history = self.context.logbook.load_within(run, MAX_INLINE_RECORDS).await?;
        self.read(history, SendState::default()).await
    }
}

/// Unpublished changes.
impl Driver {
    /// Reads the ended or suspended runs of a shard that may have unpublished changes.
    ///
    /// # Errors
    /// [`LoadError`] when runs cannot be read; the runs read before it are still republished.
    async fn load_unpublished(&mut self, shard: &Shard) -> Result<(), LoadError> {
        self.publications.set_searched(shard);
        let runs = self.context.logbook.unpublished_runs(shard, MAX_REPUBLISHED_RUNS).await?;
        if runs.len() == MAX_REPUBLISHED_RUNS {
            self.publications.add_unsearched(shard.clone());
        }
        for run in runs {
            if self.runs.is_known(&run) || self.publications.cursors.is_publishing(&run) {
                continue;
            }
            match self.find(&run, SendState::default()).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let LoadedRun { active, unpublished, .. } = *loaded;
                    self.publications.republish(&run, &active, unpublished);
                }
                Ok(LookedUpRun::Long(history)) => self.begin_load(&run, StaleRun::of(Some(shard)), *history),
                Err(error @ LoadError::Unavailable { .. }) if !self.is_answered_about(&run).await => return Err(error),
                Err(LoadError::Missing { .. }) => {}
                Err(error @ (LoadError::Damaged { .. } | LoadError::Unavailable { .. })) => {
                    error!(%run, %error, "the unpublished changes of the run cannot be read");
                }
            }
        }
        Ok(())
    }

    /// Reads more unpublished runs, once the previous ones are published.
    pub(super) async fn load_more_unpublished(&mut self) {
        for shard in self.publications.unsearched(|run| self.runs.is_active(run)) {
            if let Err(error) = self.load_unpublished(&shard).await {
                warn!(%shard, %error, "the ended runs of the shard could not be listed");
                self.publications.add_unsearched(shard);
            }
        }
    }
}

/// A run that is not tried again for some time.
fn paused(run: &RunId, stale: StaleRun) -> StaleRun {
    error!(%run, "only this run cannot be read: it is tried again later, and misses notifications until then");
    StaleRun { load: LoadProgress::Paused(Instant::now() + UNREADABLE_PAUSE), ..stale }
}

fn call_id(command: &Command) -> Option<flow::CallId> {
    match command {
        Command::Call(call) => Some(call.id.clone()),
        Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => None,
    }
}
