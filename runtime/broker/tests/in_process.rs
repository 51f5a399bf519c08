//! The contract over the broker in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use broker::{Broker, InProcess, contract::Connect};

/// A broker for one test, so that any number makes a unique name.
#[derive(Default)]
struct Memory {
    broker: InProcess,
    names: AtomicU32,
}

#[async_trait]
impl Connect for Memory {
    async fn connect(&self) -> Arc<dyn Broker> {
        Arc::new(self.broker.connect())
    }

    fn unique(&self, base: &str) -> String {
        format!("{base}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }
}

broker::contract_tests!(Memory::default());
