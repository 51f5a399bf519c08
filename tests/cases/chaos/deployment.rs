//! The deployment, its faults, and the ledger of its guests.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flow::Action;
use waft_tests::{Role, TestBroker, Waft, start_rabbit};
use xtask::{ports, postgres::Postgres, rabbitmq::Rabbit};

use super::proxy::Proxy;
use crate::simulation::guests::Entry;

/// The number of fault kinds; each happens at least once.
pub(crate) const FAULTS: u64 = 11;

const ENGINES: usize = 2;
const WORKERS: usize = 3;

/// The time limit of operations that take seconds: only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long the network is silent: longer than a heartbeat, so that running calls seem lost.
const SILENCE: Duration = Duration::from_secs(8);

/// All processes of a deployment.
pub(crate) struct Deployment {
    waft: Arc<Waft>,
    rabbit: Rabbit,
    postgres: Postgres,
    logbook: String,
    proxy: Proxy,
    engines: Vec<DeploymentProcess>,
    workers: Vec<DeploymentProcess>,
}

/// A process that restarts with the same arguments.
struct DeploymentProcess {
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Option<Child>,
}

/// Submits runs to any engine that answers.
pub(crate) struct Submitter {
    waft: Arc<Waft>,
    flow: PathBuf,
    servers: Vec<String>,
}

impl Deployment {
    pub(crate) fn build() -> Self {
        let waft = Arc::new(Waft::default());
        let folder = waft.folder().to_owned();
        let rabbit = start_rabbit(&folder);
        let postgres = Postgres::start().expect("PostgreSQL starts");
        let logbook = postgres.database("waft").expect("a database can be created");
        let proxy = Proxy::to(rabbit.port());
        let [direct_port, proxy_port] = [rabbit.port(), proxy.port()].map(|port| format!(":{port}/"));
        let broker = |role: Role, number: usize| {
            let direct = TestBroker::from(&rabbit).url(role);
            if number == 0 { direct } else { direct.replace(&direct_port, &proxy_port) }
        };
        let engine = |number| {
            let listen = format!("127.0.0.1:{}", ports::free_port().expect("a port is free"));
            let arguments =
                ["serve", "--broker", &broker(Role::Engine, number), "--logbook", &logbook, "--listen", &listen];
            DeploymentProcess::new(&folder, &format!("engine-{number}"), &arguments)
        };
        let worker = |number| {
            let (name, url) = (format!("w{number}"), broker(Role::Worker, number));
            let arguments = ["worker", "-vv", "--slots", "8", "--name", &name, "--broker", &url];
            DeploymentProcess::new(&folder, &format!("worker-{number}"), &arguments)
        };
        let engines = (0..ENGINES).map(engine).collect();
        let workers = (0..WORKERS).map(worker).collect();
        let mut deployment = Self { waft, rabbit, postgres, logbook, proxy, engines, workers };
        deployment.start_stopped_processes();
        deployment
    }

    pub(crate) fn logbook(&self) -> &str {
        &self.logbook
    }

    pub(crate) fn submitter(&self) -> Submitter {
        let flow = self.waft.flow(FLOW);
        let address = |process: &DeploymentProcess| format!("http://{}", process.arguments[6].to_string_lossy());
        Submitter { waft: self.waft.clone(), flow, servers: self.engines.iter().map(address).collect() }
    }

    /// Injects the next fault: each kind in rotation; each round of the test starts with another kind.
    pub(crate) fn inject_fault(&mut self, number: u64, round: u64) {
        let repetition = (number / FAULTS) as usize;
        match (number + round - 1) % FAULTS {
            0 => self.engines[repetition % ENGINES].kill(),
            1 => self.proxy.cut(),
            2 => {
                self.rabbit.kill();
                thread::sleep(Duration::from_secs(1));
                self.rabbit.restart().expect("RabbitMQ restarts");
            }
            3 => self.engines.iter_mut().for_each(DeploymentProcess::kill),
            4 => {
                self.postgres.kill();
                // The second outage lasts a minute; the short form of the test does not reach it.
                thread::sleep(Duration::from_secs(if repetition == 1 { 60 } else { 2 }));
                self.postgres.restart().expect("PostgreSQL restarts");
            }
            5 => {
                self.proxy.set_silent(true);
                thread::sleep(SILENCE);
                self.proxy.set_silent(false);
            }
            6 => {
                self.rabbit.stop();
                self.rabbit.restart().expect("RabbitMQ restarts");
            }
            7 => self.workers[repetition % WORKERS].kill(),
            8 => self.postgres.restart_at_once().expect("PostgreSQL restarts"),
            9 => self.rabbit.restart_app().expect("RabbitMQ restarts in its node"),
            // This fault comes last: otherwise a later engine restart would resend a job that was lost with its worker.
            _ => self.workers.iter_mut().for_each(DeploymentProcess::kill),
        }
        thread::sleep(Duration::from_millis(500));
        self.start_stopped_processes();
    }

    /// Ends all faults.
    pub(crate) fn restore(&mut self) {
        self.proxy.set_silent(false);
        self.start_stopped_processes();
    }

    fn start_stopped_processes(&mut self) {
        for process in self.engines.iter_mut().chain(&mut self.workers) {
            process.start(&self.waft);
        }
    }

    /// Sends a retry for a failed rollback to any engine that answers.
    pub(crate) fn retry(&self, run: &str) {
        for server in self.submitter().servers {
            if self.waft.run(["retry", run, "--server", &server]).code == Some(0) {
                return;
            }
        }
    }

    /// The actions that guests logged, in order.
    pub(crate) fn ledger(&self) -> Vec<Entry> {
        let read = |process: &DeploymentProcess| fs::read_to_string(&process.log).expect("the log is there");
        let mut lines: Vec<String> = self
            .workers
            .iter()
            .flat_map(|process| read(process).lines().map(String::from).collect::<Vec<_>>())
            .collect();
        lines.retain(|line| line.contains("LEDGER "));
        // Each line starts with its time, in microseconds.
        lines.sort();
        (0..).zip(&lines).map(|(index, line)| entry(index, line)).collect()
    }
}

fn entry(at: u128, line: &str) -> Entry {
    let (_, fields) = line.split_once("LEDGER ").expect("the line is a ledger entry");
    let fields: Vec<&str> = fields.split_whitespace().take(4).collect();
    let [action, run, task, attempt] = fields[..] else { panic!("a line of the ledger is damaged: {line}") };
    Entry {
        run: run.parse().expect("a valid name"),
        task: task.parse().expect("a valid name"),
        action: if action == "apply" { Action::Apply } else { Action::Rollback },
        firing: flow::Firing::FIRST,
        attempt: flow::Attempt::new(attempt.parse().expect("a number")),
        at,
    }
}

impl DeploymentProcess {
    fn new(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsString::from).collect();
        Self { arguments, log: folder.join(format!("{name}.log")), process: None }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("it can be waited for");
        }
    }

    /// Starts the process if it does not run: a process may exit when a dependency is unreachable.
    fn start(&mut self, waft: &Waft) {
        let has_ended = |process: &mut Child| !matches!(process.try_wait(), Ok(None));
        if self.process.as_mut().is_none_or(has_ended) {
            let log = File::options().create(true).append(true).open(&self.log).expect("the log can be written");
            let mut command: Command = waft.command(&self.arguments);
            command.stdout(Stdio::null()).stderr(log);
            self.process = Some(command.spawn().expect("waft starts"));
        }
    }
}

impl Drop for DeploymentProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn run_id(number: u64) -> String {
    format!("chaos-{number}")
}

impl Submitter {
    /// Submits a run until an engine confirms that it is durable.
    pub(crate) fn submit(&self, number: u64) {
        let until = Instant::now() + TIMEOUT;
        let mut attempt = number as usize;
        loop {
            let server = &self.servers[attempt % self.servers.len()];
            attempt += 1;
            let flow = self.flow.to_str().expect("a path in UTF-8");
            let output = self.waft.run(["submit", flow, "--run-id", &run_id(number), "--server", server]);
            if output.code == Some(0) {
                return;
            }
            assert!(Instant::now() < until, "{} cannot be submitted: {}", run_id(number), output.stderr);
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Two branches that meet, a retry controller, and one call longer than the lease threshold.
const FLOW: &str = r#"
name = "chaos"
[[task]]
name = "a"
use = "ledger"
retry = { attempts = 3, initial = "200ms" }
[[task]]
name = "b"
use = "ledger"
with = { ms = 400 }
retry = { attempts = 2, initial = "200ms" }
[[flow]]
name = "again"
retry = { times = 2 }
[[flow.task]]
name = "c"
use = "ledger"
[[flow.task]]
name = "d"
use = "ledger"
with = { ms = 14000 }
retry = { attempts = 2, initial = "200ms" }
[[task]]
name = "e"
use = "ledger"
retry = { attempts = 3, initial = "200ms" }
[[link]]
from = "a"
to = "again"
[[link]]
from = "b"
to = "e"
[[link]]
from = "again"
to = "e"
"#;
