//! The screens as text, in the files of `screens/`. `WAFT_WRITE_SCREENS=1` writes the files; read their differences before you commit them.

use std::{path::Path, time::Duration};

use api::RunFilter;
use ratatui::{Terminal, backend::TestBackend, style::Modifier};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    commands::top::{
        feeds::{ChangeRow, Feed, Item, Received, Slot},
        keys::{Key, Movement},
        model::{Effect, Incoming, Now},
        requests::{Answer, Answered},
    },
    sanitize,
};

/// A title, a clipboard, a cleared screen, reversed text, and the end of a line.
const EVIL: &str = "\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\u{9b}2A\u{202e}txt\u{2028}\r\ntwo";

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn model(size: Size, run: Option<&str>) -> Model {
    let now = Now { elapsed: Duration::ZERO, wall: "2026-01-31T08:00:00Z".parse().unwrap() };
    Model::new("http://127.0.0.1:7468".into(), RunFilter::default(), run.map(str::to_owned), now, size)
}

fn take(model: &mut Model, incoming: Incoming) -> Vec<Effect> {
    model.update(model.now, incoming)
}

fn answer(model: &mut Model, answer: Answer) {
    take(model, Incoming::Answered(Box::new(Answered { serial: 0, answer })));
}

fn keys(model: &mut Model, text: &str) {
    text.chars().for_each(|char| drop(take(model, Incoming::Key(Key::Char(char)))));
}

const SIZE: Size = Size { columns: 80, rows: 24 };

/// The screen as text, without the spaces at the ends of lines.
fn shown(model: &Model) -> String {
    let Size { columns, rows } = model.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(model, Palette::None, frame.buffer_mut())).unwrap();
    let cells = terminal.backend().buffer();
    let line = |y: u16| {
        let (mut line, mut x) = (String::new(), 0);
        while x < columns {
            let symbol = cells[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character covers the cell after it.
            x += u16::try_from(sanitize::columns(symbol).max(1)).unwrap();
        }
        line.trim_end().to_owned() + "\n"
    };
    (0..rows).map(line).collect()
}

#[track_caller]
fn assert_screen(model: &Model, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/top/view/screens").join(format!("{name}.txt"));
    let shown = shown(model);
    if std::env::var_os("WAFT_WRITE_SCREENS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(shown == expected, "the screen {name} is not that of {}:\n{shown}", path.display());
}

fn runs_answer() -> Answer {
    let run = |run: &str, flow: &str, state: &str, started: &str, changed: &str, labels: Value| json!({"run": run, "flow": flow, "state": state, "started_at": started, "changed_at": changed, "labels": labels});
    let runs = [
        run("bake-3", "bake-cake", "running", "2026-01-31T07:58:55Z", "2026-01-31T07:58:56Z", json!({"team": "shop"})),
        run("bake-2", "bake-cake", "failure", "2026-01-31T07:00:00Z", "2026-01-31T07:00:12.5Z", json!({})),
        run("漢字-1", "wide", "rolled-back", "2026-01-30T08:00:00Z", "2026-01-30T08:00:03Z", json!({})),
    ];
    Answer::Runs(Ok(read(json!({"runs": runs, "next": null}))))
}

fn counts_answer() -> Answer {
    let flows = json!([
        {"flow": "bake-cake", "states": {"running": 1, "failure": 1}},
        {"flow": "wide", "states": {"rolled-back": 1}},
    ]);
    Answer::Counts(Ok(read(json!({"flows": flows, "total": 3}))))
}

fn runs_model(size: Size) -> Model {
    let mut model = model(size, None);
    take(&mut model, Incoming::Tick);
    answer(&mut model, runs_answer());
    answer(&mut model, counts_answer());
    model
}

fn run_answer() -> Answer {
    let failure = json!({"kind": "transient", "message": "the oven is cold\nagain"});
    let tasks = json!([
        {"kind": "task", "name": "pan", "state": "success", "attempt": 1, "started_at": "2026-01-31T07:59:00Z",
         "at": "2026-01-31T07:59:00.5Z", "worker": "w1"},
        {"kind": "task", "name": "heat", "state": "running", "attempt": 2, "started_at": "2026-01-31T07:59:40Z",
         "at": "2026-01-31T07:59:40Z", "failure": failure,
         "out": {"queue": "ovens", "since": "2026-01-31T07:59:40Z", "unserved": true}},
    ]);
    let run = json!({"run": "bake-3", "flow": "bake-cake", "state": "running", "labels": {"team": "shop"}, "revision": 2,
        "started_at": "2026-01-31T07:58:55Z", "changed_at": "2026-01-31T07:59:40Z", "tasks": tasks, "inputs": {},
        "provides": {}, "failures": {}});
    Answer::Run("bake-3".into(), Ok(read(run)))
}

fn graph_answer() -> Answer {
    let nodes = json!([
        {"name": "pan", "kind": "task", "state": "success"},
        {"name": "heat", "kind": "task", "state": "running"},
        {"name": "icing", "kind": "flow", "retry": "up to 3 times", "state": "pending"},
        {"name": "mix", "kind": "task", "within": "icing", "state": "pending"},
        {"name": "slices", "kind": "for-each", "state": "pending", "elements": {"count": 12, "succeeded": 3}},
    ]);
    let links =
        json!([{"from": "pan", "to": "heat"}, {"from": "heat", "to": "icing"}, {"from": "heat", "to": "slices"}]);
    let graph = json!({"run": "bake-3", "flow": "bake-cake", "revision": 2, "last_revision": 2, "nodes": nodes, "links": links});
    Answer::Graph("bake-3".into(), Ok(read(graph)))
}

fn run_model() -> Model {
    let mut model = model(SIZE, Some("bake-3"));
    take(&mut model, Incoming::Tick);
    answer(&mut model, run_answer());
    answer(&mut model, graph_answer());
    model
}

#[test]
fn the_list_of_runs() {
    assert_screen(&runs_model(SIZE), "runs");
}

#[test]
fn a_small_terminal() {
    assert_screen(&runs_model(Size::LEAST), "small");
    let smaller = Size { columns: 30, rows: 5 };
    assert!(shown(&runs_model(smaller)).starts_with("too small: 40 columns and 16 …"));
}

#[test]
fn a_question_before_a_command() {
    let mut model = runs_model(SIZE);
    keys(&mut model, "C");
    assert_screen(&model, "question");
}

#[test]
fn the_graph_of_a_run() {
    let mut model = run_model();
    take(&mut model, Incoming::Key(Key::Move(Movement::Down)));
    assert_screen(&model, "graph");
}

#[test]
fn the_timeline_of_a_run() {
    let mut model = run_model();
    keys(&mut model, "t");
    let attempts = json!([
        {"task": "pan", "firing": 1, "attempt": 1, "call": "apply", "started_at": "2026-01-31T07:59:00Z",
         "ended_at": "2026-01-31T07:59:15Z", "outcome": "success", "worker": "w1"},
        {"task": "heat", "firing": 1, "attempt": 1, "call": "apply", "started_at": "2026-01-31T07:59:15Z",
         "ended_at": "2026-01-31T07:59:30Z", "outcome": "failure", "retry_in": 10.0,
         "failure": {"kind": "transient", "message": "the oven is cold"}},
        {"task": "pan", "firing": 1, "attempt": 1, "call": "rollback", "started_at": "2026-01-31T07:59:30Z",
         "ended_at": "2026-01-31T07:59:45Z", "outcome": "rolled-back"},
        {"task": "heat", "firing": 1, "attempt": 2, "call": "apply", "started_at": "2026-01-31T07:59:45Z"},
    ]);
    let timeline = json!({"run": "bake-3", "attempts": attempts, "earlier": 7});
    answer(&mut model, Answer::Timeline("bake-3".into(), Ok(read(timeline))));
    take(&mut model, Incoming::Key(Key::Move(Movement::First)));
    take(&mut model, Incoming::Key(Key::Move(Movement::Down)));
    assert_screen(&model, "timeline");
}

#[test]
fn the_workers_and_engines() {
    let mut model = model(SIZE, None);
    keys(&mut model, "2");
    let call = json!({"flow": "bake-cake", "run": "bake-3", "task": "heat", "firing": 1, "attempt": 2, "call": "apply",
        "seconds": 20.2});
    let workers = json!([
        {"name": "w1", "host": "alpha", "slots": 4, "busy": 6, "queues": ["default", "ovens"], "own_slots": {"ovens": 2},
         "version": "0.1.0", "state": "active", "calls": [call], "more_calls": 5},
        {"name": "w2", "slots": 4, "busy": 0, "queues": ["default"], "version": "0.1.0", "state": "draining"},
    ]);
    answer(&mut model, Answer::Workers(Ok(read(json!({"workers": workers})))));
    let shards = json!([{"shard": "0", "since": "2026-01-31T07:00:00Z", "runs": 2},
        {"shard": "1", "since": "2026-01-31T07:00:00Z", "runs": 5}]);
    let engines = json!([{"engine": "e1", "host": "beta", "version": "0.1.0", "shards": shards}]);
    answer(&mut model, Answer::Engines(Ok(read(json!({"engines": engines, "unanswered": ["7"]})))));
    assert_screen(&model, "workers");
}

#[test]
fn the_queues_and_permits() {
    let mut model = model(SIZE, None);
    keys(&mut model, "3");
    let queues = json!([
        {"queue": "default", "state": "exists", "messages": 0, "consumers": 2, "workers": 2},
        {"queue": "ovens", "state": "missing", "workers": 0},
    ]);
    answer(&mut model, Answer::Queues(Ok(read(json!({"queues": queues, "next": "ovens"})))));
    let tasks = json!([{"flow": "bake-cake", "task": "heat", "max_running": 2, "given": 2, "waiting": 14}]);
    answer(&mut model, Answer::Permits(Ok(read(json!({"tasks": tasks})))));
    assert_screen(&model, "queues");
}

#[test]
fn hostile_texts_are_shown_as_text() {
    let mut model = model(SIZE, None);
    take(&mut model, Incoming::Tick);
    let at = "2026-01-31T07:59:00Z";
    let runs = json!([{"run": EVIL, "flow": EVIL, "state": EVIL, "started_at": at, "changed_at": EVIL, "labels": {EVIL: EVIL}}]);
    answer(&mut model, Answer::Runs(Ok(read(json!({"runs": runs, "next": null})))));
    let harmless = |model: &Model, part: &str| {
        let shown = shown(model);
        let is_harmless = |char: char| !char.is_control() || char == '\n';
        assert!(shown.chars().all(is_harmless) && !shown.contains(['\u{202e}', '\u{2028}', '\u{9b}']), "{shown}");
        assert!(shown.contains(part), "{part} is not in\n{shown}");
        assert_eq!(shown.lines().count(), 24, "{shown}");
    };
    harmless(&model, r"\x1b]0;title\x07\x1b]52");
    keys(&mut model, "C");
    harmless(&model, r"│ \x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07");
    keys(&mut model, "nf");
    take(&mut model, Incoming::Key(Key::Paste(EVIL.into())));
    harmless(&model, "only runs of the flow: ");
    take(&mut model, Incoming::Key(Key::Escape));
    let mut followed = take(&mut model, Incoming::Key(Key::Enter));
    followed.retain(|effect| matches!(effect, Effect::Follow { feed: Feed::Changes { .. }, .. }));
    let [Effect::Follow { serial, .. }] = followed[..] else { panic!("{followed:?}") };
    let row = ChangeRow { at: Some(EVIL.into()), text: EVIL.into(), state: Some(EVIL.into()) };
    take(&mut model, Incoming::Received(Received { slot: Slot::Changes, serial, items: vec![Item::Change(row)] }));
    let failure = json!({"kind": EVIL, "message": EVIL});
    let tasks = json!([{"kind": "task", "name": EVIL, "state": "failure", "failure": failure, "worker": EVIL}]);
    let run = json!({"run": EVIL, "flow": EVIL, "state": EVIL, "revision": 1, "started_at": at, "changed_at": at, "tasks": tasks,
        "inputs": {}, "provides": {}, "failures": {}});
    answer(&mut model, Answer::Run(EVIL.into(), Ok(read(run))));
    let nodes = json!([{"name": EVIL, "kind": "task", "state": EVIL, "triggers": [EVIL]}]);
    let links = json!([{"from": EVIL, "to": EVIL}]);
    let graph = json!({"run": EVIL, "flow": EVIL, "revision": 1, "last_revision": 1, "nodes": nodes, "links": links});
    answer(&mut model, Answer::Graph(EVIL.into(), Ok(read(graph))));
    harmless(&model, r"after \x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07");
    keys(&mut model, "e");
    harmless(&model, r"  \x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2A");
}

#[test]
fn the_connection_is_in_the_title_and_its_problem_in_the_last_line() {
    let mut model = runs_model(SIZE);
    let last = |model: &Model| shown(model).lines().last().unwrap_or_default().to_owned();
    let title = |model: &Model| shown(model).lines().next().unwrap_or_default().to_owned();
    model.connection = Connection::Lost {
        since: Duration::ZERO,
        pause: Duration::from_secs(1),
        retry_at: Duration::from_secs(70),
        reason: "connection refused".into(),
    };
    model.now.elapsed = Duration::from_secs(65);
    assert!(title(&model).ends_with("  lost for 1m05s"), "{}", title(&model));
    assert_eq!(last(&model), "trying again: connection refused");
    model.connection = Connection::Denied { reason: "the token is not valid".into() };
    assert!(title(&model).ends_with("  token refused"));
    assert!(last(&model).starts_with("Ctrl-R asks again") && last(&model).contains("the token is not valid"));
    model.say("r1 is cancelling", false);
    assert_eq!(last(&model), "r1 is cancelling");
}

#[test]
fn colours_only_repeat_what_marks_say() {
    let model = runs_model(SIZE);
    let [coloured, plain] = [Palette::Colours, Palette::None].map(|palette| {
        let mut cells = Buffer::empty(ratatui::layout::Rect::new(0, 0, SIZE.columns, SIZE.rows));
        draw(&model, palette, &mut cells);
        cells
    });
    let symbols = |cells: &Buffer| cells.content().iter().map(|cell| cell.symbol().to_owned()).collect::<Vec<_>>();
    assert_eq!(symbols(&coloured), symbols(&plain));
    let reset = ratatui::style::Color::Reset;
    assert!(plain.content().iter().all(|cell| cell.fg == reset && cell.bg == reset));
    assert!(coloured.content().iter().any(|cell| cell.fg != reset));
    assert!(plain[(5_u16, 3_u16)].modifier.contains(Modifier::REVERSED), "the selected row");
}

#[test]
fn every_screen_fits_every_size() {
    for (columns, rows) in [(1, 1), (39, 15), (40, 16), (41, 17), (60, 40), (200, 60), (500, 16)] {
        let size = Size { columns, rows };
        let mut model = runs_model(size);
        for keys_of_screen in ["", "?", "?", "C", "n", "/x", "2", "3"] {
            keys(&mut model, keys_of_screen);
            shown(&model);
            if model.dialog.is_some() && keys_of_screen == "/x" {
                take(&mut model, Incoming::Key(Key::Escape));
            }
        }
        let mut model = run_model();
        take(&mut model, Incoming::Resized(size));
        for pane in ["g", "t", "e", "o", "K", "T"] {
            keys(&mut model, pane);
            shown(&model);
        }
    }
}
