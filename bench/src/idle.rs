//! Measures the memory of an idle worker.

use anyhow::Context;
use tokio::process::Command;

use crate::{Bench, cold::start_worker};

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(&bench.binary);
    command.env("WAFT_CACHE", folder.path()).env("WAFT_BROKER", &bench.broker).kill_on_drop(true);
    let worker = start_worker(command).await?;
    let process = worker.id().context("the worker runs")?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find(|line| line.starts_with("VmRSS:")).context("the kernel reports VmRSS")?;
    let kibibytes: f64 = resident.split_whitespace().nth(1).context("a number")?.parse()?;
    println!("{:32} waft {:>8.1} MiB resident", "idle worker", kibibytes / 1024.0);
    Ok(())
}
