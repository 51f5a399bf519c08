//! `cargo xtask demo`: shows waft in a minute and without a server.

mod cloud;
pub(crate) mod persistent;
mod warehouse;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use cloud::Cloud;
use warehouse::Warehouse;
use xtask::{
    guests,
    process::{self, Group, Transcript, shown},
    project,
};

use crate::arguments::Profile;

/// Variables that would make the demo depend on the user's own setup.
const SETTINGS: [&str; 4] = ["WAFT_BROKER", "WAFT_LOGBOOK", "WAFT_SERVER", "WAFT_STORE"];

/// One flow to run, and its expected end.
struct Scene {
    name: &'static str,
    description: &'static str,
    /// The flow, below `examples-wasm`.
    flow: &'static str,
    arguments: &'static [&'static str],
    expects: Ending,
    needs: Needs,
}

/// What a scene needs beside the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// PostgreSQL, which may not be installed.
    Warehouse,
}

/// The end of a run, by the exit code of `waft run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Success = 0,
    RolledBack = 1,
}

const SCENES: [Scene; 6] = [
    Scene {
        name: "kitchen",
        description: "two pans are chosen and heated side by side, then the cake is baked",
        flow: "kitchen/flow.toml",
        arguments: &[],
        expects: Ending::Success,
        needs: Needs::Nothing,
    },
    Scene {
        name: "provision",
        description: "a server, a blog on it, a load balancer and a monitor, made in the cloud by HTTP",
        flow: "provision/flow.toml",
        arguments: &[],
        expects: Ending::Success,
        needs: Needs::Nothing,
    },
    Scene {
        name: "provision, failing",
        description: "the cloud refuses the monitor, and everything that was made is deleted in reverse order",
        flow: "provision/flow.toml",
        arguments: &["--set", "alert=nobody"],
        expects: Ending::RolledBack,
        needs: Needs::Nothing,
    },
    Scene {
        name: "text",
        description: "README.md is fetched by HTTP, and its words are counted in four parts at once",
        flow: "text/flow.toml",
        arguments: &[],
        expects: Ending::Success,
        needs: Needs::Nothing,
    },
    Scene {
        name: "etl",
        description: "the pages of a day's orders are loaded into PostgreSQL, each once",
        flow: "etl/flow.toml",
        arguments: &[],
        expects: Ending::Success,
        needs: Needs::Warehouse,
    },
    Scene {
        name: "etl, failing",
        description: "there are too few orders, and the batches of all pages are deleted",
        flow: "etl/flow.toml",
        arguments: &["--set", "min_rows=1000"],
        expects: Ending::RolledBack,
        needs: Needs::Warehouse,
    },
];

/// The id of the run that is killed.
const KILLED: &str = "killed";

/// The logbook of the demo, from the root of the clone. It is not the user's: each demo has the same ids.
const LOGBOOK: &str = "target/demo/logbook.db";

pub(crate) fn run(profile: Profile) -> Result<ExitCode> {
    let transcript = Transcript::new();
    title("the waft binary, and the cloud of the examples");
    let waft = build(&transcript, profile)?;
    title("the example guests, for WebAssembly");
    let modules = guests::build(&transcript, &project::root().join("examples-wasm"))?;

    let folder = project::target().join("demo");
    // Left by an earlier demo; without it, the store shows only content of this one.
    let _ = fs::remove_dir_all(&folder);
    let store = folder.join("store");
    title("push: each module into the store, by the SHA-256 of its bytes");
    let mut push = command(&waft, &store);
    push.arg("push").args(modules.iter().map(|module| project::short(module)));
    expect(&mut push, Ending::Success)?;

    title("a small cloud, for the flows that call one, and what its operator grants them");
    let warehouse = Warehouse::start_if_installed()?;
    let mut cloud = Cloud::start(&waft.with_file_name("cloud"), &folder.join("cloud"), warehouse.as_ref())?;
    println!("$ export WAFT_LOGBOOK={LOGBOOK}");
    let mut table = Vec::new();
    for scene in SCENES {
        title(&format!("{}: {}", scene.name, scene.description));
        let rows_in = match (scene.needs, &warehouse) {
            (Needs::Warehouse, None) => {
                println!("-- skipped: PostgreSQL is not installed (Debian: `apt-get install postgresql`)");
                continue;
            }
            (Needs::Warehouse, Some(warehouse)) => Some(warehouse),
            (Needs::Nothing, _) => None,
        };
        let started = Instant::now();
        let mut run = command(&waft, &store);
        run.args(["run", &cloud.flow(scene.flow)]).args(scene.arguments);
        expect_with(&cloud, &mut run, scene.expects)?;
        rows_in.map_or(Ok(()), Warehouse::show_rows)?;
        table.push((scene.name, scene.expects, started.elapsed()));
    }
    let started = Instant::now();
    kill_and_resume(&waft, &store, &mut cloud)?;
    table.push(("provision, killed", Ending::Success, started.elapsed()));

    title("what happened");
    for (name, ending, took) in table {
        println!("{name:<20} {:<12} {:>6.2} s", ending.describe(), took.as_secs_f64());
    }
    println!("\n{}", what_next(&project::short(&waft), &project::short(&store)));
    Ok(ExitCode::SUCCESS)
}

/// Kills waft while the cloud makes a server for it, and continues the run.
fn kill_and_resume(waft: &Path, store: &Path, cloud: &mut Cloud) -> Result<()> {
    title("provision, killed: waft dies while it waits for its server, and another waft continues");
    let mut run = command(waft, store);
    run.args(["run", &cloud.flow("provision/flow.toml"), "--run-id", KILLED]);
    println!("$ {} &", shown(&run));
    export(cloud, &mut run);
    let log = project::target().join("demo/killed.log");
    let killed = Group::start(&run, &log)?;
    cloud.wait_for(&format!("received POST /v1/servers with the key {KILLED}."))?;
    println!("-- the cloud has received the request for the server");
    println!("$ kill -9 %1");
    killed.kill();
    let mut resume = command(waft, store);
    resume.args(["run", "--resume", KILLED]);
    expect_with(cloud, &mut resume, Ending::Success)?;
    cloud.show_only_server_of(KILLED)
}

impl Ending {
    const fn describe(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RolledBack => "rolled-back",
        }
    }
}

fn title(text: &str) {
    println!("\n== {text} ==");
}

fn build(transcript: &Transcript, profile: Profile) -> Result<PathBuf> {
    // Use the whole workspace's features, so that nothing is compiled twice for the demo and the tests.
    let mut cargo = process::cargo();
    cargo.args(["build", "--workspace", "--bin", "waft", "--bin", "cloud"]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    transcript.run(&mut cargo)?;
    Ok(project::build_folder().join(folder).join("waft"))
}

/// The binary, called as a user in the root of the clone would.
fn command(waft: &Path, store: &Path) -> Command {
    let mut command = process::command(waft);
    command.current_dir(project::root()).arg("--store").arg(project::short(store));
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
}

/// Runs a command on this terminal and checks its exit code.
fn expect(command: &mut Command, ending: Ending) -> Result<()> {
    println!("$ {}", shown(command));
    check(command, ending)
}

/// Like [`expect`], with the variables that were exported.
fn expect_with(cloud: &Cloud, command: &mut Command, ending: Ending) -> Result<()> {
    println!("$ {}", shown(command));
    export(cloud, command);
    check(command, ending)
}

/// Sets the variables of which the demo has shown that a user exports them, so commands are shown without them.
fn export(cloud: &Cloud, command: &mut Command) {
    cloud.grant(command);
    command.env("WAFT_LOGBOOK", LOGBOOK);
}

fn check(command: &mut Command, ending: Ending) -> Result<()> {
    let status = command.status().with_context(|| format!("could not run `{}`", shown(command)))?;
    if status.code() != Some(ending as i32) {
        bail!(
            "`{}` should have ended in {} with exit code {}, and ended with {status}",
            shown(command),
            ending.describe(),
            ending as i32
        );
    }
    Ok(())
}

fn what_next(waft: &str, store: &str) -> String {
    format!(
        "What next:
  {waft} modules --store {store}        what the store holds
  {waft} graph examples-wasm/kitchen/flow.toml --format mermaid
  {waft} run examples-wasm/kitchen/flow.toml --json        every change as one JSON object
  cargo run -p waft-example-cloud        the cloud, for flows of your own; docs/README.md says how, and how to make it fail
  {waft} new hello        a guest crate of your own; README.md goes on from there
  cargo xtask demo --live        long-lived flows, over a RabbitMQ: listeners, cycles, edits
  cargo xtask broker        a RabbitMQ to run flows over: {waft} worker --broker URL, {waft} run FLOW --broker URL
  cargo xtask test        all tests, with a real RabbitMQ"
    )
}
