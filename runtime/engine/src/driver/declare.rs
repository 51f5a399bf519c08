//! What runs need on the broker is declared beside the driver, before or while they go on.
//!
//! A run that starts, that is taken over or that changes what it listens to waits: it continues once its notifications can
//! arrive. A run that is loaded does not wait: its bindings are durable, so most of them exist. They are missing where the
//! broker has lost its data, or has deleted the queue of the shard.

use broker::{DeclareError, Delivery};
use flow::{Flow, RunId, Shard};
use protocol::{CommandRequest, Reply, Report, RunCommand};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::{Adoption, Batch, Driver, Submission};
use crate::{
    CommandError, SubmitError,
    declarations::{AfterDeclaration, EndedDeclaration, HeldCommand},
    effects::ReplyTo,
    messages,
    topology_cache::MissingObjects,
};

/// The reply to a command when too many commands are held.
const TOO_MANY_HELD: &str =
    "too many commands wait until their queues and listeners are declared on the broker: try it again";

impl Driver {
    /// Starts a run once the queue of its shard is bound to the tasks that its flow listens to.
    pub(super) fn prepare_submission(&mut self, submission: Submission, batch: &mut Batch) {
        match self.choose_shard(&submission.run) {
            Ok(shard) => match self.context.topology.missing(&submission.flow, &shard) {
                Some(missing) => self.declarations.start(shard, missing, AfterDeclaration::Submit(submission)),
                None => self.submit(submission, shard, batch),
            },
            Err(error) => drop(submission.reply_to.send(Err(error))),
        }
    }

    /// Takes over a run once the queue of its new shard is bound.
    pub(super) async fn prepare_adoption(&mut self, adoption: Adoption, batch: &mut Batch) {
        let flow = match &adoption.command {
            RunCommand::Edit { flow, .. } => flow,
            RunCommand::Cancel
            | RunCommand::Suspend
            | RunCommand::Resume
            | RunCommand::Retry
            | RunCommand::Skip { .. }
            | RunCommand::TaskNotification(_)
            | RunCommand::Notify { .. } => &adoption.flow,
        };
        let shard = self.shards.for_new(&adoption.run);
        let missing = shard.and_then(|shard| Some((self.context.topology.missing(flow, &shard)?, shard)));
        match missing {
            Some((missing, shard)) => self.declarations.start(shard, missing, AfterDeclaration::Adopt(adoption)),
            None => self.finish_adoption(adoption, batch).await,
        }
    }

    async fn finish_adoption(&mut self, adoption: Adoption, batch: &mut Batch) {
        let Adoption { run, flow: _, command, reply_to } = adoption;
        // The requester may have disconnected.
        let _ = reply_to.send(self.adopt(&run, command, batch).await);
    }

    /// Records a command of this process once its run can listen to tasks.
    pub(super) async fn prepare_local_command(
        &mut self,
        request: CommandRequest,
        reply_to: oneshot::Sender<Reply>,
        batch: &mut Batch,
    ) {
        if let Some(state) = self.ended_state(&request.run, &request.command, batch).await {
            let _ = reply_to.send(Reply::NotApplicable(state));
            return;
        }
        self.load(&request.run, None, batch).await;
        let namespace = self.namespace_of(&request.run);
        let shard = self.runs.get(&request.run).map(|active| active.shard.clone());
        let missing = shard.and_then(|shard| Some((self.missing_for(&request, &shard)?, shard)));
        match missing {
            Some(_) if !self.declarations.has_room_for_command(namespace.as_ref()) => {
                let _ = reply_to.send(Reply::Refused(TOO_MANY_HELD.into()));
            }
            Some((missing, shard)) => {
                let held = HeldCommand::Local { request, reply_to };
                self.declarations.start(shard, missing, AfterDeclaration::Command(held, namespace));
            }
            None => self.on_command(request.run, request.command, Some(ReplyTo::Local(reply_to)), batch),
        }
    }

    /// What a run needs on the broker before a command for it is recorded: an edit may add listeners, and the queue of the
    /// shard may be unbound from what an ended run listened to. The shard is that of the run.
    pub(super) fn missing_for(&self, request: &CommandRequest, shard: &Shard) -> Option<MissingObjects> {
        let CommandRequest { run, command } = request;
        let active = self.runs.get(run);
        let has_ended = active.is_some_and(|active| active.machine.state().is_final());
        let flow = match command {
            RunCommand::Edit { revision, flow } => {
                let is_outdated = active.is_some_and(|active| active.machine.revision() != *revision);
                let is_refused = has_ended || is_outdated || !self.runs.is_known(run);
                (!is_refused).then_some(flow)
            }
            RunCommand::Retry | RunCommand::Skip { .. } => {
                active.filter(|_| has_ended).map(|active| active.machine.flow())
            }
            RunCommand::Cancel
            | RunCommand::Suspend
            | RunCommand::Resume
            | RunCommand::TaskNotification(_)
            | RunCommand::Notify { .. } => None,
        };
        self.context.topology.missing(flow?, shard)
    }

    /// Holds a command from the queue of a shard, unsettled, until its run can listen to tasks.
    pub(super) fn hold_delivered(
        &mut self,
        missing: MissingObjects,
        shard: &Shard,
        request: CommandRequest,
        delivery: Delivery,
        batch: &mut Batch,
    ) {
        let namespace = self.namespace_of(&request.run);
        if !self.declarations.has_room_for_command(namespace.as_ref()) {
            return reply_delivered(delivery, Reply::Refused(TOO_MANY_HELD.into()), batch);
        }
        // Without a term its shard was just released, and the delivery goes back to the queue.
        let Some(term) = self.shards.term(shard) else { return };
        let held = HeldCommand::Delivered { request, term, delivery: Box::new(delivery) };
        self.declarations.start(shard.clone(), missing, AfterDeclaration::Command(held, namespace));
    }

    /// Declares what a loaded run needs, while it goes on.
    pub(super) fn declare_beside(&mut self, run: &RunId, flow: &Flow, shard: &Shard) {
        if let Some(missing) = self.context.topology.missing(flow, shard) {
            self.declarations.start(shard.clone(), missing, AfterDeclaration::Load(run.clone()));
        }
    }

    /// Continues what waited for a declaration.
    pub(super) async fn on_declared(&mut self, ended: EndedDeclaration, batch: &mut Batch) {
        let EndedDeclaration { shard, after, result } = ended;
        match after {
            AfterDeclaration::Submit(submission) => self.continue_submission(submission, shard, result, batch),
            AfterDeclaration::Adopt(adoption) => match result {
                Ok(()) => self.finish_adoption(adoption, batch).await,
                Err(error) => {
                    let failed = CommandError::Failed { reason: listen_error(&error) };
                    drop(adoption.reply_to.send(Err(failed)));
                }
            },
            AfterDeclaration::Command(held, _) => {
                let result = result.map_err(|error| listen_error(&error));
                self.continue_command(held, &shard, result, batch).await;
            }
            AfterDeclaration::Load(run) => {
                if let Err(error) = result {
                    warn!(%run, %error, "the run does not receive notifications of all tasks that it listens to until it is read again");
                }
            }
            AfterDeclaration::Unbind => {
                if let Err(error) = result {
                    debug!(%shard, %error, "the binding could not be removed; notifications still arrive");
                }
            }
        }
    }

    /// Starts a run whose notifications can arrive now, or replies why it cannot start.
    fn continue_submission(
        &mut self,
        submission: Submission,
        shard: Shard,
        result: Result<(), DeclareError>,
        batch: &mut Batch,
    ) {
        // If another engine has driven the shard meanwhile, it may have unbound the queue.
        let is_lost = !self.shards.owns(&shard) || !self.context.topology.is_bound(&submission.flow, &shard);
        let result = result.map_err(SubmitError::Listen).and_then(|()| self.choose_shard(&submission.run));
        match result {
            Ok(_) if !is_lost => self.submit(submission, shard, batch),
            Ok(_) => drop(submission.reply_to.send(Err(SubmitError::NoShard))),
            Err(error) => drop(submission.reply_to.send(Err(error))),
        }
    }

    /// Records a command whose run can listen to tasks now, or replies why it cannot.
    async fn continue_command(
        &mut self,
        held: HeldCommand,
        shard: &Shard,
        result: Result<(), String>,
        batch: &mut Batch,
    ) {
        match held {
            HeldCommand::Local { request, reply_to } => {
                if let Err(reason) = result {
                    return drop(reply_to.send(Reply::Failed(reason)));
                }
                self.load(&request.run, None, batch).await;
                self.declare_edited(&request, shard);
                self.on_command(request.run, request.command, Some(ReplyTo::Local(reply_to)), batch);
            }
            HeldCommand::Delivered { request, term, delivery } => {
                // If dropped, the delivery goes back to the queue, for the current driver.
                if !self.shards.is_current(shard, term) || !self.shards.owns(shard) {
                    return;
                }
                if let Err(reason) = result {
                    return reply_delivered(*delivery, Reply::Failed(reason), batch);
                }
                self.load(&request.run, Some(shard), batch).await;
                if self.missing_for(&request, shard).is_some_and(|missing| !missing.bindings().is_empty()) {
                    // The shard was driven elsewhere meanwhile.
                    return;
                }
                self.declare_edited(&request, shard);
                self.on_report(shard, Report::Command(request), *delivery, batch);
            }
        }
    }

    /// Goes on to declare the queues of an edited flow, if they took too long for the command.
    fn declare_edited(&mut self, request: &CommandRequest, shard: &Shard) {
        if let RunCommand::Edit { flow, .. } = &request.command {
            self.declare_beside(&request.run, flow, shard);
        }
    }
}

/// Why a command is not recorded.
fn listen_error(error: &DeclareError) -> String {
    format!("could not bind the queue of the engine to the tasks that the flow listens to: {error}")
}

/// Replies to a command from the queue of a shard, of which nothing is recorded.
pub(super) fn reply_delivered(delivery: Delivery, reply: Reply, batch: &mut Batch) {
    let correlation_id = delivery.message.properties.correlation_id.clone();
    if let Some(queue) = messages::reply_queue_of(&delivery) {
        batch.effects.reply(ReplyTo::Remote { queue, correlation_id }, reply);
    }
    batch.effects.to_accept.push(delivery);
}
