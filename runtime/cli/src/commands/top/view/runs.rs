//! Draws the list of runs.

use api::Summary;

use super::{
    canvas::{Canvas, Tone},
    nothing, on_screen,
    table::{Column, INDENT, Table, longest},
    words,
};
use crate::commands::{
    list::shown_labels,
    top::model::{Model, RunsScreen},
};

pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>) {
    let screen = &model.runs;
    let (width, half) = (canvas.width(), canvas.width() / 2);
    let end = canvas.put(INDENT, 1, half, &filter(screen), Tone::Plain);
    canvas.put_right(width, 1, width.saturating_sub(end + 2), &counts(screen), Tone::Plain);
    let runs = screen.runs();
    let columns = [
        Column::left("STATE", 13, 13),
        Column::left("RUN", longest(runs.iter().map(|run| run.run.as_str()), 8, 36), 8),
        Column::right("LASTED", 7),
        Column::left("FLOW", longest(runs.iter().map(|run| run.flow.as_str()), 4, 24), 4),
        Column::right("AGE", 7),
        Column::left("LABELS", 6, 6),
    ];
    let table = Table::new(columns, width);
    table.head(canvas, 2);
    if nothing(canvas, 3, &screen.page, runs.is_empty(), empty(screen)) {
        return;
    }
    for (y, is_selected, run) in on_screen(runs, screen.cursor, 3, model.size.list()) {
        let Summary { run, flow, state, labels, started_at, changed_at, .. } = run;
        let (mark, tone) = words::of_run(state);
        let end = state.is_final().then_some(changed_at.as_str());
        let cells = [
            (format!("{mark} {state}"), tone),
            (run.clone(), Tone::Plain),
            (words::lasted(Some(started_at), end, model.now.wall), Tone::Plain),
            (flow.clone(), Tone::Plain),
            (words::lasted(Some(started_at), None, model.now.wall), Tone::Faint),
            (shown_labels(labels), Tone::Faint),
        ];
        table.row(canvas, y, cells);
        if is_selected {
            canvas.select(y);
        }
    }
}

fn filter(screen: &RunsScreen) -> String {
    let pairs = screen.filter.pairs();
    if pairs.is_empty() {
        return "all runs".to_owned();
    }
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn empty(screen: &RunsScreen) -> &'static str {
    match screen.filter.is_empty() {
        true => "there are no runs yet; `waft submit FLOW` starts one",
        false => "no run fits; x shows all",
    }
}

/// The page, and how many runs there are.
fn counts(screen: &RunsScreen) -> String {
    let page = match screen.pages.number() {
        1 if screen.pages.next.is_none() => String::new(),
        number => format!("page {number}"),
    };
    let counts = screen.totals().map(|(total, states)| {
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let more = if screen.counts.value.as_ref().is_some_and(|counts| counts.more) { "more than " } else { "" };
        format!("{more}{total} runs: {}", states.join(", "))
    });
    [page, counts.unwrap_or_default()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}
