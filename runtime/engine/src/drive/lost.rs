//! Runs whose append failed: their machines are dropped, and replayed from what is durable.

use std::time::Duration;

use broker::Delivery;
use flow::{Event, Machine, Record, RunId};
use logbook::{LoadError, Version};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{Driver, Live, Round};
use crate::{Happening, outbox::Batch};

/// How long after a failed append a run's records are read again, and then again.
pub(super) const RELOAD: Duration = Duration::from_secs(1);

/// A run whose last append failed, or may have: only its records say where it stands.
#[derive(Default)]
pub(super) struct Lost {
    watcher: Option<mpsc::Sender<Happening>>,
    /// What arrived for it since, unsettled.
    pub(super) signals: Vec<Delivery>,
    /// What was asked for it since.
    pub(super) asked: Vec<Event>,
}

impl Driver {
    /// Drops the machine of a run that is ahead of its records, to be replayed if the run had begun.
    pub(super) fn drop_machine(&mut self, run: &RunId, had_begun: bool) {
        let watcher = self.forget(run).and_then(|live| live.watcher);
        if had_begun {
            self.lost.insert(run.clone(), Lost { watcher, ..Lost::default() });
        }
    }

    /// Keeps what a round brought for lost runs, since none of it is recorded; answers the signals that are done with.
    pub(super) fn keep_for_lost(
        &mut self,
        signals: Vec<(RunId, Delivery)>,
        events: Vec<(RunId, Event)>,
    ) -> Vec<Delivery> {
        for (run, event) in events {
            match event {
                Event::Cancel | Event::Suspend | Event::Abandon | Event::Resume => {
                    if let Some(lost) = self.lost.get_mut(&run) {
                        lost.asked.push(event);
                    }
                }
                // A signal is kept with its delivery, a beginning was answered, and time passes by itself.
                Event::Signal(_) | Event::Start | Event::Tick => {}
            }
        }
        let mut done = Vec::with_capacity(signals.len());
        for (run, delivery) in signals {
            match self.lost.get_mut(&run) {
                Some(lost) => lost.signals.push(delivery),
                None => done.push(delivery),
            }
        }
        done
    }

    /// Reads the records of lost runs; those that can be read go on from there.
    pub(super) async fn find_lost(&mut self, round: &mut Round) {
        for (run, lost) in std::mem::take(&mut self.lost) {
            match self.logbook.load(&run).await {
                Ok(records) => self.replay(run, lost, &records, round).await,
                Err(error @ LoadError::Unavailable { .. }) => {
                    warn!(%run, %error, "the run cannot go on yet");
                    self.lost.insert(run, lost);
                }
                Err(error @ LoadError::Missing { .. }) => {
                    error!(%run, %error, "the run's records are gone: it is left alone");
                }
            }
        }
    }

    /// Takes a run up where its records end: what they left unanswered is sent again.
    async fn replay(&mut self, run: RunId, lost: Lost, records: &[Record], round: &mut Round) {
        let machine = match Machine::replay(run.clone(), records) {
            Ok(machine) => machine,
            Err(error) => return error!(%run, %error, "the run's records are damaged: it is left alone"),
        };
        let commands = machine.pending();
        let live = Live { machine, version: Version::NONE.after(records), watcher: lost.watcher, due: None };
        self.runs.insert(run.clone(), live);
        let mut batch = Batch::default();
        self.perform(&run, commands, &mut batch);
        self.send(batch).await;
        round.events.extend(lost.asked.into_iter().map(|event| (run.clone(), event)));
        round.events.push((run, Event::Tick));
        for delivery in lost.signals {
            self.hear(delivery, round);
        }
    }
}
