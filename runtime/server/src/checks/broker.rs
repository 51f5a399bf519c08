//! Checks whether the broker can be reached, and which broker it is.

use std::{sync::Arc, time::Duration};

use ::broker::{Amqp, Broker, ConnectError, Greeting, Options};
use client::api::Check;

use super::{LOOK, Live, Places, permissions, within};
use crate::problem::chain;

/// The time limit of connecting: some round trips, and TLS.
const CONNECTING: Duration = Duration::from_secs(6);

/// The oldest RabbitMQ that waft works with.
const OLDEST: (u64, u64) = (3, 10);

/// The broker connection and what the check found.
pub(super) struct Reached {
    pub(super) checks: Vec<Check>,
    /// The connection for further checks; `None` when there is none.
    pub(super) connection: Option<Arc<dyn Broker>>,
    /// Whether the connection was made for the checks.
    pub(super) is_own: bool,
}

/// Connects to the broker and tries the operations that waft needs.
pub(super) async fn reach(places: &Places, live: Option<&Live>) -> Reached {
    let Some(options) = &places.broker else {
        let (check, connection) = match live {
            Some(live) => (
                Check::ok("broker", "in this process: `waft serve` without --broker needs no RabbitMQ"),
                Some(live.broker.clone()),
            ),
            None => (Check::skipped("broker", "none is named with --broker, WAFT_BROKER or in waft.toml"), None),
        };
        return Reached { checks: vec![check], connection, is_own: false };
    };
    let (greeting, connected) =
        tokio::join!(within(LOOK, Greeting::ask(options.clone())), within(CONNECTING, Amqp::connect(options.clone())));
    let connection: Arc<dyn Broker> = match connected {
        Some(Ok(connection)) => Arc::new(connection),
        Some(Err(error)) => return unreachable(&error, greeting.and_then(Result::ok)),
        None => return silent(options, greeting.and_then(Result::ok)),
    };
    let mut checks = vec![greeted(greeting)];
    checks.extend(permissions::check(&*connection, options).await);
    Reached { checks, connection: Some(connection), is_own: true }
}

fn unreachable(error: &ConnectError, greeting: Option<Greeting>) -> Reached {
    let advice = match error {
        ConnectError::BadUrl { .. } => "write amqp://user:password@host:5672/vhost, or amqps:// for TLS",
        ConnectError::TlsCa { .. } => "name a readable PEM file with --tls-ca",
        ConnectError::Unreachable { .. } | ConnectError::Silent { .. } | ConnectError::Interrupted { .. } => {
            "start RabbitMQ there (`rabbitmqctl status` on its machine says how it is), or name another one with --broker or \
             WAFT_BROKER; engines and workers connect again by themselves"
        }
        ConnectError::Tls { .. } => "use the port that speaks TLS (5671), and name its certificates with --tls-ca",
        ConnectError::Credentials { .. } => {
            "set user and password in the address; `rabbitmqctl authenticate_user USER PASSWORD` tries them"
        }
        ConnectError::VirtualHost { .. } => {
            "`rabbitmqctl list_vhosts` shows what there is, `rabbitmqctl add_vhost` makes one, `rabbitmqctl set_permissions` \
             lets a user in"
        }
    };
    failed(Check::fail("broker", format!("{}{}", chain(error), of(greeting)), advice))
}

fn silent(options: &Options, greeting: Option<Greeting>) -> Reached {
    let host = options.address_and_user().map_or_else(|| "the broker".to_owned(), |(address, _)| address);
    let seconds = CONNECTING.as_secs();
    failed(Check::fail(
        "broker",
        format!("{host} did not let us in within {seconds} seconds{}", of(greeting)),
        "check host and port and what lies between (a firewall drops packets without an answer); on its machine \
         `rabbitmqctl status` says how RabbitMQ is",
    ))
}

/// The product and version that the broker named before it refused the connection.
fn of(greeting: Option<Greeting>) -> String {
    greeting.map(|Greeting { product, version, .. }| format!("; it is {product} {version}")).unwrap_or_default()
}

fn failed(check: Check) -> Reached {
    let skipped = |name| Check::skipped(name, "the broker could not be reached");
    let checks = vec![check, skipped("broker-permissions"), skipped("broker-clock")];
    Reached { checks, connection: None, is_own: false }
}

fn greeted(greeting: Option<Result<Greeting, ConnectError>>) -> Check {
    let (address, product, version) = match greeting {
        Some(Ok(Greeting { address, product, version })) => (address, product, version),
        Some(Err(error)) => {
            let detail = format!("it lets us in, and does not say which broker it is: {}", chain(&error));
            return Check::warn("broker", detail, "waft is made for RabbitMQ 3.10 or later");
        }
        None => {
            let detail = "it lets us in, and does not say which broker it is";
            return Check::warn("broker", detail, "it may be busy: try again, or look at `rabbitmqctl status`");
        }
    };
    let detail = format!("{product} {version} at {address}");
    match parse(&version) {
        _ if product != "RabbitMQ" => {
            Check::warn("broker", format!("{detail} is no RabbitMQ"), "waft is made for RabbitMQ 3.10 or later")
        }
        Some(version) if version < OLDEST => Check::fail(
            "broker",
            format!("{detail} is too old"),
            "upgrade RabbitMQ to 3.10 or later: its quorum queues do what waft needs",
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
    use client::api::Outcome;

    use super::*;

    #[test]
    fn a_broker_is_well_from_the_oldest_version_on() {
        for (product, version, outcome) in [
            ("RabbitMQ", "3.10.8", Outcome::Ok),
            ("RabbitMQ", "4.1.0-rc.1", Outcome::Ok),
            ("RabbitMQ", "3.9.13", Outcome::Fail),
            ("RabbitMQ", "unknown", Outcome::Ok),
            ("LavinMQ", "2.0.0", Outcome::Warn),
        ] {
            let (product, version) = (product.into(), version.into());
            let check = greeted(Some(Ok(Greeting { address: "a:1".into(), product, version })));
            assert_eq!(check.outcome, outcome, "{check:?}");
        }
    }
}
