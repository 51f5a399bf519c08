//! The state that the routes share.

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use broker::Broker;
use engine::Engine;
use flow::{Namespace, PerNamespace, QueueName};
use logbook::Logbook;
use sandbox::Permits;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Locations, ModuleLibrary, Token,
    audit::Audit,
    auth::tokens::RecentTokens,
    bodies::Bodies,
    engines::EngineLists,
    events::EventStreams,
    health::{Examination, Readiness},
    large_answers::LargeAnswers,
    namespace_storage::NamespaceStorage,
    permits::PermitPages,
    problem::Problem,
    queues::QueuePages,
    recent_events::RecentEvents,
    runs::{
        counts::CountAnswers,
        list::SharedPages,
        rehearsal::RehearsalAnswers,
        show::{SharedRuns, outstanding_calls::CallAnswers},
    },
    scrape::{QueueLengths, Scrapes},
    webhooks::{Webhooks, config::Webhook},
    workers::WorkerLists,
};

/// The dependencies of a server.
pub struct Dependencies {
    /// The engine that drives the runs.
    pub engine: Engine,
    /// The engine's logbook, which holds the records of the runs.
    pub logbook: Arc<dyn Logbook>,
    /// The engine's store for modules and large values, and a sandbox to inspect modules.
    pub modules: ModuleLibrary,
    /// The engine's broker, used to ping workers.
    pub broker: Arc<dyn Broker>,
    /// The queues that workers take jobs from.
    pub coverage: QueueCoverage,
    /// The addresses and folders for the checks.
    pub locations: Locations,
    /// How many bytes the runs and modules of each namespace may take.
    pub max_namespace_bytes: PerNamespace<NonZeroU64>,
    /// Who receives the events of all runs. Their names differ.
    pub webhooks: Vec<Webhook>,
}

/// The queues that workers take jobs from.
#[derive(Debug, Clone)]
pub enum QueueCoverage {
    /// Workers at a broker, which may start and stop: a flow may name any queue.
    AnyWorker,
    /// Only the worker in this process. A flow with another queue would wait forever, so it is refused.
    Embedded(BTreeSet<QueueName>),
}

pub(crate) struct State {
    pub(crate) dependencies: Dependencies,
    /// The configured token, which allows everything.
    pub(crate) token: Option<Token>,
    /// The configured token that allows requests for the metrics only.
    pub(crate) metrics_token: Option<Token>,
    pub(crate) tokens: RecentTokens,
    pub(crate) audit: Audit,
    /// Requests that do more than read.
    pub(crate) requests: TaskTracker,
    pub(crate) bodies: Bodies,
    pub(crate) event_streams: EventStreams,
    pub(crate) recent_events: RecentEvents,
    /// The turns at beginning to follow the lines of a run.
    pub(crate) live_lines: Permits,
    pub(crate) webhooks: Webhooks,
    pub(crate) large_answers: LargeAnswers,
    pub(crate) readiness: Readiness,
    pub(crate) examination: Examination,
    pub(crate) namespace_storage: NamespaceStorage,
    pub(crate) worker_lists: WorkerLists,
    pub(crate) queue_pages: QueuePages,
    pub(crate) engine_lists: EngineLists,
    pub(crate) permit_pages: PermitPages,
    pub(crate) call_answers: CallAnswers,
    pub(crate) count_answers: CountAnswers,
    pub(crate) shared_pages: SharedPages,
    pub(crate) shared_runs: SharedRuns,
    pub(crate) rehearsal_answers: RehearsalAnswers,
    pub(crate) scrapes: Scrapes,
    pub(crate) queue_lengths: QueueLengths,
    pub(crate) stop: CancellationToken,
}

impl State {
    /// Adds bytes that a request stores for a namespace.
    ///
    /// # Errors
    /// [`Problem`] when the namespace then stores more than an operator allows.
    pub(crate) async fn add_bytes(&self, namespace: Option<&Namespace>, bytes: usize) -> Result<(), Problem> {
        self.namespace_storage.add(&self.dependencies, namespace, bytes as u64).await
    }
}

/// The state, as an extractor for routes.
pub(crate) type Shared = axum::extract::State<Arc<State>>;
