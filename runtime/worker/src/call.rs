//! One job, from its delivery to its signal.

use std::{sync::Arc, time::Duration};

use broker::{Broker, Delivery, Message, Properties, PublishError, Routing};
use flow::{Answer, CallId, Failure, FailureKind, Signal, WorkerName};
use protocol::{Job, Report, topology};
use sandbox::{Action, Call};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    Modules,
    control::Calls,
    progress::{self, Said},
};

/// How long to wait before a signal that was not taken is sent again; after the last the job goes back.
const RESEND_AFTER: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What became of a signal.
enum Signalled {
    /// The broker has it, or nobody wants it any more.
    Taken,
    /// The broker may not have it: the job has to come again.
    NotTaken,
}

/// What all jobs of a worker share.
pub(crate) struct Caller {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) modules: Modules,
    pub(crate) calls: Arc<Calls>,
    pub(crate) name: WorkerName,
    /// Cancelled when the worker's grace is over: what runs then goes back.
    pub(crate) abandon: CancellationToken,
}

impl Caller {
    /// Answers a job. The delivery is accepted once its signal is confirmed, and goes back when the worker stops
    /// before that. What cannot be a job, and a job that killed as many workers as the delivery limit allows, is kept
    /// in quarantine, and its run is told.
    pub(crate) async fn answer(self: Arc<Self>, delivery: Delivery) {
        match Job::decode(&delivery.message.body) {
            Ok(job) => {
                let span = info_span!(
                    "call",
                    run = %job.call.run,
                    task = %job.call.task,
                    firing = %job.call.firing,
                    attempt = %job.call.attempt,
                    digest = %job.module.short(),
                );
                self.answer_job(delivery, job).instrument(span).await;
            }
            Err(error) => {
                let message_id = delivery.message.properties.message_id.as_deref();
                warn!(%error, message_id, "a message on a queue of jobs cannot be read; it is kept in waft.quarantine");
                let reason = format!("worker {} could not read the job: {error}", self.name);
                self.quarantine(delivery, reason).await;
            }
        }
    }

    async fn answer_job(&self, delivery: Delivery, job: Job) {
        if delivery.returned >= topology::DELIVERY_LIMIT {
            let times = delivery.returned;
            warn!(times, "the job came back too often; it is kept in waft.quarantine");
            let reason =
                format!("the job came back {times} times without an answer: its workers were killed or stopped");
            return self.quarantine(delivery, reason).await;
        }
        if delivery.returned > 0 && self.is_abandoned(&job.signal_to).await {
            warn!(queue = job.signal_to, "nobody waits for this job any more: its engine has gone");
            return delivery.accept();
        }
        let interrupt = self.calls.begin(&job.call);
        let answer = self.call(&job, interrupt).await;
        self.calls.end(&job.call);
        let Some(answer) = answer else {
            delivery.requeue();
            return;
        };
        if let Answer::Failed(failure) = &answer {
            debug!(%failure, "the call failed");
        }
        match self.signal(job.call, answer, job.signal_to).await {
            Signalled::Taken => delivery.accept(),
            Signalled::NotTaken => delivery.requeue(),
        }
    }

    /// Whether nobody can hear a signal: its queue is gone. Asked of jobs that came back, since a job that comes for the
    /// first time has an engine, and asking costs a round trip.
    async fn is_abandoned(&self, signal_to: &str) -> bool {
        matches!(self.broker.waiting(signal_to).await, Ok(None))
    }

    /// Keeps a delivery for a person and tells its run, where the headers say which.
    async fn quarantine(&self, delivery: Delivery, reason: String) {
        let properties = &delivery.message.properties;
        let told = protocol::call_of(&properties.headers).zip(properties.reply_to.clone());
        let signalled = match told {
            Some((call, signal_to)) => {
                let failure = Failure::new(FailureKind::Poison, format!("{reason}; its message is in waft.quarantine"));
                self.signal(call, Answer::Failed(failure), signal_to).await
            }
            None => Signalled::Taken,
        };
        match signalled {
            Signalled::Taken => delivery.dead_letter(),
            Signalled::NotTaken => delivery.requeue(),
        }
    }

    /// Broadcasts the answer to a call.
    async fn signal(&self, call: CallId, answer: Answer, signal_to: String) -> Signalled {
        let properties = Properties {
            message_id: Some(protocol::message_id(&call)),
            headers: protocol::headers(&call),
            ..Properties::default()
        };
        let report = Report::Signal(Signal { call, answer, worker: Some(self.name.clone()) });
        let message = Message {
            exchange: String::new(),
            key: signal_to,
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties,
            body: report.encode().into(),
        };
        self.abandon.run_until_cancelled(self.publish(message)).await.unwrap_or(Signalled::NotTaken)
    }

    /// Publishes a signal until the broker has it: to send it again is cheaper than to make the call again, and a queue
    /// that is just being deleted refuses a signal before it is known to be gone.
    async fn publish(&self, message: Message) -> Signalled {
        for pause in RESEND_AFTER {
            match self.broker.publish(message.clone()).await {
                Ok(()) => return Signalled::Taken,
                Err(PublishError::Unroutable { key, .. }) => {
                    warn!(queue = key, "nobody waits for this signal any more: its engine has gone");
                    return Signalled::Taken;
                }
                Err(PublishError::Closed) => return Signalled::NotTaken,
                Err(error @ (PublishError::Refused { .. } | PublishError::Unconfirmed { .. })) => {
                    debug!(%error, "the signal was not taken; it is sent again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
        warn!("the broker does not take the signal; the job goes back");
        Signalled::NotTaken
    }

    /// Calls the guest; `None` when the worker stopped the call and the job is to go back.
    async fn call(&self, job: &Job, interrupt: CancellationToken) -> Option<Answer> {
        let finding = self.modules.find(job.module, &job.fetch_from);
        let found = tokio::select! {
            found = finding => found,
            () = self.abandon.cancelled() => return None,
            () = interrupt.cancelled() => return Some(cancelled()),
        };
        let module = match found {
            Ok(module) => module,
            Err(failure) => return Some(Answer::Failed(failure)),
        };
        let said = Arc::new(Said::default());
        let done = CancellationToken::new();
        let telling = progress::tell(
            self.broker.clone(),
            job.signal_to.clone(),
            job.call.clone(),
            self.name.clone(),
            said.clone(),
            done.clone(),
        );
        let calling = async {
            let _telling_ends = done.drop_guard();
            self.modules.sandbox().call(&module, sandbox_call(job, interrupt.clone()), said).await
        };
        let (report, ()) = futures::join!(calling, telling);
        match report.answer {
            sandbox::Answer::Left(values) => Some(Answer::Succeeded(values)),
            sandbox::Answer::Failed(failure) => Some(Answer::Failed(failure)),
            sandbox::Answer::Interrupted if interrupt.is_cancelled() => Some(cancelled()),
            sandbox::Answer::Interrupted => None,
        }
    }
}

fn cancelled() -> Answer {
    Answer::Failed(Failure::new(FailureKind::Cancelled, "the run was told to stop"))
}

fn sandbox_call(job: &Job, interrupt: CancellationToken) -> Call {
    let action = match &job.rollback {
        Some((outcome, failures)) => Action::Rollback { outcome: outcome.clone(), failures: failures.clone() },
        None => Action::Apply,
    };
    Call {
        run: job.call.run.clone(),
        flow: job.flow.clone(),
        task: job.call.task.clone(),
        export: job.export.clone(),
        firing: job.call.firing.get(),
        attempt: job.call.attempt.get(),
        idempotency_key: job.call.idempotency_key(),
        job_time: job.at,
        inputs: job.inputs.clone(),
        action,
        limits: job.limits,
        promised: job.promised.clone(),
        interrupt,
    }
}
