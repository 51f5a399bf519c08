//! The examples of docs/client.md, in an order in which they can run.
//!
//! `cargo xtask demo` builds the module. In an empty folder with `kitchen.wasm` start `waft serve`, and there:
//! `cargo run -p waft-client --example verbs`. With the argument `tls`, it connects to a server that asks for a certificate, and with the
//! argument `failures` it only watches, and does not end.

use std::{error::Error, time::Duration};

use waft_client::{
    Client, ClientError, ClientTls, EventPayload, Identity, Trust,
    api::{Edits, EventsQuery, ListQuery, NodeState, Notification, RunsEvent, Submission},
    flow::{Draft, Otherwise, OverlapPolicy, RetryPolicy, Strategy, file},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new("http://127.0.0.1:7468", std::env::var("WAFT_TOKEN").ok())?;
    let client = if std::env::args().any(|argument| argument == "tls") { over_tls()? } else { client };
    if std::env::args().any(|argument| argument == "failures") {
        return watch_failures(&client).await;
    }
    let kitchen = client.push(std::fs::read("kitchen.wasm")?, Some("kitchen")).await?;
    println!("{} holds {}", kitchen.digest, kitchen.tasks.join(", "));
    let flow = built()?;
    println!("{}", file::write(&flow)?);
    listen(&client).await?;
    submit(&client, &flow).await?;
    watch(&client).await?;
    edit(&client).await?;
    notify_and_wait(&client).await?;
    send_commands(&client).await?;
    refused(&client).await
}

fn over_tls() -> Result<Client, ClientError> {
    let token = std::env::var("WAFT_TOKEN").ok();
    let tls = ClientTls {
        trust: Trust::Only("/etc/waft/ca.pem".into()),
        identity: Some(Identity { certificate: "eve.pem".into(), key: "eve.key".into() }),
    };
    let client = Client::with_tls("https://waft.example:7468", token, tls)?;
    Ok(client)
}

fn built() -> Result<Draft, Box<dyn Error>> {
    let flow = Draft::builder("bake")?
        .module("kitchen", "kitchen") // a tag; a digest always names the same module
        .input("batter_ml", 900)
        .task("mix", "kitchen#mix", |task| task.retry(RetryPolicy { attempts: 3, ..RetryPolicy::default() }))
        .wait("taste", "a taste", |task| task.provides_same(["liked"]).deadline(Duration::from_secs(86_400)))
        .flow("pans", |pans| {
            pans.retry(Strategy::Times(2), Otherwise::Rollback)
                .task("pan", "kitchen#choose-pan", |task| task.provides("pan", "first_pan"))
                .task("heat", "kitchen#heat-oven", |task| {
                    task.requires("pan", "first_pan").with("celsius", 180).timeout("30s")
                })
        })
        .link("mix", "taste")
        .link_with("taste", "pans", |link| link.when("liked"))
        .build();
    Ok(flow)
}

async fn listen(client: &Client) -> Result<(), Box<dyn Error>> {
    let icing = Draft::builder("icing")?
        .persistent()
        .max_parallel(10)
        .module("kitchen", "kitchen")
        .task("ice", "kitchen#mix-icing", |task| task.with("flavour", "lemon"))
        .task("tidy", "kitchen#mix-icing", |task| task.with("flavour", "none").provides_same([""; 0]))
        .listen("bake", "mix", "ice")
        .schedule_with("0 3 * * *", "tidy", |at| at.zone("Europe/Berlin").overlap(OverlapPolicy::Queue))
        .build();
    client.submit(&Submission::of(&icing)?.run("icing-1")).await?;
    Ok(())
}

async fn submit(client: &Client, flow: &Draft) -> Result<(), Box<dyn Error>> {
    let submission = Submission::of(flow)?.run("bake-1").input("batter_ml", 1_200).label("team", "shop");
    let run = client.submit(&submission).await?;
    for warning in &run.warnings {
        eprintln!("{}", warning.message);
    }
    let run = client.run("bake-1").await?;
    println!("{} is {}, at revision {}", run.run, run.state, run.revision);
    let page = client.list(&ListQuery::default().flow("bake").label("team=shop")).await?;
    println!("the flow has {} runs", page.runs.len());
    Ok(())
}

async fn watch(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut watch = client.watch("bake-1");
    while let Some(event) = watch.next().await? {
        match event.payload() {
            Some(EventPayload::Node(node)) if node.name == "taste" && node.state == NodeState::Running => break,
            Some(EventPayload::Node(node)) => println!("{} is {}", node.name, node.state),
            Some(EventPayload::Firing(firing)) => println!("firing {} is {}", firing.firing, firing.state),
            Some(EventPayload::Run(event)) => println!("the run is {}", event.state),
            _ => println!("a newer server sent {}", event.line),
        }
    }
    Ok(())
}

async fn watch_failures(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut watch = client.watch_all(EventsQuery::default().flow("bake").kind("run").state("failure,rolled-back"));
    while let Some(event) = watch.next().await? {
        match event.runs_event() {
            Some(RunsEvent::Run(run)) => println!("{} is {} since {}", run.run, run.state, run.at),
            Some(RunsEvent::Lost(lost)) => println!("{}", lost.message),
            _ => {}
        }
    }
    Ok(())
}

async fn edit(client: &Client) -> Result<(), Box<dyn Error>> {
    let addition = Draft::addition().task("icing", "kitchen#mix-icing", |task| task).link("pans", "icing").build();
    let edits = Edits::default()
        .add(&addition)?
        .set("icing", "flavour", "lemon")
        .link_with("pans", "icing", |link| link.when("oven.celsius >= 180"))?
        .if_revision(1);
    let edited = client.edit("bake-1", &edits).await?;
    println!("revision {}: {}", edited.revision, edited.edits.join(", "));
    Ok(())
}

async fn notify_and_wait(client: &Client) -> Result<(), Box<dyn Error>> {
    client.notify("bake-1", &Notification::of("taste").value("liked", true)).await?;
    let run = client.wait("bake-1").await?;
    println!("{}: {:?}", run.state, run.provides.json("icing"));
    Ok(())
}

async fn send_commands(client: &Client) -> Result<(), Box<dyn Error>> {
    client.suspend("icing-1").await?; // nothing new starts
    client.resume("icing-1").await?;
    client.cancel("icing-1").await?; // calls in progress are stopped, then the run is rolled back
    Ok(())
}

async fn refused(client: &Client) -> Result<(), Box<dyn Error>> {
    let flow = Draft::builder("odd")?.task("t", "nowhere#t", |task| task).build();
    match client.submit(&Submission::of(&flow)?).await {
        Ok(run) => println!("{} has started", run.run),
        Err(ClientError::Refused { problem, .. }) => {
            problem.diagnostics.iter().for_each(|diagnostic| println!("{}", diagnostic.message));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
