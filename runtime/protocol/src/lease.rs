//! Lease times of calls, which engines and workers have to agree on.

use std::time::Duration;

/// A call that runs longer than this gets a lease: its worker tells the engine, accepts the job and sends heartbeats. So no
/// delivery stays unsettled for long.
pub const LEASE_THRESHOLD: Duration = Duration::from_secs(10);

/// The interval between heartbeats of a call under a lease.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How long after the last heartbeat the engine reports that heartbeats stopped: the next one is then three seconds late.
pub const SILENT_AFTER: Duration = Duration::from_secs(8);

/// How long a lease lasts without a heartbeat. Three heartbeats may be lost; after a fourth, the worker counts as lost.
pub const LEASE_DURATION: Duration = Duration::from_secs(20);

/// How long a call may be under a lease in addition to its timeout: its worker fetches and compiles the module, loads the inputs, and
/// stores the results. A lease that lasts longer expires, and the call counts as lost. If it ends after that, its result still counts.
pub const MAX_PREPARATION: Duration = Duration::from_secs(15 * 60);
