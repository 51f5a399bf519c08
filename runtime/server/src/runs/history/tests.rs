//! Tests which runs are read in turn, who waits for whom, and that a run is as its records are.

use std::{collections::BTreeMap, pin::pin};

use flow::{RunState, Shard, Timestamp, Values};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use logbook::{
    Append, AppendError, MaxUnended, MemoChanges, Memory, RunInfo,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};
use machine::Event;

use super::*;
use crate::runs::show;

/// The turns are those of the process, so one test at a time takes them.
static TURNS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The text of a flow with so many tasks that wait, one after the other.
fn text(tasks: usize) -> String {
    let task = |number| format!("[[task]]\nname = \"w{number}\"\nwait = \"a word\"\n");
    format!("name = \"f\"\npattern = \"linear\"\n{}", (0..tasks).map(task).collect::<String>())
}

/// Adds a run of a text with at least so many records, and returns its machine.
async fn add_text(logbook: &Memory, run: &str, flow: &str, (text, records): (&str, usize)) -> Machine {
    let draft = flow::file::parse(text).unwrap();
    let (wired, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).unwrap();
    let source = flow::FlowSource { text: text.into(), modules: BTreeMap::new(), edits: Vec::new() };
    let wired = flow::Flow { origin: Some(Arc::new(source)), ..wired };
    let run: RunId = run.parse().unwrap();
    let mut machine = Machine::new(run.clone(), Arc::new(wired));
    let at = Timestamp::from_micros(1);
    let mut all = machine.step(at, &Event::Start).records;
    while all.len() < records {
        all.extend(machine.step(at, &Event::Suspend).records);
        all.extend(machine.step(at, &Event::Resume).records);
    }
    let append = Append {
        run,
        follows: Version::NONE,
        records: all,
        info: RunInfo { shard: Shard::new("s").unwrap(), flow: flow.parse().unwrap(), state: RunState::Running },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    };
    logbook.append(vec![append]).await.unwrap();
    machine
}

async fn add(logbook: &Memory, run: &str, flow: &str, records: usize) -> Machine {
    add_text(logbook, run, flow, (&text(1), records)).await
}

/// The logbook with a long and a short run of each of two namespaces.
async fn logbook() -> Arc<dyn Logbook> {
    let logbook = Memory::new();
    for namespace in ["greedy", "other"] {
        add(&logbook, &format!("{namespace}-long"), &format!("{namespace}/f"), 10 * PAGE_RECORDS).await;
        add(&logbook, &format!("{namespace}-short"), &format!("{namespace}/f"), 10).await;
    }
    Arc::new(logbook)
}

fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

async fn load(logbook: &Arc<dyn Logbook>, name: &str) -> LoadedRun {
    load_run(logbook, &run(name)).await.unwrap()
}

async fn replay(logbook: &Arc<dyn Logbook>, name: &str) -> LoadedRun {
    let summary = logbook.summary(&run(name)).await.unwrap();
    replay_run(logbook, &summary, ()).await.unwrap().0
}

#[tokio::test]
async fn long_runs_of_a_namespace_leave_a_turn_and_short_ones_need_none() {
    let _alone = TURNS.lock().await;
    let logbook = logbook().await;
    let (first, second) = (load(&logbook, "greedy-long").await, replay(&logbook, "greedy-long").await);
    assert!(first.turn.is_some() && second.turn.is_some());
    let mut third = pin!(load(&logbook, "greedy-long"));
    // Each is given the time in which a third one would be read, if it did not wait.
    for name in ["greedy-short", "other-long", "greedy-short", "other-long"] {
        let other = pin!(async {
            let had_turn = load(&logbook, name).await.turn.is_some();
            (had_turn, replay(&logbook, name).await.turn.is_some())
        });
        let Either::Right((had_turns, _)) = select(third.as_mut(), other).await else {
            panic!("the last turn is for another namespace")
        };
        assert_eq!(had_turns, (name == "other-long", name == "other-long"), "{name}");
    }
    // A run has its turn until its answer is made.
    let version = first.answer(|machine| machine.revision().get()).await;
    assert_eq!(version, 1);
    drop(third.await);
    drop(second);
}

#[tokio::test]
async fn a_turn_does_not_end_with_the_request_but_with_its_work() {
    let _alone = TURNS.lock().await;
    let logbook = logbook().await;
    let (first, second) = (load(&logbook, "greedy-long").await, load(&logbook, "greedy-long").await);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let mut request = Box::pin(first.answer(move |_| {
        begun.send(()).unwrap();
        ended.recv().is_err()
    }));
    let begin = spawn_blocking(move || has_begun.recv().is_ok());
    assert!(matches!(select(request.as_mut(), begin).await, Either::Right((Ok(true), _))), "the answer is being made");
    drop(request);
    let mut third = pin!(load(&logbook, "greedy-long"));
    for _ in 0..4 {
        let other = pin!(load(&logbook, "other-long"));
        assert!(matches!(select(third.as_mut(), other).await, Either::Right(_)), "the answer is still being made");
    }
    drop(end);
    drop(third.await);
    drop(second);
}

#[tokio::test]
async fn many_long_shows_of_a_namespace_do_not_delay_those_of_another() {
    let _alone = TURNS.lock().await;
    let logbook = logbook().await;
    let store = store::Memory::new();
    let show = async |name: &'static str| {
        show::read(&logbook, &store, &run(name)).await.unwrap();
        name
    };
    let mut shows: FuturesUnordered<_> = (0..20).map(|_| show("greedy-long")).collect();
    assert!(shows.next().now_or_never().is_none(), "they have begun");
    shows.push(show("other-short"));
    shows.push(show("other-long"));
    let order: Vec<&str> = shows.collect().await;
    // Two of the others have turns at the same time, and began earlier.
    for name in ["other-short", "other-long"] {
        let position = order.iter().position(|shown| *shown == name).unwrap();
        assert!(position <= 6, "{order:?}");
    }
}

#[tokio::test]
async fn a_run_of_few_records_needs_a_turn_if_it_takes_much_memory() {
    let _alone = TURNS.lock().await;
    let memory = Memory::new();
    // Its text alone is large.
    let large = format!("# {}\n{}", "x".repeat(300 << 10), text(1));
    add_text(&memory, "text", "f", (&large, 1)).await;
    // Its nodes are many.
    add_text(&memory, "nodes", "f", (&text(1_000), 1)).await;
    add_text(&memory, "small", "f", (&text(100), 1)).await;
    let logbook: Arc<dyn Logbook> = Arc::new(memory);
    assert!(logbook.stored_bytes(&run("nodes")).await.unwrap() < SHORT_BYTES, "its bytes do not show it");
    for (name, needs_turn) in [("text", true), ("nodes", true), ("small", false)] {
        assert!(logbook.summary(&run(name)).await.unwrap().version.get() < PAGE_RECORDS as u64);
        assert_eq!(load(&logbook, name).await.turn.is_some(), needs_turn, "{name}");
        assert_eq!(replay(&logbook, name).await.turn.is_some(), needs_turn, "{name}");
    }
}

/// Counts the records and changes that it gets, and needs no more after some records.
#[derive(Default)]
struct Counter {
    starts: usize,
    records: usize,
    applied: usize,
    enough: Option<usize>,
}

impl Collector for Counter {
    fn start(&mut self, _: &Replay) {
        self.starts += 1;
    }

    fn add_record(&mut self, _: &Record, machine: Option<&Machine>) {
        assert_eq!(machine.is_some(), self.records > 0, "the first record starts the run");
        self.records += 1;
    }

    fn add_applied(&mut self, _: AppliedRecord, _: &Machine) {
        self.applied += 1;
    }

    fn is_complete(&self) -> bool {
        self.enough.is_some_and(|enough| self.records >= enough)
    }
}

#[tokio::test]
async fn each_record_is_collected_once_until_the_collector_is_complete() {
    let _alone = TURNS.lock().await;
    let logbook = logbook().await;
    for (name, enough) in [("greedy-long", None), ("greedy-short", None), ("greedy-long", Some(1))] {
        let summary = logbook.summary(&run(name)).await.unwrap();
        let counter = Counter { enough, ..Counter::default() };
        let (loaded, counter) = replay_run(&logbook, &summary, counter).await.unwrap();
        let expected = if enough.is_some() { PAGE_RECORDS } else { usize::try_from(summary.version.get()).unwrap() };
        assert_eq!((counter.starts, counter.records, counter.applied), (1, expected, expected), "{name}");
        let (loaded, state) = loaded.look(Machine::state).await;
        assert_eq!(state, loaded.machine().state());
    }
}

/// Loads few records at once, as a logbook does if they are large.
struct FewRecords;

#[async_trait::async_trait]
impl AppendInterceptor for FewRecords {
    async fn before(&self, _appends: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    fn max_loaded_records(&self) -> usize {
        3
    }
}

#[tokio::test]
async fn a_loaded_run_is_as_its_records_are() {
    let _alone = TURNS.lock().await;
    let memory = Memory::new();
    let live = [("long", 3 * PAGE_RECORDS), ("short", 10)];
    let mut machines = Vec::new();
    for (name, records) in live {
        machines.push(add(&memory, name, "f", records).await);
    }
    let logbook: Arc<dyn Logbook> = Arc::new(memory);
    let few: Arc<dyn Logbook> = Arc::new(InterceptedLogbook::new(logbook.clone(), Arc::new(FewRecords)));
    for ((name, _), live) in live.iter().zip(&machines) {
        let is_as_live = |loaded: &LoadedRun, needs_turn: bool| {
            assert!(*loaded.machine() == *live && loaded.turn.is_some() == needs_turn, "{name}");
        };
        is_as_live(&load(&logbook, name).await, *name == "long");
        is_as_live(&replay(&logbook, name).await, *name == "long");
        is_as_live(&load(&few, name).await, true);
    }
    // From a snapshot.
    let version = logbook.summary(&run("long")).await.unwrap().version;
    logbook.save_snapshot(&run("long"), version, machines[0].snapshot()).await.unwrap();
    let (machine, _turn) = load_machine(&logbook, &run("long")).await.unwrap();
    assert!(machine == machines[0]);
    let missing = load_run(&logbook, &run("missing")).await;
    assert!(matches!(missing, Err(LoadError::Missing { .. })));
}
