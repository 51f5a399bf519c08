//! A server and a worker of waft, each a process of its own, for the measurements that go through the binary.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tokio_util::task::TaskTracker;
use xtask::{ports::free_port, rabbitmq::with_user};

use crate::{Bench, cold::start_worker, cpu};

/// The number of tasks of a round.
pub(crate) const TASKS: usize = 2_000;

/// The file with the flow of a round.
const FLOW: &str = "flow.toml";

/// The file with a flow that waits for a person, and the flow.
const WAITING: &str = "waiting.toml";
const WAITING_FLOW: &str = "name = \"waits\"\n[[task]]\nname = \"person\"\nwait = \"a word\"\n";

/// The tag of the module in a guarded installation.
const TAG: &str = "shop/guest:1";

/// A server and a worker at the same broker, and a folder for the programs that use them.
pub(crate) struct Installation {
    binary: PathBuf,
    folder: tempfile::TempDir,
    address: String,
    /// The token of who submits, if the server asks for one.
    token: Option<String>,
    /// The addresses with the metrics of the server and of the worker, if they can be read.
    metrics: Vec<String>,
    server: Child,
    _worker: Child,
}

impl Installation {
    /// Starts processes with only their addresses and folders set.
    pub(crate) async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::copy(&bench.text_guest, folder.path().join("guest.wasm"))?;
        let brokers = [&bench.broker, &bench.broker];
        Self::start_in(folder, &bench.binary, brokers, &["--queues", "default"]).await?.with_flow("noops", "guest.wasm")
    }

    /// Starts processes as [`Self::start`] does, whose metrics can be read.
    pub(crate) async fn start_with_metrics(bench: &Bench) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::copy(&bench.text_guest, folder.path().join("guest.wasm"))?;
        let brokers = [&bench.broker, &bench.broker];
        let free = format!("127.0.0.1:{}", free_port()?);
        let worker = ["--queues", "default", "--metrics", &free];
        let mut own = Self::start_in(folder, &bench.binary, brokers, &worker).await?;
        own.metrics = vec![own.host().to_owned(), free];
        own.with_flow("noops", "guest.wasm")
    }

    /// Host and port of the server.
    pub(crate) fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// The seconds that the server has computed so far.
    pub(crate) fn server_cpu(&self) -> anyhow::Result<f64> {
        cpu::seconds(&self.server.id().context("the server runs")?.to_string())
    }

    /// Creates a token that may read everything.
    pub(crate) async fn create_reader(&self, name: &str) -> anyhow::Result<String> {
        Ok(printed(self.client(&["token", "create", name, "--scope", "read"])).await?.trim().to_owned())
    }

    /// Starts a run that waits for a person.
    pub(crate) async fn submit_waiting(&self, run: &str) -> anyhow::Result<()> {
        std::fs::write(self.folder.path().join(WAITING), WAITING_FLOW)?;
        printed(self.client(&["submit", WAITING, "--run-id", run])).await.map(drop)
    }

    /// The addresses with the metrics of the server and of the worker, if they can be read.
    pub(crate) fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Starts processes with all that guards them: a user of the broker for each, a token in a namespace, a signed module that the
    /// server and the worker admit, and no other.
    pub(crate) async fn start_guarded(bench: &Bench) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let password = bench.role_password.as_deref().context("the broker has no users for the roles of waft")?;
        let broker_of = |role: &str| with_user(&bench.broker, role, password);
        let client = |arguments: &[&str]| waft(&bench.binary, folder.path(), "client", "", arguments);
        let key = printed(client(&["keys", "create", "bench"])).await?;
        let signer = key.split_whitespace().find(|word| word.starts_with("RW")).context("no public key is printed")?;
        let settings = format!(
            "[admission]\nmodules = \"listed\"\n[[admission.allow]]\nsigner = \"{signer}\"\ntags = [\"shop/*\"]\n"
        );
        for part in ["server", "worker"] {
            let configuration = configuration(folder.path(), part).join("waft");
            std::fs::create_dir_all(&configuration)?;
            std::fs::write(configuration.join("config.toml"), &settings)?;
        }
        let brokers = [broker_of("engine"), broker_of("worker")];
        let worker = ["--queues", "shop/default"];
        let mut own = Self::start_in(folder, &bench.binary, brokers.each_ref(), &worker).await?;
        let create = ["token", "create", "bench", "--scope", "read,submit,push", "--namespace", "shop"];
        own.token = Some(printed(own.client(&create)).await?.trim().to_owned());
        let module = bench.text_guest.to_string_lossy().into_owned();
        printed(own.client(&["push", &module, "--tag", TAG, "--sign", "bench"])).await?;
        own.with_flow("shop/noops", TAG)
    }

    async fn start_in(
        folder: tempfile::TempDir,
        binary: &Path,
        brokers: [&String; 2],
        worker_arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let [engine, worker] = brokers;
        let serve = ["serve", "--listen", "127.0.0.1:0"];
        let mut server = waft(binary, folder.path(), "server", engine, &serve).stderr(Stdio::piped()).spawn()?;
        let stderr = server.stderr.take().context("the server's stderr is a pipe")?;
        let mut lines = BufReader::new(stderr).lines();
        let address = loop {
            let line = lines.next_line().await?.context("the server ended before it listened")?;
            if let Some((_, address)) = line.split_once("http://") {
                let host = address.split_whitespace().next().unwrap_or_default();
                break format!("http://{}", host.trim_end_matches(['"', ',']));
            }
        };
        // Read and drop the rest of its output: a full pipe must not block it.
        TaskTracker::new().spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let arguments = [&["worker"], worker_arguments].concat();
        let worker = start_worker(waft(binary, folder.path(), "worker", worker, &arguments)).await?;
        let (binary, metrics) = (binary.to_owned(), Vec::new());
        Ok(Self { binary, folder, address, token: None, metrics, server, _worker: worker })
    }

    /// Writes a flow with the tasks of a round. None depends on another.
    fn with_flow(self, name: &str, module: &str) -> anyhow::Result<Self> {
        let text = format!("name = \"{name}\"\npattern = \"unordered\"\n[modules]\nguest = \"{module}\"\n");
        self.write_flow(FLOW, text, TASKS, |_| "use = \"guest#noop\"\n".to_owned())?;
        Ok(self)
    }

    /// Writes a flow with a number of tasks after its head. `keys` has the keys of a task besides its name.
    pub(crate) fn write_flow(
        &self,
        file: &str,
        head: String,
        tasks: usize,
        keys: impl Fn(usize) -> String,
    ) -> anyhow::Result<()> {
        let task = |task| format!("[[task]]\nname = \"t{task}\"\n{}", keys(task));
        let text = (0..tasks).map(task).fold(head, |text, task| text + &task);
        Ok(std::fs::write(self.folder.path().join(file), text)?)
    }

    /// Submits the flow and waits for its end.
    ///
    /// # Returns
    ///
    /// The seconds from the start of `waft submit` to its end.
    pub(crate) async fn round(&self) -> anyhow::Result<f64> {
        self.round_of(FLOW).await
    }

    /// Submits the flow of a file and waits for its end.
    ///
    /// # Returns
    ///
    /// The seconds from the start of `waft submit` to its end.
    pub(crate) async fn round_of(&self, file: &str) -> anyhow::Result<f64> {
        self.timed(&["submit", file, "--wait"]).await
    }

    /// Submits the flow as a run with this id, and waits for its end.
    ///
    /// # Returns
    ///
    /// The seconds from the start of `waft submit` to its end.
    pub(crate) async fn round_of_run(&self, run: &str) -> anyhow::Result<f64> {
        self.timed(&["submit", FLOW, "--run-id", run, "--wait"]).await
    }

    /// The seconds that a command takes.
    async fn timed(&self, arguments: &[&str]) -> anyhow::Result<f64> {
        let started = Instant::now();
        printed(self.client(arguments)).await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// A command of who uses the server.
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = waft(&self.binary, self.folder.path(), "client", "", arguments);
        command.env("WAFT_SERVER", &self.address).current_dir(self.folder.path());
        if let Some(token) = &self.token {
            command.env("WAFT_TOKEN", token);
        }
        command
    }
}

/// A command of one part of the installation, with folders of its own.
fn waft(binary: &Path, folder: &Path, part: &str, broker: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    let state = folder.join(part);
    command.env("WAFT_STORE", state.join("store")).env("WAFT_CACHE", state.join("cache"));
    // A home of its own: no settings and no logbook of this machine's user.
    command.env("HOME", state).env("XDG_CONFIG_HOME", configuration(folder, part));
    command.env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME").env_remove("XDG_CACHE_HOME");
    command.env("WAFT_BROKER", broker).args(arguments).kill_on_drop(true);
    command
}

/// The folder of a part's settings.
fn configuration(folder: &Path, part: &str) -> PathBuf {
    folder.join(part).join("configuration")
}

/// What a command prints.
async fn printed(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
