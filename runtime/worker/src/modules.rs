//! From a digest to something that can be called: memory, this machine's disk, then the store of the job's engine.

use std::{error::Error, iter::successors};

use flow::{Digest, Failure, FailureKind};
use sandbox::{Compiled, Sandbox};

/// The largest module a worker fetches, in bytes.
const LARGEST: u64 = 256 << 20;

/// Finds modules by digest.
#[derive(Clone)]
pub struct Modules {
    sandbox: Sandbox,
    bytes: store::Cache,
    client: store::bus::Client,
}

impl Modules {
    /// Takes where compiled code, bytes and the engines' stores are.
    #[must_use]
    pub fn new(sandbox: Sandbox, bytes: store::Cache, client: store::bus::Client) -> Self {
        Self { sandbox, bytes, client }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The module, ready to be called.
    ///
    /// # Errors
    /// A failure of kind `module` that says why it could not be had: the fetch has tried for as long as it makes sense.
    pub(crate) async fn find(&self, digest: Digest, fetch_from: &str) -> Result<Compiled, Failure> {
        if let Some(compiled) = self.sandbox.cached(&digest).await {
            return Ok(compiled);
        }
        let fetch = self.client.fetch(fetch_from, digest, LARGEST);
        let bytes = self.bytes.get_or_fetch(digest, fetch).await.map_err(|error| failure(&error))?;
        self.sandbox.compile(digest, bytes).await.map_err(|error| failure(&error))
    }
}

/// The error and what caused it, as a failure.
fn failure(error: &(dyn Error + 'static)) -> Failure {
    let chain: Vec<String> = successors(Some(error), |cause| (**cause).source()).map(ToString::to_string).collect();
    Failure::new(FailureKind::Module, chain.join(": "))
}
