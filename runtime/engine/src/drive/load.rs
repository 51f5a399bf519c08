//! Runs that are read from the logbook: runs of a shard that is taken over, suspended runs that receive a message,
//! and stale runs whose append failed.

use std::collections::BTreeSet;

use broker::Delivery;
use flow::{Change, Command, Event, RunId, RunState, Shard};
use logbook::{Filter, History, LoadError, Page, Replay, Version};
use protocol::{Reply, RunCommand};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{
    ActiveRun, Batch, Driver, ReplyTo, RunEvent, catch_bug, is_inactive,
    leases::CallHolder,
    permits::{EndedCalls, split_paced},
};
use crate::{
    CommandError, Watch, WatchEvent, inbox::ShardDelivery, outbox::OutboxBatch, permits::client::DispatchHistory, watch,
};

/// A run whose last append failed, or may have failed, or that could not be read. Only its records tell its state.
#[derive(Default)]
pub(super) struct StaleRun {
    shard: Option<Shard>,
    /// The version up to which its changes were sent, including those to the watcher.
    told: Version,
    watcher: Option<mpsc::Sender<WatchEvent>>,
    /// Deliveries that arrived for it since, unsettled.
    pub(super) signals: Vec<Delivery>,
    /// Events and run commands that arrived for it since.
    pub(super) pending: Vec<RunEvent>,
}

impl StaleRun {
    fn of(shard: &Shard) -> Self {
        Self { shard: Some(shard.clone()), ..Self::default() }
    }

    /// A heartbeat arrived for this call, so an earlier lease expiry no longer counts.
    pub(super) fn note_heartbeat(&mut self, (call, worker): &CallHolder) {
        let is_lost = |event: &Event| matches!(event, Event::Lost { call: c, worker: w } if (c, w) == (call, worker));
        self.pending.retain(|happened| !is_lost(&happened.event));
    }

    pub(super) fn may_be_of(&self, shard: &Shard) -> bool {
        self.shard.as_ref() == Some(shard)
    }

    /// Whether the shard of the run is unknown.
    pub(super) fn has_unknown_shard(&self) -> bool {
        self.shard.is_none()
    }

    /// Answers the local requesters and returns the unsettled deliveries. If dropped, they go back to the queue, and
    /// remote commands with them.
    pub(super) fn give_up(self, reply: &Reply) -> Vec<Delivery> {
        for answer in self.pending.into_iter().filter_map(|happened| happened.reply_to) {
            match answer {
                // The requester may have disconnected.
                ReplyTo::Local(answer) => drop(answer.send(reply.clone())),
                ReplyTo::Remote { .. } => {}
            }
        }
        self.signals
    }
}

impl Driver {
    /// Drops the machine of a run that is ahead of its records; the run is read again if it had begun.
    pub(super) fn drop_machine(&mut self, run: &RunId, had_begun: bool) {
        let Some(live) = self.remove_run(run) else { return };
        // If the shard was lost meanwhile, its new driver reads the run.
        if had_begun && self.shards.owns(&live.shard) {
            let lost =
                StaleRun { shard: Some(live.shard), told: live.version, watcher: live.watcher, ..StaleRun::default() };
            self.stale.insert(run.clone(), lost);
        }
    }

    /// Holds the deliveries of a batch for stale runs, since nothing of the batch is recorded for them. Returns the
    /// signals to accept. Deliveries for a run whose shard was lost go back to the queue, for the new driver.
    pub(super) fn hold_for_stale(
        &mut self,
        signals: Vec<(RunId, Delivery)>,
        events: Vec<(RunId, Event)>,
        unowned: &BTreeSet<RunId>,
    ) -> Vec<Delivery> {
        for (run, event) in events {
            match event {
                Event::Abandon => {
                    if let Some(lost) = self.stale.get_mut(&run) {
                        lost.pending.push(RunEvent { run, event, reply_to: None });
                    }
                }
                // These need nothing: a signal or heartbeat is held with its delivery, a start or command was
                // answered, fetches and withdrawals are repeated, and time passes by itself.
                Event::Signal(_)
                | Event::Leased { .. }
                | Event::Fetched { .. }
                | Event::Withdrawn { .. }
                | Event::ClockSet { .. }
                | Event::Lost { .. }
                | Event::Cancel
                | Event::Suspend
                | Event::Resume
                | Event::Retry
                | Event::Skip { .. }
                | Event::Notify { .. }
                | Event::TaskNotification(_)
                | Event::Edit { .. }
                | Event::Start
                | Event::Tick => {}
            }
        }
        let mut done = Vec::with_capacity(signals.len());
        for (run, delivery) in signals {
            match self.stale.get_mut(&run) {
                Some(lost) => lost.signals.push(delivery),
                None if unowned.contains(&run) => delivery.requeue(),
                None => done.push(delivery),
            }
        }
        done
    }

    /// Whether the state of the run is known here, or its records will be read.
    pub(super) fn is_loaded_or_stale(&self, run: &RunId) -> bool {
        self.runs.contains_key(run) || self.stale.contains_key(run) || self.corrupt.contains_key(run)
    }

    /// Marks a run of a shard as stale; its records are read with the next tick.
    pub(super) fn mark_stale(&mut self, run: RunId, shard: &Shard) {
        self.stale.entry(run).or_insert_with(|| StaleRun::of(shard));
    }

    /// Reads the records of stale runs; each run that can be read continues from there. After the first failure the
    /// rest waits for the next tick.
    pub(super) async fn reload_stale(&mut self, round: &mut Batch) {
        let mut lost = std::mem::take(&mut self.stale);
        while let Some((run, lost_run)) = lost.pop_first() {
            if !self.reload(run, lost_run, round).await {
                // Deliveries for a reloaded run may have made other runs stale meanwhile.
                self.stale.append(&mut lost);
                return;
            }
        }
    }

    /// Reads the records of a stale run. Returns whether the logbook is available.
    async fn reload(&mut self, run: RunId, lost: StaleRun, round: &mut Batch) -> bool {
        match self.load_for_publishing(&run, lost.told).await {
            Ok((live, changes)) => {
                // An adopted run has its new shard in no record yet.
                let shard = lost.shard.clone().unwrap_or_else(|| live.shard.clone());
                let Some(term) = self.shards.term(&shard).filter(|_| self.shards.owns(&shard)) else {
                    // Deliveries that arrived for it go back unsettled, for the new driver.
                    drop(lost.give_up(&Reply::Failed("the run is driven elsewhere now".into())));
                    return true;
                };
                if let Some(watcher) = &lost.watcher
                    && live.version > lost.told
                    && let Err(error) = self.publish_from(&run, lost.told, watcher, round).await
                {
                    warn!(%run, %error, "some changes of the run cannot be told");
                }
                let live = ActiveRun { shard: shard.clone(), watcher: lost.watcher, ..live };
                self.republish(&run, &live, changes);
                self.activate(run, live, round);
                round.events.extend(lost.pending);
                for delivery in lost.signals {
                    self.on_delivery(ShardDelivery { shard: shard.clone(), term, delivery }, round).await;
                }
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot go on yet");
                self.stale.insert(run, lost);
                return false;
            }
            Err(error @ LoadError::Missing { .. }) => {
                warn!(%run, %error, "the run did not begin");
                self.permits.remove_run(&run);
                drop(lost.give_up(&Reply::Failed(error.to_string())));
            }
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is left alone");
                self.permits.remove_run(&run);
                let kept = lost.give_up(&Reply::Failed(error.to_string()));
                self.corrupt.entry(run).or_default().extend(kept);
            }
        }
        true
    }

    /// Sends a watcher the changes of records that were appended without a confirm, so that it has not received them.
    ///
    /// # Errors
    /// [`LoadError`] when the records cannot be read; the watcher then misses some changes.
    async fn publish_from(
        &self,
        run: &RunId,
        told: Version,
        watcher: &mpsc::Sender<WatchEvent>,
        round: &mut Batch,
    ) -> Result<(), LoadError> {
        let mut replay = Replay::new(run.clone(), self.tools.logbook.clone());
        loop {
            let Page { records, .. } = replay.read().await?;
            if records.is_empty() {
                return Ok(());
            }
            for record in &records {
                let taken = replay.apply(record)?;
                if taken.version > told {
                    let changes = taken.changes.into_iter().map(|change| (watcher.clone(), WatchEvent::Change(change)));
                    round.watch_events.extend(changes);
                }
            }
        }
    }

    /// Reads all open runs of a shard. Unanswered calls are sent again later, when it is known which answers wait in
    /// the queue.
    ///
    /// # Errors
    /// [`LoadError`] when the runs cannot be listed. A run that cannot be read is marked as stale.
    pub(super) async fn read_shard(&mut self, shard: &Shard, round: &mut Batch) -> Result<usize, LoadError> {
        let open = self.tools.logbook.open_runs(shard).await?;
        let count = open.len();
        let mut is_readable = true;
        for (run, _) in open {
            if self.runs.contains_key(&run) || self.corrupt.contains_key(&run) {
                continue;
            }
            if !is_readable {
                self.mark_stale(run, shard);
                continue;
            }
            match self.load_for_publishing(&run, Version::NONE).await {
                Ok((live, changes)) => {
                    self.republish(&run, &live, changes);
                    let (paced, others) = split_paced(&live.machine, live.machine.pending());
                    let unanswered = others.iter().filter_map(call_id).collect();
                    self.insert(run.clone(), ActiveRun { outstanding_at_load: unanswered, ..live });
                    // Their permits arrive behind every answer that waits in the queue.
                    self.resend(&run, paced, round);
                    round.push(run, Event::Tick);
                }
                Err(error @ LoadError::Damaged { .. }) => {
                    error!(%run, %error, "the run cannot be read: it is left alone");
                    self.corrupt.entry(run).or_default();
                }
                Err(LoadError::Missing { .. }) => {}
                Err(error @ LoadError::Unavailable { .. }) => {
                    warn!(%run, %error, "the run cannot go on yet");
                    self.mark_stale(run, shard);
                    is_readable = false;
                }
            }
        }
        self.note_suspended(shard).await?;
        self.load_unpublished(shard).await?;
        Ok(count)
    }

    /// Records the listeners of a shard's suspended runs: a suspended run still receives notifications, and continues
    /// from there.
    async fn note_suspended(&mut self, shard: &Shard) -> Result<(), LoadError> {
        let filter = Filter { states: vec![RunState::Suspended], limit: usize::MAX >> 1, ..Filter::default() };
        let resting = self.tools.logbook.list(&filter).await?;
        for run in resting.into_iter().filter(|summary| summary.standing.shard == *shard).map(|summary| summary.run) {
            match self.read(&run).await {
                Ok(live) => self.listeners.note(&live.shard, &live.machine),
                Err(error) => warn!(%run, %error, "what the suspended run listens to is not known"),
            }
        }
        Ok(())
    }

    /// Sends unanswered calls of a shard's runs again, now that every answer that waited in its queue is received.
    pub(super) fn resend_outstanding(&mut self, shard: &Shard, round: &mut Batch) {
        let runs: Vec<RunId> =
            self.runs.iter().filter(|(_, live)| live.shard == *shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            let Some(live) = self.runs.get_mut(&run) else { continue };
            let unanswered = std::mem::take(&mut live.outstanding_at_load);
            // An answer in the current batch is not applied yet, so its call is still outstanding here and is sent
            // once too often.
            let mut commands = live.machine.pending();
            commands.retain(|command| call_id(command).is_none_or(|call| unanswered.contains(&call)));
            self.resend(&run, commands, round);
        }
    }

    /// Performs commands that may have been performed before.
    fn resend(&mut self, run: &RunId, commands: Vec<Command>, round: &mut Batch) {
        let mut batch = OutboxBatch::default();
        self.dispatch(run, commands, DispatchHistory::MaybeSent, &mut batch);
        round.messages.append(&mut batch.messages);
        self.release_ended(run, &EndedCalls::Any);
    }

    /// Looks up a run that a message or request names. An inactive run is loaded for this batch; a run that cannot be
    /// read yet is marked as stale.
    pub(super) async fn load_inactive(&mut self, run: &RunId, shard: Option<&Shard>, round: &mut Batch) {
        if self.is_loaded_or_stale(run) {
            return;
        }
        match self.read(run).await {
            Ok(live) if self.shards.owns(&live.shard) => self.activate(run.clone(), live, round),
            // The run was adopted since. The late message is forwarded to its new driver.
            Ok(live) => drop(round.remote_runs.insert(run.clone(), live.shard)),
            Err(LoadError::Missing { .. }) => drop(round.not_found.insert(run.clone())),
            Err(error @ LoadError::Damaged { .. }) => {
                error!(%run, %error, "the run cannot be read: it is left alone");
                self.corrupt.entry(run.clone()).or_default();
            }
            Err(error @ LoadError::Unavailable { .. }) => {
                warn!(%run, %error, "the run cannot be read yet");
                self.stale.insert(run.clone(), StaleRun { shard: shard.cloned(), ..StaleRun::default() });
            }
        }
    }

    /// Takes over a run that another process left.
    pub(super) async fn adopt(
        &mut self,
        run: &RunId,
        wish: RunCommand,
        round: &mut Batch,
    ) -> Result<Watch, CommandError> {
        if self.runs.contains_key(run) {
            return Err(CommandError::AlreadyDriven { run: run.clone() });
        }
        let read = self.load_for_publishing(run, Version::NONE).await;
        let (live, changes) = read.map_err(|error| CommandError::of_load(run, &error))?;
        let state = live.machine.state();
        let is_of_ended = match &wish {
            RunCommand::Retry | RunCommand::Skip { .. } => true,
            RunCommand::Cancel
            | RunCommand::Suspend
            | RunCommand::Resume
            | RunCommand::TaskNotification(_)
            | RunCommand::Notify { .. }
            | RunCommand::Edit { .. } => false,
        };
        if state.is_final() && !is_of_ended {
            return Err(CommandError::NotApplicable { run: run.clone(), wish: wish.as_str(), state });
        }
        let shard = self.shards.for_new(run).ok_or(CommandError::Unreachable { run: run.clone() })?;
        if live.machine.flow().tasks().any(|(_, _, task)| !task.pace.is_unlimited()) {
            self.note_adopted(&shard).await;
        }
        let (watcher, happenings) = mpsc::channel(watch::WATCH_CAPACITY);
        let live = ActiveRun { shard, watcher: Some(watcher), ..live };
        self.republish(run, &live, changes);
        self.activate(run.clone(), live, round);
        self.on_command(run.clone(), None, wish, None, round).await;
        Ok(Watch { happenings })
    }

    /// Continues a run where its records end: unanswered calls are sent again. An inactive run stays for this batch,
    /// or until its events are handled.
    fn activate(&mut self, run: RunId, live: ActiveRun, round: &mut Batch) {
        if is_inactive(live.machine.state()) {
            self.permits.remove_run(&run);
            self.insert(run.clone(), ActiveRun { is_suspended: true, ..live });
            round.loaded.insert(run);
            return;
        }
        let commands = live.machine.pending();
        self.insert(run.clone(), live);
        self.resend(&run, commands, round);
        round.push(run, Event::Tick);
    }

    fn insert(&mut self, run: RunId, live: ActiveRun) {
        self.listeners.note(&live.shard, &live.machine);
        self.abandoned.remove(&run);
        self.runs.insert(run.clone(), live);
        self.note_due(&run);
        self.watch_leases(&run);
        self.hold_leased(&run);
    }

    async fn read(&self, run: &RunId) -> Result<ActiveRun, LoadError> {
        let history = self.tools.logbook.load(run).await?;
        self.restore(run, history, |_, _| {}).await
    }

    /// Builds a run in memory from its history; calls `hear` for each change in the records after its snapshot.
    pub(super) async fn restore(
        &self,
        run: &RunId,
        history: History,
        hear: impl FnMut(Version, Change) + Send,
    ) -> Result<ActiveRun, LoadError> {
        let (version, shard) = (history.version(), history.standing.shard.clone());
        let snapshot = history.snapshot.as_ref().map_or(Version::NONE, |(version, _)| *version);
        let damaged = |reason| LoadError::Damaged { run: run.clone(), reason };
        let machine = catch_bug(run, "reading it", || history.replay(hear)).map_err(damaged)??;
        // A broker that lost its data has lost the queues too, so they are declared again.
        if let Err(error) = self.tools.declared.declare_within(machine.flow()).await {
            warn!(%run, %error, "the queues of a run's jobs could not be declared");
        }
        if let Err(error) = self.tools.declared.bind_listeners(machine.flow(), &shard).await {
            warn!(%run, %error, "the run does not hear the tasks that it listens to until it is read again");
        }
        let (watcher, due, unanswered, at_rest) = (None, None, BTreeSet::new(), false);
        Ok(ActiveRun {
            machine,
            version,
            snapshot,
            shard,
            watcher,
            due,
            outstanding_at_load: unanswered,
            is_suspended: at_rest,
        })
    }
}

fn call_id(command: &Command) -> Option<flow::CallId> {
    match command {
        Command::Call(call) => Some(call.id.clone()),
        Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => None,
    }
}
