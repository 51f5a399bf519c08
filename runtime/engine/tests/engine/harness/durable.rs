//! Engines over a broker that delivers as one over AMQP does: only so many messages until some are settled.

use std::sync::Arc;

use broker::{InProcess, lossy::LossyConnection};
use engine::ShardAssignment;
use logbook::{Logbook, Memory, intercepted::InterceptedLogbook};

use super::{AppendFaults, Harness};

impl Harness {
    /// Like [`Harness::shared`], over such a broker.
    pub(crate) async fn durable() -> Self {
        let faults: Arc<AppendFaults> = Arc::default();
        let logbook = Arc::new(InterceptedLogbook::new(Arc::new(Memory::new()), faults.clone()));
        Self::on_durable(InProcess::new(), logbook, faults, "one").await
    }

    /// Like [`Harness::sharing_engine`], over such a broker.
    pub(crate) async fn durable_sharing_engine(&self, id: &str) -> Self {
        Self::on_durable(self.broker.connect(), self.logbook.clone(), self.faults.clone(), id).await
    }

    async fn on_durable(broker: InProcess, logbook: Arc<dyn Logbook>, faults: Arc<AppendFaults>, id: &str) -> Self {
        let connection = LossyConnection::to(&broker);
        connection.set_durable();
        Self::on(connection, broker, logbook, faults, id, (ShardAssignment::Shared, None)).await
    }
}
