//! A run whose last append failed, or may have failed, or that could not be read: only its records tell its state.

use std::collections::BTreeSet;

use flow::{ClockShift, Shard};
use logbook::Version;
use machine::Event;
use protocol::Reply;
use tokio::{sync::mpsc, time::Instant};

use super::{HeldDeliveries, RunEvent};
use crate::{
    WatchEvent,
    effects::ReplyTo,
    leases::CallHolder,
    loads::{RunningLoad, SendState},
};

/// Number of failed reads in a row after which a run is left alone for some time, if the logbook has answered about it after each:
/// a lost connection is no reason.
pub(crate) const MAX_FAILED_READS: u32 = 3;

/// Number of failed reads in a row after which a run misses notifications: all runs of its shard would wait for it.
const MAX_AWAITED_READS: u32 = 6;

/// Maximum number of events that are held for a run, if somebody waits for their replies.
const MAX_PENDING_COMMANDS: usize = 64;

/// Maximum number of calls of a run with noted heartbeats: as many as a list may have at a time. Others may be sent again once the run is
/// read, before their workers repeat the heartbeats.
const MAX_HEARTBEATS: usize = 10_000;

/// A run whose records are read with the next tick.
#[derive(Default)]
pub(crate) struct StaleRun {
    /// `None` where only the run's records tell it.
    pub(crate) shard: Option<Shard>,
    /// The version up to which its changes were sent, including those to the watcher.
    pub(crate) sent: Version,
    pub(crate) watcher: Option<mpsc::Sender<WatchEvent>>,
    /// Whether it was in memory before, so that it is known what it listens to.
    pub(crate) was_active: bool,
    /// Whether it has ended, so that it listens to nothing.
    pub(crate) has_ended: bool,
    /// Whether answers may still wait in the queue since before its shard was taken over. A barrier is behind them.
    pub(crate) awaits_barrier: bool,
    pub(crate) load: LoadProgress,
    /// The number of reads in a row that have failed although the logbook answers about the run.
    pub(crate) failed_reads: u32,
    /// When it is tried again after a failed read.
    pub(crate) retry_at: Option<Instant>,
    /// The calls of which a heartbeat was received, although no lease of them is known here.
    pub(crate) heartbeats: BTreeSet<CallHolder>,
    /// Whether reports for it were put behind the other messages of its queue.
    pub(crate) is_requeued: bool,
    /// Deliveries that arrived for it since, unsettled.
    pub(crate) held: HeldDeliveries,
    /// A clock change among the records whose append failed, or may have failed.
    pub(crate) unrecorded_clock_change: Option<ClockShift>,
    /// Clock changes since then.
    pub(crate) clock_changes: Vec<ClockShift>,
    /// Events and run commands that arrived for it since.
    pub(crate) pending: Vec<RunEvent>,
}

/// How far the load of a stale run is.
#[derive(Default)]
pub(crate) enum LoadProgress {
    /// The driver reads its records with the next tick.
    #[default]
    Due,
    /// It has many records, and too many runs are being read.
    Waiting,
    /// It is read beside the driver.
    Running(RunningLoad),
    /// It cannot be read, although the logbook answers about it. It is tried again at this time.
    Paused(Instant),
}

impl StaleRun {
    /// A run of which nothing was received yet.
    pub(crate) fn of(shard: Option<&Shard>) -> Self {
        Self { shard: shard.cloned(), ..Self::default() }
    }

    /// Holds an event. Returns who waits for its reply, if too many commands are held.
    #[must_use]
    pub(crate) fn hold_event(&mut self, event: RunEvent) -> Option<ReplyTo> {
        if event.reply_to.is_some() && self.pending.len() >= MAX_PENDING_COMMANDS {
            return event.reply_to;
        }
        // A run that is read gets a tick, and its unwanted calls are withdrawn then. A lease that has expired is watched anew: the
        // worker's answer may be among the deliveries that are held.
        if !matches!(event.event, Event::Tick | Event::Withdrawn { .. } | Event::Lost { .. }) {
            self.pending.push(event);
        }
        None
    }

    /// Notes that a worker has a call.
    pub(crate) fn note_heartbeat(&mut self, lease: CallHolder) {
        if self.heartbeats.len() < MAX_HEARTBEATS {
            self.heartbeats.insert(lease);
        }
    }

    /// Whether its records are read now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.load {
            LoadProgress::Due => self.retry_at.is_none_or(|at| at <= now),
            LoadProgress::Waiting | LoadProgress::Running(_) => false,
            LoadProgress::Paused(until) => until <= now,
        }
    }

    /// Whether it may listen to tasks, and it is not known to which.
    pub(crate) fn may_listen(&self) -> bool {
        !self.was_active && !self.has_ended
    }

    /// Whether notifications wait until it is known whether it listens.
    pub(crate) fn is_awaited(&self) -> bool {
        self.may_listen() && self.delays_notifications()
    }

    /// Whether notifications may wait for it: it may listen, or copies of them may be held for it.
    pub(crate) fn delays_notifications(&self) -> bool {
        !self.has_ended && self.failed_reads < MAX_AWAITED_READS
    }

    /// No notification waits for it any more until it is read.
    pub(crate) fn give_up_notifications(&mut self) {
        self.failed_reads = MAX_AWAITED_READS;
    }

    /// Takes the clock changes that are in no record of the run, which is at this version. The run needs them before any other
    /// event, or its waits would end at a wrong time.
    pub(crate) fn take_clock_changes(&mut self, version: Version) -> impl Iterator<Item = Event> + use<> {
        // An append writes all of a step: with later records, the change is written too.
        let unrecorded = self.unrecorded_clock_change.take().filter(|_| version == self.sent);
        unrecorded.into_iter().chain(std::mem::take(&mut self.clock_changes)).map(|by| Event::ClockSet { by })
    }

    pub(crate) fn may_be_of(&self, shard: &Shard) -> bool {
        self.shard.as_ref() == Some(shard)
    }

    /// The changes that were sent already, for the load of the run.
    pub(crate) fn send_state(&self) -> SendState {
        SendState { sent: self.sent, has_watcher: self.watcher.is_some() }
    }

    /// Whether the shard of the run is unknown.
    pub(crate) fn has_unknown_shard(&self) -> bool {
        self.shard.is_none()
    }

    /// Answers the local requesters and returns the unsettled deliveries. If dropped, they go back to the queue, and
    /// remote commands with them.
    pub(crate) fn give_up(self, reply: &Reply) -> HeldDeliveries {
        for reply_to in self.pending.into_iter().filter_map(|pending| pending.reply_to) {
            match reply_to {
                // The requester may have disconnected.
                ReplyTo::Local(sender) => drop(sender.send(reply.clone())),
                ReplyTo::Remote { .. } => {}
            }
        }
        self.held
    }

    /// Leaves the run to the new driver of its shard: its deliveries go back to the queue.
    pub(crate) fn requeue_deliveries(self) {
        drop(self.give_up(&Reply::Failed("the run is driven by another engine now".into())));
    }
}
