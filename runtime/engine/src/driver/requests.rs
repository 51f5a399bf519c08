//! Requests from the engine's handle.

use std::sync::Arc;

use flow::{CallId, Flow, Labels, NodeName, RunId, Shard};
use logbook::Version;
use machine::{Event, Machine};
use protocol::{CommandRequest, Reply, RunCommand};
use tokio::sync::{mpsc, oneshot};
use traces::RunTrace;

use super::{Batch, CallLocation, Driver, Submitted};
use crate::{
    CommandError, SilentLease, SubmitError, Watch,
    loads::LoadedRun,
    messages,
    runs::{ActiveRun, RunEvent, is_inactive},
    watch,
};

/// A request from the engine's handle to the driver.
pub(crate) enum DriverRequest {
    /// Start a run.
    Submit(Submission),
    /// Take over a run that another process left.
    Adopt(Adoption),
    /// Record a command for a run of a shard that is driven here.
    Command { run: RunId, command: RunCommand, reply_to: oneshot::Sender<Reply> },
    /// Abandon the calls of a run that is being suspended.
    Abandon { run: RunId },
    /// Return, for each leased call of a run that is driven here, the time since its last heartbeat.
    SilentLeases { run: RunId, reply_to: oneshot::Sender<Vec<SilentLease>> },
    /// Return the flow of a run that is driven here, if a notification of a task would be new to it.
    NotifiedFlow { run: RunId, task: NodeName, key: Option<String>, reply_to: oneshot::Sender<Option<Arc<Flow>>> },
    /// Health check: answer as soon as possible.
    Check { reply_to: oneshot::Sender<()> },
    /// Return the location of each outstanding call.
    CallLocations { reply_to: oneshot::Sender<Vec<(CallId, CallLocation)>> },
}

/// A request to start a run.
pub(crate) struct Submission {
    pub(crate) run: RunId,
    pub(crate) flow: Arc<Flow>,
    pub(crate) labels: Labels,
    pub(crate) reply_to: oneshot::Sender<Result<Watch, SubmitError>>,
}

/// A request to take over a run that another process left.
pub(crate) struct Adoption {
    pub(crate) run: RunId,
    /// The flow of the run.
    pub(crate) flow: Arc<Flow>,
    /// The command for the run.
    pub(crate) command: RunCommand,
    pub(crate) reply_to: oneshot::Sender<Result<Watch, CommandError>>,
}

impl Driver {
    /// Handles a request. A requester may have disconnected: a reply that it does not receive changes nothing.
    pub(super) async fn on_request(&mut self, request: DriverRequest, batch: &mut Batch) {
        match request {
            DriverRequest::Submit(submission) => self.prepare_submission(submission, batch),
            DriverRequest::Adopt(adoption) => self.prepare_adoption(adoption, batch).await,
            DriverRequest::Command { run, command, reply_to } => {
                self.prepare_local_command(CommandRequest { run, command }, reply_to, batch).await;
            }
            DriverRequest::Abandon { run } => {
                if let Some(active) = self.runs.get(&run) {
                    batch.effects.messages.extend(
                        active.machine.outstanding_calls().map(|call| messages::interrupt(call, &self.context.secret)),
                    );
                }
                self.enqueue(RunEvent::new(run, Event::Abandon), batch);
            }
            DriverRequest::SilentLeases { run, reply_to } => {
                let silences = |active: &ActiveRun| self.leases.silences(&active.shard, &active.machine);
                let _ = reply_to.send(self.runs.get(&run).map(silences).unwrap_or_default());
            }
            DriverRequest::NotifiedFlow { run, task, key, reply_to } => {
                let is_new = |active: &&ActiveRun| {
                    !is_inactive(active.machine.state())
                        && key.as_ref().is_none_or(|key| !active.machine.has_received(&task, key))
                };
                let active = self.runs.get(&run).filter(is_new);
                let _ = reply_to.send(active.map(|active| active.machine.flow().clone()));
            }
            DriverRequest::Check { reply_to } => {
                let _ = reply_to.send(());
            }
            DriverRequest::CallLocations { reply_to } => {
                let _ = reply_to.send(self.call_locations());
            }
        }
    }

    /// Chooses the shard of a new run.
    pub(super) fn choose_shard(&self, run: &RunId) -> Result<Shard, SubmitError> {
        if self.runs.is_active(run) || self.runs.is_being_read(run) {
            return Err(SubmitError::Exists { run: run.clone() });
        }
        if self.runs.is_stale(run) {
            // The run may have begun: the next tick reads its records.
            return Err(SubmitError::NoShard);
        }
        self.shards.for_new(run).ok_or(SubmitError::NoShard)
    }

    /// Starts a run in a shard whose queue is bound to what the flow listens to.
    pub(super) fn submit(&mut self, submission: Submission, shard: Shard, batch: &mut Batch) {
        let Submission { run, flow, labels, reply_to } = submission;
        let (watcher, events) = mpsc::channel(watch::WATCH_CAPACITY);
        self.recent.remove(&run);
        let trace = RunTrace::of(&run, &labels, flow.triggers.is_some());
        let machine = Machine::labelled(run.clone(), flow, labels);
        let active = ActiveRun::new(machine, Version::NONE, Version::NONE, shard);
        self.runs.insert(run.clone(), ActiveRun { watcher: Some(watcher), trace, ..active });
        batch.push(run.clone(), Event::Start);
        batch.submitted.push(Submitted { run, reply_to, watch: Watch { events } });
    }

    /// Takes over a run that another process left.
    pub(super) async fn adopt(
        &mut self,
        run: &RunId,
        command: RunCommand,
        batch: &mut Batch,
    ) -> Result<Watch, CommandError> {
        if self.runs.is_driven(run) {
            return Err(CommandError::AlreadyDriven { run: run.clone() });
        }
        self.recent.remove(run);
        let loaded = self.read_orphaned(run).await;
        let LoadedRun { active, unpublished, .. } = loaded.map_err(|error| CommandError::of_load(run, &error))?;
        let state = active.machine.state();
        if state.is_final() && !may_reopen(&command) {
            return Err(CommandError::NotApplicable { run: run.clone(), command: command.as_str(), state });
        }
        let shard = self.shards.for_new(run).ok_or(CommandError::Unreachable { run: run.clone() })?;
        if active.machine.flow().tasks().any(|(_, _, task)| !task.pace.is_unlimited()) {
            self.load_orphaned(&shard).await;
        }
        let (watcher, events) = mpsc::channel(watch::WATCH_CAPACITY);
        let active = ActiveRun { shard, watcher: Some(watcher), ..active };
        self.publications.republish(run, &active, unpublished);
        match self.runs.remove_stale(run) {
            Some(stale) => self.insert_with_held(run, active, stale, batch),
            None => self.activate(run.clone(), active, batch),
        }
        self.on_command(run.clone(), command, None, batch);
        Ok(Watch { events })
    }
}

/// Whether a command applies to a run that has ended.
fn may_reopen(command: &RunCommand) -> bool {
    match command {
        RunCommand::Retry | RunCommand::Skip { .. } => true,
        RunCommand::Cancel
        | RunCommand::Suspend
        | RunCommand::Resume
        | RunCommand::TaskNotification(_)
        | RunCommand::Notify { .. }
        | RunCommand::Edit { .. } => false,
    }
}
