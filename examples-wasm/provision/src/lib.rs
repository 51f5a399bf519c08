//! Sets up a server in a cloud: creates it, installs WordPress, adds it to a load balancer and monitors it. Each step can be
//! rolled back. The cloud is the service in `examples/cloud`; `cloud.rs` has the requests.
//!
//! Each step adds a line to the *ledger*, a value that it requires from the previous step and provides with its own line added.

mod cloud;

use serde_json::json;
use waft_guest::prelude::*;

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Its identity in the cloud.
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

/// An answer of the cloud of which only the status counts.
#[derive(Debug, Deserialize)]
struct Made {}

/// Creates a server.
#[task(provides = fields, rollback = destroy_server, retry(attempts = 5, initial = "200ms"))]
fn create_server(
    call: &Call,
    /// Its name.
    name: &str,
    /// Its region; the default is `eu-north`.
    region: Option<String>,
    /// Whether the cloud refuses to delete it, until somebody changes that.
    protected: Option<bool>,
    /// The address of the cloud; the default is `http://127.0.0.1:7480`.
    cloud: Option<String>,
) -> Result<Created, Failure> {
    let region = region.as_deref().unwrap_or("eu-north");
    let body = json!({ "name": name, "region": region, "protected": protected.unwrap_or(false) });
    let server: Server = cloud::make(call, cloud.as_deref(), "/v1/servers", &body)?;
    let ledger = Ledger::default().with(format!("created {} at {}", server.id, server.address));
    Ok(Created { server, ledger })
}

#[rollback]
fn destroy_server(call: &Call, cloud: Option<String>) -> Result<(), Failure> {
    let existed = cloud::take_back(call, cloud.as_deref())?;
    report_rollback(if existed { "destroyed the server" } else { "there was no server to destroy" });
    Ok(())
}

/// Fetches the recipes for configuring a server. It needs no rollback.
#[task(provides = "recipes", retry(attempts = 5, initial = "200ms"))]
fn pull_recipes(
    /// The address of the cloud.
    cloud: Option<String>,
) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        recipes: Vec<String>,
    }
    let answer: Answer = cloud::request("GET", cloud.as_deref(), "/v1/recipes").send()?.success()?.json()?;
    log::info!("pulled {} recipes", answer.recipes.len());
    Ok(answer.recipes)
}

/// Installs WordPress on the server.
#[task(provides = "ledger", rollback = remove_wordpress, retry(attempts = 5, initial = "200ms"))]
fn install_wordpress(
    call: &Call,
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The version to install; the default is `6.9`.
    version: Option<String>,
    /// The recipes for the server; the default is none.
    recipes: Option<Vec<String>>,
    /// The address of the cloud.
    cloud: Option<String>,
) -> Result<Ledger, Failure> {
    let version = version.as_deref().unwrap_or("6.9");
    let body = json!({ "version": version, "recipes": recipes.unwrap_or_default() });
    let Made {} = cloud::make(call, cloud.as_deref(), &format!("/v1/servers/{}/wordpress", server.id), &body)?;
    Ok(ledger.with(format!("installed WordPress {version} on {}", server.id)))
}

#[rollback]
fn remove_wordpress(call: &Call, server: &Server, cloud: Option<String>) -> Result<(), Failure> {
    let existed = cloud::take_back(call, cloud.as_deref())?;
    let what = if existed { "removed WordPress from" } else { "there was no WordPress on" };
    report_rollback(&format!("{what} {}", server.id));
    Ok(())
}

/// Adds the server to the load balancer.
#[task(provides = "ledger", rollback = remove_from_load_balancer, retry(attempts = 5, initial = "200ms"))]
fn add_to_load_balancer(
    call: &Call,
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The pool of the load balancer; the default is `web`.
    pool: Option<String>,
    /// The address of the cloud.
    cloud: Option<String>,
) -> Result<Ledger, Failure> {
    let path = format!("/v1/pools/{}/addresses", pool.as_deref().unwrap_or("web"));
    let Made {} = cloud::make(call, cloud.as_deref(), &path, &json!({ "address": server.address }))?;
    Ok(ledger.with(format!("added {} to the load balancer", server.address)))
}

#[rollback]
fn remove_from_load_balancer(call: &Call, server: &Server, cloud: Option<String>) -> Result<(), Failure> {
    let existed = cloud::take_back(call, cloud.as_deref())?;
    let what = if existed { "removed" } else { "the load balancer did not have" };
    report_rollback(&format!("{what} {}", server.address));
    Ok(())
}

/// Monitors the server.
#[task(provides = "ledger", rollback = remove_monitor, retry(attempts = 5, initial = "200ms"))]
fn add_monitor(
    call: &Call,
    server: &Server,
    /// The completed steps.
    ledger: Ledger,
    /// The e-mail address for alerts; the default is `ops@example.com`. The cloud refuses one that is none.
    alert: Option<String>,
    /// The address of the cloud.
    cloud: Option<String>,
) -> Result<Ledger, Failure> {
    let alert = alert.as_deref().unwrap_or("ops@example.com");
    let path = format!("/v1/servers/{}/monitors", server.id);
    let Made {} = cloud::make(call, cloud.as_deref(), &path, &json!({ "alert": alert }))?;
    Ok(ledger.with(format!("watches {}", server.address)))
}

#[rollback]
fn remove_monitor(call: &Call, server: &Server, cloud: Option<String>) -> Result<(), Failure> {
    let existed = cloud::take_back(call, cloud.as_deref())?;
    let what = if existed { "stopped watching" } else { "nothing watched" };
    report_rollback(&format!("{what} {}", server.address));
    Ok(())
}

/// Reports a rollback in the log and to watchers, because a rollback provides no values.
fn report_rollback(what: &str) {
    log::info!("{what}");
    progress(1.0, what);
}

waft_guest::export!(create_server, pull_recipes, install_wordpress, add_to_load_balancer, add_monitor);

#[cfg(test)]
mod tests;
