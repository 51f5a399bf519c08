//! A run whose last append failed, or may have failed, or that could not be read: only its records tell its state.

use std::collections::BTreeSet;

use broker::Delivery;
use flow::{ClockShift, Shard};
use logbook::Version;
use machine::Event;
use protocol::Reply;
use tokio::{sync::mpsc, time::Instant};

use super::RunEvent;
use crate::{
    WatchEvent,
    effects::ReplyTo,
    leases::CallHolder,
    loads::{RunningLoad, SendState},
};

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
    /// Whether answers may still wait in the queue since before its shard was taken over. A barrier is behind them.
    pub(crate) awaits_barrier: bool,
    pub(crate) load: LoadProgress,
    /// The calls of which a heartbeat is among the deliveries.
    pub(crate) heartbeats: BTreeSet<CallHolder>,
    /// Deliveries that arrived for it since, unsettled.
    pub(crate) deliveries: Vec<Delivery>,
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

    /// Holds a heartbeat of a call whose lease is not known here. One for each call is enough: a broker delivers only so many
    /// messages until some are settled.
    pub(crate) fn hold_heartbeat(&mut self, lease: CallHolder, delivery: Delivery) {
        if self.heartbeats.insert(lease) {
            self.deliveries.push(delivery);
        } else {
            delivery.accept();
        }
    }

    /// A heartbeat arrived for this call, so an earlier lease expiry no longer counts.
    pub(crate) fn note_heartbeat(&mut self, (call, worker): &CallHolder) {
        let is_expiry = |event: &Event| matches!(event, Event::Lost { call: c, worker: w } if (c, w) == (call, worker));
        self.pending.retain(|pending| !is_expiry(&pending.event));
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
    pub(crate) fn give_up(self, reply: &Reply) -> Vec<Delivery> {
        for reply_to in self.pending.into_iter().filter_map(|pending| pending.reply_to) {
            match reply_to {
                // The requester may have disconnected.
                ReplyTo::Local(sender) => drop(sender.send(reply.clone())),
                ReplyTo::Remote { .. } => {}
            }
        }
        self.deliveries
    }

    /// Leaves the run to the new driver of its shard: its deliveries go back to the queue.
    pub(crate) fn requeue_deliveries(self) {
        drop(self.give_up(&Reply::Failed("the run is driven by another engine now".into())));
    }
}
