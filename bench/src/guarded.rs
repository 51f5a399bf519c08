//! Measures what the guards of an installation cost: the same flow with all of them, beside the default settings.

use crate::{
    Bench,
    installation::{Installation, TASKS},
    report::Pairs,
};

/// The number of installations of each kind, in alternation: two servers with different logbooks cannot share a broker.
const INSTALLATIONS: usize = 5;

/// The number of rounds with one installation.
const ROUNDS: usize = 4;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    if bench.role_password.is_none() {
        println!("guarded: skipped, the broker has no users for the roles of waft");
        return Ok(());
    }
    let mut pairs = Pairs::default();
    for _ in 0..INSTALLATIONS {
        let guarded = rates(Installation::start_guarded(bench).await?).await?;
        let default = rates(Installation::start(bench).await?).await?;
        guarded.into_iter().zip(default).for_each(|(guarded, default)| pairs.push(guarded, default));
    }
    pairs.print_rates("guarded", "default settings", "tasks/s");
    Ok(())
}

/// The rates of some rounds, after one that warms up.
async fn rates(installation: Installation) -> anyhow::Result<Vec<f64>> {
    installation.round().await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(TASKS as f64 / installation.round().await?);
    }
    Ok(rates)
}
