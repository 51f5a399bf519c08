//! Graphs, timelines, elements and rehearsals of runs, from records that a machine has decided here.

use std::time::Duration;

use client::api::{
    AttemptOutcome, ElementsQuery, GraphQuery, Rehearsal, RehearsalQuery, RehearsedCase, Timeline, TimelineQuery,
};
use flow::{Action, CallId, Execution, Failure, FailureKind, Parameter, Signal, TaskResult, Timestamp};
use logbook::{MaxUnended, RunInfo, Version};
use machine::{Command, Event, Machine, Record, Step};

use super::*;

/// A list of three whose elements are tried twice, and a task after it that a condition guards.
const ORDERS: &str = r#"
    name = "orders"
    [[task]]
    name = "pack"
    use = "m#call"
    for_each = [10, 20, 30]
    as = "x"
    retry = { attempts = 2, initial = "1s", jitter = false }
    provides = []
    [[flow]]
    name = "delivery"
    retry = { times = 2 }
    [[flow.task]]
    name = "send"
    use = "m#call"
    with = { x = 1 }
    provides = []
    [[link]]
    from = "pack"
    to = "delivery"
    [modules]
    m = "m"
"#;

fn orders() -> Arc<Flow> {
    wired(ORDERS, described())
}

/// A module with a task that takes `x` and can be rolled back.
fn described() -> ModuleContent {
    let x = Parameter { name: "x".parse().unwrap(), doc: String::new(), schema: None, optional: false };
    let task = TaskInfo {
        name: "call".parse().unwrap(),
        doc: String::new(),
        requires: vec![x],
        provides: Vec::new(),
        rollback: Rollback::Guest { requires: Vec::new() },
        retry: None,
        limits: LimitOverrides::default(),
    };
    ModuleContent::Tasks(vec![task])
}

/// A run whose worker is the test.
struct Scripted {
    machine: Machine,
    records: Vec<Record>,
    outstanding: Vec<CallId>,
    now: Timestamp,
    executions: u64,
}

impl Scripted {
    fn start(flow: Arc<Flow>) -> Self {
        let machine = Machine::new("r".parse().unwrap(), flow);
        let now = Timestamp::from_micros(1_000_000);
        let mut run = Self { machine, records: Vec::new(), outstanding: Vec::new(), now, executions: 0 };
        run.take(&Event::Start);
        run
    }

    fn take(&mut self, event: &Event) {
        let Step { records, commands, is_unfinished, .. } = self.machine.step(self.now, event);
        self.records.extend(records);
        self.outstanding.extend(commands.into_iter().filter_map(|command| match command {
            Command::Call(call) => Some(call.id),
            Command::Publish(_) | Command::Fetch(_) | Command::Interrupt(_) => None,
        }));
        if is_unfinished {
            self.take(&Event::Tick);
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.take(&Event::Tick);
    }

    /// The outstanding call of a task; it is not outstanding any more.
    fn call(&mut self, task: &str) -> CallId {
        let at = self.outstanding.iter().position(|call| call.task.as_str() == task);
        let at = at.unwrap_or_else(|| panic!("{task} is called: {:?}", self.outstanding));
        self.outstanding.remove(at)
    }

    fn answer(&mut self, task: &str, worker: &str, failure: Option<FailureKind>) {
        let call = self.call(task);
        self.executions += 1;
        let answer = match failure {
            Some(kind) => TaskResult::Failed(Failure::new(kind, "no room")),
            None => TaskResult::Succeeded(Values::new()),
        };
        let execution = Execution::new(self.executions);
        let worker = Some(worker.parse().unwrap());
        self.take(&Event::Signal(Signal { call, answer, execution, redelivered: false, worker }));
    }

    async fn harness(self) -> Harness {
        let dependencies = dependencies().await;
        dependencies.logbook.append(vec![self.append(Version::NONE, 0)]).await.unwrap();
        Harness::over(config(None), dependencies).await
    }

    /// The records from one on.
    fn append(&self, follows: Version, from: usize) -> Append {
        Append {
            run: "r".parse().unwrap(),
            follows,
            records: self.records[from..].to_vec(),
            // No engine here drives the shard.
            info: RunInfo { shard: "s".parse().unwrap(), flow: "orders".parse().unwrap(), state: self.machine.state() },
            logs: Vec::new(),
            published: Version::NONE,
            max_unended: MaxUnended::default(),
            memos: logbook::MemoChanges::default(),
        }
    }
}

/// One element is lost, one is tried again and fails: everything is rolled back, one rollback at the second try.
fn failed_orders() -> Scripted {
    let mut run = Scripted::start(orders());
    run.answer("pack[0]", "one", None);
    run.wait(20);
    let lost = run.call("pack[1]");
    let worker = "two".parse().unwrap();
    run.take(&Event::Leased { call: lost.clone(), worker: "two".parse().unwrap() });
    run.wait(20);
    run.take(&Event::Lost { call: lost, worker });
    run.wait(60);
    run.answer("pack[1]", "one", None);
    run.answer("pack[2]", "one", Some(FailureKind::Transient));
    run.wait(60);
    run.answer("pack[2]", "one", Some(FailureKind::Permanent));
    run.answer("pack[0]", "one", Some(FailureKind::Transient));
    run.wait(60);
    run.answer("pack[0]", "one", None);
    while let Some(call) = run.outstanding.first().cloned() {
        assert_eq!(call.action, Action::Rollback);
        run.answer(call.task.as_str(), "one", None);
    }
    assert_eq!(run.machine.state(), flow::RunState::RolledBack);
    run
}

/// What happened to some tasks, an attempt a line.
fn lines(timeline: &Timeline, task: &str) -> Vec<String> {
    let attempts = timeline.attempts.iter().filter(|attempt| attempt.task == task);
    let line = |attempt: &client::api::TimelineAttempt| {
        let outcome = attempt.outcome.as_ref().map_or("open", AttemptOutcome::as_str);
        let worker = attempt.worker.as_deref().unwrap_or("nobody");
        let retry = attempt.retry_in.map(|seconds| format!(", again in {seconds} s")).unwrap_or_default();
        let lease = if attempt.leased_at.is_some() { ", leased" } else { "" };
        format!("{} {} {outcome} by {worker}{lease}{retry}", attempt.call, attempt.attempt)
    };
    attempts.map(line).collect()
}

#[tokio::test]
async fn a_timeline_has_retries_lost_workers_and_rollbacks() {
    let harness = failed_orders().harness().await;
    let client = harness.client();
    let timeline = client.timeline("r", &TimelineQuery::default()).await.unwrap();
    assert_eq!((timeline.earlier, timeline.trimmed_records), (0, 0));
    assert_eq!(
        lines(&timeline, "pack[1]"),
        ["apply 1 lost by two, leased", "apply 2 success by one", "rollback 1 rolled-back by one"]
    );
    assert_eq!(
        lines(&timeline, "pack[2]"),
        ["apply 1 failure by one, again in 1 s", "apply 2 failure by one", "rollback 1 rolled-back by one",]
    );
    assert_eq!(
        lines(&timeline, "pack[0]"),
        ["apply 1 success by one", "rollback 1 rollback-failure by one, again in 1 s", "rollback 2 rolled-back by one",]
    );
    assert_eq!(lines(&timeline, "send"), [""; 0], "it was not called");
    let starts: Vec<&str> = timeline.attempts.iter().map(|attempt| attempt.started_at.as_str()).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    assert!(timeline.attempts.iter().all(|attempt| attempt.ended_at.is_some()), "{timeline:#?}");

    let of_task = client.timeline("r", &TimelineQuery::default().task("pack[1]")).await.unwrap();
    assert_eq!(of_task.attempts.len(), 3);
    assert_eq!(client.timeline("r", &TimelineQuery::default().firing(2)).await.unwrap().attempts.len(), 0);
    for query in [TimelineQuery::default().limit(0), TimelineQuery::default().before("noon")] {
        assert_eq!(refusal(client.timeline("r", &query).await).status, 400);
    }
    assert_eq!(refusal(client.timeline("none", &TimelineQuery::default()).await).status, 404);
}

#[tokio::test]
async fn a_run_has_the_times_that_fired_nothing_and_those_to_make_up_for() {
    let clean = "name = \"orders\"\npersistent = true\n\
                 [[task]]\nname = \"clean\"\nuse = \"m#call\"\nwith = { x = 1 }\nprovides = []\n\
                 [[schedule]]\ncron = \"* * * * *\"\nto = \"clean\"\nmissed = \"all\"\n\
                 [modules]\nm = \"m\"\n";
    let mut run = Scripted::start(wired(clean, described()));
    // Six minutes are missed. The first one fires, and is under way when the seventh is due.
    run.wait(6 * 60);
    run.wait(60);
    let harness = run.harness().await;
    let shown = harness.client().run("r").await.unwrap();
    let skipped: Vec<String> =
        shown.skipped.iter().map(|skipped| format!("{} {} {}", skipped.task, skipped.reason, skipped.count)).collect();
    assert_eq!(skipped, ["clean overlap 1"]);
    assert!(shown.skipped[0].last_at.starts_with("1970-01-01T00:07:01"), "{}", shown.skipped[0].last_at);
    let backlogs: Vec<&str> = shown.backlogs.iter().map(|backlog| backlog.task.as_str()).collect();
    assert_eq!(backlogs, ["clean"]);
    assert!(shown.backlogs[0].next.starts_with("1970-01-01T00:02:00"), "{}", shown.backlogs[0].next);
}

#[tokio::test]
async fn a_timeline_is_read_backwards_part_by_part() {
    let harness = failed_orders().harness().await;
    let client = harness.client();
    let all = client.timeline("r", &TimelineQuery::default()).await.unwrap().attempts.len();
    let mut query = TimelineQuery::default().limit(4);
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let part = client.timeline("r", &query).await.unwrap();
        assert!(part.attempts.len() <= 4);
        let Some(first) = part.attempts.first() else { break };
        let key =
            |attempt: &client::api::TimelineAttempt| (attempt.task.clone(), attempt.call.to_string(), attempt.attempt);
        let before = seen.len();
        seen.extend(part.attempts.iter().map(key));
        if part.earlier == 0 {
            break;
        }
        // Several may start at the same moment, and a part contains only four of them.
        assert!(seen.len() > before || part.attempts.len() == 4, "{part:#?}");
        query = TimelineQuery::default().limit(4).before(first.started_at.clone());
    }
    assert!(seen.len() <= all && seen.len() >= 4, "{seen:?}");
}

#[tokio::test]
async fn a_timeline_of_a_trimmed_run_has_what_is_under_way() {
    let dependencies = dependencies().await;
    let logbook = dependencies.logbook.clone();
    let mut run = Scripted::start(orders());
    run.answer("pack[0]", "one", None);
    logbook.append(vec![run.append(Version::NONE, 0)]).await.unwrap();
    let (id, version) = (RunId::new("r").unwrap(), Version::new(run.records.len() as u64));
    logbook.mark_published(&[(id.clone(), version)]).await.unwrap();
    logbook.save_snapshot(&id, version, run.machine.snapshot()).await.unwrap();
    logbook.trim(&id, version).await.unwrap();
    run.wait(20);
    run.answer("pack[1]", "two", None);
    logbook.append(vec![run.append(version, version.get() as usize)]).await.unwrap();
    let harness = Harness::over(config(None), dependencies).await;
    let timeline = harness.client().timeline("r", &TimelineQuery::default()).await.unwrap();
    assert_eq!(timeline.trimmed_records, version.get());
    assert_eq!(lines(&timeline, "pack[0]"), [""; 0], "its records are deleted");
    assert_eq!(lines(&timeline, "pack[1]"), ["apply 1 success by two"]);
    assert_eq!(lines(&timeline, "pack[2]"), ["apply 1 open by nobody"]);
}

#[tokio::test]
async fn elements_are_shown_page_by_page_with_their_states() {
    let mut run = Scripted::start(orders());
    run.answer("pack[0]", "one", None);
    run.answer("pack[2]", "one", Some(FailureKind::Transient));
    let harness = run.harness().await;
    let client = harness.client();
    let mut query = ElementsQuery::default().limit(2);
    let first = client.elements("r", "pack", &query).await.unwrap();
    assert_eq!((first.count, first.firing, first.next), (3, 1, Some(1)));
    query = query.after(first.next.unwrap());
    let second = client.elements("r", "pack", &query).await.unwrap();
    assert_eq!(second.next, None);
    let shown: Vec<(u32, String, Option<u32>, Option<String>)> = first
        .elements
        .into_iter()
        .chain(second.elements)
        .map(|element| {
            let failure = element.failure.map(|failure| failure.message);
            (element.number, element.state.to_string(), element.attempt, failure)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (0, "success".to_owned(), Some(1), None),
            (1, "running".to_owned(), Some(1), None),
            (2, "failure".to_owned(), Some(1), Some("no room".to_owned())),
        ]
    );
    let failed = client.elements("r", "pack", &ElementsQuery::default().state(NodeState::Failure)).await.unwrap();
    assert_eq!(failed.elements.iter().map(|element| element.number).collect::<Vec<_>>(), [2]);
    for (task, query, status) in [
        ("send", ElementsQuery::default(), 404),
        ("nobody", ElementsQuery::default(), 404),
        ("pack", ElementsQuery::default().firing(2), 404),
        ("pack", ElementsQuery::default().limit(1_001), 400),
        ("pack", ElementsQuery::default().state(NodeState::Unknown("odd".into())), 400),
        ("no name\n", ElementsQuery::default(), 400),
    ] {
        assert_eq!(refusal(client.elements("r", task, &query).await).status, status, "{task} {query:?}");
    }
}

#[tokio::test]
async fn a_graph_has_the_states_of_the_last_revision_and_the_nodes_of_each() {
    let mut run = Scripted::start(orders());
    run.answer("pack[0]", "one", None);
    let revision = run.machine.revision();
    let late = "[[task]]\nname = \"late\"\nuse = \"m#call\"\nwith = { x = 2 }\nprovides = []\n";
    let flow = wired(&ORDERS.replace("[modules]", &format!("{late}[modules]")), described());
    run.take(&Event::Edit { revision, flow });
    let harness = run.harness().await;
    let client = harness.client();
    let graph = client.graph("r", &GraphQuery::default()).await.unwrap();
    assert_eq!((graph.revision, graph.last_revision), (revision.get() + 1, revision.get() + 1));
    let nodes: Vec<String> = graph
        .nodes
        .iter()
        .map(|node| {
            let within = node.within.as_ref().map(|within| format!(" in {within}")).unwrap_or_default();
            let state = node.state.as_ref().map_or("none", NodeState::as_str);
            format!("{} {}{within}: {state}", node.kind, node.name)
        })
        .collect();
    assert_eq!(
        nodes,
        ["for-each pack: running", "flow delivery: pending", "task late: running", "task send in delivery: pending",]
    );
    assert_eq!(graph.nodes[0].elements.map(|elements| (elements.count, elements.succeeded)), Some((3, 1)));
    assert_eq!(graph.nodes[1].retry.as_deref(), Some("retry: 2 in all"));
    let links: Vec<(&str, &str)> = graph.links.iter().map(|link| (link.from.as_str(), link.to.as_str())).collect();
    assert_eq!(links, [("pack", "delivery")]);

    let before = client.graph("r", &GraphQuery::default().revision(revision.get())).await.unwrap();
    assert_eq!((before.revision, before.last_revision), (revision.get(), revision.get() + 1));
    let names: Vec<&str> = before.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["pack", "delivery", "send"]);
    assert!(before.nodes.iter().all(|node| node.state.is_none()), "{before:#?}");
    let refused = refusal(client.graph("r", &GraphQuery::default().revision(99)).await);
    assert_eq!(refused.status, 404);
    assert!(refused.detail.contains("no revision 99"), "{refused:?}");
    assert_eq!(refusal(client.graph("none", &GraphQuery::default()).await).status, 404);
}

/// Three tasks in a row with rollbacks; the second one is tried twice.
const STEPS: &str = r#"
    name = "orders"
    pattern = "linear"
    [[task]]
    name = "reserve"
    use = "m#call"
    with = { x = 1 }
    [[task]]
    name = "pay"
    use = "m#call"
    with = { x = 2 }
    retry = { attempts = 2, initial = "1s", jitter = false }
    [[task]]
    name = "send"
    use = "m#call"
    with = { x = 3 }
    [modules]
    m = "m"
"#;

/// The case in which these calls fail.
fn case<'r>(rehearsal: &'r Rehearsal, failing: &[(&str, &str)]) -> &'r RehearsedCase {
    let is_wanted = |case: &&RehearsedCase| {
        let calls = case.failing.iter().map(|call| (call.node.as_str(), call.action.as_str()));
        calls.eq(failing.iter().copied())
    };
    rehearsal.cases.iter().find(is_wanted).unwrap_or_else(|| panic!("no case {failing:?}: {rehearsal:#?}"))
}

#[tokio::test]
async fn a_rehearsal_goes_on_from_the_state_of_a_run_and_changes_nothing() {
    let mut run = Scripted::start(wired(STEPS, described()));
    run.answer("reserve", "one", None);
    let harness = run.harness().await;
    let client = harness.client();
    let before = client.run("r").await.unwrap();
    let rehearsal = client.rehearsal("r", &RehearsalQuery::default()).await.unwrap();
    assert_eq!((rehearsal.run.as_deref(), rehearsal.flow.as_str(), rehearsal.omitted), (Some("r"), "orders", 0));
    assert_eq!(case(&rehearsal, &[]).state, RunState::Success);
    let pay = case(&rehearsal, &[("pay", "apply")]);
    let rolled_back: Vec<&str> = pay.rolled_back.iter().map(String::as_str).collect();
    assert_eq!((&pay.state, rolled_back), (&RunState::RolledBack, vec!["pay", "reserve"]));
    assert_eq!((pay.retried[0].node.as_str(), pay.retried[0].pauses.as_slice()), ("pay", [1.0].as_slice()));
    assert!(!case(&rehearsal, &[("reserve", "apply")]).reached, "it has succeeded");
    let stuck = case(&rehearsal, &[("pay", "apply"), ("reserve", "rollback")]);
    assert_eq!((&stuck.state, stuck.stuck.as_slice()), (&RunState::Failure, ["reserve".to_owned()].as_slice()));

    let of_pay = client.rehearsal("r", &RehearsalQuery::default().node("pay")).await.unwrap();
    let targets = of_pay.cases.iter().filter_map(|case| case.failing.last());
    assert!(targets.clone().count() == 2 && targets.clone().all(|call| call.node == "pay"), "{of_pay:#?}");
    let anew = client.rehearsal("r", &RehearsalQuery::default().from_start()).await.unwrap();
    assert!(anew.run.is_none() && case(&anew, &[("reserve", "apply")]).reached, "{anew:#?}");
    let after = client.run("r").await.unwrap();
    assert_eq!((before.state, before.changed_at), (after.state, after.changed_at));

    for (run, query, status, detail) in [
        ("none", RehearsalQuery::default(), 404, "there is no run none"),
        ("r", RehearsalQuery::default().node("sent"), 404, "flow orders has no task \"sent\""),
        ("r", RehearsalQuery::default().node("no name\n"), 400, "node: "),
    ] {
        let problem = refusal(client.rehearsal(run, &query).await);
        assert!(problem.status == status && problem.detail.starts_with(detail), "{problem:?}");
    }
}

#[tokio::test]
async fn a_run_that_has_ended_is_rehearsed_from_its_start_only() {
    let harness = failed_orders().harness().await;
    let client = harness.client();
    let refused = refusal(client.rehearsal("r", &RehearsalQuery::default()).await);
    assert!(refused.status == 409 && refused.detail.contains("has ended in rolled-back"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.starts_with("from_start=true")), "it says what to do");
    let anew = client.rehearsal("r", &RehearsalQuery::default().from_start()).await.unwrap();
    assert_eq!(case(&anew, &[]).state, RunState::Success);
    let send = case(&anew, &[("send", "apply")]);
    assert_eq!(send.retried_flows[0].flow, "delivery");
}

#[tokio::test]
async fn a_large_run_is_not_rehearsed() {
    let task = |number: u32| format!("[[task]]\nname = \"w{number}\"\nwait = \"a word\"\n");
    let tasks: String = (0..1_001).map(task).collect();
    let harness = Scripted::start(flow_of(&format!("name = \"orders\"\n{tasks}"))).harness().await;
    let refused = refusal(harness.client().rehearsal("r", &RehearsalQuery::default()).await);
    assert!(refused.status == 422 && refused.detail.contains("the server rehearses at most 1000"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.starts_with("`waft rehearse --against RUN")), "it says what to do");
}
