//! A small cloud for the examples: servers, WordPress, load balancer pools, monitors, and a shop with orders. It makes no real
//! servers, but it is a real service: it stores each change durably in a ledger before it answers, and honours idempotency keys.
//!
//! With `--flaky` and `--slow` it behaves as services do on a bad day: it is busy, does the work and loses the answer, and takes
//! its time. Start reading at `cloud.rs`.

mod api;
mod cloud;
mod faults;
mod files;
mod ledger;
mod orders;
mod problem;
mod resource;
mod serve;
mod turns;

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::net::TcpListener;

use crate::{api::App, cloud::Cloud, faults::Faults, files::Files};

/// The variable with the token that each request has to have.
const TOKEN: &str = "CLOUD_TOKEN";

/// The minimum length of the token. waft, too, protects no secret that can be guessed.
const MIN_TOKEN_LENGTH: usize = 16;

/// A small cloud for the examples of waft. The token that its clients need is in the variable CLOUD_TOKEN.
#[derive(Debug, Parser)]
#[command(name = "cloud")]
struct Options {
    /// The address to listen on; port 0 is any free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7480")]
    listen: SocketAddr,

    /// The file with all changes. It is created if it is missing.
    #[arg(long, value_name = "FILE", default_value = "cloud.jsonl")]
    ledger: PathBuf,

    /// A folder whose files everybody may read, at /files/NAME.
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,

    /// The share of requests that go wrong, in percent: half of them are answered with 503, and of the other half the work is
    /// done and the answer is lost.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    flaky: u8,

    /// Chooses which requests go wrong.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// The time that each change takes, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    slow: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let token = env::var(TOKEN).with_context(|| format!("set {TOKEN} to the token that clients have to send"))?;
    ensure!(
        token.len() >= MIN_TOKEN_LENGTH && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "{TOKEN} needs at least {MIN_TOKEN_LENGTH} characters, of ASCII and without spaces"
    );
    let cloud = Cloud::open(&options.ledger)?;
    let runtime = tokio::runtime::Runtime::new().context("could not start the threads of the service")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener
            .with_context(|| format!("could not listen on {}: choose another address with --listen", options.listen))?;
        eprintln!("cloud listens on http://{}, its ledger is {}", listener.local_addr()?, options.ledger.display());
        let faults = Faults::new(options.flaky, options.seed);
        let app = App::new(cloud, token, Duration::from_millis(options.slow), faults);
        let files = options.files.map(Files::open).transpose()?;
        serve::serve(listener, api::router(app, files)).await
    })
}
