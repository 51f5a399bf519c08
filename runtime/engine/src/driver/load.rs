//! Reads runs from the logbook: the runs of a shard that is taken over, inactive runs that receive a message, stale runs
//! whose append failed, and ended runs with unpublished changes.

use std::collections::BTreeMap;

use flow::{RunId, RunState, Shard};
use logbook::{Filter, History, LoadError, Page, Replay, Version};
use machine::{Change, Command, Event, Machine, NodeChange};
use protocol::Reply;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::{Batch, Driver, catch_bug};
use crate::{
    WatchEvent,
    inbox::ShardDelivery,
    permits::{
        calls::{EndedCalls, split_paced},
        client::DispatchHistory,
    },
    runs::{ActiveRun, StaleRun, is_inactive},
};

/// Maximum number of ended runs that are republished at once; more follow after these. An engine ends about as many
/// in some seconds, so it leaves about as many when it dies.
const MAX_REPUBLISHED_RUNS: usize = 1_000;

/// Stale runs.
impl Driver {
    /// Reads the records of stale runs; each run that can be read continues from there. After the first failure the
    /// rest waits for the next tick.
    pub(super) async fn reload_stale(&mut self, batch: &mut Batch) {
        let mut runs = self.runs.take_stale();
        while let Some((run, stale)) = runs.pop_first() {
            if let Err(stale) = self.reload(&run, stale, batch).await {
                runs.insert(run, stale);
                return self.runs.return_stale(runs);
            }
        }
    }

    /// Reads the records of a stale run. Returns the run if the logbook is unavailable.
    async fn reload(&mut self, run: &RunId, stale: StaleRun, batch: &mut Batch) -> Result<(), StaleRun> {
        match self.load_for_publishing(run, stale.published).await {
            Ok((active, changes)) => {
                // An adopted run has its new shard in no record yet.
                let shard = stale.shard.clone().unwrap_or_else(|| active.shard.clone());
                let Some(term) = self.shards.term(&shard).filter(|_| self.shards.owns(&shard)) else {
                    stale.requeue_deliveries();
                    return Ok(());
                };
                if let Some(watcher) = &stale.watcher
                    && active.version > stale.published
                    && let Err(error) = self.watch_again(run, stale.published, watcher, batch).await
                {
                    warn!(%run, %error, "some changes of the run cannot be shown to its watcher");
                }
                let active = ActiveRun { shard: shard.clone(), watcher: stale.watcher, ..active };
                self.publications.republish(run, &active, changes, &self.context.secret);
                self.activate(run.clone(), active, batch);
                batch.events.extend(stale.pending);
                for delivery in stale.deliveries {
                    let delivery = ShardDelivery { shard: shard.clone(), term, delivery };
                    Box::pin(self.receive_delivery(delivery, batch)).await;
                }
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot go on yet");
                return Err(stale);
            }
            Err(error @ LoadError::Missing { .. }) => {
                warn!(%run, %error, "the run did not begin");
                self.permits.remove_run(run);
                drop(stale.give_up(&Reply::Failed(error.to_string())));
            }
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is left alone");
                self.permits.remove_run(run);
                let deliveries = stale.give_up(&Reply::Failed(error.to_string()));
                self.runs.mark_unreadable(run.clone(), deliveries);
            }
        }
        Ok(())
    }

    /// Sends a watcher the changes of records that were appended without a confirm, so that it has not received them.
    ///
    /// # Errors
    /// [`LoadError`] when the records cannot be read; the watcher then misses some changes.
    async fn watch_again(
        &self,
        run: &RunId,
        after: Version,
        watcher: &mpsc::Sender<WatchEvent>,
        batch: &mut Batch,
    ) -> Result<(), LoadError> {
        let mut replay = Replay::new(run.clone(), self.context.logbook.clone());
        loop {
            let Page { records, .. } = replay.read().await?;
            if records.is_empty() {
                return Ok(());
            }
            for record in &records {
                let applied = replay.apply(record)?;
                if applied.version > after {
                    let changes = applied.changes.into_iter();
                    let events = changes.map(|change| (watcher.clone(), WatchEvent::Change(change)));
                    batch.effects.watch_events.extend(events);
                }
            }
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
                self.runs.mark_stale(run, StaleRun::of(Some(shard)));
                continue;
            }
            match self.load_for_publishing(&run, Version::NONE).await {
                Ok((active, changes)) => {
                    self.publications.republish(&run, &active, changes, &self.context.secret);
                    let (paced, others) = split_paced(&active.machine, active.machine.pending());
                    let outstanding = others.iter().filter_map(call_id).collect();
                    self.insert(run.clone(), ActiveRun { outstanding_at_load: outstanding, ..active });
                    // Their permits arrive behind every answer that waits in the queue.
                    self.resend(&run, paced, batch);
                    batch.push(run, Event::Tick);
                }
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "the run cannot be read: it is left alone");
                    self.runs.mark_unreadable(run, Vec::new());
                }
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Unavailable { .. }) => {
                    warn!(%run, %error, "the run cannot go on yet");
                    self.runs.mark_stale(run, StaleRun::of(Some(shard)));
                    is_available = false;
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
        let filter = Filter { states: vec![RunState::Suspended], limit: usize::MAX >> 1, ..Filter::default() };
        let suspended = self.context.logbook.list(&filter).await?;
        let of_shard = suspended.into_iter().filter(|summary| summary.info.shard == *shard);
        for run in of_shard.map(|summary| summary.run) {
            match self.read(&run).await {
                Ok(active) => self.listeners.update(&active.shard, &active.machine),
                Err(error) => warn!(%run, %error, "what the suspended run listens to is not known"),
            }
        }
        Ok(())
    }

    /// Sends unanswered calls of a shard's runs again, now that every answer that waited in its queue is received.
    pub(super) fn resend_outstanding(&mut self, shard: &Shard, batch: &mut Batch) {
        let runs: Vec<RunId> = self.runs.of_shard(shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            let Some(active) = self.runs.get_mut(&run) else { continue };
            let outstanding = std::mem::take(&mut active.outstanding_at_load);
            // An answer in the current batch is not applied yet, so its call is still outstanding here and is sent
            // once too often.
            let mut commands = active.machine.pending();
            commands.retain(|command| call_id(command).is_none_or(|call| outstanding.contains(&call)));
            self.resend(&run, commands, batch);
        }
    }

    /// An adopted run of this shard is driven here: the other runs of the shard keep their permits.
    pub(super) async fn load_abandoned(&mut self, shard: &Shard) {
        match self.context.logbook.open_runs(shard).await {
            Ok(open) => self.runs.note_abandoned(open.into_iter().map(|(run, _)| run)),
            Err(error) => warn!(%shard, %error, "what other runs of the shard have is not known"),
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
            warn!(%run, "something was added to the run, and not by this engine: it is read again");
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
        match self.read_recent(run).await {
            Ok(active) if self.shards.owns(&active.shard) => self.activate(run.clone(), active, batch),
            // The run was adopted since. The late message is forwarded to its new driver.
            Ok(active) => drop(batch.remote_runs.insert(run.clone(), active.shard)),
            Err(LoadError::Missing { .. }) => drop(batch.not_found.insert(run.clone())),
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is left alone");
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
        self.listeners.update(shard, machine);
        self.leases.watch(shard, machine);
        self.permits.hold_leased(self.context.clock.now(), shard, machine);
        self.runs.note_driven(&run);
        self.runs.insert(run, active);
    }

    /// Performs commands that may have been performed before.
    fn resend(&mut self, run: &RunId, commands: Vec<Command>, batch: &mut Batch) {
        self.dispatch(run, commands, DispatchHistory::MaybeSent, &mut batch.effects);
        self.release_ended(run, &EndedCalls::Any);
    }

    /// Reads a run that may have been in memory until recently.
    async fn read_recent(&mut self, run: &RunId) -> Result<ActiveRun, LoadError> {
        if self.recent.contains(run)
            && let Some(active) = self.recent.take(&self.context.logbook.summary(run).await?)
        {
            if self.shards.owns(&active.shard) {
                self.declare(&active.machine, &active.shard).await;
            }
            return Ok(active);
        }
        self.read(run).await
    }

    async fn read(&self, run: &RunId) -> Result<ActiveRun, LoadError> {
        let history = self.context.logbook.load(run).await?;
        self.restore(run, history, |_, _| {}).await
    }

    /// Builds a run in memory from its history; calls `on_change` for each change in the records after its snapshot.
    async fn restore(
        &self,
        run: &RunId,
        history: History,
        on_change: impl FnMut(Version, Change) + Send,
    ) -> Result<ActiveRun, LoadError> {
        let (version, shard) = (history.version(), history.info.shard.clone());
        let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
        let damaged = |reason| LoadError::Damaged { run: run.clone(), reason };
        let machine = catch_bug(run, "reading it", || history.replay(on_change)).map_err(damaged)??;
        self.declare(&machine, &shard).await;
        Ok(ActiveRun::new(machine, version, snapshot, shard))
    }

    /// Declares what a run that comes into memory needs on the broker. A broker that lost its data has lost the queues too, and
    /// the queue of a shard is unbound from tasks while no run listens to them.
    async fn declare(&self, machine: &Machine, shard: &Shard) {
        let run = machine.run();
        if let Err(error) = self.context.topology.declare_within(machine.flow()).await {
            warn!(%run, %error, "the queues of a run's jobs could not be declared");
        }
        if let Err(error) = self.context.topology.bind_listeners(machine.flow(), shard).await {
            warn!(%run, %error, "the run does not receive notifications of the tasks that it listens to until it is read again");
        }
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
            match self.load_for_publishing(&run, Version::NONE).await {
                Ok((active, changes)) => self.publications.republish(&run, &active, changes, &self.context.secret),
                Err(error @ LoadError::Unavailable { .. }) => return Err(error),
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Damaged { .. }) => {
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
                warn!(%shard, %error, "the runs of the shard that have ended are not known");
                self.publications.add_unsearched(shard);
            }
        }
    }

    /// Reads a run, with its changes after `published` or after its published version in the logbook, whichever is
    /// later; `None` if all are published.
    pub(super) async fn load_for_publishing(
        &self,
        run: &RunId,
        published: Version,
    ) -> Result<(ActiveRun, Option<Vec<NodeChange>>), LoadError> {
        let history = self.context.logbook.load(run).await?;
        let (published, version) = (published.max(history.published), history.version());
        let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
        let mut changes = Vec::new();
        let restoring = self.restore(run, history, |version, change| {
            if version > published {
                changes.extend(of_node(change));
            }
        });
        let active = restoring.await?;
        if snapshot > published {
            // The snapshot was saved before all changes up to it were published.
            changes = self.replay_changes(run, published, version).await?;
        }
        Ok((active, (version > published).then_some(changes)))
    }

    /// Replays all records of a run and returns its changes between two versions.
    async fn replay_changes(&self, run: &RunId, after: Version, until: Version) -> Result<Vec<NodeChange>, LoadError> {
        let mut replay = Replay::new(run.clone(), self.context.logbook.clone());
        let mut changes = Vec::new();
        loop {
            // Records that are trimmed meanwhile have been published, so that none of them is missed here.
            let Page { records, .. } = replay.read().await?;
            if records.is_empty() {
                return Ok(changes);
            }
            for record in &records {
                let applied = replay.apply(record)?;
                if applied.version > until {
                    return Ok(changes);
                }
                if applied.version > after {
                    changes.extend(applied.changes.into_iter().filter_map(of_node));
                }
            }
        }
    }
}

/// Returns the part of a change that is published.
fn of_node(change: Change) -> Option<NodeChange> {
    match change {
        Change::Node(change) => Some(change),
        Change::Run { .. } | Change::Firing { .. } => None,
    }
}

fn call_id(command: &Command) -> Option<flow::CallId> {
    match command {
        Command::Call(call) => Some(call.id.clone()),
        Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => None,
    }
}
