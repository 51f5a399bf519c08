//! The addresses of a RabbitMQ: each part of waft connects as the user of its role, with exactly the permissions that `waft broker
//! permissions` prints. So a test fails when a part needs more.

use std::{env, path::Path};

use broker::roles::Role;
use xtask::rabbitmq::{BROKER, ROLE_PASSWORD, Rabbit, with_user};

use crate::from_xtask;

/// The addresses of a RabbitMQ.
#[derive(Debug, Clone)]
pub struct TestBroker {
    url: String,
    /// `None` at a broker of a developer without users for the roles.
    role_password: Option<String>,
}

impl TestBroker {
    /// The RabbitMQ that tests share. If its roles have no users, all roles use the same address.
    #[must_use]
    pub fn shared() -> Self {
        let role_password = env::var(ROLE_PASSWORD).ok().filter(|password| !password.is_empty());
        Self { url: from_xtask(BROKER), role_password }
    }

    /// The address for a part of waft: `waft serve`, `waft run` and `waft broker setup` are engines; `waft workers`, `waft
    /// quarantine` and `waft doctor` are of an operator.
    #[must_use]
    pub fn url(&self, role: Role) -> String {
        match &self.role_password {
            Some(password) => with_user(&self.url, role.as_str(), password),
            None => self.url.clone(),
        }
    }

    /// The address for what a test does itself, such as forging messages: its user has all permissions.
    #[must_use]
    pub fn administrator_url(&self) -> &str {
        &self.url
    }
}

impl From<&Rabbit> for TestBroker {
    fn from(rabbit: &Rabbit) -> Self {
        Self { url: rabbit.url().to_owned(), role_password: rabbit.role_password().map(str::to_owned) }
    }
}

/// Starts a RabbitMQ for one test, with its files in a folder.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn start_rabbit(parent: &Path) -> Rabbit {
    let waft = from_xtask("WAFT_TEST_BINARY");
    Rabbit::start_with_role_users(parent, waft.as_ref()).unwrap_or_else(|error| panic!("RabbitMQ starts: {error:#}"))
}
