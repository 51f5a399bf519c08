//! Runs that are read from the logbook: those of a shard that is taken over, those that rest and are asked for, and those
//! whose append failed, so that their machines were dropped.

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

/// A run whose last append failed, or may have, or that could not be read: only its records say where it stands.
#[derive(Default)]
pub(super) struct StaleRun {
    shard: Option<Shard>,
    /// The version up to which its changes were sent, and its watcher was told of them.
    told: Version,
    watcher: Option<mpsc::Sender<WatchEvent>>,
    /// What arrived for it since, unsettled.
    pub(super) signals: Vec<Delivery>,
    /// What was asked for it since.
    pub(super) pending: Vec<RunEvent>,
}

impl StaleRun {
    fn of(shard: &Shard) -> Self {
        Self { shard: Some(shard.clone()), ..Self::default() }
    }

    /// A call of it was heard of: that its lease was missed meanwhile means nothing.
    pub(super) fn note_heartbeat(&mut self, (call, worker): &CallHolder) {
        let is_lost = |event: &Event| matches!(event, Event::Lost { call: c, worker: w } if (c, w) == (call, worker));
        self.pending.retain(|happened| !is_lost(&happened.event));
    }

    pub(super) fn may_be_of(&self, shard: &Shard) -> bool {
        self.shard.as_ref() == Some(shard)
    }

    /// Whether it is not known of which shard it is.
    pub(super) fn has_unknown_shard(&self) -> bool {
        self.shard.is_none()
    }

    /// Answers those who asked here, and gives back what arrived, unsettled: dropped, it goes back, and what was asked over
    /// the broker with it.
    pub(super) fn give_up(self, reply: &Reply) -> Vec<Delivery> {
        for answer in self.pending.into_iter().filter_map(|happened| happened.reply_to) {
            match answer {
                // Whoever asked may be gone.
                ReplyTo::Local(answer) => drop(answer.send(reply.clone())),
                ReplyTo::Remote { .. } => {}
            }
        }
        self.signals
    }
}

impl Driver {
    /// Drops the machine of a run that is ahead of its records, to be read again if the run had begun.
    pub(super) fn drop_machine(&mut self, run: &RunId, had_begun: bool) {
        let Some(live) = self.remove_run(run) else { return };
        // A shard that was lost with the append is read by whoever drives it now.
        if had_begun && self.shards.owns(&live.shard) {
            let lost =
                StaleRun { shard: Some(live.shard), told: live.version, watcher: live.watcher, ..StaleRun::default() };
            self.stale.insert(run.clone(), lost);
        }
    }

    /// Keeps what a round brought for lost runs, since none of it is recorded; answers the signals that are done with. What
    /// came for a run whose shard was lost goes back, to whoever drives it now.
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
                // A signal or a heartbeat is kept with its delivery, a beginning or a wish was answered, what was sent for is
                // sent for again, a call that nobody wants is withdrawn again, and time passes by itself.
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

    /// Whether it is known here where a run stands, or that its records have to be read.
    pub(super) fn is_loaded_or_stale(&self, run: &RunId) -> bool {
        self.runs.contains_key(run) || self.stale.contains_key(run) || self.corrupt.contains_key(run)
    }

    /// Lets a run of a shard wait until its records are read, with the next beat.
    pub(super) fn mark_stale(&mut self, run: RunId, shard: &Shard) {
        self.stale.entry(run).or_insert_with(|| StaleRun::of(shard));
    }

    /// Reads the records of lost runs; those that can be read go on from there. A logbook that cannot be read is asked
    /// once.
    pub(super) async fn reload_stale(&mut self, round: &mut Batch) {
        let mut lost = std::mem::take(&mut self.stale);
        while let Some((run, lost_run)) = lost.pop_first() {
            if !self.reload(run, lost_run, round).await {
                // What came for a run that was found may have lost others meanwhile.
                self.stale.append(&mut lost);
                return;
            }
        }
    }

    /// Reads the records of a lost run. Answers whether the logbook can be read.
    async fn reload(&mut self, run: RunId, lost: StaleRun, round: &mut Batch) -> bool {
        match self.load_for_publishing(&run, lost.told).await {
            Ok((live, changes)) => {
                // A run that was adopted has its new shard in no record yet.
                let shard = lost.shard.clone().unwrap_or_else(|| live.shard.clone());
                let Some(term) = self.shards.term(&shard).filter(|_| self.shards.owns(&shard)) else {
                    // What arrived for it goes back unsettled, to whoever drives it now.
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

    /// Tells a watcher of records that were written without an answer, so that it was not told of them.
    ///
    /// # Errors
    /// [`LoadError`] when they cannot be read; then some were not told.
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

    /// Reads every run of a shard that an engine has work with; what they left unanswered is sent again later, when it is
    /// known which answers wait in the queue.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be told which runs there are. A run that cannot be read is lost for now.
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
                    // Their permits come behind every answer that waits in the queue.
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

    /// Takes note of what the suspended runs of a shard listen to: they hear it all the same, and go on from there.
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

    /// Sends again what the runs of a shard left unanswered, now that every answer that waited in its queue is heard.
    pub(super) fn resend_outstanding(&mut self, shard: &Shard, round: &mut Batch) {
        let runs: Vec<RunId> =
            self.runs.iter().filter(|(_, live)| live.shard == *shard).map(|(run, _)| run.clone()).collect();
        for run in runs {
            let Some(live) = self.runs.get_mut(&run) else { continue };
            let unanswered = std::mem::take(&mut live.outstanding_at_load);
            // What the round decides about in a moment is still out here, and is sent once too often.
            let mut commands = live.machine.pending();
            commands.retain(|command| call_id(command).is_none_or(|call| unanswered.contains(&call)));
            self.resend(&run, commands, round);
        }
    }

    /// Carries out what may have been carried out before.
    fn resend(&mut self, run: &RunId, commands: Vec<Command>, round: &mut Batch) {
        let mut batch = OutboxBatch::default();
        self.dispatch(run, commands, DispatchHistory::MaybeSent, &mut batch);
        round.messages.append(&mut batch.messages);
        self.release_ended(run, &EndedCalls::Any);
    }

    /// Looks for a run that something came for, from the queue of a shard or from here. One that rests is read for this
    /// round; one that cannot be read yet is lost for now.
    pub(super) async fn load_inactive(&mut self, run: &RunId, shard: Option<&Shard>, round: &mut Batch) {
        if self.is_loaded_or_stale(run) {
            return;
        }
        match self.read(run).await {
            Ok(live) if self.shards.owns(&live.shard) => self.activate(run.clone(), live, round),
            // It was adopted since. What comes late is news to whoever drives it.
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

    /// Drives a run here that another process left.
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

    /// Takes a run up where its records end: what they left unanswered is sent again. One that rests stays for this round,
    /// or for as long as what happens in it takes.
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

    /// What a run is driven with that its history tells of; hears what the records after its snapshot changed.
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
        // A broker that lost its data has lost the queues too.
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
