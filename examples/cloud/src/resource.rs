//! What the cloud can make.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A resource, as the ledger and the answers have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Resource {
    Server(Server),
    Wordpress(Wordpress),
    PoolAddress(PoolAddress),
    Monitor(Monitor),
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    /// No two servers have the same one.
    pub(crate) address: String,
    /// Whether it cannot be deleted.
    pub(crate) protected: bool,
}

/// WordPress on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wordpress {
    pub(crate) id: String,
    pub(crate) server: String,
    pub(crate) version: String,
    pub(crate) recipes: Vec<String>,
}

/// An address that a load balancer sends requests to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PoolAddress {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) address: String,
}

/// A monitor that watches a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Monitor {
    pub(crate) id: String,
    pub(crate) server: String,
    /// The e-mail address that it alerts.
    pub(crate) alert: String,
}

impl Resource {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Server(Server { id, .. })
            | Self::Wordpress(Wordpress { id, .. })
            | Self::PoolAddress(PoolAddress { id, .. })
            | Self::Monitor(Monitor { id, .. }) => id,
        }
    }

    /// Whether it needs this server.
    pub(crate) fn uses(&self, server: &Server) -> bool {
        match self {
            Self::Wordpress(Wordpress { server: used, .. }) | Self::Monitor(Monitor { server: used, .. }) => {
                *used == server.id
            }
            Self::PoolAddress(PoolAddress { address, .. }) => *address == server.address,
            Self::Server(_) => false,
        }
    }

    pub(crate) fn as_server(&self) -> Option<&Server> {
        match self {
            Self::Server(server) => Some(server),
            Self::Wordpress(_) | Self::PoolAddress(_) | Self::Monitor(_) => None,
        }
    }

    pub(crate) fn as_pool_address(&self) -> Option<&PoolAddress> {
        match self {
            Self::PoolAddress(address) => Some(address),
            Self::Server(_) | Self::Wordpress(_) | Self::Monitor(_) => None,
        }
    }

    /// The body of the answer to the request that made it.
    pub(crate) fn to_answer(&self) -> Value {
        let written = match self {
            Self::Server(server) => serde_json::to_value(server),
            Self::Wordpress(wordpress) => serde_json::to_value(wordpress),
            Self::PoolAddress(address) => serde_json::to_value(address),
            Self::Monitor(monitor) => serde_json::to_value(monitor),
        };
        written.expect("texts, numbers and lists are JSON")
    }
}
