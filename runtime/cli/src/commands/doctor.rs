//! `waft doctor`: prints what works, what does not, and what to do. [`server::check`] runs the checks.

use std::time::{Duration, SystemTime};

use ::server::Locations;
use client::{
    ClientError,
    api::{Check, Checks, Outcome},
};
use tokio::time::timeout;

use super::{broker_url, process_name, remote};
use crate::{
    arguments::BrokerFlag,
    colour::{self, Colour},
    exit::{CliError, Exit},
    output::{self, Stream},
    sanitize,
    settings::Settings,
};

/// The time limit of the whole command. The checks have their own limits; this one covers everything else.
const TIME_LIMIT: Duration = Duration::from_secs(29);

/// The hint for checking without a server.
const WITHOUT_SERVER: &str = "without a server: waft doctor --broker URL --logbook URL --store FOLDER";

/// The maximum difference between clocks.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// The version of this waft.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn run(settings: &Settings, flag: &BrokerFlag, as_json: bool) -> Result<Exit, CliError> {
    // An address that a flag names takes precedence.
    let is_named = flag.broker.is_some() || settings.logbook_is_named() || settings.store_is_named();
    let asks_server = settings.server.is_chosen() && !is_named;
    let checking = async {
        if asks_server {
            at_server(settings).await
        } else {
            Ok(Box::pin(::server::check(&locations(settings, flag), None)).await)
        }
    };
    let checks = match timeout(TIME_LIMIT, checking).await {
        Ok(checks) => checks?,
        Err(_) if asks_server => {
            let detail = format!("{} has not answered within {} seconds", settings.server.url(), TIME_LIMIT.as_secs());
            vec![Check::fail("server", detail, format!("look at its log; or check {WITHOUT_SERVER}"))]
        }
        Err(_) => {
            let detail = format!("the checks have not ended within {} seconds", TIME_LIMIT.as_secs());
            vec![Check::fail("doctor", detail, "run it again; if this repeats, it is a bug of waft: please report it")]
        }
    };
    if as_json {
        for check in &checks {
            output::json(serde_json::to_string(check).map_err(CliError::unreachable)?);
        }
    } else {
        print(&checks);
    }
    Ok(if ::server::is_healthy(&checks) { Exit::Success } else { Exit::Unwell })
}

/// The addresses and folders of a waft with these settings.
pub(super) fn locations(settings: &Settings, flag: &BrokerFlag) -> Locations {
    let broker = broker_url(settings, flag).map(|url| broker::Options {
        name: format!("waft doctor {}", process_name()),
        tls_ca: flag.tls_ca.clone(),
        ..broker::Options::new(url)
    });
    Locations {
        broker,
        logbook: settings.logbook.clone(),
        store: settings.store.clone(),
        files_with_secrets: settings.files_with_secrets.clone(),
        cache: settings.cache.clone(),
        queues: settings.queues.names.iter().cloned().collect(),
        admission: settings.admission.clone(),
    }
}

/// The server's checks, and a comparison with the server's clock and version.
async fn at_server(settings: &Settings) -> Result<Vec<Check>, CliError> {
    let client = remote::client(settings)?;
    match client.checks().await {
        Ok(Checks { version, at, checks }) => {
            let server = [answered(client.server(), &version), clock(&at, SystemTime::now())];
            Ok(server.into_iter().chain(checks).collect())
        }
        Err(error @ (ClientError::Address { .. } | ClientError::Certificate { .. })) => Err(remote::cli_error(error)),
        Err(error) => {
            let is_older = error.status() == Some(404);
            let CliError { error, hint, .. } = remote::cli_error(error);
            let without_server = WITHOUT_SERVER;
            let (detail, advice) = if is_older {
                (
                    format!("{} is an older waft, which has no checks", client.server()),
                    format!("upgrade it, or check {without_server}"),
                )
            } else {
                (
                    format!("{error:#}"),
                    hint.map_or_else(
                        || format!("check {without_server}"),
                        |hint| format!("{hint}; or check {without_server}"),
                    ),
                )
            };
            Ok(vec![Check::fail("server", detail, advice)])
        }
    }
}

fn answered(server: &str, version: &str) -> Check {
    if version == OWN_VERSION {
        return Check::ok("server", format!("{server} answers, with waft {version}; the following checks are its own"));
    }
    let detail =
        format!("{server} answers, with waft {version}, and this is waft {OWN_VERSION}; what follows is what it sees");
    Check::warn("server", detail, "use the same version on both sides")
}

/// Compares the server's clock, as stamped on an answer that has just arrived.
fn clock(at: &str, now: SystemTime) -> Check {
    let Ok(at) = at.parse::<jiff::Timestamp>() else {
        return Check::skipped("server-clock", "the server does not report its time in a known format");
    };
    let at = SystemTime::from(at);
    let (difference, direction) = match at.duration_since(now) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if difference <= MAX_CLOCK_DIFFERENCE {
        return Check::ok(
            "server-clock",
            format!("the clock of the server agrees with this machine's, within {} s", MAX_CLOCK_DIFFERENCE.as_secs()),
        );
    }
    let detail = format!("the clock of the server is {:.1} s {direction} this machine's", difference.as_secs_f64());
    Check::warn("server-clock", detail, "let both machines follow a time server (chrony, systemd-timesyncd)")
}

fn print(checks: &[Check]) {
    let colour = colour::on(Stream::Out);
    let width = checks.iter().map(|check| check.check.len()).max().unwrap_or_default();
    for Check { check, outcome, detail, advice } in checks {
        // It may contain names of queues and runs, and messages of a broker or a server.
        let line = sanitize::one_line(&format!("{check:width$}  {detail}"));
        output::line(&format!("{} {line}", state_label(outcome, colour)));
        if let Some(advice) = advice {
            output::line(&format!("      → {}", sanitize::one_line(advice)));
        }
    }
}

fn state_label(outcome: &Outcome, colour: bool) -> String {
    let (word, paint) = match outcome {
        Outcome::Ok => ("ok  ", Colour::Green),
        Outcome::Skipped => ("skip", Colour::Dim),
        Outcome::Warn => ("warn", Colour::Yellow),
        Outcome::Fail => ("FAIL", Colour::Red),
        // Only a newer server sends other outcomes.
        other => (other.as_str(), Colour::Yellow),
    };
    paint.text(word, colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_the_servers_clock_is_reported() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(clock("2023-11-14T22:13:18Z", now).outcome, Outcome::Ok);
        let behind = clock("2023-11-14T22:12:20Z", now);
        assert_eq!(
            (behind.outcome, behind.detail.as_str()),
            (Outcome::Warn, "the clock of the server is 60.0 s behind this machine's")
        );
        assert_eq!(clock("noon", now).outcome, Outcome::Skipped);
    }
}
