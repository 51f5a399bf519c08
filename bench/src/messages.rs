//! Measures throughput, latency, chains and fan-outs, compared with a plain RabbitMQ loop with as many jobs in flight.

use std::{future::Future, time::Instant};

use crate::{
    Bench,
    raw::RawBaseline,
    report::{Pairs, median},
    system::Waft,
};

/// The number of concurrent calls, on both sides.
const SLOTS: u16 = 64;

async fn seconds<Output>(work: impl Future<Output = anyhow::Result<Output>>) -> anyhow::Result<f64> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Measures tasks per second over the in-process broker, without a baseline.
pub(crate) async fn in_process(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 10_000;
    let waft = Waft::in_process(&bench.guest, SLOTS).await?;
    let flow = waft.flow(&[TASKS])?;
    waft.run(&waft.flow(&[500])?).await?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        rates.push(TASKS as f64 / seconds(waft.run(&flow)).await?);
    }
    println!("{:32} waft {:>8.0} tasks/s", "in process", median(&rates));
    waft.stop().await
}

/// Alternates rounds of both and passes the seconds of each to `record`.
async fn alternate(
    bench: &Bench,
    layers: &[usize],
    rounds: usize,
    mut record: impl FnMut(f64, f64),
) -> anyhow::Result<()> {
    let waft = Waft::over_amqp(&bench.broker, &bench.guest, SLOTS).await?;
    let mut raw = RawBaseline::start(&bench.broker, SLOTS).await?;
    let flow = waft.flow(layers)?;
    waft.run(&flow).await?;
    raw_layers(&mut raw, layers).await?;
    for _ in 0..rounds {
        let waft_seconds = seconds(waft.run(&flow)).await?;
        let raw_seconds = seconds(raw_layers(&mut raw, layers)).await?;
        record(waft_seconds, raw_seconds);
    }
    raw.stop().await?;
    waft.stop().await
}

async fn raw_layers(raw: &mut RawBaseline, layers: &[usize]) -> anyhow::Result<()> {
    for width in layers {
        raw.round(*width).await?;
    }
    Ok(())
}

pub(crate) async fn throughput(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 5_000;
    let mut pairs = Pairs::default();
    alternate(bench, &[TASKS], 5, |waft_seconds, raw_seconds| {
        pairs.push(TASKS as f64 / waft_seconds, TASKS as f64 / raw_seconds)
    })
    .await?;
    pairs.print_rates("over RabbitMQ", "raw loop", "tasks/s");
    Ok(())
}

pub(crate) async fn latency(bench: &Bench) -> anyhow::Result<()> {
    let mut pairs = Pairs::default();
    alternate(bench, &[1], 101, |waft_seconds, raw_seconds| pairs.push(waft_seconds, raw_seconds)).await?;
    pairs.print_times("one task", "raw loop");
    Ok(())
}

pub(crate) async fn chain(bench: &Bench) -> anyhow::Result<()> {
    let mut pairs = Pairs::default();
    alternate(bench, &[1; 100], 7, |waft_seconds, raw_seconds| pairs.push(waft_seconds, raw_seconds)).await?;
    pairs.print_times("chain of 100", "raw loop");
    Ok(())
}

pub(crate) async fn fan_out(bench: &Bench) -> anyhow::Result<()> {
    for width in [100, 1_000] {
        let mut pairs = Pairs::default();
        alternate(bench, &[1, width, 1], 9, |waft_seconds, raw_seconds| pairs.push(waft_seconds, raw_seconds)).await?;
        pairs.print_times(&format!("fan-out of {width} and join"), "raw loop");
    }
    Ok(())
}
