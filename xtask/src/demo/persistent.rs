//! `cargo xtask demo --live`: runs persistent flows over a real RabbitMQ, with its own server and workers. It shows the
//! stories of `examples-wasm/provision/stories`, which are tests too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::{
    guests,
    ports::free_port,
    process::{Group, Transcript, shown},
    project,
    rabbitmq::{self, Rabbit},
};

use super::{SETTINGS, build, cloud::Cloud, title};
use crate::arguments::Profile;

/// The folder of the flows, below `examples-wasm`.
const SCENARIOS: &str = "provision/stories";

/// Only a defect makes a step take this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The poll interval while waiting for a run.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(profile: Profile) -> Result<ExitCode> {
    let transcript = Transcript::new();
    title("the waft binary, and the example guests");
    let waft = build(&transcript, profile)?;
    guests::build(&transcript, &project::root().join("examples-wasm"))?;
    rabbitmq::install_if_missing(&transcript)?;
    let mut stage = DemoEnvironment::set(waft)?;
    a_listener_for_ever(&mut stage)?;
    a_killed_worker(&mut stage)?;
    a_circle(&stage)?;
    a_site(&stage)?;
    println!("\nThe flows are in examples-wasm/{SCENARIOS}, docs/README.md has a page for each of the things they do.");
    Ok(ExitCode::SUCCESS)
}

fn a_listener_for_ever(stage: &mut DemoEnvironment) -> Result<()> {
    title("a flow that stays, and adds an address to the load balancer whenever a server appears");
    stage.waft(&["submit", &stage.story("balancer"), "--run-id", "balancer"])?;
    stage.waft(&["submit", &stage.story("create-server"), "--set", "name=one", "--wait"])?;
    stage.until("balancer", |run| run["fired"] == 1)?;
    println!("-- one of the two workers is killed, and the broker is stopped and started");
    stage.workers.pop().into_iter().for_each(Group::kill);
    stage.rabbit.stop();
    stage.rabbit.restart()?;
    stage.waft(&["submit", &stage.story("create-server"), "--set", "name=two", "--wait"])?;
    stage.until("balancer", |run| run["fired"] == 2)?;
    stage.waft(&["show", "balancer"])
}

fn a_killed_worker(stage: &mut DemoEnvironment) -> Result<()> {
    title("all workers are killed while the cloud creates a server: another worker makes the call again");
    stage.waft(&["submit", &stage.story("create-server"), "--run-id", "killed"])?;
    stage.cloud.wait_for("received POST /v1/servers with the key killed.")?;
    println!("-- the cloud has received the request for the server");
    println!("-- kill -9 of the workers");
    stage.workers.drain(..).for_each(Group::kill);
    stage.start_worker("worker-3")?;
    stage.until("killed", |run| run["state"] == "success")?;
    stage.waft(&["show", "killed"])?;
    stage.cloud.show_only_server_of("killed")
}

fn a_circle(stage: &DemoEnvironment) -> Result<()> {
    title("an accidental cycle: it is unlinked while it runs");
    stage.waft(&["submit", &stage.story("circle"), "--run-id", "circle"])?;
    stage.until("circle", |run| run["fired"].as_u64().is_some_and(|fired| fired >= 3))?;
    stage.waft(&["edit", "circle", "unlink", "add-monitor", "create-server"])?;
    stage.until("circle", |run| run["state"] == "success")?;
    stage.waft(&["show", "circle", "--revisions"])
}

fn a_site(stage: &DemoEnvironment) -> Result<()> {
    title("a site: an attempt fails and is retried, and the rest waits for its window");
    stage.waft(&["submit", &stage.story("site"), "--run-id", "site"])?;
    stage.until("site", |run| state_of(run, "window") == "running" && state_of(run, "pull-recipes") == "success")?;
    stage.waft(&["show", "site"])?;
    title("the monitor was forgotten: it listens to a task that has succeeded already, and starts at once");
    stage.waft(&["edit", "site", "add", &stage.story("monitor")])?;
    stage.until("site", |run| state_of(run, "add-monitor") == "success")?;
    title("the server has crashed: another one is created, and WordPress goes there; no recipe is pulled twice");
    stage.waft(&["edit", "site", "apply", &stage.story("second-server")])?;
    stage.waft(&["notify", "site", "window"])?;
    stage.until("site", |run| run["state"] == "success")?;
    stage.waft(&["show", "site", "--revisions"])
}

fn state_of<'r>(run: &'r Value, task: &str) -> &'r str {
    let tasks = run["tasks"].as_array().into_iter().flatten();
    tasks.clone().find(|shown| shown["name"] == task).and_then(|shown| shown["state"].as_str()).unwrap_or("")
}

/// A RabbitMQ, a cloud, a server and two workers. Dropping it stops all of them.
struct DemoEnvironment {
    waft: PathBuf,
    address: String,
    workers: Vec<Group>,
    _server: Group,
    cloud: Cloud,
    rabbit: Rabbit,
}

impl DemoEnvironment {
    fn set(waft: PathBuf) -> Result<Self> {
        title("a RabbitMQ, a cloud, a server, and two workers without any task code");
        let folder = folder();
        // Left by an earlier demo.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let rabbit = Rabbit::start(&folder)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let logbook = format!("sqlite:{}", folder.join("logbook.db").display());
        let store = folder.join("store").display().to_string();
        let cloud = Cloud::start(&waft.with_file_name("cloud"), &folder.join("cloud"), None)?;
        let broker = rabbit.url();
        let serve = ["serve", "--listen", &address, "--broker", broker, "--logbook", &logbook, "--store", &store];
        let server = start(&waft, &cloud, "server", &serve)?;
        let workers = Vec::new();
        let mut stage = Self { waft, address: format!("http://{address}"), workers, _server: server, cloud, rabbit };
        stage.wait_for("the server does not answer", || Ok(stage.command(&["list"]).output()?.status.success()))?;
        stage.start_worker("worker-1")?;
        stage.start_worker("worker-2")?;
        stage.wait_for("the workers do not answer", || {
            let workers = stage.command(&["workers", "--json"]).output()?.stdout;
            Ok(String::from_utf8_lossy(&workers).lines().count() == 2)
        })?;
        Ok(stage)
    }

    fn start_worker(&mut self, name: &str) -> Result<()> {
        let arguments = ["worker", "--broker", self.rabbit.url(), "--name", name];
        self.workers.push(start(&self.waft, &self.cloud, name, &arguments)?);
        Ok(())
    }

    fn story(&self, name: &str) -> String {
        self.cloud.flow(&format!("{SCENARIOS}/{name}.toml"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(&self.waft);
        command.env("WAFT_SERVER", &self.address).args(arguments);
        command
    }

    /// Runs a command on this terminal, which must succeed.
    fn waft(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(arguments);
        println!("$ {}", shown(&command));
        let status = command.status().with_context(|| format!("could not run `{}`", shown(&command)))?;
        if !status.success() {
            bail!("`{}` ended with {status}", shown(&command));
        }
        Ok(())
    }

    /// Waits until a run meets a condition.
    fn until(&self, run: &str, is_reached: impl Fn(&Value) -> bool) -> Result<()> {
        self.wait_for(&format!("run {run} is not where it should be by now"), || {
            let output = self.command(&["show", run, "--json"]).output()?;
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            Ok(is_reached(&shown))
        })
    }

    fn wait_for(&self, what: &str, mut is_reached: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + TIMEOUT;
        while !is_reached()? {
            if Instant::now() > until {
                bail!("{what}; the logs are in {}", folder().display());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// The files of this demo.
fn folder() -> PathBuf {
    project::target().join("demo-live")
}

/// Starts a process that may call the cloud, with a log of its name.
fn start(waft: &Path, cloud: &Cloud, name: &str, arguments: &[&str]) -> Result<Group> {
    let mut command = bare(waft);
    command.args(arguments);
    println!("$ {} &", shown(&command));
    cloud.grant(&mut command);
    Group::start(&command, &folder().join(format!("{name}.log")))
}

/// The binary, called as a user in the root of the clone would, without their own setup.
fn bare(waft: &Path) -> Command {
    let mut command = xtask::process::command(waft);
    command.current_dir(project::root());
    for name in SETTINGS {
        command.env_remove(name);
    }
    command
}
