//! Measures waft side by side with its baselines, in one run, as ratios: `cargo xtask bench [NAME]...`.
//!
//! The machine is assumed to be shared and noisy. Each measurement alternates between waft and its baseline several times,
//! and reports the median of the ratios.

mod cold;
mod cpu;
mod dashboards;
mod defaults;
mod durable;
mod guarded;
mod idle;
mod installation;
mod instance;
mod memo;
mod messages;
mod metrics;
mod outside;
mod raw;
mod report;
mod system;
mod triggers;
mod waiting;

use std::{env, path::PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;

/// The inputs of every measurement.
struct Bench {
    /// The component with the task `noop`.
    guest: Bytes,
    /// The address of a real broker.
    broker: String,
    /// The password of the broker's users of roles, if it has them.
    role_password: Option<String>,
    /// The address of a real database, if there is one.
    postgres: Option<String>,
    /// The path of the `waft` binary.
    binary: PathBuf,
    /// The module for the first-result measurement, as it was built.
    text_guest: PathBuf,
    /// A Python with Celery, if one was named.
    python: Option<String>,
}

const NAMES: [&str; 25] = [
    "defaults",
    "guarded",
    "metrics",
    "dashboards",
    "memo",
    "instance",
    "outside",
    "in-process",
    "throughput",
    "latency",
    "chain",
    "fan-out",
    "cold",
    "idle",
    "waiting",
    "logbooks",
    "durable",
    "finished",
    "recovery",
    "failover",
    "for-each",
    "firings",
    "million",
    "edits",
    "notifications",
];

fn main() -> anyhow::Result<()> {
    if env::args().skip(1).eq([instance::CHILD]) {
        return Ok(sandbox::serve_calls()?);
    }
    let selected: Vec<String> = env::args().skip(1).collect();
    if let Some(unknown) = selected.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("there is no measurement {unknown:?}; there are {}", NAMES.join(", "));
    }
    let bench = Bench::find()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&bench, &selected))
}

async fn run(bench: &Bench, selected: &[String]) -> anyhow::Result<()> {
    // A million runs or firings take minutes, so they run only when named.
    let takes_long = |name: &str| name == "finished" || name == "million";
    let is_selected =
        |name: &str| selected.iter().any(|other| other == name) || (selected.is_empty() && !takes_long(name));
    for name in NAMES.into_iter().filter(|name| is_selected(name)) {
        match name {
            "defaults" => defaults::measure(bench).await,
            "guarded" => guarded::measure(bench).await,
            "metrics" => metrics::measure(bench).await,
            "dashboards" => dashboards::measure(bench).await,
            "memo" => memo::measure(bench).await,
            "outside" => outside::measure(bench).await,
            "instance" => instance::measure(bench).await,
            "in-process" => messages::in_process(bench).await,
            "throughput" => messages::throughput(bench).await,
            "latency" => messages::latency(bench).await,
            "chain" => messages::chain(bench).await,
            "fan-out" => messages::fan_out(bench).await,
            "logbooks" => durable::logbooks(bench).await,
            "durable" => durable::over_amqp(bench).await,
            "finished" => durable::finished(bench).await,
            "recovery" => durable::recovery(bench).await,
            "failover" => durable::failover(bench).await,
            "for-each" => triggers::for_each(bench).await,
            "firings" => triggers::firings(bench).await,
            "million" => triggers::million_firings(bench).await,
            "edits" => triggers::edits(bench).await,
            "notifications" => triggers::notifications(bench).await,
            "cold" => cold::measure(bench).await,
            "waiting" => waiting::measure(bench).await,
            _ => idle::measure(bench).await,
        }
        .with_context(|| format!("could not measure {name}"))?;
    }
    Ok(())
}

impl Bench {
    fn find() -> anyhow::Result<Self> {
        let variable =
            |name: &str| env::var_os(name).with_context(|| format!("{name} is not set: use `cargo xtask bench`"));
        let guests = PathBuf::from(variable("WAFT_TEST_GUESTS")?);
        let module = guests.join("hostile.wasm");
        let bytes = std::fs::read(&module).with_context(|| format!("could not read {}", module.display()))?;
        let guest = sandbox::Module::componentize(&bytes)?.into_bytes();
        let broker = variable("WAFT_TEST_BROKER")?.into_string().ok().context("WAFT_TEST_BROKER is no text")?;
        let role_password = env::var("WAFT_TEST_BROKER_PASSWORD").ok().filter(|password| !password.is_empty());
        let binary = PathBuf::from(variable("WAFT_TEST_BINARY")?);
        let postgres = env::var("WAFT_TEST_POSTGRES").ok();
        let python = env::var("WAFT_TEST_PYTHON").ok();
        Ok(Self { guest, broker, role_password, postgres, binary, text_guest: module, python })
    }
}
