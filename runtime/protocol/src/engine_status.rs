//! What the engine that drives a shard answers about itself.

use std::time::Duration;

use crate::{
    DecodeError,
    codec::{self, BorrowDecode, Encode, MessageKind},
    wire::micros,
};

/// The maximum number of other engines in an answer.
pub const MAX_LISTED_ENGINES: usize = 100;

/// The answer of the engine that drives a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineStatus {
    /// Its name, chosen at each start.
    pub engine: String,
    /// The host that it runs on.
    pub host: String,
    /// Its process id on that host.
    pub process: u32,
    /// Its version of waft.
    pub version: String,
    /// How long it has driven the shard, by its own clock.
    pub driving_for: Duration,
    /// The number of runs of the shard in its memory.
    pub runs: u64,
    /// Other engines from which it has received a message within some seconds, at most [`MAX_LISTED_ENGINES`]: those that do not drive the
    /// shard.
    pub others: Vec<String>,
}

#[derive(Encode, BorrowDecode)]
struct WireEngineStatus<'a> {
    engine: &'a str,
    host: &'a str,
    process: u32,
    version: &'a str,
    driving_for: u64,
    runs: u64,
    others: Vec<&'a str>,
}

impl EngineStatus {
    /// Encodes the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { engine, host, process, version, driving_for, runs, others } = self;
        let wire = WireEngineStatus {
            engine,
            host,
            process: *process,
            version,
            driving_for: micros(*driving_for),
            runs: *runs,
            others: others.iter().map(String::as_str).collect(),
        };
        codec::encode(MessageKind::ENGINE_STATUS, &wire)
    }

    /// Decodes the answer.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not an engine's status of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let WireEngineStatus { engine, host, process, version, driving_for, runs, others } =
            codec::decode(MessageKind::ENGINE_STATUS, bytes)?;
        Ok(Self {
            engine: engine.into(),
            host: host.into(),
            process,
            version: version.into(),
            driving_for: Duration::from_micros(driving_for),
            runs,
            others: others.into_iter().map(Into::into).collect(),
        })
    }
}
