//! An advisory lock on its own connection: the server releases it when the connection ends.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, Config, Error};

use super::connection::{self, Endpoint, apply_defaults, location, reason};
use crate::{LockMode, OpenError};

/// "waft" in ASCII and a one: the lock of the engines that drive the runs of a database.
const LOCK: i64 = 0x7761_6674_0001;

const LOCK_EXCLUSIVE: &str = "SELECT pg_try_advisory_lock($1)";
const LOCK_SHARED: &str = "SELECT pg_try_advisory_lock_shared($1)";
const SELECT_HOLDER: &str = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
// The start time distinguishes the session from a later one with the same process id.
const TERMINATE_BACKEND: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start::text = $2";

/// How often to check that the server still has the session.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The time limit for one answer of the server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before the next attempt to take the lock.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The maximum number of attempts after a loss while the lock is held: the server may need time to end our own session.
const MAX_ATTEMPTS: u32 = 10;

/// An advisory lock.
#[derive(Debug)]
pub(crate) struct SessionLock {
    endpoint: Endpoint,
    mode: LockMode,
    session: Session,
}

/// The connection that holds the lock.
#[derive(Debug)]
struct Session {
    client: Client,
    /// Drives the connection, which ends when this is dropped.
    connection: JoinSet<()>,
    pid: i32,
    started: String,
}

impl SessionLock {
    pub(crate) async fn take(url: &str, mode: LockMode) -> Result<Self, OpenError> {
        Self::with(connection::parse(url)?, mode).await
    }

    pub(super) async fn with(mut endpoint: Endpoint, mode: LockMode) -> Result<Self, OpenError> {
        apply_defaults(&mut endpoint.config);
        let session = Session::open(&endpoint).await?;
        if !session.lock(&endpoint.config, mode).await? {
            return Err(locked_error(&endpoint.config));
        }
        Ok(Self { endpoint, mode, session })
    }

    /// See [`EngineLock::lost`](crate::EngineLock::lost).
    pub(crate) async fn lost(&mut self) -> OpenError {
        loop {
            self.session.ended().await;
            let mut attempts = 0;
            while attempts < MAX_ATTEMPTS {
                match self.relock().await {
                    Ok(true) => break,
                    Ok(false) => attempts += 1,
                    // The server cannot be reached, so no other process can take the lock either.
                    Err(_) => {}
                }
                sleep(RETRY_DELAY).await;
            }
            if attempts == MAX_ATTEMPTS {
                return locked_error(&self.endpoint.config);
            }
        }
    }

    /// Takes the lock on a new connection. The server may not have noticed the end of the previous one.
    async fn relock(&mut self) -> Result<bool, OpenError> {
        let session = Session::open(&self.endpoint).await?;
        let Session { pid, started, .. } = &self.session;
        answer(&self.endpoint.config, session.client.execute(TERMINATE_BACKEND, &[pid, started])).await?;
        let locked = session.lock(&self.endpoint.config, self.mode).await?;
        if locked {
            self.session = session;
        }
        Ok(locked)
    }

    /// The server process that holds the lock.
    #[cfg(test)]
    pub(super) fn pid(&self) -> i32 {
        self.session.pid
    }
}

impl Session {
    async fn open(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let config = &endpoint.config;
        let connecting = config.connect(endpoint.connector()?);
        let (client, driver) = answer(config, connecting).await?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // Later queries on the connection report its failure.
            let _ = driver.await;
        });
        let row = answer(config, client.query_one(SELECT_HOLDER, &[])).await?;
        let unavailable = |error: Error| unavailable(config, reason(&error));
        let (pid, started) = (row.try_get(0).map_err(unavailable)?, row.try_get(1).map_err(unavailable)?);
        Ok(Self { client, connection, pid, started })
    }

    async fn lock(&self, config: &Config, mode: LockMode) -> Result<bool, OpenError> {
        let statement = match mode {
            LockMode::Exclusive => LOCK_EXCLUSIVE,
            LockMode::Shared => LOCK_SHARED,
        };
        let row = answer(config, self.client.query_one(statement, &[&LOCK])).await?;
        row.try_get(0).map_err(|error| unavailable(config, reason(&error)))
    }

    /// Returns once the connection has ended, or the server does not answer on it.
    async fn ended(&mut self) {
        loop {
            // Both branches only wait.
            tokio::select! {
                _ = self.connection.join_next() => return,
                () = sleep(PING_INTERVAL) => {}
            }
            match timeout(QUERY_TIMEOUT, self.client.simple_query("SELECT 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// Applies the time limit to an answer of the server.
async fn answer<T>(config: &Config, response: impl Future<Output = Result<T, Error>>) -> Result<T, OpenError> {
    match timeout(QUERY_TIMEOUT, response).await {
        Ok(answer) => answer.map_err(|error| unavailable(config, reason(&error))),
        Err(_) => Err(unavailable(config, format!("no answer for {} seconds", QUERY_TIMEOUT.as_secs()))),
    }
}

fn unavailable(config: &Config, reason: String) -> OpenError {
    OpenError::Unavailable { location: location(config), reason }
}

fn locked_error(config: &Config) -> OpenError {
    OpenError::Locked { location: format!("the advisory lock {LOCK} in {}", location(config)) }
}
