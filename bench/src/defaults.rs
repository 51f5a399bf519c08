//! Measures the default setup: `waft serve`, `waft worker` and `waft submit`, beside Celery's worker with its defaults.
//!
//! waft keeps its records in SQLite and takes the flow over HTTP; Celery keeps no records. Both use the same RabbitMQ.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::TaskTracker;

use crate::{Bench, cold::start_worker, report::Pairs};

/// The number of tasks of a round.
const TASKS: usize = 2_000;

/// The number of rounds of each, in alternation.
const ROUNDS: usize = 5;

/// The folder of the baseline's program.
const CELERY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/celery");

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let mut pairs = Pairs::default();
    let waft = Waft::start(bench).await?;
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

/// A server and a worker, each a process with only its addresses and folders set.
struct Waft {
    binary: PathBuf,
    folder: tempfile::TempDir,
    address: String,
    _server: Child,
    _worker: Child,
}

impl Waft {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let command = |name: &str| waft(&bench.binary, &folder.path().join(name), &bench.broker);
        let mut server = command("server").args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn()?;
        let stderr = server.stderr.take().context("the server's stderr is a pipe")?;
        let mut lines = BufReader::new(stderr).lines();
        let address = loop {
            let line = lines.next_line().await?.context("the server ended before it listened")?;
            if let Some((_, address)) = line.split_once("http://") {
                let host = address.split_whitespace().next().unwrap_or_default();
                break format!("http://{}", host.trim_end_matches(['"', ',']));
            }
        };
        // Read and drop the rest of its output: a full pipe must not block it.
        TaskTracker::new().spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let worker = start_worker(command("worker")).await?;
        std::fs::copy(&bench.text_guest, folder.path().join("guest.wasm"))?;
        std::fs::write(folder.path().join("flow.toml"), flow())?;
        Ok(Self { binary: bench.binary.clone(), folder, address, _server: server, _worker: worker })
    }

    /// Submits a flow and waits for its end.
    async fn round(&self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut submit = waft(&self.binary, &self.folder.path().join("client"), "");
        submit
            .args(["submit", "flow.toml", "--wait"])
            .current_dir(self.folder.path())
            .env("WAFT_SERVER", &self.address);
        let output = submit.output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(started.elapsed().as_secs_f64())
    }
}

fn waft(binary: &Path, state: &Path, broker: &str) -> Command {
    let mut command = Command::new(binary);
    command.env("WAFT_STORE", state.join("store")).env("WAFT_CACHE", state.join("cache"));
    command.env("WAFT_BROKER", broker).kill_on_drop(true);
    command
}

/// A flow with the tasks of a round, none depends on another.
fn flow() -> String {
    let mut text = String::from("name = \"noops\"\npattern = \"unordered\"\n[modules]\nguest = \"guest.wasm\"\n");
    for task in 0..TASKS {
        text.push_str(&format!("[[task]]\nname = \"t{task}\"\nuse = \"guest#noop\"\n"));
    }
    text
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
