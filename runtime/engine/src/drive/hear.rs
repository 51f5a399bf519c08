//! What arrives on the queues of the shards, and what is wished for.

use broker::Delivery;
use flow::{Event, RunId, Signal};
use protocol::{AttemptLog, Report, Request, Wish, lease};
use tracing::warn;

use super::{Answer, Driver, Happened, Round, leases::Held};
use crate::{Happening, inbox::Arrived, jobs};

impl Driver {
    /// Takes a delivery into the round, or passes on what needs no record.
    pub(super) async fn hear(&mut self, arrived: Arrived, round: &mut Round) {
        let Arrived { shard, term, delivery } = arrived;
        if !self.shards.is_current(&shard, term) {
            // It was brought before the shard was let go. Dropped, it goes back, to whoever drives the shard now.
            return;
        }
        if !self.shards.owns(&shard) && !self.take_over(&shard, round).await {
            self.shards.hold(Arrived { shard, term, delivery });
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
                self.hear_signal(signal, delivery, round).await;
            }
            Ok(Report::Progress(progress)) => {
                let watcher = self.runs.get(&progress.call.run).and_then(|live| live.watcher.as_ref());
                if let Some(watcher) = watcher {
                    // A slow watcher misses some progress, and no change.
                    let _ = watcher.try_send(Happening::Progress(progress));
                }
                delivery.accept();
            }
            Ok(Report::Heartbeat { call, worker }) => self.hear_heartbeat((call, worker), delivery, round).await,
            Ok(Report::Released { call, worker }) => {
                let run = call.run.clone();
                self.leases.end(&(call.clone(), worker.clone()));
                if !self.runs.contains_key(&run) && !self.lost.contains_key(&run) {
                    self.visit(&run, round).await;
                }
                self.happen(Happened { run: run.clone(), event: Event::Lost { call, worker }, answer: None }, round);
                round.signals.push((run, delivery));
            }
            Ok(Report::Request(Request { run, wish })) => {
                let properties = &delivery.message.properties;
                let correlation_id = properties.correlation_id.clone();
                let answer = properties.reply_to.clone().map(|queue| Answer::There { queue, correlation_id });
                self.wish_of(run.clone(), wish, answer, round).await;
                round.signals.push((run, delivery));
            }
            Ok(Report::Probe { engine, number }) => {
                if self.shards.is_barrier(&shard, &engine, number) {
                    self.send_again(&shard, round);
                }
                delivery.accept();
            }
            Err(error) => {
                warn!(%error, "dropped what is no report");
                delivery.accept();
            }
        }
    }

    async fn hear_signal(&mut self, signal: Signal, delivery: Delivery, round: &mut Round) {
        let run = signal.call.run.clone();
        if let Some(lost) = self.lost.get_mut(&run) {
            lost.signals.push(delivery);
            return;
        }
        if let Some(worker) = &signal.worker {
            self.leases.end(&(signal.call.clone(), worker.clone()));
        }
        if !self.runs.contains_key(&run) {
            // It comes late: the run has ended, or rests.
            self.visit(&run, round).await;
        }
        round.push(run.clone(), Event::Signal(signal));
        round.signals.push((run, delivery));
    }

    /// Renews a lease. The first heartbeat of an execution is recorded, wanted or not, since its worker accepts the job
    /// then; one that is not wanted is answered with a stop.
    async fn hear_heartbeat(&mut self, held: Held, delivery: Delivery, round: &mut Round) {
        let (call, worker) = &held;
        let run = call.run.clone();
        if let Some(lost) = self.lost.get_mut(&run) {
            lost.signals.push(delivery);
            return;
        }
        if !self.runs.contains_key(&run) {
            self.visit(&run, round).await;
        }
        let live = self.runs.get(&run);
        if live.is_none_or(|live| !live.machine.wants(call)) {
            round.messages.push(jobs::interrupt(call.clone()));
        }
        let is_known = self.leases.holds(&held);
        if live.is_some() {
            self.leases.renew(held.clone(), self.tools.clock.now().after(lease::LEASE));
        }
        if live.is_none() || is_known {
            delivery.accept();
            return;
        }
        round.push(run.clone(), Event::Leased { call: call.clone(), worker: worker.clone() });
        round.signals.push((run, delivery));
    }

    /// Takes a wish for a run into the round; the run is read from the logbook where it rests.
    pub(super) async fn wish(&mut self, run: RunId, wish: Wish, answer: Answer, round: &mut Round) {
        self.wish_of(run, wish, Some(answer), round).await;
    }

    async fn wish_of(&mut self, run: RunId, wish: Wish, answer: Option<Answer>, round: &mut Round) {
        if !self.runs.contains_key(&run) && !self.lost.contains_key(&run) {
            self.visit(&run, round).await;
        }
        let event = match wish {
            Wish::Cancel => Event::Cancel,
            Wish::Suspend => Event::Suspend,
            Wish::Resume => Event::Resume,
            Wish::Retry => Event::Retry,
            Wish::Skip { task, reason } => Event::Skip { task, reason },
        };
        self.happen(Happened { run, event, answer }, round);
    }

    /// Takes something into the round, or keeps it for a run whose records are to be read first.
    pub(super) fn happen(&mut self, happened: Happened, round: &mut Round) {
        match self.lost.get_mut(&happened.run) {
            Some(lost) => lost.asked.push(happened),
            None => round.events.push(happened),
        }
    }
}
