//! The HTTP clients: each keeps connections, which no other call uses.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flow::{Namespace, Reach};
use reqwest::{Client, redirect::Policy};
use rustls::ClientConfig;

use crate::{LookupShare, headers::MAX_HEADERS_BYTES, lookups::Lookups, resolver::Resolver};

/// How long a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum number of unused connections to one host.
const MAX_IDLE_PER_HOST: usize = 8;

/// The maximum number of clients of a call. With more, the oldest goes, with its unused connections.
const MAX_CLIENTS_OF_CALL: usize = 8;

/// Makes the clients of all calls.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Its sessions are shared, so that a further connection to a server needs no full handshake.
    tls: ClientConfig,
    lookups: Arc<Lookups>,
    /// The client for the servers that an operator names, which no request of a guest shares.
    operator: Mutex<Option<Client>>,
}

/// The clients of one call. Cheap to clone: all clones share them. Their connections end with the last one.
///
/// A server may take the body of a request for the next request on the connection. So whoever shared it would get an answer that the
/// sender of the body has chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallClients(Arc<Mutex<Vec<(Reach, Client)>>>);

impl Clients {
    pub(crate) fn new(mut tls: ClientConfig, lookups: Arc<Lookups>) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { tls, lookups, operator: Mutex::default() }
    }

    /// The client of a call for requests with this reach: the address of a kept connection was checked for it.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn of_call(
        &self,
        call: &CallClients,
        namespace: Option<&Namespace>,
        reach: Reach,
    ) -> Result<Client, reqwest::Error> {
        // A panic in another thread cannot leave the list half changed.
        let mut clients = call.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == reach) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS_OF_CALL {
            clients.remove(0);
        }
        let client = self.build(Arc::new(reach.clone()), self.lookups.of(namespace))?;
        clients.push((reach, client.clone()));
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
        let client = self.build(Arc::new(Reach::everywhere()), self.lookups.for_operator())?;
        *operator = Some(client.clone());
        Ok(client)
    }

    fn build(&self, reach: Arc<Reach>, lookups: LookupShare) -> Result<Client, reqwest::Error> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Resolver { reach, lookups })
            // The answer may lead to what is not allowed: the guest decides, and its next request is checked.
            .redirect(Policy::none())
            // A proxy would look up the host itself.
            .no_proxy()
            // A request may have an effect, so only the guest or the retry policy of its task repeats it.
            .retry(reqwest::retry::never())
            .referer(false)
            .http2_max_header_list_size(MAX_HEADERS_BYTES as u32)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build()
    }
}
