//! The connections to a database: whom they are for, how many there are, and what becomes of those whose work was dropped.

use std::time::Duration;

use deadpool_postgres::{Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{Error, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::{
    connection::{CONNECT_TIMEOUT, Endpoint, apply_defaults, location, open_error, pool_reason, reason},
    schema::{self, MIGRATIONS},
};
use crate::OpenError;

/// The time limit for waiting for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// The server's time limit for a query of a client. It ends queries whose connection is lost, too. Each query is about one run or a
/// page, and takes milliseconds; a list without an index that fits may take seconds.
const CLIENT_QUERY_LIMIT: Duration = Duration::from_secs(10);

/// Whom connections are for. Each has its own, so that none of them waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An engine that drives runs, and commands on this machine.
    Engine,
    /// The clients of a server.
    Clients,
    /// What the clients of a server only look up: tokens and summaries of runs. So none of these waits for a slow read.
    Lookups,
    /// Work that grows with the whole logbook, such as cleanups.
    Upkeep,
}

impl Purpose {
    /// The maximum number of connections. The server's own default limit is 100 for all its clients.
    pub(super) const fn max_connections(self) -> usize {
        match self {
            // One for appends, and a few so that loads and lookups beside the driver do not delay them.
            Self::Engine => 4,
            // Turns of senders bound how many large reads there are.
            Self::Clients => 4,
            Self::Lookups | Self::Upkeep => 2,
        }
    }

    /// Whom the connection is for that looks up a token or the summary of a run.
    pub(super) const fn of_lookup(self) -> Self {
        match self {
            Self::Engine => Self::Engine,
            Self::Clients | Self::Lookups => Self::Lookups,
            Self::Upkeep => Self::Upkeep,
        }
    }
}

/// The connections to one database.
pub(super) struct Connections {
    engine: Pool,
    clients: Pool,
    lookups: Pool,
    upkeep: Pool,
    connector: MakeRustlsConnect,
    location: String,
    /// The connections whose work was dropped.
    abandoned: TaskTracker,
}

impl Connections {
    /// Connects once to verify the configuration, and migrates the schema.
    pub(super) async fn open(endpoint: Endpoint) -> Result<Self, OpenError> {
        let (connections, mut client) = Self::connect(endpoint).await?;
        match schema::migrate(&mut client, MIGRATIONS).await {
            Ok(()) => Ok(connections),
            Err(unusable) => Err(open_error(connections.location, unusable)),
        }
    }

    /// Connects once, and does not change the schema.
    pub(super) async fn connect(mut endpoint: Endpoint) -> Result<(Self, Client), OpenError> {
        apply_defaults(&mut endpoint.config);
        let connector = endpoint.connector()?;
        let pool = |purpose| pool(&endpoint, &connector, purpose);
        let connections = Self {
            engine: pool(Purpose::Engine),
            clients: pool(Purpose::Clients),
            lookups: pool(Purpose::Lookups),
            upkeep: pool(Purpose::Upkeep),
            location: location(&endpoint.config),
            connector,
            abandoned: TaskTracker::new(),
        };
        match connections.engine.get().await {
            Ok(client) => Ok((connections, client)),
            Err(error) => Err(OpenError::Unavailable { reason: pool_reason(&error), location: connections.location }),
        }
    }

    fn pool(&self, purpose: Purpose) -> &Pool {
        match purpose {
            Purpose::Engine => &self.engine,
            Purpose::Clients => &self.clients,
            Purpose::Lookups => &self.lookups,
            Purpose::Upkeep => &self.upkeep,
        }
    }

    /// A connection that is not known to be broken. The error is a reason for people.
    pub(super) async fn get(&self, purpose: Purpose) -> Result<WorkingConnection<'_>, String> {
        let client = self.pool(purpose).get().await;
        let client = client.map_err(|error| format!("{}: {}", self.location, pool_reason(&error)))?;
        Ok(WorkingConnection { connections: self, client: Some(client) })
    }

    /// The reason for people. When one connection was lost, the others are lost too, even if they have not noticed: the next
    /// call opens a new one.
    pub(super) fn reason_for(&self, client: Client, error: &Error) -> String {
        let shutdown_codes = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        if error.code().is_none_or(|code| shutdown_codes.contains(code)) {
            drop(Client::take(client));
            for pool in [&self.engine, &self.clients, &self.lookups, &self.upkeep] {
                pool.retain(|_, _| false);
            }
        }
        format!("{}: {}", self.location, reason(error))
    }

    /// The reason for people when the server has not answered within the time limit. The connection is closed, since its query
    /// may still run.
    pub(super) fn timed_out(&self, connection: WorkingConnection<'_>, limit: Duration) -> String {
        drop(connection);
        format!("{}: the server has not answered for {} seconds", self.location, limit.as_secs())
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Cancels the query that may still run on a connection, and closes the connection: the query of another caller would wait behind
    /// it. Until then the connection counts, so that a client which leaves often has no more queries than one which waits.
    fn cancel(&self, client: Client) {
        let Ok(runtime) = Handle::try_current() else { return drop(Client::take(client)) };
        let (token, connector) = (client.cancel_token(), self.connector.clone());
        let cancelled = async move {
            // If the server cannot be reached, its own limit ends the query.
            let _ = timeout(CONNECT_TIMEOUT, token.cancel_query(connector)).await;
            drop(Client::take(client));
        };
        self.abandoned.spawn_on(cancelled, &runtime);
    }
}

/// A connection while work runs on it. If the work is dropped before its end, nobody else gets the connection.
pub(super) struct WorkingConnection<'c> {
    connections: &'c Connections,
    /// `None` once the work has ended.
    client: Option<Client>,
}

impl WorkingConnection<'_> {
    pub(super) fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("only the end of the work takes it")
    }

    /// The work has ended. Dropping the client gives the connection back.
    pub(super) fn end(mut self) -> Client {
        self.client.take().expect("work ends once")
    }
}

impl Drop for WorkingConnection<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.connections.cancel(client);
        }
    }
}

fn pool(endpoint: &Endpoint, connector: &MakeRustlsConnect, purpose: Purpose) -> Pool {
    // The connection's task notices a loss, so no test query is needed.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(endpoint.config.clone(), connector.clone(), manager_config);
    let builder = Pool::builder(manager).max_size(purpose.max_connections()).runtime(Runtime::Tokio1);
    let builder = builder.create_timeout(Some(CONNECT_TIMEOUT)).wait_timeout(Some(ACQUIRE_TIMEOUT));
    let builder = match purpose {
        Purpose::Clients | Purpose::Lookups => builder.post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                let limit = format!("SET statement_timeout = {}", CLIENT_QUERY_LIMIT.as_millis());
                client.batch_execute(&limit).await.map_err(HookError::Backend)
            })
        })),
        Purpose::Engine | Purpose::Upkeep => builder,
    };
    builder.build().expect("a pool with timeouts has a runtime")
}
