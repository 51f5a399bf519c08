//! The worker: slots, queues, and a stop in three stages.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use broker::{Broker, ConsumeError, Consumer, DeclareError, Refusals};
use flow::{QueueName, WorkerName};
use futures::future::try_join_all;
use protocol::WorkerStatus;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    CallJournal, GuestRunner,
    call::JobHandler,
    call_registry::CallRegistry,
    control::{self, ControlledWorker},
    drain::Drain,
    grants_answerer,
    intake::Intake,
    missed_withdrawals::{MissedWithdrawals, WallClock},
    result_cache::{Executions, ResultCache},
    signal_sender::SignalSender,
};

/// Maximum time that a stopping worker waits for messages whose calls no longer wait for them.
const SIGNALS_TIMEOUT: Duration = Duration::from_secs(1);

/// Configuration of a worker.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the worker, unique at the broker.
    pub name: WorkerName,
    /// The host it runs on, to show to users.
    pub host: String,
    /// Identifies this start of the worker, to show to users.
    pub instance: String,
    /// The version of waft, to show to users.
    pub version: String,
    /// Maximum number of calls that compute at once and whose jobs come from queues without slots of their own.
    pub slots: u16,
    /// The queues to take jobs from.
    pub queues: Vec<QueueName>,
    /// Some of the queues, each with slots of its own: so many calls at most run for its jobs, and none for others.
    pub own_slots: BTreeMap<QueueName, NonZeroU16>,
    /// Grace period: how long running calls may continue after a stop.
    pub grace: Duration,
    /// The wall clock of this machine. Engines write theirs into jobs: a worker asks an engine about each job that it may
    /// have missed the withdrawal of.
    pub clock: WallClock,
    /// Maximum number of redeliveries of a job whose workers were lost, before it counts as poison; a job may set its
    /// own limit.
    pub delivery_limit: NonZeroU32,
    /// The running calls in a file, for a worker whose broker ends with its process.
    pub journal: Option<Arc<CallJournal>>,
}

impl Config {
    /// Maximum number of calls that compute at once.
    #[must_use]
    pub fn all_slots(&self) -> u16 {
        self.slot_groups().iter().fold(0, |all, (slots, _)| all.saturating_add(*slots))
    }

    /// The numbers of slots, each with the queues that they serve.
    fn slot_groups(&self) -> Vec<(u16, Vec<QueueName>)> {
        let (own, shared): (Vec<_>, Vec<_>) =
            self.queues.iter().cloned().partition(|queue| self.own_slots.contains_key(queue));
        let own = own.into_iter().map(|queue| (self.own_slots[&queue].get(), vec![queue]));
        Some((self.slots, shared)).filter(|(_, queues)| !queues.is_empty()).into_iter().chain(own).collect()
    }
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another worker with this name is connected.
    #[error("a worker named {name} is connected to this broker already: {reason}")]
    NameTaken {
        /// The name.
        name: WorkerName,
        /// The broker's reason.
        reason: String,
    },
    /// The worker's exchanges and queues could not be declared.
    #[error("could not declare the worker's exchanges and queues")]
    Declare(#[from] DeclareError),
    /// A queue of jobs could not be consumed.
    #[error("could not consume a queue of jobs")]
    Consume(#[from] ConsumeError),
}

/// A worker that is connected and has not taken a job yet.
pub struct Worker {
    config: Config,
    broker: Arc<dyn Broker>,
    handler: Arc<JobHandler>,
    control: Consumer,
    drain: Arc<Drain>,
    /// One for each number of slots that serves some queues.
    jobs: Vec<Intake>,
}

impl Worker {
    /// Declares the worker's queues and opens them.
    ///
    /// # Errors
    /// [`WorkerError`] when the broker refuses a declaration or a queue, or the name is taken.
    pub async fn connect(
        config: Config,
        broker: Arc<dyn Broker>,
        guests: Arc<dyn GuestRunner>,
    ) -> Result<Self, WorkerError> {
        broker::topology::ensure_shared(&*broker).await?;
        control::declare(&*broker, &config.name).await.map_err(|error| match error {
            DeclareError::Refused { reason, .. } | DeclareError::Mismatch { reason, .. } => {
                WorkerError::NameTaken { name: config.name.clone(), reason }
            }
            error @ (DeclareError::AccessRefused { .. } | DeclareError::TimedOut { .. } | DeclareError::Closed) => {
                error.into()
            }
        })?;
        let control = control::consume(&*broker, &config.name).await?;
        let missed = MissedWithdrawals::from_now_on(broker.clone(), config.clock.clone());
        let signals = SignalSender::new(broker.clone());
        let groups = config.slot_groups();
        let drain = Arc::new(Drain::new());
        let opening = groups.iter().map(|(slots, queues)| Intake::open(&broker, queues, *slots, drain.watch()));
        let jobs = try_join_all(opening).await?;
        let name = config.name.clone();
        let executions = Executions::of(&config.instance);
        let abandon = CancellationToken::new();
        let calls = Arc::new(CallRegistry::new(missed));
        let handler = Arc::new(JobHandler {
            broker: broker.clone(),
            signals,
            guests,
            calls,
            recent: ResultCache::default(),
            refusals: Refusals::default(),
            executions,
            name,
            delivery_limit: config.delivery_limit,
            journal: config.journal.clone(),
            abandon,
        });
        Ok(Self { config, broker, handler, control, drain, jobs })
    }

    /// Handles jobs until `stop` is cancelled, and then stops in three stages:
    /// - it takes no new jobs and returns fetched ones;
    /// - running calls may finish during the grace period;
    /// - guests are stopped and their jobs are returned.
    ///
    /// If an operator drains it to exit, it takes no new jobs, and stops once its calls have ended, however long that takes.
    ///
    /// Cancelling `abandon` goes straight to the third stage. Dropping the future is a crash: calls stop, and their
    /// jobs are requeued when the connection ends, or their leases expire.
    pub async fn run(self, stop: CancellationToken, abandon: CancellationToken) {
        let Self { config, broker, handler, control, drain, jobs } = self;
        let (calls, control_tasks) = (TaskTracker::new(), TaskTracker::new());
        let crash = CancellationToken::new();
        let _crash_on_drop = crash.clone().drop_guard();
        let stop_control = CancellationToken::new();
        let status = status(&config);
        let (questions, answerer) = grants_answerer::channel(status.queues.clone());
        let answer = answerer.run(broker.clone(), handler.guests.clone(), stop_control.clone());
        control_tasks.spawn(crash.clone().run_until_cancelled_owned(answer));
        let own_slots = config.own_slots.iter().map(|(queue, slots)| (queue.clone(), u32::from(slots.get())));
        let (mut exit, own_slots) = (drain.watch(), own_slots.collect());
        let controlled = ControlledWorker { calls: handler.calls.clone(), questions, drain, status, own_slots };
        let serve = control::serve(broker.clone(), control, controlled, stop_control.clone());
        let bindings = control::bindings(&config.name);
        let serve = async move { broker::topology::keep_bound(&*broker, &bindings, serve).await };
        control_tasks.spawn(crash.clone().run_until_cancelled_owned(serve));
        let (intake_tasks, stop_intake) = (TaskTracker::new(), stop.child_token());
        for intake in jobs {
            let run = intake.run(handler.clone(), calls.clone(), [stop_intake.clone(), abandon.clone(), crash.clone()]);
            intake_tasks.spawn(crash.clone().run_until_cancelled_owned(run));
        }
        intake_tasks.close();
        // Both branches only wait.
        tokio::select! {
            biased;
            () = intake_tasks.wait() => {}
            () = exit.exiting() => {
                stop_intake.cancel();
                intake_tasks.wait().await;
                calls.close();
                // The grace period begins when the process is asked to stop.
                tokio::select! {
                    () = calls.wait() => {}
                    () = stop.cancelled() => {}
                    () = abandon.cancelled() => {}
                }
            }
        }
        calls.close();
        info!(running = calls.len(), "the worker takes no new jobs");
        let ends_in_time = async {
            // Both branches leave the calls running.
            tokio::select! {
                biased;
                result = timeout(config.grace, calls.wait()) => result.is_ok(),
                () = abandon.cancelled() => false,
            }
        };
        if !ends_in_time.await {
            info!(running = calls.len(), "the grace period is over: running jobs are requeued");
            handler.abandon.cancel();
            handler.guests.interrupt_all();
            calls.wait().await;
        }
        // Each call has waited for its own signal as long as it may.
        let _ = timeout(SIGNALS_TIMEOUT, handler.signals.finish()).await;
        stop_control.cancel();
        control_tasks.close();
        control_tasks.wait().await;
    }
}

fn status(config: &Config) -> WorkerStatus {
    WorkerStatus {
        name: config.name.clone(),
        instance: config.instance.clone(),
        host: config.host.clone(),
        process: std::process::id(),
        slots: config.all_slots().into(),
        busy: 0,
        queues: config.queues.clone(),
        version: config.version.clone(),
    }
}
