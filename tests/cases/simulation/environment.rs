//! A simulation: two engines, two workers and some runs, first with faults and then without.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{Broker, InProcess, lossy::LossyConnection};
use engine::{Clock, Config, Engine, MaxOpenRuns, ShardAssignment, SubmitError};
use flow::{Flow, RunId, RunState, Timestamp};
use logbook::{Logbook, Memory, Version, intercepted::InterceptedLogbook};
use protocol::RunCommand;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use worker::Worker;

use super::{
    check,
    faulty_broker::{Database, FaultPlan, FaultyBroker},
    flows,
    guests::{Ledger, Simulated},
    lost_calls,
    rng::SeededRng,
};

const ENGINES: usize = 2;
const WORKERS: usize = 2;
const RUNS: u64 = 4;

/// How long faults occur.
const FAULT_PERIOD: Duration = Duration::from_secs(90);

/// The time limit for the end of all runs: lost workers, leases and retries delay them.
const END_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The time limit for the stop of all processes after that.
const STOP_TIMEOUT: Duration = Duration::from_secs(600);

/// The result of a simulation: the states of its runs, and the number of crashes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SimulationResult {
    pub(crate) states: Vec<(String, RunState, usize)>,
    pub(crate) crashes: u64,
}

/// Runs one simulation to its end.
pub(crate) fn run_simulation(seed: u64) -> Result<SimulationResult, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(Simulation::new(seed).run());
    runtime.shutdown_background();
    result
}

struct Simulation {
    seed: u64,
    rng: SeededRng,
    broker: InProcess,
    logbook: Arc<dyn Logbook>,
    ledger: Ledger,
    faults_active: Arc<AtomicBool>,
    ended: CancellationToken,
    engines: Arc<Mutex<Vec<Option<Engine>>>>,
    /// The connections of all processes, crashed ones included.
    connections: Mutex<Vec<LossyConnection>>,
    database: Database,
    crashes: Arc<Mutex<u64>>,
    /// The current phase of each process, by name: for the report about a process that does not stop.
    phases: Mutex<BTreeMap<String, &'static str>>,
    start: Instant,
}

/// A clock that shows the virtual time of the simulation.
pub(crate) struct SimulatedClock(pub(crate) Instant);

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000).after(self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Simulation {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            rng: SeededRng::new(seed),
            broker: InProcess::new(),
            logbook: Arc::new(Memory::new()),
            ledger: Ledger::default(),
            faults_active: Arc::new(AtomicBool::new(true)),
            ended: CancellationToken::new(),
            engines: Arc::new(Mutex::new(vec![None; ENGINES])),
            connections: Mutex::default(),
            database: Database::default(),
            crashes: Arc::default(),
            phases: Mutex::default(),
            start: Instant::now(),
        })
    }

    async fn run(self: Arc<Self>) -> Result<SimulationResult, String> {
        let processes = TaskTracker::new();
        for number in 0..ENGINES {
            processes.spawn(self.clone().engine(number));
        }
        for number in 0..WORKERS {
            processes.spawn(self.clone().worker(number));
        }
        let mut flows = BTreeMap::new();
        for number in 0..RUNS {
            let run: RunId = format!("r{number}").parse().map_err(|error| format!("{error}"))?;
            let flow = flows::random(&self.rng);
            flows.insert(run.clone(), flow.clone());
            processes.spawn(self.clone().submit(run, flow));
        }
        processes.spawn(self.clone().simulate_operators(flows.keys().cloned().collect()));
        processes.spawn(self.clone().simulate_restarts());
        let run_all = async {
            sleep(FAULT_PERIOD).await;
            self.faults_active.store(false, Ordering::Relaxed);
            tokio::time::timeout(END_TIMEOUT, self.until_idle(&flows)).await
        };
        // A lost call is reported at once.
        let result = tokio::select! {
            biased;
            lost = lost_calls::find_lost_call(&self.engines, &self.broker) => Err(lost),
            result = run_all => Ok(result),
        };
        self.ended.cancel();
        processes.close();
        if tokio::time::timeout(STOP_TIMEOUT, processes.wait()).await.is_err() {
            let phases = self.phases.lock().expect("no thread panics while it holds the phases");
            return Err(format!("processes do not stop: {phases:?}"));
        }
        match result? {
            Ok(()) => self.verify(&flows).await,
            // The check reports the run that has not ended.
            Err(_) => Err(self.verify(&flows).await.err().unwrap_or_else(|| "it never becomes idle".into())),
        }
    }

    async fn verify(&self, flows: &BTreeMap<RunId, Arc<Flow>>) -> Result<SimulationResult, String> {
        let ledger = self.ledger.entries();
        let mut states = Vec::new();
        for run in flows.keys() {
            let records = self.logbook.read(run, Version::NONE, usize::MAX).await.map_err(|error| error.to_string())?;
            states.push((run.to_string(), check::run(run, &records, &ledger)?, records.len()));
        }
        Ok(SimulationResult {
            states,
            crashes: *self.crashes.lock().expect("no thread panics while it holds the lock"),
        })
    }

    /// Waits until every run has ended and no call or message is in flight.
    async fn until_idle(&self, flows: &BTreeMap<RunId, Arc<Flow>>) {
        let mut idle_checks = 0;
        let mut known_entries = 0;
        while idle_checks < 12 {
            sleep(Duration::from_secs(10)).await;
            let mut ended = true;
            for run in flows.keys() {
                match self.logbook.summary(run).await {
                    Ok(summary) if summary.info.state == RunState::Suspended => {
                        self.send_command(run, RunCommand::Resume).await;
                        ended = false;
                    }
                    Ok(summary) if summary.info.state == RunState::Failure => {
                        self.send_command(run, RunCommand::Retry).await;
                        ended = false;
                    }
                    Ok(summary) => ended &= summary.info.state.is_final(),
                    Err(_) => ended = false,
                }
            }
            let entries = self.ledger.entries().len();
            idle_checks = if ended && entries == known_entries { idle_checks + 1 } else { 0 };
            known_entries = entries;
        }
    }

    async fn submit(self: Arc<Self>, run: RunId, flow: Arc<Flow>) {
        while !self.ended.is_cancelled() {
            sleep(Duration::from_millis(self.rng.below(20_000))).await;
            let Some(engine) = self.some_engine() else { continue };
            let submit = engine.submit(run.clone(), flow.clone());
            let result = tokio::time::timeout(Duration::from_secs(30), submit).await;
            if matches!(result, Ok(Ok(_) | Err(SubmitError::Exists { .. }))) {
                return;
            }
        }
    }

    /// A random edit of the recorded flow of a run.
    async fn edit(&self, run: &RunId) -> Option<RunCommand> {
        let machine = self.logbook.load(run).await.ok()?.into_machine().ok()?;
        let flow = flows::edited(&self.rng, &machine)?;
        Some(RunCommand::Edit { revision: machine.revision(), flow })
    }

    /// At random times, the broker or the database restarts, or a connection is lost.
    async fn simulate_restarts(self: Arc<Self>) {
        loop {
            sleep(Duration::from_millis(3_000 + self.rng.below(17_000))).await;
            if !self.faults_active.load(Ordering::Relaxed) {
                return;
            }
            let connections = self.connections.lock().expect("no thread panics while it holds the lock").clone();
            match self.rng.below(4) {
                0 => self.database.restart(&self.rng).await,
                1 => futures::future::join_all(connections.iter().map(LossyConnection::drop_connection)).await.clear(),
                _ => {
                    let connection = connections.get(self.rng.below(connections.len() as u64) as usize);
                    futures::future::join_all(connection.map(LossyConnection::drop_connection)).await.clear();
                }
            }
        }
    }

    /// Operators suspend, resume, cancel and edit at random times.
    async fn simulate_operators(self: Arc<Self>, runs: Vec<RunId>) {
        while self.faults_active.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(2_000 + self.rng.below(20_000))).await;
            let run = &runs[self.rng.below(runs.len() as u64) as usize];
            let command = match self.rng.below(9) {
                0 => Some(RunCommand::Cancel),
                1 | 2 => Some(RunCommand::Suspend),
                3..6 => self.edit(run).await,
                _ => Some(RunCommand::Resume),
            };
            if let Some(command) = command {
                self.send_command(run, command).await;
            }
        }
    }

    async fn send_command(&self, run: &RunId, command: RunCommand) {
        if let Some(engine) = self.some_engine() {
            // A lost command is sent again later, or never needed.
            let _ = tokio::time::timeout(Duration::from_secs(30), engine.command(run, command)).await;
        }
    }

    fn some_engine(&self) -> Option<Engine> {
        let engines = self.engines.lock().expect("no thread panics while it holds the engines");
        let running: Vec<&Engine> = engines.iter().flatten().collect();
        running.get(self.rng.below(running.len() as u64) as usize).map(|engine| (*engine).clone())
    }

    fn fault_plan(&self) -> FaultPlan {
        let actions_left = Arc::new(AtomicU64::new(u64::MAX));
        FaultPlan {
            rng: self.rng.clone(),
            faults_active: self.faults_active.clone(),
            crash: CancellationToken::new(),
            actions_left,
            database: self.database.clone(),
        }
    }

    fn connect(&self, faults: &FaultPlan) -> Arc<dyn Broker> {
        let inner = LossyConnection::to(&self.broker);
        let mut connections = self.connections.lock().expect("no thread panics while it holds the lock");
        connections.retain(|connection| !connection.is_closed());
        connections.push(inner.clone());
        Arc::new(FaultyBroker::new(inner, faults.clone()))
    }

    fn enter(&self, kind: &str, number: usize, phase: &'static str) {
        self.phases
            .lock()
            .expect("no thread panics while it holds the phases")
            .insert(format!("{kind} {number}"), phase);
    }

    /// An engine that is restarted after each crash.
    async fn engine(self: Arc<Self>, number: usize) {
        let mut starts = 0;
        while !self.ended.is_cancelled() {
            starts += 1;
            let faults = self.fault_plan();
            let broker = self.connect(&faults);
            let logbook = Arc::new(InterceptedLogbook::new(self.logbook.clone(), Arc::new(faults.clone())));
            let config = Config {
                id: format!("e{number}-{starts}"),
                shards: ShardAssignment::Shared,
                max_open_runs: MaxOpenRuns::default(),
                memo_limits: logbook::MemoLimits::default(),
                host: String::new(),
                max_output: flow::Limits::maximum().output,
            };
            let (store, clock) = (Arc::new(store::Memory::new()), Arc::new(SimulatedClock(self.start)));
            self.enter("engine", number, "starts");
            if let Ok(engine) = Engine::start(config, broker.clone(), logbook, store, clock).await {
                self.engines.lock().expect("no thread panics while it holds the engines")[number] =
                    Some(engine.clone());
                self.enter("engine", number, "runs");
                self.until_crash(&faults).await;
                self.enter("engine", number, "is aborted");
                self.engines.lock().expect("no thread panics while it holds the engines")[number] = None;
                engine.abort().await;
            }
            self.enter("engine", number, "closes its connection");
            broker.close().await;
            self.enter("engine", number, "is down");
            sleep(Duration::from_millis(self.rng.below(5_000))).await;
        }
    }

    /// A worker that is restarted after each crash.
    async fn worker(self: Arc<Self>, number: usize) {
        let mut starts = 0;
        while !self.ended.is_cancelled() {
            starts += 1;
            let faults = self.fault_plan();
            let broker = self.connect(&faults);
            let guests = Simulated {
                seed: self.seed,
                start: self.start,
                rng: self.rng.clone(),
                ledger: self.ledger.clone(),
                stopped: CancellationToken::new(),
            };
            let config = worker::Config {
                name: format!("w{number}").parse().expect("a valid name"),
                host: "host".into(),
                instance: format!("{}-{number}-{starts}", self.seed),
                version: "1".into(),
                slots: 3,
                queues: vec!["default".parse().expect("a valid name")],
                own_slots: BTreeMap::new(),
                grace: Duration::from_secs(5),
                clock: {
                    let clock = SimulatedClock(self.start);
                    worker::WallClock::new(move || clock.now())
                },
                delivery_limit: flow::DELIVERY_LIMIT,
                journal: None,
            };
            self.enter("worker", number, "connects");
            if let Ok(worker) = Worker::connect(config, broker.clone(), Arc::new(guests)).await {
                let stop = CancellationToken::new();
                let run = worker.run(stop.clone(), CancellationToken::new());
                // A dropped worker crashes. Some workers are stopped in order, and may crash meanwhile.
                if self.rng.percent(30) {
                    self.enter("worker", number, "runs until it is stopped");
                    let stop_later = async {
                        self.until_crash(&faults).await;
                        stop.cancel();
                    };
                    tokio::select! {
                        biased;
                        () = faults.crash.cancelled() => {}
                        _ = futures::future::join(run, stop_later) => {}
                    }
                } else {
                    self.enter("worker", number, "runs until it is killed");
                    tokio::select! {
                        biased;
                        () = self.until_crash(&faults) => {}
                        () = run => {}
                    }
                }
            }
            self.enter("worker", number, "closes its connection");
            broker.close().await;
            self.enter("worker", number, "is down");
            sleep(Duration::from_millis(self.rng.below(5_000))).await;
        }
    }

    /// Waits until the process crashes, is killed, or the simulation ends.
    async fn until_crash(&self, faults: &FaultPlan) {
        let kill = async {
            loop {
                sleep(Duration::from_millis(5_000 + self.rng.below(40_000))).await;
                if self.faults_active.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => {}
            () = faults.crash.cancelled() => {}
            () = kill => {}
        }
        *self.crashes.lock().expect("no thread panics while it holds the lock") += 1;
    }
}
