//! Measures the cost of durability: logbooks compared, recovery, failover, bytes and memory.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use broker::{Amqp, Broker, InProcess, Options};
use engine::{Config, Engine, MaxOpenRuns, ShardAssignment, SystemClock};
use flow::{RunId, RunState};
use logbook::{Logbook, Memory};
use protocol::topology;

use crate::{
    Bench,
    report::{Pairs, duration, median},
    system::Waft,
};

const SLOTS: u16 = 64;

/// Measures tasks per second with each logbook and with memory: one large run, and many small concurrent ones.
pub(crate) async fn logbooks(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 5_000;
    const RUNS: usize = 500;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("logbook.db");
    let mut addresses = vec![("SQLite", format!("sqlite:{}", file.display()))];
    addresses.extend(bench.postgres.iter().map(|url| ("PostgreSQL", url.clone())));
    for (name, address) in addresses {
        let memory = Waft::with_logbook(&bench.guest, SLOTS, Arc::new(Memory::new())).await?;
        let durable = Waft::with_logbook(&bench.guest, SLOTS, logbook::open(&address).await?).await?;
        let (mut large, mut small) = (Pairs::default(), Pairs::default());
        for _ in 0..5 {
            let rate = async |waft: &Waft| {
                let started = Instant::now();
                waft.run(&waft.flow(&[TASKS])?).await?;
                anyhow::Ok(TASKS as f64 / started.elapsed().as_secs_f64())
            };
            large.push(rate(&durable).await?, rate(&memory).await?);
            let rate = async |waft: &Waft| {
                let (flow, started) = (waft.flow(&[1, 1])?, Instant::now());
                let runs = futures::future::join_all((0..RUNS).map(|_| waft.run(&flow))).await;
                runs.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
                anyhow::Ok(2.0 * RUNS as f64 / started.elapsed().as_secs_f64())
            };
            small.push(rate(&durable).await?, rate(&memory).await?);
        }
        large.print_rates(&format!("{name}, one run of {TASKS}"), "memory", "tasks/s");
        small.print_rates(&format!("{name}, {RUNS} runs of 2"), "memory", "tasks/s");
        memory.stop().await?;
        durable.stop().await?;
    }
    let tasks = 5 * (TASKS + 2 * RUNS);
    println!("{:32} waft {:>8} bytes", "SQLite, a task", size(folder.path())? / tasks as u64);
    Ok(())
}

pub(crate) fn size(folder: &Path) -> anyhow::Result<u64> {
    let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(files.iter().map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum())
}

/// Measures tasks per second with a broker with each durable logbook and with memory.
pub(crate) async fn over_amqp(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 5_000;
    let folder = tempfile::tempdir()?;
    let mut addresses = vec![("SQLite", format!("sqlite:{}", folder.path().join("logbook.db").display()))];
    addresses.extend(bench.postgres.iter().map(|url| ("PostgreSQL", url.clone())));
    for (name, address) in addresses {
        let memory = Waft::over_amqp(&bench.broker, &bench.guest, SLOTS).await?;
        let logbook = logbook::open(&address).await?;
        let durable = Waft::durable_over_amqp(&bench.broker, &bench.guest, SLOTS, logbook).await?;
        let mut pairs = Pairs::default();
        for _ in 0..5 {
            let rate = async |waft: &Waft| {
                let started = Instant::now();
                waft.run(&waft.flow(&[TASKS])?).await?;
                anyhow::Ok(TASKS as f64 / started.elapsed().as_secs_f64())
            };
            pairs.push(rate(&durable).await?, rate(&memory).await?);
        }
        pairs.print_rates(&format!("{name} over RabbitMQ"), "memory", "tasks/s");
        memory.stop().await?;
        durable.stop().await?;
    }
    Ok(())
}

/// Measures the memory that an engine keeps for ended runs.
pub(crate) async fn finished(bench: &Bench) -> anyhow::Result<()> {
    const AT_ONCE: usize = 500;
    const RUNS: usize = 1_000_000;
    let folder = tempfile::tempdir()?;
    let address = format!("sqlite:{}", folder.path().join("logbook.db").display());
    let waft = Waft::with_logbook(&bench.guest, SLOTS, logbook::open(&address).await?).await?;
    let flow = waft.flow(&[1])?;
    let rounds = async |rounds: usize| {
        for _ in 0..rounds {
            let runs = futures::future::join_all((0..AT_ONCE).map(|_| waft.run(&flow))).await;
            runs.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        }
        anyhow::Ok(())
    };
    // One-time allocations and caches are not a cost of a run.
    rounds(100).await?;
    let (before, started) = (resident()?, Instant::now());
    rounds(RUNS / AT_ONCE).await?;
    let (seconds, growth) = (started.elapsed().as_secs_f64(), resident()?.saturating_sub(before));
    let rate = RUNS as f64 / seconds;
    println!("{:32} waft {growth:>8} bytes more in memory   {rate:.0} runs/s", format!("{RUNS} finished runs"));
    waft.stop().await
}

/// Measures how long an engine takes to recover ten thousand open runs, and their memory.
pub(crate) async fn recovery(bench: &Bench) -> anyhow::Result<()> {
    const RUNS: usize = 10_000;
    let folder = tempfile::tempdir()?;
    let address = format!("sqlite:{}", folder.path().join("logbook.db").display());
    let logbook = logbook::open(&address).await?;
    let waft = Waft::with_logbook(&bench.guest, SLOTS, logbook.clone()).await?;
    // A queue without a worker.
    let flow = waft.flow_on("nobody", &[1])?;
    let broker = InProcess::new();
    let engine = start(&broker, &logbook, "one").await?;
    let before = resident()?;
    for batch in 0..RUNS / 500 {
        let submit = |number: usize| engine.submit(run_id("open", batch * 500 + number), flow.clone());
        let submitted = futures::future::join_all((0..500).map(submit)).await;
        // A run continues after its watch is dropped.
        submitted.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let memory = resident()?.saturating_sub(before) / RUNS as u64;
    wait_for_jobs(&broker, RUNS as u64).await?;
    engine.abort().await;
    let started = Instant::now();
    let other = start(&broker, &logbook, "other").await?;
    wait_for_jobs(&broker, 2 * RUNS as u64).await?;
    println!("{:32} waft {:>11}", format!("recovery of {RUNS} open runs"), duration(started.elapsed().as_secs_f64()));
    println!("{:32} waft {memory:>8} bytes", "memory of an open run");
    other.stop().await;
    waft.stop().await
}

/// Measures how long a run makes no progress after its engine dies, over the broker.
pub(crate) async fn failover(bench: &Bench) -> anyhow::Result<()> {
    let waft = Waft::over_amqp(&bench.broker, &bench.guest, SLOTS).await?;
    let mut times = Vec::new();
    for round in 0..5 {
        let logbook: Arc<dyn Logbook> = Arc::new(Memory::new());
        let connect =
            async || anyhow::Ok(Arc::new(Amqp::connect(Options::new(&bench.broker)).await?) as Arc<dyn Broker>);
        let (first, second) = (connect().await?, connect().await?);
        let engine =
            start_with_broker(first.clone(), &logbook, &format!("first-{round}-{}", std::process::id())).await?;
        let run = run_id("failover", round);
        let flow = waft.flow(&[1; 1_000])?;
        engine.submit(run.clone(), flow).await?;
        let standby =
            start_with_broker(second.clone(), &logbook, &format!("second-{round}-{}", std::process::id())).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        engine.abort().await;
        first.close().await;
        let started = Instant::now();
        let initial_version = logbook.summary(&run).await?.version;
        ensure!(logbook.summary(&run).await?.info.state == RunState::Running, "the run ended too early");
        while logbook.summary(&run).await?.version == initial_version {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(started.elapsed().as_secs_f64());
        standby.abort().await;
        second.close().await;
    }
    println!("{:32} waft {:>11}", "failover of an engine", duration(median(&times)));
    waft.stop().await
}

fn run_id(base: &str, number: usize) -> RunId {
    let unique = uuid::Uuid::now_v7();
    RunId::new(format!("{base}-{number}-{unique}")).expect("a valid name")
}

async fn start(broker: &InProcess, logbook: &Arc<dyn Logbook>, id: &str) -> anyhow::Result<Engine> {
    start_with_broker(Arc::new(broker.connect()), logbook, id).await
}

async fn start_with_broker(broker: Arc<dyn Broker>, logbook: &Arc<dyn Logbook>, id: &str) -> anyhow::Result<Engine> {
    let (shards, max_open_runs) = (ShardAssignment::Shared, MaxOpenRuns::default());
    let (max_output, memo_limits) = (flow::Limits::maximum().output, logbook::MemoLimits::default());
    let config = Config { id: id.into(), shards, max_open_runs, max_output, memo_limits, host: String::new() };
    let store = Arc::new(store::Memory::new());
    Ok(Engine::start(config, broker, logbook.clone(), store, Arc::new(SystemClock)).await?)
}

async fn wait_for_jobs(broker: &InProcess, jobs: u64) -> anyhow::Result<()> {
    let queue = topology::job_queue(&"nobody".parse()?);
    while broker.waiting(&queue).await?.unwrap_or_default() < jobs {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("this machine has no memory statistics")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("there is no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).context("VmRSS is not a number")?.parse()?;
    Ok(kibibytes << 10)
}
