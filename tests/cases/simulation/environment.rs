//! A world: two engines, two workers, some runs, a storm and the calm after it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{Broker, InProcess, lossy::LossyConnection};
use engine::{Clock, Config, Engine, ShardAssignment, SubmitError};
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

/// How long things go wrong.
const FAULT_PERIOD: Duration = Duration::from_secs(90);

/// By when everything has come to its end: lost workers, leases and retries take their time.
const END_TIMEOUT: Duration = Duration::from_secs(3_600);

/// By when all processes have stopped after the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(600);

/// How a world ended: the states of its runs, and how often processes died.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SimulationResult {
    pub(crate) states: Vec<(String, RunState, usize)>,
    pub(crate) crashes: u64,
}

/// Lives one world to its end.
pub(crate) fn run_simulation(seed: u64) -> Result<SimulationResult, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let lived = runtime.block_on(Simulation::new(seed).live());
    runtime.shutdown_background();
    lived
}

struct Simulation {
    seed: u64,
    dice: SeededRng,
    broker: InProcess,
    logbook: Arc<dyn Logbook>,
    ledger: Ledger,
    storm: Arc<AtomicBool>,
    over: CancellationToken,
    engines: Arc<Mutex<Vec<Option<Engine>>>>,
    /// The connections of all processes, dead ones too.
    connections: Mutex<Vec<LossyConnection>>,
    database: Database,
    crashes: Arc<Mutex<u64>>,
    /// What each process does now, by its name: for the report of one that does not stop.
    phases: Mutex<BTreeMap<String, &'static str>>,
    start: Instant,
}

/// A clock that goes with the time of the world.
pub(crate) struct WorldClock(pub(crate) Instant);

impl Clock for WorldClock {
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
            dice: SeededRng::new(seed),
            broker: InProcess::new(),
            logbook: Arc::new(Memory::new()),
            ledger: Ledger::default(),
            storm: Arc::new(AtomicBool::new(true)),
            over: CancellationToken::new(),
            engines: Arc::new(Mutex::new(vec![None; ENGINES])),
            connections: Mutex::default(),
            database: Database::default(),
            crashes: Arc::default(),
            phases: Mutex::default(),
            start: Instant::now(),
        })
    }

    async fn live(self: Arc<Self>) -> Result<SimulationResult, String> {
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
            let flow = flows::random(&self.dice);
            flows.insert(run.clone(), flow.clone());
            processes.spawn(self.clone().submit(run, flow));
        }
        processes.spawn(self.clone().simulate_operators(flows.keys().cloned().collect()));
        processes.spawn(self.clone().simulate_restarts());
        let living = async {
            sleep(FAULT_PERIOD).await;
            self.storm.store(false, Ordering::Relaxed);
            tokio::time::timeout(END_TIMEOUT, self.until_idle(&flows)).await
        };
        // What is forgotten is told at once, with where everything else is.
        let ended = tokio::select! {
            biased;
            forgotten = lost_calls::find_lost_call(&self.engines, &self.broker) => Err(forgotten),
            ended = living => Ok(ended),
        };
        self.over.cancel();
        processes.close();
        if tokio::time::timeout(STOP_TIMEOUT, processes.wait()).await.is_err() {
            let phases = self.phases.lock().expect("nobody panics with the phases");
            return Err(format!("processes do not stop: {phases:?}"));
        }
        match ended? {
            Ok(()) => self.verify(&flows).await,
            // What has not ended says so itself.
            Err(_) => Err(self.verify(&flows).await.err().unwrap_or_else(|| "it never comes to rest".into())),
        }
    }

    async fn verify(&self, flows: &BTreeMap<RunId, Arc<Flow>>) -> Result<SimulationResult, String> {
        let ledger = self.ledger.entries();
        let mut states = Vec::new();
        for run in flows.keys() {
            let records = self.logbook.read(run, Version::NONE, usize::MAX).await.map_err(|error| error.to_string())?;
            states.push((run.to_string(), check::run(run, &records, &ledger)?, records.len()));
        }
        Ok(SimulationResult { states, crashes: *self.crashes.lock().expect("nobody panics with it") })
    }

    /// Waits until every run has ended and nothing is on its way any more.
    async fn until_idle(&self, flows: &BTreeMap<RunId, Arc<Flow>>) {
        let mut quiet = 0;
        let mut known = 0;
        while quiet < 12 {
            sleep(Duration::from_secs(10)).await;
            let mut ended = true;
            for run in flows.keys() {
                match self.logbook.summary(run).await {
                    Ok(summary) if summary.standing.state == RunState::Suspended => {
                        self.send_command(run, RunCommand::Resume).await;
                        ended = false;
                    }
                    Ok(summary) if summary.standing.state == RunState::Failure => {
                        self.send_command(run, RunCommand::Retry).await;
                        ended = false;
                    }
                    Ok(summary) => ended &= summary.standing.state.is_final(),
                    Err(_) => ended = false,
                }
            }
            let done = self.ledger.entries().len();
            quiet = if ended && done == known { quiet + 1 } else { 0 };
            known = done;
        }
    }

    async fn submit(self: Arc<Self>, run: RunId, flow: Arc<Flow>) {
        while !self.over.is_cancelled() {
            sleep(Duration::from_millis(self.dice.below(20_000))).await;
            let Some(engine) = self.some_engine() else { continue };
            let submitting = engine.submit(run.clone(), flow.clone());
            let submitted = tokio::time::timeout(Duration::from_secs(30), submitting).await;
            if matches!(submitted, Ok(Ok(_) | Err(SubmitError::Exists { .. }))) {
                return;
            }
        }
    }

    /// A change of a run's flow, as far as it was recorded by now.
    async fn edit(&self, run: &RunId) -> Option<RunCommand> {
        let machine = self.logbook.load(run).await.ok()?.into_machine().ok()?;
        let flow = flows::edited(&self.dice, &machine)?;
        Some(RunCommand::Edit { revision: machine.revision(), flow })
    }

    /// The broker and the database are restarted now and then, and connections are lost.
    async fn simulate_restarts(self: Arc<Self>) {
        loop {
            sleep(Duration::from_millis(3_000 + self.dice.below(17_000))).await;
            if !self.storm.load(Ordering::Relaxed) {
                return;
            }
            let connections = self.connections.lock().expect("nobody panics with them").clone();
            match self.dice.below(4) {
                0 => self.database.restart(&self.dice).await,
                1 => futures::future::join_all(connections.iter().map(LossyConnection::drop_connection)).await.clear(),
                _ => {
                    let one = connections.get(self.dice.below(connections.len() as u64) as usize);
                    futures::future::join_all(one.map(LossyConnection::drop_connection)).await.clear();
                }
            }
        }
    }

    /// People suspend, resume, cancel and edit now and then.
    async fn simulate_operators(self: Arc<Self>, runs: Vec<RunId>) {
        while self.storm.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(2_000 + self.dice.below(20_000))).await;
            let run = &runs[self.dice.below(runs.len() as u64) as usize];
            let wish = match self.dice.below(9) {
                0 => Some(RunCommand::Cancel),
                1 | 2 => Some(RunCommand::Suspend),
                3..6 => self.edit(run).await,
                _ => Some(RunCommand::Resume),
            };
            if let Some(wish) = wish {
                self.send_command(run, wish).await;
            }
        }
    }

    async fn send_command(&self, run: &RunId, wish: RunCommand) {
        if let Some(engine) = self.some_engine() {
            // Whether it was heard shows in the records, or it is wished again.
            let _ = tokio::time::timeout(Duration::from_secs(30), engine.command(run, wish)).await;
        }
    }

    fn some_engine(&self) -> Option<Engine> {
        let engines = self.engines.lock().expect("nobody panics with the engines");
        let alive: Vec<&Engine> = engines.iter().flatten().collect();
        alive.get(self.dice.below(alive.len() as u64) as usize).map(|engine| (*engine).clone())
    }

    fn fate(&self) -> FaultPlan {
        let actions_left = Arc::new(AtomicU64::new(u64::MAX));
        FaultPlan {
            dice: self.dice.clone(),
            faults_active: self.storm.clone(),
            crash: CancellationToken::new(),
            actions_left,
            database: self.database.clone(),
        }
    }

    fn net(&self, fate: &FaultPlan) -> Arc<dyn Broker> {
        let inner = LossyConnection::to(&self.broker);
        let mut connections = self.connections.lock().expect("nobody panics with them");
        connections.retain(|connection| !connection.is_closed());
        connections.push(inner.clone());
        Arc::new(FaultyBroker { inner, faults: fate.clone() })
    }

    fn enter(&self, kind: &str, number: usize, phase: &'static str) {
        self.phases.lock().expect("nobody panics with the phases").insert(format!("{kind} {number}"), phase);
    }

    /// An engine that is started again whenever it dies.
    async fn engine(self: Arc<Self>, number: usize) {
        let mut starts = 0;
        while !self.over.is_cancelled() {
            starts += 1;
            let fate = self.fate();
            let broker = self.net(&fate);
            let logbook = Arc::new(InterceptedLogbook::new(self.logbook.clone(), Arc::new(fate.clone())));
            let config = Config { id: format!("e{number}-{starts}"), shards: ShardAssignment::Shared };
            let (store, clock) = (Arc::new(store::Memory::new()), Arc::new(WorldClock(self.start)));
            self.enter("engine", number, "starts");
            if let Ok(engine) = Engine::start(config, broker.clone(), logbook, store, clock).await {
                self.engines.lock().expect("nobody panics with the engines")[number] = Some(engine.clone());
                self.enter("engine", number, "runs");
                self.until_crash(&fate).await;
                self.enter("engine", number, "is aborted");
                self.engines.lock().expect("nobody panics with the engines")[number] = None;
                engine.abort().await;
            }
            self.enter("engine", number, "closes its connection");
            broker.close().await;
            self.enter("engine", number, "is down");
            sleep(Duration::from_millis(self.dice.below(5_000))).await;
        }
    }

    /// A worker that is started again whenever it dies.
    async fn worker(self: Arc<Self>, number: usize) {
        let mut starts = 0;
        while !self.over.is_cancelled() {
            starts += 1;
            let fate = self.fate();
            let broker = self.net(&fate);
            let guests = Simulated {
                seed: self.seed,
                start: self.start,
                dice: self.dice.clone(),
                ledger: self.ledger.clone(),
                stopped: CancellationToken::new(),
            };
            let config = worker::Config {
                name: format!("w{number}").parse().expect("a lawful name"),
                host: "here".into(),
                instance: format!("{}-{number}-{starts}", self.seed),
                version: "1".into(),
                slots: 3,
                queues: vec!["default".parse().expect("a lawful name")],
                grace: Duration::from_secs(5),
                since: WorldClock(self.start).now(),
                delivery_limit: flow::DELIVERY_LIMIT,
            };
            self.enter("worker", number, "connects");
            if let Ok(worker) = Worker::connect(config, broker.clone(), Arc::new(guests)).await {
                let stop = CancellationToken::new();
                let running = worker.run(stop.clone(), CancellationToken::new());
                // Dropped, it crashes; now and then it is stopped in order, and may crash meanwhile.
                if self.dice.percent(30) {
                    self.enter("worker", number, "runs until it is stopped");
                    let stopping = async {
                        self.until_crash(&fate).await;
                        stop.cancel();
                    };
                    tokio::select! {
                        biased;
                        () = fate.crash.cancelled() => {}
                        _ = futures::future::join(running, stopping) => {}
                    }
                } else {
                    self.enter("worker", number, "runs until it is killed");
                    tokio::select! {
                        biased;
                        () = self.until_crash(&fate) => {}
                        () = running => {}
                    }
                }
            }
            self.enter("worker", number, "closes its connection");
            broker.close().await;
            self.enter("worker", number, "is down");
            sleep(Duration::from_millis(self.dice.below(5_000))).await;
        }
    }

    /// Waits until the process dies: of what happened to it, of a signal, or with the world.
    async fn until_crash(&self, fate: &FaultPlan) {
        let killed = async {
            loop {
                sleep(Duration::from_millis(5_000 + self.dice.below(40_000))).await;
                if self.storm.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.over.cancelled() => {}
            () = fate.crash.cancelled() => {}
            () = killed => {}
        }
        *self.crashes.lock().expect("nobody panics with it") += 1;
    }
}
