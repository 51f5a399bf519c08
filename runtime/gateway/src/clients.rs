//! The HTTP clients: each keeps connections, which only calls of the same namespace with the same reach share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flow::{Namespace, Reach};
use reqwest::{Client, redirect::Policy};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use crate::resolver::{MAX_LOOKUPS, MAX_OWN_LOOKUPS, Resolver};

/// How long a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an unused connection is kept, and a client without one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum number of unused connections to one host.
const MAX_IDLE_PER_HOST: usize = 8;

/// The maximum number of clients. With more, the one that was not used for the longest time goes, with its unused connections.
const MAX_CLIENTS: usize = 256;

/// Whose connections they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) reach: Arc<Reach>,
}

#[derive(Debug)]
pub(crate) struct Clients {
    tls: ClientConfig,
    lookups: Arc<Semaphore>,
    /// The client for the servers that an operator names, which no request of a guest shares.
    operator: Mutex<Option<Client>>,
    by_key: Mutex<HashMap<ClientKey, (Client, Instant)>>,
}

impl Clients {
    pub(crate) fn new(mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            tls,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            operator: Mutex::default(),
            by_key: Mutex::default(),
        }
    }

    /// The client for a call.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn get(&self, key: ClientKey) -> Result<Client, reqwest::Error> {
        // A panic in another thread cannot leave the map half changed.
        let mut clients = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((client, used)) = clients.get_mut(&key) {
            *used = now;
            return Ok(client.clone());
        }
        clients.retain(|_, (_, used)| now.duration_since(*used) < IDLE_TIMEOUT);
        if clients.len() >= MAX_CLIENTS {
            let oldest = clients.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| clients.remove(&oldest));
        }
        let client = self.build(key.reach.clone())?;
        clients.insert(key, (client.clone(), now));
        Ok(client)
    }

    /// The client for the servers that an operator names: it may reach every address.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn for_operator(&self) -> Result<Client, reqwest::Error> {
        let mut operator = self.operator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*operator {
            return Ok(client.clone());
        }
        let client = self.build(Arc::new(Reach::everywhere()))?;
        *operator = Some(client.clone());
        Ok(client)
    }

    fn build(&self, reach: Arc<Reach>) -> Result<Client, reqwest::Error> {
        let own_lookups = Arc::new(Semaphore::new(MAX_OWN_LOOKUPS));
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Resolver { reach, lookups: self.lookups.clone(), own_lookups })
            // The answer may lead to what is not allowed: the guest decides, and its next request is checked.
            .redirect(Policy::none())
            // A proxy would look up the host itself.
            .no_proxy()
            // A request may have an effect, so only the guest or the retry policy of its task repeats it.
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build()
    }
}
