//! Measures calls that wait for a server: the memory of each, and what they cost the other calls of their worker.

use std::{path::Path, process::Stdio, time::Instant};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Bench, cold::start_worker, report::Pairs};

/// The number of calls that wait at the same time, unless `WAFT_BENCH_WAITING` says another one.
const CALLS: usize = 500;

/// The number of calls of the neighbour in a round, unless `WAFT_BENCH_NEIGHBOUR` says another one.
const NEIGHBOUR: usize = 5_000;

/// The number of rounds of the neighbour, each beside waiting calls and without.
const ROUNDS: usize = 5;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let (calls, neighbour) = (number("WAFT_BENCH_WAITING", CALLS)?, number("WAFT_BENCH_NEIGHBOUR", NEIGHBOUR)?);
    let folder = tempfile::tempdir()?;
    let server = SilentServer::start().await?;
    let setup =
        Setup { bench, folder: folder.path(), server: &server, queue: format!("bench-{}", uuid::Uuid::now_v7()) };
    setup.write(calls, neighbour)?;
    let declared = setup.waft("engine").args(["broker", "setup", "--queues", &setup.queue]).output().await?;
    ensure!(declared.status.success(), "{}", String::from_utf8_lossy(&declared.stderr));
    let mut start = setup.waft("worker");
    start.args(["worker", "--queues", &setup.queue, "--waiting", &calls.to_string()]);
    let worker = start_worker(start).await?;
    // The pools of the engines, and the code of the module.
    setup.run_neighbour().await?;
    let mut pairs = Pairs::default();
    let mut memory = 0.0;
    for _ in 0..ROUNDS {
        let before = resident(&worker)?;
        let alone = setup.run_neighbour().await?;
        let mut waiting = setup.waft("engine");
        waiting.args(["run", "waiting.toml", "--quiet"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut waiting = waiting.spawn()?;
        server.wait_for(calls).await?;
        memory = f64::max(memory, (resident(&worker)? - before) / calls as f64);
        let beside = setup.run_neighbour().await?;
        server.answer_all();
        let ended = waiting.wait().await?;
        ensure!(ended.success(), "the waiting calls ended with {ended}");
        pairs.push(neighbour as f64 / beside, neighbour as f64 / alone);
    }
    server.stop().await;
    println!("{:32} waft {memory:>8.1} KiB resident for each of {calls}, at most", "waiting calls");
    pairs.print_rates(&format!("beside {calls} waiting calls"), "without", "tasks/s");
    Ok(())
}

fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    match std::env::var(variable) {
        Ok(number) => number.parse().with_context(|| format!("{variable} is no number: {number}")),
        Err(_) => Ok(default),
    }
}

/// The resident memory of a process, in kibibytes.
fn resident(process: &Child) -> anyhow::Result<f64> {
    let process = process.id().context("the worker runs")?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("the kernel reports VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// A worker, and two flows for it.
struct Setup<'a> {
    bench: &'a Bench,
    folder: &'a Path,
    server: &'a SilentServer,
    queue: String,
}

impl Setup<'_> {
    fn waft(&self, name: &str) -> Command {
        let mut command = Command::new(&self.bench.binary);
        let state = self.folder.join(name);
        command.env("WAFT_STORE", state.join("store")).env("WAFT_CACHE", state.join("cache"));
        command.env("WAFT_LOGBOOK", "memory:").env("WAFT_BROKER", &self.bench.broker);
        command.env("XDG_CONFIG_HOME", self.folder).env("XDG_STATE_HOME", self.folder);
        command.current_dir(self.folder).kill_on_drop(true);
        command
    }

    fn write(&self, calls: usize, neighbour: usize) -> anyhow::Result<()> {
        let Self { bench, folder, server, queue } = self;
        let http = format!("http = [\"GET http://127.0.0.1:{}/**\"]", server.port);
        std::fs::create_dir(folder.join("waft"))?;
        std::fs::write(folder.join("waft/config.toml"), format!("[[grant]]\n{http}\n"))?;
        let outside = bench.text_guest.with_file_name("outside.wasm");
        let url = |call| format!("\"http://127.0.0.1:{}/{call}\", ", server.port);
        let urls: String = (0..calls).map(url).collect();
        let waiting = format!(
            "name = \"waiting\"\n[modules]\noutside = {outside:?}\n[[task]]\nname = \"t\"\nuse = \"outside#fetch\"\n\
             queue = \"{queue}\"\nfor_each = [{urls}]\nas = \"url\"\nprovides = []\ntimeout = \"30m\"\nallow = {{ {http} }}\n"
        );
        std::fs::write(folder.join("waiting.toml"), waiting)?;
        let elements = "0, ".repeat(neighbour);
        let echo = format!(
            "name = \"neighbour\"\n[modules]\nhostile = {:?}\n[[task]]\nname = \"t\"\nuse = \"hostile#echo\"\n\
             queue = \"{queue}\"\nfor_each = [{elements}]\nas = \"value\"\nprovides = []\n",
            bench.text_guest
        );
        std::fs::write(folder.join("neighbour.toml"), echo)?;
        Ok(())
    }

    /// The seconds that a run of the neighbour takes.
    async fn run_neighbour(&self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let run = self.waft("engine").args(["run", "neighbour.toml", "--quiet"]).output().await?;
        ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Ok(started.elapsed().as_secs_f64())
    }
}

/// A server that answers all open requests at once, on demand.
struct SilentServer {
    port: u16,
    /// The number of requests without an answer.
    open: watch::Receiver<usize>,
    /// The number of times that all requests were answered.
    answered: watch::Sender<usize>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl SilentServer {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (count, open) = watch::channel(0);
        let (answered, answers) = watch::channel(0);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let connections = tasks.clone();
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(hold(stream, count.clone(), answers.clone()));
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept));
        Ok(Self { port, open, answered, stop, tasks })
    }

    /// Waits until so many requests have no answer.
    async fn wait_for(&self, count: usize) -> anyhow::Result<()> {
        self.open.clone().wait_for(|open| *open == count).await?;
        Ok(())
    }

    fn answer_all(&self) {
        self.answered.send_modify(|times| *times += 1);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.answer_all();
        self.tasks.close();
        drop(self.answered);
        self.tasks.wait().await;
    }
}

/// Reads one request at a time, and answers it with the others.
async fn hold(mut stream: TcpStream, open: watch::Sender<usize>, mut answers: watch::Receiver<usize>) {
    let mut request = [0; 4096];
    while let Ok(1..) = stream.read(&mut request).await {
        // Only later answers are for this request.
        answers.mark_unchanged();
        open.send_modify(|open| *open += 1);
        let answered = answers.changed().await;
        open.send_modify(|open| *open -= 1);
        if answered.is_err() || stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
