//! What a run's commands become: jobs, notifications and replies for the outbox.

use super::*;

impl Driver {
    /// Converts commands into a batch for the outbox, and closes the run if it is inactive afterwards.
    pub(super) fn perform(
        &mut self,
        run: &RunId,
        commands: Vec<Command>,
        past: DispatchHistory,
        batch: &mut OutboxBatch,
    ) {
        self.dispatch(run, commands, past, batch);
        self.note_due(run);
        if let Some(live) = self.runs.get(run) {
            self.listeners.note(&live.shard, &live.machine);
        }
        if self.runs.get(run).is_some_and(|live| is_inactive(live.machine.state())) {
            self.close(run, batch);
        }
    }

    pub(super) fn dispatch(
        &mut self,
        run: &RunId,
        commands: Vec<Command>,
        past: DispatchHistory,
        batch: &mut OutboxBatch,
    ) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let flow = live.machine.flow().clone();
        for command in commands {
            match command {
                Command::Call(call) => {
                    if let Some(task) = live.machine.task(&call.id.task) {
                        let to = messages::EngineAddress { shard: &live.shard, store_queue: &self.tools.store_queue };
                        let id = call.id.clone();
                        let job = messages::job(&to, &flow, task, *call);
                        if permits::is_paced(task, id.action) {
                            let (now, asked) = (self.tools.clock.now(), permits::paced_call(task, id, job));
                            batch.messages.extend(self.permits.request(now, &live.shard, &flow.name, asked, past));
                        } else {
                            batch.messages.push(job);
                        }
                    }
                }
                Command::Fetch(errand) => self.fetches.send(run.clone(), *errand),
                Command::Interrupt(call) => batch.messages.push(messages::interrupt(call)),
                Command::Publish(change) => {
                    if let Change::Node(change) = &change {
                        batch.messages.push(messages::notification(run, &flow, change));
                    }
                    if let Some(watcher) = &live.watcher {
                        batch.watch_events.push((watcher.clone(), WatchEvent::Change(change)));
                    }
                }
            }
        }
    }

    pub(super) fn note_due(&mut self, run: &RunId) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let due = live.machine.next_due();
        if live.due != due {
            live.due.into_iter().for_each(|at| {
                self.due.remove(&(at, run.clone()));
            });
            self.due.extend(due.map(|at| (at, run.clone())));
            live.due = due;
        }
    }

    /// Removes a run that has ended or is suspended from memory.
    pub(super) fn close(&mut self, run: &RunId, batch: &mut OutboxBatch) {
        self.permits.remove_run(run);
        let Some(live) = self.remove_run(run) else { return };
        let flow = &live.machine.flow().name;
        if !live.is_suspended {
            match live.machine.state() {
                RunState::Failure => error!(target: RUN_LOG_TARGET, %run, %flow, state = "failure", "run ended"),
                RunState::RolledBack => warn!(target: RUN_LOG_TARGET, %run, %flow, state = "rolled-back", "run ended"),
                state @ (RunState::Success
                | RunState::Suspended
                | RunState::Pending
                | RunState::Running
                | RunState::Suspending) => info!(target: RUN_LOG_TARGET, %run, %flow, %state, "run ended"),
            }
        }
        if let Some(watcher) = live.watcher {
            batch.watch_events.push((watcher, WatchEvent::Ended(Arc::new(live.machine))));
        }
    }

    pub(super) fn remove_run(&mut self, run: &RunId) -> Option<ActiveRun> {
        let live = self.runs.remove(run)?;
        if let Some(at) = live.due {
            self.due.remove(&(at, run.clone()));
        }
        Some(live)
    }

    pub(super) async fn send(&self, batch: OutboxBatch) {
        // The outbox outlives the driver: it ends when this sender is dropped.
        let _ = self.tools.out.send(batch).await;
    }
}

impl OutboxBatch {
    /// Sends the reply to a run command: a local one now, a remote one with the batch.
    pub(super) fn answer(&mut self, answer: ReplyTo, reply: Reply) {
        match answer {
            ReplyTo::Local(answer) => {
                // The requester may have disconnected.
                let _ = answer.send(reply);
            }
            ReplyTo::Remote { queue, correlation_id } => {
                self.messages.push(messages::reply(queue, correlation_id, &reply));
            }
        }
    }
}
