//! Checks whether the broker can be reached, and which broker it is.

use std::{sync::Arc, time::Duration};

use ::broker::{Amqp, Broker, ConnectError, Greeting, Options, roles::Role};
use api::Check;

use super::{Locations, QUERY_TIMEOUT, RunningServer, permissions, within};
use crate::problem::chain;

/// The time limit of connecting: some round trips, and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);

/// The oldest RabbitMQ that waft works with.
const OLDEST_VERSION: (u64, u64) = (3, 10);

/// The broker connection and what the check found.
pub(super) struct BrokerCheck {
    pub(super) checks: Vec<Check>,
    /// The connection for further checks; `None` when there is none.
    pub(super) connection: Option<Arc<dyn Broker>>,
    /// Whether the connection was made for the checks.
    pub(super) is_own: bool,
}

/// Connects to the broker and tries the operations that waft needs.
pub(super) async fn check(locations: &Locations, running: Option<&RunningServer>) -> BrokerCheck {
    let Some(options) = &locations.broker else {
        let (check, connection) = match running {
            Some(running) => (
                Check::ok("broker", "in this process: `waft serve` without --broker needs no RabbitMQ"),
                Some(running.broker.clone()),
            ),
            None => (Check::skipped("broker", "none is named with --broker, WAFT_BROKER or in the settings"), None),
        };
        return BrokerCheck { checks: vec![check], connection, is_own: false };
    };
    let (greeting, connected) = tokio::join!(
        within(QUERY_TIMEOUT, Greeting::ask(options.clone())),
        within(CONNECT_TIMEOUT, Amqp::connect(options.clone()))
    );
    let connection: Arc<dyn Broker> = match connected {
        Some(Ok(connection)) => Arc::new(connection),
        Some(Err(error)) => return unreachable(&error, greeting.and_then(Result::ok)),
        None => return silent(options, greeting.and_then(Result::ok)),
    };
    let mut checks = vec![product_check(greeting)];
    let role = if running.is_some() { Role::Engine } else { Role::Operator };
    checks.extend(permissions::check(&*connection, options, role).await);
    BrokerCheck { checks, connection: Some(connection), is_own: true }
}

fn unreachable(error: &ConnectError, greeting: Option<Greeting>) -> BrokerCheck {
    let advice = match error {
        ConnectError::BadUrl { .. } => "write amqp://user:password@host:5672/vhost, or amqps:// for TLS",
        ConnectError::File(_) => {
            "name readable PEM files: --tls-ca, or cacertfile, certfile and keyfile in the address"
        }
        ConnectError::Unreachable { .. } | ConnectError::Silent { .. } | ConnectError::Interrupted { .. } => {
            "start RabbitMQ there (`rabbitmqctl status` on its machine shows its state), or name another one with --broker or \
             WAFT_BROKER; engines and workers reconnect by themselves"
        }
        ConnectError::Tls { .. } => {
            "use the TLS port (5671), and name its authority with cacertfile in the address, or with --tls-ca"
        }
        ConnectError::CertificateLogin { .. } => "enable the plugin, and add the user without a password",
        ConnectError::Credentials { .. } => {
            "set user and password in the address; `rabbitmqctl authenticate_user USER PASSWORD` checks them"
        }
        ConnectError::VirtualHost { .. } => {
            "`rabbitmqctl list_vhosts` lists them, `rabbitmqctl add_vhost` adds one, `rabbitmqctl set_permissions` \
             gives a user access"
        }
    };
    failed(Check::fail("broker", format!("{}{}", chain(error), product_suffix(greeting)), advice))
}

fn silent(options: &Options, greeting: Option<Greeting>) -> BrokerCheck {
    let host = options.address_and_user().map_or_else(|| "the broker".to_owned(), |(address, _)| address);
    let seconds = CONNECT_TIMEOUT.as_secs();
    failed(Check::fail(
        "broker",
        format!("{host} did not let us in within {seconds} seconds{}", product_suffix(greeting)),
        "check host and port and the network between (a firewall drops packets without an answer); on its machine \
         `rabbitmqctl status` shows the state of RabbitMQ",
    ))
}

/// The product and version that the broker named before it refused the connection.
fn product_suffix(greeting: Option<Greeting>) -> String {
    greeting.map(|Greeting { product, version, .. }| format!("; it is {product} {version}")).unwrap_or_default()
}

fn failed(check: Check) -> BrokerCheck {
    let skipped = |name| Check::skipped(name, "the broker could not be reached");
    let checks = vec![check, skipped("broker-permissions"), skipped("broker-clock")];
    BrokerCheck { checks, connection: None, is_own: false }
}

fn product_check(greeting: Option<Result<Greeting, ConnectError>>) -> Check {
    let (address, product, version) = match greeting {
        Some(Ok(Greeting { address, product, version })) => (address, product, version),
        Some(Err(error)) => {
            let detail = format!("it accepts connections, but does not report its product: {}", chain(&error));
            return Check::warn("broker", detail, "waft needs RabbitMQ 3.10 or later");
        }
        None => {
            let detail = "it accepts connections, but does not report its product";
            return Check::warn("broker", detail, "it may be busy: try again, or look at `rabbitmqctl status`");
        }
    };
    let detail = format!("{product} {version} at {address}");
    match parse(&version) {
        _ if product != "RabbitMQ" => {
            Check::warn("broker", format!("{detail} is no RabbitMQ"), "waft needs RabbitMQ 3.10 or later")
        }
        Some(version) if version < OLDEST_VERSION => Check::fail(
            "broker",
            format!("{detail} is too old"),
            "upgrade RabbitMQ to 3.10 or later: waft needs its quorum queues",
        ),
        Some(_) | None => Check::ok("broker", detail),
    }
}

fn parse(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use api::Outcome;

    use super::*;

    #[test]
    fn a_broker_is_healthy_from_the_oldest_version_on() {
        for (product, version, outcome) in [
            ("RabbitMQ", "3.10.8", Outcome::Ok),
            ("RabbitMQ", "4.1.0-rc.1", Outcome::Ok),
            ("RabbitMQ", "3.9.13", Outcome::Fail),
            ("RabbitMQ", "unknown", Outcome::Ok),
            ("LavinMQ", "2.0.0", Outcome::Warn),
        ] {
            let (product, version) = (product.into(), version.into());
            let check = product_check(Some(Ok(Greeting { address: "a:1".into(), product, version })));
            assert_eq!(check.outcome, outcome, "{check:?}");
        }
    }
}
