//! Measures the default setup: `waft serve`, `waft worker` and `waft submit`, beside Celery's worker with its defaults.
//!
//! waft keeps its records in SQLite and takes the flow over HTTP; Celery keeps no records. Both use the same RabbitMQ.

use std::process::Stdio;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    Bench,
    installation::{Installation, TASKS},
    report::Pairs,
};

/// The number of rounds of each, in alternation.
const ROUNDS: usize = 5;

/// The folder of the baseline's program.
const CELERY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/celery");

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let mut pairs = Pairs::default();
    let waft = Installation::start(bench).await?;
    let mut celery = Celery::start(bench).await?;
    waft.round().await?;
    celery.round(TASKS).await?;
    for _ in 0..ROUNDS {
        let waft_seconds = waft.round().await?;
        let celery_seconds = celery.round(TASKS).await?;
        pairs.push(TASKS as f64 / waft_seconds, TASKS as f64 / celery_seconds);
    }
    pairs.print_rates("default settings", "Celery", "tasks/s");
    Ok(())
}

/// A worker with its default pool, and a program that calls it.
struct Celery {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _caller: Child,
    _worker: Child,
}

impl Celery {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let queue = format!("bench-celery-{}", uuid::Uuid::now_v7());
        let python = || {
            let mut command = Command::new(bench.python.as_deref().unwrap_or("python3"));
            command.current_dir(CELERY).env("CELERY_BROKER", &bench.broker).env("CELERY_QUEUE", &queue);
            command.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
            command
        };
        let worker = python()
            .args(["-m", "celery", "--app", "noop", "worker", "--loglevel", "error", "--queues", &queue])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut caller = python().arg("noop.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = caller.stdin.take().context("its standard input is a pipe")?;
        let output = BufReader::new(caller.stdout.take().context("its standard output is a pipe")?).lines();
        Ok(Self { input, output, _caller: caller, _worker: worker })
    }

    async fn round(&mut self, tasks: usize) -> anyhow::Result<f64> {
        self.input.write_all(format!("{tasks}\n").as_bytes()).await?;
        let line = self.output.next_line().await?.context("Celery's caller ended: is python3-celery installed?")?;
        Ok(line.trim().parse()?)
    }
}
