//! Remembered results: a call whose result the namespace remembers needs no job.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flow::{
    CallId, Digest, FailureKind, Flow, LimitOverrides, ModuleContent, ModuleInfo, Parameter, Provided, Rollback,
    RunState, TaskInfo, TaskResult, Value, Values,
};
use machine::Machine;
use protocol::{Job, RunCommand};
use tokio::time::timeout;

use crate::harness::{Harness, Lookups};

/// Long enough for every message of a run to arrive, in the time of a paused clock.
const SETTLED: Duration = Duration::from_secs(3);

/// A task that doubles its input; it has a rollback.
const DOUBLE: &str = "use = \"g#double\"\nmemo = true\n";

/// A flow of these nodes, with the module `g`.
fn flow_of(name: &str, nodes: &str) -> Arc<Flow> {
    let parameter =
        |name: &str| Parameter { name: name.parse().unwrap(), doc: String::new(), schema: None, optional: false };
    let provided = |name: &str| Provided { name: name.parse().unwrap(), doc: String::new(), schema: None };
    let task = |name: &str, requires: Vec<Parameter>, provides: Vec<Provided>| TaskInfo {
        name: name.parse().unwrap(),
        doc: String::new(),
        requires,
        provides,
        rollback: Rollback::Guest { requires: Vec::new() },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let tasks = vec![
        task("double", vec![parameter("number")], vec![provided("doubled")]),
        task("last", Vec::new(), Vec::new()),
    ];
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(tasks) };
    let text = format!("name = \"{name}\"\npattern = \"linear\"\n{nodes}\n[modules]\ng = \"g.wasm\"\n");
    let draft = flow::file::parse(&text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")).0)
}

/// A flow that doubles one number.
fn double(name: &str, number: u32) -> Arc<Flow> {
    flow_of(name, &format!("[[task]]\nname = \"a\"\n{DOUBLE}with = {{ number = {number} }}\n"))
}

/// A flow that doubles one number, and then has a task that may fail.
fn double_then(number: u32) -> Arc<Flow> {
    let nodes = format!(
        "[[task]]\nname = \"a\"\n{DOUBLE}with = {{ number = {number} }}\n[[task]]\nname = \"z\"\nuse = \"g#last\"\n"
    );
    flow_of("f", &nodes)
}

fn doubled(job: &Job) -> TaskResult {
    let Value::Json(number) = &job.inputs["number"] else { panic!("a number") };
    let number: u64 = number.as_str().parse().unwrap();
    TaskResult::Succeeded([("doubled".parse().unwrap(), Value::from(2 * number))].into())
}

/// Takes the next job, which doubles a number, and answers it.
async fn answer(harness: &mut Harness) -> CallId {
    let job = harness.take_job().await;
    harness.report(&job.call, doubled(&job)).await;
    job.call
}

/// Runs a flow to its end; returns its machine and the number of jobs that it took.
async fn run(harness: &mut Harness, name: &str, flow: &Arc<Flow>) -> (Arc<Machine>, usize) {
    let watch = harness.submit(name, flow).await.expect("the run begins");
    let end = Harness::end(watch);
    tokio::pin!(end);
    let mut jobs = 0;
    loop {
        let job = tokio::select! {
            biased;
            machine = &mut end => return (machine, jobs),
            job = harness.take_job() => job,
        };
        assert_eq!(job.call.run.as_str(), name);
        jobs += 1;
        harness.report(&job.call, doubled(&job)).await;
    }
}

/// Whether no job arrives within some seconds of a paused clock.
async fn has_no_job(harness: &mut Harness) -> bool {
    timeout(SETTLED, harness.take_job()).await.is_err()
}

fn value(machine: &Machine, name: &str) -> String {
    format!("{:?}", machine.values()[name])
}

#[tokio::test(start_paused = true)]
async fn a_second_run_takes_the_remembered_result() {
    let mut harness = Harness::new().await;
    let (computed, jobs) = run(&mut harness, "one", &double("f", 21)).await;
    assert_eq!((value(&computed, "doubled"), jobs), ("42".into(), 1));
    // Another flow, another name of the task: the same function of the same inputs.
    let (machine, jobs) = run(&mut harness, "two", &double("other", 21)).await;
    assert_eq!((machine.state(), value(&machine, "doubled"), jobs), (RunState::Success, "42".into(), 0));
    assert!(harness.facts("two").await.contains(&"remembered"));
    assert!(has_no_job(&mut harness).await);
    let (machine, jobs) = run(&mut harness, "three", &double("f", 4)).await;
    assert_eq!((value(&machine, "doubled"), jobs), ("8".into(), 1), "another input is another call");
    // The record of the second run has the values: it is read without the remembered result.
    let replayed = harness.logbook.load(&"two".parse().unwrap()).await.unwrap().into_machine().unwrap();
    assert_eq!(value(&replayed, "doubled"), "42");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_never_sees_the_results_of_another_one() {
    let mut harness = Harness::new().await;
    let names = ["shop/f", "bank/f", "f"];
    // Its queue is the one that this test takes jobs from.
    let in_namespace = |name: &str| Arc::new(Flow { name: name.parse().unwrap(), ..(*double("f", 21)).clone() });
    for (number, name) in names.into_iter().enumerate() {
        assert_eq!(run(&mut harness, &format!("r{number}"), &in_namespace(name)).await.1, 1, "{name}");
    }
    for (number, name) in names.into_iter().enumerate() {
        assert_eq!(run(&mut harness, &format!("again{number}"), &in_namespace(name)).await.1, 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_remembered() {
    let mut harness = Harness::new().await;
    let watch = harness.submit("one", &double("f", 21)).await.expect("the run begins");
    let job = harness.take_job().await;
    harness.fail(&job.call, FailureKind::Permanent).await;
    let rollback = harness.take_job().await;
    harness.signal(&rollback.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    assert_eq!(run(&mut harness, "two", &double("f", 21)).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_expires() {
    let mut harness = Harness::new().await;
    let task = "[[task]]\nname = \"a\"\nuse = \"g#double\"\nmemo = \"1h\"\nwith = { number = 21 }\n";
    let flow = flow_of("f", task);
    assert_eq!(run(&mut harness, "one", &flow).await.1, 1);
    harness.clock.set(3_500);
    assert_eq!(run(&mut harness, "two", &flow).await.1, 0);
    harness.clock.set(200);
    assert_eq!(run(&mut harness, "three", &flow).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn results_outlive_the_engine_and_its_calls() {
    let mut harness = Harness::new().await;
    let _watch = harness.submit("one", &double("f", 21)).await.expect("the run begins");
    let lost = harness.take_job().await;
    let mut harness = harness.restart().await;
    let watch = harness.engine.adopt("one".parse().unwrap(), RunCommand::Resume).await.expect("the run goes on");
    // The job may be with a worker, so it is sent again without a lookup.
    let again = harness.take_job().await;
    assert_eq!(again.call, lost.call);
    harness.report(&again.call, doubled(&again)).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::Success);
    let mut harness = harness.new_process().await;
    assert_eq!(run(&mut harness, "two", &double("f", 21)).await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_rolled_back_run_computed_is_forgotten() {
    let mut harness = Harness::new().await;
    let flow = double_then(21);
    for name in ["one", "two"] {
        let watch = harness.submit(name, &flow).await.expect("the run begins");
        assert_eq!(answer(&mut harness).await.task.as_str(), "a", "{name} computes");
        let last = harness.take_job().await;
        harness.fail(&last.call, FailureKind::Permanent).await;
        for task in ["z", "a"] {
            let rollback = harness.take_job().await;
            assert_eq!(rollback.call.task.as_str(), task);
            harness.signal(&rollback.call).await;
        }
        assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    }
}

#[tokio::test(start_paused = true)]
async fn a_remembered_result_is_not_rolled_back_and_stays() {
    let mut harness = Harness::new().await;
    run(&mut harness, "one", &double("f", 21)).await;
    let watch = harness.submit("two", &double_then(21)).await.expect("the run begins");
    let last = harness.take_job().await;
    assert_eq!(last.call.task.as_str(), "z");
    harness.fail(&last.call, FailureKind::Permanent).await;
    let rollback = harness.take_job().await;
    assert_eq!(rollback.call.task.as_str(), "z");
    harness.signal(&rollback.call).await;
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    assert!(has_no_job(&mut harness).await, "the run has not called a, and does not roll it back");
    assert_eq!(run(&mut harness, "three", &double("f", 21)).await.1, 0, "run one was not rolled back");
}

#[tokio::test(start_paused = true)]
async fn each_element_of_a_list_has_its_own_result() {
    let mut harness = Harness::new().await;
    let flow = |count: u32| {
        let list: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let list = list.join(", ");
        flow_of("f", &format!("[[task]]\nname = \"a\"\n{DOUBLE}for_each = [{list}]\nas = \"number\"\n"))
    };
    let (machine, jobs) = run(&mut harness, "one", &flow(300)).await;
    assert_eq!((machine.state(), jobs), (RunState::Success, 300));
    let (machine, jobs) = run(&mut harness, "two", &flow(302)).await;
    let expected: Vec<u32> = (0..302).map(|number| 2 * number).collect();
    assert_eq!((value(&machine, "doubled"), jobs), (format!("{expected:?}").replace(' ', ""), 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_when_the_lookup_fails_or_hangs() {
    let mut harness = Harness::new().await;
    run(&mut harness, "one", &double("f", 21)).await;
    for (name, lookups) in [("two", Lookups::Failing), ("three", Lookups::Hanging)] {
        harness.faults.set_lookups(lookups);
        assert_eq!(run(&mut harness, name, &double("f", 21)).await.1, 1, "{lookups:?}");
    }
    harness.faults.set_lookups(Lookups::Answered);
    assert_eq!(run(&mut harness, "four", &double("f", 21)).await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_during_a_lookup_makes_no_call() {
    let mut harness = Harness::new().await;
    harness.faults.set_lookups(Lookups::Hanging);
    let watch = harness.submit("one", &double("f", 21)).await.expect("the run begins");
    let state = harness.engine.command(&"one".parse().unwrap(), RunCommand::Cancel).await.expect("it is cancelled");
    assert_eq!(state, RunState::Running);
    assert_eq!(Harness::end(watch).await.state(), RunState::RolledBack);
    assert!(has_no_job(&mut harness).await);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_store_has_lost_is_computed_again() {
    let mut harness = Harness::new().await;
    let flow = double("f", 21);
    let _watch = harness.submit("one", &flow).await.expect("the run begins");
    let job = harness.take_job().await;
    let stored = flow::Stored { digest: Digest::from_bytes([7; 32]), size: 100_000, form: flow::ValueKind::Json };
    let values = [("doubled".parse().unwrap(), Value::Stored(stored))].into();
    harness.report(&job.call, TaskResult::Succeeded(values)).await;
    harness.wait_for_state("one", RunState::Success).await;
    assert!(harness.logbook.digests().await.unwrap().contains(&stored.digest));
    assert_eq!(run(&mut harness, "two", &flow).await.1, 1, "the store has no such content");
    assert_eq!(run(&mut harness, "three", &flow).await.1, 0);
}

/// A paced call whose result is remembered needs no permit.
#[tokio::test(start_paused = true)]
async fn a_remembered_result_needs_no_permit() {
    let mut harness = Harness::new().await;
    let task = format!("[[task]]\nname = \"a\"\n{DOUBLE}with = {{ number = 21 }}\nrate = \"1/h\"\n");
    let flow = flow_of("f", &task);
    for (name, jobs) in [("one", 1), ("two", 0), ("three", 0)] {
        assert_eq!(run(&mut harness, name, &flow).await.1, jobs, "{name}");
    }
}
