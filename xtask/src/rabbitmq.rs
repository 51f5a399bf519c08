//! A private RabbitMQ node that disturbs no other, for tests that need a real broker.
//!
//! Start reading at [`Rabbit`]; [`Broker`] is what a command of this project needs.

mod installation;
mod users;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use installation::Installation;
pub use installation::install_if_missing;
pub use users::with_user;

use crate::{
    ports::{self, Ports},
    process::{Group, Transcript},
    project,
    tls::{ServerTls, TlsFiles},
};

/// The variable that names the broker for tests; if it is set, no broker is started.
pub const BROKER: &str = "WAFT_TEST_BROKER";

/// The variable with the password of the users `engine`, `worker`, `listener` and `operator` of the broker that [`BROKER`] names,
/// as it is written in an address. Each of them has the permissions of its role. If it is not set, there are no such users.
pub const ROLE_PASSWORD: &str = "WAFT_TEST_BROKER_PASSWORD";

/// How long a node may take to start: Erlang starts slowly, and a busy machine makes it slower.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a node may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The poll interval while a node starts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The maximum number of tries when another process takes a chosen port.
const TRIES: usize = 3;

/// The number of log lines in an error.
const LOG_LINES: usize = 30;

/// A running node. Dropping it kills the node and removes its files; the node also dies with this process.
#[derive(Debug)]
pub struct Rabbit {
    /// `None` while it is killed or stopped. Declared before `names`, so that it is dropped first: the node needs the
    /// mapper.
    node: Option<Group>,
    /// Its own port mapper of Erlang: a shared one would outlive the node.
    names: Group,
    setup: NodeSetup,
    url: String,
    /// Whether it has a user for each role of waft.
    has_role_users: bool,
}

/// The settings that stay the same over restarts.
#[derive(Debug)]
struct NodeSetup {
    installation: Installation,
    name: String,
    folder: PathBuf,
    ports: Ports,
    /// The port for TLS, and its files.
    tls: Option<(u16, TlsFiles)>,
    /// The file with the users of a node, which it reads when it starts.
    definitions: Option<PathBuf>,
}

/// What a node has besides a port for plain AMQP and the user `guest`.
#[derive(Debug, Clone, Copy, Default)]
struct NodeExtras<'a> {
    tls: Option<&'a ServerTls>,
    /// Its users, in RabbitMQ's format of definitions.
    definitions: Option<&'a str>,
}

impl Rabbit {
    /// Starts a node with its files in a new folder inside `parent`, and waits until it speaks AMQP.
    ///
    /// # Errors
    ///
    /// When RabbitMQ is not installed, or does not start; the error shows the end of its log.
    pub fn start(parent: &Path) -> Result<Self> {
        Self::start_as(parent, NodeExtras::default())
    }

    /// Starts a node with a user for each role of waft, besides `guest`. Each user has the permissions that the binary `waft` prints
    /// for its role. The exchanges of waft, and the queue of jobs `default`, are declared, as they are where an engine has run.
    ///
    /// # Errors
    ///
    /// Like [`start`](Self::start), and when the binary fails.
    pub fn start_with_role_users(parent: &Path, waft: &Path) -> Result<Self> {
        let definitions = users::definitions(waft)?;
        let mut rabbit =
            Self::start_as(parent, NodeExtras { definitions: Some(&definitions), ..NodeExtras::default() })?;
        rabbit.has_role_users = true;
        users::declare_shared(waft, &with_user(&rabbit.url, users::ENGINE, users::PASSWORD))?;
        Ok(rabbit)
    }

    /// Starts a node that also accepts TLS. A client over TLS must show a certificate of the authority. With `EXTERNAL`, the common
    /// name of the certificate is its user.
    ///
    /// # Errors
    ///
    /// Like [`start`](Self::start).
    pub fn start_with_tls(parent: &Path, tls: &ServerTls) -> Result<Self> {
        Self::start_as(parent, NodeExtras { tls: Some(tls), ..NodeExtras::default() })
    }

    fn start_as(parent: &Path, extras: NodeExtras<'_>) -> Result<Self> {
        let installation = Installation::find()?;
        let mut tries = 1;
        loop {
            match Self::start_once(parent, installation.clone(), extras) {
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
                Ok(rabbit) => return Ok(rabbit),
            }
        }
    }

    fn start_once(parent: &Path, installation: Installation, extras: NodeExtras<'_>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("waft-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = parent.join(&name);
        let mut setup = NodeSetup { installation, folder, name, ports: Ports::free()?, tls: None, definitions: None };
        setup.lay_out(extras).with_context(|| format!("could not create {}", setup.folder.display()))?;
        let names = setup.start_names()?;
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", setup.ports.amqp);
        let mut rabbit = Self { node: None, names, setup, url, has_role_users: false };
        rabbit.restart()?;
        Ok(rabbit)
    }

    /// The address for clients: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The password of the users of roles, if it has them.
    pub fn role_password(&self) -> Option<&'static str> {
        self.has_role_users.then_some(users::PASSWORD)
    }

    /// The node's port, which stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.setup.ports.amqp
    }

    /// The port for TLS, if it accepts TLS.
    pub fn tls_port(&self) -> Option<u16> {
        self.setup.tls.as_ref().map(|(port, _)| *port)
    }

    /// Kills the node, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(node) = self.node.take() {
            node.kill();
            self.setup.wait_until_stopped();
        }
    }

    /// Stops the node the way an operator does.
    pub fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop(STOP_TIMEOUT);
            self.setup.wait_until_stopped();
        }
    }

    /// Starts the node again with the files on its disk; stops it first if it runs.
    ///
    /// # Errors
    ///
    /// When it does not start; the error shows the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        if self.names.has_ended() {
            self.names = self.setup.start_names()?;
        }
        let mut node = Group::start(&self.setup.node(), &self.setup.log())?;
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.setup.speaks_amqp() {
            if node.has_ended() || Instant::now() > deadline {
                drop(node);
                bail!("RabbitMQ does not start; its log ends with:\n{}", self.setup.log_tail());
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.node = Some(node);
        Ok(())
    }
}

impl Rabbit {
    /// Runs `rabbitmqctl` on the node, and returns its output.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let (subcommand, rest) = arguments.split_first().context("rabbitmqctl takes a command")?;
        let output = self.setup.control(subcommand).args(rest).output().context("could not run rabbitmqctl")?;
        ensure!(output.status.success(), "rabbitmqctl {subcommand}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Stops the broker in its node and starts it again, as `rabbitmqctl stop_app` and `start_app` do: the node keeps
    /// running, and queues elect new leaders.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub fn restart_app(&self) -> Result<()> {
        for subcommand in ["stop_app", "start_app"] {
            let output = self.setup.control(subcommand).output().context("could not run rabbitmqctl")?;
            ensure!(output.status.success(), "rabbitmqctl {subcommand}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        // A failing test leaves the files for inspection.
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.setup.folder);
        }
    }
}

impl NodeSetup {
    fn lay_out(&mut self, extras: NodeExtras<'_>) -> Result<()> {
        for folder in ["home", "data", "log"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        if let Some(tls) = extras.tls {
            self.tls = Some((ports::free_port()?, tls.write(&self.folder)?));
        }
        if let Some(definitions) = extras.definitions {
            let file = self.folder.join("definitions.json");
            fs::write(&file, definitions)?;
            self.definitions = Some(file);
        }
        let plugins = if self.tls.is_some() { "[rabbitmq_auth_mechanism_ssl].\n" } else { "[].\n" };
        fs::write(self.folder.join("enabled_plugins"), plugins)?;
        Ok(fs::write(self.folder.join("rabbitmq.conf"), self.configuration())?)
    }

    fn configuration(&self) -> String {
        let (port, tls) = (self.ports.amqp, self.tls_configuration());
        let definitions = self.definitions.as_ref().map(|file| format!("load_definitions = {}\n", file.display()));
        let definitions = definitions.unwrap_or_default();
        format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             # Publishing stops below this much free disk; the default needs more than a small machine may have.\n\
             disk_free_limit.absolute = 32MB\n\
             # Quorum queues write ahead in files of this size, half a gigabyte by default.\n\
             raft.wal_max_size_bytes = 67108864\n\
             # No delivery may be held for longer: half an hour by default, and waft needs some seconds.\n\
             consumer_timeout = 60000\n\
             log.file.level = info\n{definitions}{tls}"
        )
    }

    fn tls_configuration(&self) -> String {
        let Some((port, files)) = &self.tls else { return String::new() };
        format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = true\n\
             auth_mechanisms.1 = PLAIN\n\
             auth_mechanisms.2 = EXTERNAL\n\
             ssl_cert_login_from = common_name\n",
            files.client_authority.display(),
            files.certificate.display(),
            files.key.display()
        )
    }

    fn start_names(&self) -> Result<Group> {
        let port = self.ports.names;
        let mut epmd = Command::new(&self.installation.epmd);
        epmd.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        let mut names = Group::start(&epmd, &self.log())?;
        let deadline = Instant::now() + START_TIMEOUT;
        // A node that finds no mapper starts its own, which would stay behind.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if names.has_ended() || Instant::now() > deadline {
                bail!("the port mapper of Erlang does not start at port {port}: {}", self.log_tail());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(names)
    }

    /// A program of RabbitMQ with this node's settings, which shares nothing with another node on this machine.
    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let file = |name: &str| self.folder.join(name);
        command
            .env("HOME", file("home"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.ports.names.to_string())
            .env("ERL_CRASH_DUMP", file("log/erl_crash.dump"))
            .env("RABBITMQ_NODENAME", format!("{}@localhost", self.name))
            .env("RABBITMQ_CONF_ENV_FILE", file("no-environment"));
        command
    }

    /// A `rabbitmqctl` command for the node.
    fn control(&self, subcommand: &str) -> Command {
        let mut control = self.program(&self.installation.server.with_file_name("rabbitmqctl"));
        control.arg(subcommand);
        control
    }

    /// The command that starts the node.
    fn node(&self) -> Command {
        let mut node = self.program(&self.installation.server);
        let file = |name: &str| self.folder.join(name);
        node.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("no-advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_PID_FILE", file("data/node.pid"));
        node
    }

    /// The log file of both processes.
    fn log(&self) -> PathBuf {
        self.folder.join("log/console.log")
    }

    fn log_tail(&self) -> String {
        let node = self.folder.join(format!("log/{}@localhost.log", self.name));
        [self.log(), node].iter().filter_map(|file| fs::read(file).ok()).fold(String::new(), |mut tails, bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                tails.push_str(line);
                tails.push('\n');
            }
            tails
        })
    }

    /// Whether a server here answers the protocol header with a method frame, which is `connection.start`.
    fn speaks_amqp(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.amqp));
        let try_handshake = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"AMQP\x00\x00\x09\x01")?;
            let mut kind = [0];
            stream.read_exact(&mut kind)?;
            std::io::Result::Ok(kind == [1])
        };
        try_handshake().unwrap_or(false)
    }

    /// Waits until a killed node is gone: its port refuses connections only a moment later.
    fn wait_until_stopped(&self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.amqp)).is_ok() && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// A broker for one command: the broker that `WAFT_TEST_BROKER` names, or else one that runs as long as this value exists.
#[derive(Debug)]
pub enum Broker {
    /// An external broker.
    External {
        /// Its address.
        url: String,
        /// The password of its users of roles, if it has them.
        role_password: Option<String>,
    },
    /// A private node.
    Own(Box<Rabbit>),
}

impl Broker {
    /// Finds or starts a broker, and installs RabbitMQ if it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not start.
    pub fn find_or_start(transcript: &Transcript) -> Result<Self> {
        Self::find_or_else(transcript, Rabbit::start)
    }

    /// Finds a broker, or starts one with [users for the roles of waft](Rabbit::start_with_role_users).
    ///
    /// # Errors
    ///
    /// Like [`find_or_start`](Self::find_or_start), and when the binary `waft` fails.
    pub fn find_or_start_with_role_users(transcript: &Transcript, waft: &Path) -> Result<Self> {
        let broker = Self::find_or_else(transcript, |parent| Rabbit::start_with_role_users(parent, waft))?;
        if broker.role_password().is_none() {
            transcript.print(&format!(
                "warning: {ROLE_PASSWORD} is not set, so every part of waft uses the address in {BROKER}, and no test notices a \
                 missing permission; `cargo xtask broker` prints both variables"
            ));
        }
        Ok(broker)
    }

    fn find_or_else(transcript: &Transcript, start: impl FnOnce(&Path) -> Result<Rabbit>) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(url) = variable(BROKER) {
            transcript.print(&format!("using the broker that {BROKER} names"));
            return Ok(Self::External { url, role_password: variable(ROLE_PASSWORD) });
        }
        install_if_missing(transcript)?;
        let rabbit = start(&project::target().join("rabbitmq"))?;
        transcript.print(&format!("started a RabbitMQ at {}", rabbit.url()));
        Ok(Self::Own(Box::new(rabbit)))
    }

    /// The address for clients, of a user with all permissions.
    pub fn url(&self) -> &str {
        match self {
            Self::External { url, .. } => url,
            Self::Own(rabbit) => rabbit.url(),
        }
    }

    /// The password of the users of roles, if it has them.
    pub fn role_password(&self) -> Option<&str> {
        match self {
            Self::External { role_password, .. } => role_password.as_deref(),
            Self::Own(rabbit) => rabbit.role_password(),
        }
    }
}
