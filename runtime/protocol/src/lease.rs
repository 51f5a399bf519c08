//! How long calls hold what: the numbers that engines and workers have to agree on.

use std::time::Duration;

/// A call that runs for longer than this is taken under a lease: its worker tells the engine, accepts the job and
/// sends heartbeats, so that no delivery is held for long.
pub const LEASE_THRESHOLD: Duration = Duration::from_secs(10);

/// How often a call under a lease is heard of.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// After how long without a heartbeat people are told that they have stopped: the next one is late by three seconds.
pub const SILENT_AFTER: Duration = Duration::from_secs(8);

/// How long a lease lasts without a heartbeat. Three may be lost; a fourth means that the worker is.
pub const LEASE_DURATION: Duration = Duration::from_secs(20);
