//! What the process answers to its caller.

use flow::RunState;

use crate::out;

/// Exit codes, as the design has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Success,
    /// The run failed and was rolled back.
    RolledBack,
    /// Wrong usage, or an invalid flow or module.
    Invalid,
    /// The run needs a person: a rollback failed.
    NeedsAttention,
    /// Something the runtime needs could not be reached.
    Unreachable,
    /// `waft doctor` found something that somebody should do something about.
    Unwell,
    /// Interrupted: the run is suspended.
    Interrupted,
    /// The reader of standard output left before all data was written: what SIGPIPE (13) comes to in a shell.
    ReaderGone,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::RolledBack => 1,
            Self::Invalid => 2,
            Self::NeedsAttention => 3,
            Self::Unreachable => 4,
            Self::Unwell => 5,
            Self::Interrupted => 130,
            Self::ReaderGone => 141,
        }
    }

    /// What the end of a run comes to.
    pub(crate) const fn of(state: RunState) -> Self {
        match state {
            RunState::Success => Self::Success,
            RunState::RolledBack => Self::RolledBack,
            RunState::Failure => Self::NeedsAttention,
            RunState::Pending | RunState::Running | RunState::Suspending | RunState::Suspended => Self::Interrupted,
        }
    }
}

/// An error with what becomes of the process, and what a person can do.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl CliError {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// Something is wrong with what the person gave.
    pub(crate) fn invalid(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Invalid, error)
    }

    /// Something the runtime needs is not there.
    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unreachable, error)
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Prints the chain of causes, then a blank line and the hint.
    pub(crate) fn print(&self) {
        if self.error.to_string().is_empty() {
            return;
        }
        // What it quotes must not begin a line of its own. Lines of ours are indented already.
        let mut text = String::from("error: ");
        for (number, line) in format!("{:#}", self.error).lines().enumerate() {
            let indent = if line.starts_with(' ') { "" } else { "       " };
            text.push_str(&if number == 0 { line.to_owned() } else { format!("\n{indent}{line}") });
        }
        out::diagnostic(&text);
        if let Some(hint) = &self.hint {
            out::note!("\nhint: {hint}");
        }
    }
}
