//! One job, from its delivery to its signal.

use std::{collections::BTreeMap, convert::Infallible, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

use broker::{Broker, Delivery, Message, PublishError, Refusals, Routing};
use bytes::Bytes;
use flow::{CallId, Digest, Execution, Failure, FailureKind, Signal, Size, TaskResult, WorkerName};
use protocol::{CallKeys, CallLog, DecodeError, Job, Key, Report, lease, topology};
use sandbox::CallSlot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    CallJournal, GuestResult, GuestRunner,
    call_registry::{self, AcceptedCall, CallGuard, CallRegistry},
    intake, live,
    progress::{self, LastProgress},
    queue_wait,
    result_cache::{Executions, ResultCache},
    signal_sender::{SignalSender, report_message},
    slots::Slot,
    spans::{self, Processing},
    start_check::StartDecision,
};

/// Delays before an unconfirmed signal is sent again; after the last one the job is requeued.
const RESEND_AFTER: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Maximum time that a stopping worker tries to release a leased call, or to send the signal of an ended one. If it fails,
/// the lease expires, or the job is requeued.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

// An engine counts a call as lost this time after its timeout, which stands still while the call waits for a slot. Five minutes are for
// everything else.
const _: () = assert!(sandbox::MAX_SLOT_WAIT.as_secs() + 5 * 60 <= lease::MAX_PREPARATION.as_secs());

/// The result of publishing a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    /// The broker has it, or its receiver no longer exists.
    Confirmed,
    /// The broker may not have it: the job must be delivered again.
    Unconfirmed,
}

/// A message is too large; the text is the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLarge(String);

/// What keeps a call on this worker.
enum CallHold {
    /// Its delivery, which is requeued if the worker dies.
    Delivery(Box<Delivery>),
    /// The heartbeats of its lease.
    Lease,
}

/// The result of a call.
struct CallResult {
    answer: TaskResult,
    log: CallLog,
    /// The keys of the values that were put into the store.
    stored: BTreeMap<Digest, Key>,
}

/// The state that all jobs of a worker share.
pub(crate) struct JobHandler {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) signals: SignalSender,
    pub(crate) guests: Arc<dyn GuestRunner>,
    pub(crate) calls: Arc<CallRegistry>,
    pub(crate) recent: ResultCache,
    /// Counts the messages on queues of jobs that did not come from an engine.
    pub(crate) refusals: Refusals,
    pub(crate) executions: Executions,
    pub(crate) name: WorkerName,
    /// Maximum number of redeliveries of a job that sets no own limit.
    pub(crate) delivery_limit: NonZeroU32,
    /// The running calls in a file, if the broker cannot count losses beyond this process.
    pub(crate) journal: Option<Arc<CallJournal>>,
    /// Cancelled when the worker's grace period is over: running calls are then returned.
    pub(crate) abandon: CancellationToken,
}

impl JobHandler {
    /// Handles a job. The delivery is accepted once its signal is confirmed, or the call is under a lease; it is
    /// requeued when the worker stops before that. A message that is not a job goes to the quarantine, and so does a job
    /// that reached the delivery limit by killing workers; its run is notified.
    ///
    /// The slot is free once the guest has ended.
    pub(crate) async fn handle(self: Arc<Self>, delivery: Delivery, slot: Slot) {
        match read(&delivery.message) {
            Ok(job) => {
                let processing = Processing::begin(&delivery.message, &job, &self.name);
                let span = info_span!(
                    "call",
                    run = %job.call.run,
                    task = %job.call.task,
                    firing = %job.call.firing,
                    attempt = %job.call.attempt,
                    digest = %job.module.short(),
                    trace_id = processing.trace(),
                );
                match processing.context() {
                    None => self.handle_job(delivery, job, slot).instrument(span).await,
                    Some(context) => {
                        let handling = self.handle_job(delivery, job, slot).instrument(span);
                        Box::pin(traces::within(context, handling)).await;
                    }
                }
            }
            Err(unusable) => {
                // No guest is called while the message is moved.
                drop(slot);
                self.refuse(delivery, unusable).await;
            }
        }
    }

    /// Returns a fetched job that was not started to its engine. A message that is not a job is handled as if it had a slot.
    pub(crate) async fn return_fetched(&self, delivery: Delivery) {
        match read(&delivery.message) {
            Ok(job) => {
                let unanswered = protocol::unanswered(&delivery.message.properties.headers);
                intake::return_unstarted(&self.signals, &job, delivery, unanswered).await;
            }
            Err(unusable) => self.refuse(delivery, unusable).await,
        }
    }

    /// Drops a message that no engine sent, and moves a job that cannot be read to the quarantine.
    async fn refuse(&self, delivery: Delivery, unusable: Unusable) {
        match unusable {
            Unusable::WrongExchange => {
                let reason = "a job that did not come through the exchange of engines";
                self.refusals.log(&queue_of(&delivery.message), reason);
                delivery.accept();
            }
            Unusable::Unreadable(error) => {
                let message_id = delivery.message.properties.message_id.as_deref();
                warn!(%error, message_id, "a message on a queue of jobs cannot be read; it is kept in waft.quarantine");
                let reason = format!("worker {} could not read the job: {error}", self.name);
                self.quarantine(delivery, reason).await;
            }
        }
    }

    async fn handle_job(&self, delivery: Delivery, job: Job, slot: Slot) {
        let is_redelivered = call_registry::was_redelivered(&delivery);
        // A redelivered job may have been executed by a lost worker. It is called again, and not answered from the
        // cache.
        let cached = if is_redelivered { None } else { self.recent.get(&job) };
        if let Some(body) = cached {
            debug!("the job has a recent result; its signal is sent again");
            drop(slot);
            let published = self.send_signal(&job.call, body, &job.signal_to).await;
            return settle(delivery, published.unwrap_or(PublishOutcome::Unconfirmed));
        }
        let accepted = self.calls.accept(&job, self.executions.next(), delivery);
        let Some(AcceptedCall { delivery, call, precondition }) = accepted else {
            return debug!("the job already runs on this worker");
        };
        let unanswered = protocol::unanswered(&delivery.message.properties.headers);
        match self.check_start(&job, precondition, unanswered, &call.interrupt).await {
            StartDecision::Start => {}
            StartDecision::Withdrawn => return self.drop_withdrawn(delivery, &job, call).await,
            StartDecision::Return => {
                delivery.requeue();
                return call.end().deliveries.into_iter().for_each(Delivery::requeue);
            }
            StartDecision::AskLater => {
                // First, so that the job that the engine sends next is no second delivery of this one.
                let others = call.end().deliveries;
                intake::return_unstarted(&self.signals, &job, delivery, unanswered.saturating_add(1)).await;
                return others.into_iter().for_each(Delivery::requeue);
            }
        }
        let lost_with_process = self.journal.as_ref().map_or(0, |journal| journal.times_lost(&job.call));
        let times = call_registry::times_returned(&delivery).saturating_add(lost_with_process);
        if times >= job.delivery_limit.unwrap_or(self.delivery_limit).get() {
            warn!(times, "the job was redelivered too often; it is kept in waft.quarantine");
            call.end().deliveries.into_iter().for_each(Delivery::requeue);
            let poison = topology::POISON;
            let reason = format!("{poison} {times} times without an answer: its workers were killed or stopped");
            drop(slot);
            self.quarantine(delivery, reason).await;
            // The call has ended.
            return drop(self.journal.as_ref().map(|journal| journal.begin(&job.call)));
        }
        let running = self.journal.as_ref().map(|journal| journal.begin(&job.call));
        metrics::global().observe_queue_wait(queue_wait::since(job.at));
        let began_at = Instant::now();
        let (hold, outcome) = self.hold_and_call(delivery, &job, &call, &slot).await;
        drop((running, slot));
        let execution = call.execution();
        let redeliveries = call.end();
        let Some(CallResult { answer, log, stored }) = outcome else {
            redeliveries.deliveries.into_iter().for_each(Delivery::requeue);
            return self.release(hold, &job).await;
        };
        metrics::global().observe_attempt(job.call.action, began_at.elapsed());
        if let TaskResult::Failed(failure) = &answer {
            debug!(%failure, "the call failed");
        }
        // Between two deliveries to this worker, another worker may have had the job and been lost.
        let signal = self.signal_of(&job, execution, answer, is_redelivered || redeliveries.was_redelivered);
        let keys = job.keys.clone().with_contents(stored);
        let mut body = Bytes::from(Report::Signal(signal.clone(), log).encode(&keys));
        match hold {
            CallHold::Delivery(delivery) => {
                let published = self.send_answer(&mut body, &signal, &job).await;
                if published == PublishOutcome::Confirmed {
                    self.recent.insert(&job, &body);
                }
                settle(*delivery, published);
                redeliveries.deliveries.into_iter().for_each(|delivery| settle(delivery, published));
            }
            // Only this worker has the result.
            CallHold::Lease => {
                while self.send_answer(&mut body, &signal, &job).await == PublishOutcome::Unconfirmed
                    && !self.abandon.is_cancelled()
                {
                    tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
                }
            }
        }
    }

    pub(crate) fn signal_of(&self, job: &Job, execution: Execution, answer: TaskResult, redelivered: bool) -> Signal {
        let call = job.call.clone();
        Signal { call, answer, execution, redelivered, worker: Some(self.name.clone()) }
    }

    /// Makes the call. A long call gets a lease meanwhile, so that its delivery is not held for long. Reports to the
    /// engine are published beside the call, and never delay it.
    async fn hold_and_call(
        &self,
        delivery: Delivery,
        job: &Job,
        guard: &CallGuard<'_>,
        slot: &Slot,
    ) -> (CallHold, Option<CallResult>) {
        let mut hold = CallHold::Delivery(Box::new(delivery));
        let outcome = {
            let call = pin!(self.call(job, guard.interrupt.clone(), slot.lendable()));
            let lease = pin!(self.hold(&mut hold, (job, guard), slot));
            // Once the call has ended, a pending report is dropped, since the result makes it obsolete.
            tokio::select! {
                biased;
                outcome = call => outcome,
                never = lease => match never {},
            }
        };
        (hold, outcome)
    }

    /// Takes a lease for a call once it has run for long, and renews the lease for as long as it is polled.
    async fn hold(&self, hold: &mut CallHold, (job, guard): (&Job, &CallGuard<'_>), slot: &Slot) -> Infallible {
        tokio::time::sleep(lease::LEASE_THRESHOLD).await;
        loop {
            match hold {
                CallHold::Delivery(_) => {
                    if self.report(job, self.heartbeat(job, guard), DeliveryGuarantee::AtLeastOnce).await
                        == PublishOutcome::Confirmed
                        && let CallHold::Delivery(delivery) = std::mem::replace(hold, CallHold::Lease)
                    {
                        slot.lease();
                        delivery.accept();
                        self.calls.lease(job);
                    }
                }
                CallHold::Lease => {
                    self.report(job, self.heartbeat(job, guard), DeliveryGuarantee::BestEffort).await;
                }
            }
            tokio::time::sleep(lease::HEARTBEAT_INTERVAL).await;
        }
    }

    fn heartbeat(&self, job: &Job, guard: &CallGuard<'_>) -> Report {
        Report::Heartbeat { call: job.call.clone(), worker: self.name.clone(), number: guard.next_heartbeat() }
    }

    /// Returns a call that the worker stopped, or could not start.
    async fn release(&self, hold: CallHold, job: &Job) {
        match hold {
            CallHold::Delivery(delivery) if self.abandon.is_cancelled() => delivery.requeue(),
            // This machine could not start the call: no worker is lost.
            CallHold::Delivery(delivery) => {
                let unanswered = protocol::unanswered(&delivery.message.properties.headers);
                intake::return_unstarted(&self.signals, job, *delivery, unanswered).await;
            }
            CallHold::Lease => {
                let released = Report::Released { call: job.call.clone(), worker: self.name.clone() };
                let message = report_message(&job.call, &job.signal_to, released.encode(&job.keys).into());
                if timeout(RELEASE_TIMEOUT, self.broker.publish(message)).await.is_err() {
                    warn!("the call could not be released: its lease will expire");
                }
            }
        }
    }

    /// Moves a delivery to the quarantine and notifies its run, if the headers name it.
    async fn quarantine(&self, delivery: Delivery, reason: String) {
        let properties = &delivery.message.properties;
        let recipient = protocol::call_of(&properties.headers).zip(properties.reply_to.clone());
        let published = match recipient {
            Some((call, signal_to)) => {
                let message = format!("{reason}; its message is in waft.quarantine");
                let answer = TaskResult::Failed(Failure::new(FailureKind::Poison, message));
                let signal = Signal {
                    call: call.clone(),
                    answer,
                    execution: self.executions.next(),
                    redelivered: true,
                    worker: Some(self.name.clone()),
                };
                // The job cannot be read, but its key can.
                let keys = CallKeys::of_call(Key::of_job(&delivery.message.body));
                let body = Report::Signal(signal, CallLog::default()).encode(&keys);
                // A signal that can never be sent must not keep the message out of the quarantine.
                self.send_signal(&call, body.into(), &signal_to).await.unwrap_or(PublishOutcome::Confirmed)
            }
            None => PublishOutcome::Confirmed,
        };
        match published {
            PublishOutcome::Confirmed => {
                let queue = queue_of(&delivery.message);
                let move_to_quarantine = broker::quarantine(&*self.broker, delivery, &queue, &reason);
                // If dropped, the delivery is requeued.
                self.abandon.run_until_cancelled(move_to_quarantine).await;
            }
            PublishOutcome::Unconfirmed => delivery.requeue(),
        }
    }

    /// Sends the result of a call. A result that is too large for the broker becomes a failure with that reason: the result of
    /// another attempt would be too large too.
    async fn send_answer(&self, body: &mut Bytes, signal: &Signal, job: &Job) -> PublishOutcome {
        let size = body.len();
        let TooLarge(reason) = match self.send_signal(&signal.call, body.clone(), &job.signal_to).await {
            Ok(published) => return published,
            Err(too_large) => too_large,
        };
        let message =
            format!("its result has {:#}, which is more than a message may have: {reason}", Size(size as u64));
        warn!(message, "a call fails since its result is too large");
        let answer = TaskResult::Failed(Failure::new(FailureKind::Permanent, message));
        let failed = Signal { answer, ..signal.clone() };
        *body = Report::Signal(failed, CallLog::default()).encode(&job.keys).into();
        self.send_signal(&signal.call, body.clone(), &job.signal_to).await.unwrap_or(PublishOutcome::Unconfirmed)
    }

    /// Publishes the signal of a call.
    pub(crate) async fn send_signal(
        &self,
        call: &CallId,
        body: Bytes,
        signal_to: &str,
    ) -> Result<PublishOutcome, TooLarge> {
        let _span = spans::publish(signal_to, body.len());
        let send = self.publish(|| self.signals.send(call.clone(), signal_to.to_owned(), body.clone()));
        let mut send = pin!(send);
        match self.abandon.run_until_cancelled(send.as_mut()).await {
            Some(published) => published,
            // It may wait for the confirm of an earlier message, and a lost result is a lost call.
            None => timeout(RELEASE_TIMEOUT, send).await.unwrap_or(Ok(PublishOutcome::Unconfirmed)),
        }
    }

    /// Sends the engine a report about a running call.
    async fn report(&self, job: &Job, report: Report, guarantee: DeliveryGuarantee) -> PublishOutcome {
        let message = report_message(&job.call, &job.signal_to, report.encode(&job.keys).into());
        let publish = async {
            match guarantee {
                DeliveryGuarantee::AtLeastOnce => {
                    let published = self.publish(|| self.broker.publish(message.clone())).await;
                    published.unwrap_or(PublishOutcome::Unconfirmed)
                }
                DeliveryGuarantee::BestEffort => {
                    let transient = Message { persistent: false, routing: Routing::Optional, ..message };
                    // The next report repeats a lost one.
                    let _ = self.broker.publish(transient).await;
                    PublishOutcome::Confirmed
                }
            }
        };
        // The report waits at most until the next one is due.
        timeout(lease::HEARTBEAT_INTERVAL, publish).await.unwrap_or(PublishOutcome::Unconfirmed)
    }

    /// Publishes until the broker has the message: sending again is cheaper than repeating the call. A queue that is
    /// just being deleted may reject a signal before its deletion is known.
    async fn publish<Attempt>(&self, mut attempt: impl FnMut() -> Attempt) -> Result<PublishOutcome, TooLarge>
    where
        Attempt: Future<Output = Result<(), PublishError>>,
    {
        for delay in RESEND_AFTER {
            match attempt().await {
                Ok(()) => return Ok(PublishOutcome::Confirmed),
                Err(PublishError::TooLarge { reason, .. }) => return Err(TooLarge(reason)),
                // Somebody deleted the exchange, so the bindings of its queues too.
                Err(ref error @ PublishError::Unroutable { ref key, .. }) if self.signals.has_queue(key).await => {
                    warn!(%error, "the queue of an engine is not bound, until the engine binds it again; the signal is sent again");
                    tokio::time::sleep(delay).await;
                }
                Err(PublishError::Unroutable { key, .. }) => {
                    warn!(queue = key, "no engine waits for this signal any more: its queue was deleted");
                    return Ok(PublishOutcome::Confirmed);
                }
                Err(PublishError::Closed) => return Ok(PublishOutcome::Unconfirmed),
                Err(
                    error @ (PublishError::Refused { .. }
                    | PublishError::Rejected { .. }
                    | PublishError::Unconfirmed { .. }),
                ) => {
                    debug!(%error, "the signal was not confirmed; it is sent again");
                    tokio::time::sleep(delay).await;
                }
            }
        }
        warn!("the broker does not confirm the signal; the job is requeued");
        Ok(PublishOutcome::Unconfirmed)
    }

    /// Calls the guest; `None` when the worker stopped the call and the job must be returned.
    async fn call(&self, job: &Job, interrupt: CancellationToken, slot: Arc<dyn CallSlot>) -> Option<CallResult> {
        let observer = Arc::new(LastProgress::default());
        let done = CancellationToken::new();
        let progress_reports =
            progress::report_progress(self.broker.clone(), job, self.name.clone(), observer.clone(), done.clone());
        let live_log = live::publish(
            self.broker.clone(),
            job.call.clone(),
            self.name.clone(),
            &observer.lines,
            self.calls.followed(),
            done.clone(),
        );
        let guest_call = async {
            let _ends_reports = done.drop_guard();
            // If dropped, the call stops; the token `interrupt` is for this call, `abandon` for all.
            let call = self.guests.call(job, interrupt.clone(), observer.clone(), slot);
            self.abandon.run_until_cancelled(call).await
        };
        let (result, (), ()) = futures::join!(guest_call, progress_reports, live_log);
        let GuestResult { answer, log, stored } = result?;
        let answer = match answer {
            sandbox::Completion::Succeeded(values) => TaskResult::Succeeded(values),
            sandbox::Completion::Failed(failure) => TaskResult::Failed(failure),
            sandbox::Completion::Interrupted if interrupt.is_cancelled() => {
                TaskResult::Failed(Failure::new(FailureKind::Cancelled, "the run was cancelled"))
            }
            sandbox::Completion::Interrupted => return None,
        };
        Some(CallResult { answer, log, stored })
    }
}

/// Why a message on a queue of jobs is not a job.
enum Unusable {
    /// It did not come from an engine or an operator.
    WrongExchange,
    Unreadable(DecodeError),
}

fn read(message: &Message) -> Result<Job, Unusable> {
    if ![topology::JOBS, topology::RELEASED].contains(&message.exchange.as_str()) {
        return Err(Unusable::WrongExchange);
    }
    Job::decode(&message.body).map_err(Unusable::Unreadable)
}

/// The queue of jobs that a message was taken from.
fn queue_of(message: &Message) -> String {
    topology::queue_of(&message.exchange, &message.key)
}

/// Delivery guarantee for a report to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryGuarantee {
    /// Repeated until the broker has it.
    AtLeastOnce,
    /// Published once; a failure is ignored.
    BestEffort,
}

pub(crate) fn settle(delivery: Delivery, published: PublishOutcome) {
    match published {
        PublishOutcome::Confirmed => delivery.accept(),
        PublishOutcome::Unconfirmed => delivery.requeue(),
    }
}
