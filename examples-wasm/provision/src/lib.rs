//! Sets up a server: creates it, installs WordPress, adds it to a load balancer and monitors it. Each step can be rolled
//! back, and an input can make it fail: `fail_at=add-monitor`, `fail_rollback_of=install-wordpress`; creating the
//! server can be made to succeed only after some attempts: `fail_times=2`.
//!
//! No cloud is called: each step adds a line to the *ledger*, a value that it requires from the previous step and provides
//! with its own line added.

use waft_guest::prelude::*;

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Its identity: the same for every attempt, so that a retry finds the server of the first attempt.
    pub id: String,
    /// Its address.
    pub address: String,
}

/// The completed steps, one line each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Ledger(Vec<String>);

impl Ledger {
    /// The ledger with a line added.
    fn with(mut self, line: String) -> Self {
        log::info!("{line}");
        self.0.push(line);
        self
    }
}

/// The values that creating a server provides.
#[derive(Debug, Clone, PartialEq, Provides)]
pub struct Created {
    /// The new server.
    pub server: Server,
    /// The first line of the ledger.
    pub ledger: Ledger,
}

/// Creates a server.
#[task(provides = fields, rollback = destroy_server, retry(attempts = 3, initial = "200ms"))]
fn create_server(
    call: &Call,
    /// Its name.
    name: &str,
    /// Its region; the default is `eu-north`.
    region: Option<String>,
    /// The task that should fail, for practice.
    fail_at: Option<String>,
    /// The number of attempts that fail before one succeeds, for practice.
    fail_times: Option<u32>,
) -> Result<Created, Failure> {
    fail_on_demand("create-server", fail_at)?;
    if fail_times.is_some_and(|times| call.attempt <= times) {
        return Err(Failure::transient("no server is free"));
    }
    let region = region.as_deref().unwrap_or("eu-north");
    let number = call.idempotency_key.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    let server = Server { id: format!("srv-{number:08x}"), address: format!("{name}.{region}.example") };
    let ledger = Ledger::default().with(format!("created {} at {}", server.id, server.address));
    Ok(Created { server, ledger })
}

#[rollback]
fn destroy_server(
    created: Outcome<Created>,
    /// The task whose rollback should fail, for practice.
    fail_rollback_of: Option<String>,
) -> Result<(), Failure> {
    fail_rollback_on_demand("create-server", fail_rollback_of)?;
    match created {
        Outcome::Provided(Created { server, .. }) => report_rollback(format!("destroyed {}", server.id)),
        Outcome::Failed(failure) => {
            report_rollback(format!("destroyed nothing: creating it had failed ({})", failure.kind))
        }
        Outcome::Unknown => report_rollback("looked for a server of this call and destroyed what it found".into()),
    }
    Ok(())
}

/// Pulls the recipes for configuring a server. It needs no rollback.
#[task(provides = "recipes")]
fn pull_recipes() -> Vec<String> {
    log::info!("pulled the recipes");
    vec!["database".into(), "web".into()]
}

/// Installs WordPress on the server.
#[task(provides = "ledger", rollback = remove_wordpress, retry(attempts = 3, initial = "200ms"))]
fn install_wordpress(
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The version to install; the default is `6.9`.
    version: Option<String>,
    /// The recipes for the server; the default is the built-in ones.
    recipes: Option<Vec<String>>,
    /// The task that should fail, for practice.
    fail_at: Option<String>,
) -> Result<Ledger, Failure> {
    if let Some(recipes) = recipes {
        log::info!("configures by {}", recipes.join(" and "));
    }
    for (fraction, step) in [(0.3, "downloads"), (0.6, "unpacks"), (1.0, "configures")] {
        progress(fraction, format!("{step} WordPress"));
    }
    fail_on_demand("install-wordpress", fail_at)?;
    Ok(ledger.with(format!("installed WordPress {} on {}", version.as_deref().unwrap_or("6.9"), server.id)))
}

#[rollback]
fn remove_wordpress(
    server: &Server,
    /// The task whose rollback should fail, for practice.
    fail_rollback_of: Option<String>,
) -> Result<(), Failure> {
    fail_rollback_on_demand("install-wordpress", fail_rollback_of)?;
    report_rollback(format!("removed WordPress from {}", server.id));
    Ok(())
}

/// Adds the server to the load balancer.
#[task(provides = "ledger", rollback = remove_from_load_balancer, retry(attempts = 3, initial = "200ms"))]
fn add_to_load_balancer(
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The task that should fail, for practice.
    fail_at: Option<String>,
) -> Result<Ledger, Failure> {
    fail_on_demand("add-to-load-balancer", fail_at)?;
    Ok(ledger.with(format!("added {} to the load balancer", server.address)))
}

#[rollback]
fn remove_from_load_balancer(
    server: &Server,
    /// The task whose rollback should fail, for practice.
    fail_rollback_of: Option<String>,
) -> Result<(), Failure> {
    fail_rollback_on_demand("add-to-load-balancer", fail_rollback_of)?;
    report_rollback(format!("removed {} from the load balancer", server.address));
    Ok(())
}

/// Monitors the server.
#[task(provides = "ledger", rollback = remove_monitor, retry(attempts = 3, initial = "200ms"))]
fn add_monitor(
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The task that should fail, for practice.
    fail_at: Option<String>,
) -> Result<Ledger, Failure> {
    fail_on_demand("add-monitor", fail_at)?;
    Ok(ledger.with(format!("watches {}", server.address)))
}

#[rollback]
fn remove_monitor(
    server: &Server,
    outcome: Outcome<Ledger>,
    /// The task whose rollback should fail, for practice.
    fail_rollback_of: Option<String>,
) -> Result<(), Failure> {
    fail_rollback_on_demand("add-monitor", fail_rollback_of)?;
    match outcome {
        Outcome::Failed(failure) => report_rollback(format!("nothing watches {} ({})", server.address, failure.kind)),
        Outcome::Provided(_) | Outcome::Unknown => report_rollback(format!("stopped watching {}", server.address)),
    }
    Ok(())
}

fn fail_on_demand(task: &str, fail_at: Option<String>) -> Result<(), Failure> {
    match fail_at {
        Some(fail_at) if fail_at == task => Err(Failure::permanent(format!("{task} was told to fail"))),
        Some(_) | None => Ok(()),
    }
}

fn fail_rollback_on_demand(task: &str, fail_rollback_of: Option<String>) -> Result<(), Failure> {
    match fail_rollback_of {
        Some(name) if name == task => Err(Failure::permanent(format!("the rollback of {task} was told to fail"))),
        Some(_) | None => Ok(()),
    }
}

/// Reports a rollback in the log and to watchers, because a rollback provides no values.
fn report_rollback(what: String) {
    log::info!("{what}");
    progress(1.0, what);
}

waft_guest::export!(create_server, pull_recipes, install_wordpress, add_to_load_balancer, add_monitor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_adds_its_line_to_the_ledger() {
        let Created { server, ledger } = create_server(&Call::default(), "blog", None, None, None).unwrap();
        let ledger = install_wordpress(&server, ledger, None, None, None).unwrap();
        let ledger = add_to_load_balancer(&server, ledger, None).unwrap();
        let Ledger(lines) = add_monitor(&server, ledger, None).unwrap();
        let id = &server.id;
        assert_eq!(
            lines,
            [
                format!("created {id} at blog.eu-north.example"),
                format!("installed WordPress 6.9 on {id}"),
                "added blog.eu-north.example to the load balancer".into(),
                "watches blog.eu-north.example".into(),
            ]
        );
    }

    #[test]
    fn every_attempt_of_a_firing_creates_the_same_server() {
        let first_try = Call::default();
        let second_try = Call { attempt: 2, ..Call::default() };
        let next_firing = Call { firing: 2, idempotency_key: "run/task/2".into(), ..Call::default() };
        let create = |call: &Call| create_server(call, "blog", None, None, None).unwrap().server;
        assert_eq!(create(&first_try), create(&second_try));
        assert_ne!(create(&first_try), create(&next_firing));
    }

    #[test]
    fn a_step_and_a_rollback_fail_on_demand() {
        let server = Server { id: "srv-1".into(), address: "blog.example".into() };
        let failure = add_monitor(&server, Ledger::default(), Some("add-monitor".into())).unwrap_err();
        assert_eq!(failure.message(), "add-monitor was told to fail");
        assert!(add_monitor(&server, Ledger::default(), Some("create-server".into())).is_ok());
        let failure = remove_wordpress(&server, Some("install-wordpress".into())).unwrap_err();
        assert_eq!(failure.message(), "the rollback of install-wordpress was told to fail");
        assert!(remove_wordpress(&server, None).is_ok());
    }
}
