//! What the routes share.

use std::{collections::BTreeSet, sync::Arc};

use broker::Broker;
use engine::Engine;
use flow::QueueName;
use logbook::Logbook;
use tokio_util::sync::CancellationToken;

use crate::{
    ModuleLibrary, Places, Token,
    health::{Examination, Readiness},
};

/// What a server stands on.
pub struct Dependencies {
    /// Drives the runs.
    pub engine: Engine,
    /// Where their records are: the engine's.
    pub logbook: Arc<dyn Logbook>,
    /// Where modules and large values are: the engine's store, and a sandbox to look into modules with.
    pub modules: ModuleLibrary,
    /// Where workers are asked who they are: the engine's.
    pub broker: Arc<dyn Broker>,
    /// Who takes jobs.
    pub coverage: QueueCoverage,
    /// Where all of it is, to be checked.
    pub places: Places,
}

/// Who takes jobs.
#[derive(Debug, Clone)]
pub enum QueueCoverage {
    /// Workers at a broker, which may come and go: a flow may name any queue.
    AnyWorker,
    /// A worker in this process alone: a flow that names another queue would wait for ever, and is refused.
    Embedded(BTreeSet<QueueName>),
}

pub(crate) struct State {
    pub(crate) dependencies: Dependencies,
    pub(crate) token: Option<Token>,
    pub(crate) readiness: Readiness,
    pub(crate) examination: Examination,
    pub(crate) stop: CancellationToken,
}

/// The state, as routes take it.
pub(crate) type Shared = axum::extract::State<Arc<State>>;
