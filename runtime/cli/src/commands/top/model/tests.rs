//! The model with keys, answers and events, without a terminal and without a server.

use api::{ListQuery, NodeState, Run, RunGraph, Runs, RunsEvent, Workers};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{connection::FailureKind, *};
use crate::commands::top::{feeds::ChangeRow, requests::Command};

/// A model whose time the test moves.
struct Dashboard {
    model: Model,
    millis: u64,
}

impl Dashboard {
    fn new(run: Option<&str>) -> Self {
        let now = Self::at(0);
        let (size, run) = (Size { columns: 80, rows: 24 }, run.map(str::to_owned));
        Self { model: Model::new("http://server".into(), RunFilter::default(), run, now, size), millis: 0 }
    }

    fn at(millis: u64) -> Now {
        Now { elapsed: Duration::from_millis(millis), wall: "2026-01-31T08:00:00Z".parse().unwrap() }
    }

    fn take(&mut self, incoming: Incoming) -> Vec<Effect> {
        self.model.update(Self::at(self.millis), incoming)
    }

    /// Lets time pass.
    fn after(&mut self, millis: u64) -> Vec<Effect> {
        self.millis += millis;
        self.take(Incoming::Tick)
    }

    fn keys(&mut self, text: &str) -> Vec<Effect> {
        text.chars().flat_map(|char| self.take(Incoming::Key(Key::Char(char)))).collect()
    }

    fn key(&mut self, key: Key) -> Vec<Effect> {
        self.take(Incoming::Key(key))
    }

    fn answer(&mut self, serial: u64, answer: Answer) -> Vec<Effect> {
        self.take(Incoming::Answered(Box::new(Answered { serial, answer })))
    }

    fn receive(&mut self, slot: Slot, serial: u64, items: Vec<Item>) -> Vec<Effect> {
        self.take(Incoming::Received(Received { slot, serial, items }))
    }

    fn message(&self) -> &str {
        self.model.message.as_ref().map_or("", |message| message.text.as_str())
    }
}

/// The questions among effects, in short.
fn asked(effects: &[Effect]) -> Vec<String> {
    let short = |effect: &Effect| match effect {
        Effect::Ask(question) => {
            let about = match &question.about {
                About::Runs(query) => format!("runs {:?}", query.after),
                About::Counts(_) => "counts".to_owned(),
                About::Run(run) => format!("run {run}"),
                About::Graph(run) => format!("graph {run}"),
                About::Timeline(run, query) => format!("timeline {run} {:?}", query.before),
                About::Elements(run, task, query) => format!("elements {run} {task} {:?}", query.after),
                About::Workers => "workers".to_owned(),
                About::Engines => "engines".to_owned(),
                About::Queues(_) => "queues".to_owned(),
                About::Permits(_) => "permits".to_owned(),
                About::Command(command) => format!("{command:?}"),
            };
            Some(format!("{about} #{}", question.serial))
        }
        Effect::Follow { .. } | Effect::Unfollow(_) | Effect::Stop | Effect::Redraw | Effect::Quit => None,
    };
    effects.iter().filter_map(short).collect()
}

/// The streams that are followed among effects.
fn followed(effects: &[Effect]) -> Vec<(Slot, u64)> {
    let follow = |effect: &Effect| match effect {
        Effect::Follow { feed, serial } => Some((feed.slot(), *serial)),
        Effect::Ask(_) | Effect::Unfollow(_) | Effect::Stop | Effect::Redraw | Effect::Quit => None,
    };
    effects.iter().filter_map(follow).collect()
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn summary(run: &str, state: &str) -> Value {
    let at = "2026-01-31T07:59:00Z";
    json!({"run": run, "flow": "bake", "state": state, "started_at": at, "changed_at": at})
}

fn runs(ids: &[(&str, &str)], next: Option<&str>) -> Answer {
    let runs: Vec<Value> = ids.iter().map(|(run, state)| summary(run, state)).collect();
    Answer::Runs(Ok(read::<Runs>(json!({"runs": runs, "next": next}))))
}

fn run_of(state: &str) -> Box<Run> {
    let tasks = json!([
        {"kind": "task", "name": "pan", "state": "rollback-failure"},
        {"kind": "task", "name": "oven", "state": "success"},
    ]);
    let at = "2026-01-31T07:59:00Z";
    read(
        json!({"run": "r1", "flow": "bake", "state": state, "revision": 1, "started_at": at, "changed_at": at, "tasks": tasks,
        "inputs": {}, "provides": {}, "failures": {}}),
    )
}

fn graph_of() -> Box<RunGraph> {
    let nodes = json!([
        {"name": "pan", "kind": "task", "state": "rollback-failure"},
        {"name": "oven", "kind": "task", "state": "success"},
        {"name": "slices", "kind": "for-each", "state": "running", "elements": {"count": 300, "succeeded": 2}},
    ]);
    read(json!({"run": "r1", "flow": "bake", "revision": 1, "last_revision": 1, "nodes": nodes, "links": []}))
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, text: "why".into() }
}

fn run_event(run: &str, state: &str) -> Item {
    Item::Runs(read::<RunsEvent>(json!({"event": "run", "run": run, "flow": "bake", "state": state, "at": "now"})))
}

#[test]
fn the_list_is_live_and_reads_only_a_page() {
    let mut dashboard = Dashboard::new(None);
    let effects = dashboard.after(0);
    assert_eq!(asked(&effects), ["runs None #0", "counts #0"]);
    assert_eq!(followed(&effects), [(Slot::Runs, 0)]);
    let Some(Effect::Ask(Question { about: About::Runs(ListQuery { limit, .. }), .. })) = effects.first() else {
        panic!("{effects:?}");
    };
    assert_eq!(*limit, Some(runs::PAGE_RUNS), "however many runs there are");
    dashboard.answer(0, runs(&[("r2", "running"), ("r1", "success")], Some("after r1")));
    dashboard.key(Key::Move(Movement::Down));
    dashboard.receive(Slot::Runs, 0, vec![run_event("r2", "failure"), run_event("r3", "running")]);
    assert_eq!(dashboard.model.runs.runs()[0].state.as_str(), "failure", "a known run changes at once");
    assert!(asked(&dashboard.after(100)).is_empty(), "many events are one question");
    assert_eq!(asked(&dashboard.after(1_000)), ["runs None #0"]);
    dashboard.answer(0, runs(&[("r3", "running"), ("r2", "failure"), ("r1", "success")], Some("after r1")));
    assert_eq!(dashboard.model.runs.selected().unwrap().run, "r1", "the selected run stays selected");
    assert_eq!(asked(&dashboard.keys("]")), ["runs Some(\"after r1\") #1"]);
    dashboard.answer(0, runs(&[("r9", "running")], None));
    assert!(dashboard.model.runs.runs().is_empty(), "an answer about the page before is not taken");
    dashboard.answer(1, runs(&[("r0", "success")], None));
    dashboard.millis += 2_000;
    let effects = dashboard.receive(Slot::Runs, 0, vec![run_event("r4", "running")]);
    assert!(asked(&effects).is_empty(), "new runs are on the first page");
    assert_eq!(asked(&dashboard.keys("[")), ["runs None #2"]);
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    dashboard.keys("s");
    assert!(asked(&dashboard.keys("running qCy")).is_empty(), "keys are text now");
    dashboard.key(Key::Control('w'));
    dashboard.keys("failure");
    assert_eq!(asked(&dashboard.key(Key::Enter)), ["runs None #1", "counts #1"]);
    assert_eq!(dashboard.model.runs.filter.state.as_deref(), Some("running,failure"));
    dashboard.keys("l");
    dashboard.key(Key::Paste("team=shop size=a,b\n".into()));
    let effects = dashboard.key(Key::Enter);
    assert_eq!(dashboard.model.runs.filter.label, ["team=shop", "size=a,b"]);
    assert_eq!(followed(&effects), [(Slot::Runs, 1)], "the events are filtered too");
    dashboard.keys("/x");
    dashboard.key(Key::Escape);
    assert_eq!(dashboard.model.runs.filter.text, None);
    dashboard.keys("x");
    assert!(dashboard.model.runs.filter.is_empty());
}

#[test]
fn the_namespace_and_the_times_of_the_command_line_stay() {
    let mut dashboard = Dashboard::new(None);
    let given = ["shop", "2026-01-30T00:00:00Z", "2026-02-01T00:00:00Z"];
    let [namespace, since, until] = given.map(|text| Some(text.to_owned()));
    let given = RunFilter { namespace, since, until, ..RunFilter::default() };
    dashboard.model.runs.filter =
        RunFilter { flow: Some("bake".into()), label: vec!["urgent".into()], ..given.clone() };
    dashboard.keys("x");
    assert_eq!(dashboard.model.runs.filter, given);
}

#[test]
fn a_command_is_sent_only_after_a_yes() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    assert!(asked(&dashboard.keys("Cy")).is_empty() && dashboard.model.dialog.is_none(), "nothing is selected");
    dashboard.answer(0, runs(&[("r2", "running"), ("r1", "success")], None));
    assert!(asked(&dashboard.keys("R")).is_empty());
    assert_eq!(dashboard.message(), "r2 is running: only a suspended run can be resumed");
    dashboard.keys("C");
    assert!(matches!(&dashboard.model.dialog, Some(Dialog::Confirm(asked)) if asked.title == "Cancel run r2?"));
    dashboard.key(Key::Paste("y".into()));
    dashboard.key(Key::Enter);
    assert!(dashboard.model.dialog.is_some(), "neither a pasted text nor Enter is a yes");
    // The list moves below the question.
    dashboard.answer(0, runs(&[("r3", "running"), ("r2", "running")], None));
    let cancel = Command::Run { run: "r2".into(), action: BulkAction::Cancel };
    assert_eq!(asked(&dashboard.keys("y")), [format!("{cancel:?} #0")]);
    dashboard.answer(0, Answer::Command(cancel.clone(), Ok("r2 is cancelling".into())));
    assert_eq!(dashboard.message(), "r2 is cancelling");
    dashboard.answer(0, Answer::Command(cancel, Err(failure(FailureKind::Refused))));
    assert_eq!(dashboard.message(), "r2: why");
    dashboard.keys("Sn");
    assert_eq!((dashboard.message(), &dashboard.model.dialog), ("nothing was done", &None));
}

#[test]
fn a_failed_rollback_is_skipped_with_a_reason() {
    let mut dashboard = Dashboard::new(Some("r1"));
    assert_eq!(asked(&dashboard.after(0)), ["run r1 #0", "graph r1 #0"]);
    dashboard.answer(0, Answer::Run("r1".into(), Ok(run_of("failure"))));
    dashboard.answer(0, Answer::Graph("r1".into(), Ok(graph_of())));
    dashboard.key(Key::Move(Movement::Down));
    dashboard.keys("K");
    assert_eq!(dashboard.message(), "oven is success: only a task in rollback-failure can be skipped");
    dashboard.key(Key::Move(Movement::Up));
    dashboard.keys("K");
    dashboard.key(Key::Enter);
    assert!(matches!(dashboard.model.dialog, Some(Dialog::Reason { .. })), "an empty reason is none");
    dashboard.keys("washed by hand");
    dashboard.key(Key::Enter);
    let skip = Command::Skip { run: "r1".into(), task: "pan".into(), reason: "washed by hand".into() };
    assert_eq!(asked(&dashboard.keys("y")), [format!("{skip:?} #0")]);
}

#[test]
fn a_run_shows_its_tree_its_events_and_the_lines_of_a_task() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    dashboard.answer(0, runs(&[("r1", "running")], None));
    let effects = dashboard.key(Key::Enter);
    assert_eq!(asked(&effects), ["run r1 #0", "graph r1 #0"]);
    assert_eq!(followed(&effects), [(Slot::Changes, 1)]);
    dashboard.answer(0, Answer::Run("r1".into(), Ok(run_of("running"))));
    dashboard.answer(0, Answer::Graph("r1".into(), Ok(graph_of())));
    dashboard.answer(0, Answer::Graph("r0".into(), Err(failure(FailureKind::Refused))));
    assert_eq!(dashboard.model.run.as_ref().unwrap().rows.len(), 3, "an answer about another run is not taken");
    let row = ChangeRow { at: None, text: "oven running".into(), state: Some(NodeState::Running) };
    dashboard.receive(Slot::Changes, 0, vec![Item::Change(row.clone())]);
    assert!(dashboard.model.run.as_ref().unwrap().changes.rows.is_empty(), "of an earlier stream");
    dashboard.millis += 2_000;
    let effects = dashboard.receive(Slot::Changes, 1, vec![Item::Change(row)]);
    assert_eq!(asked(&effects), ["run r1 #0", "graph r1 #0"], "a change is read");
    dashboard.key(Key::Move(Movement::Last));
    assert_eq!(asked(&dashboard.key(Key::Enter)), ["elements r1 slices None #0"]);
    let elements: Vec<Value> = (0..100).map(|number| json!({"number": number, "state": "success"})).collect();
    let page = json!({"run": "r1", "task": "slices", "firing": 1, "count": 300, "elements": elements, "next": 99});
    dashboard.answer(0, Answer::Elements("r1".into(), "slices".into(), Ok(read(page))));
    assert_eq!(dashboard.model.run.as_ref().unwrap().rows.len(), 104, "the elements, and that there are more");
    assert_eq!(asked(&dashboard.keys("]")), ["elements r1 slices Some(99) #1"]);
    dashboard.key(Key::Move(Movement::First));
    let effects = dashboard.key(Key::Enter);
    assert_eq!(followed(&effects), [(Slot::Lines, 2)], "the lines of the task");
    dashboard.receive(Slot::Lines, 2, vec![Item::Line("pan | info hot".into()), Item::End]);
    let run = dashboard.model.run.as_ref().unwrap();
    assert_eq!((run.pane, run.task.as_deref(), run.lines.rows.len()), (Pane::Logs, Some("pan"), 1));
    assert!(followed(&dashboard.after(60_000)).is_empty(), "nothing follows");
    assert_eq!(followed(&dashboard.keys("a")), [(Slot::Lines, 3)], "the lines of all tasks");
}

#[test]
fn a_run_that_is_retried_is_followed_again() {
    let mut dashboard = Dashboard::new(Some("r1"));
    assert_eq!(followed(&dashboard.after(0)), [(Slot::Changes, 0)]);
    dashboard.answer(0, Answer::Run("r1".into(), Ok(run_of("rolled-back"))));
    dashboard.receive(Slot::Changes, 0, vec![Item::End]);
    assert!(followed(&dashboard.after(10_000)).is_empty());
    let effects = dashboard.answer(0, Answer::Run("r1".into(), Ok(run_of("running"))));
    assert_eq!(followed(&effects), [(Slot::Changes, 1)]);
}

#[test]
fn a_lost_connection_comes_back() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    dashboard.answer(0, runs(&[("r1", "running")], None));
    assert_eq!(dashboard.model.connection, Connection::Live);
    dashboard.after(10_000);
    dashboard.answer(0, Answer::Runs(Err(failure(FailureKind::Unavailable))));
    dashboard.receive(Slot::Runs, 0, vec![Item::Failed(failure(FailureKind::Unavailable))]);
    assert!(matches!(&dashboard.model.connection, Connection::Lost { reason, .. } if reason == "why"));
    assert_eq!(dashboard.model.runs.runs().len(), 1, "the last list stays");
    let effects = dashboard.after(500);
    assert!(asked(&effects).is_empty() && followed(&effects).is_empty(), "it waits");
    assert_eq!(asked(&dashboard.after(500)), ["runs None #0"]);
    dashboard.answer(0, runs(&[("r2", "running")], None));
    assert_eq!(dashboard.model.connection, Connection::Live);
    assert_eq!(followed(&dashboard.after(2_000)), [(Slot::Runs, 1)]);
}

#[test]
fn a_revoked_token_ends_all_questions_until_a_person_asks() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    dashboard.answer(0, runs(&[("r1", "running")], None));
    dashboard.receive(Slot::Runs, 0, vec![Item::Failed(failure(FailureKind::Token))]);
    assert_eq!(dashboard.model.connection, Connection::Denied { reason: "why".into() });
    for _ in 0..100 {
        let effects = dashboard.after(60_000);
        assert!(asked(&effects).is_empty() && followed(&effects).is_empty());
    }
    let effects = dashboard.key(Key::Control('r'));
    assert_eq!((asked(&effects).len(), followed(&effects).len()), (2, 1));
}

#[test]
fn only_what_is_shown_is_asked() {
    let mut dashboard = Dashboard::new(None);
    dashboard.after(0);
    assert_eq!(asked(&dashboard.keys("2")), ["workers #0", "engines #0"]);
    let worker = json!({"name": "w1", "slots": 2, "busy": 1, "queues": ["default"], "version": "1", "state": "active"});
    dashboard.answer(0, Answer::Workers(Ok(read::<Workers>(json!({"workers": [worker]})))));
    dashboard.answer(0, Answer::Engines(Err(failure(FailureKind::Refused))));
    assert_eq!(dashboard.model.workers.engines.error.as_deref(), Some("why"), "the rest of the screen works");
    dashboard.keys("A");
    assert_eq!(dashboard.message(), "w1 takes jobs already");
    dashboard.keys("D");
    let drain = Command::Drain { worker: "w1".into() };
    assert_eq!(asked(&dashboard.keys("y")), [format!("{drain:?} #0")]);
    assert_eq!(asked(&dashboard.keys("3")), ["queues #0", "permits #0"]);
    assert!(asked(&dashboard.after(4_000)).is_empty(), "they are awaited, and workers are not shown");
}

#[test]
fn the_help_and_the_end() {
    let mut dashboard = Dashboard::new(None);
    dashboard.keys("?j");
    assert_eq!(dashboard.model.help, Some(1));
    dashboard.key(Key::Move(Movement::Last));
    assert_eq!(dashboard.model.help, Some(help::LINES.len() - 20));
    dashboard.keys("q");
    assert_eq!(dashboard.model.help, None, "it closes only the help");
    assert!(matches!(dashboard.keys("q")[..], [Effect::Quit]));
    dashboard.keys("f");
    assert!(matches!(dashboard.key(Key::Control('c'))[..], [Effect::Quit]), "also while something is typed");
    assert!(matches!(dashboard.key(Key::Control('z'))[..], [Effect::Stop]));
}

#[test]
fn a_message_disappears() {
    let mut dashboard = Dashboard::new(None);
    dashboard.model.say("hello", false);
    dashboard.after(15_000);
    assert_eq!(dashboard.message(), "hello");
    dashboard.after(1);
    assert_eq!(dashboard.message(), "");
}
