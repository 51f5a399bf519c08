//! Draws the timeline of a run: a bar for each attempt.

use api::{Action, TimelineAttempt};
use jiff::Timestamp;

use super::{
    canvas::{Canvas, Tone},
    nothing, on_screen,
    run::{failure_lines, show_details},
    table::{INDENT, longest},
    words::{self, time},
};
use crate::commands::top::model::{Model, RunScreen};

/// The line in which the bars begin.
const FIRST: u16 = 3;

/// The columns for the duration at the end of a line, with a space before it.
const DURATION: u16 = 8;

pub(super) fn draw(model: &Model, screen: &RunScreen, canvas: &mut Canvas<'_>) {
    let attempts = screen.timeline.value.as_ref().map(|timeline| &timeline.attempts[..]).unwrap_or_default();
    if nothing(canvas, FIRST, &screen.timeline, attempts.is_empty(), "no call was made yet") {
        return;
    }
    let visible = model.size.list_with_details();
    let labels: Vec<String> = attempts.iter().skip(screen.attempt.top).take(visible).map(label).collect();
    let width = canvas.width();
    let most = usize::from(width / 3);
    let label_width = u16::try_from(longest(labels.iter().map(String::as_str), 8, most)).unwrap_or(width);
    let begin = INDENT + label_width + 3;
    let scale = Scale::of(attempts, model.now.wall, width.saturating_sub(begin + DURATION));
    for ((y, is_selected, attempt), label) in on_screen(attempts, screen.attempt, FIRST, visible).zip(&labels) {
        let (mark, tone) = words::of_attempt(attempt.outcome.as_ref());
        canvas.put(INDENT, y, label_width, label, Tone::Plain);
        canvas.put(INDENT + label_width + 1, y, 1, mark, tone);
        if let Some((skipped, bar)) = scale.bar(attempt) {
            canvas.put(begin + skipped, y, scale.columns, &bar, tone);
        }
        let lasted = words::lasted(Some(&attempt.started_at), attempt.ended_at.as_deref(), model.now.wall);
        canvas.put_right(width, y, DURATION, &lasted, Tone::Plain);
        if is_selected {
            canvas.select(y);
        }
    }
    let lines = screen.selected_attempt().map(|attempt| details(attempt, usize::from(width - INDENT)));
    show_details(canvas, lines.unwrap_or_default());
}

/// The task of an attempt, with its firing and its number unless they are the first.
fn label(attempt: &TimelineAttempt) -> String {
    let mut label = attempt.task.clone();
    if attempt.firing > 1 {
        label.push_str(&format!(" firing {}", attempt.firing));
    }
    if attempt.attempt > 1 {
        label.push_str(&format!(" #{}", attempt.attempt));
    }
    label
}

fn details(attempt: &TimelineAttempt, columns: usize) -> Vec<String> {
    let TimelineAttempt { task, call, attempt: number, started_at, ended_at, outcome, worker, retry_in, .. } = attempt;
    let mut line = format!("{call} of {task}, attempt {number}, from {}", words::clock(started_at));
    line.extend(ended_at.iter().map(|end| format!(" to {}", words::clock(end))));
    line.extend(outcome.iter().map(|outcome| format!(": {outcome}")));
    line.extend(worker.iter().map(|worker| format!(", on {worker}")));
    line.extend(retry_in.iter().map(|seconds| format!(", again after {seconds:.1}s")));
    let failure = attempt.failure.iter().flat_map(|failure| failure_lines(failure, columns));
    std::iter::once(line).chain(failure).collect()
}

/// The times that the columns stand for.
struct Scale {
    from: Timestamp,
    until: Timestamp,
    now: Timestamp,
    columns: u16,
}

impl Scale {
    /// From the first start to the last end. An attempt in progress ends now.
    fn of(attempts: &[TimelineAttempt], now: Timestamp, columns: u16) -> Self {
        let from = attempts.iter().filter_map(|attempt| time(&attempt.started_at)).min().unwrap_or(now);
        let ends = attempts.iter().filter_map(|attempt| attempt.ended_at.as_deref().map_or(Some(now), time));
        let until = ends.max().unwrap_or(now).max(from);
        Self { from, until, now, columns }
    }

    /// The column of a time.
    fn column(&self, at: Timestamp) -> u16 {
        let micros = |at: Timestamp| i128::from(at.as_microsecond());
        let span = (micros(self.until) - micros(self.from)).max(1);
        let last = self.columns.saturating_sub(1);
        let column = (micros(at) - micros(self.from)).clamp(0, span) * i128::from(last) / span;
        u16::try_from(column).unwrap_or(last)
    }

    /// The columns before the bar of an attempt, and the bar; `None` if its times cannot be read.
    fn bar(&self, attempt: &TimelineAttempt) -> Option<(u16, String)> {
        let begin = self.column(time(&attempt.started_at)?);
        let end = self.column(attempt.ended_at.as_deref().map_or(Some(self.now), time)?);
        let length = usize::from(end.saturating_sub(begin)) + 1;
        let stroke = if attempt.call == Action::Rollback { "-" } else { "=" };
        let bar = match attempt.ended_at {
            Some(_) => stroke.repeat(length),
            None => stroke.repeat(length - 1) + ">",
        };
        Some((begin, bar))
    }
}
