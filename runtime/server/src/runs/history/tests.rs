//! Tests who waits for whom, and what a short history is.

use std::collections::BTreeMap;

use flow::{RunState, Shard, Timestamp, Values};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use logbook::{
    Append, AppendError, MaxUnended, MemoChanges, Memory, RunInfo,
    intercepted::{AppendInterceptor, InterceptedLogbook},
};
use machine::Event;

use super::*;
use crate::runs::show;

/// Adds a run with at least so many records, and returns its machine.
async fn add(logbook: &Memory, run: &str, flow: &str, records: usize) -> Machine {
    let text = "name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n";
    let draft = flow::file::parse(text).unwrap();
    let (wired, _) = flow::wire(&draft, &BTreeMap::new(), &Values::new()).unwrap();
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

async fn opened(logbook: &Arc<dyn Logbook>, name: &str) -> HistoryReader {
    HistoryReader::open(logbook, &run(name)).await.unwrap()
}

/// Whether a reader gets its next page at once.
fn reads(reader: &mut HistoryReader) -> bool {
    reader.read().now_or_never().is_some_and(|page| !page.unwrap().records.is_empty())
}

#[tokio::test]
async fn long_histories_of_a_namespace_leave_a_turn_and_short_ones_need_none() {
    let logbook = logbook().await;
    let (mut first, mut second) = (opened(&logbook, "greedy-long").await, opened(&logbook, "greedy-long").await);
    assert!(reads(&mut first) && reads(&mut second));
    let mut third = opened(&logbook, "greedy-long").await;
    assert!(!reads(&mut third), "the last turn is for another namespace");
    let mut short = opened(&logbook, "greedy-short").await;
    assert!(reads(&mut short), "a short history needs no turn");
    let mut other = opened(&logbook, "other-long").await;
    assert!(reads(&mut other));
    let mut another = opened(&logbook, "other-long").await;
    assert!(!reads(&mut another), "there are no more turns");
    assert!(load_machine(&logbook, &run("greedy-long")).now_or_never().is_none(), "it needs a turn too");
    drop((other, another));
    // A request that is dropped leaves its turn.
    drop(first);
    assert!(reads(&mut third));
    drop((second, third));
    let loaded = load_machine(&logbook, &run("greedy-long")).await.unwrap();
    assert!(reads(&mut opened(&logbook, "greedy-long").await));
    let mut kept = opened(&logbook, "greedy-long").await;
    assert!(reads(&mut kept));
    assert!(!reads(&mut opened(&logbook, "greedy-long").await), "a loaded run has its turn");
    drop(loaded);
    assert!(reads(&mut opened(&logbook, "greedy-long").await));
}

#[tokio::test]
async fn many_long_shows_of_a_namespace_do_not_delay_those_of_another() {
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
    assert_eq!(order[0], "other-short", "{order:?}");
    let long = order.iter().position(|name| *name == "other-long").unwrap();
    // Two of the others have turns at the same time, and began earlier.
    assert!(long <= 4, "{order:?}");
}

#[tokio::test]
async fn a_history_that_is_not_read_at_once_needs_a_turn() {
    let logbook = logbook().await;
    let summary = logbook.summary(&run("greedy-short")).await.unwrap();
    // As if its records were too large for one page.
    let many = Summary { version: Version::new(PAGE_RECORDS as u64), ..summary };
    let mut reader = HistoryReader::of(&many, &logbook);
    let page = reader.read().await.unwrap();
    assert!(reader.turn.is_some() && page.starts_replay && !page.records.is_empty());
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
    let memory = Memory::new();
    let live = [("long", 3 * PAGE_RECORDS), ("short", 10)];
    let mut machines = Vec::new();
    for (name, records) in live {
        machines.push(add(&memory, name, "f", records).await);
    }
    let logbook: Arc<dyn Logbook> = Arc::new(memory);
    let few: Arc<dyn Logbook> = Arc::new(InterceptedLogbook::new(logbook.clone(), Arc::new(FewRecords)));
    for ((name, _), live) in live.iter().zip(&machines) {
        let (machine, turn) = load_machine(&logbook, &run(name)).await.unwrap();
        assert!(machine == *live && turn.is_some() == (*name == "long"), "{name}");
        let (machine, turn) = load_machine(&few, &run(name)).await.unwrap();
        assert!(machine == *live && turn.is_some(), "{name}");
    }
    // From a snapshot.
    let version = logbook.summary(&run("long")).await.unwrap().version;
    logbook.save_snapshot(&run("long"), version, machines[0].snapshot()).await.unwrap();
    let (machine, _turn) = load_machine(&logbook, &run("long")).await.unwrap();
    assert!(machine == machines[0]);
    let missing = load_machine(&logbook, &run("missing")).await;
    assert!(matches!(missing, Err(LoadError::Missing { .. })));
}
