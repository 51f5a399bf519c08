//! Measures what it costs to count, and to be scraped: the same flow on an installation whose server and worker are scraped each
//! second, beside one that nobody scrapes. Both count.

use std::{
    hint::black_box,
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

/// The number of rounds with one installation.
const ROUNDS: usize = 4;

/// Prometheus scrapes every fifteen seconds, or every minute.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

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
        let scraped = rates(Installation::start_with_metrics(bench).await?, true).await?;
        let other = rates(Installation::start_with_metrics(bench).await?, false).await?;
        scraped.into_iter().zip(other).for_each(|(scraped, other)| pairs.push(scraped, other));
    }
    pairs.print_rates("scraped each second", "not scraped", "tasks/s");
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

/// The rates of some rounds, after one that warms up.
async fn rates(installation: Installation, is_scraped: bool) -> anyhow::Result<Vec<f64>> {
    installation.round().await?;
    let addresses = installation.metrics().to_vec();
    for address in &addresses {
        // A measurement without metrics would be worthless.
        ensure!(scrape(address).await?.contains("waft_build_info"), "{address} shows no metrics");
    }
    let _scraping = is_scraped.then(|| {
        let scraping = async move {
            let mut ticks = tokio::time::interval(SCRAPE_INTERVAL);
            loop {
                ticks.tick().await;
                for address in &addresses {
                    if let Err(error) = scrape(address).await {
                        eprintln!("a scrape failed: {error:#}");
                    }
                }
            }
        };
        AbortOnDropHandle::new(TaskTracker::new().spawn(scraping))
    });
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(TASKS as f64 / installation.round().await?);
    }
    Ok(rates)
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
