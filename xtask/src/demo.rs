//! `cargo xtask demo`: shows waft in a minute and without a server.

pub(crate) mod persistent;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use xtask::{
    guests,
    process::{self, Transcript, shown},
    project,
};

use crate::arguments::Profile;

/// Variables that would make the demo depend on the user's own setup.
const SETTINGS: [&str; 4] = ["WAFT_BROKER", "WAFT_LOGBOOK", "WAFT_SERVER", "WAFT_STORE"];

/// One flow to run, and its expected end.
struct Scene {
    name: &'static str,
    description: &'static str,
    arguments: &'static [&'static str],
    expects: Ending,
}

/// The end of a run, by the exit code of `waft run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Success = 0,
    RolledBack = 1,
}

const SCENES: [Scene; 4] = [
    Scene {
        name: "kitchen",
        description: "two pans are chosen and heated side by side, then the cake is baked",
        arguments: &["run", "examples-wasm/kitchen/flow.toml"],
        expects: Ending::Success,
    },
    Scene {
        name: "provision",
        description: "a server, a blog on it, a load balancer and a monitor",
        arguments: &["run", "examples-wasm/provision/flow.toml"],
        expects: Ending::Success,
    },
    Scene {
        name: "provision, failing",
        description: "the monitor cannot be added, and everything applied is rolled back in reverse order",
        arguments: &["run", "examples-wasm/provision/flow.toml", "--set", "fail_at=add-monitor"],
        expects: Ending::RolledBack,
    },
    Scene {
        name: "text",
        description: "the words of README.md, counted in four parts at once",
        arguments: &["run", "examples-wasm/text/flow.toml", "--set-file", "text=README.md"],
        expects: Ending::Success,
    },
];

pub(crate) fn run(profile: Profile) -> Result<ExitCode> {
    let transcript = Transcript::new();
    title("the waft binary");
    let waft = build(&transcript, profile)?;
    title("the example guests, for WebAssembly");
    let modules = guests::build(&transcript, &project::root().join("examples-wasm"))?;

    let store = project::target().join("demo/store");
    // Left by an earlier demo; without it, the store shows only content of this one.
    let _ = fs::remove_dir_all(&store);
    title("push: each module into the store, by the SHA-256 of its bytes");
    let mut push = command(&waft, &store);
    push.arg("push").args(modules.iter().map(|module| project::short(module)));
    expect(&mut push, Ending::Success)?;

    let mut table = Vec::new();
    for scene in SCENES {
        title(&format!("{}: {}", scene.name, scene.description));
        let started = Instant::now();
        expect(command(&waft, &store).args(scene.arguments), scene.expects)?;
        table.push((scene.name, scene.expects, started.elapsed()));
    }

    title("what happened");
    for (name, ending, took) in table {
        println!("{name:<20} {:<12} {:>6.2} s", ending.describe(), took.as_secs_f64());
    }
    println!("\n{}", what_next(&project::short(&waft), &project::short(&store)));
    Ok(ExitCode::SUCCESS)
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
    cargo.args(["build", "--workspace", "--bin", "waft"]);
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
  {waft} new hello        a guest crate of your own; README.md goes on from there
  cargo xtask demo --live        long-lived flows, over a RabbitMQ: listeners, cycles, edits
  cargo xtask broker        a RabbitMQ to run flows over: {waft} worker --broker URL, {waft} run FLOW --broker URL
  cargo xtask test        all tests, with a real RabbitMQ"
    )
}
