//! Draws one run.

use api::{Failure, RunGraph};

use super::{
    canvas::{Canvas, Tone, wrapped},
    nothing, on_screen, tab,
    table::{Column, INDENT, Table, longest},
    timeline, words,
};
use crate::commands::{
    list::shown_labels,
    show::call_location,
    top::model::{DETAILS, Model, Pane, RowKind, RunScreen, Tail, TreeRow},
};

/// The line in which the view begins.
const FIRST: u16 = 3;

/// The maximum length of a failure's message that is shown, in characters.
const MAX_MESSAGE: usize = 1_000;

pub(super) fn draw(model: &Model, run: &RunScreen, canvas: &mut Canvas<'_>) {
    head(model, run, canvas);
    let mut x = INDENT;
    for (pane, name) in
        [(Pane::Graph, "g Graph"), (Pane::Timeline, "t Timeline"), (Pane::Events, "e Events"), (Pane::Logs, "o Output")]
    {
        x = tab(canvas, x, 2, name, run.pane == pane);
    }
    let width = canvas.width();
    canvas.put_right(width, 2, width.saturating_sub(x + 1), &about(run), Tone::Faint);
    match run.pane {
        Pane::Graph => graph(model, run, canvas),
        Pane::Timeline => timeline::draw(model, run, canvas),
        Pane::Events => stream(model, canvas, &run.changes, "no event yet", |row| {
            let at = row.at.as_deref().map_or("        ", words::clock);
            (format!("{at}  {}", row.text), words::of_node(row.state.as_ref()).1)
        }),
        Pane::Logs => {
            stream(model, canvas, &run.lines, "no guest has written anything", |line| (line.clone(), Tone::Plain))
        }
    }
}

/// The run's name, its flow and its state.
fn head(model: &Model, screen: &RunScreen, canvas: &mut Canvas<'_>) {
    let x = canvas.line(INDENT, 1, &screen.id, Tone::Strong) + 2;
    if let Some(error) = &screen.run.error {
        canvas.line(x, 1, error, Tone::Bad);
        return;
    }
    let Some(run) = &screen.run.value else { return };
    let x = canvas.line(x, 1, &run.flow, Tone::Plain) + 2;
    let (mark, tone) = words::of_run(&run.state);
    let state = if run.cancelling { "cancelling" } else { run.state.as_str() };
    let x = canvas.line(x, 1, &format!("{mark} {state}"), tone) + 2;
    let end = run.state.is_final().then_some(run.changed_at.as_str());
    let mut rest = vec![words::lasted(Some(&run.started_at), end, model.now.wall)];
    if run.revision > 1 {
        rest.push(format!("revision {}", run.revision));
    }
    rest.extend(run.fired.map(|fired| format!("fired {fired} times")));
    rest.push(shown_labels(&run.labels));
    canvas.line(x, 1, &rest.join("  "), Tone::Plain);
}

/// A note about the view.
fn about(run: &RunScreen) -> String {
    match run.pane {
        Pane::Graph => match &run.open_list {
            Some(list) if list.pages.number() > 1 => format!("page {} of {}", list.pages.number(), list.task),
            Some(_) | None => String::new(),
        },
        Pane::Timeline => match &run.timeline.value {
            Some(timeline) if timeline.earlier > 0 => format!("{} earlier attempts: [ shows them", timeline.earlier),
            Some(timeline) if timeline.trimmed_records > 0 => "older attempts were deleted".to_owned(),
            Some(_) | None => String::new(),
        },
        Pane::Events => dropped(&run.changes, "events"),
        Pane::Logs => {
            let tasks = run.task.as_ref().map_or_else(|| "of all tasks".to_owned(), |task| format!("of {task}"));
            format!("{tasks} {}", dropped(&run.lines, "lines")).trim_end().to_owned()
        }
    }
}

fn dropped<Row>(tail: &Tail<Row>, rows: &str) -> String {
    match tail.dropped {
        0 => String::new(),
        count => format!("without the {count} oldest {rows}"),
    }
}

/// The end of a stream, or the part of it that one reads.
fn stream<Row>(
    model: &Model,
    canvas: &mut Canvas<'_>,
    tail: &Tail<Row>,
    empty: &str,
    show: impl Fn(&Row) -> (String, Tone),
) {
    if tail.rows.is_empty() {
        canvas.line(INDENT, FIRST, empty, Tone::Faint);
    }
    for (row, y) in tail.shown(model.size.list()).zip(FIRST..) {
        let (text, tone) = show(row);
        canvas.line(INDENT, y, &text, tone);
    }
}

fn graph(model: &Model, screen: &RunScreen, canvas: &mut Canvas<'_>) {
    let names: Vec<String> = screen.rows.iter().map(name).collect();
    let visible = model.size.list_with_details();
    let shown = names.iter().skip(screen.cursor.top).take(visible).map(String::as_str);
    let half = usize::from(canvas.width() / 2);
    let columns = [
        Column::left("TASK", longest(shown, 10, half), 10),
        Column::left("STATE", 18, 9),
        Column::right("TRY", 3),
        Column::right("TOOK", 7),
        Column::left("NOTE", 10, 6),
    ];
    let table = Table::new(columns, canvas.width());
    if nothing(canvas, FIRST, &screen.graph, screen.rows.is_empty(), "the flow has no tasks") {
        return;
    }
    for ((y, is_selected, row), name) in
        on_screen(&screen.rows, screen.cursor, FIRST, visible).zip(names.iter().skip(screen.cursor.top))
    {
        let (state, tone) = words::of_node(row.state.as_ref());
        let attempt = row.attempt.filter(|attempt| *attempt > 1).map(|attempt| attempt.to_string()).unwrap_or_default();
        let (note, note_tone) = match (row.note.as_str(), &row.worker) {
            ("", Some(worker)) => (worker.clone(), Tone::Faint),
            (note, _) => (note.to_owned(), Tone::Plain),
        };
        let cells = [
            (name.clone(), Tone::Plain),
            (state, tone),
            (attempt, Tone::Plain),
            (took(model, row), Tone::Plain),
            (note, note_tone),
        ];
        table.row(canvas, y, cells);
        if is_selected {
            canvas.select(y);
        }
    }
    let lines = screen.selected().map(|row| details(screen, row, usize::from(canvas.width() - INDENT)));
    show_details(canvas, lines.unwrap_or_default());
}

/// Lines about the selected row, below the list.
pub(super) fn show_details(canvas: &mut Canvas<'_>, lines: Vec<String>) {
    let first = canvas.height() - 1 - DETAILS;
    for (line, y) in lines.into_iter().take(usize::from(DETAILS)).zip(first..) {
        canvas.line(INDENT, y, &line, Tone::Plain);
    }
}

/// The name of a row, further right the more flows contain it.
fn name(row: &TreeRow) -> String {
    // A hundred levels would leave no room.
    let indent = "  ".repeat(row.depth.min(20));
    let mark = match row.kind {
        RowKind::Flow { is_collapsed: true } | RowKind::List { is_open: false } => "+ ",
        RowKind::Flow { is_collapsed: false } | RowKind::List { is_open: true } => "- ",
        RowKind::Task | RowKind::Element | RowKind::More => "  ",
    };
    format!("{indent}{mark}{}", row.name)
}

/// How long the last call took, or takes.
fn took(model: &Model, row: &TreeRow) -> String {
    let state = row.state.as_ref().and_then(api::NodeState::to_runtime);
    let is_called = state.is_some_and(flow::State::is_called);
    match (&row.started_at, &row.at) {
        (Some(from), _) if is_called => words::lasted(Some(from), None, model.now.wall),
        (Some(from), Some(until)) => words::lasted(Some(from), Some(until), model.now.wall),
        (Some(_), None) | (None, _) => String::new(),
    }
}

/// What is before and after a node, where its call is, and why it failed.
fn details(screen: &RunScreen, row: &TreeRow, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(graph) = &screen.graph.value {
        lines.extend(neighbours(graph, &row.name));
    }
    let tasks = screen.run.value.iter().flat_map(|run| &run.tasks);
    for task in tasks.filter(|task| task.name == row.name) {
        lines.extend(task.out.as_ref().map(call_location));
        lines.extend(task.failure.iter().flat_map(|failure| failure_lines(failure, columns)));
    }
    lines
}

fn neighbours(graph: &RunGraph, name: &str) -> Option<String> {
    let before: Vec<&str> = graph.links.iter().filter(|link| link.to == name).map(|link| link.from.as_str()).collect();
    let after: Vec<&str> = graph.links.iter().filter(|link| link.from == name).map(|link| link.to.as_str()).collect();
    let part = |word: &str, names: &[&str]| (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")));
    let parts: Vec<String> = [part("after", &before), part("before", &after)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// A failure on several lines.
pub(super) fn failure_lines(Failure { kind, message, .. }: &Failure, columns: usize) -> Vec<String> {
    let message: String = message.chars().take(MAX_MESSAGE).collect();
    wrapped(&format!("{kind}: {message}"), columns)
}
