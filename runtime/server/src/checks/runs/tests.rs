//! Tests which runs are looked at, and which facts of a run are kept.

use ::logbook::{RunInfo, Version};
use api::Outcome;
use flow::{LimitOverrides, ModuleContent, ModuleInfo, Rollback, TaskInfo, Values};
use machine::Event;

use super::*;

/// A run of so many tasks, all of which are called.
fn machine(tasks: usize) -> Machine {
    let task =
        |number| format!("[[task]]\nname = \"t{number}\"\nuse = \"g\"\nqueue = \"q{}\"\nmax_running = 1\n", number % 2);
    let tasks: String = (0..tasks).map(task).collect();
    let text = format!("name = \"f\"\npattern = \"unordered\"\n{tasks}[modules]\ng = \"g.wasm\"\n");
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::None,
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(&text).unwrap();
    let (flow, _) = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new()).unwrap();
    let mut machine = Machine::new("r".parse().unwrap(), Arc::new(flow));
    let at = Timestamp::from_micros(1);
    assert!(!machine.step(at, &Event::Start).records.is_empty());
    while !machine.step(at, &Event::Tick).records.is_empty() {}
    machine
}

/// An open run with this id.
fn summary(run: &str) -> Summary {
    Summary {
        run: run.parse().unwrap(),
        info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Running },
        labels: flow::Labels::default(),
        version: Version::NONE,
        started_at: Timestamp::from_micros(1),
        changed_at: Timestamp::from_micros(1),
    }
}

/// Reads the facts of a run when it is its time.
async fn facts(takes: Duration) -> Result<RunFacts, LoadError> {
    tokio::time::sleep(takes).await;
    Ok(RunFacts::of(&machine(1)))
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_in_time_hides_no_other() {
    let reads = [("slow", Duration::MAX), ("one", Duration::ZERO), ("two", RUN_TIMEOUT / 2)];
    let read = read_in_time(reads.into_iter().map(|(run, takes)| (summary(run), facts(takes)))).await;
    let names: Vec<&str> = read.runs.iter().map(|open| open.summary.run.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    let open_runs = OpenRuns { listed: 3, ..read };
    assert_eq!((open_runs.not_read(), open_runs.unreadable.len()), (1, 0));
    let check = report(&open_runs, &Findings::default());
    assert!(check.outcome == Outcome::Ok && check.detail.contains("checked 2 of"), "{}", check.detail);
}

#[tokio::test(start_paused = true)]
async fn all_runs_together_have_a_time_limit() {
    let began = Instant::now();
    let read = read_in_time((0..1000).map(|_| (summary("slow"), facts(Duration::MAX)))).await;
    assert!(read.runs.is_empty());
    assert_eq!(began.elapsed().as_secs(), QUERY_TIMEOUT.as_secs());
}

#[test]
fn open_runs_of_which_none_was_read_are_not_well() {
    let unread = OpenRuns { listed: 3, ..OpenRuns::default() };
    assert_eq!(report(&unread, &Findings::default()).outcome, Outcome::Warn);
    assert_eq!(report(&OpenRuns::default(), &Findings::default()).outcome, Outcome::Ok);
}

#[test]
fn only_some_calls_of_a_run_are_kept() {
    for (tasks, kept) in [(3, 3), (MAX_OF_RUN, MAX_OF_RUN), (MAX_OF_RUN + 1, MAX_OF_RUN)] {
        let machine = machine(tasks);
        assert_eq!(machine.outstanding_calls().count(), tasks);
        let facts = RunFacts::of(&machine);
        assert_eq!((facts.calls.len(), facts.has_more_calls), (kept, tasks > kept), "{tasks}");
        assert_eq!((facts.paced.len(), facts.queues.len(), facts.modules.len()), (kept, 2, 1), "{tasks}");
        assert!(facts.calls.iter().all(|call| call.is_paced && !call.is_leased && call.since.is_some()));
        assert!(!facts.fires && !facts.waits_for_notification && !facts.fetches);
    }
}
