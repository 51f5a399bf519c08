//! Reads runs from the logbook: the runs of a shard that is taken over, inactive runs that receive a message, and ended runs with
//! unpublished changes. `stale.rs` reads runs whose append failed, and those that take long.

use std::collections::{BTreeMap, BTreeSet};

use flow::{RunId, RunState, Shard};
use logbook::{Filter, History, LoadError, Version};
use machine::Event;
use protocol::RunCommand;
use tracing::{debug, error, warn};

use super::{Batch, Driver, decisions::PendingWork};
use crate::{
    loads::{self, LoadedRun, LongRun, MAX_INLINE_BYTES, MAX_INLINE_RECORDS, SendState},
    permits::{
        calls::{EndedCalls, split_paced},
        client::DispatchHistory,
    },
    runs::{ActiveRun, StaleRun, is_inactive},
};

/// Maximum number of ended runs that are republished at once; more follow after these. An engine ends about as many
/// in some seconds, so it leaves about as many when it dies.
const MAX_REPUBLISHED_RUNS: usize = 1_000;

/// A run that was looked up in the logbook.
pub(super) enum LookedUpRun {
    Loaded(Box<LoadedRun>),
    /// It has many records, or large ones.
    Long(Box<LongRun>),
}

/// Runs of a shard.
impl Driver {
    /// Reads the open runs of a shard, as many as one batch reads: the others are stale until later batches have read them. Unanswered
    /// calls are sent again later, when it is known which answers wait in the queue.
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
            if let Some(known) = self.runs.stale_mut(&run) {
                // It is read, or about to be, with what is held for it. Its shard may not have been known.
                let of_shard = known.shard.get_or_insert_with(|| shard.clone());
                known.awaits_barrier |= *of_shard == *shard;
                self.is_reloading |= is_available;
                continue;
            }
            let stale = StaleRun { awaits_barrier: true, ..StaleRun::of(Some(shard)) };
            if !is_available || !batch.has_room() {
                self.runs.mark_stale(run, stale);
                self.is_reloading |= is_available;
                continue;
            }
            match self.find(&run, SendState::default(), batch).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let LoadedRun { active, unpublished, .. } = *loaded;
                    self.publications.republish(&run, &active, unpublished);
                    // Its unanswered calls are sent again with the barrier.
                    self.insert_before_held(&run, active, batch);
                }
                Ok(LookedUpRun::Long(long)) => self.begin_load(&run, stale, *long),
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "the run cannot be read: it is stopped");
                    self.runs.mark_unreadable(run, Some(shard));
                }
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Unavailable { .. }) => {
                    warn!(%run, %error, "the run cannot go on yet");
                    let (stale, is_answered) = self.after_failed_read(&run, stale).await;
                    is_available = is_answered;
                    self.runs.mark_stale(run, stale);
                }
            }
        }
        self.load_suspended_listeners(shard, batch).await?;
        self.load_unpublished(shard, batch).await?;
        Ok(count)
    }

    /// Records the listeners of a shard's suspended runs: a suspended run still receives notifications, and continues
    /// from there. Those that one batch does not read are stale until later batches have read them.
    async fn load_suspended_listeners(&mut self, shard: &Shard, batch: &mut Batch) -> Result<(), LoadError> {
        let (of_shard, states) = (Some(shard.clone()), vec![RunState::Suspended]);
        let filter = Filter { shard: of_shard, states, limit: usize::MAX >> 1, ..Filter::default() };
        let suspended = self.context.logbook.list(&filter).await?;
        for run in suspended.into_iter().map(|summary| summary.run) {
            if !batch.has_room() {
                if !self.runs.is_known(&run) {
                    self.runs.mark_stale(run, StaleRun::of(Some(shard)));
                    self.is_reloading = true;
                }
                continue;
            }
            match self.find(&run, SendState::default(), batch).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let ActiveRun { machine, shard, .. } = &loaded.active;
                    self.declare_beside(&run, machine.flow(), shard);
                    self.listeners.update(shard, machine);
                }
                Ok(LookedUpRun::Long(long)) if !self.runs.is_known(&run) => {
                    self.begin_load(&run, StaleRun::of(Some(shard)), *long);
                }
                Ok(LookedUpRun::Long(_)) => {}
                Err(error @ LoadError::Unavailable { .. }) => self.retry_read(run, shard, error).await?,
                Err(error @ (LoadError::Missing { .. } | LoadError::Damaged { .. })) => {
                    warn!(%run, %error, "the listeners of a suspended run could not be read");
                }
            }
        }
        Ok(())
    }

    /// An inactive run could not be read: it is tried again.
    ///
    /// # Errors
    /// The error, when the logbook does not answer.
    async fn retry_read(&mut self, run: RunId, shard: &Shard, error: LoadError) -> Result<(), LoadError> {
        let (stale, is_answered) = self.after_failed_read(&run, StaleRun::of(Some(shard))).await;
        if !is_answered {
            return Err(error);
        }
        warn!(%run, %error, "the run cannot be read yet");
        self.runs.mark_stale(run, stale);
        Ok(())
    }

    /// Lets the next iteration send unanswered calls of a shard's runs again: every answer that waited in its queue is received, and decided
    /// by then. Answers to the runs that wait for another probe were put behind this one.
    pub(super) fn resend_outstanding(&mut self, shard: &Shard) {
        let at_probe: BTreeSet<&RunId> = self.resend_at_probe.values().collect();
        let of_shard = self.runs.of_shard(shard).map(|(run, _)| run).filter(|run| !at_probe.contains(run));
        self.resend_next.extend(of_shard.cloned());
    }

    /// Sends the calls of a run again that were unanswered when it was loaded, and still are. From now on its calls may expire, and its
    /// timers count.
    pub(super) fn resend_outstanding_calls(&mut self, run: &RunId) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let outstanding = std::mem::take(&mut active.outstanding_at_load);
        active.awaits_answers = false;
        let mut pending = PendingWork::of(&active.machine);
        pending.calls.retain(|call| outstanding.contains(call));
        self.resend(run, pending);
        self.runs.update_due(run);
    }

    /// A run is no longer in memory, so that a later load decides when its calls are sent again. Returns whether they waited for a probe
    /// behind answers that are still in the queue.
    pub(super) fn cancel_resend(&mut self, run: &RunId) -> bool {
        self.resend_next.remove(run);
        for returned in &mut self.returned {
            returned.forget_resend(run);
        }
        self.resend_at_probe.extract_if(.., |_, waiting| *waiting == *run).count() > 0
    }

    /// Continues a run where its records end. Its unanswered calls are sent again later: answers to them may wait in the
    /// queue. Until then they do not expire.
    pub(super) fn insert_before_resend(&mut self, run: RunId, active: ActiveRun, batch: &mut Batch) {
        let (paced, others) = split_paced(&active.machine);
        let outstanding_at_load = others.into_iter().collect();
        let awaits_answers = active.machine.outstanding_calls().next().is_some();
        self.insert(run.clone(), ActiveRun { outstanding_at_load, awaits_answers, ..active });
        // Their permits arrive behind every answer that waits in the queue.
        self.resend(&run, PendingWork { calls: paced, ..PendingWork::default() });
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
        let is_new =
            |run: &RunId, version: Version| !self.runs.is_known(run) && !self.runs.is_inactive_at(run, version);
        let new = open.iter().filter(|(run, version)| is_new(run, **version)).map(|(run, _)| run.clone());
        for run in new.collect::<Vec<_>>() {
            warn!(%run, %shard, "another engine started the run: it is driven here");
            let awaits_barrier = self.shards.awaits_barrier(shard);
            self.runs.mark_stale(run, StaleRun { awaits_barrier, ..StaleRun::of(Some(shard)) });
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
            Ok(Some(active)) => {
                batch.count_load(0);
                Ok(LookedUpRun::Loaded(Box::new(LoadedRun::of(active))))
            }
            Ok(None) => self.find(run, SendState::default(), batch).await,
            Err(error) => Err(error),
        };
        let shard_of = |found: &LookedUpRun| match found {
            LookedUpRun::Loaded(loaded) => loaded.active.shard.clone(),
            LookedUpRun::Long(long) => long.info.shard.clone(),
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
            Ok(LookedUpRun::Long(long)) => {
                let stale = StaleRun::of(Some(&long.info.shard));
                self.begin_load(run, stale, *long);
            }
            Err(LoadError::Missing { .. }) => drop(batch.not_found.insert(run.clone())),
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is stopped");
                self.runs.mark_unreadable(run.clone(), shard);
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot be read yet");
                self.runs.mark_stale(run.clone(), StaleRun::of(shard));
            }
        }
    }

    /// The state of an ended run of a shard that is driven here, if the command does not apply to ended runs: then the run need not be
    /// read to refuse the command.
    pub(super) async fn ended_state(&self, run: &RunId, command: &RunCommand, batch: &mut Batch) -> Option<RunState> {
        if self.runs.is_known(run) || may_apply_to_ended(command) {
            return None;
        }
        batch.count_load(0);
        let info = self.context.logbook.summary(run).await.ok()?.info;
        (info.state.is_final() && self.shards.owns(&info.shard)).then_some(info.state)
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
        let pending = PendingWork::of(&active.machine);
        self.insert(run.clone(), active);
        self.resend(&run, pending);
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
        self.call_queue.remove_run(&run);
        self.runs.note_driven(&run);
        self.runs.insert(run, active);
    }

    /// Sends calls and fetches that may have been sent before. The jobs follow in their turns.
    fn resend(&mut self, run: &RunId, PendingWork { calls, fetches }: PendingWork) {
        for call in calls {
            self.dispatch_call(call, DispatchHistory::MaybeSent);
        }
        for fetch in fetches {
            self.fetches.send(run.clone(), fetch);
        }
        self.release_ended(run, &EndedCalls::Any);
    }

    /// Finds a run that was in memory until recently.
    async fn find_recent(&mut self, run: &RunId) -> Result<Option<ActiveRun>, LoadError> {
        if !self.recent.contains(run) {
            return Ok(None);
        }
        Ok(self.recent.take(&self.context.logbook.summary(run).await?))
    }

    /// Finds a run in the logbook, and reads it if that takes some tens of milliseconds at most. It counts in the batch in any case: the
    /// driver waits for the answer also if the run is long, or cannot be read.
    pub(super) async fn find(
        &self,
        run: &RunId,
        send_state: SendState,
        batch: &mut Batch,
    ) -> Result<LookedUpRun, LoadError> {
        let found = self.context.logbook.load_size(run, MAX_INLINE_RECORDS).await;
        let is_read_here = |bytes: &u64| *bytes <= MAX_INLINE_BYTES;
        batch.count_load(found.as_ref().ok().map(|(_, bytes)| *bytes).filter(is_read_here).unwrap_or_default());
        let (summary, bytes) = found?;
        if !is_read_here(&bytes) {
            let long = LongRun { info: summary.info, latest: summary.version, history: None };
            return Ok(LookedUpRun::Long(Box::new(long)));
        }
        let history = self.context.logbook.load_within(run, MAX_INLINE_RECORDS).await?;
        if loads::is_long(&history, send_state) {
            let long = LongRun { info: history.info.clone(), latest: history.latest, history: Some(history) };
            return Ok(LookedUpRun::Long(Box::new(long)));
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
    /// Reads the ended or suspended runs of a shard that may have unpublished changes. Those that one batch does not read are searched
    /// again later.
    ///
    /// # Errors
    /// [`LoadError`] when runs cannot be read; the runs read before it are still republished.
    async fn load_unpublished(&mut self, shard: &Shard, batch: &mut Batch) -> Result<(), LoadError> {
        self.publications.set_searched(shard);
        let runs = self.context.logbook.unpublished_runs(shard, MAX_REPUBLISHED_RUNS).await?;
        if runs.len() == MAX_REPUBLISHED_RUNS {
            self.publications.add_unsearched(shard.clone());
        }
        for run in runs {
            if self.runs.is_known(&run) || self.publications.cursors.is_publishing(&run) {
                continue;
            }
            if !batch.has_room() {
                self.publications.add_unsearched(shard.clone());
                break;
            }
            match self.find(&run, SendState::default(), batch).await {
                Ok(LookedUpRun::Loaded(loaded)) => {
                    let LoadedRun { active, unpublished, .. } = *loaded;
                    self.publications.republish(&run, &active, unpublished);
                }
                Ok(LookedUpRun::Long(long)) => self.begin_load(&run, StaleRun::of(Some(shard)), *long),
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "the unpublished changes of the run cannot be read");
                }
                Err(error @ LoadError::Unavailable { .. }) => self.retry_read(run, shard, error).await?,
            }
        }
        Ok(())
    }

    /// Reads more unpublished runs, once the previous ones are published.
    pub(super) async fn load_more_unpublished(&mut self, batch: &mut Batch) {
        for shard in self.publications.unsearched(|run| self.runs.is_active(run)) {
            if let Err(error) = self.load_unpublished(&shard, batch).await {
                warn!(%shard, %error, "the ended runs of the shard could not be listed");
                self.publications.add_unsearched(shard);
            }
        }
    }
}

/// Whether a command may have an effect on a run that has ended, or an answer that depends on more than the state of the run.
fn may_apply_to_ended(command: &RunCommand) -> bool {
    match command {
        RunCommand::Retry | RunCommand::Skip { .. } | RunCommand::Edit { .. } => true,
        // The notification may have been received before the end.
        RunCommand::Notify { key, .. } => key.is_some(),
        RunCommand::Cancel | RunCommand::Suspend | RunCommand::Resume | RunCommand::TaskNotification(_) => false,
    }
}
