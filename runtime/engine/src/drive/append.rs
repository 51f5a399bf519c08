//! The records of a step in the logbook, and snapshots that replace old ones.

use super::*;

impl Driver {
    /// Appends the records of every run at once; returns the runs for which the append failed, each with its error.
    pub(super) async fn append(
        &mut self,
        steps: &BTreeMap<RunId, StepResult>,
        logs: &mut BTreeMap<RunId, Vec<AttemptLog>>,
    ) -> BTreeMap<RunId, SubmitError> {
        let append = |(run, stepped): (&RunId, &StepResult)| {
            let live = self.runs.get(run)?;
            let flow = live.machine.flow().name.clone();
            let standing = RunInfo { shard: live.shard.clone(), flow, state: live.machine.state() };
            let (records, logs) = (stepped.records.clone(), logs.remove(run).unwrap_or_default());
            let told = self.publish_cursors.published(run);
            Some(Append { run: run.clone(), follows: live.version, records, info: standing, logs, published: told })
        };
        let appends: Vec<Append> = steps.iter().filter_map(append).collect();
        let mut refused = BTreeMap::new();
        match self.tools.logbook.append(appends).await {
            Ok(outcomes) => {
                for ((run, stepped), outcome) in steps.iter().zip(outcomes) {
                    match outcome {
                        AppendOutcome::Durable => {
                            if let Some(live) = self.runs.get_mut(run) {
                                live.version = live.version.after(&stepped.records);
                            }
                            self.publish_cursors.on_persisted(run, self.publish_cursors.published(run));
                            self.snapshot(run).await;
                        }
                        AppendOutcome::Conflict(version) => {
                            refused.insert(run.clone(), SubmitError::Exists { run: run.clone() });
                            self.on_conflict(run, version);
                        }
                    }
                }
            }
            Err(AppendError::Unavailable { reason }) => {
                error!(error = reason, "the logbook was not written");
                let unavailable = || AppendError::Unavailable { reason: reason.clone() };
                refused.extend(steps.keys().map(|run| (run.clone(), SubmitError::Append(unavailable()))));
            }
        }
        refused
    }

    /// Saves a snapshot of a run now and then, so that the cost of loading it depends on its size and not on its
    /// history. For a persistent run, the records before the previous snapshot are deleted, so that their number is
    /// bounded too.
    pub(super) async fn snapshot(&mut self, run: &RunId) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let since = live.version.get().saturating_sub(live.snapshot.get());
        let worth = SNAPSHOT_INTERVAL.max(2 * live.machine.size() as u64);
        if since < worth || live.machine.state().is_final() {
            return;
        }
        let lives = live.machine.flow().triggers.is_some();
        // Unpublished records must not be deleted. At a high rate the next snapshot waits for publishing: otherwise
        // no records would ever be deleted.
        if lives && !self.publish_cursors.is_published(run, live.snapshot) && since < MAX_SNAPSHOT_DELAY * worth {
            return;
        }
        let (version, snapshot) = (live.version, live.machine.snapshot());
        let before = std::mem::replace(&mut live.snapshot, version);
        if lives
            && before != Version::NONE
            && let Err(error) = self.tools.logbook.trim(run, before).await
        {
            warn!(%run, %error, "the oldest records of a run were not let go");
        }
        if let Err(error) = self.tools.logbook.save_snapshot(run, version, snapshot).await {
            warn!(%run, %error, "a snapshot was not kept: the run loads from an older one");
        }
    }
}
