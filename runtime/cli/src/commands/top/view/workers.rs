//! Draws the workers, the calls of the selected one, and the engines.

use api::{Engine, Worker, WorkerCall, WorkerState};

use super::{
    canvas::{Canvas, Tone},
    nothing, on_screen,
    table::{Column, INDENT, Table, longest},
};
use crate::commands::top::model::{ENGINES, Model, WORKER_CALLS};

pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>) {
    let screen = &model.workers;
    let workers = screen.list();
    let columns = [
        Column::left("WORKER", longest(workers.iter().map(|worker| worker.name.as_str()), 8, 30), 8),
        Column::right("SLOTS", 5),
        Column::right("BUSY", 5),
        Column::left("STATE", 8, 8),
        Column::left("HOST", longest(workers.iter().filter_map(|worker| worker.host.as_deref()), 4, 20), 4),
        Column::left("VERSION", 7, 7),
        Column::left("QUEUES", 6, 6),
    ];
    let table = Table::new(columns, canvas.width());
    table.head(canvas, 1);
    if !nothing(canvas, 2, &screen.workers, workers.is_empty(), "no worker answers; `waft worker` starts one") {
        for (y, is_selected, worker) in on_screen(workers, screen.cursor, 2, model.size.workers()) {
            table.row(canvas, y, cells(worker));
            if is_selected {
                canvas.select(y);
            }
        }
    }
    let engines = canvas.height() - 1 - ENGINES;
    calls(screen.selected(), canvas, engines - WORKER_CALLS);
    draw_engines(model, canvas, engines);
}

fn cells(worker: &Worker) -> [(String, Tone); 7] {
    let Worker { name, host, slots, own_slots, busy, queues, version, state, .. } = worker;
    let queue = |queue: &String| match own_slots.get(queue) {
        Some(slots) => format!("{queue}={slots}"),
        None => queue.clone(),
    };
    let tone = match state {
        Some(WorkerState::Active) => Tone::Good,
        Some(WorkerState::Draining | WorkerState::Exiting) => Tone::Caution,
        // A newer server may know others.
        Some(_) | None => Tone::Plain,
    };
    [
        (name.clone(), Tone::Plain),
        (slots.to_string(), Tone::Plain),
        (busy.to_string(), Tone::Plain),
        (state.as_ref().map_or("-", WorkerState::as_str).to_owned(), tone),
        (host.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
        (version.clone(), Tone::Plain),
        (queues.iter().map(queue).collect::<Vec<_>>().join(","), Tone::Plain),
    ]
}

/// The calls of the selected worker, those that have run longest first.
fn calls(worker: Option<&Worker>, canvas: &mut Canvas<'_>, first: u16) {
    let Some(worker) = worker else { return };
    canvas.line(INDENT, first, &format!("CALLS OF {}", worker.name), Tone::Faint);
    let other = (worker.other_calls > 0).then(|| format!("{} calls of other namespaces", worker.other_calls));
    let room = usize::from(WORKER_CALLS) - 1 - usize::from(other.is_some());
    let all = worker.calls.len() + worker.more_calls as usize;
    // One line says how many are not shown.
    let shown = if worker.calls.len() == all && all <= room { all } else { worker.calls.len().min(room - 1) };
    let hidden = (all > shown).then(|| format!("{} more calls", all - shown));
    let lines = worker.calls.iter().take(shown).map(call).chain(hidden).chain(other);
    for (line, y) in lines.zip(first + 1..) {
        canvas.line(INDENT, y, &line, Tone::Plain);
    }
}

fn call(WorkerCall { flow, run, task, firing, attempt, call, seconds }: &WorkerCall) -> String {
    format!("{call} {flow} {run} {task}, firing {firing}, attempt {attempt}, for {seconds:.0} s")
}

fn draw_engines(model: &Model, canvas: &mut Canvas<'_>, first: u16) {
    let loaded = &model.workers.engines;
    let engines = loaded.value.as_ref().map(|engines| &engines.engines[..]).unwrap_or_default();
    let columns = [
        Column::left("ENGINE", longest(engines.iter().map(|engine| engine.engine.as_str()), 8, 30), 8),
        Column::right("RUNS", 6),
        Column::left("HOST", longest(engines.iter().filter_map(|engine| engine.host.as_deref()), 4, 20), 4),
        Column::left("VERSION", 7, 7),
        Column::left("SHARDS", 6, 6),
    ];
    let table = Table::new(columns, canvas.width());
    table.head(canvas, first);
    if nothing(canvas, first + 1, loaded, engines.is_empty(), "no engine was found") {
        return;
    }
    let unanswered = loaded.value.as_ref().map(|engines| engines.unanswered.join(", ")).unwrap_or_default();
    let notes = usize::from(!unanswered.is_empty());
    let visible = usize::from(ENGINES) - 1 - notes;
    let shown = if engines.len() > visible { visible - 1 } else { engines.len() };
    let mut y = first + 1;
    for engine in &engines[..shown] {
        table.row(canvas, y, engine_cells(engine));
        y += 1;
    }
    if shown < engines.len() {
        canvas.line(INDENT, y, &format!("{} more engines", engines.len() - shown), Tone::Faint);
        y += 1;
    }
    if !unanswered.is_empty() {
        canvas.line(INDENT, y, &format!("no engine has answered for the shards {unanswered}"), Tone::Caution);
    }
}

fn engine_cells(Engine { engine, host, version, shards, .. }: &Engine) -> [(String, Tone); 5] {
    let text = |text: &Option<String>| (text.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain);
    let runs = shards.iter().map(|shard| shard.runs).fold(0, u64::saturating_add);
    let names = shards.iter().map(|shard| shard.shard.as_str()).collect::<Vec<_>>().join(",");
    [(engine.clone(), Tone::Plain), (runs.to_string(), Tone::Plain), text(host), text(version), (names, Tone::Plain)]
}
