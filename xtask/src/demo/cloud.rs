//! The cloud of the examples in the demo: its process, its ledger, and the flows that call it.

use std::{
    fs::{self, File},
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::warehouse::{self, Warehouse};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::{
    ports::free_port,
    process::{self, Group, shown},
    project,
};

/// The port that the flows and the settings of the examples name.
const PORT: u16 = 7480;

/// The time that each change takes, in milliseconds: enough to kill whoever waits for it.
const SLOW: &str = "300";

/// Only a defect makes the cloud take this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The poll interval while waiting for the cloud.
const PAUSE: Duration = Duration::from_millis(10);

/// A running cloud. Dropping it kills it.
pub(crate) struct Cloud {
    process: Group,
    /// The addresses in the flows and the settings, and those in the copies that the demo uses instead.
    moved: Vec<(String, String)>,
    token: String,
    folder: PathBuf,
}

impl Cloud {
    /// Starts the cloud, with its files in a folder. `program` is its binary.
    pub(crate) fn start(program: &Path, folder: &Path, warehouse: Option<&Warehouse>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
        let port = if is_free { PORT } else { free_port()? };
        let token = random_token()?;
        let mut command = process::command(program);
        command.current_dir(project::root()).args(["--listen", &format!("127.0.0.1:{port}"), "--slow", SLOW]);
        command.args(["--files", ".", "--ledger"]).arg(project::short(&ledger(folder)));
        println!("$ export CLOUD_TOKEN={token}");
        println!("$ {} &", shown(&command));
        command.env("CLOUD_TOKEN", &token);
        let process = Group::start(&command, &log(folder))?;
        let mut moved = Vec::new();
        if !is_free {
            println!("-- port {PORT} is in use, so the demo takes copies of the flows and settings with port {port}");
            moved.push((format!("127.0.0.1:{PORT}"), format!("127.0.0.1:{port}")));
        }
        if let Some(warehouse) = warehouse {
            let address = warehouse.address();
            println!("-- the warehouse listens on {address}: the demo takes copies of the flows and settings with it");
            moved.push((warehouse::ADDRESS_IN_FILES.to_owned(), address));
        }
        let mut cloud = Self { process, moved, token, folder: folder.to_owned() };
        cloud.wait_for("cloud listens on")?;
        if !cloud.moved.is_empty() {
            cloud.copy(&project::root().join("examples-wasm"), &cloud.folder.join("examples-wasm"))?;
            cloud.copy(&project::root().join("examples/cloud/waft"), &cloud.folder.join("settings/waft"))?;
        }
        println!("$ export XDG_CONFIG_HOME=$PWD/{}", project::short(&cloud.settings()));
        Ok(cloud)
    }

    /// Gives a command the settings of the operator and the token.
    pub(crate) fn grant(&self, command: &mut Command) {
        command.env("XDG_CONFIG_HOME", self.settings()).env("CLOUD_TOKEN", &self.token);
    }

    /// The path of a flow of the examples that calls this cloud.
    pub(crate) fn flow(&self, name: &str) -> String {
        let file = project::root().join("examples-wasm").join(name);
        let names_moved = |text: String| self.moved.iter().any(|(from, _)| text.contains(from));
        let is_copied = fs::read_to_string(&file).is_ok_and(names_moved);
        project::short(&if is_copied { self.folder.join("examples-wasm").join(name) } else { file })
    }

    /// Shows that a run has exactly one server, although its request was made twice.
    pub(crate) fn show_only_server_of(&self, run: &str) -> Result<()> {
        let servers = self.servers_of(run)?;
        println!("-- the servers of this run in the ledger of the cloud:");
        servers.iter().for_each(|line| println!("{line}"));
        ensure!(servers.len() == 1, "the run {run} should have exactly one server, and has {}", servers.len());
        println!("-- exactly one: both requests had the same idempotency key");
        Ok(())
    }

    /// The servers that a run has made and that exist, as lines of the ledger.
    fn servers_of(&self, run: &str) -> Result<Vec<String>> {
        let path = ledger(&self.folder);
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let parsed: serde_json::Result<Vec<(&str, Value)>> =
            text.lines().map(|line| Ok((line, serde_json::from_str(line)?))).collect();
        let lines = parsed.with_context(|| format!("{} is not readable", path.display()))?;
        let is_of_run = |line: &Value| {
            let key = line["made"]["request"]["key"].as_str().unwrap_or_default();
            line["made"]["resource"]["server"].is_object() && key.starts_with(&format!("{run}."))
        };
        let exists = |line: &Value| {
            let id = &line["made"]["resource"]["server"]["id"];
            !lines.iter().any(|(_, other)| other["deleted"]["id"] == *id)
        };
        let servers = lines.iter().filter(|(_, line)| is_of_run(line) && exists(line));
        Ok(servers.map(|(text, _)| (*text).to_owned()).collect())
    }

    /// Waits until the cloud has printed a text.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<()> {
        let (log, until) = (log(&self.folder), Instant::now() + TIMEOUT);
        loop {
            let printed = fs::read_to_string(&log).unwrap_or_default();
            if printed.contains(text) {
                return Ok(());
            }
            if self.process.has_ended() || Instant::now() > until {
                bail!("the cloud has not printed {text:?}, but:\n{printed}");
            }
            thread::sleep(PAUSE);
        }
    }

    fn settings(&self) -> PathBuf {
        if self.moved.is_empty() { project::root().join("examples/cloud") } else { self.folder.join("settings") }
    }

    /// Copies TOML files, with the addresses that the demo uses, and the modules where they were built.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let context = || format!("could not copy {} to {}", from.display(), to.display());
        fs::create_dir_all(to).with_context(context)?;
        for entry in fs::read_dir(from).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let name = path.file_name().context("an entry has a name")?;
            if path.is_dir() && name != "src" && name != "target" {
                self.copy(&path, &to.join(name))?;
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).with_context(context)?;
                let built = format!("\"{}/target/", project::root().join("examples-wasm").display());
                let text = text.replace("\"../../target/", &built).replace("\"../target/", &built);
                let text = self.moved.iter().fold(text, |text, (from, to)| text.replace(from, to));
                fs::write(to.join(name), text).with_context(context)?;
            }
        }
        Ok(())
    }
}

fn ledger(folder: &Path) -> PathBuf {
    folder.join("ledger.jsonl")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("cloud.log")
}

fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("could not read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
