//! Builds a flow in Rust, then submits, changes, notifies and watches it: the program of README.md.
//!
//! `cargo xtask demo` builds the module. Start `waft serve` in the folder of `kitchen.wasm`, and there:
//! `cargo run -p waft-client --example ovens`.

use futures::TryStreamExt;
use waft_client::api::{Edits, Notification, RunState, Submission};
use waft_client::{Client, EventPayload, flow::Draft};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new("http://127.0.0.1:7468", None)?;
    let kitchen = client.push(std::fs::read("kitchen.wasm")?, Some("kitchen")).await?;
    let flow = Draft::builder("ovens")?
        .persistent() // it stays open, and fires for each notification
        .module("kitchen", kitchen.digest)
        .task("pan", "kitchen#choose-pan", |task| task)
        .task("heat", "kitchen#heat-oven", |task| task.with("celsius", 180).timeout("30s"))
        .listen("shop", "order", "pan") // a task of another flow; programs notify it, too
        .build();
    let run = client.submit(&Submission::of(&flow)?).await?.run;
    let icing = Draft::addition().task("icing", "kitchen#mix-icing", |task| task).link("heat", "icing").build();
    client.edit(&run, &Edits::default().add(&icing)?).await?;
    client.notify(&run, &Notification::of("pan").value("batter_ml", 900)).await?;
    let mut events = client.watch(&run).into_stream();
    while let Some(event) = events.try_next().await? {
        println!("{}", event.line);
        if matches!(event.payload(), Some(EventPayload::Firing(firing)) if firing.state == RunState::Success) {
            client.cancel(&run).await?; // it stays open otherwise
        }
    }
    Ok(())
}
