//! Measures the time from a push to the first result, for a module that a worker at a real broker has never seen.

use std::{process::Stdio, time::Instant};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    Bench,
    report::{duration, median},
};

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let folder = tempfile::tempdir()?;
        let waft = |name: &str| {
            let mut command = Command::new(&bench.binary);
            let state = folder.path().join(name);
            command.env("WAFT_STORE", state.join("store")).env("WAFT_CACHE", state.join("cache"));
            command.env("WAFT_BROKER", &bench.broker).kill_on_drop(true);
            command
        };
        let mut start = waft("worker");
        start.arg("worker");
        let worker = start_worker(start).await?;
        let started = Instant::now();
        let module = bench.text_guest.to_string_lossy().into_owned();
        let pushed = waft("client").arg("push").arg(&module).args(["--tag", "cold"]).output().await?;
        ensure!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        let called = waft("client").args(["call", "cold#noop"]).output().await?;
        ensure!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
        times.push(started.elapsed().as_secs_f64());
        drop(worker);
    }
    println!("{:32} waft {:>11}", "push to first result, new module", duration(median(&times)));
    Ok(())
}

/// Starts a worker and waits until it takes jobs.
pub(crate) async fn start_worker(mut command: Command) -> anyhow::Result<Child> {
    let mut worker = command.stderr(Stdio::piped()).spawn()?;
    let stderr = worker.stderr.take().context("the worker's stderr is a pipe")?;
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("takes jobs") {
            return Ok(worker);
        }
    }
    anyhow::bail!("the worker ended before it took jobs")
}
