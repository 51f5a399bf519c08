//! Flows that together use every part of the format, and snapshots of their runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flow::{
    Condition, Digest, Edit, Execution, Failure, FailureKind, Flow, FlowSource, Join, Labels, LimitOverrides,
    ModuleContent, ModuleInfo, Parameter, Provided, Revision, Rollback, Signal, SkipReach, SourceOutcome, TaskInfo,
    TaskResult, Timestamp, Value, Values,
};
use machine::{Event, Fact, Machine, Snapshot};

/// A flow with links, conditions, a waiting task, and delayed starts.
pub(crate) fn linked_flow() -> Arc<Flow> {
    wired(&format!(
        "expires = \"7d\"\n{FLOW}{}",
        r#"
[[task]]
name = "alarm"
use = "g#t"
requires = { x = "failure" }
provides = []
[[link]]
from = "first"
to = "alarm"
on = "failure"
when = "failure.kind == 'timeout'"
[[link]]
from = "second"
to = "inner"
when = "size(list) > 2"
reach = "neighbors"
[[link]]
from = "first"
to = "second"
when = "first_y == 5"
reach = "task"
[[task]]
name = "approve"
wait = "approval"
provides = { by = "approved_by" }
deadline = "2d"
[[task]]
name = "later"
use = "g#t"
requires = { x = "approved_by" }
provides = []
start_after = "10m"
[[flow]]
name = "on-time"
start_at = 2027-01-31T08:00:00+01:00
"#
    ))
}

/// A flow with tasks, a nested flow and retry controllers.
pub(crate) fn flow() -> Arc<Flow> {
    wired(FLOW)
}

const FLOW: &str = r#"
name = "all"
retry = { for_each = ["a", 2], provides = "word" }
[modules]
g = "g.wasm"
[inputs]
list = [1, 2]
[[task]]
name = "first"
use = "g#t"
with = { x = { deep = [1.50] } }
provides = { y = "first_y" }
retry = { attempts = 3, backoff = "fixed", initial = "20ms", jitter = false }
queue = "ovens"
priority = -4
timeout = "3s"
[[task]]
name = "second"
use = "g#t"
requires = { x = "first_y" }
provides = []
[[flow]]
name = "inner"
retry = { for_each = "list", otherwise = "rollback-all" }
[[flow.task]]
name = "third"
use = "g#t"
requires = { x = "word" }
provides = []
"#;

/// A flow with every kind of edit.
pub(crate) fn edited_flow() -> Arc<Flow> {
    let node = |name: &str| name.parse().unwrap();
    let value = |name: &str| name.parse().unwrap();
    let edits = vec![
        Edit::Add { text: "[[task]]\nname = \"x\"\nuse = \"g#t\"\n".into() },
        Edit::Remove { task: node("second"), ran: true },
        Edit::Link {
            from: node("first"),
            to: node("x"),
            on: SourceOutcome::Any,
            when: Some(Condition::new("first_y == 5").unwrap()),
            reach: Some(SkipReach::Flow),
            join: Join::All,
        },
        Edit::Unlink { from: node("first"), to: node("alarm") },
        Edit::Use { task: node("x"), uses: "g#t".into() },
        Edit::Set { task: node("x"), parameter: value("x"), value: Value::json(&7.into()) },
        Edit::Require { task: node("later"), parameter: value("x"), value: value("first_y") },
    ];
    let modules = BTreeMap::from([("g".to_owned(), Digest::from_bytes([9; 32]))]);
    let origin = Some(Arc::new(FlowSource { text: FLOW.into(), modules, edits }));
    let mut flow = Flow { origin, ..Arc::unwrap_or_clone(linked_flow()) };
    flow.nodes[1].retired = true;
    Arc::new(flow)
}

/// A flow that fires more than once: back edges, schedules, listeners, `for_each` and paces.
pub(crate) fn long_lived_flow() -> Arc<Flow> {
    let text = r#"
name = "pool"
persistent = true
cyclic = true
max_firings = 1000
max_parallel = 2
[modules]
g = "g.wasm"
[inputs]
list = [1]
[[task]]
name = "add"
use = "g#t"
requires = { x = "round" }
provides = { y = "round" }
max_running = 2
rate = "100/m"
[[task]]
name = "tell"
use = "g#t"
with = { x = 1 }
provides = []
[[task]]
name = "hear"
use = "g#t"
for_each = "list"
as = "each"
max_parallel = 3
expires = "1h"
delivery_limit = 3
requires = { x = "each" }
provides = []
[[link]]
from = "tell"
to = "add"
when = "list[0] == 1"
[[link]]
from = "tell"
to = "hear"
join = "any"
[[listen]]
flow = "create-server"
task = "kick-server"
on = "any"
to = "hear"
[[schedule]]
cron = "0 3 * * *"
zone = "Europe/Berlin"
overlap = "queue"
missed = "all"
to = "hear"
"#;
    let flow = Arc::unwrap_or_clone(wired(text));
    let node = |name: &str| name.parse().unwrap();
    let (from, to) = (node("tell"), node("hear"));
    let edits = vec![Edit::Link { from, to, on: SourceOutcome::Success, when: None, reach: None, join: Join::Any }];
    let modules = BTreeMap::from([("g".to_owned(), Digest::from_bytes([9; 32]))]);
    Arc::new(Flow { origin: Some(Arc::new(FlowSource { text: text.into(), modules, edits })), ..flow })
}

/// A run of that flow: one firing is running, and one is queued.
pub(crate) fn long_lived_snapshot() -> Snapshot {
    let mut machine = Machine::new("r".parse().unwrap(), long_lived_flow());
    let at = Timestamp::from_micros(1);
    machine.step(at, &Event::Start);
    for (task, key) in [("add", None), ("hear", Some("k1".to_owned())), ("tell", None)] {
        let input = ("round".parse().unwrap(), Value::json(&1.into()));
        let values = Values::from_iter((task == "add").then_some(input));
        machine.step(at, &Event::Notify { task: task.parse().unwrap(), result: TaskResult::Succeeded(values), key });
    }
    let call = machine.outstanding_calls().next().unwrap();
    let provided = Values::from([("y".parse().unwrap(), Value::json(&2.into()))]);
    let (answer, execution) = (TaskResult::Succeeded(provided), Execution::new(1));
    machine.step(at, &Event::Signal(Signal { call, answer, execution, redelivered: false, worker: None }));
    machine.snapshot()
}

pub(crate) fn wired(text: &str) -> Arc<Flow> {
    // Only in that flow does the parameter have a value type.
    let is_typed = |name: &str| name == "x" && text.contains("persistent");
    let schema_of = |name: &str| is_typed(name).then(|| flow::Json::parse("{\"type\": \"integer\"}").unwrap());
    let parameter = |name: &str, optional| Parameter {
        name: name.parse().unwrap(),
        doc: String::new(),
        schema: schema_of(name),
        optional,
    };
    let task = TaskInfo {
        name: "t".parse().unwrap(),
        doc: String::new(),
        requires: vec![parameter("x", false), parameter("maybe", true)],
        provides: vec![Provided { name: "y".parse().unwrap(), doc: String::new(), schema: None }],
        rollback: Rollback::Guest { requires: vec![parameter("list", false)] },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([9; 32]), content: ModuleContent::Tasks(vec![task]) };
    let draft = flow::file::parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let wired = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new());
    Arc::new(wired.unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}")).0)
}

/// A run of that flow after some results.
pub(crate) fn snapshot(seed: u64) -> Snapshot {
    snapshot_of(flow(), seed)
}

pub(crate) fn snapshot_of(flow: Arc<Flow>, seed: u64) -> Snapshot {
    let mut machine = Machine::new("r".parse().unwrap(), flow);
    let mut at = Timestamp::from_micros(1);
    let mut out = machine.step(at, &Event::Start).commands;
    for step in 0..seed % 20 {
        at = at.after(Duration::from_secs(1));
        let Some(call) = machine.outstanding_calls().next() else { break };
        let event = match (seed >> step) % 4 {
            0 => Event::Lost { call, worker: "w".parse().unwrap() },
            1 => Event::Leased { call, worker: "w".parse().unwrap() },
            2 => {
                let answer = TaskResult::Failed(Failure::new(FailureKind::Transient, "no"));
                Event::Signal(Signal { call, answer, execution: Execution::new(step), redelivered: true, worker: None })
            }
            _ => {
                let answer = TaskResult::Succeeded([("y".parse().unwrap(), Value::json(&5.into()))].into());
                Event::Signal(Signal {
                    call,
                    answer,
                    execution: Execution::new(step),
                    redelivered: false,
                    worker: None,
                })
            }
        };
        out.extend(machine.step(at, &event).commands);
    }
    assert!(!out.is_empty());
    machine.snapshot()
}

/// The start of a run with labels.
pub(crate) fn labelled_start() -> Fact {
    let labels = Labels::parse(["team=shop", "order=№ 4711", "empty="]).unwrap();
    Fact::RunStarted { flow: flow(), revision: Revision::FIRST, labels }
}
