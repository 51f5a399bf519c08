//! Showing a run: JSON lines, a live table on a terminal, or plain lines where nobody watches.

mod line;
mod summary;
mod table;

use std::time::Duration;

use flow::{Change, Flow, FlowName, Machine, NodeChange, NodeName, Role, RunId, RunState, State, Value, Values};
use protocol::{Progress, json::RunValues};

use crate::{
    clean,
    out::{self, Stream},
    paint::{self, Paint},
};
pub(crate) use line::change_of;
use table::Table;

/// Shows one run.
pub(crate) struct Display {
    run: RunId,
    flow: FlowName,
    style: Style,
    table: Table,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One JSON object a line on standard output, and nothing else there.
    Json,
    /// A table that is drawn again and again.
    Live,
    /// A line for every change.
    Lines,
}

impl Display {
    /// How often a live table is drawn again.
    pub(crate) const PERIOD: Duration = Duration::from_millis(100);

    pub(crate) fn new(run: RunId, flow: &Flow, as_json: bool) -> Self {
        let is_told = |index| matches!(flow.node(index).role, Role::Task(_) | Role::Wait(_) | Role::Controller(_));
        let told = flow.indices().filter(|index| is_told(*index));
        Self::of_nodes(run, flow.name.clone(), told.map(|index| flow.node(index).name.clone()), as_json)
    }

    /// Shows a run of which only the names of its tasks and controllers are known.
    pub(crate) fn of_nodes(run: RunId, flow: FlowName, nodes: impl Iterator<Item = NodeName>, as_json: bool) -> Self {
        let style = match (as_json, Stream::Err.is_terminal()) {
            (true, _) => Style::Json,
            (false, true) => Style::Live,
            (false, false) => Style::Lines,
        };
        Self { run, table: Table::new(nodes), flow, style }
    }

    /// A node or the run is in a new state.
    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Run { state: RunState::Running, at } if self.style == Style::Json => {
                out::json(protocol::json::run_started(&self.run, &self.flow, *at));
            }
            Change::Firing { firing, state, at } if self.style == Style::Json => {
                out::json(protocol::json::firing_changed(*firing, *state, *at));
            }
            Change::Firing { firing, state, .. } if self.style == Style::Lines => {
                out::note!("firing {firing} {state}");
            }
            // The other states of the run are told at its end.
            Change::Run { .. } | Change::Firing { .. } => {}
            Change::Node(change) => {
                self.table.change(change);
                match self.style {
                    Style::Json => out::json(protocol::json::node_changed(change)),
                    Style::Lines => out::note!("{}", plain_line(change)),
                    Style::Live => {}
                }
            }
        }
    }

    /// A call has come some way.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        self.table.progress(progress);
    }

    /// Draws what is new, on a terminal.
    pub(crate) fn draw(&mut self) {
        if self.style == Style::Live {
            self.table.draw(self.flow.as_str(), self.run.as_str());
        }
    }

    /// Says something besides.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear();
        out::note!("{text}");
    }

    /// Takes a live table away, so that other output may follow.
    pub(crate) fn clear(&mut self) {
        if self.style == Style::Live {
            self.table.clear();
        }
    }

    /// Leaves the last of a live table where it is: nothing follows but the summary.
    pub(crate) fn leave(&mut self) {
        self.draw();
        if self.style == Style::Live {
            self.table.leave();
        }
    }

    /// Shows how the run ended, and with which values.
    pub(crate) fn end(&mut self, machine: &Machine, values: &RunValues) {
        if self.style == Style::Json {
            return out::json(protocol::json::run_ended(machine, values));
        }
        self.leave();
        let summary = summary::text(machine, self.table.elapsed(), paint::on(Stream::Err));
        out::diagnostic(summary.trim_end());
        print_values(&values.provided);
    }
}

/// Values, one a line.
pub(crate) fn print_values(values: &Values) {
    let short = Stream::Out.is_terminal();
    for (name, value) in values {
        match value {
            Value::Json(json) => print_value(name.as_str(), json.as_str(), short),
            // No JSON reads so: a string would stand in quotes.
            Value::Bytes(_) | Value::Stored(_) => out::say!("{name} = {value:?} (--json shows more)"),
        }
    }
}

/// A value on a line; a long one is cut where a person reads it.
fn print_value(name: &str, text: &str, short: bool) {
    match text.char_indices().nth(200).filter(|_| short) {
        Some((cut, _)) => out::say!("{name} = {}… ({} bytes; --json shows all)", &text[..cut], text.len()),
        None => out::say!("{name} = {text}"),
    }
}

fn plain_line(change: &NodeChange) -> String {
    let mut line = format!("{} {}", change.name, change.state);
    if change.attempt.get() > 1 {
        line.push_str(&format!(", attempt {}", change.attempt));
    }
    if let Some(worker) = &change.worker {
        line.push_str(&format!(" ({worker})"));
    }
    if let Some(failure) = &change.failure {
        line.push_str(&format!(": {}", clean::one_line(&failure.to_string())));
    }
    if let Some(pause) = change.retry_in {
        line.push_str(&format!(" (again in {:.1}s)", pause.as_secs_f64()));
    }
    line
}

/// The mark before a node's name.
pub(crate) fn mark(state: State, colour: bool) -> String {
    let mark = match state {
        State::Pending | State::Ignored => "·",
        State::Running | State::RollingBack => "▸",
        State::Retrying => "↻",
        State::Success => "✓",
        State::Failure | State::RollbackFailure => "✗",
        State::RolledBack => "↩",
    };
    Paint::of(state).text(mark, colour)
}
