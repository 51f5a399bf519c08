//! Measures what it costs to count, and to be scraped: the same flow on an installation whose server and worker show their metrics and are
//! scraped each five seconds, beside one whose worker shows none, and that nobody scrapes. Both count.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::metrics::{AttemptOutcome, DEFAULT_MAX_NAMES, Metrics};
use anyhow::ensure;
use flow::{FlowName, NodeName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    Bench,
    installation::{Installation, TASKS},
    report::{Pairs, duration},
};

/// The number of installations of each kind, in alternation: two servers with different logbooks cannot share a broker.
const INSTALLATIONS: usize = 5;

/// How long the rounds with one installation take at least, so that each is scraped several times.
const MEASURED: Duration = Duration::from_secs(20);

/// Prometheus scrapes every fifteen seconds, or every minute.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(5);

/// The least number of scrapes of an installation during its rounds, of its server and of its worker each.
const MIN_SCRAPES: u64 = 3;

/// The number of times that each task is counted.
const COUNTS: usize = 1_000;

/// The attempts that an engine counts together: those of one run in a batch.
const ATTEMPTS_OF_STEP: usize = 10;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    measure_counting("an attempt of a known task", "")?;
    // Of a namespace, half of the tasks have series of their own.
    measure_counting("an attempt, half of others", "shop/")?;
    let mut pairs = Pairs::default();
    for _ in 0..INSTALLATIONS {
        let scraped = scraped_rate(&Installation::start_with_metrics(bench).await?).await?;
        let installation = Installation::start(bench).await?;
        installation.round().await?;
        pairs.push(scraped, rate(&installation).await?);
    }
    pairs.print_rates("scraped each five seconds", "without metrics", "tasks/s");
    Ok(())
}

/// Prints what it costs to count an attempt of one of as many tasks as a process may have series for.
fn measure_counting(what: &str, namespace: &str) -> anyhow::Result<()> {
    let metrics = Metrics::new("bench");
    let flow = FlowName::new(format!("{namespace}noops"))?;
    let tasks: Vec<NodeName> =
        (0..DEFAULT_MAX_NAMES).map(|number| NodeName::new(format!("t{number}"))).collect::<Result<_, _>>()?;
    let count = || {
        for step in tasks.chunks(ATTEMPTS_OF_STEP) {
            metrics.count_attempts(black_box(&flow), step.iter().map(|task| (task, AttemptOutcome::Success)));
        }
    };
    count();
    let began_at = Instant::now();
    (0..COUNTS).for_each(|_| count());
    let each = began_at.elapsed().as_secs_f64() / (COUNTS * tasks.len()) as f64;
    println!("{what:32} {}", duration(each));
    Ok(())
}

/// The rate of the rounds with an installation that is scraped meanwhile, after a round that warms up.
async fn scraped_rate(installation: &Installation) -> anyhow::Result<f64> {
    installation.round().await?;
    let addresses = installation.metrics().to_vec();
    for address in &addresses {
        // A measurement without metrics would be worthless.
        ensure!(scrape(address).await?.contains("waft_build_info"), "{address} shows no metrics");
    }
    let scrapes = Arc::new(AtomicU64::new(0));
    let counted = scrapes.clone();
    let scraping = async move {
        let mut ticks = tokio::time::interval(SCRAPE_INTERVAL);
        loop {
            ticks.tick().await;
            for address in &addresses {
                match scrape(address).await {
                    Ok(_) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => eprintln!("a scrape failed: {error:#}"),
                }
            }
        }
    };
    let _scraping = AbortOnDropHandle::new(TaskTracker::new().spawn(scraping));
    let rate = rate(installation).await?;
    let least = MIN_SCRAPES * installation.metrics().len() as u64;
    let count = scrapes.load(Ordering::Relaxed);
    ensure!(count >= least, "there were {count} scrapes instead of {least} at least");
    Ok(rate)
}

/// The rate of all rounds together: a scrape costs the one round during which it happens, and the median of the rounds would leave it out.
async fn rate(installation: &Installation) -> anyhow::Result<f64> {
    let (mut tasks, mut seconds) = (0, 0.0);
    while seconds < MEASURED.as_secs_f64() {
        seconds += installation.round().await?;
        tasks += TASKS;
    }
    Ok(tasks as f64 / seconds)
}

/// What the metrics at an address show.
async fn scrape(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.split(' ').nth(1) == Some("200"), "{address} refuses a scrape: {answer}");
    Ok(answer)
}
