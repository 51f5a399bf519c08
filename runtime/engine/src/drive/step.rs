//! One step of the driver: decide, append, then send.

use super::*;

impl Driver {
    /// Adds a tick for every run with a timer that is due.
    pub(super) fn add_due_runs(&self, round: &mut Batch) {
        let now = self.tools.clock.now();
        for (_, run) in self.due.iter().take_while(|(at, _)| *at <= now) {
            round.push(run.clone(), Event::Tick);
        }
    }

    /// Returns the current time. If the clock was set, each run gets that event before all others.
    pub(super) fn read_clock(&mut self, round: &mut Batch) -> Timestamp {
        let (now, set) = self.clock.read(&*self.tools.clock);
        if let Some(by) = set {
            warn!(
                seconds = by.as_micros() / 1_000_000,
                "the clock was set: waits go on for as long as they would have"
            );
            let set = |run: &RunId| RunEvent { run: run.clone(), event: Event::ClockSet { by }, reply_to: None };
            round.events.splice(..0, self.runs.keys().map(set));
        }
        now
    }

    /// Decides records for every event of a batch, appends them all at once, and only then sends messages.
    pub(super) async fn step(&mut self, mut round: Batch) {
        self.on_confirmed_versions();
        let now = self.read_clock(&mut round);
        let released = self.released_runs(&round);
        let Batch {
            events,
            signals,
            mut logs,
            submitted,
            messages,
            probes,
            watch_events,
            loaded,
            not_found,
            to_accept,
            remote_runs,
        } = round;
        let mut batch = OutboxBatch { messages, probes, watch_events, ..OutboxBatch::default() };
        let (steps, decided) = self.decide(now, events, (&released, &not_found), &mut batch);
        let written = self.watched_logs(&logs);
        let refused = if steps.is_empty() { BTreeMap::new() } else { self.append(&steps, &mut logs).await };
        let is_appended = |(run, ..): &(RunId, _, _)| !refused.contains_key(run);
        batch.watch_events.extend(written.into_iter().filter(is_appended).map(|(_, watcher, log)| (watcher, log)));
        let begun: BTreeSet<&RunId> = submitted.iter().map(|submitted| &submitted.run).collect();
        for (run, error) in &refused {
            // A run that may have begun is read again; a new run whose name is taken is not.
            let may_have_begun = !begun.contains(run) || matches!(error, SubmitError::Append(_));
            self.drop_machine(run, may_have_begun);
        }
        // Events of refused runs are not durable; their machines are already dropped, so the events have no effect
        // here.
        decided.iter().for_each(|(run, event)| self.note_lease(run, event));
        debug_assert!(decided.iter().all(|(run, _)| self.watches_all(run)), "a lease is known and not watched");
        let gone: BTreeSet<RunId> = released.into_iter().chain(refused.keys().cloned()).collect();
        self.settle(signals, (decided, &gone), &remote_runs, &mut batch);
        batch.signals.extend(to_accept);
        self.publish(steps, &refused, &mut batch);
        self.answer_submitted(submitted, refused);
        for run in loaded {
            if self.runs.get(&run).is_some_and(|live| live.is_suspended) {
                // The end is recorded, but the watcher may not have received it.
                self.close(&run, &mut batch);
            }
        }
        self.send_permit_requests(&mut batch);
        self.add_republished(&mut batch);
        self.send(batch).await;
    }

    /// The runs whose shards were released after their deliveries arrived: the deliveries go back to the queue.
    fn released_runs(&self, round: &Batch) -> BTreeSet<RunId> {
        let is_known = |run: &RunId| {
            round.not_found.contains(run) || round.remote_runs.contains_key(run) || self.corrupt.contains_key(run)
        };
        let is_released = |run: &RunId| !self.runs.contains_key(run) && !is_known(run);
        round.signals.iter().map(|(run, _)| run).filter(|run| is_released(run)).cloned().collect()
    }

    /// Steps the machines. Returns what each run came to, and the events that were decided.
    fn decide(
        &mut self,
        now: Timestamp,
        events: Vec<RunEvent>,
        (released, not_found): (&BTreeSet<RunId>, &BTreeSet<RunId>),
        batch: &mut OutboxBatch,
    ) -> (BTreeMap<RunId, StepResult>, Vec<(RunId, Event)>) {
        let mut steps: BTreeMap<RunId, StepResult> = BTreeMap::new();
        let mut decided = Vec::new();
        let runs = events.iter().map(|event| &event.run).collect::<BTreeSet<_>>().len();
        let share = (MAX_BATCH_RECORDS / runs.max(1)).clamp(MIN_RUN_RECORDS, MAX_STEP_RECORDS);
        for RunEvent { run, event, reply_to: answer } in events {
            let Some(live) = self.runs.get_mut(&run) else {
                self.reject(&run, answer, (released, not_found), batch);
                continue;
            };
            // Calls that were abandoned when the run was suspended are sent again when it continues.
            let given_up = if live.is_suspended { live.machine.pending() } else { Vec::new() };
            let left = share.saturating_sub(steps.get(&run).map_or(0, |stepped| stepped.records.len()));
            let doing = || format!("after version {}, {}", live.version.get(), event.summary());
            let step = match catch_bug(&run, &doing(), || live.machine.step_within(now, &event, left)) {
                Ok(step) => step,
                Err(reason) => {
                    let earlier = steps.remove(&run).map(|stepped| stepped.answers).unwrap_or_default();
                    self.stop_corrupt(run, reason, earlier.into_iter().chain(answer), batch);
                    continue;
                }
            };
            if step.records.is_empty() {
                let reply = || rejection(&live.machine, &event);
                answer.into_iter().for_each(|answer| batch.answer(answer, reply()));
                decided.push((run, event));
                continue;
            }
            let stepped = steps.entry(run.clone()).or_default();
            if live.is_suspended && !is_inactive(live.machine.state()) {
                live.is_suspended = false;
                // The run may continue only to roll back, so calls that it would withdraw are not sent.
                let withdrawable: BTreeSet<CallId> = live.machine.withdrawable_calls().collect();
                let is_sent = |command: &Command| match command {
                    Command::Call(call) => !withdrawable.contains(&call.id),
                    Command::Fetch(_) | Command::Interrupt(_) | Command::Publish(_) => true,
                };
                stepped.commands.extend(given_up.into_iter().filter(is_sent));
                stepped.may_repeat = true;
            }
            stepped.is_unfinished = step.is_unfinished;
            stepped.ended = std::mem::take(&mut stepped.ended).and(EndedCalls::from_event(&event, &step.records));
            stepped.records.extend(step.records);
            stepped.commands.extend(step.commands);
            stepped.answers.extend(answer);
            decided.push((run, event));
        }
        (steps, decided)
    }

    /// Replies to the sender of an event for a run that is not in memory.
    fn reject(
        &self,
        run: &RunId,
        answer: Option<ReplyTo>,
        (released, not_found): (&BTreeSet<RunId>, &BTreeSet<RunId>),
        batch: &mut OutboxBatch,
    ) {
        answer.into_iter().for_each(|answer| match answer {
            ReplyTo::Remote { .. } if released.contains(run) => {}
            answer if self.corrupt.contains_key(run) => {
                let reason = self.bugs.get(run).map(|reason| format!(": {reason}")).unwrap_or_default();
                batch.answer(answer, Reply::Failed(format!("{BUG_MESSAGE}{reason}")));
            }
            answer if not_found.contains(run) => batch.answer(answer, Reply::RunNotFound),
            answer => batch.answer(answer, Reply::Failed("the run is driven elsewhere now".into())),
        });
    }

    /// Stops a run that meets a bug of waft.
    fn stop_corrupt(
        &mut self,
        run: RunId,
        reason: String,
        answers: impl Iterator<Item = ReplyTo>,
        batch: &mut OutboxBatch,
    ) {
        let reply = || Reply::Failed(format!("{BUG_MESSAGE}: {reason}"));
        answers.for_each(|answer| batch.answer(answer, reply()));
        self.remove_run(&run);
        self.permits.remove_run(&run);
        self.bugs.insert(run.clone(), reason);
        self.corrupt.entry(run).or_default();
    }

    /// Settles the deliveries of a batch: those of runs here once the outbox has sent everything, others are forwarded or held.
    fn settle(
        &mut self,
        signals: Vec<(RunId, Delivery)>,
        (decided, gone): (Vec<(RunId, Event)>, &BTreeSet<RunId>),
        remote_runs: &BTreeMap<RunId, Shard>,
        batch: &mut OutboxBatch,
    ) {
        let (here, passed_on): (Vec<_>, Vec<_>) =
            signals.into_iter().partition(|(run, _)| !remote_runs.contains_key(run) && !self.corrupt.contains_key(run));
        batch.signals = self.hold_for_stale(here, decided, gone);
        for (run, delivery) in passed_on {
            if let Some(kept) = self.corrupt.get_mut(&run) {
                kept.push(delivery);
                continue;
            }
            if let Some(shard) = remote_runs.get(&run) {
                batch.messages.push(messages::forward(shard, &delivery));
            }
            batch.signals.push(delivery);
        }
    }

    /// Sends what the appended records of each run caused, and replies to those who asked for it.
    fn publish(
        &mut self,
        steps: BTreeMap<RunId, StepResult>,
        refused: &BTreeMap<RunId, SubmitError>,
        batch: &mut OutboxBatch,
    ) {
        for (run, StepResult { records, commands, answers, ended, may_repeat: again, is_unfinished }) in steps {
            match refused.get(&run) {
                None => {
                    let live = self.runs.get(&run);
                    live.into_iter().for_each(|live| skips::log(&live.machine, &records));
                    let state = live.map_or(RunState::Running, |live| live.machine.state());
                    if let Some(version) = live.map(|live| live.version) {
                        self.publish_cursors.send(&run, version);
                        batch.published.push((run.clone(), version));
                    }
                    answers.into_iter().for_each(|answer| batch.answer(answer, Reply::Recorded(state)));
                    let past = if again { DispatchHistory::MaybeSent } else { DispatchHistory::NeverSent };
                    let stops = commands.iter().any(|command| matches!(command, Command::Interrupt(_)));
                    self.perform(&run, commands, past, batch);
                    self.release_ended(&run, &ended);
                    if is_unfinished && self.runs.contains_key(&run) {
                        self.deferred.push(RunEvent { run: run.clone(), event: Event::Tick, reply_to: None });
                    }
                    if let Some(live) = self.runs.get(&run).filter(|_| stops) {
                        // A worker that has started a call must stop it now, and can report the start as well.
                        batch.messages.extend(self.query_started(&live.shard.clone()));
                    }
                    // There may be no subscriber.
                    let _ = self.tools.changes.send(run);
                }
                Some(error) => {
                    let reply = || Reply::Failed(error.to_string());
                    answers.into_iter().for_each(|answer| batch.answer(answer, reply()));
                }
            }
        }
    }

    fn answer_submitted(&self, submitted: Vec<Submitted>, mut refused: BTreeMap<RunId, SubmitError>) {
        for Submitted { run, answer, watch } in submitted {
            let result = match refused.remove(&run) {
                Some(error) => Err(error),
                None if self.corrupt.contains_key(&run) => Err(SubmitError::Bug { run }),
                None => Ok(watch),
            };
            // The requester may have disconnected.
            let _ = answer.send(result);
        }
    }

    /// Returns the guests' logs of watched runs, each with its watcher.
    pub(super) fn watched_logs(
        &self,
        logs: &BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> Vec<(RunId, mpsc::Sender<WatchEvent>, WatchEvent)> {
        let of_run = |(run, logs): (&RunId, &Vec<AttemptLog>)| {
            let watcher = self.runs.get(run)?.watcher.clone()?;
            let told = |log: &AttemptLog| (run.clone(), watcher.clone(), WatchEvent::Log(log.clone()));
            Some(logs.iter().map(told).collect::<Vec<_>>())
        };
        logs.iter().filter_map(of_run).flatten().collect()
    }
}
