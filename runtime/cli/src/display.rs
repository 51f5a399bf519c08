//! Shows a run: as JSON lines, as a live table on a terminal, or as plain lines elsewhere.

pub(crate) mod exchanges;
pub(crate) mod log;
pub(crate) mod rehearsal;
pub(crate) mod state;
mod summary;
mod table;

use std::{fmt::Display as Shown, time::Duration};

use api::{EventPayload, FiringEvent, NodeEvent};
use flow::{CallId, Flow, FlowName, NodeName, RunId, Size, Value, Values, graph::Role};
use machine::Machine;
use protocol::{LiveLine, Progress, events::RunValues};

use crate::{
    colour,
    output::{self, Stream},
    sanitize,
};
use table::Table;

/// Shows one run.
pub(crate) struct Display {
    run: RunId,
    flow: FlowName,
    style: Style,
    table: Table,
    full_value_hint: FullValueHint,
    guest_logs: GuestLogs,
}

/// Whether the log lines of guests are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestLogs {
    /// Between the changes.
    Show,
    /// Only `waft logs` shows them.
    Hide,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One JSON object per line on standard output, and nothing else there.
    Json,
    /// A table that is redrawn in place.
    Live,
    /// A line for every change.
    Lines,
}

impl Display {
    /// How often a live table is redrawn.
    pub(crate) const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(run: RunId, flow: &Flow, as_json: bool) -> Self {
        let is_shown = |index| matches!(flow.node(index).role, Role::Task(_) | Role::Wait(_) | Role::Controller(_));
        let shown = flow.indices().filter(|index| is_shown(*index));
        Self::of_nodes(run, flow.name.clone(), shown.map(|index| flow.node(index).name.clone()), as_json)
    }

    /// Shows a run of which only the names of its tasks and controllers are known.
    pub(crate) fn of_nodes(run: RunId, flow: FlowName, nodes: impl Iterator<Item = NodeName>, as_json: bool) -> Self {
        let style = match (as_json, colour::is_interactive(Stream::Err)) {
            (true, _) => Style::Json,
            (false, true) => Style::Live,
            (false, false) => Style::Lines,
        };
        Self {
            run,
            table: Table::new(nodes),
            flow,
            style,
            full_value_hint: FullValueHint::Show,
            guest_logs: GuestLogs::Show,
        }
    }

    /// The name of the run's flow.
    pub(crate) fn flow(&self) -> &FlowName {
        &self.flow
    }

    /// Sets the hint for truncated values, and whether guests' logs are shown.
    pub(crate) fn with_options(self, full_value_hint: FullValueHint, guests: GuestLogs) -> Self {
        Self { full_value_hint, guest_logs: guests, ..self }
    }

    /// Shows an event of the run.
    pub(crate) fn event(&mut self, event: &EventPayload) {
        match (event, self.style) {
            (event, Style::Json) => output::json(event.to_line()),
            (EventPayload::Node(event), Style::Live) => self.table.change(event),
            (EventPayload::Node(event), Style::Lines) => output::note!("{}", plain_line(event)),
            (EventPayload::Firing(FiringEvent { firing, state, .. }), Style::Lines) => {
                output::note!("firing {firing} {}", sanitize::one_line(&state.to_string()));
            }
            // The summary shows the state of the run.
            (EventPayload::Run(_) | EventPayload::Trimmed(_), Style::Lines | Style::Live)
            | (EventPayload::Firing(_), Style::Live) => {}
        }
    }

    /// Prints which run it is, if there is no table.
    pub(crate) fn begin(&self) {
        if self.style == Style::Lines && self.full_value_hint == FullValueHint::Show {
            output::note!("run {}", self.run);
        }
    }

    /// Shows lines of a guest, and whether its log was cut.
    pub(crate) fn log(&mut self, call: &CallId, lines: &[LiveLine], is_cut: bool) {
        let is_empty = lines.is_empty() && !is_cut;
        if is_empty || self.style == Style::Json || self.guest_logs == GuestLogs::Hide {
            return;
        }
        self.clear();
        let title = log::Title::of(call);
        let lines = lines.iter().map(|LiveLine { line, .. }| title.line(&line.level, &line.text));
        lines.chain(is_cut.then(|| title.cut())).for_each(|line| output::diagnostic(&line));
        self.draw();
    }

    /// Shows the progress of a call.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        self.table.progress(progress);
    }

    /// Redraws the table on a terminal.
    pub(crate) fn draw(&mut self) {
        if self.style == Style::Live {
            self.table.draw(self.flow.as_str(), self.run.as_str());
        }
    }

    /// Shows a note.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear();
        output::note!("{text}");
    }

    /// Removes a live table, so that other output may follow.
    pub(crate) fn clear(&mut self) {
        if self.style == Style::Live {
            self.table.clear();
        }
    }

    /// Leaves the final live table in place: only the summary follows.
    pub(crate) fn finish(&mut self) {
        self.draw();
        if self.style == Style::Live {
            self.table.finish();
        }
    }

    /// Shows how the run ended, and its values.
    pub(crate) fn end(&mut self, machine: &Machine, values: &RunValues) {
        if self.style == Style::Json {
            return output::json(protocol::events::run_ended(machine, values).to_line());
        }
        self.finish();
        let summary = summary::text(machine, self.table.elapsed(), colour::on(Stream::Err), self.full_value_hint);
        output::diagnostic(summary.trim_end());
        print_values(&values.provided, &self.full_value_hint.advice(machine.run()));
    }
}

/// Prints values, one per line, and a hint if some are truncated.
pub(crate) fn print_values(values: &Values, advice: &str) {
    let columns = value_columns();
    let mut are_complete = true;
    for (name, value) in values {
        let (line, is_complete) = match value {
            Value::Json(json) => value_line(name.as_str(), json.as_str(), columns),
            // This cannot be mistaken for JSON: a JSON string would be in quotes.
            Value::Bytes(_) | Value::Stored(_) => (format!("{name} = {value:?}"), false),
        };
        output::line(&line);
        are_complete &= is_complete;
    }
    if !are_complete {
        output::diagnostic(advice);
    }
}

/// How a person sees the full value of a truncated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FullValueHint {
    /// In the run, which is stored.
    Show,
    /// In the command's own JSON output: the run is not stored.
    Json,
}

impl FullValueHint {
    /// What a person does to see it.
    pub(crate) fn advice(self, run: impl Shown) -> String {
        match self {
            Self::Show => format!("`waft show {run} --value NAME` prints the whole of a value"),
            Self::Json => "--json prints full values".into(),
        }
    }
}

/// The maximum number of columns of a value's line without a terminal.
const VALUE_COLUMNS: usize = 200;

/// The minimum number of columns of a displayed value, however narrow the terminal is.
const MIN_VALUE_COLUMNS: usize = 16;

/// The maximum number of columns of a value's line.
fn value_columns() -> usize {
    let terminal = Stream::Out.is_terminal().then(crossterm::terminal::size).and_then(Result::ok);
    terminal.map_or(VALUE_COLUMNS, |(columns, _)| usize::from(columns))
}

/// A value's line, and whether it is complete; a value that does not fit is truncated, and its size is added.
fn value_line(name: &str, json: &str, columns: usize) -> (String, bool) {
    let line = format!("{name} = {}", sanitize::sanitize_json(json));
    if sanitize::columns(&line) <= columns {
        return (line, true);
    }
    let suffix = format!("… ({:#})", Size(json.len() as u64));
    let available = columns.saturating_sub(sanitize::columns(&suffix)).max(name.len() + MIN_VALUE_COLUMNS);
    (sanitize::cut(&line, available) + &suffix, false)
}

/// A change of a node on one line, without its time.
pub(crate) fn plain_line(event: &NodeEvent) -> String {
    let mut line = format!("{} {}", sanitize::one_line(&event.name), sanitize::one_line(&event.state.to_string()));
    if event.attempt > 1 {
        line.push_str(&format!(", attempt {}", event.attempt));
    }
    if let Some(worker) = &event.worker {
        line.push_str(&format!(" ({})", sanitize::one_line(worker)));
    }
    if let Some(computed_by) = &event.computed_by {
        line.push_str(&format!(" (remembered from {})", sanitize::one_line(&computed_by.run)));
    }
    if let Some(failure) = &event.failure {
        line.push_str(&format!(": {}", sanitize::one_line(&failure.to_string())));
    }
    if let Some(pause) = event.retry_in {
        line.push_str(&format!(" (again in {pause:.1}s)"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_begin_a_line_of_its_own() {
        let event = r#"{"event":"state","run":"r","flow":"f","kind":"task","name":"a\nb","state":"x\ny","firing":1,"attempt":2,
            "at":"2026-11-28T14:27:27Z","worker":"w\n\u001b[31mz"}"#;
        let Some(EventPayload::Node(event)) = EventPayload::parse(event) else { panic!("it is an event") };
        assert_eq!(plain_line(&event), "a ⏎ b x ⏎ y, attempt 2 (w ⏎ \\x1b[31mz)");
    }

    #[test]
    fn a_truncated_value_shows_its_size() {
        assert_eq!(value_line("cake", "[1]", 80), ("cake = [1]".into(), true));
        let (line, is_complete) = value_line("cake", &format!("\"{}\"", "漢".repeat(4_000)), 40);
        assert_eq!((line.as_str(), is_complete), ("cake = \"漢漢漢漢漢漢漢漢漢漢… (11.7KiB)", false));
        let (narrow, _) = value_line("cake", &"1".repeat(2_048), 10);
        assert_eq!(narrow, "cake = 1111111111111… (2KiB)", "the start is shown however narrow the terminal is");
    }
}
