//! Draws the queues of jobs, and the tasks whose calls need permits.

use api::{JobQueue, QueueState, TaskPermits};

use super::{
    canvas::{Canvas, Tone},
    nothing, on_screen,
    table::{Column, INDENT, Table},
};
use crate::commands::top::model::{Focus, Model};

pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>) {
    let screen = &model.queues;
    let columns = [
        Column::right("MESSAGES", 8),
        Column::right("CONSUMERS", 9),
        Column::right("WORKERS", 7),
        Column::left("STATE", 10, 6),
        Column::left("QUEUE", 10, 5),
    ];
    let table = Table::new(columns, canvas.width());
    table.head(canvas, 1);
    page(canvas, 1, screen.queue_pages.number(), screen.queue_pages.next.is_some());
    let queues = screen.queue_list();
    if !nothing(canvas, 2, &screen.queues, queues.is_empty(), "no queue is known") {
        for (y, is_selected, queue) in on_screen(queues, screen.queue, 2, model.size.queues()) {
            table.row(canvas, y, queue_cells(queue));
            if is_selected && screen.focus == Focus::Queues {
                canvas.select(y);
            }
        }
    }
    let first = u16::try_from(model.size.queues()).unwrap_or(u16::MAX).saturating_add(2);
    permits(model, canvas, first);
}

/// The number of the page, if there are several.
fn page(canvas: &mut Canvas<'_>, y: u16, number: usize, has_more: bool) {
    if number > 1 || has_more {
        let width = canvas.width();
        canvas.put_right(width, y, width, &format!("page {number}"), Tone::Faint);
    }
}

fn queue_cells(JobQueue { queue, state, messages, consumers, workers }: &JobQueue) -> [(String, Tone); 5] {
    let number = |number: &Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    // Jobs wait, and nobody takes them.
    let is_stuck = messages.is_some_and(|messages| messages > 0) && *workers == 0;
    let tone = if *state == QueueState::Exists { Tone::Plain } else { Tone::Caution };
    let count_tone = if is_stuck { Tone::Bad } else { Tone::Plain };
    [
        (number(messages), count_tone),
        (number(consumers), Tone::Plain),
        (workers.to_string(), count_tone),
        (state.to_string(), tone),
        (queue.clone(), Tone::Plain),
    ]
}

fn permits(model: &Model, canvas: &mut Canvas<'_>, first: u16) {
    let screen = &model.queues;
    let columns = [
        Column::right("PERMITS", 8),
        Column::right("MAX", 9),
        Column::right("WAITING", 7),
        Column::left("RATE", 10, 6),
        Column::left("TASK", 10, 5),
    ];
    let table = Table::new(columns, canvas.width());
    table.head(canvas, first);
    page(canvas, first, screen.permit_pages.number(), screen.permit_pages.next.is_some());
    let tasks = screen.permit_list();
    let unanswered = screen.permits.value.as_ref().map(|permits| permits.unanswered.join(", ")).unwrap_or_default();
    if !unanswered.is_empty() {
        let (y, text) = (canvas.height() - 2, format!("no engine has answered for the shards {unanswered}"));
        canvas.line(INDENT, y, &text, Tone::Caution);
    }
    // A page may have no task while others have some.
    let is_one_of_several = screen.permit_pages.number() > 1 || screen.permit_pages.next.is_some();
    let none = match is_one_of_several {
        true => "no call of this page holds a permit or waits for one",
        false => "no call holds a permit or waits for one",
    };
    if nothing(canvas, first + 1, &screen.permits, tasks.is_empty(), none) {
        return;
    }
    let visible = model.size.permits() - usize::from(!unanswered.is_empty());
    for (y, is_selected, task) in on_screen(tasks, screen.permit, first + 1, visible) {
        table.row(canvas, y, permit_cells(task));
        if is_selected && screen.focus == Focus::Permits {
            canvas.select(y);
        }
    }
}

fn permit_cells(permits: &TaskPermits) -> [(String, Tone); 5] {
    let TaskPermits { flow, task, max_running, rate, given, waiting, .. } = permits;
    [
        (given.to_string(), Tone::Plain),
        (max_running.map_or_else(|| "-".to_owned(), |max| max.to_string()), Tone::Plain),
        (waiting.to_string(), if *waiting > 0 { Tone::Caution } else { Tone::Plain }),
        (rate.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
        (format!("{flow} {task}"), Tone::Plain),
    ]
}
