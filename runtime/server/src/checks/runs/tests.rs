//! Tests which facts of a run are kept.

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
