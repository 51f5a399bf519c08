//! What the routes share.

use std::{collections::BTreeSet, sync::Arc};

use broker::Broker;
use engine::Engine;
use flow::QueueName;
use logbook::Logbook;
use tokio_util::sync::CancellationToken;

use crate::{
    Library, Places, Token,
    health::{Examination, Readiness},
};

/// What a server stands on.
pub struct Parts {
    /// Drives the runs.
    pub engine: Engine,
    /// Where their records are: the engine's.
    pub logbook: Arc<dyn Logbook>,
    /// Where modules and large values are: the engine's store, and a sandbox to look into modules with.
    pub modules: Library,
    /// Where workers are asked who they are: the engine's.
    pub broker: Arc<dyn Broker>,
    /// Who takes jobs.
    pub takers: Takers,
    /// Where all of it is, to be checked.
    pub places: Places,
}

/// Who takes jobs.
#[derive(Debug, Clone)]
pub enum Takers {
    /// Workers at a broker, which may come and go: a flow may name any queue.
    Anyone,
    /// A worker in this process alone: a flow that names another queue would wait for ever, and is refused.
    Here(BTreeSet<QueueName>),
}

pub(crate) struct State {
    pub(crate) parts: Parts,
    pub(crate) token: Option<Token>,
    pub(crate) readiness: Readiness,
    pub(crate) examination: Examination,
    pub(crate) stop: CancellationToken,
}

/// The state, as routes take it.
pub(crate) type Shared = axum::extract::State<Arc<State>>;
