//! The worker: slots, queues, and a stop in three stages.

use std::{sync::Arc, time::Duration};

use broker::{Broker, ConsumeError, Consumer, DeclareError};
use flow::{QueueName, WorkerName};
use protocol::{WorkerStatus, topology};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Guests,
    call::Caller,
    control::{self, Calls},
    recent::{Executions, Recent},
};

/// How long to wait before a queue that was deleted is declared again: whoever deletes it may delete more.
const PAUSE: Duration = Duration::from_secs(1);

/// What a worker needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name; no other worker at the broker may have it.
    pub name: WorkerName,
    /// The machine it runs on, for people.
    pub host: String,
    /// Tells this start of it from others, for people.
    pub instance: String,
    /// The version of waft, for people.
    pub version: String,
    /// How many calls it takes at once.
    pub slots: u16,
    /// The queues it takes jobs from.
    pub queues: Vec<QueueName>,
    /// How long running calls may go on once it is told to stop.
    pub grace: Duration,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another worker of its name is connected.
    #[error("a worker named {name} is connected to this broker already: {reason}")]
    NameTaken {
        /// The name.
        name: WorkerName,
        /// The broker's words.
        reason: String,
    },
    /// Its exchanges and queues could not be declared.
    #[error("could not declare the worker's exchanges and queues")]
    Declare(#[from] DeclareError),
    /// A queue could not be consumed.
    #[error("could not consume a queue of jobs")]
    Consume(#[from] ConsumeError),
}

/// A worker that is connected and has not taken a job yet.
pub struct Worker {
    config: Config,
    broker: Arc<dyn Broker>,
    caller: Arc<Caller>,
    control: Consumer,
    jobs: Vec<Jobs>,
}

/// A queue that jobs are taken from.
struct Jobs {
    queue: QueueName,
    consumer: Consumer,
}

impl Worker {
    /// Declares what it needs and opens its queues.
    ///
    /// # Errors
    /// [`WorkerError`] when the broker refuses something, or its name is taken.
    pub async fn connect(
        config: Config,
        broker: Arc<dyn Broker>,
        guests: Arc<dyn Guests>,
    ) -> Result<Self, WorkerError> {
        broker::topology::declare_shared(&*broker).await?;
        control::declare(&*broker, &config.name).await.map_err(|error| match error {
            DeclareError::Refused { reason, .. } | DeclareError::Differs { reason, .. } => {
                WorkerError::NameTaken { name: config.name.clone(), reason }
            }
            error @ DeclareError::Closed => error.into(),
        })?;
        let control = control::consume(&*broker, &config.name).await?;
        let mut jobs = Vec::new();
        for queue in &config.queues {
            jobs.push(open(&*broker, queue, config.slots).await?);
        }
        let name = config.name.clone();
        let executions = Executions::of(&config.instance);
        let abandon = CancellationToken::new();
        let calls = Arc::new(Calls::default());
        let caller = Arc::new(Caller {
            broker: broker.clone(),
            guests,
            calls,
            recent: Recent::default(),
            executions,
            name,
            abandon,
        });
        Ok(Self { config, broker, caller, control, jobs })
    }

    /// Answers jobs until told to stop. Dropping the future is a crash: calls stop where they are, and their jobs go back
    /// when the connection ends, or their leases are missed. First nothing new is taken and what was only fetched goes back; then what
    /// runs may finish, for the grace; then guests are stopped and their jobs go back. Cancelling `abandon`
    /// goes straight to the third stage.
    pub async fn run(self, stop: CancellationToken, abandon: CancellationToken) {
        let Self { config, broker, caller, control, jobs } = self;
        let (calls, listening) = (TaskTracker::new(), TaskTracker::new());
        let crash = CancellationToken::new();
        let _crashes_with_this_future = crash.clone().drop_guard();
        let no_control = CancellationToken::new();
        let status = status(&config);
        let answering = control::answer(broker, control, caller.calls.clone(), status, no_control.clone());
        listening.spawn(crash.clone().run_until_cancelled_owned(answering));
        let slots = Arc::new(Semaphore::new(config.slots.into()));
        let takers = TaskTracker::new();
        let taking = Taking {
            slots,
            prefetch: config.slots,
            caller: caller.clone(),
            calls: calls.clone(),
            stop: stop.clone(),
            crash: crash.clone(),
        };
        takers.spawn(crash.clone().run_until_cancelled_owned(taking.run(jobs)));
        takers.close();
        takers.wait().await;
        calls.close();
        info!(running = calls.len(), "the worker takes nothing new");
        let in_grace = async {
            // Either may come first; both leave the calls where they are.
            tokio::select! {
                biased;
                ended = timeout(config.grace, calls.wait()) => ended.is_ok(),
                () = abandon.cancelled() => false,
            }
        };
        if !in_grace.await {
            info!(running = calls.len(), "the grace is over: what runs goes back");
            caller.abandon.cancel();
            caller.guests.interrupt_all();
            calls.wait().await;
        }
        no_control.cancel();
        listening.close();
        listening.wait().await;
    }
}

/// Declares a queue of jobs and begins to take from it.
async fn open(broker: &dyn Broker, queue: &QueueName, prefetch: u16) -> Result<Jobs, WorkerError> {
    broker::topology::declare_jobs(broker, queue).await?;
    let consumer = broker.consume(&topology::jobs(queue), prefetch).await?;
    Ok(Jobs { queue: queue.clone(), consumer })
}

/// Takes jobs from all queues in turn, each when a slot is free.
struct Taking {
    slots: Arc<Semaphore>,
    prefetch: u16,
    caller: Arc<Caller>,
    calls: TaskTracker,
    stop: CancellationToken,
    crash: CancellationToken,
}

impl Taking {
    async fn run(self, mut consumers: Vec<Jobs>) {
        let mut gone: Vec<QueueName> = Vec::new();
        while !consumers.is_empty() || !gone.is_empty() {
            if !gone.is_empty() {
                let Some(()) = self.stop.run_until_cancelled(self.open_again(&mut gone, &mut consumers)).await else {
                    break;
                };
                continue;
            }
            // What was asked first is asked last the next time, so that no queue keeps another waiting.
            consumers.rotate_left(1);
            let next = async {
                // The slot first: a job in hand without one would wait here while another worker is free. It is nobody's
                // until a job has come, from whichever queue.
                let slot = self.slots.clone().acquire_owned().await.ok()?;
                let waiting = consumers.iter_mut().map(|jobs| Box::pin(jobs.consumer.next()));
                let (delivery, place, _) = futures::future::select_all(waiting).await;
                Some((slot, place, delivery))
            };
            let Some(Some((slot, place, delivery))) = self.stop.run_until_cancelled(next).await else { break };
            let Some(delivery) = delivery else {
                let Jobs { queue, .. } = consumers.remove(place);
                gone.push(queue);
                continue;
            };
            let caller = self.caller.clone();
            let answering = async move {
                caller.answer(delivery).await;
                drop(slot);
            };
            self.calls.spawn(self.crash.clone().run_until_cancelled_owned(answering));
        }
        consumers.iter_mut().for_each(|jobs| jobs.consumer.cancel());
    }

    /// Opens queues again that somebody deleted, after a pause; those that cannot be opened yet stay gone.
    async fn open_again(&self, gone: &mut Vec<QueueName>, consumers: &mut Vec<Jobs>) {
        tokio::time::sleep(PAUSE).await;
        for queue in std::mem::take(gone) {
            match open(&*self.caller.broker, &queue, self.prefetch).await {
                Ok(jobs) => {
                    warn!(%queue, "somebody deleted a queue of jobs: it was declared again");
                    consumers.push(jobs);
                }
                // That is why it ended.
                Err(WorkerError::Declare(DeclareError::Closed) | WorkerError::Consume(ConsumeError::Closed)) => {}
                Err(error) => {
                    warn!(%queue, %error, "a queue of jobs cannot be opened yet");
                    gone.push(queue);
                }
            }
        }
    }
}

fn status(config: &Config) -> WorkerStatus {
    WorkerStatus {
        name: config.name.clone(),
        instance: config.instance.clone(),
        host: config.host.clone(),
        process: std::process::id(),
        slots: config.slots.into(),
        busy: 0,
        queues: config.queues.clone(),
        version: config.version.clone(),
    }
}
