//! The live table: one line per node, drawn in place, never longer than the terminal is high.
//!
//! `ratatui` takes the whole screen, and `indicatif` draws progress bars: neither keeps a table below the lines that are
//! printed and shortens it to its most informative rows.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use api::{NodeEvent, NodeKind, NodeState};
use crossterm::{
    Command as _, cursor,
    terminal::{self, Clear, ClearType},
};
use flow::{NodeName, StoredReferences};
use protocol::Progress;

use super::state::Appearance;
use crate::{
    colour::{self, Colour},
    output::{self, Stream},
    sanitize,
};

/// The state of each node, and of the screen.
pub(super) struct Table {
    rows: Vec<Row>,
    by_name: BTreeMap<NodeName, usize>,
    started_at: Instant,
    drawn_lines: u16,
    name_width: usize,
}

struct Row {
    name: NodeName,
    state: NodeState,
    attempt: u32,
    since: Instant,
    /// How long it took, once it is neither running nor rolling back.
    took: Option<Duration>,
    worker: Option<String>,
    message: String,
    elements: ElementStates,
}

/// The reported states of the list elements of a `for_each` task.
#[derive(Default)]
struct ElementStates {
    done: BTreeMap<u32, bool>,
    succeeded: usize,
}

impl ElementStates {
    fn note(&mut self, number: u32, is_done: bool) {
        let was_done = self.done.insert(number, is_done).unwrap_or(false);
        self.succeeded += usize::from(is_done);
        self.succeeded -= usize::from(was_done);
    }
}

impl Table {
    pub(super) fn new(nodes: impl Iterator<Item = NodeName>) -> Self {
        let row = |name| Row {
            name,
            state: NodeState::Pending,
            attempt: 1,
            since: Instant::now(),
            took: None,
            worker: None,
            message: String::new(),
            elements: ElementStates::default(),
        };
        let rows: Vec<Row> = nodes.map(row).collect();
        let by_name = rows.iter().enumerate().map(|(index, row)| (row.name.clone(), index)).collect();
        let name_width = rows.iter().map(|row| row.name.as_str().len()).max().unwrap_or(0).min(40);
        Self { rows, by_name, started_at: Instant::now(), drawn_lines: 0, name_width }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    pub(super) fn change(&mut self, event: &NodeEvent) {
        let Ok(name) = NodeName::new(&event.name) else { return };
        if let Some((task, number)) = name.as_element() {
            self.element_changed(&task, number, event);
            return;
        }
        let Some(row) = self.by_name.get(&name).and_then(|index| self.rows.get_mut(*index)) else { return };
        if is_called(&event.state) {
            row.since = Instant::now();
            row.took = None;
            row.message.clear();
            row.worker = None;
        } else {
            row.took = (event.state != NodeState::Pending).then(|| row.since.elapsed());
        }
        row.state = event.state.clone();
        row.attempt = event.attempt;
        if event.worker.is_some() {
            row.worker.clone_from(&event.worker);
        }
        if let Some(computed_by) = &event.computed_by {
            row.worker = Some(format!("remembered from {}", computed_by.run));
        }
        match (&event.failure, event.retry_in) {
            (Some(failure), Some(pause)) => row.message = format!("again in {pause:.1}s: {failure}"),
            (Some(failure), None) => row.message = failure.to_string(),
            (None, _) if event.kind == NodeKind::Retry => {
                let provided =
                    event.provides.as_ref().and_then(|provided| provided.read(StoredReferences::Accept).ok());
                let value = provided.and_then(|provided| provided.into_values().next());
                row.message = value.map(|value| format!("{value:?}")).unwrap_or_default();
            }
            (None, _) => {}
        }
    }

    /// Shows a change of a list element in the row of its task.
    fn element_changed(&mut self, task: &NodeName, number: u32, event: &NodeEvent) {
        let Some(row) = self.by_name.get(task).and_then(|index| self.rows.get_mut(*index)) else { return };
        row.elements.note(number, event.state == NodeState::Success);
        row.message = format!("{} of {} elements", row.elements.succeeded, row.elements.done.len());
        if let Some(failure) = &event.failure {
            row.message = format!("{}; element {number}: {failure}", row.message);
        }
    }

    pub(super) fn progress(&mut self, progress: &Progress) {
        let row = self.by_name.get(&progress.call.task).and_then(|index| self.rows.get_mut(*index));
        let Some(row) = row.filter(|row| is_called(&row.state)) else { return };
        row.worker = Some(progress.worker.to_string());
        row.message = progress.fraction.map(|fraction| format!("{:3.0}% ", fraction * 100.0)).unwrap_or_default();
        row.message.push_str(progress.message.as_deref().unwrap_or_default());
    }

    /// Draws the table in place, or below the existing output.
    pub(super) fn draw(&mut self, flow: &str, run: &str) {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let lines = self.lines(flow, run, usize::from(height.max(4)) - 1);
        let mut text = String::new();
        for line in &lines {
            text.push_str(&sanitize::cut(line, usize::from(width)));
            text.push_str("\r\n");
        }
        self.clear();
        output::draw(&text);
        self.drawn_lines = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    }

    /// Removes the table.
    pub(super) fn clear(&mut self) {
        if self.drawn_lines > 0 {
            let mut moves = String::new();
            // Writing to a string cannot fail.
            let _ = cursor::MoveToPreviousLine(self.drawn_lines).write_ansi(&mut moves);
            let _ = Clear(ClearType::FromCursorDown).write_ansi(&mut moves);
            output::draw(&moves);
        }
        self.drawn_lines = 0;
    }

    /// Leaves the table in place.
    pub(super) fn finish(&mut self) {
        self.drawn_lines = 0;
    }

    fn lines(&self, flow: &str, run: &str, max_rows: usize) -> Vec<String> {
        let colour = colour::on(Stream::Err);
        let elapsed = self.elapsed().as_secs_f64();
        let title = Colour::Bold.text(flow, colour);
        let mut lines = vec![format!("{title}  {}  {elapsed:.1}s", Colour::Dim.text(run, colour))];
        let shown = self.shown(max_rows.saturating_sub(2));
        lines.extend(shown.iter().map(|row| self.line(row, colour)));
        if shown.len() < self.rows.len() {
            lines.push(Colour::Dim.text(&self.summary_line(), colour));
        }
        lines
    }

    /// All rows in order, or as many as fit: the most informative rows first.
    fn shown(&self, max_rows: usize) -> Vec<&Row> {
        if self.rows.len() <= max_rows {
            return self.rows.iter().collect();
        }
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|index| (Appearance::of(&self.rows[*index].state).rank, *index));
        order.truncate(max_rows);
        order.sort_unstable();
        order.into_iter().map(|index| &self.rows[index]).collect()
    }

    fn summary_line(&self) -> String {
        let mut counts: BTreeMap<&NodeState, usize> = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(&row.state).or_default() += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
        let counts = sanitize::one_line(&counts.join(", "));
        format!("  {} in all: {counts}", self.rows.len())
    }

    fn line(&self, row: &Row, colour: bool) -> String {
        let elapsed = match (&row.state, row.took) {
            (state, _) if is_called(state) => format!("{:.1}s", row.since.elapsed().as_secs_f64()),
            (NodeState::Pending | NodeState::Ignored, _) => String::new(),
            (_, took) => took.map(|took| format!("{:.1}s", took.as_secs_f64())).unwrap_or_default(),
        };
        let attempt = if row.attempt > 1 { format!("#{}", row.attempt) } else { String::new() };
        // A server chooses the words of a state and of a worker, and a guest those of a message: colours in them are not waft's.
        let state = sanitize::one_line(&row.state.to_string());
        let state = Appearance::of(&row.state).text(&format!("{state:16}"), colour);
        let width = self.name_width;
        let mut line = format!(
            "  {} {:width$}  {state} {attempt:4} {elapsed:>7}",
            Appearance::of(&row.state).mark(colour),
            row.name
        );
        if let Some(worker) = &row.worker {
            let _ = write!(line, "  {}", Colour::Dim.text(&sanitize::one_line(worker), colour));
        }
        if let Some(first_line) = row.message.lines().next() {
            let _ = write!(line, "  {}", sanitize::one_line(first_line));
        }
        line
    }
}

/// Whether an apply or a rollback is with the workers.
fn is_called(state: &NodeState) -> bool {
    state.to_runtime().is_some_and(flow::State::is_called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_others_are_no_colours_of_the_table() {
        let name = NodeName::new("t").unwrap();
        let mut table = Table::new([name].into_iter());
        let painted = "\x1b[31;4mred";
        table.rows[0].message = painted.into();
        table.rows[0].worker = Some(painted.into());
        for colour in [true, false] {
            let line = table.line(&table.rows[0], colour);
            assert!(!line.contains(painted), "{line:?}");
            assert_eq!(line.matches("\\x1b[31;4mred").count(), 2, "{line:?}");
        }
    }
}
