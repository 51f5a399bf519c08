//! How a state of a task looks in a terminal.

use api::NodeState;
use flow::State;

use crate::colour::Colour;

/// What is left of a task when its run ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    Applied,
    Pending,
    InProgress,
}

impl Unfinished {
    /// What is left of a task in a state; `None` if nothing is, or if the failures already list it.
    pub(super) fn of(state: State) -> Option<Self> {
        match state {
            State::Success => Some(Self::Applied),
            State::Pending => Some(Self::Pending),
            State::Running | State::RollingBack | State::Retrying => Some(Self::InProgress),
            State::Failure | State::RolledBack | State::RollbackFailure | State::Ignored => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "still applied",
            Self::Pending => "not started",
            Self::InProgress => "not finished",
        }
    }
}

/// The looks of a state.
pub(crate) struct Appearance {
    /// The mark before the name of a task.
    mark: &'static str,
    colour: Colour,
    /// The place of the state where not all tasks fit on the screen: low numbers are shown first.
    pub(super) rank: u8,
}

impl Appearance {
    /// The looks of a state.
    pub(crate) fn of(state: &NodeState) -> Self {
        // The looks of a state that only a newer server knows are those of a state without work.
        let (mark, colour, rank) = match state.to_runtime().unwrap_or(State::Pending) {
            State::Failure | State::RollbackFailure => ("✗", Colour::Red, 0),
            State::Running => ("▸", Colour::Blue, 1),
            State::RollingBack => ("▸", Colour::Yellow, 1),
            State::Retrying => ("↻", Colour::Yellow, 1),
            State::RolledBack => ("↩", Colour::Yellow, 2),
            State::Success => ("✓", Colour::Green, 3),
            State::Pending | State::Ignored => ("·", Colour::Dim, 4),
        };
        Self { mark, colour, rank }
    }

    /// The colour of the state.
    pub(crate) const fn colour(&self) -> Colour {
        self.colour
    }

    /// The mark, in its colour if `on`.
    pub(crate) fn mark(&self, on: bool) -> String {
        self.colour.text(self.mark, on)
    }

    /// A text in the colour of the state, if `on`.
    pub(crate) fn text(&self, text: &str, on: bool) -> String {
        self.colour.text(text, on)
    }
}
