//! Tests a crash at every step: the engine crashes around its k-th durable or visible action, for every k, and another engine
//! continues. In each case the run ends in the same way as without a crash.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use broker::{InProcess, lossy::LossyConnection};
use engine::{Clock, Config, Engine, MaxOpenRuns, ShardAssignment};
use flow::{Flow, Revision, RunId, RunState};
use logbook::{Logbook, Memory, Version, intercepted::InterceptedLogbook};
use protocol::RunCommand;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use worker::Worker;

use super::{
    check,
    environment::SimulatedClock,
    faulty_broker::{Database, FaultPlan, FaultyBroker},
    flows,
    guests::{Ledger, Simulated},
    rng::SeededRng,
};

/// The flows to crash in: each has a name, the seed of its guests' results, and its text.
const FLOWS: [(&str, u64, &str); 11] = [
    (
        "a chain that succeeds",
        3,
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#undoable\"\n[[task]]\nname = \"b\"\nuse = \"g#undoable\"\n",
    ),
    (
        "branches with attempts",
        11,
        "[[task]]\nname = \"a\"\nuse = \"g#undoable\"\nretry = { attempts = 3 }\n[[task]]\nname = \"b\"\nuse = \"g#undoable\"\nretry = { attempts = 3 }\n\
         [[task]]\nname = \"c\"\nuse = \"g#undoable\"\n[[link]]\nfrom = \"a\"\nto = \"c\"\n[[link]]\nfrom = \"b\"\nto = \"c\"\n",
    ),
    (
        "a controller that retries",
        5,
        "[[task]]\nname = \"a\"\nuse = \"g#undoable\"\n[[flow]]\nname = \"n\"\nretry = { times = 3 }\n[[flow.task]]\nname = \"b\"\nuse = \"g#undoable\"\n\
         [[flow.task]]\nname = \"c\"\nuse = \"g#undoable\"\n[[flow.link]]\nfrom = \"b\"\nto = \"c\"\n",
    ),
    (
        "conditions, and a listener to a failure",
        ROLLS_BACK,
        "[[task]]\nname = \"a\"\nuse = \"g#undoable\"\n[[task]]\nname = \"b\"\nuse = \"g#undoable\"\n[[task]]\nname = \"c\"\nuse = \"g#undoable\"\n\
         [[task]]\nname = \"left-out\"\nuse = \"g#undoable\"\n[[task]]\nname = \"listener\"\nuse = \"g#plain\"\n\
         [[link]]\nfrom = \"a\"\nto = \"b\"\nwhen = \"true\"\n[[link]]\nfrom = \"b\"\nto = \"c\"\n\
         [[link]]\nfrom = \"a\"\nto = \"left-out\"\nwhen = \"false\"\n[[link]]\nfrom = \"c\"\nto = \"listener\"\non = \"any\"\n",
    ),
    (
        "times and deadlines",
        3,
        "pattern = \"linear\"\nstart_after = \"1s\"\n[[task]]\nname = \"a\"\nuse = \"g#undoable\"\n\
         [[task]]\nname = \"b\"\nuse = \"g#undoable\"\nstart_after = \"5s\"\n\
         [[task]]\nname = \"c\"\nwait = \"word\"\ndeadline = \"1m\"\n",
    ),
    (
        "each element of a list",
        3,
        "[[task]]\nname = \"a\"\nuse = \"g#made\"\nfor_each = [0, 1, 2]\nmax_parallel = 2\nretry = { attempts = 4 }\n\
         [[task]]\nname = \"b\"\nuse = \"g#undoable\"\n[[link]]\nfrom = \"a\"\nto = \"b\"\n",
    ),
    (
        "a circle",
        3,
        "cyclic = true\nmax_firings = 3\n[[task]]\nname = \"a\"\nuse = \"g#undoable\"\nretry = { attempts = 3 }\n\
         [[task]]\nname = \"b\"\nuse = \"g#undoable\"\nretry = { attempts = 3 }\n\
         [[link]]\nfrom = \"a\"\nto = \"b\"\n[[link]]\nfrom = \"b\"\nto = \"a\"\n",
    ),
    (
        "a circle without calls",
        3,
        "cyclic = true\nmax_firings = 4\ninputs = { none = [] }\n[[task]]\nname = \"a\"\nuse = \"g#made\"\nfor_each = \"none\"\n\
         [[link]]\nfrom = \"a\"\nto = \"a\"\n",
    ),
    (
        "a schedule of a persistent flow",
        3,
        "persistent = true\nmax_firings = 2\n[[task]]\nname = \"a\"\nuse = \"g#undoable\"\nretry = { attempts = 4 }\n\
         [[schedule]]\ncron = \"*/15 * * * * *\"\nto = \"a\"\nmissed = \"all\"\noverlap = \"queue\"\n",
    ),
    (
        EDITED,
        3,
        "[[task]]\nname = \"a\"\nuse = \"g#undoable\"\nretry = { attempts = 4 }\n\
         [[task]]\nname = \"b\"\nwait = \"word\"\ndeadline = \"1m\"\n",
    ),
    (
        "a rollback",
        ROLLS_BACK,
        "pattern = \"linear\"\n[[task]]\nname = \"a\"\nuse = \"g#undoable\"\n[[task]]\nname = \"b\"\nuse = \"g#undoable\"\n[[task]]\nname = \"c\"\nuse = \"g#undoable\"\n",
    ),
];

/// The name of the flow that is edited while it runs.
const EDITED: &str = "a flow that is edited";
const ADDED: &str =
    "[[task]]\nname = \"c\"\nuse = \"g#undoable\"\nretry = { attempts = 4 }\n[[link]]\nfrom = \"a\"\nto = \"c\"\n";

/// A seed with which the third task fails.
const ROLLS_BACK: u64 = 2;

#[test]
fn a_crash_at_any_step_does_not_change_the_result() {
    let mut states = Vec::new();
    for (name, seed, text) in FLOWS {
        let expected = run(seed, text, u64::MAX, name == EDITED).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(name != EDITED || expected.nodes.contains_key("c"), "{name}: {:?}", expected.nodes);
        let mut steps = 0;
        loop {
            steps += 1;
            let outcome =
                run(seed, text, steps, name == EDITED).unwrap_or_else(|error| panic!("{name}, step {steps}: {error}"));
            assert_eq!(outcome.state, expected.state, "{name}, a crash at step {steps}");
            assert_eq!(outcome.nodes, expected.nodes, "{name}, a crash at step {steps}");
            if !outcome.crashed {
                break;
            }
        }
        assert!(steps > 10, "{name} has more than {steps} steps");
        states.push(expected.state);
    }
    assert!(states.contains(&RunState::Success) && states.contains(&RunState::RolledBack), "{states:?}");
}

struct RunOutcome {
    state: RunState,
    nodes: BTreeMap<String, flow::State>,
    crashed: bool,
}

fn run(seed: u64, text: &str, crash_at: u64, is_edited: bool) -> Result<RunOutcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let flow = flows::wired(&format!("name = \"f\"\n{text}[modules]\ng = \"g.wasm\"\n"));
    let edited = is_edited.then(|| flows::with(&flow, ADDED));
    runtime.block_on(run_to_end(seed, (flow, edited), crash_at))
}

async fn run_to_end(
    seed: u64,
    (flow, edited): (Arc<Flow>, Option<Arc<Flow>>),
    crash_at: u64,
) -> Result<RunOutcome, String> {
    let (broker, start) = (InProcess::new(), Instant::now());
    let logbook: Arc<dyn Logbook> = Arc::new(Memory::new());
    let (rng, ledger) = (SeededRng::new(seed), Ledger::default());
    let guests = Simulated { seed, start, rng: rng.clone(), ledger: ledger.clone(), stopped: CancellationToken::new() };
    let worker = Worker::connect(worker_config(start), Arc::new(broker.connect()), Arc::new(guests)).await;
    let worker = worker.map_err(|error| error.to_string())?.run(CancellationToken::new(), CancellationToken::new());
    let engines = Engines { broker, logbook: logbook.clone(), rng, start, flow, edited };
    let run: RunId = "r".parse().expect("a valid name");
    let crashed = tokio::select! {
        biased;
        result = engines.drive(&run, crash_at) => result?,
        () = worker => return Err("the worker ended".into()),
    };
    let records = logbook.read(&run, Version::NONE, usize::MAX).await.map_err(|error| error.to_string())?;
    let state = check::run(&run, &records, &ledger.entries())?;
    let machine = machine::Machine::replay(run, &records).map_err(|error| error.to_string())?;
    let tasks = machine.flow().tasks();
    let nodes = tasks.map(|(index, name, _)| (name.to_string(), machine.node_state(index))).collect();
    Ok(RunOutcome { state, nodes, crashed })
}

fn worker_config(start: Instant) -> worker::Config {
    worker::Config {
        name: "w".parse().expect("a valid name"),
        host: "host".into(),
        instance: "w".into(),
        version: "1".into(),
        slots: 2,
        queues: vec!["default".parse().expect("a valid name")],
        own_slots: BTreeMap::new(),
        grace: Duration::ZERO,
        clock: worker::WallClock::new(move || SimulatedClock(start).now()),
        delivery_limit: flow::DELIVERY_LIMIT,
        journal: None,
    }
}

/// The engines that drive a run one after another: each starts after the crash of the previous one.
struct Engines {
    broker: InProcess,
    logbook: Arc<dyn Logbook>,
    rng: SeededRng,
    start: Instant,
    flow: Arc<Flow>,
    /// The flow after an edit, if the run is edited.
    edited: Option<Arc<Flow>>,
}

impl Engines {
    /// Drives the run to its end. Only the first engine crashes, around its action `crash_at`; returns whether it did.
    async fn drive(&self, run: &RunId, mut crash_at: u64) -> Result<bool, String> {
        let mut crashed = false;
        for start_number in 0.. {
            let faults = FaultPlan {
                rng: self.rng.clone(),
                faults_active: Arc::new(AtomicBool::new(false)),
                crash: CancellationToken::new(),
                actions_left: Arc::new(AtomicU64::new(crash_at)),
                database: Database::default(),
            };
            crash_at = u64::MAX;
            let engine = tokio::select! {
                biased;
                () = faults.crash.cancelled() => None,
                engine = self.start_engine(&faults, start_number) => Some(engine?),
            };
            if let Some(engine) = engine {
                let until_final = self.run_until_final(&engine, run);
                let has_ended = faults.crash.run_until_cancelled(until_final).await.is_some();
                engine.abort().await;
                if has_ended {
                    return Ok(crashed);
                }
            }
            crashed = true;
        }
        Ok(crashed)
    }

    async fn start_engine(&self, faults: &FaultPlan, start_number: u32) -> Result<Engine, String> {
        let broker = Arc::new(FaultyBroker::new(LossyConnection::to(&self.broker), faults.clone()));
        let logbook = Arc::new(InterceptedLogbook::new(self.logbook.clone(), Arc::new(faults.clone())));
        let config = Config {
            id: format!("e{start_number}"),
            shards: ShardAssignment::Shared,
            max_open_runs: MaxOpenRuns::default(),
            memo_limits: logbook::MemoLimits::default(),
            host: String::new(),
            max_output: flow::Limits::maximum().output,
        };
        let (store, clock) = (Arc::new(store::Memory::new()), Arc::new(SimulatedClock(self.start)));
        let engine = Engine::start(config, broker, logbook, store, clock).await;
        engine.map_err(|error| error.to_string())
    }

    async fn run_until_final(&self, engine: &Engine, run: &RunId) {
        // An earlier engine may have submitted it.
        let _ = engine.submit(run.clone(), self.flow.clone()).await;
        if let Some(flow) = self.edited.clone() {
            // An earlier engine may have recorded this edit, which is then rejected.
            let _ = engine.command(run, RunCommand::Edit { revision: Revision::FIRST, flow }).await;
        }
        let is_final = |summary: logbook::Summary| summary.info.state.is_final();
        while !self.logbook.summary(run).await.is_ok_and(is_final) {
            sleep(Duration::from_millis(100)).await;
        }
    }
}
